//! Property: two replicas never lead at once.
//!
//! Their clocks run at different rates, requests take any time and can be lost in both directions, and processes are
//! killed and restarted.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// Number of processes.
const PLACES: usize = 3;

/// One event in the simulated world.
#[derive(Clone, Debug)]
enum Happening {
    /// Time passes.
    Pass(Duration),
    /// A process takes its next step; its request is lost if `lost`.
    Act { place: usize, lost: bool },
    /// The oldest request of a process reaches the API server.
    Arrive { place: usize },
    /// The response that a process waits for arrives, or is lost.
    Answer { place: usize, lost: bool },
    /// The watch of a process delivers the Lease as it was `behind` versions ago.
    Watch { place: usize, behind: usize },
    /// A process is killed, and a new one starts in its place.
    Restart { place: usize },
    /// A process stops and gives the Lease back; a new one starts.
    Resign { place: usize },
    /// A process gives the Lease back and continues; its request is lost if `lost`.
    StepAside { place: usize, lost: bool },
}

#[derive(Clone, Debug)]
enum Request {
    Read,
    Write(LeaseWrite),
}

#[derive(Clone, Debug)]
enum Answer {
    Read(Option<LeaseFacts>),
    Wrote(LeaseFacts),
    Conflict,
}

/// Number of a request: a response reaches only the process that sent this request.
type Serial = usize;

struct Process {
    candidate: Candidate,
    /// Rate of its clock in thousandths, and its first value.
    rate: u32,
    offset: Duration,
    /// The pending request, and when it was sent by the process's clock.
    sent: Option<(Serial, Duration)>,
    requests: VecDeque<(Serial, Request)>,
    answer: Option<Answer>,
}

struct World {
    now: Duration,
    /// Every version of the Lease, oldest first.
    versions: Vec<LeaseFacts>,
    processes: Vec<Process>,
    born: u64,
    serial: Serial,
}

fn process(place: usize, born: u64, rate: u32, offset: Duration) -> Process {
    Process {
        candidate: Candidate::new(ReplicaId::new(&format!("curfew-{place}"), born)),
        rate,
        offset,
        sent: None,
        requests: VecDeque::new(),
        answer: None,
    }
}

impl Process {
    fn clock(&self, now: Duration) -> Duration {
        self.offset + now * self.rate / 1000
    }

    fn leads(&self, now: Duration) -> bool {
        self.candidate
            .leads_until()
            .is_some_and(|until| self.clock(now) < until)
    }
}

impl World {
    fn new(clocks: &[(u32, Duration)]) -> Self {
        let processes = clocks
            .iter()
            .enumerate()
            .map(|(place, (rate, offset))| process(place, 0, *rate, *offset))
            .collect();
        Self {
            now: Duration::ZERO,
            versions: Vec::new(),
            processes,
            born: 0,
            serial: 0,
        }
    }

    /// Wall clocks do not matter: a renewal only has to change the value.
    fn wall(&self) -> Timestamp {
        Timestamp::from_millisecond(i64::try_from(self.now.as_millis()).unwrap()).unwrap()
    }

    fn happen(&mut self, happening: &Happening) {
        match *happening {
            Happening::Pass(time) => self.now += time,
            Happening::Act { place, lost } => self.act(place, lost),
            Happening::Arrive { place } => self.arrive(place),
            Happening::Answer { place, lost } => self.answer(place, lost),
            Happening::Watch { place, behind } => {
                let seen = self.versions.iter().rev().nth(behind).cloned();
                let process = &mut self.processes[place];
                let clock = process.clock(self.now);
                if seen.is_some() {
                    process.candidate.observe(seen, clock);
                }
            }
            Happening::Restart { place } => self.restart(place),
            Happening::Resign { place } => {
                let (now, wall) = (self.now, self.wall());
                let process = &mut self.processes[place];
                if let Some(write) = process.candidate.resign(wall) {
                    assert!(!process.leads(now), "it has resigned and leads");
                    self.store(&write);
                }
                self.restart(place);
            }
            Happening::StepAside { place, lost } => self.step_aside(place, lost),
        }
    }

    /// Only if the process has no pending request.
    fn step_aside(&mut self, place: usize, lost: bool) {
        let (now, wall) = (self.now, self.wall());
        let process = &mut self.processes[place];
        let clock = process.clock(now);
        if process.sent.is_some() {
            return;
        }
        let Some(write) = process.candidate.step_aside(clock, wall) else {
            return;
        };
        assert!(!process.leads(now), "it has stepped aside and leads");
        if lost {
            process.candidate.failed(clock);
            return;
        }
        let stored = self.store(&write);
        let candidate = &mut self.processes[place].candidate;
        match stored {
            Some(lease) => candidate.observe(Some(lease), clock),
            None => candidate.conflicted(),
        }
    }

