use super::*;
use crate::memlock::Counter;
use crate::sys::{Failed, Reach};
use crate::testing::Host;

/// What an IOMMU was asked, and what it is to answer.
#[derive(Debug, Default)]
struct Script {
    log: Vec<String>,
    /// The errno of the next mapping.
    refuse: Option<i32>,
    /// How many bytes the next unmapping ends.
    ends: Option<Result<u64, i32>>,
}

#[derive(Clone, Debug, Default)]
struct Fake(Arc<Mutex<Script>>);

fn failed(errno: i32) -> Failed {
    Failed {
        call: "FAKE".to_owned(),
        source: io::Error::from_raw_os_error(errno),
    }
}

impl Fake {
    fn note(&self, text: String) {
        self.0.lock().unwrap().log.push(text);
    }
    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().log)
    }
}

impl Iommu for Fake {
    fn open(&mut self, _: &Target, _: &OpenOptions) -> Result<File, PciError> {
        self.note("open".to_owned());
        Ok(File::open("/dev/null").unwrap())
    }
    fn detach(&mut self, _: &File) {
        self.note("detach".to_owned());
    }
    fn closed(&mut self, target: Option<&Target>, idle: bool) {
        let what = target.map_or("mapping", |_| "function");
        self.note(format!("{what} gone, idle {idle}"));
    }
    fn reach(&self) -> Result<Reach, Failed> {
        let end = (32 << 20) - 1;
        Ok(Reach {
            ranges: Some(vec![IovaRange { start: 0, end }]),
            page: 4096,
        })
    }
    fn map(&self, memory: &Memory, iova: u64) -> Result<(), Failed> {
        self.note(format!("map {iova:#x}+{:#x}", memory.len()));
        self.0
            .lock()
            .unwrap()
            .refuse
            .take()
            .map_or(Ok(()), |errno| Err(failed(errno)))
    }
    fn unmap(&self, iova: u64, len: u64) -> Result<u64, Failed> {
        self.note(format!("unmap {iova:#x}+{len:#x}"));
        self.0
            .lock()
            .unwrap()
            .ends
            .take()
            .unwrap_or(Ok(len))
            .map_err(failed)
    }
    fn counter(&self) -> Counter {
        Counter::Locked
    }
    fn interface(&self) -> Interface {
        Interface::Group
    }
}

impl VfioSpace {
    /// Gives the space a fake container.
    pub(crate) fn start_fake(&self) {
        self.0.lock().iommu = Some(Box::new(Fake::default()));
    }
}

const PAGE: DmaRequest = DmaRequest {
    len: 1,
    prefer_huge: false,
};

/// A space on a fake IOMMU, with one function open in it.
fn space(host: &Host) -> (VfioSpace, Fake, Lease, File) {
    let address = host.function("0000:31:10.1", Some("vfio-pci"), Some(9));
    host.write(
        "proc/self/status",
        "VmLck: 0 kB\nCapEff: 0000000000004000\n",
    );
    let space = VfioSpace::new(&host.options());
    let fake = Fake::default();
    space.0.lock().iommu = Some(Box::new(fake.clone()));
    let (file, lease) = space.open(address, None).unwrap();
    assert_eq!(fake.log(), ["open"]);
    (space, fake, lease, file)
}

#[test]
fn nothing_is_mapped_before_a_function_is_there() {
    let host = Host::new();
    let space = VfioSpace::new(&host.options());
    let DmaError::Map { source, .. } = space.map(PAGE).unwrap_err() else {
        panic!()
    };
    assert_eq!(source.kind(), io::ErrorKind::NotConnected);
    assert!(space.ranges().is_empty());
}

#[test]
fn h26_a_function_is_in_a_space_once() {
    let host = Host::new();
    let (space, fake, lease, _file) = space(&host);
    let address = "0000:31:10.1".parse().unwrap();
    let error = space.open(address, None).unwrap_err();
    assert!(
        matches!(
            error,
            PciError::Busy {
                holder: Some(_),
                ..
            }
        ),
        "{error}"
    );
    drop(lease);
    assert_eq!(fake.log(), ["function gone, idle true"]);
    space.open(address, None).unwrap();
}

