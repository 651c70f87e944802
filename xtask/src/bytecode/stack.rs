//! How much of the kernel's stack each program takes at most, as the verifier adds it up: its own frame and those of the
//! functions it calls, each rounded up.
//!
//! The verifier tells that in its log, which the loader does not hand out where it has nothing to complain of.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, ensure};
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex, SymbolKind,
    read::elf::ElfFile64,
};

/// Size of an instruction.
const INSTRUCTION: usize = 8;

/// What a frame is rounded up to where nothing is compiled to machine code, which is the most there is
/// (`round_up_stack_depth`, kernel/bpf/verifier.c).
const ROUND: u64 = 32;

/// Deeper than the verifier lets functions call each other (`MAX_CALL_FRAMES`, `include/linux/bpf_verifier.h`).
const DEEPEST: usize = 8;

/// The frame pointer.
const FP: usize = 10;

/// Where a function begins.
type Place = (SectionIndex, u64);

/// What one function does to the stack.
struct Function {
    frame: u64,
    calls: Vec<Place>,
}

/// Bytes of stack for each program of an object.
pub(crate) fn depths(object: &[u8]) -> anyhow::Result<BTreeMap<String, u64>> {
    let elf = ElfFile64::<object::Endianness>::parse(object)?;
    let mut functions = HashMap::new();
    let mut programs = Vec::new();
    for symbol in elf.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let section = symbol.section_index().context("a function is in a section")?;
        let place = (section, symbol.address());
        functions.insert(place, function(&elf, place, symbol.size())?);
        let section = elf.section_by_index(section)?;
        if section.name()? != ".text" {
            programs.push((symbol.name()?.to_owned(), place));
        }
    }
    let depth = |(name, place)| Ok((name, depth(&functions, place, 0)?));
    programs.into_iter().map(depth).collect()
}

fn depth(functions: &HashMap<Place, Function>, place: Place, level: usize) -> anyhow::Result<u64> {
    ensure!(level < DEEPEST, "functions call each other too deeply");
    let function = functions.get(&place).context("a call leads to a function")?;
    let called = function.calls.iter().map(|&place| depth(functions, place, level + 1));
    let deepest = called.collect::<anyhow::Result<Vec<_>>>()?.into_iter().max().unwrap_or_default();
    Ok(function.frame.max(1).next_multiple_of(ROUND) + deepest)
}

/// An instruction: `opcode dst:4 src:4 offset:16 immediate:32`.
struct Instruction {
    opcode: u8,
    dst: usize,
    src: usize,
    offset: i64,
    immediate: i64,
}

impl Instruction {
    const fn read(bytes: [u8; INSTRUCTION]) -> Self {
        let [opcode, registers, low, high, immediate @ ..] = bytes;
        Self {
            opcode,
            dst: (registers & 15) as usize,
            src: (registers >> 4) as usize,
            offset: i16::from_le_bytes([low, high]) as i64,
            immediate: i32::from_le_bytes(immediate) as i64,
        }
    }
}

fn function(elf: &ElfFile64<'_>, place: Place, size: u64) -> anyhow::Result<Function> {
    let (index, begin) = place;
    let section = elf.section_by_index(index)?;
    let targets: HashMap<u64, RelocationTarget> =
        section.relocations().map(|(at, relocation)| (at, relocation.target())).collect();
    let code = section.data_range(begin, size)?.context("a function has code")?;
    let mut frame = Frame::default();
    let mut calls = Vec::new();
    for (at, bytes) in (begin..).step_by(INSTRUCTION).zip(code.as_chunks().0) {
        let instruction = Instruction::read(*bytes);
        frame.follow(&instruction);
        // A call of one of ours, or the address of one that the kernel is to call.
        let (is_call, is_address) = match (instruction.opcode, instruction.src) {
            (0x85, 1) => (true, false),
            (0x18, _) => (false, true),
            _ => continue,
        };
        let beyond = if is_call { (instruction.immediate + 1) * 8 } else { instruction.immediate };
        let (index, from) = match targets.get(&at) {
            Some(&RelocationTarget::Symbol(symbol)) => {
                let symbol = elf.symbol_by_index(symbol)?;
                let Some(index) = symbol.section_index() else { continue };
                (index, symbol.address())
            }
            None if is_call => (index, at),
            _ => continue,
        };
        if is_address && elf.section_by_index(index)?.name()? != ".text" {
            continue;
        }
        calls.push((index, from.checked_add_signed(beyond).context("a call leads into its section")?));
    }
    Ok(Function { frame: frame.lowest, calls })
}

/// How far down a function reaches from its frame pointer, followed from its first instruction to its last.
#[derive(Default)]
struct Frame {
    /// Of registers that point into the frame, where to.
    pointers: [Option<i64>; FP],
    lowest: u64,
}

impl Frame {
    fn follow(&mut self, instruction: &Instruction) {
        let &Instruction { opcode, dst, src, offset, immediate } = instruction;
        // The classes and operations of RFC 9669.
        match (opcode & 7, opcode) {
            // Loads.
            (1, _) => {
                self.reach(src, offset);
                self.set(dst, None);
            }
            // Stores.
            (2 | 3, _) => self.reach(dst, offset),
            // dst = src, of 64 bits.
            (7, 0xbf) => self.set(dst, self.pointer(src)),
            // dst += immediate, of 64 bits.
            (7, 0x07) => {
                self.set(dst, self.pointer(dst).map(|pointer| pointer + immediate));
                self.reach(dst, 0);
            }
            (0 | 4 | 7, _) => self.set(dst, None),
            // A call leaves nothing in the registers of arguments.
            (5, 0x85) => self.pointers.iter_mut().take(6).for_each(|pointer| *pointer = None),
            _ => {}
        }
    }

    fn pointer(&self, register: usize) -> Option<i64> {
        if register == FP { Some(0) } else { self.pointers.get(register).copied().flatten() }
    }

    fn set(&mut self, register: usize, pointer: Option<i64>) {
        if let Some(known) = self.pointers.get_mut(register) {
            *known = pointer;
        }
    }

    fn reach(&mut self, register: usize, offset: i64) {
        let down = self.pointer(register).and_then(|pointer| u64::try_from(-(pointer + offset)).ok());
        self.lowest = self.lowest.max(down.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reaches_as_far_down_as_it_is_used() {
        let lowest = |code: &[[u8; INSTRUCTION]]| {
            let mut frame = Frame::default();
            for bytes in code {
                frame.follow(&Instruction::read(*bytes));
            }
            frame.lowest
        };
        // *(u64 *)(r10 - 16) = r1
        assert_eq!(lowest(&[[0x7b, 0x1a, 0xf0, 0xff, 0, 0, 0, 0]]), 16);
        // r2 = r10; r2 += -64
        let pointed = [[0xbf, 0xa2, 0, 0, 0, 0, 0, 0], [0x07, 0x02, 0, 0, 0xc0, 0xff, 0xff, 0xff]];
        assert_eq!(lowest(&pointed), 64);
        // r2 = *(u64 *)(r1 - 64): not ours.
        assert_eq!(lowest(&[[0x79, 0x12, 0xc0, 0xff, 0, 0, 0, 0]]), 0);
    }
}
