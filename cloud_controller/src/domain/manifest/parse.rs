//! YAML with limits: size, depth, nodes; no aliases, so nothing can be expanded.

use super::Refused;
use serde_json::{Map, Value};
use serde_saphyr::{Error, budget::BudgetBreach};

/// The largest manifest.
pub const MAX_BYTES: usize = 1 << 20;
const MAX_DEPTH: usize = 24;
const MAX_NODES: usize = 100_000;

/// Reads a manifest document and returns its applications in order.
///
/// # Errors
/// [`Refused`], with the line for what is no YAML.
pub fn parse(body: &[u8]) -> Result<Vec<Map<String, Value>>, Refused> {
    if body.len() > MAX_BYTES {
        return Err(Refused::Bad("Manifest size is too large. The maximum supported size is 1MB.".into()));
    }
    let text = std::str::from_utf8(body).map_err(|_| Refused::Bad("Manifest contains invalid UTF-8".into()))?;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_aliases: 0,
            max_anchors: 0,
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: MAX_NODES * 3,
            max_merge_keys: 0,
            max_documents: 1,
        },
        with_snippet: false,
        reject_unsupported_tags: true,
    };
    let value: Value = serde_saphyr::from_str_with_options(text, options).map_err(|e| refusal(&e))?;
    let Value::Object(mut document) = value else {
        return Err(Refused::Unreadable("invalid request body: the manifest must be a map with 'applications'".into()));
    };
    match document.get("version") {
        None | Some(Value::Null) => {}
        Some(version) if *version == 1 => {}
        Some(_) => {
            return Err(Refused::Invalid(vec!["Unsupported manifest schema version. Currently supported versions: [1].".into()]));
        }
    }
    let no_applications = || Refused::Invalid(vec!["Cannot parse manifest with no 'applications' field.".into()]);
    let applications = document.remove("applications").ok_or_else(no_applications)?;
    let Value::Array(applications) = applications else { return Err(no_applications()) };
    if applications.is_empty() {
        return Err(no_applications());
    }
    let each = applications.into_iter().enumerate().map(|(index, app)| match app {
        Value::Object(app) => Ok(app),
        _ => Err(Refused::Invalid(vec![format!("For application at index {index}: must be a map")])),
    });
    each.collect()
}

fn refusal(error: &Error) -> Refused {
    let error = error.without_snippet();
    match error {
        Error::Budget {
            breach: BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } | BudgetBreach::MergeKeys { .. },
            ..
        } => Refused::Bad("Manifest does not support Anchors and Aliases".into()),
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            Refused::Bad(format!("Manifest is nested deeper than {MAX_DEPTH} levels"))
        }
        Error::Budget { .. } => Refused::Bad("Manifest has too many entries".into()),
        other => {
            let text = other.to_string();
            let place = match other.location() {
                Some(at) if at.line() > 0 && !text.contains("line ") => format!("line {}, column {}: ", at.line(), at.column()),
                _ => String::new(),
            };
            Refused::Unreadable(format!("invalid request body: {place}{text}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_manifest_is_refused_with_its_line() {
        let Err(Refused::Unreadable(text)) = parse(b"applications:\n- name: a\n  memory: [1\n  env: {}\n") else {
            panic!("it reads")
        };
        assert!(text.contains("line "), "{text}");
        let Err(Refused::Unreadable(text)) = parse(b"applications:\n- name: a\n  name: b\n") else { panic!("it reads") };
        assert!(text.contains("line 3"), "{text}");
    }

    #[test]
    fn b19_aliases_merges_depth_and_size_are_refused_before_they_expand() {
        let bomb = b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a]\napplications:\n- name: *b\n";
        assert_eq!(parse(bomb), Err(Refused::Bad("Manifest does not support Anchors and Aliases".into())));
        let merge = b"base: &base {memory: 1G}\napplications:\n- <<: *base\n  name: a\n";
        assert_eq!(parse(merge), Err(Refused::Bad("Manifest does not support Anchors and Aliases".into())));
        let deep = format!("applications:\n- name: a\n  x: {}{}\n", "[".repeat(5000), "]".repeat(5000));
        assert!(matches!(parse(deep.as_bytes()), Err(Refused::Bad(_) | Refused::Unreadable(_))));
        let wide = format!("applications:\n- name: a\n  x: [{}]\n", "1,".repeat(200_000));
        assert!(matches!(parse(wide.as_bytes()), Err(Refused::Bad(_))));
        assert!(matches!(parse(&vec![b' '; MAX_BYTES + 1]), Err(Refused::Bad(text)) if text.contains("1MB")));
        assert!(matches!(parse(b"applications:\n- name: !ruby/object:Gem::Requirement x\n"), Err(Refused::Unreadable(_))));
        assert!(matches!(parse(b"\xff\xfe"), Err(Refused::Bad(_))));
    }

    #[test]
    fn the_document_needs_applications_and_a_known_version() {
        assert!(matches!(parse(b"- a\n"), Err(Refused::Unreadable(_))));
        let none = Refused::Invalid(vec!["Cannot parse manifest with no 'applications' field.".into()]);
        assert_eq!(parse(b"version: 1\n"), Err(none.clone()));
        assert_eq!(parse(b"applications: []\n"), Err(none));
        let text = "Unsupported manifest schema version. Currently supported versions: [1].";
        assert_eq!(parse(b"version: 2\napplications: [{name: a}]\n"), Err(Refused::Invalid(vec![text.into()])));
        assert_eq!(parse(b"---\nversion: 1\napplications:\n- name: a\n").unwrap()[0]["name"], "a");
    }

    #[test]
    fn values_that_cross_documents_are_refused() {
        assert!(parse(b"applications: [{name: a}]\n---\napplications: [{name: b}]\n").is_err());
    }
}
