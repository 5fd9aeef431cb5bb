//! A userspace driver for the virtual functions of Intel's SR-IOV network cards: 82576 and I350 (igbvf), 82599, X540
//! and the X550 family (ixgbevf).
//!
//! A program opens a VF, gets queue pairs, and moves frames with them, without the kernel in between. The device is
//! reached through VFIO; anything else that looks like a PCI function will do as well, such as the simulated cards of
//! `vfnic-sim`, which all examples here run on.
//!
//! # Moving frames
//!
//! ```
//! use vfnic::{Port, PortConfig};
//! # use vfnic_sim::Card;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let card = Card::builder(vfnic_hw::Model::I82599).vfs(2).build()?;
//! # let (here, there) = (card.function(0)?, card.function(1)?);
//!
//! // On a machine with such a card: Port::open("0000:31:10.1")?
//! let port = Port::from_function(here, PortConfig::default())?;
//! let mut pair = port.start()?.remove(0);
//! # let peer = Port::from_function(there, PortConfig::default())?;
//! # let mut other = peer.start()?.remove(0);
//!
//! // A batch holds frames, and a cache of free buffers: one for each thread is enough.
//! let mut batch = port.batch(64);
//! let mut frame = [0; 60];
//! frame[..6].copy_from_slice(&peer.mac().0.0);
//! frame[6..12].copy_from_slice(&port.mac().0.0);
//! frame[12..14].copy_from_slice(&[0x88, 0xb5]);
//! batch.push_bytes(&frame)?;
//! assert_eq!(pair.tx.send(&mut batch)?, 1);
//! # card.step();
//!
//! // On the other side it is received, turned round, and sent back: the same buffer, nothing is copied.
//! let mut batch = peer.batch(64);
//! assert_eq!(other.rx.receive(&mut batch)?, 1);
//! for mut frame in batch.frames_mut() {
//!     let data = frame.data_mut();
//!     data[..6].copy_from_slice(&port.mac().0.0);
//!     data[6..12].copy_from_slice(&peer.mac().0.0);
//! }
//! assert_eq!(other.tx.send(&mut batch)?, 1);
//! # card.step();
//! # let mut batch = port.batch(64);
//! # assert_eq!(pair.rx.receive(&mut batch)?, 1);
//! # drop((batch, pair, other, port, peer));
//! # card.assert_no_violations();
//! # Ok(())
//! # }
//! ```
//!
//! # Waiting for frames
//!
//! [`Poller`] looks after the queues of one thread and sleeps when there is nothing to do; see there.
//!
//! # Looking after a port
//!
//! [`Port::poll_control`], as often as it asks for, or [`Port::spawn_control_thread`], once. Links go down and PFs are
//! reset; the port notices, recovers by itself with everything as it was configured, and tells:
//!
//! ```
//! use vfnic::{Event, Link, Port, PortConfig};
//! # use std::time::Duration;
//! # use vfnic_sim::Card;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let card = Card::builder(vfnic_hw::Model::X550).build()?;
//! # let port = Port::from_function(card.function(0)?, PortConfig::default())?;
//! # let mut pair = port.start()?.remove(0);
//! # let mut batch = port.batch(8);
//! # assert!(port.link().is_up());
//! # card.pf().reset(Duration::from_millis(50));
//! # let mut recovered = false;
//! # for _ in 0..100 {
//! # card.run_for(Duration::from_millis(10));
//! # pair.rx.receive(&mut batch)?;
//! let next = port.poll_control()?;
//! for event in port.events() {
//!     match event {
//!         Event::LinkUp { mbps } => println!("link up, {mbps} Mb/s"),
//!         Event::LinkDown => println!("link down"),
//!         Event::Recovered { took } => {
//!             println!("traffic is back after {took:?}");
//! #           recovered = true;
//!         }
//!         Event::Gone => println!("the device is gone"),
//!         other => println!("{other:?}"),
//!     }
//! }
//! // Call again after `next`, or when `port.event_fd()` is readable.
//! # let _ = next;
//! # }
//! # assert!(recovered);
//! # Ok(())
//! # }
//! ```
//!
//! # Two ports as one
//!
//! A [`Bond`] of two VFs, or of a VF and something else that stands by for it, goes on when one of them loses its link or is
//! taken away, and tells the network where its addresses live now:
//!
//! ```
//! use vfnic::{Bond, BondConfig, BondEvent, Port, PortConfig, PortMember};
//! # use std::time::Duration;
//! # use vfnic_sim::{Card, SimSpace};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let card = Card::builder(vfnic_hw::Model::X540).vfs(2).build()?;
//! # let space = SimSpace::new();
//! # let (one, two) = (card.function_in(0, &space)?, card.function_in(1, &space)?);
//! let clock = one.clock();
//! let first = PortMember::new("first", Port::from_function(one, PortConfig::default())?)?;
//! let pool = first.port().pool().clone();
//! let shared = PortConfig::default().shared_pool(pool.clone());
//! let second = PortMember::new("second", Port::from_function(two, shared)?)?;
//!
//! let config = BondConfig::default().primary("first").miimon(Duration::from_millis(100));
//! let mut bond = Bond::new(config, clock, pool.batch(64));
//! bond.set_addresses(&["192.0.2.7".parse()?]);
//! bond.add(Box::new(first));
//! bond.add(Box::new(second));
//! # card.run_for(Duration::from_secs(1));
//! # bond.poll_control();
//! # card.pf().remove_vf(0)?;
//! # let mut batch = pool.batch(64);
//! // In the loop that moves frames: bond.receive, bond.send, and now and then
//! bond.poll_control();
//! # let mut changed = false;
//! for event in bond.events() {
//!     if let BondEvent::Active { name, mac, gap } = event {
//!         println!("{name} carries the traffic after {gap:?}; frames are to come from {mac}");
//! #       changed |= name == "second";
//!     }
//! }
//! # assert!(changed);
//! # drop((batch, bond));
//! # Ok(())
//! # }
//! ```
//!
//! # What a port can do
//!
//! ```
//! # use vfnic::{Port, PortConfig};
//! # use vfnic_sim::Card;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let card = Card::builder(vfnic_hw::Model::I350).build()?;
//! # let port = Port::from_function(card.function(0)?, PortConfig::default())?;
//! for (name, availability) in port.capabilities().iter() {
//!     // rss_key: not available: there is one receive queue only
//!     println!("{name}: {availability}");
//! }
//! # assert!(!port.capabilities().has("rss_key"));
//! # Ok(())
//! # }
//! ```
//!
//! # Without hardware
//!
//! The same program on a simulated card, for instance in a test, under a virtual clock that makes resets and timeouts
//! instant:
//!
//! ```
//! use std::time::Duration;
//! use vfnic::{Port, PortConfig, PortState};
//! use vfnic_hw::Model;
//! use vfnic_sim::Card;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let card = Card::builder(Model::I82576).vfs(1).build()?;
//! let port = Port::from_function(card.function(0)?, PortConfig::default())?;
//! let pairs = port.start()?;
//! card.pf().set_link(false);
//! card.run_for(Duration::from_secs(1));
//! port.poll_control()?;
//! assert_eq!(port.state(), PortState::LinkDown);
//! drop((pairs, port));
//! card.assert_no_violations();
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! They only add, and none is on by default.
//!
//! * `smoltcp`: `stack`, a queue pair as a device of smoltcp's, the small TCP/IP stack.
//!
//! # Rules of the house
//!
//! * Nothing that a device, a PF or a frame can say panics, or waits beyond a stated bound. Every error says what was
//!   asked, what was seen and what to do.
//! * A device that reads all ones on two registers is gone: every call says so, nothing touches it any more.
//! * Buffers are handed to nobody before the queue that held them reads disabled; memory that cannot be had back
//!   safely is kept until the process ends.
//! * The data path takes no lock, makes no system call and allocates nothing.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod bond;
mod capabilities;
mod config;
mod error;
mod event;
mod family;
mod fanout;
mod link;
mod mac;
mod mailbox;
mod poller;
mod port;
mod queue;
mod registers;
mod spec;
#[cfg(feature = "smoltcp")]
pub mod stack;
mod stats;
mod wait;

