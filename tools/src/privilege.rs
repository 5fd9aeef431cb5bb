//! Running with no more privilege than moving frames takes.

use rustix::io;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// What a command that moves frames may need: pinning memory beyond the limit, nodes and files of other owners, and a
/// low port for metrics.
const NEEDED: CapabilitySet = CapabilitySet::IPC_LOCK
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::NET_BIND_SERVICE);

/// Gives up every capability of this thread, and of threads it makes from here on, that moving frames does not take;
/// says so in the log. A program started as root keeps being user 0, which is enough for the VFIO nodes.
pub fn drop_spare() {
    match drop_all_but(NEEDED) {
        Ok(spare) if spare.is_empty() => {}
        Ok(spare) => log::debug!(
            "capabilities that this does not need, given up: {}; access to the VFIO nodes and IPC_LOCK, or enough memlock, would do",
            names(spare)
        ),
        // Nothing is lost but a second line of defence.
        Err(error) => log::debug!("capabilities cannot be given up: {error}"),
    }
}

fn drop_all_but(needed: CapabilitySet) -> io::Result<CapabilitySet> {
    let have = capabilities(None)?;
    let spare = have.permitted.difference(needed);
    if !spare.is_empty() || !have.inheritable.is_empty() {
        set_capabilities(
            None,
            CapabilitySets {
                effective: have.effective & needed,
                permitted: have.permitted & needed,
                inheritable: CapabilitySet::empty(),
            },
        )?;
    }
    Ok(spare)
}

fn names(set: CapabilitySet) -> String {
    let names: Vec<_> = set.iter_names().map(|(name, _)| name).collect();
    names.join(", ")
}
