//! A card whose three VFs are driven, whose wire and PF's port the test holds: who gets a frame.

use vfnic_sim::uplink::{Peer, pair};
use vfnic_sim::{Card, CardBuilder};

use super::station::Station;

pub(crate) struct Bed {
    pub(crate) card: Card,
    /// The far ends of the wire and of the PF's port.
    pub(crate) wire: Peer,
    pub(crate) host: Peer,
    pub(crate) vfs: Vec<Station>,
}

pub(crate) fn bed(builder: CardBuilder) -> Bed {
    let ((wire, uplink), (host, pf)) = (pair(64), pair(64));
    let card = builder
        .vfs(3)
        .uplink(Box::new(uplink))
        .host(Box::new(pf))
        .build()
        .expect("a fine card");
    let vfs = (0..3).map(|vf| Station::new(&card, vf)).collect();
    Bed {
        card,
        wire,
        host,
        vfs,
    }
}

pub(crate) const OUTSIDE: [u8; 6] = [0x02, 0xbb, 0, 0, 0, 1];

/// An untagged frame of 60 bytes, or with this tag of 64.
pub(crate) fn frame(to: [u8; 6], from: [u8; 6], tci: Option<u16>, number: u8) -> Vec<u8> {
    let mut frame = [to, from].concat();
    if let Some(tci) = tci {
        frame.extend([0x81, 0x00]);
        frame.extend(tci.to_be_bytes());
    }
    frame.extend([0x88, 0xb5]);
    let len = if tci.is_some() { 64 } else { 60 };
    frame.resize(len, number);
    frame
}

impl Bed {
    /// Which VFs, and whether wire (3) and host (4), got the one frame that is under way.
    pub(crate) fn who(&mut self) -> Vec<usize> {
        self.card.step();
        let mut who: Vec<usize> = (0..3)
            .filter(|vf| {
                let got = self.vfs[*vf].receive_frame().is_some();
                assert!(self.vfs[*vf].receive_frame().is_none(), "one copy each");
                got
            })
            .collect();
        if !self.wire.collect().is_empty() {
            who.push(3);
        }
        if !self.host.collect().is_empty() {
            who.push(4);
        }
        who
    }

    pub(crate) fn by_vf0(&mut self, to: [u8; 6], tci: Option<u16>) -> Vec<usize> {
        let frame = frame(to, self.vfs[0].mac, tci, 1);
        self.vfs[0].send_frame(&frame, 1 << 39);
        self.who()
    }

    pub(crate) fn by_wire(&mut self, to: [u8; 6], tci: Option<u16>) -> Vec<usize> {
        assert!(self.wire.inject(&frame(to, OUTSIDE, tci, 1)));
        self.who()
    }
}
