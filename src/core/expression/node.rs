//! Tree of a checked expression: names are resolved, types checked, literals read.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use regex::Regex;

use crate::api::Reference;
use crate::core::expression::variables::Variable;

/// One operation of an expression. In a tree from the checker, each operand has the type that its place needs.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Bool(bool),
    Int(i64),
    Text(String),
    Duration(SignedDuration),
    Time(Timestamp),
    List(Vec<Node>),
    /// A fact about the request.
    Variable(Variable),
    /// The variable of a loop; the number counts the enclosing loops from the outermost.
    Element(usize),
    /// Whether an optional fact is set.
    Given(Variable),
    /// A field of a reference.
    Field(Box<Node>, for<'a> fn(&'a Reference) -> &'a str),
    /// The value of a label: labels and key.
    Label(Box<Node>, Box<Node>),
    /// Whether a label exists: labels and key.
    HasLabel(Box<Node>, Box<Node>),
    /// An element of a list: list and index.
    Item(Box<Node>, Box<Node>),
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    If(Box<[Node; 3]>),
    Compare(Comparison, Box<Node>, Box<Node>),
    /// Whether a value is in a list: value and list.
    In(Box<Node>, Box<Node>),
    Negate(Box<Node>),
    Calculate(Calculation, Box<Node>, Box<Node>),
    Size(Box<Node>),
    Look(Look, Box<Node>, Box<Node>),
    Matches(Box<Node>, Pattern),
    Clock(TimePart, TimeZone, Box<Node>),
    Length(Unit, Box<Node>),
    Loop(Loop, Box<Node>, Box<Node>),
}

/// Comparison of two values of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Calculation with two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calculation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// Search for a text in another text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Contains,
    StartsWith,
    EndsWith,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// The compiled regular expression.
    pub regex: Regex,
    /// Steps that one byte of text costs.
    pub weight: usize,
}

/// Part of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimePart {
    FullYear,
    Month,
    DayOfYear,
    DayOfMonth,
    Date,
    DayOfWeek,
    Hours,
    Minutes,
    Seconds,
}

/// Unit of a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Hours,
    Minutes,
    Seconds,
}

/// Kind of loop over a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loop {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}
