//! A small broker that keeps the whole contract, with a switch for each way of breaking it.
//!
//! Three offerings: a database (one plan made at once, one asynchronously), logs (nothing can be fetched, bindings are log drains)
//! and batch jobs (not bindable). Asynchronous operations end after a number of polls, so that nothing depends on time.

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, http::StatusCode, rt, web};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

pub(crate) const USER: &str = "platform";
pub(crate) const PASSWORD: &str = "s3cret: with ü";
/// Polls that an operation takes.
const POLLS: u32 = 3;

/// How a broker is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Only what checkers of 2.15 know.
    Legacy,
    // Authentication and headers.
    AnybodyMayEnter,
    AnyPasswordWorks,
    Forbids403,
    VersionBeforeLogin,
    VersionIgnored,
    MajorVersionIgnored,
    NewerMinorRefused,
    VersionAfterIds,
    IdentityRefused,
    RequestIdentityLost,
    TraceHeaderRefused,
    // Catalog.
    CatalogIsAnError,
    CatalogIsHtml,
    CatalogIsHuge,
    CatalogHangs,
    CatalogMoved,
    CatalogWithoutServices,
    FreeIsText,
    IdsChange,
    NameWithSpace,
    EtagBreaks,
    // Provisioning.
    ServiceIdOptional,
    OrganizationOptional,
    UnknownPlanIs404,
    ForeignPlanTaken,
    WrongTypeIs500,
    BadJsonIs422,
    MaintenanceIgnored,
    MaintenanceWordless,
    SchemaIgnored,
    RefusesButMakes,
    AsyncWithoutFlag,
    AsyncRequiredWordless,
    NewIs200,
    RepeatIs201,
    RepeatInProgressIs200,
    RepeatHasNewOperation,
    UnknownFieldsRefused,
    SpaceNotCompared,
    PlanNotCompared,
    ParametersNotCompared,
    DashboardIsNumber,
    InstanceHangs,
    // Operations.
    ConcurrencyWordless,
    StateMisspelled,
    GoneWhileCreating,
    NeverEnds,
    ProvisionFails,
    OperationIsNumber,
    OperationTooLong,
    RetryAfterIsDate,
    ForgetsOperation,
    HintsDemanded,
    // Fetching.
    FetchUnknownIs200,
    FetchInProgressIs200,
    DashboardNullInFetch,
    FetchesOtherPlan,
    // Updating.
    UpdateToUnknownPlan,
    RefusedUpdateApplies,
    UpdateIs201,
    UpdateAsyncWordless,
    ContextUpdateRefused,
    PlanChangeLies,
    // Binding.
    BindWithoutPlan,
    NewBindingIs200,
    CredentialsAreText,
    CredentialsIn202,
    UndeclaredDrain,
    NothingBound,
    ExpiryIsNumber,
    PortsAreNumbers,
    CredentialsShared,
    DrainNullInFetch,
    BindingInProgressIs200,
    BindRepeatIs409,
    BindRepeatChanges,
    AppNotCompared,
    RequiresAppWordless,
    RotationRefused,
    RotationRevokes,
    NotBindableBinds,
    BindHangs,
    // Removing.
    UnbindWithoutServiceId,
    UnbindIs204,
    UnbindAgainIs200,
    UnknownIs404,
    UnknownIs200,
    DeprovisionWithoutPlanId,
    DeprovisionKeeps,
    DeprovisionNeverEnds,
    CancelIs409,
    SyncRemovalIs202,
    // Everywhere.
    OddIdsRefused,
    ErrorsSilent,
    ErrorIsNumber,
    RepeatableEverywhere,
    ContentTypeIsText,
    EmptyRemovals,
}

use Flaw as F;

/// Serves one broker for each flaw, below its name, and says where.
pub(crate) fn serve(flaws: &[Flaw]) -> String {
    let brokers: BTreeMap<String, Arc<Broker>> =
        flaws.iter().map(|flaw| (format!("{flaw:?}"), Arc::new(Broker::new(*flaw)))).collect();
    let brokers = web::Data::new(brokers);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let server = HttpServer::new(move || {
            App::new().app_data(brokers.clone()).app_data(web::PayloadConfig::new(1 << 20)).default_service(web::to(handle))
        });
        rt::System::new().block_on(server.workers(2).disable_signals().listen(listener).unwrap().run()).unwrap();
    });
    format!("http://{address}")
}

async fn handle(request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let mut segments = request.uri().path().trim_start_matches('/').split('/').map(decode);
    let brokers: &web::Data<BTreeMap<String, Arc<Broker>>> = request.app_data().unwrap();
    let broker = brokers[&segments.next().unwrap()].clone();
    let query = url::form_urlencoded::parse(request.query_string().as_bytes()).into_owned().collect();
    let headers =
        request.headers().iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let ask = Ask {
        method: request.method().to_string(),
        path: segments.collect(),
        query,
        headers: headers.collect(),
        body: body.to_vec(),
    };
    let reply = broker.answer(&ask);
    if let Some(pause) = reply.pause {
        rt::time::sleep(pause).await;
    }
    let mut answer = HttpResponse::build(StatusCode::from_u16(reply.status).unwrap());
    for (name, value) in reply.headers {
        answer.insert_header((name, value));
    }
    answer.body(reply.body)
}

