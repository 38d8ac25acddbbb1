//! JSON bodies: all that is wrong with one object is collected and told in one text.

use crate::domain::{Error, Result, metadata::MetadataChange, name_problem};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The fields of one JSON object.
///
/// Read each with a method; a wrong one is noted and reads as absent. [`Fields::finish`] tells all problems at once.
#[derive(Debug)]
pub struct Fields {
    map: Map<String, Value>,
    /// Put before each problem: `Relationships`, `Options`, ...
    lead: &'static str,
    problems: Vec<String>,
}

impl Fields {
    /// Reads a body; no body and `null` count as `{}`. Fields that are not `known` are a problem.
    ///
    /// # Errors
    /// [`Error::Unparsable`] when it is not a JSON object.
    pub fn parse(body: &[u8], known: &[&str]) -> Result<Self> {
        let value = if body.iter().all(u8::is_ascii_whitespace) {
            Value::Null
        } else {
            serde_json::from_slice(body).map_err(|_| Error::Unparsable)?
        };
        match value {
            Value::Null => Ok(Self::of(Map::new(), "", known)),
            Value::Object(map) => Ok(Self::of(map, "", known)),
            _ => Err(Error::Unparsable),
        }
    }

    /// The fields of an object inside a body.
    pub fn of(map: Map<String, Value>, lead: &'static str, known: &[&str]) -> Self {
        let mut fields = Self { map, lead, problems: vec![] };
        let unknown: Vec<String> = fields.map.keys().filter(|k| !known.contains(&k.as_str())).map(|k| format!("'{k}'")).collect();
        if !unknown.is_empty() {
            fields.problem(format!("Unknown field(s): {}", unknown.join(", ")));
        }
        fields
    }

