//! Several queue pairs: counts, spread, threads.

mod common;

use std::collections::HashMap;
use std::time::Duration;

use common::{Station, build, card, open};
use vfnic::{ConfigError, Error, MacAddr, Port, PortConfig, QueueCount, RssConfig};
use vfnic_hw::{Family, Model};
use vfnic_sim::Card;

/// A UDP datagram of flow `flow`; its checksum is left out, which is allowed.
fn datagram(to: MacAddr, from: MacAddr, flow: u16, number: u32) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..6].copy_from_slice(&to.0);
    bytes[6..12].copy_from_slice(&from.0);
    bytes[12..14].copy_from_slice(&[0x08, 0x00]);
    bytes[14] = 0x45;
    bytes[16..18].copy_from_slice(&50u16.to_be_bytes());
    bytes[22] = 64;
    bytes[23] = 17;
    bytes[26..30].copy_from_slice(&[10, 0, 0, 1]);
    bytes[30..34].copy_from_slice(&[10, 0, 0, 2]);
    let sum: u32 = bytes[14..34]
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("one fold is enough here");
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    bytes[34..36].copy_from_slice(&(1000 + flow).to_be_bytes());
    bytes[36..38].copy_from_slice(&2000u16.to_be_bytes());
    bytes[38..40].copy_from_slice(&30u16.to_be_bytes());
    bytes[42..46].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Number of frames each queue got, and that every flow stayed on one.
fn spread(card: &Card, queues: u16, rss: RssConfig) -> Vec<usize> {
    let config = PortConfig::default()
        .queues(QueueCount::Exactly(queues))
        .rss(rss);
    let mut left = Station::new(card, 0, PortConfig::default());
    let right = Station::new(card, 1, config);
    assert_eq!(right.pairs.len(), usize::from(queues));
    let mut pairs = right.pairs;
    let mut batch = right.port.batch(256);
    let mut counts = vec![0; pairs.len()];
    let mut home: HashMap<u16, usize> = HashMap::new();
    let mut next: HashMap<u16, u32> = HashMap::new();
    for round in 0..20 {
        let frames: Vec<_> = (0..64)
            .map(|flow| datagram(right.port.mac().0, left.mac(), flow, round))
            .collect();
        left.send(&frames);
        card.step();
        for (queue, pair) in pairs.iter_mut().enumerate() {
            counts[queue] += pair.rx.receive(&mut batch).expect("runs");
            for frame in batch.frames() {
                let bytes = frame.to_vec();
                let flow = u16::from_be_bytes([bytes[34], bytes[35]]) - 1000;
                let number = u32::from_be_bytes([bytes[42], bytes[43], bytes[44], bytes[45]]);
                assert_eq!(*home.entry(flow).or_insert(queue), queue, "flow {flow}");
                let wanted = next.entry(flow).or_insert(0);
                assert_eq!(number, *wanted, "flow {flow} out of order");
                *wanted += 1;
            }
            batch.clear();
        }
    }
    assert_eq!(counts.iter().sum::<usize>(), 20 * 64, "{counts:?}");
    counts
}

#[test]
fn an_x550_spreads_by_its_own_key_and_table() {
    let card = build(Card::builder(Model::X550).vfs(2).queues(4));
    for queues in 1..=4 {
        let counts = spread(&card, queues, RssConfig::default());
        assert!(
            counts.iter().all(|count| *count > 0),
            "{queues}: {counts:?}"
        );
    }
    // A table of one's own: everything to queue 2.
    let rss = RssConfig {
        table: vec![2],
        ..RssConfig::default()
    };
    let counts = spread(&card, 4, rss);
    assert_eq!(counts, [0, 0, 20 * 64, 0]);
    // Without ports all of these are one flow.
    let rss = RssConfig {
        udp: false,
        ..RssConfig::default()
    };
    let counts = spread(&card, 4, rss);
    assert_eq!(
        counts.iter().filter(|count| **count > 0).count(),
        1,
        "{counts:?}"
    );
    card.assert_no_violations();
}

#[test]
fn older_ixgbevf_spread_by_the_pfs_table() {
    for model in [Model::I82599, Model::X540] {
        let card = build(Card::builder(model).vfs(2).queues(4));
        for queues in [1, 2, 4] {
            let counts = spread(&card, queues, RssConfig::default());
            assert_eq!(counts.iter().sum::<usize>(), 20 * 64);
        }
        card.assert_no_violations();
    }
}

