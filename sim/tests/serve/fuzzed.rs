//! Random messages against a session: shapes that nearly make sense, and bytes that do not.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::*;
use crate::dice::Dice;
use proptest::prelude::*;
use vfnic_sim::serve::Blank;
use vfnic_sim::serve::fuzz::{Bench, Outcome, fuzz_session};

impl Dice {
    fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }
    /// Values at which things go wrong.
    fn value(&mut self) -> u64 {
        match self.below(8) {
            0 => self.below(4),
            1 => 1 << self.below(64),
            2 => (1u64 << self.below(64)).wrapping_sub(1),
            3 => u64::MAX - self.below(4096),
            4 => self.below(64) * 4096,
            5 => self.below(0x5000),
            6 => self.roll(),
            _ => self.below(256) << 12,
        }
    }
    fn word(&mut self) -> u32 {
        self.value() as u32
    }
}

/// A message of some command with fields that are sometimes right.
fn body(dice: &mut Dice, command: u16) -> Vec<u8> {
    let small = |dice: &mut Dice| {
        if dice.one_in(8) {
            dice.word()
        } else {
            dice.below(9) as u32
        }
    };
    match command {
        VERSION => version(
            0,
            dice.word() as u16,
            if dice.one_in(4) {
                b"{\"capa\0"
            } else {
                b"{}\0"
            },
        ),
        DMA_MAP => {
            let flags = if dice.one_in(8) {
                dice.word()
            } else {
                1 + dice.below(3) as u32
            };
            let offset = if dice.one_in(4) {
                dice.value()
            } else {
                dice.below(4) << 12
            };
            let size = if dice.one_in(4) {
                dice.value()
            } else {
                (1 + dice.below(16)) << 12
            };
            dma_map(flags, offset, dice.value() & !0xfff, size)
        }
        DMA_UNMAP => {
            let flags = if dice.one_in(8) { dice.word() } else { 0 };
            dma_unmap(flags, dice.value() & !0xfff, dice.value())
        }
        GET_INFO => words(&[small(dice).wrapping_add(16), 0, 0, 0]),
        GET_REGION_INFO => words(&[32, 0, small(dice), 0, 0, 0, 0, 0]),
        GET_IRQ_INFO | GET_REGION_IO_FDS => words(&[16, 0, small(dice), 0]),
        SET_IRQS => {
            let flags = if dice.one_in(4) {
                dice.word()
            } else {
                [0x21, 0x22, 0x24][dice.below(3) as usize]
            };
            let count = if dice.one_in(8) {
                dice.word()
            } else {
                dice.below(4) as u32
            };
            let data = if flags & 2 != 0 {
                vec![1; (count & 0xff) as usize]
            } else {
                Vec::new()
            };
            let start = if dice.one_in(4) { dice.word() } else { 0 };
            set_irqs(
                flags,
                if dice.one_in(8) { dice.word() } else { 2 },
                start,
                count,
                &data,
            )
        }
        REGION_READ => span(dice.value() & 0x7fff, small(dice), dice.below(64) as u32),
        REGION_WRITE => {
            let count = if dice.one_in(4) {
                dice.below(0x4000)
            } else {
                4
            };
            let offset = if dice.one_in(4) {
                dice.value()
            } else {
                dice.below(0x1000) * 4
            };
            [
                span(offset, small(dice), count as u32),
                vec![dice.roll() as u8; count as usize],
            ]
            .concat()
        }
        WRITE_MULTI => {
            let count = dice.below(5);
            let mut body = count.to_le_bytes().to_vec();
            for _ in 0..count {
                body.extend(span(dice.below(0x4100), 0, dice.below(10) as u32));
                body.extend(dice.roll().to_le_bytes());
            }
            body
        }
        _ => vec![0; dice.below(100) as usize],
    }
}

const COMMANDS: [u16; 14] = [
    DMA_MAP,
    DMA_MAP,
    DMA_UNMAP,
    GET_INFO,
    GET_REGION_INFO,
    GET_REGION_IO_FDS,
    GET_IRQ_INFO,
    SET_IRQS,
    SET_IRQS,
    REGION_READ,
    REGION_WRITE,
    WRITE_MULTI,
    RESET,
    VERSION,
];

/// One message, mangled now and then.
fn fuzzed(dice: &mut Dice) -> Vec<u8> {
    let command = if dice.one_in(16) {
        dice.word() as u16
    } else {
        COMMANDS[dice.below(14) as usize]
    };
    let flags = if dice.one_in(16) {
        dice.word() & 0x3f
    } else {
        0
    };
    let mut bytes = message(dice.roll() as u16, command, flags, &body(dice, command));
    if dice.one_in(8) {
        let at = dice.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << dice.below(8);
    }
    if dice.one_in(32) {
        let len = 16 + dice.below(bytes.len() as u64) as usize;
        bytes.resize(len, 0x5a);
        let size = (len as u32).to_le_bytes();
        bytes[4..8].copy_from_slice(&size);
    }
    bytes
}

/// Descriptors to send along: often what the command wants.
struct Bag {
    memory: Vec<OwnedFd>,
    events: Vec<OwnedFd>,
}

impl Bag {
    fn new() -> Self {
        Self {
            memory: (0..4).map(|_| memory(1 << 16)).collect(),
            events: (0..4).map(|_| event()).collect(),
        }
    }
    fn pick<'a>(&'a self, dice: &mut Dice, bytes: &[u8]) -> Vec<&'a OwnedFd> {
        let command = u16::from_le_bytes([bytes[2], bytes[3]]);
        let any = dice.below(4) as usize;
        match command {
            _ if dice.one_in(16) => self.memory.iter().chain(&self.events).skip(any).collect(),
            DMA_MAP => self.memory.iter().skip(any).take(1).collect(),
            SET_IRQS => self.events.iter().take(dice.below(4) as usize).collect(),
            _ => Vec::new(),
        }
    }
}