fn decode(segment: &str) -> String {
    // a path is no form: a plus is a plus
    let query = format!("x={}", segment.replace('+', "%2B"));
    url::form_urlencoded::parse(query.as_bytes()).next().unwrap().1.into_owned()
}

struct Ask {
    method: String,
    path: Vec<String>,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    pause: Option<Duration>,
}

fn reply(status: u16, body: Value) -> Reply {
    Reply { status, headers: vec![("Content-Type", "application/json".into())], body: body.to_string(), pause: None }
}

fn error(status: u16, word: Option<&str>, description: &str) -> Reply {
    let mut body = json!({"description": description});
    if let Some(word) = word {
        body["error"] = json!(word);
    }
    reply(status, body)
}

/// What has to be the same for a repeat to be a repeat.
#[derive(Clone, Debug, PartialEq)]
struct Same {
    service: String,
    plan: String,
    organization: Value,
    space: Value,
    app: Value,
    parameters: Value,
}

#[derive(Clone, Debug, PartialEq)]
enum Work {
    Create,
    Update { plan: String, parameters: Value },
    Delete,
}

#[derive(Clone, Debug)]
struct Operation {
    id: String,
    work: Work,
    left: u32,
}

#[derive(Clone, Debug)]
struct Thing {
    same: Same,
    ready: bool,
    deleted: bool,
    plan: String,
    parameters: Value,
    operation: Option<Operation>,
    body: Value,
}

#[derive(Default)]
struct State {
    /// Instances by (id, ""), bindings by (instance, id); removed ones are kept for polls.
    things: BTreeMap<(String, String), Thing>,
    operations: u32,
    catalogs: u32,
    revoked: Vec<String>,
}

/// A broker and all it knows.
pub(crate) struct Broker {
    flaw: Flaw,
    state: Mutex<State>,
}

impl Broker {
    fn new(flaw: Flaw) -> Self {
        Self { flaw, state: Mutex::default() }
    }

    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn answer(&self, ask: &Ask) -> Reply {
        let mut state = self.state.lock().unwrap();
        let mut answer = self.route(&mut state, ask);
        if answer.status == 400 && self.is(F::ErrorIsNumber) {
            answer.body = r#"{"error": 42, "description": "no"}"#.into();
        }
        if answer.status == 400 && self.is(F::ErrorsSilent) {
            answer.body = "{}".into();
        }
        if answer.status == 400 && self.is(F::RepeatableEverywhere) {
            answer.body = r#"{"description": "no", "update_repeatable": true}"#.into();
        }
        if self.is(F::ContentTypeIsText) {
            answer.headers[0].1 = "text/plain".into();
        }
        if answer.status == 200 && ask.method == "DELETE" && self.is(F::EmptyRemovals) {
            answer.body.clear();
        }
        if let (Some(identity), false) = (ask.headers.get("x-broker-api-request-identity"), self.is(F::RequestIdentityLost)) {
            answer.headers.push(("X-Broker-API-Request-Identity", identity.clone()));
        }
        answer
    }

    fn login(&self, ask: &Ask) -> Option<Reply> {
        let given = ask.headers.get("authorization").and_then(|value| STANDARD.decode(value.strip_prefix("Basic ")?).ok());
        let given = given.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        let right = match self.flaw {
            F::AnybodyMayEnter => true,
            F::AnyPasswordWorks => given.starts_with(&format!("{USER}:")),
            _ => given == format!("{USER}:{PASSWORD}"),
        };
        let status = if self.is(F::Forbids403) { 403 } else { 401 };
        (!right).then(|| error(status, None, "who are you?"))
    }

    fn version(&self, ask: &Ask) -> Option<Reply> {
        let refuse = || Some(error(412, None, "X-Broker-API-Version must be 2.13 or newer"));
        if self.is(F::VersionIgnored) {
            return None;
        }
        let Some((major, minor)) = ask.headers.get("x-broker-api-version").and_then(|text| text.split_once('.')) else {
            return refuse();
        };
        let (Ok(major), Ok(minor)) = (major.parse::<u32>(), minor.parse::<u32>()) else { return refuse() };
        match (major, minor) {
            (2, 18..) if self.is(F::NewerMinorRefused) => refuse(),
            (2, 13..) => None,
            _ if self.is(F::MajorVersionIgnored) => None,
            _ => refuse(),
        }
    }

