//! `vfnic ping`: ICMP echo with an IP stack of our own on a VF.

mod dhcp;

use std::fmt;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args as ClapArgs;
use serde::Serialize;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::icmp;
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, Icmpv4Packet, Icmpv4Repr, IpCidr, Ipv4Cidr};
use vfnic::{Poller, Port, PortConfig, QueuePair};

use super::probe::wait_for_link;
use crate::apps::Stop;
use crate::args::{OneVf, Waiting, duration};
use crate::cli::Outcome;
use crate::confine::{self, Keep};
use crate::output::{self, nanoseconds};
use crate::stack::PortDevice;

/// Sends ICMP echo requests from a VF and prints round-trip times
///
/// ARP and IP are done here (by smoltcp), so nothing on this machine needs an address.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    vf: OneVf,
    /// Whom to ask; with --dhcp the router, or the server, unless given
    #[arg(value_name = "IP", required_unless_present = "dhcp")]
    target: Option<Ipv4Addr>,
    /// Have a DHCP server give the address and the router; says what is missing when none answers
    #[arg(long, conflicts_with_all = ["address", "gateway"])]
    dhcp: bool,
    /// Our own address and the length of its network's prefix
    #[arg(long, value_name = "A/PREFIX", default_value = "10.0.2.15/24", value_parser = cidr)]
    address: Ipv4Cidr,
    /// Router for other networks
    #[arg(long, value_name = "IP")]
    gateway: Option<Ipv4Addr>,
    /// Requests to send
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Time between two requests
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = duration)]
    interval: Duration,
    /// How long to wait for an answer, in seconds
    #[arg(long, value_name = "S", default_value = "5", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    waiting: Waiting,
}

const EXAMPLES: &str = "\
Examples:
  vfnic ping --device 0000:31:10.1 --address 192.0.2.9/24 192.0.2.1
  vfnic ping --device 0000:31:10.1 --address 192.0.2.9/24 --gateway 192.0.2.1 198.51.100.7 --count 3
  vfnic ping --device 0000:31:10.1 --dhcp

A first Ctrl-C, or SIGTERM, ends it with the sum.

Exit status 0 when at least one request was answered.";

/// Bytes of a request behind the ICMP header.
const PAYLOAD: usize = 56;
/// Longest sleep without a look at the port.
const CONTROL: Duration = Duration::from_millis(50);

fn cidr(text: &str) -> Result<Ipv4Cidr, String> {
    let wrong =
        || format!("`{text}` is not an IPv4 address and prefix length, such as 192.0.2.9/24");
    let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
    match prefix.parse() {
        Ok(prefix @ 1..=32) => Ok(Ipv4Cidr::new(address, prefix)),
        _ => Err(wrong()),
    }
}

/// Runs it.
///
/// # Errors
///
/// When the device cannot be opened or nobody answers.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let plan = args.target.map(|target| Net {
        target,
        address: args.address,
        gateway: args.gateway,
    });
    if let Some(net) = plan.filter(|net| !args.dhcp && !net.is_reachable()) {
        bail!(
            "{} is not in the network of {}; name a --gateway, or another --address",
            net.target,
            net.address
        );
    }
    let port = args.vf.device.open(PortConfig::default())?;
    let pairs = port.start()?;
    if !wait_for_link(&port, Duration::from_secs(5))? {
        bail!(
            "{}: no link after 5 s; is the PF's interface up and its cable in?",
            port.name()
        );
    }
    let mut ping = Ping::new(&args, &port, pairs)?;
    confine::enter(Keep::Nothing);
    let result = ping
        .settle(&args, &port, plan)
        .and_then(|()| ping.run(&args, &port));
    let (summary, net) = (ping.summary.clone(), ping.net);
    let stopped = ping.is_stopped();
    drop(ping);
    port.close()?;
    result?;
    if args.vf.json {
        output::json(&summary)?;
    } else {
        output::line(&summary)?;
    }
    match summary.answered {
        0 if stopped => Ok(Outcome::Bad),
        0 => bail!("{}", summary.why(&net, args.timeout)),
        _ => Ok(Outcome::Good),
    }
}

/// Whom to ask, and from where.
#[derive(Clone, Copy, Debug)]
struct Net {
    target: Ipv4Addr,
    address: Ipv4Cidr,
    gateway: Option<Ipv4Addr>,
}

impl Net {
    fn is_reachable(&self) -> bool {
        self.gateway.is_some() || self.address.contains_addr(&self.target)
    }

    /// Whose ARP answer shows that frames pass.
    fn hop(&self) -> Ipv4Addr {
        self.gateway
            .filter(|_| !self.address.contains_addr(&self.target))
            .unwrap_or(self.target)
    }
}

