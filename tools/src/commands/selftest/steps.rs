//! The steps.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use vfnic::{Availability, MacAddr, Port, PortConfig, Promisc, QueuePair};

use super::{Args, Found, Report, traffic};
use crate::commands::probe::wait_for_link;
use crate::device::Device;

/// How long to wait for a link.
const LINK: Duration = Duration::from_secs(5);
/// Frames to send; their address is made up, so that they are nobody's.
const FRAMES: usize = 32;
const NOBODY: MacAddr = MacAddr([0x02, 0x76, 0x66, 0x6e, 0x69, 0x63]);
/// Times to stop and start.
const RESTARTS: usize = 5;

/// Takes them all, as far as one makes the next possible.
pub(super) fn run(args: &Args, report: &mut Report) -> anyhow::Result<()> {
    let mut opened = None;
    report.step("open", || {
        let port = args.vf.device.open(PortConfig::default())?;
        let (mac, origin) = port.mac();
        let (model, mac) = (port.model().name(), half(mac));
        let origin = format!("{origin:?}").to_lowercase();
        let said = format!("{model} VF, address {mac}:…, {origin}");
        opened = Some(port);
        Ok(Found::Pass(said))
    })?;
    let Some(port) = opened else { return Ok(()) };
    describe(&port, report);
    let mut pairs = Vec::new();
    report.step("start", || {
        pairs = port.start()?;
        Ok(Found::Pass(match pairs.len() {
            1 => "1 queue pair".to_owned(),
            count => format!("{count} queue pairs"),
        }))
    })?;
    let linked = report.step("link", || {
        if !wait_for_link(&port, LINK)? {
            bail!("none within {LINK:?}; is the PF's interface up and its cable in?");
        }
        Ok(Found::Pass(port.link().to_string()))
    })?;
    report.step("counters", || {
        port.refresh_stats()?;
        let stats = port.stats();
        Ok(Found::Pass(format!("{} of them", stats.iter().count())))
    })?;
    report.step("transmit", || {
        let Some(pair) = pairs.first_mut().filter(|_| linked) else {
            return Ok(Found::Skip("there is no link, or no queue".into()));
        };
        transmit(&port, pair)
    })?;
    settings(&port, report)?;
    report.step("restart", || {
        for _ in 0..RESTARTS {
            port.stop(std::mem::take(&mut pairs))?;
            pairs = port.start()?;
        }
        if linked && !wait_for_link(&port, LINK)? {
            bail!("the link did not come back");
        }
        Ok(Found::Pass(format!("{RESTARTS} times")))
    })?;
    let before = port.mac().0;
    let mut opened = None;
    report.step("reopen", || {
        drop(std::mem::take(&mut pairs));
        port.close()?;
        let port = args.vf.device.open(PortConfig::default())?;
        pairs = port.start()?;
        if linked && !wait_for_link(&port, LINK)? {
            bail!("the link did not come back");
        }
        let after = port.mac().0;
        opened = Some(port);
        Ok(Found::Pass(if before == after {
            "as before".into()
        } else {
            "with another address: the administrator assigned none".into()
        }))
    })?;
    if let (Some(port), Some(peer)) = (opened, &args.peer) {
        with_peer(&port, &mut pairs, peer, report)?;
    }
    Ok(())
}

/// What kind of VF it is.
fn describe(port: &Port, report: &mut Report) {
    let capabilities = port.capabilities();
    let ids = port.ids();
    let (mac, origin) = port.mac();
    report.model = port.model().name().to_owned();
    report.ids = format!("{:04x}:{:04x}", ids.vendor, ids.device);
    report.mac_prefix = half(mac);
    report.mac_origin = format!("{origin:?}");
    report.mailbox_api = capabilities
        .api
        .map_or_else(|| "none".into(), |api| api.to_string());
    report.capabilities = capabilities
        .iter()
        .map(|(name, availability)| {
            let text = match availability {
                Availability::Available => "yes".to_owned(),
                Availability::Unavailable(reason) => reason.clone(),
            };
            (name.to_owned(), text)
        })
        .collect();
}

/// The half of an address that names the vendor: reports are sent around.
fn half(mac: MacAddr) -> String {
    let [a, b, c, ..] = mac.0;
    format!("{a:02x}:{b:02x}:{c:02x}")
}

