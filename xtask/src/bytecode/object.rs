//! The linked object as an ELF file: taking DWARF off it, and counting its instructions.
//!
//! LLVM makes BTF and DWARF from the same debug information and cannot be told to leave one out.
//! The usual tool, `llvm-strip -g`, would be one more thing to install; binutils' does not know BPF.

use std::collections::BTreeMap;

use object::{
    build::elf::{Builder, SectionData},
    elf::{SHT_STRTAB, STT_FUNC},
};

/// Size of a BPF instruction.
const INSTRUCTION: u64 = 8;

/// The object without its DWARF; BTF, maps, programs, read-only data and license stay as they are.
pub(super) fn without_dwarf(linked: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut elf = Builder::read(linked)?;
    for section in &mut elf.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    // LLVM keeps the names of sections and symbols in one table, the writer keeps two.
    if !elf.sections.iter().any(|section| matches!(section.data, SectionData::SectionString)) {
        let names = elf.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    // Symbols of the sections that go, and nothing else refers to them.
    elf.delete_orphans();
    let mut stripped = Vec::new();
    elf.write(&mut stripped)?;
    Ok(stripped)
}

/// Instructions per program; functions that programs share are one entry, `subprograms`.
pub(super) fn instructions(object: &[u8]) -> anyhow::Result<BTreeMap<String, u64>> {
    let elf = Builder::read(object)?;
    let mut counts = BTreeMap::new();
    for symbol in &elf.symbols {
        let Some(section) = symbol.section.map(|id| elf.sections.get(id)) else {
            continue;
        };
        if symbol.st_type() != STT_FUNC {
            continue;
        }
        let name = if section.name.as_slice() == b".text" {
            "subprograms".to_owned()
        } else {
            symbol.name.to_string()
        };
        *counts.entry(name).or_default() += symbol.st_size / INSTRUCTION;
    }
    Ok(counts)
}
