//! The bond: another member takes over, no frame comes twice, and the network is told.

mod common;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Station, card, frame};
use vfnic::{
    Batch, Bond, BondConfig, BondEvent, Carrier, MacAddr, Member, PoolConfig, Port, PortConfig,
    PortMember, QueueError,
};
use vfnic_hw::Model;
use vfnic_sim::{Card, SimSpace, VfLink};

const MS: Duration = Duration::from_millis(1);

/// Two VFs in one space, bonded, and a third that talks to them.
struct Bench {
    card: Card,
    space: SimSpace,
    bond: Bond,
    outbox: Batch,
    inbox: Batch,
    peer: Station,
    /// Number of the next frame to the peer, and of the next from it.
    next: u32,
    back: u32,
    /// Numbers that the peer received, and the bond.
    there: Vec<u32>,
    here: Vec<u32>,
    /// Everything else that the peer received.
    announced: Vec<Vec<u8>>,
}

/// A member on VF `vf`, with the pool that `config` says.
fn member(card: &Card, space: &SimSpace, vf: u16, config: PortConfig) -> PortMember {
    let function = card.function_in(vf, space).expect("free");
    let port = Port::from_function(function, config).expect("opens");
    PortMember::new(&format!("vf{vf}"), port).expect("starts")
}

impl Bench {
    fn new(model: Model, config: BondConfig) -> Self {
        let card = card(model, 3);
        let space = SimSpace::new();
        let pool = PoolConfig {
            buffers: 8192,
            ..PoolConfig::default()
        };
        let first = member(&card, &space, 0, PortConfig::default().pool(pool));
        let pool = first.port().pool().clone();
        let shared = PortConfig::default().shared_pool(pool.clone());
        let second = member(&card, &space, 1, shared);
        let peer = Station::new(&card, 2, PortConfig::default());
        // As every IPv6 host does.
        let all_nodes = "33:33:00:00:00:01".parse().expect("an address");
        peer.port.set_multicast(&[all_nodes]).expect("allowed");
        let mut bond = Bond::new(config, card.clock(), pool.batch(64));
        let addresses = ["192.0.2.7", "2001:db8::7"];
        bond.set_addresses(&addresses.map(|text| text.parse::<IpAddr>().expect("an address")));
        bond.add(Box::new(first));
        bond.add(Box::new(second));
        let mut bench = Self {
            outbox: pool.batch(64),
            inbox: pool.batch(256),
            card,
            space,
            bond,
            peer,
            next: 0,
            back: 0,
            there: Vec::new(),
            here: Vec::new(),
            announced: Vec::new(),
        };
        bench.run(300 * MS);
        bench
    }

    /// Traffic both ways for `time`, a frame each way every millisecond.
    fn run(&mut self, time: Duration) {
        let end = self.card.clock().now() + time;
        while self.card.clock().now() < end {
            let peer = self.peer.mac();
            if let Some(own) = self.bond.mac() {
                if self.outbox.is_empty() {
                    let made = frame(peer, own, self.next, 64);
                    self.outbox.push_bytes(&made).expect("room");
                    self.next += 1;
                }
                self.peer.try_send(&[frame(own, peer, self.back, 64)]);
                self.back += 1;
            }
            self.bond
                .send(&mut self.outbox)
                .expect("nothing is refused");
            self.card.run_for(MS);
            self.peer.port.poll_control().expect("there");
            self.bond.poll_control();
            self.bond.receive(&mut self.inbox).expect("its own pool");
            self.here
                .extend(self.inbox.frames().filter_map(|frame| number(frame.data())));
            self.inbox.clear();
            for arrived in self.peer.receive() {
                match number(&arrived) {
                    Some(number) => self.there.push(number),
                    None => self.announced.push(arrived),
                }
            }
        }
    }

    fn events(&mut self) -> Vec<BondEvent> {
        self.bond.events().collect()
    }

    /// Every frame came at most once and in order; gives how many did not come, each way.
    fn lost(&mut self) -> (usize, usize) {
        self.run(50 * MS);
        let gaps = |numbers: &[u32], made: u32| {
            assert!(numbers.is_sorted_by(|a, b| a < b), "twice or out of order");
            made as usize - numbers.len()
        };
        // The last one is perhaps on its way.
        (
            gaps(&self.there, self.next).saturating_sub(1),
            gaps(&self.here, self.back).saturating_sub(1),
        )
    }
}

/// The number of one of the frames of traffic.
fn number(frame: &[u8]) -> Option<u32> {
    let number = frame.get(14..18)?.try_into().ok()?;
    (frame[12..14] == [0x88, 0xb5]).then(|| u32::from_be_bytes(number))
}

