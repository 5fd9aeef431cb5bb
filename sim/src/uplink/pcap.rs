//! Captures as wires: frames from a file, and into one.
//!
//! The classic format with micro- or nanoseconds, either byte order. It is simple enough to read here, with no
//! allocation by what a file claims; a pcapng file is refused by name.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::Port;
use crate::counting::Count;

mod recorder;

pub use recorder::PcapRecorder;

/// Longest record believed, in bytes.
const MAX_RECORD: u32 = 262_144;

/// A capture that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PcapError {
    /// The file system refused.
    #[error("{}: {doing} failed", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The content is no capture that can be played.
    #[error("{}: {what} at byte {offset}; wanted is a classic pcap file of Ethernet frames", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What was found.
        what: String,
    },
}

/// When the frames of a capture are played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the card takes them.
    AtOnce,
    /// At the intervals they were captured at, in the card's time, the first one when it starts.
    Captured,
}

/// Plays a capture towards the card; what leaves the card goes to `out`, or nowhere.
#[derive(Debug)]
pub struct PcapPlayer {
    path: PathBuf,
    file: BufReader<File>,
    offset: u64,
    swapped: bool,
    nanos: bool,
    pace: Pace,
    now: u64,
    /// Card time of the first frame, and its time in the file.
    start: Option<(u64, u64)>,
    /// The frame to be played next and its time in the file, in nanoseconds.
    next: Option<(u64, Vec<u8>)>,
    /// Why playing ended early.
    error: Option<PcapError>,
    out: Option<PcapRecorder>,
}

impl PcapPlayer {
    /// Opens a capture and reads its header.
    ///
    /// # Errors
    ///
    /// [`PcapError`] with the offset when it is none.
    pub fn open(path: &Path, pace: Pace, out: Option<PcapRecorder>) -> Result<Self, PcapError> {
        let io_error = |source| PcapError::Io {
            path: path.to_owned(),
            doing: "reading",
            source,
        };
        let format = |offset, what: String| PcapError::Format {
            path: path.to_owned(),
            offset,
            what,
        };
        let mut file = BufReader::new(File::open(path).map_err(io_error)?);
        let mut header = [0; 24];
        let got = read_up_to(&mut file, &mut header).map_err(io_error)?;
        if got < header.len() {
            return Err(format(
                got as u64,
                "the file header is cut short".to_owned(),
            ));
        }
        let magic = word(&header, 0, false);
        let (swapped, nanos) = match magic {
            0xa1b2_c3d4 => (false, false),
            0xa1b2_3c4d => (false, true),
            0xd4c3_b2a1 => (true, false),
            0x4d3c_b2a1 => (true, true),
            0x0a0d_0d0a => return Err(format(0, "a pcapng file".to_owned())),
            other => return Err(format(0, format!("magic number {other:#010x}"))),
        };
        let link = word(&header, 20, swapped) & 0x0fff_ffff;
        if link != 1 {
            return Err(format(20, format!("link type {link}, not Ethernet (1)")));
        }
        let mut player = Self {
            path: path.to_owned(),
            file,
            offset: 24,
            swapped,
            nanos,
            pace,
            now: 0,
            start: None,
            next: None,
            error: None,
            out,
        };
        player.advance();
        Ok(player)
    }

    /// Why playing ended before the end of the file, if it did.
    pub fn take_error(&mut self) -> Option<PcapError> {
        self.error.take()
    }

    /// Reads the next record. A defect ends the play and is kept.
    fn advance(&mut self) {
        self.next = match self.record() {
            Ok(next) => next,
            Err(error) => {
                log::error!("{error}; nothing more is played from it");
                self.error = Some(error);
                None
            }
        };
    }

    fn record(&mut self) -> Result<Option<(u64, Vec<u8>)>, PcapError> {
        let offset = self.offset;
        let path = &self.path;
        let io_error = |source| PcapError::Io {
            path: path.clone(),
            doing: "reading",
            source,
        };
        let format = |what: String| PcapError::Format {
            path: path.clone(),
            offset,
            what,
        };
        let mut header = [0; 16];
        let got = read_up_to(&mut self.file, &mut header).map_err(io_error)?;
        if got == 0 {
            return Ok(None);
        }
        if got < header.len() {
            return Err(format("a record header is cut short".to_owned()));
        }
        let field = |at| word(&header, at, self.swapped);
        let (seconds, fraction, captured, wire) = (field(0), field(4), field(8), field(12));
        if captured > MAX_RECORD {
            return Err(format(format!("a record of {captured} bytes")));
        }
        if captured < wire {
            return Err(format(format!(
                "a frame of {wire} bytes of which only {captured} were captured"
            )));
        }
        let mut frame = vec![0; captured as usize];
        let got = read_up_to(&mut self.file, &mut frame).map_err(io_error)?;
        if got < frame.len() {
            return Err(format("a record is cut short".to_owned()));
        }
        self.offset.count(16 + u64::from(captured));
        let unit = if self.nanos { 1 } else { 1000 };
        let time = u64::from(seconds)
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::from(fraction).saturating_mul(unit));
        Ok(Some((time, frame)))
    }

    /// When the next frame is due, in the card's time.
    fn due(&self) -> Option<u64> {
        let (time, _) = self.next.as_ref()?;
        match (self.pace, self.start) {
            (Pace::AtOnce, _) | (_, None) => Some(0),
            (Pace::Captured, Some((card, file))) => {
                Some(card.saturating_add(time.saturating_sub(file)))
            }
        }
    }
}

