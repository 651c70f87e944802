//! The developer commands of tcp-close: `cargo xtask <command>`.
//!
//! One file per command; this one is only the list.

#![expect(clippy::print_stdout, reason = "developer commands talk to a terminal")]

mod baseline;
mod bench;
mod bytecode;
mod cache;
mod ci;
mod clock;
mod container;
mod debian;
mod dist;
mod fuzz;
mod grafana;
mod instructions;
mod kubernetes;
mod page;
mod programs;
mod prometheus;
mod running;
mod setup;
mod test;
mod units;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "The developer commands of tcp-close")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Provide what the kernel side is built with: rust-src and bpf-linker.
    Setup(setup::Options),
    /// Build the committed kernel objects, or prove that they are what their sources give.
    #[command(subcommand)]
    Bytecode(bytecode::Command),
    /// Run the unit tests and, as root, the live tests.
    Test(test::Options),
    /// Measure what it costs to watch connections, beside others who watch them.
    Bench(bench::Options),
    /// Hand in what nobody would type: run fuzzers.
    Fuzz(fuzz::Options),
    /// Count what each part of the user side takes for a close, and hold it against what it took before.
    Instructions(instructions::Options),
    /// Ask the verifier what each program takes of the kernel, and hold it against what it took before.
    Programs(programs::Options),
    /// Copy rules and dashboards to where the chart and the bases for Kubernetes have them.
    Kubernetes,
    /// Run the live tests on real kernels, old and new, in emulated machines.
    Vm(vm::Options),
    /// Make everything that a release consists of: packages, archives, the image.
    Dist(dist::Options),
    /// Install the package on a Debian with systemd, in an emulated machine, and see what becomes of it.
    System(vm::system::Options),
    /// Run what CI runs, all of it or the named steps.
    Ci(ci::Options),
}

fn main() -> ExitCode {
    let result = match Options::parse().command {
        Command::Setup(options) => setup::run(&options),
        Command::Bytecode(command) => bytecode::run(&command),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Instructions(options) => instructions::run(&options),
        Command::Programs(options) => programs::run(&options),
        Command::Kubernetes => kubernetes::write(),
        Command::Vm(options) => vm::run(&options),
        Command::Dist(options) => dist::run(&options),
        Command::System(options) => vm::system::run(&options),
        Command::Ci(options) => ci::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // On stdout, behind the output it explains; a CI log shows the two streams in any order.
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_options_make_sense() {
        Options::command().debug_assert();
    }
}
