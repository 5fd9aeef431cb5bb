//! Registers of the 82599, X540 and X550 VFs (ixgbevf.md §3).

use super::registers;

registers! {
    /// VF control: software reset (§4.1).
    VFCTRL @ 0x0000 Wo;
    /// Status; reading it flushes posted writes (§4.2).
    VFSTATUS @ 0x0008 Ro;
    /// Link up and speed (§4.3).
    VFLINKS @ 0x0010 Ro;
    /// Free-running timer.
    VFFRTIMER @ 0x0048 Ro;
    /// Interrupt cause (§4.4).
    VTEICR @ 0x0100 RcW1c;
    /// Interrupt cause set; a read shows the cause without clearing it.
    VTEICS @ 0x0104 W1s;
    /// Interrupt mask set, and read.
    VTEIMS @ 0x0108 W1s;
    /// Interrupt mask clear.
    VTEIMC @ 0x010C Wo;
    /// Auto-clear of causes when their message goes out.
    VTEIAC @ 0x0110 Rw;
    /// Auto-mask of vectors when their message goes out.
    VTEIAM @ 0x0114 Rw;
    /// Queue to vector map, two queues a register.
    VTIVAR[4; 4] @ 0x0120 Rw;
    /// Mailbox cause to vector map.
    VTIVAR_MISC @ 0x0140 Rw;
    /// MSI-X pending-bit clear.
    VFPBACL @ 0x0148 W1c;
    /// Receive-side coalescing interrupt coupling.
    VTRSCINT[2; 4] @ 0x0180 Rw;
    /// Mailbox memory, shared with the PF (§6).
    VFMBMEM[16; 4] @ 0x0200 Rw;
    /// Mailbox control (§6.1).
    VFMAILBOX @ 0x02FC Rc;
    /// Header-split types and RSS bit count (§4.5).
    VFPSRTYPE @ 0x0300 Rw;
    /// Interrupt throttling (§4.4).
    VTEITR[3; 4] @ 0x0820 Rw;
    /// RX ring base, low half.
    VFRDBAL[8; 0x40] @ 0x1000 Rw;
    /// RX ring base, high half.
    VFRDBAH[8; 0x40] @ 0x1004 Rw;
    /// RX ring length in bytes.
    VFRDLEN[8; 0x40] @ 0x1008 Rw;
    /// RX DCA and PCIe ordering attributes.
    VFDCA_RXCTRL[8; 0x40] @ 0x100C Rw;
    /// RX head.
    VFRDH[8; 0x40] @ 0x1010 Rw;
    /// RX buffer sizes and descriptor type (§4.6).
    VFSRRCTL[8; 0x40] @ 0x1014 Rw;
    /// RX tail.
    VFRDT[8; 0x40] @ 0x1018 Rw;
    /// Good packets received (§13).
    VFGPRC @ 0x101C Ro;
    /// Good octets received, low 32 bits.
    VFGORC_LSB @ 0x1020 Ro;
    /// Good octets received, bits 35:32.
    VFGORC_MSB @ 0x1024 Ro;
    /// RX queue control (§4.6).
    VFRXDCTL[8; 0x40] @ 0x1028 Rw;
    /// Receive-side coalescing; never enabled from a VF.
    VFRSCCTL[8; 0x40] @ 0x102C Rw;
    /// Multicast packets received.
    VFMPRC @ 0x1034 Ro;
    /// TX ring base, low half.
    VFTDBAL[8; 0x40] @ 0x2000 Rw;
    /// TX ring base, high half.
    VFTDBAH[8; 0x40] @ 0x2004 Rw;
    /// TX ring length in bytes.
    VFTDLEN[8; 0x40] @ 0x2008 Rw;
    /// TX DCA and PCIe ordering attributes (§4.7).
    VFDCA_TXCTRL[8; 0x40] @ 0x200C Rw;
    /// TX head.
    VFTDH[8; 0x40] @ 0x2010 Rw;
    /// TX tail.
    VFTDT[8; 0x40] @ 0x2018 Rw;
    /// Good packets transmitted.
    VFGPTC @ 0x201C Ro;
    /// Good octets transmitted, low 32 bits.
    VFGOTC_LSB @ 0x2020 Ro;
    /// Good octets transmitted, bits 35:32.
    VFGOTC_MSB @ 0x2024 Ro;
    /// TX queue control (§4.7).
    VFTXDCTL[8; 0x40] @ 0x2028 Rw;
    /// TX head write-back address, low half; survives FLR (§5.2).
    VFTDWBAL[8; 0x40] @ 0x2038 Rw;
    /// TX head write-back address, high half; survives FLR.
    VFTDWBAH[8; 0x40] @ 0x203C Rw;
    /// RSS control, X550 only (§4.8).
    VFMRQC @ 0x3000 Rw;
    /// RSS key, X550 only.
    VFRSSRK[10; 4] @ 0x3100 Rw;
    /// RX packet-buffer drain detector (§4.9).
    VFRXMEMWRAP @ 0x3190 Ro;
    /// RSS redirection table, X550 only.
    VFRETA[16; 4] @ 0x3200 Rw;
}
