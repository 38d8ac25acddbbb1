//! Query strings: pages, orders, filters, label selectors, includes, fields; checked strictly.

use crate::{
    domain::Error,
    store::query::{List, Requirement, Times},
};
use std::collections::BTreeMap;
use types::Timestamp;

const MAX_PER_PAGE: u32 = 5000;
const MAX_REQUIREMENTS: usize = 50;

/// What a list understands. Begin with [`ListSpec::STANDARD`].
#[derive(Clone, Copy, Debug)]
pub struct ListSpec {
    /// Its own filters.
    pub filters: &'static [&'static str],
    /// Columns besides `created_at` and `updated_at`.
    pub order_by: &'static [&'static str],
    /// False for resources without metadata.
    pub labels: bool,
    /// Values of `include`; none: the parameter is unknown.
    pub includes: &'static [&'static str],
    /// Values of `embed`.
    pub embeds: &'static [&'static str],
    /// Paths and keys of `fields[...]`.
    pub fields: &'static [(&'static str, &'static [&'static str])],
    /// True: bad queries are answered 422 without the lead text instead of 400.
    pub unprocessable: bool,
}

impl ListSpec {
    /// No filters of its own, with metadata.
    pub const STANDARD: Self =
        Self { filters: &[], order_by: &[], labels: true, includes: &[], embeds: &[], fields: &[], unprocessable: false };

    /// Reads a query string.
    ///
    /// # Errors
    /// [`Error::BadQuery`] (or [`Error::Invalid`]) with all problems.
    pub fn parse(&self, query: &str) -> Result<List, Error> {
        let mut list = List { page: 1, per_page: 50, ..List::default() };
        let mut problems = vec![];
        let mut unknown = vec![];
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if !self.take(&name, &value, &mut list, &mut problems) {
                unknown.push(format!("'{name}'"));
            }
        }
        if !unknown.is_empty() {
            let known: Vec<String> = self.names().iter().map(|n| format!("'{n}'")).collect();
            problems.insert(
                0,
                format!("Unknown query parameter(s): {}. Valid parameters are: {}", unknown.join(", "), known.join(", ")),
            );
        }
        self.finish(problems)?;
        Ok(list)
    }

    /// Reads the query of a request for one resource: only `include`, `embed` and `fields` are known.
    ///
    /// # Errors
    /// As [`ListSpec::parse`].
    pub fn parse_show(&self, query: &str) -> Result<List, Error> {
        let mut list = List { page: 1, per_page: 50, ..List::default() };
        let mut problems = vec![];
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let about_related = matches!(&*name, "include" | "embed") || name.starts_with("fields[");
            if !about_related || !self.take(&name, &value, &mut list, &mut problems) {
                problems.push(format!("Unknown query parameter(s): '{name}'. Valid parameters are: {}", self.show_names()));
            }
        }
        self.finish(problems)?;
        Ok(list)
    }

    /// True when the parameter is known; what is wrong with its value goes to `problems`.
    fn take(&self, name: &str, value: &str, list: &mut List, problems: &mut Vec<String>) -> bool {
        match name {
            "page" => list.page = positive(value, "Page", u32::MAX, problems).unwrap_or(1),
            "per_page" => list.per_page = positive(value, "Per page", MAX_PER_PAGE, problems).unwrap_or(50),
            "order_by" => self.order(value, list, problems),
            "label_selector" if self.labels => list.labels = selector(value, problems),
            "include" if !self.includes.is_empty() => list.includes = one_of(value, self.includes, "included", problems),
            "embed" if !self.embeds.is_empty() => list.includes.extend(one_of(value, self.embeds, "embedded", problems)),
            "guids" => drop(list.filters.insert(name.to_owned(), values(value))),
            _ if name == "created_ats" || name.starts_with("created_ats[") => times(name, value, &mut list.created, problems),
            _ if name == "updated_ats" || name.starts_with("updated_ats[") => times(name, value, &mut list.updated, problems),
            _ if name.starts_with("fields[") && !self.fields.is_empty() => self.field(name, value, list, problems),
            _ if self.filters.contains(&name) => drop(list.filters.insert(name.to_owned(), values(value))),
            _ => return false,
        }
        true
    }

    fn order(&self, value: &str, list: &mut List, problems: &mut Vec<String>) {
        let column = value.trim_start_matches(['+', '-', ' ']);
        let allowed = ["created_at", "updated_at"].iter().chain(self.order_by);
        if !allowed.clone().any(|a| *a == column) {
            let names: Vec<String> = allowed.map(|a| format!("'{a}'")).collect();
            problems.push(format!("Order by can only be: {}", names.join(", ")));
        }
        list.order = Some((column.to_owned(), value.starts_with('-')));
    }

    fn field(&self, name: &str, value: &str, list: &mut List, problems: &mut Vec<String>) {
        let path = name.trim_start_matches("fields[").trim_end_matches(']');
        let Some((_, keys)) = self.fields.iter().find(|(known, _)| *known == path) else {
            let paths: Vec<String> = self.fields.iter().map(|(p, _)| format!("'{p}'")).collect();
            return problems.push(format!("Fields [{path}] valid resources are: {}", paths.join(", ")));
        };
        let asked = values(value);
        if asked.iter().any(|a| !keys.contains(&a.as_str())) {
            let keys: Vec<String> = keys.iter().map(|k| format!("'{k}'")).collect();
            problems.push(format!("Fields valid keys for '{path}' are: {}", keys.join(", ")));
        }
        list.fields.insert(path.to_owned(), asked);
    }

    fn names(&self) -> Vec<&'static str> {
        let mut names = vec!["page", "per_page", "order_by", "created_ats", "updated_ats", "guids"];
        names.extend(self.labels.then_some("label_selector"));
        names.extend(self.filters);
        names.extend((!self.includes.is_empty()).then_some("include"));
        names.extend((!self.embeds.is_empty()).then_some("embed"));
        names.extend((!self.fields.is_empty()).then_some("fields"));
        names
    }

    fn show_names(&self) -> String {
        let mut names: Vec<&str> = vec![];
        names.extend((!self.includes.is_empty()).then_some("'include'"));
        names.extend((!self.embeds.is_empty()).then_some("'embed'"));
        names.extend((!self.fields.is_empty()).then_some("'fields'"));
        names.join(", ")
    }

    fn finish(&self, problems: Vec<String>) -> Result<(), Error> {
        match (problems.is_empty(), self.unprocessable) {
            (true, _) => Ok(()),
            (false, true) => Err(Error::Invalid(problems.join(", "))),
            (false, false) => Err(Error::BadQuery(problems.join(", "))),
        }
    }
}

