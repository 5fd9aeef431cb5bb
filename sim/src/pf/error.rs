//! Why a knob was not turned.

/// A knob that could not be turned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PfError {
    /// No such VF.
    #[error("VF {vf}: the card has {have} VFs, numbered from 0")]
    NoVf {
        /// The VF asked for.
        vf: u16,
        /// VFs the card has.
        have: u16,
    },
    /// A value the PF driver refuses.
    #[error("{what}: {value} is refused; {why}")]
    Refused {
        /// The knob.
        what: &'static str,
        /// The value asked for.
        value: String,
        /// What is possible.
        why: &'static str,
    },
    /// A knob this card does not have.
    #[error("{what} is not possible: {why}")]
    Unsupported {
        /// The knob.
        what: &'static str,
        /// Why not.
        why: &'static str,
    },
}

pub(super) const fn refused(what: &'static str, value: String, why: &'static str) -> PfError {
    PfError::Refused { what, value, why }
}
