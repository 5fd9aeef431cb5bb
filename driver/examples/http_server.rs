//! A web server on a VF, with an IP stack in the program: smoltcp on a queue pair. The simulated card's wire is a TAP
//! interface, so it is this machine's own network stack that asks. Where no TAP can be had (it takes root or
//! CAP_NET_ADMIN), another VF of the card asks, with a stack of its own.
//!
//! `cargo run -p vfnic --features smoltcp --example http_server`; with `-- --stay` it serves until it is stopped, and
//! `curl http://198.18.53.2/` shows the page.
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "this one needs less of it")]
mod shared;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use shared::{Result, card, wait_for_link};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};
use vfnic::stack::PortDevice;
use vfnic::{PollMode, Poller, Port, PortConfig};
use vfnic_hw::Model;
use vfnic_sim::Card;
use vfnic_sim::uplink::Tap;

/// The server's, in a network that is for tests of network devices (RFC 2544).
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 53, 2);
/// Whoever asks: this machine on the TAP, or the stack on the other VF.
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 53, 1);
const PREFIX: u8 = 24;
const TAP: &str = "vfnic-http";
/// Room for what a connection sends and receives.
const BUFFER: usize = 4096;
const LIMIT: Duration = Duration::from_secs(20);
const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// An IP stack on a port.
struct Stack {
    port: Port,
    poller: Poller,
    device: PortDevice,
    interface: Interface,
    sockets: SocketSet<'static>,
    start: Instant,
    next_look: Instant,
}

impl Stack {
    fn new(port: Port, address: Ipv4Addr) -> Result<Self> {
        let mut poller = Poller::new(PollMode::Adaptive)?;
        poller.add(port.start()?.remove(0))?;
        wait_for_link(&port)?;
        let mut device = PortDevice::new(&port);
        let mac = HardwareAddress::Ethernet(EthernetAddress(port.mac().0.0));
        let mut interface = Interface::new(
            Config::new(mac),
            &mut device.on(&mut poller.queues_mut()[0]),
            StackInstant::ZERO,
        );
        interface.update_ip_addrs(|list| {
            // The list is empty and has room for one.
            let _ = list.push(IpCidr::new(address.into(), PREFIX));
        });
        Ok(Self {
            port,
            poller,
            device,
            interface,
            sockets: SocketSet::new(Vec::new()),
            start: Instant::now(),
            next_look: Instant::now(),
        })
    }

    fn socket(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    /// Lets the stack work, and sleeps for as long as neither it nor the card has anything to do.
    fn turn(&mut self) -> Result {
        let now = StackInstant::from_micros(i64::try_from(self.start.elapsed().as_micros())?);
        let pair = &mut self.poller.queues_mut()[0];
        self.interface
            .poll(now, &mut self.device.on(pair), &mut self.sockets);
        if Instant::now() >= self.next_look {
            let pause = self.port.poll_control()?;
            self.next_look = Instant::now() + pause.min(Duration::from_millis(100));
        }
        let mut wait = self.next_look.saturating_duration_since(Instant::now());
        if let Some(delay) = self.interface.poll_delay(now, &self.sockets) {
            wait = wait.min(delay.into());
        }
        let device = &mut self.device;
        self.poller
            .turn(Some(wait), |index, pairs| device.fetch(&mut pairs[index]))?;
        Ok(())
    }

    fn close(self) -> Result {
        drop((self.device, self.poller));
        Ok(self.port.close()?)
    }
}

/// Connections at a time; one more is refused.
const CONNECTIONS: usize = 4;

/// One of the server's sockets, and what was asked on it so far.
struct Connection {
    handle: SocketHandle,
    asked: Vec<u8>,
}

impl Connection {
    /// Listens, reads, answers: whatever it is time for. True when it answered, with page `number`.
    fn serve(&mut self, sockets: &mut SocketSet<'_>, number: u32) -> Result<bool> {
        let socket = sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        if socket.state() == tcp::State::TimeWait {
            // Both sides have closed. There are too few sockets here to let one wait for late packets.
            socket.abort();
        }
        if !socket.is_open() {
            self.asked.clear();
            socket
                .listen(80)
                .map_err(|error| format!("cannot listen: {error:?}"))?;
        }
        if socket.can_recv() {
            let more = socket.recv(|bytes| (bytes.len(), bytes.to_vec()));
            self.asked
                .extend(more.map_err(|error| format!("cannot receive: {error:?}"))?);
            // Nobody needs so much to ask for the one page there is.
            if self.asked.len() > BUFFER {
                socket.abort();
            }
        }
        if socket.can_send() && self.asked.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            self.asked.clear();
            let page = format!("Page {number} of a VF, from userspace.\n");
            let answer = format!(
                "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{page}",
                page.len()
            );
            socket
                .send_slice(answer.as_bytes())
                .map_err(|error| format!("cannot send: {error:?}"))?;
            socket.close();
            return Ok(true);
        }
        if !socket.may_recv() && socket.may_send() {
            // Whoever asked has hung up in the middle of it.
            socket.close();
        }
        Ok(false)
    }
}

