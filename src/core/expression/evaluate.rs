//! Evaluation of an expression with a limit of steps.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};

use crate::api::{Reference, SubjectKind};
use crate::core::expression::node::{Calculation, Comparison, Look, Loop, Node, TimePart, Unit};
use crate::core::expression::variables::{Variable, Variables};

/// Maximum number of steps of one evaluation. Each visit of a node is one step, and a text costs one more step for each
/// [`BYTES_A_STEP`] bytes. Usual conditions take tens of steps; a loop over 1,000 groups takes thousands. 100,000 steps
/// take 2 ms, or 20 ms if all of them are the worst case of a pattern.
pub const MAX_STEPS: u32 = 100_000;

/// Bytes of text that are read in about the time of one step.
const BYTES_A_STEP: usize = 64;

/// Maximum length in bytes of a text that an expression builds. No name or label is longer.
const MAX_TEXT: usize = 64 * 1024;

/// Maximum number of characters of a value in a message.
const MAX_QUOTED: usize = 64;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The evaluation needs more than [`MAX_STEPS`].
    #[error("the expression takes more than {MAX_STEPS} steps")]
    Exhausted,
    /// An optional field is not set.
    #[error("{0} is not set; check has({0}) first")]
    NotGiven(String),
    /// There is no such label.
    #[error("there is no label {0}; check for it with 'in' first")]
    NoLabel(String),
    /// The list has no element at that index.
    #[error("a list of {length} has no element {index}")]
    NoElement {
        /// The index in the expression, counted from 0.
        index: i64,
        /// Number of elements of the list.
        length: usize,
    },
    /// A number, duration, timestamp or text is out of range.
    #[error("a result is out of range")]
    OutOfRange,
    /// A number is divided by zero.
    #[error("a number is divided by zero")]
    DividedByZero,
    /// A value has another type than the checker found: a bug in Curfew.
    #[error("a value has an unexpected type (a bug in Curfew; please report it)")]
    Mistyped,
}

/// Value of a boolean expression.
pub(super) fn holds(node: &Node, evidence: &Variables<'_>) -> Result<bool, Failure> {
    let mut evaluation = Evaluation {
        evidence,
        elements: Vec::new(),
        steps: MAX_STEPS,
    };
    evaluation.bool(node)
}

