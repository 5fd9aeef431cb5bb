//! In a pod: the SR-IOV device plugin says in variables `PCIDEVICE_VENDOR_RESOURCE` which VFs the container got. Every one
//! of them is opened, and what it received is said after a second. Without such a variable a simulated card steps in.
//!
//! `cargo run --example kubernetes_pod`, in a pod `PCIDEVICE_INTEL_COM_SRIOV=0000:31:10.1 kubernetes_pod`
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "this one needs less of it")]
mod shared;

use std::time::{Duration, Instant};

use shared::{Result, card};
use vfnic::{PollMode, Poller, Port, PortConfig};
use vfnic_hw::Model;

/// Addresses of the VFs in `variables`, each once, those of a pool in the plugin's order. The plugin sets a second variable for each pool, with
/// `_INFO` behind its name and JSON in it; that is not a list of addresses.
fn devices(variables: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let mut devices: Vec<String> = Vec::new();
    for (name, value) in variables {
        if !name.starts_with("PCIDEVICE_") || name.ends_with("_INFO") {
            continue;
        }
        for address in value.split(',').map(str::trim) {
            if !address.is_empty() && !devices.iter().any(|known| known == address) {
                devices.push(address.to_owned());
            }
        }
    }
    devices
}

pub(crate) fn main() -> Result {
    // A variable that is not text is none of the plugin's.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let devices = devices(variables);
    if devices.is_empty() {
        println!(
            "no PCIDEVICE_* variable: not in a pod, or it asked for no VF; a simulated card steps in"
        );
        let card = card(Model::I350, 1)?;
        let port = Port::from_function(card.function(0)?, PortConfig::default())?;
        serve(vec![port])?;
        card.assert_no_violations();
        return Ok(());
    }
    // In a guest the addresses may be other ones than the plugin wrote; the error says what is there.
    let ports = devices
        .iter()
        .map(|address| Ok(Port::open(address)?))
        .collect::<Result<Vec<Port>>>()?;
    serve(ports)
}

/// Counts what comes in for a second.
fn serve(ports: Vec<Port>) -> Result {
    let mut poller = Poller::new(PollMode::Interrupt)?;
    for port in &ports {
        for pair in port.start()? {
            poller.add(pair)?;
        }
        port.spawn_control_thread()?;
    }
    // Each port has a pool of its own, and so a batch.
    let mut batches: Vec<_> = ports.iter().map(|port| port.batch(64)).collect();
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        let left = end.saturating_duration_since(Instant::now());
        poller.turn(Some(left), |index, pairs| {
            let count = pairs[index].rx.receive(&mut batches[index])?;
            batches[index].clear();
            Ok(count)
        })?;
    }
    drop((poller, batches));
    for port in ports {
        let received = port.stats().get("rx0_packets").unwrap_or(0);
        println!("{}: {}, {received} frames", port.name(), port.link());
        port.close()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::devices;

    #[test]
    fn lists_are_told_from_json() {
        let variables = [
            ("PCIDEVICE_INTEL_COM_A", "0000:31:10.5, 0000:31:10.1"),
            ("PCIDEVICE_INTEL_COM_A_INFO", "{\"0000:31:10.1\":{}}"),
            ("PCIDEVICE_INTEL_COM_B", "0000:31:10.1,0000:31:10.3,"),
            ("PATH", "/bin"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            devices(variables.into_iter()),
            ["0000:31:10.5", "0000:31:10.1", "0000:31:10.3"]
        );
    }
}
