//! The control socket beside the VFs' sockets: one request a line, one answer a line, as JSON.
//!
//! Answers are `{"ok": VALUE}`, `{"usage": TEXT}` or `{"refused": TEXT}`. Only the owner can connect; even so requests
//! are bounded in length and time, so that one that hangs does not hang the next.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};
use vfnic_hw::{Deadline, Event};

use super::knobs::{KnobError, execute};
use super::listen::{Listener, directory};
use super::server::ServeError;
use crate::card::Card;

/// Longest request.
const MAX_REQUEST: usize = 4096;
/// Longest time a client may take for a request, or to read the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the control socket of a served card is.
#[must_use]
pub fn control_path(dir: &Path) -> PathBuf {
    dir.join("control.sock")
}

/// A running control socket. Dropping it removes it.
#[derive(Debug)]
pub struct Control {
    stop: Event,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Listens for requests about `card` on `control.sock` in `dir`. `more` adds to what is shown.
    ///
    /// # Errors
    ///
    /// [`ServeError`].
    pub fn start(
        dir: &Path,
        card: Arc<Card>,
        more: impl Fn(&mut Value) + Send + 'static,
    ) -> Result<Self, ServeError> {
        directory(dir)?;
        let listener = Listener::new(&control_path(dir))?;
        let os = |what| move |source| ServeError::Os { what, source };
        let stop = Event::new().map_err(os("eventfd"))?;
        let stopped = stop.clone();
        let thread = thread::Builder::new()
            .name("vfnic-control".into())
            .spawn(move || {
                while wait(&listener, &stopped) {
                    if let Ok(socket) = listener.accept() {
                        serve(UnixStream::from(socket), &card, &more);
                    }
                }
            })
            .map_err(os("thread"))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.signal();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for a client; false at the end.
fn wait(listener: &Listener, stop: &Event) -> bool {
    let mut fds = [
        PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
        PollFd::new(stop, PollFlags::IN),
    ];
    if poll(&mut fds, None).is_err() {
        thread::sleep(Duration::from_millis(10));
    }
    fds[1].revents().is_empty()
}

/// One line, whole within [`PATIENCE`] and [`MAX_REQUEST`].
fn request(socket: &UnixStream) -> Option<String> {
    let end = Deadline::after(PATIENCE);
    let mut line = Vec::new();
    let mut piece = [0; 512];
    while !line.contains(&b'\n') {
        let left = end.left();
        // A timeout of zero would be none at all.
        socket
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))
            .ok()?;
        let got = (&*socket).read(&mut piece).ok().filter(|&got| got > 0)?;
        line.extend_from_slice(piece.get(..got)?);
        if left.is_zero() || line.len() > MAX_REQUEST {
            return None;
        }
    }
    String::from_utf8(line).ok()
}

/// Answers one request, then hangs up.
fn serve(mut socket: UnixStream, card: &Card, more: &impl Fn(&mut Value)) {
    let ready = socket
        .set_nonblocking(false)
        .and_then(|()| socket.set_write_timeout(Some(PATIENCE)));
    let Some(request) = ready.ok().and_then(|()| request(&socket)) else {
        return;
    };
    let answer = match execute(card, &request) {
        Ok(mut value) => {
            if !value.is_null() {
                more(&mut value);
            }
            json!({ "ok": value })
        }
        Err(KnobError::Usage(text)) => json!({ "usage": text }),
        Err(KnobError::Refused(text)) => json!({ "refused": text }),
    };
    let _ = writeln!(socket, "{answer}");
}

/// Asks the server whose sockets are in `dir`.
///
/// # Errors
///
/// What connecting or talking to it failed with; inside, what it says itself.
pub fn ask(dir: &Path, request: &str) -> std::io::Result<Result<Value, KnobError>> {
    let mut socket = UnixStream::connect(control_path(dir))?;
    socket.set_read_timeout(Some(PATIENCE.saturating_mul(5)))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    writeln!(socket, "{}", request.replace('\n', " "))?;
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line)?;
    let mut answer: Value = serde_json::from_str(&line)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(value) = answer.get("usage") {
        return Ok(Err(KnobError::Usage(text(value))));
    }
    if let Some(value) = answer.get("refused") {
        return Ok(Err(KnobError::Refused(text(value))));
    }
    Ok(Ok(answer
        .get_mut("ok")
        .map(Value::take)
        .unwrap_or_default()))
}
