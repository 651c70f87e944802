//! The capabilities of this process, and what each is needed for.

use caps::{CapSet, Capability};

/// Whether this process may do what a capability allows.
pub fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// A privilege the probes need, with the capability that gives it.
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

/// Everything the probes need, whether held or not.
pub fn needs() -> Vec<Need> {
    let initial = in_initial_user_namespace();
    let admin = has(Capability::CAP_SYS_ADMIN);
    let need = |capability, name, purpose, required| {
        let held = initial && (has(capability) || (admin && capability != Capability::CAP_SYSLOG));
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
    ]
}