for_every_model! {
    fn r8_impossible_queue_counts_are_refused_with_the_reason(model) {
        let card = card(model, 1);
        for asked in [0, 9, u16::MAX] {
            let config = PortConfig::default().queues(QueueCount::Exactly(asked));
            assert!(matches!(
                Port::from_function(card.function(0).expect("free"), config),
                Err(Error::Config(ConfigError::Queues { asked: seen, max: 8, .. })) if seen == asked
            ));
        }
        let port = open(&card, 0, PortConfig::default());
        let most = port.capabilities().max_queue_pairs;
        drop(port);
        if model.family() == Family::Igbvf {
            assert_eq!(most, 1);
        }
        let config = PortConfig::default().queues(QueueCount::Exactly(most + 1));
        let error = Port::from_function(card.function(0).expect("free"), config)
            .expect_err("more than the PF gives");
        assert!(
            matches!(&error, Error::Config(ConfigError::Queues { asked, .. }) if *asked == most + 1),
            "{error}"
        );
        // And the most there are works.
        let config = PortConfig::default().queues(QueueCount::Auto);
        let port = open(&card, 0, config);
        let pairs = port.start().expect("starts");
        assert!(pairs.len() <= usize::from(most));
        drop((pairs, port));
        card.assert_no_violations();
    }
}

#[test]
fn three_queues_need_a_table_of_ones_own() {
    let card = build(Card::builder(Model::X540).vfs(1).queues(4));
    let config = PortConfig::default().queues(QueueCount::Exactly(3));
    let error =
        Port::from_function(card.function(0).expect("free"), config).expect_err("no power of two");
    assert!(error.to_string().contains("power of two"), "{error}");
    let rss = RssConfig {
        table: vec![0, 1, 4],
        ..RssConfig::default()
    };
    let card = build(Card::builder(Model::X550).vfs(1).queues(4));
    let config = PortConfig::default()
        .queues(QueueCount::Exactly(4))
        .rss(rss);
    assert!(matches!(
        Port::from_function(card.function(0).expect("free"), config),
        Err(Error::Config(ConfigError::Rss { .. }))
    ));
}

#[test]
fn every_pair_can_be_on_a_thread_of_its_own_and_halves_too() {
    let card = build(Card::builder(Model::X550).vfs(2).queues(4).threaded());
    let config = PortConfig::default().queues(QueueCount::Exactly(4));
    let left = open(&card, 0, config.clone());
    let right = open(&card, 1, config);
    let (to, from) = (right.mac().0, left.mac().0);
    let senders = left.start().expect("starts");
    let receivers = right.start().expect("starts");
    const EACH: u32 = 2_000;
    let total = std::thread::scope(|scope| {
        let mut counting = Vec::new();
        for pair in receivers {
            let (mut rx, tx) = pair.split();
            let mut batch = right.batch(64);
            counting.push(scope.spawn(move || {
                let limit = std::time::Instant::now() + Duration::from_secs(2);
                let (mut got, mut quiet) = (0, 0);
                while quiet < 300 && std::time::Instant::now() < limit {
                    let count = rx.receive(&mut batch).expect("runs");
                    batch.clear();
                    got += count;
                    if count == 0 {
                        quiet += 1;
                        std::thread::sleep(Duration::from_millis(1));
                    } else {
                        quiet = 0;
                    }
                }
                drop(tx);
                got
            }));
        }
        for (thread, mut pair) in (0u16..).zip(senders) {
            let mut batch = left.batch(64);
            scope.spawn(move || {
                let mut sent = 0;
                while sent < EACH {
                    while batch.len() < 16 && sent + u32::try_from(batch.len()).expect("few") < EACH
                    {
                        let flow = thread * 16 + u16::try_from(batch.len()).expect("few");
                        batch
                            .push_bytes(&datagram(to, from, flow, 0))
                            .expect("room");
                    }
                    sent += u32::try_from(pair.tx.send(&mut batch).expect("runs")).expect("few");
                    std::thread::sleep(Duration::from_micros(200));
                }
                // Until all are on their way.
                while pair.tx.pending() > 1 {
                    pair.tx.reclaim(&mut batch);
                    std::thread::yield_now();
                }
            });
        }
        counting
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .sum::<usize>()
    });
    let stats = card.vf_stats(1).expect("there");
    let dropped = usize::try_from(stats.drops.total()).expect("few");
    assert_eq!(total + dropped, 4 * EACH as usize, "{stats:?}");
    drop((left, right));
    card.assert_no_violations();
}

#[test]
fn m23_a_pf_that_grants_fewer_queues_later_leaves_the_others_idle() {
    // GET_QUEUES answers 4 at first and 2 after the reset.
    use vfnic_sim::{Action, Point, Rule};
    let card = build(Card::builder(Model::X550).vfs(1).queues(4));
    let config = PortConfig::default().queues(QueueCount::Exactly(4));
    let mut left = Station::new(&card, 0, config);
    left.events();
    for word in [1, 2] {
        card.faults().add(
            Rule::new(
                Point::MailboxReply,
                Action::Word {
                    index: word,
                    value: 2,
                },
            )
            .only(9),
        );
    }
    card.pf().reset(Duration::from_millis(10));
    left.run(&card, Duration::from_millis(300));
    assert!(left.events().contains(&vfnic::Event::SettingsLost));
    assert_eq!(left.port.state(), vfnic::PortState::Up);
    assert_eq!(left.port.capabilities().max_queue_pairs, 2);
    drop(left);
    card.assert_no_violations();
}
