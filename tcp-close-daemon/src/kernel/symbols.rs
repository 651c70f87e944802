//! Addresses of kernel functions, from `/proc/kallsyms`.
//!
//! Readers without `CAP_SYSLOG`, or under `kptr_restrict=2`, get zeros in place of addresses.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead, BufReader, Seek as _},
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

/// Some of the kernel's functions, and where the code of each lies.
pub struct Symbols {
    /// Where the code of every function begins, in order.
    starts: Vec<u64>,
    /// Those that were asked for: where they begin, and what they are called.
    functions: Vec<(u64, Box<str>)>,
}

impl Symbols {
    /// Reads the running kernel's symbols, of which there are some 200 000, and keeps the functions of these names.
    pub fn running(names: impl IntoIterator<Item = &'static str>) -> Result<Self, SymbolsError> {
        let names = names.into_iter().collect();
        let symbols = File::open(KALLSYMS)
            .map_err(SymbolsError::Unreadable)
            .and_then(|file| Self::read(BufReader::new(file), &names));
        symbols.or_else(|error| handed_over(&names).ok_or(error))
    }

    /// Reads text in the format of `/proc/kallsyms`.
    fn read(mut text: impl BufRead, names: &HashSet<&str>) -> Result<Self, SymbolsError> {
        let mut symbols = Self { starts: Vec::new(), functions: Vec::new() };
        let mut line = String::new();
        while text.read_line(&mut line).map_err(SymbolsError::Unreadable)? > 0 {
            if let Some((address, name)) = function(&line) {
                symbols.starts.push(address);
                if names.contains(without_part(name)) {
                    symbols.functions.push((address, name.into()));
                }
            }
            line.clear();
        }
        if symbols.starts.is_empty() {
            return Err(SymbolsError::Hidden);
        }
        symbols.starts.sort_unstable();
        Ok(symbols)
    }

    /// Address of the function with this exact name, which is one of those that were asked for.
    pub fn address(&self, name: &str) -> Option<u64> {
        self.functions.iter().find(|(_, function)| **function == *name).map(|&(address, _)| address)
    }

    /// Where the code of every function with this name lies, its `.cold` part included.
    pub fn ranges(&self, name: &str) -> Vec<Range<u64>> {
        let named = self.functions.iter().filter(|(_, function)| without_part(function) == name);
        let range = |&(start, _): &(u64, Box<str>)| {
            // Several names may begin at one place.
            let after = self.starts.partition_point(|&other| other <= start);
            start..self.starts.get(after).copied().unwrap_or(u64::MAX)
        };
        named.map(range).collect()
    }
}

/// Address and name, if this line tells of a function whose address is shown.
fn function(line: &str) -> Option<(u64, &str)> {
    let mut words = line.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    let is_function = matches!(words.next()?, "t" | "T" | "w" | "W");
    let name = words.next()?;
    (is_function && address != 0).then_some((address, name))
}

/// The name of the function that this one, or this part of one, is.
fn without_part(name: &str) -> &str {
    name.strip_suffix(".cold").unwrap_or(name)
}

/// The symbols, if somebody who may see the addresses opened them and gave them to this process as its stdin: the kernel
/// shows what he may see who opens the file (`kallsyms_open`), whoever reads it.
///
/// A service manager does that (`StandardInput=` in systemd.exec(5)) for a daemon that has no such privilege, and never has.
fn handed_over(names: &HashSet<&str>) -> Option<Symbols> {
    // `PROC_SUPER_MAGIC` (include/uapi/linux/magic.h); another file of /proc does not read as symbols.
    const PROC: u64 = 0x9fa0;
    let stdin = io::stdin();
    if u64::try_from(rustix::fs::fstatfs(&stdin).ok()?.f_type) != Ok(PROC) {
        return None;
    }
    let mut file = File::from(stdin.as_fd().try_clone_to_owned().ok()?);
    file.rewind().ok()?;
    Symbols::read(BufReader::new(file), names).ok()
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
        let names = ["tw_timer_handler", "some_data", "tcp_v4_rcv", "last"].into();
        let symbols = Symbols::read(TEXT.as_bytes(), &names).expect("addresses are there");
        assert_eq!(symbols.address("tw_timer_handler"), Some(0xffff_ffff_8100_0100));
        assert_eq!(symbols.address("some_data"), None, "it is no function");
        assert_eq!(symbols.address("next"), None, "it was not asked for");
        assert_eq!(
            symbols.ranges("tcp_v4_rcv"),
            [0xffff_ffff_8100_0180..0xffff_ffff_8100_0400, 0xffff_ffff_8100_0800..0xffff_ffff_8100_0900]
        );
        assert_eq!(symbols.ranges("last").first(), Some(&(0xffff_ffff_8100_0900..u64::MAX)));
    }

    #[test]
    fn hidden_addresses_are_an_error() {
        let text = b"0000000000000000 T _text\n";
        assert!(matches!(Symbols::read(&text[..], &["_text"].into()), Err(SymbolsError::Hidden)));
    }
}
