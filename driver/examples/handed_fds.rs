//! A privileged parent opens, an ordinary child works: the child gets descriptors over a socket and opens nothing itself.
//!
//! `cargo run --example handed_fds` does it with a simulated card that the parent serves on a socket (vfio-user). On a
//! machine with such a card, as root: `handed_fds 0000:31:10.1 1000` opens that VF's VFIO nodes and hands them to a child of
//! user 1000, which counts what it receives in three seconds.
#![forbid(unsafe_code)]

mod shared;

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shared::{FRAMES, Result, all_came_back, card, neighbour, turn_round, wait_for_link};
use vfnic::backend::vfio_user::{UserOptions, connect_handed};
use vfnic::backend::{Handed, OpenOptions, PciAddress, Sysfs, open_handed};
use vfnic::hw::PciFunction;
use vfnic::{PollMode, Poller, Port, PortConfig};
use vfnic_hw::Model;
use vfnic_sim::serve::{CardVf, Limits, Server};

/// Set for the child.
const CHILD: &str = "VFNIC_EXAMPLE_CHILD";
/// What a port with default pools locks, and some more.
const LOCKED: u64 = 64 << 20;

/// Sends descriptors, and what they are.
fn hand_over(to: &UnixStream, what: &str, fds: &[BorrowedFd<'_>]) -> Result {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !rights.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err("more descriptors than there is room for".into());
    }
    sendmsg(
        to,
        &[IoSlice::new(what.as_bytes())],
        &mut rights,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives what [`hand_over`] has sent.
fn take_over(from: impl AsFd) -> Result<(String, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; 64];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let mut slices = [IoSliceMut::new(&mut text)];
    let len = recvmsg(from, &mut slices, &mut rights, flags)?.bytes;
    let mut fds = Vec::new();
    for message in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            fds.extend(more);
        }
    }
    Ok((std::str::from_utf8(&text[..len])?.to_owned(), fds))
}

/// Starts this program again as the child, with one end of a socket for its standard input; gives the other.
fn start_child(arguments: &[&str], user: Option<u32>) -> Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(arguments)
        .env(CHILD, "1")
        .stdin(Stdio::from(OwnedFd::from(theirs)));
    if !arguments.is_empty() {
        // What a test says about itself would be counted twice.
        command.stdout(Stdio::null());
    }
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    Ok((command.spawn()?, ours))
}

/// The child: a port on what it was handed.
fn child() -> Result {
    // The one inherited descriptor that safe code can have.
    let parent = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let (what, fds) = take_over(&parent)?;
    let options = OpenOptions::default();
    let function: Arc<dyn PciFunction> = match (what.split_once(' '), <[OwnedFd; 2]>::try_from(fds))
    {
        (Some(("group", address)), Ok([container, group])) => {
            open_handed(address, Handed::Group { container, group }, &options)?
        }
        (Some(("cdev", address)), Ok([iommufd, device])) => {
            open_handed(address, Handed::Cdev { iommufd, device }, &options)?
        }
        (None, Err(mut fds)) if what == "vfio-user" && fds.len() == 1 => {
            connect_handed(fds.remove(0), &UserOptions::default())?
        }
        (_, fds) => return Err(format!("`{what}` is not what was expected: {fds:?}").into()),
    };
    let port = Port::from_function(function, PortConfig::default())?;
    let mut poller = Poller::new(PollMode::Adaptive)?;
    poller.add(port.start()?.remove(0))?;
    wait_for_link(&port)?;
    port.spawn_control_thread()?;
    println!("child: {} is open, {}", port.name(), port.link());
    let own = port.mac().0;
    (&parent).write_all(&own.0)?;

    let mut batch = port.batch(64);
    let (mut received, mut sent) = (0, 0);
    let echo = what == "vfio-user";
    let end = Instant::now() + Duration::from_secs(if echo { 20 } else { 3 });
    while sent < FRAMES && Instant::now() < end {
        let left = end.saturating_duration_since(Instant::now());
        poller.turn(Some(left), |index, pairs| {
            let pair = &mut pairs[index];
            if batch.is_empty() {
                let count = pair.rx.receive(&mut batch)?;
                received += count;
                if count == 0 {
                    pair.tx.reclaim(&mut batch);
                    return Ok(0);
                }
                batch.each_first_mut(|frame| turn_round(frame, own));
            }
            if !echo {
                batch.clear();
                return Ok(1);
            }
            let count = pair.tx.send(&mut batch)?;
            sent += count;
            Ok(count)
        })?;
    }
    println!("child: {received} frames received, {sent} sent back");
    // Until the parent has seen the last of them: closing the port would take those under way with it.
    let _ = (&parent).read(&mut [0]);
    drop((batch, poller));
    Ok(port.close()?)
}

