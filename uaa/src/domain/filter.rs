//! SCIM filters: `userName eq "anna" and (origin eq "uaa" or active eq true)`.
//!
//! Read into a tree; the store binds every value and knows the columns. Source: cloudfoundry/uaa, `docs/UAA-APIs.rst`,
//! "A Note on Filtering".

use super::{Error, Result};
use types::Timestamp;

/// Deeper or longer filters are refused.
const DEEPEST: usize = 20;
const MOST_TESTS: usize = 600;
const LONGEST: usize = 64 << 10;

/// A condition on a resource.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Filter {
    And(Box<Filter>, Box<Filter>),
    Or(Box<Filter>, Box<Filter>),
    Test {
        /// In lower case.
        attribute: String,
        operator: Operator,
        value: Value,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    Contains,
    StartsWith,
    Present,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Number(i64),
    Flag(bool),
    /// Of `pr`.
    None,
}

impl Value {
    pub(crate) fn text(&self) -> Result<&str> {
        match self {
            Self::Text(text) => Ok(text),
            Self::None => Ok(""),
            _ => Err(Error::Filter("a text in double quotes is needed here".into())),
        }
    }
    pub(crate) fn number(&self) -> Result<i64> {
        match self {
            Self::Number(number) => Ok(*number),
            _ => Err(Error::Filter("a number is needed here".into())),
        }
    }
    pub(crate) fn flag(&self, operator: Operator) -> Result<bool> {
        match (self, operator) {
            (Self::Flag(flag), Operator::Equal) => Ok(*flag),
            _ => Err(Error::Filter("`eq true` or `eq false` is needed here".into())),
        }
    }
    /// A quoted time, in microseconds.
    pub(crate) fn micros(&self) -> Result<i64> {
        let moment = self.text().ok().and_then(Timestamp::parse);
        let moment = moment.ok_or_else(|| Error::Filter("a time like \"2026-01-02T03:04:05.000Z\" is needed here".into()))?;
        Ok(i64::try_from(moment.0).unwrap_or(i64::MAX))
    }
}

/// Reads a filter.
///
/// # Errors
/// [`Error::Filter`], saying what is wrong.
pub(crate) fn parse(text: &str) -> Result<Filter> {
    if text.len() > LONGEST {
        return Err(Error::Filter("the filter is too long".into()));
    }
    let words = words(text)?;
    let mut parser = Parser { words: &words, at: 0, tests: 0 };
    let filter = parser.or(0)?;
    match parser.peek() {
        None => Ok(filter),
        Some(word) => Err(Error::Filter(format!("`{}` was not expected", word.shown()))),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Word {
    Open,
    Close,
    Quoted(String),
    Bare(String),
}

impl Word {
    fn shown(&self) -> String {
        match self {
            Self::Open => "(".into(),
            Self::Close => ")".into(),
            Self::Quoted(text) => format!("\"{text}\""),
            Self::Bare(text) => text.clone(),
        }
    }
}

fn words(text: &str) -> Result<Vec<Word>> {
    let mut words = vec![];
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '(' => {
                words.push(Word::Open);
                &rest[1..]
            }
            ')' => {
                words.push(Word::Close);
                &rest[1..]
            }
            '"' => {
                let mut strings = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                let string = strings.next().and_then(Result::ok);
                words.push(Word::Quoted(string.ok_or_else(|| Error::Filter("a text in quotes does not end".into()))?));
                &rest[strings.byte_offset()..]
            }
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"')).unwrap_or(rest.len());
                words.push(Word::Bare(rest[..end].to_owned()));
                &rest[end..]
            }
        }
        .trim_start();
    }
    Ok(words)
}