/// Answers requests until `stop` says so.
fn serve(server: &mut Stack, mut stop: impl FnMut() -> bool) -> Result {
    let mut connections: Vec<Connection> = (0..CONNECTIONS)
        .map(|_| Connection {
            handle: server.socket(),
            asked: Vec::new(),
        })
        .collect();
    let mut number = 1;
    while !stop() {
        for connection in &mut connections {
            number += u32::from(connection.serve(&mut server.sockets, number)?);
        }
        server.turn()?;
    }
    Ok(())
}

/// Makes a TAP interface the card's wire, and gives this machine an address on it.
fn plug_in(card: &Card) -> Result {
    let tap = Tap::open(TAP)?;
    let notifier = card.notifier();
    tap.wake_with(move || notifier.notify());
    let address = format!("{CLIENT}/{PREFIX}");
    for arguments in [
        ["address", "replace", &address, "dev", TAP].as_slice(),
        &["link", "set", TAP, "up"],
    ] {
        let output = Command::new("ip").args(arguments).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().into());
        }
    }
    card.set_uplink(Box::new(tap));
    Ok(())
}

/// This machine asks, as any program would.
fn ask_from_here() -> Result<String> {
    let address = SocketAddr::from((SERVER, 80));
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(REQUEST)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A stack on another VF asks.
fn ask_from(port: Port) -> Result<String> {
    let mut client = Stack::new(port, CLIENT)?;
    let handle = client.socket();
    let (interface, sockets) = (&mut client.interface, &mut client.sockets);
    sockets
        .get_mut::<tcp::Socket<'_>>(handle)
        .connect(interface.context(), (SERVER, 80), 49153)
        .map_err(|error| format!("cannot connect: {error:?}"))?;
    let (mut asked, mut answer) = (false, Vec::new());
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        client.turn()?;
        let socket = client.sockets.get_mut::<tcp::Socket<'_>>(handle);
        if !asked && socket.may_send() {
            socket
                .send_slice(REQUEST)
                .map_err(|error| format!("cannot ask: {error:?}"))?;
            asked = true;
        }
        if socket.can_recv() {
            let more = socket.recv(|bytes| (bytes.len(), bytes.to_vec()));
            answer.extend(more.map_err(|error| format!("cannot receive: {error:?}"))?);
        } else if asked && !socket.may_recv() {
            // The server has closed its side: that was all.
            break;
        }
    }
    client.close()?;
    Ok(String::from_utf8(answer)?)
}

pub(crate) fn main() -> Result {
    let card = card(Model::X540, 2)?;
    let port = Port::from_function(card.function(0)?, PortConfig::default())?;
    let mut server = Stack::new(port, SERVER)?;
    let other = Port::from_function(card.function(1)?, PortConfig::default())?;
    let wire = plug_in(&card);
    match &wire {
        Ok(()) => println!("http://{SERVER}/ is there, behind {TAP}"),
        Err(why) => println!("no TAP interface ({why}): another VF asks"),
    }
    if std::env::args().any(|argument| argument == "--stay") {
        wire?;
        return serve(&mut server, || false);
    }
    let asker = std::thread::spawn(move || match wire {
        Ok(()) => (0..9).map(|_| ask_from_here()).collect(),
        Err(_) => ask_from(other).map(|answer| vec![answer]),
    });
    serve(&mut server, || asker.is_finished())?;
    let answers: Vec<String> = asker.join().map_err(|_| "whoever asked panicked")??;
    for (answer, number) in answers.iter().zip(1..) {
        println!("{answer}");
        let page = format!("\r\n\r\nPage {number} of a VF, from userspace.\n");
        if !answer.starts_with("HTTP/1.0 200 OK\r\n") || !answer.ends_with(&page) {
            return Err(format!("that is not the page: {answer:?}").into());
        }
    }
    server.close()?;
    card.assert_no_violations();
    Ok(())
}
