//! The manifests in `deploy/`, from the plugin's configuration to a process with the environment it makes: what the
//! plugin and the kubelet do is done here by their documented rules, independently of the readers under test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::run::{on, output};
use crate::trees::{self, Tree};
use crate::yaml;

fn manifest(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name);
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut documents = yaml::documents(&text);
    assert_eq!(documents.len(), 1, "{name}");
    documents.remove(0)
}

fn words(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(|word| word.as_str().expect("text"))
        .collect()
}

/// `PF#0,2-7`, as the plugin reads it: whether VF `number` of `interface` is meant.
fn names(pattern: &str, interface: &str, number: u16) -> bool {
    match pattern.split_once('#') {
        None => pattern == interface,
        Some((name, ranges)) => {
            name == interface
                && ranges.split(',').any(|range| {
                    let (first, last) = range.split_once('-').unwrap_or((range, range));
                    (first.parse().expect("a number")..=last.parse().expect("a number"))
                        .contains(&number)
                })
        }
    }
}

/// The pools the plugin would make of the VFs of `tree`, a device in the first that wants it.
fn pools(tree: &Tree) -> BTreeMap<String, Vec<String>> {
    let config = manifest("device-plugin.yaml");
    assert_eq!(
        (&config["apiVersion"], &config["kind"]),
        (&json!("v1"), &json!("ConfigMap"))
    );
    assert_eq!(config["metadata"]["name"], "sriovdp-config");
    let config: Value =
        serde_json::from_str(config["data"]["config.json"].as_str().expect("text")).expect("JSON");
    let listing = output(tree, &["list", "--style", "json"], 0);
    let listing: Value = serde_json::from_str(&listing).expect("JSON");
    let mut taken = BTreeSet::new();
    let mut pools = BTreeMap::new();
    for resource in config["resourceList"].as_array().expect("resources") {
        let resource = resource.as_object().expect("an object");
        for key in resource.keys() {
            let known = [
                "resourceName",
                "resourcePrefix",
                "deviceType",
                "excludeTopology",
                "selectors",
                "additionalInfo",
            ];
            assert!(known.contains(&key.as_str()), "{key}");
        }
        let name = resource["resourceName"].as_str().expect("a name");
        // The plugin's own rule; a dash would stay in the variable's name.
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
            "{name}"
        );
        let mut devices = Vec::new();
        for selector in resource["selectors"].as_array().expect("selectors") {
            for key in selector.as_object().expect("an object").keys() {
                let known = [
                    "vendors",
                    "devices",
                    "drivers",
                    "pciAddresses",
                    "acpiIndexes",
                    "pfNames",
                    "rootDevices",
                    "linkTypes",
                ];
                assert!(known.contains(&key.as_str()), "{key}");
            }
            for vf in listing["functions"].as_array().expect("functions") {
                let Some(number) = vf["vf"]
                    .as_u64()
                    .and_then(|number| u16::try_from(number).ok())
                else {
                    continue;
                };
                let (vendor, device) = vf["ids"]
                    .as_str()
                    .and_then(|ids| ids.split_once(':'))
                    .expect("ids");
                let interface = vf["pf_interface"].as_str().expect("a PF");
                let address = vf["address"].as_str().expect("an address");
                let wanted = words(&selector["vendors"]).contains(&vendor)
                    && words(&selector["devices"]).contains(&device)
                    && words(&selector["drivers"]).contains(&vf["driver"].as_str().unwrap_or(""))
                    && words(&selector["pfNames"])
                        .iter()
                        .any(|pattern| names(pattern, interface, number));
                if wanted && taken.insert(address.to_owned()) {
                    devices.push(address.to_owned());
                }
            }
        }
        let prefix = resource["resourcePrefix"].as_str().unwrap_or("intel.com");
        pools.insert(format!("{prefix}/{name}"), devices);
    }
    pools
}

/// A node: two ports of an 82599 with eight and four VFs, all on vfio-pci but one.
fn node() -> Tree {
    let tree = trees::two_ports();
    tree.remove(&format!("{}/driver", Tree::device("0000:31:10.6")));
    tree
}

