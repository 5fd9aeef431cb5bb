//! `vfnic list`: the PFs and VFs of a host.

use std::fmt::Write;

use anyhow::Context;
use clap::{Args as ClapArgs, ValueEnum};
use serde::Serialize;
use vfnic::DeviceSpec;

use crate::cli::Outcome;
use crate::host::function::{Function, Role};
use crate::host::kubernetes::{self, Pool};
use crate::host::nova::NovaSpec;
use crate::host::{At, Host, select};
use crate::output;

/// Lists PFs and VFs: driver, group, settings, who holds them
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only these: 0000:31:10.1, eth0#0-3, 0000:31:00.0#0-3, eth0, *:31:12.*, k8s:RESOURCE
    #[arg(value_name = "SPEC")]
    specs: Vec<DeviceSpec>,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    style: Style,
    /// Only what a device_spec of OpenStack Nova's would offer, as JSON
    #[arg(long, value_name = "JSON")]
    nova: Option<NovaSpec>,
    /// What the Kubernetes SR-IOV device plugin gave this container
    #[arg(long, conflicts_with_all = ["specs", "nova"])]
    from_env: bool,
    /// Every Ethernet function, not only those with SR-IOV
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    at: At,
}

const EXAMPLES: &str = "\
Examples:
  vfnic list
  vfnic list eth0#0-3 --style json
  vfnic list --style devbind
  vfnic list --nova '{\"vendor_id\":\"8086\",\"address\":\":31:10.\"}'
  vfnic list --from-env";

/// How to print a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Style {
    /// A table for people
    #[default]
    Table,
    /// As `dpdk-devbind.py --status-dev net` prints it
    Devbind,
    /// One JSON object
    Json,
    /// Addresses for libvirt's XML
    Libvirt,
}

#[derive(Debug, Serialize)]
struct Listing<'a> {
    functions: &'a [Function],
    #[serde(skip_serializing_if = "Option::is_none")]
    pools: Option<&'a [Pool]>,
}

/// Runs it.
///
/// # Errors
///
/// When the host cannot be read, or a spec names nothing.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let host = args.at.host()?;
    let mut functions = Function::all(&host).with_context(|| {
        format!(
            "the functions cannot be listed from {}",
            "/sys/bus/pci/devices"
        )
    })?;
    // dpdk-devbind.py knows nothing of SR-IOV, and shows everything.
    if !args.all && args.style != Style::Devbind && args.nova.is_none() {
        functions.retain(|function| function.role != Role::Other);
    }
    if let Some(nova) = &args.nova {
        functions.retain(|function| nova.matches(function));
    }
    if !args.specs.is_empty() {
        functions = chosen(&host, functions, &args.specs)?;
    }
    let pools = args.from_env.then(|| kubernetes::pools(&host));
    if let Some(pools) = &pools {
        functions.retain(|function| {
            pools
                .iter()
                .flat_map(|pool| &pool.devices)
                .any(|given| given.address == function.address)
        });
    }
    match args.style {
        Style::Json => output::json(&Listing {
            functions: &functions,
            pools: pools.as_deref(),
        })?,
        Style::Devbind => output::text(&devbind(&host, &functions))?,
        Style::Libvirt => output::text(&libvirt(&functions))?,
        Style::Table => {
            if let Some(pools) = &pools {
                output::text(&of_pools(pools))?;
            }
            output::text(&table(&functions))?;
        }
    }
    let absent = pools
        .iter()
        .flatten()
        .any(|pool| !pool.troubles.is_empty() || pool.devices.iter().any(|given| !given.present));
    Ok(Outcome::from(!absent))
}

/// Those of `functions` that a spec means; every spec has to mean one.
fn chosen(
    host: &Host,
    functions: Vec<Function>,
    specs: &[DeviceSpec],
) -> anyhow::Result<Vec<Function>> {
    let mut wanted = vec![false; functions.len()];
    for spec in specs {
        let mut any = false;
        for (function, wanted) in functions.iter().zip(&mut wanted) {
            if select::matches(host, spec, function)? {
                *wanted = true;
                any = true;
            }
        }
        if !any {
            // The library's resolver knows why not.
            select::functions(host, spec)?;
            anyhow::bail!(
                "`{spec}` names no function here that has to do with SR-IOV; --all shows the others"
            );
        }
    }
    Ok(functions
        .into_iter()
        .zip(wanted)
        .filter_map(|(function, wanted)| wanted.then_some(function))
        .collect())
}

