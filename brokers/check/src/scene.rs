//! What the cases share: the broker, the plan at hand, the instance and the binding that they work on.

use crate::{
    CASES,
    case::{Case, Check, Miss, Outcome, Scope, skip},
    catalog::Plan,
    http::{Exchange, Http, Login, Request, Route},
    ledger::{Ledger, Target},
    options::{OptionError, Options, PlanParameters},
    report::{Ending, Entry, Report, Verdict},
};
use rand::Rng;
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// First wait between two polls; it grows to the last.
const FIRST_POLL: Duration = Duration::from_millis(20);
const LAST_POLL: Duration = Duration::from_secs(2);
/// After this many unusable answers in a row polling is given up.
const UNUSABLE_POLLS: usize = 5;
/// Longest final clean-up.
const CLEAN_UP: Duration = Duration::from_secs(120);

/// An instance or a binding that a case made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) target: Target,
    pub(crate) body: Value,
    /// The answer that made it.
    pub(crate) exchange: Exchange,
    /// An operation on it has not ended yet.
    pub(crate) running: bool,
}

impl Made {
    pub(crate) fn operation(&self) -> Option<String> {
        self.exchange.operation()
    }
}

/// What is checked in the same way for instances and bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Instance,
    Binding,
}

/// What the cases of one plan know of their instance, or their binding.
#[derive(Default)]
pub(crate) struct Slot {
    /// The one that most cases work on.
    pub(crate) made: Option<Made>,
    /// Made without `accepts_incomplete`.
    pub(crate) sync: Option<Target>,
    /// Whether the broker makes one without `accepts_incomplete`.
    pub(crate) does_sync: Option<bool>,
    /// The answer that began or did the removal.
    pub(crate) removal: Option<(Target, Exchange)>,
    /// It is known to be gone.
    pub(crate) gone: bool,
}

/// How an operation ended.
pub(crate) enum Ended {
    Succeeded,
    /// 410: only deletes end so.
    Gone,
    Failed(Exchange),
    TooLong(Exchange),
}

/// See the module.
pub(crate) struct Scene {
    pub(crate) http: Arc<Http>,
    pub(crate) options: Arc<Options>,
    pub(crate) catalog: Option<Value>,
    /// All plans of the catalog, chosen or not.
    pub(crate) plans: Vec<Arc<Plan>>,
    pub(crate) plan: Arc<Plan>,
    /// The broker takes the header that says who caused a request.
    pub(crate) takes_identity: bool,
    pub(crate) organization: String,
    pub(crate) space: String,
    pub(crate) app: String,
    /// Instances whose provisioning was refused with 4xx.
    pub(crate) refused: Vec<Target>,
    pub(crate) instance: Slot,
    pub(crate) binding: Slot,
    /// What a fetch showed before any update.
    pub(crate) fetched: Option<Value>,
    /// The update that the cases look at.
    pub(crate) update: Option<(Value, Exchange)>,
    /// What the binding holds, from whichever answer showed it first.
    pub(crate) bound: Option<Exchange>,
    /// A binding that follows another.
    pub(crate) rotated: Option<Target>,
    ledger: Arc<Ledger>,
}

/// Checks a broker.
///
/// Ends early when `stop` does; what was made is removed even then. `progress` sees each verdict as it is known.
///
/// # Errors
/// [`OptionError::Tls`] if no client can be made from the options. Whatever the broker does is in the report.
pub async fn run(
    options: Options,
    rng: Box<dyn Rng + Send>,
    stop: impl Future<Output = ()>,
    mut progress: impl FnMut(&Entry),
) -> Result<Report, OptionError> {
    let begun = Instant::now();
    let options = Arc::new(options);
    let http = Arc::new(Http::new(options.clone(), rng)?);
    let mut scene = Scene::new(http.clone(), options.clone());
    let mut entries = vec![];
    let mut note = |entry: Entry| {
        progress(&entry);
        entries.push(entry);
    };
    let ending = tokio::select! {
        ending = tokio::time::timeout(options.limits.total, scene.all(&mut note)) => ending.unwrap_or(Ending::TimeLimit),
        () = stop => Ending::Stopped,
    };
    if tokio::time::timeout(CLEAN_UP.min(options.limits.polling), scene.clean_up()).await.is_err() {
        scene.note_left_over();
    }
    for case in CASES.iter().filter(|case| matches!(case.check, Check::Watching)) {
        let verdict = match unwanted(&options, case) {
            Some(why) => Verdict::Skipped(why),
            None => match http.watch.of(case.id) {
                None => Verdict::Skipped("nothing showed it".to_owned()),
                Some(None) => Verdict::Passed,
                Some(Some(finding)) => Verdict::Broken(Box::new(finding)),
            },
        };
        note(Entry { case, plan: None, verdict });
    }
    let ending = match http.unreachable.lock().take() {
        Some(why) if scene.catalog.is_none() => Ending::Unreachable(why),
        _ => ending,
    };
    Ok(Report {
        broker: options.url.to_string(),
        version: options.version,
        strict: options.strict,
        entries,
        ending,
        took: begun.elapsed(),
    })
}

