//! Ports on a fake function: register and message traces, order of teardown, errors at every step.

use std::sync::Arc;
use std::time::Duration;

use vfnic_hw::{Model, PciFunction, regs};

use crate::fake::{Call, FakeBar, FakeFunction, PfScript};
use crate::{Error, MacChoice, Port, PortConfig, QueueCount, QueuePair};

fn open(function: &Arc<FakeFunction>, config: PortConfig) -> Result<Port, Error> {
    Port::from_function(Arc::clone(function) as _, config)
}

fn config() -> PortConfig {
    let mac = "02:11:22:33:44:55".parse().expect("an address");
    PortConfig::default().mac(MacChoice::Set(mac))
}

fn started(function: &Arc<FakeFunction>, config: PortConfig) -> (Port, Vec<QueuePair>) {
    let port = open(function, config).expect("opens");
    let pairs = port.start().expect("starts");
    (port, pairs)
}

/// What was written to the registers of `wanted`, in order, without the mailbox.
fn written(bar: &FakeBar, wanted: &[(&str, u32)]) -> Vec<(String, u32)> {
    bar.writes()
        .into_iter()
        .filter_map(|(offset, value)| {
            let (name, _) = wanted.iter().find(|(_, at)| *at == offset)?;
            Some(((*name).to_owned(), value))
        })
        .collect()
}

fn expect(trace: &[(String, u32)], wanted: &[(&str, u32)]) {
    let wanted: Vec<_> = wanted
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value))
        .collect();
    assert_eq!(trace, wanted.as_slice());
}

#[test]
fn an_ixgbevf_says_the_golden_words() {
    // ixgbevf.md §18, with the handshake of §14.1 and the start of §14.2.
    let function = FakeFunction::of(Model::X540);
    let (port, pairs) = started(&function, config());
    let words: Vec<Vec<u32>> = function.bar.requests();
    let expected: [&[u32]; 8] = [
        &[0x0000_0001],
        &[0x0000_0008, 4, 0],
        &[0x0000_0009, 0, 0, 0, 0],
        &[0x0000_0002, 0x3322_1102, 0x0000_5544],
        &[0x0000_0005, 0x05EE],
        &[0x0000_000C, 0],
        &[0x0000_000C, 1],
        &[0x0000_0010, 0],
    ];
    assert_eq!(words, expected);
    drop((pairs, port));
}

#[test]
fn an_igbvf_says_the_golden_words() {
    let function = FakeFunction::of(Model::I82576);
    let (port, pairs) = started(&function, config());
    let expected: [&[u32]; 5] = [
        &[0x0000_0001],
        &[0x0001_0004, 0],
        &[0x0000_0002, 0x3322_1102, 0x0000_5544],
        &[0x0000_0005, 1522],
        &[0x0000_0006],
    ];
    assert_eq!(function.bar.requests(), expected);
    drop((pairs, port));
}

