//! Interrupts that are lost, late, misdirected, too many, too few, or not to be had: traffic goes on.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Station, build, frame};
use vfnic::{Event, PollMode, Poller, Port, PortConfig, QueueCount, QueuePair, Woken};
use vfnic_hw::{Clock, DmaSpace, Event as Fd, Mmio, Model, PciError, PciFunction, PciIds};
use vfnic_sim::{Action, Card, FaultPlan, Point, Rule};

/// More than twice the half second after which a poller looks by itself, and a loaded machine's share.
const SOON: Duration = Duration::from_secs(3);

/// A function whose vectors are not as the card has them.
#[derive(Debug)]
struct Vectors {
    inner: Arc<dyn PciFunction>,
    count: u32,
    /// The errno that turning them on fails with.
    errno: Option<i32>,
    routed: Mutex<Vec<Fd>>,
}

impl Vectors {
    fn of(card: &Card, vf: u16, count: u32, errno: Option<i32>) -> Arc<Self> {
        Arc::new(Self {
            inner: card.function(vf).expect("a VF"),
            count,
            errno,
            routed: Mutex::default(),
        })
    }

    fn routed(&self) -> Vec<Fd> {
        self.routed.lock().expect("no panic").clone()
    }
}

impl PciFunction for Vectors {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn ids(&self) -> PciIds {
        self.inner.ids()
    }
    fn read_config(&self, offset: u16, data: &mut [u8]) -> Result<(), PciError> {
        self.inner.read_config(offset, data)
    }
    fn write_config(&self, offset: u16, data: &[u8]) -> Result<(), PciError> {
        self.inner.write_config(offset, data)
    }
    fn bar(&self, index: u8) -> Result<Arc<dyn Mmio>, PciError> {
        self.inner.bar(index)
    }
    fn dma_space(&self) -> Arc<dyn DmaSpace> {
        self.inner.dma_space()
    }
    fn clock(&self) -> Arc<dyn Clock> {
        self.inner.clock()
    }
    fn vector_count(&self) -> u32 {
        self.count
    }
    fn enable_vectors(&self, events: &[Fd]) -> Result<(), PciError> {
        assert!(events.len() <= self.count as usize, "more than there are");
        if let Some(errno) = self.errno {
            return Err(PciError::Sys {
                device: self.name().to_owned(),
                call: "VFIO_DEVICE_SET_IRQS".to_owned(),
                source: std::io::Error::from_raw_os_error(errno),
            });
        }
        *self.routed.lock().expect("no panic") = events.to_vec();
        self.inner.enable_vectors(events)
    }
    fn disable_vectors(&self) -> Result<(), PciError> {
        self.inner.disable_vectors()
    }
    fn error_event(&self) -> Option<Fd> {
        self.inner.error_event()
    }
    fn request_event(&self) -> Option<Fd> {
        self.inner.request_event()
    }
    fn reset(&self) -> Result<(), PciError> {
        self.inner.reset()
    }
}

fn threaded(model: Model) -> Card {
    build(Card::builder(model).vfs(2).threaded())
}

fn station_of(function: Arc<dyn PciFunction>, config: PortConfig) -> Station {
    let port = Port::from_function(function, config).expect("opens");
    let pairs = port.start().expect("starts");
    Station::of(port, pairs)
}

/// A sender, and a receiver whose pairs are in a poller.
fn bench(card: &Card, mode: PollMode) -> (Station, Station, Poller) {
    let left = Station::new(card, 0, PortConfig::default());
    let mut right = Station::new(card, 1, PortConfig::default());
    let poller = poller_of(&mut right, mode);
    (left, right, poller)
}

fn poller_of(station: &mut Station, mode: PollMode) -> Poller {
    let mut poller = Poller::new(mode).expect("a poller");
    for pair in station.pairs.drain(..) {
        poller.add(pair).expect("added");
    }
    poller
}

/// Turns until `count` frames came.
fn take(poller: &mut Poller, station: &mut Station, count: usize) {
    let limit = Instant::now() + SOON;
    let mut got = 0;
    while got < count {
        assert!(Instant::now() < limit, "{got} of {count}");
        let batch = &mut station.batch;
        // Longer than a poller sleeps without looking: what is tested is its own watch, not this one.
        let turn = poller
            .turn(Some(SOON), |index, pairs: &mut [QueuePair]| {
                let frames = pairs[index].rx.receive(batch)?;
                batch.clear();
                Ok(frames)
            })
            .expect("turns");
        got += turn.frames;
        station.port.poll_control().expect("there");
    }
    assert_eq!(got, count);
}

