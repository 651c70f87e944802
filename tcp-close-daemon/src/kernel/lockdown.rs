//! The kernel's lockdown mode.

use std::fs;

/// Where the lockdown LSM publishes its mode, on a mounted securityfs.
pub const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// How far the kernel is closed to its own administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// Not at all.
    None,
    /// It may not be changed; observing is unhindered.
    Integrity,
    /// It may not be read either: no kprobes, no `bpf_probe_read_kernel`.
    Confidentiality,
    /// No securityfs, or no permission to read it.
    Unknown,
}

impl Lockdown {
    /// The running kernel's mode.
    pub fn running() -> Self {
        fs::read_to_string(LOCKDOWN).map_or(Self::Unknown, |text| Self::parse(&text))
    }

    /// The mode in brackets, as in `none [integrity] confidentiality`.
    fn parse(text: &str) -> Self {
        match text.split_once('[').and_then(|(_, rest)| rest.split_once(']')) {
            Some(("none", _)) => Self::None,
            Some(("integrity", _)) => Self::Integrity,
            Some(("confidentiality", _)) => Self::Confidentiality,
            _ => Self::Unknown,
        }
    }

    /// Its name, as the kernel spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Integrity => "integrity",
            Self::Confidentiality => "confidentiality",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_is_the_one_in_brackets() {
        assert_eq!(Lockdown::parse("[none] integrity confidentiality\n"), Lockdown::None);
        assert_eq!(Lockdown::parse("none [integrity] confidentiality\n"), Lockdown::Integrity);
        assert_eq!(Lockdown::parse("none integrity [confidentiality]\n"), Lockdown::Confidentiality);
        assert_eq!(Lockdown::parse("what"), Lockdown::Unknown);
    }
}
