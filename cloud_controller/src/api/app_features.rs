//! `/v3/apps/:guid/features` and `/ssh_enabled`.

use crate::{
    api::{Answer, Api, body::Fields, ok, page},
    domain::{Caller, Error, Tx, apps},
};
use actix_web::{
    HttpRequest, get, patch,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Value, json};

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(list).service(show).service(update).service(ssh_enabled);
}

fn body((name, description, enabled): (&str, &str, bool)) -> Value {
    json!({ "name": name, "description": description, "enabled": enabled })
}

#[get("/v3/apps/{guid}/features")]
async fn list(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    let (app, _) = api.read(&caller, move |tx| apps::readable(tx, &guid)).await?;
    let all: Vec<Value> = apps::features(&app).into_iter().map(body).collect();
    let link = page::link(&api, request.path());
    let pagination =
        json!({ "total_results": all.len(), "total_pages": 1, "first": link, "last": link, "next": null, "previous": null });
    ok(json!({ "pagination": pagination, "resources": all }))
}

#[get("/v3/apps/{guid}/features/{name}")]
async fn show(api: Data<Api>, caller: Caller, path: Path<(String, String)>) -> Answer {
    let (guid, name) = path.into_inner();
    let (app, _) = api.read(&caller, move |tx| apps::readable(tx, &guid)).await?;
    let found = apps::features(&app).into_iter().find(|feature| feature.0 == name).ok_or(Error::NotFound("Feature"))?;
    ok(body(found))
}

#[patch("/v3/apps/{guid}/features/{name}")]
async fn update(api: Data<Api>, caller: Caller, path: Path<(String, String)>, bytes: Bytes) -> Answer {
    let (guid, name) = path.into_inner();
    let mut fields = Fields::parse(&bytes, &["enabled"])?;
    let enabled = fields.bool("enabled");
    if enabled.is_none() && !fields.has("enabled") {
        fields.problem("Enabled must be a boolean");
    }
    fields.finish()?;
    let wanted = name.clone();
    let work = move |tx: &mut Tx<'_>| {
        let (mut app, scope) = apps::readable(tx, &guid)?;
        let allowed = if wanted == "revisions" { scope.manages(tx) } else { scope.writes(tx) };
        scope.check(tx, allowed)?;
        apps::set_feature(&mut app, &wanted, enabled.unwrap_or_default())?;
        apps::save(tx, &mut app)?;
        Ok(app)
    };
    let app = api.write(&caller, work).await?;
    let found = apps::features(&app).into_iter().find(|feature| feature.0 == name).ok_or(Error::NotFound("Feature"))?;
    ok(body(found))
}

#[get("/v3/apps/{guid}/ssh_enabled")]
async fn ssh_enabled(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let (app, scope) = api.read(&caller, move |tx| apps::readable(tx, &guid)).await?;
    // No part of this platform answers ssh yet, so nobody may take it for enabled.
    let reason = match (scope.space.allow_ssh, app.ssh_enabled) {
        (true, true) => "ssh is disabled globally".to_owned(),
        (false, _) => format!("ssh is disabled for space '{}'", scope.space.name),
        (true, false) => "ssh is disabled for app".to_owned(),
    };
    ok(json!({ "enabled": false, "reason": reason }))
}
