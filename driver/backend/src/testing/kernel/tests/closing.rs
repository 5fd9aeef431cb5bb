use super::*;

/// Opens, uses and closes all there is, in that order.
fn life(host: &Host, interface: Interface) -> Result<(), String> {
    let say = |error: &dyn std::fmt::Display| error.to_string();
    let space = VfioSpace::new(&by(host, interface));
    let function = open_in(VF, &space).map_err(|error| say(&error))?;
    let bar = function.bar(0).map_err(|error| say(&error))?;
    let region = space.map(PAGE).map_err(|error| say(&error))?;
    let events = [Event::new().unwrap(), Event::new().unwrap()];
    let work = || {
        function.enable_vectors(&events)?;
        function.set_bus_master(true)?;
        function.reset()?;
        function.enable_vectors(&events[..1])?;
        function.set_bus_master(true)
    };
    work().map_err(|error| say(&error))?;
    drop(bar);
    drop(function);
    drop(region);
    match space.leaked_bytes() {
        0 => Ok(()),
        leaked => Err(format!("{leaked} bytes leaked")),
    }
}

/// DMA ends before interrupts, interrupts before the address space goes, and it before the memory.
#[test]
fn h16_a_function_goes_quiet_before_it_goes() {
    let groups = [
        "bus master false",
        "VFIO_DEVICE_SET_IRQS 2, 0",
        "VFIO_DEVICE_SET_IRQS 3, 0",
        "VFIO_DEVICE_SET_IRQS 4, 0",
    ];
    for (interface, then) in [
        (
            Interface::Group,
            &["function closed", "VFIO_IOMMU_UNMAP_DMA", "container empty"][..],
        ),
        (
            Interface::Cdev,
            &[
                "VFIO_DEVICE_DETACH_IOMMUFD_PT",
                "function closed",
                "IOMMU_IOAS_UNMAP",
                "IOMMU_DESTROY",
            ],
        ),
    ] {
        let (host, kernel) = host();
        let function = opened(&host, interface);
        let region = function.dma_space().map(PAGE).unwrap();
        function.enable_vectors(&[Event::new().unwrap()]).unwrap();
        function.set_bus_master(true).unwrap();
        kernel.log();
        drop(function);
        drop(region);
        let expected: Vec<_> = groups.iter().chain(then).copied().collect();
        assert_eq!(kernel.log(), expected, "{interface:?}");
        kernel.assert_at_rest("closed");
    }
}

/// Every system call of a function's life fails in turn, with each errno of interest: nothing is left, and the next
/// life is a good one.
#[test]
fn h12_h25_whatever_call_fails_nothing_is_left_and_the_next_opening_works() {
    const MANY: usize = 1000;
    for interface in BOTH {
        let (host, kernel) = host();
        calls::plan(vec![None; MANY]);
        life(&host, interface).unwrap();
        let calls = MANY - calls::left();
        assert!((30..200).contains(&calls), "{interface:?}: {calls}");
        for errno in [
            libc::EPERM,
            libc::EIO,
            libc::ENOMEM,
            libc::EACCES,
            libc::EBUSY,
            libc::ENODEV,
            libc::EINVAL,
        ] {
            let mut failures = 0;
            for failing in 0..calls {
                let before = std::iter::repeat_n(None, failing);
                calls::plan(before.chain([Some(errno)]));
                let result = life(&host, interface);
                calls::plan([]);
                kernel.assert_at_rest(&format!("{interface:?} {failing} {errno} {result:?}"));
                if let Err(error) = result {
                    failures += 1;
                    assert!(!error.is_empty());
                }
            }
            // What goes wrong while closing, and with notices that one can do without, is no failure.
            assert!(failures * 2 > calls, "{interface:?}: {failures} of {calls}");
            life(&host, interface).unwrap();
        }
        // An interruption is none at all.
        for interrupted in 0..calls {
            let before = std::iter::repeat_n(None, interrupted);
            calls::plan(before.chain([Some(libc::EINTR)]));
            life(&host, interface).unwrap();
        }
        calls::plan([]);
        kernel.assert_at_rest("all of it");
    }
}

#[test]
fn h10_memory_that_the_kernel_will_not_take_back_is_not_given_to_anybody() {
    for (interface, call) in [
        (Interface::Group, "VFIO_IOMMU_UNMAP_DMA"),
        (Interface::Cdev, "IOMMU_IOAS_UNMAP"),
    ] {
        let (host, kernel) = host();
        let space = VfioSpace::new(&by(&host, interface));
        let function = open_in(VF, &space).unwrap();
        let region = space.map(PAGE).unwrap();
        let iova = region.iova().0;
        kernel.state().refuse.insert(call, libc::EIO);
        drop(region);
        assert_eq!((space.leaked_bytes(), space.mapped_bytes()), (4096, 4096));
        kernel.state().refuse.clear();
        let region = space.map(PAGE).unwrap();
        assert_ne!(region.iova().0, iova);
        assert_eq!(mapped(&kernel).len(), 2, "{interface:?}");
        drop((region, function, space));
        kernel.assert_at_rest("the space closed");
    }
}

/// Bytes that somebody unmapped behind the back: less is ended than was asked for, or nothing.
#[test]
fn h10_an_unmapping_that_finds_nothing_there_is_believed_and_the_memory_kept() {
    let (host, kernel) = host();
    let space = VfioSpace::new(&by(&host, Interface::Group));
    let _function = open_in(VF, &space).unwrap();
    let region = space.map(PAGE).unwrap();
    kernel.state().mapped.clear();
    drop(region);
    assert_eq!(space.leaked_bytes(), 4096);
}

/// Handles outlive the function: what they are handles of stays open as long, and no longer.
#[test]
fn registers_keep_a_function_open_and_quiet() {
    for interface in BOTH {
        let (host, kernel) = host();
        let function = opened(&host, interface);
        let bar = function.bar(0).unwrap();
        function.enable_vectors(&[Event::new().unwrap()]).unwrap();
        function.set_bus_master(true).unwrap();
        kernel.log();
        drop(function);
        let log = kernel.log();
        assert!(log.contains(&"bus master false".to_owned()), "{log:?}");
        assert!(!log.contains(&"function closed".to_owned()), "{log:?}");
        assert!(kernel.state().vf().routed.iter().all(Vec::is_empty));
        bar.write32(0, 1);
        let error = open(VF, &by(&host, interface)).map(drop);
        // The kernel lets a group's functions be opened again by whoever has the group: nobody, until it is left.
        assert!(interface == Interface::Group || error.is_err());
        drop(bar);
        kernel.assert_at_rest("closed");
        drop(opened(&host, interface));
    }
}