/// Why a case is not looked at in this run.
fn unwanted(options: &Options, case: &Case) -> Option<String> {
    if options.leaves_out(case.id) {
        return Some("left out".to_owned());
    }
    if case.legacy && !options.strict_legacy {
        return Some("only with --strict-legacy".to_owned());
    }
    (options.version.minor < case.since).then(|| format!("new in 2.{}", case.since))
}

impl Scene {
    fn new(http: Arc<Http>, options: Arc<Options>) -> Self {
        Self {
            organization: http.new_id(),
            space: http.new_id(),
            app: http.new_id(),
            http,
            options,
            catalog: None,
            plans: vec![],
            plan: Arc::default(),
            takes_identity: true,
            refused: vec![],
            instance: Slot::default(),
            binding: Slot::default(),
            fetched: None,
            update: None,
            bound: None,
            rotated: None,
            ledger: Arc::default(),
        }
    }

    async fn all(&mut self, note: &mut (impl FnMut(Entry) + ?Sized)) -> Ending {
        self.cases(Scope::Broker, note).await;
        if self.catalog.is_none() {
            return Ending::Complete;
        }
        let chosen: Vec<_> = self.plans.iter().filter(|plan| self.is_chosen(plan)).cloned().collect();
        if chosen.is_empty() {
            return Ending::NoPlan;
        }
        for plan in chosen {
            self.plan = plan;
            self.refused.clear();
            (self.instance, self.binding) = (Slot::default(), Slot::default());
            (self.fetched, self.update, self.bound, self.rotated) = (None, None, None, None);
            self.cases(Scope::Plan, note).await;
            self.clean_up().await;
        }
        Ending::Complete
    }

    fn is_chosen(&self, plan: &Plan) -> bool {
        let named = |names: &[String], id: &str, name: &str| {
            names.is_empty() || names.iter().any(|wanted| wanted == id || wanted == name)
        };
        named(&self.options.services, &plan.service_id, &plan.service_name) && named(&self.options.plans, &plan.id, &plan.name)
    }

    async fn cases(&mut self, scope: Scope, note: &mut (impl FnMut(Entry) + ?Sized)) {
        for case in CASES {
            let Check::Active(own, check) = case.check else { continue };
            if own != scope {
                continue;
            }
            let verdict = match unwanted(&self.options, case) {
                // what makes the instance or the binding runs although nobody asks for its verdict: later cases stand on it
                Some(why) if !(self.options.leaves_out(case.id) && prepares(case.id)) => Verdict::Skipped(why),
                left_out => match (check(self).await, left_out) {
                    (_, Some(why)) => Verdict::Skipped(why),
                    (Ok(()), None) => Verdict::Passed,
                    (Err(Miss::Skip(why)), None) => Verdict::Skipped(why),
                    (Err(Miss::Fail(finding)), None) => Verdict::Broken(finding),
                },
            };
            let plan = (scope == Scope::Plan).then(|| self.plan.label());
            note(Entry { case, plan, verdict });
        }
    }

    // Requests.

    fn request(&self, method: Method, route: Route, path: String) -> Request {
        let version = Some(self.options.version.to_string());
        let request = Request {
            method,
            route,
            path,
            query: vec![],
            headers: vec![],
            body: None,
            login: Login::Right,
            version,
            polls_delete: None,
        };
        match self.takes_identity && route != Route::Catalog {
            true => request.header(osb::ORIGINATING_IDENTITY_HEADER, osb::OriginatingIdentity::user("broker-check").encode()),
            false => request,
        }
    }

    pub(crate) fn ask_catalog(&self) -> Request {
        self.request(Method::GET, Route::Catalog, osb::paths::CATALOG.to_owned())
    }

