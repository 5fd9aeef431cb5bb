//! From an opened port to running queues.

use std::sync::Arc;
use std::time::Duration;

use vfnic_hw::{DmaRegion, DmaRequest, Model};
use vfnic_ring::{Dialect, RxParams, RxRing, TxParams, TxRing};

use crate::config::{Itr, PortConfig};
use crate::family::{Direction, RxSetup, TxSetup};
use crate::port::shared::{PairStats, Shared};
use crate::port::{Device, Port, PortState};
use crate::queue::run::{Life, Run};
use crate::queue::{QueuePair, RxQueue, TxQueue, max_frame};
use crate::registers::Gone;
use crate::{Error, Link};

/// Interrupt interval before anything is known about the load.
const FIRST_INTERVAL: Duration = Duration::ZERO;

/// Programs what belongs to no single queue: spread, interrupt map, throttling.
pub(super) fn program_port(device: &Device, config: &PortConfig, pairs: u16) -> Result<(), Gone> {
    device.family.spread(&device.regs, &config.rss, pairs);
    let interval = match config.itr {
        Itr::Adaptive => FIRST_INTERVAL,
        Itr::Fixed(interval) => interval,
    };
    for vector in 0..device.plan.count {
        if let Some((register, value)) = device.family.throttle(vector, interval) {
            device.regs.write(register, value);
        }
    }
    device.family.route(&device.regs, &device.plan, pairs)
}

impl Port {
    /// Starts the queues. Each pair can be moved to a thread of its own; frames pass as soon as the link is up. Takes at
    /// most [`open_timeout`](crate::PortConfig::open_timeout).
    ///
    /// # Errors
    ///
    /// [`Error::State`] when the port is started already (queues of a former start that still exist count as such),
    /// [`Error::Refused`] or [`Error::NeedsTrust`] when the PF does not grant what was configured. The port is stopped
    /// then, and can be started again.
    pub fn start(&self) -> Result<Vec<QueuePair>, Error> {
        let shared = &self.shared;
        let device = &shared.device;
        let limit = shared.config.open_timeout;
        let pairs = shared.with_control_for(limit, "starting", async |control| {
            if shared.run().is_some() {
                return Err(Error::State {
                    device: device.name.clone(),
                    what: "start was asked for, but queues of an earlier start still exist; stop the port and drop them first",
                });
            }
            if !device.is_bus_master() {
                // Somebody reset the function since it was opened.
                device.rewire()?;
                control.fresh = false;
            }
            if !control.fresh {
                control
                    .bring_up(device, &shared.ticker, shared.config.mailbox_timeout)
                    .await?;
                shared.publish_grant(control);
            }
            control.fresh = false;
            let io = device.io(&shared.ticker);
            if let Some(error) = control.replay(device, io).await?.into_iter().next() {
                return Err(error);
            }
            program_port(device, &shared.config, shared.pairs).map_err(|Gone| io.gone())?;
            let run = Arc::new(Run::new(
                Arc::clone(device),
                shared.pairs,
                control.settings.mtu,
                shared.config.itr,
            ));
            let result = start_pairs(shared, &run);
            if result.is_ok() {
                shared.set_run(&run);
                control.hang.forget();
                control.looked = io.ticker.now();
            }
            result
        })?;
        shared.publish_link(PortState::LinkDown, Link::Down);
        // The link may be up already: then the first poll says so, and nobody has to wait for it.
        self.shared.poll_control()?;
        Ok(pairs)
    }
}

fn start_pairs(shared: &Shared, run: &Arc<Run>) -> Result<Vec<QueuePair>, Error> {
    let config = &shared.config;
    // Both rings of a pair in one piece, each on a page of its own.
    let rx_bytes = (usize::from(config.rx_ring) << 4).next_multiple_of(4096);
    let tx_bytes = (usize::from(config.tx_ring) << 4).next_multiple_of(4096);
    let pair_bytes = rx_bytes.saturating_add(tx_bytes);
    let memory = shared.device.function.dma_space().map(DmaRequest {
        len: pair_bytes.saturating_mul(usize::from(shared.pairs)),
        prefer_huge: false,
    })?;
    let mut pairs = Vec::new();
    let mut stats = Vec::new();
    for queue in 0..shared.pairs {
        let rx = usize::from(queue).saturating_mul(pair_bytes);
        let tx = rx.saturating_add(rx_bytes);
        // On an error the pairs made so far are dropped, which takes them out of service.
        let pair = make_pair(shared, run, &memory, queue, rx, tx)?;
        stats.push(PairStats {
            index: queue,
            rx: pair.rx.stats(),
            tx: pair.tx.stats(),
        });
        pairs.push(pair);
    }
    // Transmit queues first (ixgbevf.md §14.2, igbvf.md §17.7).
    for pair in &mut pairs {
        pair.tx.enable(0)?;
    }
    for pair in &mut pairs {
        pair.rx.enable(0)?;
    }
    shared.set_pair_stats(stats);
    Ok(pairs)
}

const fn dialect(model: Model) -> Dialect {
    match model {
        Model::I82576 => Dialect::I82576,
        Model::I350 => Dialect::I350,
        Model::I82599 => Dialect::I82599,
        Model::X540 => Dialect::X540,
        Model::X550 => Dialect::X550,
    }
}

fn make_pair(
    shared: &Shared,
    run: &Arc<Run>,
    memory: &DmaRegion,
    queue: u16,
    rx_offset: usize,
    tx_offset: usize,
) -> Result<QueuePair, Error> {
    let (config, device) = (&shared.config, &shared.device);
    let mtu = run.mtu();
    let rx_ring = RxRing::new(RxParams {
        ring: memory.clone(),
        offset: rx_offset,
        size: config.rx_ring,
        pool: shared.pool.clone(),
        doorbell: device
            .regs
            .doorbell(device.family.tail(queue, Direction::Rx))?,
        dialect: dialect(device.model),
        max_frame: max_frame(mtu),
    })?
    .with_prefetch(config.prefetch);
    let tx_ring = TxRing::new(TxParams {
        ring: memory.clone(),
        offset: tx_offset,
        size: config.tx_ring,
        pool: shared.pool.clone(),
        doorbell: device
            .regs
            .doorbell(device.family.tail(queue, Direction::Tx))?,
        dialect: dialect(device.model),
        max_frame: max_frame(mtu),
    })?;
    let rx_setup = RxSetup {
        ring: memory.iova().offset(rx_offset as u64),
        size: config.rx_ring,
        buffer_size: shared.pool.config().buffer_size,
        strip_vlan: config.vlan_strip,
        mtu,
    };
    let tx_setup = TxSetup {
        ring: memory.iova().offset(tx_offset as u64),
        size: config.tx_ring,
    };
    let life = |direction| Life::new(Arc::clone(run), queue, direction);
    Ok(QueuePair {
        rx: RxQueue::new(rx_ring, life(Direction::Rx), rx_setup, memory.clone()),
        tx: TxQueue::new(tx_ring, life(Direction::Tx), tx_setup, memory.clone()),
    })
}
