//! `/v3/service_instances`

use crate::{
    api::{
        Answer, Api, Failure, accepted, auth,
        body::{Fields, raw},
        created, no_content, ok, page,
        query::{ListSpec, pairs},
        time,
    },
    brokers::{Call, FailureKind, Object, Reply, Request},
    domain::{
        Access, Caller, Error, Result, Rule, Tx,
        audit::HIDDEN,
        services::{
            instance_update::{self, Change, Changed},
            instances::{self, NewManaged, NewUserProvided, UserProvidedChange},
            operations,
        },
    },
    store::{
        self,
        metadata::{Described, describe, describe_one},
        query::{List, Listed},
        service_instances::{Instance, KIND},
        service_plans::Offered,
    },
};
use actix_web::{
    HttpRequest, delete, get, patch, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const LIST: ListSpec = ListSpec {
    filters: &["names", "type", "space_guids", "organization_guids", "service_plan_guids", "service_plan_names"],
    order_by: &["name"],
    fields: &[
        ("space", &["guid", "name", "relationships.organization"]),
        ("space.organization", &["guid", "name"]),
        ("service_plan", &["guid", "name", "relationships.service_offering"]),
        (
            "service_plan.service_offering",
            &["guid", "name", "description", "documentation_url", "tags", "relationships.service_broker"],
        ),
        ("service_plan.service_offering.service_broker", &["guid", "name"]),
    ],
    ..ListSpec::STANDARD
};
/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(create).service(index).service(show).service(update).service(remove);
    config.service(show_credentials).service(show_parameters).service(show_permissions);
}

/// An instance with what its document needs.
#[derive(Clone, Debug)]
pub struct View {
    pub instance: Described<Instance>,
    pub offered: Option<Offered>,
}

/// Adds to instances what their documents need, in a fixed number of statements.
pub fn views(tx: &mut Tx<'_>, rows: Vec<Instance>) -> Result<Vec<View>> {
    let mut plans: Vec<String> = rows.iter().filter_map(|row| row.plan_guid.clone()).collect();
    plans.sort();
    plans.dedup();
    let offered = store::service_instances::offered(tx.conn, &plans)?;
    let by_plan: BTreeMap<String, Offered> = offered.into_iter().map(|of| (of.plan.guid.clone(), of)).collect();
    let described = describe(tx.conn, KIND, rows, |row| &row.guid)?;
    let with = |instance: Described<Instance>| {
        let offered = instance.row.plan_guid.as_ref().and_then(|plan| by_plan.get(plan)).cloned();
        View { instance, offered }
    };
    Ok(described.into_iter().map(with).collect())
}

fn view(tx: &mut Tx<'_>, instance: Described<Instance>) -> Result<View> {
    Ok(View { offered: instances::offered(tx, &instance.row)?, instance })
}

