//! IOVA spaces: what a function may reach.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use vfnic_hw::{DmaError, DmaRegion, DmaRequest, DmaSpace, Iova, IovaRange};
use vfnic_ring::HeapDma;

use crate::dma::{Mapping, Translate};

/// Smallest unit of mapping.
const PAGE: u64 = 4096;

/// What a space may map: an aperture with holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aperture {
    /// First address handed out.
    pub start: u64,
    /// Last address of the aperture.
    pub end: u64,
    /// Ranges inside it that are never handed out (x86 keeps 0xfee0_0000-0xfeef_ffff for messages).
    pub reserved: Vec<IovaRange>,
}

impl Default for Aperture {
    /// 39 bits from 1 MiB up, without the interrupt window: an Intel IOMMU as VFIO reports it.
    fn default() -> Self {
        Self {
            start: 0x10_0000,
            end: (1 << 39) - 1,
            reserved: vec![IovaRange {
                start: 0xfee0_0000,
                end: 0xfeef_ffff,
            }],
        }
    }
}

/// Who does DMA in a space and must be waited for before an unmap returns.
pub(crate) trait Master: Send + Sync {
    /// Returns once no DMA that started before the call is still running. `len` bytes at `iova` of `space` were unmapped.
    fn quiesce(&self, space: &SimSpace, iova: Iova, len: usize);
}

/// An IOVA space of the simulated IOMMU. Clones are the same space.
///
/// VFs opened in one space (of one card or of several) reach the same memory at the same addresses. Addresses start low
/// and never equal the CPU's; between two mappings there is always an unmapped page, and addresses are not reused
/// before the aperture is used up, so that a stray or stale address faults.
#[derive(Clone)]
pub struct SimSpace(Arc<Space>);

struct Space {
    aperture: Aperture,
    table: Mutex<Table>,
    /// Bumped by every change of the table, after it.
    generation: AtomicU64,
    mapped: AtomicU64,
    page_size: AtomicUsize,
}

struct Table {
    /// By address.
    mappings: Vec<Mapping>,
    next: u64,
    users: Vec<Weak<dyn Master>>,
    limit: Option<u64>,
    refuse: u32,
}

impl SimSpace {
    /// An empty space with the default aperture.
    #[must_use]
    pub fn new() -> Self {
        Self::with_aperture(Aperture::default())
    }

    /// An empty space with an aperture of the caller's.
    #[must_use]
    pub fn with_aperture(aperture: Aperture) -> Self {
        let next = first_page(&aperture);
        Self(Arc::new(Space {
            aperture,
            table: Mutex::new(Table {
                mappings: Vec::new(),
                next,
                users: Vec::new(),
                limit: None,
                refuse: 0,
            }),
            generation: AtomicU64::new(0),
            mapped: AtomicU64::new(0),
            page_size: AtomicUsize::new(0),
        }))
    }

    /// Makes mappings fail with [`DmaError::Memlock`] once `bytes` would be exceeded, as RLIMIT_MEMLOCK would.
    pub fn limit_locked(&self, bytes: Option<u64>) {
        self.0.table().limit = bytes;
    }

    /// Makes the next `count` mappings fail with [`DmaError::Map`], as a kernel that refuses would.
    pub fn refuse_next(&self, count: u32) {
        self.0.table().refuse = count;
    }

    /// Maps memory that somebody else has allocated at the address of his choice, as a guest's IOMMU driver does. False
    /// when it overlaps a mapping that is there, and nothing is done then.
    #[must_use]
    pub fn insert(&self, mapping: Mapping) -> bool {
        let mut table = self.0.table();
        let place = table
            .mappings
            .partition_point(|other| other.iova() < mapping.iova());
        let clear = |other: Option<&Mapping>| {
            other.is_none_or(|other| end(other) <= mapping.iova() || end(&mapping) <= other.iova())
        };
        if !clear(table.mappings.get(place))
            || !clear(
                place
                    .checked_sub(1)
                    .and_then(|before| table.mappings.get(before)),
            )
        {
            return false;
        }
        self.0
            .mapped
            .fetch_add(mapping.len() as u64, Ordering::Relaxed);
        table.mappings.insert(place, mapping);
        // ORDERING: as in `Space::unmap`.
        self.0.generation.fetch_add(1, Ordering::Release);
        true
    }

