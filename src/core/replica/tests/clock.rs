use super::*;

/// True time in every table here: milliseconds after noon.
pub(super) fn noon(milliseconds: i64) -> Timestamp {
    "2026-01-01T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_millis(milliseconds)
}

fn up(milliseconds: i64) -> Duration {
    Duration::from_millis(u64::try_from(milliseconds).unwrap())
}

/// Reading at this true time, with the wall clock `ahead` milliseconds ahead. The process started at noon.
fn reading(milliseconds: i64, ahead: i64) -> LocalTime {
    LocalTime {
        wall: noon(milliseconds + ahead),
        up: up(milliseconds),
    }
}

/// A response dated at true time `made` by a server clock `server_ahead` ahead. `way` is the round trip, half of it
/// after the date; this machine's wall clock is `ahead`. All in milliseconds.
fn answer(made: i64, server_ahead: i64, way: i64, ahead: i64) -> ClockReading {
    ClockReading {
        date: whole_second(noon(made + server_ahead)),
        sent: reading(made - way / 2, ahead),
        received: reading(made + way / 2, ahead),
    }
}

/// A process that started at noon by a wall clock `ahead` ms ahead, after these responses.
fn heard(ahead: i64, answers: &[ClockReading]) -> Timekeeping {
    let mut timekeeping = Timekeeping::since(noon(ahead));
    for answer in answers {
        timekeeping.heard(answer);
    }
    timekeeping
}

#[test]
fn before_the_first_response_the_later_own_clock_counts() {
    let timekeeping = heard(0, &[]);
    for (what, wall, passed, now) in [
        ("nothing was set", 5_000, 5_000, 5_000),
        ("set back by an hour", 5_000 - 3_600_000, 5_000, 5_000),
        ("set forward, or suspended", 3_605_000, 5_000, 3_605_000),
    ] {
        let reading = LocalTime {
            wall: noon(wall),
            up: up(passed),
        };
        assert_eq!(timekeeping.now(reading), noon(now), "{what}");
        assert!(timekeeping.is_doubtful(reading), "{what}");
        assert_eq!(timekeeping.skew(reading), None, "{what}");
        assert!(timekeeping.objection(reading).is_some(), "{what}");
    }
}

#[test]
fn one_response_bounds_the_time_to_1s_plus_round_trip() {
    // Made at 10.4 s, asked for 30 ms before, read 30 ms after: at 10.43 s it was 10 s there at least, 11.06 s at most.
    for (what, ahead, now) in [
        ("clocks that agree", 0, 10_430),
        ("a little fast", 600, 11_030),
        ("as fast as the answer leaves open", 630, 11_060),
        ("faster", 40_000, 11_060),
        ("a little slow", -400, 10_030),
        ("as slow as it leaves open", -430, 10_000),
        ("slower", -40_000, 10_000),
    ] {
        let timekeeping = heard(ahead, &[answer(10_400, 0, 60, ahead)]);
        assert_eq!(timekeeping.now(reading(10_430, ahead)), noon(now), "{what}");
    }
}

#[test]
fn skew_is_the_smallest_that_explains_a_response() {
    for (what, ahead, skew) in [
        ("clocks that agree", 0, 0),
        ("fast, and the answer does not show it", 630, 0),
        ("fast", 631, 1),
        ("40 s fast", 40_000, 39_370),
        ("slow, and the answer does not show it", -430, 0),
        ("slow", -431, -1),
        ("40 s slow", -40_000, -39_570),
    ] {
        let timekeeping = heard(ahead, &[answer(10_400, 0, 60, ahead)]);
        let told = timekeeping.skew(reading(10_430, ahead)).unwrap();
        assert_eq!(
            told.ahead(),
            SignedDuration::from_millis(skew),
            "{what}: {told:?}"
        );
        assert!(
            told.least <= SignedDuration::from_millis(ahead),
            "{what}: {told:?}"
        );
        assert!(
            told.most >= SignedDuration::from_millis(ahead),
            "{what}: {told:?}"
        );
    }
}

