//! Functions opened, used and closed on this kernel, by both interfaces.

use std::sync::Arc;

use vfnic_hw::{DmaError, DmaRequest, DmaSpace, Event, PciError, PciFunction};

use super::Kernel;
use crate::testing::{Host, calls};
use crate::{Interface, OpenOptions, VfioSpace, open, open_in};

mod closing;
mod odd;
mod opening;
mod refusals;

const VF: &str = "0000:31:10.1";
const BOTH: [Interface; 2] = [Interface::Group, Interface::Cdev];
const PAGE: DmaRequest = DmaRequest {
    len: 4096,
    prefer_huge: false,
};

/// A host with one VF.
fn host() -> (Host, Kernel) {
    let host = Host::new();
    let kernel = Kernel::new(&host);
    kernel.function(&host, VF, 9, "vfio4");
    (host, kernel)
}

fn by(host: &Host, interface: Interface) -> OpenOptions {
    OpenOptions {
        interface,
        ..host.options()
    }
}

fn opened(host: &Host, interface: Interface) -> Arc<dyn PciFunction> {
    open(VF, &by(host, interface)).unwrap()
}

/// The mappings there are, by whichever interface, as (first address, bytes).
fn mapped(kernel: &Kernel) -> Vec<(u64, u64)> {
    let state = kernel.state();
    let spaces = state.spaces.values().chain([&state.mapped]);
    spaces.flatten().map(|(&iova, &len)| (iova, len)).collect()
}

fn errno(error: &PciError) -> Option<i32> {
    match error {
        PciError::Sys { source, .. } => source.raw_os_error(),
        _ => None,
    }
}