/// The one change of the active member among `events`.
fn change(events: &[BondEvent]) -> (&str, Duration) {
    let changes: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            BondEvent::Active { name, gap, .. } => Some((name.as_str(), *gap)),
            _ => None,
        })
        .collect();
    assert_eq!(changes.len(), 1, "{events:?}");
    changes[0]
}

for_every_model! {
    fn another_vf_takes_over_when_one_is_taken_away_and_gives_back_when_it_returns(model) {
        let config = BondConfig::default().primary("vf0").miimon(10 * MS).updelay(200 * MS);
        let mut bench = Bench::new(model, config);
        assert_eq!(bench.bond.active(), Some("vf0"));
        bench.events();
        bench.announced.clear();
        bench.card.pf().remove_vf(0).expect("there");
        bench.run(100 * MS);
        let events = bench.events();
        let (name, gap) = change(&events);
        assert_eq!(name, "vf1");
        assert!(gap <= 10 * MS, "{gap:?}");
        assert!(events.contains(&BondEvent::Gone { name: "vf0".to_owned() }), "{events:?}");
        // The peer is told of both addresses, from the new one.
        let own = bench.bond.mac().expect("active").0;
        assert_eq!(bench.announced.len(), 2);
        for announced in &bench.announced {
            assert_eq!(announced[6..12], own);
        }
        let (there, here) = bench.lost();
        assert!(there <= 12 && here <= 12, "{there} and {here} frames in {gap:?}");
        // Plugged in again: used again once it has been up for a while, without losing anything.
        bench.card.pf().return_vf(0).expect("there");
        let pool = bench.outbox.pool().clone();
        let again = member(&bench.card, &bench.space, 0, PortConfig::default().shared_pool(pool));
        bench.bond.add(Box::new(again));
        bench.run(100 * MS);
        assert_eq!(bench.bond.active(), Some("vf1"), "updelay");
        bench.run(300 * MS);
        assert_eq!(bench.bond.active(), Some("vf0"));
        assert_eq!(change(&bench.events()), ("vf0", Duration::ZERO));
        // What was sent to the other address in the moment of the change is dropped there.
        let (no_more, a_few) = bench.lost();
        assert_eq!(no_more, there, "nothing more was lost");
        assert!(a_few <= here + 2, "{a_few} after {here}");
        assert_eq!(bench.bond.stats().failovers, 2);
        drop((bench.inbox, bench.outbox, bench.bond, bench.peer));
        common::assert_nothing_but_late_tails(&bench.card);
    }
}

#[test]
fn a_link_that_goes_down_is_left_after_downdelay() {
    let config = BondConfig::default()
        .miimon(10 * MS)
        .downdelay(50 * MS)
        .num_peer_notif(3);
    let mut bench = Bench::new(Model::X540, config);
    assert_eq!(bench.bond.active(), Some("vf0"));
    bench.events();
    bench.announced.clear();
    let pf = bench.card.pf();
    pf.set_vf_state(0, VfLink::Disable).expect("there");
    bench.run(300 * MS);
    let events = bench.events();
    let (name, gap) = change(&events);
    assert_eq!(name, "vf1");
    assert!((50 * MS..=120 * MS).contains(&gap), "{gap:?}");
    assert_eq!(bench.announced.len(), 6, "three rounds");
    bench.lost();
    // Back again: without a primary what works stays.
    pf.set_vf_state(0, VfLink::Auto).expect("there");
    bench.run(500 * MS);
    assert_eq!(bench.bond.active(), Some("vf1"));
    let stats = bench.bond.stats();
    assert_eq!((stats.failovers, stats.longest_gap), (1, gap));
}

#[test]
fn the_cable_of_both_costs_no_change_and_the_last_one_is_waited_for() {
    let mut bench = Bench::new(
        Model::X550,
        BondConfig::default()
            .miimon(10 * MS)
            .updelay(Duration::from_secs(5)),
    );
    bench.events();
    let pf = bench.card.pf();
    pf.set_link(false);
    bench.run(200 * MS);
    assert_eq!((bench.bond.active(), bench.bond.mac()), (None, None));
    assert!(bench.events().contains(&BondEvent::NoneLeft));
    let mut batch = bench.outbox.pool().batch(8);
    batch.push_bytes(&[0; 60]).expect("room");
    assert_eq!(bench.bond.send(&mut batch), Ok(0), "they wait");
    batch.clear();
    pf.set_link(true);
    bench.run(200 * MS);
    assert!(
        bench.bond.active().is_some(),
        "updelay is for when another one works"
    );
    let before = bench.there.len();
    bench.run(50 * MS);
    assert!(bench.there.len() > before + 40);
}

