//! Fault plans as text, for command lines and files.
//!
//! `POINT[:SELECTOR]=ACTION[,KEY=VALUE…]`, rules separated by `;` or line ends, `#` to the end of a line ignored:
//!
//! ```text
//! mailbox-reply:2=drop,vf=0,times=3       the PF's first three replies to SET_MAC_ADDR of VF 0 get lost
//! register-read:0x10=mask:0xbfffffff:0    link never up
//! interrupt=drop,ppm=1000                 one message in a thousand is lost
//! dma-write=refuse,after=100,times=1      the hundred-and-first write of a frame is an IOMMU fault
//! host-call:1=fail:12,after=1,times=1     the second mapping of memory fails with ENOMEM
//! ```

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::data::{Fault, Point as DataPoint};
use crate::fault::{Action, FaultPlan, Point, Rule};

/// A fault plan that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fault rule `{rule}`: {what}")]
pub struct PlanError {
    rule: String,
    what: String,
}

const POINTS: [(&str, Point); 19] = [
    ("register-read", Point::RegisterRead),
    ("register-write", Point::RegisterWrite),
    ("queue-enable", Point::QueueEnable),
    ("queue-disable", Point::QueueDisable),
    ("mailbox-request", Point::MailboxRequest),
    ("mailbox-reply", Point::MailboxReply),
    ("mailbox-lock", Point::MailboxLock),
    ("mailbox-ack", Point::MailboxAck),
    ("interrupt", Point::Interrupt),
    ("vf-reset", Point::VfReset),
    ("config-read", Point::ConfigRead),
    ("host-call", Point::HostCall),
    ("tx-fetch", Point::Data(DataPoint::TxFetch)),
    ("tx-write-back", Point::Data(DataPoint::TxWriteBack)),
    ("rx-fetch", Point::Data(DataPoint::RxFetch)),
    ("rx-write-back", Point::Data(DataPoint::RxWriteBack)),
    ("dma-read", Point::Data(DataPoint::DmaRead)),
    ("dma-write", Point::Data(DataPoint::DmaWrite)),
    ("frame", Point::Data(DataPoint::Frame)),
];

const ACTIONS: &str = "force:V, mask:AND:OR, random, reset-port:TIME, reset-vf, remove, drop, delay:TIME, nack, word:INDEX:V, before:V, repeat:N, divert:N, fail:ERRNO; at the \
                       data path's points: rewrite:AND:AND:OR:OR, swallow, tear:TIME, displace:N, delay:TIME, late:TIME, again:TIME, refuse, \
                       corrupt:OFFSET, duplicate, block";

impl FromStr for FaultPlan {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.lines()
            .map(|line| line.split('#').next().unwrap_or_default())
            .flat_map(|line| line.split(';'))
            .map(str::trim)
            .filter(|rule| !rule.is_empty())
            .try_fold(Self::none(), |plan, rule| Ok(plan.with(rule.parse()?)))
    }
}

impl FromStr for Rule {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        read(text).map_err(|what| PlanError {
            rule: text.to_owned(),
            what,
        })
    }
}

fn read(text: &str) -> Result<Rule, String> {
    let mut parts = text.split(',').map(str::trim);
    let head = parts.next().unwrap_or_default();
    let (place, action) = head
        .split_once('=')
        .ok_or("it is POINT[:SELECTOR]=ACTION[,KEY=VALUE…]")?;
    let (point, selector) = match place.split_once(':') {
        Some((point, selector)) => (point, Some(number(selector)?)),
        None => (place, None),
    };
    let point = POINTS
        .iter()
        .find(|(name, _)| *name == point)
        .map(|(_, point)| *point)
        .ok_or_else(|| format!("no point `{point}`; the points are {}", names()))?;
    let mut rule = Rule::new(point, read_action(point, action)?);
    rule.selector = selector;
    for part in parts {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| format!("`{part}` is not KEY=VALUE"))?;
        match key {
            "vf" => rule.vf = Some(number(value)?),
            "after" => rule.skip = number(value)?,
            "times" => rule.times = Some(number(value)?),
            "ppm" => rule.ppm = number(value)?,
            "from" => rule.from = time(value)?,
            "until" => rule.until = Some(time(value)?),
            _ => {
                return Err(format!(
                    "no key `{key}`; the keys are vf, after, times, ppm, from, until"
                ));
            }
        }
    }
    Ok(rule)
}