    pub(crate) fn ask_instance(&self, method: Method, id: &str) -> Request {
        self.request(method, Route::Instance, osb::paths::instance(id))
    }

    pub(crate) fn ask_instance_operation(&self, id: &str) -> Request {
        self.request(Method::GET, Route::InstanceOperation, osb::paths::instance_operation(id))
    }

    pub(crate) fn ask_binding(&self, method: Method, instance: &str, id: &str) -> Request {
        self.request(method, Route::Binding, osb::paths::binding(instance, id))
    }

    pub(crate) fn ask_binding_operation(&self, instance: &str, id: &str) -> Request {
        self.request(Method::GET, Route::BindingOperation, osb::paths::binding_operation(instance, id))
    }

    pub(crate) async fn send(&self, request: Request) -> Result<Exchange, Miss> {
        self.http.send(request).await
    }

    // Things and their bodies.

    pub(crate) fn new_instance(&self) -> Target {
        Target {
            instance: self.http.new_id(),
            binding: None,
            service_id: self.plan.service_id.clone(),
            plan_id: self.plan.id.clone(),
        }
    }

    pub(crate) fn new_binding(&self) -> Result<Target, Miss> {
        let instance = self.ready_instance()?;
        Ok(Target { binding: Some(self.http.new_id()), ..instance.target.clone() })
    }

    /// The parameters that are given for the plan.
    fn given(&self) -> PlanParameters {
        let all = &self.options.parameters;
        let found = [self.plan.id.clone(), self.plan.label(), "*".to_owned()].into_iter().find_map(|key| all.get(&key));
        found.cloned().unwrap_or_default()
    }

    pub(crate) fn update_parameters(&self) -> Option<Map<String, Value>> {
        self.given().update
    }

    pub(crate) fn context(&self, instance_name: Option<&str>) -> Value {
        let mut context = json!({
            "platform": "cloudfoundry",
            "organization_guid": self.organization, "organization_name": "broker-check",
            "space_guid": self.space, "space_name": "broker-check",
        });
        if let Some(name) = instance_name {
            context["instance_name"] = json!(name);
        }
        context
    }

    pub(crate) fn provision_body(&self) -> Value {
        let mut body = json!({
            "service_id": self.plan.service_id, "plan_id": self.plan.id,
            "organization_guid": self.organization, "space_guid": self.space,
            "context": self.context(Some("broker-check")),
        });
        add_parameters(&mut body, self.given().provision, self.plan.create_schema.as_ref());
        if let (Some(version), 15..) = (&self.plan.maintenance_version, self.options.version.minor) {
            body["maintenance_info"] = json!({"version": version});
        }
        body
    }

    pub(crate) fn bind_body(&self) -> Value {
        let plan_id = self.instance.made.as_ref().map_or(&self.plan.id, |made| &made.target.plan_id);
        let mut body = json!({
            "service_id": self.plan.service_id, "plan_id": plan_id,
            "app_guid": self.app, "bind_resource": {"app_guid": self.app, "space_guid": self.space},
            "context": self.context(None),
        });
        if self.plan.requires.iter().any(|need| need == "route_forwarding") {
            body["bind_resource"] = json!({"route": "broker-check.example.com"});
            if let Some(fields) = body.as_object_mut() {
                fields.remove("app_guid");
            }
        }
        add_parameters(&mut body, self.given().bind, self.plan.bind_schema.as_ref());
        body
    }

    pub(crate) fn slot(&mut self, kind: Kind) -> &mut Slot {
        match kind {
            Kind::Instance => &mut self.instance,
            Kind::Binding => &mut self.binding,
        }
    }

    pub(crate) fn slot_of(&self, kind: Kind) -> &Slot {
        match kind {
            Kind::Instance => &self.instance,
            Kind::Binding => &self.binding,
        }
    }

    /// The instance or binding, once it exists and while nothing runs on it.
    pub(crate) fn ready(&self, kind: Kind) -> Result<Made, Miss> {
        match &self.slot_of(kind).made {
            Some(made) if !made.running => Ok(made.clone()),
            _ => skip("there is nothing to do it with, because making it did not succeed (or it is gone already)"),
        }
    }

    pub(crate) fn ready_instance(&self) -> Result<Made, Miss> {
        self.ready(Kind::Instance)
    }

    pub(crate) fn ready_binding(&self) -> Result<Made, Miss> {
        self.ready(Kind::Binding)
    }

