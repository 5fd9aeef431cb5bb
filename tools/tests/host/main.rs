//! The commands about hosts, on hosts made of files.

mod change;
mod doctor;
mod list;
mod run;
mod snapshot;
mod trees;
