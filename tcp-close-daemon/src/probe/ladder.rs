//! One ladder of rungs per question: the best one the kernel takes is found by trying, never by version.
//!
//! To add a rung, add a [`Step`] to its hook's ladder; to add a hook, add it to [`Hook`] and give it a ladder.

use aya::{
    Btf, Ebpf,
    programs::{Program, ProgramError},
};

use super::{Preflight, ProbeSettings};

/// A question about a close that the kernel can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// When does a minisock begin, restart, end, and why?
    Minisock,
    /// Which segments does a minisock deal with?
    Witness,
    /// When is a FIN sent again?
    FinRetransmit,
    /// When is a reset sent, and why?
    ResetSent,
    /// When is a reset received?
    ResetReceived,
    /// When does a socket change its state?
    StateChange,
}

impl Hook {
    /// Every hook, in the order of attachment: state changes last, so that nothing they announce is missed.
    pub const ALL: [Self; 6] = [
        Self::Witness,
        Self::Minisock,
        Self::FinRetransmit,
        Self::ResetSent,
        Self::ResetReceived,
        Self::StateChange,
    ];

    /// Name in `check`, labels and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minisock => "minisock",
            Self::Witness => "witness",
            Self::FinRetransmit => "fin_retransmit",
            Self::ResetSent => "reset_sent",
            Self::ResetReceived => "reset_received",
            Self::StateChange => "state_change",
        }
    }

    /// Whether there is nothing to tell without it.
    pub const fn is_essential(self) -> bool {
        matches!(self, Self::StateChange)
    }

    /// What is lost without it.
    pub const fn loss(self) -> &'static str {
        match self {
            Self::Minisock => "TIME-WAIT: when it begins and ends, and why; where a socket goes after CLOSE",
            Self::Witness => {
                "segments that TIME-WAIT absorbs: final ACKs lost, strays; flips and restarts are inferred from the timer"
            }
            Self::FinRetransmit => "retransmitted FINs",
            Self::ResetSent => "resets sent: an abort looks like an unknown end",
            Self::ResetReceived => "resets received, except by the socket's error",
            Self::StateChange => "everything",
        }
    }

    const fn ladder(self) -> &'static [Step] {
        match self {
            Self::Minisock => {
                const {
                    &[Step {
                        rung: Rung::TpBtf,
                        programs: &[
                            ("timer_expire_entry", "timer_expire_entry"),
                            ("timer_cancel", "timer_cancel"),
                            ("timer_start", "timer_start"),
                        ],
                    }]
                }
            }
            Self::FinRetransmit => {
                const { &[Step { rung: Rung::TpBtf, programs: &[("tcp_retransmit_skb", "tcp_retransmit_skb")] }] }
            }
            Self::ResetSent => {
                const { &[Step { rung: Rung::TpBtf, programs: &[("tcp_send_reset", "tcp_send_reset")] }] }
            }
            Self::ResetReceived => {
                const { &[Step { rung: Rung::TpBtf, programs: &[("tcp_receive_reset", "tcp_receive_reset")] }] }
            }
            Self::StateChange => {
                const {
                    &[Step {
                        rung: Rung::TpBtf,
                        programs: &[
                            ("state_by_owner", "inet_sock_set_state"),
                            ("state_by_softirq", "inet_sock_set_state"),
                            ("state_by_softirq_again", "inet_sock_set_state"),
                        ],
                    }]
                }
            }
            Self::Witness => const { &[Step { rung: Rung::TpBtf, programs: &[("kfree_skb", "kfree_skb")] }] },
        }
    }
}

/// Whether what this program does not take, because it is running on that CPU already, another takes in its place:
/// see `tcp-close-ebpf/src/inet_sock_set_state.rs`.
pub(super) fn is_made_up_for(program: &str) -> bool {
    let steps = Hook::StateChange.ladder().iter();
    steps.flat_map(|step| step.programs).any(|&(name, _)| name == program)
}

/// A way to attach, and the programs it takes, each with what it attaches to.
struct Step {
    rung: Rung,
    programs: &'static [(&'static str, &'static str)],
}

/// A way to attach a program to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// A tracepoint with typed arguments (`BPF_TRACE_RAW_TP`, Linux 5.5).
    TpBtf,
}

