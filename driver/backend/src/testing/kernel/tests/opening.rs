use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;

use super::*;
use crate::testing::kernel::device::CONFIG;
use crate::{Handed, Registers, VfToken, open_handed, open_handed_in};

#[test]
fn a_function_that_is_open_is_known_quiet_and_works() {
    for interface in BOTH {
        let (host, kernel) = host();
        let function = opened(&host, interface);
        assert_eq!(function.name(), VF);
        let ids = function.ids();
        assert_eq!(
            (ids.vendor, ids.device, ids.class),
            (0x8086, 0x10ca, 0x2_0000)
        );
        let command = |expected: u8| {
            let mut command = [0; 1];
            let read = kernel
                .state()
                .vf()
                .file()
                .read_exact_at(&mut command, CONFIG + 4);
            read.unwrap();
            assert_eq!(command, [expected], "{interface:?}");
        };
        command(0x02);
        function.set_bus_master(true).unwrap();
        command(0x06);

        // Registers are where the device's are.
        let bar = function.bar(0).unwrap();
        assert_eq!(bar.len(), 0x4000);
        bar.write32(0x3ffc, 0x1234_5678);
        function.bar(0).unwrap().doorbell(0x18).unwrap().ring(9);
        let mut raw = [0; 4];
        let file = kernel.state().vf().file().try_clone().unwrap();
        file.read_exact_at(&mut raw, 0x1_3ffc).unwrap();
        assert_eq!(u32::from_le_bytes(raw), 0x1234_5678);
        file.write_all_at(&7_u32.to_le_bytes(), 0x1_0018).unwrap();
        assert_eq!(bar.read32(0x18), 7);

        // Memory is where the device was told.
        let region = function.dma_space().map(PAGE).unwrap();
        assert_eq!(mapped(&kernel), [(region.iova().0, 4096)]);
        assert_eq!(function.dma_space().mapped_bytes(), 4096);
        drop(region);
        assert_eq!(mapped(&kernel), []);

        function.reset().unwrap();
        assert_eq!(kernel.state().vf().resets, 1);
        command(0x02);
        drop((function, bar, file));
        kernel.assert_at_rest("closed");
    }
}

#[test]
fn interrupts_go_to_the_events_given_and_to_none_afterwards() {
    for interface in BOTH {
        let (host, kernel) = host();
        let function = opened(&host, interface);
        assert_eq!(function.vector_count(), 3);
        let events: Vec<_> = (0..3).map(|_| Event::new().unwrap()).collect();
        let fds = |events: &[Event]| -> Vec<_> {
            let fds = events.iter().map(|event| event.as_fd().as_raw_fd());
            fds.map(i32::cast_unsigned).collect()
        };
        // More than there were takes switching off in between; the kernel would refuse it otherwise.
        for count in [1, 3, 3, 2, 0, 2] {
            function.enable_vectors(&events[..count]).unwrap();
            assert_eq!(
                kernel.state().vf().routed[2],
                fds(&events[..count]),
                "{count}"
            );
        }
        function.disable_vectors().unwrap();
        function.disable_vectors().unwrap();
        assert!(kernel.state().vf().routed[2].is_empty());
        // As does a reset, after which messages would go nowhere.
        function.enable_vectors(&events).unwrap();
        function.reset().unwrap();
        assert!(kernel.state().vf().routed[2].is_empty());
        // The other two kinds are the function's own.
        let own = [
            function.error_event().unwrap(),
            function.request_event().unwrap(),
        ];
        assert_eq!(kernel.state().vf().routed[3], fds(&own[..1]));
        assert_eq!(kernel.state().vf().routed[4], fds(&own[1..]));
    }
}

#[test]
fn without_being_told_the_newer_interface_is_taken_where_it_can_be_had() {
    let (host, kernel) = host();
    let taken = || {
        drop(opened(&host, Interface::Auto));
        let log = kernel.log().join(" ");
        (log.contains("SET_CONTAINER"), log.contains("BIND_IOMMUFD"))
    };
    assert_eq!(taken(), (false, true));
    // A node that this user may not open, even where it may everything else: the other interface it is.
    let iommufd = host.path("dev/iommu");
    fs::remove_file(&iommufd).unwrap();
    host.link("dev/iommu", "/proc/sys/kernel/ostype");
    assert_eq!(taken(), (true, false));
    // Nor the other: the first refusal is told, with whose the node is.
    fs::remove_file(host.path("dev/vfio/9")).unwrap();
    host.link("dev/vfio/9", "/proc/sys/kernel/ostype");
    let error = open(VF, &host.options()).unwrap_err();
    let PciError::Permission { path, owner, .. } = &error else {
        panic!("{error}")
    };
    assert!(path.ends_with("dev/iommu"), "{path}");
    assert!(owner.contains("mode 444"), "{owner}");
    fs::remove_file(&iommufd).unwrap();
    let error = open(VF, &host.options()).unwrap_err();
    assert!(error.to_string().contains("dev/vfio/9"), "{error}");
}

