//! One VF's interrupts: causes, masks, throttling and MSI-X messages (ixgbevf.md §12, igbvf.md §10).
//!
//! Both families have three vectors and the same six registers; they differ in how the throttle is written, and in what
//! writing VTEICS does to an auto-masked vector.

use std::time::Duration;

use vfnic_hw::{Event, Family};

use crate::counting::Count;

/// MSI-X vectors of a VF.
pub(crate) const VECTORS: usize = 3;
const ALL: u32 = 0b111;

/// Interrupt state of one VF.
#[derive(Debug)]
pub(crate) struct Irq {
    family: Family,
    /// VTEICR: causes, bit v for vector v.
    cause: u32,
    /// VTEIMS: vectors let through.
    mask: u32,
    /// VTEIAC: causes cleared when their message goes out.
    pub(crate) auto_clear: u32,
    /// VTEIAM: vectors masked when their message goes out.
    pub(crate) auto_mask: u32,
    /// VTIVAR(0..4): byte per queue and direction, bit 7 valid.
    pub(crate) ivar: [u32; 4],
    /// VTIVAR_MISC: mailbox cause.
    pub(crate) ivar_misc: u32,
    /// VTEITR.
    itr: [u32; VECTORS],
    /// Enabled causes that have not had their message yet.
    due: u32,
    /// When each vector may send again.
    ready: [Duration; VECTORS],
    /// MSI-X table entries masked (vector control bit 0): those that nobody routed.
    masked: u32,
    /// PBA.
    pending: u32,
    /// MSI-X is on, with these routed.
    routes: Option<Vec<Event>>,
    /// Messages held up by a fault: when, which vector.
    late: Vec<(Duration, usize)>,
    /// Messages that went out, by vector.
    sent: [u64; VECTORS],
    /// Some have gone out that [`take_spoken`](Self::take_spoken) has not told of.
    spoken: bool,
}

/// A message about to go out may be lost, doubled or misdirected by a fault.
pub(crate) type Intercept<'a> = &'a mut dyn FnMut(u8) -> Delivery;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// As it should be.
    Send,
    /// Lost.
    Lose,
    /// This many times more.
    Repeat(u32),
    /// To this vector.
    Divert(u8),
    /// This much later.
    Delay(Duration),
}

impl Irq {
    pub(crate) fn new(family: Family) -> Self {
        Self {
            family,
            cause: 0,
            mask: 0,
            auto_clear: 0,
            auto_mask: 0,
            ivar: [0; 4],
            ivar_misc: 0,
            itr: [0; VECTORS],
            due: 0,
            ready: [Duration::ZERO; VECTORS],
            masked: ALL,
            pending: 0,
            routes: None,
            late: Vec::new(),
            sent: [0; VECTORS],
            spoken: false,
        }
    }

    /// What a VF reset does: cause, mask, auto and map registers to 0. MSI-X itself is the function's, not the device's.
    pub(crate) fn reset(&mut self) {
        self.cause = 0;
        self.mask = 0;
        self.auto_clear = 0;
        self.auto_mask = 0;
        self.ivar = [0; 4];
        self.ivar_misc = 0;
        self.itr = [0; VECTORS];
        self.due = 0;
        self.ready = [Duration::ZERO; VECTORS];
    }

    /// MSI-X on: vector `i` signals `events[i]`, and the kernel unmasks its table entry.
    pub(crate) fn enable(&mut self, events: Vec<Event>) {
        self.masked = ALL & (u32::MAX << events.len().min(VECTORS));
        self.routes = Some(events);
    }

    /// MSI-X off; every table entry is masked, as after FLR.
    pub(crate) fn disable(&mut self) {
        self.routes = None;
        self.masked = ALL;
        self.pending = 0;
        self.late.clear();
    }

    /// The PBA.
    pub(crate) const fn pending(&self) -> u32 {
        self.pending
    }

    /// VFPBACL / PBACL: writing 1 clears.
    pub(crate) const fn clear_pending(&mut self, bits: u32) {
        self.pending &= !bits;
    }

    /// Messages sent so far, by vector.
    pub(crate) const fn sent(&self) -> [u64; VECTORS] {
        self.sent
    }

    /// Whether messages went out since this was last asked.
    #[inline]
    pub(crate) const fn take_spoken(&mut self) -> bool {
        std::mem::replace(&mut self.spoken, false)
    }

    /// The vector bit an RX queue is mapped to, 0 if none.
    pub(crate) fn rx_cause(&self, queue: u8) -> u32 {
        self.mapped(queue, 0)
    }

    /// The vector bit a TX queue is mapped to, 0 if none.
    pub(crate) fn tx_cause(&self, queue: u8) -> u32 {
        self.mapped(queue, 8)
    }

    fn mapped(&self, queue: u8, byte: u32) -> u32 {
        let register = self.ivar.get(usize::from(queue / 2)).copied().unwrap_or(0);
        vector_bit(register >> (u32::from(queue & 1) << 4) >> byte)
    }

    /// The vector bit of the mailbox, 0 if it is not mapped.
    pub(crate) const fn mailbox_cause(&self) -> u32 {
        vector_bit(self.ivar_misc)
    }

    /// Hardware raises causes.
    pub(crate) const fn raise(&mut self, bits: u32) {
        let bits = bits & ALL;
        // A message is due for an enabled cause that was not there before; a second cause of the same vector coalesces.
        self.due |= bits & !self.cause & self.mask;
        self.cause |= bits;
    }

    /// VTEICS.
    pub(crate) const fn set_cause(&mut self, bits: u32) {
        if matches!(self.family, Family::Igbvf) {
            self.set_mask(bits & self.auto_mask);
        }
        self.raise(bits);
    }

