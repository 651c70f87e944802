//! `tcp-close check`: what this kernel and this user allow, hook by hook, found by trying; and what the host's own figures
//! call for.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use serde::Serialize;

use self::host::Host;
use super::{Failure, printed};
use crate::{
    cli::{CheckArgs, Output},
    kernel::{btf::VMLINUX, capabilities, lockdown::Lockdown, symbols::KALLSYMS, tick::Hz},
    probe::{Hook, Preflight, Probe, ProbeSettings, Rung, Verdict},
    sentence::sentence,
    settings,
};

mod host;

pub(super) fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let report = Report::make(args);
    let text = match args.output {
        Output::Table => report.table(),
        Output::Json => serde_json::to_string(&report).map_err(|error| Failure::Other(error.into()))? + "\n",
    };
    let success = printed(io::stdout().lock().write_all(text.as_bytes()))?;
    Ok(if report.failed() { ExitCode::FAILURE } else { success })
}

#[derive(Serialize)]
struct Report {
    version: &'static str,
    hooks: Vec<HookLine>,
    facts: Vec<FactLine>,
    #[serde(flatten)]
    host: Host,
}

/// A hook, and what became of it.
#[derive(Serialize)]
struct HookLine {
    hook: &'static str,
    rung: Option<&'static str>,
    /// `None` where it could not be tried.
    verdict: Option<&'static str>,
    detail: Option<String>,
    lost: Option<&'static str>,
}

/// Something the hooks rest on.
#[derive(Serialize)]
struct FactLine {
    fact: &'static str,
    /// `None` where it could not be seen.
    ok: Option<bool>,
    value: String,
    detail: Option<String>,
}

impl Report {
    fn make(args: &CheckArgs) -> Self {
        let missing: Vec<&str> = capabilities::needs()
            .iter()
            .filter(|need| need.required && !need.held)
            .map(|need| need.name)
            .collect();
        let preflight = Preflight::run();
        let hooks = if missing.is_empty() {
            match &preflight {
                Ok(preflight) => tried(preflight, args),
                Err(error) => Hook::ALL
                    .map(|hook| unavailable(hook, Some(Verdict::Unsupported), &sentence(error)))
                    .into(),
            }
        } else {
            let detail = format!("not tried: needs {}", missing.join(" and "));
            Hook::ALL.map(|hook| unavailable(hook, None, &detail)).into()
        };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            hooks,
            facts: facts(preflight.as_ref()),
            host: Host::look(),
        }
    }

    fn failed(&self) -> bool {
        let refused = [Verdict::Failed.name(), Verdict::Unsupported.name()];
        self.hooks.iter().any(|hook| hook.verdict.is_some_and(|verdict| refused.contains(&verdict)))
    }

    fn table(&self) -> String {
        let mut lines = vec![format!("{:<16} {:<8} {:<12} {}", "HOOK", "RUNG", "VERDICT", "DETAIL")];
        for hook in &self.hooks {
            let verdict = hook.verdict.unwrap_or("unknown");
            let why_not = hook.detail.as_deref().filter(|_| hook.rung.is_none()).unwrap_or_default();
            let line = format!("{:<16} {:<8} {verdict:<12} {why_not}", hook.hook, hook.rung.unwrap_or("-"));
            lines.push(line.trim_end().to_owned());
            if let Some(lost) = hook.lost {
                lines.push(format!("{:<38} lost: {lost}", ""));
            }
            if let Some(better) = hook.detail.as_deref().filter(|_| hook.rung.is_some()) {
                lines.push(format!("{:<38} better rungs: {better}", ""));
            }
        }
        lines.push(String::new());
        lines.push(format!("{:<19} {:<8} {:<12} {}", "FACT", "OK", "VALUE", "DETAIL"));
        for fact in &self.facts {
            let ok = fact.ok.map_or("unknown", |ok| if ok { "yes" } else { "no" });
            let detail = fact.detail.as_deref().unwrap_or_default();
            let line = format!("{:<19} {ok:<8} {:<12} {detail}", fact.fact, fact.value);
            lines.push(line.trim_end().to_owned());
        }
        lines.push(String::new());
        lines.push(self.host.table());
        lines.join("\n")
    }
}

