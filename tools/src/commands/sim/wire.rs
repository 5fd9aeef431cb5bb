//! What a served card's outer ports lead to.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing
    )
)]

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use vfnic_sim::Card;
use vfnic_sim::uplink::{Pace, PcapPlayer, PcapRecorder, Port, Reflector, Socket, Tap};

/// Frames that a loopback plug holds.
const LOOPBACK: usize = 4096;

/// What is at the other end of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// Nothing: what is sent is gone.
    None,
    /// A plug that sends everything back.
    Loopback,
    /// An interface of the host.
    Tap(String),
    /// A capture to be played, and one to be written.
    Pcap {
        play: Option<PathBuf>,
        record: Option<PathBuf>,
    },
    /// Another served card with the same directory as its wire.
    Peer(PathBuf),
}

impl FromStr for Wire {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        let wire = match text.split_once(':') {
            None if text == "none" => Some(Self::None),
            None if text == "loopback" => Some(Self::Loopback),
            Some(("tap", name)) if !name.is_empty() => Some(Self::Tap(name.to_owned())),
            Some(("pcap", files)) if !files.is_empty() => {
                let (play, record) = files.split_once(',').unwrap_or((files, ""));
                Some(Self::Pcap {
                    play: path(play),
                    record: path(record),
                })
            }
            Some(("peer", dir)) => path(dir).map(Self::Peer),
            _ => None,
        };
        wire.ok_or_else(|| {
            format!("`{text}` is no wire; there are none, loopback, tap:NAME, pcap:IN[,OUT] (either may be empty), peer:DIR")
        })
    }
}

impl Wire {
    /// Connects it. A peer is waited for until `stop` becomes readable.
    pub(super) fn connect(
        &self,
        card: &Card,
        stop: &impl AsFd,
    ) -> anyhow::Result<Option<Box<dyn Port>>> {
        let notifier = card.notifier();
        let wake = move || notifier.notify();
        let port: Box<dyn Port> = match self {
            Self::None => return Ok(None),
            Self::Loopback => Box::new(Reflector::new(LOOPBACK)),
            Self::Tap(name) => {
                let tap = Tap::open(name)
                    .with_context(|| format!("cannot attach to the TAP interface {name}"))?;
                tap.wake_with(wake);
                Box::new(tap)
            }
            Self::Pcap { play, record } => capture(play.as_deref(), record.as_deref())?,
            Self::Peer(dir) => {
                fs::create_dir_all(dir)
                    .with_context(|| format!("cannot make {}", dir.display()))?;
                let path = dir.join("wire.sock");
                log::info!("waiting for a card at the other end of {}", path.display());
                let socket = Socket::open(&path, stop)
                    .with_context(|| format!("no wire at {}", path.display()))?;
                let Some(socket) = socket else {
                    return Ok(None);
                };
                socket.wake_with(wake);
                Box::new(socket)
            }
        };
        Ok(Some(port))
    }
}

fn capture(play: Option<&Path>, record: Option<&Path>) -> anyhow::Result<Box<dyn Port>> {
    let recorder = record.map(PcapRecorder::create).transpose()?;
    Ok(match (play, recorder) {
        (Some(path), recorder) => Box::new(PcapPlayer::open(path, Pace::Captured, recorder)?),
        (None, Some(recorder)) => Box::new(recorder),
        (None, None) => anyhow::bail!("a capture to play or to write is wanted"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wires_are_read() {
        let pcap = |play: Option<&str>, record: Option<&str>| Wire::Pcap {
            play: play.map(PathBuf::from),
            record: record.map(PathBuf::from),
        };
        for (text, wire) in [
            ("none", Wire::None),
            ("loopback", Wire::Loopback),
            ("tap:card0", Wire::Tap("card0".into())),
            ("pcap:a.pcap", pcap(Some("a.pcap"), None)),
            ("pcap:a,b", pcap(Some("a"), Some("b"))),
            ("pcap:,b", pcap(None, Some("b"))),
            ("peer:/run/wire", Wire::Peer("/run/wire".into())),
        ] {
            assert_eq!(text.parse(), Ok(wire), "{text}");
        }
        for text in ["", "nothing", "tap", "tap:", "pcap:", "peer:", "loopback:x"] {
            assert!(text.parse::<Wire>().is_err(), "{text}");
        }
    }
}
