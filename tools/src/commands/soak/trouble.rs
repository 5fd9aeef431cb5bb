//! What goes wrong, and what the administrator and the application change meanwhile.
//!
//! Only what leaves every frame's fate knowable is here: delivered once and intact, or lost under a name. A device that
//! rewrites its own completions into rubbish is a matter for the catalogue of faults.

use std::time::Duration;

use anyhow::Context;
use vfnic::{Error, MacAddr, MailboxError};
use vfnic_hw::{Family, Model};
use vfnic_sim::data::{Completion, Fault, Point as DataPoint};
use vfnic_sim::{Action, Point, Rule, VfLink};

use super::station::{VLAN, most_queues};
use super::world::World;
use crate::dice::Dice;

/// One kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    PfReset,
    PfDown,
    LinkFlap,
    SpeedChange,
    FunctionReset,
    Forgotten,
    Removed,
    TrustChanged,
    VfDisabled,
    RateLimited,
    BusMasterOff,
    SpuriousInterrupts,
    FrameSwallowed,
    TxReportSwallowed,
    TxReportDelayed,
    TxReportLate,
    RxReportDelayed,
    RxReportLate,
    RxError,
    ReadRefused,
    WriteRefused,
    LateCompletions,
    SlowPf,
    RequestDropped,
    RequestRefused,
    PingInBetween,
    EnableDropped,
    RegistersLie,
    VlanLeft,
    SettingsChanged,
    Restarted,
    Reopened,
}

const MS: Duration = Duration::from_millis(1);

impl Trouble {
    /// All there is.
    pub(super) const ALL: [Self; 32] = [
        Self::PfReset,
        Self::PfDown,
        Self::LinkFlap,
        Self::SpeedChange,
        Self::FunctionReset,
        Self::Forgotten,
        Self::Removed,
        Self::TrustChanged,
        Self::VfDisabled,
        Self::RateLimited,
        Self::BusMasterOff,
        Self::SpuriousInterrupts,
        Self::FrameSwallowed,
        Self::TxReportSwallowed,
        Self::TxReportDelayed,
        Self::TxReportLate,
        Self::RxReportDelayed,
        Self::RxReportLate,
        Self::RxError,
        Self::ReadRefused,
        Self::WriteRefused,
        Self::LateCompletions,
        Self::SlowPf,
        Self::RequestDropped,
        Self::RequestRefused,
        Self::PingInBetween,
        Self::EnableDropped,
        Self::RegistersLie,
        Self::VlanLeft,
        Self::SettingsChanged,
        Self::Restarted,
        Self::Reopened,
    ];

    /// Whether a model has it.
    fn fits(self, model: Model) -> bool {
        match self {
            Self::VfDisabled => model.family() == Family::Ixgbevf,
            Self::RateLimited => model != Model::I350,
            _ => true,
        }
    }

    /// One that `model` has.
    pub(super) fn any(model: Model, dice: &mut Dice) -> Self {
        loop {
            let one = dice.pick(&Self::ALL);
            if one.fits(model) {
                return one;
            }
        }
    }

    /// Makes it happen to VF `vf`, or to the card.
    pub(super) fn strike(self, world: &mut World, vf: u16, dice: &mut Dice) -> anyhow::Result<()> {
        let pf = world.card.pf();
        let some = Duration::from_micros(dice.between(10, 20_000));
        let soon = dice.between(0, 60);
        let ns = dice.between(1_000, 5_000_000);
        let data = |point, fault| Rule::new(Point::Data(point), Action::Data(fault));
        let plan = |rule: Rule| {
            world.card.faults().add(rule.on_vf(vf).after(soon).times(1));
        };
        match self {
            Self::PfReset => pf.reset(some),
            Self::PfDown => pf.down(),
            Self::LinkFlap => pf.set_link(false),
            Self::SpeedChange => pf.set_speed(100)?,
            Self::FunctionReset => plan(Rule::new(Point::RegisterRead, Action::ResetVf)),
            Self::Forgotten => pf.forget_vf(vf)?,
            Self::Removed => pf.remove_vf(vf)?,
            Self::TrustChanged => pf.set_vf_trust(vf, !pf.vf(vf)?.trust)?,
            Self::VfDisabled => pf.set_vf_state(vf, VfLink::Disable)?,
            Self::RateLimited => pf.set_vf_max_tx_rate(vf, 500)?,
            Self::BusMasterOff => world.card.faults().clear_bus_master(vf),
            Self::SpuriousInterrupts => {
                for vector in 0..3 {
                    world.card.faults().spurious_interrupt(vf, vector);
                }
            }
            Self::FrameSwallowed => plan(data(DataPoint::Frame, Fault::Swallow)),
            Self::TxReportSwallowed => plan(data(DataPoint::TxWriteBack, Fault::Swallow)),
            Self::TxReportDelayed => plan(data(DataPoint::TxWriteBack, Fault::Delay { ns })),
            Self::TxReportLate => plan(data(DataPoint::TxWriteBack, Fault::Late { ns })),
            Self::RxReportDelayed => plan(data(DataPoint::RxWriteBack, Fault::Delay { ns })),
            Self::RxReportLate => plan(data(DataPoint::RxWriteBack, Fault::Late { ns })),
            Self::RxError => {
                // CE, the same bit in both families (ixgbevf.md §9.4, igbvf.md §8.3).
                let (and, or) = ([u64::MAX; 2], [0, 1 << 24]);
                plan(data(DataPoint::RxWriteBack, Fault::Rewrite { and, or }));
            }
            Self::ReadRefused => plan(data(DataPoint::DmaRead, Fault::Refuse)),
            Self::WriteRefused => plan(data(DataPoint::DmaWrite, Fault::Refuse)),
            Self::LateCompletions => world.card.set_completion(Completion {
                burst: u16::try_from(dice.between(2, 40))?,
                delay_ns: ns,
                scribble: true,
            }),
            Self::SlowPf => plan(Rule::new(Point::MailboxReply, Action::Delay(some))),
            Self::RequestDropped => plan(Rule::new(Point::MailboxRequest, Action::Drop)),
            Self::RequestRefused => plan(Rule::new(Point::MailboxRequest, Action::Nack)),
            // A control message with clear-to-send (ixgbevf.md §6.4, igbvf.md §5.4).
            Self::PingInBetween => {
                plan(Rule::new(Point::MailboxReply, Action::Before(0x2000_0100)));
            }
            Self::EnableDropped => plan(Rule::new(Point::QueueEnable, Action::Drop)),
            Self::RegistersLie => plan(Rule::new(Point::RegisterRead, Action::Random)),
            Self::VlanLeft | Self::SettingsChanged | Self::Restarted | Self::Reopened => {}
        }
        self.application(world, vf, dice)
    }

