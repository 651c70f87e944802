//! The probes: the kernel side loaded and attached, its ring and its counters. Nothing else names aya.
//!
//! In: facts about the kernel, and what to watch. Out: the bytes of records, exact counters, and for each hook
//! the rung it was attached by and what is lost where it could not be.

use std::{
    collections::BTreeMap,
    io,
    ops::RangeInclusive,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use aya::{
    Btf, Ebpf, Endianness,
    maps::{Map, MapData, MapError},
};
use hook::{Needs, Rank, Tells};
use object::Object;
use tcp_close_abi::{Counters, Layout, Settings};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    decode::CancelSites,
    event::AddressFamily,
    filter::Pairs,
    kernel::{
        btf::{BtfError, KernelBtf},
        lockdown::Lockdown,
        symbols::Symbols,
        tick::Hz,
    },
};

mod counters;
mod diagnostics;
mod hook;
mod ladder;
mod object;
mod program_stats;
mod rest;
mod ring;

pub use diagnostics::Diagnostics;
pub use hook::{Family, Hook, Rung};
pub use ladder::{HookReport, Verdict};
use program_stats::KprobeLinks;
pub use program_stats::ProgramStats;
use ring::Ring;

/// A log filter for warnings that mean nothing: of a limit that aya cannot raise. If the kernel refuses a map for it, that
/// is [`ProbeError::Memlock`].
pub const SILENCED: &str = "aya::sys=error";

/// Default size of the ring in bytes.
///
/// At 10 000 connections a second, with both ends on this host, that is a second of records; and 200 000 TIME-WAITs that
/// expire at once, as do all that began within two seconds, or four where the kernel's tick is a millisecond.
pub const DEFAULT_RING_BYTES: u32 = 16 << 20;

/// Maps of the kernel side.
const EVENTS: &str = "EVENTS";
const COUNTERS: &str = "COUNTERS";
const READER_RESTS: &str = "READER_RESTS";

/// The function every minisock's timer runs, by which it is told from all other timers
/// (`net/ipv4/inet_timewait_sock.c`).
const TW_TIMER_HANDLER: &str = "tw_timer_handler";

/// What `perf_event_open` takes to attach a kprobe; kernels built without kprobes lack it.
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe";

/// What the probes need to know of the kernel before they are loaded.
#[derive(Debug)]
pub struct Preflight {
    /// Of the kernel's BTF, what programs may be attached to; or what is wrong with that.
    targets: Result<Btf, String>,
    object: Object,
    /// As in [`Settings::minisock_bytes`].
    minisock_bytes: u32,
    /// Address of [`TW_TIMER_HANDLER`], or why it is not known.
    tw_timer_handler: Result<u64, String>,
    cancel_sites: CancelSites,
    /// Functions that rungs hang on and this kernel has.
    functions: Vec<&'static str>,
    tells: Tells,
    /// Functions can be probed (`CONFIG_KPROBES`).
    kprobes: bool,
    lockdown: Lockdown,
    start_has_bucket: bool,
    retransmit_has_error: bool,
    /// As in [`Settings::never_came`].
    never_came: [u32; 2],
    /// Names of `enum sk_rst_reason`.
    reset_reasons: BTreeMap<u32, String>,
    hz: Hz,
}