fn read_action(point: Point, text: &str) -> Result<Action, String> {
    let mut words = text.split(':');
    let name = words.next().unwrap_or_default();
    let values: Vec<&str> = words.collect();
    let on_data = matches!(point, Point::Data(_));
    let action = match (name, values[..].as_ref(), on_data) {
        ("force", [value], false) => Action::Force(number(value)?),
        ("mask", [and, or], false) => Action::Mask {
            and: number(and)?,
            or: number(or)?,
        },
        ("random", [], false) => Action::Random,
        ("reset-port", [after], false) => Action::ResetPort(time(after)?),
        ("reset-vf", [], false) => Action::ResetVf,
        ("remove", [], false) => Action::Remove,
        ("drop", [], false) => Action::Drop,
        ("delay", [after], false) => Action::Delay(time(after)?),
        ("nack", [], false) => Action::Nack,
        ("word", [index, value], false) => Action::Word {
            index: number(index)?,
            value: number(value)?,
        },
        ("before", [value], false) => Action::Before(number(value)?),
        ("repeat", [times], false) => Action::Repeat(number(times)?),
        ("fail", [errno], false) => Action::Fail(number(errno)?),
        ("divert", [vector], false) => Action::Divert(number(vector)?),
        ("rewrite", [low_and, high_and, low_or, high_or], true) => Action::Data(Fault::Rewrite {
            and: [number(low_and)?, number(high_and)?],
            or: [number(low_or)?, number(high_or)?],
        }),
        ("swallow", [], true) => Action::Data(Fault::Swallow),
        ("tear", [after], true) => Action::Data(Fault::Tear { ns: nanos(after)? }),
        ("displace", [places], true) => {
            let places = places
                .parse()
                .map_err(|_| format!("`{places}` is not a number of places"))?;
            Action::Data(Fault::Displace(places))
        }
        ("delay", [after], true) => Action::Data(Fault::Delay { ns: nanos(after)? }),
        ("late", [after], true) => Action::Data(Fault::Late { ns: nanos(after)? }),
        ("again", [after], true) => Action::Data(Fault::Again { ns: nanos(after)? }),
        ("refuse", [], true) => Action::Data(Fault::Refuse),
        ("corrupt", [offset], true) => Action::Data(Fault::Corrupt(number(offset)?)),
        ("duplicate", [], true) => Action::Data(Fault::Duplicate),
        ("block", [], true) => Action::Data(Fault::Block),
        _ => {
            return Err(format!(
                "no action `{text}` there; the actions are {ACTIONS}"
            ));
        }
    };
    Ok(action)
}

fn names() -> String {
    let names: Vec<&str> = POINTS.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// Decimal, or hexadecimal with `0x`, within the type's range.
fn number<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let value = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let value = value.map_err(|_| format!("`{text}` is not a number"))?;
    T::try_from(value).map_err(|_| format!("`{text}` is too large"))
}

/// A number with a unit.
fn time(text: &str) -> Result<Duration, String> {
    let (digits, nanos) = [
        ("ns", 1),
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
    ]
    .iter()
    .find_map(|(unit, nanos)| text.strip_suffix(unit).map(|digits| (digits, *nanos)))
    .ok_or_else(|| format!("`{text}` is not a time, such as 20ms, 5us, 1s"))?;
    let value: u64 = number(digits)?;
    value
        .checked_mul(nanos)
        .map(Duration::from_nanos)
        .ok_or_else(|| format!("`{text}` is too long"))
}

fn nanos(text: &str) -> Result<u64, String> {
    time(text).map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// Names of points, for messages.
impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = POINTS
            .iter()
            .find(|(_, point)| point == self)
            .map(|(name, _)| *name);
        f.write_str(name.unwrap_or("?"))
    }
}

/// As it is read: a plan that did something remarkable can be told in a line.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.point.fmt(f)?;
        if let Some(selector) = self.selector {
            write!(f, ":{selector:#x}")?;
        }
        f.write_str("=")?;
        write_action(f, self.action)?;
        if let Some(vf) = self.vf {
            write!(f, ",vf={vf}")?;
        }
        if self.skip > 0 {
            write!(f, ",after={}", self.skip)?;
        }
        if let Some(times) = self.times {
            write!(f, ",times={times}")?;
        }
        if self.ppm != 1_000_000 {
            write!(f, ",ppm={}", self.ppm)?;
        }
        if !self.from.is_zero() {
            write!(f, ",from={}ns", self.from.as_nanos())?;
        }
        if let Some(until) = self.until {
            write!(f, ",until={}ns", until.as_nanos())?;
        }
        Ok(())
    }
}

