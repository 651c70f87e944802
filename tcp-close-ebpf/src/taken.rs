//! Several equal programs hang on one hook, and one of them takes each event.
//!
//! The kernel does not run a program on a CPU on which it runs already (`prog->active`), and there are two ways to come to
//! that: a softirq interrupts the program that runs for a process, as a network card's interrupt makes it do all the time; and
//! from Linux 7.0 on the process may be preempted in it by another that meets the same hook. Then the next program is there,
//! and after that the third, if there is one. What one has taken, it marks for the others.

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray},
};

use crate::{counters, kernel::Current};

/// What was taken last on this CPU of a socket that no process holds; one entry, since softirqs do not interrupt each other.
#[map]
static TAKEN_BY_SOFTIRQ: PerCpuArray<Taken> = PerCpuArray::with_max_entries(1, 0);

/// What was taken last in a thread's own system call, by the lower bits of the thread's id.
#[map]
static TAKEN_BY_OWNER: Array<Taken> = Array::with_max_entries(OWNERS, 0);

/// Two threads whose ids have these lower bits in common would have to be in such programs at once to disturb each other.
const OWNERS: u32 = 1 << 16;

/// An event that one program has taken, so that its like on the same hook leave it alone.
struct Taken {
    what: What,
    by: u32,
    /// How many others have found it taken.
    seen: u32,
}

/// An event, told from any other that is under way.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct What {
    /// Address of the socket, or of the segment where there is none.
    pub(crate) about: u64,
    /// States left and entered, or one of the others.
    pub(crate) kind: [u32; 2],
}

impl What {
    /// In place of states.
    pub(crate) const RESET_SENT: [u32; 2] = [1 << 8, 0];
    pub(crate) const RESET_RECEIVED: [u32; 2] = [1 << 8, 1];
}

/// The one that is run first, and takes all that it is run for. How many events none has taken is known from how many it has
/// missed, which the kernel counts, and how many of these another took in its place.
const FIRST: u32 = 1;

/// The program with this number, of so many equal ones, takes an event, unless another has; they may run in any order.
///
/// What is given back is the address, as a number: the verifier forbids to reckon with a pointer, and what comes back out of
/// a map is none.
#[inline(always)]
pub(crate) fn by(program: u32, of: u32, what: &What, owner: Option<Current>) -> Option<u64> {
    let slot = match owner {
        Some(owner) => TAKEN_BY_OWNER.get_ptr_mut(owner.thread() % OWNERS),
        None => TAKEN_BY_SOFTIRQ.get_ptr_mut(0),
    };
    // SAFETY: nothing else uses the entry at this time: no other softirq of this CPU, or no other thread.
    let taken = unsafe { &mut *slot? };
    if taken.what == *what && taken.by != program {
        taken.seen += 1;
        if taken.seen == of - 1 {
            taken.what.about = 0;
        }
        if program == FIRST {
            counters::event_left();
        }
        return None;
    }
    if program != FIRST {
        counters::event_made_up();
    }
    *taken = Taken { what: *what, by: program, seen: 0 };
    let number = &raw const taken.what.about;
    // SAFETY: it was just written. Were it another's by now, the two threads would have those bits in common.
    let (address, still) = unsafe { (number.read_volatile(), number.read_volatile()) };
    (still == what.about).then_some(address)
}