    pub(crate) fn body_for(&self, kind: Kind) -> Value {
        match kind {
            Kind::Instance => self.provision_body(),
            Kind::Binding => self.bind_body(),
        }
    }

    pub(crate) fn new_target(&self, kind: Kind) -> Result<Target, Miss> {
        match kind {
            Kind::Instance => Ok(self.new_instance()),
            Kind::Binding => self.new_binding(),
        }
    }

    /// Whether bindings can be checked at all.
    pub(crate) fn must_be_bindable(&self) -> Outcome {
        if self.plan.bindable { Ok(()) } else { skip("the plan is not bindable") }
    }

    // Makes and removes.

    /// `PUT` of an instance or binding, in any form.
    pub(crate) async fn put(&self, target: &Target, change: impl FnOnce(Request) -> Request) -> Result<Exchange, Miss> {
        let request = match &target.binding {
            None => self.ask_instance(Method::PUT, &target.instance),
            Some(binding) => self.ask_binding(Method::PUT, &target.instance, binding),
        };
        let new = self.ledger.add(target);
        let outcome = self.send(change(request)).await;
        if let (Ok(exchange), true) = (&outcome, new)
            && (400..500).contains(&exchange.status())
        {
            self.ledger.remove(target);
        }
        outcome
    }

    /// `DELETE` of an instance or binding, with everything in order.
    pub(crate) async fn delete(&self, target: &Target, accepts_incomplete: bool) -> Result<Exchange, Miss> {
        self.delete_with(target, |request| {
            let request = request.query("service_id", &target.service_id).query("plan_id", &target.plan_id);
            if accepts_incomplete { request.query("accepts_incomplete", "true") } else { request }
        })
        .await
    }

    /// `DELETE` in any form.
    pub(crate) async fn delete_with(&self, target: &Target, change: impl FnOnce(Request) -> Request) -> Result<Exchange, Miss> {
        let request = match &target.binding {
            None => self.ask_instance(Method::DELETE, &target.instance),
            Some(binding) => self.ask_binding(Method::DELETE, &target.instance, binding),
        };
        let exchange = self.send(change(request)).await?;
        if exchange.is(&[200, 410]) {
            self.ledger.remove(target);
        }
        Ok(exchange)
    }

    pub(crate) fn moved(&mut self, plan_id: &str) {
        if let Some(made) = &mut self.instance.made {
            made.target.plan_id = plan_id.to_owned();
            self.ledger.moved(&made.target.instance, plan_id);
        }
    }

    pub(crate) fn poll_request(&self, target: &Target, operation: Option<&str>, deleting: bool) -> Request {
        let mut request = match &target.binding {
            None => self.ask_instance_operation(&target.instance),
            Some(binding) => self.ask_binding_operation(&target.instance, binding),
        };
        request.polls_delete = Some(deleting);
        let request = request.query("service_id", &target.service_id).query("plan_id", &target.plan_id);
        match operation {
            Some(operation) => request.query("operation", operation),
            None => request,
        }
    }

    /// Whether an operation has not ended: a wrong answer to a request that came too late is no finding.
    pub(crate) async fn still_runs(&self, target: &Target, operation: Option<&str>, deleting: bool) -> Result<bool, Miss> {
        let exchange = self.send(self.poll_request(target, operation, deleting)).await?;
        Ok(exchange.status() == 200 && exchange.field("state").and_then(Value::as_str) == Some("in progress"))
    }

    /// A miss, unless the operation had ended when the answer was given.
    pub(crate) async fn fail_if_it_still_runs(&self, made: &Made, deleting: bool, miss: Miss) -> Outcome {
        match self.still_runs(&made.target, made.operation().as_deref(), deleting).await? {
            true => Err(miss),
            false => skip("the operation ended before it could be looked at"),
        }
    }

