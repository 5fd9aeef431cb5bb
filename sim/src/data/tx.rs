//! The TX engine of one queue: from descriptors to a frame's pieces (ixgbevf.md §10, igbvf.md §9).

use vfnic_hw::{Family, Model};

use super::desc::{TxData, TxDescriptor, tx_write_back};
use super::hooks::{At, Fault, Point, RingViolation};
use super::place::Place;
use super::queue::TxQueue;
use super::write_back::{Owner, WriteBack};
use crate::counting::Count;
use crate::dma::{DmaFault, Translate};
use crate::low_bits::LowBits;

/// Longest frame a card sends, CRC not included (9728 with it).
pub(crate) const MAX_FRAME: usize = 9724;

/// Most data descriptors of one frame.
const fn most_pieces(model: Model) -> usize {
    match model.family() {
        // The chip's descriptor cache.
        Family::Ixgbevf => 40,
        Family::Igbvf => 64,
    }
}

/// A receiving queue that a frame waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) pool: u8,
    pub(crate) queue: u8,
    /// Descriptors it needs.
    pub(crate) needed: u32,
}

/// The frame being put together from descriptors. It stays across ticks until its last descriptor is there and until
/// it could be sent.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    /// Address and length of each piece.
    pub(crate) pieces: Vec<(u64, u32)>,
    /// The first data descriptor, which has the command bits for all.
    pub(crate) first: TxData,
    /// Bytes so far.
    pub(crate) total: usize,
    /// Data descriptors so far, those past the bound included.
    descriptors: usize,
    /// Descriptors that asked to be reported, no more than the ring has.
    reports: Vec<u32>,
    /// What makes it no frame; the rest of it is skipped.
    pub(crate) error: Option<RingViolation>,
    pub(crate) complete: bool,
    /// It was looked at and found good enough to send.
    pub(crate) checked: bool,
    /// Segments that are out already.
    pub(crate) next_segment: usize,
    pub(crate) wait: Option<Wait>,
    /// Complete frames thrown away since the counters were last brought up to date.
    pub(crate) aborted: u32,
}

impl Assembly {
    /// Nothing begun.
    pub(crate) const fn is_empty(&self) -> bool {
        self.descriptors == 0
    }

    /// Throws away what was begun.
    pub(crate) fn clear(&mut self) {
        self.aborted.count(u32::from(self.complete));
        self.restart();
    }

    fn restart(&mut self) {
        self.pieces.clear();
        self.reports.clear();
        self.total = 0;
        self.descriptors = 0;
        self.error = None;
        self.complete = false;
        self.checked = false;
        self.next_segment = 0;
        self.wait = None;
    }
}

/// What one step on the descriptors came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing more up to the tail.
    Empty,
    /// A descriptor went by; go on.
    More,
    /// A frame is complete.
    Frame,
    /// The queue is stopped or blocked.
    Stopped,
}

impl TxQueue {
    /// Takes one descriptor.
    pub(crate) fn step(
        &mut self,
        space: &dyn Translate,
        model: Model,
        place: &mut Place<'_>,
        owner: Owner,
    ) -> Step {
        if self.assembly.complete {
            return Step::Frame;
        }
        let index = self.base.head;
        match self.base.available(index) {
            Ok(0) => return Step::Empty,
            Ok(_) => {}
            Err(violation) => {
                let blocked = self.complain(violation, model, place, owner);
                return if blocked { Step::Stopped } else { Step::Empty };
            }
        }
        let iova = self.base.ring.at(index);
        let mut words = [[0; 2]];
        let asked = place.ask(At {
            point: Point::TxFetch,
            pool: owner.pool,
            queue: owner.queue,
            index: u16::try_from(index).unwrap_or(u16::MAX),
        });
        if asked == Some(Fault::Block) {
            self.base.stop();
            return Step::Stopped;
        }
        let refused = asked == Some(Fault::Refuse);
        if refused || self.base.windows.fetch(space, iova, &mut words) == 0 {
            place.hooks.dma_fault(DmaFault {
                pool: owner.pool,
                iova,
                len: 16,
                write: false,
            });
            self.base.stop();
            return Step::Stopped;
        }
        self.base.head = self.base.after(index, 1);
        match TxDescriptor::decode(words[0]) {
            TxDescriptor::Context(slot, context) => {
                *self.contexts.entry_mut(slot) = Some(context);
                if self.assembly.is_empty() {
                    self.base.head_word.store(self.base.head);
                }
                Step::More
            }
            TxDescriptor::Data(data) => self.add(data, index, model, place, owner),
            TxDescriptor::Unknown => {
                // Of an unknown type the end-of-packet bit is still believed, or nothing would ever end.
                let data = TxData {
                    eop: words[0][1] & (1 << 24) != 0,
                    ..TxData::default()
                };
                self.assembly.error = Some(RingViolation::BadDescriptorType);
                self.add(data, index, model, place, owner)
            }
        }
    }

