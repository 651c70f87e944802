//! Which rung each hook is expected to hang on: on every kernel, for every kind of hook, under all conditions.
//!
//! It is said here in other words than in the program: by what a kernel is known to have, where that tries. A rung
//! other than these is a mistake on the one side or the other.

use std::fmt;

use super::{
    Arch, Family,
    check::{Answer, Call, Calls, HookLine, Verb},
    conditions::{Conditions, Sysctl},
    variant::Variant,
};

/// The hooks, the one first without which there is nothing to tell.
pub(super) const HOOKS: [&str; 6] =
    ["state_change", "minisock", "witness", "fin_retransmit", "reset_sent", "reset_received"];

/// What is expected of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) rung: Option<&'static str>,
    pub(super) verdict: &'static str,
}

impl Expected {
    const fn on(rung: &'static str, is_whole: bool) -> Self {
        Self { rung: Some(rung), verdict: if is_whole { "ok" } else { "degraded" } }
    }

    const UNSUPPORTED: Self = Self { rung: None, verdict: "unsupported" };
    const FAILED: Self = Self { rung: None, verdict: "failed" };

    fn is(&self, line: &HookLine) -> bool {
        line.rung.as_deref() == self.rung && line.verdict.as_deref() == Some(self.verdict)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.rung.unwrap_or("-"), self.verdict)
    }
}

/// What a kernel has to offer, under the conditions that it is run under.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Offer {
    btf: bool,
    fentry: bool,
    kprobe: bool,
    /// To attach a kprobe is not forbidden to who may do so little.
    perf_events: bool,
    /// The address of the function that a minisock's timer runs.
    addresses: bool,
    /// Memory that the kernel gives no typed pointer to.
    memory: bool,
    /// `kfree_skb` names the receiving socket.
    drop_receiver: bool,
    /// `tcp_send_reset` has a reason, and fires without a full socket too.
    reset_reason: bool,
}

impl Offer {
    pub(super) fn of(arch: Arch, kernel: &str, conditions: &Conditions) -> Self {
        let series = series(kernel);
        let confidential = conditions.cmdline.contains("lockdown=confidentiality");
        let hides = |sysctl: &Sysctl| sysctl.path().ends_with("kptr_restrict") && sysctl.value() == "2";
        let hidden = conditions.sysctls.iter().any(hides);
        let may = |capability| {
            conditions.capabilities.is_empty()
                || conditions.capabilities.split(',').any(|held| held == capability)
        };
        Self {
            btf: !conditions.without_btf,
            // HAVE_DYNAMIC_FTRACE_WITH_DIRECT_CALLS, <https://elixir.bootlin.com/linux/v6.4/source/arch/arm64/Kconfig>.
            fentry: arch == Arch::X86_64 || series >= (6, 4),
            kprobe: !confidential,
            // With level 3 of kernel.perf_event_paranoid, which Debian adds and begins with, it takes CAP_SYS_ADMIN.
            perf_events: may("CAP_SYS_ADMIN"),
            addresses: may("CAP_SYSLOG") && !hidden,
            memory: !confidential,
            drop_receiver: series >= (6, 12),
            reset_reason: series >= (6, 12),
        }
    }

    /// Whether tcp-close can start, if only this kind may be used.
    pub(super) fn starts(self, family: Family) -> bool {
        self.expected(HOOKS[0], family).rung.is_some()
    }

    /// What should become of a hook, if only this kind may be used.
    pub(super) fn expected(self, hook: &str, family: Family) -> Expected {
        if !self.btf {
            return Expected::UNSUPPORTED;
        }
        match hook {
            "state_change" => self.state_change(family),
            "minisock" => self.minisock(family),
            "witness" => self.witness(family),
            "reset_sent" => Expected::on("tp_btf", self.reset_reason),
            _ => Expected::on("tp_btf", true),
        }
    }

    const fn state_change(self, family: Family) -> Expected {
        match family {
            Family::Fentry if self.fentry => Expected::on("fentry", false),
            Family::Kprobe if self.kprobe && self.perf_events => Expected::on("kprobe", false),
            Family::Fentry | Family::Kprobe => self.refusal(family),
            _ => Expected::on("tp_btf", true),
        }
    }

    fn minisock(self, family: Family) -> Expected {
        let may = |only| matches!(family, Family::Auto) || family == only;
        if may(Family::Fentry) && self.fentry {
            Expected::on("fentry", true)
        } else if may(Family::Kprobe) && self.kprobe && self.perf_events {
            Expected::on("kprobe", false)
        } else if may(Family::Tracepoint) && self.memory {
            // Without addresses, which timers are minisocks' is learned, and why they are cancelled is not known.
            Expected::on("tp_btf", self.addresses)
        } else {
            self.refusal(family)
        }
    }

    fn witness(self, family: Family) -> Expected {
        let minisock = self.minisock(family);
        if minisock.rung.is_some_and(|rung| rung != "tp_btf") {
            return minisock;
        }
        let may = matches!(family, Family::Auto | Family::Tracepoint);
        if may && self.drop_receiver && self.memory {
            Expected::on("tp_btf", true)
        } else {
            self.refusal(family)
        }
    }

    /// What the kernel does not have is one thing, what it has and refuses another.
    const fn refusal(self, family: Family) -> Expected {
        match family {
            Family::Kprobe if self.kprobe => Expected::FAILED,
            _ => Expected::UNSUPPORTED,
        }
    }
}

