//! Where something belongs, as brokers are told.
//!
//! Source: the Open Service Broker API profile, "Context Object"; cloud_controller_ng, `lib/services/service_brokers/v2/client.rb`.

use crate::{
    domain::{Result, Scope, Tx},
    store::{
        metadata::{self, Metadata},
        orgs, spaces,
    },
};
use serde_json::{Map, Value, json};

/// The context of requests about an instance in this scope. Bindings have no name in theirs.
pub fn of(tx: &mut Tx<'_>, scope: &Scope, instance_name: Option<&str>) -> Result<Value> {
    let org = metadata::of(tx.conn, orgs::KIND, &scope.org.guid)?;
    let space = metadata::of(tx.conn, spaces::KIND, &scope.space.guid)?;
    let mut context = json!({
        "platform": "cloudfoundry",
        "organization_guid": scope.org.guid,
        "organization_name": scope.org.name,
        "organization_annotations": public_annotations(&org),
        "space_guid": scope.space.guid,
        "space_name": scope.space.name,
        "space_annotations": public_annotations(&space),
    });
    if let Some(name) = instance_name {
        context["instance_name"] = name.into();
    }
    Ok(context)
}

/// Annotations whose key has a prefix; the others are private.
pub fn public_annotations(metadata: &Metadata) -> Map<String, Value> {
    let public = metadata.annotations.iter().filter(|(key, _)| key.contains('/'));
    public.map(|(key, value)| (key.clone(), value.clone().into())).collect()
}
