use super::*;

fn me() -> Candidate {
    Candidate::new(ReplicaId::new("curfew-a", 1))
}

fn name(instance: &str, entropy: u64) -> String {
    ReplicaId::new(instance, entropy).process
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn wall(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A Lease renewed at this second of the holder's clock.
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

fn written(step: LeaseStep) -> LeaseWrite {
    match step {
        LeaseStep::Write(write) => write,
        other => panic!("{other:?}"),
    }
}

/// The Lease that the API server returns for a write.
fn stored(write: LeaseWrite, version: u64) -> LeaseFacts {
    LeaseFacts {
        terms: write.terms,
        version: version.to_string(),
    }
}

/// A leader that created the Lease at second 100; the response came one second later.
fn leader() -> Candidate {
    let mut me = me();
    me.observe(None, seconds(100));
    let write = written(me.next(seconds(100), wall(0)));
    me.wrote(stored(write, 10), seconds(100), seconds(101));
    me
}

#[test]
fn the_durations_leave_time_to_renew_and_a_safe_margin() {
    assert!(3 * RENEW_EVERY < LEADS_FOR && LEADS_FOR < DURATION);
    assert!(DURATION <= seconds(15) && DURATION < LONGEST);
}

#[test]
fn a_new_replica_reads_the_lease_first() {
    assert_eq!(me().next(seconds(0), wall(0)), LeaseStep::Read);
    assert_eq!(me().leads_until(), None);
}

#[test]
fn a_missing_lease_is_created_at_once() {
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
    assert_eq!(me.next(seconds(3), wall(50)), LeaseStep::Write(wanted));
}

#[test]
fn a_returned_lease_is_taken_at_once_bound_to_its_version() {
    let mut me = me();
    me.observe(Some(lease(None, 40, 12)), seconds(3));
    let write = written(me.next(seconds(3), wall(50)));
    assert_eq!(write.expected.as_deref(), Some("12"));
    assert_eq!(write.terms.transitions, 8);
    assert_eq!(write.terms.acquired_at, Some(wall(50)));
}

#[test]
fn another_holders_lease_expires_by_the_own_clock() {
    for their_clock in [-1_000_000, 0, 1_000_000] {
        let mut me = me();
        me.observe(Some(lease(Some("curfew-b_2"), their_clock, 12)), seconds(100));
        assert_eq!(me.next(seconds(100), wall(0)), LeaseStep::Wait(seconds(110)));
        // A renewal counts from the time it is seen.
        me.observe(Some(lease(Some("curfew-b_2"), their_clock + 1, 13)), seconds(104));
        assert_eq!(me.next(seconds(110), wall(0)), LeaseStep::Wait(seconds(114)));
        let write = written(me.next(seconds(114), wall(0)));
        assert_eq!(
            (write.expected.as_deref(), write.terms.transitions),
            (Some("13"), 8)
        );
    }
}

#[test]
fn a_repeat_or_a_change_of_labels_is_no_renewal() {
    let mut me = me();
    me.observe(Some(lease(Some("curfew-b_2"), 0, 12)), seconds(100));
    me.observe(Some(lease(Some("curfew-b_2"), 0, 12)), seconds(105));
    // Someone labelled the Lease.
    me.observe(Some(lease(Some("curfew-b_2"), 0, 13)), seconds(108));
    let write = written(me.next(seconds(110), wall(0)));
    assert_eq!(write.expected.as_deref(), Some("13"));
}

#[test]
fn the_duration_in_a_lease_counts_up_to_1min() {
    let cases = [(15, 15), (5, 5), (0, 10), (3_600, 60)];
    for (asked, counts) in cases {
        let mut me = me();
        let mut theirs = lease(Some("curfew-b_2"), 0, 12);
        theirs.terms.duration = seconds(asked);
        me.observe(Some(theirs), seconds(100));
        assert_eq!(
            me.next(seconds(100), wall(0)),
            LeaseStep::Wait(seconds(100 + counts)),
            "{asked} s"
        );
    }
}

#[test]
fn leadership_counts_from_the_time_a_renewal_was_sent() {
    let mut me = leader();
    assert_eq!(me.leads_until(), Some(seconds(108)));
    assert_eq!(me.next(seconds(101), wall(0)), LeaseStep::Wait(seconds(102)));
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
fn a_failed_renewal_is_retried_and_does_not_extend_leadership() {
    let mut me = leader();
    me.failed(seconds(103));
    assert_eq!(me.leads_until(), Some(seconds(108)));
    let again = seconds(103) + RETRY;
    assert_eq!(me.next(seconds(103), wall(0)), LeaseStep::Wait(again));
    assert_eq!(me.next(again, wall(0)), LeaseStep::Read);
    // The write succeeded and its response was lost; the time it was sent is not known any more.
    me.observe(Some(lease(Some(&name("curfew-a", 1)), 5, 11)), again);
    assert_eq!(me.leads_until(), Some(seconds(108)));
    assert_eq!(written(me.next(again, wall(0))).expected.as_deref(), Some("11"));
}

#[test]
fn a_leader_stops_if_another_replica_holds_the_lease() {
    let mut me = leader();
    me.observe(Some(lease(Some("curfew-b_2"), 0, 12)), seconds(103));
    assert_eq!(me.leads_until(), None);
    assert_eq!(me.next(seconds(103), wall(0)), LeaseStep::Wait(seconds(113)));
    // The response to an earlier renewal comes late.
    me.wrote(
        lease(Some(&name("curfew-a", 1)), 0, 11),
        seconds(102),
        seconds(104),
    );
    assert_eq!(me.leads_until(), None);
}

#[test]
fn a_leader_stops_if_the_lease_is_gone_and_creates_it_again() {
    let mut me = leader();
    me.observe(None, seconds(103));
    assert_eq!(me.leads_until(), None);
    assert_eq!(written(me.next(seconds(103), wall(0))).expected, None);
}

#[test]
fn after_a_conflict_the_lease_is_read() {
    let mut me = me();
    me.observe(Some(lease(None, 0, 12)), seconds(100));
    me.conflicted();
    assert_eq!(me.next(seconds(100), wall(0)), LeaseStep::Read);
    me.observe(Some(lease(Some("curfew-b_2"), 0, 13)), seconds(100));
    assert_eq!(me.next(seconds(100), wall(0)), LeaseStep::Wait(seconds(110)));
}

#[test]
fn an_older_version_from_the_watch_is_ignored() {
    let mut me = leader();
    me.observe(Some(lease(Some("curfew-b_2"), 0, 9)), seconds(103));
    me.observe(Some(lease(None, 0, 9)), seconds(103));
    assert_eq!(me.leads_until(), Some(seconds(108)));
}

#[test]
fn a_restarted_process_takes_only_its_own_old_lease_at_once() {
    let cases = [
        (name("curfew-a", 2), true),
        (name("curfew-b", 2), false),
        (name("curfew-a_b", 2), false),
        ("curfew-a".to_owned(), false),
    ];
    for (holder, at_once) in cases {
        let mut me = me();
        me.observe(Some(lease(Some(&holder), 0, 12)), seconds(100));
        let takes = matches!(me.next(seconds(100), wall(0)), LeaseStep::Write(_));
        assert_eq!(takes, at_once, "{holder}");
    }
}

#[test]
fn of_two_processes_with_one_instance_the_later_leads() {
    let mut earlier = leader();
    let taken = lease(Some(&name("curfew-a", 2)), 0, 11);
    earlier.observe(Some(taken), seconds(103));
    assert_eq!(earlier.leads_until(), None);
    assert_eq!(earlier.next(seconds(103), wall(0)), LeaseStep::Wait(seconds(113)));
}

#[test]
fn a_resigned_leader_stops_and_returns_the_lease() {
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
fn a_replica_that_steps_aside_takes_a_free_lease_again() {
    let mut me = leader();
    let write = me.step_aside(seconds(101), wall(60)).unwrap();
    assert_eq!(me.leads_until(), None);
    assert_eq!(
        (write.expected.as_deref(), &write.terms.holder),
        (Some("10"), &None)
    );
    me.observe(Some(stored(write, 11)), seconds(101));
    assert_eq!(
        me.next(seconds(101), wall(60)),
        LeaseStep::Wait(seconds(101) + ASIDE)
    );
    let again = written(me.next(seconds(101) + ASIDE, wall(63)));
    assert_eq!(again.expected.as_deref(), Some("11"));
    assert_eq!(me.step_aside(seconds(104), wall(64)), None, "it holds nothing");
}