struct Parser<'a> {
    words: &'a [Word],
    at: usize,
    tests: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Word> {
        self.words.get(self.at)
    }

    fn next(&mut self, wanted: &str) -> Result<&'a Word> {
        let word = self.peek().ok_or_else(|| Error::Filter(format!("the filter ends where {wanted} should be")))?;
        self.at += 1;
        Ok(word)
    }

    fn takes(&mut self, keyword: &str) -> bool {
        let found = matches!(self.peek(), Some(Word::Bare(word)) if word.eq_ignore_ascii_case(keyword));
        self.at += usize::from(found);
        found
    }

    fn or(&mut self, depth: usize) -> Result<Filter> {
        let mut tests = vec![self.and(depth)?];
        while self.takes("or") {
            tests.push(self.and(depth)?);
        }
        Ok(balanced(tests, &|a, b| Filter::Or(a, b)))
    }

    fn and(&mut self, depth: usize) -> Result<Filter> {
        let mut tests = vec![self.one(depth)?];
        while self.takes("and") {
            tests.push(self.one(depth)?);
        }
        Ok(balanced(tests, &|a, b| Filter::And(a, b)))
    }

    fn one(&mut self, depth: usize) -> Result<Filter> {
        if depth > DEEPEST || self.tests > MOST_TESTS {
            return Err(Error::Filter("the filter has too many parts".into()));
        }
        let attribute = match self.next("an attribute")? {
            Word::Open => {
                let inner = self.or(depth + 1)?;
                return match self.next("`)`")? {
                    Word::Close => Ok(inner),
                    other => Err(Error::Filter(format!("`{}` stands where `)` should be", other.shown()))),
                };
            }
            Word::Bare(name) => name.to_ascii_lowercase(),
            other => return Err(Error::Filter(format!("`{}` is not an attribute", other.shown()))),
        };
        self.tests += 1;
        let operator = match self.next("an operator")? {
            Word::Bare(word) => operator(word)?,
            other => return Err(Error::Filter(format!("`{}` is not an operator", other.shown()))),
        };
        let value = if operator == Operator::Present { Value::None } else { value(self.next("a value")?)? };
        Ok(Filter::Test { attribute, operator, value })
    }
}

fn operator(word: &str) -> Result<Operator> {
    Ok(match word.to_ascii_lowercase().as_str() {
        "eq" => Operator::Equal,
        "co" => Operator::Contains,
        "sw" => Operator::StartsWith,
        "pr" => Operator::Present,
        "gt" => Operator::Greater,
        "ge" => Operator::GreaterOrEqual,
        "lt" => Operator::Less,
        "le" => Operator::LessOrEqual,
        _ => return Err(Error::Filter(format!("`{word}` is not an operator"))),
    })
}

fn value(word: &Word) -> Result<Value> {
    Ok(match word {
        Word::Quoted(text) => Value::Text(text.clone()),
        Word::Bare(word) if word.eq_ignore_ascii_case("true") => Value::Flag(true),
        Word::Bare(word) if word.eq_ignore_ascii_case("false") => Value::Flag(false),
        Word::Bare(word) => Value::Number(word.parse().map_err(|_| Error::Filter(format!("`{word}` is not a value")))?),
        other => return Err(Error::Filter(format!("`{}` is not a value", other.shown()))),
    })
}

/// A long row of tests as a shallow tree: the database has a limit on depth.
fn balanced(mut tests: Vec<Filter>, join: &dyn Fn(Box<Filter>, Box<Filter>) -> Filter) -> Filter {
    if tests.len() == 1 {
        return tests.remove(0);
    }
    let right = tests.split_off(tests.len() / 2);
    join(Box::new(balanced(tests, join)), Box::new(balanced(right, join)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(attribute: &str, operator: Operator, value: Value) -> Filter {
        Filter::Test { attribute: attribute.into(), operator, value }
    }
    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn filters_read_as_clients_write_them() {
        let by_name = test("username", Operator::Equal, text("anna"));
        let by_origin = test("origin", Operator::Equal, text("uaa"));
        assert_eq!(parse(r#"userName eq "anna""#).unwrap(), by_name);
        let both = Filter::And(Box::new(by_name.clone()), Box::new(by_origin.clone()));
        assert_eq!(parse(r#"userName eq "anna" and origin eq "uaa""#).unwrap(), both);
        assert_eq!(parse(r#"( username EQ "anna" )AND( origin eq "uaa" )"#).unwrap(), both);
        assert_eq!(parse("id pr").unwrap(), test("id", Operator::Present, Value::None));
        assert_eq!(parse("meta.version ge 3").unwrap(), test("meta.version", Operator::GreaterOrEqual, Value::Number(3)));
    }

    #[test]
    fn and_binds_tighter_than_or() {
        let a = || Box::new(test("a", Operator::Present, Value::None));
        assert_eq!(parse("a pr or a pr and a pr").unwrap(), Filter::Or(a(), Box::new(Filter::And(a(), a()))));
    }

    #[test]
    fn quotes_in_a_value_stay_in_the_value() {
        let filter = parse(r#"userName eq "x\" or id pr or id eq \"""#).unwrap();
        assert_eq!(filter, test("username", Operator::Equal, text(r#"x" or id pr or id eq ""#)));
    }

    #[test]
    fn what_is_not_a_filter_is_refused_without_harm() {
        let deep = format!("{}id pr{}", "(".repeat(5000), ")".repeat(5000));
        let long = vec!["id pr"; 5000].join(" or ");
        for bad in
            ["", "id", "id eq", "id eq x", "id ne \"x\"", "(id pr", "id pr)", "id eq \"x", "not id pr", "\"id\" pr", &deep, &long]
        {
            assert!(parse(bad).is_err(), "{}", &bad[..bad.len().min(20)]);
        }
    }
}
