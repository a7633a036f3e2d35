//! Checks the names, types and literals of a parsed expression.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue, SelectExpr, SourceInfo, operators};
use jiff::Timestamp;

use crate::core::expression::Malformed;
use crate::core::expression::functions::{literal_duration, pattern, zone};
use crate::core::expression::node::{Calculation, Comparison, Look, Loop, Node, TimePart, Unit};
use crate::core::expression::types::Type;
use crate::core::expression::variables::{Variable, reference_field};

/// Maximum number of nested loops. Two loops over the 1,000 groups of one user already use all steps.
const MAX_LOOPS: usize = 2;

type Checked = Result<(Node, Type), Malformed>;

/// Typed tree of a parsed expression, and its type.
pub(super) fn check(text: &str, source: &SourceInfo, expression: &IdedExpr) -> Checked {
    let mut checker = Checker {
        text,
        source,
        loops: Vec::new(),
    };
    checker.expression(expression)
}

struct Checker<'a> {
    text: &'a str,
    source: &'a SourceInfo,
    /// Name and type of the variable of each enclosing loop, the outermost first.
    loops: Vec<(&'a str, Type)>,
}

impl<'a> Checker<'a> {
    fn byte(&self, id: u64) -> usize {
        let (start, _) = self.source.offset_for(id).unwrap_or_default();
        usize::try_from(start).unwrap_or_default()
    }

    fn wrong<T>(&self, at: &IdedExpr, message: impl Into<String>) -> Result<T, Malformed> {
        Err(Malformed::at(self.text, self.byte(at.id), message))
    }

    /// Error in a function call. The parser reports the position of the bracket; this one reports that of the name.
    fn wrong_call<T>(&self, at: &IdedExpr, name: &str, message: impl Into<String>) -> Result<T, Malformed> {
        let byte = self.byte(at.id);
        let written = self.text.get(..byte).is_some_and(|before| before.ends_with(name));
        let byte = if written { byte - name.len() } else { byte };
        Err(Malformed::at(self.text, byte, message))
    }

    fn expression(&mut self, expression: &'a IdedExpr) -> Checked {
        match &expression.expr {
            Expr::Literal(literal) => self.literal(expression, literal),
            Expr::Ident(name) => self.name(expression, name),
            Expr::Select(select) => self.select(expression, select),
            Expr::List(list) => self.list(expression, &list.elements),
            Expr::Call(call) => self.call(expression, call),
            Expr::Map(_) | Expr::Struct(_) => self.wrong(
                expression,
                "maps and messages are not supported; lists are: ['a', 'b']",
            ),
            Expr::Comprehension(_) | Expr::Unspecified => {
                self.wrong(expression, "this syntax is not supported")
            }
        }
    }

    fn expression_of(&mut self, expression: &'a IdedExpr, wanted: &Type) -> Result<Box<Node>, Malformed> {
        match self.expression(expression)? {
            (node, found) if found == *wanted => Ok(Box::new(node)),
            (_, found) => self.wrong(expression, format!("expected {wanted}, found {found}")),
        }
    }

    fn literal(&self, at: &IdedExpr, literal: &LiteralValue) -> Checked {
        match literal {
            LiteralValue::Boolean(value) => Ok((Node::Bool(*value.inner()), Type::Bool)),
            LiteralValue::Int(value) => Ok((Node::Int(*value.inner()), Type::Int)),
            LiteralValue::String(text) => Ok((Node::Text(text.inner().to_owned()), Type::Text)),
            LiteralValue::Null => self.wrong(
                at,
                "null is not supported; use has(...) to check whether a field is set",
            ),
            LiteralValue::Bytes(_) | LiteralValue::Double(_) | LiteralValue::UInt(_) => {
                self.wrong(at, "a literal must be bool, int or string: true, 3, 'text'")
            }
        }
    }

