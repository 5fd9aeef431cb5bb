//! What leaves the card, into a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{MAX_RECORD, PcapError, Port};

/// Writes what leaves the card to a capture with nanoseconds of the card's time; nothing comes back.
#[derive(Debug)]
pub struct PcapRecorder {
    path: PathBuf,
    file: BufWriter<File>,
    now: u64,
    failed: bool,
}

impl PcapRecorder {
    /// Creates, or replaces, a capture.
    ///
    /// # Errors
    ///
    /// [`PcapError::Io`] when the file cannot be written.
    pub fn create(path: &Path) -> Result<Self, PcapError> {
        let io_error = |source| PcapError::Io {
            path: path.to_owned(),
            doing: "writing",
            source,
        };
        let mut file = BufWriter::new(File::create(path).map_err(io_error)?);
        let words = [0xa1b2_3c4du32, 2 | 4 << 16, 0, 0, MAX_RECORD, 1];
        for word in words {
            file.write_all(&word.to_le_bytes()).map_err(io_error)?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            now: 0,
            failed: false,
        })
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    ///
    /// [`PcapError::Io`] when the file cannot be written, now or since the last call.
    pub fn flush(&mut self) -> Result<(), PcapError> {
        let failed = std::mem::take(&mut self.failed);
        self.file
            .flush()
            .and_then(|()| {
                if failed {
                    Err(io::Error::other("an earlier frame could not be written"))
                } else {
                    Ok(())
                }
            })
            .map_err(|source| PcapError::Io {
                path: self.path.clone(),
                doing: "writing",
                source,
            })
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let len = u32::try_from(frame.len()).map_err(io::Error::other)?;
        let seconds = u32::try_from(self.now / 1_000_000_000).unwrap_or(u32::MAX);
        let nanos = u32::try_from(self.now % 1_000_000_000).unwrap_or(0);
        for word in [seconds, nanos, len, len] {
            self.file.write_all(&word.to_le_bytes())?;
        }
        self.file.write_all(frame)
    }
}

impl Port for PcapRecorder {
    fn send(&mut self, frame: &[u8]) -> bool {
        let written = self.write(frame);
        if let Err(error) = &written
            && !std::mem::replace(&mut self.failed, true)
        {
            log::error!("{}: writing failed: {error}", self.path.display());
        }
        written.is_ok()
    }
    fn receive(&mut self, _frame: &mut Vec<u8>) -> bool {
        false
    }
    fn has_frames(&mut self) -> bool {
        false
    }
    fn set_time(&mut self, now: u64) {
        self.now = now;
    }
}
