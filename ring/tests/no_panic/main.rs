//! No panic can be reached from the functions of the data path: read off what the compiler made of them.
//!
//! Whether a bound is checked, and whether the compiler could see that it holds, shows in the assembler text alone. So
//! this test is built with `RUSTFLAGS='--cfg vfnic_proof --emit=asm'` (`tests/run proofs` does), finds that text beside
//! its own executable, and follows every call and jump from [`roots`] on. What ends in a function that is not of this crate,
//! but for the few in [`harmless`](calls::harmless), is a find, with the way that leads there.
//!
//! Calls through pointers end the search: a [`DoorbellSink`](vfnic_ring::DoorbellSink) and an application's closure
//! panic as they please. The inner loops, which are called so too, are roots themselves.
#![cfg(all(vfnic_proof, target_arch = "x86_64"))]

mod calls;
mod roots;

use calls::Program;

/// What may not reach a panic, each by the end of its path.
const PROVED: [&str; 17] = [
    "path::portable::receive",
    "path::portable::send",
    "path::avx2::receive",
    "path::avx2::send",
    "path::avx512::receive",
    "path::avx512::send",
    "roots::receive",
    "roots::receive_up_to",
    "roots::has_work",
    "roots::send",
    "roots::reclaim",
    "roots::forward",
    "roots::alloc",
    "roots::frames",
    "roots::frames_mut",
    "roots::retain",
    "roots::clear",
];

/// What is left: the inner loops (`path`) cut their slices to one length, as their callers have seen to that they can,
/// and look at the frame that ends a block. To do nothing there instead of panicking was half a cycle a frame dearer: up
/// to two instructions a frame in bursts of 32, by other registers in the loops. A call in one place, round the
/// ring's end in a loop, for the compiler to see that the checks hold, was another half to one and a half.
fn is_own_bound(way: &str) -> bool {
    let mut names = way.rsplit(" -> ");
    let (what, whose) = (
        names.next().unwrap_or_default(),
        names.next().unwrap_or_default(),
    );
    (what.ends_with("slice_index_fail") || what.ends_with("panic_bounds_check"))
        && whose.starts_with("vfnic_ring::path::")
}

#[test]
fn no_panic_is_reachable_on_the_data_path() {
    roots::keep();
    let program = Program::beside_this_executable(&["vfnic_ring", "no_panic"]);
    let mut finds = Vec::new();
    for root in PROVED {
        let symbol = program
            .symbol(root)
            .unwrap_or_else(|| panic!("{root} is nowhere in the text"));
        let ways = program.ways_out(symbol).into_iter();
        finds.extend(ways.filter(|way| !is_own_bound(way)));
    }
    assert!(
        finds.is_empty(),
        "{} ways to panic:\n{}",
        finds.len(),
        finds.join("\n")
    );
}

#[test]
fn a_panic_would_be_found() {
    roots::keep();
    let program = Program::beside_this_executable(&["vfnic_ring", "no_panic"]);
    for (root, what) in [
        ("roots::index", "bounds"),
        ("roots::far", "unwrap_failed"),
        ("roots::table", "bounds"),
        ("roots::twice", "unwrap_failed"),
    ] {
        let symbol = program
            .symbol(root)
            .unwrap_or_else(|| panic!("{root} is nowhere in the text"));
        let ways = program.ways_out(symbol);
        assert!(
            ways.iter().any(|way| way.contains(what)),
            "{root}: {ways:?}"
        );
    }
}