    fn name(&self, at: &IdedExpr, name: &str) -> Checked {
        if let Some(depth) = self.loops.iter().rposition(|(variable, _)| *variable == name) {
            let found = self
                .loops
                .get(depth)
                .map_or(Type::Bool, |(_, found)| found.clone());
            return Ok((Node::Element(depth), found));
        }
        if let Some(variable) = Variable::plain(name) {
            return Ok((Node::Variable(variable), variable.holds()));
        }
        if Variable::has_fields(name) {
            let fields = Variable::fields_of(name);
            return self.wrong(
                at,
                format!("{name} is not a value; use one of its fields: {fields}"),
            );
        }
        self.wrong(
            at,
            format!("there is no variable {name}; there are {}", Variable::ALL),
        )
    }

    /// The fact that a selection names; `None` if its operand is not a variable with fields.
    fn fact(&self, at: &IdedExpr, select: &SelectExpr) -> Result<Option<Variable>, Malformed> {
        let Expr::Ident(name) = &select.operand.expr else {
            return Ok(None);
        };
        if self.loops.iter().any(|(variable, _)| variable == name) || !Variable::has_fields(name) {
            return Ok(None);
        }
        match Variable::field(name, &select.field) {
            Some(variable) => Ok(Some(variable)),
            None => self.wrong(
                at,
                format!(
                    "{name} has no {}; it has {}",
                    select.field,
                    Variable::fields_of(name)
                ),
            ),
        }
    }

    fn select(&mut self, at: &IdedExpr, select: &'a SelectExpr) -> Checked {
        if let Some(variable) = self.fact(at, select)? {
            return Ok((Node::Variable(variable), variable.holds()));
        }
        let key = || Box::new(Node::Text(select.field.clone()));
        match self.expression(&select.operand)? {
            (labels, Type::Labels) => Ok((Node::Label(Box::new(labels), key()), Type::Text)),
            (reference, Type::Reference) => match reference_field(&select.field) {
                Some(field) => Ok((Node::Field(Box::new(reference), field), Type::Text)),
                None => self.wrong(
                    at,
                    format!("a reference has no {}; it has type, id", select.field),
                ),
            },
            (_, found) => self.wrong(at, format!("{found} has no fields")),
        }
    }

    fn has(&mut self, at: &IdedExpr, call: &'a CallExpr) -> Checked {
        let [argument] = call.args.as_slice() else {
            return self.wrong_call(at, "has", "has takes one field: has(request.notAfter)");
        };
        let Expr::Select(select) = &argument.expr else {
            return self.wrong(argument, "has takes a field: has(request.notAfter)");
        };
        let node = if let Some(variable) = self.fact(argument, select)? {
            Node::Given(variable)
        } else {
            match self.select(argument, select)?.0 {
                Node::Label(labels, key) => Node::HasLabel(labels, key),
                _ => Node::Bool(true),
            }
        };
        Ok((node, Type::Bool))
    }

    fn list(&mut self, at: &IdedExpr, elements: &'a [IdedExpr]) -> Checked {
        let Some((first, rest)) = elements.split_first() else {
            return self.wrong(at, "an empty list has no type; use size(...) == 0");
        };
        let (first, found) = self.expression(first)?;
        let mut nodes = vec![first];
        for element in rest {
            nodes.push(*self.expression_of(element, &found)?);
        }
        Ok((Node::List(nodes), Type::List(Box::new(found))))
    }

    fn call(&mut self, at: &'a IdedExpr, call: &'a CallExpr) -> Checked {
        let name = call.func_name.as_str();
        match (&call.target, call.args.as_slice()) {
            (None, _) if name == operators::HAS => self.has(at, call),
            (None, [operand]) if name == operators::LOGICAL_NOT => {
                Ok((Node::Not(self.expression_of(operand, &Type::Bool)?), Type::Bool))
            }
            (None, [operand]) if name == operators::NEGATE => {
                Ok((Node::Negate(self.expression_of(operand, &Type::Int)?), Type::Int))
            }
            (None, [condition, yes, no]) if name == operators::CONDITIONAL => {
                let condition = self.expression_of(condition, &Type::Bool)?;
                let (yes, found) = self.expression(yes)?;
                let no = self.expression_of(no, &found)?;
                Ok((Node::If(Box::new([*condition, yes, *no])), found))
            }
            (None, [left, right]) if !name.starts_with(|first: char| first.is_ascii_alphabetic()) => {
                self.operator(at, name, left, right)
            }
            (None, [first, rest @ ..]) if ["duration", "timestamp", "size", "matches"].contains(&name) => {
                self.function(at, name, first, rest)
            }
            (Some(list), [variable, body]) if loop_kind(name).is_some() => {
                self.loop_over(at, call, list, variable, body)
            }
            (Some(target), arguments) if !["duration", "timestamp"].contains(&name) => {
                self.function(at, name, target, arguments)
            }
            _ => self.unknown(at, name),
        }
    }

