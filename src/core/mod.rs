//! All decisions of Curfew, as pure and total functions: no clock, no client, no runtime. The same input gives the same
//! result in the operator, in a command and in a test.
//!
//! ```text
//! Policy::parse   Request::parse      text becomes valid types
//!        └──────┬──────┘
//!             admit                   does the policy admit the request now?
//!            resolve                  which rules does the access have?
//!               │
//! facts ─────► plan ─────► Plan       what to do with the grant now
//! ```

mod act_as;
mod admit;
mod agenda;
mod announce;
mod approval;
mod artifact;
pub mod clock;
mod condition;
mod decision;
mod digest;
pub mod drain;
mod effect;
mod ending;
mod ends;
mod expression;
mod facts;
#[cfg(test)]
mod fixtures;
mod flame;
mod fuse;
mod guard;
pub mod heartbeat;
mod judge;
pub mod lease;
mod live;
mod naming;
mod orphan;
mod plan;
mod policy;
pub mod preflight;
mod problem;
mod question;
mod refusal;
mod request;
mod resolve;
mod retention;
mod retry;
mod rules;
pub mod self_test;
mod span;
pub mod status;
pub mod sweep;
mod tally;
mod verdict;
mod window;

pub use admit::{Admission, admit};
pub use agenda::Agenda;
pub use announce::{Announcement, AuditRecord, DecisionRecord, EventText, GivenAccess};
pub use approval::{Approval, Demands, Stage};
pub use artifact::{Artifact, Body, GrantIdentity, Holder, artifacts, kind_name};
pub use condition::Condition;
pub use decision::Standing as DecisionStanding;
pub use decision::{Authority, Decision, Judged, Objection, Verdict};
pub use effect::{Effect, EffectKind, Plan, Precedence, Target};
pub use ending::Ending;
pub use ends::Ends;
pub use expression::{Evidence, Expression, Failure, Malformed};
pub use facts::{
    Content, Found, Identities, Input, NamespaceFacts, PolicyFacts, RoleFacts, RoleName, Roles, Settings,
    Tried,
};
pub use flame::Flame;
pub use fuse::{Backstops, flames, is_unfused};
pub use guard::{CANARY, Guard, GuardKind, GuardSettings, guards};
pub use live::{Live, POLICY_GONE_GRACE, POLICY_GRACE};
pub use naming::ArtifactKey;
pub use orphan::plan_orphan;
pub use plan::{plan, plan_end};
pub use policy::{Access, Entitlement, Policy};
pub use preflight::policy_status;
pub use problem::Problem;
pub use question::Question;
pub use refusal::{Refusal, Refusals};
pub use request::{Identity, Request};
pub use resolve::{Resolved, resolve};
pub use retention::{keeper, slim};
pub use retry::{Class, Lane, delay};
pub use rules::canonical;
pub use span::{Span, SpanError};
pub use window::{Opening, Window, opening};
