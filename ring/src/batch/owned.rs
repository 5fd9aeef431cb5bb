//! Frames out of a batch as owned packets, and back.

use std::fmt;

use super::Batch;
use crate::desc::rx;
use crate::frame::run;
use crate::packet::Packet;
use crate::pool::{BLOCK, Pool};

impl Batch {
    /// Takes the last frame out as an owned packet. Costs no atomic as long as about as many come back by
    /// [`push`](Self::push).
    #[inline]
    pub fn pop(&mut self) -> Option<Packet> {
        let last = self.entries.checked_sub(1)?;
        let words = *self.words.get(last)?;
        if words[1] & rx::PLAIN != rx::PLAIN {
            return self.pop_slow();
        }
        let index = *self.index.get(last)?;
        self.entries = last;
        self.frames -= 1;
        let pool = self.credit();
        Some(Packet::plain(pool, self.dialect, index, words))
    }

    #[cold]
    fn pop_slow(&mut self) -> Option<Packet> {
        let last = self.entries.checked_sub(1)?;
        let before = self.words[..last]
            .iter()
            .rposition(|words| words[1] & rx::EOP != 0);
        let first = before.map_or(0, |end| end + 1);
        let pool = self.credit();
        let (index, words) = (&self.index[first..=last], &self.words[first..=last]);
        let packet = Packet::special(pool, self.dialect, index, words, self.side[first]);
        self.entries = first;
        self.frames -= 1;
        Some(packet)
    }

    /// Takes all frames out as owned packets, first to last. Those not taken when the iterator is dropped are dropped.
    pub fn drain_packets(&mut self) -> DrainPackets<'_> {
        self.frames = 0;
        DrainPackets {
            next: 0,
            end: std::mem::take(&mut self.entries),
            batch: self,
        }
    }

    /// As [`drain_packets`](Self::drain_packets), onto the end of `packets`.
    #[inline]
    pub fn take_packets(&mut self, packets: &mut Vec<Packet>) {
        let entries = self.entries;
        if !self.all_plain() {
            packets.extend(self.drain_packets());
            return;
        }
        while self.credits.len() < entries {
            self.mint_block();
        }
        let credits = self.credits.drain(self.credits.len() - entries..);
        let places = self.index[..entries].iter().zip(&self.words[..entries]);
        let dialect = self.dialect;
        packets.extend(
            credits
                .zip(places)
                .map(|(pool, (index, words))| Packet::plain(pool, dialect, *index, *words)),
        );
        self.entries = 0;
        self.frames = 0;
    }

    #[inline]
    fn credit(&mut self) -> Pool {
        match self.credits.pop() {
            Some(credit) => credit,
            None => self.mint(),
        }
    }

    #[cold]
    fn mint(&mut self) -> Pool {
        self.mint_block();
        self.pool.clone()
    }

    #[cold]
    fn mint_block(&mut self) {
        let pool = &self.pool;
        self.credits
            .extend(std::iter::repeat_with(|| pool.clone()).take(BLOCK));
    }

    /// Appends an owned packet.
    ///
    /// # Errors
    ///
    /// The packet itself, when it is of another pool or there is no room.
    #[inline]
    pub fn push(&mut self, packet: Packet) -> Result<(), Packet> {
        if self.room() == 0 || !packet.is_of(&self.pool) {
            return Err(packet);
        }
        if self.dialect != packet.dialect() || !packet.is_plain() {
            return self.push_slow(packet);
        }
        let (pool, index, words) = packet.dissolve();
        self.push_entry(index, words);
        self.take_credit(pool);
        Ok(())
    }

    #[inline]
    fn take_credit(&mut self, pool: Option<Pool>) {
        let Some(pool) = pool else { return };
        if self.credits.len() < self.credits.capacity() {
            self.credits.push(pool);
        } else {
            self.widen_credits(pool);
        }
    }

    #[cold]
    fn widen_credits(&mut self, pool: Pool) {
        if self.credits.len() < 2 * self.capacity.max(BLOCK) {
            self.credits.push(pool);
        } else {
            // More come than go: let a block of them go at once.
            self.credits.truncate(self.credits.len() - BLOCK);
        }
    }

    #[cold]
    fn push_slow(&mut self, packet: Packet) -> Result<(), Packet> {
        if self.room() < packet.segment_count() {
            return Err(packet);
        }
        if self.is_empty() {
            self.dialect = packet.dialect();
        }
        let first = self.entries;
        let dialect = packet.dialect();
        let plain = packet.is_plain();
        let (pool, mut side) = packet.dissolve_all(|index, words| self.push_entry(index, words));
        if dialect != self.dialect && side.dialect.is_none() {
            side.dialect = Some(dialect);
            self.mark(first, side);
        } else if !plain {
            self.side[first] = side;
        }
        self.take_credit(pool);
        Ok(())
    }
}

/// Iterator that takes a batch's frames out as owned packets, first to last.
pub struct DrainPackets<'a> {
    /// Its entries are forgotten already, so that nothing is owned twice even if this iterator is.
    batch: &'a mut Batch,
    next: usize,
    end: usize,
}

impl Iterator for DrainPackets<'_> {
    type Item = Packet;

    #[inline]
    fn next(&mut self) -> Option<Packet> {
        let first = self.next;
        let words = self.batch.words.get(first..self.end)?;
        let plain = words.first()?[1] & rx::PLAIN == rx::PLAIN;
        let end = first + run(words);
        self.next = end;
        let batch = &mut *self.batch;
        let pool = batch.credit();
        let (index, words) = (&batch.index[first..end], &batch.words[first..end]);
        Some(match (plain, index, words) {
            (true, &[index], &[words]) => Packet::plain(pool, batch.dialect, index, words),
            _ => Packet::special(pool, batch.dialect, index, words, batch.side[first]),
        })
    }
}

impl Drop for DrainPackets<'_> {
    fn drop(&mut self) {
        let Self { batch, next, end } = self;
        batch.free_entries(*next, *end);
        batch.trim();
    }
}

impl fmt::Debug for DrainPackets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainPackets")
            .field("entries", &(self.end - self.next))
            .finish_non_exhaustive()
    }
}
