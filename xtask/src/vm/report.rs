//! What came of each machine, told as it ends and once more in a table.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt::Write as _,
    path::PathBuf,
    time::Duration,
};

use anyhow::ensure;

use super::{
    check::Calls,
    expected,
    machine::{End, News},
    recordings::Recordings,
    scenarios::Scenarios,
    variant::{Tests, Variant},
};

/// Lines of the console that tell how a machine came to its end.
const LAST_LINES: usize = 40;

/// Lines that tell what failed; where every scenario fails, the first say enough.
const DETAIL_LINES: usize = 120;

/// What Linux says when it is in trouble itself.
const CRASHES: [&str; 5] =
    ["Kernel panic", "Oops: ", "BUG: ", "general protection fault", "Unable to handle kernel"];

/// What the console of one machine has said so far.
#[derive(Debug, Default)]
pub(super) struct Console {
    pub(super) scenarios: Scenarios,
    pub(super) recordings: Recordings,
    calls: Calls,
    /// The machine has said that it runs no scenarios.
    has_no_tests: bool,
    /// The status of the job, once the machine has said it.
    status: Option<i32>,
    warned: bool,
    crash: Option<String>,
    last_lines: VecDeque<String>,
}

impl Console {
    pub(super) fn read(&mut self, line: &str) {
        self.scenarios.read(line);
        self.calls.read(line);
        self.recordings.read(line);
        self.has_no_tests |= line == "VM-NO-TESTS";
        if let Some(status) = line.strip_prefix("VM-EXIT ") {
            self.status = status.parse().ok();
        }
        self.warned |= line == "VM-WARNED";
        if CRASHES.iter().any(|crash| line.contains(crash)) {
            self.crash.get_or_insert_with(|| line.to_owned());
        }
        self.last_lines.push_back(line.to_owned());
        if self.last_lines.len() > LAST_LINES {
            self.last_lines.pop_front();
        }
    }
}

/// How a machine fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    /// Some scenarios failed, and the machine is well.
    Failed,
    /// The scenarios passed, but `check` or `watch` said what is not expected on this kernel.
    Unexpected,
    /// The job ended with this status for another reason: it was killed, or could not start.
    Broke(i32),
    /// The kernel is in trouble, and said this.
    Crashed(String),
    /// The kernel complained, but went on.
    Warned,
    /// Time was up.
    Hung,
    /// It turned itself off without having said how its job ended.
    Silent,
}

impl Verdict {
    fn of(end: End, console: &Console) -> Self {
        let scenarios = &console.scenarios;
        match (console.status, &console.crash, end) {
            (None, Some(crash), _) => Self::Crashed(crash.clone()),
            (None, None, End::Off) => Self::Silent,
            _ if !scenarios.failed.is_empty() => Self::Failed,
            // Also one that has done its job, and does not turn itself off.
            (_, None, End::TimeIsUp) => Self::Hung,
            (Some(0), ..)
                if scenarios.ended() == scenarios.planned
                    && (scenarios.planned > 0 || console.has_no_tests) =>
            {
                if console.warned {
                    Self::Warned
                } else {
                    Self::Passed
                }
            }
            (Some(status), ..) => Self::Broke(status),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Passed => "passed".to_owned(),
            Self::Failed => "FAILED".to_owned(),
            Self::Unexpected => "UNEXPECTED: see what check says of it".to_owned(),
            Self::Broke(status) => format!("BROKE: the job ended with status {status}"),
            Self::Crashed(how) => format!("CRASHED: {how}"),
            Self::Warned => "WARNED: the kernel complained, see the log".to_owned(),
            Self::Hung => "HUNG: its time was up".to_owned(),
            Self::Silent => "DIED without a word".to_owned(),
        }
    }
}

/// What came of one machine.
pub(super) struct Report {
    variant: Variant,
    /// The kernel that it was.
    release: String,
    scenarios: Scenarios,
    calls: Calls,
    /// What `check` and `watch` should have said, and what they said.
    unexpected: Vec<String>,
    verdict: Verdict,
    wall: Duration,
    log: PathBuf,
    last_lines: VecDeque<String>,
}

impl Report {
    pub(super) fn new(
        variant: Variant,
        release: String,
        (end, wall): (End, Duration),
        console: Console,
        log: PathBuf,
    ) -> Self {
        let mut unexpected = expected::differences(&variant, &console.calls);
        if let Tests::Matching(filters) = &variant.tests {
            let unmatched = filters.iter().filter(|filter| !console.scenarios.has(filter));
            unexpected.extend(unmatched.map(|filter| format!("no scenario is called {filter}")));
        }
        let verdict = match Verdict::of(end, &console) {
            Verdict::Passed if !unexpected.is_empty() => Verdict::Unexpected,
            verdict => verdict,
        };
        let Console { scenarios, calls, last_lines, .. } = console;
        Self { variant, release, scenarios, calls, unexpected, verdict, wall, log, last_lines }
    }

    pub(super) const fn variant(&self) -> &Variant {
        &self.variant
    }

    /// The kernel's own version.
    pub(super) fn release(&self) -> &str {
        self.release.split("-cloud").next().unwrap_or(&self.release)
    }

    pub(super) const fn calls(&self) -> &Calls {
        &self.calls
    }

    pub(super) fn passed(&self) -> bool {
        self.verdict == Verdict::Passed
    }