impl Preflight {
    /// Looks at the running kernel. Without BTF nothing works; without addresses, tracepoints do not tell why a minisock ended.
    pub fn run() -> Result<Self, BtfError> {
        let btf = KernelBtf::running()?;
        let functions = CancelSites::functions().chain([TW_TIMER_HANDLER]);
        let (tw_timer_handler, cancel_sites) = match Symbols::running(functions) {
            Ok(symbols) => {
                let handler = symbols.address(TW_TIMER_HANDLER);
                let handler = handler.ok_or_else(|| format!("the kernel has no function {TW_TIMER_HANDLER}"));
                (handler, CancelSites::from_symbols(&symbols))
            }
            Err(error) => (Err(error.to_string()), CancelSites::unknown()),
        };
        let lockdown = Lockdown::running();
        let layout = layout(&btf, lockdown)?;
        let drop_reasons = btf.enum_names("skb_drop_reason", "SKB_DROP_REASON_");
        let has_third_argument = |name| btf.tracepoint_arguments(name).is_some_and(|count| count > 2);
        Ok(Self {
            targets: Btf::parse(&btf.excerpt(hook::types()), Endianness::default())
                .map_err(|error| error.to_string()),
            minisock_bytes: layout.minisock_bytes(),
            object: Object::new(layout),
            tw_timer_handler,
            cancel_sites,
            functions: hook::functions().filter(|function| btf.has_function(function)).collect(),
            kprobes: Path::new(KPROBES).exists(),
            lockdown,
            start_has_bucket: btf.tracepoint_arguments("timer_start") == Some(2),
            tells: Tells {
                reset_reason: has_third_argument("tcp_send_reset"),
                drop_receiver: btf.tracepoint_arguments("kfree_skb").is_some_and(|count| count > 3),
                // What `bpf_get_socket_cookie` is to tracing programs (net/core/filter.c).
                cookie: btf.has_function("bpf_get_socket_ptr_cookie"),
            },
            retransmit_has_error: has_third_argument("tcp_retransmit_skb"),
            never_came: ["tcp_csum", "xfrm_policy"].map(|name| {
                drop_reasons.iter().find(|(_, found)| *found == name).map_or(0, |(&value, _)| value)
            }),
            reset_reasons: btf.enum_names("sk_rst_reason", "SK_RST_REASON_"),
            hz: Hz::running(),
        })
    }

    /// The same kernel, seen with other cancel sites.
    #[must_use]
    pub fn with_cancel_sites(self, cancel_sites: CancelSites) -> Self {
        Self { cancel_sites, ..self }
    }

    /// Where in this kernel a minisock's timer may be cancelled.
    pub const fn cancel_sites(&self) -> &CancelSites {
        &self.cancel_sites
    }

    /// The same kernel, as if it hid its addresses.
    #[must_use]
    pub fn without_addresses(self) -> Self {
        let cancel_sites = CancelSites::unknown();
        Self { tw_timer_handler: Err("kernel addresses are not looked at".to_owned()), cancel_sites, ..self }
    }

    /// The kernel's tick rate.
    pub const fn hz(&self) -> Hz {
        self.hz
    }

    /// Forgets it. What it was made from took megabytes, which the C library would keep for later and go back to the
    /// system here.
    pub fn forget(self) {
        drop(self);
        #[cfg(target_env = "gnu")]
        // SAFETY: it takes no pointer, and may be called at any time by any thread (malloc_trim(3)).
        let _some_was_given_back = unsafe { libc::malloc_trim(0) };
    }

    /// The kernel's names for the reasons of a reset; empty where it gives none.
    pub const fn reset_reasons(&self) -> &BTreeMap<u32, String> {
        &self.reset_reasons
    }

    /// Why the kernel does not have what a step needs, if so.
    fn obstacle(&self, needs: Needs, identity: Identity) -> Option<String> {
        match needs {
            Needs::KernelAddresses => self.addresses_error().map(str::to_owned),
            Needs::DropReceiver if !self.tells.drop_receiver => Some(
                "the kernel's kfree_skb does not name the receiving socket (Linux 6.12 and later do)"
                    .to_owned(),
            ),
            Needs::AddressIdentity if identity == Identity::Cookie => {
                Some("a kprobe cannot ask for a socket's cookie".to_owned())
            }
            _ => None,
        }
    }

    /// Whether the kernel has this function, of those that a rung hangs on.
    fn has_function(&self, name: &str) -> bool {
        self.functions.contains(&name)
    }

    /// Why the timer of minisocks cannot be told from others, if it cannot.
    pub fn addresses_error(&self) -> Option<&str> {
        self.tw_timer_handler.as_ref().err().map(String::as_str)
    }
}

/// What to watch, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSettings {
    /// Inode numbers of the network namespaces to watch, at most [`tcp_close_abi::MAX_NETNS`]; empty for all.
    pub netns: Vec<u32>,
    /// The socket pairs to watch.
    pub pairs: Pairs,
    /// Opening state changes as records too, not only as counts.
    pub record_opening: bool,
    /// Size of the ring in bytes: a power of two, at least a page.
    pub ring_bytes: u32,
    /// Which rungs may be taken.
    pub family: Family,
    /// Watch the segments that minisocks deal with.
    pub witness: bool,
}

