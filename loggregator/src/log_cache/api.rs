//! The endpoints of the log cache.

use super::{
    Shared,
    access::{Denied, Reader},
    store::{Kind, Meta, Query},
    stream,
    wire::{Batch, Info, MetaAnswer, QueryError, Read, Status},
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::AUTHORIZATION,
    web::{self, Data, Path, ServiceConfig},
};
use futures::StreamExt;
use regex::RegexBuilder;
use std::{collections::BTreeMap, sync::Arc};

/// The version of the API that is spoken; clients want at least 2.0.0.
const VERSION: &str = "3.0.0";
/// Questions about access that one request for `meta` asks at a time, and in all.
const META_AT_ONCE: usize = 16;
const META_QUESTIONS: usize = 2_000;

pub(super) fn routes(shared: Arc<Shared>) -> impl Fn(&mut ServiceConfig) + Clone {
    move |config| {
        config
            .app_data(Data::from(shared.clone()))
            .route("/api/v1/info", web::get().to(info))
            .route("/api/v1/read/{source:.+}", web::get().to(read))
            .route("/api/v1/meta", web::get().to(meta))
            .route("/api/v1/query", web::get().to(no_queries))
            .route("/api/v1/query_range", web::get().to(no_queries))
            .route("/v2/read", web::to(stream::read))
            .default_service(web::to(async || failure(404, 5, "not found".into())));
    }
}

async fn info(shared: Data<Shared>) -> HttpResponse {
    let uptime = shared.clock.now().since(shared.started).as_secs();
    HttpResponse::Ok().json(Info { version: VERSION, vm_uptime: uptime.to_string() })
}

async fn read(shared: Data<Shared>, request: HttpRequest, source: Path<String>) -> HttpResponse {
    let checked = async {
        let reader = shared.access.reader(authorization(&request)).await?;
        shared.access.check(&reader, &source).await
    };
    if let Err(denied) = checked.await {
        return turn_down(denied);
    }
    let now = shared.clock.now().as_nanos();
    let query = match parse(request.query_string(), now) {
        Ok(query) => query,
        Err(why) => return failure(400, 3, why),
    };
    let found = shared.store.lock().read(&source, &query);
    HttpResponse::Ok().json(Read { envelopes: Batch::of(&found) })
}

async fn meta(shared: Data<Shared>, request: HttpRequest) -> HttpResponse {
    let reader = match shared.access.reader(authorization(&request)).await {
        Ok(reader) => reader,
        Err(denied) => return turn_down(denied),
    };
    let known = shared.store.lock().meta();
    let seen = if reader.admin { Ok(known) } else { readable(&shared, &reader, known).await };
    match seen {
        Ok(seen) => HttpResponse::Ok()
            .json(MetaAnswer { meta: seen.into_iter().map(|(name, meta)| (name.to_string(), meta.into())).collect() }),
        Err(denied) => turn_down(denied),
    }
}

/// Those sources that the reader may read.
async fn readable(shared: &Shared, reader: &Reader, known: BTreeMap<Arc<str>, Meta>) -> Result<BTreeMap<Arc<str>, Meta>, Denied> {
    let apps = known.into_iter().filter(|(name, _)| name.parse::<types::AppId>().is_ok()).take(META_QUESTIONS);
    let answers = futures::stream::iter(apps).map(async |(name, meta)| (shared.access.check(reader, &name).await, name, meta));
    let mut answers = std::pin::pin!(answers.buffer_unordered(META_AT_ONCE));
    let mut seen = BTreeMap::new();
    while let Some((answer, name, meta)) = answers.next().await {
        match answer {
            Ok(()) => drop(seen.insert(name, meta)),
            Err(Denied::NotFound) => {}
            Err(Denied::Unavailable) => return Err(Denied::Unavailable),
        }
    }
    Ok(seen)
}

/// Metric queries may be switched off as a whole.
///
/// Source: cloudfoundry/log-cache-release, `src/internal/promql/unimplemented_middleware.go`.
async fn no_queries() -> HttpResponse {
    let error = "metrics queries are not available here";
    HttpResponse::NotImplemented().json(QueryError { status: "error", error_type: "bad_data", error })
}