/// Frames one by one, each waited for.
fn exchange(left: &mut Station, right: &mut Station, poller: &mut Poller, count: u32) {
    for number in 0..count {
        left.send(&[frame(right.mac(), left.mac(), number, 60)]);
        take(poller, right, 1);
    }
}

/// The same, with the receiver asleep when each comes.
fn exchange_asleep(left: &mut Station, right: &mut Station, poller: &mut Poller, count: u32) {
    for number in 0..count {
        let (to, from) = (right.mac(), left.mac());
        std::thread::scope(|scope| {
            scope.spawn(|| take(poller, right, 1));
            std::thread::sleep(Duration::from_millis(30));
            left.send(&[frame(to, from, number, 60)]);
        });
    }
}

#[test]
fn n1_lost_interrupts_cost_at_most_a_look() {
    for model in [Model::I82576, Model::I82599] {
        let lost = Rule::new(Point::Interrupt, Action::Drop).on_vf(1);
        let card = build(
            Card::builder(model)
                .vfs(2)
                .threaded()
                .faults(FaultPlan::none().with(lost)),
        );
        let (mut left, mut right, mut poller) = bench(&card, PollMode::Interrupt);
        exchange_asleep(&mut left, &mut right, &mut poller, 2);
        assert!(poller.stats().missed >= 1, "{model}: {:?}", poller.stats());
        drop((poller, left, right));
        card.assert_no_violations();
    }
}