#[test]
fn a_pf_that_checks_addresses_drops_frames_with_the_old_one() {
    let mut bench = Bench::new(Model::I82599, BondConfig::default().miimon(10 * MS));
    let pf = bench.card.pf();
    pf.set_vf_spoofchk(1, true).expect("there");
    let old = bench.bond.mac().expect("active");
    pf.remove_vf(0).expect("there");
    bench.run(100 * MS);
    assert_eq!(bench.bond.active(), Some("vf1"));
    let new = bench.bond.mac().expect("active");
    assert_ne!(old, new, "fail_over_mac=active");
    let before = pf.vf(1).expect("there").spoofed;
    let mut batch = bench.outbox.pool().batch(8);
    for (from, number) in [(old, 1_000_000), (new, 2_000_000)] {
        let made = frame(bench.peer.mac(), from, number, 64);
        batch.push_bytes(&made).expect("room");
    }
    assert_eq!(bench.bond.send(&mut batch), Ok(2));
    bench.card.run_for(MS);
    let arrived: Vec<_> = bench
        .peer
        .receive()
        .iter()
        .filter_map(|f| number(f))
        .collect();
    assert!(
        arrived.contains(&2_000_000) && !arrived.contains(&1_000_000),
        "{arrived:?}"
    );
    assert_eq!(pf.vf(1).expect("there").spoofed, before + 1);
}

/// A standby that is no VF: what is sent by it lands in a list, what lies in the other arrives.
#[derive(Clone, Debug, Default)]
struct Standby(Arc<Mutex<[VecDeque<Vec<u8>>; 2]>>);

impl Member for Standby {
    fn name(&self) -> &str {
        "standby"
    }
    fn mac(&self) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, 0x77])
    }
    fn look_after(&mut self) -> (Carrier, Duration) {
        (Carrier::Up, Duration::from_secs(1))
    }
    fn send(&mut self, batch: &mut Batch) -> Result<usize, QueueError> {
        let frames: Vec<_> = batch.frames().map(|frame| frame.to_vec()).collect();
        batch.clear();
        let count = frames.len();
        self.0.lock().expect("no panic")[0].extend(frames);
        Ok(count)
    }
    fn receive(&mut self, batch: &mut Batch) -> Result<usize, QueueError> {
        let mut count = 0;
        for frame in self.0.lock().expect("no panic")[1].drain(..) {
            batch.push_bytes(&frame).expect("room");
            count += 1;
        }
        Ok(count)
    }
}

#[test]
fn what_is_no_vf_can_stand_by_and_what_comes_by_it_meanwhile_comes_once() {
    let card = card(Model::X540, 2);
    let space = SimSpace::new();
    let vf = member(&card, &space, 0, PortConfig::default());
    let pool = vf.port().pool().clone();
    let config = BondConfig::default().primary("vf0").miimon(10 * MS);
    let mut bond = Bond::new(config, card.clock(), pool.batch(64));
    let standby = Standby::default();
    let (sent, coming) = (|| standby.0.lock().expect("no panic")[0].len(), vec![7; 60]);
    bond.add(Box::new(standby.clone()));
    assert_eq!(bond.active(), Some("standby"), "better than nothing");
    bond.add(Box::new(vf));
    for _ in 0..20 {
        card.run_for(20 * MS);
        bond.poll_control();
    }
    assert_eq!(bond.active(), Some("vf0"));
    // A broadcast arrives by both; only the active one's copy counts.
    standby.0.lock().expect("no panic")[1].push_back(coming.clone());
    let mut batch = pool.batch(64);
    assert_eq!(bond.receive(&mut batch), Ok(0));
    assert_eq!(bond.stats().inactive_dropped, 1);
    card.pf().remove_vf(0).expect("there");
    batch.push_bytes(&[1; 60]).expect("room");
    card.run_for(20 * MS);
    bond.poll_control();
    assert_eq!(bond.active(), Some("standby"));
    assert_eq!((bond.send(&mut batch), sent()), (Ok(1), 1));
    standby.0.lock().expect("no panic")[1].push_back(coming);
    assert_eq!(bond.receive(&mut batch), Ok(1));
    assert!(bond.remove("standby").is_some() && bond.remove("standby").is_none());
    assert_eq!(bond.active(), None);
}

#[test]
fn links_that_are_looked_at_once_and_never_again_leave_what_is_gone_to_be_noticed() {
    let config = BondConfig::default()
        .miimon(Duration::MAX)
        .updelay(Duration::MAX)
        .downdelay(Duration::MAX);
    let mut bench = Bench::new(Model::X540, config);
    // The clock stood at nothing until now; from here on, for ever is past the end of time.
    let standby = bench.bond.remove("vf1").expect("a member");
    bench.bond.add(standby);
    bench.events();
    bench.card.pf().remove_vf(0).expect("a knob");
    bench.run(300 * MS);
    let events = bench.events();
    let gone = |event: &BondEvent| matches!(event, BondEvent::Gone { name } if name == "vf0");
    assert!(events.iter().any(gone), "{events:?}");
    // The only one left is not waited for.
    assert_eq!(bench.bond.active(), Some("vf1"));
}
