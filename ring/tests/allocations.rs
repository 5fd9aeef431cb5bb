//! Receiving, sending and forwarding allocate nothing, once everything has been used.

mod toy;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use toy::Toy;
use vfnic_ring::{Batch, Dialect, Fate, PoolConfig, Simd, TxOffload, forward};

/// The system's allocator, which counts what this thread asks of it.
struct Counting;

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: hands everything to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations that `run` makes.
fn count(run: impl FnOnce()) -> usize {
    let before = ASKED.get();
    run();
    ASKED.get() - before
}

/// Receives what is there and sends it, one way or the other.
fn pass(toy: &mut Toy, batch: &mut Batch, way: usize) {
    match way % 3 {
        0 => {
            forward(&mut toy.rx, &mut toy.tx, batch, |frame| {
                if frame.data()[0] % 7 == 0 {
                    return Fate::Drop;
                }
                Fate::Send
            })
            .expect("sent");
        }
        1 => {
            toy.rx.receive(batch).expect("same pool");
            batch.retain_mut(|frame| frame.data()[0] % 7 != 0);
            for mut frame in batch.frames_mut() {
                frame.request(TxOffload::vlan(7)).expect("a tag");
            }
            toy.tx.send(batch).expect("sent");
        }
        _ => {
            toy.rx.receive(batch).expect("same pool");
            let mut shelf = std::array::from_fn::<_, 32, _>(|_| None);
            for (place, packet) in shelf.iter_mut().zip(batch.drain_packets()) {
                *place = Some(packet);
            }
            for packet in shelf.into_iter().flatten() {
                batch.push(packet).expect("room");
            }
            toy.tx.send(batch).expect("sent");
        }
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(count(|| drop(Box::new(std::hint::black_box(1u64)))), 1);
}

#[test]
#[cfg_attr(
    miri,
    ignore = "counts over hundreds of rounds, which take minutes there, and looks at no memory"
)]
fn nothing_is_allocated_in_steady_state() {
    for simd in Simd::ALL {
        let config = PoolConfig {
            buffers: 1024,
            ..PoolConfig::default()
        };
        let mut toy = Toy::new(128, config, Dialect::X540, 4000).with_simd(simd);
        toy.rx.arm().expect("enough buffers");
        let mut batch = toy.pool.batch(32);
        let mut counted = 0;
        for round in 0..300 {
            // Owned packets are free of charge only where they are in one buffer.
            let long = round % 3 != 2 && round % 5 == 0;
            for number in 0..(round * 7) % if long { 8 } else { 40 } {
                let len = if long { 3000 } else { 60 };
                toy.deliver(&vec![u8::try_from(number).expect("few"); len], 2048);
            }
            let now = count(|| pass(&mut toy, &mut batch, round));
            // The first hundred rounds fill the lists.
            if round > 100 {
                counted += now;
            }
            toy.transmit(usize::MAX);
        }
        assert!(toy.tx.stats().packets() > 1000, "{simd:?}");
        assert_eq!(counted, 0, "{simd:?}");
    }
}
