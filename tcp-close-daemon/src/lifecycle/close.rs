//! One full socket on its way from its first closing state to CLOSE.

use std::{net::SocketAddr, time::Duration};

use crate::{
    event::{
        CgroupId, ConnectionId, Monotonic, Pair, Process, ResetSent, SocketError, StateChange, TcpState,
    },
    lifecycle::{
        observation::{Bytes, Closed, Fin, Manner, ResetSeen, Role, States, Story, Then},
        owners::OwnerKey,
    },
};

/// What is known so far of a full socket that closes.
#[derive(Clone, Debug)]
pub(super) struct Close {
    id: ConnectionId,
    pair: Pair,
    role: Role,
    state: TcpState,
    entered: Option<Monotonic>,
    states: States,
    opener: Option<Process>,
    closer: Option<Process>,
    /// Who holds it open, if somebody has looked.
    holder: Option<Process>,
    cgroup: Option<CgroupId>,
    uid: u32,
    fin: Fin,
    bytes: Bytes,
    segments: Option<u8>,
    /// Bytes received as our FIN was sent.
    received_at_our_fin: Option<u64>,
    /// When our FIN was sent first.
    fin_sent: Option<Monotonic>,
    /// `segs_in` as our FIN was acknowledged.
    segs_in_at_ack: Option<u32>,
    /// Bytes sent, and `segs_out`, as the peer's FIN was taken.
    sent_at_peer_fin: Option<(u64, u32)>,
    reset_sent: Option<ResetSent>,
    reset_received: bool,
    /// The minisock that replaces it, and the substate that one began in.
    minisock: Option<(u64, TcpState)>,
    end: Option<End>,
    /// When it was first known to be in that state, if its entry was not seen.
    noticed: Monotonic,
    /// It was seen to close; if not, it was there already.
    observed: bool,
    gap: bool,
}

/// How the full socket left for CLOSE.
#[derive(Clone, Copy, Debug)]
struct End {
    at: Monotonic,
    from: TcpState,
    error: SocketError,
    /// The peer had acknowledged our FIN, or whatever else was written.
    acknowledged: bool,
    /// A reset had been sent before: an abort by timer or operator sends it first, one by the process last.
    after_reset: bool,
}

impl Close {
    /// A socket whose first change that belongs to a close is about to be applied.
    pub(super) fn new(id: ConnectionId, change: &StateChange) -> Self {
        let close = Self::in_state(id, change.pair, change.from, change.uid);
        Self { opener: change.opener, cgroup: change.cgroup, observed: true, ..close }
    }

    /// A socket that was in this state when it was first seen.
    pub(super) fn in_state(id: ConnectionId, pair: Pair, state: TcpState, uid: u32) -> Self {
        let mut close = Self {
            id,
            pair,
            role: Role::None,
            state,
            entered: None,
            states: States::default(),
            opener: None,
            closer: None,
            holder: None,
            cgroup: None,
            uid,
            fin: Fin::default(),
            bytes: Bytes::default(),
            segments: None,
            received_at_our_fin: None,
            fin_sent: None,
            segs_in_at_ack: None,
            sent_at_peer_fin: None,
            reset_sent: None,
            reset_received: false,
            minisock: None,
            end: None,
            noticed: Monotonic::default(),
            observed: false,
            gap: false,
        };
        close.visit(state, None);
        close
    }

    /// The same socket, made in this cgroup, which was there when somebody looked.
    pub(super) const fn noticed(self, at: Monotonic, cgroup: Option<CgroupId>) -> Self {
        Self { cgroup, noticed: at, ..self }
    }

    /// The same socket, now that it is known by this.
    pub(super) const fn known_as(self, id: ConnectionId) -> Self {
        Self { id, ..self }
    }

    /// It is in this state, which it entered unseen.
    pub(super) fn is_in(&mut self, at: Monotonic, state: TcpState) {
        self.gap = true;
        self.entered = None;
        self.noticed = at;
        self.state = state;
        self.visit(state, None);
    }

