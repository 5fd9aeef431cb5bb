//! Things that go wrong on purpose: a plan of rules, consulted at named points.
//!
//! One mechanism for the whole card. A rule says where (a [`Point`], narrowed to a VF and a [`Rule::selector`]), when
//! (how many passings to let by, how often, with what probability, in which window of the card's time) and what (an
//! [`Action`]). An empty plan costs one test of a bit mask a point.

use std::time::Duration;

use crate::counting::Count;
use crate::data::{Fault, Point as DataPoint};

/// A named point at which the plan is consulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Point {
    /// A register is read. Selector: its offset. `Force`, `Mask`, `Random`; `ResetPort`, `ResetVf`, `Remove` just before.
    RegisterRead,
    /// A register other than a tail rung through a doorbell is written. Selector: its offset. `Force`, `Mask`, `Random`,
    /// `Drop`; `ResetPort`, `ResetVf`, `Remove` just before.
    RegisterWrite,
    /// A queue's ENABLE bit is about to be set. Selector: 0..8 RX, 8..16 TX. `Drop` (it never sets), `Delay`.
    QueueEnable,
    /// A queue's ENABLE bit is about to be cleared. Selector as above. `Drop`, `Delay`.
    QueueDisable,
    /// The PF sees a request. Selector: message type. `Drop` (no PFACK, no reply), `Delay`, `Nack`; `ResetPort`, `ResetVf`,
    /// `Remove` instead of an answer.
    MailboxRequest,
    /// The PF is about to reply. Selector: message type. `Drop` (PFACK but no reply), `Delay`, `Nack`, `Force` and
    /// `Mask` (word 0), `Word`, `Random` (every word but 0), `Before` (a PF message gets in between).
    MailboxReply,
    /// A VF asks for the mailbox memory (VFU). `Drop`: it is not granted.
    MailboxLock,
    /// A VF acknowledges a PF message. `Drop`: the PF does not see it.
    MailboxAck,
    /// A message-signalled interrupt is about to go out. Selector: vector. `Drop`, `Delay`, `Repeat`, `Divert`.
    Interrupt,
    /// A VF resets itself (VFCTRL.RST, VTCTRL.RST or FLR). `Drop`.
    VfReset,
    /// A config-space read. Selector: offset. `Force`, `Mask`, `Random`.
    ConfigRead,
    /// The driver asks the host for something, as it would by a system call. Selector: 0 to map registers, 1 to map
    /// memory, 2 to route vectors, 3 to switch them off, 4 for a reset, 5 to read and 6 to write config space. `Fail`.
    HostCall,
    /// A point of the data path, in its own words.
    Data(DataPoint),
}

/// What happens at the point. An action that makes no sense there does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// This value instead of the real one.
    Force(u32),
    /// `(value & and) | or` instead of the real one.
    Mask {
        /// Bits to keep.
        and: u32,
        /// Bits to set.
        or: u32,
    },
    /// A value drawn from the card's seed instead of the real one.
    Random,
    /// The PF resets the port, for this long.
    ResetPort(Duration),
    /// The host resets the VF (FLR) behind its driver's back.
    ResetVf,
    /// The VF is gone from the bus.
    Remove,
    /// It does not happen.
    Drop,
    /// It happens this much later.
    Delay(Duration),
    /// The PF refuses.
    Nack,
    /// This word of the reply has this value instead.
    Word {
        /// Which word, 0..16.
        index: u8,
        /// Its value.
        value: u32,
    },
    /// A PF message of this one word is written, and signalled, just before.
    Before(u32),
    /// It happens this many times more.
    Repeat(u32),
    /// It goes to this vector instead.
    Divert(u8),
    /// The host refuses, with this errno.
    Fail(i32),
    /// A fault of the data path.
    Data(Fault),
}

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Where.
    pub point: Point,
    /// What.
    pub action: Action,
    /// Which VF; any if `None`.
    pub vf: Option<u16>,
    /// Which register, message type, vector or queue, as the point says; any if `None`.
    pub selector: Option<u32>,
    /// Passings to let by first.
    pub skip: u64,
    /// How often it happens at most; no limit if `None`.
    pub times: Option<u64>,
    /// Probability in millionths, drawn from the card's seed; 1 000 000 is always.
    pub ppm: u32,
    /// Not before this moment of the card's clock.
    pub from: Duration,
    /// Not at or after this moment; no end if `None`.
    pub until: Option<Duration>,
}

impl Rule {
    /// A rule that always applies: any VF, any selector, every passing.
    #[must_use]
    pub const fn new(point: Point, action: Action) -> Self {
        Self {
            point,
            action,
            vf: None,
            selector: None,
            skip: 0,
            times: None,
            ppm: 1_000_000,
            from: Duration::ZERO,
            until: None,
        }
    }

    /// Only on this VF.
    #[must_use]
    pub const fn on_vf(mut self, vf: u16) -> Self {
        self.vf = Some(vf);
        self
    }

