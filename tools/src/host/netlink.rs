//! The kernel's own answer about a PF's VFs: rtnetlink, asked and awaited without a runtime.
//!
//! Attributes are those of `linux/if_link.h` (`IFLA_VFINFO_LIST`), built and read by `netlink-packet-route`.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkMessage, LinkVfInfo, VfInfo, VfInfoLinkState, VfInfoMac,
    VfInfoRate, VfInfoRssQueryEn, VfInfoSpoofCheck, VfInfoTrust, VfInfoVlan, VfLinkState, VfVlan,
    VfVlanInfo, VlanProtocol,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recv, sendto,
    socket_with,
};
use vfnic::MacAddr;

use super::links::{LinkState, Links, Setting, VfSettings, vlan_protocol};

/// TIMEOUT: the kernel answers from within the system call that asks; this is for a driver that waits for its firmware.
const PATIENCE: Duration = Duration::from_secs(5);

/// A PF with 64 VFs says about 16 KiB; the kernel never sends a message above 32 KiB unless asked with more room.
const ROOM: usize = 256 << 10;

/// The kernel of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Kernel;

impl Links for Kernel {
    fn read(&self, interface: &str) -> io::Result<BTreeMap<u16, VfSettings>> {
        let mut link = named(interface);
        link.attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::Vf]));
        match ask(RouteNetlinkMessage::GetLink(link), 0)? {
            Some(RouteNetlinkMessage::NewLink(link)) => Ok(settings(&link)),
            _ => Err(io::Error::other("the kernel answered something else")),
        }
    }

    fn set(&self, interface: &str, vf: u16, setting: &Setting) -> io::Result<()> {
        let mut link = named(interface);
        link.attributes.push(request(vf, setting));
        ask(RouteNetlinkMessage::SetLink(link), NLM_F_ACK).map(|_| ())
    }
}

fn named(interface: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes
        .push(LinkAttribute::IfName(interface.to_owned()));
    link
}

/// The attribute that asks for a setting.
fn request(vf: u16, setting: &Setting) -> LinkAttribute {
    let vf = u32::from(vf);
    let info = match setting {
        Setting::Mac(MacAddr(mac)) => VfInfo::Mac(VfInfoMac::new(vf, mac)),
        Setting::Vlan { id, qos, ad: false } => {
            VfInfo::Vlan(VfInfoVlan::new(vf, (*id).into(), (*qos).into()))
        }
        Setting::Vlan { id, qos, ad: true } => VfInfo::VlanList(vec![VfVlan::Info(
            VfVlanInfo::new(vf, (*id).into(), (*qos).into(), VlanProtocol::Ieee8021Ad),
        )]),
        Setting::SpoofCheck(on) => VfInfo::SpoofCheck(VfInfoSpoofCheck::new(vf, *on)),
        Setting::Trust(on) => VfInfo::Trust(VfInfoTrust::new(vf, *on)),
        Setting::State(state) => {
            let state = match state {
                LinkState::Auto => VfLinkState::Auto,
                LinkState::Enable => VfLinkState::Enable,
                LinkState::Disable => VfLinkState::Disable,
            };
            VfInfo::LinkState(VfInfoLinkState::new(vf, state))
        }
        Setting::QueryRss(on) => VfInfo::RssQueryEn(VfInfoRssQueryEn::new(vf, *on)),
        Setting::Rate(least, most) => VfInfo::Rate(VfInfoRate::new(vf, *least, *most)),
    };
    LinkAttribute::VfInfoList(vec![LinkVfInfo(vec![info])])
}

fn settings(link: &LinkMessage) -> BTreeMap<u16, VfSettings> {
    let mut vfs = BTreeMap::new();
    for attribute in &link.attributes {
        let LinkAttribute::VfInfoList(list) = attribute else {
            continue;
        };
        for LinkVfInfo(infos) in list {
            let mut vf = None;
            let mut settings = VfSettings::default();
            for info in infos {
                vf = of_one(info, &mut settings).or(vf);
            }
            if let Some(number) = vf.and_then(|vf| u16::try_from(vf).ok()) {
                vfs.insert(number, settings);
            }
        }
    }
    vfs
}

/// Notes what `info` says, and gives the VF it is about.
fn of_one(info: &VfInfo, settings: &mut VfSettings) -> Option<u32> {
    match info {
        VfInfo::Mac(info) => {
            let mac: [u8; 6] = info.mac[..6].try_into().ok()?;
            settings.mac = Some(MacAddr(mac).to_string());
            Some(info.vf_id)
        }
        VfInfo::Vlan(info) => {
            settings.vlan = Some(info.vlan_id);
            settings.qos = Some(info.qos);
            Some(info.vf_id)
        }
        // The same again, with the protocol: the kernel has one entry in it.
        VfInfo::VlanList(list) => list.iter().find_map(|vlan| match vlan {
            VfVlan::Info(info) => {
                settings.vlan = Some(info.vlan_id);
                settings.qos = Some(info.qos);
                settings.vlan_proto = match info.protocol {
                    VlanProtocol::Ieee8021Ad => Some(vlan_protocol(true).to_owned()),
                    VlanProtocol::Ieee8021Q => Some(vlan_protocol(false).to_owned()),
                    _ => None,
                };
                Some(info.vf_id)
            }
            _ => None,
        }),
        VfInfo::Rate(info) => {
            settings.min_tx_rate = Some(info.min_tx_rate);
            settings.max_tx_rate = Some(info.max_tx_rate);
            Some(info.vf_id)
        }
        VfInfo::SpoofCheck(info) => {
            settings.spoofchk = Some(info.enabled);
            Some(info.vf_id)
        }
        VfInfo::LinkState(info) => {
            settings.state = Some(match info.state {
                VfLinkState::Auto => "auto".to_owned(),
                VfLinkState::Enable => "enable".to_owned(),
                VfLinkState::Disable => "disable".to_owned(),
                other => format!("{other:?}"),
            });
            Some(info.vf_id)
        }
        VfInfo::RssQueryEn(info) => {
            settings.query_rss = Some(info.enabled);
            Some(info.vf_id)
        }
        VfInfo::Trust(info) => {
            settings.trust = Some(info.enabled);
            Some(info.vf_id)
        }
        _ => None,
    }
}