    fn operator(&mut self, at: &IdedExpr, name: &str, left: &'a IdedExpr, right: &'a IdedExpr) -> Checked {
        let binary = |left: Node, right: Node| (Box::new(left), Box::new(right));
        let logic = match name {
            operators::LOGICAL_AND => Some(Node::And as fn(_, _) -> _),
            operators::LOGICAL_OR => Some(Node::Or as fn(_, _) -> _),
            _ => None,
        };
        if let Some(logic) = logic {
            let (left, right) = (
                self.expression_of(left, &Type::Bool)?,
                self.expression_of(right, &Type::Bool)?,
            );
            return Ok((logic(left, right), Type::Bool));
        }
        let (left_node, left_type) = self.expression(left)?;
        let (right_node, right_type) = self.expression(right)?;
        let (left_node, right_node) = binary(left_node, right_node);
        if let Some(comparison) = comparison(name) {
            let ordered = !matches!(comparison, Comparison::Equal | Comparison::NotEqual);
            let comparable = left_type.is_plain() && !(ordered && left_type == Type::Bool);
            if left_type != right_type || !comparable {
                return self.wrong(at, incomparable(&left_type, &right_type));
            }
            return Ok((Node::Compare(comparison, left_node, right_node), Type::Bool));
        }
        match (name, left_type, right_type) {
            (operators::IN, sought, Type::List(element)) if *element == sought && sought.is_plain() => {
                Ok((Node::In(left_node, right_node), Type::Bool))
            }
            (operators::IN, Type::Text, Type::Labels) => {
                Ok((Node::HasLabel(right_node, left_node), Type::Bool))
            }
            (operators::INDEX, Type::Labels, Type::Text) => {
                Ok((Node::Label(left_node, right_node), Type::Text))
            }
            (operators::INDEX, Type::List(element), Type::Int) => {
                Ok((Node::Item(left_node, right_node), *element))
            }
            (_, left_type, right_type) => match calculation(name, &left_type, &right_type) {
                Some((calculation, result)) => {
                    Ok((Node::Calculate(calculation, left_node, right_node), result))
                }
                None => self.wrong(
                    at,
                    format!(
                        "{} is not defined for {left_type} and {right_type}",
                        name.trim_matches(['_', '@'])
                    ),
                ),
            },
        }
    }

    fn loop_over(
        &mut self,
        at: &IdedExpr,
        call: &'a CallExpr,
        list: &'a IdedExpr,
        variable: &'a IdedExpr,
        body: &'a IdedExpr,
    ) -> Checked {
        let name = call.func_name.as_str();
        let (list, found) = self.expression(list)?;
        let Type::List(element) = found else {
            let message = format!(
                "{name} needs a list; this is {found}. To look up a label, write 'team' in policy.labels"
            );
            return self.wrong_call(at, name, message);
        };
        let Expr::Ident(variable_name) = &variable.expr else {
            return self.wrong(
                variable,
                format!("the first argument of {name} is a name for the element: {name}(x, ...)"),
            );
        };
        let taken = Variable::plain(variable_name).is_some()
            || Variable::has_fields(variable_name)
            || self.loops.iter().any(|(taken, _)| taken == variable_name);
        if taken {
            return self.wrong(
                variable,
                format!("the name {variable_name} is already used; choose another name"),
            );
        }
        if self.loops.len() == MAX_LOOPS {
            let message = format!("more than {MAX_LOOPS} nested loops: this could take too long");
            return self.wrong_call(at, name, message);
        }
        self.loops.push((variable_name, (*element).clone()));
        let body = self.loop_body(name, body);
        self.loops.pop();
        let (kind, body, body_type) = body?;
        let found = match kind {
            Loop::All | Loop::Exists | Loop::ExistsOne => Type::Bool,
            Loop::Filter => Type::List(element),
            Loop::Map => Type::List(Box::new(body_type)),
        };
        Ok((Node::Loop(kind, Box::new(list), Box::new(body)), found))
    }

