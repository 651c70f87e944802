//! The architectures that the lab emulates, and what each is called by Debian, Rust and QEMU.

use clap::ValueEnum;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Arch {
    #[value(name = "x86_64")]
    X86_64,
    #[value(name = "aarch64")]
    Aarch64,
}

impl Arch {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Debian's name of it.
    pub(crate) const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The target that programs for it are built for.
    pub(crate) const fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The series of kernels that the matrix has of it, oldest first.
    pub(super) const fn kernels(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &["5.10", "6.1", "6.12", "6.18", "7.2"],
            Self::Aarch64 => &["6.1", "7.2"],
        }
    }

    /// The emulator and what it needs to be told of the machine.
    pub(super) const fn emulator(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::X86_64 => ("qemu-system-x86_64", &["-cpu", "max"]),
            // `-cpu max` has pointer authentication, which takes long to emulate.
            Self::Aarch64 => ("qemu-system-aarch64", &["-machine", "virt", "-cpu", "cortex-a72"]),
        }
    }

    /// The serial line, as Linux calls it.
    pub(super) const fn console(self) -> &'static str {
        match self {
            Self::X86_64 => "ttyS0",
            Self::Aarch64 => "ttyAMA0",
        }
    }

    /// Debian's packages of what the lab runs and builds with, on a machine that is an `x86_64` itself.
    pub(super) const fn tools(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &["qemu-system-x86"],
            Self::Aarch64 => &["qemu-system-arm", "gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
        }
    }
}
