//! The commands about hosts, on hosts made of files.

mod change;
mod doctor;
mod export;
mod kernel;
mod list;
mod persist;
mod run;
mod snapshot;
mod trees;
