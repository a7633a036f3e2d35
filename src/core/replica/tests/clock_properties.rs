//! Properties of the time after responses from a correct server, for any behaviour of this machine's clocks.

use proptest::prelude::*;

use super::*;
use crate::core::replica::clock::tests::noon;

/// Events between two responses. All times are in milliseconds.
#[derive(Clone, Debug)]
struct Step {
    /// True time until the next request.
    passes: i64,
    /// True time from the request to the `Date`, and from there to the response.
    there: i64,
    back: i64,
    /// Change of the wall clock before the request.
    set: i64,
    /// Time for which the machine is suspended before the request; monotonic time stops.
    sleeps: i64,
}

fn any_step() -> impl Strategy<Value = Step> {
    (
        0_i64..60_000,
        0_i64..3_000,
        0_i64..3_000,
        prop_oneof![8 => Just(0_i64), 1 => -4_000_000_i64..4_000_000, 1 => -1_500_i64..1_500],
        prop_oneof![8 => Just(0_i64), 1 => 0_i64..4_000_000],
    )
        .prop_map(|(passes, there, back, set, sleeps)| Step {
            passes,
            there,
            back,
            set,
            sleeps,
        })
}

/// A machine: true time, and the time of its clocks, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Machine {
    truth: i64,
    wall: i64,
    up: i64,
}

impl Machine {
    fn pass(&mut self, milliseconds: i64) {
        self.truth += milliseconds;
        self.wall += milliseconds;
        self.up += milliseconds;
    }

    fn reading(&self) -> LocalTime {
        LocalTime {
            wall: noon(self.wall),
            up: Duration::from_millis(u64::try_from(self.up).unwrap()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn server_time_error_is_at_most_1s_plus_round_trip(
        began in -4_000_000_i64..4_000_000,
        steps in prop::collection::vec(any_step(), 1..20),
    ) {
        let mut machine = Machine { truth: 0, wall: began, up: 0 };
        let mut timekeeping = Timekeeping::since(noon(began));
        for step in steps {
            machine.wall += step.set + step.sleeps;
            machine.truth += step.sleeps;
            machine.pass(step.passes);
            let sent = machine.reading();
            machine.pass(step.there);
            let date = whole_second(noon(machine.truth));
            machine.pass(step.back);
            let received = machine.reading();
            timekeeping.heard(&ClockReading { date, sent, received });
            let off = timekeeping.now(received).duration_since(noon(machine.truth));
            // Sleep of less than a second or so may be overlooked, until an answer contradicts what was known.
            let bound = SignedDuration::from_millis(1_000 + step.there + step.back);
            prop_assert!(off.abs() <= bound, "{off:?} off, of {bound:?}: {machine:?}");
            let skew = timekeeping.skew(received).unwrap();
            prop_assert!(skew.least <= skew.most);
            prop_assert!(skew.ahead().abs() <= SignedDuration::from_millis((machine.wall - machine.truth).abs() + 1_000 + step.there + step.back));
        }
    }

    /// Guarantee for subjects: a clock that is fast or set forward does not shorten access.
    #[test]
    fn a_fast_machine_is_at_most_about_1s_ahead_of_the_server(
        fast in 0_i64..4_000_000,
        steps in prop::collection::vec(any_step(), 1..20),
    ) {
        let mut machine = Machine { truth: 0, wall: fast, up: 0 };
        let mut timekeeping = Timekeeping::since(noon(fast));
        for (number, step) in steps.into_iter().enumerate() {
            // Set forward only, and never asleep.
            machine.wall += step.set.abs();
            machine.pass(step.passes);
            let before = machine.reading();
            if number > 0 {
                let early = timekeeping.now(before).duration_since(noon(machine.truth));
                // A second, the way of the last answer, and what a minute's drift adds.
                prop_assert!(early <= SignedDuration::from_millis(1_000 + 6_000 + 70), "{early:?} early");
            }
            machine.pass(step.there);
            let date = whole_second(noon(machine.truth));
            machine.pass(step.back);
            timekeeping.heard(&ClockReading { date, sent: before, received: machine.reading() });
        }
    }
    /// Guarantee for the cluster: while this machine's clock is right, an API server clock that is set back extends no
    /// access.
    #[test]
    fn a_server_clock_set_back_extends_no_access(
        back in 0_i64..4_000_000,
        honest in prop::collection::vec(any_step(), 1..10),
        after in prop::collection::vec(any_step(), 1..10),
    ) {
        let mut machine = Machine { truth: 0, wall: 0, up: 0 };
        let mut timekeeping = Timekeeping::since(noon(0));
        let (count, mut since) = (honest.len(), 0);
        for (number, step) in honest.into_iter().chain(after).enumerate() {
            machine.pass(step.passes);
            let sent = machine.reading();
            machine.pass(step.there);
            let shown = machine.truth - if number < count { 0 } else { back };
            machine.pass(step.back);
            timekeeping.heard(&ClockReading { date: whole_second(noon(shown)), sent, received: machine.reading() });
            if number < count {
                since = machine.truth;
                continue;
            }
            let late = noon(machine.truth).duration_since(timekeeping.now(machine.reading()));
            // The width of the bounds after the last correct response, and the possible drift since.
            let bound = SignedDuration::from_millis(1_000 + 3_000 + (machine.truth - since) / 1_000 + 1);
            prop_assert!(late <= bound, "{late:?} late, of {bound:?}");
        }
    }
}
