//! The PF's answers and what is asked of it (§6.5-6.8).
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

use vfnic_hw::mailbox::ixgbevf as m;

use super::Ixgbevf;
use crate::family::{ApiVersion, Grant, Handshake, Io, Promisc};
use crate::mailbox::{Mailbox, Reply, Request};
use crate::{Error, MacAddr};

/// Versions worth having, best first, with the numbers they go by (§6.6). Those above 1.3 add IPsec and other
/// hardware's link state, and 1.5 another handshake: nothing for this driver.
const VERSIONS: [(ApiVersion, u32); 4] = [
    (ApiVersion::V1_3, 4),
    (ApiVersion::V1_2, 3),
    (ApiVersion::V1_1, 2),
    (ApiVersion::V1_0, 0),
];

/// Promiscuity as UPDATE_XCAST_MODE numbers it (§6.7).
const fn xcast_mode(mode: Promisc) -> u32 {
    match mode {
        // 0 would be "no multicast list either" (§8.3).
        Promisc::Off => 1,
        Promisc::AllMulticast => 2,
        Promisc::All => 3,
    }
}

impl Ixgbevf {
    pub(in crate::family) async fn handshake(
        self,
        io: Io<'_>,
        mailbox: &mut Mailbox,
    ) -> Result<Handshake, Error> {
        let request = Request::new("RESET", m::RESET, 0, &[], 4);
        let reply = mailbox
            .ask(io.regs, io.ticker, &request)
            .await
            .map_err(|failure| io.failed(failure))?;
        let address = MacAddr::from_words([reply.words[1], reply.words[2]]);
        let filter_type = u8::try_from(reply.words[3] & 3).unwrap_or(0);
        Ok(Handshake {
            // A refusal is how a PF says that nobody assigned an address (§6.7).
            assigned: (reply.word0().is_ack() && address.is_usable()).then_some(address),
            filter_type,
        })
    }

    pub(in crate::family) async fn negotiate(
        self,
        io: Io<'_>,
        mailbox: &mut Mailbox,
    ) -> Result<Grant, Error> {
        let api = self.agree(io, mailbox).await?;
        let mut grant = Grant {
            api: Some(api),
            pairs: 1,
            pairs_why: "the PF's mailbox API is older than 1.1 and cannot tell how many there are",
            port_vlan: false,
        };
        if api < ApiVersion::V1_1 {
            return Ok(grant);
        }
        let request = Request::new("GET_QUEUES", m::GET_QUEUES, 0, &[0; 4], 5);
        let reply = mailbox
            .ask(io.regs, io.ticker, &request)
            .await
            .map_err(|failure| io.failed(failure))?;
        if !reply.word0().is_ack() {
            log::warn!(
                "{}: the PF does not tell how many queues there are; using one",
                io.device
            );
            grant.pairs_why = "the PF did not tell how many there are";
            return Ok(grant);
        }
        // §6.7: nonsense counts as eight.
        let clamp = |count: u32| {
            u16::try_from(count)
                .ok()
                .filter(|count| (1..=8).contains(count))
                .unwrap_or(8)
        };
        grant.pairs = clamp(reply.words[1]).min(clamp(reply.words[2]));
        grant.pairs_why = "what the PF gives to each VF";
        // §8.4: one "traffic class" stands for a port VLAN.
        grant.port_vlan = reply.words[3] != 0;
        if reply.words[3] > 1 && reply.words[3] <= u32::from(grant.pairs) {
            // §11.3: a receive queue a traffic class; frames of the others would not be seen.
            log::warn!(
                "{}: the PF uses {} traffic classes; only frames of the default one are received by a single queue",
                io.device,
                reply.words[3]
            );
        }
        Ok(grant)
    }

    /// Offers the versions one by one; a PF that takes none is one from before there were versions.
    async fn agree(self, io: Io<'_>, mailbox: &mut Mailbox) -> Result<ApiVersion, Error> {
        for (version, number) in VERSIONS {
            let request = Request::new("API_NEGOTIATE", m::API_NEGOTIATE, 0, &[number, 0], 3);
            let reply = mailbox
                .ask(io.regs, io.ticker, &request)
                .await
                .map_err(|failure| io.failed(failure))?;
            if reply.word0().is_ack() {
                return Ok(version);
            }
            log::debug!("{}: the PF does not speak API {version}", io.device);
        }
        log::info!(
            "{}: the PF accepted no API version; carrying on with 1.0",
            io.device
        );
        Ok(ApiVersion::V1_0)
    }

    pub(in crate::family) fn clear_macs(self, own: MacAddr) -> Request {
        Request::new("SET_MACVLAN (clear)", m::SET_MACVLAN, 0, &own.to_words(), 1)
    }

    pub(in crate::family) fn add_mac(self, address: MacAddr) -> Request {
        // §6.7: index 1 clears the list first; the list was cleared already, so every one is a plain add.
        Request::new(
            "SET_MACVLAN (add)",
            m::SET_MACVLAN,
            2,
            &address.to_words(),
            1,
        )
    }

    pub(in crate::family) fn set_promisc(
        self,
        mode: Promisc,
        grant: &Grant,
    ) -> Result<Request, String> {
        let api = grant.api.unwrap_or(ApiVersion::V1_0);
        if api < ApiVersion::V1_2 {
            return Err(format!(
                "the PF speaks mailbox API {api}, it takes 1.2 to change what is received"
            ));
        }
        if mode == Promisc::All {
            if self.is_82599() {
                return Err("an 82599 cannot pass all unicast frames to a VF".to_owned());
            }
            if api < ApiVersion::V1_3 {
                return Err(format!(
                    "the PF speaks mailbox API {api}, it takes 1.3 for unicast promiscuity"
                ));
            }
        }
        Ok(Request::new(
            "UPDATE_XCAST_MODE",
            m::UPDATE_XCAST_MODE,
            0,
            &[xcast_mode(mode)],
            2,
        ))
    }

    /// QUIRK: the PF remembers the mode over resets of its own that clear the registers, and an unchanged mode writes
    /// none (§17.34). So "none" goes before the mode that is wanted.
    pub(in crate::family) fn forget_promisc(self, grant: &Grant) -> Option<Request> {
        (grant.api >= Some(ApiVersion::V1_2))
            .then(|| Request::new("UPDATE_XCAST_MODE", m::UPDATE_XCAST_MODE, 0, &[0], 2))
    }

    pub(in crate::family) fn promisc_granted(self, mode: Promisc, reply: &Reply) -> bool {
        // §6.8: what an untrusted VF may not have is cut down silently, with an acknowledgement; only word 1 tells.
        reply.word0().is_ack() && reply.words[1] >= xcast_mode(mode)
    }

    pub(in crate::family) fn link_state(self, grant: &Grant) -> Option<Request> {
        (grant.api >= Some(ApiVersion::V1_2))
            .then(|| Request::new("GET_LINK_STATE", m::GET_LINK_STATE, 0, &[0], 2))
    }
}
