//! The degraded kernels of the matrix: those that hide or refuse something that tcp-close would use.

use super::{
    Arch,
    conditions::{Conditions, Sysctl},
};

/// A way to degrade a kernel, and the live tests that run on it all the same.
pub(super) struct Degraded {
    pub(super) conditions: Conditions,
    /// Only tests whose name contains one of these; without any, none.
    pub(super) tests: &'static [&'static str],
}

/// Whether this kernel is run degraded too: the oldest and the newest.
pub(super) fn is_degraded_too(arch: Arch, kernel: &str) -> bool {
    arch == Arch::X86_64 && matches!(kernel, "5.10" | "7.2")
}

pub(super) fn all() -> Vec<Degraded> {
    let usual = Conditions::default;
    let sysctl = |name, value| vec![Sysctl::new(name, value)];
    let least = || "CAP_BPF,CAP_PERFMON".to_owned();
    vec![
        Degraded {
            conditions: Conditions { cmdline: "lockdown=integrity".to_owned(), ..usual() },
            tests: LIBRARY,
        },
        Degraded {
            conditions: Conditions { cmdline: "lockdown=confidentiality".to_owned(), ..usual() },
            tests: LIBRARY,
        },
        Degraded {
            conditions: Conditions { sysctls: sysctl("kernel.kptr_restrict", "2"), ..usual() },
            tests: LIBRARY,
        },
        Degraded { conditions: Conditions { capabilities: least(), ..usual() }, tests: PROGRAM },
        Degraded {
            conditions: Conditions {
                sysctls: sysctl("kernel.perf_event_paranoid", "4"),
                capabilities: least(),
                ..usual()
            },
            tests: &[],
        },
        Degraded { conditions: Conditions { without_btf: true, ..usual() }, tests: &[] },
        // Under a clock that really waits, only what waits for nothing long.
        Degraded { conditions: Conditions { two_cpus: true, ..usual() }, tests: &["orderly::"] },
    ]
}

/// Tests that look through the library, which goes by what their own process may do.
const LIBRARY: &[&str] = &["orderly::the_", "end_causes::"];

/// Tests of the program, which is run with fewer capabilities than they have themselves.
const PROGRAM: &[&str] = &["program::watch", "program::resets"];
