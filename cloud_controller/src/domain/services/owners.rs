//! Apps and routes that go: what binds them is removed at its brokers first.
//!
//! Source: cloud_controller_ng, `app/actions/app_delete.rb`, `route_delete.rb`.

use crate::{
    brokers::{Failure, Object},
    domain::{
        Error, Result, Rule, Scope, Tx, apps as app_domain, routes as route_domain,
        services::{
            bindings::{State, busy, may_go, remove_part, state},
            operations::{self, Ended, Handler, Kind, New, Operation, Originator, Prepared, Target},
        },
    },
    store::{
        apps,
        jobs::{self, Job},
        service_bindings::{self as store, Binding},
        service_instances,
    },
};
use serde_json::Value;

/// Removes what binds an app, or a route, and then the thing itself.
pub struct Owner {
    /// True: an app; else a route.
    pub app: bool,
}

impl Owner {
    fn bindings(&self, tx: &mut Tx<'_>, guid: &str) -> Result<Vec<Binding>> {
        if self.app { store::of_app(tx.conn, guid) } else { store::of_routes(tx.conn, &[guid.to_owned()]) }
    }

    /// Begins the deletion of an app or route whose role was checked; none: nothing stands in its way, delete it.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is being deleted.
    pub fn begin(&self, tx: &mut Tx<'_>, guid: &str) -> Result<Option<Job>> {
        let managed = self.bindings(tx, guid)?.into_iter().map(|binding| {
            let instance = service_instances::find(tx.conn, &binding.instance_guid)?;
            Ok(instance.is_some_and(|instance| instance.plan_guid.is_some()))
        });
        if !managed.collect::<Result<Vec<bool>>>()?.contains(&true) {
            return Ok(None);
        }
        let (kind, operation, collection) = match self.app {
            true => (Kind::AppDelete, "app.delete", "apps"),
            false => (Kind::RouteDelete, "route.delete", "routes"),
        };
        if let Some(running) = operations::of(tx, kind, guid)? {
            return jobs::find(tx.conn, running.guid());
        }
        let work = New {
            kind,
            resource: guid,
            broker: None,
            user: Originator::of(tx),
            target: Target::default(),
            data: Value::Null,
            time: operations::MAX_POLLING,
            job: Some((operation, (collection, guid))),
        };
        operations::begin(tx, work, busy)
    }
}

impl Handler for Owner {
    fn prepare(&self, tx: &mut Tx<'_>, op: &mut Operation) -> Result<Prepared> {
        let guid = op.resource().to_owned();
        let mut waits = false;
        let mut stuck = vec![];
        // Those that were asked for before: what could not be removed then is not asked for again.
        let mut asked: Vec<Value> = op.data.as_array().cloned().unwrap_or_default();
        for binding in self.bindings(tx, &guid)? {
            let known = asked.iter().any(|asked| asked.as_str() == Some(&binding.guid));
            if state(&binding) == State::Stuck && known {
                stuck.push(binding.op_description.clone());
                continue;
            }
            if !known && may_go(tx, &binding)? {
                asked.push(binding.guid.clone().into());
            }
            waits |= !remove_part(tx, &binding, op.user.clone())?;
        }
        op.data = asked.into();
        if waits {
            return Ok(Prepared::Wait);
        }
        if !stuck.is_empty() {
            let lead = "unbind could not be completed: ";
            let texts: Vec<String> = stuck.into_iter().map(|text| format!("{lead}{text}")).collect();
            let what = if self.app { "app" } else { "route" };
            let text = format!(
                "Deletion of {what} {guid} failed because one or more associated resources could not be deleted.\n\n{}",
                texts.join("\n")
            );
            return Ok(Prepared::End(Ended::failed(Error::rule(Rule::AppRecursiveDelete, text))));
        }
        if self.app {
            if let Some((app, space, org)) = apps::find_with_scope(tx.conn, &guid)? {
                app_domain::delete_in(tx, &app, &Scope { space, org })?;
            }
        } else {
            route_domain::delete_all(tx, &[guid])?;
        }
        Ok(Prepared::End(Ended::well()))
    }

    fn succeeded(&self, _: &mut Tx<'_>, _: &mut Operation, _: &Object) -> Result<std::result::Result<Ended, Failure>> {
        Ok(Ok(Ended::well()))
    }

    fn failed(&self, tx: &mut Tx<'_>, op: &mut Operation, failure: &Failure) -> Result<Ended> {
        Ok(Ended::failed(op.unable(tx, "delete", failure)?))
    }
}
