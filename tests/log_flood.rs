//! A device that does wrong a hundred thousand times: counted each time, told of now and then. In a process of its own,
//! because there is one logger in each.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Station, assert_nothing_but_late_tails, card, frame};
use vfnic::PortConfig;
use vfnic_hw::Model;
use vfnic_sim::data::{Fault, Point as DataPoint};
use vfnic_sim::{Action, Point, Rule};

static LINES: AtomicUsize = AtomicUsize::new(0);

struct Count;

impl log::Log for Count {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        if record.target().starts_with("vfnic") && record.level() <= log::Level::Info {
            LINES.fetch_add(1, Ordering::Relaxed);
        }
    }
    fn flush(&self) {}
}

#[test]
fn r18_a_hostile_device_floods_counters_and_no_log() {
    log::set_logger(&Count).expect("the only logger");
    log::set_max_level(log::LevelFilter::Trace);
    let card = card(Model::X540, 2);
    let mut left = Station::new(&card, 0, PortConfig::default());
    let mut right = Station::new(&card, 1, PortConfig::default());
    // Every frame comes with a length no buffer has.
    card.faults().add(
        Rule::new(
            Point::Data(DataPoint::RxWriteBack),
            Action::Data(Fault::Rewrite {
                and: [u64::MAX; 2],
                or: [0, 0xffff << 32],
            }),
        )
        .on_vf(1),
    );
    let before = LINES.load(Ordering::Relaxed);
    let mut sent = 0;
    for round in 0..500u32 {
        sent += left.try_send(
            &(0..200)
                .map(|n| frame(right.mac(), left.mac(), round * 200 + n, 60))
                .collect::<Vec<_>>(),
        );
        card.step();
        assert!(right.receive().is_empty());
    }
    assert_eq!(sent, 100_000);
    assert_eq!(right.port.stats().get("rx0_bad_len"), Some(100_000));
    // A PF in reset again and again, on top of it.
    for _ in 0..100 {
        card.pf().reset(Duration::from_millis(1));
        right.run(&card, Duration::from_millis(20));
        left.run(&card, Duration::from_millis(20));
    }
    let lines = LINES.load(Ordering::Relaxed) - before;
    assert!(lines <= 2000, "{lines} lines");
    drop((left, right));
    assert_nothing_but_late_tails(&card);
}
