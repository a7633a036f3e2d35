//! Metrics of the operator.
//!
//! Each label has a closed set of values, and each series exists from the start. A counter that appears with its first
//! failure would hide that failure from `rate()`.

use crate::core::decision::verdict::Counting;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::SignedDuration;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::api::{DecisionKind, GrantState, RevocationCause};
use crate::cluster::client::observer::{Observer, Outcome};
use crate::core::decision::verdict::DecisionVerdict;
use crate::core::grant::revocation::DueRevocation;
use crate::core::guard::self_test::forgery::Forgery;
use crate::core::guard::self_test::trial::TrialOutcome;
use crate::core::plan::effect::EffectKind;

/// Media type of [`Metrics::encode`].
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of `activation_seconds`. One grant alone takes about 13 ms. Of 1,000 grants at once, 105 a second became
/// active, so the last waited 10 s. After a minute people give up.
const ACTIVATION_BUCKETS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
];

/// Upper bounds of `revocation_lag_seconds`. One grant alone takes about 3 ms, 1,000 at once about 2 s. Curfew promises
/// 2 s with a live replica, so 2 s is a bound: the share within the promise can be read exactly. A fuse counts whole
/// seconds, so its own lag is about 1 s. 500 fuses at once were up to 82 s late, hence 300.
const LAG_BUCKETS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0,
];

/// Task that made a reconcile. The series `curfew_passes` has it as the label `lane`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskLabel {
    /// The controller: reconciles grants that changed.
    Controller,
    /// The expiry task: ends access that is overdue.
    Expiry,
    /// The orphan task: deletes artifacts of deleted grants.
    Orphans,
}

impl TaskLabel {
    /// All values, so that each series exists from the start.
    pub const ALL: [Self; 3] = [Self::Controller, Self::Expiry, Self::Orphans];
}

/// Step of a reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReconcileStep {
    /// Waits for the lock on the grant.
    Lock,
    /// Reads the state of guards and clocks, and tries forgeries if the state is not known.
    Preconditions,
    /// Reads the artifacts and the facts about the grant.
    Observe,
    /// Makes the plan.
    Decide,
    /// Reads live what a final decision depends on.
    Refresh,
    /// Writes.
    Apply,
}

impl ReconcileStep {
    /// All values, so that each series exists from the start.
    pub const ALL: [Self; 6] = [
        Self::Lock,
        Self::Preconditions,
        Self::Observe,
        Self::Decide,
        Self::Refresh,
        Self::Apply,
    ];
}

/// Verdict on a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VerdictLabel {
    /// The decision counts.
    Counted,
    /// The decision changes nothing.
    Ignored,
    /// The stage of the decision has not begun yet.
    Waiting,
}

impl VerdictLabel {
    /// All values, so that each series exists from the start.
    pub const ALL: [Self; 3] = [Self::Counted, Self::Ignored, Self::Waiting];
}

/// Result of one reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PassOutcome {
    /// Nothing is left to do before the next change or deadline.
    Done,
    /// An effect or a read failed; the reconcile will be retried.
    Failed,
}

impl PassOutcome {
    /// All values, so that each series exists from the start.
    pub const ALL: [Self; 2] = [Self::Done, Self::Failed];
}

/// Upper bounds of `reconcile_step_duration_seconds`. To decide takes less than 1 ms, to observe or apply about 5 ms. A
/// reconcile waits at most 5 s for the self-test, and a request to the API server may take 10 s.
const STEP_BUCKETS: [f64; 11] = [0.0001, 0.001, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 5.0, 10.0];

/// Label values, written by hand: a renamed Rust variant must not rename a series. A variant without a value does not
/// compile.
macro_rules! label_values {
    ($($name:ident { $($variant:ident => $value:literal,)+ })+) => {
        $(impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
                encoder.write_str(match self {
                    $(Self::$variant => $value,)+
                })
            }
        })+
    };
}

