//! `/v3/service_brokers`

use crate::{
    api::{
        Answer, Api, accepted,
        body::{Fields, raw},
        ok, page,
        query::ListSpec,
    },
    domain::{
        Caller, Tx, audit,
        services::brokers::{self, BrokerChange, NewBroker, Updated},
    },
    store::{
        jobs::Job,
        metadata::{Described, describe_one, describe_page},
        query::List,
        service_brokers::{self as store, Broker, KIND},
    },
};
use actix_web::{
    HttpRequest, delete, get, patch, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use foundation::Secret;
use serde_json::{Map, Value, json};
use url::Url;

const LIST: ListSpec = ListSpec { filters: &["names", "space_guids"], order_by: &["name"], ..ListSpec::STANDARD };

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(create).service(index).service(show).service(update).service(remove);
}

/// A broker as the API shows it: without its credentials.
fn body(api: &Api, broker: &Described<Broker>) -> Value {
    let Described { row, metadata } = broker;
    let mut body = page::head(&row.guid, row.created_at, row.updated_at);
    body.insert("name".into(), row.name.clone().into());
    body.insert("url".into(), row.url.clone().into());
    let mut relationships = Map::new();
    let mut links = json!({
        "self": page::link(api, &format!("/v3/service_brokers/{}", row.guid)),
        "service_offerings": page::link(api, &format!("/v3/service_offerings?service_broker_guids={}", row.guid)),
    });
    if let Some(space) = &row.space_guid {
        relationships.insert("space".into(), page::to_one(Some(space)));
        links["space"] = page::link(api, &format!("/v3/spaces/{space}"));
    }
    body.insert("relationships".into(), relationships.into());
    body.insert("metadata".into(), page::metadata(metadata));
    body.insert("links".into(), links);
    body.into()
}

#[post("/v3/service_brokers")]
async fn create(api: Data<Api>, caller: Caller, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["name", "url", "authentication", "relationships", "metadata"])?;
    let (name, url) = (read_name(&mut fields), read_url(&api, &mut fields));
    for (key, given) in [("name", name.is_some()), ("url", url.is_some())] {
        if !given && !fields.has(key) {
            let label = if key == "name" { "Name" } else { "Url" };
            fields.problem(format!("{label} must be a string"));
        }
    }
    let credentials = read_authentication(&mut fields);
    if credentials.is_none() && !fields.has("authentication") {
        fields.problem("Authentication must be an object");
    }
    let space = match fields.has("relationships") {
        true => fields.relationships(&["space"], &["space"]).remove("space").flatten(),
        false => None,
    };
    let (username, password) = credentials.unwrap_or_else(|| (String::new(), Secret::new("")));
    let new = NewBroker {
        name: name.unwrap_or_default(),
        url: url.unwrap_or_default(),
        username,
        password,
        space,
        metadata: fields.metadata(),
        public: false,
        request: without_password(raw(&bytes)),
    };
    fields.finish()?;
    let job = api.write_and_wait(&caller, move |tx| brokers::create(tx, &new)).await?;
    accepted(&api, &job)
}

fn read_name(fields: &mut Fields) -> Option<String> {
    let name = fields.string("name")?;
    if name.is_empty() {
        fields.problem("Name must not be empty string");
    } else if name.chars().count() > 255 {
        fields.problem("Name is too long (maximum is 255 characters)");
    } else {
        fields.check_name("name", &name);
    }
    Some(name)
}

/// The address of a broker. What it leads to is looked at again with every request to it; this is for an early answer.
fn read_url(api: &Api, fields: &mut Fields) -> Option<String> {
    let text = fields.string("url")?;
    let parsed = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    match parsed {
        None => fields.problem(format!("Url '{text}' must be a valid url")),
        Some(url) if !url.username().is_empty() || url.password().is_some() => {
            fields.problem("Url must not contain authentication");
        }
        Some(url) if url.query().is_some() || url.fragment().is_some() => {
            fields.problem(format!("Url '{text}' must be a valid url"));
        }
        Some(url) => {
            if let Err(why) = api.config.broker_policy.way(&url) {
                fields.problem(format!("Url '{text}' is not allowed: {why}"));
            }
        }
    }
    Some(text.trim_end_matches('/').to_owned())
}

fn read_authentication(fields: &mut Fields) -> Option<(String, Secret)> {
    let given = fields.has("authentication");
    let mut inner = match fields.object("authentication", "Authentication", &["type", "credentials"]) {
        Some(inner) => inner,
        None => {
            if given && fields.is_null("authentication") {
                fields.problem("Authentication must be an object");
            }
            return None;
        }
    };
    if inner.string("type").as_deref() != Some("basic") {
        inner.problem("type must be one of [\"basic\"]");
    }
    let mut pair = (String::new(), Secret::new(""));
    match inner.object("credentials", "Authentication credentials", &["username", "password"]) {
        None => inner.problem("credentials must be an object"),
        Some(mut credentials) => {
            let (username, password) = (credentials.string("username"), credentials.string("password"));
            for (key, value) in [("username", &username), ("password", &password)] {
                if value.is_none() && !credentials.has(key) {
                    let label = if key == "username" { "Username" } else { "Password" };
                    credentials.problem(format!("Field(s) [\"{key}\"] must be valid: [\"{label} must be a string\"]"));
                }
            }
            if username.as_ref().is_some_and(|name| name.contains(':')) {
                credentials.problem("Field(s) [\"username\"] must be valid: [\"Username must not contain a colon\"]");
            }
            inner.join(credentials);
            pair = (username.unwrap_or_default(), Secret::new(password.unwrap_or_default()));
        }
    }
    fields.join(inner);
    Some(pair)
}

fn without_password(mut request: Value) -> Value {
    if let Some(password) = request.pointer_mut("/authentication/credentials/password") {
        *password = audit::HIDDEN.into();
    }
    request
}

#[get("/v3/service_brokers")]
async fn index(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    let list = LIST.parse(request.query_string())?;
    let find = move |tx: &mut Tx<'_>, asked: List| {
        let who = tx.who.clone();
        let found = store::list(tx.conn, &who, &asked)?;
        describe_page(tx.conn, KIND, found, |broker| &broker.guid)
    };
    page::answer(&api, &caller, &request, list, find, |broker| body(&api, broker)).await
}

#[get("/v3/service_brokers/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let broker = brokers::readable(tx, &guid)?;
        describe_one(tx.conn, KIND, broker, &guid)
    };
    let broker = api.read(&caller, work).await?;
    ok(body(&api, &broker))
}

#[patch("/v3/service_brokers/{guid}")]
async fn update(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["name", "url", "authentication", "metadata"])?;
    let change = BrokerChange {
        name: read_name(&mut fields),
        url: read_url(&api, &mut fields),
        credentials: read_authentication(&mut fields),
        metadata: fields.metadata(),
        public: false,
        request: without_password(raw(&bytes)),
    };
    fields.finish()?;
    match api.write_and_wait_for(&caller, move |tx| brokers::update(tx, &guid, &change), job_of).await? {
        Updated::Job(job) => accepted(&api, &job),
        Updated::Now(broker) => ok(body(&api, &broker)),
    }
}

fn job_of(updated: &Updated) -> Option<&Job> {
    match updated {
        Updated::Job(job) => Some(job),
        Updated::Now(_) => None,
    }
}

#[delete("/v3/service_brokers/{guid}")]
async fn remove(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let job = api.write_and_wait(&caller, move |tx| brokers::delete(tx, &guid)).await?;
    accepted(&api, &job)
}
