//! Where in the kernel a timer was cancelled, by the stack in the record.

use super::*;

const fn sites() -> [(std::ops::Range<u64>, CancelSite); 4] {
    [
        (0x4000..0x4100, CancelSite::Receive),
        (0x1000..0x1100, CancelSite::Expiry),
        (0x3000..0x3100, CancelSite::Reset),
        (0x1100..0x1200, CancelSite::Restart),
    ]
}

/// Two functions that are passed over.
const PASSED_OVER: [std::ops::Range<u64>; 2] = [0x2000..0x2100, 0x2400..0x2500];

pub(super) fn cancel_sites() -> CancelSites {
    let sites = sites().map(|(range, site)| (range, Frame::Site(site)));
    CancelSites::from_ranges(sites.into_iter().chain(PASSED_OVER.map(|range| (range, Frame::PassedOver))))
}

fn site_of(record: &abi::MinisockCancel) -> CancelSite {
    match Decoder::new(HZ, cancel_sites()).decode(record.as_bytes()) {
        Ok(Event { kind: EventKind::TimerCancelled(_, cancel), .. }) => cancel.site,
        other => panic!("{other:?}"),
    }
}

#[test]
fn first_known_frame_tells_the_cancel_site() {
    let (unknown, timer_code, deschedule) = (0x9000, 0x2050, 0x2450);
    let cases: [(&[u64], CancelSite); 14] = [
        (&[], CancelSite::Unknown),
        (&[unknown], CancelSite::Unknown),
        (&[timer_code, deschedule], CancelSite::Unknown),
        (&[0x1080], CancelSite::Expiry),
        // What comes before is the tracepoint's and BPF's own: the kernel may inline what is passed over.
        (&[unknown, unknown, 0x3050, 0x4050], CancelSite::Reset),
        (&[unknown, timer_code, 0x3050, 0x4050], CancelSite::Reset),
        (&[unknown, timer_code, deschedule, 0x4050], CancelSite::Receive),
        // Somebody not known has cancelled it, whoever called that one.
        (&[unknown, timer_code, unknown, 0x4050], CancelSite::Unknown),
        (&[unknown, timer_code, deschedule, unknown, 0x4050], CancelSite::Unknown),
        // The innermost counts, wherever the functions lie.
        (&[0x1150, 0x3050, 0x4050], CancelSite::Restart),
        (&[0x4050, 0x3050, 0x1150], CancelSite::Receive),
        // A range holds its first address, and not the one after its last.
        (&[0x0fff, 0x1200, 0x2fff, 0x3100, 0x3fff, 0x4100], CancelSite::Unknown),
        (&[0x1000], CancelSite::Expiry),
        (&[0x1100], CancelSite::Restart),
    ];
    for (stack, expected) in cases {
        assert_eq!(site_of(&cancel_record(stack)), expected, "{stack:x?}");
    }
    for (range, site) in sites() {
        for address in [range.start, range.end - 1] {
            assert_eq!(site_of(&cancel_record(&[address])), site, "{address:x}");
        }
    }
}

#[test]
fn only_frames_that_are_filled_count() {
    let mut record = cancel_record(&[0x9000, 0x3050]);
    record.frames = 1;
    assert_eq!(site_of(&record), CancelSite::Unknown);
    record.frames = 0;
    assert_eq!(site_of(&record), CancelSite::Unknown);
    for frames in [2, abi::MAX_FRAMES as u64, abi::MAX_FRAMES as u64 + 1, u64::MAX] {
        record.frames = frames;
        assert_eq!(site_of(&record), CancelSite::Reset, "{frames}");
    }
    let deepest = [0x9000; abi::MAX_FRAMES - 1].into_iter().chain([0x4050]).collect::<Vec<_>>();
    assert_eq!(site_of(&cancel_record(&deepest)), CancelSite::Receive);
}

#[test]
fn no_addresses_no_sites() {
    let sites = CancelSites::unknown();
    assert_eq!(sites.classify(&[0, 1, u64::MAX]), CancelSite::Unknown);
}

/// The kernel side is told where timers expire, as many places as it has room for.
#[test]
fn where_timers_expire() {
    let told = cancel_sites().expiry();
    let expected: Vec<[u64; 2]> = sites()
        .into_iter()
        .filter(|(_, site)| *site == CancelSite::Expiry)
        .map(|(range, _)| [range.start, range.end - range.start])
        .collect();
    assert!(!expected.is_empty());
    assert_eq!(told[..expected.len()], expected);
    assert!(told[expected.len()..].iter().all(|unused| *unused == [0; 2]));
    let many = (1..=10).map(|n| (100 * n..100 * n + 10, Frame::Site(CancelSite::Expiry)));
    assert_eq!(CancelSites::from_ranges(many).expiry().last(), Some(&[600, 10]));
    assert_eq!(CancelSites::unknown().expiry(), [[0; 2]; abi::EXPIRY_SITES]);
}