impl Default for ProbeSettings {
    fn default() -> Self {
        Self {
            netns: Vec::new(),
            pairs: Pairs::ALL,
            record_opening: false,
            ring_bytes: DEFAULT_RING_BYTES,
            family: Family::Auto,
            witness: true,
        }
    }
}

/// What a full socket is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identity {
    /// Its cookie, which its minisock inherits. Tracing programs may ask for it since Linux 5.12, kprobes never.
    Cookie,
    /// Its kernel address, which is its own while it lives.
    Address,
}

/// The probes cannot be had at all.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The kernel refuses the object or its maps.
    #[error("cannot load the kernel side")]
    Load(#[source] aya::EbpfError),
    /// The kernel refuses a map, and the limit that it counts them against is low.
    #[error(
        "cannot load the kernel side: RLIMIT_MEMLOCK is {kib} KiB, which Linux before 5.11 counts maps against; it takes CAP_SYS_RESOURCE, `ulimit -l unlimited` or LimitMEMLOCK=infinity"
    )]
    Memlock {
        /// The limit.
        kib: u64,
        /// What the kernel said.
        #[source]
        source: aya::EbpfError,
    },
    /// The object lacks a map.
    #[error("the kernel side has no map {0}")]
    NoMap(&'static str),
    /// A map is not of the kind it should be, or cannot be mapped.
    #[error("map {name} of the kernel side cannot be used")]
    Map {
        /// The map.
        name: &'static str,
        /// Why not.
        #[source]
        source: MapError,
    },
    /// The hook without which there is nothing to tell.
    #[error("cannot attach {hook}: {reason}")]
    Essential {
        /// The hook.
        hook: &'static str,
        /// Why not.
        reason: String,
    },
    /// More network namespaces than the kernel side can tell apart.
    #[error("at most {most} network namespaces can be watched by name, {given} were given", most = tcp_close_abi::MAX_NETNS)]
    TooManyNetns {
        /// How many were given.
        given: usize,
    },
}

/// The probes, attached for as long as this lives.
pub struct Probe {
    ebpf: Ebpf,
    ring: Ring,
    counters: counters::Mapped,
    rest: rest::Rest,
    reports: Vec<HookReport>,
    kprobes: KprobeLinks,
    /// Events that others of several equal programs took while the first was not attached yet.
    taken_before_the_first: u64,
}

/// Events that programs missed. Counters only grow, but for what is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Misses {
    /// By programs that have no equal: they are lost.
    pub alone: u64,
    /// By all of several equal ones, as it seems: too many for as long as an event is between two programs, and too few by what
    /// was made up for while they were read.
    pub by_all: u64,
}

impl Probe {
    /// Loads the kernel side and attaches every hook by the best rung the kernel takes.
    ///
    /// Only `sock:inet_sock_set_state` must succeed; what any other hook's absence costs is in its report.
    pub fn attach(preflight: &Preflight, settings: &ProbeSettings) -> Result<Self, ProbeError> {
        let probe = Self::load_and_climb(preflight, settings)?;
        match probe.reports.iter().find(|report| report.hook.is_essential() && report.rung.is_none()) {
            Some(failed) => Err(ProbeError::Essential {
                hook: failed.hook.name(),
                reason: failed.detail.clone().unwrap_or_default(),
            }),
            None => Ok(probe),
        }
    }

    /// Loads and attaches everything, tells how each hook fared, and takes it all back.
    pub fn try_hooks(preflight: &Preflight, settings: &ProbeSettings) -> Result<Vec<HookReport>, ProbeError> {
        Self::load_and_climb(preflight, settings).map(|probe| probe.reports)
    }

    /// Sockets are known by their cookies if that works out, else by their addresses.
    fn load_and_climb(preflight: &Preflight, settings: &ProbeSettings) -> Result<Self, ProbeError> {
        if settings.family != Family::Kprobe && preflight.tells.cookie {
            let probe = Self::load(preflight, settings, Identity::Cookie)?;
            if probe.has(Hook::StateChange) {
                return Ok(probe);
            }
        }
        Self::load(preflight, settings, Identity::Address)
    }