#[test]
fn mappings_are_counted_and_their_places_used_again() {
    let host = Host::new();
    let (space, fake, lease, _file) = space(&host);
    let one = space.map(PAGE).unwrap();
    let two = space.map(PAGE).unwrap();
    assert_eq!(space.mapped_bytes(), 8192);
    assert_eq!(fake.log(), ["map 0x100000+0x1000", "map 0x102000+0x1000"]);
    drop(one);
    assert_eq!(space.map(PAGE).unwrap().iova().0, 0x10_0000);
    fake.log();
    // The function may go first; the mapping then keeps the container.
    drop(lease);
    drop(two);
    assert_eq!(
        fake.log(),
        [
            "function gone, idle false",
            "unmap 0x102000+0x1000",
            "mapping gone, idle true"
        ]
    );
    assert_eq!((space.mapped_bytes(), space.leaked_bytes()), (0, 0));
}

#[test]
fn h10_an_unmapping_that_ends_too_little_costs_the_memory_and_the_place() {
    let host = Host::new();
    let (space, fake, _lease, _file) = space(&host);
    for (ends, leaked) in [(Ok(0), 4096), (Ok(2048), 8192), (Err(libc::EINVAL), 12288)] {
        let region = space.map(PAGE).unwrap();
        let iova = region.iova();
        fake.0.lock().unwrap().ends = Some(ends);
        drop(region);
        assert_eq!(space.leaked_bytes(), leaked);
        assert_ne!(space.map(PAGE).unwrap().iova(), iova);
    }
    assert_eq!(space.mapped_bytes(), 12288);
}

#[test]
fn h7_h9_a_place_that_is_taken_already_is_never_tried_again() {
    let host = Host::new();
    let (space, fake, _lease, _file) = space(&host);
    fake.0.lock().unwrap().refuse = Some(libc::EEXIST);
    let DmaError::Map { iova, need, source } = space.map(PAGE).unwrap_err() else {
        panic!()
    };
    assert_eq!(
        (iova, need, source.raw_os_error()),
        (0x10_0000, 4096, Some(libc::EEXIST))
    );
    assert_eq!(space.map(PAGE).unwrap().iova().0, 0x10_2000);
    // Any other refusal leaves the place free.
    fake.0.lock().unwrap().refuse = Some(libc::ENOSPC);
    assert!(space.map(PAGE).is_err());
    assert_eq!(space.map(PAGE).unwrap().iova().0, 0x10_2000);
}

#[test]
fn h8_a_space_that_is_full_says_what_there_is() {
    let host = Host::new();
    let (space, _fake, _lease, _file) = space(&host);
    let request = DmaRequest {
        len: 32 << 20,
        prefer_huge: false,
    };
    let error = space.map(request).unwrap_err();
    assert!(matches!(error, DmaError::NoIova { .. }));
    assert!(error.to_string().contains("0x0-0x1ffffff"), "{error}");
}

