//! What is fuzzed: one function a target, from bytes to a run that must not panic, hang or leave anything behind.
//!
//! The bodies know nothing of the fuzzer. `tests/fuzzing.rs` runs them on the saved corpora and on random bytes with
//! every `cargo test`; the crate in `tests/fuzz` runs them under libFuzzer.

mod device;
mod rings;
mod wire;

/// A target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name here, under libFuzzer and among the corpora.
    pub name: &'static str,
    /// Whether an execution is a sequence of steps on something that remembers. The others look at their input once.
    pub stateful: bool,
    /// Longest input worth trying, in bytes.
    pub longest: usize,
    /// From bytes to a run.
    pub body: fn(&[u8]),
}

const fn stateless(name: &'static str, longest: usize, body: fn(&[u8])) -> Target {
    Target {
        name,
        stateful: false,
        longest,
        body,
    }
}

const fn stateful(name: &'static str, body: fn(&[u8])) -> Target {
    Target {
        name,
        stateful: true,
        longest: 2048,
        body,
    }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    stateless("rx_desc", 80, rings::rx_desc),
    stateful("rx_ring", rings::rx_ring),
    stateful("tx_complete", rings::tx_complete),
    stateful("mailbox_vf", device::mailbox_vf),
    stateful("mailbox_pf", device::mailbox_pf),
    stateful("device_regs", device::device_regs),
    stateful("driver_vs_device", device::driver_vs_device),
    stateful("guest_driver", device::guest_driver),
    stateful("switch_frames", device::switch_frames),
    stateful("config_space", device::config_space),
    stateful("vfio_user_stream", wire::vfio_user_stream),
    stateful("vfio_user_session", wire::vfio_user_session),
    stateless("pcap", 512, wire::pcap),
    stateless("cli_bdf", 64, wire::cli_bdf),
    stateless("fault_plan", 128, wire::fault_plan),
    stateless("soak_frame", 32, wire::soak_frame),
];

/// Runs target `name` once.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("no target `{name}`"));
    (target.body)(data);
}

/// Bytes as choices; zeros once they are used up.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.bytes(N);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(crate) fn half(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(crate) fn long(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.half()) % bound
    }

    pub(crate) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}