impl Rung {
    /// Name in `check` and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
        }
    }

    const fn family(self) -> Family {
        match self {
            Self::TpBtf => Family::Tracepoint,
        }
    }
}

/// Which rungs may be taken (`--probe`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// The best one the kernel takes, for each hook.
    #[default]
    Auto,
    /// Tracepoints only.
    Tracepoint,
}

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
    /// Why it is not [`Verdict::Ok`], in one sentence.
    pub detail: Option<String>,
}

/// Attaches every hook.
pub(super) fn climb(ebpf: &mut Ebpf, preflight: &Preflight, settings: &ProbeSettings) -> Vec<HookReport> {
    let wanted = Hook::ALL.into_iter().filter(|&hook| settings.witness || hook != Hook::Witness);
    let btf = match Btf::from_sys_fs() {
        Ok(btf) => btf,
        Err(error) => {
            let detail = Some(format!("cannot read kernel BTF: {error}"));
            let failed =
                |hook| HookReport { hook, rung: None, verdict: Verdict::Failed, detail: detail.clone() };
            return wanted.map(failed).collect();
        }
    };
    wanted.map(|hook| attach(ebpf, &btf, hook, preflight, settings.family)).collect()
}

fn attach(ebpf: &mut Ebpf, btf: &Btf, hook: Hook, preflight: &Preflight, family: Family) -> HookReport {
    if let Some(detail) = preflight.obstacle(hook) {
        return HookReport { hook, rung: None, verdict: Verdict::Unsupported, detail: Some(detail) };
    }
    let mut reasons = Vec::new();
    let mut verdict = Verdict::Unsupported;
    for step in hook.ladder().iter().filter(|step| family == Family::Auto || step.rung.family() == family) {
        match take_step(ebpf, btf, step) {
            Ok(()) => {
                return HookReport { hook, rung: Some(step.rung), verdict: Verdict::Ok, detail: None };
            }
            Err(refusal) => {
                if !refusal.unsupported {
                    verdict = Verdict::Failed;
                }
                reasons.push(format!("{}: {}", step.rung.name(), refusal.reason));
            }
        }
    }
    HookReport { hook, rung: None, verdict, detail: Some(reasons.join("; ")) }
}

/// Why a rung does not hold.
struct Refusal {
    /// The kernel does not have what it takes, as opposed to refusing it.
    unsupported: bool,
    reason: String,
}

/// Loads and attaches all programs of a step, or none.
fn take_step(ebpf: &mut Ebpf, btf: &Btf, step: &Step) -> Result<(), Refusal> {
    for (done, (name, target)) in step.programs.iter().enumerate() {
        if let Err(refusal) = load_and_attach(ebpf, btf, name, target) {
            for (name, _) in step.programs.iter().take(done) {
                unload(ebpf, name);
            }
            return Err(refusal);
        }
    }
    Ok(())
}

fn load_and_attach(ebpf: &mut Ebpf, btf: &Btf, name: &str, target: &str) -> Result<(), Refusal> {
    let Some(Program::BtfTracePoint(program)) = ebpf.program_mut(name) else {
        return Err(Refusal { unsupported: true, reason: format!("the object has no program {name}") });
    };
    program.load(target, btf).map_err(|error| refusal(name, &error))?;
    program.attach().map_err(|error| refusal(name, &error))?;
    Ok(())
}

/// The kernel's word in one sentence; the verifier's log, which can be thousands of lines, goes to the debug log.
fn refusal(name: &str, error: &ProgramError) -> Refusal {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            tracing::debug!(program = name, %verifier_log, "the kernel's verifier refused a program");
            Refusal { unsupported: false, reason: format!("the kernel refuses program {name}: {io_error}") }
        }
        ProgramError::Btf(error) => {
            Refusal { unsupported: true, reason: format!("the kernel has no tracepoint {name}: {error}") }
        }
        error => Refusal { unsupported: false, reason: format!("cannot attach program {name}: {error}") },
    }
}

fn unload(ebpf: &mut Ebpf, name: &str) {
    if let Some(Program::BtfTracePoint(program)) = ebpf.program_mut(name)
        && let Err(error) = program.unload()
    {
        tracing::warn!(program = name, %error, "cannot take a program back");
    }
}
