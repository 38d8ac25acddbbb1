//! backup-service, backups, delete-backup, restore-service, clone-service: our addition to the commands of the official client.

use super::{Stand, done, follow, instance, instances::under_way, sure};
use crate::{
    api::{Api, number, text},
    cli::{Format, services::Wait},
    problem::Problem,
    ui::{self, say},
};
use anyhow::bail;
use serde_json::{Value, json};

pub(super) async fn create(api: &mut Api, name: &str, wait: Wait) -> anyhow::Result<()> {
    let found = instance(api, name).await?;
    say!("Backing up service instance {} in {}...\n", ui::name(name), found.place());
    let reply = api.post(&format!("{}/backups", found.path()), &json!({})).await?;
    let guid = text(&reply.body, "/guid").to_owned();
    match follow(api, reply, wait).await? {
        Stand::Done => done(&format!("Backup {guid} of {} made.", ui::name(name))),
        Stand::UnderWay => done(&format!("Backup in progress. Use 'cf backups {name}' to check its status.")),
    }
    Ok(())
}

/// The backups of an instance, the newest first.
async fn all(api: &mut Api, path: &str) -> anyhow::Result<Vec<Value>> {
    let mut backups = api.list(&format!("{path}/backups")).await?;
    backups.sort_by(|a, b| text(b, "/created_at").cmp(text(a, "/created_at")));
    Ok(backups)
}

pub(super) async fn list(api: &mut Api, name: &str, format: Format) -> anyhow::Result<()> {
    let found = instance(api, name).await?;
    let backups = all(api, &found.path()).await?;
    if format.json {
        ui::json(&Value::Array(backups));
        return Ok(());
    }
    say!("Getting backups of service instance {} as {}...\n", ui::name(name), ui::name(&found.user));
    if backups.is_empty() {
        say!("No backups found. 'cf backup-service {name}' makes one.");
        return Ok(());
    }
    let row = |backup: &Value| {
        let size = u64::try_from(number(backup, "/size_in_bytes")).unwrap_or_default();
        vec![
            text(backup, "/guid").to_owned(),
            text(backup, "/state").to_owned(),
            ui::size(size),
            ui::moment(text(backup, "/created_at")),
            text(backup, "/description").to_owned(),
        ]
    };
    let rows: Vec<_> = backups.iter().map(row).collect();
    ui::table(&["backup", "state", "size", "made", "message"], &rows);
    Ok(())
}

pub(super) async fn delete(api: &mut Api, name: &str, backup: &str, force: bool) -> anyhow::Result<()> {
    if !sure(force, &format!("Really delete the backup {backup} of {name}?"))? {
        return Ok(());
    }
    let found = instance(api, name).await?;
    say!("Deleting backup {} of service instance {} in {}...", ui::name(backup), ui::name(name), found.place());
    if !all(api, &found.path()).await?.iter().any(|one| text(one, "/guid") == backup) {
        done(&format!("Backup '{backup}' of '{name}' does not exist."));
        return Ok(());
    }
    api.delete(&format!("{}/backups/{backup}", found.path())).await?;
    ui::ok();
    Ok(())
}

pub(super) async fn restore(api: &mut Api, name: &str, backup: Option<&str>, force: bool, wait: Wait) -> anyhow::Result<()> {
    let found = instance(api, name).await?;
    let backup = match backup {
        Some(backup) => backup.to_owned(),
        None => match all(api, &found.path()).await?.into_iter().find(|backup| text(backup, "/state") == "succeeded") {
            Some(newest) => text(&newest, "/guid").to_owned(),
            None => bail!(Problem::new(format!("'{name}' has no backup.")).tip(format!("'cf backup-service {name}' makes one."))),
        },
    };
    if !sure(force, &format!("What {name} holds now is lost. Really restore it from backup {backup}?"))? {
        return Ok(());
    }
    say!("Restoring service instance {} from backup {} in {}...\n", ui::name(name), ui::name(&backup), found.place());
    let reply = api.post(&format!("{}/actions/restore", found.path()), &json!({ "backup": { "guid": backup } })).await?;
    match follow(api, reply, wait).await? {
        Stand::Done => done(&format!("Service instance {} restored.", ui::name(name))),
        Stand::UnderWay => done(&under_way("Restore", name)),
    }
    Ok(())
}

pub(super) async fn clone(api: &mut Api, name: &str, new_name: &str, backup: Option<&str>, wait: Wait) -> anyhow::Result<()> {
    let found = instance(api, name).await?;
    if !found.managed() {
        bail!(Problem::new(format!("'{name}' is user-provided: there is nothing to clone.")));
    }
    say!("Cloning service instance {} as {} in {}...\n", ui::name(name), ui::name(new_name), found.place());
    let plan = text(&found.document, "/relationships/service_plan/data/guid");
    let mut source = json!({ "service_instance": { "guid": found.guid } });
    if let Some(backup) = backup {
        source["backup"] = json!({ "guid": backup });
    }
    let body = json!({ "type": "managed", "name": new_name, "clone_from": source, "relationships": {
        "space": { "data": { "guid": found.space.guid } }, "service_plan": { "data": { "guid": plan } },
    } });
    let reply = api.post("/v3/service_instances", &body).await?;
    match follow(api, reply, wait).await? {
        Stand::Done => done(&format!("Service instance {} created.", ui::name(new_name))),
        Stand::UnderWay => done(&under_way("Create", new_name)),
    }
    Ok(())
}