    /// Only for this register, message type, vector or queue.
    #[must_use]
    pub const fn only(mut self, selector: u32) -> Self {
        self.selector = Some(selector);
        self
    }

    /// Lets `passings` go by first.
    #[must_use]
    pub const fn after(mut self, passings: u64) -> Self {
        self.skip = passings;
        self
    }

    /// At most this often.
    #[must_use]
    pub const fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// With this probability, in millionths.
    #[must_use]
    pub const fn with_ppm(mut self, ppm: u32) -> Self {
        self.ppm = ppm;
        self
    }

    /// Only in this window of the card's clock.
    #[must_use]
    pub const fn between(mut self, from: Duration, until: Duration) -> Self {
        self.from = from;
        self.until = Some(until);
        self
    }
}

/// All that is to go wrong. Rules are asked in order; the first that applies decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultPlan {
    rules: Vec<Rule>,
}

impl FaultPlan {
    /// Nothing goes wrong.
    #[must_use]
    pub const fn none() -> Self {
        Self { rules: Vec::new() }
    }

    /// The plan with one more rule.
    #[must_use]
    pub fn with(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Its rules.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

impl FromIterator<Rule> for FaultPlan {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Self {
        Self {
            rules: rules.into_iter().collect(),
        }
    }
}

/// The plan at work: counts passings, draws lots.
#[derive(Debug)]
pub(crate) struct Faults {
    rules: Vec<Active>,
    /// Bit per [`Point`] some rule names.
    armed: u32,
    random: Random,
    /// Offset and value of the last register write that a rule struck, as the driver meant it.
    pub(crate) struck_write: Option<(u32, u32)>,
}

#[derive(Debug)]
struct Active {
    rule: Rule,
    passed: u64,
    struck: u64,
}

const fn bit(point: Point) -> u32 {
    1 << match point {
        Point::RegisterRead => 0,
        Point::RegisterWrite => 1,
        Point::QueueEnable => 2,
        Point::QueueDisable => 3,
        Point::MailboxRequest => 4,
        Point::MailboxReply => 5,
        Point::MailboxLock => 6,
        Point::MailboxAck => 7,
        Point::Interrupt => 8,
        Point::VfReset => 9,
        Point::ConfigRead => 10,
        Point::Data(_) => 11,
        Point::HostCall => 12,
    }
}

impl Faults {
    pub(crate) fn new(plan: &FaultPlan, seed: u64) -> Self {
        let mut faults = Self {
            rules: Vec::new(),
            armed: 0,
            random: Random::new(seed),
            struck_write: None,
        };
        for rule in plan.rules() {
            faults.add(rule.clone());
        }
        faults
    }

    pub(crate) fn add(&mut self, rule: Rule) {
        self.armed |= bit(rule.point);
        self.rules.push(Active {
            rule,
            passed: 0,
            struck: 0,
        });
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
        self.armed = 0;
        self.struck_write = None;
    }

    /// How often each rule struck, in the order they were added.
    pub(crate) fn struck(&self) -> Vec<u64> {
        self.rules.iter().map(|active| active.struck).collect()
    }

    /// Whether any rule is on the data path.
    pub(crate) const fn data_armed(&self) -> bool {
        self.armed & (1 << 11) != 0
    }

    /// The point is passed: what happens, if anything.
    #[inline]
    pub(crate) fn at(
        &mut self,
        point: Point,
        now: Duration,
        vf: usize,
        selector: u32,
    ) -> Option<Action> {
        if self.armed & bit(point) == 0 {
            return None;
        }
        self.strike(point, now, vf, selector)
    }

    #[cold]
    fn strike(&mut self, point: Point, now: Duration, vf: usize, selector: u32) -> Option<Action> {
        for active in &mut self.rules {
            let rule = &active.rule;
            if rule.point != point
                || rule.vf.is_some_and(|only| usize::from(only) != vf)
                || rule.selector.is_some_and(|only| only != selector)
                || now < rule.from
                || rule.until.is_some_and(|until| now >= until)
                || rule.times.is_some_and(|times| active.struck >= times)
            {
                continue;
            }
            active.passed.count(1);
            if active.passed <= rule.skip {
                continue;
            }
            if rule.ppm < 1_000_000 && self.random.millionth() >= u64::from(rule.ppm) {
                continue;
            }
            active.struck.count(1);
            return Some(rule.action);
        }
        None
    }

    /// A value after `Force`, `Mask` and `Random`.
    pub(crate) fn bend(&mut self, action: Option<Action>, value: u32) -> u32 {
        match action {
            Some(Action::Force(forced)) => forced,
            Some(Action::Mask { and, or }) => (value & and) | or,
            Some(Action::Random) => self.random.word(),
            _ => value,
        }
    }
}

/// SplitMix64: small, seeded, the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 32 random bits.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low half is as good as any"
    )]
    pub(crate) const fn word(&mut self) -> u32 {
        self.next() as u32
    }

    /// A number below a million.
    const fn millionth(&mut self) -> u64 {
        self.next() % 1_000_000
    }
}