    /// Ends every mapping whose first address lies in `first..=last`; no DMA to any of them is running or can start
    /// once this returns. Says how many there were.
    pub fn remove(&self, first: u64, last: u64) -> usize {
        let (gone, users) = {
            let mut table = self.0.table();
            let start = table
                .mappings
                .partition_point(|mapping| mapping.iova() < first);
            let past = table
                .mappings
                .partition_point(|mapping| mapping.iova() <= last);
            let gone: Vec<Mapping> = table.mappings.drain(start..past.max(start)).collect();
            // ORDERING: as in `Space::unmap`.
            self.0.generation.fetch_add(1, Ordering::Release);
            let bytes = gone.iter().map(|mapping| mapping.len() as u64).sum();
            self.0.mapped.fetch_sub(bytes, Ordering::Relaxed);
            (gone, table.users.clone())
        };
        // All of them at once: a guest may have tens of thousands, and others use the card as well.
        if let (Some(first), Some(last)) = (gone.first(), gone.last()) {
            let span = end(last).saturating_sub(first.iova());
            let span = usize::try_from(span).unwrap_or(usize::MAX);
            for user in users.iter().filter_map(Weak::upgrade) {
                user.quiesce(self, Iova(first.iova()), span);
            }
        }
        gone.len()
    }

    /// The space as the data path asks it.
    pub(crate) fn translate(&self) -> Arc<dyn Translate> {
        self.0.clone()
    }

    pub(crate) fn attach(&self, user: Weak<dyn Master>) {
        let mut table = self.0.table();
        table
            .users
            .retain(|old| old.strong_count() > 0 && !old.ptr_eq(&user));
        table.users.push(user);
    }

