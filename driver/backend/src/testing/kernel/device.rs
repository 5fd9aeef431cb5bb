//! A function: what is asked of its descriptor, whichever way that was made.

use std::ffi::c_int;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Answer, Argument, Lock, State};

/// Where config space begins in a function's file.
pub(crate) const CONFIG: u64 = 0x3_0000;

/// A function, and what is to be said of it.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) group: u32,
    /// Resettable, and PCI.
    pub(crate) flags: u32,
    /// BARs, ROM, config space, VGA.
    pub(crate) regions: Vec<Region>,
    /// INTx, MSI, MSI-X, error, request: how many there are, or that the kernel does not know of such.
    pub(crate) irqs: [Option<u32>; 5],
    /// The eventfds they go to.
    pub(crate) routed: [Vec<u32>; 5],
    /// What whoever opens it must know.
    pub(crate) token: Option<[u8; 16]>,
    /// The address space it is in, by iommufd.
    pub(crate) space: Option<u32>,
    pub(crate) resets: u32,
    pub(super) lock: Lock,
    pub(super) path: PathBuf,
    file: File,
    was_open: bool,
    was_master: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Region {
    /// Readable, writable, mappable.
    pub(crate) flags: u32,
    pub(crate) size: u64,
    pub(crate) offset: u64,
    /// The offset said to be the first capability's, and what begins behind the structure.
    pub(crate) caps: Option<(u32, Vec<u8>)>,
}

impl Function {
    /// An 82576 VF.
    pub(super) fn new(name: &str, group: u32, path: &Path) -> Self {
        let file = File::options().read(true).write(true).open(path).unwrap();
        file.set_len(CONFIG + 4096).unwrap();
        let mut header = [0; 0x40];
        header[..8].copy_from_slice(&[0x86, 0x80, 0xca, 0x10, 0x06, 0, 0x10, 0]);
        header[8..12].copy_from_slice(&[1, 0, 0, 2]);
        file.write_all_at(&header, CONFIG).unwrap();
        let mut regions = vec![Region::default(); 9];
        let region = |flags, size, offset| Region {
            flags,
            size,
            offset,
            caps: None,
        };
        regions[0] = region(7, 0x4000, 0x1_0000);
        regions[3] = region(7, 0x4000, 0x2_0000);
        regions[7] = region(3, 4096, CONFIG);
        Self {
            name: name.to_owned(),
            group,
            flags: 3,
            regions,
            irqs: [Some(0), Some(0), Some(3), Some(1), Some(1)],
            routed: Default::default(),
            token: None,
            space: None,
            resets: 0,
            lock: Lock::of(path),
            path: path.to_owned(),
            file,
            was_open: false,
            was_master: false,
        }
    }

    /// The device's own file, to look at.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn notice(&mut self) -> Vec<String> {
        let mut happened = Vec::new();
        let mut command = [0; 1];
        self.file.read_exact_at(&mut command, CONFIG + 4).unwrap();
        let master = command[0] & 4 != 0;
        if master != self.was_master {
            happened.push(format!("bus master {master}"));
            self.was_master = master;
        }
        let open = self.lock.is_held();
        if self.was_open && !open {
            happened.push("function closed".to_owned());
            self.space = None;
            self.routed = Default::default();
        }
        self.was_open = open;
        happened
    }

    /// Whether a token that came with an opening, or none, will do.
    pub(super) fn knows(&self, token: Option<[u8; 16]>) -> Answer {
        match (self.token, token) {
            (None, Some(_)) => Err(libc::EINVAL),
            (ours, theirs) if ours != theirs => Err(libc::EACCES),
            _ => Ok(0),
        }
    }

    fn region_info(&self, argument: &mut Argument<'_>) -> Answer {
        let size = argument.sized(32)?;
        let region = self
            .regions
            .get(argument.u32(8) as usize)
            .ok_or(libc::EINVAL)?;
        argument.set_u32(4, region.flags);
        argument.set_u32(12, 0);
        argument.set_u64(16, region.size);
        argument.set_u64(24, region.offset);
        if let Some(caps) = &region.caps {
            argument.capabilities(size, (8, 12), caps, 32)?;
        }
        argument.back()
    }

    fn irq_info(&self, argument: &mut Argument<'_>) -> Answer {
        argument.sized(16)?;
        let count = self.irqs.get(argument.u32(8) as usize).copied().flatten();
        argument.set_u32(4, 1 | 8);
        argument.set_u32(12, count.ok_or(libc::EINVAL)?);
        argument.back()
    }

    fn set_irqs(&mut self, argument: &mut Argument<'_>) -> Answer {
        let size = argument.sized(20)?;
        let (flags, index) = (argument.u32(4), argument.u32(8) as usize);
        let (start, count) = (argument.u32(12), argument.u32(16));
        let have = self
            .irqs
            .get(index)
            .copied()
            .flatten()
            .ok_or(libc::EINVAL)?;
        match flags {
            // No data, trigger, none at all: off.
            0x21 if (start, count) == (0, 0) => self.routed[index].clear(),
            // Eventfds, trigger.
            0x24 => {
                let routed = self.routed[index].len();
                // Vectors are allocated when they are switched on and stay as many.
                let too_many = start + count > have || routed != 0 && count as usize > routed;
                if count == 0 || too_many || size - 20 < 4 * count {
                    return Err(libc::EINVAL);
                }
                let fds =
                    (0..u64::from(count)).map(|i| argument.copy_in(argument.value + 20 + 4 * i));
                let fds = fds
                    .map(|fd| fd.map(u32::from_ne_bytes))
                    .collect::<Result<Vec<_>, _>>()?;
                fds.iter().try_for_each(|&fd| is_eventfd(fd))?;
                self.routed[index] = fds;
            }
            _ => return Err(libc::EINVAL),
        }
        Ok(0)
    }
}

fn is_eventfd(fd: u32) -> Result<(), c_int> {
    let is = fs::read_link(format!("/proc/self/fd/{fd}")).map_err(|_| libc::EBADF)?;
    match is.to_str() {
        Some("anon_inode:[eventfd]") => Ok(()),
        _ => Err(libc::EINVAL),
    }
}

impl State {
    pub(super) fn device(
        &mut self,
        index: usize,
        file: &File,
        name: &str,
        argument: &mut Argument<'_>,
    ) -> Answer {
        if matches!(
            name,
            "VFIO_DEVICE_BIND_IOMMUFD"
                | "VFIO_DEVICE_ATTACH_IOMMUFD_PT"
                | "VFIO_DEVICE_DETACH_IOMMUFD_PT"
        ) {
            return self.tie(index, file, name, argument);
        }
        let function = &mut self.functions[index];
        // Nothing can be asked of a function's own node before it is bound.
        if !function.lock.is_held() {
            return Err(libc::EINVAL);
        }
        match name {
            "VFIO_DEVICE_GET_INFO" => {
                argument.sized(16)?;
                argument.set_u32(4, function.flags);
                argument.set_u32(8, 9);
                argument.set_u32(12, 5);
                argument.back()
            }
            "VFIO_DEVICE_GET_REGION_INFO" => function.region_info(argument),
            "VFIO_DEVICE_GET_IRQ_INFO" => function.irq_info(argument),
            "VFIO_DEVICE_SET_IRQS" => function.set_irqs(argument),
            "VFIO_DEVICE_RESET" if function.flags & 1 != 0 => {
                function.resets += 1;
                Ok(0)
            }
            _ => Err(libc::ENOTTY),
        }
    }
}