    fn loop_body(&mut self, name: &str, body: &'a IdedExpr) -> Result<(Loop, Node, Type), Malformed> {
        match loop_kind(name) {
            Some(Loop::Map) | None => self
                .expression(body)
                .map(|(node, found)| (Loop::Map, node, found)),
            Some(kind) => self
                .expression_of(body, &Type::Bool)
                .map(|node| (kind, *node, Type::Bool)),
        }
    }

    /// A function call, `f(x, …)` or `x.f(…)`; in both forms `x` is `first`.
    fn function(
        &mut self,
        at: &'a IdedExpr,
        name: &str,
        first: &'a IdedExpr,
        rest: &'a [IdedExpr],
    ) -> Checked {
        let checked = match (name, rest) {
            ("duration", []) => match &first.expr {
                Expr::Literal(LiteralValue::String(text)) => {
                    literal_duration(text.inner()).map(Node::Duration)
                }
                _ => None,
            }
            .map(|node| (node, Type::Duration))
            .ok_or("duration takes a literal of hours, minutes and seconds: duration('1h30m')".to_owned()),
            ("timestamp", []) => match &first.expr {
                Expr::Literal(LiteralValue::String(text)) => text.inner().parse::<Timestamp>().ok(),
                _ => None,
            }
            .map(|time| (Node::Time(time), Type::Time))
            .ok_or("timestamp takes a literal: timestamp('2026-12-01T18:00:00Z')".to_owned()),
            ("size", []) => match self.expression(first)? {
                (node, Type::Text | Type::Labels | Type::List(_)) => {
                    Ok((Node::Size(Box::new(node)), Type::Int))
                }
                (_, found) => Err(format!("{found} has no size; only string, list and map have one")),
            },
            ("matches", [literal]) => match &literal.expr {
                Expr::Literal(LiteralValue::String(text)) => match pattern(text.inner()) {
                    Ok(pattern) => Ok((
                        Node::Matches(self.expression_of(first, &Type::Text)?, pattern),
                        Type::Bool,
                    )),
                    Err(message) => return self.wrong(literal, message),
                },
                _ => return self.wrong(literal, "a pattern must be a literal: matches('PAY-[0-9]+')"),
            },
            (_, [sought]) if look(name).is_some() => {
                let (text, sought) = (
                    self.expression_of(first, &Type::Text)?,
                    self.expression_of(sought, &Type::Text)?,
                );
                let look = look(name).unwrap_or(Look::Contains);
                Ok((Node::Look(look, text, sought), Type::Bool))
            }
            (_, [] | [_]) if clock(name).is_some() || unit(name).is_some() => self.part(name, first, rest)?,
            _ => return self.unknown(at, name),
        };
        checked.or_else(|message| self.wrong_call(at, name, message))
    }

    /// A part of a timestamp in a time zone, or a duration in whole hours, minutes or seconds.
    fn part(
        &mut self,
        name: &str,
        of: &'a IdedExpr,
        rest: &'a [IdedExpr],
    ) -> Result<Result<(Node, Type), String>, Malformed> {
        let (node, found) = self.expression(of)?;
        let named = match rest.first().map(|argument| (&argument.expr, argument)) {
            None => "UTC",
            Some((Expr::Literal(LiteralValue::String(name)), _)) => name.inner(),
            Some((_, argument)) => {
                return self.wrong(
                    argument,
                    "a time zone must be a literal: now.getHours('Europe/Berlin')",
                );
            }
        };
        Ok(match (found, clock(name), unit(name)) {
            (Type::Time, Some(clock), _) => match zone(named) {
                Some(zone) => Ok((Node::Clock(clock, zone, Box::new(node)), Type::Int)),
                None => Err(format!(
                    "there is no time zone {named:?}; give an IANA name such as Europe/Berlin"
                )),
            },
            (Type::Duration, _, Some(unit)) if rest.is_empty() => {
                Ok((Node::Length(unit, Box::new(node)), Type::Int))
            }
            (found, ..) => Err(format!("{found} has no {name}")),
        })
    }