fn positive(value: &str, label: &str, most: u32, problems: &mut Vec<String>) -> Option<u32> {
    match value.parse::<u32>() {
        Ok(number) if number > most => problems.push(format!("{label} must be between 1 and {most}")),
        Ok(number) if number > 0 => return Some(number),
        _ if value.bytes().all(|b| b.is_ascii_digit()) && value.len() > 9 => {
            problems.push(format!("{label} must be between 1 and {most}"))
        }
        _ => problems.push(format!("{label} must be a positive integer")),
    }
    None
}

/// Comma separated; blanks after a comma do not count; each value is decoded a second time, so that it may hold a comma, or
/// begin with a blank.
fn values(text: &str) -> Vec<String> {
    let decode = |value: &str| percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned();
    text.split(',').enumerate().map(|(at, value)| decode(if at == 0 { value } else { value.trim_start() })).collect()
}

fn one_of(value: &str, valid: &[&str], word: &str, problems: &mut Vec<String>) -> Vec<String> {
    let mut taken: Vec<String> = vec![];
    for asked in values(value) {
        // The old spelling.
        let asked = if asked == "org" && !valid.contains(&"org") {
            if valid.contains(&"space.organization") { "space.organization".into() } else { "organization".to_owned() }
        } else {
            asked
        };
        if !valid.contains(&asked.as_str()) {
            let names: Vec<String> = valid.iter().map(|v| format!("'{v}'")).collect();
            problems.push(format!("Invalid {word} resource: '{asked}'. Valid {word} resources are: {}", names.join(", ")));
        } else if taken.contains(&asked) {
            problems.push(format!("Duplicate {word} resource: '{asked}'"));
        } else {
            taken.push(asked);
        }
    }
    taken
}

fn times(name: &str, value: &str, times: &mut Times, problems: &mut Vec<String>) {
    const SECOND: i64 = 1_000_000;
    let (label, operator) = match name.split_once('[') {
        Some((label, operator)) => (label, Some(operator.trim_end_matches(']'))),
        None => (name, None),
    };
    let label = if label == "created_ats" { "Created ats" } else { "Updated ats" };
    let mut seconds = vec![];
    for text in values(value) {
        let strict = text.len() == 20 && text.ends_with('Z');
        match Timestamp::parse(&text).filter(|_| strict) {
            Some(moment) => seconds.push(i64::try_from(moment.as_secs()).unwrap_or(i64::MAX / SECOND)),
            None => {
                let why = "has an invalid timestamp format. Timestamps should be formatted as 'YYYY-MM-DDThh:mm:ssZ'";
                return problems.push(format!("{label} {why}"));
            }
        }
    }
    let Some(operator) = operator else { return times.any_of = Some(seconds) };
    let [second] = seconds[..] else {
        return problems.push(format!("{label} only accepts one value when using a relational operator"));
    };
    match operator {
        "lt" => times.before = Some(second * SECOND),
        "lte" => times.before = Some((second + 1) * SECOND),
        "gt" => times.from = Some((second + 1) * SECOND),
        "gte" => times.from = Some(second * SECOND),
        other => problems.push(format!("Invalid relational operator: '{other}'")),
    }
}