#[test]
fn d34_an_ixgbevf_brings_its_queues_up_in_the_documented_order() {
    let function = FakeFunction::of(Model::X540);
    let port = open(&function, config()).expect("opens");
    // Open leaves nothing of a former owner's: §14.1 step 5.
    assert_eq!(
        function.bar.get(0x100C + 7 * 0x40),
        0x200,
        "VFDCA_RXCTRL(7)"
    );
    assert_eq!(
        function.bar.get(0x200C + 7 * 0x40),
        0x2200,
        "VFDCA_TXCTRL(7)"
    );
    assert_eq!(function.bar.get(0x1014 + 7 * 0x40), 0x402, "VFSRRCTL(7)");
    function.bar.forget_writes();
    let pairs = port.start().expect("starts");
    let memory = function.bar.get(0x1000);
    let tx = [
        ("TXDCTL", 0x2028),
        ("TDBAL", 0x2000),
        ("TDBAH", 0x2004),
        ("TDLEN", 0x2008),
        ("TDWBAH", 0x203C),
        ("TDWBAL", 0x2038),
        ("DCA_TXCTRL", 0x200C),
        ("TDH", 0x2010),
        ("TDT", 0x2018),
    ];
    expect(
        &written(&function.bar, &tx),
        &[
            ("TXDCTL", 0x0400_0000),
            ("TDBAL", memory + 0x2000),
            ("TDBAH", 0),
            ("TDLEN", 512 * 16),
            ("TDWBAH", 0),
            ("TDWBAL", 0),
            ("DCA_TXCTRL", 0x2200),
            ("TDH", 0),
            ("TDT", 0),
            // §4.7: ENABLE, HTHRESH 1, PTHRESH 32, and WTHRESH 0.
            ("TXDCTL", 0x0200_0120),
        ],
    );
    let rx = [
        ("RXDCTL", 0x1028),
        ("RDBAL", 0x1000),
        ("RDBAH", 0x1004),
        ("RDLEN", 0x1008),
        ("DCA_RXCTRL", 0x100C),
        ("RDH", 0x1010),
        ("RDT", 0x1018),
        ("SRRCTL", 0x1014),
    ];
    expect(
        &written(&function.bar, &rx),
        &[
            ("RXDCTL", 0),
            ("RDBAL", memory),
            ("RDBAH", 0),
            ("RDLEN", 512 * 16),
            ("DCA_RXCTRL", 0x200),
            ("RDH", 0),
            ("RDT", 0),
            // §4.6: DROP_EN, one buffer, 2 KiB.
            ("SRRCTL", 0x1200_0002),
            // ENABLE, VME, RLPML_EN with 1500 + 18 + 8.
            ("RXDCTL", 0x4200_8000 | 1526),
        ],
    );
    let interrupts = [
        ("VTEITR0", 0x0820),
        ("VTEITR1", 0x0824),
        ("VTIVAR0", 0x0120),
        ("VTIVAR_MISC", 0x0140),
        ("VTEIAM", 0x0114),
        ("VTEIAC", 0x0110),
        ("VTEIMS", 0x0108),
    ];
    expect(
        &written(&function.bar, &interrupts),
        &[
            ("VTEITR0", 0x8000_0000),
            ("VTEITR1", 0x8000_0000),
            // Receive on vector 0, completions on 1, mailbox on 2.
            ("VTIVAR0", 0x0000_8180),
            ("VTIVAR_MISC", 0x82),
            ("VTEIAM", 7),
            ("VTEIAC", 7),
            ("VTEIMS", 4),
        ],
    );
    drop((pairs, port));
}

#[test]
fn an_82599_leaves_the_length_check_alone() {
    let function = FakeFunction::of(Model::I82599);
    let (port, pairs) = started(&function, config());
    // §1.2: the bits are absent and have to be written 0.
    assert_eq!(function.bar.get(0x1028), 0x4200_0000);
    drop((pairs, port));
}

#[test]
fn d34_an_igbvf_brings_its_queues_up_in_the_documented_order() {
    let function = FakeFunction::of(Model::I82576);
    // A former owner's head write-back: igbvf.md §7.2.
    function.bar.set(0x3838, 0xdead_0001);
    function.bar.set(0x3938, 0xdead_0001);
    let port = open(&function, config()).expect("opens");
    assert_eq!((function.bar.get(0x3838), function.bar.get(0x3938)), (0, 0));
    function.bar.forget_writes();
    let pairs = port.start().expect("starts");
    let memory = function.bar.get(0x2800);
    let rx = [
        ("RXDCTL", 0x2828),
        ("RDBAL", 0x2800),
        ("RDBAH", 0x2804),
        ("RDLEN", 0x2808),
        ("RDH", 0x2810),
        ("RDT", 0x2818),
        ("SRRCTL", 0x280C),
    ];
    expect(
        &written(&function.bar, &rx),
        &[
            ("RXDCTL", 0),
            ("RDBAL", memory),
            ("RDBAH", 0),
            ("RDLEN", 512 * 16),
            ("RDH", 0),
            ("RDT", 0),
            // §14.1 step 9: DROP_EN, one buffer, 2 KiB.
            ("SRRCTL", 0x8200_0002),
            // §14.1 step 10: WTHRESH 1, HTHRESH 8, PTHRESH 16, ENABLE.
            ("RXDCTL", 0x0201_0810),
        ],
    );
    let others = [
        ("VTEITR0", 0x1680),
        ("VTEITR1", 0x1684),
        ("VTEITR2", 0x1688),
        ("VTIVAR", 0x1700),
        ("VTIVAR_MISC", 0x1740),
        ("VTEICR", 0x1580),
        ("VTEIAC", 0x152C),
        ("VTEIAM", 0x1530),
        ("VTEIMS", 0x1524),
    ];
    expect(
        &written(&function.bar, &others),
        &[
            ("VTEITR0", 0x8000_0000),
            ("VTEITR1", 0x8000_0000),
            ("VTEITR2", 0x8000_0000),
            // §16.3: Rx0 on vector 1, Tx0 on 0, mailbox on 2, and never otherwise.
            ("VTIVAR", 0x0000_8081),
            ("VTIVAR_MISC", 0x82),
            ("VTEICR", 7),
            ("VTEIAC", 7),
            ("VTEIAM", 7),
            ("VTEIMS", 4),
        ],
    );
    assert_eq!(function.bar.get(0x3814), 0x2200, "TXCTL without bit 11");
    drop((pairs, port));
}