    fn unknown<T>(&self, at: &IdedExpr, name: &str) -> Result<T, Malformed> {
        self.wrong_call(
            at,
            name,
            format!(
                "{name} with these arguments is not defined; there are has, size, contains, startsWith, endsWith, \
                 matches, duration, timestamp, all, exists, exists_one, filter, map and the get functions of \
                 timestamps and durations"
            ),
        )
    }
}

/// Message about two types that a comparison does not accept, with the fix for the usual mistakes.
fn incomparable(left: &Type, right: &Type) -> String {
    let fix = match (left, right) {
        (Type::Duration, Type::Text) | (Type::Text, Type::Duration) => "; write duration('2h')",
        (Type::Time, Type::Text) | (Type::Text, Type::Time) => "; write timestamp('2026-12-01T18:00:00Z')",
        (Type::List(_), Type::List(_)) => "; use in, all or exists",
        (Type::Bool, Type::Bool) => " by order; use == or !=",
        _ => "",
    };
    format!("cannot compare {left} with {right}{fix}")
}

fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        operators::EQUALS => Comparison::Equal,
        operators::NOT_EQUALS => Comparison::NotEqual,
        operators::LESS => Comparison::Less,
        operators::LESS_EQUALS => Comparison::LessOrEqual,
        operators::GREATER => Comparison::Greater,
        operators::GREATER_EQUALS => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

fn calculation(name: &str, left: &Type, right: &Type) -> Option<(Calculation, Type)> {
    let calculation = match name {
        operators::ADD => Calculation::Add,
        operators::SUBSTRACT => Calculation::Subtract,
        operators::MULTIPLY => Calculation::Multiply,
        operators::DIVIDE => Calculation::Divide,
        operators::MODULO => Calculation::Remainder,
        _ => return None,
    };
    let result = match (calculation, left, right) {
        (_, Type::Int, Type::Int) => Type::Int,
        (Calculation::Add, Type::Text, Type::Text) => Type::Text,
        (Calculation::Add | Calculation::Subtract, Type::Duration, Type::Duration)
        | (Calculation::Subtract, Type::Time, Type::Time) => Type::Duration,
        (Calculation::Add | Calculation::Subtract, Type::Time, Type::Duration)
        | (Calculation::Add, Type::Duration, Type::Time) => Type::Time,
        _ => return None,
    };
    Some((calculation, result))
}

fn loop_kind(name: &str) -> Option<Loop> {
    Some(match name {
        operators::ALL => Loop::All,
        operators::EXISTS => Loop::Exists,
        operators::EXISTS_ONE | "existsOne" => Loop::ExistsOne,
        operators::FILTER => Loop::Filter,
        operators::MAP => Loop::Map,
        _ => return None,
    })
}

fn look(name: &str) -> Option<Look> {
    Some(match name {
        "contains" => Look::Contains,
        "startsWith" => Look::StartsWith,
        "endsWith" => Look::EndsWith,
        _ => return None,
    })
}

fn clock(name: &str) -> Option<TimePart> {
    Some(match name {
        "getFullYear" => TimePart::FullYear,
        "getMonth" => TimePart::Month,
        "getDayOfYear" => TimePart::DayOfYear,
        "getDayOfMonth" => TimePart::DayOfMonth,
        "getDate" => TimePart::Date,
        "getDayOfWeek" => TimePart::DayOfWeek,
        "getHours" => TimePart::Hours,
        "getMinutes" => TimePart::Minutes,
        "getSeconds" => TimePart::Seconds,
        _ => return None,
    })
}

fn unit(name: &str) -> Option<Unit> {
    Some(match name {
        "getHours" => Unit::Hours,
        "getMinutes" => Unit::Minutes,
        "getSeconds" => Unit::Seconds,
        _ => return None,
    })
}
