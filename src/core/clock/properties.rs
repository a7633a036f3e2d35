//! What holds of every clock that heard an honest server, whatever this machine's own clocks do.

use proptest::prelude::*;

use super::tests::noon;
use super::*;

/// What happens between two answers.
#[derive(Clone, Debug)]
struct Step {
    /// True time that passes until an answer is asked for, in milliseconds.
    passes: i64,
    /// How long that answer takes to be made, and to come.
    there: i64,
    back: i64,
    /// By how much the wall clock is set before.
    set: i64,
    /// How long the machine sleeps before, with monotonic time standing still.
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

/// A machine: what is true, and what its clocks show.
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

    fn reading(&self) -> Reading {
        Reading {
            wall: noon(self.wall),
            up: Duration::from_millis(u64::try_from(self.up).unwrap()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn after_each_answer_it_is_known_to_a_second_and_its_way_what_time_it_is_at_the_server(
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
            timekeeping.heard(&Answer { date, sent, received });
            let off = timekeeping.now(received).duration_since(noon(machine.truth));
            // Sleep of less than a second or so may be overlooked, until an answer contradicts what was known.
            let bound = SignedDuration::from_millis(1_000 + step.there + step.back);
            prop_assert!(off.abs() <= bound, "{off:?} off, of {bound:?}: {machine:?}");
            let skew = timekeeping.skew(received).unwrap();
            prop_assert!(skew.least <= skew.most);
            prop_assert!(skew.ahead().abs() <= SignedDuration::from_millis((machine.wall - machine.truth).abs() + 1_000 + step.there + step.back));
        }
    }

    /// The promise to whoever has access: a clock that is fast, or is set forward, takes nothing of it.
    #[test]
    fn a_machine_that_is_fast_waits_for_the_server_to_a_second(
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
            timekeeping.heard(&Answer { date, sent: before, received: machine.reading() });
        }
    }
    /// The promise to everybody else: while this machine's clock is right, an API server's that is set back prolongs
    /// nothing.
    #[test]
    fn a_server_that_is_set_back_prolongs_nothing(
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
            timekeeping.heard(&Answer { date: whole_second(noon(shown)), sent, received: machine.reading() });
            if number < count {
                since = machine.truth;
                continue;
            }
            let late = noon(machine.truth).duration_since(timekeeping.now(machine.reading()));
            // What the last honest answer left open, and what clocks may have run apart since.
            let bound = SignedDuration::from_millis(1_000 + 3_000 + (machine.truth - since) / 1_000 + 1);
            prop_assert!(late <= bound, "{late:?} late, of {bound:?}");
        }
    }
}