    fn act(&mut self, place: usize, lost: bool) {
        let (now, wall) = (self.now, self.wall());
        let process = &mut self.processes[place];
        if process.sent.is_some() {
            return;
        }
        let clock = process.clock(now);
        let request = match process.candidate.next(clock, wall) {
            LeaseStep::Read => Request::Read,
            LeaseStep::Write(write) => Request::Write(write),
            LeaseStep::Wait(until) => {
                assert!(until > clock, "it waits for a time in the past");
                return;
            }
        };
        if lost {
            process.candidate.failed(clock);
        } else {
            self.serial += 1;
            process.sent = Some((self.serial, clock));
            process.requests.push_back((self.serial, request));
        }
    }

    fn arrive(&mut self, place: usize) {
        let Some((serial, request)) = self.processes[place].requests.pop_front() else {
            return;
        };
        let answer = match request {
            Request::Read => Answer::Read(self.versions.last().cloned()),
            Request::Write(write) => self.store(&write).map_or(Answer::Conflict, Answer::Wrote),
        };
        let process = &mut self.processes[place];
        if process.sent.is_some_and(|(awaited, _)| awaited == serial) {
            process.answer = Some(answer);
        }
    }

    fn answer(&mut self, place: usize, lost: bool) {
        let now = self.now;
        let process = &mut self.processes[place];
        let clock = process.clock(now);
        let Some((_, sent)) = process.sent else { return };
        if lost {
            // The request can still arrive.
            process.sent = None;
            process.answer = None;
            process.candidate.failed(clock);
            return;
        }
        let Some(answer) = process.answer.take() else {
            return;
        };
        process.sent = None;
        match answer {
            Answer::Read(lease) => process.candidate.observe(lease, clock),
            Answer::Wrote(lease) => process.candidate.wrote(lease, sent, clock),
            Answer::Conflict => process.candidate.conflicted(),
        }
    }

    fn restart(&mut self, place: usize) {
        self.born += 1;
        let old = &self.processes[place];
        let mut new = process(place, self.born, old.rate, old.offset);
        // Requests of a dead process can still arrive.
        new.requests.clone_from(&old.requests);
        self.processes[place] = new;
    }

    fn store(&mut self, write: &LeaseWrite) -> Option<LeaseFacts> {
        let current = self.versions.last().map(|lease| lease.version.clone());
        (write.expected == current).then(|| {
            let stored = LeaseFacts {
                terms: write.terms.clone(),
                version: (self.versions.len() + 1).to_string(),
            };
            self.versions.push(stored.clone());
            stored
        })
    }

    fn leaders(&self) -> Vec<usize> {
        let leads = |place: &usize| self.processes[*place].leads(self.now);
        (0..self.processes.len()).filter(leads).collect()
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    let place = || 0..PLACES;
    let rarely = || prop::bool::weighted(0.1);
    prop_oneof![
        12 => (1_u64..4_000).prop_map(|milliseconds| Happening::Pass(Duration::from_millis(milliseconds))),
        8 => (place(), rarely()).prop_map(|(place, lost)| Happening::Act { place, lost }),
        8 => place().prop_map(|place| Happening::Arrive { place }),
        8 => (place(), rarely()).prop_map(|(place, lost)| Happening::Answer { place, lost }),
        4 => (place(), 0_usize..3).prop_map(|(place, behind)| Happening::Watch { place, behind }),
        1 => place().prop_map(|place| Happening::Restart { place }),
        1 => place().prop_map(|place| Happening::Resign { place }),
        1 => (place(), rarely()).prop_map(|(place, lost)| Happening::StepAside { place, lost }),
    ]
}

/// Rates up to a tenth too fast or too slow, so two rates differ by at most a fifth.
fn clocks() -> impl Strategy<Value = Vec<(u32, Duration)>> {
    let clock =
        (900_u32..=1_100, 0_u64..1_000_000).prop_map(|(rate, offset)| (rate, Duration::from_millis(offset)));
    prop::collection::vec(clock, PLACES)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn two_replicas_never_lead_at_once(clocks in clocks(), happenings in prop::collection::vec(happening(), 1..300)) {
        let mut world = World::new(&clocks);
        for happening in &happenings {
            world.happen(happening);
            let leaders = world.leaders();
            prop_assert!(leaders.len() <= 1, "{leaders:?} lead after {happening:?}");
        }
    }

    #[test]
    fn some_replica_leads_once_requests_are_answered(
        clocks in clocks(),
        happenings in prop::collection::vec(happening(), 0..100),
    ) {
        let mut world = World::new(&clocks);
        for happening in &happenings {
            world.happen(happening);
        }
        // The longest time that a Lease counts, by the slowest clock, plus pending requests.
        let mut led = false;
        for _ in 0..140 {
            world.now += Duration::from_millis(100);
            for place in 0..PLACES {
                world.act(place, false);
                world.arrive(place);
                world.answer(place, false);
            }
            led |= !world.leaders().is_empty();
        }
        prop_assert!(led, "no replica led: {:?}", world.versions.last());
        prop_assert_eq!(world.leaders().len(), 1);
    }
}
