//! How a card is made.

use std::time::Duration;

use vfnic_hw::Model;

use crate::card::Card;
use crate::clock::VirtualClock;
use crate::fault::FaultPlan;
use crate::pf::{PfPersonality, Variant};
use crate::uplink::Port;

/// A card could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// More VFs than the model has pools for.
    #[error("{model}: {asked} VFs asked for; it has 1 to {most}")]
    Vfs {
        /// The model.
        model: Model,
        /// VFs asked for.
        asked: u16,
        /// Most it can have.
        most: u16,
    },
    /// A queue count the hardware has no pool layout for.
    #[error("{model}: {asked} queues per VF asked for; it can have {can}")]
    Queues {
        /// The model.
        model: Model,
        /// Queues asked for.
        asked: u8,
        /// What it can have, as text.
        can: &'static str,
    },
    /// No eventfd or thread was to be had.
    #[error("starting the card: {what} failed")]
    Os {
        /// What was asked of the system.
        what: &'static str,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
}

/// When a stepped card does its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoStep {
    /// Only in [`Card::step`] and when the clock moves.
    #[default]
    Never,
    /// Also inside every doorbell, so that simple tests need not step.
    OnDoorbell,
}

/// What a card is to be; made by [`Card::builder`].
#[derive(Debug)]
pub struct CardBuilder {
    pub(crate) model: Model,
    pub(crate) vfs: u16,
    pub(crate) seed: u64,
    pub(crate) clock: Option<VirtualClock>,
    pub(crate) threaded: bool,
    pub(crate) auto_step: AutoStep,
    pub(crate) queues: Option<u8>,
    pub(crate) personality: PfPersonality,
    pub(crate) variant: Variant,
    pub(crate) api_versions: Option<Vec<u32>>,
    pub(crate) mailbox_delay: Duration,
    pub(crate) pf_reset_time: Duration,
    pub(crate) faults: FaultPlan,
    pub(crate) name: Option<String>,
    pub(crate) uplink: Option<Box<dyn Port>>,
    pub(crate) host: Option<Box<dyn Port>>,
}

impl CardBuilder {
    pub(crate) const fn new(model: Model) -> Self {
        Self {
            model,
            vfs: 1,
            seed: 0,
            clock: None,
            threaded: false,
            auto_step: AutoStep::Never,
            queues: None,
            personality: PfPersonality::Linux,
            variant: Variant::Plain,
            api_versions: None,
            mailbox_delay: Duration::ZERO,
            pf_reset_time: Duration::from_millis(20),
            faults: FaultPlan::none(),
            name: None,
            uplink: None,
            host: None,
        }
    }

    /// How many VFs; 1 by default.
    #[must_use]
    pub const fn vfs(mut self, count: u16) -> Self {
        self.vfs = count;
        self
    }

    /// What everything random comes from: MAC addresses a PF makes up, faults with a probability.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Virtual time, nothing moves but by [`Card::step`] or the clock. The default; the same seed and the same calls
    /// give the same run.
    #[must_use]
    pub const fn stepped(mut self) -> Self {
        self.threaded = false;
        self
    }

    /// Stepped, on a clock it shares with others.
    #[must_use]
    pub fn on_clock(mut self, clock: &VirtualClock) -> Self {
        self.threaded = false;
        self.clock = Some(clock.clone());
        self
    }

    /// Real time and a thread of its own, as fast as it goes.
    #[must_use]
    pub const fn threaded(mut self) -> Self {
        self.threaded = true;
        self
    }

    /// When a stepped card does its work; see [`AutoStep`].
    #[must_use]
    pub const fn auto_step(mut self, when: AutoStep) -> Self {
        self.auto_step = when;
        self
    }

    /// Queue pairs a VF of the 82599 family is told it has (GET_QUEUES): 2, 4 or 8. By default what the PF driver would
    /// choose for the number of VFs (ixgbevf.md §11.1). The igb family has 2 (82576) or 1 (I350), always.
    #[must_use]
    pub const fn queues(mut self, queues: u8) -> Self {
        self.queues = Some(queues);
        self
    }

    /// Which PF driver answers the mailbox.
    #[must_use]
    pub const fn personality(mut self, personality: PfPersonality) -> Self {
        self.personality = personality;
        self
    }

    /// Which of the device ids of an X550 the VFs show.
    #[must_use]
    pub const fn variant(mut self, variant: Variant) -> Self {
        self.variant = variant;
        self
    }

    /// The API versions (values of API_NEGOTIATE, ixgbevf.md §6.6) the PF accepts, instead of its personality's.
    #[must_use]
    pub fn api_versions(mut self, versions: &[u32]) -> Self {
        self.api_versions = Some(versions.to_vec());
        self
    }

    /// How long the PF takes to answer a mailbox message; none by default, then it answers inside the register write.
    #[must_use]
    pub const fn mailbox_delay(mut self, delay: Duration) -> Self {
        self.mailbox_delay = delay;
        self
    }

    /// How long a reset of the port that the PF does by itself (a change of MTU) keeps RSTI set; 20 ms by default, where
    /// hardware takes 1 to 3 s.
    #[must_use]
    pub const fn pf_reset_time(mut self, time: Duration) -> Self {
        self.pf_reset_time = time;
        self
    }

    /// What goes wrong from the start; more can be added through [`Card::faults`].
    #[must_use]
    pub fn faults(mut self, plan: FaultPlan) -> Self {
        self.faults = plan;
        self
    }

    /// What VFs are called in messages, before `/vfN`; `sim:MODEL` by default.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// What the wire leads to; nowhere by default.
    #[must_use]
    pub fn uplink(mut self, port: Box<dyn Port>) -> Self {
        self.uplink = Some(port);
        self
    }

    /// What lies behind the PF's own port; nothing by default.
    #[must_use]
    pub fn host(mut self, port: Box<dyn Port>) -> Self {
        self.host = Some(port);
        self
    }

    /// Makes the card.
    ///
    /// # Errors
    ///
    /// [`BuildError`] when the model cannot be so, or the system lacks a thread or an eventfd.
    pub fn build(self) -> Result<Card, BuildError> {
        Card::new(self)
    }
}
