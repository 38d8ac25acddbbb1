//! How a service logs.

use serde_json::{Map, Value};
use std::{error::Error, fmt};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormattedFields,
        format::{JsonFields, Writer},
    },
    registry::LookupSpan,
};
use types::Clock;

/// The longest chain of causes that is told.
const MOST_CAUSES: usize = 16;

/// Logs to standard error: text on a terminal, one JSON object a line elsewhere. `CUPOLA_LOG` filters (default `info`).
pub fn init_logs() {
    use std::io::IsTerminal;
    let filter = EnvFilter::try_from_env("CUPOLA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match std::io::stderr().is_terminal() {
        true => builder.try_init(),
        false => builder.fmt_fields(JsonFields::new()).event_format(Lines).try_init(),
    };
}

/// One JSON object a line: `timestamp`, `level`, `message`, the event's fields, `target`, and `spans` from the outermost in.
/// Errors are told with all their causes, which the crate's own JSON format leaves out.
struct Lines;

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, JsonFields> for Lines {
    fn format_event(&self, context: &FmtContext<'_, S, JsonFields>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let meta = event.metadata();
        let mut line = Map::new();
        line.insert("timestamp".into(), crate::SystemClock.now().rfc3339_micros().into());
        line.insert("level".into(), meta.level().as_str().into());
        event.record(&mut Fields(&mut line));
        line.insert("target".into(), meta.target().into());
        let spans: Vec<Value> = context
            .event_scope()
            .into_iter()
            .flat_map(|scope| scope.from_root())
            .map(|span| {
                let extensions = span.extensions();
                let fields = extensions.get::<FormattedFields<JsonFields>>();
                let mut object: Map<_, _> =
                    fields.and_then(|fields| serde_json::from_str(&fields.fields).ok()).unwrap_or_default();
                object.insert("name".into(), span.name().into());
                object.into()
            })
            .collect();
        if !spans.is_empty() {
            line.insert("spans".into(), spans.into());
        }
        writeln!(writer, "{}", Value::from(line))
    }
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let causes = std::iter::successors(Some(value), |error| (*error).source()).take(MOST_CAUSES);
        let mut told: Vec<String> = vec![];
        for text in causes.map(ToString::to_string) {
            // Some errors repeat their cause in their own words.
            if !told.last().is_some_and(|last| last.ends_with(&text)) {
                told.push(text);
            }
        }
        self.put(field, told.join(": "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("the file cannot be kept")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_line_has_fields_spans_and_every_cause() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .fmt_fields(JsonFields::new())
            .event_format(Lines)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("request", path = "/v3/apps").entered();
            let error = Outer(io::Error::other("the disk is gone"));
            tracing::warn!(error = &error as &dyn Error, count = 3, "not kept");
        });
        let bytes = kept.0.lock().unwrap().clone();
        let line: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(line["error"], "the file cannot be kept: the disk is gone");
        assert_eq!((&line["message"], &line["count"], &line["level"]), (&"not kept".into(), &3.into(), &"WARN".into()));
        assert_eq!(line["spans"][0]["path"], "/v3/apps");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }
}
