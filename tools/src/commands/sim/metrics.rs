//! Counters of a served card for a monitoring system: Prometheus' text format over HTTP.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use serde_json::Value;

use crate::apps::http;

/// Answers every request on `address` with what `read` gives, until the process ends; says where it listens.
///
/// # Errors
///
/// When the address cannot be had.
pub(super) fn serve(
    address: SocketAddr,
    read: impl Fn() -> Value + Send + 'static,
) -> io::Result<SocketAddr> {
    http::serve(address, move || text(&read()))
}

/// The card's counters as metrics.
fn text(card: &Value) -> String {
    let mut text = String::new();
    let mut family = |name: &str, help: &str, samples: Vec<(String, Value)>| {
        let _ = writeln!(
            text,
            "# HELP vfnic_sim_{name} {help}\n# TYPE vfnic_sim_{name} counter"
        );
        for (labels, value) in samples {
            let _ = writeln!(text, "vfnic_sim_{name}{labels} {value}");
        }
    };
    let vfs = || card["vfs"].as_array().into_iter().flatten();
    let each = |field: &str| {
        vfs()
            .map(|vf| {
                (
                    format!("{{vf=\"{}\"}}", vf["vf"]),
                    vf["counters"][field].clone(),
                )
            })
            .collect::<Vec<_>>()
    };
    family(
        "received_frames_total",
        "Frames a VF received.",
        each("gprc"),
    );
    family("received_bytes_total", "Bytes a VF received.", each("gorc"));
    family("sent_frames_total", "Frames a VF sent.", each("gptc"));
    family("sent_bytes_total", "Bytes a VF sent.", each("gotc"));
    let mut drops = Vec::new();
    let mut interrupts = Vec::new();
    let mut sessions = Vec::new();
    for vf in vfs() {
        let number = &vf["vf"];
        for (reason, count) in vf["counters"]["drops"].as_object().into_iter().flatten() {
            drops.push((
                format!("{{vf=\"{number}\",reason=\"{reason}\"}}"),
                count.clone(),
            ));
        }
        for (vector, count) in vf["interrupts"]
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
        {
            interrupts.push((
                format!("{{vf=\"{number}\",vector=\"{vector}\"}}"),
                count.clone(),
            ));
        }
        for (what, count) in vf["sessions"].as_object().into_iter().flatten() {
            sessions.push((
                format!("{{vf=\"{number}\",event=\"{what}\"}}"),
                count.clone(),
            ));
        }
    }
    family("dropped_frames_total", "Frames lost, by reason.", drops);
    family("interrupts_total", "Interrupt messages sent.", interrupts);
    family(
        "client_events_total",
        "What happened on a VF's socket.",
        sessions,
    );
    let violations = card["violations"].as_array().map_or(0, Vec::len);
    family(
        "violations_total",
        "Breaches of the hardware's rules recorded.",
        vec![(String::new(), violations.into())],
    );
    family(
        "cpu_seconds_total",
        "CPU time of the card's own thread.",
        vec![(String::new(), card["cpu_seconds"].clone())],
    );
    text
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use vfnic_hw::Model;
    use vfnic_sim::Card;
    use vfnic_sim::serve::show;

    use super::*;

    #[test]
    fn counters_are_served_as_text() {
        let card = Card::builder(Model::I350).vfs(2).build().expect("a card");
        let address = "127.0.0.1:0".parse().expect("an address");
        let address = serve(address, move || show(&card)).expect("a port");
        // One that says nothing does not keep the next from being answered.
        let _silent = TcpStream::connect(address).expect("a connection");
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).expect("a connection");
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\n\r\n")
                .expect("written");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("read");
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
            assert!(head.starts_with("HTTP/1.0 200 OK"), "{head}");
            assert!(
                head.contains(&format!("Content-Length: {}", body.len())),
                "{head}"
            );
            assert!(
                body.contains("\nvfnic_sim_received_frames_total{vf=\"1\"} 0\n"),
                "{body}"
            );
            assert!(
                body.contains("vfnic_sim_interrupts_total{vf=\"0\",vector=\"2\"} 0\n"),
                "{body}"
            );
            assert!(!body.contains("null"), "{body}");
        }
    }
}
