use super::super::server::{Device, Peer, Request, Server};
use super::super::{UserOptions, connect_in};
use super::*;
use vfnic_hw::{PciError, PciFunction};

fn sensible() -> Server {
    Server::start(1, Box::new(|_, _, _| false))
}

fn opened(server: &Server, space: &UserSpace) -> Arc<dyn PciFunction> {
    connect_in(&server.path, space, &UserOptions::default()).unwrap()
}

#[test]
fn h8_h11_memory_is_asked_for_in_the_pages_there_are_and_inside_the_ranges() {
    let (server, space) = (sensible(), UserSpace::default());
    let _function = opened(&server, &space);
    assert_eq!((space.page_size(), space.mapped_bytes()), (0, 0));
    let ranges = space.ranges();
    let end = (1 << 48) - 1;
    assert_eq!(ranges, [IovaRange { start: 0, end }]);
    let large = DmaRequest {
        len: 3 << 20,
        prefer_huge: true,
    };
    let region = space.map(large).unwrap();
    // Whole huge pages where there are some that are free, else ordinary ones, aligned as if they were.
    assert!([page_size(), HUGE_PAGE].contains(&space.page_size()));
    assert_eq!(region.len() % space.page_size(), 0);
    let (first, last) = (region.iova().0, region.iova().0 + region.len() as u64 - 1);
    assert_eq!(first % HUGE_PAGE as u64, 0);
    assert!(
        ranges
            .iter()
            .any(|range| range.start <= first && last <= range.end)
    );
    assert_eq!(space.mapped_bytes(), region.len() as u64);
    // More than there can be is refused before anything is made of it.
    for len in [usize::MAX, usize::MAX / 2 + 2] {
        let error = space.map(DmaRequest { len, ..large }).unwrap_err();
        assert!(matches!(error, DmaError::Allocate { .. }), "{error}");
    }
    drop(region);
    assert_eq!(space.mapped_bytes(), 0);
}

#[test]
fn d61_d64_config_space_has_an_end_and_a_bar_is_one_however_often_it_is_asked_for() {
    let (server, space) = (sensible(), UserSpace::new());
    let function = opened(&server, &space);
    for (offset, len) in [(0xffff, 4), (0x1000, 1), (0xffe, 4)] {
        for write in [false, true] {
            let mut data = vec![0; len];
            let result = match write {
                false => function.read_config(offset, &mut data),
                true => function.write_config(offset, &data),
            };
            let error = result.unwrap_err();
            assert!(matches!(error, PciError::Unsupported { .. }), "{error}");
        }
    }
    function.read_config(0, &mut [0; 4]).unwrap();
    let (one, other) = (function.bar(0).unwrap(), function.bar(0).unwrap());
    one.write32(0x20, 7);
    assert_eq!(other.read32(0x20), 7);
    // Handles go on after the function: reads are then answered by nobody.
    drop(function);
    drop(server);
    assert_eq!(other.read32(0x20), u32::MAX);
}

#[test]
fn a_server_that_cannot_reset_and_knows_of_no_errors_is_opened_quiet() {
    // DEVICE_GET_INFO: no reset among the flags, and kinds of interrupts up to MSI-X.
    let info: Vec<u8> = [16u32, 2, 9, 3].map(u32::to_ne_bytes).concat();
    let whim = move |peer: &mut Peer, _: &mut Device, request: &Request| {
        let mine = request.command == 4;
        if mine {
            peer.reply(request, &info);
        }
        mine
    };
    let server = Server::start(1, Box::new(whim));
    let function = opened(&server, &UserSpace::new());
    assert_eq!(function.vector_count(), 3);
    assert!(function.error_event().is_none() && function.request_event().is_none());
    let error = function.reset().unwrap_err();
    assert!(
        matches!(&error, PciError::Unsupported { what, .. } if what == "a reset"),
        "{error}"
    );
    let device = server.device.lock().unwrap();
    assert_eq!(device.resets, 0);
    assert_eq!(device.config[4] & 4, 0, "bus mastering");
}
