//! A VF as these tests see it: offsets and words.

use std::sync::Arc;
use std::time::Duration;

use vfnic_hw::{Clock, Family, Mmio, Model, PciFunction};
use vfnic_sim::{Card, CardBuilder, SimSpace};

/// A card and its VF 0, opened.
pub(crate) fn card_and_vf(builder: CardBuilder) -> (Card, RawVf) {
    let card = builder.build().expect("the card is possible");
    let vf = RawVf::open(&card, 0);
    (card, vf)
}

/// A card of `model` with one VF, and that VF opened.
pub(crate) fn one_vf(model: Model) -> (Card, RawVf) {
    card_and_vf(Card::builder(model))
}

/// One opened VF and where its registers are.
pub(crate) struct RawVf {
    pub(crate) function: Arc<dyn PciFunction>,
    pub(crate) bar: Arc<dyn Mmio>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Offset of the mailbox register.
    pub(crate) mailbox: u32,
    /// Offset of the mailbox memory.
    pub(crate) memory: u32,
    /// Offset of the control register with the reset bit, 26 in both families.
    pub(crate) control: u32,
}

impl RawVf {
    pub(crate) fn open(card: &Card, vf: u16) -> Self {
        Self::open_in(card, vf, &SimSpace::new())
    }

    pub(crate) fn open_in(card: &Card, vf: u16, space: &SimSpace) -> Self {
        let function = card.function_in(vf, space).expect("the VF is free");
        let bar = function.bar(0).expect("BAR 0 is there");
        let clock = function.clock();
        let (mailbox, memory) = match card.model().family() {
            Family::Igbvf => (0xc40, 0x800),
            Family::Ixgbevf => (0x2fc, 0x200),
        };
        function
            .set_bus_master(true)
            .expect("the command register is there");
        Self {
            function,
            bar,
            clock,
            mailbox,
            memory,
            control: 0,
        }
    }

    pub(crate) fn read(&self, offset: u32) -> u32 {
        self.bar.read32(offset)
    }

    pub(crate) fn write(&self, offset: u32, value: u32) {
        self.bar.write32(offset, value);
    }

    /// Gets the mailbox memory, or fails the test.
    pub(crate) fn lock(&self) {
        self.write(self.mailbox, 4);
        let value = self.read(self.mailbox);
        assert_eq!(value & 0xc, 4, "VFU was not granted: {value:#x}");
    }

    /// Writes a message and rings, without waiting for anything.
    pub(crate) fn post(&self, words: &[u32]) {
        self.lock();
        for (offset, word) in (self.memory..).step_by(4).zip(words) {
            self.write(offset, *word);
        }
        self.write(self.mailbox, 1);
    }

    /// Takes a message out of the memory and acknowledges it.
    pub(crate) fn take<const N: usize>(&self) -> [u32; N] {
        self.lock();
        let mut words = [0; N];
        for (offset, word) in (self.memory..).step_by(4).zip(&mut words) {
            *word = self.read(offset);
        }
        self.write(self.mailbox, 2);
        words
    }

    /// A whole exchange with a PF that answers at once.
    pub(crate) fn ask<const N: usize>(&self, words: &[u32]) -> [u32; N] {
        self.post(words);
        let value = self.read(self.mailbox);
        assert_eq!(
            value & 0x30,
            0x30,
            "PFACK and PFSTS after {words:08x?}: {value:#x}"
        );
        self.take()
    }

    /// A whole exchange with a PF that takes its time.
    pub(crate) fn ask_patiently<const N: usize>(&self, words: &[u32]) -> [u32; N] {
        self.read(self.mailbox);
        self.post(words);
        for _ in 0..100 {
            if self.read(self.mailbox) & 0x10 != 0 {
                return self.take();
            }
            self.sleep(Duration::from_micros(200));
        }
        panic!("no reply to {words:08x?}");
    }

    /// The words of the reset handshake's reply.
    pub(crate) fn handshake(&self) -> [u32; 4] {
        self.write(self.control, 1 << 26);
        self.ask(&[1])
    }

    /// Word 0 as the PF left it.
    pub(crate) fn word0(&self) -> u32 {
        self.read(self.memory)
    }

    pub(crate) fn sleep(&self, time: Duration) {
        self.clock.sleep(time);
    }
}

/// An address as words 1 and 2 of a message.
pub(crate) fn mac_words(mac: [u8; 6]) -> [u32; 2] {
    [
        u32::from(mac[0])
            | u32::from(mac[1]) << 8
            | u32::from(mac[2]) << 16
            | u32::from(mac[3]) << 24,
        u32::from(mac[4]) | u32::from(mac[5]) << 8,
    ]
}
