//! `cargo xtask vm`: the live tests on real kernels, old and new, each in an emulated machine.
//!
//! Debian's kernels come from the mirror that this machine uses; the machines are QEMU's without any help of the
//! processor, so all of this works where there is no virtualization, and in a CI job.

mod arch;
mod check;
mod conditions;
pub(crate) mod counted;
mod degraded;
mod expected;
mod initramfs;
mod kernel;
mod machine;
mod modules;
mod programs;
mod recordings;
mod report;
mod scenarios;
pub(crate) mod static_build;
mod supplies;
mod support;
pub(crate) mod system;
mod tools;
mod variant;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use xshell::Shell;

pub(crate) use self::{arch::Arch, tools::Tools, variant::Family};
use self::{
    conditions::Conditions,
    degraded::Degraded,
    expected::Offer,
    initramfs::Initramfs,
    kernel::Kernel,
    machine::{Machine, Processors},
    programs::Programs,
    report::{Console, Report},
    supplies::Supplies,
    variant::{Tests, Variant},
};
use crate::{clock, workspace};

/// What the tests need and Debian's kernels have as modules.
const MODULES: &[&str] = &["tun", "inet_diag", "tcp_diag"];

/// Tests that run at a time on the one processor of a machine.
///
/// More would gain nothing, for waiting takes no time; and each would be the slower for the others, so that what
/// is due within a second might not come within it.
const TEST_THREADS: &str = "1";

/// Connections of a test that is about many of them: enough to meet a softirq and a switch of processes, for each
/// takes a millisecond to emulate.
const CONNECTIONS: u32 = 1000;

/// How much longer a machine may take, of which tests take as long as one likes: two of them, and a host that needs four
/// seconds to emulate one of theirs.
const OVERTIME: u32 = 8;

/// The first process of every machine.
const INIT: &str = include_str!("vm/init.sh");

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that can be typed")]
pub(crate) struct Options {
    /// Only kernels of this series, as 6.12; may be repeated.
    #[arg(long, value_name = "SERIES")]
    kernel: Vec<String>,
    /// Only this architecture.
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Which kind of kernel hook tcp-close is to use.
    #[arg(long, value_enum, default_value = "all")]
    probe: Family,
    /// What CI has time for: all kinds of hooks on the newest kernel, what a user gets on the others, and of another
    /// architecture only what tcp-close makes of each kernel; and the two machines of endurance.
    #[arg(long, conflicts_with_all = ["probe", "degraded", "check_only", "write_support"])]
    brief: bool,
    /// How often to run it all.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    repeat: usize,
    /// Let one scenario expect what is not so: every kernel must fail.
    #[arg(long)]
    broken: bool,
    #[command(flatten)]
    conditions: Conditions,
    /// Run nothing but degraded kernels: those that hide or refuse something that tcp-close would use.
    #[arg(long, conflicts_with = "Conditions")]
    degraded: bool,
    /// Run no tests; only ask tcp-close what it makes of each kernel, by every kind of hook.
    #[arg(long, conflicts_with_all = ["probe", "filters"])]
    check_only: bool,
    /// Ask on all kernels, and write what tcp-close makes of them into docs/kernel-support.md.
    #[arg(long, conflicts_with_all = ["kernel", "arch", "probe", "Conditions", "degraded", "filters"])]
    write_support: bool,
    /// Have the tests record what they see, and put that here, in a folder of each machine.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["check_only", "write_support"])]
    record: Option<PathBuf>,
    /// How long the tests take that take as long as one likes, as `highest_rate::`, by the machine's clock; by default as
    /// long as CI has time for.
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["check_only", "write_support"])]
    seconds: Option<u32>,
    /// How many machines to run at a time; each takes a processor and up to 1 GB.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = at_least_one)]
    jobs: usize,
    /// Only tests whose name contains one of these.
    #[arg(value_name = "TEST")]
    filters: Vec<String>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&count| count > 0).ok_or_else(|| "it takes a number, at least 1".to_owned())
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let start = clock::now();
    let variants = options.variants();
    for series in &options.kernel {
        let is_there = variants.iter().any(|variant| variant.kernel == *series);
        ensure!(is_there, "the matrix has no kernel {series} of what is asked for; it has {}", kernels());
    }
    let total = variants.len();
    let sh = workspace::shell()?;
    let extras = Extras { broken: options.broken, record: options.record.clone(), seconds: options.seconds };
    let lab = Lab::provide(&sh, &variants, extras)?;
    let reports = lab.run_all(variants, options.jobs);
    println!(
        "\n{}\n{} minutes in all",
        report::table(&reports),
        clock::now().saturating_sub(start).as_secs().div_ceil(60)
    );
    if options.broken {
        report::is_noticed_everywhere(&reports)?;
    }
    let red: Vec<String> = reports.iter().filter_map(Report::failure).collect();
    ensure!(red.is_empty(), "{} of {total} machines did not pass: {}", red.len(), red.join("; "));
    ensure!(reports.len() == total, "{} of {total} machines could not be run", total - reports.len());
    if options.write_support {
        support::write(&reports)?;
    }
    Ok(())
}

