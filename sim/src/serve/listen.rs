//! Socket files: made for their owner only, replaced only when stale and ours, removed at the end.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with,
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;

/// A socket could not be offered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The path is taken by something that is not a stale socket of this user's.
    #[error("{path}: {what}; choose another directory, or remove it")]
    Taken {
        /// The path.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// Somebody serves on it.
    #[error(
        "{path}: another server is listening there; stop it first, or choose another directory"
    )]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{path}: {call} failed")]
    Sys {
        /// The path.
        path: PathBuf,
        /// The call.
        call: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ListenError {
    fn sys(path: &Path, call: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Sys {
            path: path.to_owned(),
            call,
            source: source.into(),
        }
    }
}

/// Makes the directory for sockets, for its owner only, if it is not there.
pub(crate) fn directory(path: &Path) -> Result<(), ListenError> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(ListenError::sys(path, "mkdir", error)),
    }
}

/// A listening socket and its file.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// Device and inode of the file, to remove no other.
    file: (u64, u64),
}

impl Listener {
    /// Listens on `path`.
    pub(crate) fn new(path: &Path) -> Result<Self, ListenError> {
        clear(path)?;
        let address = SocketAddrUnix::new(path)
            .map_err(|errno| ListenError::sys(path, "socket address", errno))?;
        let socket = stream(path)?;
        // The file takes its mode from the socket, so there is no moment in which it is open to others.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| ListenError::sys(path, "fchmod", errno))?;
        bind(&socket, &address).map_err(|errno| ListenError::sys(path, "bind", errno))?;
        let file =
            fs::symlink_metadata(path).map_err(|error| ListenError::sys(path, "stat", error))?;
        let listener = Self {
            socket,
            path: path.to_owned(),
            file: (file.dev(), file.ino()),
        };
        listen(&listener.socket, BACKLOG)
            .map_err(|errno| ListenError::sys(path, "listen", errno))?;
        Ok(listener)
    }

    /// Takes one waiting connection, if there is one.
    pub(crate) fn accept(&self) -> Result<OwnedFd, Errno> {
        accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == self.file);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn stream(path: &Path) -> Result<OwnedFd, ListenError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|errno| ListenError::sys(path, "socket", errno))
}

/// Removes what a server of ours that died left at `path`, and nothing else.
fn clear(path: &Path) -> Result<(), ListenError> {
    let taken = |what| ListenError::Taken {
        path: path.to_owned(),
        what,
    };
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ListenError::sys(path, "stat", error)),
    };
    if file.file_type().is_symlink() {
        return Err(taken("is a symbolic link"));
    }
    if !file.file_type().is_socket() {
        return Err(taken("exists and is not a socket"));
    }
    if file.uid() != rustix::process::geteuid().as_raw() {
        return Err(taken("is a socket of another user"));
    }
    let address = SocketAddrUnix::new(path)
        .map_err(|errno| ListenError::sys(path, "socket address", errno))?;
    match connect(&stream(path)?, &address) {
        Err(Errno::CONNREFUSED) => {
            fs::remove_file(path).map_err(|error| ListenError::sys(path, "unlink", error))
        }
        Err(Errno::NOENT) => Ok(()),
        // Connected, or its queue is full: alive either way.
        Ok(()) | Err(Errno::AGAIN) => Err(ListenError::InUse {
            path: path.to_owned(),
        }),
        Err(errno) => Err(ListenError::sys(path, "connect", errno)),
    }
}
