//! What a port takes is given back, and what an application does with it cannot hurt.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Station, card, frame, open};
use vfnic::{Batch, PortConfig, QueueError, RxQueue};
use vfnic_hw::Model;
use vfnic_sim::Card;

const MS: Duration = Duration::from_millis(1);

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("proc").count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("proc").count()
}

// One test: what is counted belongs to the whole process, and tests run side by side.
#[test]
fn r12_a_thousand_starts_and_stops_leave_nothing_behind() {
    for model in [Model::I82576, Model::X550] {
        let card = card(model, 1);
        let port = open(&card, 0, PortConfig::default());
        let free = port.pool().stats();
        let mut before = None;
        for round in 0..1000 {
            let pairs = port.start().expect("starts");
            if round % 3 == 0 {
                // Dropped in any order: queues first, or after the port was stopped.
                drop(pairs);
                port.stop(Vec::new()).expect("stops");
            } else {
                port.stop(pairs).expect("stops");
            }
            if round == 10 {
                before = Some((descriptors(), threads()));
            }
        }
        assert_eq!(port.pool().stats(), free, "{model}");
        // Other tests of this process come and go; a leak a round would be hundreds.
        let (fds, tasks) = before.expect("ten rounds");
        assert!(descriptors() <= fds + 100, "{model}");
        assert!(threads() <= tasks + 50, "{model}");
        drop(port);
        card.assert_no_violations();
    }
}

for_every_model! {
    fn r1_r2_an_application_that_keeps_every_frame_gets_no_more_and_then_the_rest(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let config = vfnic::PoolConfig { buffers: 600, ..vfnic::PoolConfig::default() };
        let mut right = Station::new(&card, 1, PortConfig::default().pool(config));
        let mut kept = Vec::new();
        let mut batch = right.port.batch(32);
        for round in 0..10u32 {
            left.try_send(&(0..64).map(|n| frame(right.mac(), left.mac(), round * 64 + n, 64)).collect::<Vec<_>>());
            card.step();
            while right.pairs[0].rx.receive(&mut batch).expect("runs") > 0 {
                batch.take_packets(&mut kept);
            }
        }
        assert!(right.port.stats().get("rx0_no_buffers").expect("a counter") > 0);
        assert!(kept.len() < 640);
        let all = kept.len();
        kept.clear();
        // The frames that waited in the ring come now, and new ones after them.
        left.send(&[frame(right.mac(), left.mac(), 9999, 64)]);
        card.step();
        let rest = right.receive();
        assert!(!rest.is_empty(), "{all} were kept, none came after");
        left.send(&[frame(right.mac(), left.mac(), 10_000, 64)]);
        card.step();
        assert_eq!(right.receive().len(), 1);
        drop((batch, kept, left, right));
        card.assert_no_violations();
    }

    fn r6_h18_a_panic_puts_the_device_to_rest_on_its_way(model) {
        let card = card(model, 2);
        let mut right = Station::new(&card, 1, PortConfig::default());
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut left = Station::new(&card, 0, PortConfig::default());
            left.send(&[frame(right.mac(), left.mac(), 1, 64)]);
            panic!("the application's own");
        }));
        assert!(result.is_err());
        card.run_for(10 * MS);
        right.receive();
        let mut again = Station::new(&card, 0, PortConfig::default());
        let sent = [frame(right.mac(), again.mac(), 2, 64)];
        again.send(&sent);
        card.step();
        right.expect(&sent);
        drop((again, right));
        card.assert_no_violations();
    }
}

