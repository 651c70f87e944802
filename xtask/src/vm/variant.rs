//! One machine of the matrix: a kernel, how it is started and set up, and what tcp-close is to use on it.

use std::fmt;

use clap::ValueEnum;

use super::{Arch, conditions::Conditions};

/// Which kind of kernel hook to use, in the words of `tcp-close --probe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Family {
    Auto,
    Tracepoint,
    Fentry,
    Kprobe,
    /// Each that the matrix has, one after the other.
    All,
}

impl Family {
    /// Those that are run on a kernel where this is asked for.
    ///
    /// `auto` takes the best of each kind, which is a mix like no other: it is run where it is another mix than on the
    /// kernel before, on the oldest, on the newest, and where there are no trampolines.
    pub(super) fn each(self, arch: Arch, kernel: &str) -> &'static [Self] {
        match (self, arch, kernel) {
            (Self::Auto, ..) => &[Self::Auto],
            (Self::Tracepoint, ..) => &[Self::Tracepoint],
            (Self::Fentry, ..) => &[Self::Fentry],
            (Self::Kprobe, ..) => &[Self::Kprobe],
            (Self::All, Arch::X86_64, "5.10" | "7.2") | (Self::All, Arch::Aarch64, "6.1") => &Self::EVERY,
            (Self::All, ..) => &[Self::Tracepoint, Self::Fentry, Self::Kprobe],
        }
    }

    /// Every kind that can be asked for at a time, as `check` is asked.
    pub(super) const EVERY: [Self; 4] = [Self::Auto, Self::Tracepoint, Self::Fentry, Self::Kprobe];

    /// Those that tell how much a degraded kernel leaves.
    pub(super) const DEGRADED: &[Self] = &[Self::Auto, Self::Tracepoint, Self::Kprobe];

    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|family| family.name() == name)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tracepoint => "tracepoint",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::All => "all",
        }
    }
}

/// Whether each family has a machine even in the brief matrix: on the newest kernel of the architecture that most hosts
/// have.
pub(super) fn has_every_family(arch: Arch, kernel: &str) -> bool {
    arch == Arch::X86_64 && arch.kernels().last() == Some(&kernel)
}

/// One machine of the matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    /// A series of kernels, as `6.12`.
    pub(super) kernel: String,
    pub(super) arch: Arch,
    pub(super) family: Family,
    pub(super) conditions: Conditions,
    pub(super) tests: Tests,
}

/// Which live tests run on a machine, beside `tcp-close check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tests {
    /// Those whose name contains one of these.
    Matching(Vec<String>),
    /// All but those whose name contains one of these.
    AllBut(Vec<&'static str>),
    /// None.
    None,
}

/// Tests of what rests on the kernel's own table, and on what the daemon does with it, whichever hook told the rest: they
/// are run with the hooks that a user gets, and not once more with each kind of them.
const WHATEVER_THE_HOOK: &[&str] = &[
    "close_wait::",
    "feed::",
    "list::",
    "ports::",
    "record::",
    "reconcile::a_daemon_",
    "reconcile::thousands_",
    "service::",
    "snapshot::",
    "special_sockets::",
];

/// Tests that take the tools of a whole system: a shell types what stands in the documentation, curl knows TLS.
const FOR_A_WHOLE_SYSTEM: &[&str] = &["documented::", "web::"];

impl Tests {
    /// Those of the matrix, for hooks of this kind on this kernel.
    pub(super) fn of(arch: Arch, kernel: &str, family: Family) -> Self {
        match (family, arch, kernel) {
            // Each of its hooks is that of a family that runs all the others.
            (Family::Auto, Arch::X86_64, "7.2") => Self::matching(WHATEVER_THE_HOOK),
            (Family::Auto, ..) => Self::AllBut(FOR_A_WHOLE_SYSTEM.to_vec()),
            _ => Self::of_the_hooks(),
        }
    }

    /// Those of what rests on the hooks.
    pub(super) fn of_the_hooks() -> Self {
        Self::AllBut([FOR_A_WHOLE_SYSTEM, WHATEVER_THE_HOOK].concat())
    }

    pub(super) fn matching<S: ToString>(names: &[S]) -> Self {
        Self::Matching(names.iter().map(ToString::to_string).collect())
    }
}

impl Variant {
    /// The kinds of hooks that `check` is asked about here.
    pub(super) fn checked(&self) -> &[Family] {
        match (self.conditions == Conditions::default(), &self.tests) {
            (true, Tests::None) => &Family::EVERY,
            (true, Tests::Matching(_) | Tests::AllBut(_)) => std::slice::from_ref(&self.family),
            // Trampolines are what `auto` takes.
            (false, _) => Family::DEGRADED,
        }
    }

    /// Whether it takes what is built with the tests.
    pub(super) fn takes_tests(&self) -> bool {
        self.tests != Tests::None || !self.conditions.capabilities.is_empty()
    }

    /// What a file of this machine is called.
    pub(super) fn file_stem(&self) -> String {
        let word = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        self.to_string().chars().map(word).collect()
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.kernel, self.arch.name(), self.family.name())?;
        if self.conditions == Conditions::default() { Ok(()) } else { write!(f, " {}", self.conditions) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_names_what_is_special_about_it() {
        let plain = Variant {
            kernel: "6.12".to_owned(),
            arch: Arch::X86_64,
            family: Family::Tracepoint,
            conditions: Conditions::default(),
            tests: Tests::None,
        };
        let conditions = Conditions { cmdline: "lockdown=integrity".to_owned(), ..Conditions::default() };
        let restricted = Variant { conditions, ..plain.clone() };
        assert_eq!(plain.to_string(), "6.12 x86_64 tracepoint");
        assert_eq!(restricted.to_string(), "6.12 x86_64 tracepoint lockdown=integrity");
        assert_eq!(plain.file_stem(), "6.12-x86-64-tracepoint");
        assert_eq!(Family::named("kprobe"), Some(Family::Kprobe));
    }

    #[test]
    fn the_newest_is_never_brief() {
        let on = |arch: Arch| -> Vec<&str> {
            arch.kernels().iter().copied().filter(|kernel| has_every_family(arch, kernel)).collect()
        };
        assert_eq!(on(Arch::X86_64), ["7.2"]);
        assert!(on(Arch::Aarch64).is_empty());
    }

    #[test]
    fn what_rests_on_no_hook_is_run_by_auto() {
        let tests = |arch, kernel, family| Tests::of(arch, kernel, family);
        assert_eq!(tests(Arch::X86_64, "5.10", Family::Auto), Tests::AllBut(FOR_A_WHOLE_SYSTEM.to_vec()));
        assert_eq!(tests(Arch::X86_64, "7.2", Family::Auto), Tests::matching(WHATEVER_THE_HOOK));
        let Tests::AllBut(left_out) = tests(Arch::X86_64, "7.2", Family::Kprobe) else {
            panic!("a family runs what rests on its hooks");
        };
        assert!(WHATEVER_THE_HOOK.iter().all(|name| left_out.contains(name)));
    }
}
