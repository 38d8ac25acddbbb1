//! `/v3/service_credential_bindings`

use crate::{
    api::{
        Answer, Api, Failure, accepted,
        body::{Fields, raw},
        created,
        include::Included,
        no_content, ok, page,
        query::ListSpec,
        service_instances::fetched_parameters,
    },
    domain::{
        Caller, Error, Result, Rule, Tx,
        services::bindings::{self, Made, NewBinding, State},
    },
    store::{
        self,
        metadata::{Described, describe, describe_one},
        query::List,
        service_bindings::{Binding, CREDENTIAL_KIND},
        service_instances::Instance,
    },
};
use actix_web::{
    HttpRequest, delete, get, patch, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const LIST: ListSpec = ListSpec {
    filters: &[
        "names",
        "type",
        "app_guids",
        "app_names",
        "service_instance_guids",
        "service_instance_names",
        "service_plan_guids",
        "service_plan_names",
        "service_offering_guids",
        "service_offering_names",
    ],
    order_by: &["name"],
    includes: &["app", "service_instance"],
    ..ListSpec::STANDARD
};

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(create).service(index).service(show).service(update).service(remove).service(details).service(show_parameters);
}

/// A binding as the API shows it; with `managed`, its broker may be asked about it.
pub fn body(api: &Api, binding: &Described<Binding>, managed: bool) -> Value {
    let Described { row, metadata } = binding;
    let path = format!("/v3/service_credential_bindings/{}", row.guid);
    let instance = format!("/v3/service_instances/{}", row.instance_guid);
    let mut body = page::head(&row.guid, row.created_at, row.updated_at);
    body.insert("name".into(), row.name.clone().into());
    body.insert("type".into(), row.kind.clone().into());
    body.insert("last_operation".into(), last_operation(row));
    let mut relationships = json!({ "service_instance": page::to_one(Some(&row.instance_guid)) });
    let mut links = json!({
        "self": page::link(api, &path),
        "details": page::link(api, &format!("{path}/details")),
        "service_instance": page::link(api, &instance),
    });
    if managed {
        links["parameters"] = page::link(api, &format!("{path}/parameters"));
    }
    if let Some(app) = &row.app_guid {
        relationships["app"] = page::to_one(Some(app));
        links["app"] = page::link(api, &format!("/v3/apps/{app}"));
    }
    body.insert("relationships".into(), relationships);
    body.insert("metadata".into(), page::metadata(metadata));
    body.insert("links".into(), links);
    body.into()
}

/// What was last done about a binding.
pub fn last_operation(row: &Binding) -> Value {
    let description = Some(row.op_description.clone()).filter(|text| !text.is_empty());
    json!({
        "type": row.op_type,
        "state": row.op_state,
        "description": description,
        "created_at": crate::api::time(row.op_created_at),
        "updated_at": crate::api::time(row.op_updated_at),
    })
}

fn read(bytes: &[u8]) -> Result<NewBinding> {
    let mut fields = Fields::parse(bytes, &["type", "name", "relationships", "parameters", "strategy", "metadata"])?;
    let kind = fields.string("type").unwrap_or_default();
    let mut new = NewBinding { name: fields.name("name", 255), request: raw(bytes), ..NewBinding::default() };
    match kind.as_str() {
        "app" => {
            let mut to = fields.relationships(&["service_instance", "app"], &["service_instance", "app"]);
            new.instance = to.remove("service_instance").flatten().unwrap_or_default();
            new.app = Some(to.remove("app").flatten().unwrap_or_default());
            let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            if new.name.as_ref().is_some_and(|name| !name.bytes().all(word)) {
                fields.problem("Name is invalid. Names may contain only alphanumeric characters, '-' and '_'");
            }
            match fields.string("strategy").as_deref() {
                None | Some("single") => {}
                Some("multiple") => new.multiple = true,
                Some(_) => fields.problem("Strategy must be 'single' or 'multiple'"),
            }
        }
        "key" => {
            let mut to = fields.relationships(&["service_instance"], &["service_instance"]);
            new.instance = to.remove("service_instance").flatten().unwrap_or_default();
            if new.name.is_none() && !fields.has("name") {
                fields.problem("Name can't be blank");
            }
            if fields.has("strategy") {
                fields.problem("Strategy cannot be used with bindings of type 'key'");
            }
        }
        _ => fields.problem("Type must be 'app' or 'key'"),
    }
    new.parameters = read_parameters(&mut fields);
    new.metadata = fields.metadata();
    fields.finish()?;
    Ok(new)
}

/// Parameters for a broker: an object, if there are any.
pub fn read_parameters(fields: &mut Fields) -> Option<Map<String, Value>> {
    match fields.take("parameters") {
        None => None,
        Some(Value::Object(given)) => Some(given),
        Some(_) => {
            fields.problem("Parameters must be an object");
            None
        }
    }
}

#[post("/v3/service_credential_bindings")]
async fn create(api: Data<Api>, caller: Caller, bytes: Bytes) -> Answer {
    let new = read(&bytes)?;
    match api.write_and_wait_for(&caller, move |tx| bindings::create(tx, &new), Made::job).await? {
        Made::Begun(_, job) => accepted(&api, &job),
        Made::There(binding) => created(body(&api, &binding, false)),
    }
}

