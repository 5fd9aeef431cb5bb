//! The grammars of others, held to their rules: Nova's two, the device plugin's ranges, its variables in both forms.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;
use vfnic::backend::PciAddress;
use vfnic::{DeviceSpec, System, VfSet};
use vfnic_tools::host::kubernetes;
use vfnic_tools::host::nova::{NovaExpressions, NovaGlob};

/// Few values of each part, so that matches are as common as misses.
fn address() -> impl Strategy<Value = PciAddress> {
    (0u32..3, 0u8..3, 0u8..3, 0u8..3).prop_map(|(domain, bus, device, function)| PciAddress {
        domain,
        bus,
        device,
        function,
    })
}

fn parts(address: PciAddress) -> [u32; 4] {
    let PciAddress {
        domain,
        bus,
        device,
        function,
    } = address;
    [domain, bus.into(), device.into(), function.into()]
}

/// A field of Nova's string: how it is written, and which value it wants.
fn field() -> impl Strategy<Value = (String, Option<u32>)> {
    prop_oneof![
        Just((String::new(), None)),
        Just(("*".to_owned(), None)),
        (0u32..3, 1usize..5).prop_map(|(value, width)| (format!("{value:0width$x}"), Some(value))),
    ]
}

proptest! {
    /// Split once at the first `.`; up to three fields before it, the last of them the slot; what is not there is any.
    #[test]
    fn novas_string_means_what_its_rules_say(
        left in prop::collection::vec(field(), 1..4),
        function in prop::option::of(field()),
        address in address(),
    ) {
        let texts: Vec<_> = left.iter().map(|(text, _)| text.as_str()).collect();
        let mut text = texts.join(":");
        if let Some((function, _)) = &function {
            text = format!("{text}.{function}");
        }
        let mut wanted = vec![None; 3 - left.len()];
        wanted.extend(left.iter().map(|(_, value)| *value));
        wanted.push(function.and_then(|(_, value)| value));
        let glob: NovaGlob = text.parse().expect("by the rules");
        let matches = wanted
            .iter()
            .zip(parts(address))
            .all(|(wanted, value)| wanted.is_none_or(|wanted| wanted == value));
        prop_assert_eq!(glob.matches(address), matches, "{}", text);
        // As printed it means the same.
        prop_assert_eq!(glob.to_string().parse::<NovaGlob>(), Ok(glob));
        prop_assert_eq!(glob.exact().is_some(), wanted.iter().all(Option::is_some));
    }

    /// No partial globs, ranges, question marks; no field beyond its bits.
    #[test]
    fn novas_string_takes_whole_fields_only(
        at in 0usize..4,
        bad in prop_oneof![
            "[0-9a-f]\\*", "\\*[0-9a-f]", "[0-9]-[0-9]", "[0-9]\\?", "[g-z]", "\\*\\*", "0x1", "-1", "\\+1", "1_0",
        ],
        excess in 1u32..0x1000,
    ) {
        let mut fields = ["0", "0", "0", "0"].map(str::to_owned);
        let text = |fields: &[String; 4]| format!("{}:{}:{}.{}", fields[0], fields[1], fields[2], fields[3]);
        prop_assert!(text(&fields).parse::<NovaGlob>().is_ok());
        fields[at] = bad;
        prop_assert!(text(&fields).parse::<NovaGlob>().is_err(), "{}", text(&fields));
        let most = [0xffff, 0xff, 0x1f, 7][at];
        fields[at] = format!("{most:X}");
        prop_assert!(text(&fields).parse::<NovaGlob>().is_ok(), "{}", text(&fields));
        fields[at] = format!("{:x}", most + excess);
        prop_assert!(text(&fields).parse::<NovaGlob>().is_err(), "{}", text(&fields));
    }

    /// Nothing that is no address is taken, and nothing panics.
    #[test]
    fn novas_string_survives_anything(text in "[0-9a-f:.* x-]{0,20}|\\PC{0,40}") {
        if let Ok(glob) = text.parse::<NovaGlob>() {
            prop_assert!(text.matches(':').count() <= 2);
            prop_assert_eq!(glob.to_string().parse::<NovaGlob>(), Ok(glob));
        }
    }

    /// Each part of the object is a regular expression that has to match at the start, and need not reach the end.
    #[test]
    fn novas_object_is_anchored_at_the_start_only(address in address(), at in 0usize..4, take in 1usize..5) {
        let name = ["domain", "bus", "slot", "function"][at];
        let value = parts(address)[at];
        let text = [format!("{value:04x}"), format!("{value:02x}"), format!("{value:02x}"), format!("{value:x}")][at].clone();
        let take = take.min(text.len());
        let matches = |expression: &str| {
            let object = json!({ name: expression });
            NovaExpressions::parse(object.as_object().expect("an object"))
                .expect("good")
                .matches(address)
        };
        prop_assert!(matches(&text[..take]), "a start");
        prop_assert!(matches(".*") && matches("") && matches("[0-9]"));
        let anchored = format!("{text}$");
        prop_assert!(matches(&anchored));
        // Not in the middle; and an alternative is anchored like the first.
        let later = format!("[^0]{text}");
        prop_assert!(!matches(&later));
        let (neither, second) = (format!("x|y{text}"), format!("x|{text}"));
        prop_assert!(!matches(&neither));
        prop_assert!(matches(&second));
        // What is left out is any.
        prop_assert!(NovaExpressions::parse(&serde_json::Map::new()).expect("good").matches(address));
    }

    /// `PF#0,2-7,9`: the numbers named and no others, whatever the order.
    #[test]
    fn the_plugins_ranges_mean_the_numbers_they_name(
        ranges in prop::collection::vec((0u16..40, 0u16..8), 1..5),
        name in "[a-z][a-z0-9]{0,10}",
        pf in address(),
    ) {
        let texts: Vec<_> = ranges
            .iter()
            .map(|(first, more)| match more {
                0 => first.to_string(),
                more => format!("{first}-{}", first + more),
            })
            .collect();
        let named: BTreeSet<u16> = ranges.iter().flat_map(|(first, more)| *first..=first + more).collect();
        // The same behind a PF's interface (pfNames) and behind its address (rootDevices).
        for root in [name.clone(), pf.to_string()] {
            let text = format!("{root}#{}", texts.join(","));
            let spec: DeviceSpec = text.parse().expect("the plugin's grammar");
            prop_assert_eq!(spec.to_string(), &text[..]);
            let (parsed, vfs) = match spec {
                DeviceSpec::Netdev { name, vfs } => (name, vfs),
                DeviceSpec::OfPf { pf, vfs } => (pf.to_string(), vfs),
                _ => return Err(TestCaseError::fail(text)),
            };
            prop_assert_eq!(parsed, root);
            prop_assert!(matches!(vfs, VfSet::Ranges(_)));
            for number in 0..60 {
                prop_assert_eq!(vfs.contains(number), named.contains(&number), "{}", number);
            }
        }
    }

    /// Both forms, several pools, either spelling of the nodes: every pool with its devices in the plugin's order, none
    /// taken from another's variables.
    #[test]
    fn the_plugins_variables_are_read_in_both_forms(
        pools in prop::collection::btree_map("[a-z]{1,4}(\\.com)?/[a-z]{1,4}(_info)?", prop::collection::btree_set((0u8..4, 0u8..4), 1..4), 1..4),
        forms in prop::collection::vec(0u8..3, 4),
        reverse in any::<bool>(),
        old in any::<bool>(),
        absent in 0u8..4,
    ) {
        let mut environment = BTreeMap::from([("PATH".to_owned(), "/bin".to_owned()), ("PCIDEVICE_".to_owned(), "x".to_owned())]);
        let mut wanted = BTreeMap::new();
        for ((resource, devices), form) in pools.iter().zip(&forms) {
            let mut devices: Vec<_> = devices.iter().map(|(bus, slot)| format!("0000:{bus:02x}:{slot:02x}.0")).collect();
            if reverse {
                devices.reverse();
            }
            // Upper case, dots and the slash to underscores: the plugin's rule, spelled out.
            let key: String = resource.chars().map(|c| match c {
                '.' | '/' => '_',
                c => c.to_ascii_uppercase(),
            }).collect();
            prop_assert_eq!(kubernetes::variable(resource), format!("PCIDEVICE_{key}"));
            // 0: the list alone; 1: the object alone, as others may pass it on; 2: both.
            if *form != 1 {
                environment.insert(format!("PCIDEVICE_{key}"), devices.join(","));
            } else {
                devices.sort();
            }
            if *form != 0 {
                let node = if old { "vfio-dev-mount" } else { "dev-mount" };
                let object: serde_json::Map<_, _> = devices.iter().map(|device| (device.clone(), json!({
                    "generic": {"deviceID": device},
                    "vfio": {node: format!("/dev/vfio/{device}"), "mount": "/dev/vfio/vfio"},
                    "extraInfo": {"token": format!("token of {device}")},
                }))).collect();
                environment.insert(format!("PCIDEVICE_{key}_INFO"), serde_json::Value::from(object).to_string());
            }
            wanted.insert(key, (devices, *form != 0));
        }
        let read = kubernetes::read(&environment, &|address| address.bus != absent);
        prop_assert_eq!(read.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
        for pool in &read {
            let (devices, info) = &wanted[&pool.name];
            prop_assert!(pool.troubles.is_empty(), "{:?}", pool.troubles);
            let found: Vec<_> = pool.devices.iter().map(|given| &given.address).collect();
            prop_assert_eq!(found, devices.iter().collect::<Vec<_>>());
            for given in &pool.devices {
                prop_assert_eq!(given.present, !given.address.starts_with(&format!("0000:{absent:02x}")));
                let node = info.then(|| format!("/dev/vfio/{}", given.address));
                prop_assert_eq!(&given.node, &node);
                prop_assert_eq!(given.token.is_some(), *info);
            }
        }
        // The library resolves the same from the list: `k8s:RESOURCE/i` is the i-th.
        for ((resource, _), form) in pools.iter().zip(&forms) {
            let (devices, _) = &wanted[kubernetes::variable(resource).trim_start_matches("PCIDEVICE_")];
            for (index, device) in devices.iter().enumerate() {
                let spec: DeviceSpec = format!("k8s:{resource}/{index}").parse().expect("a spec");
                let found = spec.resolve_on(&System {
                    sysfs: std::path::Path::new("/nonexistent"),
                    environment: &|name| environment.get(name).cloned(),
                });
                match form {
                    1 => prop_assert!(found.is_err()),
                    _ => prop_assert_eq!(found.expect("there")[0].to_string(), &device[..]),
                }
            }
        }
    }

    /// Whatever else somebody puts into such variables is named as trouble; what is good beside it is kept.
    #[test]
    fn rubbish_in_the_variables_is_told_and_survived(value in "\\PC{0,60}|[{\\[][\\PC]{0,40}", info in any::<bool>()) {
        let name = if info { "PCIDEVICE_A_VFS_INFO" } else { "PCIDEVICE_A_VFS" };
        let environment = BTreeMap::from([
            (name.to_owned(), value),
            ("PCIDEVICE_B_VFS".to_owned(), "0000:01:00.0, 0000:01:00.1".to_owned()),
        ]);
        let pools = kubernetes::read(&environment, &|_| true);
        let good = pools.iter().find(|pool| pool.name == "B_VFS").expect("B");
        prop_assert_eq!(good.devices.len(), 2);
        for given in pools.iter().flat_map(|pool| &pool.devices) {
            prop_assert!(given.address.parse::<PciAddress>().is_ok());
        }
    }
}

/// A resource's name may itself end in `_info`; then two variables could be either. What they hold decides.
#[test]
fn a_resource_called_info_is_not_taken_for_the_other_form() {
    let environment = BTreeMap::from([
        ("PCIDEVICE_A_NET_INFO".to_owned(), "0000:01:00.0".to_owned()),
        (
            "PCIDEVICE_A_NET_INFO_INFO".to_owned(),
            r#"{"0000:01:00.0":{"vfio":{"dev-mount":"/dev/vfio/7"}}}"#.to_owned(),
        ),
        ("PCIDEVICE_A_NET".to_owned(), "0000:02:00.0".to_owned()),
    ]);
    let pools = kubernetes::read(&environment, &|_| true);
    let names: Vec<_> = pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(names, ["A_NET", "A_NET_INFO"]);
    assert_eq!(pools[0].devices[0].address, "0000:02:00.0");
    assert_eq!(pools[1].devices[0].node.as_deref(), Some("/dev/vfio/7"));
}
