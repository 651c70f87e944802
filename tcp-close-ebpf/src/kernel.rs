//! Reading kernel memory by the offsets and settings that user space resolved.
//!
//! Both statics live in read-only data which the loader overrides and freezes, so to the verifier every
//! offset is a constant; `read_volatile` keeps LLVM from folding the zeros they hold at compile time.

use core::ptr;

use aya_ebpf::helpers::bpf_probe_read_kernel;
use tcp_close_abi::{Layout, Settings};

/// Field offsets of the running kernel.
#[unsafe(no_mangle)]
pub(crate) static LAYOUT: Layout = Layout::ZERO;

/// Choices of the user side.
#[unsafe(no_mangle)]
pub(crate) static SETTINGS: Settings = Settings::ZERO;

/// A value of the settings or the layout, as the loader left it.
#[inline(always)]
pub(crate) fn constant<T: Copy>(value: &'static T) -> T {
    // SAFETY: a reference is valid for reads.
    unsafe { ptr::read_volatile(value) }
}

/// A pointer the verifier knows the type of: each [`load`](Self::load) is a plain typed load.
///
/// Half the cost of `bpf_probe_read_kernel`, and legal under `lockdown=confidentiality`.
/// A load must be exactly one field; the unknown offset keeps LLVM from merging neighbours.
#[derive(Clone, Copy)]
pub(crate) struct Typed(*const u8);

impl Typed {
    pub(crate) const fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    pub(crate) const fn is_null(self) -> bool {
        self.0.is_null()
    }

    pub(crate) const fn as_ptr<T>(self) -> *const T {
        self.0.cast()
    }

    /// The field at `offset`.
    #[inline(always)]
    pub(crate) fn load<T: Copy>(self, offset: &'static u32) -> T {
        self.load_at(offset, 0)
    }

    /// The part of the field at `offset` that begins `within` bytes into it.
    #[inline(always)]
    pub(crate) fn load_at<T: Copy>(self, offset: &'static u32, within: usize) -> T {
        // SAFETY: the kernel makes a typed load through a BTF pointer fault-safe (it reads zero on a fault).
        unsafe { ptr::read_volatile(self.0.add(constant(offset) as usize + within).cast()) }
    }

    /// The pointer field at `offset`, typed by the verifier in its turn.
    #[inline(always)]
    pub(crate) fn follow(self, offset: &'static u32) -> Self {
        Self(self.load(offset))
    }
}

/// A pointer the verifier knows nothing of, such as the minisock around a timer: read by the helper.
#[derive(Clone, Copy)]
pub(crate) struct Untyped(*const u8);

impl Untyped {
    pub(crate) const fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    pub(crate) fn address(self) -> u64 {
        self.0 as u64
    }

    /// The field at `inner` of the structure at `outer`.
    #[inline(always)]
    pub(crate) fn read_at<T>(self, outer: &'static u32, inner: &'static u32) -> Result<T, i32> {
        // SAFETY: the helper checks the address itself.
        unsafe { bpf_probe_read_kernel(self.0.add((constant(outer) + constant(inner)) as usize).cast()) }
    }

    /// The field at `offset`, or zero where this kernel does not have it; fails as [`Self::read`] does.
    #[inline(always)]
    pub(crate) fn read_if_present<T: Default>(self, offset: &'static u32) -> Result<T, i32> {
        if constant(offset) == Layout::ABSENT { Ok(T::default()) } else { self.read(offset) }
    }

    /// The field at `offset`; fails on an address that cannot be read.
    #[inline(always)]
    pub(crate) fn read<T>(self, offset: &'static u32) -> Result<T, i32> {
        // SAFETY: the helper checks the address itself.
        unsafe { bpf_probe_read_kernel(self.0.add(constant(offset) as usize).cast()) }
    }
}

/// Whether events of the network namespace with this inode number are wanted.
#[inline(always)]
pub(crate) fn watched(netns: u32) -> bool {
    let count = constant(&SETTINGS.netns_count);
    if count == 0 {
        return true;
    }
    let mut index = 0;
    while index < tcp_close_abi::MAX_NETNS {
        // Unused entries are 0, and no namespace has inode number 0.
        if constant(&SETTINGS.netns[index]) == netns {
            return true;
        }
        index += 1;
    }
    false
}