    fn add(
        &mut self,
        data: TxData,
        index: u32,
        model: Model,
        place: &mut Place<'_>,
        owner: Owner,
    ) -> Step {
        let assembly = &mut self.assembly;
        if assembly.descriptors == 0 {
            assembly.first = data;
        }
        assembly.descriptors.count(1);
        // A frame without an end goes round the ring for as long as its driver likes.
        if data.rs && assembly.reports.len() < self.base.count as usize {
            assembly.reports.push(index);
        }
        if assembly.descriptors > most_pieces(model) {
            assembly
                .error
                .get_or_insert(RingViolation::TooManyDescriptors);
            assembly.pieces.clear();
        } else if data.len > 0 {
            assembly.pieces.push((data.address, data.len));
            assembly.total.count(data.len as usize);
        }
        if data.len == 0 && assembly.error.is_none() && self.must_be_perfect(model) {
            self.assembly.error = Some(RingViolation::EmptyDescriptor);
        }
        if let Some(error) = self.assembly.error
            && self.must_be_perfect(model)
        {
            self.complain(error, model, place, owner);
            return Step::Stopped;
        }
        self.assembly.complete = data.eop;
        if data.eop { Step::Frame } else { Step::More }
    }

    /// X550 blocks a queue over what the others let pass.
    const fn must_be_perfect(&self, model: Model) -> bool {
        matches!(model, Model::X550)
    }

    /// Tells of a driver's mistake. True when the queue is blocked for it, which lasts until the VF is reset.
    pub(crate) fn complain(
        &mut self,
        violation: RingViolation,
        model: Model,
        place: &mut Place<'_>,
        owner: Owner,
    ) -> bool {
        match model {
            Model::X550 => {
                place.hooks.malicious(owner.pool, owner.queue, violation);
                self.blocked = Some(violation);
                self.base.stop();
                self.assembly.clear();
            }
            Model::I350 => place.hooks.malicious(owner.pool, owner.queue, violation),
            _ => place.hooks.violation(owner.pool, owner.queue, violation),
        }
        self.blocked.is_some()
    }

