//! `/v3/environment_variable_groups`

use crate::{
    api::{Answer, Api, body::Fields, ok, page, time},
    domain::{
        Caller, Error,
        env_groups::{self, Group},
        environment,
    },
};
use actix_web::{
    get, patch,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Value, json};

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(show).service(update);
}

fn body(api: &Api, group: &Group) -> Value {
    json!({
        "name": group.name,
        "var": group.vars,
        "updated_at": group.updated_at.map(time),
        "links": { "self": page::link(api, &format!("/v3/environment_variable_groups/{}", group.name)) },
    })
}

#[get("/v3/environment_variable_groups/{name}")]
async fn show(api: Data<Api>, caller: Caller, name: Path<String>) -> Answer {
    let group = api.read(&caller, move |tx| env_groups::find(tx, &name)).await?;
    ok(body(&api, &group))
}

#[patch("/v3/environment_variable_groups/{name}")]
async fn update(api: Data<Api>, caller: Caller, name: Path<String>, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["var"])?;
    let vars = fields.take("var").unwrap_or_else(|| json!({}));
    fields.finish()?;
    let change = environment::read_change(&vars).map_err(|problems| Error::Invalid(problems.join(", ")))?;
    let change = change.into_iter().collect();
    let group = api.write(&caller, move |tx| env_groups::update(tx, &name, &change)).await?;
    ok(body(&api, &group))
}