/// Every hook, after a real load and attach, all of it taken back at once.
fn tried(preflight: &Preflight, args: &CheckArgs) -> Vec<HookLine> {
    let settings = ProbeSettings {
        family: settings::family(args.probe),
        // One page suffices: nothing is read from it. No namespace has inode number u32::MAX.
        ring_bytes: 4096,
        netns: vec![u32::MAX],
        ..ProbeSettings::default()
    };
    match Probe::try_hooks(preflight, &settings) {
        Ok(reports) => reports
            .into_iter()
            .map(|report| HookLine {
                hook: report.hook.name(),
                rung: report.rung.map(Rung::name),
                verdict: Some(report.verdict.name()),
                lost: report.lost,
                detail: report.detail,
            })
            .collect(),
        Err(error) => {
            Hook::ALL.map(|hook| unavailable(hook, Some(Verdict::Failed), &sentence(&error))).into()
        }
    }
}

fn unavailable(hook: Hook, verdict: Option<Verdict>, detail: &str) -> HookLine {
    HookLine {
        hook: hook.name(),
        rung: None,
        verdict: verdict.map(Verdict::name),
        detail: Some(detail.to_owned()),
        lost: verdict.map(|_| hook.loss()),
    }
}

fn facts<E: std::error::Error>(preflight: Result<&Preflight, &E>) -> Vec<FactLine> {
    let mut facts = vec![match preflight {
        Ok(_) => fact("btf", Some(true), VMLINUX, None),
        Err(error) => fact("btf", Some(false), "no", Some(sentence(error))),
    }];
    facts.push(match preflight.map(Preflight::addresses_error) {
        Ok(None) => fact("kallsyms", Some(true), KALLSYMS, None),
        Ok(Some(error)) => fact("kallsyms", Some(false), "hidden", Some(error.to_owned())),
        Err(_) => fact("kallsyms", None, "not read", None),
    });
    facts.push(fact("hz", Some(true), &Hz::running().get().to_string(), Some(slack())));
    let lockdown = Lockdown::running();
    let (ok, detail) = match lockdown {
        Lockdown::None | Lockdown::Integrity => (Some(true), None),
        Lockdown::Confidentiality => (
            Some(false),
            Some(
                "no kprobes, and no reading of kernel memory by address, which tracepoints of minisocks take; trampolines are not affected"
                    .to_owned(),
            ),
        ),
        Lockdown::Unknown => {
            (None, Some("no lockdown LSM, securityfs not mounted, or no permission to read it".to_owned()))
        }
    };
    facts.push(fact("lockdown", ok, lockdown.name(), detail));
    for need in capabilities::needs() {
        let detail = format!("to {}", need.purpose);
        facts.push(fact(
            need.name,
            Some(need.held),
            if need.held { "held" } else { "missing" },
            Some(detail),
        ));
    }
    facts.push(memlock());
    facts
}

fn slack() -> String {
    let minute = std::time::Duration::from_secs(60);
    format!(
        "a TIME-WAIT of 60 s may last {:.2} s longer by the timer wheel",
        Hz::running().slack(minute).as_secs_f64()
    )
}

/// Kernels before 5.11 charge maps to this limit; later ones to the memory cgroup.
fn memlock() -> FactLine {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let value = limit.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{} KiB", bytes / 1024));
    fact("memlock", Some(true), &value, Some("limits maps on Linux before 5.11 only".to_owned()))
}

fn fact(fact: &'static str, ok: Option<bool>, value: &str, detail: Option<String>) -> FactLine {
    FactLine { fact, ok, value: value.to_owned(), detail }
}
