//! bind-route-service, unbind-route-service.

use super::{Instance, Stand, already, done, follow, instance, parameters, sure};
use crate::{
    api::{Api, query, text},
    cli::{
        RouteArgs,
        services::{Parameters, ServiceRoute, Wait},
    },
    commands::routes,
    ui::{self, say},
};
use serde_json::json;

/// The route that a command names, the instance, and the route as it is shown.
async fn ends(api: &mut Api, args: &ServiceRoute) -> anyhow::Result<(String, String, Instance)> {
    let found = instance(api, &args.instance).await?;
    let named = RouteArgs { domain: args.domain.clone(), hostname: args.hostname.clone(), path: args.path.clone(), port: None };
    let guid = routes::existing(api, &named).await?;
    Ok((guid, routes::url(&named), found))
}

pub(super) async fn bind(api: &mut Api, args: &ServiceRoute, given: &Parameters, wait: Wait) -> anyhow::Result<()> {
    let parameters = parameters(given)?;
    let (route, url, found) = ends(api, args).await?;
    say!("Binding route {} to service instance {} in {}...\n", ui::name(&url), ui::name(&args.instance), found.place());
    let mut body = json!({ "relationships": {
        "service_instance": { "data": { "guid": found.guid } }, "route": { "data": { "guid": route } },
    } });
    if let Some(parameters) = parameters {
        body["parameters"] = parameters;
    }
    let reply = match api.post("/v3/service_route_bindings", &body).await {
        Err(e) if already(&e, |e| e.title == "CF-ServiceInstanceAlreadyBoundToSameRoute") => {
            done(&format!("Route {url} is already bound to service instance {}.", args.instance));
            return Ok(());
        }
        other => other?,
    };
    match follow(api, reply, wait).await? {
        Stand::Done => done("Route binding created."),
        Stand::UnderWay => done("Binding in progress."),
    }
    Ok(())
}

pub(super) async fn unbind(api: &mut Api, args: &ServiceRoute, force: bool, wait: Wait) -> anyhow::Result<()> {
    if !sure(force, &format!("Unbinding may leave the route open to what {} kept away. Really unbind it?", args.instance))? {
        return Ok(());
    }
    let (route, url, found) = ends(api, args).await?;
    say!("Unbinding route {} from service instance {} in {}...\n", ui::name(&url), ui::name(&args.instance), found.place());
    let pairs =
        [("route_guids", route.as_str()), ("service_instance_guids", found.guid.as_str()), ("per_page", "1"), ("page", "1")];
    let Some(binding) = api.first(&query("/v3/service_route_bindings", &pairs)).await? else {
        done(&format!("Route {url} was not bound to service instance {}.", args.instance));
        return Ok(());
    };
    let reply = api.remove(&format!("/v3/service_route_bindings/{}", text(&binding, "/guid"))).await?;
    match follow(api, reply, wait).await? {
        Stand::Done => done("Route unbound."),
        Stand::UnderWay => done("Unbinding in progress."),
    }
    Ok(())
}
