//! Hostile clients: interrupts (V12).

use rustix::fs::OFlags;
use vfnic_sim::serve::Limits;

use crate::client::*;

/// Flags, index, start, count, data, number of descriptors.
type Case<'a> = (u32, u32, u32, u32, &'a [u8], usize);

#[test]
fn v12_set_irqs() {
    let bed = Bed::new();
    let mut client = bed.client();
    let function = &bed.functions[0];
    let good: Vec<_> = (0..3).map(|_| event()).collect();
    let three: Vec<_> = good.iter().collect();
    assert_eq!(client.set_irqs(0x24, 2, 0, 3, &[], &three), Ok(()));
    let other = [event(), event(), event(), event()];
    let others: Vec<_> = other.iter().collect();
    let refused: Vec<Case<'_>> = vec![
        (0x24, 5, 0, 1, &[], 1),
        (0x24, u32::MAX, 0, 1, &[], 1),
        (0x24, 0, 0, 1, &[], 1),
        (0x24, 1, 0, 1, &[], 1),
        (0x24, 2, 3, 1, &[], 1),
        (0x24, 2, 1, 3, &[], 3),
        (0x24, 2, u32::MAX, 1, &[], 1),
        (0x24, 2, 1, u32::MAX, &[], 0),
        (0x24, 2, 0, 4, &[], 4),
        (0x24, 2, 0, 0, &[], 0),
        (0x24, 2, 0, 3, &[], 2),
        (0x24, 2, 0, 2, &[], 3),
        (0x21, 2, 0, 3, &[], 3),
        (0x22, 2, 0, 3, &[1, 1, 1], 3),
        (0x22, 2, 0, 3, &[1, 1], 0),
        (0x22, 2, 0, 3, &[1, 1, 1, 1], 0),
        (0x22, 2, 0, 0, &[], 0),
        (0x21, 2, 1, 0, &[], 0),
        (0x21, 2, 0, 1, &[1], 0),
        (0x20, 2, 0, 3, &[], 0),
        (0x01, 2, 0, 3, &[], 0),
        (0x23, 2, 0, 3, &[1, 1, 1], 0),
        (0x39, 2, 0, 3, &[], 0),
        (0x61, 2, 0, 3, &[], 0),
        (0, 2, 0, 0, &[], 0),
        (u32::MAX, 2, 0, 3, &[], 0),
    ];
    for (flags, index, start, count, data, fds) in refused {
        let result = client.set_irqs(flags, index, start, count, data, &others[..fds]);
        assert_eq!(
            result,
            Err(EINVAL),
            "flags {flags:#x} index {index} {start}+{count} with {fds}"
        );
    }
    // Masking is not offered.
    assert_eq!(client.set_irqs(0x09, 2, 0, 3, &[], &[]), Err(ENOTSUP));
    assert_eq!(client.set_irqs(0x11, 2, 0, 3, &[], &[]), Err(ENOTSUP));
    // One bad descriptor among good ones: none of them is taken.
    let file = memory(4096);
    assert_eq!(
        client.set_irqs(0x24, 2, 0, 3, &[], &[&other[0], &file, &other[1]]),
        Err(EINVAL)
    );
    let mut argsz = set_irqs(0x22, 2, 0, 3, &[1, 1, 1]);
    argsz[0] = 22;
    assert_eq!(client.call(SET_IRQS, &argsz, &[]), Err(EINVAL));
    // After all that the first routes stand.
    for (vector, fd) in good.iter().enumerate() {
        assert!(function.fire(vector));
        assert_eq!(taken(fd), 1);
    }
    assert!(other.iter().all(|fd| count(fd) == 0));
}