/// The numbers of a series, as (6, 12).
fn series(kernel: &str) -> (u32, u32) {
    let number = |text: &str| text.parse().unwrap_or(u32::MAX);
    kernel.split_once('.').map_or((u32::MAX, 0), |(major, minor)| (number(major), number(minor)))
}

/// What tcp-close should have said on this machine and did not.
pub(super) fn differences(variant: &Variant, calls: &Calls) -> Vec<String> {
    let offer = Offer::of(variant.arch, &variant.kernel, &variant.conditions);
    let mut differences = Vec::new();
    for &family in variant.checked() {
        let name = family.name();
        match calls.answer(family) {
            Some(answer) => differences.extend(wrong_hooks(offer, family, answer)),
            None => differences.push(format!("check --probe {name}: it gave no answer")),
        }
        if !calls.ended.iter().any(|call| (call.verb, call.family) == (Verb::Watch, family)) {
            differences.push(format!("watch --probe {name}: it did not end"));
        }
    }
    differences.extend(calls.ended.iter().filter_map(|call| wrong_end(offer, call)));
    differences
}

fn wrong_hooks(offer: Offer, family: Family, answer: &Answer) -> impl Iterator<Item = String> {
    HOOKS.into_iter().filter_map(move |hook| {
        let expected = offer.expected(hook, family);
        let line = answer.hooks.iter().find(|line| line.hook == hook);
        if line.is_some_and(|line| expected.is(line)) {
            return None;
        }
        let said = line.map_or_else(|| "nothing".to_owned(), HookLine::to_string);
        Some(format!("check --probe {}: {hook} should be {expected}, it says {said}", family.name()))
    })
}

/// `check` tells by its status whether every hook holds, `watch` whether it can start; then one line says why not.
fn wrong_end(offer: Offer, call: &Call) -> Option<String> {
    let Call { verb, family, status, complaints, .. } = call;
    let has = |hook| offer.expected(hook, *family).rung.is_some();
    // Who starts has a line for each hook that is not whole; who does not has one that says why.
    let (name, expected, lines) = match verb {
        Verb::Check => ("check", i32::from(!HOOKS.into_iter().all(has)), 0..=0),
        Verb::Watch if offer.starts(*family) => ("watch", 0, 0..=HOOKS.len()),
        Verb::Watch => ("watch", 3, 1..=1),
    };
    if *status == expected && lines.contains(&complaints.len()) {
        return None;
    }
    let should =
        format!("{name} --probe {} should end with {expected}, it ended with {status}", family.name());
    Some([&[should], &**complaints].concat().join("\n        "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::variant::Tests;

    #[track_caller]
    fn check(kernel: &str, arch: Arch, conditions: &Conditions, hook: &str, expected: [&str; 4]) {
        let offer = Offer::of(arch, kernel, conditions);
        let all = Family::EVERY.map(|family| offer.expected(hook, family).to_string());
        assert_eq!(all, expected, "{hook} on {kernel}");
    }

    #[test]
    fn a_rung_is_expected_where_the_kernel_has_it() {
        let usual = Conditions::default();
        let x86 = |kernel, hook, expected| check(kernel, Arch::X86_64, &usual, hook, expected);
        let arm = |kernel, hook, expected| check(kernel, Arch::Aarch64, &usual, hook, expected);
        let minisock = ["fentry ok", "tp_btf ok", "fentry ok", "kprobe degraded"];
        x86("5.10", "minisock", minisock);
        x86("5.10", "witness", ["fentry ok", "- unsupported", "fentry ok", "kprobe degraded"]);
        x86("6.12", "witness", minisock);
        arm("6.1", "minisock", ["kprobe degraded", "tp_btf ok", "- unsupported", "kprobe degraded"]);
        arm("7.2", "minisock", minisock);
    }

    #[test]
    fn another_rung_is_told() {
        let variant = Variant {
            kernel: "6.12".to_owned(),
            arch: Arch::X86_64,
            family: Family::Auto,
            conditions: Conditions::default(),
            tests: Tests::AllBut(Vec::new()),
        };
        let line = |hook: &str, rung| {
            format!(
                "{{\"hook\":\"{hook}\",\"rung\":\"{rung}\",\"verdict\":\"ok\",\"detail\":null,\"lost\":null}}"
            )
        };
        let hooks = ["state_change", "fin_retransmit", "reset_sent", "reset_received"];
        let mut lines: Vec<String> = hooks.iter().map(|hook| line(hook, "tp_btf")).collect();
        lines.extend([line("minisock", "fentry"), line("witness", "tp_btf")]);
        let mut calls = Calls::default();
        calls.read(&format!("VM-CHECK auto 0 {{\"hooks\":[{}]}}", lines.join(",")));
        calls.read("VM-WATCH auto | it is cold");
        calls.read("VM-WATCH auto 3");
        assert_eq!(
            differences(&variant, &calls),
            [
                "check --probe auto: witness should be fentry ok, it says witness tp_btf ok",
                "watch --probe auto should end with 0, it ended with 3\n        it is cold",
            ]
        );
        assert_eq!(
            differences(&variant, &Calls::default()),
            ["check --probe auto: it gave no answer", "watch --probe auto: it did not end"]
        );
    }
}
