//! The host's network stack behind a TAP interface.

use std::io;

use super::Port;
use super::reader::Reader;
use crate::dma::open_tap;

/// A TAP interface of the host: its real network stack on the other end of the wire, or on the PF's own port.
#[derive(Debug)]
pub struct Tap(Reader);

impl Tap {
    /// Attaches to the TAP interface `name`, made for as long as this lives if it does not exist. It still has to be
    /// brought up (`ip link set NAME up`).
    ///
    /// # Errors
    ///
    /// What the system says: no `/dev/net/tun`, no permission (CAP_NET_ADMIN, or the owner of an existing interface), or
    /// a name that is in use or too long.
    pub fn open(name: &str) -> io::Result<Self> {
        Reader::start("tap", open_tap(name)?).map(Self)
    }

    /// Calls `wake` whenever a frame arrives; the first call counts. For a card, its notifier.
    pub fn wake_with(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.0.arrived().set_waker(Box::new(wake));
    }
}

impl Port for Tap {
    fn send(&mut self, frame: &[u8]) -> bool {
        matches!(rustix::io::write(self.0.fd(), frame), Ok(len) if len == frame.len())
    }
    fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        self.0.arrived().pop(frame)
    }
    fn has_frames(&mut self) -> bool {
        !self.0.arrived().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_carries_frames_both_ways() {
        let name = format!("vfn{}", std::process::id() % 100_000);
        let mut tap = match Tap::open(&name) {
            Ok(tap) => tap,
            Err(error) => {
                eprintln!("skipped: no TAP to be had here: {error}");
                return;
            }
        };
        let up = std::process::Command::new("ip")
            .args(["link", "set", &name, "up"])
            .status();
        if !up.is_ok_and(|status| status.success()) {
            eprintln!("skipped: the interface cannot be brought up");
            return;
        }
        // The host's stack says something by itself when an interface comes up (IPv6 neighbour discovery, MLD), where it
        // speaks IPv6 at all.
        let mut frame = vec![0xff; 60];
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        assert!(tap.send(&frame), "the host takes a frame");
        let counter = format!("/sys/class/net/{name}/statistics/rx_packets");
        let received = std::fs::read_to_string(counter).expect("an interface has counters");
        assert_eq!(received.trim(), "1");
    }
}