pub(super) fn authorization(request: &HttpRequest) -> Option<&str> {
    request.headers().get(AUTHORIZATION)?.to_str().ok()
}

/// Never 401 or 403: nobody learns which sources there are.
fn turn_down(denied: Denied) -> HttpResponse {
    match denied {
        Denied::NotFound => failure(404, 5, "not found".into()),
        Denied::Unavailable => failure(502, 14, "cannot check access at present".into()),
    }
}

fn failure(status: u16, code: u8, message: String) -> HttpResponse {
    let status = actix_web::http::StatusCode::from_u16(status).unwrap_or_default();
    HttpResponse::build(status).json(Status { code, message, details: [] })
}

/// Reads the parameters; unknown ones are left alone, as the platform's own test suites send some.
fn parse(text: &str, now: i64) -> Result<Query, String> {
    let mut query = Query { start: i64::MIN, end: now, kinds: vec![], limit: 100, descending: false, name: None };
    let mut any = false;
    for (key, value) in url::form_urlencoded::parse(text.as_bytes()) {
        let wrong = || format!("invalid {key}: {}", value.chars().take(100).collect::<String>());
        match &*key {
            "start_time" => query.start = value.parse().map_err(|_| wrong())?,
            "end_time" => match value.parse().map_err(|_| wrong())? {
                0 => {}
                end => query.end = end,
            },
            "limit" => match value.parse::<i64>().map_err(|_| wrong())? {
                0 => {}
                limit if (1..=1_000).contains(&limit) => query.limit = limit as usize,
                limit => return Err(format!("Limit ({limit}) must be between 0 and 1000")),
            },
            "descending" => query.descending = boolean(&value).ok_or_else(wrong)?,
            "envelope_types" => match kind(&value).ok_or_else(wrong)? {
                Some(kind) => query.kinds.push(kind),
                None => any = true,
            },
            "name_filter" if !value.is_empty() => {
                let built = RegexBuilder::new(&value).size_limit(1 << 20).build();
                query.name = Some(built.map_err(|_| format!("Name filter must be a valid regular expression: {}", wrong()))?);
            }
            _ => {}
        }
    }
    if any {
        query.kinds.clear();
    }
    if query.start > query.end {
        return Err(format!("StartTime ({}) must be before EndTime ({})", query.start, query.end));
    }
    Ok(query)
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "1" | "t" | "T" | "TRUE" | "True" => Some(true),
        "false" | "0" | "f" | "F" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// `Some(None)`: any kind. Numbers are those of the protocol.
fn kind(text: &str) -> Option<Option<Kind>> {
    match text {
        "ANY" | "0" => Some(None),
        "LOG" | "1" => Some(Some(Kind::Log)),
        "COUNTER" | "2" => Some(Some(Kind::Counter)),
        "GAUGE" | "3" => Some(Some(Kind::Gauge)),
        "TIMER" | "4" => Some(Some(Kind::Timer)),
        "EVENT" | "5" => Some(Some(Kind::Event)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_official_client_sends_is_understood() {
        let recent = parse("envelope_types=LOG&limit=1000&start_time=-6795364578871345152&descending=true", 9).unwrap();
        assert_eq!((recent.start, recent.end, recent.limit, recent.descending), (-6795364578871345152, 9, 1_000, true));
        assert_eq!(recent.kinds, [Kind::Log]);
        let lenient = parse("envelope_type=LOG&limit=0&end_time=0&name_filter=", 9).unwrap();
        assert_eq!((lenient.limit, lenient.end, lenient.kinds.len(), lenient.name.is_none()), (100, 9, 0, true));
        assert_eq!(parse("envelope_types=GAUGE&envelope_types=ANY", 9).unwrap().kinds, []);
        assert_eq!(parse("envelope_types=GAUGE&envelope_types=TIMER", 9).unwrap().kinds, [Kind::Gauge, Kind::Timer]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            "limit=1001",
            "limit=-1",
            "limit=x",
            "start_time=x",
            "start_time=10",
            "envelope_types=OTHER",
            "name_filter=(",
            "descending=perhaps",
            "name_filter=(a{1000}){1000}",
        ] {
            assert!(parse(bad, 9).is_err(), "{bad}");
        }
    }
}
