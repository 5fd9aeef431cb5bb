//! No descriptors left for eventfds. In a process of its own, because the limit is the process's.

use std::collections::HashSet;
use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vfnic::{PollMode, Poller, Port, PortConfig};
use vfnic_hw::Model;
use vfnic_sim::Card;

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc").count()
}

/// The limit that leaves just `count` numbers free. Numbers are not dense: whoever started this process may have left it
/// some far up.
fn limit_that_leaves(count: usize) -> u64 {
    let taken: HashSet<u64> = fs::read_dir("/proc/self/fd")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    // The reading itself took one, which is free again.
    let free = |number: &u64| !taken.contains(number) || !is_open(*number);
    (0..).filter(free).nth(count).expect("numbers without end")
}

fn is_open(number: u64) -> bool {
    fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok()
}

/// Everything that takes descriptors: a port and a poller with its queues.
fn attempt(card: &Card) -> Result<(), String> {
    let function = card.function(0).map_err(|error| format!("{error:?}"))?;
    let port = Port::from_function(function, PortConfig::default())
        .map_err(|error| format!("{error:?}"))?;
    let mut poller = Poller::new(PollMode::Adaptive).map_err(|error| format!("{error:?}"))?;
    for pair in port.start().map_err(|error| format!("{error:?}"))? {
        poller.add(pair).map_err(|error| format!("{error:?}"))?;
    }
    Ok(())
}

#[test]
fn n9_no_descriptor_for_the_kth_eventfd_unwinds() {
    let card = Card::builder(Model::I82599).build().expect("a card");
    attempt(&card).expect("with descriptors to spare");
    let old = getrlimit(Resource::Nofile);
    let before = open_descriptors();
    let mut failed = 0;
    loop {
        let limit = Rlimit {
            current: Some(limit_that_leaves(failed)),
            maximum: old.maximum,
        };
        setrlimit(Resource::Nofile, limit).expect("a lower limit");
        let result = attempt(&card);
        setrlimit(Resource::Nofile, old).expect("the old limit");
        assert_eq!(open_descriptors(), before, "{failed} to be had: {result:?}");
        match result {
            Ok(()) => break,
            Err(error) => {
                assert!(
                    error.contains("Sys") && error.contains("24"),
                    "{failed} to be had: {error}"
                );
                failed += 1;
                assert!(failed < 64, "{error}");
            }
        }
    }
    assert!(failed >= 5, "vectors, events, epoll, waker: {failed}");
    attempt(&card).expect("again");
    card.assert_no_violations();
}