#[test]
fn r5_packets_freed_on_other_threads_all_come_home() {
    let card = card(Model::X540, 2);
    let mut left = Station::new(&card, 0, PortConfig::default());
    let right = Station::new(&card, 1, PortConfig::default());
    let Station {
        port, mut pairs, ..
    } = right;
    let mut batch = port.batch(64);
    for round in 0..40u32 {
        left.send(
            &(0..60)
                .map(|n| frame(port.mac().0, left.mac(), round * 60 + n, 64))
                .collect::<Vec<_>>(),
        );
        card.step();
        let mut packets = Vec::new();
        while pairs[0].rx.receive(&mut batch).expect("runs") > 0 {
            batch.take_packets(&mut packets);
        }
        assert_eq!(packets.len(), 60, "round {round}");
        std::thread::scope(|scope| {
            while !packets.is_empty() {
                let some = packets.split_off(packets.len().saturating_sub(20));
                scope.spawn(move || drop(some));
            }
        });
    }
    drop((batch, pairs));
    let pool = port.pool().stats();
    assert_eq!(pool.home, pool.total);
    drop((left, port));
    card.assert_no_violations();
}

#[test]
fn r16_counters_read_by_others_all_the_time_never_go_back() {
    let card = common::build(Card::builder(Model::X550).vfs(2).threaded());
    let mut left = Station::new(&card, 0, PortConfig::default());
    let right = Station::new(&card, 1, PortConfig::default());
    let Station {
        port, mut pairs, ..
    } = right;
    let stop = AtomicBool::new(false);
    let received = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let now: Vec<(String, u64)> = port
                        .stats()
                        .iter()
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect();
                    for ((name, before), (_, after)) in last.iter().zip(&now) {
                        assert!(before <= after, "{name} went from {before} to {after}");
                        assert!(after - before < 1 << 31, "{name} jumped to {after}");
                    }
                    last = now;
                }
            });
        }
        let mut batch = port.batch(64);
        let mut received = 0;
        for round in 0..200u32 {
            left.try_send(
                &(0..32)
                    .map(|n| frame(port.mac().0, left.mac(), round * 32 + n, 64))
                    .collect::<Vec<_>>(),
            );
            received += pairs[0].rx.receive(&mut batch).expect("runs");
            batch.clear();
            if round % 20 == 0 {
                port.poll_control().expect("there");
            }
        }
        // What is still under way, within a generous bound.
        let limit = std::time::Instant::now() + Duration::from_secs(1);
        while std::time::Instant::now() < limit && received < 6400 {
            received += pairs[0].rx.receive(&mut batch).expect("runs");
            batch.clear();
        }
        stop.store(true, Ordering::Relaxed);
        received
    });
    assert_eq!(
        port.stats().get("rx0_packets"),
        Some(u64::try_from(received).expect("few"))
    );
    drop((left, pairs, port));
    card.assert_no_violations();
}

#[test]
fn r17_a_queue_is_polled_by_whoever_has_it_alone() {
    // Two threads cannot: it takes `&mut`, and this would not compile otherwise.
    let receive: fn(&mut RxQueue, &mut Batch) -> Result<usize, QueueError> = RxQueue::receive;
    fn may_move<T: Send>(_: T) {}
    may_move(receive);
    let card = card(Model::I350, 1);
    let mut station = Station::new(&card, 0, PortConfig::default());
    let pair = station.pairs.remove(0);
    std::thread::spawn(move || drop(pair))
        .join()
        .expect("a queue may move to another thread");
    drop(station);
    card.assert_no_violations();
}

#[test]
fn h20_no_descriptor_is_left_open_for_a_program_started_from_here() {
    let card = common::build(Card::builder(Model::X540).vfs(1).threaded());
    let station = Station::new(&card, 0, PortConfig::default());
    station.port.spawn_control_thread().expect("a thread");
    let mut poller = vfnic::Poller::new(vfnic::PollMode::Adaptive).expect("a poller");
    let Station {
        port, mut pairs, ..
    } = station;
    poller.add(pairs.remove(0)).expect("added");
    // What a child would have: only what this process was started with itself, 0 to 2 and the runner's.
    let output = std::process::Command::new("ls")
        .args(["-l", "/proc/self/fd"])
        .output()
        .expect("ls runs");
    let listing = String::from_utf8_lossy(&output.stdout);
    for ours in ["eventfd", "eventpoll", "memfd", "timerfd", "vfio"] {
        assert!(!listing.contains(ours), "{listing}");
    }
    drop((poller, port));
    card.assert_no_violations();
}