#[test]
fn h6_the_limit_of_locked_memory_is_asked_before_the_kernel() {
    let host = Host::new();
    let (space, fake, _lease, _file) = space(&host);
    let locked = u64::MAX / 2048;
    host.write(
        "proc/self/status",
        &format!("VmLck: {locked} kB\nCapEff: 0\n"),
    );
    if rustix::process::getrlimit(rustix::process::Resource::Memlock)
        .current
        .is_some()
    {
        let error = space.map(PAGE).unwrap_err();
        let DmaError::Memlock {
            need, locked: seen, ..
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!((need, seen), (4096, locked * 1024));
        assert!(fake.log().is_empty(), "the kernel was asked");
        // An exemption that the kernel does not honour ends in the same words.
        host.write(
            "proc/self/status",
            &format!("VmLck: {locked} kB\nCapEff: 4000\n"),
        );
        fake.0.lock().unwrap().refuse = Some(libc::ENOMEM);
        assert!(matches!(space.map(PAGE), Err(DmaError::Memlock { .. })));
    }
    host.write("proc/self/status", "VmLck: 0 kB\nCapEff: 4000\n");
    space.map(PAGE).unwrap();
}

#[test]
fn h11_huge_pages_are_asked_for_only_when_some_are_free_and_missed_by_nobody() {
    let host = Host::new();
    let (space, _fake, _lease, _file) = space(&host);
    assert_eq!(space.page_size(), 0);
    let request = DmaRequest {
        len: 4 << 20,
        prefer_huge: true,
    };
    let region = space.map(request).unwrap();
    assert_eq!(space.page_size(), page_size());
    assert_eq!(
        region.iova().0 % (2 << 20),
        0,
        "for the IOMMU's own large pages"
    );
    // One that is not a byte longer, too, and a shorter one not.
    for (len, aligned) in [(HUGE_PAGE, true), (HUGE_PAGE - page_size(), false)] {
        let request = DmaRequest {
            len,
            prefer_huge: false,
        };
        let region = space.map(request).unwrap();
        assert_eq!(region.iova().0 % (2 << 20) == 0, aligned, "{len}");
    }
    // Said to be free, and (here, most likely) not to be had: ordinary pages it is. Where they are to be had: they are.
    host.write(
        "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
        "1000\n",
    );
    let region = space.map(request).unwrap();
    assert_eq!(region.len(), 4 << 20);
    assert!([page_size(), HUGE_PAGE].contains(&space.page_size()));
}

#[test]
fn h1_h22_nodes_that_are_not_there_are_named_and_nothing_stays_open() {
    let host = Host::new();
    let address = host.function("0000:31:10.1", Some("vfio-pci"), Some(9));
    let space = VfioSpace::new(&host.options());
    let path_of = |error| match error {
        PciError::NoNode { path, .. } => path,
        error => panic!("{error}"),
    };
    assert!(path_of(space.open(address, None).unwrap_err()).ends_with("dev/vfio/vfio"));
    // A file is no container: the call is named, the errno kept.
    host.write("dev/vfio/vfio", "");
    let error = space.open(address, None).unwrap_err();
    let PciError::Sys { call, source, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        (call.as_str(), source.raw_os_error()),
        ("VFIO_GET_API_VERSION", Some(libc::ENOTTY))
    );
    assert!(space.0.lock().iommu.is_none() && space.0.lock().open.is_empty());

    // The better interface only where all of it is there.
    host.write("dev/vfio/devices/vfio4", "");
    host.write("sys/bus/pci/devices/0000:31:10.1/vfio-dev/vfio4/dev", "");
    let error = space.open(address, None).unwrap_err();
    assert!(
        error.to_string().contains("VFIO_GET_API_VERSION"),
        "{error}"
    );
    host.write("dev/iommu", "");
    let error = space.open(address, None).unwrap_err();
    assert!(error.to_string().contains("IOMMU_IOAS_ALLOC"), "{error}");
    let forced = OpenOptions {
        interface: Interface::Group,
        ..host.options()
    };
    let error = VfioSpace::new(&forced).open(address, None).unwrap_err();
    assert!(
        error.to_string().contains("VFIO_GET_API_VERSION"),
        "{error}"
    );
    std::fs::remove_file(host.path("dev/iommu")).unwrap();
    let forced = OpenOptions {
        interface: Interface::Cdev,
        ..host.options()
    };
    let error = VfioSpace::new(&forced).open(address, None).unwrap_err();
    assert!(path_of(error).ends_with("dev/iommu"));
}

#[test]
fn h12_pinning_that_fails_at_a_later_region_undoes_only_itself() {
    let host = Host::new();
    let (space, fake, _lease, _file) = space(&host);
    for failing in 0..5 {
        let mut regions = Vec::new();
        for number in 0..5 {
            if number == failing {
                fake.0.lock().unwrap().refuse = Some(libc::ENOMEM);
                assert!(space.map(PAGE).is_err());
                break;
            }
            regions.push(space.map(PAGE).unwrap());
        }
        assert_eq!(space.mapped_bytes(), 4096 * failing);
        drop(regions);
        assert_eq!((space.mapped_bytes(), space.leaked_bytes()), (0, 0));
    }
    space.map(PAGE).unwrap();
}

#[test]
fn a_child_of_fork_ends_nothing_of_its_parents() {
    let host = Host::new();
    let address = host.function("0000:31:10.1", Some("vfio-pci"), Some(9));
    host.write(
        "proc/self/status",
        "VmLck: 0 kB\nCapEff: 0000000000004000\n",
    );
    for ours in [true, false] {
        let mut space = VfioSpace::new(&host.options());
        if !ours {
            let inner = Arc::get_mut(&mut space.0).unwrap();
            inner.process = inner.process.wrapping_add(1);
        }
        let fake = Fake::default();
        space.0.lock().iommu = Some(Box::new(fake.clone()));
        assert_eq!(space.is_ours(), ours);
        let (_file, lease) = space.open(address, None).unwrap();
        let region = space.map(PAGE).unwrap();
        fake.log();
        drop(region);
        drop(lease);
        let log = fake.log();
        assert_eq!(log.is_empty(), !ours, "{log:?}");
    }
}
