//! What is asked of an open device, whichever way it was opened.

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};

use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
    VFIO_REGION_INFO_FLAG_CAPS, vfio_device_info, vfio_irq_info, vfio_region_info,
};

use super::{
    DEVICE_GET_INFO, DEVICE_GET_IRQ_INFO, DEVICE_GET_REGION_INFO, DEVICE_RESET, DEVICE_SET_IRQS,
    Failed, RegionInfo, size,
};
use crate::caps;

/// The flags of a device.
pub(crate) fn device_flags(device: &File) -> Result<u32, Failed> {
    let mut info = vfio_device_info {
        argsz: size::<vfio_device_info>(),
        ..Default::default()
    };
    DEVICE_GET_INFO.call(device, &mut info)?;
    Ok(info.flags)
}

/// A region of a device: where it is in the device's file, and how it can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) flags: u32,
    pub(crate) size: u64,
    pub(crate) offset: u64,
    /// The parts that can be mapped as (offset, length); `None` is all of it.
    pub(crate) sparse: Option<Vec<(u64, u64)>>,
}

/// Asks for a region.
pub(crate) fn region(device: &File, index: u32) -> Result<Region, Failed> {
    let mut info = RegionInfo {
        head: vfio_region_info {
            argsz: size::<RegionInfo>(),
            index,
            ..Default::default()
        },
        tail: [0; _],
    };
    DEVICE_GET_REGION_INFO.call_about(device, &mut info, &format!(" {index}"))?;
    let has_caps = info.head.flags & VFIO_REGION_INFO_FLAG_CAPS != 0;
    Ok(Region {
        flags: info.head.flags,
        size: info.head.size,
        offset: info.head.offset,
        sparse: has_caps
            .then(|| caps::sparse_areas(&info.bytes(), info.head.cap_offset))
            .flatten(),
    })
}

/// How many interrupts of a kind a device has.
pub(crate) fn irq_count(device: &File, index: u32) -> Result<u32, Failed> {
    let mut info = vfio_irq_info {
        argsz: size::<vfio_irq_info>(),
        index,
        ..Default::default()
    };
    DEVICE_GET_IRQ_INFO.call_about(device, &mut info, &format!(" {index}"))?;
    Ok(info.count)
}

/// Routes the first interrupts of a kind to eventfds.
pub(crate) fn set_irqs(device: &File, index: u32, events: &[BorrowedFd<'_>]) -> Result<(), Failed> {
    let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    let fds = events.iter().map(|fd| fd.as_raw_fd().cast_unsigned());
    irq_set(device, flags, index, fds.collect())
}

/// Switches a kind of interrupt off.
pub(crate) fn clear_irqs(device: &File, index: u32) -> Result<(), Failed> {
    let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
    irq_set(device, flags, index, Vec::new())
}

fn irq_set(device: &File, flags: u32, index: u32, data: Vec<u32>) -> Result<(), Failed> {
    // `vfio_irq_set`: size, flags, index, first, count, then the data.
    let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let size = count.saturating_mul(4).saturating_add(20);
    let mut set = vec![size, flags, index, 0, count];
    set.extend(data);
    DEVICE_SET_IRQS
        .call_about(device, &mut set[..], &format!(" {index}, {count} events"))
        .map(drop)
}

/// Resets a function; returns when it can be used again.
pub(crate) fn reset(device: &File) -> Result<(), Failed> {
    DEVICE_RESET.call(device, 0).map(drop)
}
