use std::sync::Arc;
use std::time::Instant;

use vfnic_ring::{DmaRegion, HeapDma, Iova, PoolConfig};

use super::*;

fn pool() -> Pool {
    let config = PoolConfig {
        buffers: 512,
        ..PoolConfig::default()
    };
    let memory = HeapDma::new(4 << 20, Iova(0)).expect("memory");
    Pool::new(DmaRegion::new(Arc::new(memory)), config).expect("a pool")
}

/// UDP over IPv4 in an untagged frame; the last byte is its number.
fn datagram(from: (u8, u16), to: (u8, u16), number: u8) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend([192, 0, 2, from.0, 192, 0, 2, to.0]);
    frame.extend(from.1.to_be_bytes());
    frame.extend(to.1.to_be_bytes());
    frame.resize(60, 0);
    frame[59] = number;
    frame
}

fn flow(number: u16) -> Vec<u8> {
    datagram((1, number), (2, 7), 0)
}

fn over_ipv6(from: u8, to: u8, headers: &[u8], ports: [u16; 2]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0]);
    frame.push(if headers.is_empty() { 6 } else { 0 });
    frame.push(64);
    for last in [from, to] {
        frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    frame.extend(headers);
    for port in ports {
        frame.extend(port.to_be_bytes());
    }
    frame.resize(100, 0);
    frame
}

#[test]
fn both_directions_of_a_flow_hash_alike() {
    for port in 1..100 {
        let there = datagram((1, port), (2, 53), 0);
        let back = datagram((2, 53), (1, port), 0);
        assert_eq!(flow_hash(&there), flow_hash(&back), "port {port}");
        // The ports are the ends': changed over they are another flow.
        let crossed = datagram((1, 53), (2, port), 0);
        assert_eq!(flow_hash(&there) == flow_hash(&crossed), port == 53);
    }
    let there = over_ipv6(1, 2, &[], [1000, 80]);
    let back = over_ipv6(2, 1, &[], [80, 1000]);
    assert_eq!(flow_hash(&there), flow_hash(&back));
    let other = over_ipv6(1, 2, &[], [1001, 80]);
    assert_ne!(flow_hash(&there), flow_hash(&other));
}

#[test]
fn what_stands_before_the_ports_makes_no_difference() {
    let plain = flow(1000);
    let mut tagged = plain.clone();
    tagged.splice(12..12, [0x88, 0xa8, 0, 7, 0x81, 0, 0, 100]);
    assert_eq!(flow_hash(&tagged), flow_hash(&plain));
    let mut options = plain.clone();
    options[14] = 0x46;
    options.splice(34..34, [1; 4]);
    assert_eq!(flow_hash(&options), flow_hash(&plain));
    let direct = over_ipv6(1, 2, &[], [1000, 80]);
    // Hop-by-hop options of 8 bytes, destination options of 16, TCP.
    let headers = [[60, 0], [0; 2], [0; 2], [0; 2], [6, 1]].concat();
    let headers = [headers, vec![0; 14]].concat();
    let extended = over_ipv6(1, 2, &headers, [1000, 80]);
    assert_eq!(flow_hash(&extended), flow_hash(&direct));
}

#[test]
fn fragments_of_a_datagram_stay_together() {
    let mut first = flow(1000);
    first[20] = 0x20;
    let mut last = datagram((1, 0xdead), (2, 0xbeef), 0);
    last[21] = 90;
    assert_eq!(flow_hash(&first), flow_hash(&last));
    assert_ne!(flow_hash(&first), flow_hash(&flow(1000)));
}

#[test]
fn any_bytes_have_a_hash() {
    let whole = over_ipv6(1, 2, &[60, 0xff, 0, 0, 0, 0, 0, 0], [1, 2]);
    for frame in [whole, flow(1), vec![0xff; 64], vec![0x81; 64]] {
        for length in 0..frame.len() {
            let _ = flow_hash(&frame[..length]);
        }
    }
    // Neither IP nor whole: by address.
    let arp = |last| [&[last; 12][..], &[8, 6, 0, 1]].concat();
    assert_ne!(flow_hash(&arp(1)), flow_hash(&arp(2)));
}