/// The variables and nodes of a container that asks for what `deploy/pod.yaml` asks for.
fn environment(pools: &BTreeMap<String, Vec<String>>, container: &Value) -> Vec<(String, String)> {
    let mut environment = vec![("KUBERNETES_SERVICE_HOST".to_owned(), "10.96.0.1".to_owned())];
    for (resource, count) in container["resources"]["limits"]
        .as_object()
        .expect("limits")
    {
        let Some(devices) = pools.get(resource) else {
            assert!(!resource.contains('/'), "{resource} is in no pool");
            continue;
        };
        let count: usize = count.as_str().expect("text").parse().expect("a number");
        let given = &devices[..count];
        let key = resource.to_uppercase().replace(['.', '/'], "_");
        let info: serde_json::Map<_, _> = given
            .iter()
            .map(|address| {
                let group = group(address);
                (address.clone(), json!({
                    "generic": {"deviceID": address},
                    "vfio": {"dev-mount": format!("/dev/vfio/{group}"), "mount": "/dev/vfio/vfio"},
                }))
            })
            .collect();
        environment.push((format!("PCIDEVICE_{key}"), given.join(",")));
        environment.push((
            format!("PCIDEVICE_{key}_INFO"),
            Value::from(info).to_string(),
        ));
    }
    environment
}

fn group(address: &str) -> u32 {
    trees::TWO_PORTS
        .iter()
        .flat_map(|(_, _, vfs, first)| vfs.iter().zip(*first..))
        .find_map(|(vf, group)| (*vf == address).then_some(group))
        .expect("a VF of the node's")
}

/// The node as the container sees it.
fn container_of(tree: &Tree, environment: &[(String, String)]) {
    let lines: Vec<_> = environment
        .iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    tree.write("environ", lines.concat());
    tree.remove("sys/class/net");
    for (pf, ..) in trees::TWO_PORTS {
        tree.remove(&format!("{}/net", Tree::device(pf)));
    }
}