    /// What the application does: with most troubles something that shows them.
    fn application(self, world: &mut World, vf: u16, dice: &mut Dice) -> anyhow::Result<()> {
        let model = world.card.model();
        let station = &mut world.stations[usize::from(vf)];
        let again = match self {
            Self::Restarted | Self::EnableDropped => station.restart(),
            Self::Reopened => {
                station.close()?;
                let queues = dice.between(1, most_queues(model).into());
                station.open(&world.card, u16::try_from(queues)?)
            }
            _ => Ok(()),
        };
        if let Err(error) = again {
            // A queue that does not start is a reason to open the port anew, which is done once the trouble is over.
            log::debug!("{self:?}: {error}");
            station.close()?;
        }
        let result = match self {
            Self::VlanLeft => match &station.live {
                Some(live) => live.port.remove_vlan(VLAN),
                None => Ok(()),
            },
            Self::SettingsChanged
            | Self::SlowPf
            | Self::RequestDropped
            | Self::RequestRefused
            | Self::PingInBetween
            | Self::RegistersLie => match &station.live {
                Some(live) => change(&live.port, dice),
                None => Ok(()),
            },
            _ => Ok(()),
        };
        result.or_else(forgive).with_context(|| format!("{self:?}"))
    }

    /// Takes it back, as far as it does not pass by itself.
    pub(super) fn mend(self, world: &mut World, vf: u16) -> anyhow::Result<()> {
        let pf = world.card.pf();
        // Rules that have not struck by now are forgotten, so that the card takes its short way again.
        world.card.faults().clear();
        match self {
            Self::PfDown => pf.up(),
            Self::LinkFlap => pf.set_link(true),
            Self::SpeedChange => pf.set_speed(match world.card.model().family() {
                Family::Igbvf => 1_000,
                Family::Ixgbevf => 10_000,
            })?,
            // Somebody has to tell a VF that was forgotten.
            Self::Forgotten => pf.ping(vf)?,
            Self::Removed => {
                // Its driver has noticed, or does now.
                let station = &mut world.stations[usize::from(vf)];
                station.look_after()?;
                station.close()?;
                pf.return_vf(vf)?;
            }
            Self::VfDisabled => pf.set_vf_state(vf, VfLink::Auto)?,
            Self::RateLimited => pf.set_vf_max_tx_rate(vf, 0)?,
            Self::LateCompletions => world.card.set_completion(Completion::default()),
            Self::VlanLeft | Self::RegistersLie => {
                if let Some(live) = &world.stations[usize::from(vf)].live {
                    let added = live.port.add_vlan(VLAN);
                    added.or_else(forgive).context("joining a VLAN again")?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Some setting.
fn change(port: &vfnic::Port, dice: &mut Dice) -> Result<(), Error> {
    let group = |dice: &mut Dice| {
        let bytes = dice.roll().to_le_bytes();
        MacAddr([1, 0, 0x5e, bytes[0] & 0x7f, bytes[1], bytes[2]])
    };
    match dice.below(3) {
        0 => {
            let list: Vec<_> = (0..dice.below(20)).map(|_| group(dice)).collect();
            port.set_multicast(&list)
        }
        1 => {
            let id = u16::try_from(dice.between(200, 210)).unwrap_or(200);
            let added = port.add_vlan(id);
            port.remove_vlan(id)?;
            added
        }
        _ => port.refresh_stats(),
    }
}

/// Requests may fail, for reasons that have a name; traffic goes on all the same.
fn forgive(error: Error) -> Result<(), Error> {
    match error {
        Error::Mailbox(
            MailboxError::Timeout { .. }
            | MailboxError::Refused { .. }
            | MailboxError::PfReset { .. }
            | MailboxError::Forgotten { .. },
        )
        | Error::Refused { .. }
        | Error::Recovering { .. }
        | Error::Gone { .. } => Ok(()),
        other => {
            log::debug!("forgiven: {other}");
            Err(other)
        }
    }
}

/// How long a trouble lasts: so many steps, so much time a step.
pub(super) fn duration(dice: &mut Dice) -> (usize, Duration) {
    let steps = dice.between(2, 40);
    let pause = dice.pick(&[MS / 20, MS, 7 * MS]);
    (usize::try_from(steps).unwrap_or(8), pause)
}