    /// Notes a problem.
    pub fn problem(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.problems.push(if self.lead.is_empty() { text } else { format!("{} {text}", self.lead) });
    }
    /// Notes problems that come with their own lead.
    pub fn problems(&mut self, texts: Vec<String>) {
        self.problems.extend(texts);
    }
    /// True when the field is there, even if null.
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }
    /// True when the field is there and null.
    pub fn is_null(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(Value::is_null)
    }
    /// The field as it is; null reads as absent.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key).filter(|v| !v.is_null())
    }

    /// A text.
    pub fn string(&mut self, key: &str) -> Option<String> {
        match self.map.get(key) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                self.problem(format!("{} must be a string", label(key)));
                None
            }
        }
    }
    /// A text of at most `most` characters; if it is there, it is not empty.
    pub fn bounded(&mut self, key: &str, most: usize) -> Option<String> {
        let text = self.string(key)?;
        let length = text.chars().count();
        if length == 0 {
            self.problem(format!("{} is too short (minimum is 1 character)", label(key)));
        } else if length > most {
            self.problem(format!("{} is too long (maximum is {most} characters)", label(key)));
        } else if text.contains('\0') {
            self.problem(format!("{} must not contain null characters", label(key)));
        } else {
            return Some(text);
        }
        None
    }
    /// A name of at most `most` characters that people can type, read and find again.
    pub fn name(&mut self, key: &str, most: usize) -> Option<String> {
        let name = self.bounded(key, most)?;
        self.check_name(key, &name);
        Some(name)
    }
    /// Notes what is wrong with a name besides its length.
    pub fn check_name(&mut self, key: &str, name: &str) {
        if let Some(problem) = name_problem(name) {
            self.problem(format!("{} {problem}", label(key)));
        }
    }
    /// A name that must be there, of 1 to `most` characters.
    pub fn required(&mut self, key: &str, most: usize) -> String {
        if self.map.get(key).is_none_or(Value::is_null) {
            self.problem(format!("{} can't be blank", label(key)));
        }
        self.name(key, most).unwrap_or_default()
    }
    /// A name in a PATCH: absent is fine, null is not.
    pub fn renamed(&mut self, key: &str, most: usize) -> Option<String> {
        if self.is_null(key) {
            self.problem(format!("{} must be a string", label(key)));
        }
        self.name(key, most)
    }
    /// True or false.
    pub fn bool(&mut self, key: &str) -> Option<bool> {
        match self.map.get(key) {
            None | Some(Value::Null) => None,
            Some(Value::Bool(value)) => Some(*value),
            Some(_) => {
                self.problem(format!("{} must be a boolean", label(key)));
                None
            }
        }
    }
    /// A whole number from `least` to `most`.
    pub fn integer(&mut self, key: &str, least: i64, most: i64) -> Option<i64> {
        let value = match self.map.get(key) {
            None | Some(Value::Null) => return None,
            Some(value) => value.as_i64(),
        };
        match value {
            None => self.problem(format!("{} is not a number", label(key))),
            Some(n) if n < least => self.problem(format!("{} must be greater than or equal to {least}", label(key))),
            Some(n) if n > most => self.problem(format!("{} must be less than or equal to {most}", label(key))),
            Some(n) => return Some(n),
        }
        None
    }
    /// A list of texts.
    pub fn strings(&mut self, key: &str) -> Option<Vec<String>> {
        let texts = match self.map.get(key) {
            None | Some(Value::Null) => return None,
            Some(Value::Array(all)) => all.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>(),
            Some(_) => None,
        };
        if texts.is_none() {
            self.problem(format!("{} must be an array of strings", label(key)));
        }
        texts
    }
    /// An object; its problems are brought back with [`Fields::join`].
    pub fn object(&mut self, key: &str, lead: &'static str, known: &[&str]) -> Option<Fields> {
        match self.take(key) {
            None => None,
            Some(Value::Object(map)) => Some(Fields::of(map, lead, known)),
            Some(_) => {
                self.problem(format!("{} must be an object", label(key)));
                None
            }
        }
    }
    /// Takes over the problems of an inner object.
    pub fn join(&mut self, inner: Fields) {
        self.problems.extend(inner.problems);
    }
    /// `metadata`.
    pub fn metadata(&mut self) -> MetadataChange {
        match self.take("metadata") {
            None => MetadataChange::default(),
            Some(value) => MetadataChange::parse(&value, &mut self.problems),
        }
    }

    /// `relationships` to one resource each: name to guid, `None` where `data` is null.
    ///
    /// Those in `required` must be there and name a guid.
    pub fn relationships(&mut self, known: &[&str], required: &[&str]) -> BTreeMap<String, Option<String>> {
        let mut found = BTreeMap::new();
        let map = match self.map.remove("relationships") {
            Some(Value::Object(map)) => map,
            None if required.is_empty() => return found,
            _ => {
                self.problem("Relationships 'relationships' is not an object");
                return found;
            }
        };
        let mut inner = Fields::of(map, "Relationships", known);
        if !required.is_empty() && inner.map.is_empty() {
            inner.problem("'relationships' must include one or more valid relationships");
        }
        for name in known {
            match inner.map.get(*name).map(to_one) {
                Some(Ok(guid)) if guid.is_some() || !required.contains(name) => drop(found.insert((*name).to_owned(), guid)),
                Some(Err(Some(why))) => inner.problem(format!("{} {why}", label(name))),
                None if !required.contains(name) => {}
                _ => inner.problem(format!(
                    "{} must be structured like this: \"{name}: {{\"data\": {{\"guid\": \"valid-guid\"}}}}\"",
                    label(name)
                )),
            }
        }
        self.join(inner);
        found
    }

    /// `data` with many guids, as in `POST .../relationships/...`.
    pub fn guids(&mut self) -> Vec<String> {
        let Some(Value::Array(entries)) = self.take("data") else {
            self.problem("Data must be an array");
            return vec![];
        };
        let mut guids = vec![];
        for (index, entry) in entries.iter().enumerate() {
            match entry.get("guid") {
                Some(Value::String(guid)) => guids.push(guid.clone()),
                _ => self.problem(format!("Invalid data type: Data[{index}] guid should be a string.")),
            }
        }
        guids
    }

    /// All is read.
    ///
    /// # Errors
    /// [`Error::Invalid`] with all problems, when there are any.
    pub fn finish(self) -> Result<()> {
        if self.problems.is_empty() { Ok(()) } else { Err(Error::Invalid(self.problems.join(", "))) }
    }
}

