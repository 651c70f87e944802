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

/// Whether this kernel is run degraded too when no kernel is named: the newest, on which all has to work.
pub(super) fn is_degraded_too(arch: Arch, kernel: &str) -> bool {
    arch == Arch::X86_64 && kernel == "7.2"
}

pub(super) fn all() -> Vec<Degraded> {
    let usual = Conditions::default;
    let sysctl = |name, value| vec![Sysctl::new(name, value)];
    // Linux before 5.11 charges maps to a limit, which takes the third to raise.
    let least = || "CAP_BPF,CAP_PERFMON,CAP_SYS_RESOURCE".to_owned();
    vec![
        Degraded {
            conditions: Conditions { cmdline: "lockdown=integrity".to_owned(), ..usual() },
            tests: &["orderly::the_"],
        },
        Degraded {
            conditions: Conditions { cmdline: "lockdown=confidentiality".to_owned(), ..usual() },
            tests: LIBRARY,
        },
        Degraded {
            conditions: Conditions { sysctls: sysctl("kernel.kptr_restrict", "2"), ..usual() },
            tests: HIDDEN,
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
        Degraded {
            conditions: Conditions { two_cpus: true, ..usual() },
            tests: &["orderly::the_", "crowd::", "machine::"],
        },
    ]
}

/// Tests that look through the library, which goes by what their own process may do: quick ones that ask for no rung.
const LIBRARY: &[&str] = &["orderly::the_", "end_causes::a_reset_", "end_causes::a_connect_"];

/// The same, and that tracepoints learn what is hidden.
const HIDDEN: &[&str] =
    &["orderly::the_", "end_causes::a_reset_", "end_causes::a_connect_", "hidden_addresses::"];

/// Tests of the program, which is run with fewer capabilities than they have themselves.
const PROGRAM: &[&str] = &["program::watch", "program::resets"];
