use proptest::prelude::*;

use super::*;
use crate::api::Day;
use crate::api::Day::{Fri, Mon, Sat, Sun, Thu, Tue, Wed};

/// Name of the case; zone, days, from and to of the window; now; expected result.
type Case = (
    &'static str,
    (&'static str, &'static [Day], &'static str, &'static str),
    &'static str,
    Opening,
);

const DAILY: &[Day] = &[];

fn check(cases: &[Case]) {
    for (name, (zone, days, from, to), now, expected) in cases {
        assert_eq!(
            opening(&[window(zone, days, from, to)], at(now)),
            *expected,
            "{name}"
        );
    }
}

fn written(zone: &str, days: &[Day], from: &str, to: &str) -> api::Window {
    api::Window {
        name: "w".to_owned(),
        time_zone: zone.to_owned(),
        days: days.to_vec(),
        from: from.to_owned(),
        to: to.to_owned(),
    }
}

fn window(zone: &str, days: &[Day], from: &str, to: &str) -> Window {
    Window::parse(&written(zone, days, from, to)).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn until(text: &str) -> Opening {
    Opening::Until(at(text))
}

fn closed_until(text: &str) -> Opening {
    Opening::Closed { next: Some(at(text)) }
}

#[test]
fn without_windows_access_may_always_exist() {
    assert_eq!(opening(&[], at("2026-01-01T00:00:00Z")), Opening::Always);
}

#[test]
fn a_window_opens_and_closes_at_exact_instants() {
    const WORKDAYS: &[Day] = &[Mon, Tue, Wed, Thu, Fri];
    check(&[
        (
            "opens at `from` itself",
            ("Europe/Berlin", WORKDAYS, "08:00", "18:00"),
            "2026-01-07T07:00:00Z",
            until("2026-01-07T17:00:00Z"),
        ),
        (
            "is closed until then",
            ("Europe/Berlin", WORKDAYS, "08:00", "18:00"),
            "2026-01-07T06:59:59.999999999Z",
            closed_until("2026-01-07T07:00:00Z"),
        ),
        (
            "is open to the last nanosecond",
            ("Europe/Berlin", WORKDAYS, "08:00", "18:00"),
            "2026-01-07T16:59:59.999999999Z",
            until("2026-01-07T17:00:00Z"),
        ),
        (
            "is closed at `to` itself",
            ("Europe/Berlin", WORKDAYS, "08:00", "18:00"),
            "2026-01-07T17:00:00Z",
            closed_until("2026-01-08T07:00:00Z"),
        ),
        (
            "stays closed from Friday to Monday, in summer time by then",
            ("Europe/Berlin", WORKDAYS, "08:00", "18:00"),
            "2026-03-27T17:00:00Z",
            closed_until("2026-03-30T06:00:00Z"),
        ),
        (
            "zones with odd minutes",
            ("Asia/Kolkata", WORKDAYS, "09:30", "17:30"),
            "2026-01-07T04:00:00Z",
            until("2026-01-07T12:00:00Z"),
        ),
        (
            "24:00 is midnight at the end of the day",
            ("UTC", &[Wed], "20:00", "24:00"),
            "2026-01-07T23:59:59Z",
            until("2026-01-08T00:00:00Z"),
        ),
        (
            "00:00 closes at the same midnight as 24:00",
            ("UTC", &[Wed], "20:00", "00:00"),
            "2026-01-07T23:59:59Z",
            until("2026-01-08T00:00:00Z"),
        ),
        (
            "across midnight, before it",
            ("Europe/Berlin", &[Wed], "22:00", "06:00"),
            "2026-01-07T22:00:00Z",
            until("2026-01-08T05:00:00Z"),
        ),
        (
            "across midnight, after it",
            ("Europe/Berlin", &[Wed], "22:00", "06:00"),
            "2026-01-08T04:59:59Z",
            until("2026-01-08T05:00:00Z"),
        ),
        (
            "the day is the one on which it opens",
            ("Europe/Berlin", &[Wed], "22:00", "06:00"),
            "2026-01-07T04:59:59Z",
            closed_until("2026-01-07T21:00:00Z"),
        ),
        (
            "Sunday to Monday wraps the week",
            ("America/New_York", &[Sun], "22:00", "02:00"),
            "2026-01-12T06:59:59Z",
            until("2026-01-12T07:00:00Z"),
        ),
        (
            "and opens again a week later",
            ("America/New_York", &[Sun], "22:00", "02:00"),
            "2026-01-12T07:00:00Z",
            closed_until("2026-01-19T03:00:00Z"),
        ),
    ]);
}

#[test]
fn a_wall_time_in_a_gap_means_the_jump() {
    check(&[
        // Berlin skips 02:00-03:00 on 2026-03-29 at 01:00Z.
        (
            "`from` in a gap opens at the jump",
            ("Europe/Berlin", DAILY, "02:30", "05:00"),
            "2026-03-29T00:59:59Z",
            closed_until("2026-03-29T01:00:00Z"),
        ),
        (
            "and is open from there",
            ("Europe/Berlin", DAILY, "02:30", "05:00"),
            "2026-03-29T01:00:00Z",
            until("2026-03-29T03:00:00Z"),
        ),
        (
            "`to` in a gap closes at the jump",
            ("Europe/Berlin", DAILY, "00:00", "02:30"),
            "2026-03-29T00:59:59Z",
            until("2026-03-29T01:00:00Z"),
        ),
        (
            "a window inside a gap does not open",
            ("Europe/Berlin", DAILY, "02:10", "02:50"),
            "2026-03-29T00:59:59Z",
            closed_until("2026-03-30T00:10:00Z"),
        ),
        (
            "a weekly window inside a gap opens a week later",
            ("Europe/Berlin", &[Sun], "02:10", "02:50"),
            "2026-03-22T01:50:00Z",
            closed_until("2026-04-05T00:10:00Z"),
        ),
        (
            "a window that reaches just to the end of a gap does not open",
            ("Europe/Berlin", DAILY, "02:10", "03:00"),
            "2026-03-29T01:00:00Z",
            closed_until("2026-03-30T00:10:00Z"),
        ),
        (
            "New York, gap at 07:00Z",
            ("America/New_York", &[Sun], "02:15", "04:00"),
            "2026-03-08T07:00:00Z",
            until("2026-03-08T08:00:00Z"),
        ),
        (
            "a night with a gap is an hour shorter",
            ("America/New_York", &[Sat], "22:00", "06:00"),
            "2026-03-08T03:00:00Z",
            until("2026-03-08T10:00:00Z"),
        ),
        // Lord Howe moves by half an hour: 02:00 -> 02:30 on 2026-10-04 ...
        (
            "Lord Howe, gap of half an hour",
            ("Australia/Lord_Howe", DAILY, "02:15", "03:00"),
            "2026-10-03T15:30:00Z",
            until("2026-10-03T16:00:00Z"),
        ),
        (
            "Lord Howe, `to` in the gap",
            ("Australia/Lord_Howe", DAILY, "01:00", "02:15"),
            "2026-10-03T14:30:00Z",
            until("2026-10-03T15:30:00Z"),
        ),
    ]);
}

#[test]
fn a_repeated_wall_time_opens_the_first_time_and_closes_the_last() {
    check(&[
        // Berlin repeats 02:00-03:00 on 2026-10-25. The second time begins at 01:00Z.
        (
            "`from` in a fold opens the first time",
            ("Europe/Berlin", DAILY, "02:30", "05:00"),
            "2026-10-25T00:30:00Z",
            until("2026-10-25T04:00:00Z"),
        ),
        (
            "`to` in a fold closes the last time",
            ("Europe/Berlin", DAILY, "00:00", "02:30"),
            "2026-10-25T00:30:00Z",
            until("2026-10-25T01:30:00Z"),
        ),
        (
            "a window inside a fold lasts from the first to the last",
            ("Europe/Berlin", DAILY, "02:00", "02:30"),
            "2026-10-25T00:00:00Z",
            until("2026-10-25T01:30:00Z"),
        ),
        (
            "`to` just after a fold is met once",
            ("Europe/Berlin", DAILY, "01:00", "03:00"),
            "2026-10-24T23:00:00Z",
            until("2026-10-25T02:00:00Z"),
        ),
        (
            "New York, fold that ends at 06:00Z + 1h",
            ("America/New_York", &[Sun], "01:15", "01:45"),
            "2026-11-01T05:15:00Z",
            until("2026-11-01T06:45:00Z"),
        ),
        // ... and 02:00 -> 01:30 on 2026-04-05.
        (
            "Lord Howe, fold of half an hour",
            ("Australia/Lord_Howe", DAILY, "01:45", "01:50"),
            "2026-04-04T14:45:00Z",
            until("2026-04-04T15:20:00Z"),
        ),
        // Goose Bay went back from 00:01 to 23:01 of the day before.
        (
            "a fold that shows the previous date once more",
            ("America/Goose_Bay", &[Sun], "00:00", "04:00"),
            "2010-11-07T03:30:00Z",
            until("2010-11-07T08:00:00Z"),
        ),
    ]);
}

#[test]
fn a_skipped_day_has_no_windows_of_its_own() {
    check(&[
        // Apia has no Friday 2011-12-30: Thursday ends at 10:00Z and Saturday begins.
        (
            "Apia, a window on the skipped day does not open",
            ("Pacific/Apia", &[Fri], "09:00", "17:00"),
            "2011-12-29T10:00:00Z",
            closed_until("2012-01-05T19:00:00Z"),
        ),
        (
            "Apia, a night into the skipped day ends with the last day before it",
            ("Pacific/Apia", &[Thu], "22:00", "06:00"),
            "2011-12-30T08:00:00Z",
            until("2011-12-30T10:00:00Z"),
        ),
        (
            "Apia, a night out of the skipped day opens at the jump",
            ("Pacific/Apia", &[Fri], "22:00", "06:00"),
            "2011-12-30T10:00:00Z",
            until("2011-12-30T16:00:00Z"),
        ),
    ]);
}

#[test]
fn windows_that_touch_or_overlap_count_as_one() {
    let joined = [
        window("UTC", &[Wed], "08:00", "12:00"),
        window("Asia/Kolkata", &[Wed], "17:30", "20:30"), // 12:00Z-15:00Z
        window("Europe/Berlin", &[Wed], "14:00", "17:00"), // 13:00Z-16:00Z
        window("UTC", &[Wed], "16:30", "18:00"),
    ];
    assert_eq!(
        opening(&joined, at("2026-01-07T09:00:00Z")),
        until("2026-01-07T16:00:00Z")
    );
    assert_eq!(
        opening(&joined, at("2026-01-07T16:00:00Z")),
        closed_until("2026-01-07T16:30:00Z")
    );

    let weekend = [window("UTC", &[Sat, Sun], "00:00", "24:00")];
    assert_eq!(
        opening(&weekend, at("2026-01-10T00:00:00Z")),
        until("2026-01-12T00:00:00Z")
    );
    let contained = [
        window("UTC", &[Wed], "08:00", "18:00"),
        window("UTC", &[Wed], "09:00", "10:00"),
    ];
    assert_eq!(
        opening(&contained, at("2026-01-07T09:30:00Z")),
        until("2026-01-07T18:00:00Z")
    );
}

#[test]
fn windows_that_never_close_are_followed_to_the_horizon() {
    let always = [window("Europe/Berlin", &[], "00:00", "24:00")];
    let now = at("2026-03-01T12:34:56.789Z");
    assert_eq!(opening(&always, now), Opening::Until(now + HORIZON));
}

#[test]
fn a_malformed_window_is_refused_with_the_accepted_form() {
    let cases = [
        (
            written("Europe/Berln", &[], "08:00", "18:00"),
            "window \"w\": unknown time zone \"Europe/Berln\"; \
             give an IANA name such as Europe/Berlin, America/New_York or UTC",
        ),
        (
            written("UTC", &[], "8:00", "18:00"),
            "window \"w\": from is \"8:00\"; give a time from 00:00 to 23:59",
        ),
        (
            written("UTC", &[], "24:00", "18:00"),
            "window \"w\": from is \"24:00\"; give a time from 00:00 to 23:59",
        ),
        (
            written("UTC", &[], "08:00", "18:60"),
            "window \"w\": to is \"18:60\"; give a time from 00:00 to 23:59, or 24:00 for the end of the day",
        ),
        (
            written("UTC", &[], "08:00", "08:00"),
            "window \"w\": from and to are both \"08:00\"; a whole day is from 00:00 to 24:00",
        ),
    ];
    for (window, expected) in cases {
        assert_eq!(Window::parse(&window).unwrap_err().to_string(), expected);
    }
    for zone in [
        "",
        "Etc/Unknown",
        "+01:00",
        "CET-1CEST",
        "../etc/passwd",
        "localtime",
    ] {
        let refused = Window::parse(&written(zone, &[], "08:00", "18:00"));
        assert!(matches!(refused, Err(WindowError::UnknownZone { .. })), "{zone}");
    }
    for time in [
        "", "0800", "08:0", "+8:00", "08:00:00", "-1:00", "٠٨:00", "08:00 ",
    ] {
        let refused = Window::parse(&written("UTC", &[], time, "18:00"));
        assert!(matches!(refused, Err(WindowError::From { .. })), "{time}");
    }
}

#[test]
fn opening_accepts_the_earliest_and_latest_timestamps() {
    let windows = [
        window("Pacific/Apia", &[], "22:00", "06:00"),
        window("America/New_York", &[], "00:00", "24:00"),
    ];
    for now in [Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH] {
        opening(&windows, now);
        opening(&windows, now.saturating_add(HORIZON).unwrap());
        opening(&windows, now.saturating_sub(HORIZON).unwrap());
    }
}

const ZONES: &[&str] = &[
    "UTC",
    "Europe/Berlin",
    "Europe/Dublin",
    "America/New_York",
    "America/Goose_Bay",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "Pacific/Apia",
    "Pacific/Kwajalein",
];

fn any_window() -> impl Strategy<Value = Window> {
    let days = proptest::sample::subsequence(vec![Mon, Tue, Wed, Thu, Fri, Sat, Sun], 0..=7);
    let minute = |most: i32| (0..=most).prop_map(|m| format!("{:02}:{:02}", m / 60, m % 60));
    // Half of the windows are near the hours of clock changes.
    let from = prop_oneof![minute(4 * 60), minute(24 * 60 - 1)];
    let to = prop_oneof![minute(4 * 60), minute(24 * 60)];
    (proptest::sample::select(ZONES), days, from, to)
        .prop_filter_map("a window has a length", |(zone, days, from, to)| {
            Window::parse(&written(zone, &days, &from, &to)).ok()
        })
}

/// Windows, and any time from 1970 to 2200. Half of the times are near a clock change of the first window.
fn windows_and_time() -> impl Strategy<Value = (Vec<Window>, Timestamp)> {
    let last = at("2200-01-01T00:00:00Z").as_second();
    (
        proptest::collection::vec(any_window(), 1..4),
        0..last,
        -200_000..200_000_i64,
        any::<bool>(),
    )
        .prop_map(|(windows, second, shift, near)| {
            let anywhere = Timestamp::from_second(second).unwrap();
            let change = windows[0].zone.following(anywhere).next();
            let now = match change {
                Some(change) if near => change.timestamp() + SignedDuration::from_secs(shift),
                _ => anywhere,
            };
            (windows, now)
        })
}

/// Whether the wall clock shows an open window. Correct only if no clock change is near.
fn open_by_the_wall_clock(window: &Window, now: Timestamp) -> bool {
    let wall = window.zone.to_datetime(now);
    let today = window.days.contains(&wall.weekday());
    let yesterday = window.days.contains(&wall.date().yesterday().unwrap().weekday());
    if window.to.on_the_next_day {
        (today && wall.time() >= window.from) || (yesterday && wall.time() < window.to.time)
    } else {
        today && wall.time() >= window.from && wall.time() < window.to.time
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1500) })]

    #[test]
    fn a_reported_change_of_a_window_happens_at_that_instant((windows, now) in windows_and_time()) {
        let just_before = |then: Timestamp| then - SignedDuration::from_nanos(1);
        match opening(&windows, now) {
            Opening::Always => prop_assert!(false, "there are windows"),
            Opening::Until(end) if end == now + HORIZON => {
                let open = matches!(opening(&windows, just_before(end)), Opening::Until(_));
                prop_assert!(open);
            }
            Opening::Until(end) => {
                prop_assert!(now < end && end < now + HORIZON);
                prop_assert_eq!(opening(&windows, just_before(end)), Opening::Until(end));
                let closed = matches!(opening(&windows, end), Opening::Closed { .. });
                prop_assert!(closed);
            }
            Opening::Closed { next: Some(next) } => {
                prop_assert!(now < next && next <= now + OUTLOOK);
                prop_assert_eq!(opening(&windows, just_before(next)), Opening::Closed { next: Some(next) });
                let open = matches!(opening(&windows, next), Opening::Until(_));
                prop_assert!(open);
            }
            Opening::Closed { next: None } => prop_assert!(false, "a weekly window opens within two weeks"),
        }
    }

    #[test]
    fn away_from_clock_changes_a_window_follows_the_wall_clock((windows, now) in windows_and_time()) {
        let three_days = SignedDuration::from_hours(72);
        let calm = windows.iter().all(|window| {
            let change = window.zone.following(now - three_days).next();
            change.is_none_or(|change| change.timestamp() > now + three_days)
        });
        if calm {
            let open = matches!(opening(&windows, now), Opening::Until(_));
            let by_the_wall = windows.iter().any(|window| open_by_the_wall_clock(window, now));
            prop_assert_eq!(open, by_the_wall);
        }
    }
}
