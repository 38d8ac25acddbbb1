//! Bind, rotate, unbind.

use super::{Answer, Ask, Begin, Service};
use crate::{
    Failure, Kind, Task,
    domain::{checks, decide, decide::Found, work::Workshop},
    store::{Tx, bindings, instances, operations},
};
use osb::{AcceptedResponse, BindRequest, Binding, catalog::Input};
use types::Timestamp;

impl Service {
    /// Makes a binding.
    pub(crate) async fn bind(
        &self,
        instance_id: &str,
        binding_id: &str,
        request: BindRequest,
        ask: Ask,
    ) -> Result<Answer<Binding>, Failure> {
        let shop = self.shop.clone();
        if request.predecessor_binding_id.is_none() {
            let (service_id, plan_id) = (request.service_id.as_deref(), request.plan_id.as_deref());
            checks::plan(&shop.catalog, service_id.unwrap_or_default(), plan_id.unwrap_or_default())?;
        }
        let now = shop.clock.now();
        let (instance, id, asked) = (instance_id.to_owned(), binding_id.to_owned(), ask.clone());
        let begun = self.shop.store.run(move |tx| {
            let owner = instances::find(tx, &instance)?;
            let existing = bindings::find(tx, &instance, &id)?;
            let wanted = wanted(tx, &instance, &id, request, existing.as_ref(), now)?;
            let background = check(&shop, &wanted, &asked)?;
            if let (Some(owner), None) = (&owner, &existing) {
                of_instance(owner, &wanted)?;
            }
            let running = operations::running(tx, &instance)?;
            let of_owner = Found {
                exists: owner.is_some(),
                complete: owner.as_ref().is_some_and(|owner| owner.complete),
                ..Found::default()
            };
            let found = Found {
                exists: existing.is_some(),
                complete: existing.as_ref().is_some_and(|binding| binding.complete),
                same: existing.as_ref().is_some_and(|binding| binding.is_same(&wanted)),
            };
            let mut record = wanted.clone();
            if let Some(existing) = existing {
                record.created_at = existing.created_at;
                record.data.state = existing.data.state;
            }
            let subject = operations::Subject { instance_id: instance.clone(), binding_id: Some(id.clone()), backup_id: None };
            let begin =
                Begin { kind: Kind::Bind, subject, data: asked.data(), background, now, keep: &|tx| bindings::put(tx, &record) };
            decide::bind(of_owner, found, &running, &id, asked.accepts_incomplete).carry_out(tx, &begin)
        });
        let answer = self.wait(begun.await?, &ask).await?;
        if let Answer::Accepted(operation, ()) = answer {
            // credentials are fetched once it is done
            return Ok(Answer::Accepted(operation, Binding::default()));
        }
        let (instance, id) = (instance_id.to_owned(), binding_id.to_owned());
        let found = self.shop.store.run(move |tx| bindings::find(tx, &instance, &id)).await?;
        let binding = found.ok_or_else(|| Failure::unavailable("the service binding was removed meanwhile"))?.data.answer;
        Ok(answer.map(|()| binding))
    }

    /// Removes a binding.
    pub(crate) async fn unbind(
        &self,
        instance_id: &str,
        binding_id: &str,
        query: &checks::Query,
        ask: Ask,
    ) -> Result<Answer<AcceptedResponse>, Failure> {
        let shop = self.shop.clone();
        let now = shop.clock.now();
        let (instance, id, asked, query) = (instance_id.to_owned(), binding_id.to_owned(), ask.clone(), query.clone());
        let begun = self.shop.store.run(move |tx| {
            let existing = bindings::find(tx, &instance, &id)?;
            let ids = checks::delete_ids(&query);
            // whether it is there counts before what is missing in the request; it is the other way round with instances
            if existing.is_some()
                && let Err(failure) = ids
            {
                return Err(failure);
            }
            let background = match ids.and_then(|(service_id, plan_id)| checks::plan(&shop.catalog, service_id, plan_id)) {
                Ok((service, plan)) => {
                    if existing.as_ref().is_some_and(|binding| binding.data.service_id != service.id) {
                        return Err(Failure::invalid("the service instance is of another service"));
                    }
                    let task =
                        Task { kind: Kind::Unbind, service: &service.name, plan: &plan.name, new_plan: None, clone: false };
                    Self::background(&shop, &task, &asked)?
                }
                // a plan that is no longer offered
                Err(failure) => match &existing {
                    Some(binding) if query.get("plan_id") == Some(&binding.data.plan_id) => false,
                    Some(_) => return Err(failure),
                    None => false,
                },
            };
            let running = operations::running(tx, &instance)?;
            let found = Found { exists: existing.is_some(), ..Found::default() };
            let subject = operations::Subject { instance_id: instance.clone(), binding_id: Some(id.clone()), backup_id: None };
            let begin = Begin { kind: Kind::Unbind, subject, data: asked.data(), background, now, keep: &|_| Ok(()) };
            decide::unbind(found, &running, &id, asked.accepts_incomplete).carry_out(tx, &begin)
        });
        let answer = match self.wait(begun.await?, &ask).await? {
            Answer::Created(()) => Answer::Ok(()),
            other => other,
        };
        Ok(answer.map(|()| AcceptedResponse::default()))
    }
}

