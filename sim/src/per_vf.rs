//! What a card has one of for each VF, and the numbers that find it.

use std::fmt;
use std::ops::{Index, IndexMut};

/// The number of a VF that the card has. Numbers that come from outside become one in [`PerVf::find`] or nowhere, so
/// whatever is handed one need not look again whether there is such a VF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VfId(u8);

impl VfId {
    /// The data path's number of the VF's pool.
    pub(crate) const fn pool(self) -> u8 {
        self.0
    }

    pub(crate) fn number(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for VfId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One of something for each VF, by number. How many there are is settled when the card is built, and the same for all
/// of a card's.
#[derive(Debug)]
pub(crate) struct PerVf<T>(Box<[T]>);

impl<T> PerVf<T> {
    /// VF `number`, if the card has it.
    pub(crate) fn find(&self, number: usize) -> Option<VfId> {
        let number = Some(number).filter(|&number| number < self.0.len())?;
        u8::try_from(number).ok().map(VfId)
    }

    /// All VFs.
    pub(crate) fn ids(&self) -> impl Iterator<Item = VfId> + use<T> {
        (0..u8::try_from(self.0.len()).unwrap_or(u8::MAX)).map(VfId)
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.0.iter_mut()
    }
}

impl<T> FromIterator<T> for PerVf<T> {
    fn from_iter<I: IntoIterator<Item = T>>(each: I) -> Self {
        Self(each.into_iter().collect())
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "a `VfId` is the number of a VF that the card has"
)]
impl<T> Index<VfId> for PerVf<T> {
    type Output = T;

    #[inline]
    fn index(&self, vf: VfId) -> &T {
        &self.0[vf.number()]
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "a `VfId` is the number of a VF that the card has"
)]
impl<T> IndexMut<VfId> for PerVf<T> {
    #[inline]
    fn index_mut(&mut self, vf: VfId) -> &mut T {
        &mut self.0[vf.number()]
    }
}

#[cfg(test)]
mod tests {
    use super::PerVf;

    #[test]
    fn only_numbers_of_vfs_are_found() {
        let each: PerVf<&str> = ["zero", "one"].into_iter().collect();
        let found = |number| each.find(number).map(|vf| each[vf]);
        assert_eq!(found(1), Some("one"));
        assert_eq!(found(2), None);
        assert_eq!(found(256), None, "not VF 0 over again");
        assert_eq!(
            each.ids().map(|vf| each[vf]).collect::<Vec<_>>(),
            ["zero", "one"]
        );
    }
}