/// An instance as the API shows it.
pub fn body(api: &Api, view: &View) -> Value {
    let Described { row, metadata } = &view.instance;
    let path = format!("/v3/service_instances/{}", row.guid);
    let mut body = page::head(&row.guid, row.created_at, row.updated_at);
    body.insert("name".into(), row.name.clone().into());
    body.insert("tags".into(), json!(instances::tags(row)));
    body.insert("type".into(), row.kind.clone().into());
    let mut relationships = json!({ "space": page::to_one(Some(&row.space_guid)) });
    let mut links = json!({
        "self": page::link(api, &path),
        "space": page::link(api, &format!("/v3/spaces/{}", row.space_guid)),
        "service_credential_bindings":
            page::link(api, &format!("/v3/service_credential_bindings?service_instance_guids={}", row.guid)),
        "service_route_bindings": page::link(api, &format!("/v3/service_route_bindings?service_instance_guids={}", row.guid)),
    });
    let object = |text: Option<&str>| text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| json!({}));
    if row.kind == "managed" {
        let info: Value = object(row.maintenance_info.as_deref());
        let of_plan = view.offered.as_ref().and_then(|of| instances::version(of.plan.maintenance_info.as_deref()));
        body.insert("upgrade_available".into(), (info["version"].as_str() != of_plan.as_deref()).into());
        body.insert("maintenance_info".into(), info);
        body.insert("dashboard_url".into(), row.dashboard_url.clone().into());
        if let Some(given) = row.broker_metadata.as_deref() {
            body.insert("broker_provided_metadata".into(), object(Some(given)));
        }
        let plan = row.plan_guid.as_deref();
        relationships["service_plan"] = page::to_one(plan);
        links["service_plan"] = page::link(api, &format!("/v3/service_plans/{}", plan.unwrap_or_default()));
        links["parameters"] = page::link(api, &format!("{path}/parameters"));
        links["shared_spaces"] = page::link(api, &format!("{path}/relationships/shared_spaces"));
    } else {
        body.insert("syslog_drain_url".into(), row.syslog_drain_url.clone().into());
        body.insert("route_service_url".into(), row.route_service_url.clone().into());
        links["credentials"] = page::link(api, &format!("{path}/credentials"));
    }
    let last = json!({
        "type": row.op_type,
        "state": row.op_state,
        "description": row.op_description,
        "created_at": time(row.op_created_at),
        "updated_at": time(row.op_updated_at),
    });
    body.insert("last_operation".into(), last);
    body.insert("relationships".into(), relationships);
    body.insert("metadata".into(), page::metadata(metadata));
    body.insert("links".into(), links);
    body.into()
}

/// The keys of an object that a `fields[...]` asks for; `relationships.x` stands for that relationship alone.
fn chosen(keys: &[String], whole: &Value) -> Value {
    let mut map = Map::new();
    for key in keys {
        match key.strip_prefix("relationships.") {
            Some(name) => {
                let relationships = map.entry("relationships").or_insert_with(|| json!({}));
                relationships[name] = whole["relationships"][name].clone();
            }
            None => drop(map.insert(key.clone(), whole[key].clone())),
        }
    }
    map.into()
}

/// `included`, as far as `fields[...]` ask for it.
pub fn included_spaces(tx: &mut Tx<'_>, asked: &List, spaces: Vec<String>, included: &mut Map<String, Value>) -> Result<()> {
    let (of_space, of_org) = (asked.fields.get("space"), asked.fields.get("space.organization"));
    if of_space.is_none() && of_org.is_none() {
        return Ok(());
    }
    let spaces = store::spaces::find_all(tx.conn, &spaces)?;
    if let Some(keys) = of_space {
        let whole = |space: &store::spaces::Space| {
            let relationships = json!({ "organization": page::to_one(Some(&space.org_guid)) });
            json!({ "guid": space.guid, "name": space.name, "relationships": relationships })
        };
        included.insert("spaces".into(), spaces.iter().map(|space| chosen(keys, &whole(space))).collect());
    }
    if let Some(keys) = of_org {
        let orgs: Vec<String> = spaces.iter().map(|space| space.org_guid.clone()).collect();
        let orgs = store::orgs::find_all(tx.conn, &orgs)?;
        let whole = |org: &store::orgs::Org| json!({ "guid": org.guid, "name": org.name });
        included.insert("organizations".into(), orgs.iter().map(|org| chosen(keys, &whole(org))).collect());
    }
    Ok(())
}