    fn route(&self, state: &mut State, ask: &Ask) -> Reply {
        let (login, version) = (self.login(ask), self.version(ask));
        let first = if self.is(F::VersionBeforeLogin) { version.or(login) } else { login.or(version) };
        let path: Vec<_> = ask.path.iter().map(String::as_str).collect();
        if let Some(refusal) = first {
            let ids_first = self.is(F::VersionAfterIds) && refusal.status == 412 && ask.method == "DELETE";
            return if ids_first { reply(410, json!({})) } else { refusal };
        }
        if self.is(F::IdentityRefused) && ask.headers.contains_key("x-broker-api-originating-identity") {
            return error(400, None, "who is that?");
        }
        if self.is(F::TraceHeaderRefused) && ask.headers.contains_key("x-b3-traceid") {
            return error(400, None, "no tracing here");
        }
        if self.is(F::OddIdsRefused) && path.iter().any(|segment| segment.contains('+')) {
            return error(400, None, "ids are letters, digits and hyphens");
        }
        match (ask.method.as_str(), &path[..]) {
            ("GET", ["v2", "catalog"]) => self.catalog(state, ask),
            ("PUT", ["v2", "service_instances", id]) => self.provision(state, ask, id),
            ("GET", ["v2", "service_instances", id]) => self.fetch(state, id),
            ("PATCH", ["v2", "service_instances", id]) => self.update(state, ask, id),
            ("DELETE", ["v2", "service_instances", id]) => self.remove(state, ask, id, ""),
            ("GET", ["v2", "service_instances", id, "last_operation"]) => self.poll(state, ask, id, ""),
            ("PUT", ["v2", "service_instances", id, "service_bindings", binding]) => self.bind(state, ask, id, binding),
            ("GET", ["v2", "service_instances", id, "service_bindings", binding]) => self.fetch_binding(state, id, binding),
            ("DELETE", ["v2", "service_instances", id, "service_bindings", binding]) => self.remove(state, ask, id, binding),
            ("GET", ["v2", "service_instances", id, "service_bindings", binding, "last_operation"]) => {
                self.poll(state, ask, id, binding)
            }
            _ => error(404, None, "no such route"),
        }
    }

    fn catalog(&self, state: &mut State, ask: &Ask) -> Reply {
        state.catalogs += 1;
        let mut catalog = catalog(self.is(F::Legacy));
        match self.flaw {
            F::CatalogIsAnError => return error(500, None, "out of order"),
            F::CatalogIsHtml => return Reply { body: "<html>Welcome</html>".into(), ..reply(200, json!({})) },
            F::CatalogIsHuge => return Reply { body: "x".repeat(10 << 20), ..reply(200, json!({})) },
            F::CatalogHangs => return Reply { pause: Some(Duration::from_secs(60)), ..reply(200, catalog) },
            F::CatalogMoved => {
                return Reply {
                    headers: vec![("Location", "https://elsewhere.example.com/v2/catalog".into())],
                    ..reply(302, json!({}))
                };
            }
            F::CatalogWithoutServices => return reply(200, json!({"offerings": []})),
            F::FreeIsText => catalog["services"][0]["plans"][0]["free"] = json!("yes"),
            F::IdsChange => catalog["services"][2]["plans"][0]["id"] = json!(format!("batch-{}", state.catalogs)),
            F::NameWithSpace => catalog["services"][1]["name"] = json!("check logs"),
            F::EtagBreaks if ask.headers.contains_key("if-none-match") => return error(500, None, "what is that?"),
            _ => {}
        }
        let mut answer = reply(200, catalog);
        if self.is(F::EtagBreaks) {
            answer.headers.push(("ETag", "\"1\"".into()));
        }
        answer
    }

