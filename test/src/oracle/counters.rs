//! The counters in `/proc/net`, as the worker of a namespace reads them.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, ensure};

use crate::breakage::{OrGiveUp as _, give_up};
use crate::netns::Netns;

/// Whether `TW` and `TWKilled` of `TcpExt` count minisocks as they begin (`__inet_twsk_schedule`, Linux 5.18), as opposed
/// to those whose time was up (`tw_timer_handler`).
pub fn counts_minisocks_as_they_begin() -> bool {
    is_at_least(5, 18)
}

/// Whether a tracing program may ask for a socket's cookie (`bpf_get_socket_ptr_cookie`, Linux 5.12).
pub fn tells_programs_of_cookies() -> bool {
    is_at_least(5, 12)
}

/// Whether the kernel tells what a kprobe missed (`bpf_perf_link_fdinfo_kprobe`, Linux 6.17).
pub fn tells_what_kprobes_miss() -> bool {
    is_at_least(6, 17)
}

fn is_at_least(version: u32, patch_level: u32) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(version), Some(patch_level))
}

/// A snapshot of `/proc/net/netstat` and `/proc/net/snmp`: counters by group and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Netstat(BTreeMap<String, BTreeMap<String, i64>>);

impl Netstat {
    /// Reads the counters of a namespace.
    #[track_caller]
    pub fn of(netns: &Netns) -> Self {
        netns
            .run(|| {
                let mut all = Self::default();
                for file in ["netstat", "snmp"] {
                    all.add(&read(file)?).with_context(|| format!("parse /proc/net/{file}"))?;
                }
                anyhow::Ok(all)
            })
            .or_give_up()
    }

    /// A counter: `get("TcpExt", "TW")`, `get("Tcp", "EstabResets")`. Gives up if this kernel has no such
    /// counter.
    #[track_caller]
    pub fn get(&self, group: &str, name: &str) -> i64 {
        match self.find(group, name) {
            Some(value) => value,
            None => give_up(format_args!("this kernel has no counter {group} {name}")),
        }
    }

    /// A counter, if this kernel has it.
    pub fn find(&self, group: &str, name: &str) -> Option<i64> {
        self.0.get(group)?.get(name).copied()
    }

    /// How much each counter has grown since an earlier snapshot.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut difference = self.clone();
        for (group, counters) in &mut difference.0 {
            for (name, value) in counters {
                *value -= before.find(group, name).unwrap_or(0);
            }
        }
        difference
    }

    /// Adds a file of line pairs: `Group: name name`, then `Group: value value`.
    fn add(&mut self, text: &str) -> anyhow::Result<()> {
        let mut lines = text.lines();
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            let (group, names) = names.split_once(':').context("a line of names has no group")?;
            let (same, values) = values.split_once(':').context("a line of values has no group")?;
            ensure!(group == same, "the values of {group} are missing");
            let counters = self.0.entry(group.to_owned()).or_default();
            for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
                let value = value.parse().with_context(|| format!("{group} {name}"))?;
                counters.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }
}

/// The TCP line of `/proc/net/sockstat`: `inuse` and `tw` are the namespace's, the others the whole
/// machine's.
///
/// `inuse` counts IPv4 sockets; those of IPv6 are under `inuse6`.
#[track_caller]
pub fn sockstat(netns: &Netns) -> BTreeMap<String, i64> {
    netns
        .run(|| {
            let mut all = gauges(&read("sockstat")?, "TCP").context("parse /proc/net/sockstat")?;
            let six = gauges(&read("sockstat6")?, "TCP6").context("parse /proc/net/sockstat6")?;
            all.extend(six.into_iter().map(|(name, value)| (format!("{name}6"), value)));
            anyhow::Ok(all)
        })
        .or_give_up()
}

/// The line `Group: name value name value`.
fn gauges(text: &str, group: &str) -> anyhow::Result<BTreeMap<String, i64>> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(group)?.strip_prefix(':'))
        .with_context(|| format!("no line {group}"))?;
    let words: Vec<_> = line.split_whitespace().collect();
    words
        .as_chunks()
        .0
        .iter()
        .map(|[name, value]| {
            let value = value.parse().with_context(|| format!("{group} {name}"))?;
            Ok(((*name).to_owned(), value))
        })
        .collect()
}

fn read(file: &str) -> anyhow::Result<String> {
    let path = format!("/proc/thread-self/net/{file}");
    fs::read_to_string(&path).with_context(|| format!("read {path}"))
}