/// As much of the matrix as CI runs.
pub(crate) fn run_briefly() -> anyhow::Result<()> {
    run(&Options {
        kernel: Vec::new(),
        arch: None,
        probe: Family::All,
        brief: true,
        repeat: 1,
        broken: false,
        conditions: Conditions::default(),
        degraded: false,
        check_only: false,
        write_support: false,
        record: None,
        seconds: None,
        jobs: 2,
        filters: Vec::new(),
    })
}

/// The kernels that there are, for who asked for another.
fn kernels() -> String {
    let of = |arch: Arch| format!("{} for {}", arch.kernels().join(", "), arch.name());
    [Arch::X86_64, Arch::Aarch64].map(of).join(" and ")
}

impl Options {
    /// The machines that are asked for.
    fn variants(&self) -> Vec<Variant> {
        let (mut usual, mut degraded) = (Vec::new(), Vec::new());
        for arch in [Arch::X86_64, Arch::Aarch64] {
            for kernel in arch.kernels() {
                if !self.wants(arch, kernel) {
                    continue;
                }
                if !self.degraded {
                    usual.extend(self.usual(arch, kernel));
                }
                let is_named = !self.kernel.is_empty();
                if self.with_degraded() && (is_named || degraded::is_degraded_too(arch, kernel)) {
                    degraded.extend(self.degraded(arch, kernel));
                }
            }
        }
        if self.picks_none() && !self.degraded && !self.without_tests() {
            usual.extend(enduring());
        }
        // The short ones come last, so that at the end no processor is long without work.
        let variants = [usual, degraded].concat();
        let count = variants.len() * self.repeat;
        variants.into_iter().cycle().take(count).collect()
    }

    fn wants(&self, arch: Arch, kernel: &str) -> bool {
        self.arch.is_none_or(|only| only == arch)
            && (self.kernel.is_empty() || self.kernel.iter().any(|only| only == kernel))
    }

    /// Whether degraded kernels are run too: where nothing is picked, all there is.
    fn with_degraded(&self) -> bool {
        self.degraded || self.picks_none() && !self.check_only
    }

    /// Whether nothing narrows down what is run.
    fn picks_none(&self) -> bool {
        self.kernel.is_empty()
            && self.arch.is_none()
            && self.probe == Family::All
            && self.conditions == Conditions::default()
            && self.filters.is_empty()
    }

    const fn without_tests(&self) -> bool {
        self.check_only || self.write_support
    }