    /// A change of state.
    pub(super) fn change(&mut self, at: Monotonic, change: &StateChange) {
        self.uid = change.uid;
        if change.from == change.to {
            // close() after shutdown(): not a change, but it may be the first sight of a process.
            self.closer = self.closer.or(change.process);
            return;
        }
        if self.state != change.from {
            // A change between was lost: the time in that state is not known.
            self.gap = true;
            self.entered = None;
            self.visit(change.from, None);
        }
        self.states.set_last_of(change.from, self.dwell(at));
        self.state = change.to;
        self.entered = Some(at);
        self.visit(change.to, None);
        match change.to {
            TcpState::FinWait1 => self.our_fin_is_sent(at, change),
            TcpState::FinWait2 => self.our_fin_is_acknowledged(change),
            TcpState::CloseWait | TcpState::Closing => self.peer_fin_is_taken(change),
            TcpState::LastAck => {
                self.our_fin_is_sent(at, change);
                self.peer_fin_was_taken(change);
                self.passive_side_answers(change);
            }
            TcpState::Close => self.end(at, change),
            _ => {}
        }
    }

    /// Time in the state it is in now.
    pub(super) fn dwell(&self, at: Monotonic) -> Option<Duration> {
        self.entered.map(|entered| at.since(entered))
    }

    /// When it entered the state it is in now, if that was seen.
    pub(super) const fn entered(&self) -> Option<Monotonic> {
        self.entered
    }

    /// Since when it is known to be in that state.
    pub(super) fn known_in_state_since(&self) -> Monotonic {
        self.entered.unwrap_or(self.noticed)
    }

    /// If nobody was seen to connect it, it may have been accepted: `opener` tells who listens at its local address, given
    /// who closes it.
    pub(super) fn accepted_by(
        &mut self,
        opener: impl FnOnce(SocketAddr, Option<Process>) -> Option<Process>,
    ) {
        self.opener = self.opener.or_else(|| opener(self.pair.local, self.closer));
    }

    /// Somebody has looked who holds it open.
    pub(super) const fn held_by(&mut self, holder: Process) {
        self.holder = Some(holder);
    }

    /// Who holds it open, if somebody has looked.
    pub(super) const fn holder(&self) -> Option<Process> {
        self.holder
    }

    /// What its owner is known by.
    pub(super) fn owner(&self) -> OwnerKey {
        let process = self.closer.or(self.holder).or(self.opener);
        OwnerKey { cgroup: self.cgroup, comm: process.map(|process| process.comm) }
    }

    /// Whether it was seen to close; if not, it was there already.
    pub(super) const fn is_observed(&self) -> bool {
        self.observed
    }

    /// Our FIN was sent again.
    pub(super) fn fin_retransmitted(&mut self, at: Monotonic) {
        self.fin.retransmits = self.fin.retransmits.saturating_add(1);
        if let Some(sent) = self.fin_sent {
            self.fin.schedule.push(at.since(sent));
        }
    }

    /// A reset was sent.
    pub(super) const fn reset_sent(&mut self, reset: ResetSent) {
        self.reset_sent = Some(reset);
    }

    /// A reset was received, or the kernel behaves as if it were.
    pub(super) const fn reset_received(&mut self) {
        self.reset_received = true;
    }

    /// A minisock takes its place.
    pub(super) const fn replaced_by(&mut self, minisock: u64, substate: TcpState) {
        self.minisock = Some((minisock, substate));
    }

    /// The minisock that took its place.
    pub(super) fn minisock(&self) -> Option<u64> {
        self.minisock.map(|(address, _)| address)
    }

    /// When it entered FIN-WAIT-2, if that is where it is.
    pub(super) fn fin_wait2_since(&self) -> Option<Monotonic> {
        self.entered.filter(|_| self.state == TcpState::FinWait2)
    }

    /// When it entered CLOSE, if it has.
    pub(super) fn ended(&self) -> Option<Monotonic> {
        self.end.map(|end| end.at)
    }

    /// Its socket pair.
    pub(super) const fn pair(&self) -> Pair {
        self.pair
    }

    /// State it is in.
    pub(super) const fn state(&self) -> TcpState {
        self.state
    }

    /// State it is in, if that is a closing one.
    pub(super) const fn closing_state(&self) -> Option<TcpState> {
        if self.end.is_none() { Some(self.state) } else { None }
    }

    /// Events were lost while it closed.
    pub(super) const fn mark_gap(&mut self) {
        self.gap = true;
    }

