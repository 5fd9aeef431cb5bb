//! One direction: from a receive queue to a transmit queue.

use vfnic::{
    Batch, Fate, FrameError, MacAddr, Port, QueueError, QueuePair, RxQueue, SendError, TxOffload,
    TxQueue,
};

use crate::traffic::frame;

/// What happens to a frame's addresses.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rewrite {
    /// Nothing.
    Nothing,
    /// Both are replaced, by these twelve bytes.
    Both([u8; 12]),
    /// The sender becomes the destination, and this the source.
    Back([u8; 6]),
}

impl Rewrite {
    pub(super) fn to(destination: MacAddr, own: MacAddr) -> Self {
        let mut both = [0; 12];
        both[..6].copy_from_slice(&destination.0);
        both[6..].copy_from_slice(&own.0);
        Self::Both(both)
    }

    pub(super) const fn back(own: MacAddr) -> Self {
        Self::Back(own.0)
    }

    /// The head of a frame as it is sent on.
    #[inline]
    fn apply(self, frame: &mut [u8]) {
        let Some(head) = frame.first_chunk_mut::<12>() else {
            return;
        };
        match self {
            Self::Nothing => {}
            Self::Both(both) => *head = both,
            Self::Back(own) => {
                head.copy_within(6..12, 0);
                head[6..].copy_from_slice(&own);
            }
        }
    }

    /// Receives, rewrites and sends in one pass. The choice is made once a batch.
    #[inline]
    fn forward(
        self,
        rx: &mut RxQueue,
        tx: &mut TxQueue,
        batch: &mut Batch,
    ) -> Result<usize, QueueError> {
        match self {
            Self::Nothing => rx.forward(tx, batch, |_| Fate::Send),
            Self::Both(both) => rx.forward(tx, batch, |frame| {
                Self::Both(both).apply(frame.data_mut());
                Fate::Send
            }),
            Self::Back(own) => rx.forward(tx, batch, |frame| {
                Self::Back(own).apply(frame.data_mut());
                Fate::Send
            }),
        }
    }
}

/// A direction, with the frames that wait for its sending queue.
#[derive(Debug)]
pub(super) struct Lane {
    from: usize,
    to: usize,
    rewrite: Rewrite,
    batch: Batch,
    /// Frames on their way out, where the two ports do not share memory.
    copies: Option<Copies>,
    forwarded: u64,
    /// Frames that cannot leave by the other port at all: too long for it.
    unsendable: u64,
}

impl Lane {
    /// A lane between two ports, each with its number among the queue pairs.
    pub(super) fn new(
        from: (usize, &Port),
        to: (usize, &Port),
        rewrite: Rewrite,
        burst: u16,
    ) -> Self {
        let burst = usize::from(burst);
        let shared = from.1.pool().is(to.1.pool());
        Self {
            from: from.0,
            to: to.0,
            rewrite,
            batch: from.1.batch(burst),
            copies: (!shared).then(|| Copies::new(to.1.batch(burst))),
            forwarded: 0,
            unsendable: 0,
        }
    }

    /// Forwards a burst. Returns how many frames moved.
    #[inline]
    pub(super) fn forward(&mut self, pairs: &mut [QueuePair]) -> Result<usize, QueueError> {
        let Some((rx, tx)) = halves(pairs, self.from, self.to) else {
            return Ok(0);
        };
        if self.copies.is_some() {
            return self.forward_copies(rx, tx);
        }
        let before = self.batch.len();
        match self.rewrite.forward(rx, tx, &mut self.batch) {
            Ok(received) => {
                let sent = before + received - self.batch.len();
                if sent == 0 {
                    // A poller does not sleep over a queue full of finished frames.
                    tx.reclaim(&mut self.batch);
                }
                self.forwarded += sent as u64;
                Ok(sent)
            }
            Err(error) => {
                self.unsendable += 1;
                let sent = refuse_front(&mut self.batch, error)?;
                self.forwarded += sent as u64;
                Ok(sent)
            }
        }
    }