    /// The body and the plan that it is about, or why not.
    fn read(&self, ask: &Ask, provisioning: bool) -> Result<(Map<String, Value>, Value, Value), Reply> {
        let bad = |why: &str| error(400, None, why);
        let bad_json = if self.is(F::BadJsonIs422) { 422 } else { 400 };
        let body: Value = serde_json::from_slice(&ask.body).map_err(|_| error(bad_json, None, "not JSON"))?;
        let body = body.as_object().cloned().ok_or_else(|| bad("not an object"))?;
        let wrong_type = if self.is(F::WrongTypeIs500) { 500 } else { 400 };
        for (field, right) in [
            ("service_id", Value::is_string as fn(&Value) -> bool),
            ("plan_id", Value::is_string),
            ("parameters", Value::is_object),
            ("bind_resource", Value::is_object),
        ] {
            if body.get(field).is_some_and(|value| !right(value)) {
                return Err(error(wrong_type, None, &format!("{field} has a wrong type")));
            }
        }
        let text = |field: &str| body.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (mut service_id, mut plan_id) = (text("service_id"), text("plan_id"));
        let catalog = catalog(false);
        let services = catalog["services"].as_array().unwrap();
        if service_id.is_empty() && self.is(F::ServiceIdOptional) {
            let of_plan = services
                .iter()
                .find(|service| service["plans"].as_array().unwrap().iter().any(|plan| plan["id"] == plan_id.as_str()));
            service_id = of_plan.map(|service| service["id"].as_str().unwrap().to_owned()).unwrap_or_default();
        }
        let service =
            services.iter().find(|service| service["id"] == service_id.as_str()).ok_or_else(|| bad("no such service_id"))?;
        if plan_id.is_empty() && !provisioning && self.is(F::BindWithoutPlan) {
            plan_id = service["plans"][0]["id"].as_str().unwrap().to_owned();
        }
        if self.is(F::IdsChange) && plan_id.starts_with("batch-") {
            plan_id = "batch-plan".into();
        }
        let everywhere = services.iter().flat_map(|service| service["plans"].as_array().unwrap());
        let own = service["plans"].as_array().unwrap().iter();
        let found = if self.is(F::ForeignPlanTaken) {
            everywhere.clone().find(|plan| plan["id"] == plan_id.as_str())
        } else {
            own.clone().find(|plan| plan["id"] == plan_id.as_str())
        };
        let unknown = if provisioning
            && self.is(F::UnknownPlanIs404)
            && !everywhere.clone().any(|plan| plan["id"] == plan_id.as_str())
            && !plan_id.is_empty()
        {
            404
        } else {
            400
        };
        let plan = found.ok_or_else(|| error(unknown, None, "no such plan_id"))?;
        Ok((body.clone(), service.clone(), plan.clone()))
    }

    fn maintenance(&self, body: &Map<String, Value>, plan: &Value) -> Option<Reply> {
        let sent = body.get("maintenance_info")?.get("version")?;
        if self.is(F::MaintenanceIgnored) || plan["maintenance_info"]["version"] == *sent {
            return None;
        }
        let word = (!self.is(F::MaintenanceWordless)).then_some("MaintenanceInfoConflict");
        Some(error(422, word, "the catalog has changed"))
    }

    fn schema(&self, plan: &Value, pointer: &str, parameters: &Value) -> Option<Reply> {
        let schema = plan.pointer(pointer)?;
        let keeps = parameters.is_null() || osb::schema::check(schema, parameters).is_empty();
        (!keeps && !self.is(F::SchemaIgnored)).then(|| error(400, None, "the parameters break the schema"))
    }

    fn operation(&self, state: &mut State, work: Work) -> Operation {
        state.operations += 1;
        Operation { id: format!("op {}/ü", state.operations), work, left: POLLS }
    }

    fn accepted(&self, operation: &Operation, mut body: Value) -> Reply {
        body["operation"] = match self.flaw {
            F::OperationIsNumber => json!(7),
            F::OperationTooLong => json!(operation.id.repeat(2_000)),
            _ => json!(operation.id),
        };
        reply(202, body)
    }

    fn async_required(&self, wordless: bool) -> Reply {
        error(422, (!wordless).then_some("AsyncRequired"), "this plan needs accepts_incomplete=true")
    }

    fn busy(&self) -> Reply {
        let word = (!self.is(F::ConcurrencyWordless)).then_some("ConcurrencyError");
        error(422, word, "another operation is in progress")
    }

    fn provision(&self, state: &mut State, ask: &Ask, id: &str) -> Reply {
        let (body, service, plan) = match self.read(ask, true) {
            Ok(read) => read,
            Err(refusal) => return refusal,
        };
        for field in ["organization_guid", "space_guid"] {
            let optional = field == "organization_guid" && self.is(F::OrganizationOptional);
            if body.get(field).and_then(Value::as_str).unwrap_or_default().is_empty() && !optional {
                if field == "space_guid" && self.is(F::RefusesButMakes) {
                    self.make(state, id, &body, &plan);
                }
                return error(400, None, &format!("{field} is missing"));
            }
        }
        if self.is(F::UnknownFieldsRefused) && body.contains_key("x-broker-check") {
            return error(400, None, "unknown field");
        }
        if self.is(F::InstanceHangs) {
            return Reply { pause: Some(Duration::from_secs(60)), ..error(500, None, "too late") };
        }
        let parameters = body.get("parameters").cloned().unwrap_or(Value::Null);
        if let Some(refusal) = self
            .maintenance(&body, &plan)
            .or_else(|| self.schema(&plan, "/schemas/service_instance/create/parameters", &parameters))
        {
            return refusal;
        }
        let asynchronous = plan["id"] == "db-large";
        if asynchronous && !incomplete(ask) && !self.is(F::AsyncWithoutFlag) {
            return self.async_required(self.is(F::AsyncRequiredWordless));
        }
        let same = self.same(&body, &service, &plan);
        let key = (id.to_owned(), String::new());
        let dashboard = json!({"dashboard_url": if self.is(F::DashboardIsNumber) { json!(5) } else { json!(format!("https://dashboard.example.com/{id}")) }});
        if let Some(thing) = state.things.get(&key).filter(|thing| !thing.deleted).cloned() {
            if thing.same != same {
                return error(409, None, "another instance has this id");
            }
            return match (&thing.operation, thing.ready) {
                (Some(_), false) if self.is(F::RepeatInProgressIs200) => reply(200, dashboard),
                (Some(_), false) if self.is(F::RepeatHasNewOperation) => {
                    let operation = self.operation(state, Work::Create);
                    let answer = self.accepted(&operation, dashboard);
                    state.things.get_mut(&key).unwrap().operation = Some(operation);
                    answer
                }
                (Some(operation), false) => self.accepted(operation, dashboard),
                _ => reply(if self.is(F::RepeatIs201) { 201 } else { 200 }, dashboard),
            };
        }
        self.make(state, id, &body, &plan);
        state.things.get_mut(&key).unwrap().same = same;
        if asynchronous {
            let operation = self.operation(state, Work::Create);
            let answer = self.accepted(&operation, dashboard);
            let thing = state.things.get_mut(&key).unwrap();
            (thing.ready, thing.operation) = (false, Some(operation));
            return answer;
        }
        let mut body = dashboard;
        if !self.is(F::Legacy) {
            body["metadata"] = json!({"labels": {"host": "db-1"}, "attributes": {}});
        }
        reply(if self.is(F::NewIs200) { 200 } else { 201 }, body)
    }

