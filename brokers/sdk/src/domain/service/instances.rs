//! Provision, update, deprovision.

use super::{Answer, Ask, Begin, Service};
use crate::{
    Failure, Kind, Task,
    domain::{checks, decide, decide::Found, work},
    store::{instances, operations},
};
use osb::{AcceptedResponse, ErrorBody, ProvisionRequest, ProvisionResponse, UpdateRequest, catalog::Input};

/// The word for a change of plan that the catalog does not allow.
const PLAN_CHANGE: &str = "PlanChangeNotSupported";

impl Service {
    /// Makes an instance.
    pub(crate) async fn provision(
        &self,
        instance_id: &str,
        request: ProvisionRequest,
        ask: Ask,
    ) -> Result<Answer<ProvisionResponse>, Failure> {
        let shop = self.shop.clone();
        let (service, plan) = checks::plan(&shop.catalog, &request.service_id, &request.plan_id)?;
        let clone = request.cupola_clone_from.is_some();
        let task = Task { kind: Kind::Provision, service: &service.name, plan: &plan.name, new_plan: None, clone };
        let background = Self::background(&shop, &task, &ask)?;
        checks::maintenance(plan, request.maintenance_info.as_ref().map(|info| info.version.as_str()))?;
        checks::parameters(plan, Input::CreateInstance, request.parameters.as_ref())?;
        if clone && !service.has_backups() {
            return Err(Failure::refused(format!("instances of the service {} cannot be copied", service.name)));
        }
        let now = shop.clock.now();
        let wanted = instances::Record {
            id: instance_id.to_owned(),
            service_id: service.id.clone(),
            plan_id: plan.id.clone(),
            complete: false,
            created_at: now,
            data: instances::Data {
                service_name: service.name.clone(),
                plan_name: plan.name.clone(),
                context: request.context.unwrap_or_default(),
                organization_guid: request.organization_guid,
                space_guid: request.space_guid,
                parameters: request.parameters.unwrap_or_default(),
                clone_from: request.cupola_clone_from,
                state: osb::PrivateObject::new(),
                metadata: None,
                maintenance_version: plan.maintenance_info.as_ref().map(|info| info.version.clone()),
            },
        };
        let asked = ask.clone();
        let begun = shop.store.run(move |tx| {
            let existing = instances::find(tx, &wanted.id)?;
            let running = operations::running(tx, &wanted.id)?;
            let found = Found {
                exists: existing.is_some(),
                complete: existing.as_ref().is_some_and(|instance| instance.complete),
                same: existing.as_ref().is_some_and(|instance| instance.is_same(&wanted)),
            };
            if let (None, Some(source)) = (&existing, &wanted.data.clone_from) {
                check_source(tx, source, &wanted)?;
            }
            // another try goes on with the private state of the first
            let mut record = wanted.clone();
            if let Some(existing) = existing {
                record.created_at = existing.created_at;
                record.data.state = existing.data.state;
            }
            let begin = Begin {
                kind: Kind::Provision,
                subject: operations::Subject { instance_id: wanted.id.clone(), ..operations::Subject::default() },
                data: asked.data(),
                background,
                now,
                keep: &|tx| instances::put(tx, &record),
            };
            decide::provision(found, &running, asked.accepts_incomplete).carry_out(tx, &begin)
        });
        let answer = self.wait(begun.await?, &ask).await?;
        self.described(instance_id, answer).await
    }

    /// Changes an instance.
    pub(crate) async fn update(
        &self,
        instance_id: &str,
        request: UpdateRequest,
        ask: Ask,
    ) -> Result<Answer<ProvisionResponse>, Failure> {
        let shop = self.shop.clone();
        checks::service(&shop.catalog, &request.service_id)?;
        if let Some(plan_id) = &request.plan_id {
            checks::plan(&shop.catalog, &request.service_id, plan_id)?;
        }
        let now = shop.clock.now();
        let (id, asked) = (instance_id.to_owned(), ask.clone());
        let begun = self.shop.store.run(move |tx| {
            let Some(instance) = instances::find(tx, &id)? else {
                return Err(Failure::not_found("there is no such service instance"));
            };
            if instance.service_id != request.service_id {
                return Err(Failure::invalid("the service instance is of another service"));
            }
            let (background, wanted, changes) = change(&shop, &instance, request, &asked)?;
            let running = operations::running(tx, &id)?;
            let found = Found { exists: true, complete: instance.complete, same: !changes };
            let verdict = decide::update(found, &running, &wanted, asked.accepts_incomplete);
            let begin = Begin {
                kind: Kind::Update,
                subject: operations::Subject { instance_id: id.clone(), ..operations::Subject::default() },
                data: operations::Data { update: Some(wanted), ..asked.data() },
                background,
                now,
                keep: &|_| Ok(()),
            };
            verdict.carry_out(tx, &begin)
        });
        let answer = match self.wait(begun.await?, &ask).await? {
            Answer::Created(()) => Answer::Ok(()),
            other => other,
        };
        self.described(instance_id, answer).await
    }

