//! What is seen here, where no daemon is asked: lines of those observations that are wanted.

use std::ops::ControlFlow;

use super::{Failure, LossLog, attach};
use crate::{
    clock::{self, Anchor},
    filter::Subject,
    lifecycle::Observation,
    line::{Line, Teller},
    owner::Homes,
    pipeline::{Pipeline, Turn},
    probe::Hook,
    settings::Wanted,
    shutdown::Shutdown,
};

/// What is seen.
pub(super) enum Seen {
    /// The hooks are attached: from now on, everything.
    Attached,
    /// What became known in a turn.
    Lines(Vec<Line>),
}

/// Attaches on behalf of `command`, and hands out what is seen until `take` has enough.
pub(super) async fn follow(
    command: &'static str,
    wanted: &Wanted,
    shutdown: &mut Shutdown,
    mut take: impl FnMut(Seen) -> ControlFlow<()>,
) -> Result<(), Failure> {
    let (preflight, probe) = attach(command, &wanted.probe)?;
    let teller = Teller::new(preflight.reset_reasons().clone(), probe.has(Hook::FinRetransmit));
    let pipeline = Pipeline::new(probe, &preflight, wanted.limits);
    // What it knows of the kernel's types takes megabytes.
    drop(preflight);
    if take(Seen::Attached).is_break() {
        return Ok(());
    }
    let mut homes = Homes::of_this_host();
    let mut losses = LossLog::default();
    let turn = |turn: Turn<'_>| {
        losses.look(turn.lost_total(), clock::monotonic_now());
        let anchor = Anchor::now();
        let line = |observation| line(wanted, &teller, &mut homes, observation, &anchor);
        take(Seen::Lines(turn.observations.iter().filter_map(line).collect()))
    };
    pipeline.run(shutdown, None, turn).await?;
    Ok(())
}

/// The line of an observation, if it is wanted.
fn line(
    wanted: &Wanted,
    teller: &Teller,
    homes: &mut Homes,
    observation: &Observation,
    anchor: &Anchor,
) -> Option<Line> {
    if matches!(observation, Observation::Transition(_)) != wanted.transitions {
        return None;
    }
    let cgroup = observation.story().and_then(|story| story.cgroup);
    let home = cgroup.and_then(|cgroup| homes.get(cgroup, clock::monotonic_now));
    let subject = Subject::of(observation, home.as_deref())?;
    if !wanted.filter.holds(&subject) {
        return None;
    }
    teller.line(observation, home.as_deref(), anchor)
}
