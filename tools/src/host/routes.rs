//! Whether somebody's traffic depends on an interface.

use super::Host;

/// Why `interface` should be left alone: a route through it, or being part of a bridge or bond. `None` when nothing
/// known depends on it.
#[must_use]
pub fn depends_on(host: &Host, interface: &str) -> Option<String> {
    if !host.has(&format!("/sys/class/net/{interface}")) {
        return None;
    }
    if let Some(line) = host.read("/proc/net/route").and_then(|table| {
        table
            .lines()
            .skip(1)
            .find(|line| line.split_whitespace().next() == Some(interface))
            .map(str::to_owned)
    }) {
        let destination = line.split_whitespace().nth(1).unwrap_or("");
        return Some(format!(
            "/proc/net/route has a route through it ({})",
            ipv4(destination)
        ));
    }
    // Link-local and multicast routes are there on every interface that is up; only others say that it is in use.
    let ipv6 = host.read("/proc/net/ipv6_route").unwrap_or_default();
    for line in ipv6.lines() {
        let mut fields = line.split_whitespace();
        let destination = fields.next().unwrap_or("");
        if fields.next_back() == Some(interface)
            && !destination.starts_with("fe80")
            && !destination.starts_with("ff")
        {
            return Some(format!(
                "/proc/net/ipv6_route has a route through it ({destination})"
            ));
        }
    }
    let master = host.path(&format!("/sys/class/net/{interface}/master"));
    let master = std::fs::read_link(master).ok()?;
    let name = master.file_name()?.to_str()?;
    Some(format!("it is part of `{name}`"))
}

/// The kernel prints an IPv4 address as a number in the machine's order of bytes.
fn ipv4(hex: &str) -> String {
    match u32::from_str_radix(hex, 16) {
        Ok(0) => "the default route".to_owned(),
        Ok(number) => std::net::Ipv4Addr::from(number.to_ne_bytes()).to_string(),
        Err(_) => hex.to_owned(),
    }
}
