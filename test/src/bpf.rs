//! BPF objects: which of them a process holds, and which the kernel still has.
//!
//! The kernel is asked by their numbers, which no two of a kind ever share; nothing is opened, so that asking keeps
//! nothing alive.

use std::{collections::BTreeSet, fs, io};

use anyhow::Context as _;
use rustix::process::Pid;

use crate::breakage::OrGiveUp as _;

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A program.
    Program,
    /// A map.
    Map,
    /// A program's attachment.
    Link,
    /// Types, loaded with programs.
    Btf,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Program, Self::Map, Self::Link, Self::Btf];

    /// What `/proc/PID/fdinfo` calls its number.
    const fn field(self) -> &'static str {
        match self {
            Self::Program => "prog_id",
            Self::Map => "map_id",
            Self::Link => "link_id",
            Self::Btf => "btf_id",
        }
    }

    /// The `BPF_…_GET_NEXT_ID` of `enum bpf_cmd` (`include/uapi/linux/bpf.h`).
    const fn next_id(self) -> u32 {
        match self {
            Self::Program => 11,
            Self::Map => 12,
            Self::Link => 31,
            Self::Btf => 23,
        }
    }
}

/// An object, by its number.
pub type Object = (Kind, u32);

/// Those that a process has a descriptor of, and the programs of the links among them.
#[track_caller]
pub fn held_by(pid: Pid) -> BTreeSet<Object> {
    let folder = format!("/proc/{pid}/fdinfo");
    let descriptors = fs::read_dir(&folder).with_context(|| format!("read {folder}")).or_give_up();
    let mut held = BTreeSet::new();
    for descriptor in descriptors {
        let path = descriptor.with_context(|| format!("read {folder}")).or_give_up().path();
        // It may have been closed meanwhile.
        let text = fs::read_to_string(path).unwrap_or_default();
        for (name, number) in text.lines().filter_map(|line| line.split_once(':')) {
            let kind = Kind::ALL.into_iter().find(|kind| kind.field() == name);
            held.extend(kind.zip(number.trim().parse().ok()));
        }
    }
    held
}

/// Those among them that there still are.
#[track_caller]
pub fn still_there(objects: &BTreeSet<Object>) -> BTreeSet<Object> {
    objects.iter().copied().filter(|&object| exists(object).or_give_up()).collect()
}

fn exists((kind, number): Object) -> anyhow::Result<bool> {
    /// The part of `union bpf_attr` that these commands read and write.
    #[repr(C)]
    struct NextId {
        start: u32,
        next: u32,
        open_flags: u32,
    }

    let mut attribute = NextId { start: number.saturating_sub(1), next: 0, open_flags: 0 };
    // SAFETY: the kernel reads and writes no more than the size it is told, which is that of the structure, and the
    // structure lives through the call.
    let outcome =
        unsafe { libc::syscall(libc::SYS_bpf, kind.next_id(), &raw mut attribute, size_of_val(&attribute)) };
    let error = io::Error::last_os_error();
    match (outcome, error.raw_os_error()) {
        (0, _) => Ok(attribute.next == number),
        (_, Some(libc::ENOENT)) => Ok(false),
        _ => Err(error).with_context(|| format!("ask for the next {kind:?} after {}", attribute.start)),
    }
}
