//! `/v3/users`

use crate::{
    api::{Answer, Api, accepted, body::Fields, created, ok, page, query::ListSpec},
    domain::{Caller, Error, Result, Rule, Tx, metadata::MetadataChange},
    outside::{Identity, LookupError},
    store::{
        jobs,
        metadata::{self, Described, describe_one, describe_page},
        query::{List, Listed},
        users::{self, Among, KIND, User},
    },
};
use actix_web::{
    HttpRequest, delete, get, patch, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Value, json};

/// What lists of users understand.
pub const LIST: ListSpec =
    ListSpec { filters: &["usernames", "partial_usernames", "origins"], unprocessable: true, ..ListSpec::STANDARD };

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(create).service(index).service(show).service(update).service(remove);
}

/// A user as the API shows it.
pub fn body(api: &Api, user: &Described<User>) -> Value {
    let Described { row, metadata } = user;
    let mut body = page::head(&row.guid, row.created_at, row.updated_at);
    body.insert("username".into(), row.username.clone().into());
    body.insert("presentation_name".into(), row.username.clone().unwrap_or_else(|| row.guid.clone()).into());
    body.insert("origin".into(), row.origin.clone().into());
    body.insert("metadata".into(), page::metadata(metadata));
    body.insert("links".into(), json!({ "self": page::link(api, &format!("/v3/users/{}", row.guid)) }));
    body.into()
}

/// A page of users with their metadata.
pub fn described(tx: &mut Tx<'_>, among: &Among, list: &crate::store::query::List) -> Result<Listed<Described<User>>> {
    let who = tx.who.clone();
    let found = users::list(tx.conn, &who, among, list)?;
    describe_page(tx.conn, KIND, found, |user| &user.guid)
}

/// UAA does not answer: the caller may try again.
pub fn unavailable(cause: &LookupError) -> Error {
    tracing::warn!(error = cause as &dyn std::error::Error, "users cannot be looked up");
    Error::rule(Rule::UaaUnavailable, "The UAA service is currently unavailable")
}

#[post("/v3/users")]
async fn create(api: Data<Api>, caller: Caller, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["guid", "username", "origin", "metadata"])?;
    let (guid, name, origin) = (fields.bounded("guid", 200), fields.bounded("username", 255), fields.bounded("origin", 255));
    match (&guid, &name, &origin) {
        (Some(_), Some(_), _) => fields.problem("Username cannot be provided with 'guid'"),
        (_, None, Some(_)) => fields.problem("Origin can only be provided together with 'username'"),
        (_, Some(_), Some(origin)) if origin == "uaa" => {
            fields.problem("Origin cannot be 'uaa' when creating a user by username")
        }
        (Some(_), None, None) | (None, Some(_), Some(_)) => {}
        _ => fields.problem("Guid or 'username' and 'origin' must be provided"),
    }
    let metadata = fields.metadata();
    fields.finish()?;
    if !caller.admin {
        return Err(Error::Forbidden.into());
    }
    let identity = match (guid, name, origin) {
        (Some(guid), _, _) => {
            let found = api.identities.by_guid(&guid).await;
            // The platform can do without the name: it comes with the user's first request.
            let found = found.unwrap_or_else(|e| {
                tracing::warn!(error = &e as &dyn std::error::Error, "a user is made without its name");
                None
            });
            (guid, found.map(|user| (user.username, user.origin)))
        }
        (None, Some(name), Some(origin)) => {
            let all = api.identities.by_name(&name).await.map_err(|e| unavailable(&e))?;
            let text = format!("No user exists with the username '{name}' and origin '{origin}'.");
            let user = all.into_iter().find(|user| user.origin == origin).ok_or_else(|| Error::invalid(text))?;
            (user.guid, Some((user.username, user.origin)))
        }
        _ => return Err(Error::invalid("Guid or 'username' and 'origin' must be provided").into()),
    };
    let user = api.write(&caller, move |tx| insert(tx, &identity.0, identity.1.as_ref(), &metadata)).await?;
    created(body(&api, &user))
}

