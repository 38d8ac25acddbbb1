//! `/v3/feature_flags`

use crate::{
    api::{Answer, Api, body::Fields, ok, page, query::ListSpec, time},
    domain::{
        Caller,
        flags::{self, Flag},
    },
};
use actix_web::{
    HttpRequest, get, patch,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Value, json};

const LIST: ListSpec = ListSpec { order_by: &["name"], labels: false, ..ListSpec::STANDARD };

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(index).service(show).service(update);
}

fn body(api: &Api, flag: &Flag) -> Value {
    json!({
        "name": flag.name,
        "enabled": flag.enabled,
        "updated_at": flag.updated_at.map(time),
        "custom_error_message": flag.custom_error_message,
        "links": { "self": page::link(api, &format!("/v3/feature_flags/{}", flag.name)) },
    })
}

#[get("/v3/feature_flags")]
async fn index(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    let list = LIST.parse(request.query_string())?;
    let mut all = api.read(&caller, flags::all).await?;
    if list.order().1 {
        all.reverse();
    }
    let total = i64::try_from(all.len()).unwrap_or(i64::MAX);
    let start = usize::try_from(list.offset()).unwrap_or(usize::MAX);
    let resources = all.iter().skip(start).take(list.per_page as usize).map(|flag| body(&api, flag)).collect();
    ok(page::document(&api, request.path(), request.query_string(), &list, total, resources, None))
}

#[get("/v3/feature_flags/{name}")]
async fn show(api: Data<Api>, caller: Caller, name: Path<String>) -> Answer {
    let flag = api.read(&caller, move |tx| flags::find(tx, &name)).await?;
    ok(body(&api, &flag))
}

#[patch("/v3/feature_flags/{name}")]
async fn update(api: Data<Api>, caller: Caller, name: Path<String>, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["enabled", "custom_error_message"])?;
    let enabled = fields.bool("enabled");
    let message = fields.has("custom_error_message").then(|| fields.bounded("custom_error_message", 250));
    fields.finish()?;
    let flag = api.write(&caller, move |tx| flags::update(tx, &name, enabled, message.clone())).await?;
    ok(body(&api, &flag))
}