    /// Looks at a complete frame's descriptors: what is wrong and makes it no frame, or blocks the queue.
    ///
    /// # Errors
    ///
    /// The mistake; the frame is to be dropped.
    pub(crate) fn check(
        &mut self,
        model: Model,
        place: &mut Place<'_>,
        owner: Owner,
    ) -> Result<(), RingViolation> {
        let Assembly {
            first,
            total,
            error,
            ..
        } = self.assembly;
        let perfect = self.must_be_perfect(model);
        if let Some(error) = error {
            return Err(error);
        }
        let context = *self.contexts.entry(first.slot);
        if perfect && first.legacy.is_some() {
            return Err(RingViolation::BadDescriptorType);
        }
        let wants_context = first.cc || first.tse || first.ixsm || first.txsm;
        let wants_context = wants_context || (first.vle && first.legacy.is_none());
        if perfect && !first.cc || wants_context && context.is_none() {
            return Err(RingViolation::NoContext);
        }
        if total < 14 || (!first.tse && total > MAX_FRAME) {
            return Err(RingViolation::BadFrameLength);
        }
        // From here on the frame goes out although something is wrong, but for X550.
        let lens = context.map(|c| [c.mac_len, c.ip_len, c.l4_len]);
        let header = lens.filter(|_| first.tse).into_iter().flatten();
        let told = header.fold(first.paylen, u32::saturating_add) as usize;
        let mistake = if total < 17 {
            Some(RingViolation::BadFrameLength)
        } else if first.legacy.is_none() && told != total {
            Some(RingViolation::BadPayloadLength)
        } else if !first.ifcs {
            place
                .hooks
                .violation(owner.pool, owner.queue, RingViolation::NoChecksumInsertion);
            None
        } else {
            None
        };
        match mistake {
            Some(mistake) if perfect => Err(mistake),
            Some(mistake) => {
                self.complain(mistake, model, place, owner);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The frame has left, or been dropped: its descriptors are done. True when the driver can see something new.
    pub(crate) fn complete(
        &mut self,
        space: &dyn Translate,
        place: &mut Place<'_>,
        owner: Owner,
    ) -> bool {
        let mut seen = false;
        self.base.head_word.store(self.base.head);
        let reports = std::mem::take(&mut self.assembly.reports);
        for &index in &reports {
            seen |= self.report(space, place, owner, index);
        }
        self.assembly.reports = reports;
        self.assembly.restart();
        seen
    }

    /// Publishes the completion of one descriptor with RS.
    #[inline]
    pub(crate) fn report(
        &mut self,
        space: &dyn Translate,
        place: &mut Place<'_>,
        owner: Owner,
        index: u32,
    ) -> bool {
        let write_back = match self.head_write_back {
            Some(address) => WriteBack::Head(address, self.base.head),
            None => WriteBack::new(
                self.base.ring.at(index),
                tx_write_back(place.rubbish(index)),
            ),
        };
        self.base.publish(space, place, owner, index, write_back)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Completion;
    use super::super::hooks::{Hooks, NoHooks};
    use super::*;

    const OWNER: Owner = Owner {
        pool: 0,
        queue: 0,
        point: Point::TxWriteBack,
    };

    fn place(hooks: &mut dyn Hooks) -> Place<'_> {
        Place {
            now: 0,
            hooks,
            armed: false,
            completion: Completion::default(),
        }
    }

    #[test]
    fn g7_a_chain_without_an_end_keeps_no_more_reports_than_the_ring_has() {
        let mut queue = TxQueue::new();
        queue.base.count = 8;
        let mut hooks = NoHooks;
        let mut place = place(&mut hooks);
        let data = TxData {
            rs: true,
            len: 1,
            ..TxData::default()
        };
        for index in (0..8).cycle().take(10_000) {
            let step = queue.add(data, index, Model::I82599, &mut place, OWNER);
            assert_eq!(step, Step::More);
        }
        assert_eq!(queue.assembly.reports, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(queue.assembly.pieces.is_empty());
    }

    /// Remembers what it is told.
    #[derive(Default)]
    struct Told(Vec<RingViolation>);

    impl Hooks for Told {
        fn violation(&mut self, _: u8, _: u8, violation: RingViolation) {
            self.0.push(violation);
        }
    }

    /// What a frame of so many bytes comes to, and what is told of it.
    fn checked(
        model: Model,
        first: TxData,
        total: usize,
        context: bool,
    ) -> (Result<(), RingViolation>, Vec<RingViolation>) {
        let mut queue = TxQueue::new();
        if context {
            queue.contexts[0] = Some(Default::default());
        }
        queue.assembly.first = first;
        queue.assembly.total = total;
        let mut told = Told::default();
        let mut place = place(&mut told);
        let result = queue.check(model, &mut place, OWNER);
        (result, told.0)
    }

    /// A frame that asks for nothing.
    fn data(total: usize) -> TxData {
        TxData {
            ifcs: true,
            paylen: u32::try_from(total).expect("a frame"),
            ..TxData::default()
        }
    }

    #[test]
    fn whatever_needs_a_context_is_no_frame_without_one() {
        let asks = [
            |data: &mut TxData| data.cc = true,
            |data: &mut TxData| data.tse = true,
            |data: &mut TxData| data.ixsm = true,
            |data: &mut TxData| data.txsm = true,
            |data: &mut TxData| data.vle = true,
        ];
        for model in [Model::I82576, Model::I82599, Model::X550] {
            for ask in asks {
                let mut first = data(60);
                ask(&mut first);
                let (result, _) = checked(model, first, 60, false);
                assert_eq!(result, Err(RingViolation::NoContext));
                first.cc = true;
                assert_eq!(checked(model, first, 60, true).0, Ok(()));
            }
            let nothing = checked(model, data(60), 60, false).0;
            assert_eq!(nothing.is_ok(), model != Model::X550);
        }
        // A legacy descriptor has its tag in itself.
        let legacy = TxData {
            vle: true,
            legacy: Some(Default::default()),
            ..data(60)
        };
        assert_eq!(checked(Model::I82599, legacy, 60, false).0, Ok(()));
    }

    #[test]
    fn d37_a_frame_is_14_bytes_to_the_longest_and_below_17_it_is_told_of() {
        let bad = RingViolation::BadFrameLength;
        for (total, result, told) in [
            (13, Err(bad), vec![]),
            (14, Ok(()), vec![bad]),
            (16, Ok(()), vec![bad]),
            (17, Ok(()), vec![]),
            (MAX_FRAME, Ok(()), vec![]),
            (MAX_FRAME + 1, Err(bad), vec![]),
        ] {
            let got = checked(Model::I82599, data(total), total, false);
            assert_eq!(got, (result, told), "{total}");
            let first = TxData {
                cc: true,
                ..data(total)
            };
            let (got, told) = checked(Model::X550, first, total, true);
            assert_eq!(got.is_ok(), (17..=MAX_FRAME).contains(&total), "{total}");
            assert_eq!(told, []);
        }
        // One that is to be cut may be longer.
        let first = TxData {
            tse: true,
            ..data(MAX_FRAME + 1)
        };
        let got = checked(Model::I82599, first, MAX_FRAME + 1, true);
        assert_eq!(got, (Ok(()), vec![]));
    }

    #[test]
    fn an_assembly_is_empty_until_a_descriptor_and_after_a_clear() {
        let mut queue = TxQueue::new();
        assert!(queue.assembly.is_empty());
        let mut hooks = NoHooks;
        let mut place = place(&mut hooks);
        queue.add(data(60), 0, Model::I82599, &mut place, OWNER);
        assert!(!queue.assembly.is_empty());
        queue.assembly.clear();
        assert!(queue.assembly.is_empty());
    }

    #[test]
    fn what_is_undefined_is_told_from_zero_and_from_itself_elsewhere() {
        let rubbish = |scribble, index| {
            Place {
                now: 0,
                hooks: &mut NoHooks,
                armed: false,
                completion: Completion {
                    scribble,
                    ..Completion::default()
                },
            }
            .rubbish(index)
        };
        let mut seen = Vec::new();
        for index in 0..100 {
            assert_eq!(rubbish(false, index), [0, 0]);
            let [low, high] = rubbish(true, index);
            // What a driver might take for a sign that nothing has happened is never there.
            assert_eq!(low & 0x8000_0001, 0x8000_0001);
            assert_eq!(low, !high | 0x8000_0001);
            assert!(!seen.contains(&high));
            seen.push(high);
        }
    }

    #[test]
    fn d37_a_frame_has_as_many_pieces_as_the_chip_keeps_and_no_more() {
        let mut hooks = NoHooks;
        let mut place = place(&mut hooks);
        for (model, most) in [(Model::X540, 40), (Model::I350, 64)] {
            let mut queue = TxQueue::new();
            // What is of no length is not fetched.
            queue.add(data(10), 0, model, &mut place, OWNER);
            assert_eq!(queue.assembly.pieces, []);
            queue.assembly.clear();
            let piece = TxData {
                len: 10,
                ..data(10)
            };
            for index in 0..most {
                queue.add(piece, index, model, &mut place, OWNER);
            }
            let pieces = most as usize;
            let assembly = &queue.assembly;
            assert_eq!(
                (assembly.pieces.len(), assembly.total),
                (pieces, 10 * pieces)
            );
            assert_eq!(assembly.error, None);
            queue.add(piece, most, model, &mut place, OWNER);
            let too_many = Some(RingViolation::TooManyDescriptors);
            assert_eq!(queue.assembly.error, too_many);
            assert!(queue.assembly.pieces.is_empty());
        }
    }
}
