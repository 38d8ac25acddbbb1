//! List documents and the parts that all resources share.

use crate::{
    api::{Answer, Api, ok, time},
    domain::{Caller, Result, Tx},
    store::{
        metadata::Metadata,
        query::{List, Listed},
    },
};
use actix_web::HttpRequest;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use url::form_urlencoded;

/// A list document. `path` is that of the request, `query` its query string; links repeat what it asked for.
pub fn document(
    api: &Api,
    path: &str,
    query: &str,
    list: &List,
    total: i64,
    resources: Vec<Value>,
    included: Option<Value>,
) -> Value {
    let pages = ((total.max(0) + i64::from(list.per_page) - 1) / i64::from(list.per_page)).max(1);
    let page = i64::from(list.page);
    let link = |number: i64| json!({ "href": page_url(api, path, query, number, list.per_page) });
    let mut document = json!({
        "pagination": {
            "total_results": total,
            "total_pages": pages,
            "first": link(1),
            "last": link(pages),
            "next": if page < pages { link(page + 1) } else { Value::Null },
            "previous": if page > 1 { link(page - 1) } else { Value::Null },
        },
        "resources": resources,
    });
    if let Some(included) = included {
        document["included"] = included;
    }
    document
}

/// As [`document`], for something that does not exist here: always empty.
pub fn empty(api: &Api, path: &str, query: &str, list: &List) -> Value {
    document(api, path, query, list, 0, vec![], None)
}

/// Answers with a list document: `find` gets what was asked for, and each row is presented by itself.
pub async fn answer<T: Send + 'static>(
    api: &Api,
    caller: &Caller,
    request: &HttpRequest,
    list: List,
    find: impl FnOnce(&mut Tx<'_>, List) -> Result<Listed<T>> + Send + 'static,
    present: impl FnMut(&T) -> Value,
) -> Answer {
    let asked = list.clone();
    let found = api.read(caller, move |tx| find(tx, asked)).await?;
    let resources = found.rows.iter().map(present).collect();
    ok(document(api, request.path(), request.query_string(), &list, found.total, resources, None))
}

fn page_url(api: &Api, path: &str, query: &str, page: i64, per_page: u32) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    let kept: BTreeMap<String, String> =
        form_urlencoded::parse(query.as_bytes()).map(|(k, v)| (k.into_owned(), v.into_owned())).collect();
    for (name, value) in kept.iter().filter(|(name, _)| !matches!(name.as_str(), "page" | "per_page")) {
        out.append_pair(name, value);
    }
    out.append_pair("page", &page.to_string()).append_pair("per_page", &per_page.to_string());
    format!("{}?{}", api.url(path), out.finish())
}

/// guid and times: the beginning of every resource.
pub fn head(guid: &str, created_at: i64, updated_at: i64) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("guid".into(), guid.into());
    map.insert("created_at".into(), time(created_at).into());
    map.insert("updated_at".into(), time(updated_at).into());
    map
}

/// `{"labels": .., "annotations": ..}`
pub fn metadata(metadata: &Metadata) -> Value {
    json!({ "labels": metadata.labels, "annotations": metadata.annotations })
}

/// `{"href": ..}`
pub fn link(api: &Api, path: &str) -> Value {
    json!({ "href": api.url(path) })
}
/// `{"href": .., "method": ..}`
pub fn action(api: &Api, path: &str, method: &str) -> Value {
    json!({ "href": api.url(path), "method": method })
}
/// `{"data": {"guid": ..}}`, or null data.
pub fn to_one(guid: Option<&str>) -> Value {
    match guid {
        Some(guid) => json!({ "data": { "guid": guid } }),
        None => json!({ "data": null }),
    }
}
/// `{"data": [{"guid": ..}, ..]}`
pub fn to_many(guids: &[String]) -> Value {
    json!({ "data": guids.iter().map(|guid| json!({ "guid": guid })).collect::<Vec<_>>() })
}