/// The record that a request describes; in a rotation, what it leaves out comes from the predecessor.
fn wanted(
    tx: &mut Tx<'_>,
    instance_id: &str,
    id: &str,
    request: BindRequest,
    existing: Option<&bindings::Record>,
    now: Timestamp,
) -> Result<bindings::Record, Failure> {
    let before = match &request.predecessor_binding_id {
        None => None,
        // a repeat, after which the predecessor may be gone
        Some(predecessor) if existing.is_some_and(|binding| binding.data.predecessor.as_ref() == Some(predecessor)) => {
            existing.map(|binding| binding.data.clone())
        }
        Some(predecessor) => {
            if instances::find(tx, instance_id)?.is_none() {
                return Err(Failure::not_found("there is no such service instance"));
            }
            let found = bindings::find(tx, instance_id, predecessor)?.filter(|binding| binding.complete);
            Some(found.ok_or_else(|| Failure::invalid("the service instance has no such predecessor_binding_id"))?.data)
        }
    };
    let mut resource =
        request.bind_resource.or_else(|| before.as_ref().map(|before| before.resource.clone())).unwrap_or_default();
    if resource.app_guid.is_none() {
        resource.app_guid = request.app_guid;
    }
    let inherited = |get: fn(&bindings::Data) -> &String| before.as_ref().map(|before| get(before).clone());
    let data = bindings::Data {
        service_id: request.service_id.or_else(|| inherited(|before| &before.service_id)).unwrap_or_default(),
        plan_id: request.plan_id.or_else(|| inherited(|before| &before.plan_id)).unwrap_or_default(),
        context: request.context.or_else(|| before.as_ref().map(|before| before.context.clone())).unwrap_or_default(),
        resource,
        parameters: request.parameters.or_else(|| before.as_ref().map(|before| before.parameters.clone())).unwrap_or_default(),
        predecessor: request.predecessor_binding_id,
        answer: Binding::default(),
        state: osb::PrivateObject::new(),
    };
    Ok(bindings::Record { instance_id: instance_id.to_owned(), id: id.to_owned(), complete: false, created_at: now, data })
}

/// What the catalog says about it; whether it is done in the background.
fn check(shop: &Workshop, wanted: &bindings::Record, ask: &Ask) -> Result<bool, Failure> {
    let (service, plan) = checks::plan(&shop.catalog, &wanted.data.service_id, &wanted.data.plan_id)?;
    if !service.is_bindable(plan) {
        return Err(Failure::invalid(format!("instances of the plan {} cannot be bound", plan.name)));
    }
    if wanted.data.predecessor.is_some() && !plan.binding_rotatable {
        return Err(Failure::invalid(format!("bindings of the plan {} cannot be rotated", plan.name)));
    }
    let task = Task { kind: Kind::Bind, service: &service.name, plan: &plan.name, new_plan: None, clone: false };
    let background = Service::background(shop, &task, ask)?;
    if background && !service.bindings_retrievable {
        return Err(Failure::internal("bindings are made in the background but the catalog does not let them be fetched"));
    }
    checks::parameters(plan, Input::CreateBinding, Some(&wanted.data.parameters))?;
    Ok(background)
}

fn of_instance(owner: &instances::Record, wanted: &bindings::Record) -> Result<(), Failure> {
    if owner.service_id != wanted.data.service_id {
        return Err(Failure::invalid("the service instance is of another service"));
    }
    if owner.plan_id != wanted.data.plan_id {
        return Err(Failure::invalid(format!("the service instance has the plan {}, not this one", owner.data.plan_name)));
    }
    Ok(())
}
