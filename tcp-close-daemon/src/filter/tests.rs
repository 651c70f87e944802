//! Filters, good and bad: what each means to a connection or two, and where each bad one is said to be wrong.

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    event::{AddressFamily, Comm, Pair, Process, TcpState},
    lifecycle::observation::{EndCause, Manner, Role},
};

/// A host with two names.
struct Known;

impl Names for Known {
    fn port(&self, service: &str) -> Result<u16, String> {
        if service == "https" { Ok(443) } else { Err(format!("no service is called {service}")) }
    }

    fn netns(&self, name: &str) -> Result<u32, String> {
        if name == "blue" { Ok(7) } else { name.parse().map_err(|_error| format!("no netns {name}")) }
    }
}

/// curl in nginx's unit, which closed 192.0.2.1:40000 > 198.51.100.2:443; its TIME-WAIT of 60.4 s expired.
fn curl() -> Subject<'static> {
    Subject {
        pair: Pair {
            local: "192.0.2.1:40000".parse().expect("an address"),
            remote: "198.51.100.2:443".parse().expect("an address"),
        },
        netns: 7,
        cookie: Some(0x2b),
        states: [TcpState::FinWait1, TcpState::TimeWait].into_iter().collect(),
        processes: [Some(process(42, b"curl")), Some(process(41, b"master"))],
        holders: &[],
        unit: Some("nginx.service"),
        container: Some("3f2a9c1b7d5e4f60aabbccdd"),
        pod: None,
        uid: Some(1000),
        role: Some(Role::Active),
        manner: Some(Some(Manner::Graceful)),
        cause: Some(EndCause::Expired),
        dwell: Some(Duration::from_millis(60_400)),
    }
}

fn process(pid: u32, name: &[u8]) -> Process {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name);
    Process { pid, comm: Comm::from_bytes(comm) }
}

/// Somebody over IPv6, of whom nothing else is known.
fn stranger() -> Subject<'static> {
    Subject {
        pair: Pair {
            local: "[2001:db8::1]:22".parse().expect("an address"),
            remote: "[2001:db8:0:2::9]:50000".parse().expect("an address"),
        },
        netns: 8,
        cookie: None,
        states: [TcpState::CloseWait].into_iter().collect(),
        processes: [None; 2],
        unit: None,
        container: None,
        uid: None,
        role: None,
        manner: None,
        cause: None,
        dwell: None,
        ..curl()
    }
}

