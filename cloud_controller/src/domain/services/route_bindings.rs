//! Bindings of instances to routes: requests go through the service before they reach the app.
//!
//! Source: cloud_controller_ng, `app/actions/service_route_binding_create.rb`, `service_route_binding_delete.rb`.

use crate::{
    domain::{
        Error, Result, Rule, Scope, Tx,
        metadata::MetadataChange,
        routes as route_domain,
        services::bindings::{self, Made, NewBinding, Sent, State},
    },
    store::{
        jobs::Job,
        service_bindings::{self as store, Binding},
        service_instances::Instance,
    },
};
use serde_json::{Map, Value, json};

/// What a new binding is to be.
#[derive(Clone, Debug, Default)]
pub struct NewRouteBinding {
    pub instance: String,
    pub route: String,
    pub parameters: Option<Map<String, Value>>,
    pub metadata: MetadataChange,
    pub request: Value,
}

/// Begins to bind a route to a service (M in the route's space).
///
/// # Errors
/// [`Error::Invalid`] for everything that stands against it, in the contract's words.
pub fn create(tx: &mut Tx<'_>, new: &NewRouteBinding) -> Result<Made> {
    let missing = || format!("The service instance could not be found: {}", new.instance);
    let (instance, owner) = bindings::referred_instance(tx, &new.instance, missing)?;
    let (route, domain, scope) = match route_domain::readable(tx, &new.route) {
        Err(Error::NotFound(_)) => return Err(Error::Invalid(format!("The route could not be found: {}", new.route))),
        other => other?,
    };
    scope.check(tx, scope.manages(tx))?;
    let offered = bindings::offered(tx, &instance)?;
    if instance.plan_guid.is_none() && new.parameters.is_some() {
        return Err(Error::invalid("Binding parameters are not supported for user-provided service instances"));
    }
    let is_route_service = match &offered {
        Some(offered) => offered.offering.required().iter().any(|needed| needed == "route_forwarding"),
        None => instance.route_service_url.as_deref().is_some_and(|url| !url.is_empty()),
    };
    if !is_route_service {
        return Err(Error::invalid("This service instance does not support route binding"));
    }
    if offered.as_ref().is_some_and(|offered| !offered.bindable()) {
        return Err(Error::invalid("This service instance does not support binding"));
    }
    if domain.internal {
        return Err(Error::invalid("Route services cannot be bound to internal routes"));
    }
    if owner.space.guid != route.space_guid {
        return Err(Error::invalid("The service instance and the route are in different spaces"));
    }
    for other in store::of_routes(tx.conn, std::slice::from_ref(&route.guid))? {
        match bindings::state(&other) {
            State::Failed => bindings::abandon(tx, &other)?,
            State::There if other.instance_guid == instance.guid => {
                return Err(Error::rule(Rule::AlreadyBoundToRoute, "The route and service instance are already bound."));
            }
            State::Making | State::Going if other.instance_guid == instance.guid => {
                return Err(Error::invalid("There is an operation in progress for the service route binding."));
            }
            _ => return Err(Error::invalid("A route may only be bound to a single service instance")),
        }
    }
    bindings::check_instance(&instance, &missing())?;
    let mut binding = bindings::fresh(tx, &instance, "route");
    binding.route_guid = Some(route.guid.clone());
    let wanted = NewBinding {
        instance: new.instance.clone(),
        parameters: new.parameters.clone(),
        metadata: new.metadata.clone(),
        request: new.request.clone(),
        ..NewBinding::default()
    };
    let Some(offered) = offered else { return bindings::there(tx, binding, &wanted, &scope) };
    let resource = json!({ "route": route.url(&domain.name) });
    let body = bindings::body(tx, &offered, &owner, resource, new.parameters.as_ref())?;
    bindings::begin(tx, binding, &instance, &offered, &scope, &wanted, Sent { body, incomplete: true })
}

/// A binding that the caller reads, with its instance and the space of its route.
///
/// # Errors
/// [`Error::NotFound`].
pub fn readable(tx: &mut Tx<'_>, guid: &str) -> Result<(Binding, Instance, Scope)> {
    let missing = || Error::NotFound("Service route binding");
    let binding = store::find(tx.conn, guid)?.filter(|binding| binding.kind == "route").ok_or_else(missing)?;
    let (instance, scope) = bindings::scope_of(tx, &binding)?;
    if tx.who.reads_space(&scope.space.guid, &scope.org.guid) { Ok((binding, instance, scope)) } else { Err(missing()) }
}

/// Begins to unbind a route (M); none: it is unbound.
pub fn delete(tx: &mut Tx<'_>, guid: &str) -> Result<Option<Job>> {
    let (binding, instance, scope) = readable(tx, guid)?;
    scope.check(tx, scope.manages(tx))?;
    bindings::delete_in(tx, &binding, &instance, &scope)
}

/// Through what the requests of the route go: what the broker said, or what the user wrote into the instance.
pub fn url(binding: &Binding, instance: &Instance) -> Option<String> {
    binding.route_service_url.clone().or_else(|| instance.route_service_url.clone())
}
