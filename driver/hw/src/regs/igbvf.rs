//! Registers of the 82576 and I350 VFs (igbvf.md §2).

use super::registers;

registers! {
    /// VF control: software reset (§3.1).
    VTCTRL @ 0x0000 Rw;
    /// Image of the PF's STATUS: link and speed; reading it flushes posted writes (§3.2).
    VTSTATUS @ 0x0008 Ro;
    /// Mailbox memory, shared with the PF (§5).
    VMBMEM[16; 4] @ 0x0800 Rw;
    /// Mailbox control (§5.1).
    V2PMAILBOX @ 0x0C40 Rc;
    /// MSI-X pending-bit clear.
    PBACL @ 0x0F04 W1c;
    /// Header-split types (§3.3).
    PSRTYPE @ 0x0F0C Rw;
    /// Good packets received (§11).
    VFGPRC @ 0x0F10 Ro;
    /// Good packets transmitted.
    VFGPTC @ 0x0F14 Ro;
    /// Good octets received.
    VFGORC @ 0x0F18 Ro;
    /// Good octets transmitted.
    VFGOTC @ 0x0F34 Ro;
    /// Multicast packets received.
    VFMPRC @ 0x0F3C Ro;
    /// Good packets received by loopback.
    VFGPRLBC @ 0x0F40 Ro;
    /// Good packets transmitted by loopback.
    VFGPTLBC @ 0x0F44 Ro;
    /// Good octets received by loopback.
    VFGORLBC @ 0x0F48 Ro;
    /// Good octets transmitted by loopback.
    VFGOTLBC @ 0x0F50 Ro;
    /// Free-running timer.
    VTFRTIMER @ 0x1048 Ro;
    /// Interrupt cause set (§10).
    VTEICS @ 0x1520 Wo;
    /// Interrupt mask set, and read.
    VTEIMS @ 0x1524 W1s;
    /// Interrupt mask clear.
    VTEIMC @ 0x1528 Wo;
    /// Auto-clear of causes when their message goes out.
    VTEIAC @ 0x152C Rw;
    /// Auto-mask of vectors when their message goes out.
    VTEIAM @ 0x1530 Rw;
    /// Interrupt cause.
    VTEICR @ 0x1580 RcW1c;
    /// Interrupt throttling.
    VTEITR[3; 4] @ 0x1680 Rw;
    /// Queue to vector map.
    VTIVAR @ 0x1700 Rw;
    /// Mailbox cause to vector map.
    VTIVAR_MISC @ 0x1740 Rw;
    /// RX packet-buffer wrap counter.
    PBRWAC @ 0x24E8 Ro;
    /// RX ring base, low half (§3.3).
    RDBAL[2; 0x100] @ 0x2800 Rw;
    /// RX ring base, high half.
    RDBAH[2; 0x100] @ 0x2804 Rw;
    /// RX ring length in bytes.
    RDLEN[2; 0x100] @ 0x2808 Rw;
    /// RX buffer sizes and descriptor type.
    SRRCTL[2; 0x100] @ 0x280C Rw;
    /// RX head.
    RDH[2; 0x100] @ 0x2810 Rw;
    /// RX DCA and PCIe ordering attributes.
    RXCTL[2; 0x100] @ 0x2814 Rw;
    /// RX tail.
    RDT[2; 0x100] @ 0x2818 Rw;
    /// RX queue control.
    RXDCTL[2; 0x100] @ 0x2828 Rw;
    /// Packets dropped for lack of descriptors.
    RQDPC[2; 0x100] @ 0x2830 Rc;
    /// TX packet-buffer wrap counter.
    PBTWAC @ 0x34E8 Ro;
    /// TX ring base, low half (§3.4).
    TDBAL[2; 0x100] @ 0x3800 Rw;
    /// TX ring base, high half.
    TDBAH[2; 0x100] @ 0x3804 Rw;
    /// TX ring length in bytes.
    TDLEN[2; 0x100] @ 0x3808 Rw;
    /// TX head.
    TDH[2; 0x100] @ 0x3810 Rw;
    /// TX DCA and PCIe ordering attributes.
    TXCTL[2; 0x100] @ 0x3814 Rw;
    /// TX tail.
    TDT[2; 0x100] @ 0x3818 Rw;
    /// TX queue control.
    TXDCTL[2; 0x100] @ 0x3828 Rw;
    /// TX head write-back address, low half; survives FLR (§3.4).
    TDWBAL[2; 0x100] @ 0x3838 Rw;
    /// TX head write-back address, high half; survives FLR.
    TDWBAH[2; 0x100] @ 0x383C Rw;
}
