//! `/v3/apps/:guid/env` and `/environment_variables`.

use crate::{
    api::{Answer, Api, apps::variables, body::Fields, ok, page},
    domain::{
        Caller, Error, Result, Scope, Tx,
        apps::{self, event},
        env_groups,
        environment::{self, Vars},
        flags, running,
        services::{files::Delivery, vcap},
    },
    store::apps::App,
};
use actix_web::{
    get, patch,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Value, json};

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(env).service(show).service(update);
}

/// Finds an app whose variables the caller reads (E), while the flags allow it.
fn readable_env(tx: &mut Tx<'_>, guid: &str) -> Result<(App, Scope)> {
    let (app, scope) = apps::readable(tx, guid)?;
    if !tx.who.reads_env(&scope.space.guid) {
        return Err(Error::Forbidden);
    }
    flags::require_for_all(tx, "env_var_visibility")?;
    if !tx.who.caller.admin_read_only {
        flags::require(tx, "space_developer_env_var_visibility")?;
    }
    Ok((app, scope))
}

#[get("/v3/apps/{guid}/env")]
async fn env(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let policy = api.policy.clone();
    let work = move |tx: &mut Tx<'_>| {
        let (app, scope) = readable_env(tx, &guid)?;
        event(tx, "audit.app.environment.show", &app, &scope, json!({}))?;
        let about = running::about(tx, &policy, &scope, &app)?;
        let bound = vcap::of_app(tx, &app.guid)?;
        let services = match (tx.who.reads_secrets(&scope.space.guid), Delivery::of(&app)) {
            (true, Delivery::Environment) => json!({ "VCAP_SERVICES": vcap::services(&bound) }),
            (true, delivery) => json!(delivery.variables(&bound)),
            (false, _) => json!({ "redacted_message": "[PRIVATE DATA HIDDEN]" }),
        };
        Ok(json!({
            "staging_env_json": env_groups::find(tx, "staging")?.vars,
            "running_env_json": env_groups::find(tx, "running")?.vars,
            "environment_variables": running::app_env(tx, &app)?,
            "system_env_json": services,
            "application_env_json": { "VCAP_APPLICATION": environment::vcap_application(&about) },
        }))
    };
    ok(api.write(&caller, work).await?)
}

fn body(api: &Api, app: &str, vars: &Vars) -> Value {
    let path = format!("/v3/apps/{app}");
    let links = json!({ "self": page::link(api, &format!("{path}/environment_variables")), "app": page::link(api, &path) });
    json!({ "var": vars, "links": links })
}

#[get("/v3/apps/{guid}/environment_variables")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let (app, scope) = readable_env(tx, &guid)?;
        event(tx, "audit.app.environment_variables.show", &app, &scope, json!({}))?;
        Ok((running::app_env(tx, &app)?, app.guid))
    };
    let (vars, app) = api.write(&caller, work).await?;
    ok(body(&api, &app, &vars))
}

#[patch("/v3/apps/{guid}/environment_variables")]
async fn update(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["var"])?;
    if !fields.has("var") {
        fields.problem("Var must be an object");
    }
    let change = variables(&mut fields, "var");
    fields.finish()?;
    let work = move |tx: &mut Tx<'_>| {
        let (mut app, scope) = apps::manageable(tx, &guid)?;
        let vars = apps::update_env(tx, &mut app, &scope, change.clone())?;
        Ok((vars, app, scope))
    };
    let (vars, app, scope) = api.write(&caller, work).await?;
    let text = format!("Updated app with guid {} ({{\"environment_variables\"=>\"[PRIVATE DATA HIDDEN]\"}})", app.guid);
    api.log.tell(&app, &scope, api.now(), &text);
    ok(body(&api, &app.guid, &vars))
}