    fn make(&self, state: &mut State, id: &str, body: &Map<String, Value>, plan: &Value) {
        let parameters = body.get("parameters").cloned().unwrap_or_else(|| json!({}));
        let thing = Thing {
            same: self.same(body, &Value::Null, plan),
            ready: true,
            deleted: false,
            plan: plan["id"].as_str().unwrap().to_owned(),
            parameters,
            operation: None,
            body: Value::Null,
        };
        state.things.insert((id.to_owned(), String::new()), thing);
    }

    fn same(&self, body: &Map<String, Value>, service: &Value, plan: &Value) -> Same {
        let field =
            |name: &str, unless: Flaw| if self.is(unless) { Value::Null } else { body.get(name).cloned().unwrap_or(Value::Null) };
        let app = body.get("bind_resource").and_then(|resource| resource.get("app_guid")).cloned().unwrap_or(Value::Null);
        Same {
            service: service["id"].as_str().unwrap_or_default().to_owned(),
            plan: if self.is(F::PlanNotCompared) { String::new() } else { plan["id"].as_str().unwrap().to_owned() },
            organization: body.get("organization_guid").cloned().unwrap_or(Value::Null),
            space: field("space_guid", F::SpaceNotCompared),
            app: if self.is(F::AppNotCompared) { Value::Null } else { app },
            parameters: field("parameters", F::ParametersNotCompared),
        }
    }

    fn fetch(&self, state: &State, id: &str) -> Reply {
        let unknown = if self.is(F::FetchUnknownIs200) { reply(200, json!({})) } else { error(404, None, "no such instance") };
        let Some(thing) = state.things.get(&(id.to_owned(), String::new())) else { return unknown };
        if thing.deleted && !self.is(F::DeprovisionKeeps) {
            return unknown;
        }
        if !thing.ready && !self.is(F::FetchInProgressIs200) {
            return error(404, None, "it is being made");
        }
        if thing.ready && thing.operation.as_ref().is_some_and(|operation| operation.left > 0 && operation.work != Work::Create) {
            return self.busy();
        }
        let mut body = json!({
            "service_id": thing.same.service, "plan_id": thing.plan, "parameters": thing.parameters,
            "dashboard_url": format!("https://dashboard.example.com/{id}"),
        });
        if self.is(F::DashboardIsNumber) {
            body.as_object_mut().unwrap().remove("dashboard_url");
        }
        match self.flaw {
            F::DashboardNullInFetch => body["dashboard_url"] = Value::Null,
            F::FetchesOtherPlan => body["plan_id"] = json!("another"),
            _ => {}
        }
        reply(200, body)
    }

