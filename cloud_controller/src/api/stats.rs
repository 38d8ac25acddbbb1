//! What runs of a process: `/stats`, instances, and ending one.

use crate::{
    api::{Answer, Api, ok},
    bus::InstanceView,
    domain::{
        Caller, Error, Result, Rule, Tx,
        processes::{self, Found, Which},
        running,
    },
    store::{processes::Process, versions},
};
use actix_web::{
    get,
    web::{Data, Path, ServiceConfig},
};
use messages::{
    claims::{Holder, InstanceState},
    dea::{Answer as DeaAnswer, StopInstance, command_subject},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use types::{Timestamp, VersionId};

/// How long a DEA may take to answer that it stops an instance.
const STOP_ANSWER: Duration = Duration::from_secs(5);

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(show).service(show_of_app);
}

#[get("/v3/processes/{guid}/stats")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    stats(&api, &caller, Which::Guid(guid.into_inner())).await
}

#[get("/v3/apps/{guid}/processes/{kind}/stats")]
async fn show_of_app(api: Data<Api>, caller: Caller, path: Path<(String, String)>) -> Answer {
    let (app, kind) = path.into_inner();
    stats(&api, &caller, Which::OfApp(app, kind)).await
}

async fn stats(api: &Api, caller: &Caller, which: Which) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let found = processes::readable(tx, &which)?;
        let version = versions::of_process(tx.conn, &found.process.guid)?;
        Ok((found, version))
    };
    let (found, version) = api.read(caller, work).await?;
    if !api.actual.is_synced() && found.app.started() {
        return Err(Error::rule(Rule::StatsUnavailable, "Stats server temporarily unavailable.").into());
    }
    let Found { process, app, .. } = &found;
    // What runs has what its start fixed, not what was set since.
    let quotas = version.map_or((process.memory_mb, process.disk_mb), |version| (version.memory_mb, version.disk_mb));
    let slots = slots(api, process);
    let entries: Vec<Value> = (0..process.count())
        .map(|index| match slots.get(&index).and_then(|slot| slot.record.owner.as_ref().map(|owner| (slot, owner))) {
            Some((slot, owner)) => running_entry(api, process, index, slot, owner, quotas, app.started()),
            None => down_entry(process, index, details(slots.get(&index))),
        })
        .collect();
    ok(json!({ "resources": entries }))
}

fn slots(api: &Api, process: &Process) -> BTreeMap<u32, InstanceView> {
    let version: Result<VersionId> = running::id(&process.version);
    version.map(|version| api.actual.of_version(version)).unwrap_or_default()
}

fn details(slot: Option<&InstanceView>) -> Option<String> {
    let record = &slot?.record;
    record.unplaced.clone().or_else(|| record.last_exit.as_ref().map(|exit| exit.reason.clone()))
}

/// The word of the API for a state; `started`: whether it should run at all.
fn word(state: InstanceState, started: bool) -> &'static str {
    match state {
        InstanceState::Crashed if started => "CRASHED",
        InstanceState::Crashed => "DOWN",
        _ if !started => "STOPPING",
        InstanceState::Starting => "STARTING",
        InstanceState::Running | InstanceState::Evacuating => "RUNNING",
        InstanceState::Stopping => "STOPPING",
    }
}

fn running_entry(
    api: &Api,
    process: &Process,
    index: u32,
    slot: &InstanceView,
    owner: &Holder,
    quotas: (i32, i32),
    started: bool,
) -> Value {
    let state = word(owner.state, started);
    if state == "DOWN" {
        return down_entry(process, index, details(Some(slot)));
    }
    let endpoint = owner.endpoint.as_ref();
    let ports: Vec<Value> = endpoint
        .and_then(|endpoint| endpoint.host_port.zip(endpoint.container_port))
        .map(|(external, internal)| {
            json!({ "external": external, "internal": internal, "external_tls_proxy_port": null, "internal_tls_proxy_port": null })
        })
        .into_iter()
        .collect();
    let usage = match &slot.usage {
        Some(usage) => json!({
            "time": usage.at.rfc3339(), "cpu": usage.cpu, "cpu_entitlement": usage.cpu_entitlement, "mem": usage.memory_bytes,
            "disk": usage.disk_bytes, "log_rate": usage.log_rate_bytes,
        }),
        None => json!({}),
    };
    let megabytes = |mb: i32| i64::from(mb) << 20;
    json!({
        "type": process.kind,
        "index": index,
        "instance_guid": owner.instance,
        "state": state,
        "routable": state == "RUNNING",
        "host": endpoint.map(|endpoint| endpoint.host.to_string()).unwrap_or_default(),
        "instance_internal_ip": endpoint.map(|endpoint| endpoint.container.to_string()).unwrap_or_default(),
        "uptime": api.now().since(owner.since).as_secs(),
        "mem_quota": megabytes(quotas.0),
        "disk_quota": megabytes(quotas.1),
        "log_rate_limit": process.log_rate_limit,
        "fds_quota": api.policy.limits.fds,
        "isolation_segment": null,
        "details": owner.details.clone().or_else(|| details(Some(slot))),
        "instance_ports": ports,
        "usage": usage,
    })
}

fn down_entry(process: &Process, index: u32, details: Option<String>) -> Value {
    json!({
        "type": process.kind, "index": index, "state": "DOWN", "routable": false, "uptime": 0, "isolation_segment": null,
        "details": details,
    })
}

/// Index, state and age of each wanted instance.
pub fn instances(api: &Api, process: &Process, started: bool) -> Vec<Value> {
    let slots = slots(api, process);
    let now = api.now();
    let each = (0..process.count()).map(|index| {
        let owner = slots.get(&index).and_then(|slot| slot.record.owner.as_ref());
        let state = owner.map_or("DOWN", |owner| word(owner.state, started));
        let since = owner.map_or(0, |owner| now.since(owner.since.max(Timestamp(0))).as_secs());
        json!({ "index": index, "state": state, "since": since })
    });
    each.collect()
}

/// Has the DEA that holds an instance stop it; it is replaced.
///
/// # Errors
/// When nobody answers; nothing is to stop when nobody holds it.
pub async fn terminate(api: &Api, process: &Process, index: u32) -> Result<()> {
    let slots = slots(api, process);
    let Some(owner) = slots.get(&index).and_then(|slot| slot.record.owner.clone()) else { return Ok(()) };
    let stop = StopInstance { instance: owner.instance, reason: "stopped by user".into(), fence: 0 };
    let subject = command_subject(owner.dea, "stop");
    match api.bus.request::<_, DeaAnswer>(&subject, &stop, STOP_ANSWER).await {
        Ok(DeaAnswer::Accepted) => Ok(()),
        // It does not hold it any more: that was wanted.
        Ok(DeaAnswer::Refused { .. }) => Ok(()),
        Err(e) => {
            tracing::warn!(instance.id = %owner.instance, dea.id = %owner.dea, error = &e as &dyn std::error::Error, "an instance cannot be stopped");
            Err(Error::rule(Rule::RunnerUnavailable, "Runner is unavailable: the host of this instance does not answer"))
        }
    }
}