#[cfg(test)]
mod fake;

pub use bond::{Bond, BondConfig, BondEvent, BondStats, Carrier, Member, PortMember};
pub use capabilities::{Availability, Capabilities};
pub use config::{Itr, MacChoice, PortConfig, QueueCount, RssConfig};
pub use error::{ConfigError, Error, MailboxError, Stage};
pub use event::Event;
pub use family::{ApiVersion, Promisc};
pub use fanout::{Fanout, FanoutStats, Worker, flow_hash};
pub use link::Link;
pub use mac::{MacAddr, MacParseError};
pub use poller::{PollMode, Pollable, Poller, PollerStats, Turn, Waker, Woken};
pub use port::{MacOrigin, Port, PortState};
pub use queue::{QueueError, QueuePair, RxQueue, TxQueue};
pub use spec::{DeviceSpec, PciAddress, PciPattern, SimSpec, SpecError, System, VfSet};
pub use stats::PortStats;
/// The backends that reach real functions.
pub use vfnic_backend as backend;
/// The contract below the driver: PCI functions, IOVA spaces, clocks, register maps.
pub use vfnic_hw as hw;
/// The data path below the queues: rings, pools, DMA memory.
pub use vfnic_ring as ring;
pub use vfnic_ring::{
    Batch, Checksums, Fate, Frame, FrameError, FrameMut, L4, Packet, PacketType, Pool, PoolConfig,
    PoolStats, RingError, RssHash, SendError, TxOffload, Verdict,
};

/// The README's example runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