/// Sends some frames; the card must report them done, and count them.
fn transmit(port: &Port, pair: &mut QueuePair) -> anyhow::Result<Found> {
    port.refresh_stats()?;
    let before = port.stats().get("tx_packets").unwrap_or(0);
    let mut batch = port.batch(FRAMES);
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&NOBODY.0);
    frame[6..12].copy_from_slice(&port.mac().0.0);
    // The EtherType for experiments (IEEE 802, local experimental 1).
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    for _ in 0..FRAMES {
        batch.push_bytes(&frame)?;
    }
    let sent = pair.tx.send(&mut batch)?;
    let start = Instant::now();
    let counted = loop {
        pair.tx.reclaim(&mut batch);
        port.refresh_stats()?;
        let counted = port.stats().get("tx_packets").unwrap_or(0) - before;
        if counted >= sent as u64 || start.elapsed() > Duration::from_secs(1) {
            break counted;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    if sent != FRAMES || counted != FRAMES as u64 {
        bail!(
            "{FRAMES} frames to send: the queue took {sent}, the card counted {counted}; spoof check with another address than the VF's, or a hang"
        );
    }
    Ok(Found::Pass(format!(
        "{FRAMES} frames, all counted by the card"
    )))
}

/// What the PF is asked for, and asked to take back.
fn settings(port: &Port, report: &mut Report) -> anyhow::Result<()> {
    let capabilities = port.capabilities();
    let missing = |name: &str| match capabilities.get(name) {
        Some(Availability::Unavailable(reason)) => Some(Found::Skip(reason.clone())),
        _ => None,
    };
    report.step("jumbo", || {
        if let Some(skip) = missing("jumbo") {
            return Ok(skip);
        }
        let before = port.mtu();
        match port.set_mtu(9000) {
            Ok(()) => {
                port.set_mtu(before)?;
                Ok(Found::Pass("MTU 9000 and back".into()))
            }
            Err(vfnic::Error::Refused { .. } | vfnic::Error::Mailbox(_)) => Ok(Found::Skip(
                "the PF refuses it: its own MTU is smaller".into(),
            )),
            Err(error) => Err(error.into()),
        }
    })?;
    report.step("vlan", || {
        if let Some(skip) = missing("vlan_filter") {
            return Ok(skip);
        }
        port.add_vlan(100)?;
        port.remove_vlan(100)?;
        Ok(Found::Pass("VLAN 100 joined and left".into()))
    })?;
    report.step("multicast", || {
        port.set_multicast(&[MacAddr([0x01, 0, 0x5e, 0, 0, 0xfb])])?;
        port.set_multicast(&[])?;
        Ok(Found::Pass("a group joined and left".into()))
    })?;
    report.step("promiscuous", || {
        if let Some(skip) = missing("promiscuous") {
            return Ok(skip);
        }
        match port.set_promiscuous(Promisc::All) {
            Ok(()) => {
                port.set_promiscuous(Promisc::Off)?;
                Ok(Found::Pass("granted, and taken back".into()))
            }
            Err(error @ vfnic::Error::NeedsTrust { .. }) => Ok(Found::Skip(error.to_string())),
            Err(error) => Err(error.into()),
        }
    })?;
    Ok(())
}

/// Traffic and interrupts between two VFs.
fn with_peer(
    port: &Port,
    pairs: &mut [QueuePair],
    peer: &Device,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut opened = None;
    report.step("peer", || {
        let port = peer.open(PortConfig::default())?;
        let pairs = port.start()?;
        if !wait_for_link(&port, LINK)? {
            bail!("no link within {LINK:?}");
        }
        let (model, mac) = (port.model().name(), half(port.mac().0));
        let said = format!("{model} VF, address {mac}:…");
        opened = Some((port, pairs));
        Ok(Found::Pass(said))
    })?;
    let Some((other, mut others)) = opened else {
        return Ok(());
    };
    let (Some(ours), Some(theirs)) = (pairs.first_mut(), others.first_mut()) else {
        return Ok(());
    };
    for (name, frame) in [("frames-64", 64), ("frames-1518", 1518)] {
        report.step(name, || {
            let there =
                traffic::exchange((port, ours), (&other, theirs), frame).context("to the peer")?;
            let back = traffic::exchange((&other, theirs), (port, ours), frame)
                .context("from the peer")?;
            Ok(Found::Pass(format!(
                "{there} there and {back} back, all intact"
            )))
        })?;
    }
    let pair = others.remove(0);
    report.step("interrupt", || {
        traffic::interrupt((port, ours), (&other, pair))
    })?;
    drop(others);
    other.close()?;
    Ok(())
}
