//! The kernel side, built and committed, for the architecture this is built for.

/// The object; built from `tcp-close-ebpf` by `cargo xtask bytecode build`.
#[cfg(target_arch = "x86_64")]
pub(super) static BYTES: &[u8] =
    aya::include_bytes_aligned!("../../../tcp-close-ebpf/bytecode/tcp-close.x86_64.bpf.o");

/// The object; built from `tcp-close-ebpf` by `cargo xtask bytecode build`.
#[cfg(target_arch = "aarch64")]
pub(super) static BYTES: &[u8] =
    aya::include_bytes_aligned!("../../../tcp-close-ebpf/bytecode/tcp-close.aarch64.bpf.o");

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("tcp-close has bytecode for x86_64 and aarch64 only");