    /// Removes an instance.
    pub(crate) async fn deprovision(
        &self,
        instance_id: &str,
        service_id: &str,
        plan_id: &str,
        ask: Ask,
    ) -> Result<Answer<AcceptedResponse>, Failure> {
        let shop = self.shop.clone();
        let now = shop.clock.now();
        let (id, asked) = (instance_id.to_owned(), ask.clone());
        let (service_id, plan_id) = (service_id.to_owned(), plan_id.to_owned());
        let begun = self.shop.store.run(move |tx| {
            let existing = instances::find(tx, &id)?;
            let (service, plan) = match &existing {
                Some(instance) => {
                    if instance.service_id != service_id {
                        return Err(Failure::invalid("the service instance is of another service"));
                    }
                    // a plan that another attempt has left may still be what the platform believes in
                    if instance.plan_id != plan_id {
                        checks::plan(&shop.catalog, &service_id, &plan_id)?;
                    }
                    (instance.data.service_name.clone(), instance.data.plan_name.clone())
                }
                None => {
                    let (service, plan) = checks::plan(&shop.catalog, &service_id, &plan_id)?;
                    (service.name.clone(), plan.name.clone())
                }
            };
            let task = Task { kind: Kind::Deprovision, service: &service, plan: &plan, new_plan: None, clone: false };
            let background = Self::background(&shop, &task, &asked)?;
            let running = operations::running(tx, &id)?;
            let found = Found { exists: existing.is_some(), ..Found::default() };
            let begin = Begin {
                kind: Kind::Deprovision,
                subject: operations::Subject { instance_id: id.clone(), ..operations::Subject::default() },
                data: asked.data(),
                background,
                now,
                keep: &|_| Ok(()),
            };
            decide::deprovision(found, &running, asked.accepts_incomplete).carry_out(tx, &begin)
        });
        let answer = match self.wait(begun.await?, &ask).await? {
            Answer::Created(()) => {
                let id = instance_id.to_owned();
                let last = self.shop.store.run(move |tx| operations::latest(tx, &id, None)).await?;
                let last = last.filter(|last| last.kind == Kind::Deprovision);
                return Ok(Answer::Ok(AcceptedResponse {
                    operation: None,
                    description: last.and_then(|last| last.last.description),
                }));
            }
            other => other,
        };
        Ok(answer.map(|()| AcceptedResponse::default()))
    }

    /// The answer with what is known of the instance.
    async fn described(&self, instance_id: &str, answer: Answer<()>) -> Result<Answer<ProvisionResponse>, Failure> {
        let id = instance_id.to_owned();
        let found = self.shop.store.run(move |tx| instances::find(tx, &id)).await?;
        let metadata = found.filter(|instance| instance.complete).and_then(|instance| instance.data.metadata);
        let dashboard_url = self.shop.broker.dashboard_url(instance_id);
        Ok(answer.map(|()| ProvisionResponse { dashboard_url, operation: None, metadata }))
    }
}

fn check_source(tx: &mut crate::store::Tx<'_>, source: &osb::CloneFrom, wanted: &instances::Record) -> Result<(), Failure> {
    let Some(original) = instances::find(tx, &source.instance_id)? else {
        return Err(Failure::not_found("there is no such service instance to copy"));
    };
    if original.service_id != wanted.service_id {
        return Err(Failure::invalid("only an instance of the same service can be copied"));
    }
    if !original.complete {
        return Err(Failure::refused("the service instance to copy was not made to its end"));
    }
    if let Some(id) = &source.backup_id {
        match crate::store::backups::find(tx, &source.instance_id, id)? {
            None => return Err(Failure::not_found("there is no such backup to copy")),
            Some(backup) if backup.state != osb::BackupState::Succeeded => {
                return Err(Failure::refused("this backup was not made to its end"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Whether it is done in the background, what is wanted, and whether that is anything.
fn change(
    shop: &work::Workshop,
    instance: &instances::Record,
    request: UpdateRequest,
    ask: &Ask,
) -> Result<(bool, operations::UpdateData, bool), Failure> {
    let service = checks::service(&shop.catalog, &instance.service_id)?;
    let target_id = request.plan_id.as_deref().unwrap_or(&instance.plan_id);
    let (_, target) = checks::plan(&shop.catalog, &service.id, target_id)?;
    let changes_plan = target.id != instance.plan_id;
    let allowed = service.plan(&instance.plan_id).map_or(service.plan_updateable, |plan| service.is_plan_updateable(plan));
    if changes_plan && !allowed {
        let description = format!("the plan of an instance of {} cannot be changed", service.name);
        let body = ErrorBody { error: Some(PLAN_CHANGE.into()), ..ErrorBody::described(description) };
        return Err(Failure { status: 422, body, cause: None });
    }
    let task = Task {
        kind: Kind::Update,
        service: &service.name,
        plan: &instance.data.plan_name,
        new_plan: changes_plan.then_some(target.name.as_str()),
        clone: false,
    };
    let background = Service::background(shop, &task, ask)?;
    let version = request.maintenance_info.map(|info| info.version);
    checks::maintenance(target, version.as_deref())?;
    // platforms send an empty object for "nothing"
    let parameters = request.parameters.filter(|parameters| !parameters.is_empty());
    if parameters.is_some() {
        checks::parameters(target, Input::UpdateInstance, parameters.as_ref())?;
    }
    let changes_version = version.is_some() && version != instance.data.maintenance_version;
    let changes_context =
        service.allow_context_updates && request.context.as_ref().is_some_and(|context| *context != instance.data.context);
    let changes = changes_plan || parameters.is_some() || changes_version || changes_context;
    let plan_id = changes_plan.then(|| target.id.clone());
    let wanted = operations::UpdateData {
        plan_id,
        parameters,
        context: request.context,
        maintenance_version: version.filter(|_| changes_version),
    };
    Ok((background, wanted, changes))
}