    fn update(&self, state: &mut State, ask: &Ask, id: &str) -> Reply {
        let key = (id.to_owned(), String::new());
        let Some(thing) = state.things.get(&key).filter(|thing| !thing.deleted).cloned() else {
            return error(404, None, "no such instance");
        };
        let Ok(Value::Object(mut body)) = serde_json::from_slice(&ask.body) else { return error(400, None, "not JSON") };
        let plan_given = body.contains_key("plan_id");
        body.entry("plan_id").or_insert_with(|| json!(thing.plan));
        let with_plan = Ask {
            body: Value::Object(body.clone()).to_string().into_bytes(),
            method: ask.method.clone(),
            path: vec![],
            query: ask.query.clone(),
            headers: BTreeMap::new(),
        };
        let (body, _, plan) = match self.read(&with_plan, false) {
            Ok(read) => read,
            Err(_) if self.is(F::UpdateToUnknownPlan) && body.contains_key("service_id") => return reply(200, json!({})),
            Err(refusal) => {
                if self.is(F::RefusedUpdateApplies) {
                    state.things.get_mut(&key).unwrap().parameters = json!({"size": 99});
                }
                return refusal;
            }
        };
        if !thing.ready {
            return self.busy();
        }
        let parameters = body.get("parameters").cloned().unwrap_or(Value::Null);
        if let Some(refusal) = self
            .maintenance(&body, &plan)
            .or_else(|| self.schema(&plan, "/schemas/service_instance/update/parameters", &parameters))
        {
            return refusal;
        }
        let target = plan["id"].as_str().unwrap().to_owned();
        if self.is(F::ContextUpdateRefused) && !plan_given {
            return error(422, None, "nothing to update");
        }
        if self.is(F::PlanChangeLies) && target != thing.plan {
            return reply(200, json!({}));
        }
        if thing.plan == "db-large" {
            if !incomplete(ask) {
                return self.async_required(self.is(F::UpdateAsyncWordless));
            }
            let work = Work::Update { plan: target, parameters };
            if let Some(operation) = thing.operation.filter(|operation| operation.left > 0) {
                return if operation.work == work { self.accepted(&operation, json!({})) } else { self.busy() };
            }
            let operation = self.operation(state, work);
            let answer = self.accepted(&operation, json!({}));
            state.things.get_mut(&key).unwrap().operation = Some(operation);
            return answer;
        }
        let thing = state.things.get_mut(&key).unwrap();
        thing.plan = target;
        if parameters.is_object() {
            thing.parameters = parameters;
        }
        reply(if self.is(F::UpdateIs201) { 201 } else { 200 }, json!({}))
    }

    fn bind(&self, state: &mut State, ask: &Ask, id: &str, binding: &str) -> Reply {
        let Some(instance) = state.things.get(&(id.to_owned(), String::new())).filter(|thing| !thing.deleted).cloned() else {
            return error(404, None, "no such instance");
        };
        let body: Value = serde_json::from_slice(&ask.body).unwrap_or_default();
        if let Some(predecessor) = body["predecessor_binding_id"].as_str() {
            return self.rotate(state, id, predecessor, binding);
        }
        let (body, service, plan) = match self.read(ask, false) {
            Ok(read) => read,
            Err(refusal) => return refusal,
        };
        if service["bindable"] == false && !self.is(F::NotBindableBinds) {
            return error(400, None, "not bindable");
        }
        if self.is(F::BindHangs) {
            return Reply { pause: Some(Duration::from_secs(60)), ..error(500, None, "too late") };
        }
        if !instance.ready {
            return self.busy();
        }
        let parameters = body.get("parameters").cloned().unwrap_or(Value::Null);
        if let Some(refusal) = self.schema(&plan, "/schemas/service_binding/create/parameters", &parameters) {
            return refusal;
        }
        let app = body.get("bind_resource").and_then(|resource| resource.get("app_guid"));
        if service["id"] == "logs-service" && app.is_none() {
            return error(422, (!self.is(F::RequiresAppWordless)).then_some("RequiresApp"), "logs of which app?");
        }
        let asynchronous = instance.plan == "db-large";
        if asynchronous && !incomplete(ask) {
            return self.async_required(false);
        }
        let same = self.same(&body, &service, &plan);
        let key = (id.to_owned(), binding.to_owned());
        if let Some(thing) = state.things.get(&key).filter(|thing| !thing.deleted) {
            if thing.same != same || (self.is(F::BindRepeatIs409) && thing.ready) {
                return error(409, None, "another binding has this id");
            }
            if let (false, Some(operation)) = (thing.ready, &thing.operation) {
                return self.accepted(operation, json!({}));
            }
            let mut body = thing.body.clone();
            if self.is(F::BindRepeatChanges) {
                body["credentials"]["password"] = json!("another");
            }
            return reply(200, body);
        }
        let content = self.content(&service, id, binding);
        let mut thing = Thing {
            same,
            ready: !asynchronous,
            deleted: false,
            plan: instance.plan,
            parameters: if parameters.is_null() { json!({}) } else { parameters },
            operation: None,
            body: content.clone(),
        };
        let answer = if asynchronous {
            let operation = self.operation(state, Work::Create);
            let body = if self.is(F::CredentialsIn202) { json!({"credentials": content["credentials"]}) } else { json!({}) };
            let answer = self.accepted(&operation, body);
            thing.operation = Some(operation);
            answer
        } else {
            reply(if self.is(F::NewBindingIs200) { 200 } else { 201 }, content)
        };
        state.things.insert(key, thing);
        answer
    }