/// Which of these instances have a broker.
fn managed(tx: &mut Tx<'_>, rows: &[Binding]) -> Result<BTreeSet<String>> {
    let guids: Vec<String> = rows.iter().map(|row| row.instance_guid.clone()).collect();
    let instances = store::service_instances::find_all(tx.conn, &guids)?;
    Ok(instances.into_iter().filter(|instance| instance.plan_guid.is_some()).map(|instance| instance.guid).collect())
}

fn include(tx: &mut Tx<'_>, asked: &List, rows: &[Described<Binding>]) -> Result<Included> {
    let mut included = Included::default();
    if asked.includes("app") {
        included.apps(tx, rows.iter().filter_map(|binding| binding.row.app_guid.clone()).collect())?;
    }
    if asked.includes("service_instance") {
        included.service_instances(tx, rows.iter().map(|binding| binding.row.instance_guid.clone()).collect())?;
    }
    Ok(included)
}

#[get("/v3/service_credential_bindings")]
async fn index(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    let list = LIST.parse(request.query_string())?;
    let asked = list.clone();
    let work = move |tx: &mut Tx<'_>| {
        let who = tx.who.clone();
        let found = store::service_bindings::list_credential(tx.conn, &who, &asked)?;
        let managed = managed(tx, &found.rows)?;
        let rows = describe(tx.conn, CREDENTIAL_KIND, found.rows, |binding| &binding.guid)?;
        let included = include(tx, &asked, &rows)?;
        Ok((rows, found.total, managed, included))
    };
    let (rows, total, managed, included) = api.read(&caller, work).await?;
    let resources = rows.iter().map(|binding| body(&api, binding, managed.contains(&binding.row.instance_guid))).collect();
    ok(page::document(&api, request.path(), request.query_string(), &list, total, resources, included.body(&api)))
}

#[get("/v3/service_credential_bindings/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    let asked = LIST.parse_show(request.query_string())?;
    let work = move |tx: &mut Tx<'_>| {
        let (binding, instance, _) = bindings::readable(tx, &guid)?;
        let binding = describe_one(tx.conn, CREDENTIAL_KIND, binding, &guid)?;
        let included = include(tx, &asked, std::slice::from_ref(&binding))?;
        Ok((binding, instance.plan_guid.is_some(), included))
    };
    let (binding, managed, included) = api.read(&caller, work).await?;
    let mut shown = body(&api, &binding, managed);
    included.add_to(&api, &mut shown);
    ok(shown)
}

#[patch("/v3/service_credential_bindings/{guid}")]
async fn update(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["metadata"])?;
    let metadata = fields.metadata();
    fields.finish()?;
    let request = raw(&bytes);
    let work = move |tx: &mut Tx<'_>| {
        let (binding, instance, scope) = bindings::readable(tx, &guid)?;
        let managed = instance.plan_guid.is_some();
        Ok((bindings::update(tx, (binding, scope), &metadata, request.clone())?, managed))
    };
    let (binding, managed) = api.write(&caller, work).await?;
    ok(body(&api, &binding, managed))
}

#[delete("/v3/service_credential_bindings/{guid}")]
async fn remove(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| bindings::delete(tx, &guid);
    match api.write_and_wait_for(&caller, work, Option::as_ref).await? {
        Some(job) => accepted(&api, &job),
        None => no_content(),
    }
}

#[get("/v3/service_credential_bindings/{guid}/details")]
async fn details(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    ok(api.write(&caller, move |tx| bindings::details(tx, &guid)).await?)
}

#[get("/v3/service_credential_bindings/{guid}/parameters")]
async fn show_parameters(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let guid = guid.into_inner();
    let unsupported = || {
        let text = "This service does not support fetching service binding parameters.";
        Error::rule(Rule::FetchBindingParametersNotSupported, text)
    };
    let work = move |tx: &mut Tx<'_>| {
        let (binding, instance, _) = bindings::readable(tx, &guid)?;
        bindings::check_made(&binding)?;
        if binding.kind == "app" && bindings::state(&binding) == State::Going {
            return Err(bindings::in_progress(tx, &binding)?);
        }
        Ok((binding, instance))
    };
    let (binding, instance) = api.read(&caller, work).await?;
    ok(fetch_parameters(&api, &caller, binding, instance, unsupported).await?)
}

/// Asks the broker for the parameters of a binding.
///
/// # Errors
/// `unsupported` for a service that does not tell; what the broker says, when it fails.
pub async fn fetch_parameters(
    api: &Api,
    caller: &Caller,
    binding: Binding,
    instance: Instance,
    unsupported: impl Fn() -> Error,
) -> Result<Value, Failure> {
    let work = move |tx: &mut Tx<'_>| {
        let Some(offered) = bindings::offered(tx, &instance)?.filter(|offered| offered.offering.bindings_retrievable) else {
            return Ok(None);
        };
        bindings::fetch(tx, &binding, &instance, offered).map(Some)
    };
    match api.read(caller, work).await? {
        Some(call) => fetched_parameters(api, call).await,
        None => Err(unsupported().into()),
    }
}
