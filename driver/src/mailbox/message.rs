//! Word 0 of a message and what is around it (ixgbevf.md §6.5, igbvf.md §6.1): the same in both families.

use vfnic_hw::mailbox::WORDS;

/// The PF agreed.
const ACK: u32 = 1 << 31;
/// The PF refused.
const NACK: u32 = 1 << 30;
/// The PF takes this VF for initialised.
const CTS: u32 = 1 << 29;
/// Both families number the PF's own message the same.
const PF_CONTROL: u16 = 0x0100;

/// A request to the PF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// What to call it in errors.
    pub(crate) name: &'static str,
    words: [u32; WORDS],
    len: usize,
    reply_len: usize,
}

impl Request {
    /// A message of `kind` with `info` in bits 23:16 and `body` behind it; of the reply, `reply_len` words matter.
    pub(crate) fn new(
        name: &'static str,
        kind: u16,
        info: u8,
        body: &[u32],
        reply_len: usize,
    ) -> Self {
        let mut words = [0; WORDS];
        words[0] = u32::from(kind) | (u32::from(info) << 16);
        for (word, value) in words[1..].iter_mut().zip(body) {
            *word = *value;
        }
        Self {
            name,
            words,
            len: body.len().saturating_add(1).min(WORDS),
            reply_len: reply_len.clamp(1, WORDS),
        }
    }

    /// The words to write.
    pub(crate) fn words(&self) -> &[u32] {
        self.words.get(..self.len).unwrap_or(&self.words)
    }

    /// How many words of the reply matter.
    pub(crate) const fn reply_len(&self) -> usize {
        self.reply_len
    }

    /// The message type.
    pub(crate) fn kind(&self) -> u16 {
        Word0(self.words[0]).kind()
    }
}

/// A reply: only the words that the request's reply has are read, the others are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) words: [u32; WORDS],
}

impl Reply {
    pub(crate) const fn word0(&self) -> Word0 {
        Word0(self.words[0])
    }
}

/// Word 0, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word0(pub(crate) u32);

impl Word0 {
    pub(crate) const fn kind(self) -> u16 {
        let [low, high, _, _] = self.0.to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    pub(crate) const fn is_ack(self) -> bool {
        self.0 & ACK != 0
    }

    pub(crate) const fn is_nack(self) -> bool {
        self.0 & NACK != 0
    }

    pub(crate) const fn is_clear_to_send(self) -> bool {
        self.0 & CTS != 0
    }

    /// Whether it answers a request of `kind`.
    pub(crate) const fn answers(self, kind: u16) -> bool {
        self.kind() == kind && (self.is_ack() || self.is_nack())
    }

    /// A reply to a message of the PF's own type can only mean that the PF wrote over a request before it read it, and
    /// then took its own words for the request.
    pub(crate) const fn answers_overwritten(self) -> bool {
        self.answers(PF_CONTROL)
    }
}

/// A message that nobody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The PF wants the VF to look at its link (a ping with CTS).
    Look,
    /// The PF forgot the VF, or was told to change it: a ping without CTS.
    Reset,
    /// A refusal of nothing in particular, without CTS: how a PF that lost a VF's state answers an acknowledgement
    /// (ixgbevf.md §6.9.7), and how some PFs answer every acknowledgement (igbvf.md §6.7).
    Stray,
    /// Anything else: a reply that comes too late, a message of a type that has no meaning here.
    Unknown(u32),
}

impl Notice {
    pub(crate) const fn decode(word: Word0) -> Self {
        match (word.kind(), word.is_clear_to_send()) {
            (PF_CONTROL, true) if !word.is_nack() && !word.is_ack() => Self::Look,
            (PF_CONTROL, false) if !word.is_nack() && !word.is_ack() => Self::Reset,
            (_, false) if word.is_nack() => Self::Stray,
            _ => Self::Unknown(word.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_one_only_without_ack_and_nack() {
        let (ack, nack, cts) = (1 << 31, 1 << 30, 1 << 29);
        let decode = |word: u32| Notice::decode(Word0(word));
        assert_eq!(decode(0x0100 | cts), Notice::Look);
        assert_eq!(decode(0x0100), Notice::Reset);
        for word in [
            0x0100 | cts | ack,
            0x0100 | cts | nack,
            0x0100 | ack,
            5 | cts,
        ] {
            assert_eq!(decode(word), Notice::Unknown(word), "{word:#x}");
        }
        assert_eq!(decode(0x0100 | nack), Notice::Stray);
        assert_eq!(decode(2 | nack), Notice::Stray);
    }

    #[test]
    fn requests_have_the_golden_words() {
        // ixgbevf.md §6.7: SET_VLAN add 100.
        let request = Request::new("SET_VLAN", 4, 1, &[0x64], 2);
        assert_eq!(request.words(), [0x0001_0004, 0x0000_0064]);
        assert_eq!(request.kind(), 4);
    }

    #[test]
    fn replies_are_told_from_other_messages_by_type_and_verdict() {
        assert!(Word0(0xA001_0004).answers(4));
        assert!(Word0(0x6001_0004).answers(4), "a refusal is an answer");
        assert!(!Word0(0x2000_0004).answers(4), "neither yes nor no");
        assert!(!Word0(0xA000_0005).answers(4), "another type");
        assert!(!Word0(0x2000_0100).answers(4), "a ping");
        assert!(Word0(0x6000_0100).answers_overwritten());
    }

    #[test]
    fn messages_of_the_pf_are_told_apart() {
        assert_eq!(Notice::decode(Word0(0x2000_0100)), Notice::Look);
        assert_eq!(Notice::decode(Word0(0x0000_0100)), Notice::Reset);
        assert_eq!(Notice::decode(Word0(0x4000_0000)), Notice::Stray);
        assert_eq!(
            Notice::decode(Word0(0xA000_0005)),
            Notice::Unknown(0xA000_0005),
            "a late reply is nothing to act on"
        );
    }
}