    fn content(&self, service: &Value, instance: &str, binding: &str) -> Value {
        if service["id"] == "logs-service" {
            return json!({"syslog_drain_url": "syslog-tls://logs.example.com:6514"});
        }
        let user = if self.is(F::CredentialsShared) { instance } else { binding };
        let mut body = json!({"credentials": {"uri": format!("db://{user}@db.example.com:5432/{instance}"), "username": user, "password": "hunter2"}});
        if !self.is(F::Legacy) {
            body["metadata"] = json!({"renew_before": "2099-01-01T00:00:00.0Z", "expires_at": "2099-02-01T00:00:00.0Z"});
            body["endpoints"] = json!([{"host": "db.example.com", "ports": ["5432", "9000-9010"], "protocol": "tcp"}]);
        }
        match self.flaw {
            F::CredentialsAreText => body["credentials"] = json!("db://db.example.com"),
            F::UndeclaredDrain => body["syslog_drain_url"] = json!("syslog://logs.example.com"),
            F::NothingBound => body["credentials"] = json!({}),
            F::ExpiryIsNumber => body["metadata"]["expires_at"] = json!(4_070_908_800_u64),
            F::PortsAreNumbers => body["endpoints"][0]["ports"] = json!([5432]),
            _ => {}
        }
        body
    }

    fn rotate(&self, state: &mut State, id: &str, predecessor: &str, binding: &str) -> Reply {
        let Some(old) = state.things.get(&(id.to_owned(), predecessor.to_owned())).filter(|thing| !thing.deleted).cloned() else {
            return error(404, None, "no such predecessor");
        };
        if self.is(F::RotationRefused) {
            return error(400, None, "service_id is missing");
        }
        if self.is(F::RotationRevokes) {
            state.revoked.push(predecessor.to_owned());
        }
        let content = self.content(&json!({"id": "db-service"}), id, binding);
        state.things.insert((id.to_owned(), binding.to_owned()), Thing { body: content.clone(), ..old });
        reply(201, content)
    }

    fn fetch_binding(&self, state: &State, id: &str, binding: &str) -> Reply {
        let thing = state.things.get(&(id.to_owned(), binding.to_owned()));
        let visible = |thing: &&Thing| {
            !thing.deleted && (thing.ready || self.is(F::BindingInProgressIs200)) && !state.revoked.iter().any(|id| id == binding)
        };
        let Some(thing) = thing.filter(visible) else { return error(404, None, "no such binding") };
        let mut body = thing.body.clone();
        body["parameters"] = thing.parameters.clone();
        if self.is(F::DrainNullInFetch) {
            body["syslog_drain_url"] = Value::Null;
        }
        reply(200, body)
    }

    fn remove(&self, state: &mut State, ask: &Ask, id: &str, binding: &str) -> Reply {
        let is_instance = binding.is_empty();
        let plan_id = ask.query.get("plan_id").map(String::as_str).unwrap_or_default();
        let key = (id.to_owned(), binding.to_owned());
        let thing = state.things.get(&key).cloned();
        let exists = thing.as_ref().is_some_and(|thing| !thing.deleted);
        // what older checkers want: parameters first for instances, existence first for bindings
        if is_instance && plan_id == "db-large" && !incomplete(ask) {
            return self.async_required(false);
        }
        let missing = |field: &str| {
            let optional = match self.flaw {
                F::UnbindWithoutServiceId => !is_instance && field == "service_id",
                F::DeprovisionWithoutPlanId => is_instance && field == "plan_id",
                _ => false,
            };
            ask.query.get(field).is_none_or(String::is_empty) && !optional
        };
        let parameters = ["service_id", "plan_id"]
            .into_iter()
            .find(|field| missing(field))
            .map(|field| error(400, None, &format!("{field} is missing")));
        if let (true, Some(refusal)) = (is_instance, &parameters) {
            return error(refusal.status, None, "service_id or plan_id is missing");
        }
        if !exists {
            return match self.flaw {
                F::UnknownIs404 if is_instance => error(404, None, "no such instance"),
                F::UnknownIs200 if is_instance => reply(200, json!({})),
                F::UnbindAgainIs200 if thing.is_some() && !is_instance => reply(200, json!({})),
                F::DeprovisionKeeps if thing.is_some() && is_instance => reply(200, json!({})),
                _ => reply(410, json!({})),
            };
        }
        if let Some(refusal) = parameters {
            return refusal;
        }
        let thing = thing.unwrap();
        let asynchronous = thing.plan == "db-large" && (is_instance || thing.operation.is_some());
        if asynchronous {
            if !incomplete(ask) {
                return self.async_required(false);
            }
            if let Some(operation) = thing.operation.filter(|operation| operation.left > 0) {
                match operation.work {
                    Work::Delete => return self.accepted(&operation, json!({})),
                    Work::Update { .. } => return self.busy(),
                    Work::Create if self.is(F::CancelIs409) && is_instance => return error(409, None, "it is being made"),
                    Work::Create => {}
                }
            }
            let operation = self.operation(state, Work::Delete);
            let answer = self.accepted(&operation, json!({}));
            state.things.get_mut(&key).unwrap().operation = Some(operation);
            return answer;
        }
        state.things.get_mut(&key).unwrap().deleted = true;
        match self.flaw {
            F::UnbindIs204 if !is_instance => Reply { body: String::new(), ..reply(204, json!({})) },
            F::SyncRemovalIs202 if !incomplete(ask) && is_instance => reply(202, json!({})),
            _ => reply(200, json!({})),
        }
    }

