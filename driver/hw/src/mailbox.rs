//! Message numbers of the VF-PF mailbox (ixgbevf.md §6.7, igbvf.md §6.1).
//!
//! Numbers only: how a body is laid out is written in the driver and again in the simulator.

/// Words in the mailbox memory.
pub const WORDS: usize = 16;

/// Messages an ixgbevf sends.
pub mod ixgbevf {
    /// Reset handshake.
    pub const RESET: u16 = 0x01;
    /// Set the primary MAC address.
    pub const SET_MAC_ADDR: u16 = 0x02;
    /// Set the multicast hash list.
    pub const SET_MULTICAST: u16 = 0x03;
    /// Add or remove a VLAN.
    pub const SET_VLAN: u16 = 0x04;
    /// Set the largest frame.
    pub const SET_LPE: u16 = 0x05;
    /// Add or clear further unicast addresses.
    pub const SET_MACVLAN: u16 = 0x06;
    /// Negotiate the API version.
    pub const API_NEGOTIATE: u16 = 0x08;
    /// Ask for the queue counts (API 1.1).
    pub const GET_QUEUES: u16 = 0x09;
    /// Ask for the shared redirection table (API 1.2, 82599 and X540).
    pub const GET_RETA: u16 = 0x0A;
    /// Ask for the shared RSS key (API 1.2, 82599 and X540).
    pub const GET_RSS_KEY: u16 = 0x0B;
    /// Set the promiscuity (API 1.2).
    pub const UPDATE_XCAST_MODE: u16 = 0x0C;
    /// Add an IPsec SA (API 1.4).
    pub const IPSEC_ADD: u16 = 0x0D;
    /// Remove an IPsec SA (API 1.4).
    pub const IPSEC_DEL: u16 = 0x0E;
    /// Ask for the administrative link state (API 1.2).
    pub const GET_LINK_STATE: u16 = 0x10;
    /// Ask for the PF's link (API 1.6, E610).
    pub const GET_PF_LINK_STATE: u16 = 0x11;
    /// Negotiate features (API 1.7).
    pub const FEATURES_NEGOTIATE: u16 = 0x12;
    /// PF to VF: ping.
    pub const PF_CONTROL: u16 = 0x0100;
}

/// Messages an igbvf sends.
pub mod igbvf {
    /// Reset handshake.
    pub const RESET: u16 = 0x01;
    /// Set the primary MAC address, or with an info field edit the extra ones.
    pub const SET_MAC_ADDR: u16 = 0x02;
    /// Set the multicast hash list.
    pub const SET_MULTICAST: u16 = 0x03;
    /// Add or remove a VLAN.
    pub const SET_VLAN: u16 = 0x04;
    /// Set the largest frame.
    pub const SET_LPE: u16 = 0x05;
    /// Set the promiscuity.
    pub const SET_PROMISC: u16 = 0x06;
    /// PF to VF: ping.
    pub const PF_CONTROL: u16 = 0x0100;
}
