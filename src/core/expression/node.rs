//! A parsed expression: names found, types checked, literals read.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use regex::Regex;

use super::variables::Variable;
use crate::api::Reference;

/// One step of an expression. The checker makes only such trees in which every part has the type its place needs.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Bool(bool),
    Int(i64),
    Text(String),
    Duration(SignedDuration),
    Time(Timestamp),
    List(Vec<Node>),
    /// A fact.
    Variable(Variable),
    /// The variable of a loop, counted from the outermost.
    Element(usize),
    /// Whether a fact was given that need not be.
    Given(Variable),
    /// Field of a reference.
    Field(Box<Node>, for<'a> fn(&'a Reference) -> &'a str),
    /// The value of a label.
    Label(Box<Node>, Box<Node>),
    /// Whether the second is a label of the first.
    HasLabel(Box<Node>, Box<Node>),
    /// An element by its index.
    Item(Box<Node>, Box<Node>),
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    If(Box<[Node; 3]>),
    Compare(Comparison, Box<Node>, Box<Node>),
    /// Whether a list has the element.
    In(Box<Node>, Box<Node>),
    Negate(Box<Node>),
    Calculate(Calculation, Box<Node>, Box<Node>),
    Size(Box<Node>),
    Look(Look, Box<Node>, Box<Node>),
    Matches(Box<Node>, Pattern),
    Clock(Clock, TimeZone, Box<Node>),
    Length(Unit, Box<Node>),
    Loop(Loop, Box<Node>, Box<Node>),
}

/// How two values of one type compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What is calculated of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calculation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// What is looked for in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Contains,
    StartsWith,
    EndsWith,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// The pattern.
    pub regex: Regex,
    /// Steps that one byte of text costs.
    pub weight: usize,
}

/// What a clock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
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

/// In what a duration is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Hours,
    Minutes,
    Seconds,
}

/// What is asked of the elements of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loop {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}
