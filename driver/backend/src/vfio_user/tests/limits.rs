//! What a server says that it has and takes, at its limits.

use super::*;

/// A server that says this of region `index` in place of what it has: its length.
fn with_region(index: u32, len: u64) -> Server {
    Server::start(
        1,
        Box::new(move |peer, _, request| {
            if request.command != 5 || request.u32(8) != index {
                return false;
            }
            let words = [80u32, 3, index, 0].map(u32::to_ne_bytes).concat();
            peer.reply(
                request,
                &[words, len.to_ne_bytes().to_vec(), vec![0; 8]].concat(),
            );
            true
        }),
    )
}

#[test]
fn a_bar_has_at_least_a_register_and_a_number_up_to_5() {
    for (index, len, there) in [
        (2, 3, false),
        (2, 4, true),
        (5, 0x1000, true),
        (6, 0x1000, false),
    ] {
        let server = with_region(index, len);
        let bar = open(&server).bar(u8::try_from(index).unwrap());
        assert_eq!(bar.is_ok(), there, "BAR {index} of {len} bytes");
    }
}

#[test]
fn a_server_is_told_of_as_many_windows_as_it_takes_and_of_no_more() {
    let server = Server::start(
        1,
        Box::new(|peer, _, request| {
            let version = request.command == 1;
            if version {
                let text = b"{\"capabilities\":{\"max_dma_maps\":2}}\0";
                peer.reply(request, &[&[0, 0, 0, 0], &text[..]].concat());
            }
            version
        }),
    );
    let function = open(&server);
    let space = function.dma_space();
    let (one, two) = (space.map(SMALL).unwrap(), space.map(SMALL).unwrap());
    let error = space.map(SMALL).unwrap_err();
    let vfnic_hw::DmaError::Map { source, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(source.raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(server.device.lock().unwrap().windows.len(), 2);
    let asked = |command| {
        let device = server.device.lock().unwrap();
        device
            .log
            .iter()
            .filter(|(number, _)| *number == command)
            .count()
    };
    assert_eq!(asked(2), 2, "it was not asked for a third");
    drop(one);
    let three = space.map(SMALL).unwrap();
    drop((two, three));
    assert_eq!(asked(3), 3);
}

#[test]
fn memory_of_a_huge_page_and_more_begins_where_a_huge_page_can() {
    const HUGE: usize = 2 << 20;
    let space = UserSpace::new();
    let _first = space.map(SMALL).unwrap();
    for len in [HUGE, HUGE + 1] {
        let request = DmaRequest {
            len,
            prefer_huge: false,
        };
        let region = space.map(request).unwrap();
        assert!(region.iova().0.is_multiple_of(HUGE as u64), "{len}");
    }
}
