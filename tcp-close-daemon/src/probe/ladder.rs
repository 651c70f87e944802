//! The best rung that the kernel takes is found by trying, for each hook: by load and attach, never by version.

use std::fs;

use aya::{
    Btf, Ebpf,
    programs::{Program, ProgramError},
};

use crate::{kernel::lockdown::Lockdown, sentence::sentence};

use super::{
    Identity, Preflight, ProbeSettings,
    hook::{Attachment, Hook, Rung, Step, Tells},
};

/// What became of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Attached, and nothing is lost.
    Ok,
    /// Attached, and something is lost.
    Degraded,
    /// The kernel does not have it, or hides what it takes.
    Unsupported,
    /// The kernel has it and refused it.
    Failed,
}

impl Verdict {
    /// Name in `check` and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
        }
    }
}

/// What became of a hook, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookReport {
    /// The hook.
    pub hook: Hook,
    /// The rung it hangs on; `None` if on none.
    pub rung: Option<Rung>,
    /// The verdict.
    pub verdict: Verdict,
    /// Why it is on no better rung, or on none: what the kernel said to each of them.
    pub detail: Option<String>,
    /// What is lost, if anything is.
    pub lost: Option<&'static str>,
}

impl HookReport {
    fn none(hook: Hook, verdict: Verdict, detail: String) -> Self {
        let detail = Some(detail).filter(|detail| !detail.is_empty());
        Self { hook, rung: None, verdict, detail, lost: Some(hook.loss()) }
    }

    /// This report, with what was said on better rungs before.
    fn after(self, better: &Self) -> Self {
        let details = better.detail.iter().chain(&self.detail);
        let detail = details.cloned().reduce(|better, here| better + "; " + &here);
        let failed = self.rung.is_none() && better.verdict == Verdict::Failed;
        let verdict = if failed { Verdict::Failed } else { self.verdict };
        Self { verdict, detail, ..self }
    }

    fn on(hook: Hook, step: &Step, tells: Tells, detail: Option<String>) -> Self {
        let lost = (step.lost)(tells);
        let verdict = if lost.is_some() { Verdict::Degraded } else { Verdict::Ok };
        Self { hook, rung: Some(step.rung), verdict, detail, lost }
    }
}

/// Attaches every hook.
pub(super) fn climb(
    ebpf: &mut Ebpf,
    preflight: &Preflight,
    settings: &ProbeSettings,
    identity: Identity,
) -> Vec<HookReport> {
    match &preflight.targets {
        Ok(targets) => Climber { ebpf, targets, preflight, settings, identity }.climb(),
        Err(error) => {
            let failed =
                |hook| HookReport::none(hook, Verdict::Failed, format!("cannot read kernel BTF: {error}"));
            wanted(settings).map(failed).collect()
        }
    }
}

fn wanted(settings: &ProbeSettings) -> impl Iterator<Item = Hook> {
    let witness = settings.witness;
    Hook::ALL.into_iter().filter(move |&hook| witness || hook != Hook::Witness)
}

struct Climber<'a> {
    ebpf: &'a mut Ebpf,
    targets: &'a Btf,
    preflight: &'a Preflight,
    settings: &'a ProbeSettings,
    identity: Identity,
}

