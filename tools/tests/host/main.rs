//! The commands about hosts, on hosts made of files.

mod list;
mod run;
mod snapshot;
mod trees;