/// Several functions in one space: one container or address space for all, groups joined once and left one by one.
#[test]
fn functions_share_a_space_whichever_way_they_are_opened() {
    for interface in BOTH {
        let (host, kernel) = host();
        kernel.function(&host, "0000:31:10.3", 9, "vfio5");
        kernel.function(&host, "0000:31:10.5", 10, "vfio6");
        let space = VfioSpace::new(&by(&host, interface));
        let one = open_in(VF, &space).unwrap();
        let region = space.map(PAGE).unwrap();
        let two = open_in("0000:31:10.3", &space).unwrap();
        let three = open_in("0000:31:10.5", &space).unwrap();
        assert_eq!(mapped(&kernel), [(region.iova().0, 4096)], "{interface:?}");
        let log = kernel.log();
        let made = |name: &str| log.iter().filter(|call| call.starts_with(name)).count();
        match interface {
            Interface::Cdev => {
                assert_eq!(made("IOMMU_IOAS_ALLOC"), 1);
                let spaces = kernel.state().spaces.keys().copied().collect::<Vec<_>>();
                let all = kernel
                    .state()
                    .functions
                    .iter()
                    .all(|of| of.space == Some(spaces[0]));
                assert!(all && spaces.len() == 1);
            }
            _ => {
                assert_eq!(made("VFIO_SET_IOMMU"), 1);
                assert_eq!(made("VFIO_GROUP_SET_CONTAINER"), 2);
            }
        }
        // A group is left with the last of its functions, and one of which no function could be opened at once.
        let held = || [9, 10].map(|group| kernel.state().is_joined(group));
        let groups = interface == Interface::Group;
        assert_eq!(held(), [groups, groups]);
        drop((one, three));
        assert_eq!(held(), [groups, false]);
        for call in ["VFIO_GROUP_GET_DEVICE_FD", "VFIO_DEVICE_BIND_IOMMUFD"] {
            kernel.state().refuse.insert(call, libc::EIO);
        }
        open_in("0000:31:10.5", &space).unwrap_err();
        open_in(VF, &space).unwrap_err();
        assert_eq!(held(), [groups, false]);
        kernel.state().refuse.clear();
        drop(open_in(VF, &space).unwrap());
        // The mapping outlives the functions, and is there for those that come.
        drop(two);
        assert_eq!(mapped(&kernel), [(region.iova().0, 4096)], "{interface:?}");
        drop(open_in("0000:31:10.5", &space).unwrap());
        assert_eq!(mapped(&kernel), [(region.iova().0, 4096)], "{interface:?}");
        drop(region);
        drop(space);
        kernel.assert_at_rest("closed");
    }
}

/// A space of which all functions have been closed can be had again by others, while it is kept.
#[test]
fn a_space_that_is_empty_holds_no_group() {
    let (host, kernel) = host();
    let space = VfioSpace::new(&by(&host, Interface::Group));
    for _ in 0..2 {
        let function = open_in(VF, &space).unwrap();
        let region = space.map(PAGE).unwrap();
        drop(function);
        assert!(kernel.state().type1, "the mapping needs it");
        drop(region);
        assert!(!kernel.state().type1);
        // Another container can have the group now, and this one later.
        drop(opened(&host, Interface::Group));
    }
    drop(space);
    kernel.assert_at_rest("closed");
}

