//! A kernel with VFIO and iommufd, for tests: it answers the ioctls of the thread that made it, about nodes that are
//! files of a [`Host`].
//!
//! Written from `linux/vfio.h`, `linux/iommufd.h` and what they say of each call, with numbers and offsets as literals, not
//! from `sys`: neither can agree with the other by accident. Arguments are copied from the caller's memory and back, as
//! the kernel does it, so that a wrong address or size is noticed. What is open is not counted here: whatever is bound
//! or joined is locked (`flock`) through the description it happened with, and free again when that has been closed by all
//! that hold it, mappings included.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::ffi::c_int;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::{FlockOperation, flock};

use crate::Interface;
use crate::testing::{Host, calls};

mod argument;
mod device;
mod group;
mod iommufd;
mod tests;

use argument::Argument;
use device::Function;
use group::Group;

/// What a call comes to.
type Answer = Result<c_int, c_int>;

/// The kernel of a test, until it is dropped.
pub(crate) struct Kernel(Rc<RefCell<State>>);

/// What it knows and what it is to say; tests change what they like.
pub(crate) struct State {
    root: PathBuf,
    memory: Rc<File>,
    nodes: Vec<((u64, u64), Node)>,
    /// The calls so far, by name and with what matters of their arguments, and what a function's command register and
    /// closing show in between.
    log: Vec<String>,
    /// Errors for calls by name, each time they are made.
    pub(crate) refuse: BTreeMap<&'static str, c_int>,
    pub(crate) api_version: c_int,
    pub(crate) has_type1: bool,
    /// What the IOMMU can map, as (first, last).
    pub(crate) ranges: Vec<(u64, u64)>,
    /// The page sizes it has, a bit each; 0 is not to say.
    pub(crate) page_sizes: u64,
    /// In place of the capability that has the ranges: the offset said to be the first one's, and what begins behind
    /// the structure.
    pub(crate) type1_caps: Option<(u32, Vec<u8>)>,
    pub(crate) functions: Vec<Function>,
    pub(crate) groups: BTreeMap<u32, Group>,
    /// The container has its IOMMU driver.
    pub(crate) type1: bool,
    /// The container's mappings, start to length.
    pub(crate) mapped: BTreeMap<u64, u64>,
    /// The iommufd's address spaces and their mappings.
    pub(crate) spaces: BTreeMap<u32, BTreeMap<u64, u64>>,
    iommufd: Lock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Container,
    Iommufd,
    Group(u32),
    Function(usize),
}

/// Whether a node is in use: a view of its file of its own, to see whether any other has it locked.
pub(crate) struct Lock {
    file: File,
    /// By a descriptor that was handed over: whoever did that still has it.
    pub(crate) elsewhere: bool,
}

impl Lock {
    fn of(path: &std::path::Path) -> Self {
        Self {
            file: File::open(path).unwrap(),
            elsewhere: false,
        }
    }

    fn is_held(&self) -> bool {
        let free = flock(&self.file, FlockOperation::NonBlockingLockShared).is_ok();
        flock(&self.file, FlockOperation::Unlock).unwrap();
        self.elsewhere || !free
    }

    /// For as long as somebody has this description of the file open.
    fn hold(&mut self, file: &File) {
        let of = |file: &File| identity(&file.metadata().unwrap());
        if of(file) == of(&self.file) {
            // Or another of this process's has it: then it is held.
            let _ = flock(file, FlockOperation::NonBlockingLockExclusive);
        } else {
            self.elsewhere = true;
        }
    }
}

