//! In somebody's mio loop, beside sockets and timers: a poller is one fd. `arm` says whether it is safe to sleep on it.
//!
//! `cargo run --example mio_loop`
#![forbid(unsafe_code)]

mod shared;

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use shared::{FRAMES, Result, all_came_back, card, neighbour, turn_round, wait_for_link};
use vfnic::{PollMode, Poller, Port, PortConfig};
use vfnic_hw::Model;

const FRAMES_CAME: Token = Token(0);
const PORT_EVENT: Token = Token(1);

pub(crate) fn main() -> Result {
    let card = card(Model::I82576, 2)?;
    let port = Port::from_function(card.function(0)?, PortConfig::default())?;
    let mut poller = Poller::new(PollMode::Interrupt)?;
    for pair in port.start()? {
        poller.add(pair)?;
    }
    wait_for_link(&port)?;
    let own = port.mac().0;
    let neighbour = neighbour(&card, 1, own)?;

    let mut poll = Poll::new()?;
    let registry = poll.registry();
    let fd = poller.as_fd().as_raw_fd();
    registry.register(&mut SourceFd(&fd), FRAMES_CAME, Interest::READABLE)?;
    let fd = port.event_fd().as_raw_fd();
    registry.register(&mut SourceFd(&fd), PORT_EVENT, Interest::READABLE)?;

    let mut events = Events::with_capacity(8);
    let mut batch = port.batch(64);
    let mut sent = 0;
    while sent < FRAMES && !neighbour.is_finished() {
        // Until there is nothing more to do: with no time to wait, every queue is looked at once.
        loop {
            let turn = poller.turn(Some(Duration::ZERO), |index, pairs| {
                let pair = &mut pairs[index];
                if batch.is_empty() {
                    if pair.rx.receive(&mut batch)? == 0 {
                        pair.tx.reclaim(&mut batch);
                        return Ok(0);
                    }
                    batch.each_first_mut(|frame| turn_round(frame, own));
                }
                pair.tx.send(&mut batch)
            })?;
            sent += turn.frames;
            if turn.frames == 0 {
                break;
            }
        }
        // False: something came meanwhile, and nobody would be woken for it.
        let timeout = if poller.arm() {
            port.poll_control()?.min(Duration::from_millis(100))
        } else {
            Duration::ZERO
        };
        poll.poll(&mut events, Some(timeout))?;
        if events.iter().any(|event| event.token() == PORT_EVENT) {
            for event in port.events() {
                println!("{event:?}");
            }
        }
    }

    all_came_back(neighbour)?;
    drop((batch, poller));
    port.close()?;
    card.assert_no_violations();
    Ok(())
}
