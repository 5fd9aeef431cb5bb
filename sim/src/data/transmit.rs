//! From complete TX frames to the switch: offloads, tags, limits, completions.

use super::DataPath;
use super::desc::TxContext;
use super::filters::VlanInsert;
use super::forward::Forwarded;
use super::hooks::{At, Fault, Point, RingViolation};
use super::offload::{Segments, checksums, insert_vlan};
use super::place::Place;
use super::stats::DropReason;
use super::switch::Origin;
use super::tx::{MAX_FRAME, Step};
use super::write_back::Owner;
use crate::counting::Count;
use crate::dma::{DmaFault, Translate};
use crate::low_bits::LowBits;

/// What a step of a queue came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Frames sent or dropped.
    pub(crate) frames: u32,
    /// Nothing more to be done now.
    pub(crate) idle: bool,
}

/// Smallest frame on a wire, CRC not included.
pub(crate) const MIN_FRAME: usize = 60;

impl DataPath {
    /// Takes one descriptor of a queue, or sends the frame that is complete.
    pub(crate) fn tx_step(
        &mut self,
        owner: Owner,
        space: &dyn Translate,
        place: &mut Place<'_>,
    ) -> Turn {
        let model = self.filters.model;
        let Some(tx) = self.tx_queue(owner.pool, owner.queue) else {
            return Turn {
                frames: 0,
                idle: true,
            };
        };
        match tx.step(space, model, place, owner) {
            Step::Empty | Step::Stopped => Turn {
                frames: 0,
                idle: true,
            },
            Step::More => Turn {
                frames: 0,
                idle: false,
            },
            Step::Frame => self.transmit(owner, space, place),
        }
    }

    fn transmit(&mut self, owner: Owner, space: &dyn Translate, place: &mut Place<'_>) -> Turn {
        let idle = Turn {
            frames: 0,
            idle: true,
        };
        let model = self.filters.model;
        let Some(tx) = self.tx_queue(owner.pool, owner.queue) else {
            return idle;
        };
        if tx.limit.is_some_and(|limit| limit.due() > place.now) {
            return idle;
        }
        if let Some(wait) = tx.assembly.wait {
            if !self.is_over(wait, place) {
                return idle;
            }
            let Some(tx) = self.tx_queue(owner.pool, owner.queue) else {
                return idle;
            };
            tx.assembly.wait = None;
        }
        let Some(tx) = self.tx_queue(owner.pool, owner.queue) else {
            return idle;
        };
        if !tx.assembly.checked {
            if let Err(mistake) = tx.check(model, place, owner) {
                return self.give_up(owner, space, place, Err(mistake));
            }
            tx.assembly.checked = true;
        }
        let mut request = std::mem::take(&mut self.request);
        let mut frame = std::mem::take(&mut self.frame);
        request.clear();
        let turn = if self.gather(owner, space, place, &mut request) {
            self.send(owner, space, place, &mut request, &mut frame)
        } else {
            self.give_up(owner, space, place, Ok(DropReason::TxFault))
        };
        self.request = request;
        self.frame = frame;
        turn
    }

    /// Reads all pieces of the frame. False when the IOMMU refuses one.
    fn gather(
        &mut self,
        owner: Owner,
        space: &dyn Translate,
        place: &mut Place<'_>,
        request: &mut Vec<u8>,
    ) -> bool {
        let Some(tx) = self.tx_queue(owner.pool, owner.queue) else {
            return false;
        };
        for &(iova, len) in &tx.assembly.pieces {
            let asked = place.ask(At {
                point: Point::DmaRead,
                pool: owner.pool,
                queue: owner.queue,
                index: u16::try_from(tx.base.head).unwrap_or(u16::MAX),
            });
            let windows = &mut tx.base.data_windows;
            if asked == Some(Fault::Refuse) || !windows.read(space, iova, len as usize, request) {
                place.hooks.dma_fault(DmaFault {
                    pool: owner.pool,
                    iova,
                    len,
                    write: false,
                });
                return false;
            }
        }
        true
    }