/// What tells a file from others, by whichever path.
fn identity(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

impl Kernel {
    /// With the nodes of both interfaces, and no functions. A test may take the nodes of one away again.
    pub(crate) fn new(host: &Host) -> Self {
        host.write("dev/vfio/vfio", "");
        host.write("dev/iommu", "");
        let memory = File::options()
            .read(true)
            .write(true)
            .open("/proc/self/mem");
        let state = State {
            root: host.path(""),
            memory: Rc::new(memory.unwrap()),
            nodes: Vec::new(),
            log: Vec::new(),
            refuse: BTreeMap::new(),
            api_version: 0,
            has_type1: true,
            ranges: vec![(0, 0xfedf_ffff), (0xfef0_0000, (1 << 39) - 1)],
            page_sizes: 0x4020_1000,
            type1_caps: None,
            functions: Vec::new(),
            groups: BTreeMap::new(),
            type1: false,
            mapped: BTreeMap::new(),
            spaces: BTreeMap::new(),
            iommufd: Lock::of(&host.path("dev/iommu")),
        };
        let kernel = Self(Rc::new(RefCell::new(state)));
        kernel.node(host, "dev/vfio/vfio", Node::Container);
        kernel.node(host, "dev/iommu", Node::Iommufd);
        let answering = Rc::clone(&kernel.0);
        calls::set_kernel(Some(Rc::new(move |file, number, argument| {
            answering.borrow_mut().ioctl(file, number, argument)
        })));
        kernel
    }

    fn node(&self, host: &Host, path: &str, node: Node) {
        let identity = identity(&fs::metadata(host.path(path)).unwrap());
        self.0.borrow_mut().nodes.push((identity, node));
    }

    /// Lets a device node of another kind, which a test can open, stand for one of VFIO's that was handed over.
    pub(crate) fn hand(&self, space: &File, own: &File, interface: Interface) {
        let (space_is, own_is) = match interface {
            Interface::Cdev => (Node::Iommufd, Node::Function(0)),
            _ => (Node::Container, Node::Group(self.state().vf().group)),
        };
        for (file, node) in [(space, space_is), (own, own_is)] {
            let identity = identity(&file.metadata().unwrap());
            self.0.borrow_mut().nodes.push((identity, node));
        }
    }

    /// A VF that can be opened by either interface. `node` is the name of its own.
    pub(crate) fn function(&self, host: &Host, address: &str, group: u32, node: &str) {
        host.function(address, Some("vfio-pci"), Some(group));
        let own = format!("dev/vfio/devices/{node}");
        host.write(&own, "");
        host.write(
            &format!("sys/bus/pci/devices/{address}/vfio-dev/{node}/dev"),
            "",
        );
        let group_node = format!("dev/vfio/{group}");
        if !self.0.borrow().groups.contains_key(&group) {
            host.write(&group_node, "");
            self.node(host, &group_node, Node::Group(group));
            let of = Group::new(Lock::of(&host.path(&group_node)));
            self.0.borrow_mut().groups.insert(group, of);
        }
        let number = self.0.borrow().functions.len();
        self.node(host, &own, Node::Function(number));
        let function = Function::new(address, group, &host.path(&own));
        self.0.borrow_mut().functions.push(function);
    }

    /// To look, and to change what will be said.
    pub(crate) fn state(&self) -> RefMut<'_, State> {
        let mut state = self.0.borrow_mut();
        state.notice();
        state
    }

    /// What was asked since the last time.
    pub(crate) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.state().log)
    }

    /// Nothing is open, bound, joined or mapped any more.
    pub(crate) fn assert_at_rest(&self, when: &str) {
        let state = self.state();
        let functions = state
            .functions
            .iter()
            .any(|function| function.lock.is_held());
        assert!(!functions, "{when}: a function is open");
        let groups = state.groups.values().any(|group| group.lock.is_held());
        assert!(!groups, "{when}: a group is open");
        let mapped = (&state.mapped, &state.spaces);
        assert_eq!(mapped, (&BTreeMap::new(), &BTreeMap::new()), "{when}");
        // What is ours: a look at each function and group, a function's file, and the iommufd.
        let ours = 2 * state.functions.len() + state.groups.len() + 1;
        let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let open: Vec<_> = open
            .filter_map(|fd| fs::read_link(fd.path()).ok())
            .filter(|path| path.starts_with(&state.root))
            .collect();
        assert_eq!(open.len(), ours, "{when}: {open:?}");
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        calls::set_kernel(None);
    }
}

impl State {
    /// The first function: most tests have one.
    pub(crate) fn vf(&mut self) -> &mut Function {
        &mut self.functions[0]
    }

    fn ioctl(&mut self, file: &File, number: u32, argument: u64) -> Answer {
        self.notice();
        let identity = identity(&file.metadata().unwrap());
        let node = self.nodes.iter().find(|(of, _)| *of == identity);
        let node = node.map(|&(_, node)| node).ok_or(libc::ENOTTY)?;
        let memory = Rc::clone(&self.memory);
        let mut argument = Argument::new(&memory, argument);
        let (name, detail) = describe(number, &argument);
        self.log.push(format!("{name}{detail}"));
        if let Some(&errno) = self.refuse.get(name) {
            return Err(errno);
        }
        match node {
            Node::Container => self.container(name, &mut argument),
            Node::Group(group) => self.group(group, file, name, &mut argument),
            Node::Function(index) => self.device(index, file, name, &mut argument),
            Node::Iommufd => self.space(file, name, &mut argument),
        }
    }