    /// The machines of a kernel under the conditions that are asked for.
    fn usual(&self, arch: Arch, kernel: &str) -> Vec<Variant> {
        // Without tests, one machine answers for every kind of hook.
        let is_brief = self.brief && !variant::has_every_family(arch, kernel);
        let is_foreign = self.brief && arch != Arch::X86_64;
        let without_tests = self.without_tests() || is_foreign;
        let family = if without_tests || is_brief { Family::Auto } else { self.probe };
        let families = family.each(arch, kernel);
        let of = |&family| Variant {
            kernel: kernel.to_owned(),
            arch,
            family,
            conditions: self.conditions.clone(),
            // Where the kernel does not offer a kind of hook, tcp-close says so and gives up.
            tests: if without_tests || !Offer::of(arch, kernel, &self.conditions).starts(family) {
                Tests::None
            } else if is_brief && self.filters.is_empty() {
                Tests::of_the_hooks()
            } else if self.filters.is_empty() {
                Tests::of(arch, kernel, family)
            } else {
                Tests::Matching(self.filters.clone())
            },
        };
        families.iter().map(of).collect()
    }

    /// The machines of a kernel in each way that it is degraded.
    fn degraded(&self, arch: Arch, kernel: &str) -> Vec<Variant> {
        let of = |degraded: Degraded| Variant {
            kernel: kernel.to_owned(),
            arch,
            family: if self.probe == Family::All { Family::Auto } else { self.probe },
            conditions: degraded.conditions,
            tests: if self.without_tests() || degraded.tests.is_empty() {
                Tests::None
            } else if self.filters.is_empty() {
                Tests::matching(degraded.tests)
            } else {
                Tests::Matching(self.filters.clone())
            },
        };
        degraded::all().into_iter().map(of).collect()
    }
}

/// Machines in which connections end in every way at once, and as many as they can make, by the hooks that a user gets: on the
/// newest kernel on which each of them is told to the last, whatever it may be preempted in.
fn enduring() -> [Variant; 2] {
    ["churn::", "highest_rate::"].map(|test| Variant {
        kernel: "6.18".to_owned(),
        arch: Arch::X86_64,
        family: Family::Auto,
        conditions: Conditions::default(),
        tests: Tests::matching(&[test]),
    })
}

/// What the tests of every machine are asked for beside their work.
#[derive(Clone)]
struct Extras {
    /// To have one scenario fail.
    broken: bool,
    /// To record what they see, into a folder of this one.
    record: Option<PathBuf>,
    /// How long those take that take as long as one likes.
    seconds: Option<u32>,
}

/// Everything that the machines are made of.
struct Lab {
    folder: PathBuf,
    benches: BTreeMap<Arch, Bench>,
    extras: Extras,
    /// Two would overwrite each other's files.
    _alone: File,
}

/// What machines of one architecture have in common.
struct Bench {
    tools: Tools,
    programs: Programs,
    busybox: Vec<u8>,
    kernels: BTreeMap<String, Kernel>,
}

