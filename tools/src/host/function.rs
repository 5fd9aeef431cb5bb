//! The network functions of a host and all that is known of each.

use serde::Serialize;
use vfnic::backend::{PciAddress, Sysfs};
use vfnic_hw::Model;

use super::holders::{self, Holder};
use super::links::VfSettings;
use super::{Host, routes};

/// What a function is in SR-IOV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Can have VFs.
    Pf,
    /// Is one, even if its PF is out of sight (in a guest).
    Vf,
    /// Neither.
    Other,
}

/// A member of a function's IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupMember {
    /// Its address.
    pub address: String,
    /// Its driver.
    pub driver: Option<String>,
}

/// A network function.
#[derive(Clone, Debug, Serialize)]
pub struct Function {
    /// Its address, as text.
    pub address: String,
    /// Its address.
    #[serde(skip)]
    pub at: PciAddress,
    /// What it is.
    pub role: Role,
    /// Which of our models, when it is one.
    pub model: Option<&'static str>,
    /// `8086:1520`.
    pub ids: String,
    /// Its vendor.
    #[serde(skip)]
    pub vendor_id: u16,
    /// Its device id.
    #[serde(skip)]
    pub device_id: u16,
    /// The PF of a VF, where it is visible.
    #[serde(rename = "pf_address")]
    pub pf_text: Option<String>,
    /// The same.
    #[serde(skip)]
    pub pf: Option<PciAddress>,
    /// The PF's interface.
    pub pf_interface: Option<String>,
    /// A VF's number.
    pub vf: Option<u16>,
    /// A PF's VFs, switched on and possible.
    pub vfs: Option<(u16, u16)>,
    /// Its driver.
    pub driver: Option<String>,
    /// Which driver binding is restricted to.
    pub driver_override: Option<String>,
    /// Its IOMMU group.
    pub iommu_group: Option<u32>,
    /// `DMA`, `DMA-FQ`, `identity`, or `vfio-noiommu` when no IOMMU stands behind it.
    pub iommu_type: Option<String>,
    /// Everything in that group.
    pub group_members: Vec<GroupMember>,
    /// Its NUMA node.
    pub numa_node: Option<u32>,
    /// Interfaces made of it.
    pub interfaces: Vec<String>,
    /// What depends on one of those, if anything does.
    pub in_use: Option<String>,
    /// What its PF's driver says of a VF.
    pub settings: Option<VfSettings>,
    /// How it would be opened: `cdev`, `group` or `noiommu`.
    pub opens_by: Option<&'static str>,
    /// Its VFIO nodes.
    pub nodes: Vec<String>,
    /// Who has it open.
    pub holders: Vec<Holder>,
}

/// Ethernet controller; what sysfs calls class 0x0200xx.
const ETHERNET: u32 = 0x0200;

impl Function {
    /// The function at `address`, if it is there.
    #[must_use]
    pub fn read(host: &Host, address: PciAddress) -> Option<Self> {
        let sysfs = host.sysfs();
        if !sysfs.exists(address) {
            return None;
        }
        let (vendor_id, device_id) = sysfs.ids(address).unwrap_or_default();
        let pf = sysfs.pf(address);
        let vf_model = Model::from_vf_ids(vendor_id, device_id);
        let vfs = sysfs.vf_counts(address);
        let role = if pf.is_some() || vf_model.is_some() {
            Role::Vf
        } else if vfs.is_some() {
            Role::Pf
        } else {
            Role::Other
        };
        let interfaces = sysfs.interfaces(address);
        let iommu_group = sysfs.iommu_group(address);
        let iommu_type = iommu_group.and_then(|group| {
            sysfs
                .group_name(group)
                .filter(|name| name == "vfio-noiommu")
                .or_else(|| sysfs.iommu_type(group))
        });
        let pf_interface = pf.and_then(|pf| host.pf_interface(pf));
        let vf = pf.and_then(|pf| number_of(sysfs, pf, address));
        let settings = pf_interface
            .as_deref()
            .zip(vf)
            .and_then(|(interface, vf)| host.links().read(interface).ok()?.remove(&vf));
        let vfio = sysfs
            .driver(address)
            .is_some_and(|driver| vfnic::backend::sysfs::is_vfio(&driver));
        let nodes = if vfio {
            holders::nodes(host, address)
        } else {
            Vec::new()
        };
        Some(Self {
            address: address.to_string(),
            at: address,
            role,
            model: vf_model
                .or_else(|| pf_model(host, address, device_id))
                .map(Model::name),
            ids: format!("{vendor_id:04x}:{device_id:04x}"),
            vendor_id,
            device_id,
            pf_text: pf.map(|pf| pf.to_string()),
            pf,
            pf_interface,
            vf,
            vfs,
            driver: sysfs.driver(address),
            driver_override: sysfs.driver_override(address),
            iommu_group,
            opens_by: opens_by(&nodes, iommu_type.as_deref()),
            iommu_type,
            group_members: iommu_group
                .and_then(|group| sysfs.group_members(group).ok())
                .unwrap_or_default()
                .into_iter()
                .map(|member| GroupMember {
                    address: member.name,
                    driver: member.driver,
                })
                .collect(),
            numa_node: sysfs.numa_node(address),
            in_use: interfaces
                .iter()
                .find_map(|interface| routes::depends_on(host, interface)),
            interfaces,
            settings,
            holders: if vfio {
                holders::of(host, address)
            } else {
                Vec::new()
            },
            nodes,
        })
    }

    /// Every Ethernet function, ascending by address.
    ///
    /// # Errors
    ///
    /// When the host's PCI functions cannot be listed.
    pub fn all(host: &Host) -> std::io::Result<Vec<Self>> {
        let ours = |address: &PciAddress| {
            host.sysfs()
                .class(*address)
                .is_some_and(|class| class >> 8 == ETHERNET)
        };
        Ok(host
            .sysfs()
            .functions()?
            .into_iter()
            .filter(ours)
            .filter_map(|address| Self::read(host, address))
            .collect())
    }

    /// Whether vfio-pci or one of its kind has it.
    #[must_use]
    pub fn is_on_vfio(&self) -> bool {
        self.driver
            .as_deref()
            .is_some_and(vfnic::backend::sysfs::is_vfio)
    }

    /// As `eth0#3`, when the PF's interface is visible.
    #[must_use]
    pub fn by_number(&self) -> Option<String> {
        Some(format!("{}#{}", self.pf_interface.as_ref()?, self.vf?))
    }
}

/// Which of its PF's VFs a function is.
#[must_use]
pub fn number_of(sysfs: &Sysfs, pf: PciAddress, vf: PciAddress) -> Option<u16> {
    sysfs
        .vfs(pf)
        .into_iter()
        .find_map(|(number, address)| (address == vf).then_some(number))
}

/// The model of a PF, by its own id or by what its VFs are (`sriov_vf_device`): PFs have many ids.
fn pf_model(host: &Host, address: PciAddress, device_id: u16) -> Option<Model> {
    let by_id = Model::ALL
        .into_iter()
        .find(|model| model.pf_device_id() == device_id);
    by_id.or_else(|| {
        let text = host.read(&format!("{}/sriov_vf_device", host.function_path(address)))?;
        Model::from_vf_ids(0x8086, u16::from_str_radix(&text, 16).ok()?)
    })
}

fn opens_by(nodes: &[String], iommu_type: Option<&str>) -> Option<&'static str> {
    if nodes.is_empty() {
        None
    } else if iommu_type == Some("vfio-noiommu") {
        Some("noiommu")
    } else if nodes.iter().any(|node| node.contains("/devices/")) {
        Some("cdev")
    } else {
        Some("group")
    }
}
