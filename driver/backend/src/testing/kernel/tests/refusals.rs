use super::*;

/// What a call's failure is called, with what was known of it.
#[test]
fn h2_h3_what_the_kernel_refuses_has_a_name() {
    struct Case {
        interface: Interface,
        call: &'static str,
        errno: i32,
        is: fn(&PciError) -> bool,
        says: &'static str,
    }
    let case = |interface, call, errno, is, says| Case {
        interface,
        call,
        errno,
        is,
        says,
    };
    let sys: fn(&PciError) -> bool = |error| matches!(error, PciError::Sys { .. });
    let busy: fn(&PciError) -> bool = |error| matches!(error, PciError::Busy { .. });
    let gone: fn(&PciError) -> bool = |error| matches!(error, PciError::Gone { .. });
    let (group, cdev) = (Interface::Group, Interface::Cdev);
    for case in [
        case(
            group,
            "VFIO_SET_IOMMU",
            libc::EPERM,
            sys,
            "interrupt remapping",
        ),
        case(group, "VFIO_SET_IOMMU", libc::ENOMEM, sys, "VFIO_SET_IOMMU"),
        case(group, "VFIO_SET_IOMMU", libc::EINVAL, sys, "VFIO_SET_IOMMU"),
        case(
            group,
            "VFIO_CHECK_EXTENSION",
            libc::EINVAL,
            sys,
            "CHECK_EXTENSION",
        ),
        case(group, "VFIO_GROUP_GET_STATUS", libc::ENODEV, gone, VF),
        case(
            group,
            "VFIO_GROUP_SET_CONTAINER",
            libc::EINVAL,
            sys,
            "SET_CONTAINER",
        ),
        case(
            group,
            "VFIO_GROUP_GET_DEVICE_FD",
            libc::EBUSY,
            busy,
            "dev/vfio/9",
        ),
        case(group, "VFIO_GROUP_GET_DEVICE_FD", libc::ENODEV, gone, VF),
        case(
            group,
            "VFIO_GROUP_GET_DEVICE_FD",
            libc::EIO,
            sys,
            "DEVICE_FD",
        ),
        case(
            group,
            "VFIO_IOMMU_GET_INFO",
            libc::EFAULT,
            sys,
            "IOMMU_GET_INFO",
        ),
        case(
            cdev,
            "IOMMU_IOAS_ALLOC",
            libc::ENOMEM,
            sys,
            "IOMMU_IOAS_ALLOC",
        ),
        case(
            cdev,
            "VFIO_DEVICE_BIND_IOMMUFD",
            libc::EBUSY,
            busy,
            "devices/vfio4",
        ),
        case(
            cdev,
            "VFIO_DEVICE_BIND_IOMMUFD",
            libc::EINVAL,
            busy,
            "devices/vfio4",
        ),
        case(cdev, "VFIO_DEVICE_BIND_IOMMUFD", libc::ENODEV, gone, VF),
        case(
            cdev,
            "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
            libc::EPERM,
            sys,
            "interrupt remapping",
        ),
        case(
            cdev,
            "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
            libc::EBUSY,
            sys,
            "ATTACH",
        ),
        case(
            cdev,
            "IOMMU_IOAS_IOVA_RANGES",
            libc::EMSGSIZE,
            sys,
            "IOVA_RANGES",
        ),
        case(cdev, "VFIO_DEVICE_GET_INFO", libc::ENODEV, gone, VF),
        case(
            group,
            "VFIO_DEVICE_GET_INFO",
            libc::EIO,
            sys,
            "DEVICE_GET_INFO",
        ),
        case(
            cdev,
            "VFIO_DEVICE_GET_REGION_INFO",
            libc::EIO,
            sys,
            "REGION_INFO 7",
        ),
        case(
            group,
            "VFIO_DEVICE_GET_IRQ_INFO",
            libc::EIO,
            sys,
            "IRQ_INFO 2",
        ),
    ] {
        let (host, kernel) = host();
        kernel.state().refuse.insert(case.call, case.errno);
        let error = open(VF, &by(&host, case.interface)).unwrap_err();
        let text = error.to_string();
        assert!((case.is)(&error), "{} {}: {error:?}", case.call, case.errno);
        assert!(
            text.contains(case.says),
            "{} {}: {text}",
            case.call,
            case.errno
        );
        if let Some(kept) = errno(&error) {
            assert_eq!(kept, case.errno, "{}", case.call);
        }
        kernel.assert_at_rest(case.call);
        kernel.state().refuse.clear();
        drop(opened(&host, case.interface));
    }
}

