//! Rules for udev.

use std::fmt::{self, Write};

use super::{Kept, file_name, kept};
use crate::host::cards::Card;

/// A rule gives the PF its VFs when its driver has it, and each VF its settings and driver when it appears.
pub(super) fn write(text: &mut String, card: &Card) -> fmt::Result {
    head(text, card)?;
    number(text, card)?;
    for kept in kept(card) {
        settings(text, card, &kept)?;
        binding(text, &kept)?;
    }
    Ok(())
}

/// The part that neither systemd nor NetworkManager has words for: the driver.
pub(super) fn write_bindings(text: &mut String, card: &Card) -> fmt::Result {
    if card.vfs.is_empty() {
        return Ok(());
    }
    writeln!(text)?;
    head(text, card)?;
    for kept in kept(card) {
        binding(text, &kept)?;
    }
    Ok(())
}

/// driverctl keeps the driver; the number of VFs and their settings are a rule's.
pub(super) fn write_for_driverctl(text: &mut String, card: &Card) -> fmt::Result {
    if card.pf.is_some() {
        head(text, card)?;
        number(text, card)?;
        for kept in kept(card) {
            settings(text, card, &kept)?;
        }
        writeln!(text)?;
    }
    if card.vfs.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "# Commands. Each acts at once, too: the VF leaves the driver it has now."
    )?;
    for vf in &card.vfs {
        writeln!(text, "driverctl set-override {} vfio-pci", vf.address)?;
    }
    Ok(())
}

fn head(text: &mut String, card: &Card) -> fmt::Result {
    writeln!(
        text,
        "# /etc/udev/rules.d/70-vfnic-{}.rules",
        file_name(card)
    )
}

fn number(text: &mut String, card: &Card) -> fmt::Result {
    let Some(pf) = &card.pf else {
        return Ok(());
    };
    let address = &pf.address;
    let count = card.count();
    // Only from 0: a card that has VFs keeps them, and whoever uses them.
    write!(
        text,
        "ACTION==\"bind\", SUBSYSTEM==\"pci\", KERNEL==\"{address}\", ATTR{{sriov_numvfs}}==\"0\""
    )?;
    if card.is_whole() {
        // Where every VF is for vfio-pci, the kernel's driver need not start on any of them.
        write!(text, ", ATTR{{sriov_drivers_autoprobe}}=\"0\"")?;
    }
    writeln!(text, ", ATTR{{sriov_numvfs}}=\"{count}\"")
}

fn settings(text: &mut String, card: &Card, kept: &Kept<'_>) -> fmt::Result {
    let words = kept.changed.words();
    let (Some(pf), Some(vf), false) = (&card.pf, kept.vf.vf, words.is_empty()) else {
        return Ok(());
    };
    // The PF's interface may get another name between here and there, its address does not change.
    writeln!(
        text,
        "ACTION==\"add\", SUBSYSTEM==\"pci\", KERNEL==\"{}\", RUN+=\"/bin/sh -c 'ip link set dev $$(ls /sys/bus/pci/devices/{}/net | head -n 1) vf {vf} {words}'\"",
        kept.vf.address, pf.address
    )
}

fn binding(text: &mut String, kept: &Kept<'_>) -> fmt::Result {
    let address = &kept.vf.address;
    writeln!(
        text,
        "ACTION==\"add\", SUBSYSTEM==\"pci\", KERNEL==\"{address}\", ATTR{{driver_override}}=\"vfio-pci\", \
         RUN+=\"/bin/sh -c 'modprobe -q vfio-pci; d=/sys/bus/pci/devices/{address}; [ ! -e $$d/driver ] || echo {address} > $$d/driver/unbind; echo {address} > /sys/bus/pci/drivers_probe'\"",
    )
}
