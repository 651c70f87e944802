//! What is closing now, as gauges.

use super::{Metrics, as_gauge, catalogue::OLDEST_STATES};
use crate::{
    event::TcpState,
    lifecycle::{Census, census::InState},
    snapshot::Substates,
};

impl Metrics {
    /// Takes in what is closing now. Of FIN-WAIT-2 and TIME-WAIT, the kernel's own count is taken where there is one;
    /// what neither it nor events tell is not exported: 0 would be a count.
    pub fn census(&mut self, census: &Census, substates: Option<&Substates>) {
        self.services(census);
        let counted = |state| census.in_state(state).sockets;
        let by_events = census.knows_substates;
        let fin_wait2 = substates.map(Substates::fin_wait2);
        let fin_wait2 = fin_wait2.or_else(|| by_events.then(|| counted(TcpState::FinWait2)));
        let time_wait = substates.map(Substates::time_wait);
        let time_wait = time_wait.or_else(|| by_events.then(|| counted(TcpState::TimeWait)));
        self.sockets_in(TcpState::FinWait2, fin_wait2);
        self.sockets_in(TcpState::TimeWait, time_wait);
        for state in OLDEST_STATES {
            let ages =
                (state != TcpState::FinWait2 || census.knows_substates).then(|| census.in_state(state));
            let sockets = if state == TcpState::FinWait2 { fin_wait2 } else { Some(counted(state)) };
            self.oldest(state, ages.as_ref().and_then(|ages| oldest_seconds(ages, sockets)));
            self.catalogue.age_seconds.set(state, ages);
        }
    }

    fn sockets_in(&self, state: TcpState, sockets: Option<u64>) {
        let gauge = &self.catalogue.sockets;
        match sockets {
            Some(sockets) => gauge.with_label_values(&[state.label()]).set(as_gauge(sockets)),
            // An error says that it was not there.
            None => drop(gauge.remove_label_values(&[state.label()])),
        }
    }

    fn oldest(&self, state: TcpState, seconds: Option<f64>) {
        let gauge = &self.catalogue.oldest_seconds;
        match seconds {
            Some(seconds) => gauge.with_label_values(&[state.label()]).set(seconds),
            None => drop(gauge.remove_label_values(&[state.label()])),
        }
    }
}

/// None is 0 seconds old; of some that nobody saw enter the state, no age is known.
fn oldest_seconds(ages: &InState, sockets: Option<u64>) -> Option<f64> {
    match ages.oldest {
        Some(oldest) => Some(oldest.as_secs_f64()),
        None => (sockets == Some(0)).then_some(0.0),
    }
}
