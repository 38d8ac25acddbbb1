//! share-service, unshare-service.

use super::{already, done, instance, sure};
use crate::{
    api::{Api, ApiError},
    cli::services::Sharing,
    commands::{org, space},
    config::Named,
    problem::Problem,
    ui::{self, say},
};
use anyhow::bail;
use serde_json::json;

/// Off at first, as on every Cloud Foundry.
const FLAG: &str = "service_instance_sharing";

async fn other(api: &mut Api, args: &Sharing) -> anyhow::Result<(Named, Named)> {
    let org = match &args.org {
        Some(name) => org(api, name).await?,
        None => api.org()?,
    };
    let space = space(api, &org, &args.space).await?;
    Ok((org, space))
}

pub(super) async fn share(api: &mut Api, args: &Sharing) -> anyhow::Result<()> {
    let found = instance(api, &args.instance).await?;
    let (org, space) = other(api, args).await?;
    say!(
        "Sharing service instance {} into org {} / space {} as {}...",
        ui::name(&args.instance),
        ui::name(&org.name),
        ui::name(&space.name),
        ui::name(&found.user)
    );
    let path = format!("{}/relationships/shared_spaces", found.path());
    match api.post(&path, &json!({ "data": [{ "guid": space.guid }] })).await {
        Err(e) if already(&e, |e| e.detail.contains("has already been shared with")) => {
            done(&format!("Service instance {} is shared with that space already.", args.instance));
        }
        Err(e) if e.downcast_ref::<ApiError>().is_some_and(|e| e.detail.contains(FLAG)) => {
            bail!(Problem::new(e.to_string()).tip(format!("An operator can switch it on: cf enable-feature-flag {FLAG}")))
        }
        other => {
            other?;
            ui::ok();
        }
    }
    Ok(())
}

pub(super) async fn unshare(api: &mut Api, args: &Sharing, force: bool) -> anyhow::Result<()> {
    let question = format!("Apps of that space lose their bindings to {}. Really unshare it?", args.instance);
    if !sure(force, &question)? {
        return Ok(());
    }
    let found = instance(api, &args.instance).await?;
    let (org, space) = other(api, args).await?;
    say!(
        "Unsharing service instance {} from org {} / space {} as {}...",
        ui::name(&args.instance),
        ui::name(&org.name),
        ui::name(&space.name),
        ui::name(&found.user)
    );
    api.remove(&format!("{}/relationships/shared_spaces/{}", found.path(), space.guid)).await?;
    ui::ok();
    Ok(())
}
