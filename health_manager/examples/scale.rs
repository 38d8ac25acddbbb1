//! A quarter of a million instances on a thousand DEAs: what a full pass, a heartbeat and one crash cost, and the memory.
//!
//! `cargo run --release -p health_manager --example scale -- [instances]`

use cloud_controller_client::{Desired, DesiredProcess};
use health_manager::domain::{ClaimsChange, Core, Effect, Input, Settings, Written};
use messages::{
    claims::{Exit, Holder, InstanceRecord, InstanceState},
    dea::{Advertise, Heartbeat, InstanceReport},
};
use rand::{SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use types::Timestamp;
use uuid::Uuid;

const DEAS: u128 = 1_000;
const PER_APP: u32 = 5;

fn id<T: From<Uuid>>(n: u128) -> T {
    T::from(Uuid::from_u128(n))
}

fn main() {
    let instances: u32 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(250_000);
    let apps = u128::from(instances / PER_APP);
    let mut now = Timestamp::from_secs(1_000_000);
    let mut core = Core::new(Settings::named("scale"), StdRng::seed_from_u64(1), now);
    core.handle(Input::Bus(true), now);
    lead(&mut core, now, Input::Lease { lease: None, revision: 0 });
    now = now + Duration::from_secs(1);

    let from = Instant::now();
    core.handle(Input::Claims(ClaimsChange::Reset), now);
    for n in 0..apps {
        for index in 0..PER_APP {
            core.handle(Input::Claims(ClaimsChange::Instance(Box::new(record(n, index, InstanceState::Running, now)), 1)), now);
        }
    }
    let changes = (0..apps).map(|n| Desired::Process(process(n))).collect();
    core.handle(Input::Desired { changes, complete: true, asked: now }, now);
    for dea in 0..DEAS {
        core.handle(Input::Advertise(offer(dea)), now);
    }
    println!("{instances} instances read in {:?}", from.elapsed());

    let from = Instant::now();
    let judged = core.judged();
    let effects = core.handle(Input::Claims(ClaimsChange::Synced), now);
    println!("full pass: {:?}, {} processes judged, {} effects", from.elapsed(), core.judged() - judged, effects.len());

    let from = Instant::now();
    for dea in 0..DEAS {
        core.handle(Input::Heartbeat(beat(dea, apps)), now);
    }
    println!("heartbeats of {DEAS} DEAs: {:?}", from.elapsed());

    let from = Instant::now();
    for n in 0..1_000.min(apps) {
        let effects =
            core.handle(Input::Claims(ClaimsChange::Instance(Box::new(record(n, 0, InstanceState::Crashed, now)), 2)), now);
        for effect in effects {
            if let Effect::Start { dea, start } = effect {
                let slot = (start.version, start.index);
                let outcome = health_manager::domain::Outcome::Accepted;
                core.handle(Input::Started { slot, instance: start.instance, dea, outcome }, now);
            }
        }
    }
    println!("1000 crashes to starts: {:?}", from.elapsed());
    println!("resident: {} MB", resident_mb());
}

fn lead(core: &mut Core, now: Timestamp, input: Input) {
    for effect in core.handle(input, now) {
        if let Effect::Lease { lease, .. } = effect {
            core.handle(Input::LeaseWrote { lease, outcome: Written::Yes(1) }, now);
        }
    }
}

fn process(n: u128) -> DesiredProcess {
    DesiredProcess {
        app: id(n),
        process: id(n),
        process_type: "web".into(),
        version: id(n),
        instances: PER_APP,
        memory_mb: 128,
        disk_mb: 256,
        stack: "debian12".into(),
        only_on: None,
        new_volume_mb: 0,
    }
}

fn instance(n: u128, index: u32) -> u128 {
    n * u128::from(PER_APP) + u128::from(index)
}

fn record(n: u128, index: u32, state: InstanceState, now: Timestamp) -> InstanceRecord {
    let number = instance(n, index);
    let crashed = state == InstanceState::Crashed;
    let exit = Exit { instance: id(number), at: now, status: Some(1), reason: "Exited with status 1".into() };
    InstanceRecord {
        app: id(n),
        process: id(n),
        process_type: "web".into(),
        version: id(n),
        index,
        owner: Some(Holder {
            instance: id(number),
            dea: id(number % DEAS),
            state,
            since: now,
            endpoint: None,
            memory_mb: 128,
            disk_mb: 256,
            details: None,
        }),
        predecessor: None,
        crash_count: u32::from(crashed),
        last_exit: crashed.then_some(exit),
        unplaced: None,
    }
}

fn offer(dea: u128) -> Advertise {
    Advertise {
        id: id(dea),
        stacks: vec!["debian12".into()],
        available_memory_mb: 20_000,
        available_disk_mb: 100_000,
        total_memory_mb: 64_000,
        total_disk_mb: 200_000,
        app_id_to_count: BTreeMap::new(),
        placement_properties: BTreeMap::from([("zone".into(), format!("z{}", dea % 3))]),
        evacuating: false,
    }
}

fn beat(dea: u128, apps: u128) -> Heartbeat {
    let all = apps * u128::from(PER_APP);
    let report = |number: u128| InstanceReport {
        app: id(number / u128::from(PER_APP)),
        process: id(number / u128::from(PER_APP)),
        version: id(number / u128::from(PER_APP)),
        instance: id(number),
        index: (number % u128::from(PER_APP)) as u32,
        state: InstanceState::Running,
        state_timestamp: Timestamp::from_secs(1_000_000),
        usage: None,
    };
    Heartbeat { dea: id(dea), droplets: (dea..all).step_by(DEAS as usize).map(report).collect(), works: vec![] }
}

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default().to_owned();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
}
