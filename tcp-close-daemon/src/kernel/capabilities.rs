//! The capabilities of this process, and what each is needed for.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};

/// Whether this process may do what a capability allows.
pub fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// A privilege that something takes, with the capability that gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The capability, named as in capabilities(7).
    pub name: &'static str,
    /// What it is needed for.
    pub purpose: &'static str,
    /// Whether nothing works without it.
    pub required: bool,
    /// Whether this process has it, or `CAP_SYS_ADMIN` in its place.
    pub held: bool,
}

/// Whether this process is in the initial user namespace; the capabilities of any other are worth nothing to BPF.
pub fn in_initial_user_namespace() -> bool {
    // Only the initial one maps all user ids, to themselves (user_namespaces(7)).
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether this process has all that the probes cannot do without.
pub fn are_held() -> bool {
    needs().iter().all(|need| need.held || !need.required)
}

/// Everything that capabilities are needed for, whether held or not.
pub fn needs() -> Vec<Need> {
    let initial = in_initial_user_namespace();
    let admin = has(Capability::CAP_SYS_ADMIN);
    let need = |capability, name, purpose, required| {
        // Before Linux 5.8 there was nothing but CAP_SYS_ADMIN for these two, and it still gives both.
        let by_admin = matches!(capability, Capability::CAP_BPF | Capability::CAP_PERFMON);
        let held = initial && (has(capability) || admin && by_admin);
        Need { name, purpose, required, held }
    };
    vec![
        need(Capability::CAP_BPF, "CAP_BPF", "load programs and maps", true),
        need(
            Capability::CAP_PERFMON,
            "CAP_PERFMON",
            "attach programs to kernel functions and tracepoints, and read kernel memory",
            true,
        ),
        need(
            Capability::CAP_SYSLOG,
            "CAP_SYSLOG",
            "read kernel addresses, by which tracepoints tell why a TIME-WAIT ended",
            false,
        ),
        need(
            Capability::CAP_SYS_ADMIN,
            "CAP_SYS_ADMIN",
            "enter other network namespaces, and attach kprobes where kernel.perf_event_paranoid is above 2",
            false,
        ),
        need(
            Capability::CAP_SYS_PTRACE,
            "CAP_SYS_PTRACE",
            "find the network namespaces of other users' processes, and which sockets they hold",
            false,
        ),
        need(
            Capability::CAP_DAC_READ_SEARCH,
            "CAP_DAC_READ_SEARCH",
            "list the descriptors of other users' processes",
            false,
        ),
    ]
}

/// Everything that a capability is ever needed for: those of [`needs`], and the limit that maps are charged to before
/// Linux 5.11.
const OF_USE: [Capability; 7] = [
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_SYSLOG,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_SYS_RESOURCE,
];

/// Makes effective, for this thread and those that it will start, what is only permitted.
///
/// A program's file may permit capabilities without making them effective (`setcap …=p`), and then it starts wherever some
/// of them are out of reach, as in a container that adds fewer; with the effective bit it would not start there at all
/// (`bprm_caps_from_vfs_caps`, <https://github.com/torvalds/linux/blob/v6.12/security/commoncap.c#L623>).
pub fn use_what_is_permitted() -> Result<(), CapsError> {
    let effective = caps::read(None, CapSet::Effective)?;
    let permitted = caps::read(None, CapSet::Permitted)?;
    let unused: CapsHashSet = permitted
        .into_iter()
        .filter(|capability| OF_USE.contains(capability) && !effective.contains(capability))
        .collect();
    // Nearly always: a filter of system calls may know no capset() then.
    if unused.is_empty() {
        return Ok(());
    }
    caps::set(None, CapSet::Effective, &(&effective | &unused))
}

/// What the daemon needs once its hooks are attached and it listens.
const TO_GO_ON: [Capability; 4] = [
    // Before Linux 5.19, without it bpf() does not even read a map (kernel.unprivileged_bpf_disabled).
    Capability::CAP_BPF,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
];

/// Gives up every capability of this thread, and of those that it will start, that a daemon with attached hooks has no
/// use for.
pub fn keep_what_it_takes_to_go_on() -> Result<(), CapsError> {
    let held = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = held.into_iter().filter(|capability| TO_GO_ON.contains(capability)).collect();
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}
