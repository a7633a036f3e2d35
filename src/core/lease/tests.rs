use super::*;

fn me() -> Candidate {
    Candidate::new(Identity::new("curfew-a", 1))
}

fn name(instance: &str, entropy: u64) -> String {
    Identity::new(instance, entropy).process
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn wall(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A Lease that somebody renewed at that second of their clock.
fn lease(holder: Option<&str>, renewed_at: i64, version: u64) -> LeaseFacts {
    LeaseFacts {
        terms: LeaseTerms {
            holder: holder.map(str::to_owned),
            duration: DURATION,
            acquired_at: Some(wall(0)),
            renewed_at: Some(wall(renewed_at)),
            transitions: 7,
        },
        version: version.to_string(),
    }
}

fn written(step: Step) -> LeaseWrite {
    match step {
        Step::Write(write) => write,
        other => panic!("{other:?}"),
    }
}

/// What the API server answers to a write.
fn stored(write: LeaseWrite, version: u64) -> LeaseFacts {
    LeaseFacts {
        terms: write.terms,
        version: version.to_string(),
    }
}

/// A candidate that has made the Lease at second 100, which was answered a second later.
fn leader() -> Candidate {
    let mut me = me();
    me.observe(None, seconds(100));
    let write = written(me.next(seconds(100), wall(0)));
    me.wrote(stored(write, 10), seconds(100), seconds(101));
    me
}

#[test]
fn the_numbers_leave_a_leader_time_to_renew_and_the_others_time_to_be_sure() {
    assert!(3 * RENEW_EVERY < LEADS_FOR && LEADS_FOR < DURATION);
    assert!(DURATION <= seconds(15) && DURATION < LONGEST);
}

#[test]
fn it_looks_before_it_does_anything() {
    assert_eq!(me().next(seconds(0), wall(0)), Step::Read);
    assert_eq!(me().leads_until(), None);
}

#[test]
fn a_lease_that_is_not_there_is_made_at_once() {
    let mut me = me();
    me.observe(None, seconds(3));
    let wanted = LeaseWrite {
        expected: None,
        terms: LeaseTerms {
            holder: Some(name("curfew-a", 1)),
            duration: DURATION,
            acquired_at: Some(wall(50)),
            renewed_at: Some(wall(50)),
            transitions: 0,
        },
    };
    assert_eq!(me.next(seconds(3), wall(50)), Step::Write(wanted));
}

#[test]
fn a_lease_that_was_given_back_is_taken_at_once_bound_to_its_version() {
    let mut me = me();
    me.observe(Some(lease(None, 40, 12)), seconds(3));
    let write = written(me.next(seconds(3), wall(50)));
    assert_eq!(write.expected.as_deref(), Some("12"));
    assert_eq!(write.terms.transitions, 8);
    assert_eq!(write.terms.acquired_at, Some(wall(50)));
}

#[test]
fn the_lease_of_somebody_else_is_waited_for_by_ones_own_clock_whatever_theirs_says() {
    for their_clock in [-1_000_000, 0, 1_000_000] {
        let mut me = me();
        me.observe(Some(lease(Some("curfew-b_2"), their_clock, 12)), seconds(100));
        assert_eq!(me.next(seconds(100), wall(0)), Step::Wait(seconds(110)));
        // A renewal counts from when it is seen.
        me.observe(Some(lease(Some("curfew-b_2"), their_clock + 1, 13)), seconds(104));
        assert_eq!(me.next(seconds(110), wall(0)), Step::Wait(seconds(114)));
        let write = written(me.next(seconds(114), wall(0)));
        assert_eq!(
            (write.expected.as_deref(), write.terms.transitions),
            (Some("13"), 8)
        );
    }
}

#[test]
fn what_is_seen_again_or_changed_beside_the_terms_is_no_renewal() {
    let mut me = me();
    me.observe(Some(lease(Some("curfew-b_2"), 0, 12)), seconds(100));
    me.observe(Some(lease(Some("curfew-b_2"), 0, 12)), seconds(105));
    // Somebody labelled it.
    me.observe(Some(lease(Some("curfew-b_2"), 0, 13)), seconds(108));
    let write = written(me.next(seconds(110), wall(0)));
    assert_eq!(write.expected.as_deref(), Some("13"));
}

#[test]
fn the_time_that_a_lease_asks_for_counts_within_reason() {
    let cases = [(15, 15), (5, 5), (0, 10), (3_600, 60)];
    for (asked, counts) in cases {
        let mut me = me();
        let mut theirs = lease(Some("curfew-b_2"), 0, 12);
        theirs.terms.duration = seconds(asked);
        me.observe(Some(theirs), seconds(100));
        assert_eq!(
            me.next(seconds(100), wall(0)),
            Step::Wait(seconds(100 + counts)),
            "{asked} s"
        );
    }
}

#[test]
fn a_leader_leads_from_when_it_sent_the_renewal_and_renews_in_time() {
    let mut me = leader();
    assert_eq!(me.leads_until(), Some(seconds(108)));
    assert_eq!(me.next(seconds(101), wall(0)), Step::Wait(seconds(102)));
    let write = written(me.next(seconds(102), wall(9)));
    assert_eq!(write.expected.as_deref(), Some("10"));
    assert_eq!(
        (write.terms.transitions, write.terms.acquired_at),
        (0, Some(wall(0)))
    );
    assert_eq!(write.terms.renewed_at, Some(wall(9)));
    me.wrote(stored(write, 11), seconds(102), seconds(103));
    assert_eq!(me.leads_until(), Some(seconds(110)));
}

#[test]
fn a_renewal_that_fails_is_looked_into_and_tried_again_and_nothing_is_gained_by_it() {
    let mut me = leader();
    me.failed(seconds(103));
    assert_eq!(me.leads_until(), Some(seconds(108)));
    let again = seconds(103) + RETRY;
    assert_eq!(me.next(seconds(103), wall(0)), Step::Wait(again));
    assert_eq!(me.next(again, wall(0)), Step::Read);
    // It was done, and only its answer lost; when it was sent is not known any more.
    me.observe(Some(lease(Some(&name("curfew-a", 1)), 5, 11)), again);
    assert_eq!(me.leads_until(), Some(seconds(108)));
    assert_eq!(written(me.next(again, wall(0))).expected.as_deref(), Some("11"));
}

#[test]
fn whoever_hears_that_somebody_else_has_it_leads_no_more() {
    let mut me = leader();
    me.observe(Some(lease(Some("curfew-b_2"), 0, 12)), seconds(103));
    assert_eq!(me.leads_until(), None);
    assert_eq!(me.next(seconds(103), wall(0)), Step::Wait(seconds(113)));
    // The answer to a renewal from before comes late.
    me.wrote(
        lease(Some(&name("curfew-a", 1)), 0, 11),
        seconds(102),
        seconds(104),
    );
    assert_eq!(me.leads_until(), None);
}

#[test]
fn whoever_hears_that_the_lease_is_gone_leads_no_more_and_makes_another() {
    let mut me = leader();
    me.observe(None, seconds(103));
    assert_eq!(me.leads_until(), None);
    assert_eq!(written(me.next(seconds(103), wall(0))).expected, None);
}

#[test]
fn whoever_comes_second_reads_who_was_first() {
    let mut me = me();
    me.observe(Some(lease(None, 0, 12)), seconds(100));
    me.conflicted();
    assert_eq!(me.next(seconds(100), wall(0)), Step::Read);
    me.observe(Some(lease(Some("curfew-b_2"), 0, 13)), seconds(100));
    assert_eq!(me.next(seconds(100), wall(0)), Step::Wait(seconds(110)));
}

#[test]
fn a_watch_that_lags_behind_ones_own_writes_is_no_news() {
    let mut me = leader();
    me.observe(Some(lease(Some("curfew-b_2"), 0, 9)), seconds(103));
    me.observe(Some(lease(None, 0, 9)), seconds(103));
    assert_eq!(me.leads_until(), Some(seconds(108)));
}

#[test]
fn a_process_takes_over_from_its_predecessor_at_once_and_from_nobody_else() {
    let cases = [
        (name("curfew-a", 2), true),
        (name("curfew-b", 2), false),
        (name("curfew-a_b", 2), false),
        ("curfew-a".to_owned(), false),
    ];
    for (holder, at_once) in cases {
        let mut me = me();
        me.observe(Some(lease(Some(&holder), 0, 12)), seconds(100));
        let takes = matches!(me.next(seconds(100), wall(0)), Step::Write(_));
        assert_eq!(takes, at_once, "{holder}");
    }
}

#[test]
fn of_two_processes_with_one_name_the_later_leads_and_the_earlier_follows_it() {
    let mut earlier = leader();
    let taken = lease(Some(&name("curfew-a", 2)), 0, 11);
    earlier.observe(Some(taken), seconds(103));
    assert_eq!(earlier.leads_until(), None);
    assert_eq!(earlier.next(seconds(103), wall(0)), Step::Wait(seconds(113)));
}

#[test]
fn whoever_resigns_leads_no_more_and_gives_back_what_it_has() {
    let mut me = leader();
    let write = me.resign(wall(4)).unwrap();
    assert_eq!(me.leads_until(), None);
    assert_eq!(write.expected.as_deref(), Some("10"));
    assert_eq!((write.terms.holder.as_ref(), write.terms.transitions), (None, 0));

    let mut follower = self::me();
    follower.observe(Some(lease(Some("curfew-b_2"), 0, 12)), seconds(100));
    assert_eq!(follower.resign(wall(4)), None);
}

#[test]
fn whoever_steps_aside_gives_the_lease_back_and_takes_it_again_if_nobody_else_does() {
    let mut me = leader();
    let write = me.step_aside(seconds(101), wall(60)).unwrap();
    assert_eq!(me.leads_until(), None);
    assert_eq!(
        (write.expected.as_deref(), &write.terms.holder),
        (Some("10"), &None)
    );
    me.observe(Some(stored(write, 11)), seconds(101));
    assert_eq!(me.next(seconds(101), wall(60)), Step::Wait(seconds(101) + ASIDE));
    let again = written(me.next(seconds(101) + ASIDE, wall(63)));
    assert_eq!(again.expected.as_deref(), Some("11"));
    assert_eq!(me.step_aside(seconds(104), wall(64)), None, "it holds nothing");
}
