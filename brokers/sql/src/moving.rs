//! From one kind of plan to the other: the data is copied whole, then the instance's note says where it is from then on, and
//! only then the old place is given up. A broker that is killed anywhere in it goes on from what the note says.

use crate::{
    Allowance, SqlBroker,
    broker::{failure, merged},
    dedicated::Note,
    home::Home,
};
use broker_sdk::{
    Failure, Instance, Operation, Update, Updated,
    osb::{Parameters, PrivateObject},
};
use tracing::info;

impl SqlBroker {
    /// From the shared server to one of its own; `note` is what an earlier try left.
    pub(crate) async fn move_in(
        &self,
        operation: &Operation,
        instance: &Instance,
        change: &Update,
        note: Option<Note>,
    ) -> Result<Updated, Failure> {
        let from = self.shared_home().await?;
        let note = match note {
            // Killed after the data was there
            Some(note) if note.inhabited => note,
            note => self.settle_in(operation, instance, &merged(instance, change), &from, note).await?,
        };
        from.cluster.remove(&instance.id).await.map_err(failure)?;
        self.0.retired.notify_one();
        info!(instance.id = instance.id, port = note.port, "moved to a server of its own");
        Ok(Updated { state: Some(note.state()?), ..Updated::default() })
    }

    async fn settle_in(
        &self,
        operation: &Operation,
        instance: &Instance,
        parameters: &Parameters,
        from: &Home<'_>,
        note: Option<Note>,
    ) -> Result<Note, Failure> {
        refuse_if_bound(from, &instance.id).await?;
        let note = match note {
            Some(note) => note,
            None => self.draw(operation, &instance.id, parameters).await?,
        };
        if let Err(failure) = self.copy_in(operation, instance, parameters, from, &note).await {
            return Err(self.abandon(operation, &instance.id, &note, failure).await);
        }
        let note = Note { inhabited: true, ..note };
        operation.save(&note.state()?).await?;
        self.dedicated()?.note(&instance.id, &note);
        Ok(note)
    }

    async fn copy_in(
        &self,
        operation: &Operation,
        instance: &Instance,
        parameters: &Parameters,
        from: &Home<'_>,
        note: &Note,
    ) -> Result<(), Failure> {
        let allowance = self.own_allowance(note, parameters);
        fits(from, &instance.id, &allowance).await?;
        let cluster = self.dedicated()?.start(operation, &instance.id, note).await?;
        let to = self.own_home(note, cluster)?;
        self.transfer(operation, instance, parameters, from, &to, allowance).await
    }

    /// From a server of its own to the shared one.
    pub(crate) async fn move_out(
        &self,
        operation: &Operation,
        instance: &Instance,
        change: &Update,
        mut note: Note,
        plan: &str,
    ) -> Result<Updated, Failure> {
        let dedicated = self.dedicated()?;
        let parameters = merged(instance, change);
        let allowance = self.allowance(plan, &parameters)?;
        if note.inhabited {
            let from = self.own_home(&note, dedicated.cluster(&instance.id).await?)?;
            refuse_if_bound(&from, &instance.id).await?;
            fits(&from, &instance.id, &allowance).await?;
            let to = self.shared_home().await?;
            if let Err(failure) = self.transfer(operation, instance, &parameters, &from, &to, allowance).await {
                self.give_up_database(&to, &instance.id).await;
                return Err(failure);
            }
            note.inhabited = false;
            operation.save(&note.state()?).await?;
            dedicated.note(&instance.id, &note);
            info!(instance.id = instance.id, "moved to the shared server");
        } else {
            // Moved already, or never moved: the shared server has it
            let home = self.shared_home().await?;
            home.cluster.set_limits(&instance.id, &allowance).await.map_err(failure)?;
        }
        dedicated.remove(operation, &instance.id, &note).await?;
        Ok(Updated { state: Some(PrivateObject::new()), ..Updated::default() })
    }

    async fn transfer(
        &self,
        operation: &Operation,
        instance: &Instance,
        parameters: &Parameters,
        from: &Home<'_>,
        to: &Home<'_>,
        allowance: Allowance,
    ) -> Result<(), Failure> {
        operation.describe("the data is copied").await?;
        let original = from.database(&instance.id).await?;
        let allowance = Allowance { collation: original.collation.clone(), ..allowance };
        let database = to.cluster.provide(&instance.id, &allowance).await.map_err(failure)?;
        let dump = self.passing(from, &original, &instance.id).await?;
        to.cluster.fill(&database, dump).await.map_err(failure)?;
        to.cluster.extend(&database, parameters).await.map_err(failure)
    }
}

async fn refuse_if_bound(home: &Home<'_>, instance: &str) -> Result<(), Failure> {
    match home.cluster.logins(instance).await.map_err(failure)? {
        0 => Ok(()),
        bound => Err(Failure::refused(format!(
            "The address changes with this plan, and {bound} bindings or keys use the old one. Unbind them first."
        ))),
    }
}

async fn fits(home: &Home<'_>, instance: &str, allowance: &Allowance) -> Result<(), Failure> {
    let bytes = home.cluster.size_bytes(instance).await.map_err(failure)?;
    match bytes > allowance.size_bytes {
        false => Ok(()),
        true => Err(Failure::refused(format!(
            "The data has {} MB, and this plan allows {} MB.",
            bytes >> 20,
            allowance.size_bytes >> 20
        ))),
    }
}
