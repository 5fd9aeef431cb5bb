//! Bytes from outside: sockets, files, command lines, frames.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vfnic::{DeviceSpec, MacAddr};
use vfnic_sim::serve::Blank;
use vfnic_sim::serve::fuzz::{Bench, Outcome, fuzz_session};
use vfnic_sim::uplink::{Pace, PcapPlayer};
use vfnic_sim::{Card, FaultPlan};
use vfnic_tools::traffic::frame::{Identity, Parsed, Template, body_block, parse};

use super::Input;

/// A client's bytes as they come.
pub(super) fn vfio_user_stream(data: &[u8]) {
    fuzz_session(data);
}

/// Messages with sound headers, plausible commands, and descriptors.
pub(super) fn vfio_user_session(data: &[u8]) {
    let mut input = Input::new(data);
    let mut bench = Bench::new(Arc::new(Blank::default()));
    let mut first = true;
    for id in 0..64u16 {
        if input.is_empty() && !first {
            break;
        }
        let command = if first {
            1
        } else {
            u16::from(input.byte() % 17)
        };
        let mut body = if first {
            [&[0, 0, 1, 0][..], b"{}\0"].concat()
        } else {
            let len = input.below(96);
            input.bytes(len).to_vec()
        };
        first = false;
        if input.byte() & 1 == 0 && body.len() >= 4 {
            // Where a request says how long it is.
            let len = u32::try_from(body.len()).unwrap_or(0);
            body[..4].copy_from_slice(&len.to_le_bytes());
        }
        let mut head = [0; 16];
        head[..2].copy_from_slice(&id.to_le_bytes());
        head[2..4].copy_from_slice(&command.to_le_bytes());
        let size = u32::try_from(16 + body.len()).unwrap_or(16);
        head[4..8].copy_from_slice(&size.to_le_bytes());
        let descriptors = descriptors(&mut input);
        if bench.message(&head, &body, descriptors) == Outcome::Over {
            break;
        }
    }
}

fn descriptors(input: &mut Input<'_>) -> Vec<OwnedFd> {
    let mut list = Vec::new();
    for _ in 0..input.below(4) {
        let fd = if input.byte() & 1 == 0 {
            eventfd(0, EventfdFlags::CLOEXEC).ok()
        } else {
            memfd_create("fuzz", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
                .ok()
                .filter(|fd| ftruncate(fd, u64::from(input.half()) << 4).is_ok())
        };
        list.extend(fd);
    }
    list
}

/// A capture of any bytes, played into a card.
pub(super) fn pcap(data: &[u8]) {
    let Ok(fd) = memfd_create("fuzz.pcap", MemfdFlags::CLOEXEC) else {
        return;
    };
    let mut file = std::fs::File::from(fd);
    // Mostly a good header, so that something comes of the rest.
    if data.first().is_some_and(|byte| byte & 3 != 0) {
        let mut head = [0; 24];
        head[..4].copy_from_slice(&0xa1b2_c3d4_u32.to_le_bytes());
        head[20] = 1;
        file.write_all(&head).expect("memory");
    }
    file.write_all(data).expect("memory");
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    if let Ok(player) = PcapPlayer::open(path.as_ref(), Pace::AtOnce, None) {
        let card = Card::builder(vfnic_hw::Model::X540)
            .build()
            .expect("a card");
        card.set_uplink(Box::new(player));
        for _ in 0..4 {
            card.step();
        }
    }
}

/// Whatever stands for a device on a command line.
pub(super) fn cli_bdf(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(spec) = text.parse::<DeviceSpec>() {
        let again = spec.to_string().parse::<DeviceSpec>();
        assert_eq!(
            again.ok(),
            Some(spec),
            "what it says of itself means the same"
        );
    }
    if let Ok(mac) = text.parse::<MacAddr>() {
        assert_eq!(mac.to_string().parse::<MacAddr>().ok(), Some(mac));
    }
    let _ = text.parse::<vfnic_tools::device::Device>();
    let _ = vfnic_tools::args::duration(&text);
    let _ = text.parse::<vfnic_tools::traffic::FrameSizes>();
    let _ = text.parse::<vfnic_tools::traffic::Rate>();
}

/// Plans of faults, as text.
pub(super) fn fault_plan(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(plan) = text.parse::<FaultPlan>() {
        assert!(plan.rules().len() <= data.len());
    }
}

/// A frame of any bytes, and a good one with a byte changed.
pub(super) fn soak_frame(data: &[u8]) {
    let _ = parse(data);
    let mut input = Input::new(data);
    let (seed, flow, sequence) = (input.long(), input.half(), input.long());
    let identity = Identity {
        source: [2; 6],
        destination: [4; 6],
        seed,
    };
    let template = Template::new(&identity, 60 + input.below(1500), &body_block(seed));
    let mut frame = vec![0; template.len()];
    template.write(&mut frame, flow, sequence, input.long());
    assert!(matches!(parse(&frame), Parsed::Stamped(stamp) if stamp.flow == flow));
    // Behind the addresses no byte can change unnoticed, but for a UDP checksum that is left out.
    let (at, change) = (12 + input.below(frame.len() - 12), input.byte());
    if change != 0 {
        frame[at] ^= change;
        assert!(
            !matches!(parse(&frame), Parsed::Stamped(_)),
            "byte {at} ^ {change:#x}"
        );
    }
}