/// Sends one request and gives the answer; `None` for a bare acknowledgement.
fn ask(message: RouteNetlinkMessage, flags: u16) -> io::Result<Option<RouteNetlinkMessage>> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    bind(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
    let mut packet = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
    packet.header.flags = NLM_F_REQUEST | flags;
    packet.header.sequence_number = 1;
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    sendto(
        &socket,
        &bytes,
        SendFlags::empty(),
        &netlink::SocketAddrNetlink::new(0, 0),
    )?;
    answer(&socket)
}

fn answer(socket: &OwnedFd) -> io::Result<Option<RouteNetlinkMessage>> {
    let mut room = vec![0; ROOM];
    loop {
        let patience = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
        if poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&patience))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (length, _) = recv(socket, &mut room[..], RecvFlags::empty())?;
        let bytes = room.get(..length).unwrap_or_default();
        let packet = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        // Nobody else writes to this socket but the kernel, and it may notify.
        if packet.header.sequence_number != 1 {
            continue;
        }
        return match packet.payload {
            NetlinkPayload::Error(error) if error.code.is_none() => Ok(None),
            NetlinkPayload::Error(error) => Err(error.to_io()),
            NetlinkPayload::InnerMessage(message) => Ok(Some(message)),
            _ => Err(io::Error::other("the kernel answered something else")),
        };
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;

    use super::*;

    fn bytes(setting: &Setting) -> Vec<u8> {
        let attribute = request(3, setting);
        let mut bytes = vec![0; attribute.buffer_len()];
        attribute.emit(&mut bytes);
        bytes
    }

    /// From linux/if_link.h: IFLA_VFINFO_LIST 22 and IFLA_VF_INFO 1 around the attribute of the knob; structures begin with
    /// the VF's number.
    #[test]
    fn settings_are_written_as_the_kernel_reads_them() {
        let head = |inner: u8, kind: u8, most: &[u8]| {
            let mut all = vec![inner + 8, 0, 22, 0, inner + 4, 0, 1, 0, inner, 0, kind, 0];
            all.extend_from_slice(&[3, 0, 0, 0]);
            all.extend_from_slice(most);
            all
        };
        assert_eq!(
            bytes(&Setting::Trust(true)),
            head(12, 9, &[1, 0, 0, 0]),
            "trust"
        );
        assert_eq!(
            bytes(&Setting::SpoofCheck(false)),
            head(12, 4, &[0, 0, 0, 0])
        );
        assert_eq!(
            bytes(&Setting::State(LinkState::Disable)),
            head(12, 5, &[2, 0, 0, 0])
        );
        assert_eq!(
            bytes(&Setting::Vlan {
                id: 100,
                qos: 5,
                ad: false
            }),
            head(16, 2, &[100, 0, 0, 0, 5, 0, 0, 0])
        );
        assert_eq!(
            bytes(&Setting::Rate(0, 1000)),
            head(16, 6, &[0, 0, 0, 0, 0xe8, 3, 0, 0])
        );
        let mac = bytes(&Setting::Mac(MacAddr([2, 0, 0, 0, 0, 7])));
        assert_eq!(mac[..22], head(40, 1, &[2, 0, 0, 0, 0, 7])[..]);
        assert_eq!(mac.len(), 48, "the kernel wants all 32 bytes of room");
    }

    #[test]
    fn what_is_asked_for_is_what_is_read_back() {
        let every = [
            Setting::Mac(MacAddr([2, 0, 0, 0, 0, 7])),
            Setting::SpoofCheck(true),
            Setting::Trust(false),
            Setting::State(LinkState::Enable),
            Setting::QueryRss(true),
            Setting::Rate(0, 500),
            Setting::Vlan {
                id: 7,
                qos: 1,
                ad: false,
            },
            Setting::Vlan {
                id: 4094,
                qos: 7,
                ad: true,
            },
        ];
        for setting in every {
            let mut link = LinkMessage::default();
            link.attributes.push(request(5, &setting));
            let read = settings(&link);
            assert!(setting.holds_in(&read[&5]), "{setting}: {read:?}");
        }
    }

    #[test]
    fn the_kernel_of_this_machine_answers() {
        // The loopback interface is in every namespace, and has no VFs.
        assert_eq!(Kernel.read("lo").expect("an answer"), BTreeMap::new());
        let error = Kernel.read("no-such-iface").expect_err("nothing there");
        assert_eq!(
            error.raw_os_error(),
            Some(rustix::io::Errno::NODEV.raw_os_error())
        );
    }
}
