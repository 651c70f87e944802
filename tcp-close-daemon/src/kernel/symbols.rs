//! Addresses of kernel functions, from `/proc/kallsyms`.
//!
//! Readers without `CAP_SYSLOG`, or under `kptr_restrict=2`, get zeros in place of addresses.

use std::{
    fs::{self, File},
    io::{self, Seek as _},
    ops::Range,
    os::fd::AsFd as _,
};

/// Where the kernel publishes its symbols.
pub const KALLSYMS: &str = "/proc/kallsyms";

/// Kernel addresses are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum SymbolsError {
    /// The file cannot be read.
    #[error("cannot read {KALLSYMS}")]
    Unreadable(#[source] io::Error),
    /// Every address reads as zero.
    #[error(
        "{KALLSYMS} hides kernel addresses from this process; it needs CAP_SYSLOG and sysctl kernel.kptr_restrict below 2"
    )]
    Hidden,
}

/// The kernel's functions with their addresses, sorted by address.
pub struct Symbols {
    functions: Vec<(u64, Box<str>)>,
}

impl Symbols {
    /// Reads the running kernel's symbols.
    pub fn running() -> Result<Self, SymbolsError> {
        let text = fs::read_to_string(KALLSYMS).map_err(SymbolsError::Unreadable);
        text.and_then(|text| Self::parse(&text)).or_else(|error| handed_over().ok_or(error))
    }

    /// Parses text in the format of `/proc/kallsyms`.
    fn parse(text: &str) -> Result<Self, SymbolsError> {
        let mut functions: Vec<(u64, Box<str>)> = text
            .lines()
            .filter_map(|line| {
                let mut words = line.split_ascii_whitespace();
                let address = u64::from_str_radix(words.next()?, 16).ok()?;
                let is_function = matches!(words.next()?, "t" | "T" | "w" | "W");
                let name = words.next()?;
                (is_function && address != 0).then(|| (address, name.into()))
            })
            .collect();
        if functions.is_empty() {
            return Err(SymbolsError::Hidden);
        }
        functions.sort_unstable_by_key(|&(address, _)| address);
        Ok(Self { functions })
    }

    /// Address of the function with this exact name.
    pub fn address(&self, name: &str) -> Option<u64> {
        self.functions.iter().find(|(_, function)| **function == *name).map(|&(address, _)| address)
    }

    /// Where the code of every function with this name lies, its `.cold` part included.
    pub fn ranges(&self, name: &str) -> Vec<Range<u64>> {
        let mut ranges = Vec::new();
        for (index, (start, function)) in self.functions.iter().enumerate() {
            if function.strip_suffix(".cold").unwrap_or(function) == name {
                let next =
                    self.functions.iter().skip(index).map(|&(address, _)| address).find(|next| next > start);
                ranges.push(*start..next.unwrap_or(u64::MAX));
            }
        }
        ranges
    }
}

/// The symbols, if somebody who may see the addresses opened them and gave them to this process as its stdin: the kernel
/// shows what he may see who opens the file (`kallsyms_open`), whoever reads it.
///
/// A service manager does that (`StandardInput=` in systemd.exec(5)) for a daemon that has no such privilege, and never has.
fn handed_over() -> Option<Symbols> {
    // `PROC_SUPER_MAGIC` (include/uapi/linux/magic.h); another file of /proc does not read as symbols.
    const PROC: u64 = 0x9fa0;
    let stdin = io::stdin();
    if u64::try_from(rustix::fs::fstatfs(&stdin).ok()?.f_type) != Ok(PROC) {
        return None;
    }
    let mut file = File::from(stdin.as_fd().try_clone_to_owned().ok()?);
    file.rewind().ok()?;
    Symbols::parse(&io::read_to_string(file).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
ffffffff81000000 T _text
ffffffff81000100 t tw_timer_handler
ffffffff81000180 T tcp_v4_rcv
ffffffff81000180 T alias_of_tcp_v4_rcv
ffffffff81000300 d some_data
ffffffff81000400 T next
ffffffff81000800 t tcp_v4_rcv.cold
ffffffff81000900 t last\t[module]
";

    #[test]
    fn functions_are_found_with_their_ranges() {
        let symbols = Symbols::parse(TEXT).expect("addresses are there");
        assert_eq!(symbols.address("tw_timer_handler"), Some(0xffff_ffff_8100_0100));
        assert_eq!(symbols.address("some_data"), None);
        assert_eq!(
            symbols.ranges("tcp_v4_rcv"),
            [0xffff_ffff_8100_0180..0xffff_ffff_8100_0400, 0xffff_ffff_8100_0800..0xffff_ffff_8100_0900]
        );
        assert_eq!(symbols.ranges("last").first(), Some(&(0xffff_ffff_8100_0900..u64::MAX)));
    }

    #[test]
    fn hidden_addresses_are_an_error() {
        assert!(matches!(Symbols::parse("0000000000000000 T _text\n"), Err(SymbolsError::Hidden)));
    }
}