    /// Whether both are the same space.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The first page of an aperture; one that has none is full from the start.
fn first_page(aperture: &Aperture) -> u64 {
    aperture
        .start
        .checked_next_multiple_of(PAGE)
        .unwrap_or(u64::MAX)
}

/// First address past a mapping; the very last byte of the address space belongs to none.
const fn end(mapping: &Mapping) -> u64 {
    mapping.iova().saturating_add(mapping.len() as u64)
}

impl Translate for Space {
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn lookup(&self, iova: u64) -> Option<Mapping> {
        let table = self.table();
        let after = table
            .mappings
            .partition_point(|mapping| mapping.iova() <= iova);
        let mapping = table.mappings.get(after.checked_sub(1)?)?;
        (iova < end(mapping)).then(|| mapping.clone())
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space")
            .field("mappings", &self.table().mappings.len())
            .field("bytes", &self.mapped.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

impl Space {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first address from `from` on where `len` bytes and a guard page fit.
    fn room(&self, table: &Table, from: u64, len: u64) -> Option<u64> {
        let mut at = from;
        loop {
            let last = at.checked_add(len)?.checked_add(PAGE)?.checked_sub(1)?;
            if last > self.aperture.end {
                return None;
            }
            let reserved = self
                .aperture
                .reserved
                .iter()
                .find(|range| range.start <= last && at <= range.end)
                .map(|range| range.end.saturating_add(1));
            let mapped = table
                .mappings
                .iter()
                .find(|mapping| mapping.iova() <= last && at < end(mapping).saturating_add(PAGE))
                .map(|mapping| end(mapping).saturating_add(PAGE));
            match reserved.max(mapped) {
                Some(next) => at = next.checked_next_multiple_of(PAGE)?,
                None => return Some(at),
            }
        }
    }

    fn unmap(self: &Arc<Self>, iova: Iova, len: usize) {
        let users = {
            let mut table = self.table();
            table.mappings.retain(|mapping| mapping.iova() != iova.0);
            // ORDERING: pairs with the load in `generation`, done once a tick under a lock that `quiesce` takes below:
            // whoever gets that lock afterwards sees the new generation and forgets what it had cached.
            self.generation.fetch_add(1, Ordering::Release);
            self.mapped.fetch_sub(len as u64, Ordering::Relaxed);
            table.users.clone()
        };
        for user in users.iter().filter_map(Weak::upgrade) {
            user.quiesce(&SimSpace(self.clone()), iova, len);
        }
    }
}

impl Default for SimSpace {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SimSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimSpace").field(&self.0).finish()
    }
}

/// Ends its mapping when dropped.
struct Guard {
    space: Arc<Space>,
    iova: Iova,
    len: usize,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.space.unmap(self.iova, self.len);
    }
}

impl DmaSpace for SimSpace {
    fn map(&self, request: DmaRequest) -> Result<DmaRegion, DmaError> {
        let len = request
            .len
            .max(1)
            .checked_next_multiple_of(4096)
            .unwrap_or(usize::MAX);
        let need = len as u64;
        let mut table = self.0.table();
        let locked = self.0.mapped.load(Ordering::Relaxed);
        if let Some(allowed) = table.limit
            && locked.saturating_add(need) > allowed
        {
            return Err(DmaError::Memlock {
                need,
                locked,
                allowed,
            });
        }
        let at = self
            .0
            .room(&table, table.next, need)
            .or_else(|| self.0.room(&table, first_page(&self.0.aperture), need))
            .ok_or_else(|| DmaError::NoIova {
                need,
                ranges: format!("{:x?}", self.ranges()),
            })?;
        if let Some(left) = table.refuse.checked_sub(1) {
            table.refuse = left;
            return Err(DmaError::Map {
                need,
                iova: at,
                source: io::Error::from_raw_os_error(14),
            });
        }
        let memory =
            HeapDma::new(len, Iova(at)).map_err(|source| DmaError::Allocate { need, source })?;
        let memory = Arc::new(memory);
        let place = table.mappings.partition_point(|other| other.iova() < at);
        table
            .mappings
            .insert(place, Mapping::new(at, memory.clone()));
        // At the end of all addresses it is no place, and the next search begins with the first again.
        table.next = at.saturating_add(need).saturating_add(PAGE);
        // ORDERING: as in `unmap`; until a reader notices, it only lacks a mapping that nobody was told of yet.
        self.0.generation.fetch_add(1, Ordering::Release);
        self.0.mapped.fetch_add(need, Ordering::Relaxed);
        if request.prefer_huge {
            self.0.page_size.store(4096, Ordering::Relaxed);
        }
        drop(table);
        let guard = Guard {
            space: self.0.clone(),
            iova: Iova(at),
            len,
        };
        Ok(DmaRegion::guarded(memory, Box::new(guard)))
    }

    fn ranges(&self) -> Vec<IovaRange> {
        let aperture = &self.0.aperture;
        let mut holes = aperture.reserved.clone();
        holes.sort_by_key(|hole| hole.start);
        let mut ranges = Vec::new();
        let mut start = aperture.start;
        for hole in holes {
            if hole.start > start {
                ranges.push(IovaRange {
                    start,
                    end: hole.start.saturating_sub(1).min(aperture.end),
                });
            }
            start = start.max(hole.end.saturating_add(1));
        }
        if start <= aperture.end {
            ranges.push(IovaRange {
                start,
                end: aperture.end,
            });
        }
        ranges
    }

    fn mapped_bytes(&self) -> u64 {
        self.0.mapped.load(Ordering::Relaxed)
    }

