//! What is asked of the kernel, and the ways to ask: one ladder of rungs per question, best first.
//!
//! To add a rung, add a [`Step`] to its hook's ladder; to add a hook, add it to [`Hook`] and give it a ladder.
//! What is lost on a step that holds stands with the step, and nowhere else.

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

    /// The ways to ask it, best first.
    pub(super) const fn ladder(self) -> &'static [Step] {
        match self {
            Self::Minisock => MINISOCK,
            Self::Witness => WITNESS,
            Self::FinRetransmit => {
                const { &[Step::new(Rung::TpBtf, &[&[("tcp_retransmit_skb", "tcp_retransmit_skb")]])] }
            }
            Self::ResetSent => {
                const {
                    &[Step {
                        lost: |tells| {
                            (!tells.reset_reason).then_some(
                            "resets that answer a segment to a minisock or to no socket, and every reason: Linux before 6.12 does not tell of them",
                        )
                        },
                        ..Step::new(
                            Rung::TpBtf,
                            &[
                                &[("tcp_send_reset_1", "tcp_send_reset")],
                                &[("tcp_send_reset_2", "tcp_send_reset")],
                            ],
                        )
                    }]
                }
            }
            Self::ResetReceived => {
                const {
                    &[Step::new(
                        Rung::TpBtf,
                        &[
                            &[("tcp_receive_reset_1", "tcp_receive_reset")],
                            &[("tcp_receive_reset_2", "tcp_receive_reset")],
                            &[("tcp_receive_reset_3", "tcp_receive_reset")],
                        ],
                    )]
                }
            }
            Self::StateChange => STATE_CHANGE,
        }
    }
}

/// What this kernel tells our programs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tells {
    /// `tcp_send_reset` has a reason, and fires without a full socket too.
    pub(super) reset_reason: bool,
    /// `kfree_skb` names the receiving socket.
    pub(super) drop_receiver: bool,
    /// A tracing program may ask for a socket's cookie. Where it may not, there is no need to find that out by attaching
    /// everything and taking it all back.
    pub(super) cookie: bool,
}

const STATE_CHANGE: &[Step] = &[
    Step::new(
        Rung::TpBtf,
        &[
            &[("state_1", "inet_sock_set_state")],
            &[("state_2", "inet_sock_set_state")],
            &[("state_3", "inet_sock_set_state")],
        ],
    ),
    Step {
        lost: |_| {
            Some(
                "LISTEN > SYN_RECV and CLOSE > LISTEN, which do not pass through tcp_set_state and belong to no close; who opened what is accepted",
            )
        },
        ..Step::new(
            Rung::Fentry,
            // Of a function's programs, the one that was attached last is run first (`bpf_trampoline_link_prog`).
            &[
                &[("fentry_tcp_set_state_3", "tcp_set_state")],
                &[("fentry_tcp_set_state_2", "tcp_set_state")],
                &[("fentry_tcp_set_state_1", "tcp_set_state")],
            ],
        )
    },
    Step {
        lost: |_| {
            Some(
                "LISTEN > SYN_RECV and CLOSE > LISTEN; who opened what is accepted; socket cookies; changes while another kprobe runs on that CPU, which is counted from Linux 6.17 on",
            )
        },
        needs: Needs::AddressIdentity,
        ..Step::new(Rung::Kprobe, &[&[("kprobe_tcp_set_state", "tcp_set_state")]])
    },
];

const LOST_TO_OTHER_KPROBES: Lost =
    |_| Some("what happens while another kprobe runs on that CPU, which is counted from Linux 6.17 on");