impl Port for PcapPlayer {
    fn send(&mut self, frame: &[u8]) -> bool {
        self.out.as_mut().is_none_or(|out| out.send(frame))
    }
    fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        if !self.has_frames() {
            return false;
        }
        let Some((time, next)) = self.next.take() else {
            return false;
        };
        if self.start.is_none() {
            self.start = Some((self.now, time));
        }
        *frame = next;
        self.advance();
        true
    }
    fn has_frames(&mut self) -> bool {
        self.due().is_some_and(|due| due <= self.now)
    }
    fn set_time(&mut self, now: u64) {
        self.now = now;
        if let Some(out) = &mut self.out {
            out.set_time(now);
        }
    }
    fn next_due(&self) -> Option<u64> {
        self.due().filter(|&due| due > self.now)
    }
}

fn word(bytes: &[u8], at: usize, swapped: bool) -> u32 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    let word = bytes.copied().map_or(0, u32::from_le_bytes);
    if swapped { word.swap_bytes() } else { word }
}

fn read_up_to(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0usize;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(more) => got.count(more),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> PathBuf {
        let name = format!("vfnic-pcap-{}-{name}", std::process::id());
        std::env::temp_dir().join(name)
    }

    fn capture(big: bool, magic: u32, records: &[(u32, u32, u32, u32, &[u8])]) -> Vec<u8> {
        let put = |word: u32| {
            if big {
                word.to_be_bytes()
            } else {
                word.to_le_bytes()
            }
        };
        let mut bytes = Vec::new();
        for word in [
            magic,
            if big { 2 << 16 | 4 } else { 2 | 4 << 16 },
            0,
            0,
            65535,
            1,
        ] {
            bytes.extend(put(word));
        }
        for &(seconds, fraction, captured, wire, frame) in records {
            for word in [seconds, fraction, captured, wire] {
                bytes.extend(put(word));
            }
            bytes.extend(frame);
        }
        bytes
    }

    fn open(name: &str, bytes: &[u8], pace: Pace) -> Result<PcapPlayer, PcapError> {
        let path = file(name);
        std::fs::write(&path, bytes).expect("a temporary file");
        let player = PcapPlayer::open(&path, pace, None);
        std::fs::remove_file(&path).expect("it was there");
        player
    }

    #[test]
    fn what_was_recorded_is_played() {
        let path = file("round");
        let mut recorder = PcapRecorder::create(&path).expect("a file");
        for number in 0..5u8 {
            recorder.set_time(1_000_000_007 + u64::from(number) * 300);
            assert!(recorder.send(&[number; 60]));
        }
        recorder.flush().expect("written");
        let mut player = PcapPlayer::open(&path, Pace::Captured, None).expect("a capture");
        std::fs::remove_file(&path).expect("it was there");
        let mut frame = Vec::new();
        player.set_time(50);
        assert!(player.receive(&mut frame));
        assert_eq!(frame, [0; 60]);
        assert!(!player.receive(&mut frame), "the next one is 300 ns later");
        assert_eq!(player.next_due(), Some(350));
        player.set_time(350);
        assert!(player.receive(&mut frame));
        assert_eq!(frame, [1; 60]);
        player.set_time(100_000);
        for number in 2..5u8 {
            assert!(player.receive(&mut frame));
            assert_eq!(frame, [number; 60]);
        }
        assert!(!player.receive(&mut frame) && player.take_error().is_none());
        assert_eq!(player.next_due(), None);
    }

    #[test]
    fn both_orders_and_both_resolutions() {
        let frame = [7; 64];
        for (big, magic) in [
            (false, 0xa1b2_c3d4),
            (true, 0xa1b2_c3d4),
            (false, 0xa1b2_3c4d),
            (true, 0xa1b2_3c4d),
        ] {
            let bytes = capture(big, magic, &[(1, 2, 64, 64, &frame)]);
            let mut player = open("order", &bytes, Pace::AtOnce).expect("a capture");
            let unit = if magic == 0xa1b2_3c4d { 2 } else { 2000 };
            assert_eq!(
                player.next.as_ref().map(|next| next.0),
                Some(1_000_000_000 + unit)
            );
            let mut got = Vec::new();
            assert!(player.receive(&mut got));
            assert_eq!(got, frame);
        }
    }

    #[test]
    fn defects_are_told_with_their_place() {
        let text = |bytes: &[u8]| {
            open("bad", bytes, Pace::AtOnce)
                .expect_err("refused")
                .to_string()
        };
        let good = capture(false, 0xa1b2_c3d4, &[]);
        assert!(text(&good[..23]).contains("cut short at byte 23"));
        assert!(text(&capture(false, 0x1234_5678, &[])).contains("0x12345678 at byte 0"));
        assert!(text(&capture(false, 0x0a0d_0d0a, &[])).contains("pcapng"));
        let mut wifi = good.clone();
        wifi[20] = 105;
        assert!(text(&wifi).contains("link type 105"));
        // Defects further on end the play, after the frames before them.
        for (bad, told) in [
            (
                (0, 0, u32::MAX, 64, &[][..]),
                "4294967295 bytes at byte 104",
            ),
            (
                (0, 0, 60, 64, &[0; 60][..]),
                "only 60 were captured at byte 104",
            ),
            ((0, 0, 64, 64, &[0; 10][..]), "cut short at byte 104"),
        ] {
            let bytes = capture(false, 0xa1b2_c3d4, &[(0, 0, 64, 64, &[1; 64]), bad]);
            let mut player = open("later", &bytes, Pace::AtOnce).expect("a header");
            let mut frame = Vec::new();
            assert!(player.receive(&mut frame));
            assert!(!player.receive(&mut frame));
            let error = player.take_error().expect("a defect").to_string();
            assert!(error.contains(told), "{error}");
        }
        let bytes = capture(false, 0xa1b2_c3d4, &[(0, 0, 64, 64, &[1; 64])]);
        let mut player =
            open("header", &[&bytes[..], &[1, 2, 3]].concat(), Pace::AtOnce).expect("a header");
        assert!(player.receive(&mut Vec::new()));
        assert!(
            player
                .take_error()
                .expect("a defect")
                .to_string()
                .contains("at byte 104")
        );
    }

    #[test]
    fn a_capture_that_cannot_be_opened_made_or_written_says_which_and_what_for() {
        let nowhere = file("no-such-folder").join("x.pcap");
        let opened = PcapPlayer::open(&nowhere, Pace::Captured, None).map(drop);
        let made = PcapRecorder::create(&nowhere).map(drop);
        for (result, doing) in [(opened, "reading"), (made, "writing")] {
            let text = result.expect_err("no such folder").to_string();
            assert!(text.contains(doing) && text.contains("x.pcap"), "{text}");
        }
        // A disk that is full: frames are refused from then on, and whoever ends the capture is told once.
        let mut out = PcapRecorder::create(Path::new("/dev/full")).expect("buffered");
        let mut refused = 0;
        while refused == 0 {
            refused += usize::from(!out.send(&[0; 1500]));
        }
        assert!(!out.send(&[0; 9000]));
        let error = out.flush().expect_err("nothing was written");
        assert!(error.to_string().contains("/dev/full"), "{error}");
        let mut nothing = Vec::new();
        assert!(
            !out.has_frames() && !out.receive(&mut nothing),
            "nothing comes back"
        );
    }

    /// What the card answers to a capture is captured in turn, at the card's times.
    #[test]
    fn a_player_records_what_is_sent_to_it() {
        let (from, to) = (file("played.pcap"), file("recorded.pcap"));
        let frame = [7u8; 60];
        let bytes = capture(false, 0xa1b2_3c4d, &[(1, 0, 60, 60, &frame)]);
        std::fs::write(&from, bytes).expect("written");
        let out = PcapRecorder::create(&to).expect("made");
        let mut player = PcapPlayer::open(&from, Pace::Captured, Some(out)).expect("a capture");
        player.set_time(2_000_000_005);
        let mut got = Vec::new();
        assert!(player.receive(&mut got) && !player.receive(&mut Vec::new()));
        assert_eq!(got, frame);
        assert!(player.send(&[9; 64]));
        drop(player);
        let written = std::fs::read(&to).expect("recorded");
        assert_eq!(written.len(), 24 + 16 + 64);
        let word = |at: usize| u32::from_le_bytes(written[at..at + 4].try_into().expect("four"));
        assert_eq!([word(24), word(28), word(32)], [2, 5, 64]);
        for path in [from, to] {
            let _ = std::fs::remove_file(path);
        }
    }
}
