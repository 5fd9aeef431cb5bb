//! A PF that answers late, or in part, or not at all, and everything that can be asked of a port meanwhile.

use std::time::{Duration, Instant};

use anyhow::Context;
use vfnic::{MacAddr, Port, PortConfig, Promisc};
use vfnic_hw::{Clock, Model};
use vfnic_sim::{Action, Card, Point, Rule};

use crate::dice::Dice;

/// A card of one VF that passes its time only while it is waited for.
pub(super) fn stepped(model: Model, dice: &mut Dice) -> anyhow::Result<Card> {
    Card::builder(model)
        .vfs(1)
        .seed(dice.roll())
        .build()
        .context("cannot simulate a card")
}

/// Both clocks of a card that is stepped: what is waited for passes on its own, what is computed on the machine's.
pub(super) fn on_both<T>(clock: &dyn Clock, work: impl FnOnce() -> T) -> (T, Duration) {
    let (waited, computed) = (clock.now(), Instant::now());
    let result = work();
    (result, clock.now() - waited + computed.elapsed())
}

/// What the control side can be asked, stopping aside. Whether it is done does not matter here, only when it is over.
const CALLS: [fn(&Port, u16); 9] = [
    |port, number| drop(port.add_vlan(number % 4000 + 1)),
    |port, number| drop(port.remove_vlan(number % 4000 + 1)),
    |port, number| drop(port.set_mac(address(2, number))),
    |port, number| drop(port.add_mac(address(2, number))),
    |port, number| drop(port.set_multicast(&[address(1, number)])),
    |port, number| {
        let modes = [Promisc::Off, Promisc::AllMulticast, Promisc::All];
        drop(port.set_promiscuous(modes[usize::from(number) % modes.len()]));
    },
    |port, number| drop(port.set_mtu(68 + number % 1400)),
    |port, _| drop(port.refresh_stats()),
    |port, _| drop(port.poll_control()),
];

fn address(first: u8, number: u16) -> MacAddr {
    let [high, low] = number.to_be_bytes();
    MacAddr([first, 0, 0, 0, high, low])
}

/// A port whose PF falls silent after some messages, in one of the ways a PF can; `took` is told the time of each call.
pub(super) fn calls(
    model: Model,
    dice: &mut Dice,
    mut took: impl FnMut(Duration),
) -> anyhow::Result<()> {
    let card = stepped(model, dice)?;
    let port = Port::from_function(card.function(0)?, PortConfig::default())?;
    let clock = card.clock();
    card.faults().add(silence(dice));
    let mut pairs = Vec::new();
    for _ in 0..10 {
        if pairs.is_empty() {
            // Its time is that of opening.
            pairs = port.start().unwrap_or_default();
        }
        let number = u16::try_from(dice.below(1 << 16)).unwrap_or(0);
        if dice.below(CALLS.len() + 1) == 0 {
            took(on_both(&*clock, || port.stop(std::mem::take(&mut pairs))).1);
        } else {
            let call = dice.pick(&CALLS);
            took(on_both(&*clock, || call(&port, number)).1);
        }
        // As an application would, whatever the call said.
        for _ in 0..dice.below(20) {
            card.run_for(Duration::from_millis(dice.between(1, 100)));
            took(on_both(&*clock, || port.poll_control()).1);
        }
    }
    Ok(())
}

/// A PF that does not answer, or too late, from some message on; every other one of these answers now and then.
pub(super) fn silence(dice: &mut Dice) -> Rule {
    let late = Duration::from_millis(dice.between(100, 3000));
    let ways = [
        (Point::MailboxRequest, Action::Drop),
        (Point::MailboxRequest, Action::Delay(late)),
        (Point::MailboxReply, Action::Drop),
        (Point::MailboxReply, Action::Delay(late)),
        (Point::MailboxLock, Action::Drop),
    ];
    let (point, action) = dice.pick(&ways);
    Rule::new(point, action)
        .after(dice.between(0, 6))
        .with_ppm(dice.pick(&[500_000, 1_000_000]))
}
