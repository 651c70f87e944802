//! Under which conditions tcp-close has to work on a kernel: how that is started and set up, and what it may do there.

use std::fmt;

use clap::Args;

/// The conditions of one machine; the default is a kernel as it comes, and root.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    /// What to add to the kernels' command line, as lockdown=confidentiality.
    #[arg(long = "append", value_name = "CMDLINE", default_value = "", allow_hyphen_values = true)]
    pub(super) cmdline: String,
    /// A setting of the kernels, as `kernel.kptr_restrict=2`; may be repeated.
    #[arg(long = "sysctl", value_name = "NAME=VALUE", value_parser = Sysctl::parse)]
    pub(super) sysctls: Vec<Sysctl>,
    /// Give the program tcp-close these capabilities and no others, as `CAP_BPF,CAP_PERFMON`.
    ///
    /// It does not concern tests that look through the library: they need more for what they do themselves.
    #[arg(long, value_name = "NAMES", default_value = "")]
    pub(super) capabilities: String,
    /// Hide the kernels' BTF.
    #[arg(long)]
    pub(super) without_btf: bool,
    /// Two processors, and a clock that really waits.
    #[arg(long)]
    pub(super) two_cpus: bool,
}

impl fmt::Display for Conditions {
    /// What is special about them, in the words of who asks for it; empty where nothing is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cmdline, sysctls, capabilities, without_btf, two_cpus } = self;
        let mut words: Vec<String> = cmdline.split_whitespace().map(str::to_owned).collect();
        words.extend(sysctls.iter().map(|Sysctl { name, value }| format!("{name}={value}")));
        if !capabilities.is_empty() {
            words.push(format!("only {capabilities}"));
        }
        let switches = [(*without_btf, "without BTF"), (*two_cpus, "two CPUs")];
        words.extend(switches.iter().filter(|(is, _)| *is).map(|(_, word)| (*word).to_owned()));
        f.write_str(&words.join(" "))
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
    fn parse(text: &str) -> Result<Self, String> {
        let (name, value) =
            text.split_once('=').ok_or("it takes a name and a value, as kernel.kptr_restrict=2")?;
        Ok(Self::new(name, value))
    }

    pub(super) fn new(name: &str, value: &str) -> Self {
        Self { name: name.to_owned(), value: value.to_owned() }
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
    fn conditions_name_what_is_special_about_them() {
        assert_eq!(Conditions::default().to_string(), "");
        let all = Conditions {
            cmdline: "lockdown=integrity".to_owned(),
            sysctls: vec![Sysctl::parse("kernel.kptr_restrict=2").expect("a setting")],
            capabilities: "CAP_BPF,CAP_PERFMON".to_owned(),
            without_btf: true,
            two_cpus: true,
        };
        assert_eq!(
            all.to_string(),
            "lockdown=integrity kernel.kptr_restrict=2 only CAP_BPF,CAP_PERFMON without BTF two CPUs"
        );
        assert_eq!(all.sysctls[0].path(), "/proc/sys/kernel/kptr_restrict");
        assert!(Sysctl::parse("kernel.kptr_restrict").is_err());
    }
}
