//! Looking: fetch, last operation.

use super::Service;
use crate::{
    Failure, Kind,
    store::{bindings, instances, operations},
};
use osb::{ErrorWord, FetchedBinding, FetchedInstance, LastOperation, MaintenanceVersion, OperationState};

/// What a poll finds.
#[derive(Debug)]
pub(crate) enum Looked {
    /// Where it is.
    Last(LastOperation),
    /// What was to be deleted is not there; for the user, what was removed.
    Gone(Option<String>),
}

impl Service {
    /// An instance.
    pub(crate) async fn fetch_instance(&self, instance_id: &str) -> Result<FetchedInstance, Failure> {
        let unknown = || Failure::not_found("there is no such service instance");
        let id = instance_id.to_owned();
        let look = self.shop.store.run(move |tx| Ok((instances::find(tx, &id)?, operations::running(tx, &id)?)));
        let (found, running) = look.await?;
        let instance = found.filter(|instance| instance.complete).ok_or_else(unknown)?;
        let service = self.shop.catalog.service(&instance.service_id);
        if !service.is_some_and(|service| service.instances_retrievable) {
            return Err(unknown());
        }
        if running.iter().any(|operation| matches!(operation.kind, Kind::Update | Kind::Restore | Kind::Deprovision)) {
            return Err(Failure::known(ErrorWord::ConcurrencyError, "the service instance is being changed"));
        }
        let parameters = self.shop.broker.shown_parameters(&instance.view());
        Ok(FetchedInstance {
            service_id: Some(instance.service_id),
            plan_id: Some(instance.plan_id),
            dashboard_url: self.shop.broker.dashboard_url(instance_id),
            parameters: Some(parameters),
            maintenance_info: instance.data.maintenance_version.map(|version| MaintenanceVersion { version }),
            metadata: instance.data.metadata,
        })
    }

    /// A binding.
    pub(crate) async fn fetch_binding(&self, instance_id: &str, binding_id: &str) -> Result<FetchedBinding, Failure> {
        let unknown = || Failure::not_found("there is no such service binding");
        let (instance, id) = (instance_id.to_owned(), binding_id.to_owned());
        let found = self.shop.store.run(move |tx| bindings::find(tx, &instance, &id)).await?;
        let binding = found.filter(|binding| binding.complete).ok_or_else(unknown)?;
        let service = self.shop.catalog.service(&binding.data.service_id);
        if !service.is_some_and(|service| service.bindings_retrievable) {
            return Err(unknown());
        }
        let parameters = Some(binding.data.parameters).filter(|parameters| !parameters.is_empty());
        Ok(FetchedBinding { binding: binding.data.answer, parameters })
    }

    /// Where an operation is: the one that is named, or the newest.
    ///
    /// A delete that is done is 410 to whoever knows its operation, and `succeeded` to whoever does not: platforms are of two minds.
    pub(crate) async fn last_operation(
        &self,
        instance_id: &str,
        binding_id: Option<&str>,
        operation: Option<&str>,
    ) -> Result<Looked, Failure> {
        let (instance, binding) = (instance_id.to_owned(), binding_id.map(str::to_owned));
        let operation = operation.map(str::to_owned);
        let look = self.shop.store.run(move |tx| {
            let named = match &operation {
                Some(id) => operations::find(tx, id)?,
                None => None,
            };
            let named = named.filter(|found| found.subject.instance_id == instance && found.subject.binding_id == binding);
            Ok(match named {
                Some(found) => Some((found, true)),
                None => operations::latest(tx, &instance, binding.as_deref())?.map(|found| (found, false)),
            })
        });
        match look.await? {
            None => Err(Failure::not_found("there is no such operation")),
            Some((found, true)) if found.kind.is_delete() && found.last.state == OperationState::Succeeded => {
                Ok(Looked::Gone(found.last.description))
            }
            Some((found, _)) => Ok(Looked::Last(found.last)),
        }
    }
}