    pub(super) const fn has_gap(&self) -> bool {
        self.gap
    }

    /// The kernel ran through its reset code when data came after both directions were closed: it sent the
    /// reset, and received none.
    pub(super) fn reset_was_not_received(&self) -> bool {
        self.reset_received && self.reset_sent.is_some_and(|reset| !reset.active)
    }

    /// What there is to say now that everything about its end has come in. Whether a minisock took its place is
    /// known only where minisocks are seen at all.
    pub(super) fn closed(&self, sees_minisocks: bool) -> Option<Closed> {
        let end = self.end?;
        let mut story = self.story();
        // Nothing but a minisock comes after these two states in an orderly close.
        let minisock_due = story.manner == Some(Manner::Graceful)
            && matches!(end.from, TcpState::FinWait2 | TcpState::Closing);
        let then = match self.minisock {
            Some((_, TcpState::TimeWait)) => Some(Then::TimeWait),
            Some(_) => Some(Then::FinWait2),
            None if !minisock_due => Some(Then::Closed),
            None if sees_minisocks && !self.gap => Some(Then::Refused),
            None => None,
        };
        if matches!(then, Some(Then::FinWait2) | None) {
            // FIN-WAIT-2 goes on in a minisock, or may do so: how long it takes is not known.
            story.states.set_last_of(TcpState::FinWait2, None);
        }
        Some(Closed { at: end.at, story, then })
    }

    /// Everything known of it.
    pub(super) fn story(&self) -> Story {
        let manner = self.manner();
        let orderly = manner == Some(Manner::Graceful) && matches!(self.role, Role::Active | Role::Passive);
        Story {
            id: self.id,
            pair: self.pair,
            role: self.role,
            manner,
            segments: self.segments.filter(|_| orderly),
            opener: self.opener,
            closer: self.closer,
            cgroup: self.cgroup,
            uid: Some(self.uid),
            states: self.states,
            fin: self.fin,
            bytes: self.bytes,
            reset: match manner {
                Some(Manner::ResetReceived) => Some(ResetSeen { sent: false, reason: None }),
                _ => self.reset_sent.map(|reset| ResetSeen { sent: true, reason: reset.reason }),
            },
            gap: self.gap,
        }
    }

    /// How it ended. Which of several signs counts is the order of the kernel's own steps: a minisock is made
    /// only in an orderly close; the error is set before the socket closes; what is sent then follows from it.
    fn manner(&self) -> Option<Manner> {
        if self.minisock.is_some() {
            return Some(Manner::Graceful);
        }
        let end = self.end?;
        // LAST-ACK and CLOSING end on the acknowledgement of our FIN, FIN-WAIT-2 began with it.
        let orderly = match end.from {
            TcpState::LastAck | TcpState::Closing => end.acknowledged,
            from => from == TcpState::FinWait2,
        };
        match end.error {
            SocketError::Aborted => Some(Manner::Killed),
            _ if self.reset_was_not_received() => Some(Manner::ResetSent),
            _ if self.reset_received => Some(Manner::ResetReceived),
            SocketError::Reset => Some(Manner::ResetReceived),
            SocketError::TimedOut => Some(Manner::TimedOut),
            // On a timeout a soft error, such as "no route to host", takes the place of ETIMEDOUT; keepalive
            // sends a reset before that.
            SocketError::Other(_) if end.after_reset => Some(Manner::TimedOut),
            _ if self.reset_sent.is_some() => Some(Manner::ResetSent),
            // It may also be older than the close, and nobody asked for it.
            _ if orderly => Some(Manner::Graceful),
            SocketError::Other(_) => Some(Manner::TimedOut),
            SocketError::None => None,
        }
    }

    fn visit(&mut self, state: TcpState, dwell: Option<Duration>) {
        if state.is_closing() {
            self.states.push(state, dwell);
            self.role = match (self.role, state) {
                (_, TcpState::Closing) => Role::Simultaneous,
                (Role::None, TcpState::FinWait1 | TcpState::FinWait2) => Role::Active,
                (Role::None, TcpState::CloseWait | TcpState::LastAck) => Role::Passive,
                (role, _) => role,
            };
        }
    }