/// On the rungs by function, what tells why a minisock ends is attached before its end, and that before its beginning.
const MINISOCK: &[Step] = &[
    Step::new(
        Rung::Fentry,
        &[
            &[("fentry_tw_timer_handler", "tw_timer_handler")],
            &[("fexit_tcp_twsk_unique", "tcp_twsk_unique")],
            &[("fentry_tcp_abort", "tcp_abort")],
            &[("fentry_inet_twsk_purge", "inet_twsk_purge")],
            &[("fexit_inet_twsk_purge", "inet_twsk_purge")],
            &[("fexit_tcp_timewait_state_process", "tcp_timewait_state_process")],
            &[("fentry_tcp_timewait_state_process", "tcp_timewait_state_process")],
            &[("fentry_inet_twsk_kill", "inet_twsk_kill")],
            &[("fentry_inet_twsk_schedule", "__inet_twsk_schedule")],
            &[
                ("fentry_inet_twsk_hashdance_schedule", "inet_twsk_hashdance_schedule"),
                ("fentry_inet_twsk_hashdance", "inet_twsk_hashdance"),
            ],
        ],
    ),
    Step {
        lost: LOST_TO_OTHER_KPROBES,
        ..Step::new(
            Rung::Kprobe,
            &[
                &[("kprobe_tw_timer_handler", "tw_timer_handler")],
                &[("kretprobe_tcp_twsk_unique", "tcp_twsk_unique")],
                &[("kprobe_tcp_twsk_unique", "tcp_twsk_unique")],
                &[("kprobe_tcp_abort", "tcp_abort")],
                &[("kprobe_inet_twsk_purge", "inet_twsk_purge")],
                &[("kretprobe_inet_twsk_purge", "inet_twsk_purge")],
                &[("kretprobe_tcp_timewait_state_process", "tcp_timewait_state_process")],
                &[("kprobe_tcp_timewait_state_process", "tcp_timewait_state_process")],
                &[("kprobe_inet_twsk_kill", "inet_twsk_kill")],
                &[("kprobe_inet_twsk_schedule", "__inet_twsk_schedule")],
                &[
                    ("kprobe_inet_twsk_hashdance_schedule", "inet_twsk_hashdance_schedule"),
                    ("kprobe_inet_twsk_hashdance", "inet_twsk_hashdance"),
                ],
            ],
        )
    },
    Step { needs: Needs::KernelAddresses, ..Step::new(Rung::TpBtf, TIMERS) },
    Step {
        lost: |_| Some("why a minisock ended, unless its time was up"),
        ..Step::new(Rung::TpBtf, TIMERS_AND_LEARNING)
    },
];

const TIMERS: &[&[Attachment]] = &[
    &[("timer_expire_entry", "timer_expire_entry")],
    &[("timer_cancel", "timer_cancel")],
    &[("timer_start", "timer_start")],
];

/// The same where the kernel hides which timers are minisocks'.
const TIMERS_AND_LEARNING: &[&[Attachment]] =
    &[TIMERS[0], TIMERS[1], TIMERS[2], &[("learn_tw_timer_handler", "inet_sock_set_state")]];

/// The functions that tell of minisocks tell of their segments too, so those rungs have no programs of their own here.
const WITNESS: &[Step] = &[
    Step::new(Rung::Fentry, &[]),
    Step { lost: LOST_TO_OTHER_KPROBES, ..Step::new(Rung::Kprobe, &[]) },
    Step { needs: Needs::DropReceiver, ..Step::new(Rung::TpBtf, &[&[("kfree_skb", "kfree_skb")]]) },
];

/// A program of the kernel side, and what it attaches to.
pub(super) type Attachment = (&'static str, &'static str);

/// What is lost on a step, given what this kernel tells; nothing, if it is the hook's best.
type Lost = fn(Tells) -> Option<&'static str>;

/// A way to attach, and what it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) rung: Rung,
    /// What it takes besides its programs.
    pub(super) needs: Needs,
    /// All of them; of each, the first alternative that this kernel has.
    pub(super) programs: &'static [&'static [Attachment]],
    /// What is lost where this step holds.
    pub(super) lost: Lost,
}

/// What a step may take besides its programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    /// That the kernel shows the addresses of its functions.
    KernelAddresses,
    /// That `kfree_skb` names the receiving socket.
    DropReceiver,
    /// That sockets are known by their addresses.
    AddressIdentity,
}

impl Step {
    const fn new(rung: Rung, programs: &'static [&'static [Attachment]]) -> Self {
        Self { rung, needs: Needs::Nothing, programs, lost: |_| None }
    }
}

/// A way to attach a program to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// A tracepoint with typed arguments (`BPF_TRACE_RAW_TP`, Linux 5.5).
    TpBtf,
    /// A function's entry or return, through a trampoline (`BPF_TRACE_FENTRY`, Linux 5.5; on aarch64 6.4).
    Fentry,
    /// A function's entry or return, through a breakpoint or ftrace.
    Kprobe,
}

