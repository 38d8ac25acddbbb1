//! A service broker on a real loopback socket: a faithful one that keeps what it was told to make, with answers that a test
//! scripts ahead of it, and a record of every request.

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

/// A broker.
pub struct Broker {
    /// `http://127.0.0.1:port`
    pub url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    arrived: Notify,
    released: Notify,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `PUT`
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Without the question mark.
    pub query: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Null where there was none.
    pub body: Value,
}

impl Seen {
    /// `PUT /v2/service_instances/g`
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// What a scripted answer does.
#[derive(Clone, Debug)]
pub struct Script {
    /// Which requests: the beginning of `METHOD /path`, and a part of it.
    method: String,
    part: String,
    /// Whether the broker really does what it is asked, whatever it says.
    applies: bool,
    does: Does,
    delay: Duration,
    /// How often; none: always.
    times: Option<usize>,
}

#[derive(Clone, Debug)]
enum Does {
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// As the faithful broker.
    Faithful,
    Close,
    Hang,
    /// Waits for [`Broker::release`], then as the faithful broker.
    Hold,
}

impl Script {
    /// For the next request with this method whose path has this part.
    pub fn next(method: &str, part: &str) -> Self {
        Self {
            method: method.into(),
            part: part.into(),
            applies: false,
            does: Does::Faithful,
            delay: Duration::ZERO,
            times: Some(1),
        }
    }
    /// So often.
    pub fn times(self, times: usize) -> Self {
        Self { times: Some(times), ..self }
    }
    /// From now on.
    pub fn always(self) -> Self {
        Self { times: None, ..self }
    }
    /// The broker does what it is asked all the same.
    pub fn but_does_it(self) -> Self {
        Self { applies: true, ..self }
    }
    /// First waits.
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
    /// Answers this.
    pub fn answers(self, status: u16, body: Value) -> Self {
        self.says(status, &[], body.to_string().as_bytes())
    }
    /// Answers this, with headers and any body.
    pub fn says(self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { does: Does::Answer(status, headers, body.to_vec()), ..self }
    }
    /// Closes the connection without an answer.
    pub fn closes(self) -> Self {
        Self { does: Does::Close, ..self }
    }
    /// Never answers.
    pub fn hangs(self) -> Self {
        Self { does: Does::Hang, ..self }
    }
    /// Keeps the answer back until it is released.
    pub fn holds(self) -> Self {
        Self { does: Does::Hold, ..self }
    }
}

#[derive(Default)]
struct State {
    catalog: Value,
    seen: Vec<Seen>,
    scripts: VecDeque<Script>,
    /// How often work is "in progress" when asked; none: it is done at once.
    polls: Option<usize>,
    instances: BTreeMap<String, Kept>,
    bindings: BTreeMap<String, Kept>,
    /// Instance and backup.
    backups: Vec<(String, String)>,
    /// Instance and backup, in the order of restoring, and the ids of the requests.
    restored: Vec<(String, String)>,
    restores: Vec<String>,
    holding: usize,
}

/// What the broker has.
#[derive(Clone, Debug)]
struct Kept {
    body: Value,
    /// What is under way, and how often it is still "in progress".
    work: Option<(Work, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Work {
    Create,
    Update,
    Delete,
}

impl Broker {
    /// Starts one.
    ///
    /// # Panics
    /// When there is no loopback.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback socket");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Mutex::new(State { catalog: catalog("db"), ..State::default() });
        let shared = Arc::new(Shared { state, arrived: Notify::new(), released: Notify::new() });
        let server = shared.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = server.clone();
                tokio::spawn(async move {
                    // A test that went away is no failure of the broker.
                    let _ = serve(stream, &shared).await;
                });
            }
        });
        Self { url, shared, task }
    }

    /// Answers `GET /v2/catalog` with this from now on.
    pub fn set_catalog(&self, catalog: Value) {
        self.shared.state.lock().catalog = catalog;
    }
    /// Works asynchronously from now on: so often "in progress" when asked; none: at once.
    pub fn set_polls(&self, polls: Option<usize>) {
        self.shared.state.lock().polls = polls;
    }
    /// Adds a script behind those that there are; the first that matches a request counts.
    pub fn script(&self, script: Script) {
        self.shared.state.lock().scripts.push_back(script);
    }
    /// Forgets all scripts.
    pub fn clear_scripts(&self) {
        self.shared.state.lock().scripts.clear();
    }
    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.state.lock().seen.clone()
    }
    /// Those whose line ("METHOD /path") has this.
    pub fn seen_with(&self, part: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.line().contains(part)).collect()
    }
    /// Forgets the requests so far.
    pub fn forget_seen(&self) {
        self.shared.state.lock().seen.clear();
    }
    /// Ids of the instances that the broker has.
    pub fn instances(&self) -> Vec<String> {
        self.shared.state.lock().instances.keys().cloned().collect()
    }
    /// Ids of the bindings that the broker has.
    pub fn bindings(&self) -> Vec<String> {
        self.shared.state.lock().bindings.keys().cloned().collect()
    }
    /// Ids of the backups that the broker has, oldest first.
    pub fn backups(&self) -> Vec<String> {
        self.shared.state.lock().backups.iter().map(|(_, backup)| backup.clone()).collect()
    }
    /// The backups that were restored, in that order.
    pub fn restored(&self) -> Vec<String> {
        self.shared.state.lock().restored.iter().map(|(_, backup)| backup.clone()).collect()
    }
    /// What an instance was last told to be.
    pub fn instance(&self, id: &str) -> Option<Value> {
        self.shared.state.lock().instances.get(id).map(|kept| kept.body.clone())
    }
    /// Lets answers go that are held back.
    pub fn release(&self) {
        self.shared.state.lock().holding = 0;
        self.shared.released.notify_waiters();
    }
    /// How many requests wait for an answer: held back, or hanging.
    pub fn waiting(&self) -> usize {
        self.shared.state.lock().holding
    }
    /// Waits until an answer is held back.
    ///
    /// # Panics
    /// After 20 seconds.
    pub async fn holding(&self) {
        let wait = async {
            loop {
                let arrived = self.shared.arrived.notified();
                if self.shared.state.lock().holding > 0 {
                    return;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("a request that is held back");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A catalog with one offering: plans `small` (free), `large` (costs), and `unbindable`.
pub fn catalog(name: &str) -> Value {
    json!({ "services": [offering(name)] })
}

/// An offering as [`catalog`] has it.
pub fn offering(name: &str) -> Value {
    let plan = |plan: &str, free: bool| json!({ "id": format!("{name}-{plan}-id"), "name": plan, "description": format!("the {plan} plan"), "free": free });
    let mut unbindable = plan("unbindable", true);
    unbindable["bindable"] = false.into();
    json!({
        "id": format!("{name}-id"),
        "name": name,
        "description": format!("{name} for everybody"),
        "bindable": true,
        "plan_updateable": true,
        "instances_retrievable": true,
        "bindings_retrievable": true,
        "metadata": { "shareable": true },
        "plans": [plan("small", true), plan("large", false), unbindable],
    })
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let Some(seen) = read(&mut stream).await? else { return Ok(()) };
    let script = {
        let mut state = shared.state.lock();
        state.seen.push(seen.clone());
        state.script_for(&seen)
    };
    let (status, headers, body) = match script {
        None => shared.state.lock().faithful(&seen),
        Some(script) => {
            tokio::time::sleep(script.delay).await;
            let really = match (&script.does, script.applies) {
                (Does::Faithful | Does::Hold, _) | (_, true) => Some(shared.state.lock().faithful(&seen)),
                _ => None,
            };
            match (script.does, really) {
                (Does::Answer(status, headers, body), _) => (status, headers, body),
                (Does::Faithful, Some(answer)) => answer,
                (Does::Hold, Some(answer)) => {
                    let released = shared.released.notified();
                    shared.state.lock().holding += 1;
                    shared.arrived.notify_waiters();
                    released.await;
                    answer
                }
                (Does::Hang, _) => {
                    shared.state.lock().holding += 1;
                    shared.arrived.notify_waiters();
                    // Until the other side has enough of it.
                    let mut byte = [0];
                    let _ = stream.read(&mut byte).await?;
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
    };
    let mut head = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
    for (name, value) in &headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        head.push_str("content-type: application/json\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Option<Seen>> {
    let mut bytes = vec![];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await? {
            0 => return Ok(None),
            read => bytes.extend(chunk.iter().take(read)),
        }
    };
    let (head, rest) = bytes.split_at(end);
    let head = String::from_utf8_lossy(head).into_owned();
    let mut body = rest.get(4..).unwrap_or_default().to_vec();
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let method = first.next().unwrap_or_default().to_owned();
    let target = first.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let header = |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    let headers: BTreeMap<String, String> = lines.filter_map(header).collect();
    let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while body.len() < length {
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await? {
            0 => return Ok(None),
            read => body.extend(chunk.iter().take(read)),
        }
    }
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Ok(Some(Seen { method, path: path.to_owned(), query: query.to_owned(), headers, body }))
}

type Said = (u16, Vec<(String, String)>, Vec<u8>);

fn say(status: u16, body: &Value) -> Said {
    (status, vec![], body.to_string().into_bytes())
}

impl State {
    fn script_for(&mut self, seen: &Seen) -> Option<Script> {
        let line = seen.line();
        let at = self.scripts.iter().position(|script| seen.method == script.method && line.contains(&script.part))?;
        let script = self.scripts.get_mut(at)?;
        let taken = script.clone();
        if let Some(times) = &mut script.times {
            *times -= 1;
            if *times == 0 {
                self.scripts.remove(at);
            }
        }
        Some(taken)
    }

    /// Does what is asked and says so.
    fn faithful(&mut self, seen: &Seen) -> Said {
        let parts: Vec<&str> = seen.path.trim_matches('/').split('/').collect();
        let polls = self.polls.filter(|_| seen.query.contains("accepts_incomplete=true"));
        match (seen.method.as_str(), &parts[..]) {
            ("GET", ["v2", "catalog"]) => say(200, &self.catalog),
            ("GET", ["v2", "service_instances", id, "last_operation"]) => poll(&mut self.instances, id),
            ("GET", ["v2", "service_instances", _, "service_bindings", id, "last_operation"]) => poll(&mut self.bindings, id),
            ("PUT", ["v2", "service_instances", id]) => {
                make(&mut self.instances, id, seen, polls, json!({ "dashboard_url": format!("https://dashboard.test/{id}") }))
            }
            ("PUT", ["v2", "service_instances", instance, "service_bindings", id]) => {
                if !self.instances.contains_key(*instance) {
                    return say(404, &json!({ "description": "no such instance" }));
                }
                make(&mut self.bindings, id, seen, polls, binding(instance, id))
            }
            ("PATCH", ["v2", "service_instances", id]) => change(&mut self.instances, id, seen, polls),
            ("DELETE", ["v2", "service_instances", id]) => {
                self.backups.retain(|(of, _)| of != id);
                remove(&mut self.instances, id, polls)
            }
            ("DELETE", ["v2", "service_instances", _, "service_bindings", id]) => remove(&mut self.bindings, id, polls),
            ("GET", ["v2", "service_instances", id]) => match self.instances.get(*id).filter(|kept| kept.work.is_none()) {
                Some(kept) => {
                    let parameters = kept.body.get("parameters").cloned().unwrap_or_else(|| json!({}));
                    say(200, &json!({ "parameters": parameters, "dashboard_url": format!("https://dashboard.test/{id}/now") }))
                }
                None => say(404, &json!({})),
            },
            ("GET", ["v2", "service_instances", instance, "service_bindings", id]) => {
                match self.bindings.get(*id).filter(|kept| kept.work.is_none()) {
                    Some(kept) => {
                        let mut found = binding(instance, id);
                        found["parameters"] = kept.body.get("parameters").cloned().unwrap_or_else(|| json!({}));
                        say(200, &found)
                    }
                    None => say(404, &json!({})),
                }
            }
            ("GET", ["v2", "service_instances", instance, "backups"]) => {
                let of = self.backups.iter().rev().filter(|(of, _)| of == instance);
                let shown = of.map(|(_, id)| json!({ "id": id, "state": "succeeded", "created_at": "2026-01-02T03:04:05Z" }));
                say(200, &json!({ "backups": shown.collect::<Vec<_>>() }))
            }
            ("POST", ["v2", "service_instances", instance, "backups"]) => {
                let id = seen.body["id"].as_str().unwrap_or_default().to_owned();
                let made = json!({ "id": id, "state": "succeeded", "created_at": "2026-01-02T03:04:05Z" });
                let of = ((*instance).to_owned(), id);
                match (self.backups.contains(&of), self.instances.get(*instance).is_some_and(|kept| kept.work.is_some())) {
                    (true, true) => self.begin(instance, polls, 201, made),
                    (true, false) => say(200, &made),
                    (false, _) => {
                        self.backups.push(of);
                        self.begin(instance, polls, 201, made)
                    }
                }
            }
            ("POST", ["v2", "service_instances", instance, "restore"]) => {
                let wanted = seen.body["backup_id"].as_str().unwrap_or_default();
                match self.backups.iter().any(|(of, id)| of == instance && id == wanted) {
                    true => {
                        let id = seen.headers.get("x-broker-api-request-identity").cloned().unwrap_or_default();
                        let working = self.instances.get(*instance).is_some_and(|kept| kept.work.is_some());
                        if self.restores.contains(&id) && !working {
                            return say(200, &json!({}));
                        }
                        if !self.restores.contains(&id) {
                            self.restores.push(id);
                            self.restored.push(((*instance).to_owned(), wanted.to_owned()));
                        }
                        self.begin(instance, polls, 200, json!({}))
                    }
                    false => say(404, &json!({ "description": "no such backup" })),
                }
            }
            ("DELETE", ["v2", "service_instances", instance, "backups", id]) => {
                let before = self.backups.len();
                self.backups.retain(|(of, kept)| of != instance || kept != id);
                match self.backups.len() == before {
                    true => say(410, &json!({})),
                    false => self.begin(instance, polls, 200, json!({})),
                }
            }
            _ => say(404, &json!({ "description": "not found" })),
        }
    }
}

impl State {
    /// Does something else to an instance: at once, or so that it must be asked for.
    fn begin(&mut self, instance: &str, polls: Option<usize>, status: u16, mut body: Value) -> Said {
        let Some(kept) = self.instances.get_mut(instance) else { return say(404, &json!({})) };
        kept.work = polls.map(|polls| (Work::Update, polls));
        if polls.is_none() {
            return say(status, &body);
        }
        body["operation"] = "at it".into();
        if body.get("state").is_some() {
            body["state"] = "in progress".into();
        }
        say(202, &body)
    }
}

fn binding(instance: &str, id: &str) -> Value {
    json!({ "credentials": { "uri": format!("db://user:{id}@10.0.0.9:5432/{instance}"), "username": "user", "password": id } })
}

fn poll(kept: &mut BTreeMap<String, Kept>, id: &str) -> Said {
    let Some(found) = kept.get_mut(id) else { return say(410, &json!({})) };
    match &mut found.work {
        Some((_, left)) if *left > 0 => {
            *left -= 1;
            say(200, &json!({ "state": "in progress", "description": "working on it" }))
        }
        Some((Work::Delete, _)) => {
            kept.remove(id);
            say(200, &json!({ "state": "succeeded" }))
        }
        _ => {
            found.work = None;
            say(200, &json!({ "state": "succeeded", "description": "all good" }))
        }
    }
}

fn make(kept: &mut BTreeMap<String, Kept>, id: &str, seen: &Seen, polls: Option<usize>, made: Value) -> Said {
    let under_way = |mut made: Value| {
        made["operation"] = "making it".into();
        made.as_object_mut().map(|made| made.remove("credentials"));
        say(202, &made)
    };
    match kept.get(id) {
        Some(found) if found.body != seen.body => say(409, &json!({ "description": "it is there, and other" })),
        Some(found) if found.work.is_some() => under_way(made),
        Some(_) => say(200, &made),
        None => {
            kept.insert(id.to_owned(), Kept { body: seen.body.clone(), work: polls.map(|polls| (Work::Create, polls)) });
            if polls.is_some() { under_way(made) } else { say(201, &made) }
        }
    }
}

fn change(kept: &mut BTreeMap<String, Kept>, id: &str, seen: &Seen, polls: Option<usize>) -> Said {
    let Some(found) = kept.get_mut(id) else { return say(404, &json!({ "description": "no such instance" })) };
    let mut body: Map<String, Value> = found.body.as_object().cloned().unwrap_or_default();
    body.extend(seen.body.as_object().cloned().unwrap_or_default());
    found.body = body.into();
    found.work = polls.map(|polls| (Work::Update, polls));
    match polls {
        Some(_) => say(202, &json!({ "operation": "changing it" })),
        None => say(200, &json!({})),
    }
}

fn remove(kept: &mut BTreeMap<String, Kept>, id: &str, polls: Option<usize>) -> Said {
    match (kept.get_mut(id), polls) {
        (None, _) => say(410, &json!({})),
        (Some(found), Some(polls)) => {
            if !matches!(found.work, Some((Work::Delete, _))) {
                found.work = Some((Work::Delete, polls));
            }
            say(202, &json!({ "operation": "removing it" }))
        }
        (Some(_), None) => {
            kept.remove(id);
            say(200, &json!({}))
        }
    }
}
