//! Which ports the kernel gives to those who connect, and when it takes one back from a TIME-WAIT.

use std::{fs, ops::RangeInclusive, time::Duration};

/// How long a TIME-WAIT is left alone before Linux 6.14, which has a setting for it.
const REUSE_DELAY: Duration = Duration::from_secs(1);

/// The settings of one network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSettings {
    /// `net.ipv4.ip_local_port_range`.
    pub range: RangeInclusive<u16>,
    /// `net.ipv4.ip_local_reserved_ports`: never given.
    pub reserved: Vec<RangeInclusive<u16>>,
    /// `net.ipv4.tcp_tw_reuse`: from which TIME-WAITs a port is taken back.
    pub reuse: Reuse,
    /// `net.ipv4.tcp_tw_reuse_delay`: how long they are left alone.
    pub reuse_delay: Duration,
    /// `net.ipv4.tcp_timestamps`, without which none is taken back.
    pub timestamps: bool,
}

/// From which TIME-WAITs the kernel takes the socket pair for a new connection (`tcp_twsk_unique`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// None (0).
    Never,
    /// All (1).
    Always,
    /// Those of connections within the host, by their addresses (2, the default).
    Loopback,
}

impl PortSettings {
    /// Reads those of the namespace that this thread is in; `None` if they cannot be read.
    pub fn read() -> Option<Self> {
        Self::parse(|name| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok())
    }

    /// From the text of each setting.
    fn parse(read: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
        let range = read("ip_local_port_range")?;
        let mut ends = range.split_ascii_whitespace().map(str::parse);
        let (Some(Ok(low)), Some(Ok(high))) = (ends.next(), ends.next()) else {
            return None;
        };
        Some(Self {
            range: low..=high,
            reserved: ranges(&read("ip_local_reserved_ports")?),
            reuse: match number("tcp_tw_reuse")? {
                0 => Reuse::Never,
                1 => Reuse::Always,
                _ => Reuse::Loopback,
            },
            reuse_delay: number("tcp_tw_reuse_delay").map_or(REUSE_DELAY, Duration::from_millis),
            timestamps: number("tcp_timestamps")? != 0,
        })
    }

    /// Whether the kernel may give this port to who connects.
    pub fn gives(&self, port: u16) -> bool {
        self.range.contains(&port) && !self.reserved.iter().any(|reserved| reserved.contains(&port))
    }
}

/// From `8080,9148-9150`.
fn ranges(list: &str) -> Vec<RangeInclusive<u16>> {
    let range = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        Some(low.parse().ok()?..=high.parse().ok()?)
    };
    list.trim().split(',').filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(settings: &[(&str, &str)]) -> Option<PortSettings> {
        let read = |name: &str| {
            settings.iter().find(|&&(known, _)| known == name).map(|(_, text)| format!("{text}\n"))
        };
        PortSettings::parse(read)
    }

    #[test]
    fn settings_are_read_by_name() {
        let mut texts = vec![
            ("ip_local_port_range", "32768\t60999"),
            ("ip_local_reserved_ports", "8080,40000-40002"),
            ("tcp_tw_reuse", "2"),
            ("tcp_timestamps", "1"),
        ];
        let settings = parse(&texts).expect("all that every kernel has");
        assert_eq!(
            settings,
            PortSettings {
                range: 32768..=60999,
                reserved: vec![8080..=8080, 40000..=40002],
                reuse: Reuse::Loopback,
                reuse_delay: Duration::from_secs(1),
                timestamps: true,
            }
        );
        let given: Vec<bool> =
            [32767, 32768, 40000, 40003, 60999, 61000].map(|port| settings.gives(port)).into();
        assert_eq!(given, [false, true, false, true, true, false]);
        texts.push(("tcp_tw_reuse_delay", "250"));
        assert_eq!(parse(&texts).expect("settings").reuse_delay, Duration::from_millis(250));
        texts.remove(0);
        assert_eq!(parse(&texts), None);
    }

    #[test]
    fn no_port_is_reserved_by_default() {
        assert_eq!(ranges("\n"), []);
    }
}