/// Waits until the child says that its port is up: its address.
fn child_is_up(child: &mut Child, mut socket: &UnixStream) -> Result<[u8; 6]> {
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut address = [0; 6];
    if let Err(error) = socket.read_exact(&mut address) {
        // One that has failed has said why.
        let status = child.wait()?;
        return Err(format!("the child ended ({status}): {error}").into());
    }
    Ok(address)
}

fn ended_well(mut child: Child) -> Result {
    let status = child.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the child failed: {status}").into())
    }
}

/// With a simulated card behind a socket in a folder of its own.
fn simulated(arguments: &[&str]) -> Result {
    let card = Arc::new(card(Model::X540, 2)?);
    let folder = std::env::temp_dir().join(format!("vfnic-handed-{}", std::process::id()));
    let server = Server::start(&folder, CardVf::all(&card), Limits::default())?;
    let connected = UnixStream::connect(folder.join("vf0.sock"))?;

    let (mut child, socket) = start_child(arguments, None)?;
    hand_over(&socket, "vfio-user", &[connected.as_fd()])?;
    // The copy that is left here would keep the server from noticing the child's end.
    drop(connected);
    let address = vfnic::MacAddr(child_is_up(&mut child, &socket)?);
    all_came_back(neighbour(&card, 1, address)?)?;
    drop(socket);
    ended_well(child)?;
    drop(server);
    let _ = std::fs::remove_dir_all(&folder);
    card.assert_no_violations();
    Ok(())
}

/// With a VF of this machine.
fn real(address: &str, user: Option<u32>) -> Result {
    let open = |path: &Path| {
        File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|error| format!("{}: {error}", path.display()))
    };
    let parsed: PciAddress = address.parse()?;
    let sysfs = Sysfs::new("/sys");
    let own = sysfs
        .vfio_device(parsed)
        .filter(|_| Path::new("/dev/iommu").exists());
    let (what, fds) = match own {
        Some(node) => {
            let node = Path::new("/dev/vfio/devices").join(node);
            ("cdev", [open(Path::new("/dev/iommu"))?, open(&node)?])
        }
        None => {
            let group = sysfs.iommu_group(parsed).ok_or("it has no IOMMU group")?;
            let node = Path::new("/dev/vfio").join(group.to_string());
            ("group", [open(Path::new("/dev/vfio/vfio"))?, open(&node)?])
        }
    };
    // An ordinary user may lock 8 MiB; the limit is inherited as well.
    let limit = getrlimit(Resource::Memlock);
    if limit.maximum.is_some_and(|maximum| maximum < LOCKED) {
        let enough = Rlimit {
            current: Some(LOCKED),
            maximum: Some(LOCKED),
        };
        setrlimit(Resource::Memlock, enough)?;
    }
    let (mut child, socket) = start_child(&[], user)?;
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    hand_over(&socket, &format!("{what} {address}"), &borrowed)?;
    drop(fds);
    child_is_up(&mut child, &socket)?;
    socket.shutdown(std::net::Shutdown::Write)?;
    ended_well(child)
}

/// The example; `arguments` are the child's, where it takes some to be this program.
pub(crate) fn run(arguments: &[&str]) -> Result {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    simulated(arguments)
}

#[cfg_attr(test, expect(dead_code, reason = "tests call `run`"))]
pub(crate) fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [address, user @ ..] if std::env::var_os(CHILD).is_none() => {
            real(address, user.first().map(|user| user.parse()).transpose()?)
        }
        _ => run(&[]),
    }
}
