//! Reading kernel memory by the offsets and settings that user space resolved.
//!
//! Both statics live in read-only data which the loader overrides and freezes, so to the verifier every
//! offset is a constant; `read_volatile` keeps LLVM from folding the zeros they hold at compile time.

use core::{mem::MaybeUninit, ptr};

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_probe_read_kernel,
    generated::{bpf_get_current_comm, bpf_get_socket_cookie, bpf_probe_read_kernel as read_into},
};
use tcp_close_abi::{Layout, Name, Settings};

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

/// Kernel memory, read field by field at offsets of the running kernel.
pub(crate) trait Memory: Copy {
    /// What a pointer in it leads to.
    type Beyond: Memory;

    /// What lies `at` bytes from here; fails on an address that cannot be read.
    fn read_at<T: Copy>(self, at: usize) -> Result<T, i32>;

    /// The same, 0 where it cannot be read, which leaves a bit in `errors`. It takes no branch: the verifier goes through
    /// all that follows for each way on that there is.
    fn read_or_zero<T: Copy>(self, at: usize, errors: &mut i64) -> T;

    /// Its address.
    fn address(self) -> u64;

    /// Where a pointer leads that lies at `offset`.
    fn follow(self, offset: &'static u32) -> Result<Self::Beyond, i32>;

    /// Of a full socket: what it is known by, as [`tcp_close_abi::Header::socket`] says.
    fn identity(self) -> u64;

    /// The field at `offset`.
    #[inline(always)]
    fn get<T: Copy>(self, offset: &'static u32) -> Result<T, i32> {
        self.read_at(constant(offset) as usize)
    }

    /// The field at `inner` of the structure at `outer`.
    #[inline(always)]
    fn get_in<T: Copy>(self, outer: &'static u32, inner: &'static u32) -> Result<T, i32> {
        self.read_at((constant(outer) + constant(inner)) as usize)
    }

    /// The IPv6 address at `offset`, in two halves: a typed load is of eight bytes at most.
    #[inline(always)]
    fn get_ipv6(self, offset: &'static u32) -> Result<[u64; 2], i32> {
        let at = constant(offset) as usize;
        Ok([self.read_at(at)?, self.read_at(at + 8)?])
    }
}

/// A pointer the verifier knows the type of: each read is a plain typed load, and never fails.
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
        self.load_at(constant(offset) as usize)
    }

    /// The pointer field at `offset`, typed by the verifier in its turn.
    #[inline(always)]
    pub(crate) fn leads(self, offset: &'static u32) -> Self {
        Self(self.load(offset))
    }

    #[inline(always)]
    fn load_at<T: Copy>(self, at: usize) -> T {
        // SAFETY: the kernel makes a typed load through a BTF pointer fault-safe (it reads zero on a fault).
        unsafe { ptr::read_volatile(self.0.add(at).cast()) }
    }
}

impl Memory for Typed {
    type Beyond = Self;

    #[inline(always)]
    fn read_at<T: Copy>(self, at: usize) -> Result<T, i32> {
        Ok(self.load_at(at))
    }

    #[inline(always)]
    fn read_or_zero<T: Copy>(self, at: usize, _errors: &mut i64) -> T {
        self.load_at(at)
    }

    #[inline(always)]
    fn address(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    fn follow(self, offset: &'static u32) -> Result<Self, i32> {
        Ok(self.leads(offset))
    }

    #[inline(always)]
    fn identity(self) -> u64 {
        if constant(&SETTINGS.cookies) == 0 {
            return self.address();
        }
        // SAFETY: the verifier knows the pointer as a socket.
        unsafe { bpf_get_socket_cookie(self.0.cast_mut().cast()) }
    }
}

/// A pointer the verifier knows nothing of: read by the helper, field by field.
#[derive(Clone, Copy)]
pub(crate) struct Untyped(*const u8);

impl Untyped {
    pub(crate) const fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }
}

impl Memory for Untyped {
    type Beyond = Self;

    #[inline(always)]
    fn read_at<T: Copy>(self, at: usize) -> Result<T, i32> {
        // SAFETY: the helper checks the address itself.
        unsafe { bpf_probe_read_kernel(self.0.wrapping_add(at).cast()) }
    }

