//! Our extension: backups and restore. Source: docs/broker-backups.md.

use super::{Answer, Ask, Begin, Service};
use crate::{
    Failure, Kind, Task,
    domain::{checks, decide, decide::Found, work::Workshop},
    store::{Tx, backups, instances, operations},
};
use osb::{AcceptedResponse, Backup, BackupState, OperationState};

impl Service {
    /// Makes a backup.
    pub(crate) async fn backup(&self, instance_id: &str, backup_id: &str, ask: Ask) -> Result<Answer<Backup>, Failure> {
        let shop = self.shop.clone();
        let now = shop.clock.now();
        let (instance, id, asked) = (instance_id.to_owned(), backup_id.to_owned(), ask.clone());
        let begun = self.shop.store.run(move |tx| {
            let owner = instances::find(tx, &instance)?;
            let background = check(&shop, owner.as_ref(), Kind::Backup, &asked)?;
            let existing = backups::find(tx, &instance, &id)?;
            let running = operations::running(tx, &instance)?;
            let found = of_backup(existing.as_ref());
            let record = backups::Record {
                instance_id: instance.clone(),
                id: id.clone(),
                state: BackupState::InProgress,
                description: None,
                size_bytes: None,
                created_at: now,
                private: existing.map(|existing| existing.private).unwrap_or_default(),
            };
            let begin = Begin {
                kind: Kind::Backup,
                subject: subject(&instance, &id),
                data: asked.data(),
                background,
                now,
                keep: &|tx| backups::put(tx, &record),
            };
            decide::backup(of_instance(owner.as_ref()), found, &running, &id, asked.accepts_incomplete).carry_out(tx, &begin)
        });
        let answer = self.wait(begun.await?, &ask).await?;
        let backup = self.backup_of(instance_id, backup_id).await?;
        Ok(answer.map(|()| backup))
    }

    /// Deletes a backup.
    pub(crate) async fn delete_backup(
        &self,
        instance_id: &str,
        backup_id: &str,
        ask: Ask,
    ) -> Result<Answer<AcceptedResponse>, Failure> {
        let shop = self.shop.clone();
        let now = shop.clock.now();
        let (instance, id, asked) = (instance_id.to_owned(), backup_id.to_owned(), ask.clone());
        let begun = self.shop.store.run(move |tx| {
            let owner = instances::find(tx, &instance)?;
            let existing = backups::find(tx, &instance, &id)?;
            let background = match (&owner, &existing) {
                (Some(_), Some(_)) => check(&shop, owner.as_ref(), Kind::DeleteBackup, &asked)?,
                _ => false,
            };
            let running = operations::running(tx, &instance)?;
            let found = of_backup(existing.as_ref());
            let begin = Begin {
                kind: Kind::DeleteBackup,
                subject: subject(&instance, &id),
                data: asked.data(),
                background,
                now,
                keep: &|tx| match existing.clone() {
                    Some(existing) => backups::put(tx, &backups::Record { state: BackupState::Deleting, ..existing }),
                    None => Ok(()),
                },
            };
            decide::delete_backup(found, &running, &id, asked.accepts_incomplete).carry_out(tx, &begin)
        });
        let answer = match self.wait(begun.await?, &ask).await? {
            Answer::Created(()) => Answer::Ok(()),
            other => other,
        };
        Ok(answer.map(|()| AcceptedResponse::default()))
    }

    /// Makes the data of an instance that of its backup.
    pub(crate) async fn restore(
        &self,
        instance_id: &str,
        backup_id: &str,
        ask: Ask,
    ) -> Result<Answer<AcceptedResponse>, Failure> {
        let shop = self.shop.clone();
        let now = shop.clock.now();
        let (instance, id, asked) = (instance_id.to_owned(), backup_id.to_owned(), ask.clone());
        let begun = self.shop.store.run(move |tx| {
            let owner = instances::find(tx, &instance)?;
            let background = check(&shop, owner.as_ref(), Kind::Restore, &asked)?;
            let existing = backups::find(tx, &instance, &id)?;
            let running = operations::running(tx, &instance)?;
            let found = of_backup(existing.as_ref());
            let begin = Begin {
                kind: Kind::Restore,
                subject: subject(&instance, &id),
                data: asked.data(),
                background,
                now,
                keep: &|_| Ok(()),
            };
            let verdict = match ended_before(tx, &begin)? {
                Some(last) => decide::ended(&last, asked.accepts_incomplete),
                None => decide::restore(of_instance(owner.as_ref()), found, &running, &id, asked.accepts_incomplete),
            };
            verdict.carry_out(tx, &begin)
        });
        let answer = match self.wait(begun.await?, &ask).await? {
            Answer::Created(()) => Answer::Ok(()),
            other => other,
        };
        Ok(answer.map(|()| AcceptedResponse::default()))
    }

    /// One backup.
    pub(crate) async fn backup_of(&self, instance_id: &str, backup_id: &str) -> Result<Backup, Failure> {
        let (instance, id) = (instance_id.to_owned(), backup_id.to_owned());
        let found = self.shop.store.run(move |tx| backups::find(tx, &instance, &id)).await?;
        Ok(found.ok_or_else(|| Failure::not_found("there is no such backup"))?.wire())
    }

    /// All backups of an instance, the newest first.
    pub(crate) async fn backups_of(&self, instance_id: &str) -> Result<Vec<Backup>, Failure> {
        let id = instance_id.to_owned();
        self.shop
            .store
            .run(move |tx| match instances::find(tx, &id)? {
                None => Err(Failure::not_found("there is no such service instance")),
                Some(_) => Ok(backups::list(tx, &id)?.iter().map(backups::Record::wire).collect()),
            })
            .await
    }
}

/// The restore that a request asked for before whose repeat this is, if it has ended: data written since must stay.
fn ended_before(tx: &mut Tx<'_>, begin: &Begin<'_>) -> Result<Option<operations::Record>, Failure> {
    let last = operations::latest(tx, &begin.subject.instance_id, None)?;
    Ok(last.filter(|last| {
        last.kind == begin.kind
            && last.subject.backup_id == begin.subject.backup_id
            && last.last.state != OperationState::InProgress
            && last.data.request.is_some()
            && last.data.request == begin.data.request
    }))
}

fn subject(instance_id: &str, backup_id: &str) -> operations::Subject {
    operations::Subject { instance_id: instance_id.to_owned(), binding_id: None, backup_id: Some(backup_id.to_owned()) }
}

fn of_instance(owner: Option<&instances::Record>) -> Found {
    Found { exists: owner.is_some(), complete: owner.is_some_and(|owner| owner.complete), same: false }
}

fn of_backup(backup: Option<&backups::Record>) -> Found {
    Found { exists: backup.is_some(), complete: backup.is_some_and(|backup| backup.state == BackupState::Succeeded), same: false }
}

/// What the catalog says about it; whether it is done in the background.
fn check(shop: &Workshop, owner: Option<&instances::Record>, kind: Kind, ask: &Ask) -> Result<bool, Failure> {
    let owner = owner.ok_or_else(|| Failure::not_found("there is no such service instance"))?;
    let service = checks::service(&shop.catalog, &owner.service_id)?;
    if !service.has_backups() {
        return Err(Failure::refused(format!("instances of the service {} have no backups", service.name)));
    }
    let task = Task { kind, service: &service.name, plan: &owner.data.plan_name, new_plan: None, clone: false };
    Service::background(shop, &task, ask)
}
