use std::iter;

use super::*;
use crate::testing::{Host, calls};
use crate::{OpenOptions, PciFunction};

/// A file in place of a function: 256 bytes of config space at 4096, a register file at 0.
fn function(host: &Host, registers: Registers) -> VfioFunction {
    let address = host.function("0000:31:10.1", Some("vfio-pci"), Some(9));
    let file = crate::memory::Memory::shared(8192, false).unwrap();
    let file = file.file().unwrap().try_clone().unwrap();
    let options = OpenOptions {
        registers,
        ..host.options()
    };
    VfioFunction {
        device: Arc::new(Device {
            lease: Lease::of(&VfioSpace::new(&options), address),
            file,
        }),
        config: Region {
            size: 256,
            offset: 4096,
            ..Region::default()
        },
        ids: PciIds::default(),
        vectors: 3,
        can_reset: false,
        error: None,
        request: None,
        bars: Mutex::default(),
        control: Mutex::default(),
        clock: Arc::new(RealClock::new()),
    }
}

#[test]
fn config_space_is_where_the_kernel_says_and_has_an_end() {
    let host = Host::new();
    let function = function(&host, Registers::Mapped);
    function.write_config(0xfc, &[1, 2, 3, 4]).unwrap();
    let mut data = [0; 2];
    function.read_config(0xfd, &mut data).unwrap();
    assert_eq!(data, [2, 3]);
    let mut raw = [0; 4];
    function
        .file()
        .read_exact_at(&mut raw, 4096 + 0xfc)
        .unwrap();
    assert_eq!(raw, [1, 2, 3, 4]);
    for (offset, len) in [(0xfd, 4), (0x100, 1), (0xffff, 4)] {
        let error = function.read_config(offset, &mut vec![0; len]).unwrap_err();
        assert!(matches!(error, PciError::Unsupported { .. }));
        assert!(function.write_config(offset, &vec![0; len]).is_err());
    }
    // Where no file can have it.
    let mut function = function;
    function.config.offset = u64::MAX - 3;
    let error = function.read_config(4, &mut [0; 2]).unwrap_err();
    assert!(matches!(error, PciError::Unsupported { .. }), "{error}");
    assert!(function.write_config(4, &[0; 2]).is_err());
}

#[test]
fn bus_mastering_leaves_the_rest_of_the_command_alone() {
    let host = Host::new();
    let function = function(&host, Registers::Mapped);
    function.write_config(4, &[0x02, 0x04]).unwrap();
    let command = || {
        let mut command = [0; 2];
        function.read_config(4, &mut command).unwrap();
        command
    };
    function.set_bus_master(true).unwrap();
    assert_eq!(command(), [0x06, 0x04]);
    let file = function.file().try_clone().unwrap();
    drop(function);
    let mut after = [0; 1];
    file.read_exact_at(&mut after, 4096 + 4).unwrap();
    assert_eq!(after, [0x02], "off when it is closed");
}

#[test]
fn d60_registers_by_call_are_where_the_region_is_and_all_ones_where_nothing_is() {
    let host = Host::new();
    let function = function(&host, Registers::ByCall);
    let calls = |offset| {
        Arc::new(ByCall {
            device: function.device.clone(),
            offset,
        })
    };
    let window = Window::new("vf", 0, 0x4000, Vec::new(), calls(16));
    window.write32(8, 0x1234_5678);
    assert_eq!(window.read32(8), 0x1234_5678);
    let mut raw = [0; 4];
    function.file().read_exact_at(&mut raw, 24).unwrap();
    assert_eq!(raw, [0x78, 0x56, 0x34, 0x12]);
    // The file ends at 8192, and it is sealed: nothing beyond can be read, nothing written.
    assert_eq!(window.read32(0x3000), u32::MAX);
    window.write32(0x3000, 1);
    window.doorbell(0x18).unwrap().ring(9);
    assert_eq!(window.read32(0x18), 9);
}

#[test]
fn d61_a_region_is_mapped_as_far_as_it_may_be() {
    let host = Host::new();
    let function = function(&host, Registers::Mapped);
    let region = |flags, size, sparse| Region {
        flags,
        size,
        offset: 0,
        sparse,
    };
    let areas = |region: Region| -> Vec<_> {
        let areas = function.areas(0, &region);
        areas
            .iter()
            .map(|area| (area.start, area.map.len()))
            .collect()
    };
    let mmap = VFIO_REGION_INFO_FLAG_MMAP;
    assert_eq!(areas(region(mmap, 8192, None)), [(0, 8192)]);
    assert_eq!(areas(region(0, 8192, None)), []);
    let sparse = vec![(4096, 4096), (8192, 4096), (u64::MAX, 2)];
    assert_eq!(areas(region(mmap, 8192, Some(sparse))), [(4096, 4096)]);
}