/// Filters, and whether they want curl and the stranger.
const GOOD: &[(&str, bool, bool)] = &[
    ("", true, true),
    ("  ", true, true),
    ("state time-wait", true, false),
    ("state = FIN_WAIT1", true, false),
    ("state != CLOSE-WAIT", true, false),
    ("dport = :443", true, false),
    ("dport = 443", true, false),
    ("dport :https", true, false),
    ("dport eq https", true, false),
    ("dport >= :50000", false, true),
    ("sport < :1024", false, true),
    ("sport gt 1024", true, false),
    ("sport le :22 or dport ge 65535", false, true),
    ("dst 198.51.100.2", true, false),
    ("dst 198.51.100.0/24", true, false),
    ("dst = 198.51.100.2:443", true, false),
    ("dst 198.51.100.2:https", true, false),
    ("dst 198.51.100.2:80", false, false),
    ("dst 198.51.100.2:*", true, false),
    ("dst *:443", true, false),
    ("dst :443", true, false),
    ("dst *", true, true),
    ("src [2001:db8::1]", false, true),
    ("src 2001:db8::1", false, true),
    ("src [2001:db8::1]:22", false, true),
    ("dst 2001:db8::/32", false, true),
    ("dst [2001:db8:0:2::]/64:50000", false, true),
    ("dst != 198.51.100.0/24", false, true),
    ("src 0.0.0.0/0", true, false),
    ("family ipv4", true, false),
    ("family = inet6", false, true),
    ("owner = nginx.service", true, false),
    ("owner curl", true, false),
    ("owner = \"nginx\"", false, false),
    ("comm = master", true, false),
    ("not comm = curl", false, true),
    ("comm != curl", false, true),
    ("pid = 42", true, false),
    ("pid > 41", true, false),
    ("pid 43", false, false),
    ("uid = 1000", true, false),
    ("uid < 1000", false, false),
    ("unit = 'nginx.service'", true, false),
    ("container = 3f2a9c1b7d5e", true, false),
    ("container = 3f2a", false, false),
    ("pod = 3f2a", false, false),
    ("netns = blue", true, false),
    ("netns 8", false, true),
    ("cookie = sk:2b", true, false),
    ("cookie != sk:2b", false, true),
    ("cookie 43", true, false),
    ("state time-wait state close-wait", true, true),
    ("state close-wait state last-ack sport 22", false, true),
    ("state close-wait and state time-wait", false, false),
    ("src ::ffff:192.0.2.1", true, false),
    ("src [::ffff:192.0.2.0]/120:40000", true, false),
    ("not comm = \"a\\\"b'\\\\c\"", true, true),
    ("role active", true, false),
    ("role != active", false, true),
    ("manner = graceful", true, false),
    ("manner = reset-sent", false, false),
    ("manner unknown", false, false),
    ("cause = expired", true, false),
    ("cause = fin-wait2-timeout", false, false),
    ("dwell > 60s", true, false),
    ("dwell > 60", true, false),
    ("dwell >= 1m0.4s", true, false),
    ("dwell <= 1m", false, false),
    ("not dwell > 60s", false, true),
    ("dport = :443 and dst 198.51.100.0/24 and not comm = wget", true, false),
    ("dport = :443 dst 198.51.100.0/24", true, false),
    ("( dport = :443 or sport = :22 ) and state time-wait", true, false),
    ("dport = :443 or sport = :22 and state time-wait", true, false),
    ("sport = :22 and state time-wait or dport = :443", true, false),
    ("!(dport=:443|sport=:22)", false, false),
    ("dport=:443&&role=active||netns=8", true, true),
    ("not not state time-wait", true, false),
    ("STATE time-wait AND NOT role passive", true, false),
];

#[test]
fn a_filter_means_what_ss_would_make_of_it() {
    for &(text, wants_curl, wants_stranger) in GOOD {
        let filter = parse(text, &Known).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            (filter.holds(&curl()), filter.holds(&stranger())),
            (wants_curl, wants_stranger),
            "{text:?} is {filter:?}"
        );
        let again = parse(&filter.to_string(), &Numbers).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(again, filter, "{text:?} prints as {filter}");
    }
}

