//! A simulated 82599 behind the server, while its DMA runs: what must be over when the client says so or goes (V9, V15),
//! and what others notice of it (nothing).

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vfnic_hw::Model;
use vfnic_sim::serve::{CardVf, Limits, Server};
use vfnic_sim::{Card, ViolationKind};

use crate::client::*;
use crate::life::is_of_len;

/// Registers of the 82599's VF that a sender needs.
const CONTROL: u64 = 0x0;
const MAILBOX: u64 = 0x2fc;
const MAILBOX_MEMORY: u64 = 0x200;
const TX_BASE: u64 = 0x2000;
const TX_LEN: u64 = 0x2008;
const TX_HEAD: u64 = 0x2010;
const TX_TAIL: u64 = 0x2018;
const TX_CONTROL: u64 = 0x2028;

/// Where the client's memory is for the device; the ring comes first, one buffer for all descriptors behind it.
const MEMORY: u64 = 0x4000_0000;
const RING: u64 = 4096;
const BUFFER: u64 = MEMORY + RING * 16;
const FRAME: u32 = 1514;
const MEMORY_LEN: u64 = 1 << 18;

struct CardBed {
    card: Arc<Card>,
    server: Server,
    dir: Dir,
}

impl CardBed {
    fn new() -> Self {
        let card = Card::builder(Model::I82599)
            .vfs(2)
            .threaded()
            .build()
            .expect("a card");
        let card = Arc::new(card);
        let dir = Dir::new();
        let server =
            Server::start(dir.path(), CardVf::all(&card), Limits::default()).expect("a server");
        Self { card, server, dir }
    }

    fn client(&self, vf: usize) -> Client {
        let mut client = Client::connect(&self.dir.path().join(format!("vf{vf}.sock")));
        client.agree();
        client
    }

    /// Bytes of frames that the VF sent so far, by the card's own count.
    fn sent(&self, vf: u16) -> u64 {
        self.card.vf_stats(vf).expect("a VF").gptc
    }
}

/// Register accesses of a client.
trait Registers {
    fn get(&mut self, offset: u64) -> u32;
    fn set(&mut self, offset: u64, value: u32);
}

impl Registers for Client {
    fn get(&mut self, offset: u64) -> u32 {
        let data = self.read(0, offset, 4).expect("a register");
        u32::from_le_bytes(data.try_into().expect("four bytes"))
    }
    fn set(&mut self, offset: u64, value: u32) {
        self.write(0, offset, &value.to_le_bytes())
            .expect("a register");
    }
}

/// Resets the VF and shakes hands with the PF.
fn shake_hands(client: &mut Client) {
    client.write(CONFIG, 4, &[6, 0]).expect("bus master");
    client.set(CONTROL, 1 << 26);
    client.set(MAILBOX, 4);
    assert_eq!(client.get(MAILBOX) & 4, 4, "the mailbox is ours");
    client.set(MAILBOX_MEMORY, 1);
    client.set(MAILBOX, 1);
    assert_eq!(client.get(MAILBOX) & 0x30, 0x30, "the PF answered");
    client.set(MAILBOX, 4);
    client.set(MAILBOX, 2);
}

/// A ring full of frames, all with one and the same broadcast as their content, every one asking for a write-back.
fn full_ring() -> OwnedFd {
    let file = File::from(memory(MEMORY_LEN));
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame.resize(FRAME as usize, 0);
    file.write_all_at(&frame, BUFFER - MEMORY).expect("memory");
    // Advanced data descriptor, end of packet, with CRC and write-back; payload length in the top bits.
    let command = FRAME | 3 << 20 | 0b10_1011 << 24;
    let descriptor = [
        &BUFFER.to_le_bytes()[..],
        &command.to_le_bytes(),
        &(FRAME << 14).to_le_bytes(),
    ]
    .concat();
    for index in 0..RING {
        file.write_all_at(&descriptor, index * 16).expect("memory");
    }
    file.into()
}

