//! Counters: wide totals from narrow registers, over wraps and resets.

mod common;

use std::time::Duration;

use common::{Station, card, frame};
use vfnic::PortConfig;
use vfnic_hw::Family;

const MS: Duration = Duration::from_millis(1);

fn count(station: &Station, name: &str) -> u64 {
    station
        .port
        .stats()
        .get(name)
        .unwrap_or_else(|| panic!("no counter {name}"))
}

for_every_model! {
    fn r14_totals_go_on_over_a_wrap(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        for round in 1..=3u64 {
            // The registers were as good as wrapped before anything of ours was counted.
            left.port.refresh_stats().expect("there");
            let before: Vec<_> = ["tx_packets", "tx_bytes"].map(|name| count(&left, name)).to_vec();
            card.preset_counters_near_wrap(0, 10);
            // A preset is a jump, which nobody can tell from traffic: start from there.
            left.port.refresh_stats().expect("there");
            let jumped = count(&left, "tx_packets");
            left.send(&(0..40).map(|n| frame(right.mac(), left.mac(), n, 60)).collect::<Vec<_>>());
            card.step();
            right.receive();
            left.run(&card, 1100 * MS);
            assert_eq!(count(&left, "tx_packets"), jumped + 40, "round {round}");
            assert!(count(&left, "tx_bytes") >= before[1] + 40 * 60);
            assert!(before[0] <= jumped);
        }
        drop((left, right));
        card.assert_no_violations();
    }

    fn hardware_and_queues_agree(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        let frames: Vec<_> = (0..100).map(|n| frame(right.mac(), left.mac(), n, 100)).collect();
        left.send(&frames);
        card.step();
        right.expect(&frames);
        left.port.refresh_stats().expect("there");
        right.port.refresh_stats().expect("there");
        assert_eq!(count(&left, "tx_packets"), 100);
        assert_eq!(count(&left, "tx0_packets"), 100);
        assert_eq!(count(&left, "tx0_bytes"), 10_000);
        assert_eq!(count(&right, "rx_packets"), 100);
        assert_eq!(count(&right, "rx0_packets"), 100);
        assert_eq!(count(&right, "rx0_bytes"), 10_000);
        if model.family() == Family::Igbvf {
            assert_eq!(count(&right, "rx_loopback_packets"), 100);
        }
        drop((left, right));
        card.assert_no_violations();
    }

    fn r14_totals_never_go_back_over_resets(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        let mut sent = 0;
        let mut last = 0;
        for round in 0..5 {
            left.send(&(0..50).map(|n| frame(right.mac(), left.mac(), n, 60)).collect::<Vec<_>>());
            sent += 50;
            card.step();
            right.receive();
            left.run(&card, 1100 * MS);
            let now = count(&left, "tx_packets");
            assert_eq!(now, sent, "round {round}");
            assert!(now >= last);
            last = now;
            card.pf().reset(10 * MS);
            for _ in 0..20 {
                left.run(&card, 10 * MS);
                right.run(&card, 10 * MS);
            }
        }
        drop((left, right));
        card.assert_no_violations();
    }

    fn drops_have_names(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default().rings(64, 64));
        for _ in 0..4 {
            left.send(&(0..100).map(|n| frame(right.mac(), left.mac(), n, 60)).collect::<Vec<_>>());
            card.step();
        }
        let got = right.receive().len();
        assert_eq!(got, 63, "the ring holds one less than its size");
        right.port.refresh_stats().expect("there");
        let stats = right.port.stats();
        if model.family() == Family::Igbvf {
            assert_eq!(stats.get("rx_missed"), Some(400 - 63));
        }
        let names: Vec<_> = stats.iter().map(|(name, _)| name.to_owned()).collect();
        let mut unique = names.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), names.len(), "a name twice");
        drop((left, right));
        card.assert_no_violations();
    }
}