/// Filters, the place that is pointed at, and a part of the reason.
const BAD: &[(&str, &str, &str)] = &[
    ("state time-weit", "time-weit", "no TCP state"),
    ("colour = red", "colour", "nothing is called \"colour\"; there are state,"),
    ("dport = :gopher", ":gopher", "no service is called gopher"),
    ("dport = 65536", "65536", "past the last port"),
    ("dport = :", ":", "missing behind the colon"),
    ("dport =", "", "dport is compared with nothing"),
    ("dport", "", "dport is compared with nothing"),
    ("dport = = 443", "=", "dport takes a port"),
    ("dport = 443 443", "443", "one word too many"),
    ("dport = 443,80", "443,80", "no service is called 443,80"),
    ("dst 10.0.0", "10.0.0", "is not an address"),
    ("dst 10.0.0.0/33", "10.0.0.0/33", "is not an address"),
    ("dst [10.0.0.1]:80", "[10.0.0.1]:80", "is not an address"),
    ("dst [2001:db8::1:80", "[2001:db8::1:80", "is not an address"),
    ("dst > 10.0.0.1", ">", "only = and !="),
    ("role < active", "<", "only = and !="),
    ("role = first", "first", "is not active, passive,"),
    ("manner rude", "rude", "is not graceful,"),
    ("cause = bored", "bored", "is not why a TIME-WAIT ended"),
    ("family ipx", "ipx", "is not ipv4 or ipv6"),
    ("pid = curl", "curl", "is not the number of a process"),
    ("uid = -1", "-1", "is not the number of a user"),
    ("netns = red", "red", "no netns red"),
    ("cookie = 2b", "2b", "as ss -e shows it"),
    ("dwell > long", "long", "is not a time"),
    ("dwell > -5s", "-5s", "is not a time"),
    ("dwell > 1e300", "1e300", "is not a time"),
    ("( role active", "(", "not closed"),
    ("role active )", ")", "never opened"),
    ("( role active 5 )", "5", "one word too many"),
    ("comm = \"curl", "\"curl", "quote is not closed"),
    ("role active and", "", "something to ask for is missing"),
    ("and role active", "and", "something to ask for belongs here"),
    ("not", "", "something to ask for is missing"),
    ("\"state\" time-wait", "\"state\"", "something to ask for belongs here"),
    ("state time-wait or or role active", "or", "something to ask for belongs here"),
    ("()", ")", "something to ask for belongs here"),
];

#[test]
fn what_makes_no_sense_is_pointed_at() {
    for &(text, place, reason) in BAD {
        let error = parse(text, &Known).expect_err(text).to_string();
        let lines: Vec<&str> = error.lines().collect();
        let [said, shown, marks] = lines.as_slice() else { panic!("{error}") };
        assert!(said.contains(reason), "{error}");
        assert_eq!(shown.trim_start(), text);
        let begins = marks.find('^').expect("a mark");
        let marked = shown.get(begins..).unwrap_or_default();
        assert!(marked.starts_with(place) && !place.is_empty() || marked.is_empty(), "{error}");
        assert_eq!(marks.matches('^').count(), place.len().max(1), "{error}");
    }
}

#[test]
fn a_place_is_pointed_at_whatever_comes_before_it() {
    let error = parse("comm = \"b\u{fc}cher\"\tand\nrole = x", &Known).expect_err("x is no role");
    let expected = "the filter makes no sense: \"x\" is not active, passive, simultaneous or none\n  \
                    comm = \"b\u{fc}cher\" and role = x\n                             ^";
    assert_eq!(error.to_string(), expected);
    // Characters that take two columns.
    let error = parse("comm = \u{65e5}\u{672c} bogus", &Known).expect_err("bogus is nothing").to_string();
    assert_eq!(error.lines().last(), Some("              ^^^^^"), "{error}");
}

#[test]
fn nobody_chooses_how_much_of_the_stack_it_takes() {
    let deep = format!("{}role active{}", "(".repeat(1000), ")".repeat(1000));
    assert!(parse(&deep, &Known).expect_err("too deep").to_string().contains("nested"));
    let nots = format!("{}role active", "not ".repeat(1000));
    assert!(parse(&nots, &Known).expect_err("too deep").to_string().contains("nested"));
    let side_by_side = "role active ".repeat(300);
    parse(&side_by_side, &Known).expect("as many as there is room for");
    let long = "role active ".repeat(2000);
    assert!(parse(&long, &Known).expect_err("too long").to_string().contains("longer"));
}