const HEADINGS: [&str; 12] = [
    "ADDRESS", "IS", "MODEL", "DRIVER", "GROUP", "NUMA", "MAC", "VLAN", "SPOOFCHK", "TRUST",
    "LINK", "HELD BY",
];

fn table(functions: &[Function]) -> String {
    if functions.is_empty() {
        return "no such function here; `--all` shows every Ethernet function, `vfnic doctor` says what is missing\n".to_owned();
    }
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(functions.iter().map(row));
    let widths: Vec<usize> = (0..HEADINGS.len())
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row(function: &Function) -> [String; 12] {
    let dash = || "-".to_owned();
    let switch = |on: Option<bool>| on.map_or_else(dash, |on| if on { "on" } else { "off" }.into());
    let is = match (function.role, function.vfs, function.by_number()) {
        (Role::Pf, Some((on, total)), _) => format!(
            "PF {}, {on}/{total} VFs",
            function.interfaces.first().map_or("-", String::as_str)
        ),
        (Role::Vf, _, Some(number)) => format!("VF {number}"),
        (Role::Vf, _, None) => match (&function.pf_text, function.vf) {
            (Some(pf), Some(vf)) => format!("VF {vf} of {pf}"),
            _ => "VF, its PF is out of sight".to_owned(),
        },
        _ => function.interfaces.first().map_or_else(dash, Clone::clone),
    };
    let group = match (function.iommu_group, function.iommu_type.as_deref()) {
        (Some(group), Some("vfio-noiommu")) => format!("{group} (no IOMMU)"),
        (Some(group), _) if function.group_members.len() > 1 => {
            format!("{group} ({} members)", function.group_members.len())
        }
        (Some(group), _) => group.to_string(),
        (None, _) => dash(),
    };
    let settings = function.settings.clone().unwrap_or_default();
    let held: Vec<_> = function
        .holders
        .iter()
        .map(|holder| format!("{} ({})", holder.name, holder.pid))
        .collect();
    let held = match &function.in_use {
        Some(why) => why.clone(),
        None if held.is_empty() => dash(),
        None => held.join(", "),
    };
    [
        function.address.clone(),
        is,
        function.model.unwrap_or("-").to_owned(),
        driver(function).unwrap_or_else(dash),
        group,
        function
            .numa_node
            .map_or_else(dash, |node| node.to_string()),
        settings.mac.unwrap_or_else(dash),
        settings.vlan.map_or_else(dash, |vlan| vlan.to_string()),
        switch(settings.spoofchk),
        switch(settings.trust),
        settings.state.unwrap_or_else(dash),
        held,
    ]
    .map(|cell| output::printable(&cell))
}

/// Its driver, and what a program would go through: the interface of a kernel's driver, or which of VFIO's nodes. A PF's
/// interface stands before its VFs already.
fn driver(function: &Function) -> Option<String> {
    let driver = function.driver.as_ref()?;
    let way = match function.opens_by {
        Some(way) => Some(way.to_owned()),
        None if function.role == Role::Vf => Some(function.interfaces.join(", ")),
        None => None,
    };
    Some(match way.filter(|way| !way.is_empty()) {
        Some(way) => format!("{driver} ({way})"),
        None => driver.clone(),
    })
}

fn of_pools(pools: &[Pool]) -> String {
    if pools.is_empty() {
        return "no variable PCIDEVICE_… is set: no device plugin gave this process anything\n"
            .to_owned();
    }
    let mut text = String::new();
    for pool in pools {
        let _ = writeln!(text, "{}:", pool.name);
        for (index, given) in pool.devices.iter().enumerate() {
            let node = given.node.as_deref().unwrap_or("node not said");
            let absent = if given.present {
                ""
            } else {
                "  ABSENT: no such function here; in a virtual machine it has another address, see `vfnic list`"
            };
            let _ = writeln!(text, "  /{index}  {}  {node}{absent}", given.address);
        }
        for trouble in &pool.troubles {
            let _ = writeln!(text, "  trouble: {trouble}");
        }
    }
    text.push('\n');
    text
}

/// Drivers that DPDK works on.
fn is_for_dpdk(driver: &str) -> bool {
    vfnic::backend::sysfs::is_vfio(driver) || matches!(driver, "igb_uio" | "uio_pci_generic")
}

/// Drivers that could be bound to one of these cards.
const DRIVERS: [&str; 7] = [
    "igb",
    "igbvf",
    "ixgbe",
    "ixgbevf",
    "igb_uio",
    "uio_pci_generic",
    "vfio-pci",
];

fn devbind(host: &Host, functions: &[Function]) -> String {
    let line = |function: &Function| {
        let mut line = format!(
            "{} '{} {:04x}'",
            function.address,
            name(function),
            function.device_id
        );
        if let Some(node) = function.numa_node {
            let _ = write!(line, " numa_node={node}");
        }
        if !function.interfaces.is_empty() {
            let _ = write!(line, " if={}", function.interfaces.join(","));
        }
        if let Some(driver) = &function.driver {
            let _ = write!(line, " drv={driver}");
        }
        let unused: Vec<_> = DRIVERS
            .into_iter()
            .filter(|driver| function.driver.as_deref() != Some(driver) && fits(function, driver))
            .filter(|driver| host.has(&format!("/sys/bus/pci/drivers/{driver}")))
            .collect();
        let _ = write!(line, " unused={}", unused.join(","));
        if function.in_use.is_some() {
            line.push_str(" *Active*");
        }
        line.push(' ');
        line
    };
    let section = |function: &Function| match function.driver.as_deref() {
        Some(driver) if is_for_dpdk(driver) => 0,
        Some(_) => 1,
        None => 2,
    };
    let headings = [
        "Network devices using DPDK-compatible driver",
        "Network devices using kernel driver",
        "Other Network devices",
    ];
    if functions.is_empty() {
        return format!("\nNo 'Network' devices detected\n{}\n", "=".repeat(29));
    }
    let mut text = String::new();
    for (number, heading) in headings.into_iter().enumerate() {
        let lines: Vec<_> = functions
            .iter()
            .filter(|function| section(function) == number)
            .map(line)
            .collect();
        if !lines.is_empty() {
            let _ = writeln!(text, "\n{heading}\n{}", "=".repeat(heading.len()));
            for line in lines {
                let _ = writeln!(text, "{}", output::printable(&line));
            }
        }
    }
    text
}

/// Whether a kernel driver is one for this kind of function; the general ones are for all.
fn fits(function: &Function, driver: &str) -> bool {
    let gigabit = matches!(function.model, Some("82576" | "i350"));
    match driver {
        "igb" => function.role == Role::Pf && gigabit,
        "igbvf" => function.role == Role::Vf && gigabit,
        "ixgbe" => function.role == Role::Pf && !gigabit,
        "ixgbevf" => function.role == Role::Vf && !gigabit,
        _ => true,
    }
}

fn name(function: &Function) -> String {
    match (function.model, function.role) {
        (Some(model), Role::Vf) => format!("{} Virtual Function", model.to_uppercase()),
        (Some(model), _) => format!("{} Ethernet Controller", model.to_uppercase()),
        (None, _) => "Device".to_owned(),
    }
}

/// The address of a function in libvirt's XML.
pub(crate) fn libvirt_address(function: &Function) -> String {
    let at = function.at;
    format!(
        "<address type='pci' domain='0x{:04x}' bus='0x{:02x}' slot='0x{:02x}' function='0x{:x}'/>",
        at.domain, at.bus, at.device, at.function
    )
}

fn libvirt(functions: &[Function]) -> String {
    let mut text = String::new();
    for function in functions {
        let called = function
            .by_number()
            .unwrap_or_else(|| function.address.clone());
        let held = function
            .holders
            .first()
            .map(|holder| format!(", held by {}", holder.name))
            .unwrap_or_default();
        // Two dashes would end the comment.
        let comment = output::printable(&format!("{called}{held}")).replace("--", "- -");
        let _ = writeln!(text, "{} <!-- {comment} -->", libvirt_address(function));
    }
    text
}