    fn load(preflight: &Preflight, settings: &ProbeSettings, identity: Identity) -> Result<Self, ProbeError> {
        let unmapped = |name| move |error: io::Error| ProbeError::Map { name, source: error.into() };
        let kernel_settings = kernel_settings(preflight, settings, identity)?;
        let cpus = counters::cpus().map_err(unmapped(COUNTERS))?;
        let mut ebpf =
            preflight.object.load(kernel_settings, settings.ring_bytes, cpus).map_err(not_loaded)?;
        let ring = Ring::new(take(&mut ebpf, EVENTS)?, settings.ring_bytes).map_err(unmapped(EVENTS))?;
        let counters = take(&mut ebpf, COUNTERS)?;
        let counters = counters::Mapped::new(&counters, cpus).map_err(unmapped(COUNTERS))?;
        let rest = take(&mut ebpf, READER_RESTS)?;
        let rest = rest::Rest::new(&rest).map_err(unmapped(READER_RESTS))?;
        let reports = ladder::climb(&mut ebpf, preflight, settings, identity);
        let kprobes = KprobeLinks::of(&ebpf);
        // In this order it is too little rather than too much: that would be losses that were none.
        let taken_before_the_first = counters.sum().taken_before_the_first(missed_by(&ebpf, Rank::First));
        Ok(Self { ebpf, ring, counters, rest, reports, kprobes, taken_before_the_first })
    }