#[test]
fn what_a_filter_needs_is_known_beforehand() {
    let netns = |text| parse(text, &Known).expect("a filter").netns().map(|set| set.into_iter().collect());
    assert_eq!(netns("netns 1"), Some(vec![1]));
    assert_eq!(netns("netns 1 or netns 2"), Some(vec![1, 2]));
    assert_eq!(netns("netns 1 and netns 2"), Some(vec![]));
    assert_eq!(netns("(netns 1 or netns 2) and role active and (netns 2 or netns 3)"), Some(vec![2]));
    assert_eq!(netns("netns 1 or role active"), None);
    assert_eq!(netns("netns != 1"), None);
    let states = parse("state time-wait and dport 443", &Known).expect("a filter").states();
    assert_eq!(states.map(Vec::from_iter), Some(vec![TcpState::TimeWait]));
    let pairs = |text| parse(text, &Known).expect("a filter").pairs();
    let family = |text| pairs(text).family;
    assert_eq!(family("family ipv6"), Some(AddressFamily::V6));
    assert_eq!(family("dst 192.0.2.0/24 and role active"), Some(AddressFamily::V4));
    assert_eq!(family("src 192.0.2.1 or src 192.0.2.2"), Some(AddressFamily::V4));
    assert_eq!(family("src 192.0.2.1 or src 2001:db8::1"), None);
    assert_eq!(family("not family ipv6"), None);
    assert_eq!(family("family ipv4 and family ipv6"), None);
    let ports = |text| [pairs(text).local_ports, pairs(text).remote_ports];
    assert_eq!(ports("sport 80 and dport >= 1024"), [80..=80, 1024..=u16::MAX]);
    assert_eq!(ports("sport < 1024 and sport > 79 and role active"), [80..=1023, 0..=u16::MAX]);
    assert_eq!(ports("sport 80 or sport 443"), [80..=443, 0..=u16::MAX]);
    assert_eq!(ports("src *:80 or (sport 90 and dport 1)"), [80..=90, 0..=u16::MAX]);
    assert_eq!(ports("sport 80 or dport 80"), [0..=u16::MAX, 0..=u16::MAX]);
    assert_eq!(ports("sport != 80"), [0..=u16::MAX, 0..=u16::MAX]);
    assert!(ports("sport 80 and sport 443").iter().any(RangeInclusive::is_empty));
    assert_eq!(ports("(sport < 0 or sport 7) and dport <= 9"), [7..=7, 0..=9]);
}

fn predicate() -> impl Strategy<Value = Predicate> {
    let comparison = prop::sample::select(vec![
        Comparison::Equal,
        Comparison::Less,
        Comparison::Greater,
        Comparison::AtMost,
        Comparison::AtLeast,
    ]);
    let side = prop::sample::select(vec![Side::Local, Side::Remote]);
    let name_of =
        prop::sample::select(vec![NameOf::Owner, NameOf::Comm, NameOf::Unit, NameOf::Container, NameOf::Pod]);
    let network = |address: std::net::IpAddr, prefix| ipnet::IpNet::new(address, prefix).expect("a network");
    let network = prop_oneof![
        (any::<std::net::Ipv4Addr>(), 0..=32u8)
            .prop_map(move |(address, prefix)| network(address.into(), prefix)),
        (any::<std::net::Ipv6Addr>(), 0..=128u8)
            .prop_filter("IPv4 is read as such", |(address, _)| address.to_ipv4_mapped().is_none())
            .prop_map(move |(address, prefix)| network(address.into(), prefix)),
    ];
    let host =
        (prop::option::of(network), any::<Option<u16>>()).prop_map(|(network, port)| Host { network, port });
    let causes = [&EndCause::OF_TIME_WAIT[..], &EndCause::OF_FIN_WAIT2[..]].concat();
    prop_oneof![
        prop::sample::select(TcpState::ALL.to_vec()).prop_map(Predicate::State),
        prop::sample::select(vec![AddressFamily::V4, AddressFamily::V6]).prop_map(Predicate::Family),
        (side.clone(), comparison.clone(), any::<u16>())
            .prop_map(|(side, comparison, port)| Predicate::Port(side, comparison, port)),
        (side, host).prop_map(|(side, host)| Predicate::Host(side, host)),
        // Of control characters none is left.
        (name_of, "\\PC*").prop_map(|(of, name)| Predicate::Name(of, name)),
        (comparison.clone(), any::<u32>()).prop_map(|(comparison, pid)| Predicate::Pid(comparison, pid)),
        (comparison.clone(), any::<u32>()).prop_map(|(comparison, uid)| Predicate::Uid(comparison, uid)),
        any::<u32>().prop_map(Predicate::Netns),
        any::<u64>().prop_map(Predicate::Cookie),
        prop::sample::select(Role::ALL.to_vec()).prop_map(Predicate::Role),
        prop::option::of(prop::sample::select(Manner::ALL.to_vec())).prop_map(Predicate::Manner),
        prop::sample::select(causes).prop_map(Predicate::Cause),
        (comparison, 0..3_000_000_000u64, 0..1_000_000_000u32)
            .prop_map(|(comparison, s, ns)| Predicate::Dwell(comparison, Duration::new(s, ns))),
    ]
}

