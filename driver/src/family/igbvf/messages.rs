//! The PF's answers and what is asked of it (§6).
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

use vfnic_hw::mailbox::igbvf as m;

use super::Igbvf;
use crate::family::{Grant, Handshake, Io, Promisc};
use crate::mailbox::{Mailbox, Reply, Request};
use crate::{Error, MacAddr};

impl Igbvf {
    pub(in crate::family) async fn handshake(
        self,
        io: Io<'_>,
        mailbox: &mut Mailbox,
    ) -> Result<Handshake, Error> {
        let request = Request::new("RESET", m::RESET, 0, &[], 3);
        let reply = mailbox
            .ask(io.regs, io.ticker, &request)
            .await
            .map_err(|failure| io.failed(failure))?;
        let address = MacAddr::from_words([reply.words[1], reply.words[2]]);
        Ok(Handshake {
            // A refusal is how a PF says that nobody assigned an address (§15.6).
            assigned: (reply.word0().is_ack() && address.is_usable()).then_some(address),
            filter_type: 0,
        })
    }

    pub(in crate::family) async fn negotiate(
        self,
        io: Io<'_>,
        mailbox: &mut Mailbox,
    ) -> Result<Grant, Error> {
        // There is no API to agree on. What can be learnt is whether the administrator set a port VLAN: VLAN 0 always
        // has a filter slot, so only that makes the PF refuse it (§6.3). It also turns tag stripping off, where it
        // starts.
        let request = Request::new("SET_VLAN (add)", m::SET_VLAN, 1, &[0], 1);
        let reply = mailbox
            .ask(io.regs, io.ticker, &request)
            .await
            .map_err(|failure| io.failed(failure))?;
        Ok(Grant {
            api: None,
            pairs: 1,
            pairs_why: if self.is_i350() {
                "an I350 VF has no more"
            } else {
                "PF drivers never let an 82576 VF's second queue receive"
            },
            port_vlan: reply.word0().is_nack(),
        })
    }

    pub(in crate::family) fn clear_macs(self, own: MacAddr) -> Request {
        // §15.9: newer PFs refuse this without a valid address, although it plays no part.
        Request::new(
            "SET_MAC_ADDR (clear others)",
            m::SET_MAC_ADDR,
            1,
            &own.to_words(),
            1,
        )
    }

    pub(in crate::family) fn add_mac(self, address: MacAddr) -> Request {
        Request::new(
            "SET_MAC_ADDR (add other)",
            m::SET_MAC_ADDR,
            2,
            &address.to_words(),
            1,
        )
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "the other family has reasons to say no"
    )]
    pub(in crate::family) fn set_promisc(
        self,
        mode: Promisc,
        _: &Grant,
    ) -> Result<Request, String> {
        const UNICAST: u8 = 1;
        const MULTICAST: u8 = 2;
        let info = match mode {
            Promisc::Off => 0,
            Promisc::AllMulticast => MULTICAST,
            Promisc::All => MULTICAST | UNICAST,
        };
        Ok(Request::new("SET_PROMISC", m::SET_PROMISC, info, &[], 1))
    }

    pub(in crate::family) fn promisc_granted(self, _: Promisc, reply: &Reply) -> bool {
        reply.word0().is_ack()
    }
}
