use super::*;

fn parse(text: &str) -> Result<DeviceSpec, SpecError> {
    text.parse()
}

#[test]
fn every_form_reads_back_as_it_is_written() {
    for (text, canonical) in [
        ("0000:31:10.1", "0000:31:10.1"),
        ("31:10.1", "0000:31:10.1"),
        ("10000:e1:00.7", "10000:e1:00.7"),
        ("eth0", "eth0"),
        ("eth0#0", "eth0#0"),
        ("enp49s0f1np1#0,2-7", "enp49s0f1np1#0,2-7"),
        ("0000:31:00.0#0-3", "0000:31:00.0#0-3"),
        ("31:00.1#0,2-7,9", "0000:31:00.1#0,2-7,9"),
        ("*:31:12.*", "*:31:12.*"),
        ("0000:*:10.2", "0000:*:10.2"),
        ("k8s:intel.com/sriov_vfs", "k8s:intel.com/sriov_vfs"),
        ("k8s:intel.com/sriov-vfs/3", "k8s:intel.com/sriov-vfs/3"),
        ("vfio-user:/run/vf 0.sock", "vfio-user:/run/vf 0.sock"),
        ("sim:82599", "sim:82599"),
        ("sim:X550?vfs=4&uplink=none", "sim:x550?vfs=4&uplink=none"),
    ] {
        let spec = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(spec.to_string(), canonical);
        assert_eq!(parse(canonical), Ok(spec));
    }
}

#[test]
fn h23_rubbish_is_refused_with_its_place() {
    for (text, position) in [
        ("", 0),
        ("0000:00:00.8", 11),
        ("0000:00:20.0", 8),
        ("0000:100:00.0", 5),
        ("0000:00:00", 10),
        ("0000:00:00.0.0", 12),
        ("0000:00:00.0 ", 12),
        ("../../etc", 0),
        ("eth0#", 5),
        ("eth0#1,", 7),
        ("eth0#7-2", 8),
        ("eth0#x", 5),
        ("eth0#999", 5),
        ("a_name_too_long_for_the_kernel#0", 0),
        ("0000:31:10.1#", 13),
        ("0000:31:10.1#x", 13),
        ("0000:31:10.1#3-1", 16),
        ("*:31:00.0#0", 0),
        ("0000:31:10#0", 10),
        ("k8s:", 4),
        ("k8s:intel.com/vfs;rm", 17),
        ("k8s:intel.com/vfs/70000", 18),
        ("vfio-user:", 10),
        ("sim:", 4),
        ("sim:i40e", 4),
        ("sim:82599?vfs", 10),
        ("sim:82599?vfs=4&=1", 16),
        ("\u{1F980}", 0),
        ("31:10.1\n", 7),
        ("eth0#\u{661}", 5),
        ("eth0#1\u{301}", 6),
    ] {
        match parse(text) {
            Err(SpecError::Syntax { at, .. }) => assert_eq!(at, position, "{text:?}"),
            other => panic!("{text:?}: {other:?}"),
        }
    }
}

#[test]
fn h23_a_very_long_spec_is_refused_without_repeating_it() {
    let text = parse(&"0".repeat(100_000))
        .expect_err("too long")
        .to_string();
    assert!(text.len() < 500, "{text}");
    let text = parse(&format!("{}:00:00.0", "f".repeat(300)))
        .expect_err("no such domain")
        .to_string();
    assert!(text.len() < 600, "{text}");
}

#[test]
fn an_error_says_where_what_and_how() {
    let text = parse("0000:31:10.9").expect_err("function 9").to_string();
    assert_eq!(
        text,
        format!("`0000:31:10.9`, position 12: function: `9` is above 7; {HINT}")
    );
}

#[test]
fn options_of_a_simulated_card_can_be_asked_for() {
    let DeviceSpec::Sim(sim) = parse("sim:i350?seed=1&seed=2").expect("good") else {
        panic!("not a simulated card");
    };
    assert_eq!(sim.model, Model::I350);
    assert_eq!(sim.get("seed"), Some("2"), "the last one counts");
    assert_eq!(sim.get("vfs"), None);
}
