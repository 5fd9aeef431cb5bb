//! An address by DHCP, and what is missing when none is to be had.

use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use smoltcp::socket::dhcpv4;
use smoltcp::wire::{IpCidr, Ipv4Address, Ipv4Cidr};
use vfnic::Port;

use super::{Ping, first};
use crate::apps::packet::Packet;

/// How long the server is asked. TIMEOUT: smoltcp asks again after 10 s, so that two questions fit.
const PATIENCE: Duration = Duration::from_secs(12);
/// Longest sleep without a look at the port.
const TICK: Duration = Duration::from_millis(50);

/// What came in while an answer was waited for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// Frames of any kind.
    frames: u64,
    /// Datagrams from a DHCP server to a client.
    answers: u64,
}

impl Heard {
    fn frame(&mut self, frame: &[u8]) {
        self.frames += 1;
        if Packet::of(frame).ports == Some((67, 68)) {
            self.answers += 1;
        }
    }

    /// Why there is no address, as far as can be told from here.
    fn why(self, sent: u64, counted: u64) -> String {
        let why = if sent > 0 && counted == 0 {
            "the card has sent none of our questions: its PF's spoof check or VLAN does not let this VF send (`ip link show` on the host has both)"
        } else if self.answers > 0 {
            "a server answers and gives no address: its pool may be used up, or it knows this VF's address and refuses it"
        } else if self.frames > 0 {
            "frames come in, but none of a server: there is no DHCP server or relay in this network, or it is in another VLAN; with an address of your own, --address does without"
        } else {
            "nothing comes in at all: is the PF's cable in the right network, and does the PF put this VF into the right VLAN?"
        };
        format!(
            "no DHCP server gave an address within {PATIENCE:?} ({sent} questions, {} frames came in, {} from a server): {why}",
            self.frames, self.answers
        )
    }
}

/// What a server gave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) address: Ipv4Cidr,
    pub(super) router: Option<Ipv4Address>,
    pub(super) server: Ipv4Address,
}

/// Asks for an address and puts the interface into that network.
pub(super) fn lease(ping: &mut Ping, port: &Port) -> anyhow::Result<Lease> {
    let socket = ping.sockets.add(dhcpv4::Socket::new());
    let mut heard = Heard::default();
    let start = Instant::now();
    let mut control = start;
    let lease = loop {
        let now = ping.now();
        let pair = first(&mut ping.poller)?;
        ping.interface
            .poll(now, &mut ping.device.on(pair), &mut ping.sockets);
        let event = ping.sockets.get_mut::<dhcpv4::Socket<'_>>(socket).poll();
        if let Some(dhcpv4::Event::Configured(config)) = event {
            break Lease {
                address: config.address,
                router: config.router,
                server: config.server.address,
            };
        }
        let time = Instant::now();
        let sent = || port.stats().get("tx0_packets").unwrap_or(0);
        if ping.is_stopped() {
            let sent = sent();
            bail!("told to end before a DHCP server gave an address ({sent} questions)");
        }
        if time >= start + PATIENCE {
            let sent = sent();
            if let Err(error) = port.refresh_stats() {
                log::debug!("{error}");
            }
            let counted = port.stats().get("tx_packets").unwrap_or(sent);
            bail!(heard.why(sent, counted));
        }
        if time >= control {
            port.poll_control()?;
            control = time + TICK;
        }
        let mut wait = TICK;
        if let Some(delay) = ping.interface.poll_delay(now, &ping.sockets) {
            wait = wait.min(Duration::from(delay));
        }
        let device = &mut ping.device;
        ping.poller
            .turn(Some(wait), |index, pairs| device.fetch(&mut pairs[index]))?;
        for frame in ping.device.waiting() {
            heard.frame(frame);
        }
    };
    ping.sockets.remove(socket);
    ping.interface.update_ip_addrs(|addresses| {
        addresses.clear();
        // The list is empty and has room for one.
        let _ = addresses.push(IpCidr::Ipv4(lease.address));
    });
    if let Some(router) = lease.router {
        ping.interface
            .routes_mut()
            .add_default_ipv4_route(router)
            .map_err(|error| anyhow!("cannot route through {router}: {error:?}"))?;
    }
    let router = lease.router.map_or_else(
        || "no router".to_owned(),
        |router| format!("router {router}"),
    );
    ping.say(format_args!(
        "{} from the DHCP server {} after {:.1?}, {router}",
        lease.address,
        lease.server,
        start.elapsed()
    ))?;
    Ok(lease)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_from_what_came() {
        let heard = |frames, answers| Heard { frames, answers };
        assert!(heard(0, 0).why(2, 0).contains("spoof check"));
        assert!(heard(0, 0).why(2, 2).contains("nothing comes in"));
        assert!(heard(9, 0).why(2, 2).contains("no DHCP server or relay"));
        assert!(heard(9, 1).why(2, 2).contains("pool"));
    }

    #[test]
    fn an_answer_is_known_by_its_ports() {
        let mut frame = Vec::new();
        etherparse::PacketBuilder::ethernet2([2; 6], [255; 6])
            .ipv4([10, 0, 2, 2], [255; 4], 64)
            .udp(67, 68)
            .write(&mut frame, &[0; 240])
            .expect("memory");
        let mut heard = Heard::default();
        heard.frame(&frame);
        heard.frame(&[0; 60]);
        assert_eq!((heard.frames, heard.answers), (2, 1));
    }
}