impl Climber<'_> {
    fn climb(mut self) -> Vec<HookReport> {
        // The functions that tell of minisocks tell of their segments too. Tracepoints for segments come first:
        // whatever begins from then on, nothing of it is missed.
        let by_function = self.attach(Hook::Minisock, Rung::is_function);
        wanted(self.settings)
            .map(|hook| match (hook, by_function.rung) {
                (Hook::Minisock, Some(_)) => by_function.clone(),
                (Hook::Witness, Some(_)) => self.attach(hook, |rung| Some(rung) == by_function.rung),
                (Hook::Minisock | Hook::Witness, None) => {
                    self.attach(hook, |rung| !rung.is_function()).after(&by_function)
                }
                _ => self.attach(hook, |_| true),
            })
            .collect()
    }

    /// Attaches a hook by the best of these rungs that holds.
    fn attach(&mut self, hook: Hook, among: impl Fn(Rung) -> bool) -> HookReport {
        let mut reasons = Vec::new();
        let mut verdict = Verdict::Unsupported;
        let steps = hook.ladder().iter();
        for step in steps.filter(|step| among(step.rung) && self.settings.family.allows(hook, step.rung)) {
            match self.take_step(step) {
                Ok(()) => {
                    let detail = (!reasons.is_empty()).then(|| reasons.join("; "));
                    return HookReport::on(hook, step, self.preflight.tells, detail);
                }
                Err(mut refusal) => {
                    if reads_memory(hook, step.rung) && self.preflight.lockdown == Lockdown::Confidentiality {
                        refusal = Refusal { unsupported: true, reason: LOCKED_DOWN.to_owned() };
                    }
                    if !refusal.unsupported {
                        verdict = Verdict::Failed;
                    }
                    let reason = format!("{}: {}", step.rung.name(), refusal.reason);
                    // Two steps of one rung may be refused for one reason.
                    if !reasons.contains(&reason) {
                        reasons.push(reason);
                    }
                }
            }
        }
        HookReport::none(hook, verdict, reasons.join("; "))
    }

    /// Loads and attaches all programs of a step, or none.
    fn take_step(&mut self, step: &Step) -> Result<(), Refusal> {
        if let Some(reason) = self.preflight.obstacle(step.needs, self.identity) {
            return Err(Refusal { unsupported: true, reason });
        }
        for (done, alternatives) in step.programs.iter().enumerate() {
            if let Err(refusal) = self.attach_one_of(alternatives) {
                for &(name, _) in step.programs.iter().take(done).copied().flatten() {
                    unload(self.ebpf, name);
                }
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// Loads and attaches the first of these programs whose target the kernel has.
    fn attach_one_of(&mut self, alternatives: &[Attachment]) -> Result<(), Refusal> {
        let mut refused = None;
        for &attachment in alternatives {
            match self.load_and_attach(attachment) {
                Ok(()) => return Ok(()),
                Err(refusal) => {
                    unload(self.ebpf, attachment.0);
                    let unsupported = refusal.unsupported;
                    // What the kernel has and refuses says more than what it does not have.
                    if !unsupported || refused.is_none() {
                        refused = Some(refusal);
                    }
                    if !unsupported {
                        break;
                    }
                }
            }
        }
        let none = || Refusal { unsupported: true, reason: "there is nothing to attach".to_owned() };
        Err(refused.unwrap_or_else(none))
    }

    fn load_and_attach(&mut self, (name, target): Attachment) -> Result<(), Refusal> {
        let refuse = |error| refusal(name, target, &error);
        match self.ebpf.program_mut(name) {
            Some(Program::BtfTracePoint(program)) => {
                program.load(target, self.targets).map_err(refuse)?;
                program.attach().map_err(refuse)?;
            }
            Some(Program::FEntry(program)) => {
                program.load(target, self.targets).map_err(refuse)?;
                program.attach().map_err(refuse)?;
            }
            Some(Program::FExit(program)) => {
                program.load(target, self.targets).map_err(refuse)?;
                program.attach().map_err(refuse)?;
            }
            Some(Program::KProbe(program)) => {
                if !self.preflight.kprobes {
                    return Err(Refusal {
                        unsupported: true,
                        reason: "the kernel has no kprobes".to_owned(),
                    });
                }
                if !self.preflight.has_function(target) {
                    return Err(Refusal {
                        unsupported: true,
                        reason: format!("the kernel has no {target} for program {name}"),
                    });
                }
                program.load().map_err(refuse)?;
                program.attach(target, 0).map_err(refuse)?;
            }
            _ => {
                return Err(Refusal {
                    unsupported: true,
                    reason: format!("the object has no program {name}"),
                });
            }
        }
        Ok(())
    }
}

/// Why the kernel refuses what [`reads_memory`].
const LOCKED_DOWN: &str =
    "lockdown=confidentiality lets nobody attach a kprobe, nor read kernel memory by address";

/// Whether the programs of this rung read kernel memory by address, not by its type.
const fn reads_memory(hook: Hook, rung: Rung) -> bool {
    matches!((hook, rung), (_, Rung::Kprobe) | (Hook::Minisock | Hook::Witness, Rung::TpBtf))
}

/// Why a rung does not hold.
struct Refusal {
    /// The kernel does not have what it takes, as opposed to refusing it.
    unsupported: bool,
    reason: String,
}

/// What the kernel answers, though it is meant for itself, where it loads a program for a function and has no
/// trampolines: on aarch64 before 6.4 (`include/linux/errno.h`).
const ENOTSUPP: i32 = 524;

/// The kernel's word in one sentence; the verifier's log, which can be thousands of lines, goes to the debug log.
fn refusal(name: &str, target: &str, error: &ProgramError) -> Refusal {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            tracing::debug!(program = name, %verifier_log, "the kernel's verifier refused a program");
            Refusal { unsupported: false, reason: format!("the kernel refuses program {name}: {io_error}") }
        }
        ProgramError::Btf(error) => Refusal {
            unsupported: true,
            reason: format!("the kernel has no {target} for program {name}: {error}"),
        },
        ProgramError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::EACCES) => Refusal {
            unsupported: false,
            reason: format!(
                "cannot attach program {name}: {}; sysctl kernel.perf_event_paranoid is {}, above 2 it takes CAP_SYS_ADMIN",
                sentence(error),
                perf_event_paranoid()
            ),
        },
        ProgramError::SyscallError(error) if error.io_error.raw_os_error() == Some(ENOTSUPP) => Refusal {
            unsupported: true,
            reason: format!("the kernel has no way to attach program {name} to {target}"),
        },
        error => Refusal {
            unsupported: false,
            reason: format!("cannot attach program {name}: {}", sentence(error)),
        },
    }
}

/// Who may use `perf_event_open`, and with it kprobes; `?` where it cannot be read.
fn perf_event_paranoid() -> String {
    let level = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    level.map_or_else(|_unreadable| "?".to_owned(), |level| level.trim().to_owned())
}

fn unload(ebpf: &mut Ebpf, name: &str) {
    let outcome = match ebpf.program_mut(name) {
        Some(Program::BtfTracePoint(program)) => program.unload(),
        Some(Program::FEntry(program)) => program.unload(),
        Some(Program::FExit(program)) => program.unload(),
        Some(Program::KProbe(program)) => program.unload(),
        _ => Ok(()),
    };
    match outcome {
        // One that was never loaded is none to take back.
        Ok(()) | Err(ProgramError::NotLoaded) => {}
        Err(error) => tracing::warn!(program = name, %error, "cannot take a program back"),
    }
}
