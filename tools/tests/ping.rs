//! `vfnic ping` against the same small stack on another VF of the same simulated card.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use vfnic::{PollMode, Poller, PortConfig};
use vfnic_tools::cli;
use vfnic_tools::device::Device;
use vfnic_tools::stack::PortDevice;

/// Answers ARP and ICMP echo for 10.0.2.2 until `stop`.
fn answer(stop: &AtomicBool) {
    let device: Device = "sim:x540/1".parse().expect("a spec");
    let port = device.open(PortConfig::default()).expect("opened");
    let mut poller = Poller::new(PollMode::Adaptive).expect("a poller");
    for pair in port.start().expect("started") {
        poller.add(pair).expect("added");
    }
    let mut device = PortDevice::new(&port);
    let start = Instant::now();
    let now = || StackInstant::from_micros(i64::try_from(start.elapsed().as_micros()).unwrap_or(0));
    let mac = HardwareAddress::Ethernet(EthernetAddress(port.mac().0.0));
    let mut interface = Interface::new(
        Config::new(mac),
        &mut device.on(&mut poller.queues_mut()[0]),
        now(),
    );
    interface.update_ip_addrs(|addresses| {
        addresses
            .push(IpCidr::new(IpAddress::v4(10, 0, 2, 2), 24))
            .expect("room");
    });
    let mut sockets = SocketSet::new(Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let wait = Some(Duration::from_millis(20));
        poller
            .turn(wait, |index, pairs| device.fetch(&mut pairs[index]))
            .expect("alive");
        let pair = &mut poller.queues_mut()[0];
        interface.poll(now(), &mut device.on(pair), &mut sockets);
        port.poll_control().expect("alive");
    }
}

fn ping(target: &str, more: &[&str]) -> ExitCode {
    let mut arguments = vec![
        "vfnic",
        "ping",
        "--device",
        "sim:x540/0",
        "--interval",
        "10ms",
        target,
    ];
    arguments.extend_from_slice(more);
    cli::run(arguments.into_iter().map(Into::into))
}

#[test]
fn echo_is_answered_in_every_mode_and_silence_is_a_failure() {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| answer(&stop));
        for mode in ["poll", "interrupt", "adaptive"] {
            assert_eq!(
                ping("10.0.2.2", &["--mode", mode, "--count", "3"]),
                ExitCode::SUCCESS
            );
        }
        assert_eq!(
            ping("10.0.2.2", &["--count", "2", "--json"]),
            ExitCode::SUCCESS
        );
        let silent = ping("10.0.2.77", &["--count", "1", "--timeout", "200ms"]);
        assert_eq!(silent, ExitCode::from(1));
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_signal_ends_it_with_the_sum() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vfnic"))
        .args(["ping", "--device", "sim:x540/0", "10.0.2.77"])
        .args([
            "--timeout",
            "50ms",
            "--interval",
            "10ms",
            "--count",
            "1000000",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let first = lines.next().expect("it says how it goes").expect("text");
    assert!(first.contains("no answer"), "{first}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    let last = lines.map(|line| line.expect("text")).last();
    assert!(
        last.as_deref()
            .is_some_and(|sum| sum.ends_with("sent, 0 answered")),
        "{last:?}"
    );
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
}