fn included_plans(asked: &List, views: &[View], included: &mut Map<String, Value>) {
    let each = |guid: fn(&Offered) -> &str| -> Vec<&Offered> {
        let all: BTreeMap<&str, &Offered> =
            views.iter().filter_map(|view| view.offered.as_ref()).map(|of| (guid(of), of)).collect();
        all.into_values().collect()
    };
    if let Some(keys) = asked.fields.get("service_plan") {
        let whole = |of: &&Offered| {
            let relationships = json!({ "service_offering": page::to_one(Some(&of.offering.guid)) });
            chosen(keys, &json!({ "guid": of.plan.guid, "name": of.plan.name, "relationships": relationships }))
        };
        included.insert("service_plans".into(), each(|of| &of.plan.guid).iter().map(whole).collect());
    }
    if let Some(keys) = asked.fields.get("service_plan.service_offering") {
        let whole = |of: &&Offered| {
            let metadata = of.offering.metadata();
            let whole = json!({
                "guid": of.offering.guid,
                "name": of.offering.name,
                "description": of.offering.description,
                "documentation_url": metadata["documentationUrl"],
                "tags": of.offering.tag_list(),
                "relationships": { "service_broker": page::to_one(Some(&of.broker.guid)) },
            });
            chosen(keys, &whole)
        };
        included.insert("service_offerings".into(), each(|of| &of.offering.guid).iter().map(whole).collect());
    }
    if let Some(keys) = asked.fields.get("service_plan.service_offering.service_broker") {
        let whole = |of: &&Offered| chosen(keys, &json!({ "guid": of.broker.guid, "name": of.broker.name }));
        included.insert("service_brokers".into(), each(|of| &of.broker.guid).iter().map(whole).collect());
    }
}

/// An object in a body.
fn object(fields: &mut Fields, key: &str) -> Option<Map<String, Value>> {
    match fields.take(key) {
        None => None,
        Some(Value::Object(map)) => Some(map),
        Some(_) => {
            fields.problem(format!("{} must be an object", super::body::label(key)));
            None
        }
    }
}

fn tags(fields: &mut Fields) -> Option<Vec<String>> {
    match fields.take("tags")? {
        Value::Array(all) => {
            let tags: Option<Vec<String>> = all.iter().map(|tag| tag.as_str().map(str::to_owned)).collect();
            if tags.is_none() {
                fields.problem("Tags must be a list of strings");
            }
            tags
        }
        _ => {
            fields.problem("Tags must be an array");
            None
        }
    }
}

/// An address in a body; empty means none.
fn address(fields: &mut Fields, key: &str, https: bool) -> Option<String> {
    let text = fields.string(key).filter(|text| !text.is_empty())?;
    let label = super::body::label(key);
    match url::Url::parse(&text) {
        Ok(url) if https && url.scheme() != "https" => fields.problem(format!("{label} must be https")),
        Ok(url) if url.has_host() && text.len() <= 10_000 => return Some(text),
        _ => fields.problem(format!("{label} must be a valid URI")),
    }
    None
}

fn hidden(bytes: &[u8], key: &str) -> Value {
    let mut request = raw(bytes);
    if let Some(value) = request.get_mut(key) {
        *value = HIDDEN.into();
    }
    request
}

#[post("/v3/service_instances")]
async fn create(api: Data<Api>, caller: Caller, bytes: Bytes) -> Answer {
    const MANAGED: &[&str] = &["type", "name", "parameters", "tags", "relationships", "metadata", "clone_from"];
    const USER_PROVIDED: &[&str] =
        &["type", "name", "credentials", "syslog_drain_url", "route_service_url", "tags", "relationships", "metadata"];
    match raw(&bytes)["type"].as_str() {
        Some("managed") => {
            let mut fields = Fields::parse(&bytes, MANAGED)?;
            let new = read_managed(&mut fields, &bytes);
            fields.finish()?;
            let job = api.write_and_wait(&caller, move |tx| instances::create_managed(tx, &new)).await?;
            accepted(&api, &job)
        }
        Some("user-provided") => {
            let mut fields = Fields::parse(&bytes, USER_PROVIDED)?;
            let new = read_user_provided(&mut fields, &bytes);
            fields.finish()?;
            let work = move |tx: &mut Tx<'_>| {
                let made = instances::create_user_provided(tx, &new)?;
                view(tx, made)
            };
            let made = api.write(&caller, work).await?;
            created(body(&api, &made))
        }
        _ => {
            let known: Vec<&str> = MANAGED.iter().chain(USER_PROVIDED).copied().collect();
            let mut fields = Fields::parse(&bytes, &known)?;
            fields.problem("Type must be one of 'managed', 'user-provided'");
            fields.finish()?;
            Err(Error::Unparsable.into())
        }
    }
}

