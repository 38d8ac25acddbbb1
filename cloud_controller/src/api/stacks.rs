//! `/v3/stacks`

use crate::{
    api::{
        Answer, Api,
        body::{Fields, raw},
        created, no_content, ok, page,
        query::ListSpec,
    },
    domain::{
        Caller, Tx,
        stacks::{self, NewStack, STATES, StackChange},
    },
    store::{
        self,
        metadata::{Described, describe_one, describe_page},
        query::List,
        stacks::{KIND, Stack},
    },
};
use actix_web::{
    HttpRequest, delete, get, patch, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Value, json};

const LIST: ListSpec = ListSpec { filters: &["names", "default"], order_by: &["name"], ..ListSpec::STANDARD };

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(create).service(index).service(show).service(update).service(remove);
}

fn body(api: &Api, stack: &Described<Stack>) -> Value {
    let Described { row, metadata } = stack;
    let mut body = page::head(&row.guid, row.created_at, row.updated_at);
    body.insert("name".into(), row.name.clone().into());
    body.insert("description".into(), row.description.clone().into());
    body.insert("state".into(), row.state.clone().into());
    body.insert("state_reason".into(), Some(row.state_reason.clone()).filter(|reason| !reason.is_empty()).into());
    body.insert("run_rootfs_image".into(), row.name.clone().into());
    body.insert("build_rootfs_image".into(), row.name.clone().into());
    body.insert("default".into(), row.is_default.into());
    body.insert("metadata".into(), page::metadata(metadata));
    body.insert("links".into(), json!({ "self": page::link(api, &format!("/v3/stacks/{}", row.guid)) }));
    body.into()
}

fn read_state(fields: &mut Fields) -> Option<String> {
    let state = fields.string("state");
    if state.as_deref().is_some_and(|state| !STATES.contains(&state)) {
        fields.problem(format!("State must be one of {}", STATES.join(", ")));
    }
    state
}

#[post("/v3/stacks")]
async fn create(api: Data<Api>, caller: Caller, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["name", "description", "state", "state_reason", "metadata"])?;
    let new = NewStack {
        name: fields.required("name", 250),
        description: fields.bounded("description", 250).unwrap_or_default(),
        state: read_state(&mut fields),
        state_reason: fields.bounded("state_reason", 5000).unwrap_or_default(),
        metadata: fields.metadata(),
        is_default: false,
        request: raw(&bytes),
    };
    fields.finish()?;
    let stack = api.write(&caller, move |tx| stacks::create(tx, &new)).await?;
    created(body(&api, &stack))
}

#[get("/v3/stacks")]
async fn index(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    let list = LIST.parse(request.query_string())?;
    let find = move |tx: &mut Tx<'_>, asked: List| {
        let found = store::stacks::list(tx.conn, &asked)?;
        describe_page(tx.conn, KIND, found, |stack| &stack.guid)
    };
    page::answer(&api, &caller, &request, list, find, |stack| body(&api, stack)).await
}

#[get("/v3/stacks/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let stack = stacks::find(tx, &guid)?;
        describe_one(tx.conn, KIND, stack, &guid)
    };
    let stack = api.read(&caller, work).await?;
    ok(body(&api, &stack))
}

#[patch("/v3/stacks/{guid}")]
async fn update(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["state", "state_reason", "metadata"])?;
    let given = fields.has("state_reason");
    let change = StackChange {
        state: read_state(&mut fields),
        state_reason: given.then(|| fields.string("state_reason")),
        metadata: fields.metadata(),
        request: raw(&bytes),
    };
    fields.finish()?;
    let stack = api.write(&caller, move |tx| stacks::update(tx, &guid, &change)).await?;
    ok(body(&api, &stack))
}

#[delete("/v3/stacks/{guid}")]
async fn remove(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    api.write(&caller, move |tx| stacks::delete(tx, &guid)).await?;
    no_content()
}
