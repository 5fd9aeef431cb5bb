//! From a PCI function to an opened port.

use std::ops::RangeInclusive;
use std::sync::Arc;

use vfnic_backend::vfio_user::UserOptions;
use vfnic_backend::{OpenOptions, PciAddress, Sysfs};
use vfnic_hw::{DmaRequest, Model, PciFunction};
use vfnic_ring::{Pool, PoolConfig};

use crate::config::{Itr, MacChoice, PoolChoice, PortConfig, QueueCount};
use crate::event::EventQueue;
use crate::family::{ApiVersion, Family, Grant, MIN_MTU, RING_SIZES};
use crate::port::control::Control;
use crate::port::device::not_ours;
use crate::port::shared::Shared;
use crate::port::{Device, Port};
use crate::spec::{DeviceSpec, System};
use crate::wait::{Ticker, block_on};
use crate::{ConfigError, Error, SpecError};

/// Subsystem vendor of the cards QEMU emulates (igbvf.md §1.2).
const QEMU: u16 = 0x1af4;
/// The smallest page an IOMMU maps, in bytes.
const SMALL_PAGE: usize = 4096;

/// Queues a VF can have at the very most (ixgbevf.md §11.1).
const MOST_PAIRS: u16 = 8;

impl Port {
    /// Opens the VF that `spec` names, with the default configuration. See [`DeviceSpec`] for the grammar.
    ///
    /// # Errors
    ///
    /// [`Error`] in nearly all its kinds; nothing is left half-opened.
    pub fn open(spec: &str) -> Result<Self, Error> {
        Self::open_with(spec, PortConfig::default())
    }

    /// Opens the VF that `spec` names.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_with(spec: &str, config: PortConfig) -> Result<Self, Error> {
        // Before anything is opened: the same configuration fails for every device.
        check_any(&config)?;
        let parsed: DeviceSpec = spec.parse()?;
        let devices = match &parsed {
            DeviceSpec::Sim(_) => {
                return Err(Error::Simulated {
                    spec: spec.to_owned(),
                });
            }
            DeviceSpec::VfioUser(path) => {
                let function = vfnic_backend::vfio_user::connect(path, &UserOptions::default())?;
                return Self::from_function(function, config);
            }
            _ => parsed.resolve()?,
        };
        let [address] = devices.as_slice() else {
            return Err(SpecError::Several {
                spec: spec.to_owned(),
                devices,
            }
            .into());
        };
        let options = OpenOptions {
            vf_token: parsed.vf_token_on(&System::this(), *address)?,
            ..OpenOptions::default()
        };
        check_identity(&Sysfs::new(&options.sysfs), *address)?;
        let function = vfnic_backend::open(&address.to_string(), &options)?;
        Self::from_function(function, config)
    }

    /// Opens a function that a backend, or the simulator, has opened. Returns when the PF knows the VF; that takes
    /// microseconds on the simulator, milliseconds on hardware, and at most
    /// [`open_timeout`](PortConfig::open_timeout).
    ///
    /// # Errors
    ///
    /// [`Error`]; the function is put to rest and let go of.
    pub fn from_function(
        function: Arc<dyn PciFunction>,
        config: PortConfig,
    ) -> Result<Self, Error> {
        check_any(&config)?;
        let ticker = Ticker::new(function.clock());
        ticker.limit_all(Some(config.open_timeout));
        let device = Arc::new(Device::open(function, config.interrupts, |vectors| {
            likely_pairs(&config, vectors)
        })?);
        if let Itr::Fixed(interval) = config.itr {
            let max = device.family.longest_throttle();
            if interval > max {
                return Err(ConfigError::Duration {
                    what: "an interrupt interval",
                    asked: interval,
                    min: std::time::Duration::ZERO,
                    max,
                }
                .into());
            }
        }
        let mut control = Box::new(Control::new(&device, &config));
        block_on(
            &ticker,
            control.bring_up(&device, &ticker, config.open_timeout),
        )?;
        let pairs = decide_pairs(&device, &config, &control.grant)?;
        check_mtu(device.family, &control.grant, config.mtu)?;
        check_rss(device.family, &config, pairs)?;
        let pool = make_pool(&device, &config, pairs)?;
        ticker.limit_all(None);
        let events = EventQueue::new().map_err(|source| Error::Sys {
            call: "eventfd for events",
            source,
        })?;
        if device.vectors_refused {
            events.push(crate::Event::NoInterrupts);
        }
        log::info!(
            "{}: {} VF, address {} ({:?}), {} queue pair(s)",
            device.name,
            device.model,
            control.mac,
            control.origin,
            pairs
        );
        let shared = Arc::new(Shared::new(
            device, config, pairs, pool, ticker, events, control,
        ));
        Ok(Self::from_shared(shared))
    }
}

/// Says what a function is before anybody is told to bind it: binding a PF, or somebody else's device, to vfio-pci
/// would take it away from whoever uses it.
fn check_identity(sysfs: &Sysfs, address: PciAddress) -> Result<(), Error> {
    match sysfs.ids(address) {
        // The ids of VFs read all-ones where the kernel does not mend them (ixgbevf.md §2.2).
        None | Some((0xffff, _)) => Ok(()),
        Some((vendor, device)) if Model::from_vf_ids(vendor, device).is_some() => Ok(()),
        Some((vendor, device)) => Err(not_ours(address.to_string(), vendor, device)),
    }
}