fn read_managed(fields: &mut Fields, bytes: &[u8]) -> NewManaged {
    let name = fields.required("name", 255);
    let parameters = object(fields, "parameters");
    let tags = tags(fields).unwrap_or_default();
    let mut to = fields.relationships(&["space", "service_plan"], &["space", "service_plan"]);
    NewManaged {
        name,
        space: to.remove("space").flatten().unwrap_or_default(),
        plan: to.remove("service_plan").flatten().unwrap_or_default(),
        parameters,
        tags,
        metadata: fields.metadata(),
        source: source(fields),
        request: hidden(bytes, "parameters"),
    }
}

/// Our addition: `{"service_instance": {"guid"}, "backup": {"guid"}}`, the instance to copy.
fn source(fields: &mut Fields) -> Option<(String, Option<String>)> {
    let mut from = fields.object("clone_from", "Clone from", &["service_instance", "backup"])?;
    let (instance, backup) = (reference(&mut from, "service_instance", true), reference(&mut from, "backup", false));
    fields.join(from);
    instance.map(|instance| (instance, backup))
}

/// `{"guid": "..."}` in a body.
pub fn reference(fields: &mut Fields, key: &str, required: bool) -> Option<String> {
    let given = fields.take(key);
    match given.as_ref().map(|given| given["guid"].as_str()) {
        Some(Some(guid)) if (1..=200).contains(&guid.len()) => return Some(guid.to_owned()),
        None if !required => {}
        _ => fields.problem(format!(
            "{} must be structured like this: \"{key}: {{\"guid\": \"valid-guid\"}}\"",
            super::body::label(key)
        )),
    }
    None
}

fn read_user_provided(fields: &mut Fields, bytes: &[u8]) -> NewUserProvided {
    NewUserProvided {
        name: fields.required("name", 255),
        credentials: object(fields, "credentials"),
        syslog_drain_url: address(fields, "syslog_drain_url", false),
        route_service_url: address(fields, "route_service_url", true),
        tags: tags(fields).unwrap_or_default(),
        space: fields.relationships(&["space"], &["space"]).remove("space").flatten().unwrap_or_default(),
        metadata: fields.metadata(),
        request: hidden(bytes, "credentials"),
    }
}

#[get("/v3/service_instances")]
async fn index(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    let list = LIST.parse(request.query_string())?;
    if list.values("type").is_some_and(|kinds| kinds.iter().any(|kind| !matches!(kind.as_str(), "managed" | "user-provided"))) {
        return Err(Error::BadQuery("Type must be one of 'managed', 'user-provided'".into()).into());
    }
    let asked = list.clone();
    let work = move |tx: &mut Tx<'_>| {
        let who = tx.who.clone();
        let found = store::service_instances::list(tx.conn, &who, &asked)?;
        let rows = views(tx, found.rows)?;
        let mut included = Map::new();
        let spaces = rows.iter().map(|view| view.instance.row.space_guid.clone()).collect();
        included_spaces(tx, &asked, spaces, &mut included)?;
        included_plans(&asked, &rows, &mut included);
        Ok((Listed { total: found.total, rows }, included))
    };
    let (found, included) = api.read(&caller, work).await?;
    let resources = found.rows.iter().map(|view| body(&api, view)).collect();
    let included = Some(Value::Object(included)).filter(|_| !list.fields.is_empty());
    ok(page::document(&api, request.path(), request.query_string(), &list, found.total, resources, included))
}

