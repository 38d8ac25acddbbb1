//! Resources that this platform does not have yet: honest empty lists, and "not found" for each one of them.

use crate::{
    api::{Answer, Api, ok, page, query::ListSpec},
    domain::{
        Caller, Error, apps,
        processes::{self, Which},
    },
};
use actix_web::{
    HttpRequest, get,
    web::{self, Data, Path, ServiceConfig},
};

/// A collection that is always empty.
struct Absent {
    path: &'static str,
    /// As "not found" names one of them.
    name: &'static str,
    list: ListSpec,
}

const fn spec(
    filters: &'static [&'static str],
    order_by: &'static [&'static str],
    includes: &'static [&'static str],
) -> ListSpec {
    ListSpec { filters, order_by, includes, ..ListSpec::STANDARD }
}

const TASK_FILTERS: &[&str] = &["names", "states", "app_guids", "space_guids", "organization_guids"];
const GROUP_FILTERS: &[&str] =
    &["names", "running_space_guids", "staging_space_guids", "globally_enabled_running", "globally_enabled_staging"];

static ALL: [Absent; 4] = [
    Absent {
        path: "isolation_segments",
        name: "Isolation segment",
        list: spec(&["names", "organization_guids"], &["name"], &[]),
    },
    Absent {
        path: "security_groups",
        name: "Security group",
        list: ListSpec { filters: GROUP_FILTERS, labels: false, unprocessable: true, ..ListSpec::STANDARD },
    },
    Absent {
        path: "deployments",
        name: "Deployment",
        list: spec(&["app_guids", "states", "status_values", "status_reasons"], &[], &[]),
    },
    Absent { path: "tasks", name: "Task", list: spec(TASK_FILTERS, &[], &[]) },
];

/// Registers these resources.
pub fn routes(config: &mut ServiceConfig) {
    for absent in &ALL {
        let list = move |api: Data<Api>, caller: Caller, request: HttpRequest| empty(api, caller, request, absent);
        config.route(&format!("/v3/{}", absent.path), web::get().to(list));
        let one = move |caller: Caller| missing(caller, absent.name);
        config.route(&format!("/v3/{}/{{guid}}", absent.path), web::get().to(one));
    }
    config.route(
        "/v3/isolation_segments/{guid}/organizations",
        web::get().to(|caller: Caller| missing(caller, "Isolation segment")),
    );
    config.service(app_tasks).service(app_revisions).service(deployed_revisions).service(app_sidecars).service(process_sidecars);
}

const APP_TASKS: ListSpec = spec(&["names", "states", "sequence_ids"], &[], &[]);
const REVISIONS: ListSpec = spec(&["versions", "deployable"], &[], &[]);
const SIDECARS: ListSpec = ListSpec { labels: false, ..ListSpec::STANDARD };

#[get("/v3/apps/{guid}/tasks")]
async fn app_tasks(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    of_app(&api, &caller, guid.into_inner(), &request, &APP_TASKS).await
}
#[get("/v3/apps/{guid}/revisions")]
async fn app_revisions(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    of_app(&api, &caller, guid.into_inner(), &request, &REVISIONS).await
}
#[get("/v3/apps/{guid}/revisions/deployed")]
async fn deployed_revisions(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    of_app(&api, &caller, guid.into_inner(), &request, &SIDECARS).await
}
#[get("/v3/apps/{guid}/sidecars")]
async fn app_sidecars(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    of_app(&api, &caller, guid.into_inner(), &request, &SIDECARS).await
}
#[get("/v3/processes/{guid}/sidecars")]
async fn process_sidecars(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    let list = SIDECARS.parse(request.query_string())?;
    let which = Which::Guid(guid.into_inner());
    api.read(&caller, move |tx| processes::readable(tx, &which).map(drop)).await?;
    ok(page::empty(&api, request.path(), request.query_string(), &list))
}

/// The empty list of something that an app would have.
async fn of_app(api: &Api, caller: &Caller, app: String, request: &HttpRequest, spec: &ListSpec) -> Answer {
    let list = spec.parse(request.query_string())?;
    api.read(caller, move |tx| apps::readable(tx, &app).map(drop)).await?;
    ok(page::empty(api, request.path(), request.query_string(), &list))
}

async fn empty(api: Data<Api>, _: Caller, request: HttpRequest, absent: &'static Absent) -> Answer {
    let list = absent.list.parse(request.query_string())?;
    ok(page::empty(&api, request.path(), request.query_string(), &list))
}

async fn missing(_: Caller, name: &'static str) -> Answer {
    Err(Error::NotFound(name).into())
}