    /// As [`forward`](Self::forward), with frames copied from one pool to the other.
    #[cold]
    #[inline(never)]
    fn forward_copies(&mut self, rx: &mut RxQueue, tx: &mut TxQueue) -> Result<usize, QueueError> {
        let Some(copies) = &mut self.copies else {
            return Ok(0);
        };
        if copies.batch.is_empty() {
            if self.batch.is_empty() {
                if rx.receive(&mut self.batch)? == 0 {
                    tx.reclaim(&mut copies.batch);
                    return Ok(0);
                }
                let rewrite = self.rewrite;
                self.batch.each_first_mut(|frame| rewrite.apply(frame));
            }
            self.unsendable += copies.take(&self.batch);
            self.batch.clear();
        }
        let sent = tx.send(&mut copies.batch).or_else(|error| {
            self.unsendable += 1;
            refuse_front(&mut copies.batch, error)
        })?;
        self.forwarded += sent as u64;
        Ok(sent)
    }

    /// Sends what waits, and receives nothing.
    pub(super) fn send(&mut self, pairs: &mut [QueuePair]) -> Result<usize, QueueError> {
        let Some((_, tx)) = halves(pairs, self.from, self.to) else {
            return Ok(0);
        };
        let batch = self
            .copies
            .as_mut()
            .map_or(&mut self.batch, |copies| &mut copies.batch);
        if batch.is_empty() {
            return Ok(0);
        }
        let sent = tx.send(batch)?;
        self.forwarded += sent as u64;
        Ok(sent)
    }

    /// Takes back what its sending queue has finished.
    pub(super) fn reclaim(&mut self, pairs: &mut [QueuePair]) {
        if let Some((_, tx)) = halves(pairs, self.from, self.to) {
            let batch = self
                .copies
                .as_mut()
                .map_or(&mut self.batch, |copies| &mut copies.batch);
            tx.reclaim(batch);
        }
    }

    /// Number of the pair it receives with.
    pub(super) const fn from(&self) -> usize {
        self.from
    }

    /// Number of the pair it sends with.
    pub(super) const fn to(&self) -> usize {
        self.to
    }

    /// Whether frames are copied.
    pub(super) const fn copies(&self) -> bool {
        self.copies.is_some()
    }

    /// Frames that wait for the sending queue.
    pub(super) fn waiting(&self) -> usize {
        let copies = self.copies.as_ref().map_or(0, |copies| copies.batch.len());
        self.batch.len() + copies
    }

    /// Frames sent on.
    pub(super) const fn forwarded(&self) -> u64 {
        self.forwarded
    }

    /// Frames that the sending port could not have sent.
    pub(super) const fn unsendable(&self) -> u64 {
        self.unsendable
    }
}

/// The receiving half of one pair and the sending half of another, or of the same.
#[inline]
fn halves(pairs: &mut [QueuePair], from: usize, to: usize) -> Option<(&mut RxQueue, &mut TxQueue)> {
    if from == to {
        let pair = pairs.get_mut(from)?;
        return Some((&mut pair.rx, &mut pair.tx));
    }
    let [from, to] = pairs.get_disjoint_mut([from, to]).ok()?;
    Some((&mut from.rx, &mut to.tx))
}

/// A frame that can never be sent is dropped, and those before it were sent; what ends the queue is passed on.
#[cold]
fn refuse_front(batch: &mut Batch, error: QueueError) -> Result<usize, QueueError> {
    let QueueError::Send(
        SendError::TooLong { sent, .. }
        | SendError::TooShort { sent, .. }
        | SendError::Request { sent, .. },
    ) = error
    else {
        return Err(error);
    };
    let mut front = true;
    batch.retain_mut(|_| !std::mem::take(&mut front));
    Ok(sent)
}

/// The way from one pool to another.
#[derive(Debug)]
struct Copies {
    batch: Batch,
    /// A frame in several buffers is put together here.
    scratch: Vec<u8>,
}

impl Copies {
    fn new(batch: Batch) -> Self {
        Self {
            batch,
            scratch: vec![0; frame::MAX_LEN],
        }
    }

    /// Copies all frames of `batch`. Returns how many there was no room for.
    fn take(&mut self, batch: &Batch) -> u64 {
        let mut lost = 0;
        for frame in batch.frames() {
            let pushed = if frame.is_single() {
                self.batch.push_bytes(frame.data())
            } else {
                let len = frame.copy_to(&mut self.scratch);
                self.batch.push_bytes(&self.scratch[..len])
            };
            let tagged = match (pushed, frame.vlan()) {
                (Ok(()), Some(tci)) => self.tag_last(tci),
                (result, _) => result,
            };
            lost += u64::from(tagged.is_err());
        }
        lost
    }

    fn tag_last(&mut self, tci: u16) -> Result<(), FrameError> {
        self.batch
            .frames_mut()
            .last()
            .map_or(Ok(()), |mut frame| frame.request(TxOffload::vlan(tci)))
    }
}