#[get("/v3/service_instances/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    let asked = LIST.parse_show(request.query_string())?;
    let wanted = asked.clone();
    let work = move |tx: &mut Tx<'_>| {
        let (instance, _) = instances::readable(tx, &guid)?;
        let instance = describe_one(tx.conn, KIND, instance, &guid)?;
        let view = view(tx, instance)?;
        let mut included = Map::new();
        included_spaces(tx, &wanted, vec![view.instance.row.space_guid.clone()], &mut included)?;
        included_plans(&wanted, std::slice::from_ref(&view), &mut included);
        Ok((view, included))
    };
    let (view, included) = api.read(&caller, work).await?;
    let mut shown = body(&api, &view);
    if !asked.fields.is_empty() {
        shown["included"] = included.into();
    }
    ok(shown)
}

#[patch("/v3/service_instances/{guid}")]
async fn update(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let guid = guid.into_inner();
    let wanted = guid.clone();
    let instance = api.read(&caller, move |tx| Ok(instances::writable(tx, &wanted)?.0)).await?;
    if instance.kind != "managed" {
        let change = read_user_provided_change(&bytes)?;
        let work = move |tx: &mut Tx<'_>| {
            let changed = instances::update_user_provided(tx, &guid, &change)?;
            view(tx, changed)
        };
        let changed = api.write(&caller, work).await?;
        return ok(body(&api, &changed));
    }
    let change = read_change(&bytes)?;
    let work = move |tx: &mut Tx<'_>| match instance_update::update(tx, &guid, &change)? {
        Changed::There(instance) => Ok(Ok(view(tx, *instance)?)),
        Changed::Begun(job) => Ok(Err(job)),
    };
    match api.write_and_wait_for(&caller, work, |made| made.as_ref().err()).await? {
        Ok(changed) => ok(body(&api, &changed)),
        Err(job) => accepted(&api, &job),
    }
}

fn read_change(bytes: &[u8]) -> Result<Change> {
    let known = ["name", "tags", "parameters", "relationships", "maintenance_info", "metadata"];
    let mut fields = Fields::parse(bytes, &known)?;
    let request = raw(bytes);
    let keys: Vec<&String> = request.as_object().map(|map| map.keys().collect()).unwrap_or_default();
    let metadata_only = !keys.is_empty() && keys.iter().all(|key| *key == "metadata");
    let mut change = Change {
        name: fields.renamed("name", 255),
        tags: tags(&mut fields),
        parameters: object(&mut fields, "parameters"),
        plan: fields.relationships(&["service_plan"], &[]).remove("service_plan").flatten(),
        metadata_only,
        raw_metadata: request["metadata"].clone(),
        request: hidden(bytes, "parameters"),
        ..Change::default()
    };
    if request["tags"].is_null() && request.get("tags").is_some() {
        change.tags = Some(vec![]);
    }
    if let Some(mut info) = fields.object("maintenance_info", "Maintenance info", &["version", "description"]) {
        change.version = info.string("version");
        let semver = change.version.as_deref().is_some_and(|version| semver::Version::parse(version).is_ok());
        if !semver {
            info.problem("version should be a semantic version.");
        }
        fields.join(info);
    }
    change.metadata = fields.metadata();
    fields.finish()?;
    Ok(change)
}

fn read_user_provided_change(bytes: &[u8]) -> Result<UserProvidedChange> {
    let known = ["name", "credentials", "syslog_drain_url", "route_service_url", "tags", "metadata"];
    let mut fields = Fields::parse(bytes, &known)?;
    let [credentials, drain, route, has_tags] =
        ["credentials", "syslog_drain_url", "route_service_url", "tags"].map(|key| fields.has(key));
    let change = UserProvidedChange {
        name: fields.renamed("name", 255),
        credentials: credentials.then(|| object(&mut fields, "credentials")),
        syslog_drain_url: drain.then(|| address(&mut fields, "syslog_drain_url", false)),
        route_service_url: route.then(|| address(&mut fields, "route_service_url", true)),
        tags: has_tags.then(|| tags(&mut fields).unwrap_or_default()),
        metadata: fields.metadata(),
        request: hidden(bytes, "credentials"),
    };
    fields.finish()?;
    Ok(change)
}