#[test]
fn skew_over_5s_warns_and_over_30s_refuses() {
    use ClockAgreement::{Fine, Refuse, Warn};
    for (ahead, verdict) in [
        (0, Fine),
        (5_000, Fine),
        (5_001, Warn),
        (30_000, Warn),
        (30_001, Refuse),
        (3_600_000, Refuse),
    ] {
        for sign in [1, -1] {
            let exactly = SignedDuration::from_millis(sign * ahead);
            let skew = Skew {
                least: exactly,
                most: exactly,
            };
            assert_eq!(skew.verdict(), verdict, "{skew:?}");
        }
    }
}

#[test]
fn several_responses_bound_the_server_clock_below_1s() {
    // This machine is an hour fast; only the responses can correct that.
    let hour = 3_600_000;
    let answers: Vec<ClockReading> = (0..20)
        .map(|number| answer(10_000 + number * 1_050, 0, 10, hour))
        .collect();
    let timekeeping = heard(hour, &answers);
    let (last, first) = (29_955, heard(hour, &answers[..1]));
    let late = |timekeeping: &Timekeeping| {
        timekeeping
            .now(reading(last, hour))
            .duration_since(noon(last))
            .as_millis()
    };
    assert!((900..=1_030).contains(&late(&first)), "{}", late(&first));
    assert!((0..=80).contains(&late(&timekeeping)), "{}", late(&timekeeping));
}

#[test]
fn bounds_widen_with_the_time_since_the_last_response() {
    let hour = 3_600_000;
    for (what, ahead, silent, now) in [
        ("fast", hour, 0, 11_060),
        ("fast, a minute later", hour, 60_000, 71_060 + 60),
        ("fast, an hour later", hour, hour, hour + 11_060 + 3_600),
        ("slow", -hour, 0, 10_000),
        ("slow, a minute later", -hour, 60_000, 70_000 - 60),
        ("slow, an hour later", -hour, hour, hour + 10_000 - 3_600),
        ("agreeing, an hour later", 0, hour, hour + 10_430),
    ] {
        let timekeeping = heard(ahead, &[answer(10_400, 0, 60, ahead)]);
        let at = reading(10_430 + silent, ahead);
        assert_eq!(timekeeping.now(at), noon(now), "{what}");
        assert!(!timekeeping.is_doubtful(at), "{what}");
    }
}

/// Wall clock and monotonic time after the last response, and the decided time: first without and then with another
/// response.
#[test]
fn clock_leaps_and_suspends_are_corrected_by_the_next_response() {
    let hour = 3_600_000;
    let last = 10_430;
    for (what, wall, passed, doubtful, before, after) in [
        ("nothing happens", 60_000, 60_000, false, 60_000, 60_000),
        // A wrong clock: it ends no access.
        (
            "set forward by an hour",
            60_000 + hour,
            60_000,
            true,
            60_679,
            60_700,
        ),
        ("set back by an hour", 60_000 - hour, 60_000, true, 60_000, 60_000),
        // Monotonic time stands still, and the wall clock is right.
        (
            "suspended for an hour",
            60_000 + hour,
            60_000,
            true,
            60_679,
            hour + 60_000,
        ),
        // A stopped virtual machine: both of its clocks stopped.
        (
            "stopped for an hour",
            60_000,
            60_000,
            false,
            60_000,
            hour + 60_000,
        ),
        ("set by less than a second", 60_900, 60_000, false, 60_679, 60_700),
    ] {
        let mut timekeeping = heard(0, &[answer(10_400, 0, 60, 0)]);
        let at = LocalTime {
            wall: noon(wall),
            up: up(passed),
        };
        assert!(passed > last);
        assert_eq!(timekeeping.is_doubtful(at), doubtful, "{what}");
        assert_eq!(timekeeping.skew(at).is_none(), doubtful, "{what}");
        let close = |now: Timestamp, wanted: i64| now.duration_since(noon(wanted)).abs();
        let now = timekeeping.now(at);
        assert!(
            close(now, before) <= SignedDuration::from_millis(1_100),
            "{what}: {now} before an answer"
        );
        // The server's clock follows true time; `after` is the true time, exact to the second of a `Date`.
        let slept = what.contains("suspended") || what.contains("stopped");
        let truth = if slept { hour + 60_000 } else { 60_000 };
        timekeeping.heard(&ClockReading {
            date: whole_second(noon(truth)),
            sent: at,
            received: at,
        });
        let now = timekeeping.now(at);
        assert!(
            close(now, after) <= SignedDuration::from_millis(1_000),
            "{what}: {now} after an answer"
        );
        assert!(!timekeeping.is_doubtful(at), "{what}");
    }
}

