//! The VERSION exchange: what either side can do, as JSON.

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::wire::{MAX_DATA, MAX_FDS, MAX_MAPS, PAGE};

/// The version spoken, whatever minor version is proposed: 0.0, as QEMU does.
pub(super) const MAJOR: u16 = 0;
pub(super) const MINOR: u16 = 0;

/// Longest JSON listened to. Everything the protocol defines fits in a tenth of it.
const MAX_JSON: usize = 4096;

#[derive(Debug, Default, Deserialize, Serialize)]
struct Data {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capabilities: Option<Capabilities>,
}

/// The capabilities of this protocol version that this server has an opinion on. Others are ignored, as are unknown
/// keys; a known key that comes twice or has a value of another type is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Capabilities {
    /// Most file descriptors that the sender takes with one message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_msg_fds: Option<u64>,
    /// Most region bytes that the sender takes with one message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_data_xfer_size: Option<u64>,
    /// Most DMA windows at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_dma_maps: Option<u64>,
    /// Page sizes of DMA windows, or'ed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pgsizes: Option<u64>,
    /// Whether several posted writes may share a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) write_multiple: Option<bool>,
}

/// Reads what a client offers.
///
/// # Errors
///
/// `EPROTONOSUPPORT` for another major version; `EINVAL` when the data is not the NUL-terminated JSON it should be.
pub(super) fn offer(major: u16, data: &[u8]) -> Result<Capabilities, Errno> {
    if major != MAJOR {
        return Err(Errno::PROTONOSUPPORT);
    }
    let Some((&nul, json)) = data.split_last() else {
        return Ok(Capabilities::default());
    };
    if nul != 0 || json.len() > MAX_JSON {
        return Err(Errno::INVAL);
    }
    // serde_json bounds the nesting by itself.
    let data: Data = serde_json::from_slice(json).map_err(|_| Errno::INVAL)?;
    Ok(data.capabilities.unwrap_or_default())
}

/// What is answered: of the capabilities offered, those that are had, with this side's limits; as JSON and a NUL.
#[must_use]
pub(super) fn answer(offered: &Capabilities) -> Vec<u8> {
    let limit = |offer: Option<u64>, own: u64| offer.map(|_| own);
    let data = Data {
        capabilities: Some(Capabilities {
            max_msg_fds: limit(offered.max_msg_fds, MAX_FDS as u64),
            max_data_xfer_size: limit(offered.max_data_xfer_size, MAX_DATA as u64),
            max_dma_maps: offered.max_dma_maps.map(|most| most.min(MAX_MAPS as u64)),
            pgsizes: limit(offered.pgsizes, PAGE),
            write_multiple: offered.write_multiple.filter(|&wanted| wanted),
        }),
    };
    let mut json = serde_json::to_vec(&data).unwrap_or_default();
    json.push(0);
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_as_long_as_may_be_and_no_longer() {
        let padded = |len: usize| {
            let mut json = b"{}".to_vec();
            json.resize(len, b' ');
            json.push(0);
            json
        };
        assert!(offer(MAJOR, &padded(2)).is_ok());
        assert!(offer(MAJOR, &padded(MAX_JSON)).is_ok());
        assert!(matches!(
            offer(MAJOR, &padded(MAX_JSON + 1)),
            Err(Errno::INVAL)
        ));
        assert!(matches!(offer(MAJOR, b"{}"), Err(Errno::INVAL)), "no NUL");
        assert!(offer(MAJOR, b"").is_ok(), "nothing is offered");
    }
}