/// About so few families, networks and ports that some connection is among them.
fn predicate_of_few() -> impl Strategy<Value = Predicate> {
    let words =
        ["family ipv4", "family ipv6", "src 192.0.2.1", "dst 192.0.2.0/24", "src [2001:db8::1]:2", "dst *:3"];
    let ports =
        ["=", "<", ">", "<=", ">="].map(|sign| ["sport", "dport"].map(|side| format!("{side} {sign} ")));
    let ports = ports.into_iter().flatten().flat_map(|text| (0..5).map(move |port| format!("{text}{port}")));
    let texts: Vec<_> = words.iter().map(ToString::to_string).chain(ports).collect();
    prop::sample::select(texts).prop_map(|text| match parse(&text, &Numbers) {
        Ok(Expression::Is(predicate)) => predicate,
        other => panic!("{text}: {other:?}"),
    })
}

fn expression(predicate: impl Strategy<Value = Predicate> + 'static) -> impl Strategy<Value = Expression> {
    predicate.prop_map(Expression::Is).prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::All),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::Any),
            inner.prop_map(|part| Expression::Not(Box::new(part))),
        ]
    })
}

proptest! {
    #[test]
    fn what_a_filter_prints_means_the_same(expression in expression(predicate())) {
        let text = expression.to_string();
        prop_assume!(text.len() <= 16_384);
        prop_assert_eq!(parse(&text, &Numbers), Ok(expression));
    }

    #[test]
    fn nothing_that_a_filter_wants_goes_unwatched(
        expression in expression(predicate_of_few()),
        addresses in prop::sample::select(vec![["192.0.2.1"; 2], ["2001:db8::1"; 2]]),
        ports in [1..5u16, 1..5u16],
    ) {
        let [local, remote] = [0, 1].map(|end| SocketAddr::new(addresses[end].parse().expect("an address"), ports[end]));
        let pair = Pair { local, remote };
        prop_assume!(expression.holds(&Subject { pair, ..curl() }));
        let watched = expression.pairs();
        prop_assert!(watched.family.is_none_or(|family| family == pair.family()));
        prop_assert!(watched.local_ports.contains(&ports[0]) && watched.remote_ports.contains(&ports[1]));
    }

    #[test]
    fn any_text_is_a_filter_or_an_error(text in "\\PC{0,60}") {
        if let Err(error) = parse(&text, &Known) {
            prop_assert!(error.to_string().lines().count() == 3);
        }
    }

    #[test]
    fn any_words_of_the_language_are_a_filter_or_an_error(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "(", ")", "!", "and", "or", "not", "=", "!=", "<", "state", "time-wait", "dport", ":443", "dst",
                "192.0.2.1", "[2001:db8::1]:443", "comm", "curl", "\"", "'", "dwell", "60s", "\u{fc}",
            ]),
            0..12,
        )
    ) {
        let text = words.join(" ");
        match parse(&text, &Known) {
            Ok(filter) => prop_assert_eq!(parse(&filter.to_string(), &Numbers), Ok(filter)),
            Err(error) => prop_assert!(error.to_string().contains('^')),
        }
    }
}