/// The body as it came, for the event that tells of it.
pub fn raw(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}

/// Reads `{"data": {"guid": "..."}}` or `{"data": null}`.
///
/// # Errors
/// `Some` with what is wrong with the guid; `None` when the shape is wrong.
pub fn to_one(value: &Value) -> std::result::Result<Option<String>, Option<String>> {
    let Value::Object(outer) = value else { return Err(None) };
    if outer.len() != 1 {
        return Err(None);
    }
    match outer.get("data") {
        Some(Value::Null) => Ok(None),
        Some(Value::Object(data)) if data.len() == 1 => match data.get("guid") {
            Some(Value::String(guid)) if (1..=200).contains(&guid.len()) => Ok(Some(guid.clone())),
            Some(Value::String(_)) => Err(Some("guid must be between 1 and 200 characters".into())),
            Some(_) => Err(Some("guid must be a string".into())),
            None => Err(None),
        },
        _ => Err(None),
    }
}

/// `total_memory_in_mb` as people read it: `Total memory in mb`.
pub fn label(key: &str) -> String {
    let text = key.replace('_', " ");
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_problems_of_a_body_are_told_at_once() {
        let mut fields = Fields::parse(br#"{"name": 5, "colour": "red"}"#, &["name", "relationships"]).unwrap();
        let name = fields.required("name", 255);
        fields.relationships(&["space"], &["space"]);
        assert_eq!(name, "");
        let Err(Error::Invalid(text)) = fields.finish() else { panic!("must be refused") };
        assert_eq!(text, "Unknown field(s): 'colour', Name must be a string, Relationships 'relationships' is not an object");
    }

    #[test]
    fn a_name_that_would_not_be_found_again_or_breaks_a_list_is_refused() {
        let read = |name: &str| {
            let mut fields = Fields::parse(json!({ "name": name }).to_string().as_bytes(), &["name"]).unwrap();
            fields.required("name", 255);
            fields.finish().map_err(|e| e.to_string())
        };
        for good in ["a", "my org", "größe", "a\u{a0}b"] {
            assert_eq!(read(good), Ok(()), "{good:?}");
        }
        for blank in [" lead", "trail ", " ", "\u{a0}lead", "trail\u{3000}"] {
            assert_eq!(read(blank), Err("Name must not begin or end with a blank".into()), "{blank:?}");
        }
        for control in ["a\nb", "o\u{1b}[31mred", "\u{9b}31m", "\tlead"] {
            assert_eq!(read(control), Err("Name must not contain control characters".into()), "{control:?}");
        }
        assert_eq!(read("a\0"), Err("Name must not contain null characters".into()));
    }

    #[test]
    fn a_relationship_must_have_exactly_its_shape() {
        let read = |body: &str| {
            let mut fields = Fields::parse(body.as_bytes(), &["relationships"]).unwrap();
            let found = fields.relationships(&["space"], &["space"]);
            fields.finish().map(|()| found)
        };
        assert_eq!(read(r#"{"relationships":{"space":{"data":{"guid":"s"}}}}"#).unwrap()["space"].as_deref(), Some("s"));
        let Err(Error::Invalid(text)) = read(r#"{"relationships":{"space":{"guid":"s"}}}"#) else { panic!("must be refused") };
        assert_eq!(text, r#"Relationships Space must be structured like this: "space: {"data": {"guid": "valid-guid"}}""#);
    }

    #[test]
    fn text_that_is_not_json_is_a_parse_error() {
        assert!(matches!(Fields::parse(b"{", &[]), Err(Error::Unparsable)));
        assert!(matches!(Fields::parse(b"[]", &[]), Err(Error::Unparsable)));
        assert!(Fields::parse(b"", &[]).is_ok());
    }
}