#[test]
fn the_token_is_told_in_the_words_of_each_interface_and_a_wrong_one_said() {
    for interface in BOTH {
        let (host, kernel) = host();
        let token: VfToken = "14d63f20-8445-11ea-8900-1f9ce7d5650d".parse().unwrap();
        let with = |vf_token| OpenOptions {
            vf_token,
            ..by(&host, interface)
        };
        // The PF has a driver of the kernel's: it has no token, and being told one the kernel would refuse.
        drop(open(VF, &with(Some(token))).unwrap());
        let pf = "0000:31:00.0";
        host.function(pf, Some("vfio-pci"), Some(8));
        let physfn = format!("sys/bus/pci/devices/{VF}/physfn");
        host.link(&physfn, format!("../{pf}"));
        kernel.state().vf().token = Some(token.0);
        drop(open(VF, &with(Some(token))).unwrap());
        for (given, says) in [
            (None, "none was given"),
            (Some(VfToken([1; 16])), "not the PF's"),
        ] {
            let error = open(VF, &with(given)).unwrap_err();
            assert!(matches!(error, PciError::Unsupported { .. }), "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
        kernel.assert_at_rest("closed");
    }
}

#[test]
fn registers_by_call_are_never_mapped() {
    for interface in BOTH {
        let (host, kernel) = host();
        let options = OpenOptions {
            registers: Registers::ByCall,
            ..by(&host, interface)
        };
        let function = open(VF, &options).unwrap();
        let bar = function.bar(3).unwrap();
        bar.write32(8, 5);
        let mut raw = [0; 4];
        let read = kernel.state().vf().file().read_exact_at(&mut raw, 0x2_0008);
        read.unwrap();
        assert_eq!((u32::from_le_bytes(raw), bar.read32(8)), (5, 5));
        // A mapping would have kept it open, and a handle on registers keeps what they are reached by.
        drop(function);
        assert_eq!(bar.read32(8), 5);
        drop(bar);
        kernel.assert_at_rest("closed");
    }
}

/// Any device node will do for a descriptor that was handed over: this kernel says what it is.
fn node(path: &str) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

/// The container may be empty yet, have the group, or have its IOMMU already: whoever hands it over decides. They are
/// still the parent's, too, so nothing is ever left here.
#[test]
fn h29_a_group_that_is_handed_over_may_be_in_its_container_already() {
    for (joined, type1) in [(false, false), (true, false), (true, true)] {
        let (host, kernel) = host();
        let (container, group) = (node("/dev/null"), node("/dev/full"));
        kernel.hand(&container, &group, Interface::Group);
        kernel.state().groups.get_mut(&9).unwrap().lock.elsewhere = joined;
        kernel.state().type1 = type1;
        let handed = Handed::Group {
            container: container.into(),
            group: group.into(),
        };
        let function = open_handed(VF, handed, &host.options()).unwrap();
        assert_eq!(function.ids().device, 0x10ca);
        let region = function.dma_space().map(PAGE).unwrap();
        assert_eq!(mapped(&kernel), [(region.iova().0, 4096)]);
        let log = kernel.log();
        let made = |name: &str| log.iter().any(|call| call.starts_with(name));
        assert_eq!(made("VFIO_GROUP_SET_CONTAINER"), !joined);
        assert!(made("VFIO_GROUP_GET_DEVICE_FD"), "{log:?}");
    }
}

#[test]
fn a_function_and_an_iommufd_are_handed_over_and_only_one_space_of_them_is_made() {
    let (host, kernel) = host();
    let iommufd = node("/dev/null");
    // Reads as zeros, takes what is written.
    let own = node("/dev/zero");
    kernel.hand(&iommufd, &own, Interface::Cdev);
    let handed = || Handed::Cdev {
        iommufd: iommufd.try_clone().unwrap().into(),
        device: own.try_clone().unwrap().into(),
    };
    let space = VfioSpace::new(&host.options());
    let function = open_handed_in(VF, handed(), &space).unwrap();
    assert_eq!(function.ids().vendor, 0);
    let region = space.map(PAGE).unwrap();
    assert_eq!(mapped(&kernel), [(region.iova().0, 4096)]);
    drop((function, region));
    assert!(kernel.state().vf().space.is_none(), "detached");
    // Where others of its interface are it has a place; only that this node is bound already.
    let error = open_handed_in(VF, handed(), &space).unwrap_err();
    assert!(matches!(error, PciError::Busy { .. }), "{error}");
    // In a space of the other interface it has no place.
    let space = VfioSpace::new(&by(&host, Interface::Group));
    let _other = open_in(VF, &space).unwrap();
    kernel.function(&host, "0000:31:10.3", 10, "vfio5");
    let error = open_handed_in("0000:31:10.3", handed(), &space).unwrap_err();
    assert!(error.to_string().contains("a container"), "{error}");
}

#[test]
fn h29_handed_over_groups_join_a_container_of_their_own() {
    let (host, kernel) = host();
    let (container, group) = (node("/dev/null"), node("/dev/full"));
    kernel.hand(&container, &group, Interface::Group);
    let handed = || Handed::Group {
        container: container.try_clone().unwrap().into(),
        group: group.try_clone().unwrap().into(),
    };
    let space = VfioSpace::new(&host.options());
    drop(open_handed_in(VF, handed(), &space).unwrap());
    drop(open_handed_in(VF, handed(), &space).unwrap());
    // In a space of the other interface they have no place.
    let space = VfioSpace::new(&by(&host, Interface::Cdev));
    drop(open_in(VF, &space).unwrap());
    let error = open_handed_in(VF, handed(), &space).unwrap_err();
    assert!(error.to_string().contains("an iommufd"), "{error}");
}

#[test]
fn whoever_may_not_open_one_kind_of_node_is_let_in_by_the_other_if_he_left_it_open_which() {
    for (interface, group_node, denials, by_group) in [
        (Interface::Auto, true, 1, true),
        (Interface::Auto, true, 2, false),
        (Interface::Auto, false, 1, false),
        (Interface::Cdev, true, 1, false),
    ] {
        let (host, kernel) = host();
        if !group_node {
            fs::remove_file(host.path("dev/vfio/9")).unwrap();
        }
        calls::deny(denials);
        let opened = open(VF, &by(&host, interface));
        assert_eq!(calls::denials_left(), 0);
        match opened {
            Ok(_) => assert!(by_group, "{interface:?}"),
            Err(PciError::Permission { path, .. }) => {
                assert!(!by_group && path.ends_with("dev/iommu"), "{path}");
            }
            Err(error) => panic!("{interface:?}, {denials}: {error}"),
        }
        let log = kernel.log();
        let made = |name: &str| log.iter().any(|call| call.starts_with(name));
        assert_eq!(made("VFIO_GROUP_GET_DEVICE_FD"), by_group);
    }
}