    fn page_size(&self) -> usize {
        self.0.page_size.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 4096 bytes at an address.
    fn mapped(space: &SimSpace, iova: u64) -> bool {
        let memory = HeapDma::new(4096, Iova(iova)).expect("a page");
        space.insert(Mapping::new(iova, Arc::new(memory)))
    }

    #[test]
    fn an_address_is_translated_from_the_first_of_a_mapping_to_its_last() {
        let space = SimSpace::new();
        assert!(mapped(&space, 0x4000));
        let first = |iova| space.0.lookup(iova).map(|mapping| mapping.iova());
        assert_eq!(first(0x3fff), None);
        assert_eq!(first(0x4000), Some(0x4000));
        assert_eq!(first(0x4fff), Some(0x4000));
        assert_eq!(first(0x5000), None);
        // With a neighbour on each side, whose addresses are its own.
        assert!(mapped(&space, 0x5000) && mapped(&space, 0x3000));
        for iova in [0x3000, 0x4000, 0x5000] {
            assert!(!mapped(&space, iova), "{iova:#x} is there already");
            assert_eq!(first(iova), Some(iova));
            assert_eq!(first(iova + 0xfff), Some(iova));
        }
        assert_eq!((first(0x2fff), first(0x6000)), (None, None));
    }

    #[test]
    fn an_aperture_at_the_end_of_all_addresses_has_as_many_pages_as_fit() {
        let with = |start| {
            SimSpace::with_aperture(Aperture {
                start,
                end: u64::MAX,
                reserved: Vec::new(),
            })
        };
        let request = || DmaRequest {
            len: 4096,
            prefer_huge: false,
        };
        // Each mapping has a guard page behind it, and the last address of all belongs to nobody.
        let space = with(0u64.wrapping_sub(3 * PAGE));
        let one = space.map(request()).expect("room for one");
        assert!(space.map(request()).is_err());
        drop(one);
        assert!(space.map(request()).is_ok());
        assert!(with(u64::MAX - 7).map(request()).is_err());
    }

    /// Notes what it is told has ended.
    #[derive(Default)]
    struct Notes(Mutex<Vec<(u64, usize)>>);

    impl Master for Notes {
        fn quiesce(&self, _: &SimSpace, iova: Iova, len: usize) {
            self.0.lock().expect("notes").push((iova.0, len));
        }
    }

    impl Notes {
        fn taken(&self) -> Vec<(u64, usize)> {
            std::mem::take(&mut self.0.lock().expect("notes"))
        }
    }

    #[test]
    fn all_who_do_dma_are_waited_for_once_however_often_they_attach() {
        let space = SimSpace::new();
        let users: [Arc<Notes>; 2] = std::array::from_fn(|_| Arc::default());
        for user in users.iter().chain(&users) {
            let user: Arc<dyn Master> = user.clone();
            space.attach(Arc::downgrade(&user));
        }
        assert!(mapped(&space, 0x4000) && mapped(&space, 0x6000) && mapped(&space, 0x9000));
        assert_eq!(space.remove(0x4000, 0x6000), 2);
        for user in &users {
            assert_eq!(
                user.taken(),
                [(0x4000, 0x3000)],
                "from the first byte to the last"
            );
        }
        assert_eq!(space.mapped_bytes(), 4096);
        assert_eq!(space.remove(0x4000, 0x8fff), 0);
        assert_eq!(users[0].taken(), [], "nothing ended");
        assert_eq!(space.remove(0x9000, 0x9000), 1);
        assert_eq!(users[1].taken(), [(0x9000, 0x1000)]);
    }

    #[test]
    fn h8_h11_memory_comes_in_whole_pages_and_says_which() {
        let space = SimSpace::new();
        let user: Arc<Notes> = Arc::default();
        let master: Arc<dyn Master> = user.clone();
        space.attach(Arc::downgrade(&master));
        let map = |len, prefer_huge| space.map(DmaRequest { len, prefer_huge });
        let small = map(1, false).expect("room");
        assert_eq!((small.len(), space.page_size()), (4096, 0));
        let large = map(4097, true).expect("room");
        assert_eq!((large.len(), space.page_size()), (8192, 4096));
        assert_eq!(space.mapped_bytes(), 12288);
        let at = small.iova().0;
        drop(small);
        assert_eq!(user.taken(), [(at, 4096)]);
        assert_eq!(space.mapped_bytes(), 8192);
    }
}
