//! A broker that is killed in the middle of each kind of work ends it after its next start, and leaks nothing.

#![expect(clippy::unwrap_used, reason = "a step that cannot be done fails its test")]

mod world;

use broker_sdk::{Outside, start};
use foundation::{Shutdown, SystemClock};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use world::{LATER, SERVICE, Things, settings};

const FOLDER: &str = "BROKER_TEST_FOLDER";
const HELD: &str = "BROKER_TEST_HELD";

/// Not a test of its own: the process that is killed.
#[actix_web::test]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let things = Things::new();
    things.open.send_replace(std::env::var_os(HELD).is_none());
    let outside = Outside { clock: Arc::new(SystemClock), rng: StdRng::seed_from_u64(u64::from(std::process::id())) };
    let address = start(things.clone(), settings(Path::new(&folder)), outside, &Shutdown::new()).await.unwrap();
    println!("listening on {address}");
    std::future::pending::<()>().await;
}

struct Process {
    child: Child,
    address: String,
}

impl Process {
    fn start(folder: &Path, held: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--nocapture"]).env(FOLDER, folder).stdout(Stdio::piped()).stderr(Stdio::null());
        if held {
            command.env(HELD, "1");
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| Some(line.split_once("listening on ")?.1.to_owned()));
        Self { address: address.expect("the child does not listen"), child }
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = request.request(method.parse().unwrap(), format!("http://{}/v2/service_instances/{path}", self.address));
        let request = request.basic_auth(world::USER, Some(world::PASSWORD)).header("X-Broker-API-Version", "2.17").json(&body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn ended(&self, path: &str, operation: &str) -> (u16, Value) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = self.call("GET", &format!("{path}last_operation?operation={operation}"), Value::Null).await;
            if answer.1["state"] != "in progress" {
                return answer;
            }
            assert!(Instant::now() < deadline, "{answer:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[actix_web::test]
async fn every_kind_of_work_ends_after_a_kill() {
    foundation::tls::install_crypto();
    let delete = format!("?service_id={SERVICE}&plan_id={LATER}&accepts_incomplete=true");
    let slow = json!({ "slow": true });
    let bind = json!({ "service_id": SERVICE, "plan_id": LATER, "parameters": slow });
    let update = json!({ "service_id": SERVICE, "parameters": slow });
    // what is killed: method, path, body; where it is polled; status and state at the end
    let cases = [
        ("provision", "PUT", "i?accepts_incomplete=true".to_owned(), world::provision(LATER, slow.clone()), "i/", 200),
        ("update", "PATCH", "i?accepts_incomplete=true".to_owned(), update, "i/", 200),
        ("bind", "PUT", "i/service_bindings/b?accepts_incomplete=true".to_owned(), bind, "i/service_bindings/b/", 200),
        ("backup", "POST", "i/backups?accepts_incomplete=true".to_owned(), json!({ "id": "k" }), "i/", 200),
        ("restore", "POST", "i/restore?accepts_incomplete=true".to_owned(), json!({ "backup_id": "k" }), "i/", 200),
        ("delete-backup", "DELETE", "i/backups/k?accepts_incomplete=true".to_owned(), Value::Null, "i/", 410),
        ("unbind", "DELETE", format!("i/service_bindings/b{delete}"), Value::Null, "i/service_bindings/b/", 410),
        ("deprovision", "DELETE", format!("i{delete}"), Value::Null, "i/", 410),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (name, method, path, body, polled, status) in cases {
        let process = Process::start(folder.path(), true);
        let (accepted, begun) = process.call(method, &path, body.clone()).await;
        assert_eq!(accepted, 202, "{name}: {begun}");
        let operation = begun["operation"].as_str().unwrap().to_owned();
        process.kill();

        let process = Process::start(folder.path(), true);
        let (again, same) = process.call(method, &path, body).await;
        if name != "restore" {
            assert_eq!((again, &same["operation"]), (202, &json!(operation)), "{name}: a repeat is the same operation");
        }
        process.kill();

        let process = Process::start(folder.path(), false);
        let (found, last) = process.ended(polled, &operation).await;
        assert_eq!(found, status, "{name}: {last}");
        assert!(status == 410 || last["state"] == "succeeded", "{name}: {last}");
        process.kill();
    }
}

#[actix_web::test]
async fn work_that_a_request_waited_for_ends_after_a_kill_too() {
    foundation::tls::install_crypto();
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), true);
    let body = world::provision(world::NOW, json!({ "slow": true }));
    let (status, accepted) = process.call("PUT", "i?accepts_incomplete=true", body.clone()).await;
    assert_eq!(status, 202, "it takes longer than a request may: {accepted}");
    let waiting = process.call("PUT", "j", body.clone());
    let killed = tokio::time::timeout(Duration::from_millis(500), waiting).await;
    assert!(killed.is_err(), "the request still waits when its broker is killed");
    process.kill();

    let process = Process::start(folder.path(), false);
    for id in ["i", "j"] {
        let (status, last) = process.ended(&format!("{id}/"), "").await;
        assert_eq!((status, &last["state"]), (200, &json!("succeeded")), "{id}");
        assert_eq!(process.call("PUT", id, body.clone()).await.0, 200, "{id}: the platform's repeat finds it");
    }
}
