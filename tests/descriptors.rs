//! No descriptors left for eventfds. In a process of its own, because the limit is the process's.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vfnic::{PollMode, Poller, Port, PortConfig};
use vfnic_hw::Model;
use vfnic_sim::Card;

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc").count()
}

/// Everything that takes descriptors: a port and a poller with its queues.
fn attempt(card: &Card) -> Result<(), String> {
    let function = card.function(0).map_err(|error| error.to_string())?;
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
        // Descriptors are given from the lowest free number on, so this many more are to be had.
        let highest = (before + failed) as u64;
        let limit = Rlimit {
            current: Some(highest),
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