    /// Hands records that wait in the ring to `take`, at most so many, and tells how many there were.
    pub fn drain(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> usize {
        let mut records = 0;
        while records < most && self.ring.next(&mut take) {
            records += 1;
        }
        records
    }

    /// How far the ring is written by now, in bytes that never begin anew: what has no place in it yet is to come behind.
    pub fn written(&self) -> u64 {
        self.ring.written()
    }

    /// How far it is drained.
    pub const fn read(&self) -> u64 {
        self.ring.read()
    }

    /// Until the next record, nobody looks into the ring for long: that record wakes the reader.
    pub fn rest(&self) {
        self.rest.begin();
    }

    /// The kernel side's own counts, summed over all CPUs.
    pub fn counters(&self) -> Counters {
        self.counters.sum()
    }

    /// Becomes readable when the kernel side asks for the ring to be drained. Needs a tokio runtime.
    pub fn readiness(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let ring = self.ring.as_fd().try_clone_to_owned()?;
        // SAFETY: an `OwnedFd` is open, and stays the same descriptor, for as long as it lives.
        Ok(unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?)
    }

    /// How each hook fared.
    pub fn reports(&self) -> &[HookReport] {
        &self.reports
    }

    /// Whether a hook is attached.
    pub fn has(&self, hook: Hook) -> bool {
        self.rung(hook).is_some()
    }

    /// The rung that a hook hangs on.
    pub fn rung(&self, hook: Hook) -> Option<Rung> {
        self.reports.iter().find(|report| report.hook == hook)?.rung
    }

    /// Run times of the programs, while the kernel keeps them (`kernel.bpf_stats_enabled`).
    pub fn program_stats(&self) -> Vec<ProgramStats> {
        program_stats::read(&self.ebpf, |_| true).collect()
    }

    /// Whether the kernel counts what is missed while a program runs on that CPU already. Of kprobes it does not tell all
    /// before Linux 6.17.
    pub fn counts_what_is_missed(&self) -> bool {
        self.kprobes.tell() || self.reports.iter().all(|report| report.rung != Some(Rung::Kprobe))
    }

    /// Events missed because a program, or any kprobe, was running on that CPU already.
    pub fn missed(&self) -> Misses {
        let alone = self.kprobes.missed() + missed_by(&self.ebpf, Rank::Alone);
        // The less there is between these two, the less is made up for in between.
        let missed_by_first = missed_by(&self.ebpf, Rank::First);
        let by_all = self.counters().events_lost(missed_by_first + self.taken_before_the_first);
        Misses { alone, by_all }
    }

    /// The kernel side's own log; readable when there is something in it. `None` if it was taken before.
    pub fn take_diagnostics(&mut self) -> Option<Diagnostics> {
        Diagnostics::take(&mut self.ebpf)
    }
}

/// How many events the programs of such a rank missed.
fn missed_by(ebpf: &Ebpf, rank: Rank) -> u64 {
    program_stats::read(ebpf, |name| Rank::of(name) == rank).map(|stats| stats.recursion_misses).sum()
}

/// Where the kernel keeps its fields, of those that may be read.
fn layout(btf: &KernelBtf, lockdown: Lockdown) -> Result<Layout, BtfError> {
    let layout = btf.layout()?;
    // That word is no typed pointer, and is followed by address: under confidentiality, which not every process may see,
    // no program that does so would be taken.
    let hidden = !matches!(lockdown, Lockdown::None | Lockdown::Integrity);
    Ok(Layout { cgroup_or_class: if hidden { Layout::ABSENT } else { layout.cgroup_or_class }, ..layout })
}

fn kernel_settings(
    preflight: &Preflight,
    settings: &ProbeSettings,
    identity: Identity,
) -> Result<Settings, ProbeError> {
    let mut netns = [0; tcp_close_abi::MAX_NETNS];
    let count = settings.netns.len();
    let Some(used) = netns.get_mut(..count) else {
        return Err(ProbeError::TooManyNetns { given: count });
    };
    used.copy_from_slice(&settings.netns);
    Ok(Settings {
        tw_timer_handler: *preflight.tw_timer_handler.as_ref().unwrap_or(&0),
        wake_every: wake_every(settings.ring_bytes),
        expiry: preflight.cancel_sites.expiry(),
        netns,
        netns_count: u32::try_from(count).unwrap_or(u32::MAX),
        start_has_bucket: u32::from(preflight.start_has_bucket),
        drop_has_receiver: u32::from(preflight.tells.drop_receiver),
        record_opening: u32::from(settings.record_opening),
        reset_has_reason: u32::from(preflight.tells.reset_reason),
        retransmit_has_error: u32::from(preflight.retransmit_has_error),
        cookies: u32::from(identity == Identity::Cookie),
        segments: u32::from(settings.witness),
        never_came: preflight.never_came,
        family: settings.pairs.family.map_or(0, |family| match family {
            AddressFamily::V4 => tcp_close_abi::AF_INET.into(),
            AddressFamily::V6 => tcp_close_abi::AF_INET6.into(),
        }),
        local_ports: ports(&settings.pairs.local_ports),
        remote_ports: ports(&settings.pairs.remote_ports),
        minisock_bytes: preflight.minisock_bytes,
    })
}

/// How often each CPU wakes the reader for a kind of record: so often that a quarter of the ring is filled with that kind
/// in between, even if all CPUs there may ever be come to it at once.
fn wake_every(ring_bytes: u32) -> u64 {
    /// A record of most kinds, with its header in the ring.
    const RECORD: u64 = 256;
    // Where the CPUs cannot be counted, the reader still looks in by itself.
    let cpus = counters::cpus().map_or(1, u64::from);
    let records = u64::from(ring_bytes) / 4 / RECORD / cpus;
    1 << records.max(1).ilog2()
}

/// The first and the last; zeros, which cost the kernel side nothing, where there is nothing to leave out.
fn ports(ports: &RangeInclusive<u16>) -> [u32; 2] {
    if ports.is_empty() || *ports == Pairs::ALL.local_ports {
        return [0; 2];
    }
    [*ports.start(), *ports.end()].map(u32::from)
}

/// Why the object cannot be loaded, as far as the kernel's word tells.
fn not_loaded(source: aya::EbpfError) -> ProbeError {
    let refused = matches!(
        &source,
        aya::EbpfError::MapError(MapError::CreateError { io_error, .. })
            if io_error.kind() == io::ErrorKind::PermissionDenied
    );
    match rustix::process::getrlimit(rustix::process::Resource::Memlock).current {
        Some(bytes) if refused => ProbeError::Memlock { kib: bytes / 1024, source },
        _ => ProbeError::Load(source),
    }
}

/// A map that is read where it lies in memory.
fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, ProbeError> {
    match ebpf.take_map(name) {
        Some(Map::Array(map) | Map::RingBuf(map)) => Ok(map),
        _ => Err(ProbeError::NoMap(name)),
    }
}
