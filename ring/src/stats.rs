//! Counters of a queue. The owner stores them (no read-modify-write) once a call; anybody may read them any time.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds, by a load and a store: only the queue's owner ever writes.
    #[inline]
    pub(crate) fn add(&self, more: u64) {
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(more);
        self.0.store(sum, Ordering::Relaxed);
    }
}

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name { $(pub(crate) $field: Counter,)* }

        impl $name {
            $($(#[$field_doc])*
            #[must_use]
            pub fn $field(&self) -> u64 {
                self.$field.0.load(Ordering::Relaxed)
            })*

            /// Every counter with its name.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field()),)*].into_iter()
            }
        }
    };
}

counters! {
    /// What an RX queue has seen. Everything but `packets` and `bytes` counts frames that were dropped, by reason,
    /// or moments.
    RxStats {
        /// Frames delivered.
        packets,
        /// Bytes of them, without FCS.
        bytes,
        /// Dropped: a segment of length 0, longer than its buffer, or a frame shorter than an Ethernet header.
        bad_len,
        /// Dropped: longer than the queue's largest frame.
        too_long,
        /// Dropped: more segments than a frame may have, or EOP never came.
        too_many_segments,
        /// Dropped: the card reported a receive error. The next five say which; a frame may have several.
        card_error,
        /// Of those, with a CRC error (CE).
        error_crc,
        /// Of those, with a length error (LE, ixgbe) or a symbol error (SE, igb).
        error_symbol,
        /// Of those, with a sequence error (SEQ, igb).
        error_sequence,
        /// Of those, with a security or carrier extension error (PE, OSE, CXE).
        error_carrier,
        /// Of those, with any other MAC error (RXE).
        error_mac,
        /// Dropped: more segments than the batch can hold at all.
        batch_too_small,
        /// Dropped: the half of a frame that was in the ring when the device was reset.
        reset_partial,
        /// Dropped: complete in the ring, and not yet taken, when the device was reset.
        reset_unread,
        /// Moments when the queue stopped because no buffer was free to put in a frame's place.
        no_buffers,
    }
}

counters! {
    /// What a TX queue has done.
    TxStats {
        /// Frames handed to the card.
        packets,
        /// Bytes of them, without FCS.
        bytes,
        /// Moments when the ring had no room for the next frame.
        ring_full,
        /// Frames that were in the ring when the device was reset: sent or not, nobody knows.
        not_confirmed,
        /// Frames refused because they break a limit of the queue.
        refused,
        /// Context descriptors written.
        contexts,
    }
}