fn agreed(function: &Blank) -> Bench {
    let mut bench = Bench::new(Arc::new(function.clone()));
    let hello = message(0, VERSION, 0, &version(0, 0, b"{}\0"));
    let (head, body) = hello.split_first_chunk().expect("a header");
    assert_eq!(bench.message(head, body, Vec::new()), Outcome::Done);
    bench
}

fn rss() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("statm");
    pages
        .split(' ')
        .nth(1)
        .and_then(|field| field.parse::<usize>().ok())
        .expect("pages")
        * 4096
}

/// 10^6 messages when optimised; a tenth otherwise.
#[test]
fn a_million_fuzzed_messages() {
    let most = if cfg!(debug_assertions) {
        100_000
    } else {
        1_000_000
    };
    let seed = std::env::var("FUZZ_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(0x1234_5678_9abc_def1);
    let mut dice = Dice::new(seed);
    let bag = Bag::new();
    let function = Blank::default();
    let mut bench = agreed(&function);
    let (mut done, mut refused, mut over) = (0u64, 0u64, 0u64);
    let mut longest = Duration::ZERO;
    let mut before = None;
    for round in 0..most {
        let bytes = fuzzed(&mut dice);
        let fds: Result<Vec<OwnedFd>, _> = bag
            .pick(&mut dice, &bytes)
            .into_iter()
            .map(|fd| fd.try_clone())
            .collect();
        let (head, body) = bytes.split_first_chunk().expect("a header");
        let start = Instant::now();
        match bench.message(head, body, fds.expect("descriptors")) {
            Outcome::Done => done += 1,
            Outcome::Refused => refused += 1,
            Outcome::Over => {
                over += 1;
                drop(bench);
                assert!(
                    !function.is_open(),
                    "a session is over and holds the function"
                );
                assert!(function.mappings().is_empty());
                bench = agreed(&function);
            }
        }
        longest = longest.max(start.elapsed());
        if round == most / 10 {
            before = Some(rss());
        }
    }
    let grown = rss().saturating_sub(before.expect("reached"));
    println!(
        "{most} messages: {done} done, {refused} refused, {over} sessions ended; longest {longest:?}; {} KiB more in memory \
         than after a tenth of them; seed {seed}",
        grown >> 10
    );
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    assert!(grown < 32 << 20, "memory grew by {grown} bytes");
    // The fuzzer does reach what it is for.
    assert!(
        done > most / 4 && refused > most / 10 && over > most / 100,
        "{done} {refused} {over}"
    );
}

/// The same over a real socket, where the bytes of one message may be taken for another's.
#[test]
fn fuzzed_messages_over_a_socket() {
    let most = if cfg!(debug_assertions) {
        5_000
    } else {
        50_000
    };
    let bed = Bed::new();
    let bag = Bag::new();
    let mut dice = Dice::new(0xfeed_beef_0bad_cafe);
    let mut client = bed.client();
    let mut sessions = 0;
    for _ in 0..most {
        let bytes = fuzzed(&mut dice);
        let fds: Vec<_> = bag
            .pick(&mut dice, &bytes)
            .into_iter()
            .map(|fd| fd.as_fd())
            .collect();
        client.raw_fds(&bytes, &fds);
        // What the header says may be more than was sent: fill up, so that neither side waits for the other.
        let claimed = u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes")) as usize;
        let flags = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"));
        if (bytes.len() + 1..1 << 21).contains(&claimed) {
            let _ = std::io::Write::write_all(&mut client.socket, &vec![0; claimed - bytes.len()]);
        }
        let id = u16::from_le_bytes([bytes[0], bytes[1]]);
        if claimed == bytes.len()
            && flags & 0x1f == 0
            && client.try_answer().is_some_and(|answer| answer.id == id)
        {
            // An answer may be the last one; one more question tells.
            client.raw_or_closed(&message(0, GET_INFO, 0, &words(&[16, 0, 0, 0])));
            if client.try_answer().is_some() {
                continue;
            }
        }
        // Out of step, or thrown out: start again.
        drop(client);
        client = bed.client();
        sessions += 1;
    }
    drop(client);
    bed.serves_the_next(Duration::from_secs(2));
    println!("{most} messages, {sessions} sessions ended");
    assert!(sessions > 10 && sessions < most / 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 500 } else { 20_000 }))]

    /// The shape of the fuzz target: any bytes at all, after a version or without.
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000), agreed in any::<bool>()) {
        let hello = message(0, VERSION, 0, &version(0, 0, b"{}\0"));
        let stream = if agreed { [hello, bytes].concat() } else { bytes };
        fuzz_session(&stream);
    }

    /// Well-formed headers in front of any bytes.
    #[test]
    fn any_bodies_are_survived(messages in proptest::collection::vec((0u16..20, proptest::collection::vec(any::<u8>(), 0..80), 0u8..5), 0..40)) {
        let mut stream = message(0, VERSION, 0, &version(0, 0, b"{}\0"));
        for (command, body, fds) in messages {
            let mut bytes = message(1, command, 0, &body);
            bytes[12] = fds;
            stream.extend(bytes);
        }
        fuzz_session(&stream);
    }
}