/// Lends the memory and starts sending, slowly enough to be at it for seconds: 11 Mb/s.
fn start_sending(bed: &CardBed, client: &mut Client, file: &OwnedFd) {
    bed.card.pf().set_vf_max_tx_rate(0, 11).expect("a rate");
    bed.card.pf().set_vf_spoofchk(0, false).expect("a switch");
    assert_eq!(client.map(3, 0, MEMORY, MEMORY_LEN, Some(file)), Ok(()));
    shake_hands(client);
    client.set(TX_BASE, MEMORY as u32);
    client.set(TX_BASE + 4, (MEMORY >> 32) as u32);
    client.set(TX_LEN, (RING * 16) as u32);
    client.set(TX_HEAD, 0);
    client.set(TX_TAIL, 0);
    client.set(TX_CONTROL, 1 << 25);
    assert!(eventually(SOON, || client.get(TX_CONTROL) & (1 << 25) != 0));
    client.set(TX_TAIL, (RING - 1) as u32);
    let before = bed.sent(0);
    assert!(
        eventually(SOON, || bed.sent(0) > before + 20),
        "the control: it is sending"
    );
    assert!(bed.sent(0) < RING / 2, "and not done already");
}

/// How many descriptors have been written back.
fn written_back(file: &OwnedFd) -> usize {
    let file = File::from(file.try_clone().expect("a descriptor"));
    let mut ring = vec![0; (RING * 16) as usize];
    file.read_exact_at(&mut ring, 0).expect("memory");
    ring.chunks_exact(16)
        .filter(|descriptor| descriptor[12] & 1 != 0)
        .count()
}

#[test]
fn v9_unmap_while_the_ring_is_in_it() {
    let bed = CardBed::new();
    let mut client = bed.client(0);
    let file = full_ring();
    start_sending(&bed, &mut client, &file);
    assert_eq!(client.unmap(0, MEMORY, MEMORY_LEN), Ok(()));
    // From the reply on nothing is read or written there.
    let (sent, done) = (bed.sent(0), written_back(&file));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!((bed.sent(0), written_back(&file)), (sent, done));
    // The card says what it thinks of that, and lives.
    let violations = bed.card.take_violations();
    let unmapped = |kind: &ViolationKind| matches!(kind, ViolationKind::UnmapWhileEnabled { .. });
    assert!(
        violations.iter().any(|violation| unmapped(&violation.kind)),
        "{violations:?}"
    );
    client.set(TX_CONTROL, 0);
    start_sending(&bed, &mut client, &file);
}

#[test]
fn v9_unmaps_and_maps_under_a_running_ring() {
    let bed = CardBed::new();
    let mut client = bed.client(0);
    let file = full_ring();
    start_sending(&bed, &mut client, &file);
    for round in 0..2000u32 {
        let (flags, address, size) = if round % 3 == 0 {
            (2, 0, 0)
        } else {
            (0, MEMORY, MEMORY_LEN)
        };
        assert_eq!(client.unmap(flags, address, size), Ok(()));
        assert_eq!(client.map(3, 0, MEMORY, MEMORY_LEN, Some(&file)), Ok(()));
        client.set(TX_TAIL, round % (RING as u32));
    }
    drop(client);
    let mut next = bed.client(0);
    start_sending(&bed, &mut next, &file);
}

#[test]
fn v15_h17_a_client_dies_in_the_middle_of_dma() {
    let bed = CardBed::new();
    let mut other = bed.client(1);
    shake_hands(&mut other);
    for _ in 0..3 {
        let mut client = bed.client(0);
        let file = full_ring();
        start_sending(&bed, &mut client, &file);
        let start = Instant::now();
        drop(client);
        let mapped = || {
            let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
            maps.lines()
                .any(|line| is_of_len(line, MEMORY_LEN) && is_file(line, &file))
        };
        assert!(
            eventually(Duration::from_millis(100), || !mapped()),
            "{:?}",
            start.elapsed()
        );
        let (sent, done) = (bed.sent(0), written_back(&file));
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(
            (bed.sent(0), written_back(&file)),
            (sent, done),
            "DMA after death"
        );
        assert_ne!(other.get(0x8), u32::MAX, "the other function answers");
    }
    let counters = &bed.server.counters()[0];
    assert_eq!(
        counters.sessions.load(std::sync::atomic::Ordering::Relaxed),
        3
    );
    assert!(
        eventually(SOON, || bed.card.function(0).is_ok()),
        "the function is free"
    );
}

/// Whether a line of /proc/self/maps is of this file.
fn is_file(line: &str, file: &OwnedFd) -> bool {
    let inode = rustix::fs::fstat(file.as_fd()).expect("a file").st_ino;
    line.split_whitespace().nth(4) == Some(&inode.to_string())
}

