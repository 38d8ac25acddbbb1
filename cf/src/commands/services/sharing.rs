//! share-service, unshare-service.

use super::{already, done, instance, sure};
use crate::{
    api::Api,
    cli::services::Sharing,
    commands::{org, space},
    config::Named,
    ui::{self, say},
};
use serde_json::json;

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