#[derive(Clone, Debug)]
enum Value<'a> {
    Bool(bool),
    Int(i64),
    Text(Cow<'a, str>),
    Duration(SignedDuration),
    Time(Timestamp),
    Labels(&'a BTreeMap<String, String>),
    Reference(&'a Reference),
    References(&'a [Reference]),
    Texts(&'a [String]),
    List(Rc<[Value<'a>]>),
}

impl<'a> Value<'a> {
    fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    fn length(&self) -> Result<usize, Failure> {
        match self {
            Self::References(list) => Ok(list.len()),
            Self::Texts(list) => Ok(list.len()),
            Self::List(list) => Ok(list.len()),
            _ => Err(Failure::Mistyped),
        }
    }

    fn element(&self, index: usize) -> Option<Self> {
        match self {
            Self::References(list) => list.get(index).map(Self::Reference),
            Self::Texts(list) => list.get(index).map(|text| Self::text(text)),
            Self::List(list) => list.get(index).cloned(),
            _ => None,
        }
    }

    /// Maximum number of bytes that a comparison reads.
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            _ => 0,
        }
    }

    fn compare(&self, other: &Self) -> Result<Ordering, Failure> {
        match (self, other) {
            (Self::Bool(this), Self::Bool(other)) => Ok(this.cmp(other)),
            (Self::Int(this), Self::Int(other)) => Ok(this.cmp(other)),
            (Self::Text(this), Self::Text(other)) => Ok(this.cmp(other)),
            (Self::Duration(this), Self::Duration(other)) => Ok(this.cmp(other)),
            (Self::Time(this), Self::Time(other)) => Ok(this.cmp(other)),
            _ => Err(Failure::Mistyped),
        }
    }
}

struct Evaluation<'a> {
    evidence: &'a Variables<'a>,
    /// Current element of each enclosing loop, the outermost first.
    elements: Vec<Value<'a>>,
    /// Remaining steps.
    steps: u32,
}

impl<'a> Evaluation<'a> {
    fn spend(&mut self, steps: usize) -> Result<(), Failure> {
        let left = u32::try_from(steps)
            .ok()
            .and_then(|steps| self.steps.checked_sub(steps));
        // No steps remain, so no other operand can turn this failure into a value.
        self.steps = left.unwrap_or(0);
        left.map(|_| ()).ok_or(Failure::Exhausted)
    }

    fn value(&mut self, node: &'a Node) -> Result<Value<'a>, Failure> {
        self.spend(1)?;
        match node {
            Node::Bool(value) => Ok(Value::Bool(*value)),
            Node::Int(value) => Ok(Value::Int(*value)),
            Node::Text(text) => Ok(Value::text(text)),
            Node::Duration(duration) => Ok(Value::Duration(*duration)),
            Node::Time(time) => Ok(Value::Time(*time)),
            Node::List(nodes) => {
                let values: Result<Vec<_>, _> = nodes.iter().map(|node| self.value(node)).collect();
                Ok(Value::List(values?.into()))
            }
            Node::Variable(variable) => self.variable(*variable),
            Node::Element(depth) => self.elements.get(*depth).cloned().ok_or(Failure::Mistyped),
            Node::Field(reference, field) => match self.value(reference)? {
                Value::Reference(reference) => Ok(Value::text(field(reference))),
                _ => Err(Failure::Mistyped),
            },
            Node::Label(labels, key) => self.label(labels, key),
            Node::Item(list, index) => self.item(list, index),
            Node::If(branches) => {
                let [condition, yes, no] = branches.as_ref();
                let branch = if self.bool(condition)? { yes } else { no };
                self.value(branch)
            }
            Node::Negate(number) => {
                let number = self.int(number)?.checked_neg();
                number.map(Value::Int).ok_or(Failure::OutOfRange)
            }
            Node::Calculate(calculation, left, right) => self.calculate(*calculation, left, right),
            Node::Size(of) => self.size(of),
            Node::Clock(clock, zone, time) => match self.value(time)? {
                Value::Time(time) => Ok(Value::Int(clock.shows(&time.to_zoned(zone.clone())))),
                _ => Err(Failure::Mistyped),
            },
            Node::Length(unit, duration) => match self.value(duration)? {
                Value::Duration(duration) => Ok(Value::Int(unit.counts(duration))),
                _ => Err(Failure::Mistyped),
            },
            Node::Loop(kind @ (Loop::Filter | Loop::Map), list, body) => {
                self.filter_or_map(*kind, list, body)
            }
            Node::Loop(..)
            | Node::Given(_)
            | Node::HasLabel(..)
            | Node::Not(_)
            | Node::And(..)
            | Node::Or(..)
            | Node::Compare(..)
            | Node::In(..)
            | Node::Look(..)
            | Node::Matches(..) => self.condition(node).map(Value::Bool),
        }
    }

    /// Value of a boolean node.
    fn condition(&mut self, node: &'a Node) -> Result<bool, Failure> {
        match node {
            Node::Given(variable) => Ok(self.given(*variable)),
            Node::HasLabel(labels, key) => {
                let (labels, key) = (self.labels(labels)?, self.text(key)?);
                self.spend(key.len() / BYTES_A_STEP)?;
                Ok(labels.contains_key(key.as_ref()))
            }
            Node::Not(operand) => Ok(!self.bool(operand)?),
            Node::And(left, right) => self.and_or(left, right, false),
            Node::Or(left, right) => self.and_or(left, right, true),
            Node::Compare(comparison, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.spend(left.bytes().min(right.bytes()) / BYTES_A_STEP)?;
                Ok(comparison.accepts(left.compare(&right)?))
            }
            Node::In(sought, list) => {
                let (sought, list) = (self.value(sought)?, self.value(list)?);
                for index in 0..list.length()? {
                    self.spend(1 + sought.bytes() / BYTES_A_STEP)?;
                    let element = list.element(index).ok_or(Failure::Mistyped)?;
                    if element.compare(&sought)?.is_eq() {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Node::Look(look, text, sought) => {
                let (text, sought) = (self.text(text)?, self.text(sought)?);
                self.spend((text.len() + sought.len()) / BYTES_A_STEP)?;
                Ok(match look {
                    Look::Contains => text.contains(sought.as_ref()),
                    Look::StartsWith => text.starts_with(sought.as_ref()),
                    Look::EndsWith => text.ends_with(sought.as_ref()),
                })
            }
            Node::Matches(text, pattern) => {
                let text = self.text(text)?;
                self.spend(text.len().saturating_mul(pattern.weight))?;
                Ok(pattern.regex.is_match(&text))
            }
            Node::Loop(kind, list, body) => self.quantifier(*kind, list, body),
            _ => Err(Failure::Mistyped),
        }
    }

    /// `&&` and `||`. As in CEL, an operand that decides the result hides a failure of the other operand.
    fn and_or(&mut self, left: &'a Node, right: &'a Node, decides: bool) -> Result<bool, Failure> {
        match self.bool(left) {
            Ok(value) if value == decides => Ok(decides),
            Ok(_) => self.bool(right),
            Err(failure) => match self.bool(right) {
                Ok(value) if value == decides => Ok(decides),
                _ => Err(failure),
            },
        }
    }

    /// Value of `all`, `exists` or `exists_one`. As in CEL, a deciding element hides failures of `all` and `exists`.
    fn quantifier(&mut self, kind: Loop, list: &'a Node, body: &'a Node) -> Result<bool, Failure> {
        let list = self.value(list)?;
        let mut found = 0;
        let mut failed = None;
        for index in 0..list.length()? {
            match (self.with_element(&list, index, |this| this.bool(body)), kind) {
                (Ok(true), Loop::Exists) => return Ok(true),
                (Ok(false), Loop::All) => return Ok(false),
                (Ok(value), _) => found += usize::from(value),
                (Err(failure), Loop::Exists | Loop::All) if failure != Failure::Exhausted => {
                    failed = Some(failure);
                }
                (Err(failure), _) => return Err(failure),
            }
        }
        match (failed, kind) {
            (Some(failure), _) => Err(failure),
            (None, Loop::All) => Ok(true),
            (None, Loop::ExistsOne) => Ok(found == 1),
            (None, _) => Ok(false),
        }
    }

    /// Result list of `filter` or `map`.
    fn filter_or_map(&mut self, kind: Loop, list: &'a Node, body: &'a Node) -> Result<Value<'a>, Failure> {
        let list = self.value(list)?;
        let mut elements = Vec::new();
        for index in 0..list.length()? {
            if kind == Loop::Map {
                elements.push(self.with_element(&list, index, |this| this.value(body))?);
            } else if self.with_element(&list, index, |this| this.bool(body))? {
                elements.push(list.element(index).ok_or(Failure::Mistyped)?);
            }
        }
        Ok(Value::List(elements.into()))
    }

    /// Value of the loop body for one element.
    fn with_element<T>(
        &mut self,
        list: &Value<'a>,
        index: usize,
        body: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.elements.push(list.element(index).ok_or(Failure::Mistyped)?);
        let result = body(self);
        self.elements.pop();
        result
    }

    fn variable(&mut self, variable: Variable) -> Result<Value<'a>, Failure> {
        let evidence = self.evidence;
        let request = evidence.request;
        let not_given = || Failure::NotGiven(variable.written());
        Ok(match variable {
            Variable::RequestName => Value::text(&request.name),
            Variable::RequestReason => Value::text(&request.reason),
            Variable::RequestDuration => {
                Value::Duration(SignedDuration::from_secs(i64::from(evidence.duration.seconds())))
            }
            Variable::RequestNotAfter => Value::Time(request.not_after.ok_or_else(not_given)?),
            Variable::RequestReferences => Value::References(&request.references),
            Variable::RequestEntitlements => Value::Texts(&evidence.entitlements),
            Variable::RequesterUsername => Value::text(&request.requester.username),
            Variable::RequesterGroups => Value::Texts(&request.requester.groups),
            Variable::SubjectKind => Value::text(match request.subject.kind {
                SubjectKind::User => "User",
                SubjectKind::ServiceAccount => "ServiceAccount",
            }),
            Variable::SubjectName => Value::text(&request.subject.name),
            Variable::SubjectNamespace => {
                Value::text(request.subject.namespace.as_deref().ok_or_else(not_given)?)
            }
            Variable::NamespaceName => Value::text(evidence.namespace_name),
            Variable::NamespaceLabels => Value::Labels(evidence.namespace_labels),
            Variable::PolicyName => Value::text(evidence.policy_name),
            Variable::PolicyLabels => Value::Labels(evidence.policy_labels),
            Variable::Now => Value::Time(evidence.now),
        })
    }

    fn given(&self, variable: Variable) -> bool {
        let request = self.evidence.request;
        match variable {
            Variable::RequestNotAfter => request.not_after.is_some(),
            Variable::SubjectNamespace => request.subject.namespace.is_some(),
            _ => true,
        }
    }

    fn label(&mut self, labels: &'a Node, key: &'a Node) -> Result<Value<'a>, Failure> {
        let (labels, key) = (self.labels(labels)?, self.text(key)?);
        self.spend(key.len() / BYTES_A_STEP)?;
        labels
            .get(key.as_ref())
            .map(|label| Value::text(label))
            .ok_or_else(|| {
                let quoted: String = key.chars().take(MAX_QUOTED).collect();
                Failure::NoLabel(format!("{quoted:?}"))
            })
    }

    fn item(&mut self, list: &'a Node, index: &'a Node) -> Result<Value<'a>, Failure> {
        let (list, index) = (self.value(list)?, self.int(index)?);
        let length = list.length()?;
        usize::try_from(index)
            .ok()
            .and_then(|index| list.element(index))
            .ok_or(Failure::NoElement { index, length })
    }

    fn size(&mut self, of: &'a Node) -> Result<Value<'a>, Failure> {
        let size = match self.value(of)? {
            Value::Text(text) => {
                self.spend(text.len() / BYTES_A_STEP)?;
                text.chars().count()
            }
            Value::Labels(labels) => labels.len(),
            list => list.length()?,
        };
        i64::try_from(size)
            .map(Value::Int)
            .map_err(|_| Failure::OutOfRange)
    }

    fn calculate(
        &mut self,
        calculation: Calculation,
        left: &'a Node,
        right: &'a Node,
    ) -> Result<Value<'a>, Failure> {
        let (left, right) = (self.value(left)?, self.value(right)?);
        let result = match (calculation, left, right) {
            (Calculation::Divide | Calculation::Remainder, Value::Int(_), Value::Int(0)) => {
                return Err(Failure::DividedByZero);
            }
            (calculation, Value::Int(left), Value::Int(right)) => match calculation {
                Calculation::Add => left.checked_add(right),
                Calculation::Subtract => left.checked_sub(right),
                Calculation::Multiply => left.checked_mul(right),
                Calculation::Divide => left.checked_div(right),
                Calculation::Remainder => left.checked_rem(right),
            }
            .map(Value::Int),
            (Calculation::Add, Value::Text(left), Value::Text(right)) => {
                self.spend((left.len() + right.len()) / BYTES_A_STEP)?;
                (left.len() + right.len() <= MAX_TEXT).then(|| Value::Text(left + right))
            }
            (Calculation::Add, Value::Duration(left), Value::Duration(right)) => {
                left.checked_add(right).map(Value::Duration)
            }
            (Calculation::Subtract, Value::Duration(left), Value::Duration(right)) => {
                left.checked_sub(right).map(Value::Duration)
            }
            (Calculation::Add, Value::Time(time), Value::Duration(duration))
            | (Calculation::Add, Value::Duration(duration), Value::Time(time)) => {
                time.checked_add(duration).ok().map(Value::Time)
            }
            (Calculation::Subtract, Value::Time(time), Value::Duration(duration)) => {
                time.checked_sub(duration).ok().map(Value::Time)
            }
            (Calculation::Subtract, Value::Time(left), Value::Time(right)) => {
                Some(Value::Duration(left.duration_since(right)))
            }
            _ => return Err(Failure::Mistyped),
        };
        result.ok_or(Failure::OutOfRange)
    }

    fn bool(&mut self, node: &'a Node) -> Result<bool, Failure> {
        match self.value(node)? {
            Value::Bool(value) => Ok(value),
            _ => Err(Failure::Mistyped),
        }
    }

    fn int(&mut self, node: &'a Node) -> Result<i64, Failure> {
        match self.value(node)? {
            Value::Int(value) => Ok(value),
            _ => Err(Failure::Mistyped),
        }
    }

    fn text(&mut self, node: &'a Node) -> Result<Cow<'a, str>, Failure> {
        match self.value(node)? {
            Value::Text(text) => Ok(text),
            _ => Err(Failure::Mistyped),
        }
    }

    fn labels(&mut self, node: &'a Node) -> Result<&'a BTreeMap<String, String>, Failure> {
        match self.value(node)? {
            Value::Labels(labels) => Ok(labels),
            _ => Err(Failure::Mistyped),
        }
    }
}

impl Comparison {
    fn accepts(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

impl TimePart {
    /// The part as CEL counts it. Months, days of the year and days of the month count from 0, but `getDate` counts
    /// from 1. Sunday is 0.
    fn shows(self, at: &jiff::Zoned) -> i64 {
        match self {
            Self::FullYear => i64::from(at.year()),
            Self::Month => i64::from(at.month()) - 1,
            Self::DayOfYear => i64::from(at.day_of_year()) - 1,
            Self::DayOfMonth => i64::from(at.day()) - 1,
            Self::Date => i64::from(at.day()),
            Self::DayOfWeek => i64::from(at.weekday().to_sunday_zero_offset()),
            Self::Hours => i64::from(at.hour()),
            Self::Minutes => i64::from(at.minute()),
            Self::Seconds => i64::from(at.second()),
        }
    }
}

impl Unit {
    fn counts(self, duration: SignedDuration) -> i64 {
        match self {
            Self::Hours => duration.as_hours(),
            Self::Minutes => duration.as_mins(),
            Self::Seconds => duration.as_secs(),
        }
    }
}