fn insert(tx: &mut Tx<'_>, guid: &str, named: Option<&(String, String)>, change: &MetadataChange) -> Result<Described<User>> {
    if users::find(tx.conn, guid)?.is_some() {
        return Err(Error::invalid(format!("User with guid '{guid}' already exists.")));
    }
    let now = tx.micros();
    users::know(tx.conn, guid, named.map(|n| n.0.as_str()), named.map(|n| n.1.as_str()), now)?;
    let metadata = change.apply(tx, KIND, guid)?;
    let row = users::find(tx.conn, guid)?.ok_or(Error::NotFound("User"))?;
    Ok(Described { row, metadata })
}

#[get("/v3/users")]
async fn index(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    let list = LIST.parse(request.query_string())?;
    if list.values("usernames").is_some() && list.values("partial_usernames").is_some() {
        return Err(Error::invalid("Usernames cannot be provided with both usernames and partial_usernames").into());
    }
    if list.values("origins").is_some() && list.values("usernames").is_none() && list.values("partial_usernames").is_none() {
        return Err(Error::invalid("Origins filter cannot be provided without usernames or partial_usernames filter.").into());
    }
    let find = |tx: &mut Tx<'_>, asked: List| described(tx, &Among::Visible, &asked);
    page::answer(&api, &caller, &request, list, find, |user| body(&api, user)).await
}

fn visible(tx: &mut Tx<'_>, guid: &str) -> Result<User> {
    let who = tx.who.clone();
    users::find_visible(tx.conn, &who, guid)?.ok_or(Error::NotFound("User"))
}

#[get("/v3/users/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let user = visible(tx, &guid)?;
        describe_one(tx.conn, KIND, user, &guid)
    };
    let user = api.read(&caller, work).await?;
    ok(body(&api, &user))
}

#[patch("/v3/users/{guid}")]
async fn update(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["metadata"])?;
    let change = fields.metadata();
    fields.finish()?;
    let work = move |tx: &mut Tx<'_>| {
        let row = visible(tx, &guid)?;
        tx.who.require_admin()?;
        Ok(Described { metadata: change.apply(tx, KIND, &guid)?, row })
    };
    let user = api.write(&caller, work).await?;
    ok(body(&api, &user))
}

#[delete("/v3/users/{guid}")]
async fn remove(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        visible(tx, &guid)?;
        tx.who.require_admin()?;
        metadata::forget(tx.conn, KIND, &[guid.to_string()])?;
        users::delete(tx.conn, &guid)?;
        jobs::done(tx, "user.delete", Some(("users", &guid)))
    };
    let job = api.write(&caller, work).await?;
    // Its next request with a token that is still good makes the row anew.
    api.forget_known_users();
    accepted(&api, &job)
}

/// Finds the one user of this name.
///
/// # Errors
/// In the contract's words when there is none, or more than one.
pub async fn find_one(api: &Api, name: &str, origin: Option<&str>) -> Result<Identity> {
    let mut all = api.identities.by_name(name).await.map_err(|e| unavailable(&e))?;
    if let Some(origin) = origin {
        all.retain(|user| user.origin == origin);
    }
    if all.len() > 1 {
        let mut origins: Vec<String> = all.into_iter().map(|user| user.origin).collect();
        origins.sort();
        let listed = origins.join(", ");
        let lead = format!("Ambiguous user. User with username '{name}' exists in the following origins: {listed}.");
        return Err(Error::invalid(format!("{lead} Specify an origin to disambiguate.")));
    }
    let text = match origin {
        Some(origin) => format!("No user exists with the username '{name}' and origin '{origin}'."),
        None => format!("No user exists with the username '{name}'."),
    };
    all.pop().ok_or_else(|| Error::invalid(text))
}