#[test]
fn v18_resets_of_a_real_function_take_their_time_and_no_more() {
    let bed = CardBed::new();
    let mut client = bed.client(0);
    let start = Instant::now();
    for _ in 0..5 {
        client.write(CONFIG, 4, &[6, 0]).expect("bus master");
        assert_eq!(client.call(RESET, &[], &[]), Ok(vec![]));
        assert_eq!(
            client.read(CONFIG, 4, 2),
            Ok(vec![0, 0]),
            "bus mastering is off after a reset"
        );
    }
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    // The other way to reset it, through configuration space.
    let device_control = 0xa8;
    client.write(CONFIG, 4, &[6, 0]).expect("bus master");
    client
        .write(CONFIG, device_control, &[0, 0x80])
        .expect("a reset");
    assert_eq!(client.read(CONFIG, 4, 2), Ok(vec![0, 0]));
    assert_eq!(
        client.read(CONFIG, device_control + 1, 1),
        Ok(vec![0]),
        "the bit reads 0"
    );
    shake_hands(&mut client);
}

#[test]
fn v23_every_offset_of_a_real_function() {
    let bed = CardBed::new();
    let mut client = bed.client(0);
    for pattern in [0x0000_0000u32, 0xffff_ffff, 0x0400_0000, 0xa5a5_5a5a] {
        for offset in (0..0x4000).step_by(4) {
            client.post(
                REGION_WRITE,
                NO_REPLY,
                &[span(offset, 0, 4), words(&[pattern])].concat(),
                &[],
            );
            client.post(REGION_READ, 0, &span(offset, 0, 4), &[]);
            assert_eq!(client.answer().body.len(), 20);
        }
        for offset in 0..4096 {
            client.post(
                REGION_WRITE,
                NO_REPLY,
                &[span(offset, CONFIG, 1), vec![pattern as u8]].concat(),
                &[],
            );
        }
        assert_eq!(
            client.read(CONFIG, 0, 4),
            Ok(words(&[0x10ed_8086])),
            "ids cannot be written"
        );
    }
    // Vectors that the client never routed, fired by the card itself.
    assert_eq!(client.call(RESET, &[], &[]), Ok(vec![]));
    shake_hands(&mut client);
}

#[test]
fn interrupts_of_a_real_function_survive_its_resets() {
    let bed = CardBed::new();
    let mut client = bed.client(0);
    let event = event();
    assert_eq!(client.set_irqs(0x24, 2, 0, 1, &[], &[&event]), Ok(()));
    // Cause set and mask set for vector 0: the message goes out.
    let fire = |client: &mut Client| {
        client.write(CONFIG, 4, &[6, 0]).expect("bus master");
        client.set(0x108, 1);
        client.set(0x104, 1);
    };
    fire(&mut client);
    assert_eq!(taken(&event), 1);
    assert_eq!(client.call(RESET, &[], &[]), Ok(vec![]));
    fire(&mut client);
    assert_eq!(taken(&event), 1, "after VFIO_USER_DEVICE_RESET");
    client.write(CONFIG, 0xa8, &[0, 0x80]).expect("a reset");
    fire(&mut client);
    assert_eq!(
        taken(&event),
        1,
        "after a reset through configuration space"
    );
}

#[test]
fn g13_accesses_of_every_size_have_a_defined_result() {
    let bed = CardBed::new();
    let mut client = bed.client(0);
    shake_hands(&mut client);
    let memory = MAILBOX_MEMORY;
    client
        .write(0, memory, &words(&[0x4433_2211, 0x8877_6655]))
        .expect("two registers");
    for size in [1u32, 2, 3, 4, 8, 12] {
        for offset in (0..0x30)
            .chain(memory - 5..memory + 9)
            .chain(0x3ff0..0x4004)
        {
            let inside = offset + u64::from(size) <= 0x4000;
            let read = client.read(0, offset, size);
            assert_eq!(read.is_ok(), inside, "{offset:#x}+{size}");
            // Read as the bytes they are of.
            if offset >= memory && offset + u64::from(size) <= memory + 8 {
                let at = (offset - memory) as usize;
                let whole = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];
                assert_eq!(read, Ok(whole[at..at + size as usize].to_vec()));
            }
            // Less than a register changes none.
            if size < 4 {
                let written = client.write(0, offset, &vec![0xff; size as usize]);
                assert_eq!(written.is_ok(), inside, "{offset:#x}+{size}");
            }
        }
    }
    assert_eq!(client.get(memory), 0x4433_2211);
    shake_hands(&mut client);
}
