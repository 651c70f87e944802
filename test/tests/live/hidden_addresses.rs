//! The kernel hides its addresses, and the tracepoints of timers have to learn which are minisocks'.

use tcp_close::{
    lifecycle::observation::{EndCause, Then},
    probe::{Family as ProbeFamily, Hook, Preflight, ProbeSettings, Verdict},
};
use tcp_close_test::{address::Family, oracle};

use crate::{bench::Bench, observer::Observer};

#[test]
fn the_first_minisock_teaches_which_timers_are_theirs() {
    let preflight = Preflight::run().expect("the kernel publishes BTF").without_addresses();
    let preflight: &'static Preflight = Box::leak(Box::new(preflight));
    for family in Family::BOTH {
        let settings = ProbeSettings {
            ring_bytes: 1 << 20,
            family: ProbeFamily::Tracepoint,
            ..ProbeSettings::default()
        };
        let bench = Bench::watched_by(|netns| Observer::attach_with(&[netns], preflight, &settings));
        assert_eq!(bench.observer.verdict(Hook::Minisock), Verdict::Degraded);

        // The first is seen from its beginning like any other, and so is what comes of it.
        let mut first = bench.in_fin_wait2(family);
        let [closed] = bench.observer.closed(1)[..] else { panic!("one end is the kernel's") };
        assert_eq!((closed.then, closed.story.gap), (Some(Then::FinWait2), false), "{closed:#?}");
        first.fin();
        first.expect_ack();
        bench.minisock_in(oracle::TcpState::TimeWait);
        first.rst();
        let ended = bench.ended();
        assert!(ended.minisock.is_some() && ended.time_wait.is_some(), "{ended:#?}");
        assert_eq!(ended.cause, EndCause::Unknown, "no function on the stack can be named: {ended:#?}");

        // That the time is up needs no name.
        bench.netns.sysctl("net/ipv4/tcp_fin_timeout", "1");
        let second = bench.in_fin_wait2(family);
        let told = bench.observer.wait_until("both ended", |told| told.minisocks_ended().len() == 2);
        assert_eq!(told.minisocks_ended()[1].cause, EndCause::FinWait2Timeout);
        assert_eq!(told.minisocks_began(), 2);
        drop(second);
    }
}