    /// FIN-WAIT-1 or LAST-ACK: the FIN takes the next sequence number to be written.
    fn our_fin_is_sent(&mut self, at: Monotonic, change: &StateChange) {
        self.fin_sent = Some(at);
        self.closer = self.closer.or(change.process);
        self.fin.seq = Some(change.write_seq);
        self.received_at_our_fin = Some(change.bytes_received);
    }

    const fn our_fin_is_acknowledged(&mut self, change: &StateChange) {
        self.fin.ack_of_fin = Some(change.snd_una);
        self.segs_in_at_ack = Some(change.segs_in);
    }

    const fn peer_fin_is_taken(&mut self, change: &StateChange) {
        self.peer_fin_was_taken(change);
        self.sent_at_peer_fin = Some((change.bytes_sent, change.segs_out));
    }

    /// The peer's FIN is the last thing that was taken, now or some time ago.
    const fn peer_fin_was_taken(&mut self, change: &StateChange) {
        self.fin.peer_seq = Some(change.rcv_nxt.wrapping_sub(1));
    }

    /// If nothing was sent since the peer's FIN, its acknowledgement travels with our FIN: three segments.
    fn passive_side_answers(&mut self, change: &StateChange) {
        self.segments =
            self.sent_at_peer_fin.map(|(_, segs_out)| if change.segs_out == segs_out { 3 } else { 4 });
    }

    fn end(&mut self, at: Monotonic, change: &StateChange) {
        self.end = Some(End {
            at,
            from: change.from,
            error: change.error,
            acknowledged: change.snd_una == change.write_seq,
            after_reset: self.reset_sent.is_some(),
        });
        if change.error == SocketError::None {
            self.closer = self.closer.or(change.process);
        }
        match (change.from, self.minisock) {
            (TcpState::CloseWait | TcpState::LastAck | TcpState::Closing, _) => {
                self.peer_fin_was_taken(change);
            }
            // To a minisock in TIME-WAIT: the peer's FIN is what took it there.
            (TcpState::FinWait2, Some((_, TcpState::TimeWait))) => {
                self.peer_fin_was_taken(change);
                let with_ack = |segs_in| if change.segs_in == segs_in { 3 } else { 4 };
                self.segments = self.segs_in_at_ack.map(with_ack);
            }
            (TcpState::FinWait2, Some(_)) => self.segments = self.segs_in_at_ack.map(|_| 4),
            // No minisock: what took it there was a segment, so a byte that came since is the peer's FIN.
            (TcpState::FinWait2, None) if self.ends_after_a_byte(change) && change.process.is_none() => {
                self.peer_fin_was_taken(change);
            }
            _ => {}
        }
        if self.fin.seq.is_some_and(|seq| change.snd_una == seq.wrapping_add(1)) {
            self.fin.ack_of_fin = Some(change.snd_una);
        }
        self.count_bytes(change);
    }

    /// It ends in order, and something came after our FIN: payload, the peer's FIN, or both.
    fn ends_after_a_byte(&self, change: &StateChange) -> bool {
        let orderly = change.error == SocketError::None && self.reset_sent.is_none() && !self.reset_received;
        orderly && self.received_at_our_fin.is_some_and(|before| change.bytes_received > before)
    }

    fn count_bytes(&mut self, change: &StateChange) {
        let without_minisock = change.from == TcpState::FinWait2 && self.minisock.is_none();
        if without_minisock && self.fin.peer_seq.is_none() && self.ends_after_a_byte(change) {
            // Its process closed it, before the peer's FIN came or as that did: one of the bytes may be the FIN.
            self.bytes = Bytes { sent: Some(change.bytes_sent), ..Bytes::default() };
            return;
        }
        // The kernel counts the peer's FIN as a byte.
        let peer_fin = u64::from(self.fin.peer_seq.is_some());
        let received = change.bytes_received.saturating_sub(peer_fin);
        self.bytes = Bytes {
            sent: Some(change.bytes_sent),
            received: Some(received),
            after_our_fin: self
                .received_at_our_fin
                .filter(|_| matches!(self.role, Role::Active | Role::Simultaneous))
                .map(|before| received.saturating_sub(before)),
            after_peer_fin: self
                .sent_at_peer_fin
                .filter(|_| self.role == Role::Passive)
                .map(|(before, _)| change.bytes_sent.saturating_sub(before)),
        };
    }
}