#[test]
fn what_cannot_be_done_is_typed() {
    let host = Host::new();
    let mut function = function(&host, Registers::Mapped);
    let events: Vec<_> = (0..4).map(|_| Event::new().unwrap()).collect();
    let error = function.enable_vectors(&events).unwrap_err();
    assert!(matches!(
        error,
        PciError::Vectors {
            want: 4,
            have: 3,
            ..
        }
    ));
    let error = function.enable_vectors(&events[..3]).unwrap_err();
    assert!(matches!(error, PciError::Sys { .. }), "{error}");
    function.disable_vectors().unwrap();
    function.enable_vectors(&[]).unwrap();
    assert!(matches!(function.bar(6), Err(PciError::Bar { .. })));
    assert!(matches!(function.bar(0), Err(PciError::Sys { .. })));
    assert!(matches!(
        function.reset(),
        Err(PciError::Unsupported { .. })
    ));
    function.can_reset = true;
    let error = function.reset().unwrap_err();
    let PciError::Sys { call, source, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(
        (call.as_str(), source.raw_os_error()),
        ("VFIO_DEVICE_RESET", Some(libc::ENOTTY))
    );
}

#[test]
fn h29_a_device_that_is_no_vfio_device_is_refused_and_closed() {
    let host = Host::new();
    let function = function(&host, Registers::Mapped);
    let file = function.file().try_clone().unwrap();
    let address = "0000:31:10.1".parse().unwrap();
    let lease = Lease::of(&VfioSpace::new(&host.options()), address);
    let error = VfioFunction::new(Device { file, lease }).unwrap_err();
    assert!(
        error.to_string().contains("VFIO_DEVICE_GET_INFO"),
        "{error}"
    );
}

#[test]
fn d64_config_space_that_reads_short_or_not_at_all_is_an_error() {
    let host = Host::new();
    let mut function = function(&host, Registers::Mapped);
    // The file has 8192 bytes; the kernel says that config space goes on behind them.
    function.config.offset = 8190;
    let error = function.read_config(0, &mut [0; 4]).unwrap_err();
    let PciError::Sys { call, source, .. } = &error else {
        panic!("{error}")
    };
    assert!(call.contains("config space"), "{call}");
    assert_eq!(source.kind(), io::ErrorKind::UnexpectedEof);
    assert!(function.set_bus_master(true).is_err());
    function.config.offset = u64::MAX / 2 - 300;
    assert!(function.read_config(0, &mut [0; 4]).is_err());
    assert!(function.write_config(0, &[0; 4]).is_err());
    function.config.offset = 4096;
    let mut good = [0; 4];
    function.read_config(0, &mut good).unwrap();
    // Interrupted, and one byte a call: it goes on until it has all.
    let in_pieces = [libc::EINTR, 0, libc::EINTR, libc::EINTR, 0, 0].map(Some);
    calls::plan(in_pieces);
    let mut data = [0xa5; 4];
    function.read_config(0, &mut data).unwrap();
    assert_eq!((data, calls::left()), (good, 0));
    calls::plan(in_pieces);
    function.write_config(64, &[1, 2, 3, 4]).unwrap();
    assert_eq!(calls::left(), 0);
    function.read_config(64, &mut data).unwrap();
    assert_eq!(data, [1, 2, 3, 4]);
    // Anything else is the caller's to know, with its number, also in the middle.
    for plan in [&[libc::EIO][..], &[0, libc::EIO], &[libc::EINTR, libc::EIO]] {
        for write in [false, true] {
            calls::plan(plan.iter().copied().map(Some));
            let result = match write {
                false => function.read_config(0, &mut data),
                true => function.write_config(64, &data),
            };
            let Err(PciError::Sys { source, .. }) = result else {
                panic!("{plan:?}: {result:?}")
            };
            assert_eq!(source.raw_os_error(), Some(libc::EIO), "{plan:?}");
            assert_eq!(calls::left(), 0);
        }
    }
    calls::plan([Some(libc::EIO)]);
    assert!(function.set_bus_master(true).is_err());
    calls::plan([]);
}

#[test]
fn d66_h25_a_reset_that_the_kernel_is_too_busy_for_is_asked_for_again() {
    let host = Host::new();
    let mut function = function(&host, Registers::Mapped);
    function.can_reset = true;
    let errno = |error| match error {
        PciError::Sys { source, .. } => source.raw_os_error(),
        other => panic!("{other}"),
    };
    // What it does before it asks for the reset, which is the last call: the file is no device.
    calls::plan(vec![None; 100]);
    assert_eq!(errno(function.reset().unwrap_err()), Some(libc::ENOTTY));
    let before = 100 - calls::left() - 1;
    let busy = |times| {
        let before = iter::repeat_n(None, before);
        calls::plan(before.chain(iter::repeat_n(Some(libc::EAGAIN), times)));
    };
    // Busy a few times, then the real answer.
    busy(3);
    assert_eq!(errno(function.reset().unwrap_err()), Some(libc::ENOTTY));
    assert_eq!(calls::left(), 0);
    // Busy for good: it is asked a bounded number of times.
    busy(100);
    assert_eq!(errno(function.reset().unwrap_err()), Some(libc::EAGAIN));
    assert_eq!(calls::left(), 100 - RESET_TRIES as usize);
    calls::plan([]);
}