/// What no device can have.
fn check_any(config: &PortConfig) -> Result<(), ConfigError> {
    for (ring, asked) in [("rx", config.rx_ring), ("tx", config.tx_ring)] {
        if !RING_SIZES.contains(&asked) || asked % 8 != 0 {
            return Err(ConfigError::RingSize {
                ring,
                asked,
                min: *RING_SIZES.start(),
                max: *RING_SIZES.end(),
            });
        }
    }
    if let QueueCount::Exactly(asked) = config.queues
        && !(1..=MOST_PAIRS).contains(&asked)
    {
        return Err(ConfigError::Queues {
            asked,
            max: MOST_PAIRS,
            why: "no VF of these families has more",
        });
    }
    if let MacChoice::Set(asked) = config.mac
        && !asked.is_usable()
    {
        return Err(ConfigError::Mac {
            asked,
            why: if asked.is_multicast() {
                "it is a group address"
            } else {
                "it is all zeros"
            },
        });
    }
    if config.mtu < MIN_MTU || config.mtu > 9710 {
        return Err(ConfigError::Mtu {
            asked: config.mtu,
            min: MIN_MTU,
            max: 9710,
            why: "frames of at most 9728 bytes with header and CRC",
        });
    }
    Ok(())
}

/// What this VF, with this PF, can have.
pub(super) fn check_mtu(family: Family, grant: &Grant, mtu: u16) -> Result<(), ConfigError> {
    let limits = family.limits();
    let (max, why) = if grant.api == Some(ApiVersion::V1_0) {
        // ixgbevf.md §9.7.
        (
            1500,
            "the PF speaks mailbox API 1.0, it takes 1.1 for longer frames",
        )
    } else {
        (limits.max_mtu, limits.mtu_why)
    };
    let range: RangeInclusive<u16> = MIN_MTU..=max;
    if range.contains(&mtu) {
        return Ok(());
    }
    Err(ConfigError::Mtu {
        asked: mtu,
        min: MIN_MTU,
        max,
        why,
    })
}

/// Before the PF is asked: whether one pair or several will be there decides about vectors.
fn likely_pairs(config: &PortConfig, _vectors: u32) -> u16 {
    match config.queues {
        QueueCount::Exactly(pairs) => pairs,
        QueueCount::Auto => cpus().min(MOST_PAIRS),
    }
}

fn cpus() -> u16 {
    std::thread::available_parallelism()
        .map_or(1, |count| u16::try_from(count.get()).unwrap_or(u16::MAX))
}

fn decide_pairs(device: &Device, config: &PortConfig, grant: &Grant) -> Result<u16, ConfigError> {
    let owns_table = device.family.limits().reta_entries > 0;
    match config.queues {
        QueueCount::Auto => {
            let pairs = cpus().min(grant.pairs).max(1);
            // A table that only the PF can write spreads over powers of two (ixgbevf.md §4.5).
            Ok(if owns_table {
                pairs
            } else {
                1 << pairs.ilog2()
            })
        }
        QueueCount::Exactly(asked) if asked > grant.pairs => Err(ConfigError::Queues {
            asked,
            max: grant.pairs,
            why: grant.pairs_why,
        }),
        QueueCount::Exactly(asked) if !owns_table && !asked.is_power_of_two() => {
            Err(ConfigError::Queues {
                asked,
                max: grant.pairs,
                why: "a power of two, because the PF's table spreads the frames",
            })
        }
        QueueCount::Exactly(asked) => Ok(asked),
    }
}

fn check_rss(family: Family, config: &PortConfig, pairs: u16) -> Result<(), ConfigError> {
    let entries = family.limits().reta_entries;
    let table = &config.rss.table;
    if entries == 0 || table.is_empty() {
        return Ok(());
    }
    let refuse = |what: String| {
        Err(ConfigError::Rss {
            what,
            queues: pairs,
            entries,
        })
    };
    if table.len() > usize::from(entries) {
        return refuse(format!("{} table entries", table.len()));
    }
    match table.iter().find(|queue| u16::from(**queue) >= pairs) {
        Some(bad) => refuse(format!("queue {bad} in the table")),
        None => Ok(()),
    }
}

fn make_pool(device: &Device, config: &PortConfig, pairs: u16) -> Result<Pool, Error> {
    let pairs = u32::from(pairs);
    let rings = u32::from(config.rx_ring).saturating_add(u32::from(config.tx_ring));
    let in_rings = pairs.saturating_mul(rings);
    let pool = match &config.pool {
        PoolChoice::Shared(pool) => return Ok(pool.clone()),
        PoolChoice::Own { buffer_size } => PoolConfig {
            // What the rings hold and as much again for batches and packets, but small rings need large batches, too.
            buffers: in_rings.saturating_add(in_rings.max(pairs.saturating_mul(1024))),
            buffer_size: *buffer_size,
            ..PoolConfig::default()
        },
        PoolChoice::Sized(pool) => *pool,
    };
    let need = pairs.saturating_mul(u32::from(config.rx_ring));
    if pool.buffers < need {
        return Err(ConfigError::Pool {
            asked: pool.buffers,
            need,
            want: need.saturating_add(64),
        }
        .into());
    }
    // QUIRK: QEMU's igb drops a frame whose buffer crosses from one IOMMU page into another, without a word: it maps
    // buffers whole, and its IOMMU maps page by page. Twice the buffers leave as many that do not.
    let (pool, page) = if device.function.ids().subsystem_vendor == QEMU {
        let buffers = pool.buffers.saturating_mul(2);
        (PoolConfig { buffers, ..pool }, SMALL_PAGE)
    } else {
        (pool, usize::MAX)
    };
    let region = device.function.dma_space().map(DmaRequest {
        len: pool.region_len(),
        prefer_huge: config.prefer_huge,
    })?;
    Ok(Pool::new_within(region, pool, page)?)
}