    /// Polls an operation to its end.
    pub(crate) async fn poll(&self, target: &Target, operation: Option<&str>, deleting: bool) -> Result<Ended, Miss> {
        let limit = self.options.limits.polling;
        let end = Instant::now() + self.plan.maximum_polling.map_or(limit, |own| own.min(limit));
        let (mut wait, mut unusable) = (FIRST_POLL, 0);
        loop {
            let exchange = self.send(self.poll_request(target, operation, deleting)).await?;
            match (exchange.status(), exchange.field("state").and_then(Value::as_str)) {
                (410, _) if deleting => return Ok(Ended::Gone),
                (200, Some("succeeded")) => return Ok(Ended::Succeeded),
                (200, Some("failed")) => return Ok(Ended::Failed(exchange)),
                (200, Some("in progress")) => unusable = 0,
                _ => unusable += 1,
            }
            if unusable >= UNUSABLE_POLLS {
                return skip("polling got no usable answer (see poll.status, poll.body, http.json)");
            }
            let asked = exchange.header("Retry-After").and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
            let pause = asked.unwrap_or(wait);
            if Instant::now() + pause > end {
                return Ok(Ended::TooLong(exchange));
            }
            tokio::time::sleep(pause).await;
            wait = (wait * 8 / 5).min(LAST_POLL);
        }
    }

    /// Polls a delete to its end; whether the thing is gone.
    pub(crate) async fn poll_delete(&self, target: &Target, accepted: &Exchange) -> Result<Ended, Miss> {
        let ended = self.poll(target, accepted.operation().as_deref(), true).await?;
        if matches!(ended, Ended::Gone | Ended::Succeeded) {
            self.ledger.remove(target);
        }
        Ok(ended)
    }

    /// Removes something that a case made on the side.
    pub(crate) async fn remove(&self, target: &Target) -> Outcome {
        let exchange = self.delete(target, true).await?;
        if exchange.status() == 202 {
            self.poll_delete(target, &exchange).await?;
        }
        Ok(())
    }

    /// Removes the bindings that are left of an instance.
    pub(crate) async fn remove_bindings(&self, instance: &str) -> Outcome {
        for target in self.ledger.left().iter().filter(|target| target.instance == instance && target.binding.is_some()) {
            self.remove(target).await?;
        }
        Ok(())
    }

    // Clean-up.

    async fn clean_up(&self) {
        if self.catalog.is_some() {
            self.http.watch.note("run.clean-up", None, None);
        }
        for target in self.ledger.left() {
            let outcome = self.try_to_remove(&target).await;
            if let Err((found, exchange)) = outcome {
                let expected = format!("{} can be removed", target.name());
                self.http.watch.note("run.clean-up", Some((expected, found)), exchange.as_ref());
                // named once is enough
                self.ledger.remove(&target);
            }
        }
    }

    async fn try_to_remove(&self, target: &Target) -> Result<(), (String, Option<Exchange>)> {
        let silent = |miss| match miss {
            Miss::Skip(why) => (format!("it is left behind: {why}"), None),
            Miss::Fail(finding) => (finding.found, finding.exchange),
        };
        let end = Instant::now() + self.options.limits.polling;
        loop {
            let exchange = self.delete(target, true).await.map_err(silent)?;
            match exchange.status() {
                200 | 410 => return Ok(()),
                202 => {
                    return match self.poll_delete(target, &exchange).await.map_err(silent)? {
                        Ended::Gone | Ended::Succeeded => Ok(()),
                        Ended::Failed(last) => Err(("it is left behind: its removal failed".to_owned(), Some(last))),
                        Ended::TooLong(last) => Err(("it is left behind: its removal does not end".to_owned(), Some(last))),
                    };
                }
                422 if exchange.is_refused_with("ConcurrencyError") && Instant::now() < end => {
                    tokio::time::sleep(LAST_POLL / 4).await
                }
                _ => return Err((format!("it is left behind: {}", exchange.summary()), Some(exchange))),
            }
        }
    }

    fn note_left_over(&self) {
        for target in self.ledger.left() {
            let expected = format!("{} can be removed", target.name());
            self.http.watch.note("run.clean-up", Some((expected, "it is left behind: there was no time left".to_owned())), None);
        }
    }
}

/// Cases that later ones stand on.
fn prepares(case: &str) -> bool {
    [
        "catalog.fetch",
        "header.originating-identity",
        "provision.create",
        "provision.completes",
        "bind.create",
        "bind.completes",
        "unbind.delete",
        "unbind.completes",
        "deprovision.delete",
        "deprovision.completes",
    ]
    .contains(&case)
}

fn add_parameters(body: &mut Value, given: Option<Map<String, Value>>, schema: Option<&Value>) {
    let demanded = || schema.filter(|schema| !crate::parameters::keeps(schema, &json!({}))).and_then(crate::parameters::sample);
    if let Some(parameters) = given.or_else(demanded) {
        body["parameters"] = Value::Object(parameters);
    }
}