label_values! {
    TaskLabel {
        Controller => "Controller",
        Expiry => "Expiry",
        Orphans => "Orphans",
    }
    ReconcileStep {
        Lock => "Lock",
        Preconditions => "Preconditions",
        Observe => "Observe",
        Decide => "Decide",
        Refresh => "Refresh",
        Apply => "Apply",
    }
    VerdictLabel {
        Counted => "Counted",
        Ignored => "Ignored",
        Waiting => "Waiting",
    }
    PassOutcome {
        Done => "Done",
        Failed => "Failed",
    }
    DecisionKind {
        Approve => "Approve",
        Deny => "Deny",
        Revoke => "Revoke",
    }
    EffectKind {
        RecordStatus => "RecordStatus",
        RecordVerdict => "RecordVerdict",
        AddFinalizer => "AddFinalizer",
        RemoveFinalizer => "RemoveFinalizer",
        CreateFuse => "CreateFuse",
        CreateRole => "CreateRole",
        CreateBinding => "CreateBinding",
        HandOver => "HandOver",
        AwaitFuses => "AwaitFuses",
        DeleteFuse => "DeleteFuse",
        DeleteRole => "DeleteRole",
        DeleteBinding => "DeleteBinding",
        ProveAbsent => "ProveAbsent",
        Announce => "Announce",
        DeleteGrant => "DeleteGrant",
    }
    Forgery {
        AnotherRequester => "AnotherRequester",
        HiddenGroup => "HiddenGroup",
        ReservedLabel => "ReservedLabel",
        OwnedGrant => "OwnedGrant",
        AnotherDecider => "AnotherDecider",
        ApprovalByServiceAccount => "ApprovalByServiceAccount",
        OwnedDecision => "OwnedDecision",
        Status => "Status",
        Fuse => "Fuse",
        Role => "Role",
        Binding => "Binding",
        UnlabelledJob => "UnlabelledJob",
    }
    Outcome {
        Applied => "Applied",
        AlreadySo => "AlreadySo",
        Refused => "Refused",
        Conflict => "Conflict",
        Failed => "Failed",
        TimedOut => "TimedOut",
    }
    RevocationCause {
        DeadlineReached => "DeadlineReached",
        ArtifactChanged => "ArtifactChanged",
        RoleChanged => "RoleChanged",
        PolicyChanged => "PolicyChanged",
        PolicyDeleted => "PolicyDeleted",
        GrantDeleted => "GrantDeleted",
        RevokeDecision => "RevokeDecision",
        RefusedByApiServer => "RefusedByApiServer",
    }
    TrialOutcome {
        Refused => "Refused",
        Accepted => "Accepted",
        Untried => "Untried",
        Unknown => "Unknown",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: GrantState,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReadiness {
    ready: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEffect {
    kind: EffectKind,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPass {
    lane: TaskLabel,
    outcome: PassOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStep {
    step: ReconcileStep,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCause {
    cause: RevocationCause,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfForgery {
    forgery: Forgery,
    outcome: TrialOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDecision {
    decision: DecisionKind,
    verdict: VerdictLabel,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBuild {
    version: &'static str,
}

type Level = Gauge<u64, AtomicU64>;

/// All metrics. Clones share the series.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    grants: Family<OfState, Level>,
    overdue_grants: Level,
    unfused_grants: Level,
    policies: Family<OfReadiness, Level>,
    activation: Histogram,
    revocation_lag: Histogram,
    effects: Family<OfEffect, Counter>,
    passes: Family<OfPass, Counter>,
    steps: Family<OfStep, Histogram, fn() -> Histogram>,
    revocations: Family<OfCause, Counter>,
    guards_in_force: Level,
    sweep_last_success: Level,
    leader: Level,
    clock_skew: Gauge<f64, AtomicU64>,
    forgeries: Family<OfForgery, Counter>,
    decisions: Family<OfDecision, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All series, at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Arc::default(),
            grants: Family::default(),
            overdue_grants: Gauge::default(),
            unfused_grants: Gauge::default(),
            policies: Family::default(),
            activation: Histogram::new(ACTIVATION_BUCKETS),
            revocation_lag: Histogram::new(LAG_BUCKETS),
            effects: Family::default(),
            passes: Family::default(),
            steps: Family::new_with_constructor(|| Histogram::new(STEP_BUCKETS)),
            revocations: Family::default(),
            guards_in_force: Gauge::default(),
            sweep_last_success: Gauge::default(),
            leader: Gauge::default(),
            clock_skew: Gauge::default(),
            forgeries: Family::default(),
            decisions: Family::default(),
        };
        metrics.start_at_zero();
        metrics.registry = Arc::new(metrics.register());
        metrics
    }

    fn start_at_zero(&self) {
        for state in GrantState::ALL {
            self.set_grants(state, 0);
        }
        for ready in [true, false] {
            self.set_policies(ready, 0);
        }
        for kind in EffectKind::ALL {
            for outcome in Outcome::ALL {
                drop(self.effects.get_or_create(&OfEffect { kind, outcome }));
            }
        }
        for lane in TaskLabel::ALL {
            for outcome in PassOutcome::ALL {
                drop(self.passes.get_or_create(&OfPass { lane, outcome }));
            }
        }
        for step in ReconcileStep::ALL {
            drop(self.steps.get_or_create(&OfStep { step }));
        }
        for cause in RevocationCause::ALL {
            drop(self.revocations.get_or_create(&OfCause { cause }));
        }
        for decision in DecisionKind::ALL {
            for verdict in VerdictLabel::ALL {
                drop(self.decisions.get_or_create(&OfDecision { decision, verdict }));
            }
        }
        for forgery in Forgery::ALL {
            for outcome in TrialOutcome::ALL {
                drop(self.forgeries.get_or_create(&OfForgery { forgery, outcome }));
            }
        }
    }

    /// Registers all series. The registry itself appends the unit, `_total` and the full stop of the help text.
    fn register(&self) -> Registry {
        let mut registry = Registry::with_prefix("curfew");
        self.register_grants(&mut registry);
        self.register_work(&mut registry);
        self.register_process(&mut registry);
        registry
    }

    fn register_grants(&self, registry: &mut Registry) {
        registry.register("grants", "Grants by state", self.grants.clone());
        registry.register(
            "overdue_grants",
            "Grants that have expired and whose access is not proven absent yet",
            self.overdue_grants.clone(),
        );
        registry.register(
            "unfused_grants",
            "Grants with active access whose policy wants a fuse and that have no lit fuse",
            self.unfused_grants.clone(),
        );
        registry.register(
            "policies",
            "Policies by readiness: whether requests can use the policy",
            self.policies.clone(),
        );
        registry.register_with_unit(
            "activation",
            "Time from the creation of a grant until its access is active",
            Unit::Seconds,
            self.activation.clone(),
        );
        registry.register_with_unit(
            "revocation_lag",
            "Time from the expiry of access until the proof that the access is gone",
            Unit::Seconds,
            self.revocation_lag.clone(),
        );
    }

    fn register_work(&self, registry: &mut Registry) {
        registry.register(
            "effects",
            "Attempted changes to the cluster by kind and outcome",
            self.effects.clone(),
        );
        registry.register(
            "passes",
            "Reconciles of one object by task (lane) and outcome",
            self.passes.clone(),
        );
        registry.register_with_unit(
            "reconcile_step_duration",
            "Time of one step of a reconcile",
            Unit::Seconds,
            self.steps.clone(),
        );
        registry.register(
            "revocations",
            "Access that is proven absent, by the cause of its end",
            self.revocations.clone(),
        );
    }

    fn register_process(&self, registry: &mut Registry) {
        registry.register(
            "guards_in_force",
            "1 if the admission guards are proven to be in force wherever access is or may be granted, else 0",
            self.guards_in_force.clone(),
        );
        registry.register_with_unit(
            "sweep_last_success_timestamp",
            "Last time that the sweep succeeded, in seconds since 1970 (UTC); 0: no heartbeat of the sweep yet",
            Unit::Seconds,
            self.sweep_last_success.clone(),
        );
        registry.register(
            "leader",
            "1 if this process leads, else 0; the sum over all replicas is 1 except for moments",
            self.leader.clone(),
        );
        registry.register_with_unit(
            "clock_skew",
            "Least time by which this machine's clock is ahead of the API server's; negative: behind",
            Unit::Seconds,
            self.clock_skew.clone(),
        );
        registry.register(
            "self_test_forgeries",
            "Forgeries of the self-test by outcome; any outcome but Refused stops new access",
            self.forgeries.clone(),
        );
        registry.register(
            "decisions",
            "Decisions of people by verdict",
            self.decisions.clone(),
        );
        registry.register(
            "build",
            "Version of this process",
            Info::new(OfBuild {
                version: env!("CARGO_PKG_VERSION"),
            }),
        );
    }

    /// Sets the number of grants in a state.
    pub fn set_grants(&self, state: GrantState, number: usize) {
        self.grants.get_or_create(&OfState { state }).set(level(number));
    }

    /// Sets the number of expired grants whose access is not proven absent.
    pub fn set_overdue_grants(&self, number: usize) {
        self.overdue_grants.set(level(number));
    }

    /// Sets the number of grants with active access that want a fuse and have no lit one.
    pub fn set_unfused_grants(&self, number: usize) {
        self.unfused_grants.set(level(number));
    }

    /// Sets the number of policies that are ready, or not ready.
    pub fn set_policies(&self, ready: bool, number: usize) {
        self.policies
            .get_or_create(&OfReadiness { ready })
            .set(level(number));
    }

    /// Notes the start of access, and the time since this process first saw the grant. The creation timestamp of the grant
    /// has whole seconds only.
    pub fn activated(&self, after: SignedDuration) {
        self.activation.observe(seconds(after));
    }

    /// Notes the proof that access is absent. `lag` is the time since the promised end, if an end was promised.
    pub fn revoked(&self, cause: RevocationCause, lag: Option<SignedDuration>) {
        self.revocations.get_or_create(&OfCause { cause }).inc();
        if let Some(lag) = lag {
            self.revocation_lag.observe(seconds(lag));
        }
    }

    /// Notes the outcome of an effect.
    pub fn effect_applied(&self, kind: EffectKind, outcome: Outcome) {
        self.effects.get_or_create(&OfEffect { kind, outcome }).inc();
    }

    /// Notes the end of a reconcile.
    pub fn passed(&self, lane: TaskLabel, outcome: PassOutcome) {
        self.passes.get_or_create(&OfPass { lane, outcome }).inc();
    }

    /// Notes the time of one step of a reconcile.
    pub fn step_took(&self, step: ReconcileStep, time: Duration) {
        self.steps
            .get_or_create(&OfStep { step })
            .observe(time.as_secs_f64());
    }

    /// Sets whether the guards are proven to be in force.
    pub fn set_guards_in_force(&self, so: bool) {
        self.guards_in_force.set(u64::from(so));
    }

    /// Sets the time of the last success of the sweep.
    pub fn set_sweep_last_success(&self, at: jiff::Timestamp) {
        self.sweep_last_success
            .set(u64::try_from(at.as_second()).unwrap_or_default());
    }

    /// Sets whether this process leads.
    pub fn set_leader(&self, so: bool) {
        self.leader.set(u64::from(so));
    }

    /// Sets the least time by which this machine's clock is ahead of the API server's; negative: behind.
    pub fn set_clock_skew(&self, ahead: SignedDuration) {
        self.clock_skew.set(ahead.as_secs_f64());
    }

    /// Notes the outcome of a forgery.
    pub fn forgery_tried(&self, forgery: Forgery, outcome: TrialOutcome) {
        self.forgeries
            .get_or_create(&OfForgery { forgery, outcome })
            .inc();
    }

    /// All series as [`OPEN_METRICS`] text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl EncodeLabelValue for GrantState {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.write_str(self.as_str())
    }
}

impl Observer for Metrics {
    fn effect(&self, kind: EffectKind, outcome: Outcome) {
        self.effect_applied(kind, outcome);
    }

    fn forgery(&self, forgery: Forgery, outcome: TrialOutcome) {
        self.forgery_tried(forgery, outcome);
    }

    fn activated(&self, after: Option<SignedDuration>) {
        if let Some(after) = after {
            Self::activated(self, after);
        }
    }

    fn judged(&self, judged: &DecisionVerdict) {
        let verdict = match judged.verdict.standing {
            Counting::Counted => VerdictLabel::Counted,
            Counting::Ignored => VerdictLabel::Ignored,
            Counting::Waiting => VerdictLabel::Waiting,
        };
        let decision = judged.decision.kind;
        self.decisions
            .get_or_create(&OfDecision { decision, verdict })
            .inc();
    }

    fn ended(&self, ending: &DueRevocation, at: jiff::Timestamp) {
        let promised = ending.cause == RevocationCause::DeadlineReached;
        self.revoked(ending.cause, promised.then(|| at.duration_since(ending.due)));
    }
}

fn level(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Seconds, at least 0. Clock skew can make a time negative, but the sum of a histogram may only grow.
fn seconds(time: SignedDuration) -> f64 {
    time.max(SignedDuration::ZERO).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::golden::assert_golden;

    #[track_caller]
    fn assert_line(text: &str, line: &str) {
        assert!(text.lines().any(|other| other == line), "no {line} in\n{text}");
    }

    #[test]
    fn the_series_are_the_documented_ones() {
        let text = Metrics::new().encode().unwrap();
        let families: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .collect();
        assert_eq!(
            families,
            [
                "curfew_grants gauge",
                "curfew_overdue_grants gauge",
                "curfew_unfused_grants gauge",
                "curfew_policies gauge",
                "curfew_activation_seconds histogram",
                "curfew_revocation_lag_seconds histogram",
                "curfew_effects counter",
                "curfew_passes counter",
                "curfew_reconcile_step_duration_seconds histogram",
                "curfew_revocations counter",
                "curfew_guards_in_force gauge",
                "curfew_sweep_last_success_timestamp_seconds gauge",
                "curfew_leader gauge",
                "curfew_clock_skew_seconds gauge",
                "curfew_self_test_forgeries counter",
                "curfew_decisions counter",
                "curfew_build info",
            ]
        );
        assert_line(&text, "# UNIT curfew_revocation_lag_seconds seconds");
        assert_line(
            &text,
            "# HELP curfew_revocations Access that is proven absent, by the cause of its end.",
        );
        assert!(text.ends_with("# EOF\n"));
    }

    /// Name, type, unit, labels and label values of each series: dashboards and alerts depend on them.
    #[test]
    fn golden_metrics_are_unchanged() {
        let text = Metrics::new().encode().unwrap();
        let series: String = text
            .lines()
            .filter(|line| !line.starts_with("# HELP"))
            .map(|line| {
                let series = line.rsplit_once(' ').filter(|_| !line.starts_with('#'));
                series
                    .map_or(line, |(series, _)| series)
                    .replace(env!("CARGO_PKG_VERSION"), "<version>")
                    + "\n"
            })
            .collect();
        // A family lists its series in no fixed order.
        let mut families: Vec<Vec<&str>> = Vec::new();
        for line in series.lines() {
            match families.last_mut() {
                Some(family) if !line.starts_with("# TYPE") && line != "# EOF" => family.push(line),
                _ => families.push(vec![line]),
            }
        }
        let sorted = families.into_iter().flat_map(|mut family| {
            if family.iter().any(|line| line.contains("le=")) {
                // The sort is stable: buckets keep their order.
                family.sort_by_key(|line| line.split_once("step=").map(|(_, step)| step));
            } else {
                family.sort_unstable();
            }
            family
        });
        assert_golden(
            "metrics.txt",
            &sorted.map(|line| line.to_owned() + "\n").collect::<String>(),
        );
    }

    #[test]
    fn each_series_starts_at_zero() {
        let text = Metrics::new().encode().unwrap();
        for line in [
            r#"curfew_grants{state="Activating"} 0"#,
            "curfew_overdue_grants 0",
            "curfew_unfused_grants 0",
            r#"curfew_policies{ready="false"} 0"#,
            r#"curfew_effects_total{kind="DeleteBinding",outcome="TimedOut"} 0"#,
            r#"curfew_passes_total{lane="Orphans",outcome="Failed"} 0"#,
            r#"curfew_revocations_total{cause="GrantDeleted"} 0"#,
            "curfew_revocation_lag_seconds_count 0",
            "curfew_guards_in_force 0",
            "curfew_sweep_last_success_timestamp_seconds 0",
            "curfew_leader 0",
            "curfew_clock_skew_seconds 0.0",
            r#"curfew_self_test_forgeries_total{forgery="HiddenGroup",outcome="Accepted"} 0"#,
            concat!("curfew_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert_line(&text, line);
        }
        let series = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(series("curfew_grants{"), 9);
        assert_eq!(series("curfew_effects_total{"), 90);
        assert_eq!(series("curfew_passes_total{"), 6);
        assert_eq!(series("curfew_revocations_total{"), 8);
        assert_eq!(series("curfew_self_test_forgeries_total{"), 48);
        assert_eq!(series("curfew_decisions_total{"), 9);
    }

    #[test]
    fn clones_share_their_series() {
        let metrics = Metrics::new();
        let told = metrics.clone();
        told.set_grants(GrantState::Active, 3);
        told.set_overdue_grants(1);
        told.set_policies(true, 2);
        told.activated(SignedDuration::from_millis(13));
        told.effect_applied(EffectKind::CreateBinding, Outcome::Applied);
        told.effect_applied(EffectKind::CreateBinding, Outcome::Applied);
        told.passed(TaskLabel::Expiry, PassOutcome::Done);
        let text = metrics.encode().unwrap();
        for line in [
            r#"curfew_grants{state="Active"} 3"#,
            "curfew_overdue_grants 1",
            r#"curfew_policies{ready="true"} 2"#,
            r#"curfew_activation_seconds_bucket{le="0.01"} 0"#,
            r#"curfew_activation_seconds_bucket{le="0.025"} 1"#,
            "curfew_activation_seconds_sum 0.013",
            r#"curfew_effects_total{kind="CreateBinding",outcome="Applied"} 2"#,
            r#"curfew_passes_total{lane="Expiry",outcome="Done"} 1"#,
        ] {
            assert_line(&text, line);
        }
    }

    #[test]
    fn a_lag_of_2s_is_within_the_promise() {
        let metrics = Metrics::new();
        metrics.revoked(
            RevocationCause::DeadlineReached,
            Some(SignedDuration::from_secs(2)),
        );
        let text = metrics.encode().unwrap();
        assert_line(&text, r#"curfew_revocation_lag_seconds_bucket{le="1.0"} 0"#);
        assert_line(&text, r#"curfew_revocation_lag_seconds_bucket{le="2.0"} 1"#);
        assert_line(&text, r#"curfew_revocations_total{cause="DeadlineReached"} 1"#);
    }

    #[test]
    fn access_without_a_promised_end_has_no_lag() {
        let metrics = Metrics::new();
        metrics.revoked(RevocationCause::GrantDeleted, None);
        let text = metrics.encode().unwrap();
        assert_line(&text, r#"curfew_revocations_total{cause="GrantDeleted"} 1"#);
        assert_line(&text, "curfew_revocation_lag_seconds_count 0");
    }

    #[test]
    fn clock_skew_makes_no_negative_lag() {
        let metrics = Metrics::new();
        metrics.revoked(
            RevocationCause::DeadlineReached,
            Some(SignedDuration::from_secs(-5)),
        );
        let text = metrics.encode().unwrap();
        assert_line(&text, "curfew_revocation_lag_seconds_sum 0.0");
        assert_line(&text, "curfew_revocation_lag_seconds_count 1");
    }
}