    fn poll(&self, state: &mut State, ask: &Ask, id: &str, binding: &str) -> Reply {
        let key = (id.to_owned(), binding.to_owned());
        let Some(thing) = state.things.get_mut(&key) else { return error(404, None, "nothing is known of it") };
        if self.is(F::SyncRemovalIs202) && thing.deleted && thing.operation.is_none() {
            return reply(200, json!({"state": "succeeded"}));
        }
        if self.is(F::HintsDemanded) && !ask.query.contains_key("service_id") {
            return error(400, None, "service_id is missing");
        }
        let asked = ask.query.get("operation").cloned();
        let Some(operation) = &mut thing.operation else { return error(404, None, "nothing ran") };
        let (work, is_instance) = (operation.work.clone(), binding.is_empty());
        let own = asked.as_deref() == Some(&operation.id) || (asked.is_some() && self.is(F::OperationTooLong));
        if operation.left == 0 && self.is(F::ForgetsOperation) && work == Work::Create && is_instance {
            return error(404, None, "that was long ago");
        }
        let endless = match self.flaw {
            F::NeverEnds => work == Work::Create && is_instance,
            F::DeprovisionNeverEnds => work == Work::Delete && is_instance,
            _ => false,
        };
        if operation.left > 0 && (operation.left > 1 || !endless) {
            operation.left -= 1;
        }
        if operation.left > 0 {
            let mut answer =
                reply(200, json!({"state": "in progress", "description": format!("{} steps to go", operation.left)}));
            if !endless {
                let date = self.is(F::RetryAfterIsDate);
                answer.headers.push(("Retry-After", if date { "Fri, 31 Dec 1999 23:59:59 GMT" } else { "0" }.into()));
            }
            return answer;
        }
        match work {
            Work::Create if self.is(F::ProvisionFails) && is_instance => {
                return reply(200, json!({"state": "failed", "description": "the disk is full"}));
            }
            Work::Create if self.is(F::StateMisspelled) => return reply(200, json!({"state": "Succeeded"})),
            Work::Create if self.is(F::GoneWhileCreating) => return reply(410, json!({})),
            Work::Create => thing.ready = true,
            Work::Update { plan, parameters } => {
                thing.plan = plan;
                if parameters.is_object() {
                    thing.parameters = parameters;
                }
            }
            Work::Delete => {
                thing.deleted = true;
                if own {
                    return reply(410, json!({}));
                }
            }
        }
        reply(200, json!({"state": "succeeded"}))
    }
}

fn incomplete(ask: &Ask) -> bool {
    ask.query.get("accepts_incomplete").is_some_and(|value| value == "true")
}

fn catalog(legacy: bool) -> Value {
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "additionalProperties": false,
        "properties": {"size": {"type": "integer", "minimum": 1, "maximum": 9, "default": 1}},
    });
    let schemas = json!({
        "service_instance": {"create": {"parameters": schema}, "update": {"parameters": schema}},
        "service_binding": {"create": {"parameters": schema}},
    });
    let mut small = json!({"id": "db-small", "name": "small", "description": "made at once", "free": true, "schemas": schemas, "maintenance_info": {"version": "1.2.3"}});
    if !legacy {
        small["binding_rotatable"] = json!(true);
    }
    json!({"services": [
        {
            "id": "db-service", "name": "check-db", "description": "databases", "bindable": true, "tags": ["db"],
            "instances_retrievable": true, "bindings_retrievable": true, "allow_context_updates": true, "plan_updateable": true,
            "plans": [small, {"id": "db-large", "name": "large", "description": "takes its time", "maximum_polling_duration": 60, "maintenance_info": {"version": "2.0.0"}}],
        },
        {
            "id": "logs-service", "name": "check-logs", "description": "logs", "bindable": true, "requires": ["syslog_drain"],
            "plans": [{"id": "logs-plan", "name": "basic", "description": "plain"}],
        },
        {
            "id": "batch-service", "name": "check-batch", "description": "jobs", "bindable": false,
            "plans": [{"id": "batch-plan", "name": "batch", "description": "plain"}],
        },
    ]})
}

/// The flaw whose broker never changes its mind.
pub(crate) fn name(flaw: Flaw) -> String {
    format!("{flaw:?}")
}
