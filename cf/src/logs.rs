//! Reading the log cache.

use crate::{
    api::{Api, array, number, query, text},
    ui::{self, say},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use std::collections::HashSet;

/// Lines that arrive late are still found when they are this much older than the newest.
const LOOK_BACK_NS: i64 = 2_000_000_000;

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Line {
    pub(crate) at_ns: i64,
    pub(crate) source: String,
    pub(crate) instance: String,
    pub(crate) error: bool,
    pub(crate) text: String,
}

impl Line {
    /// As `cf logs` shows it.
    pub(crate) fn show(&self) {
        let source = match self.instance.as_str() {
            "" => self.source.clone(),
            instance => format!("{}/{instance}", self.source),
        };
        let head = format!("{} [{source}] {}", ui::log_time(self.at_ns), if self.error { "ERR" } else { "OUT" });
        for part in self.text.lines() {
            let text = ui::harmless(part);
            say!("   {head} {}", if self.error { ui::red(&text) } else { text });
        }
    }
}

/// Follows the log of one app.
pub(crate) struct Follower {
    app: String,
    from_ns: i64,
    seen: HashSet<Line>,
}

impl Follower {
    /// From this moment on.
    pub(crate) fn from(app: &str, from_ns: i64) -> Self {
        Self { app: app.to_owned(), from_ns, seen: HashSet::new() }
    }

    /// What is new since the last call, oldest first.
    pub(crate) async fn next(&mut self, api: &mut Api) -> anyhow::Result<Vec<Line>> {
        let mut fresh = vec![];
        loop {
            let page = read(api, &self.app, self.from_ns, 1_000, false).await?;
            let full = page.len() >= 1_000;
            let before = fresh.len();
            fresh.extend(page.into_iter().filter(|line| self.seen.insert(line.clone())));
            if let Some(newest) = fresh.last().map(|line: &Line| line.at_ns) {
                // a full page may end in the middle of a crowded moment: go on right there
                self.from_ns = if full { newest } else { self.from_ns.max(newest - LOOK_BACK_NS) };
                self.seen.retain(|line| line.at_ns >= newest - LOOK_BACK_NS);
            }
            if !full || fresh.len() == before {
                return Ok(fresh);
            }
        }
    }
}

/// The newest lines, oldest first.
pub(crate) async fn recent(api: &mut Api, app: &str, limit: u32) -> anyhow::Result<Vec<Line>> {
    let mut lines = read(api, app, i64::MIN, limit, true).await?;
    lines.reverse();
    Ok(lines)
}

async fn read(api: &mut Api, app: &str, from_ns: i64, limit: u32, newest_first: bool) -> anyhow::Result<Vec<Line>> {
    let (start, limit) = (from_ns.max(-6_795_364_578_871_345_152).to_string(), limit.to_string());
    let mut pairs = vec![("start_time", start.as_str()), ("envelope_types", "LOG"), ("limit", limit.as_str())];
    if newest_first {
        pairs.push(("descending", "true"));
    }
    let path = query(&format!("{}/api/v1/read/{app}", api.config.log_cache), &pairs);
    let answer = api.get(&path).await?;
    Ok(array(&answer, "/envelopes/batch").filter_map(line).collect())
}

fn line(envelope: &Value) -> Option<Line> {
    let log = envelope.get("log")?;
    let payload = BASE64_STANDARD.decode(text(log, "/payload")).ok()?;
    let tag =
        |name: &str| envelope.pointer(&format!("/tags/{name}")).or_else(|| envelope.pointer(&format!("/deprecated_tags/{name}")));
    Some(Line {
        at_ns: text(envelope, "/timestamp").parse().unwrap_or_else(|_| number(envelope, "/timestamp")),
        source: tag("source_type").and_then(Value::as_str).unwrap_or("LOG").to_owned(),
        instance: text(envelope, "/instance_id").to_owned(),
        error: text(log, "/type") == "ERR",
        text: String::from_utf8_lossy(&payload).trim_end_matches(['\r', '\n']).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_envelope_is_a_line() {
        let envelope = json!({
            "timestamp": "1718000000000000000", "source_id": "g", "instance_id": "0", "tags": { "source_type": "APP/PROC/WEB" },
            "log": { "payload": "aGVsbG8K", "type": "ERR" },
        });
        let expected = Line {
            at_ns: 1_718_000_000_000_000_000,
            source: "APP/PROC/WEB".into(),
            instance: "0".into(),
            error: true,
            text: "hello".into(),
        };
        assert_eq!(line(&envelope), Some(expected));
        assert_eq!(line(&json!({ "timestamp": 1, "gauge": {} })), None);
    }
}