#[test]
fn many_flows_reach_every_worker_about_as_often() {
    for workers in [2, 3, 8] {
        let (fanout, _workers) = Fanout::new(&pool(), workers, 1, None);
        let mut frames = vec![0; workers];
        for number in 0..8000 {
            frames[fanout.shared.lane_of(&flow(number))] += 1;
        }
        let fair = 8000 / workers;
        assert!(
            frames
                .iter()
                .all(|&count| (fair * 4 / 5..fair * 6 / 5).contains(&count)),
            "{frames:?}"
        );
    }
}

#[test]
fn a_flow_stays_with_its_worker_and_in_order_there_and_back() {
    let pool = pool();
    let (mut fanout, mut workers) = Fanout::new(&pool, 4, 64, None);
    let mut batch = pool.batch(64);
    let mut came = vec![Vec::new(); 16];
    for round in 0..20_u8 {
        for number in 0..16 {
            let frame = datagram((1, number), (2, 7), round);
            batch.push_bytes(&frame).expect("room");
        }
        assert_eq!(fanout.dispatch(&mut batch), Ok(16));
        assert!(batch.is_empty());
        // Those of a lane that is longer than the batch stay for the next time.
        let mut small = pool.batch(8);
        for worker in &mut workers {
            while worker.receive(&mut small).expect("its pool") > 0 {
                let count = small.len();
                for mut frame in small.frames_mut() {
                    frame.data_mut()[0] = u8::try_from(worker.number()).expect("few");
                }
                assert_eq!(worker.send(&mut small), Ok(count));
            }
        }
        while fanout.collect(&mut batch).expect("its pool") > 0 {
            for frame in batch.frames() {
                let data = frame.data();
                came[usize::from(data[35])].push((data[0], data[59]));
            }
            batch.clear();
        }
    }
    for flow in came {
        let worker = flow[0].0;
        let expected: Vec<_> = (0..20).map(|round| (worker, round)).collect();
        assert_eq!(flow, expected);
    }
    assert_eq!(fanout.stats().handed, 320);
    assert_eq!((fanout.stats().full, fanout.stats().dropped), (0, 0));
    drop((batch, fanout, workers));
    assert_eq!(pool.stats().home, pool.stats().total);
}

#[test]
fn a_worker_that_is_behind_loses_frames_by_number_and_holds_nobody_up() {
    let pool = pool();
    let (mut fanout, mut workers) = Fanout::new(&pool, 2, 8, None);
    let mut batch = pool.batch(64);
    let busy = fanout.shared.lane_of(&flow(0));
    for round in 0..20 {
        batch
            .push_bytes(&datagram((1, 0), (2, 7), round))
            .expect("room");
    }
    let other = (1..100).find(|number| fanout.shared.lane_of(&flow(*number)) != busy);
    batch
        .push_bytes(&flow(other.expect("spread")))
        .expect("room");
    assert_eq!(fanout.dispatch(&mut batch), Ok(21));
    assert_eq!((fanout.stats().handed, fanout.stats().full), (9, 12));
    // The oldest are kept, as by a card.
    assert_eq!(workers[busy].receive(&mut batch), Ok(8));
    let numbers: Vec<_> = batch.frames().map(|frame| frame.data()[59]).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7]);
    batch.clear();
    drop((batch, fanout, workers));
    assert_eq!(pool.stats().home, pool.stats().total);
}

#[test]
fn what_cannot_go_back_yet_stays_in_the_batch_in_order() {
    let pool = pool();
    let (mut fanout, mut workers) = Fanout::new(&pool, 1, 8, None);
    let mut batch = pool.batch(64);
    for round in 0..20 {
        batch
            .push_bytes(&datagram((1, 0), (2, 7), round))
            .expect("room");
    }
    assert_eq!(workers[0].send(&mut batch), Ok(8));
    let mut back = pool.batch(64);
    let mut came = Vec::new();
    for expected in [8, 8, 4] {
        assert_eq!(fanout.collect(&mut back), Ok(expected));
        came.extend(back.frames().map(|frame| frame.data()[59]));
        back.clear();
        workers[0].send(&mut batch).expect("its pool");
    }
    assert_eq!(came, (0..20).collect::<Vec<_>>());
    // With nobody left to send them, frames go home and are counted.
    batch.push_bytes(&flow(1)).expect("room");
    drop(fanout);
    assert_eq!(workers[0].send(&mut batch), Ok(1));
    assert_eq!((batch.len(), workers[0].dropped()), (0, 1));
    drop((batch, back, workers));
    assert_eq!(pool.stats().home, pool.stats().total);
}