    /// Takes note of what has happened without a call: what was closed, what was written to config space.
    fn notice(&mut self) {
        for function in &mut self.functions {
            let happened = function.notice();
            self.log.extend(happened);
        }
        if self.type1 && !self.any_joined() {
            // The last group takes the driver with it, and what was mapped.
            self.log.push("container empty".to_owned());
            self.type1 = false;
            self.mapped.clear();
        }
        let bound = self
            .functions
            .iter()
            .any(|function| function.space.is_some());
        if !bound && !self.iommufd.is_held() && !self.spaces.is_empty() {
            self.log.push("iommufd closed".to_owned());
            self.spaces.clear();
        }
    }

    /// Whether the device may be given a mapping there, and the places of `mapped` are not in its way.
    fn can_map(&self, mapped: &BTreeMap<u64, u64>, iova: u64, len: u64) -> Answer {
        let page = self.page_sizes & self.page_sizes.wrapping_neg();
        let last = iova
            .checked_add(len.wrapping_sub(1))
            .ok_or(libc::EOVERFLOW)?;
        if len == 0 || (iova | len) & page.max(1).wrapping_sub(1) != 0 {
            return Err(libc::EINVAL);
        }
        if !(self.ranges.iter()).any(|&(first, end)| first <= iova && last <= end) {
            return Err(libc::EINVAL);
        }
        let before = mapped.range(..=last).next_back();
        match before.is_some_and(|(start, len)| start + len > iova) {
            true => Err(libc::EEXIST),
            false => Ok(0),
        }
    }
}

/// Ends the mappings that are inside a place; one that sticks out of it stays whole, and all of them then.
fn unmap(mapped: &mut BTreeMap<u64, u64>, iova: u64, len: u64) -> Option<u64> {
    let end = iova.checked_add(len)?;
    let touched: Vec<_> = mapped
        .iter()
        .map(|(&start, &len)| (start, start + len))
        .filter(|&(start, last)| start < end && last > iova)
        .collect();
    if touched
        .iter()
        .any(|&(start, last)| start < iova || last > end)
    {
        return None;
    }
    for (start, _) in &touched {
        mapped.remove(start);
    }
    Some(touched.iter().map(|(start, last)| last - start).sum())
}

/// A call's name, and what of its argument tells it from others.
fn describe(number: u32, argument: &Argument<'_>) -> (&'static str, String) {
    let index = || format!(" {}", argument.peek(8));
    match number {
        0x3b64 => ("VFIO_GET_API_VERSION", String::new()),
        0x3b65 => ("VFIO_CHECK_EXTENSION", String::new()),
        0x3b66 => ("VFIO_SET_IOMMU", String::new()),
        0x3b67 => ("VFIO_GROUP_GET_STATUS", String::new()),
        0x3b68 => ("VFIO_GROUP_SET_CONTAINER", String::new()),
        0x3b6a => ("VFIO_GROUP_GET_DEVICE_FD", format!(" {}", argument.text())),
        0x3b6b => ("VFIO_DEVICE_GET_INFO", String::new()),
        0x3b6c => ("VFIO_DEVICE_GET_REGION_INFO", index()),
        0x3b6d => ("VFIO_DEVICE_GET_IRQ_INFO", index()),
        0x3b6e => (
            "VFIO_DEVICE_SET_IRQS",
            format!("{}, {}", index(), argument.peek(16)),
        ),
        0x3b6f => ("VFIO_DEVICE_RESET", String::new()),
        0x3b70 => ("VFIO_IOMMU_GET_INFO", String::new()),
        0x3b71 => ("VFIO_IOMMU_MAP_DMA", String::new()),
        0x3b72 => ("VFIO_IOMMU_UNMAP_DMA", String::new()),
        0x3b76 => ("VFIO_DEVICE_BIND_IOMMUFD", String::new()),
        0x3b77 => ("VFIO_DEVICE_ATTACH_IOMMUFD_PT", String::new()),
        0x3b78 => ("VFIO_DEVICE_DETACH_IOMMUFD_PT", String::new()),
        0x3b80 => ("IOMMU_DESTROY", String::new()),
        0x3b81 => ("IOMMU_IOAS_ALLOC", String::new()),
        0x3b84 => ("IOMMU_IOAS_IOVA_RANGES", String::new()),
        0x3b85 => ("IOMMU_IOAS_MAP", String::new()),
        0x3b86 => ("IOMMU_IOAS_UNMAP", String::new()),
        _ => ("unknown", format!(" {number:#x}")),
    }
}
