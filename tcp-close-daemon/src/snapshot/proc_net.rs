//! The socket table of a namespace as /proc/PID/net has it, for whoever may not enter the namespace.
//!
//! It takes no privilege to read, and tells less: no cookie, no cgroup, and the kernel takes longer over it
//! (`tcp4_seq_show` and `get_timewait4_sock`, <https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/tcp_ipv4.c>).

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::ParseIntError,
    path::Path,
    time::Duration,
};

use super::row::{Holder, Row, Timer, TimerKind};
use crate::event::{ConnectionId, Pair, TcpState};

/// The sockets in one of these states, as a process sees them whose directory below /proc this is.
pub(super) fn read(netns: u32, process: &Path, states: &[TcpState]) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for table in ["net/tcp", "net/tcp6"] {
        let text = match fs::read_to_string(process.join(table)) {
            Ok(text) => text,
            // A host without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table.ends_with('6') => continue,
            Err(error) => return Err(error),
        };
        rows.extend(text.lines().skip(1).filter_map(|line| parse(netns, line)));
    }
    rows.retain(|row| states.contains(&row.state));
    Ok(rows)
}

/// From `0: 0100007F:1F90 0100007F:C350 06 00000000:00000000 03:00000F3C 00000000 0 0 0 3 …`.
fn parse(netns: u32, line: &str) -> Option<Row> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let pair = Pair { local: address(words.next()?)?, remote: address(words.next()?)? };
    let state = TcpState::from_kernel(u32::from_str_radix(words.next()?, 16).ok()?)?;
    let (kind, left) = words.nth(1)?.split_once(':')?;
    let timer = timer(kind, left).ok()?;
    let uid = words.nth(1)?.parse().ok()?;
    let inode = words.nth(1)?.parse().ok()?;
    let is_minisock = timer.is_some_and(|timer| timer.kind == TimerKind::Minisock);
    let holder = Holder { uid, inode: Some(inode).filter(|&inode| inode != 0), cgroup: None };
    Some(Row {
        id: ConnectionId::without_cookie(netns, &pair),
        pair,
        state,
        timer,
        holder: (!is_minisock).then_some(holder),
    })
}

/// The address in words of the host's byte order, as they lie in memory; the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let mut bytes = [0; 16];
    for (word, place) in ip.as_bytes().chunks(8).zip(bytes.chunks_exact_mut(4)) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        place.copy_from_slice(&word.to_ne_bytes());
    }
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(*bytes.first_chunk::<4>()?)),
        32 => Ipv6Addr::from(bytes).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// From `03` and `00000F3C`: which timer, if any, and hundredths of a second to its end, which may be over.
fn timer(kind: &str, left: &str) -> Result<Option<Timer>, ParseIntError> {
    /// `USER_HZ`, the same on every architecture that tcp-close is built for.
    const IN_A_SECOND: u64 = 100;
    let kind = match u8::from_str_radix(kind, 16)? {
        0 => return Ok(None),
        1 => TimerKind::Retransmit,
        2 => TimerKind::KeepAlive,
        3 => TimerKind::Minisock,
        4 => TimerKind::ZeroWindow,
        other => TimerKind::Other(other),
    };
    // What is over is shown as a large number.
    let left = u64::from_str_radix(left, 16)?;
    let left = u32::try_from(left).ok().and_then(|left| u32::try_from(left.cast_signed()).ok()).unwrap_or(0);
    Ok(Some(Timer { kind, left: Duration::from_millis(u64::from(left) * 1000 / IN_A_SECOND) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel prints is in the host's byte order, so it is made of bytes here too.
    fn ipv4(bytes: [u8; 4]) -> String {
        format!("{:08X}", u32::from_ne_bytes(bytes))
    }

    #[track_caller]
    fn check(line: &str, state: TcpState, timer: Option<(TimerKind, u64)>, inode: Option<u32>) -> Pair {
        let row = parse(7, line).expect("a socket");
        let timer = timer.map(|(kind, left)| Timer { kind, left: Duration::from_millis(left) });
        assert_eq!((row.id.netns, row.id.cookie(), row.state, row.timer), (7, None, state, timer));
        assert_eq!(row.holder.and_then(|holder| holder.inode), inode);
        assert_eq!(row.holder.is_none(), row.is_minisock());
        row.pair
    }

    #[test]
    fn lines_of_the_kernel() {
        let (local, remote) = (ipv4([192, 0, 2, 1]), ipv4([192, 0, 2, 2]));
        let rest =
            "00000000:00000000 00:00000000 00000000  1000        0 6226973 1 0000000000000000 20 4 30 10 -1";
        let pair = check(
            &format!("   0: {local}:1F90 {remote}:C350 08 {rest}"),
            TcpState::CloseWait,
            None,
            Some(6_226_973),
        );
        assert_eq!(pair.local, "192.0.2.1:8080".parse().expect("an address"));
        assert_eq!(pair.remote, "192.0.2.2:50000".parse().expect("an address"));
        let minisock = |state: &str, left: &str| {
            format!(
                "  12: {local}:1F90 {remote}:C350 {state} 00000000:00000000 03:{left} 00000000     0        0 0 3 0000000000000000"
            )
        };
        check(&minisock("06", "00000F3C"), TcpState::TimeWait, Some((TimerKind::Minisock, 39_000)), None);
        check(&minisock("05", "00000001"), TcpState::FinWait2, Some((TimerKind::Minisock, 10)), None);
        check(&minisock("06", "FFFFFFF0"), TcpState::TimeWait, Some((TimerKind::Minisock, 0)), None);
        check(&minisock("06", "FFFFFFFFFFFFFFF0"), TcpState::TimeWait, Some((TimerKind::Minisock, 0)), None);
    }

    #[test]
    fn ipv6_and_what_is_mapped_into_it() {
        let text = |ip: &str| {
            let bytes = ip.parse::<Ipv6Addr>().expect("an address").octets();
            bytes.chunks_exact(4).map(|word| ipv4(word.try_into().expect("four bytes"))).collect::<String>()
                + ":0050"
        };
        let socket = |ip: &str| address(&text(ip));
        assert_eq!(socket("2001:db8::1"), "[2001:db8::1]:80".parse().ok());
        assert_eq!(socket("::ffff:192.0.2.1"), "192.0.2.1:80".parse().ok());
        assert_eq!(address("0011:0050"), None);
    }

    #[test]
    fn what_is_no_line_is_none() {
        for line in ["", "0: nonsense", "0: 0100007F:1F90 0100007F:C350 63 0:0 00:0 0 0 0 0"] {
            assert_eq!(parse(1, line), None, "{line}");
        }
    }

    #[test]
    fn this_namespace_is_read() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("an address");
        let rows = read(7, Path::new("/proc/self"), &[TcpState::Listen]).expect("it is there");
        assert!(rows.iter().any(|row| row.pair.local == address), "{rows:?}");
    }
}
