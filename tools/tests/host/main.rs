//! The commands about hosts, on hosts made of files.

mod change;
mod deploy;
mod doctor;
mod examples;
mod export;
mod grammar;
mod kernel;
mod list;
mod persist;
mod run;
mod snapshot;
mod trees;
mod verdicts;
mod yaml;