#[test]
fn a_response_read_after_a_suspend_is_ignored() {
    let mut timekeeping = heard(0, &[answer(10_400, 0, 60, 0)]);
    let slept = LocalTime {
        wall: noon(3_620_010),
        up: up(20_010),
    };
    timekeeping.heard(&ClockReading {
        date: noon(20_000),
        sent: reading(20_000, 0),
        received: slept,
    });
    assert!(timekeeping.is_doubtful(slept), "it would pass for the time it is");
}

#[test]
fn the_last_of_contradicting_responses_counts() {
    let minute = 60_000;
    for (what, first, second, now) in [
        ("another server is ahead", 0, minute, 20_000 + minute),
        (
            "another server is less ahead",
            2 * minute,
            minute,
            20_000 + minute,
        ),
        (
            "another server is less behind",
            -2 * minute,
            -minute,
            21_060 - minute,
        ),
        // Exception: a time that both clocks had reached.
        (
            "another server is further behind",
            -minute,
            -2 * minute,
            19_990 - minute,
        ),
    ] {
        let answers = [answer(10_000, first, 60, 0), answer(20_000, second, 60, 0)];
        let said = heard(0, &answers).now(reading(20_030, 0));
        assert_eq!(said, noon(now), "{what}");
    }
    // Two parallel responses: the older one is added last.
    let (early, late) = (answer(10_000, minute, 60, 0), answer(20_000, 0, 60, 0));
    assert_eq!(heard(0, &[late, early]).now(reading(20_030, 0)), noon(20_030));
}

/// Server clock, this machine's clock and the decided time, one minute after both clocks were right.
#[test]
fn a_time_reached_by_both_clocks_does_not_go_back_for_one() {
    let hour = 3_600_000;
    for (what, server, own, now) in [
        ("the server was set back", -hour, 0, -60),
        (
            "the server was set back, and this machine is slow",
            -hour,
            -300,
            -300,
        ),
        (
            "the server was set back, and this machine forward",
            -hour,
            hour,
            -60,
        ),
        ("this machine was set back", 0, -hour, 0),
        ("both were set back", -hour, -hour, 1_000 - hour),
        ("this machine was set forward", 0, hour, 1_000),
    ] {
        let mut timekeeping = heard(0, &[answer(10_000, 0, 0, 0)]);
        timekeeping.heard(&answer(70_000, server, 0, own));
        assert_eq!(
            timekeeping.now(reading(70_000, own)),
            noon(70_000 + now),
            "{what}"
        );
    }
}

#[test]
fn time_goes_back_if_both_clocks_were_set_back() {
    let hour = 3_600_000;
    // Both clocks were an hour fast and were set back; then only this machine's clock is set forward again.
    let mut timekeeping = heard(hour, &[answer(10_000, hour, 0, hour), answer(20_000, 0, 0, 0)]);
    timekeeping.heard(&answer(30_000, 0, 0, hour));
    assert_eq!(timekeeping.now(reading(30_000, hour)), noon(31_000));
}

#[test]
fn the_skew_message_has_both_times_and_an_action() {
    let objections = |ahead: i64| {
        heard(ahead, &[answer(10_400, 0, 60, ahead)])
            .objection(reading(10_430, ahead))
            .unwrap_or_default()
    };
    assert_eq!(
        objections(41_000),
        "no access is granted while clocks differ by more than 30 s: the operator's clock (2026-01-01T12:00:51Z) is \
         40 s ahead of the API server's (2026-01-01T12:00:10Z); correct the wrong clock"
    );
    assert_eq!(
        objections(-41_000),
        "no access is granted while clocks differ by more than 30 s: the operator's clock (2026-01-01T11:59:29Z) is \
         41 s behind the API server's (2026-01-01T12:00:10Z); correct the wrong clock"
    );
    for ahead in [0, 10_000, 30_000, -30_000] {
        assert_eq!(objections(ahead), "", "{ahead}");
    }
}