    #[inline(always)]
    fn read_or_zero<T: Copy>(self, at: usize, errors: &mut i64) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        #[expect(clippy::cast_possible_truncation, reason = "a field of a few bytes")]
        let size = size_of::<T>() as u32;
        // SAFETY: the helper checks the address itself, and writes zeros where it cannot read
        // (`bpf_probe_read_kernel_common`, kernel/trace/bpf_trace.c).
        unsafe {
            *errors |= read_into(value.as_mut_ptr().cast(), size, self.0.wrapping_add(at).cast());
            value.assume_init()
        }
    }

    #[inline(always)]
    fn address(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    fn follow(self, offset: &'static u32) -> Result<Self, i32> {
        Ok(Self(self.get(offset)?))
    }

    #[inline(always)]
    fn identity(self) -> u64 {
        self.address()
    }
}

/// The beginning of a minisock that the verifier knows nothing of, such as the one around a timer: read by the helper,
/// all at once. Each call of the helper costs as much as ten typed loads.
pub(crate) struct Copied {
    address: u64,
    words: MaybeUninit<[u64; Self::WORDS]>,
}

impl Copied {
    /// A program has a stack of 512 bytes. What is read of a minisock ends before, on every kernel so far.
    const WORDS: usize = 24;

    /// Room for a copy.
    #[inline(always)]
    pub(crate) const fn room() -> Self {
        Self { address: 0, words: MaybeUninit::uninit() }
    }

    /// Copies the minisock at `address` into this room; fails where it cannot be read.
    #[inline(always)]
    pub(crate) fn take(&mut self, address: *const u8) -> Result<&Self, i32> {
        self.address = address as u64;
        // SAFETY: the verifier holds the size against the room, and the helper checks the address itself.
        let status = unsafe {
            read_into(self.words.as_mut_ptr().cast(), constant(&SETTINGS.minisock_bytes), address.cast())
        };
        #[expect(clippy::cast_possible_truncation, reason = "an errno")]
        if status == 0 { Ok(self) } else { Err(status as i32) }
    }
}

impl Memory for &Copied {
    type Beyond = Untyped;

    #[inline(always)]
    fn read_at<T: Copy>(self, at: usize) -> Result<T, i32> {
        // SAFETY: the verifier lets nobody read what was not copied.
        Ok(unsafe { ptr::read_volatile(self.words.as_ptr().cast::<u8>().add(at).cast()) })
    }

    #[inline(always)]
    fn read_or_zero<T: Copy>(self, at: usize, _errors: &mut i64) -> T {
        // SAFETY: as above.
        unsafe { ptr::read_volatile(self.words.as_ptr().cast::<u8>().add(at).cast()) }
    }

    #[inline(always)]
    fn address(self) -> u64 {
        self.address
    }

    #[inline(always)]
    fn follow(self, offset: &'static u32) -> Result<Untyped, i32> {
        Ok(Untyped(self.get(offset)?))
    }

    #[inline(always)]
    fn identity(self) -> u64 {
        self.address
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

/// The running thread, and the process that it is of.
#[derive(Clone, Copy)]
pub(crate) struct Current(u64);

impl Current {
    #[inline(always)]
    pub(crate) fn get() -> Self {
        Self(bpf_get_current_pid_tgid())
    }

    /// The kernel's id of the thread.
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is the thread's")]
    #[inline(always)]
    pub(crate) const fn thread(self) -> u32 {
        self.0 as u32
    }

    /// Its thread group: what users know as the process id.
    #[inline(always)]
    pub(crate) const fn process(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Writes the running thread's name where there is room for it.
#[inline(always)]
pub(crate) fn name_current(room: &mut Name) {
    // `TASK_COMM_LEN` of include/linux/sched.h.
    const { assert!(size_of::<Name>() == 16) };
    // SAFETY: the room is as long as it is said to be. Given one, the helper does not fail.
    unsafe { bpf_get_current_comm(ptr::from_mut(room).cast(), 16) };
}

/// The running thread's name.
#[inline(always)]
pub(crate) fn current_name() -> Name {
    let mut room = MaybeUninit::<Name>::uninit();
    // SAFETY: the helper fills it.
    unsafe {
        name_current(&mut *room.as_mut_ptr());
        let words = room.as_ptr().cast::<u64>();
        [words.read_volatile(), words.add(1).read_volatile()]
    }
}