#[test]
fn a_pod_gets_its_vfs_and_finds_them_by_name() {
    let tree = node();
    let pools = pools(&tree);
    assert_eq!(
        pools["intel.com/vfnic_wan"],
        ["0000:31:10.0", "0000:31:10.2", "0000:31:10.4"],
        "not the one without vfio-pci"
    );
    assert_eq!(pools["intel.com/vfnic_lan"].len(), 3 + 4);
    let pod = manifest("pod.yaml");
    let container = &pod["spec"]["containers"][0];
    let environment = environment(&pools, container);
    container_of(&tree, &environment);
    // Every device it was given, with its node, by both forms of the variables.
    let text = output(&tree, &["list", "--from-env"], 0);
    for (pool, address) in [
        ("INTEL_COM_VFNIC_LAN", "0000:31:10.1"),
        ("INTEL_COM_VFNIC_WAN", "0000:31:10.0"),
    ] {
        let line = format!("{pool}:\n  /0  {address}  /dev/vfio/{}\n", group(address));
        assert!(text.contains(&line), "no `{line}` in {text}");
    }
    // The arguments in the manifest name exactly those.
    let found: Vec<String> = words(&container["args"])
        .into_iter()
        .filter(|word| word.starts_with("k8s:"))
        .map(|spec| {
            let text = output(&tree, &["list", spec, "--style", "json"], 0);
            let listing: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(
                listing["functions"].as_array().map(Vec::len),
                Some(1),
                "{spec}"
            );
            listing["functions"][0]["address"]
                .as_str()
                .expect("text")
                .to_owned()
        })
        .collect();
    assert_eq!(found, ["0000:31:10.0", "0000:31:10.1"]);
    // Nothing stands in the way in there, and the others' VFs are not spoken of.
    let report = output(&tree, &["doctor", "--json"], 0);
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let about: BTreeSet<_> = report["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .map(|finding| finding["about"].as_str().expect("text"))
        .collect();
    assert_eq!(
        about,
        BTreeSet::from(["0000:31:10.0", "0000:31:10.1", "host"])
    );
}

/// The container of a virtual machine (Kata) has other addresses, or the node went while the pod was on.
#[test]
fn an_absent_device_is_said_by_its_name_and_the_others_are_there() {
    let tree = node();
    let pod = manifest("pod.yaml");
    let mut pools = pools(&tree);
    pools
        .get_mut("intel.com/vfnic_lan")
        .expect("a pool")
        .insert(0, "0000:77:00.0".to_owned());
    let lan = "0000:77:00.0";
    let mut environment = environment_with(&pools, &pod, lan);
    container_of(&tree, &environment);
    let text = output(&tree, &["list", "--from-env"], 1);
    assert!(
        text.contains("/0  0000:77:00.0") && text.contains("ABSENT"),
        "{text}"
    );
    assert!(text.contains("/0  0000:31:10.0"), "{text}");
    let refused = on(&tree, &["list", "k8s:intel.com/vfnic_lan/0"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("0000:77:00.0"));
    // The forwarder itself, as a process with these variables on a machine that has no such functions. Its own come first,
    // and the error names the device and not just the resource.
    environment.retain(|(name, _)| name.starts_with("PCIDEVICE_"));
    let arguments = words(&pod["spec"]["containers"][0]["args"]);
    let forwarder = Command::new(env!("CARGO_BIN_EXE_vfnic"))
        .args(&arguments)
        .env_remove("VFNIC_LOG")
        .envs(environment)
        .output()
        .expect("it runs");
    let error = String::from_utf8_lossy(&forwarder.stderr);
    assert_eq!(forwarder.status.code(), Some(1), "{error}");
    assert!(error.contains("0000:31:10.0"), "{error}");
    // Without them: the resource and the variable.
    let forwarder = Command::new(env!("CARGO_BIN_EXE_vfnic"))
        .args(&arguments)
        .env_remove("VFNIC_LOG")
        .output()
        .expect("it runs");
    let error = String::from_utf8_lossy(&forwarder.stderr);
    assert!(
        error.contains("PCIDEVICE_INTEL_COM_VFNIC_WAN is not set"),
        "{error}"
    );
}

/// As [`environment`], for pools one of whose devices is on no node of ours.
fn environment_with(
    pools: &BTreeMap<String, Vec<String>>,
    pod: &Value,
    absent: &str,
) -> Vec<(String, String)> {
    let known: BTreeMap<_, _> = pools
        .iter()
        .map(|(name, devices)| {
            (
                name.clone(),
                devices
                    .iter()
                    .filter(|device| *device != absent)
                    .cloned()
                    .collect(),
            )
        })
        .collect();
    let mut environment = environment(&known, &pod["spec"]["containers"][0]);
    for (name, value) in &mut environment {
        if name.starts_with("PCIDEVICE_INTEL_COM_VFNIC_LAN") {
            let first = &known["intel.com/vfnic_lan"][0];
            *value = value.replace(first.as_str(), absent);
        }
    }
    environment
}

#[test]
fn the_pod_has_no_privilege_and_asks_for_what_the_pools_have() {
    let pod = manifest("pod.yaml");
    assert_eq!(
        (&pod["apiVersion"], &pod["kind"]),
        (&json!("v1"), &json!("Pod"))
    );
    let spec = pod["spec"].as_object().expect("a spec");
    for key in ["hostNetwork", "hostPID", "hostIPC", "volumes"] {
        assert!(!spec.contains_key(key), "{key}");
    }
    for container in spec["containers"].as_array().expect("containers") {
        let context = &container["securityContext"];
        assert_eq!(context["privileged"], false);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
        assert_eq!(context["capabilities"]["add"], json!(["IPC_LOCK"]));
        let resources = &container["resources"];
        assert_eq!(
            resources["limits"], resources["requests"],
            "extended resources cannot be overcommitted"
        );
        // Every resource that the arguments name is asked for.
        for spec in words(&container["args"])
            .into_iter()
            .filter_map(|word| word.strip_prefix("k8s:"))
        {
            let (resource, _) = spec.rsplit_once('/').expect("an index");
            assert_eq!(resources["limits"][resource], "1", "{resource}");
        }
    }
}

/// What `export` prints for a cluster has the shape of what is in `deploy/`.
#[test]
fn what_export_prints_reads_like_the_manifests() {
    let text = output(
        &node(),
        &[
            "export",
            "ens1f0#0-2",
            "--format",
            "k8s",
            "--name",
            "vfnic_wan",
        ],
        0,
    );
    let documents = yaml::documents(&text);
    let [config, pod] = documents.as_slice() else {
        panic!("two documents in {text}");
    };
    let ours = manifest("device-plugin.yaml");
    for key in ["apiVersion", "kind", "metadata"] {
        assert_eq!(config[key], ours[key], "{key}");
    }
    let container = &pod["spec"]["containers"][0];
    assert_eq!(
        container["securityContext"]["capabilities"],
        manifest("pod.yaml")["spec"]["containers"][0]["securityContext"]["capabilities"]
    );
    assert_eq!(
        container["resources"]["limits"],
        json!({"intel.com/vfnic_wan": "1"})
    );
    assert_eq!(
        container["resources"]["limits"],
        container["resources"]["requests"]
    );
}
