//! A shell script for whatever runs one at start.

use std::fmt::{self, Write};

use super::{file_name, kept};
use crate::host::cards::Card;

/// Everything in one go: wait for the PF, make its VFs, wait for them, settings, driver.
pub(super) fn write(text: &mut String, card: &Card) -> fmt::Result {
    let name = file_name(card);
    writeln!(
        text,
        "#!/bin/sh\n\
         # /etc/vfnic-{name}.sh, to be called from /etc/rc.local\n\
         set -eu\n\
         devices=/sys/bus/pci/devices\n\
         fail() {{ echo \"vfnic-{name}: $*\" >&2; exit 1; }}\n\
         # Waits up to 10 s: functions, interfaces and links in sysfs come when their drivers are ready.\n\
         wait_for() {{\n\
         \x20   tries=100\n\
         \x20   until [ -e \"$1\" ]; do\n\
         \x20       tries=$((tries - 1))\n\
         \x20       [ \"$tries\" -gt 0 ] || fail \"$1 does not come\"\n\
         \x20       sleep 0.1\n\
         \x20   done\n\
         }}"
    )?;
    if let Some(pf) = &card.pf {
        let count = card.count();
        writeln!(
            text,
            "\npf=$devices/{}\n\
             wait_for \"$pf/sriov_numvfs\"\n\
             have=$(cat \"$pf/sriov_numvfs\")\n\
             if [ \"$have\" -eq 0 ]; then",
            pf.address
        )?;
        if card.is_whole() {
            writeln!(text, "    echo 0 > \"$pf/sriov_drivers_autoprobe\"")?;
        }
        writeln!(
            text,
            "    echo {count} > \"$pf/sriov_numvfs\"\n\
             elif [ \"$have\" -ne {count} ]; then\n\
             \x20   # Another number is only to be had by way of 0, which takes the VFs from whoever has them.\n\
             \x20   fail \"$pf has $have VFs, not {count}\"\n\
             fi"
        )?;
    }
    if card.vfs.is_empty() {
        return Ok(());
    }
    writeln!(text, "\nmodprobe vfio-pci")?;
    writeln!(
        text,
        "to_vfio() {{\n\
         \x20   [ \"$(basename \"$(readlink \"$devices/$1/driver\" || true)\")\" != vfio-pci ] || return 0\n\
         \x20   echo vfio-pci > \"$devices/$1/driver_override\"\n\
         \x20   [ ! -e \"$devices/$1/driver\" ] || echo \"$1\" > \"$devices/$1/driver/unbind\"\n\
         \x20   echo \"$1\" > /sys/bus/pci/drivers_probe\n\
         \x20   wait_for \"$devices/$1/driver\"\n\
         }}"
    )?;
    for kept in kept(card) {
        let address = &kept.vf.address;
        writeln!(text)?;
        match (&card.pf, kept.vf.vf) {
            (Some(_), Some(vf)) => {
                writeln!(text, "wait_for \"$pf/virtfn{vf}\"")?;
                let words = kept.changed.words();
                if !words.is_empty() {
                    writeln!(text, "wait_for \"$pf/net\"")?;
                    writeln!(
                        text,
                        "ip link set dev \"$(ls \"$pf/net\" | head -n 1)\" vf {vf} {words}"
                    )?;
                }
                // By number: a VF's address follows from its PF's, unless the firmware has moved it.
                writeln!(
                    text,
                    "to_vfio \"$(basename \"$(readlink \"$pf/virtfn{vf}\")\")\""
                )?;
            }
            _ => writeln!(text, "wait_for \"$devices/{address}\"\nto_vfio {address}")?,
        }
    }
    Ok(())
}