#[test]
fn v12_interrupts_arrive() {
    let bed = Bed::new();
    let mut client = bed.client();
    let function = &bed.functions[0];
    let events: Vec<_> = (0..3).map(|_| event()).collect();
    assert!(!function.is_routed());
    // One at a time, as QEMU does; what fires meanwhile on the others is pending, shows, and comes when it can.
    assert_eq!(client.set_irqs(0x24, 2, 1, 1, &[], &[&events[1]]), Ok(()));
    assert!(function.fire(2) && function.fire(1));
    assert_eq!(taken(&events[1]), 1);
    assert!(eventually(SOON, || client.read(3, 0x2000, 8)
        == Ok(4u64.to_le_bytes().to_vec())));
    assert_eq!(client.set_irqs(0x24, 2, 2, 1, &[], &[&events[2]]), Ok(()));
    assert_eq!(taken(&events[2]), 1);
    assert_eq!(client.read(3, 0x2000, 8), Ok(vec![0; 8]));
    // Triggered by the client itself: all, and by choice.
    assert_eq!(client.set_irqs(0x24, 2, 0, 1, &[], &[&events[0]]), Ok(()));
    assert_eq!(client.set_irqs(0x21, 2, 0, 3, &[], &[]), Ok(()));
    assert!(events.iter().all(|fd| taken(fd) == 1));
    assert_eq!(client.set_irqs(0x22, 2, 0, 3, &[1, 0, 1], &[]), Ok(()));
    assert_eq!(
        [taken(&events[0]), taken(&events[2]), count(&events[1])],
        [1, 1, 0]
    );
    // Taken away one by one, MSI-X goes off with the last; and all at once.
    assert_eq!(client.set_irqs(0x24, 2, 0, 2, &[], &[]), Ok(()));
    assert!(function.is_routed());
    assert_eq!(client.set_irqs(0x24, 2, 2, 1, &[], &[]), Ok(()));
    assert!(!function.is_routed());
    assert_eq!(client.set_irqs(0x24, 2, 0, 1, &[], &[&events[0]]), Ok(()));
    assert_eq!(client.set_irqs(0x21, 2, 0, 0, &[], &[]), Ok(()));
    assert!(!function.is_routed());
    // The request for the function goes to its own event.
    let request = event();
    assert_eq!(client.set_irqs(0x24, 4, 0, 1, &[], &[&request]), Ok(()));
    function.ask_back();
    assert_eq!(taken(&request), 1);
}

#[test]
fn v12_an_eventfd_made_to_block_holds_up_its_own_session_only() {
    let bed = Bed::with(2, Limits::default());
    let mut other = bed.client_of(1);
    let full = event();
    {
        let mut client = bed.client_of(0);
        assert_eq!(client.set_irqs(0x24, 2, 0, 1, &[], &[&full]), Ok(()));
        // Full and blocking: a careless write would now wait for ever.
        rustix::fs::fcntl_setfl(&full, OFlags::empty()).expect("flags");
        rustix::io::write(&full, &(u64::MAX - 1).to_ne_bytes()).expect("room");
        for _ in 0..10 {
            assert!(bed.functions[0].fire(0));
            other.read(0, 0, 4).expect("the other session is served");
        }
    }
    bed.serves_the_next(SOON);
}

#[test]
fn v12_an_eventfd_filled_again_and_again() {
    let bed = Bed::new();
    let contested = std::sync::Arc::new(event());
    {
        let mut client = bed.client();
        assert_eq!(client.set_irqs(0x24, 2, 0, 1, &[], &[&contested]), Ok(()));
        rustix::fs::fcntl_setfl(&*contested, OFlags::empty()).expect("flags");
        let filler = contested.clone();
        let filling = std::thread::spawn(move || {
            for _ in 0..20_000 {
                if count(&filler) < u64::MAX - 1 {
                    // May find it taken in between; then it stays as it is.
                    let _ = rustix::fs::fcntl_setfl(&*filler, OFlags::NONBLOCK);
                    let _ = rustix::io::write(&*filler, &(u64::MAX - 1).to_ne_bytes());
                    let _ = rustix::fs::fcntl_setfl(&*filler, OFlags::empty());
                }
            }
        });
        while !filling.is_finished() {
            bed.functions[0].fire(0);
        }
        // A blocking read of an empty counter would have hung the filler; it left the counter full.
        filling.join().expect("the filler ends");
    }
    bed.serves_the_next(SOON);
}
