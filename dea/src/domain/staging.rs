//! What goes into a staging and what its end means.

use crate::domain::container::{self, Common};
use cloud_controller_client::{Lifecycle, StagingBuildpack, StagingResult, StagingSpec};
use loggregator_client::app_tags;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path};
use types::BuildId;
use warden_client::{BindMount, ContainerSpec, InjectedFile, Limits, LogTarget, ProcessSpec};

/// The name of a staging's container.
pub fn handle(build: BuildId) -> String {
    format!("s-{build}")
}

/// Where the main process says how `builder` ended.
pub const STATUS: &str = "/tmp/.staging-status";

/// The main process: `builder`, and then nothing, so that its results can be read from the container by further processes.
/// Where the status cannot be written (a full disk), it ends with `builder`'s status.
const MAIN: &str = "/tmp/lifecycle/builder </dev/null; status=$?; \
     { printf %s \"$status\" >/tmp/.staging-status.new && mv /tmp/.staging-status.new /tmp/.staging-status; } 2>/dev/null || exit $status; \
     exec sleep infinity";

/// A process that answers with `builder`'s status once it has ended.
pub const AWAIT: &str = "until [ -f /tmp/.staging-status ]; do sleep 0.1; done; head -c 16 /tmp/.staging-status";

/// A process that prints a result, if it is a regular file.
pub fn read(file: &str, most_bytes: u64) -> String {
    format!("[ -f {file} ] && [ ! -L {file} ] || exit 44; exec head -c {most_bytes} {file}")
}

/// A process that prints all of a result, if it is a regular file.
pub fn stream(file: &str) -> String {
    format!("[ -f {file} ] && [ ! -L {file} ] || exit 44; exec cat {file}")
}

/// Exit status of [`read`] and [`stream`] where there is no such file.
pub const ABSENT: i32 = 44;

/// The prepared files of a staging on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// The package.
    pub package: std::path::PathBuf,
    /// The build cache of an earlier staging.
    pub cache: Option<std::path::PathBuf>,
    /// Admin buildpacks: key and unpacked folder.
    pub buildpacks: BTreeMap<String, std::path::PathBuf>,
}

/// The container of a staging.
pub fn spec(common: &Common, staging: &StagingSpec, inputs: &Inputs) -> ContainerSpec {
    let read_only = |source: &Path, destination: String| BindMount {
        source: source.to_owned(),
        destination: destination.into(),
        read_only: true,
    };
    let mut mounts = vec![container::program(&common.lifecycle, "builder"), container::program(&common.lifecycle, "launcher")];
    mounts.push(read_only(&inputs.package, "/tmp/package.zip".into()));
    mounts.extend(inputs.cache.iter().map(|cache| read_only(cache, "/tmp/cache.tgz".into())));
    mounts.extend(inputs.buildpacks.iter().map(|(key, folder)| read_only(folder, format!("/tmp/buildpacks/{key}"))));
    let app = staging.app.to_string();
    let names = |pair: &(String, String)| (pair.0.clone(), pair.1.clone());
    let (space, organization) = (names(&staging.space), names(&staging.organization));
    let mut env = container::platform(&staging.env);
    env.entry("CF_STACK".into()).or_insert_with(|| staging.stack.clone());
    env.entry("STAGING_TIMEOUT".into()).or_insert_with(|| staging.timeout_s.to_string());
    let order =
        InjectedFile { path: "/tmp/staging.json".into(), mode: 0o444, user_owned: false, content: order(staging).to_string() };
    let files = std::iter::once(order).chain(container::binding_files(&staging.binding_files)).collect();
    ContainerSpec {
        handle: handle(staging.build),
        labels: container::staging_labels(common.dea, staging.build, staging.app),
        stack: staging.stack.clone(),
        layers: vec![],
        mounts,
        files,
        limits: Limits {
            memory_bytes: u64::from(staging.memory_mb) << 20,
            disk_bytes: u64::from(staging.disk_mb) << 20,
            cpu_shares: container::cpu_shares(staging.memory_mb),
            cpu_quota_millis: None,
            pids: common.pids,
            nofile: 16_384,
            log_bytes_per_second: staging.log_rate_limit_bytes_per_second,
        },
        ports: vec![],
        service_ports: vec![],
        egress: container::endpoints(&staging.egress),
        volumes: vec![],
        process: process(MAIN, &env),
        log: Some(LogTarget {
            source_id: app.clone(),
            instance_id: "0".into(),
            source_type: "STG".into(),
            tags: app_tags((&app, &staging.app_name), (&space.0, &space.1), (&organization.0, &organization.1)),
        }),
    }
}

/// A shell line inside a staging container.
pub fn process(line: &str, env: &BTreeMap<String, String>) -> ProcessSpec {
    ProcessSpec {
        argv: vec!["/bin/bash".into(), "-c".into(), line.into()],
        env: container::lines(env),
        cwd: "/home/vcap".into(),
        user: "vcap".into(),
    }
}