impl Rung {
    /// Name in `check` and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
        }
    }

    /// Whether it hangs on functions, as opposed to tracepoints.
    pub const fn is_function(self) -> bool {
        matches!(self, Self::Fentry | Self::Kprobe)
    }
}

/// Which rungs may be taken (`--probe`). A hook with a single way to ask it is asked that way whatever the family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// The best one the kernel takes, for each hook.
    #[default]
    Auto,
    /// Tracepoints only.
    Tracepoint,
    /// Functions by trampoline.
    Fentry,
    /// Functions by kprobe.
    Kprobe,
}

impl Family {
    /// Whether this rung of the hook may be taken.
    pub(super) fn allows(self, hook: Hook, rung: Rung) -> bool {
        let wanted = match self {
            Self::Auto => return true,
            Self::Tracepoint => Rung::TpBtf,
            Self::Fentry => Rung::Fentry,
            Self::Kprobe => Rung::Kprobe,
        };
        rung == wanted || hook.ladder().len() == 1
    }
}

/// What it means that a program missed an event, since it was running on that CPU already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    /// The event is lost.
    Alone,
    /// Another of several equal programs takes it, if one can, and counts that: see `tcp-close-ebpf/src/taken.rs`.
    First,
    /// Nothing: it is there for what the first one missed.
    Spare,
    /// Nothing: what it learns from comes again.
    Learner,
}

impl Rank {
    /// Of the program with this name. Equal ones are numbered as they are run.
    pub(super) fn of(program: &str) -> Self {
        match program.rsplit_once('_') {
            Some((_, "1")) => Self::First,
            Some((_, "2" | "3")) => Self::Spare,
            _ if program.starts_with("learn_") => Self::Learner,
            _ => Self::Alone,
        }
    }
}

/// The kernel's functions that rungs hang on.
pub(super) fn functions() -> impl Iterator<Item = &'static str> {
    let steps = STATE_CHANGE.iter().chain(MINISOCK).filter(|step| step.rung.is_function());
    steps.flat_map(|step| step.programs.iter().copied().flatten()).map(|&(_, target)| target)
}

/// The names in the kernel's BTF of all that a typed program may be attached to.
pub(super) fn types() -> impl Iterator<Item = String> {
    let steps = Hook::ALL.into_iter().flat_map(Hook::ladder).filter(|step| step.rung != Rung::Kprobe);
    let programs = steps
        .flat_map(|step| step.programs.iter().copied().flatten().map(|&(_, target)| (step.rung, target)));
    programs.map(|(rung, target)| match rung {
        Rung::TpBtf => format!("btf_trace_{target}"),
        Rung::Fentry | Rung::Kprobe => target.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use tcp_close_abi::equal;

    use super::*;

    #[test]
    fn equal_programs_are_numbered_and_as_many_as_the_kernel_side_takes_them_for() {
        for hook in Hook::ALL {
            let equal = match hook {
                Hook::StateChange => equal::STATE_CHANGE,
                Hook::ResetReceived => equal::RESET_RECEIVED,
                Hook::ResetSent => equal::RESET_SENT,
                _ => 0,
            };
            for step in hook.ladder() {
                let names = step.programs.iter().copied().flatten().map(|&(name, _)| name);
                let of = |rank| names.clone().filter(|name| Rank::of(name) == rank).count();
                let (first, spare) = match (equal, step.rung) {
                    // Of those by kprobe there is one.
                    (0, _) | (_, Rung::Kprobe) => (0, 0),
                    (equal, _) => (1, equal as usize - 1),
                };
                assert_eq!((of(Rank::First), of(Rank::Spare)), (first, spare), "{hook:?} {:?}", step.rung);
            }
        }
    }

    #[test]
    fn the_first_of_equal_programs_leaves_what_it_misses_to_the_others() {
        for (program, rank) in [
            ("state_1", Rank::First),
            ("state_2", Rank::Spare),
            ("fentry_tcp_set_state_1", Rank::First),
            ("fentry_tcp_set_state_3", Rank::Spare),
            ("kprobe_tcp_set_state", Rank::Alone),
            ("timer_start", Rank::Alone),
            ("learn_tw_timer_handler", Rank::Learner),
        ] {
            assert_eq!(Rank::of(program), rank, "{program}");
        }
    }
}