#[delete("/v3/service_instances/{guid}")]
async fn remove(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    let guid = guid.into_inner();
    if pairs(request.query_string()).get("purge").is_some_and(|purge| purge == "true") {
        api.write(&caller, move |tx| instances::purge(tx, &guid)).await?;
        return no_content();
    }
    match api.write_and_wait_for(&caller, move |tx| instances::delete(tx, &guid), Option::as_ref).await? {
        None => no_content(),
        Some(job) => accepted(&api, &job),
    }
}

#[get("/v3/service_instances/{guid}/credentials")]
async fn show_credentials(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    ok(api.write(&caller, move |tx| instances::credentials(tx, &guid)).await?)
}

#[get("/v3/service_instances/{guid}/permissions")]
async fn show_permissions(api: Data<Api>, guid: Path<String>, request: HttpRequest) -> Answer {
    // Dashboards ask with a token that can do nothing else here.
    let header = request.headers().get("Authorization").ok_or(Error::NotAuthenticated)?;
    let header = header.to_str().map_err(|_| Error::InvalidToken)?;
    let caller = auth::authenticate(&api, header).await?;
    let (manage, read) = api.read(&caller, move |tx| instances::permissions(tx, &guid)).await?;
    ok(json!({ "manage": manage, "read": read }))
}

#[get("/v3/service_instances/{guid}/parameters")]
async fn show_parameters(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let id = api.guid();
    let work = move |tx: &mut Tx<'_>| {
        let (instance, scope) = instances::readable(tx, &guid)?;
        Access::require(tx.who.reads_space(&scope.space.guid, &scope.org.guid))?;
        if instances::create_failed(&instance) {
            return Err(Error::NotFound("Service instance"));
        }
        let unsupported = || {
            let text = "This service does not support fetching service instance parameters.";
            Error::rule(Rule::FetchParametersNotSupported, text)
        };
        let offered = instances::offered(tx, &instance)?.ok_or_else(unsupported)?;
        if !offered.offering.instances_retrievable {
            return Err(unsupported());
        }
        if instances::busy(&instance) {
            return Err(instances::in_progress(&instance));
        }
        let of = instances::target(&instance, &offered).of_instance();
        let broker = operations::address(tx, offered.broker)?;
        let (user, plan) = (Some(tx.who.caller.guid.clone()), Some(offered.plan.name));
        Ok(Call { broker, id, user, plan, request: Request::FetchInstance(of) })
    };
    let call = api.read(&caller, work).await?;
    ok(fetched_parameters(&api, call).await?)
}

/// Asks a broker for what it has of something, and hands out the parameters.
pub async fn fetched_parameters(api: &Api, call: Call) -> Result<Value, Failure> {
    let mut body = asked(api, call).await?;
    Ok(body.remove("parameters").filter(Value::is_object).unwrap_or_else(|| json!({})))
}

/// Asks a broker on behalf of a request that waits for it.
pub async fn asked(api: &Api, call: Call) -> Result<Object, Failure> {
    match api.brokers.call(call).await {
        Reply::Done(body) => Ok(body),
        Reply::Failed(failure) => {
            let rule = match failure.kind {
                FailureKind::Timeout => Rule::BrokerTimeout,
                FailureKind::Concurrency => Rule::BrokerConcurrency,
                _ => Rule::BrokerBadResponse,
            };
            Err(Error::rule(rule, failure.text).into())
        }
        Reply::Accepted { .. } | Reply::InProgress { .. } => {
            let text = "The service broker's answer has no meaning here.";
            Err(Error::rule(Rule::BrokerBadResponse, text).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chosen_keys_are_shown() {
        let whole = json!({ "guid": "g", "name": "n", "relationships": { "a": 1, "b": 2 } });
        let keys = ["name".to_owned(), "relationships.b".to_owned()];
        assert_eq!(chosen(&keys, &whole), json!({ "name": "n", "relationships": { "b": 2 } }));
    }
}
