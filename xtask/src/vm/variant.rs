//! One machine of the matrix: a kernel, how it is started and set up, and what tcp-close is to use on it.

use std::fmt;

use clap::ValueEnum;

use super::Arch;

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

/// What [`Family::All`] stands for: every kind of hook that tcp-close has; `auto` takes one of them.
const IN_THE_MATRIX: &[Family] = &[Family::Tracepoint, Family::Fentry, Family::Kprobe];

impl Family {
    pub(super) const fn each(self) -> &'static [Self] {
        match self {
            Self::Auto => &[Self::Auto],
            Self::Tracepoint => &[Self::Tracepoint],
            Self::Fentry => &[Self::Fentry],
            Self::Kprobe => &[Self::Kprobe],
            Self::All => IN_THE_MATRIX,
        }
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

/// One machine of the matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    /// A series of kernels, as `6.12`.
    pub(super) kernel: String,
    pub(super) arch: Arch,
    pub(super) family: Family,
    /// What is added to the kernel's command line, as `lockdown=confidentiality`.
    pub(super) cmdline: String,
    /// Settings of the kernel, as `kernel.kptr_restrict=2`.
    pub(super) sysctls: Vec<Sysctl>,
    /// Only tests whose name contains one of these; without any, all.
    pub(super) filters: Vec<String>,
}

impl Variant {
    /// Whether this kernel lets tcp-close see closes by this family; where it does not, that must be said.
    pub(super) fn offers_family(&self) -> bool {
        // arm64 has trampolines (ftrace direct calls) since Linux 6.4.
        !(self.arch == Arch::Aarch64 && self.kernel == "6.1" && self.family == Family::Fentry)
    }

    /// How it differs from a machine that is started as usual.
    pub(super) fn special(&self) -> String {
        let sysctls = self.sysctls.iter().map(|Sysctl { name, value }| format!("{name}={value}"));
        let cmdline = self.cmdline.split_whitespace().map(str::to_owned);
        cmdline.chain(sysctls).collect::<Vec<_>>().join(" ")
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
        let special = self.special();
        if special.is_empty() { Ok(()) } else { write!(f, " {special}") }
    }
}

/// A setting of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sysctl {
    name: String,
    value: String,
}

impl Sysctl {
    /// Reads `kernel.kptr_restrict=2`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, value) =
            text.split_once('=').ok_or("it takes a name and a value, as kernel.kptr_restrict=2")?;
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }

    /// The file of the setting.
    pub(super) fn path(&self) -> String {
        format!("/proc/sys/{}", self.name.replace('.', "/"))
    }

    pub(super) fn value(&self) -> &str {
        &self.value
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
            cmdline: String::new(),
            sysctls: Vec::new(),
            filters: vec!["orderly".to_owned()],
        };
        let restricted = Variant {
            cmdline: "lockdown=integrity".to_owned(),
            sysctls: vec![Sysctl::parse("kernel.kptr_restrict=2").expect("a setting")],
            ..plain.clone()
        };
        assert_eq!(plain.to_string(), "6.12 x86_64 tracepoint");
        assert_eq!(
            restricted.to_string(),
            "6.12 x86_64 tracepoint lockdown=integrity kernel.kptr_restrict=2"
        );
        assert_eq!(plain.file_stem(), "6.12-x86-64-tracepoint");
        assert_eq!(restricted.sysctls[0].path(), "/proc/sys/kernel/kptr_restrict");
        assert!(Sysctl::parse("kernel.kptr_restrict").is_err());
    }
}