impl Lab {
    /// Downloads and builds what these machines need and is not here yet.
    fn provide(sh: &Shell, variants: &[Variant], extras: Extras) -> anyhow::Result<Self> {
        let folder = supplies::folder(sh)?;
        let alone = File::create(folder.join("lock"))?;
        if alone.try_lock().is_err() {
            bail!(
                "another `cargo xtask vm` runs in {}; wait for it, or set CARGO_TARGET_DIR",
                folder.display()
            );
        }
        let mut benches = BTreeMap::new();
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let of_arch: Vec<&Variant> = variants.iter().filter(|variant| variant.arch == arch).collect();
            if !of_arch.is_empty() {
                benches.insert(arch, Bench::provide(sh, arch, &of_arch)?);
            }
        }
        Ok(Self { folder, benches, extras, _alone: alone })
    }

    /// Runs some at a time; gives back what came of them, in their order, but for those that could not be run.
    fn run_all(&self, variants: Vec<Variant>, at_a_time: usize) -> Vec<Report> {
        let total = variants.len();
        let queue = Mutex::new(variants.into_iter().enumerate());
        let next = || queue.lock().ok()?.next();
        let (done, inbox) = mpsc::channel();
        let mut reports = BTreeMap::new();
        thread::scope(|scope| {
            for _ in 0..at_a_time {
                let done = done.clone();
                scope.spawn(move || {
                    while let Some((number, variant)) = next() {
                        println!("{variant}: starts, {} of {total}", number + 1);
                        let name = variant.to_string();
                        let report = self.run(number, variant).with_context(|| name);
                        if done.send((number, report)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(done);
            for (number, report) in inbox {
                match report {
                    Ok(report) => {
                        println!("{}", report.text());
                        reports.insert(number, report);
                    }
                    Err(error) => println!("{error:#}"),
                }
            }
        });
        reports.into_values().collect()
    }

    fn run(&self, number: usize, variant: Variant) -> anyhow::Result<Report> {
        let bench = self.benches.get(&variant.arch).context("every architecture was provided")?;
        let kernel = bench.kernels.get(&variant.kernel).context("every kernel was provided")?;
        let name = format!("{:02}-{}", number + 1, variant.file_stem());
        let initramfs = self.folder.join("initramfs").join(&name);
        fs::write(&initramfs, bench.initramfs(kernel, &variant, &self.extras)?)?;
        let log = self.folder.join("logs").join(format!("{name}.log"));
        let machine = Machine {
            arch: variant.arch,
            tools: &bench.tools,
            image: &kernel.image,
            initramfs: &initramfs,
            cmdline: &variant.conditions.cmdline,
            processors: if variant.conditions.two_cpus { Processors::Two } else { Processors::One },
            disk: None,
            ports: &[],
            overtime: OVERTIME * Duration::from_secs(self.extras.seconds.unwrap_or_default().into()),
            log: &log,
        };
        let mut console = Console::default();
        let end = machine.run(report::follow(&variant, &mut console))?;
        fs::remove_file(&initramfs)?;
        if let Some(folder) = &self.extras.record {
            console.recordings.write(&folder.join(variant.file_stem()))?;
        }
        Ok(Report::new(variant, kernel.release.clone(), end, console, log))
    }
}

impl Bench {
    fn provide(sh: &Shell, arch: Arch, variants: &[&Variant]) -> anyhow::Result<Self> {
        let supplies = Supplies::provide(sh, arch)?;
        let mut kernels = BTreeMap::new();
        for series in variants.iter().map(|variant| &variant.kernel) {
            if !kernels.contains_key(series) {
                kernels.insert(series.clone(), supplies.kernel(series)?);
            }
        }
        let with_tests = variants.iter().any(|variant| variant.takes_tests());
        let Supplies { tools, busybox, .. } = supplies;
        let programs = Programs::build(sh, arch, &tools, with_tests)?;
        Ok(Self { tools, programs, busybox, kernels })
    }

    fn initramfs(&self, kernel: &Kernel, variant: &Variant, extras: &Extras) -> anyhow::Result<Vec<u8>> {
        let mut files = Initramfs::new();
        for folder in ["bin", "dev", "modules", "proc", "run", "sys", "tmp"] {
            files.folder(folder)?;
        }
        files.file("init", INIT.as_bytes())?;
        files.file("bin/busybox", &self.busybox)?;
        files.file("bin/tcp-close", &self.programs.tcp_close)?;
        if let Some(tests) = &self.programs.tests {
            files.file("bin/live", &tests.live)?;
            files.file("bin/faults", &tests.faults)?;
            files.file("bin/endurance", &tests.endurance)?;
            files.file("bin/with-capabilities", &tests.with_capabilities)?;
        }
        files.file("bin/restricted", restricted(&variant.conditions).as_bytes())?;
        files.file("check", check::SCRIPT.as_bytes())?;
        for (number, module) in modules::in_load_order(&kernel.modules, MODULES)?.iter().enumerate() {
            files.file(&format!("modules/{number:02}-{}.ko", module.name), &module.bytes)?;
        }
        files.file("job", job(variant, extras).as_bytes())?;
        Ok(files.finish()?)
    }
}

/// What a machine is to do: a shell script, whose status is that of the tests.
fn job(variant: &Variant, extras: &Extras) -> String {
    let Variant { conditions, family, tests, .. } = variant;
    let program = if conditions.capabilities.is_empty() { "/bin/tcp-close" } else { "/bin/restricted" };
    let mut lines = vec![format!("export TCP_CLOSE_BIN={program}")];
    for sysctl in &conditions.sysctls {
        lines.push(format!("echo {} >{} || exit 1", quoted(sysctl.value()), quoted(&sysctl.path())));
    }
    if conditions.without_btf {
        lines.push("/bin/busybox mount -t tmpfs tmpfs /sys/kernel/btf || exit 1".to_owned());
    }
    let families: Vec<&str> = variant.checked().iter().map(|family| family.name()).collect();
    lines.push(format!("families='{}'", families.join(" ")));
    lines.push(". /check".to_owned());
    let programs = match tests {
        Tests::None => {
            lines.push("echo VM-NO-TESTS".to_owned());
            return lines.join("\n");
        }
        Tests::AllBut(left_out) => {
            let skip: Vec<String> = left_out.iter().map(|name| format!("--skip {}", quoted(name))).collect();
            vec![("live", skip)]
        }
        Tests::Matching(names) => by_program(names),
    };
    lines.push(format!("export TCP_CLOSE_PROBE={}", family.name()));
    lines.push(format!("export TCP_CLOSE_TEST_CONNECTIONS={CONNECTIONS}"));
    if let Some(seconds) = extras.seconds {
        lines.push(format!("export TCP_CLOSE_TEST_SECONDS={seconds}"));
    }
    if extras.broken {
        lines.push("export TCP_CLOSE_TEST_BROKEN=1".to_owned());
    }
    // libtest tells times only to those who may use what is unstable.
    lines.push("export RUSTC_BOOTSTRAP=1".to_owned());
    lines.push("export TCP_CLOSE_TEST_MACHINE=1".to_owned());
    let report = format!("-Z unstable-options --report-time --test-threads {TEST_THREADS}");
    lines.extend(["tests() {", "    failed=0"].map(str::to_owned));
    for (program, picked) in programs {
        lines.push(format!("    /bin/{program} {report} {} || failed=$?", picked.join(" ")));
    }
    lines.extend(["    return $failed", "}"].map(str::to_owned));
    lines.extend(if extras.record.is_some() {
        recordings::made_by("tests")
    } else {
        ["tests", "exit $?"].map(str::to_owned).into()
    });
    lines.join("\n")
}

/// The programs that have tests of these names, each with those that are its own.
fn by_program(names: &[String]) -> Vec<(&'static str, Vec<String>)> {
    let of = |program| {
        let names = names.iter().filter(|name| program_of(name) == program);
        (program, names.map(|name| quoted(name)).collect::<Vec<_>>())
    };
    ["live", "faults", "endurance"].map(of).into_iter().filter(|(_, names)| !names.is_empty()).collect()
}

/// The program that has the tests whose names begin with this.
fn program_of(name: &str) -> &'static str {
    match name.split_once("::") {
        Some(("machine", _)) => "faults",
        Some(("churn" | "highest_rate", _)) => "endurance",
        _ => "live",
    }
}

/// A script that is tcp-close with fewer capabilities.
fn restricted(conditions: &Conditions) -> String {
    let capabilities = quoted(&conditions.capabilities);
    format!("#!/bin/busybox sh\nexec /bin/with-capabilities {capabilities} /bin/tcp-close \"$@\"\n")
}

/// A word as the shell has to see it to take it as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_run_by_the_program_that_has_it() {
        let names = ["highest_rate::", "orderly::the_", "machine::", "churn::", "crowd::"].map(str::to_owned);
        let names_of = |names: &[&str]| names.iter().map(|name| quoted(name)).collect::<Vec<_>>();
        assert_eq!(
            by_program(&names),
            [
                ("live", names_of(&["orderly::the_", "crowd::"])),
                ("faults", names_of(&["machine::"])),
                ("endurance", names_of(&["highest_rate::", "churn::"])),
            ]
        );
        assert_eq!(by_program(&names[2..3]), [("faults", names_of(&["machine::"]))]);
    }
}
