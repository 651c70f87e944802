//! The kernel side as it was built, one object for each architecture, and how it is brought into the kernel.

use std::sync::{Mutex, PoisonError};

use aya::{Ebpf, EbpfError, EbpfLoader};
use tcp_close_abi::{Layout, Settings};
use zerocopy::{Immutable, IntoBytes};

/// The object; built from `tcp-close-ebpf` by `cargo xtask bytecode build`.
#[cfg(target_arch = "x86_64")]
static BYTES: &[u8] = aya::include_bytes_aligned!("../../../tcp-close-ebpf/bytecode/tcp-close.x86_64.bpf.o");

/// The object; built from `tcp-close-ebpf` by `cargo xtask bytecode build`.
#[cfg(target_arch = "aarch64")]
static BYTES: &[u8] = aya::include_bytes_aligned!("../../../tcp-close-ebpf/bytecode/tcp-close.aarch64.bpf.o");

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("tcp-close has bytecode for x86_64 and aarch64 only");

/// The object and its loader.
#[derive(Debug)]
pub(super) struct Object {
    /// One for all loads: as it is made it parses the kernel's BTF, which takes as long as the verifier does.
    loader: Mutex<EbpfLoader<'static>>,
}

impl Object {
    /// The object for a kernel that keeps its fields where `layout` says.
    pub(super) fn new(layout: Layout) -> Self {
        let mut loader = EbpfLoader::new();
        // No relocations are left to it: all offsets are in the layout.
        loader.btf(None).override_global("LAYOUT", for_good(layout), true);
        Self { loader: Mutex::new(loader) }
    }

    /// Loads maps, the counters with room for this many CPUs, and programs, but none of these into the verifier yet.
    pub(super) fn load(&self, settings: Settings, ring_bytes: u32, cpus: u32) -> Result<Ebpf, EbpfError> {
        let mut loader = self.loader.lock().unwrap_or_else(PoisonError::into_inner);
        loader
            .override_global("SETTINGS", for_good(settings), true)
            .map_max_entries("EVENTS", ring_bytes)
            .map_max_entries("COUNTERS", cpus)
            // There are few warnings, and each is short; aya would take 128 KiB, mapped twice.
            .map_max_entries("AYA_LOGS", 16 << 10);
        loader.load(BYTES)
    }
}

/// The loader only borrows what it is given, and lives as long as whoever made it: a hundred bytes for each load, of
/// which a process makes one or two.
fn for_good<T: IntoBytes + Immutable + 'static>(value: T) -> &'static [u8] {
    Box::leak(Box::new(value)).as_bytes()
}
