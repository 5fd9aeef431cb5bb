//! A function without a card behind it: registers that remember what was written, vectors that fire when told to. For
//! tests and fuzzing of the protocol alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vfnic_hw::{Event, PciError};

use super::backend::{VfBackend, VfSource};
use super::regions::BAR_LEN;
use crate::counting::Count;
use crate::dma::Mapping;

/// MSI-X vectors of a VF.
const VECTORS: u32 = 3;

/// A function without a card. Clones are the same function.
#[derive(Clone, Debug, Default)]
pub struct Blank(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    open: bool,
    removed: bool,
    bar: Vec<u32>,
    config: Vec<u8>,
    events: Vec<Event>,
    mappings: Vec<Mapping>,
    request: Option<Event>,
    resets: u64,
}

impl Blank {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a session has it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state().open
    }

    /// How often it was reset, opening and closing not counted.
    #[must_use]
    pub fn resets(&self) -> u64 {
        self.state().resets
    }

    /// What it can reach, as (address, length), lowest first.
    #[must_use]
    pub fn mappings(&self) -> Vec<(u64, usize)> {
        let mut list: Vec<_> = self
            .state()
            .mappings
            .iter()
            .map(|mapping| (mapping.iova(), mapping.len()))
            .collect();
        list.sort_unstable();
        list
    }

    /// Whether MSI-X is on.
    #[must_use]
    pub fn is_routed(&self) -> bool {
        !self.state().events.is_empty()
    }

    /// Sends the message of a vector; false when MSI-X is off.
    pub fn fire(&self, vector: usize) -> bool {
        let state = self.state();
        let event = state.events.get(vector);
        event.inspect(|event| event.signal()).is_some()
    }

    /// Asks for the function back, as an administrator would.
    pub fn ask_back(&self) {
        if let Some(event) = &self.state().request {
            event.signal();
        }
    }

    /// From now on it cannot be opened.
    pub fn remove(&self) {
        self.state().removed = true;
    }
}

impl VfSource for Blank {
    fn open(&self) -> Result<Box<dyn VfBackend>, PciError> {
        let mut state = self.state();
        let device = || "blank".to_owned();
        if state.removed {
            return Err(PciError::Gone { device: device() });
        }
        if state.open {
            return Err(PciError::Busy {
                device: device(),
                path: device(),
                holder: None,
            });
        }
        state.request = Event::new().ok();
        state.open = true;
        state.bar = vec![0; usize::try_from(BAR_LEN / 4).unwrap_or(0)];
        state.config = vec![0; 4096];
        Ok(Box::new(Open(self.clone())))
    }
}

/// Held by a session.
#[derive(Debug)]
struct Open(Blank);

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open = false;
        state.events.clear();
        state.mappings.clear();
        state.request = None;
    }
}

impl VfBackend for Open {
    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        let start = usize::from(offset);
        let end = start.saturating_add(data.len());
        if let Some(bytes) = self.0.state().config.get(start..end) {
            data.copy_from_slice(bytes);
        }
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) {
        let start = usize::from(offset);
        let end = start.saturating_add(data.len());
        if let Some(bytes) = self.0.state().config.get_mut(start..end) {
            bytes.copy_from_slice(data);
        }
    }

    fn bar_read(&mut self, offset: u32) -> u32 {
        let word = self.0.state().bar.get(offset as usize / 4).copied();
        word.unwrap_or(u32::MAX)
    }

    fn bar_write(&mut self, offset: u32, value: u32) {
        if let Some(word) = self.0.state().bar.get_mut(offset as usize / 4) {
            *word = value;
        }
    }

    fn vectors(&self) -> u32 {
        VECTORS
    }

    fn route_vectors(&mut self, events: &[Event]) -> Result<(), PciError> {
        self.0.state().events = events.to_vec();
        Ok(())
    }

    fn map(&mut self, mapping: Mapping) {
        self.0.state().mappings.push(mapping);
    }

    fn unmap(&mut self, first: u64, last: u64) {
        self.0
            .state()
            .mappings
            .retain(|mapping| !(first..=last).contains(&mapping.iova()));
    }

    fn reset(&mut self) -> Result<(), PciError> {
        let mut state = self.0.state();
        state.resets.count(1);
        state.bar.fill(0);
        Ok(())
    }

    fn error_event(&self) -> Option<Event> {
        None
    }

    fn request_event(&self) -> Option<Event> {
        self.0.state().request.clone()
    }
}