#[test]
fn an_x550_writes_its_key_and_table() {
    let function = FakeFunction::of(Model::X550);
    let (port, pairs) = started(&function, config().queues(QueueCount::Exactly(4)));
    // §11.2 and §4.8.
    assert_eq!(function.bar.get(0x3100), 0xDA56_5A6D);
    assert_eq!(function.bar.get(0x3124), 0xFA01_ACBE);
    assert_eq!(function.bar.get(0x3200), 0x0302_0100);
    assert_eq!(function.bar.get(0x323C), 0x0302_0100);
    assert_eq!(function.bar.get(0x3000), 0x00F3_0001);
    // Two bits of index.
    assert_eq!(function.bar.get(0x0300) >> 29, 2);
    // Two pairs a register; queues alternate between the two vectors.
    assert_eq!(function.bar.get(0x0120), 0x8181_8080);
    assert_eq!(function.bar.get(0x0124), 0x8181_8080);
    drop((pairs, port));
}

#[test]
fn h16_teardown_keeps_its_order() {
    for model in Model::ALL {
        let function = FakeFunction::of(model);
        let (port, pairs) = started(&function, config());
        assert_eq!(function.calls(), [Call::BusMaster(true), Call::Vectors(3)]);
        function.calls.lock().expect("no panic while held").clear();
        function.bar.forget_writes();
        port.close().expect("closes");
        // Queues and interrupts are off before the function is reset, bus mastering goes next, vectors last.
        assert_eq!(
            function.calls(),
            [Call::Reset, Call::BusMaster(false), Call::NoVectors]
        );
        let reset = (0x0000, 1 << 26);
        assert!(
            function.bar.writes().contains(&reset),
            "{model}: no VF reset"
        );
        function.bar.forget_writes();
        drop(pairs);
        assert_eq!(
            function.bar.writes(),
            [],
            "{model}: queues of a closed port are not ours"
        );
    }
}

#[test]
fn r11_an_error_at_any_register_read_leaves_nothing_half_opened() {
    for model in Model::ALL {
        // The device goes away at the n-th message: every step of opening is cut short once.
        for kind in [1, 8, 9, 2, 4, 5, 0xc, 6, 0x10] {
            let script = match model.family() {
                vfnic_hw::Family::Igbvf => PfScript::linux_igb(),
                vfnic_hw::Family::Ixgbevf => PfScript::linux_ixgbe(),
            };
            let function = FakeFunction::of(model);
            function.bar.script(script.removed_on(kind));
            let result = open(&function, config()).and_then(|port| {
                drop(port.start()?);
                Ok(())
            });
            if let Err(error) = result {
                assert!(
                    matches!(error, Error::Gone { .. }),
                    "{model}, {kind:#x}: {error}"
                );
            }
            let calls = function.calls();
            assert_eq!(
                calls[calls.len() - 3..],
                [Call::Reset, Call::BusMaster(false), Call::NoVectors],
                "{model}, {kind:#x}"
            );
            assert_eq!(Arc::strong_count(&function), 1, "somebody still holds it");
        }
    }
}

#[test]
fn d62_h24_devices_that_are_not_ours_are_left_alone() {
    for (vendor, device, text) in [
        (0x8086, 0x10fb, "physical function of a 82599"),
        (0x8086, 0x10c9, "physical function of a 82576"),
        (0x8086, 0x1889, "8086:1889 is not a VF that vfnic drives"),
        (0x15b3, 0x10ed, "15b3:10ed is not a VF that vfnic drives"),
        (0xffff, 0xffff, "ffff:ffff is not a VF that vfnic drives"),
    ] {
        let function = FakeFunction::with(FakeBar::ixgbevf(PfScript::new()), vendor, device);
        let error = open(&function, config()).expect_err("not ours");
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(function.calls(), []);
        assert_eq!(function.bar.writes(), []);
    }
}

