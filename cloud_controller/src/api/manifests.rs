//! Manifests: applying one, comparing one, and an app as one.

use crate::{
    api::{Answer, Api, accepted},
    domain::{
        Caller, Error, Result, Tx,
        manifest::{
            Refused,
            check::{self, AppManifest, ServiceManifest},
            diff, parse, render,
        },
        manifests,
        services::bindings::{self, Progress},
    },
    store::jobs,
};
use actix_web::{
    HttpRequest, HttpResponse, get, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// How long a request waits for a manifest that binds services.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a broker may be silent when it is asked to bind: longer than a request to it may take.
const ANSWER: Duration = Duration::from_secs(90);
/// How long a broker may work on a binding.
///
/// Source: cloud_controller_ng, `app/actions/app_apply_manifest.rb`.
const POLLING: Duration = Duration::from_secs(60);
/// How often a binding is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(apply).service(difference).service(show);
}

/// Reads the body of a request as a manifest.
fn read(request: &HttpRequest, bytes: &[u8]) -> Result<Vec<Map<String, Value>>> {
    let content_type = request.headers().get("Content-Type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !matches!(kind.as_str(), "application/x-yaml" | "application/yaml" | "text/yaml" | "text/x-yaml" | "text/vnd.yaml") {
        return Err(Error::BadRequest("Content-Type must be yaml".into()));
    }
    parse::parse(bytes).map_err(refused)
}

fn refused(why: Refused) -> Error {
    use crate::domain::Rule;
    match why {
        Refused::Bad(text) => Error::BadRequest(text),
        Refused::Unreadable(text) => Error::rule(Rule::MessageParse, format!("Request invalid due to parse error: {text}")),
        Refused::Invalid(mut texts) if texts.len() == 1 => Error::Invalid(texts.remove(0)),
        Refused::Invalid(texts) => Error::InvalidEach(texts),
    }
}

#[post("/v3/spaces/{guid}/actions/apply_manifest")]
async fn apply(api: Data<Api>, caller: Caller, space: Path<String>, request: HttpRequest, bytes: Bytes) -> Answer {
    let space = space.into_inner();
    may_write(&api, &caller, &space).await?;
    let texts = read(&request, &bytes)?;
    let apps = check::check(&texts).map_err(refused)?;
    if let Some(twice) =
        apps.iter().enumerate().find_map(|(i, app)| apps[..i].iter().any(|other| other.name == app.name).then_some(app))
    {
        return Err(Error::invalid(format!("For application '{}': is in the manifest twice", twice.name)).into());
    }
    let (policy, wanted, of_space) = (api.policy.clone(), apps.clone(), space.clone());
    let guids = api.write(&caller, move |tx| manifests::create_missing(tx, &policy, &of_space, &wanted)).await?;
    let waits = apps.iter().any(|app| !app.services.is_empty());
    let begin = move |tx: &mut Tx<'_>| jobs::begin(tx, "space.apply_manifest", Some(("spaces", space.as_str())), None);
    let job = api.write(&caller, begin).await?;
    // In a task of its own: who hangs up now must not leave a manifest half-way through an app.
    let (shared, by, guid) = (api.clone(), caller.clone(), job.guid.clone());
    let task = api.tasks.spawn(async move {
        let outcome = apply_all(&shared, &by, guids, apps, texts).await;
        let end = move |tx: &mut Tx<'_>| match &outcome {
            Ok(()) => jobs::complete(tx, &guid, &[]),
            Err(why) => jobs::fail(tx, &guid, why),
        };
        shared.write(&by, end).await
    });
    if waits {
        // Brokers take their time; the job tells what comes of it.
        if let Ok(ended) = tokio::time::timeout(PATIENCE, task).await {
            ended.map_err(|e| Error::internal("applying a manifest", e))??;
        }
    } else {
        task.await.map_err(|e| Error::internal("applying a manifest", e))??;
    }
    accepted(&api, &job)
}

async fn may_write(api: &Api, caller: &Caller, space: &str) -> Result<()> {
    let space = space.to_owned();
    let work = move |tx: &mut Tx<'_>| {
        let scope = crate::domain::Scope::readable(tx, &space, "Space")?;
        scope.check(tx, scope.writes(tx))
    };
    api.read(caller, work).await
}

/// App by app, until one fails; what was done before stays.
async fn apply_all(
    api: &Api,
    caller: &Caller,
    guids: Vec<(String, String)>,
    apps: Vec<AppManifest>,
    texts: Vec<Map<String, Value>>,
) -> Result<()> {
    for (((guid, name), wanted), text) in guids.into_iter().zip(apps).zip(texts) {
        let (policy, text) = (api.policy.clone(), Value::Object(text));
        let services = wanted.services.clone();
        let of = guid.clone();
        let (app, scope) = api.write(caller, move |tx| manifests::apply(tx, &policy, &of, &wanted, &text)).await?;
        for service in services {
            bind(api, caller, &guid, &name, service).await?;
        }
        api.log.tell(&app, &scope, api.now(), &format!("Applied manifest to app with guid {}", app.guid));
    }
    Ok(())
}

/// Binds a service and waits for it.
async fn bind(api: &Api, caller: &Caller, app: &str, name: &str, service: ServiceManifest) -> Result<()> {
    let mut news = api.operations.news();
    let (guid, wanted) = (app.to_owned(), service.clone());
    let Some(binding) = api.write(caller, move |tx| manifests::bind(tx, &guid, &wanted)).await? else { return Ok(()) };
    let failed = |text: String| manifests::of_service(name, &service.name, Error::Invalid(text));
    let asked = Instant::now();
    let mut polled = None;
    loop {
        let of = binding.clone();
        let deadline = match api.read(caller, move |tx| bindings::progress(tx, &of)).await? {
            Progress::Ended => return Ok(()),
            Progress::Failed(text) => return Err(failed(text)),
            Progress::Asked => asked + ANSWER,
            Progress::Polled => *polled.get_or_insert_with(Instant::now) + POLLING,
        };
        if Instant::now() > deadline {
            return Err(failed("The service broker did not finish binding in time.".into()));
        }
        // Somebody's operation moved on, or nothing was heard for a while.
        let _ = tokio::time::timeout(LOOK, news.recv()).await;
    }
}

#[post("/v3/spaces/{guid}/manifest_diff")]
async fn difference(api: Data<Api>, caller: Caller, space: Path<String>, request: HttpRequest, bytes: Bytes) -> Answer {
    let space = space.into_inner();
    may_write(&api, &caller, &space).await?;
    let texts = read(&request, &bytes)?;
    let apps = check::check(&texts).map_err(refused)?;
    let names: Vec<String> = apps.into_iter().map(|app| app.name).collect();
    let existing = api.read(&caller, move |tx| manifests::existing(tx, &space, &names)).await?;
    let each = texts.iter().zip(&existing).enumerate();
    let found: Vec<diff::Difference> = each.flat_map(|(index, (stated, app))| diff::diff(index, stated, app.as_ref())).collect();
    Ok(HttpResponse::Created().json(json!({ "diff": found })))
}

#[get("/v3/apps/{guid}/manifest")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let document = api.read(&caller, move |tx| manifests::of(tx, &guid)).await?;
    let text = render::yaml(&document).map_err(|e| Error::internal("writing a manifest", e))?;
    Ok(HttpResponse::Ok().content_type("application/x-yaml").body(text))
}
