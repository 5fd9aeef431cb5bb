//! The traffic commands as their users run them: each a process of its own, on the VFs of a served card.

mod bed;
mod forward;
mod generate;
mod measure;
mod observe;
mod selftest;
