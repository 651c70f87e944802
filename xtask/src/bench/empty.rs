//! Programs that do nothing, where those of tcp-close run: what the kernel's accounting takes of a run itself.

use anyhow::Context as _;
use aya::{Ebpf, programs::RawTracePoint};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
    write::{Object, Symbol, SymbolSection},
};

use super::{
    figures::Figure,
    load::Churned,
    programs::{self, Statistics},
};

/// One each, and as many as tcp-close has there: which of several runs first costs more than those behind it.
const TRACEPOINTS: [&str; 5] =
    ["inet_sock_set_state", "inet_sock_set_state", "inet_sock_set_state", "timer_start", "timer_cancel"];

/// `r0 = 0; exit`, in the order of bytes that both architectures have.
const NOTHING: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];

/// Nanoseconds that the kernel accounts for a run of a program that does nothing, while this load runs.
pub(super) fn run(churn: impl Fn() -> anyhow::Result<Churned>) -> anyhow::Result<Figure> {
    let mut ebpf = Ebpf::load(&object()?).context("cannot load programs that do nothing")?;
    for (number, tracepoint) in TRACEPOINTS.iter().enumerate() {
        let program = ebpf.program_mut(&name(number)).context("a program of the object")?;
        let program: &mut RawTracePoint = program.try_into()?;
        program.load()?;
        program.attach(tracepoint).with_context(|| format!("cannot attach at {tracepoint}"))?;
    }
    let _statistics = Statistics::on()?;
    let mut nanoseconds = Vec::new();
    for _ in 0..3 {
        let before = programs::of(std::process::id())?;
        churn()?;
        let after = programs::of(std::process::id())?;
        nanoseconds.push(programs::between(&before, &after).of_a_run());
    }
    Figure::of(nanoseconds)
}

fn name(number: usize) -> String {
    format!("empty_{number}")
}

/// An object with a program for each, which takes neither a compiler nor a file.
fn object() -> anyhow::Result<Vec<u8>> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let license = object.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    object.append_section_data(license, b"GPL\0", 1);
    for name in (0..TRACEPOINTS.len()).map(name) {
        let section = format!("raw_tp/{name}").into_bytes();
        let section = object.add_section(Vec::new(), section, SectionKind::Text);
        let value = object.append_section_data(section, &NOTHING, 8);
        object.add_symbol(Symbol {
            name: name.into_bytes(),
            value,
            size: NOTHING.len().try_into()?,
            kind: SymbolKind::Text,
            scope: SymbolScope::Linkage,
            weak: false,
            section: SymbolSection::Section(section),
            flags: SymbolFlags::None,
        });
    }
    Ok(object.write()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_reads_what_does_nothing() {
        let object =
            aya_obj::Object::parse(&object().expect("it can be written")).expect("the loader reads it");
        assert_eq!(object.programs.len(), TRACEPOINTS.len());
    }
}