/// The stack and what it runs on.
struct Ping {
    poller: Poller,
    device: PortDevice,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    start: Instant,
    ident: u16,
    net: Net,
    summary: Summary,
    quiet: bool,
    stop: Stop,
}

impl Ping {
    fn new(args: &Args, port: &Port, pairs: Vec<QueuePair>) -> anyhow::Result<Self> {
        let mut poller = Poller::new(args.waiting.mode.into())?;
        for pair in pairs {
            poller.add(pair)?;
        }
        let mut device = PortDevice::new(port);
        let mac = EthernetAddress(port.mac().0.0);
        let start = Instant::now();
        let interface = {
            let config = Config::new(HardwareAddress::Ethernet(mac));
            let pair = first(&mut poller)?;
            Interface::new(config, &mut device.on(pair), StackInstant::ZERO)
        };
        let buffer =
            || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 8], vec![0; 8 * 2048]);
        let mut socket = icmp::Socket::new(buffer(), buffer());
        let [low, high, ..] = std::process::id().to_le_bytes();
        let ident = u16::from_le_bytes([low, high]);
        socket
            .bind(icmp::Endpoint::Ident(ident))
            .map_err(|error| anyhow::anyhow!("cannot bind an ICMP socket: {error:?}"))?;
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(socket);
        Ok(Self {
            poller,
            device,
            interface,
            sockets,
            socket,
            start,
            ident,
            // Until it is known.
            net: Net {
                target: Ipv4Addr::UNSPECIFIED,
                address: args.address,
                gateway: args.gateway,
            },
            summary: Summary::default(),
            quiet: args.vf.json,
            stop: Stop::new(None)?,
        })
    }

    /// Gets the addresses that requests are sent from and to.
    fn settle(&mut self, args: &Args, port: &Port, plan: Option<Net>) -> anyhow::Result<()> {
        if args.dhcp {
            let lease = dhcp::lease(self, port)?;
            self.net = Net {
                target: args.target.or(lease.router).unwrap_or(lease.server),
                address: lease.address,
                gateway: lease.router,
            };
            if !self.net.is_reachable() {
                bail!(
                    "{} is not in the network of {}, and the server named no router",
                    self.net.target,
                    lease.address
                );
            }
            return Ok(());
        }
        // The command line has a target whenever it has no --dhcp.
        self.net = plan.unwrap_or(self.net);
        self.interface.update_ip_addrs(|addresses| {
            // The list is empty and has room for one.
            let _ = addresses.push(IpCidr::Ipv4(self.net.address));
        });
        if let Some(gateway) = self.net.gateway {
            self.interface
                .routes_mut()
                .add_default_ipv4_route(gateway)
                .map_err(|error| anyhow::anyhow!("cannot route through {gateway}: {error:?}"))?;
        }
        Ok(())
    }

    fn run(&mut self, args: &Args, port: &Port) -> anyhow::Result<()> {
        self.summary.address = self.net.address.to_string();
        self.summary.target = self.net.target.to_string();
        self.summary.gateway = self.net.gateway;
        for number in 1..=args.count {
            let [.., low, high] = number.to_be_bytes();
            let sequence = u16::from_be_bytes([low, high]);
            let left = self.request(sequence)?;
            let answer = self.await_answer(port, sequence, left + args.timeout)?;
            match answer {
                None if self.is_stopped() => return Ok(()),
                Some(round_trip) => {
                    self.summary.answer(round_trip);
                    self.say(format_args!(
                        "{}: sequence {sequence}, {}",
                        self.net.target,
                        nanoseconds(round_trip)
                    ))?;
                }
                None => self.say(format_args!(
                    "{}: sequence {sequence}, no answer within {:?}",
                    self.net.target, args.timeout
                ))?,
            }
            if number < args.count {
                self.serve(port, left + args.interval, |_| false)?;
            }
            if self.is_stopped() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether a signal has told it to end.
    fn is_stopped(&self) -> bool {
        self.stop.due().is_some()
    }

    /// A line on how it goes, where there is not to be one object only.
    fn say(&self, line: fmt::Arguments<'_>) -> anyhow::Result<()> {
        if self.quiet {
            return Ok(());
        }
        output::line(line)
    }

    /// Queues a request. Returns when.
    fn request(&mut self, sequence: u16) -> anyhow::Result<Instant> {
        let target = self.net.target;
        let data = [0x56; PAYLOAD];
        let request = Icmpv4Repr::EchoRequest {
            ident: self.ident,
            seq_no: sequence,
            data: &data,
        };
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(self.socket);
        let room = socket
            .send(request.buffer_len(), target.into())
            .map_err(|error| anyhow::anyhow!("cannot send to {target}: {error:?}"))?;
        request.emit(
            &mut Icmpv4Packet::new_unchecked(room),
            &ChecksumCapabilities::default(),
        );
        self.summary.sent += 1;
        Ok(Instant::now())
    }

    /// Serves the stack until request `sequence` is answered; the round trip in nanoseconds, if it was.
    fn await_answer(
        &mut self,
        port: &Port,
        sequence: u16,
        until: Instant,
    ) -> anyhow::Result<Option<u64>> {
        let begun = Instant::now();
        let ident = self.ident;
        let answered = self.serve(port, until, |bytes| {
            let packet = Icmpv4Packet::new_checked(bytes).ok();
            let repr = packet
                .and_then(|packet| Icmpv4Repr::parse(&packet, &ChecksumCapabilities::default()).ok());
            matches!(repr, Some(Icmpv4Repr::EchoReply { ident: i, seq_no, .. }) if i == ident && seq_no == sequence)
        })?;
        let round_trip = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Ok(answered.then_some(round_trip))
    }

    /// Serves the stack until `until`, or a signal, or until a received ICMP packet is what `wanted` says. True in the last
    /// case.
    fn serve(
        &mut self,
        port: &Port,
        until: Instant,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> anyhow::Result<bool> {
        let mut control = Instant::now();
        loop {
            let now = self.now();
            let pair = first(&mut self.poller)?;
            self.interface
                .poll(now, &mut self.device.on(pair), &mut self.sockets);
            let socket = self.sockets.get_mut::<icmp::Socket<'_>>(self.socket);
            while let Ok((bytes, _)) = socket.recv() {
                if wanted(bytes) {
                    return Ok(true);
                }
            }
            let time = Instant::now();
            if time >= until || self.is_stopped() {
                return Ok(false);
            }
            if time >= control {
                port.poll_control()?;
                control = time + CONTROL;
            }
            let mut deadline = until.min(control);
            if let Some(delay) = self.interface.poll_delay(now, &self.sockets) {
                deadline = deadline.min(time + Duration::from(delay));
            }
            let device = &mut self.device;
            let wait = deadline.saturating_duration_since(time);
            self.poller
                .turn(Some(wait), |index, pairs| device.fetch(&mut pairs[index]))?;
            self.summary.seen |= self
                .device
                .waiting()
                .any(|frame| tells_mac_of(frame, self.net.hop()));
        }
    }

    fn now(&self) -> StackInstant {
        let micros = self.start.elapsed().as_micros();
        StackInstant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

fn first(poller: &mut Poller) -> anyhow::Result<&mut QueuePair> {
    poller
        .queues_mut()
        .first_mut()
        .ok_or_else(|| anyhow::anyhow!("the port gave no queue"))
}

/// Whether `frame` is an ARP packet in which `address` tells its MAC address.
fn tells_mac_of(frame: &[u8], address: Ipv4Addr) -> bool {
    frame.get(12..14) == Some(&[0x08, 0x06]) && frame.get(28..32) == Some(&address.octets())
}

/// What became of the requests.
#[derive(Clone, Debug, Default, Serialize)]
struct Summary {
    address: String,
    target: String,
    gateway: Option<Ipv4Addr>,
    sent: u32,
    answered: u32,
    /// Round trips in nanoseconds.
    #[serde(rename = "min_ns")]
    shortest: u64,
    #[serde(rename = "max_ns")]
    longest: u64,
    mean_ns: u64,
    #[serde(skip)]
    total: u64,
    /// The target, or the gateway, told its MAC address.
    #[serde(rename = "arp_answered")]
    seen: bool,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sent, {} answered", self.sent, self.answered)?;
        if self.answered > 0 {
            write!(
                f,
                "; round trip min {}, mean {}, max {}",
                nanoseconds(self.shortest),
                nanoseconds(self.mean_ns),
                nanoseconds(self.longest)
            )?;
        }
        Ok(())
    }
}

impl Summary {
    fn answer(&mut self, round_trip: u64) {
        self.shortest = if self.answered == 0 {
            round_trip
        } else {
            self.shortest.min(round_trip)
        };
        self.longest = self.longest.max(round_trip);
        self.total += round_trip;
        self.answered += 1;
        self.mean_ns = self.total / u64::from(self.answered);
    }

    fn why(&self, net: &Net, timeout: Duration) -> String {
        let (target, hop) = (net.target, net.hop());
        let what = if hop == target { "it" } else { "the gateway" };
        if self.seen {
            format!(
                "{target} did not answer within {timeout:?}; {what} answers ARP, so it is there: is ICMP filtered?"
            )
        } else {
            format!(
                "{target} did not answer within {timeout:?}, and nobody answered ARP for {hop}: wrong address or VLAN, or frames do not pass (spoof check, link)"
            )
        }
    }
}