fn selector(text: &str, problems: &mut Vec<String>) -> Vec<Requirement> {
    if text.trim().is_empty() {
        problems.push("Missing label_selector value".into());
        return vec![];
    }
    let parsed: Option<Vec<Requirement>> = split_selector(text).into_iter().map(requirement).collect();
    match parsed {
        None => problems.push("Invalid label_selector value".into()),
        Some(all) if all.len() > MAX_REQUIREMENTS => {
            problems.push(format!("Too many label_selector requirements (maximum is {MAX_REQUIREMENTS})"));
        }
        Some(all) => return all,
    }
    vec![]
}

/// Commas inside parentheses belong to a set.
fn split_selector(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (vec![], 0, 0_u32);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(text: &str) -> Option<Requirement> {
    let text = text.trim();
    let word = |t: &str| t.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'/'));
    let key = |t: &str| Some(t.trim().to_owned()).filter(|t| !t.is_empty() && word(t));
    let value = |t: &str| Some(t.trim().to_owned()).filter(|t| word(t));
    let set = |t: &str| -> Option<Vec<String>> { t.trim().strip_prefix('(')?.strip_suffix(')')?.split(',').map(value).collect() };
    if let Some((left, right)) = text.split_once('(') {
        let (name, operator) = left.trim().split_once(char::is_whitespace)?;
        let values = set(&format!("({right}"))?;
        return match operator.trim() {
            "in" => Some(Requirement::In(key(name)?, values)),
            "notin" => Some(Requirement::NotIn(key(name)?, values)),
            _ => None,
        };
    }
    if let Some((name, right)) = text.split_once("!=") {
        return Some(Requirement::NotIn(key(name)?, vec![value(right)?]));
    }
    if let Some((name, right)) = text.split_once('=') {
        return Some(Requirement::In(key(name)?, vec![value(right.strip_prefix('=').unwrap_or(right))?]));
    }
    match text.strip_prefix('!') {
        Some(name) => key(name).map(Requirement::Missing),
        None => key(text).map(Requirement::Exists),
    }
}

/// Reads a query string into pairs, where a resource has parameters of its own.
pub fn pairs(query: &str) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(query.as_bytes()).map(|(k, v)| (k.into_owned(), v.into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: ListSpec =
        ListSpec { filters: &["names"], order_by: &["name"], includes: &["space", "space.organization"], ..ListSpec::STANDARD };

    fn problem(query: &str) -> String {
        match SPEC.parse(query) {
            Err(Error::BadQuery(text)) => text,
            other => panic!("{query} gave {other:?}"),
        }
    }

    #[test]
    fn a_value_with_a_comma_travels_double_encoded() {
        let list = SPEC.parse("names=a%252Cb,%20c").unwrap();
        assert_eq!(list.values("names").unwrap(), ["a,b", "c"]);
    }

    #[test]
    fn only_blanks_after_a_comma_do_not_count() {
        let list = SPEC.parse("names=%20lead%20,%20second,%2520third").unwrap();
        assert_eq!(list.values("names").unwrap(), [" lead ", "second", " third"]);
    }

    #[test]
    fn a_present_but_empty_filter_asks_for_the_empty_value() {
        assert_eq!(SPEC.parse("names=").unwrap().values("names").unwrap(), [""]);
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_the_contract() {
        assert_eq!(problem("page=0"), "Page must be a positive integer");
        assert_eq!(problem("per_page=5001"), "Per page must be between 1 and 5000");
        assert_eq!(problem("order_by=size"), "Order by can only be: 'created_at', 'updated_at', 'name'");
        assert_eq!(
            problem("include=app"),
            "Invalid included resource: 'app'. Valid included resources are: 'space', 'space.organization'"
        );
        assert_eq!(problem("created_ats[eq]=2026-01-02T03:04:05Z"), "Invalid relational operator: 'eq'");
        assert!(problem("created_ats=yesterday").starts_with("Created ats has an invalid timestamp format."));
        assert_eq!(problem("label_selector="), "Missing label_selector value");
        assert_eq!(problem("label_selector=a=b=c(d"), "Invalid label_selector value");
        assert!(
            problem("nmes=a")
                .starts_with("Unknown query parameter(s): 'nmes'. Valid parameters are: 'page', 'per_page', 'order_by'")
        );
    }

    #[test]
    fn label_selectors_of_all_forms_are_understood() {
        let list = SPEC.parse("label_selector=a,!b,c=d,e!=f,g%20in%20(h,i),example.com/j%20notin%20(k)").unwrap();
        assert_eq!(
            list.labels,
            [
                Requirement::Exists("a".into()),
                Requirement::Missing("b".into()),
                Requirement::In("c".into(), vec!["d".into()]),
                Requirement::NotIn("e".into(), vec!["f".into()]),
                Requirement::In("g".into(), vec!["h".into(), "i".into()]),
                Requirement::NotIn("example.com/j".into(), vec!["k".into()]),
            ]
        );
    }
}