fn write_action(f: &mut fmt::Formatter<'_>, action: Action) -> fmt::Result {
    match action {
        Action::Force(value) => write!(f, "force:{value:#x}"),
        Action::Mask { and, or } => write!(f, "mask:{and:#x}:{or:#x}"),
        Action::Random => f.write_str("random"),
        Action::ResetPort(time) => write!(f, "reset-port:{}ns", time.as_nanos()),
        Action::ResetVf => f.write_str("reset-vf"),
        Action::Remove => f.write_str("remove"),
        Action::Drop => f.write_str("drop"),
        Action::Delay(time) => write!(f, "delay:{}ns", time.as_nanos()),
        Action::Nack => f.write_str("nack"),
        Action::Word { index, value } => write!(f, "word:{index}:{value:#x}"),
        Action::Before(word) => write!(f, "before:{word:#x}"),
        Action::Repeat(times) => write!(f, "repeat:{times}"),
        Action::Divert(vector) => write!(f, "divert:{vector}"),
        Action::Fail(errno) => write!(f, "fail:{errno}"),
        Action::Data(fault) => match fault {
            Fault::Rewrite { and, or } => {
                let ([a, b], [c, d]) = (and, or);
                write!(f, "rewrite:{a:#x}:{b:#x}:{c:#x}:{d:#x}")
            }
            Fault::Swallow => f.write_str("swallow"),
            Fault::Tear { ns } => write!(f, "tear:{ns}ns"),
            Fault::Displace(places) => write!(f, "displace:{places}"),
            Fault::Delay { ns } => write!(f, "delay:{ns}ns"),
            Fault::Refuse => f.write_str("refuse"),
            Fault::Late { ns } => write!(f, "late:{ns}ns"),
            Fault::Again { ns } => write!(f, "again:{ns}ns"),
            Fault::Corrupt(offset) => write!(f, "corrupt:{offset}"),
            Fault::Duplicate => f.write_str("duplicate"),
            Fault::Block => f.write_str("block"),
        },
    }
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rule) in self.rules().iter().enumerate() {
            if index > 0 {
                f.write_str(";")?;
            }
            rule.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_back_as_it_is_written() {
        let text = "register-read:0x10=force:0xffffffff,vf=3,after=7,times=2,ppm=5,from=1ms,until=2s;mailbox-reply=mask:1:2;\
                    register-write=random;interrupt=reset-port:5us;vf-reset=reset-vf;config-read=remove;queue-enable=drop;\
                    queue-disable=delay:1s;mailbox-request=nack;mailbox-reply=word:15:9;mailbox-reply=before:0x100;\
                    interrupt=repeat:3;interrupt=divert:1;host-call:1=fail:12;rx-write-back=rewrite:1:2:3:4;\
                    tx-write-back=swallow;rx-write-back=tear:9ns;rx-write-back=displace:-3;tx-write-back=delay:3us;\
                    dma-read=refuse;rx-write-back=late:1ms;rx-write-back=again:1ms;frame=corrupt:14;frame=duplicate;tx-fetch=block";
        let plan: FaultPlan = text.parse().expect("a plan");
        assert_eq!(plan.rules().len(), 25);
        let again: FaultPlan = plan.to_string().parse().expect("as it is written");
        assert_eq!(again, plan);
    }

    #[test]
    fn every_point_has_a_name_and_takes_a_rule() {
        for (name, point) in POINTS {
            assert_eq!(point.to_string(), name);
            let action = if matches!(point, Point::Data(_)) {
                "refuse"
            } else {
                "drop"
            };
            let rule: Rule = format!("{name}={action}").parse().expect(name);
            assert_eq!(rule.point, point);
        }
    }

    #[test]
    fn a_plan_is_read() {
        let plan: FaultPlan = "mailbox-reply:2=drop,vf=0,times=3 # lost\n\n frame=corrupt:14,ppm=10;interrupt=delay:5us,from=1ms,until=2s"
            .parse()
            .expect("a plan");
        let expected = FaultPlan::none()
            .with(
                Rule::new(Point::MailboxReply, Action::Drop)
                    .on_vf(0)
                    .only(2)
                    .times(3),
            )
            .with(
                Rule::new(
                    Point::Data(DataPoint::Frame),
                    Action::Data(Fault::Corrupt(14)),
                )
                .with_ppm(10),
            )
            .with(
                Rule::new(Point::Interrupt, Action::Delay(Duration::from_micros(5)))
                    .between(Duration::from_millis(1), Duration::from_secs(2)),
            );
        assert_eq!(plan.rules(), expected.rules());
        assert!("".parse::<FaultPlan>().expect("nothing").rules().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, part) in [
            ("drop", "POINT"),
            ("nowhere=drop", "`nowhere`"),
            ("frame=drop", "`drop`"),
            ("interrupt=refuse", "`refuse`"),
            ("interrupt=delay:5", "`5`"),
            ("interrupt=delay:99999999999999999s", "too long"),
            ("interrupt:x=drop", "`x`"),
            ("interrupt=divert:256", "too large"),
            ("interrupt=drop,vf", "`vf`"),
            ("interrupt=drop,vf=70000", "too large"),
            ("interrupt=drop,colour=red", "`colour`"),
            ("register-read:0x10=mask:1", "`mask:1`"),
            ("frame=displace:x", "`x`"),
        ] {
            let error = text.parse::<FaultPlan>().expect_err(text).to_string();
            assert!(error.contains(part) && error.contains(text), "{error}");
        }
    }
}
