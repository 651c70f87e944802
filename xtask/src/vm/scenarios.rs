//! What libtest says on the console, line by line: which scenarios there are, and how each ended.

/// The scenarios of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scenarios {
    /// How many libtest is about to run, once it has said so; of several programs, all together.
    pub(super) planned: usize,
    pub(super) passed: usize,
    /// The names of those that failed.
    pub(super) failed: Vec<String>,
    /// How long each took by the machine's own clock, in seconds.
    pub(super) times: Vec<(String, f64)>,
    /// What libtest shows of the failed ones at the end.
    pub(super) details: Vec<String>,
    shows_details: bool,
    /// The program that runs has shown them.
    has_shown_details: bool,
}

impl Scenarios {
    /// How many have ended.
    pub(super) const fn ended(&self) -> usize {
        self.passed + self.failed.len()
    }

    /// Whether one that has ended has this in its name.
    pub(super) fn has(&self, part: &str) -> bool {
        let timed = self.times.iter().map(|(name, _)| name);
        timed.chain(&self.failed).any(|name| name.contains(part))
    }

    /// Those that took longest, and all together.
    pub(super) fn slowest(&self) -> Option<String> {
        let mut times = self.times.clone();
        times.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        let all: f64 = times.iter().map(|(_, seconds)| seconds).sum();
        let named: Vec<String> =
            times.iter().take(5).map(|(name, seconds)| format!("{name} {seconds:.1} s")).collect();
        (!named.is_empty()).then(|| format!("{}; all {all:.0} s", named.join(", ")))
    }

    pub(super) fn read(&mut self, line: &str) {
        if line.starts_with("test result: ") {
            self.shows_details = false;
        } else if line == "failures:" {
            // The first time with details, the second time with names only.
            self.shows_details = !std::mem::replace(&mut self.has_shown_details, true);
        } else if self.shows_details {
            self.details.push(line.to_owned());
        } else if let Some(count) = line.strip_prefix("running ").and_then(|rest| rest.split(' ').next()) {
            self.planned += count.parse::<usize>().unwrap_or_default();
            self.has_shown_details = false;
        } else if let Some((name, outcome)) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        {
            let (outcome, time) = outcome.split_once(" <").unwrap_or((outcome, ""));
            if let Some(seconds) = time.strip_suffix("s>").and_then(|time| time.parse().ok()) {
                self.times.push((name.to_owned(), seconds));
            }
            match outcome {
                "ok" => self.passed += 1,
                // What is neither is a failure: nothing of ours is to be ignored.
                _ => self.failed.push(name.to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(console: &str, planned: usize, passed: usize, failed: &[&str], details: usize) {
        let mut scenarios = Scenarios::default();
        console.lines().for_each(|line| scenarios.read(line));
        assert_eq!((scenarios.planned, scenarios.passed), (planned, passed));
        assert_eq!(scenarios.failed, failed);
        assert_eq!(scenarios.details.len(), details, "{:#?}", scenarios.details);
    }

    #[test]
    fn all_passed() {
        let console = "SeaBIOS\n\nrunning 2 tests\ntest a::b ... ok\ntest a::c ... ok <61.250s>\n\n\
                       test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s\n";
        check(console, 2, 2, &[], 0);
    }

    #[test]
    fn some_failed() {
        let console = "running 3 tests\ntest a::b ... FAILED\ntest a::c ... ok\ntest a::d ... FAILED\n\nfailures:\n\n\
                       ---- a::b stdout ----\ntest of nothing ... ok\n\n---- a::d stdout ----\nassertion failed\n\n\n\
                       failures:\n    a::b\n    a::d\n\ntest result: FAILED. 1 passed; 2 failed\n";
        check(console, 3, 1, &["a::b", "a::d"], 8);
    }

    #[test]
    fn one_program_came_after_the_other() {
        let console = "running 2 tests\ntest a::b ... FAILED\ntest a::c ... ok\n\nfailures:\n\n---- a::b stdout ----\n\n\
                       failures:\n    a::b\n\ntest result: FAILED. 1 passed; 1 failed\n\n\
                       running 1 test\ntest d::e ... FAILED\n\nfailures:\n\n---- d::e stdout ----\nassertion failed\n\n\
                       failures:\n    d::e\n\ntest result: FAILED. 0 passed; 1 failed\n";
        check(console, 3, 1, &["a::b", "d::e"], 7);
    }

    #[test]
    fn it_ended_midway() {
        let console = "running 3 tests\ntest a::b ... ok\nKernel panic - not syncing: Fatal exception\n";
        check(console, 3, 1, &[], 0);
    }
}