#[test]
fn d55_a_register_that_never_moves_is_named_in_time() {
    for (model, offset, name) in [
        (Model::X540, 0x1028, "VFRXDCTL"),
        (Model::X540, 0x2028, "VFTXDCTL"),
        (Model::I350, 0x2828, "RXDCTL"),
        (Model::I350, 0x3828, "TXDCTL"),
    ] {
        // Stuck at "enabled": the VF reset does not stop the queue.
        let function = FakeFunction::of(model);
        function.bar.set(offset, 1 << 25);
        function.bar.stick(offset);
        let error = open(&function, config()).expect_err("it never stops");
        assert!(
            matches!(&error, Error::Register { register, .. } if *register == name),
            "{error}"
        );
        assert!(function.clock().now() < Duration::from_secs(1));
    }
}

#[test]
fn fewer_vectors_are_shared() {
    for (vectors, map) in [(1, 0x8080), (2, 0x8080)] {
        let function = Arc::new(
            Arc::into_inner(FakeFunction::of(Model::I82599))
                .expect("nobody else has it")
                .with_vectors(vectors),
        );
        let (port, pairs) = started(&function, config());
        assert_eq!(function.bar.get(0x0120), map);
        drop((pairs, port));
    }
    let function = Arc::new(
        Arc::into_inner(FakeFunction::of(Model::I82576))
            .expect("nobody else has it")
            .with_vectors(0),
    );
    let (port, pairs) = started(&function, config());
    assert!(!port.capabilities().has("interrupts"));
    assert_eq!(function.bar.get(0x1700), 0, "nothing routed");
    drop((pairs, port));
}

#[test]
fn d58_h14_h15_a_bus_error_resets_the_vf_and_a_request_is_told() {
    let function = FakeFunction::of(Model::X550);
    let (port, mut pairs) = started(&function, config());
    function.error.signal();
    function.request.signal();
    for _ in 0..20 {
        port.poll_control().expect("there");
        let mut batch = port.batch(8);
        pairs[0].rx.receive(&mut batch).expect("runs");
        pairs[0].tx.send(&mut batch).expect("runs");
        function.clock().sleep(Duration::from_millis(20));
    }
    let events: Vec<_> = port.events().collect();
    assert!(
        events.contains(&crate::Event::RemovalRequested),
        "{events:?}"
    );
    assert!(events.contains(&crate::Event::BusError), "{events:?}");
    assert!(
        events
            .iter()
            .any(|event| matches!(event, crate::Event::Recovered { .. })),
        "{events:?}"
    );
    // What an FLR takes away is there again.
    assert!(
        function
            .calls()
            .ends_with(&[Call::BusMaster(true), Call::Vectors(3)])
    );
    drop((pairs, port));
}

#[test]
fn the_82599_link_is_believed_after_five_more_looks() {
    let function = FakeFunction::of(Model::I82599);
    let (port, pairs) = started(&function, config());
    assert!(!port.link().is_up());
    function.bar.set(regs::ixgbevf::VFLINKS.addr(), 0x7000_0080);
    let before = function.clock().now();
    port.poll_control().expect("there");
    assert!(port.link().is_up());
    assert_eq!(
        function.clock().now() - before,
        Duration::from_micros(500),
        "ixgbevf.md §17.1"
    );
    drop((pairs, port));
}

#[test]
fn events_of_the_port_are_readable_as_an_fd() {
    let function = FakeFunction::of(Model::X540);
    let (port, pairs) = started(&function, config());
    let readable = || {
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(
            port.event_fd(),
            rustix::event::PollFlags::IN,
        )];
        let zero = rustix::event::Timespec::default();
        rustix::event::poll(&mut fds, Some(&zero)).expect("polls") > 0
    };
    assert!(!readable());
    function.bar.set(regs::ixgbevf::VFLINKS.addr(), 0x7000_0080);
    port.poll_control().expect("there");
    assert!(readable());
    assert_eq!(
        port.next_event(),
        Some(crate::Event::LinkUp { mbps: 10_000 })
    );
    assert!(!readable());
    drop((pairs, port));
}