#[test]
fn h2_a_group_that_is_not_viable_names_its_members() {
    let (host, kernel) = host();
    kernel.state().groups.get_mut(&9).unwrap().viable = false;
    let error = open(VF, &by(&host, Interface::Group)).unwrap_err();
    let PciError::GroupNotViable { group, members, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((*group, members.as_str()), (9, "0000:31:10.1 (vfio-pci)"));
    kernel.assert_at_rest("refused");
}

/// Of two in one process, and of one whose group somebody else's driver has.
#[test]
fn h3_h26_a_second_opener_of_a_node_is_told_who_has_it() {
    let (host, kernel) = host();
    let first = opened(&host, Interface::Cdev);
    host.write("proc/4711/comm", "testpmd\n");
    host.link("proc/4711/fd/7", host.path("dev/vfio/devices/vfio4"));
    let error = open(VF, &by(&host, Interface::Cdev)).unwrap_err();
    let PciError::Busy { holder, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(holder.as_deref(), Some("pid 4711 (testpmd)"));
    // The first is none the worse for it.
    drop(first.dma_space().map(PAGE).unwrap());
    drop(first);
    kernel.assert_at_rest("closed");
    // A neighbour's driver came between looking and binding.
    kernel
        .state()
        .refuse
        .insert("VFIO_DEVICE_BIND_IOMMUFD", libc::EBUSY);
    let target = crate::check::Target::find(VF.parse().unwrap(), &host.options()).unwrap();
    host.function("0000:31:00.0", Some("ixgbe"), Some(9));
    let mut iommufd = crate::iommu::Iommufd::new(&target, &host.options()).unwrap();
    let error = crate::iommu::Iommu::open(&mut iommufd, &target, &host.options()).unwrap_err();
    let PciError::GroupNotViable { members, .. } = &error else {
        panic!("{error}")
    };
    assert!(members.contains("0000:31:00.0 (ixgbe)"), "{members}");
}

#[test]
fn h22_a_kernel_of_another_version_or_without_type_1_is_refused_with_both_said() {
    for (version, has_type1, says) in [
        (1, true, "VFIO version 1, type 1 IOMMU driver there"),
        (0, false, "VFIO version 0, type 1 IOMMU driver absent"),
        (
            i32::MAX,
            false,
            "version 2147483647, type 1 IOMMU driver absent",
        ),
    ] {
        let (host, kernel) = host();
        kernel.state().api_version = version;
        kernel.state().has_type1 = has_type1;
        let error = open(VF, &by(&host, Interface::Group)).unwrap_err();
        assert!(matches!(error, PciError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(says), "{error}");
        kernel.assert_at_rest(says);
        // The other interface has none of that.
        drop(opened(&host, Interface::Auto));
    }
}

/// A function of which the kernel makes no node of its own, where the newer interface is insisted on.
#[test]
fn h22_a_function_without_a_node_of_its_own_cannot_be_opened_by_it() {
    let (host, kernel) = host();
    let own = format!("sys/bus/pci/devices/{VF}/vfio-dev");
    std::fs::remove_dir_all(host.path(&own)).unwrap();
    let error = open(VF, &by(&host, Interface::Cdev)).unwrap_err();
    let PciError::NoNode { path, .. } = &error else {
        panic!("{error}")
    };
    assert!(path.ends_with("dev/vfio/devices"), "{path}");
    kernel.assert_at_rest("refused");
    drop(opened(&host, Interface::Auto));
}

#[test]
fn h6_h7_h9_what_stands_in_the_way_of_a_mapping_is_passed_on() {
    for (interface, call) in [
        (Interface::Group, "VFIO_IOMMU_MAP_DMA"),
        (Interface::Cdev, "IOMMU_IOAS_MAP"),
    ] {
        let (host, kernel) = host();
        let function = opened(&host, interface);
        let space = function.dma_space();
        for errno in [libc::ENOMEM, libc::ENOSPC, libc::EFAULT] {
            kernel.state().refuse.insert(call, errno);
            let DmaError::Map { source, .. } = space.map(PAGE).unwrap_err() else {
                panic!("{errno}")
            };
            assert_eq!(source.raw_os_error(), Some(errno));
        }
        kernel.state().refuse.clear();
        // A place that is taken: the next one, not the same for ever.
        let first = space.map(PAGE).unwrap();
        let iova = first.iova().0;
        drop(first);
        let put = |kernel: &Kernel| {
            let mut state = kernel.state();
            match interface {
                Interface::Cdev => {
                    *state.spaces.values_mut().next().unwrap() = [(iova, 4096)].into()
                }
                _ => state.mapped = [(iova, 4096)].into(),
            }
        };
        put(&kernel);
        let DmaError::Map { source, .. } = space.map(PAGE).unwrap_err() else {
            panic!()
        };
        assert_eq!(source.raw_os_error(), Some(libc::EEXIST));
        assert_ne!(space.map(PAGE).unwrap().iova().0, iova);
    }
}