    /// Drops the frame: for a reason, or for a driver's mistake, which is told of.
    fn give_up(
        &mut self,
        owner: Owner,
        space: &dyn Translate,
        place: &mut Place<'_>,
        why: Result<DropReason, RingViolation>,
    ) -> Turn {
        let model = self.filters.model;
        let Some(function) = self.functions.get_mut(usize::from(owner.pool)) else {
            return Turn {
                frames: 0,
                idle: true,
            };
        };
        function.stats.taken.count(1);
        let reason = why.unwrap_or(DropReason::Malformed);
        function.stats.drops.add(reason, 1);
        let Some(tx) = function.tx.get_mut(usize::from(owner.queue)) else {
            return Turn {
                frames: 1,
                idle: true,
            };
        };
        if let Err(mistake) = why {
            tx.assembly.complete = false;
            if tx.complain(mistake, model, place, owner) {
                return Turn {
                    frames: 1,
                    idle: true,
                };
            }
        }
        if tx.complete(space, place, owner) {
            function.causes.tx |= 1 << (owner.queue & 7);
        }
        Turn {
            frames: 1,
            idle: false,
        }
    }

    /// Sends the frames a request makes, from where an earlier try left off.
    fn send(
        &mut self,
        owner: Owner,
        space: &dyn Translate,
        place: &mut Place<'_>,
        request: &mut Vec<u8>,
        frame: &mut Vec<u8>,
    ) -> Turn {
        let Some(tx) = self.tx_queue(owner.pool, owner.queue) else {
            return Turn {
                frames: 0,
                idle: true,
            };
        };
        let data = tx.assembly.first;
        let from = tx.assembly.next_segment;
        let context = tx.contexts.entry(data.slot).unwrap_or_default();
        let tag = self.tag_of(
            owner.pool,
            data.vle,
            data.legacy.map(|legacy| legacy.vlan),
            &context,
        );
        let mut frames = 0u32;
        if !data.tse {
            if let Err(mistake) = checksums(request, &data, &context) {
                return self.give_up(owner, space, place, Err(mistake));
            }
            if !self.send_one(owner, place, request, tag, 0) {
                return Turn {
                    frames: 0,
                    idle: true,
                };
            }
            frames = 1;
        } else {
            let segments = match Segments::new(&data, &context, request.len(), MAX_FRAME) {
                Ok(segments) => segments,
                Err(mistake) => return self.give_up(owner, space, place, Err(mistake)),
            };
            for number in from..segments.count() {
                if let Err(mistake) = segments.build(request, number, frame) {
                    return self.give_up(owner, space, place, Err(mistake));
                }
                if !self.send_one(owner, place, frame, tag, number) {
                    return Turn { frames, idle: true };
                }
                frames.count(1);
            }
        }
        if let Some(function) = self.functions.get_mut(usize::from(owner.pool))
            && let Some(tx) = function.tx.get_mut(usize::from(owner.queue))
            && tx.complete(space, place, owner)
        {
            function.causes.tx |= 1 << (owner.queue & 7);
        }
        Turn {
            frames,
            idle: false,
        }
    }

    /// The tag a frame gets, if any.
    fn tag_of(&self, pool: u8, vle: bool, legacy: Option<u16>, context: &TxContext) -> Option<u16> {
        match self.filters.pools.entry(pool).insert {
            VlanInsert::Always(tci) => Some(tci),
            VlanInsert::Never => None,
            VlanInsert::Descriptor => vle.then(|| legacy.unwrap_or(context.vlan)),
        }
    }

    /// Finishes one frame and passes it to the switch. False when it must wait; then nothing has happened yet.
    fn send_one(
        &mut self,
        owner: Owner,
        place: &mut Place<'_>,
        frame: &mut Vec<u8>,
        tag: Option<u16>,
        number: usize,
    ) -> bool {
        if let Some(tx) = self.tx_queue(owner.pool, owner.queue)
            && number > 0
            && tx.limit.is_some_and(|limit| limit.due() > place.now)
        {
            tx.assembly.next_segment = number;
            return false;
        }
        if let Some(tci) = tag {
            insert_vlan(frame, tci);
        }
        if frame.len() < MIN_FRAME {
            frame.resize(MIN_FRAME, 0);
        }
        let outcome = self.forward(frame, Origin::Pool(owner.pool), place);
        let Some(function) = self.functions.get_mut(usize::from(owner.pool)) else {
            return false;
        };
        let Some(tx) = function.tx.get_mut(usize::from(owner.queue)) else {
            return false;
        };
        match outcome {
            Forwarded::Blocked(wait) => {
                tx.assembly.wait = Some(wait);
                tx.assembly.next_segment = number;
                false
            }
            Forwarded::Done => {
                function.stats.taken.count(1);
                if let Some(limit) = &mut tx.limit {
                    limit.take(place.now, frame.len());
                }
                true
            }
        }
    }
}