    /// In a few words, for one that did not pass: which it is, and what failed there.
    pub(super) fn failure(&self) -> Option<String> {
        let Self { variant, scenarios, verdict, .. } = self;
        match verdict {
            Verdict::Passed => None,
            Verdict::Failed => Some(format!("{variant}: {}", scenarios.failed.join(", "))),
            verdict => Some(format!("{variant}: {}", verdict.text())),
        }
    }

    /// What is to be said of it when it ends.
    pub(super) fn text(&self) -> String {
        let Self { variant, release, scenarios, verdict, wall, .. } = self;
        let mut text = format!(
            "{variant}: {}, {} of {} scenarios in {} s ({release})",
            verdict.text(),
            scenarios.passed,
            scenarios.planned,
            wall.as_secs()
        );
        for line in &self.unexpected {
            // Writing to a string cannot fail.
            let _written = write!(text, "\n    {line}");
        }
        if let Some(slowest) = scenarios.slowest() {
            let _written = write!(text, "\n    slowest, by its own clock: {slowest}");
        }
        let lines: Vec<&String> = match verdict {
            Verdict::Passed => return text,
            Verdict::Unexpected => Vec::new(),
            Verdict::Failed => scenarios.details.iter().take(DETAIL_LINES).collect(),
            _ => self.last_lines.iter().collect(),
        };
        for line in lines {
            let _written = write!(text, "\n    | {line}");
        }
        let _written = write!(text, "\n    all of its console: {}", self.log.display());
        text
    }
}

/// A line per machine, in the order of the matrix.
pub(super) fn table(reports: &[Report]) -> String {
    let mut table = format!(
        "{:<14} {:<8} {:<11} {:>6} {:>6} {:>6}  {}",
        "KERNEL", "ARCH", "FAMILY", "PASSED", "FAILED", "TIME", "VERDICT"
    );
    for report in reports {
        let Report { variant, scenarios, verdict, wall, .. } = report;
        let Variant { arch, family, conditions, .. } = variant;
        let kernel = report.release();
        let special = conditions.to_string();
        let gap = if special.is_empty() { "" } else { "; " };
        let _written = write!(
            table,
            "\n{kernel:<14} {:<8} {:<11} {:>6} {:>6} {:>4} s  {}{gap}{special}",
            arch.name(),
            family.name(),
            scenarios.passed,
            scenarios.planned - scenarios.passed.min(scenarios.planned),
            wall.as_secs(),
            verdict.text(),
        );
    }
    table
}

/// That a broken scenario turned a machine red on every kernel.
pub(super) fn is_noticed_everywhere(reports: &[Report]) -> anyhow::Result<()> {
    let kernels: BTreeSet<String> = reports
        .iter()
        .map(|Report { variant, .. }| format!("{} {}", variant.kernel, variant.arch.name()))
        .collect();
    let noticed: BTreeSet<String> = reports
        .iter()
        .filter(|report| report.verdict == Verdict::Failed)
        .map(|Report { variant, .. }| format!("{} {}", variant.kernel, variant.arch.name()))
        .collect();
    let unnoticed: Vec<&String> = kernels.difference(&noticed).collect();
    ensure!(unnoticed.is_empty(), "the broken scenario failed nowhere on {unnoticed:?}");
    println!("the broken scenario failed on every kernel");
    Ok(())
}

/// Tells those who wait how far a machine is.
pub(super) fn follow<'n>(variant: &'n Variant, console: &'n mut Console) -> impl FnMut(News<'_>) + 'n {
    move |news| match news {
        News::Line(line) => console.read(line),
        News::Heartbeat(age) => {
            let Scenarios { planned, failed, .. } = &console.scenarios;
            println!(
                "{variant}: {} of {planned} scenarios, {} failed, {} s",
                console.scenarios.ended(),
                failed.len(),
                age.as_secs()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(console: &str, end: End, expected: &Verdict) {
        assert_eq!(Verdict::of(end, &read(console)), *expected, "{console}");
    }

    fn read(lines: &str) -> Console {
        let mut console = Console::default();
        lines.lines().for_each(|line| console.read(line));
        console
    }

    #[test]
    fn a_failed_test_a_crash_and_a_hang_are_told_apart() {
        let begin = "running 2 tests\ntest a::b ... ok\n";
        let check = |rest: &str, end, expected| check(&format!("{begin}{rest}"), end, &expected);
        check("test a::c ... ok\nVM-EXIT 0\n", End::Off, Verdict::Passed);
        check("test a::c ... FAILED\nVM-EXIT 101\n", End::Off, Verdict::Failed);
        check("test a::c ... ok\nVM-WARNED\nVM-EXIT 0\n", End::Off, Verdict::Warned);
        check("Killed\nVM-EXIT 137\n", End::Off, Verdict::Broke(137));
        check("VM-EXIT 0\n", End::Off, Verdict::Broke(0));
        assert_eq!(Verdict::of(End::Off, &read("VM-NO-TESTS\nVM-EXIT 0\n")), Verdict::Passed);
        check(
            "[ 1.2] Kernel panic - not syncing\n",
            End::Off,
            Verdict::Crashed("[ 1.2] Kernel panic - not syncing".to_owned()),
        );
        check("", End::TimeIsUp, Verdict::Hung);
        check("test a::c ... ok\nVM-EXIT 0\n", End::TimeIsUp, Verdict::Hung);
        check("", End::Off, Verdict::Silent);
    }
}