#[test]
fn n3_in_a_storm_every_queue_is_served() {
    let card = build(Card::builder(Model::X550).vfs(3).threaded());
    let mut left = Station::new(&card, 0, PortConfig::default());
    let mut stations = [1, 2].map(|vf| Station::new(&card, vf, PortConfig::default()));
    let mut poller = Poller::new(PollMode::Adaptive).expect("a poller");
    for station in &mut stations {
        poller.add(station.pairs.remove(0)).expect("added");
    }
    let (over, signals) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                card.faults().spurious_interrupt(1, 0);
                signals.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut got = [0, 0];
        for round in 0..50 {
            for station in &stations {
                left.send(&[frame(station.mac(), left.mac(), round, 60)]);
            }
            let limit = Instant::now() + SOON;
            while got != [round + 1; 2] {
                assert!(Instant::now() < limit, "round {round}: {got:?}");
                poller
                    .turn(Some(Duration::from_millis(50)), |index, pairs| {
                        let batch = &mut stations[index].batch;
                        let frames = pairs[index].rx.receive(batch)?;
                        batch.clear();
                        got[index] += u32::try_from(frames).expect("few");
                        Ok(frames)
                    })
                    .expect("turns");
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(signals.load(Ordering::Relaxed) > 0);
    drop((poller, left, stations));
    card.assert_no_violations();
}

#[test]
fn n5_a_full_counter_is_found_out_and_emptied_once() {
    let card = threaded(Model::I82599);
    let mut left = Station::new(&card, 0, PortConfig::default());
    let function = Vectors::of(&card, 1, 3, None);
    let mut right = station_of(function.clone(), PortConfig::default());
    let mut poller = poller_of(&mut right, PollMode::Interrupt);
    for event in function.routed() {
        rustix::io::write(&event, &(u64::MAX - 1).to_ne_bytes()).expect("the counter is filled");
        event.signal();
    }
    exchange_asleep(&mut left, &mut right, &mut poller, 4);
    let missed = poller.stats().missed;
    assert!(missed <= 2, "{missed} times, each half a second");
    let counters: Vec<u64> = function.routed()[..1].iter().map(Fd::take).collect();
    assert!(counters[0] < 1000, "{counters:?}: emptied");
    drop((poller, left, right));
    card.assert_no_violations();
}

#[test]
fn n5_what_cannot_be_watched_is_an_error_and_what_is_closed_is_forgotten() {
    let card = threaded(Model::I350);
    let (_left, _right, mut poller) = bench(&card, PollMode::Interrupt);
    let file = std::fs::File::open("Cargo.toml").expect("the manifest");
    let error = poller.watch(&file).expect_err("a file is always ready");
    assert!(error.to_string().contains("epoll_ctl"), "{error}");
    let event = Fd::new().expect("an eventfd");
    poller.watch(&event).expect("watched");
    event.signal();
    drop(event);
    let turn = poller.turn(Some(Duration::from_millis(20)), |_, _| Ok(0));
    assert_eq!(turn.expect("turns").woken, Woken::Deadline);
}

#[test]
fn n6_messages_to_the_wrong_vector_delay_and_lose_nothing() {
    // The queue's message goes to the mailbox's vector, and the other way round.
    let swapped = FaultPlan::none()
        .with(
            Rule::new(Point::Interrupt, Action::Divert(2))
                .on_vf(1)
                .only(0),
        )
        .with(
            Rule::new(Point::Interrupt, Action::Divert(0))
                .on_vf(1)
                .only(2),
        );
    let card = build(Card::builder(Model::X540).vfs(2).threaded().faults(swapped));
    let (mut left, mut right, mut poller) = bench(&card, PollMode::Interrupt);
    exchange_asleep(&mut left, &mut right, &mut poller, 2);
    // What the PF says comes on the queue's vector; the control side looks by itself.
    card.pf().reset(Duration::from_millis(1));
    let limit = Instant::now() + SOON;
    let mut events = Vec::new();
    while !events
        .iter()
        .any(|event| matches!(event, Event::Recovered { .. }))
    {
        assert!(Instant::now() < limit, "{events:?}");
        for station in [&mut left, &mut right] {
            station.port.poll_control().expect("there");
        }
        left.touch();
        poller
            .turn(Some(Duration::from_millis(1)), |index, pairs| {
                let frames = pairs[index].rx.receive(&mut right.batch)?;
                right.batch.clear();
                Ok(frames)
            })
            .expect("turns");
        events.extend(right.events());
    }
}

#[test]
fn n7_one_vector_serves_all_queues_and_the_mailbox() {
    for (model, queues, vectors) in [
        (Model::X550, 4, 1),
        (Model::X550, 4, 2),
        (Model::I82576, 1, 1),
        (Model::X540, 2, 3),
    ] {
        let card = threaded(model);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let config = PortConfig::default().queues(QueueCount::Exactly(queues));
        let mut right = station_of(Vectors::of(&card, 1, vectors, None), config);
        let mut poller = poller_of(&mut right, PollMode::Interrupt);
        exchange(&mut left, &mut right, &mut poller, 50);
        exchange_asleep(&mut left, &mut right, &mut poller, 2);
        assert_eq!(poller.stats().missed, 0, "{model}, {vectors} vectors");
        drop((poller, left, right));
        card.assert_no_violations();
    }
}

#[test]
fn n8_without_vectors_there_is_polling_and_the_owner_hears_of_it() {
    const EINVAL: i32 = 22;
    const ENOSPC: i32 = 28;
    for errno in [EINVAL, ENOSPC] {
        let card = threaded(Model::I82599);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let function = Vectors::of(&card, 1, 3, Some(errno));
        let mut right = station_of(function, PortConfig::default());
        assert!(right.events().contains(&Event::NoInterrupts), "{errno}");
        let mut poller = poller_of(&mut right, PollMode::Interrupt);
        exchange(&mut left, &mut right, &mut poller, 20);
        exchange_asleep(&mut left, &mut right, &mut poller, 2);
        assert_eq!(poller.stats().missed, 0, "looked for long before");
        drop((poller, left, right));
        card.assert_no_violations();
    }
    // Not asked for, not missed.
    let card = threaded(Model::I82599);
    let right = Station::new(&card, 0, PortConfig::default().interrupts(false));
    assert!(!right.events().contains(&Event::NoInterrupts));
}

#[test]
fn n10_a_message_after_the_end_wakes_nobody() {
    let card = threaded(Model::I82576);
    let function = Vectors::of(&card, 1, 3, None);
    let mut right = station_of(function.clone(), PortConfig::default());
    let mut poller = poller_of(&mut right, PollMode::Interrupt);
    let nothing = Some(Duration::from_millis(10));
    poller.turn(nothing, |_, _| Ok(0)).expect("turns");
    // Vectors off and the port at rest; whoever held the events signals them all the same.
    let events = function.routed();
    drop(poller.into_queues());
    right.port.close().expect("closes");
    card.faults().spurious_interrupt(1, 0);
    for event in &events {
        assert_eq!(event.take() & !0xff, 0);
        event.signal();
    }
    drop(function);
    // The same VF again, with new events: the old ones are nobody's.
    let mut left = Station::new(&card, 0, PortConfig::default());
    let mut right = Station::new(&card, 1, PortConfig::default());
    let mut poller = poller_of(&mut right, PollMode::Interrupt);
    for event in &events {
        event.signal();
    }
    let turn = poller.turn(nothing, |_, _| Ok(0)).expect("turns");
    assert_eq!(turn.woken, Woken::Deadline);
    assert_eq!(poller.stats().spurious, 0, "{:?}", poller.stats());
    exchange_asleep(&mut left, &mut right, &mut poller, 5);
    drop((poller, left, right));
    card.assert_no_violations();
}