#[test]
fn batches_of_another_pool_are_refused() {
    let (pool, other) = (pool(), pool());
    let (mut fanout, mut workers) = Fanout::new(&pool, 1, 8, None);
    let mut batch = other.batch(8);
    batch.push_bytes(&flow(0)).expect("room");
    assert_eq!(fanout.dispatch(&mut batch), Err(PoolMismatch));
    assert_eq!(fanout.collect(&mut batch), Err(PoolMismatch));
    assert_eq!(workers[0].receive(&mut batch), Err(PoolMismatch));
    assert_eq!(workers[0].send(&mut batch), Err(PoolMismatch));
    assert_eq!(batch.len(), 1);
}

#[test]
fn a_sleeping_worker_is_woken_by_frames_and_by_the_end() {
    const LONG: Duration = Duration::from_secs(60);
    let pool = pool();
    let (mut fanout, workers) = Fanout::new(&pool, 2, 256, None);
    let start = Instant::now();
    let threads: Vec<_> = workers
        .into_iter()
        .map(|mut worker| {
            let mut batch = pool.batch(64);
            std::thread::spawn(move || {
                let mut frames = 0;
                while worker.wait(LONG) {
                    frames += worker.receive(&mut batch).expect("its pool");
                    worker.send(&mut batch).expect("its pool");
                }
                frames
            })
        })
        .collect();
    let mut batch = pool.batch(64);
    let mut back = 0;
    for round in 0..50 {
        for number in 0..4 {
            batch.push_bytes(&flow(round * 4 + number)).expect("room");
        }
        fanout.dispatch(&mut batch).expect("its pool");
        // Long enough for them to fall asleep, now and then.
        while back < 4 * (usize::from(round) + 1) && start.elapsed() < LONG {
            std::thread::sleep(Duration::from_micros(200));
            back += fanout.collect(&mut batch).expect("its pool");
            batch.clear();
        }
    }
    drop(fanout);
    let frames: Vec<usize> = threads
        .into_iter()
        .map(|thread| thread.join().expect("a worker"))
        .collect();
    assert!(start.elapsed() < LONG, "somebody slept through");
    assert_eq!(frames.iter().sum::<usize>(), 200);
    assert!(!frames.contains(&0), "{frames:?}");
}

/// A poller asleep for good comes back for each burst that a worker sends.
#[test]
fn a_sleeping_poller_is_woken_by_what_is_sent() {
    let pool = pool();
    let mut poller =
        crate::Poller::<crate::QueuePair>::new(crate::PollMode::Interrupt).expect("a poller");
    let (mut fanout, mut workers) = Fanout::new(&pool, 1, 64, Some(poller.waker()));
    let mut batch = pool.batch(8);
    let mut worker = workers.remove(0);
    let mut theirs = pool.batch(8);
    let thread = std::thread::spawn(move || {
        for number in 0..100 {
            theirs.push_bytes(&flow(number)).expect("room");
            worker.send(&mut theirs).expect("its pool");
            if number % 3 == 0 {
                std::thread::sleep(Duration::from_micros(100));
            }
            while !theirs.is_empty() {
                std::thread::yield_now();
                worker.send(&mut theirs).expect("its pool");
            }
        }
    });
    let mut came = 0;
    while came < 100 {
        let turn = poller
            .turn(Some(Duration::from_secs(20)), |_, _| Ok(0))
            .expect("a turn");
        assert_eq!(turn.woken, crate::Woken::External, "after {came}");
        while fanout.collect(&mut batch).expect("its pool") > 0 {
            came += batch.len();
            batch.clear();
        }
    }
    thread.join().expect("the worker");
}

#[test]
fn both_ends_say_what_they_are_and_no_frame() {
    let pool = pool();
    let (mut fanout, workers) = Fanout::new(&pool, 3, 8, None);
    let mut batch = pool.batch(8);
    batch
        .push_bytes(&datagram((1, 1), (2, 7), 0))
        .expect("room");
    assert_eq!(fanout.dispatch(&mut batch), Ok(1));
    let text = format!("{fanout:?}");
    assert!(text.starts_with("Fanout { workers: 3, stats:"), "{text}");
    let text = format!("{:?}", workers[2]);
    assert_eq!(text, "Worker { number: 2, .. }");
}