    /// VTEIMS written: vectors with a cause standing fire at once.
    pub(crate) const fn set_mask(&mut self, bits: u32) {
        let new = bits & ALL & !self.mask;
        self.mask |= new;
        self.due |= new & self.cause;
    }

    /// VTEIMC written.
    pub(crate) const fn clear_mask(&mut self, bits: u32) {
        self.mask &= !bits;
        self.due &= self.mask;
    }

    /// VTEIMS read.
    pub(crate) const fn mask(&self) -> u32 {
        self.mask
    }

    /// VTEICR without the side effect (VTEICS on ixgbevf).
    pub(crate) const fn cause(&self) -> u32 {
        self.cause
    }

    /// VTEICR read: all causes, cleared.
    pub(crate) const fn take_cause(&mut self) -> u32 {
        let cause = self.cause;
        self.clear_cause(ALL);
        cause
    }

    /// VTEICR written: 1 clears.
    pub(crate) const fn clear_cause(&mut self, bits: u32) {
        self.cause &= !bits;
        self.due &= self.cause;
    }

    /// VTEITR.
    pub(crate) fn itr(&self, vector: usize) -> u32 {
        self.itr.get(vector).copied().unwrap_or(0)
    }

    /// VTEITR written. Bit 31 keeps the running interval; without it the counter field (27:21 on ixgbevf, 30:21 on
    /// igbvf) replaces it, and everybody writes 0 there.
    pub(crate) fn set_itr(&mut self, vector: usize, value: u32) {
        let counter = match self.family {
            Family::Ixgbevf => value & 0x0fe0_0000,
            Family::Igbvf => value & 0x7fe0_0000,
        };
        if let Some(itr) = self.itr.get_mut(vector) {
            *itr = value;
        }
        if let Some(ready) = self.ready.get_mut(vector)
            && value >> 31 == 0
            && counter == 0
        {
            *ready = Duration::ZERO;
        }
    }

    /// How long an ITR register keeps its vector quiet after a message.
    fn interval(family: Family, itr: u32) -> Duration {
        Duration::from_nanos(match family {
            // Bits 11:3 in 2.048 us (ixgbevf.md §4.4).
            Family::Ixgbevf => u64::from((itr >> 3) & 0x1ff) * 2048,
            // Bits 14:2 in microseconds (igbvf.md §10).
            Family::Igbvf => u64::from((itr >> 2) & 0x1fff) * 1000,
        })
    }

    /// When the earliest throttled message is due.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.routes.as_ref()?;
        (0..)
            .zip(self.ready)
            .filter(|&(vector, _): &(u32, _)| self.due & (1 << vector) != 0)
            .map(|(_, ready)| ready)
            .chain(self.late.iter().map(|&(at, _)| at))
            .min()
    }

    /// Sends what is due and not throttled. A message is a bus write: without MSI-X or bus mastering there is none, and
    /// the cause stands until there can be.
    #[inline]
    pub(crate) fn deliver(&mut self, now: Duration, bus_master: bool, intercept: Intercept<'_>) {
        let work = self.due | (self.pending & !self.masked) != 0 || !self.late.is_empty();
        if !work || !bus_master || self.routes.is_none() {
            return;
        }
        self.deliver_due(now, intercept);
    }

    fn deliver_due(&mut self, now: Duration, intercept: Intercept<'_>) {
        for ((vector, ready), itr) in (0..).zip(&mut self.ready).zip(self.itr) {
            let bit = 1 << vector;
            if self.due & bit != 0 && *ready <= now {
                self.due &= !bit;
                self.cause &= !(self.auto_clear & bit);
                self.mask &= !(self.auto_mask & bit);
                *ready = now.saturating_add(Self::interval(self.family, itr));
                self.pending |= bit;
            }
        }
        for vector in 0..VECTORS {
            let bit = 1 << vector;
            if self.pending & bit != 0 && self.masked & bit == 0 {
                self.pending &= !bit;
                self.send(now, vector, intercept);
            }
        }
        let held = std::mem::take(&mut self.late);
        let (due, later) = held.into_iter().partition(|&(at, _)| at <= now);
        self.late = later;
        let due: Vec<(Duration, usize)> = due;
        for (_, vector) in due {
            self.signal(vector, 1);
        }
    }

    fn send(&mut self, now: Duration, vector: usize, intercept: Intercept<'_>) {
        let number = u8::try_from(vector).unwrap_or(0);
        let (target, times) = match intercept(number) {
            Delivery::Send => (vector, 1),
            Delivery::Lose => return,
            Delivery::Repeat(more) => (vector, more.saturating_add(1)),
            Delivery::Divert(other) => (usize::from(other), 1),
            Delivery::Delay(time) => {
                self.late.push((now.saturating_add(time), vector));
                return;
            }
        };
        self.signal(target, times);
    }

    fn signal(&mut self, target: usize, times: u32) {
        let Some(event) = self.routes.as_ref().and_then(|routes| routes.get(target)) else {
            return;
        };
        for _ in 0..times {
            event.signal();
        }
        if let Some(sent) = self.sent.get_mut(target) {
            sent.count(u64::from(times));
        }
        self.spoken = true;
    }

    /// A message out of thin air, as a fault sends it.
    pub(crate) fn spurious(&mut self, vector: usize) {
        self.signal(vector, 1);
    }
}

/// The vector bit of an IVAR byte: bits 1:0 the vector, bit 7 valid. Vector 3 does not exist.
const fn vector_bit(byte: u32) -> u32 {
    if byte & 0x80 == 0 {
        0
    } else {
        (1 << (byte & 3)) & ALL
    }
}
