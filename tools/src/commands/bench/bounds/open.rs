//! A VF whose registers read anything, or whose PF says nothing, while it is opened and started.

use std::time::Duration;

use vfnic::{Port, PortConfig};
use vfnic_hw::Model;
use vfnic_sim::{Action, Point, Rule};

use super::silence::{on_both, silence, stepped};
use crate::dice::Dice;

/// Opens and starts one, in which a few registers, or all, lie in one way or several, or whose PF is silent. Whether it comes
/// to something does not matter here, only when it is over: `took` is told the time of either.
pub(super) fn anything(
    model: Model,
    dice: &mut Dice,
    mut took: impl FnMut(Duration),
) -> anyhow::Result<()> {
    let card = stepped(model, dice)?;
    if dice.below(5) == 0 {
        card.faults().add(silence(dice));
    } else {
        for _ in 0..dice.between(1, 4) {
            card.faults().add(lie(dice));
        }
    }
    let (function, clock) = (card.function(0)?, card.clock());
    let open = || Port::from_function(function, PortConfig::default());
    let (port, time) = on_both(&*clock, open);
    took(time);
    if let Ok(port) = port {
        took(on_both(&*clock, || port.start()).1);
    }
    Ok(())
}

/// Bytes of registers.
const REGISTERS: usize = 0x4000;

fn lie(dice: &mut Dice) -> Rule {
    let word = |dice: &mut Dice| u32::try_from(dice.roll() >> 32).unwrap_or(0);
    let action = match dice.below(4) {
        0 => Action::Force(word(dice)),
        1 => Action::Force(dice.pick(&[0, 1, u32::MAX - 1, u32::MAX, 1 << 31])),
        2 => Action::Mask {
            and: word(dice),
            or: word(dice) & word(dice) & word(dice),
        },
        _ => Action::Random,
    };
    let point = dice.pick(&[
        Point::RegisterRead,
        Point::RegisterRead,
        Point::RegisterRead,
        Point::MailboxReply,
    ]);
    let mut rule = Rule::new(point, action)
        .after(dice.pick(&[0, 0, 1, 5, 20, 50]))
        .with_ppm(dice.pick(&[1_000, 30_000, 300_000, 1_000_000]));
    if point == Point::RegisterRead && dice.below(3) == 0 {
        let register = 4 * dice.below(REGISTERS / 4);
        rule = rule.only(u32::try_from(register).unwrap_or(0));
    }
    if dice.below(3) == 0 {
        rule = rule.times(dice.between(1, 100));
    }
    rule
}