/// What `builder` is told: `/tmp/staging.json`.
fn order(staging: &StagingSpec) -> Value {
    let buildpack = |one: &StagingBuildpack| match (&one.sha256, &one.url) {
        (Some(key), None) => json!({"name": one.name, "key": key.to_lowercase()}),
        (_, Some(url)) => json!({"name": one.name, "url": url}),
        (None, None) => json!({"name": one.name}),
    };
    json!({
        "buildpacks": staging.buildpacks.iter().map(buildpack).collect::<Vec<_>>(),
        "skip_detect": staging.skip_detect,
        "stack": staging.stack,
        "timeout_s": staging.timeout_s,
    })
}

/// The result file as `builder` writes it, in success and failure.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ResultFile {
    /// What took part, and the processes.
    #[serde(flatten)]
    pub lifecycle: Lifecycle,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<ResultError>,
}

/// Why a staging failed, in `builder`'s words.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ResultError {
    /// `NoAppDetectedError`, ...
    pub id: String,
    /// One line.
    pub message: String,
}

/// The result of a staging that brought no droplet, by `builder`'s exit status and what it wrote.
///
/// Ids are fixed by the status, so that a buildpack cannot invent one; only the words come from inside.
///
/// Source: cloudfoundry/buildpackapplifecycle, `models.go`; cloud_controller_ng, `failure_reason_sanitizer.rb`, `errors/v2.yml`.
pub fn failure(status: i32, out_of_memory: bool, memory_mb: u32, written: Option<&ResultFile>) -> StagingResult {
    let said =
        written.and_then(|result| result.error.as_ref()).map(|error| first_line(&error.message)).filter(|said| !said.is_empty());
    let (id, fixed) = match status {
        222 => ("NoAppDetectedError", "An app was not successfully detected by any available buildpack"),
        223 => ("BuildpackCompileFailed", "App staging failed in the buildpack compile phase"),
        224 => ("BuildpackReleaseFailed", "App staging failed in the buildpack release phase"),
        124 => ("StagingTimeExpired", "Staging time expired"),
        225 => ("StagingError", "Staging error: a buildpack failed in its supply phase"),
        _ => ("StagingError", "Staging error: staging failed"),
    };
    let message = match (out_of_memory, said) {
        (true, _) => format!("{fixed} (out of memory: the limit is {memory_mb} MB)"),
        (_, Some(said)) if id == "StagingError" => format!("Staging error: {said}"),
        (_, Some(said)) if id != "NoAppDetectedError" && said != fixed => format!("{fixed}: {said}"),
        (false, None) if id == "StagingError" && status != 225 => format!("{fixed} (exit status {status})"),
        _ => fixed.to_owned(),
    };
    StagingResult::Failed { id: id.into(), message }
}

/// A failure of the platform's own part.
pub fn error(message: impl AsRef<str>) -> StagingResult {
    StagingResult::Failed { id: "StagingError".into(), message: format!("Staging error: {}", message.as_ref()) }
}

/// A staging that took too long.
pub fn expired(timeout_s: u32) -> StagingResult {
    StagingResult::Failed {
        id: "StagingTimeExpired".into(),
        message: format!("Staging time expired: it took longer than {timeout_s} s"),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(status: i32, out_of_memory: bool, said: Option<&str>) -> (String, String) {
        let error = said.map(|said| ResultError { id: "Whatever".into(), message: said.into() });
        let written = ResultFile { error, ..ResultFile::default() };
        match failure(status, out_of_memory, 1024, Some(&written)) {
            StagingResult::Failed { id, message } => (id, message),
            StagingResult::Staged { .. } => panic!(),
        }
    }

    #[test]
    fn exit_statuses_become_the_errors_that_users_know() {
        let told = |status| failed(status, false, None);
        assert_eq!(told(222).0, "NoAppDetectedError");
        assert_eq!(told(222).1, "An app was not successfully detected by any available buildpack");
        assert_eq!(told(223).1, "App staging failed in the buildpack compile phase");
        assert_eq!(told(224).0, "BuildpackReleaseFailed");
        assert_eq!(told(225).0, "StagingError");
        assert_eq!(told(124).0, "StagingTimeExpired");
        assert_eq!(told(1), ("StagingError".into(), "Staging error: staging failed (exit status 1)".into()));
    }

    #[test]
    fn what_a_buildpack_says_is_one_line_and_never_an_id() {
        let (id, message) = failed(223, false, Some("npm failed\nsecond line\u{7}"));
        assert_eq!(
            (id.as_str(), message.as_str()),
            ("BuildpackCompileFailed", "App staging failed in the buildpack compile phase: npm failed")
        );
        assert_eq!(failed(225, false, Some("a, bin/supply: exit status 1")).1, "Staging error: a, bin/supply: exit status 1");
        assert!(failed(223, true, None).1.contains("out of memory: the limit is 1024 MB"));
    }
}
