//! What a slot's record should become, given what it is and what this DEA holds.
//!
//! Level, not edge: the same comparison serves the first write, a lost write, a conflict with the health manager's notes,
//! and a store that was rolled back.

use messages::{
    claims::{Exit, Holder, InstanceRecord, InstanceState, instance_key},
    dea::StartInstance,
};
use types::{AppId, InstanceId, ProcessId, Timestamp, VersionId};

/// The fixed part of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The app.
    pub app: AppId,
    /// The process.
    pub process: ProcessId,
    /// `web`, ...
    pub process_type: String,
    /// The start.
    pub version: VersionId,
    /// The index.
    pub index: u32,
    /// The instance.
    pub instance: InstanceId,
    /// Memory.
    pub memory_mb: u32,
    /// Disk.
    pub disk_mb: u32,
    /// The stack.
    pub stack: String,
}

impl Slot {
    /// The key of its record.
    pub fn key(&self) -> String {
        instance_key(self.version, self.index)
    }

    /// The name of its container.
    pub fn handle(&self) -> String {
        handle(self.instance)
    }
}

/// The name of an instance's container.
pub fn handle(instance: InstanceId) -> String {
    format!("i-{instance}")
}

impl From<&StartInstance> for Slot {
    fn from(start: &StartInstance) -> Self {
        Self {
            app: start.app,
            process: start.process,
            process_type: start.process_type.clone(),
            version: start.version,
            index: start.index,
            instance: start.instance,
            memory_mb: start.memory_mb,
            disk_mb: start.disk_mb,
            stack: start.stack.clone(),
        }
    }
}

/// What this DEA wants a record to say.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// This instance holds the slot.
    Hold(Box<Hold>),
    /// This instance holds it no longer.
    Release(InstanceId),
}

/// An instance's part of its record.
#[derive(Clone, Debug, PartialEq)]
pub struct Hold {
    /// The slot.
    pub slot: Slot,
    /// How the instance is.
    pub holder: Holder,
    /// Crashes in a row.
    pub crash_count: u32,
    /// How the last one ended.
    pub last_exit: Option<Exit>,
}

/// What to do with the record.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It says what it should.
    Nothing,
    /// Make it.
    Create(InstanceRecord),
    /// Change it.
    Update(InstanceRecord),
    /// Take it away.
    Remove,
    /// The slot belongs to somebody else now.
    Lost,
}

/// The record of a slot that is claimed now, over what it was.
///
/// Whoever served before goes on serving as predecessor until the new owner runs.
pub fn claimed(previous: Option<&InstanceRecord>, hold: &Hold) -> InstanceRecord {
    let mut record = fresh(hold);
    let Some(previous) = previous else { return record };
    let serves = |holder: &&Holder| {
        holder.instance != hold.holder.instance && matches!(holder.state, InstanceState::Running | InstanceState::Evacuating)
    };
    record.predecessor = previous.owner.as_ref().filter(serves).or(previous.predecessor.as_ref()).cloned();
    record.crash_count = previous.crash_count;
    record.last_exit = previous.last_exit.clone();
    record
}

fn fresh(hold: &Hold) -> InstanceRecord {
    InstanceRecord {
        app: hold.slot.app,
        process: hold.slot.process,
        process_type: hold.slot.process_type.clone(),
        version: hold.slot.version,
        index: hold.slot.index,
        owner: Some(hold.holder.clone()),
        predecessor: None,
        crash_count: hold.crash_count,
        last_exit: hold.last_exit.clone(),
        unplaced: None,
    }
}

/// Whether this record names the instance, as owner or as predecessor.
pub fn names(record: &InstanceRecord, instance: InstanceId) -> bool {
    [&record.owner, &record.predecessor].into_iter().flatten().any(|holder| holder.instance == instance)
}

/// Whether a record that was written for `wanted` still has a place for its instance. A predecessor that crashed has none.
pub fn keeps(record: &InstanceRecord, wanted: &Wanted) -> bool {
    match wanted {
        Wanted::Hold(hold) => names(record, hold.slot.instance),
        Wanted::Release(_) => true,
    }
}

/// The next step for a record. `reassert`: the store is known to have been rolled back, so what it says is old.
pub fn step(current: Option<&InstanceRecord>, wanted: &Wanted, reassert: bool) -> Step {
    match wanted {
        Wanted::Hold(hold) => hold_step(current, hold, reassert),
        Wanted::Release(instance) => release_step(current, *instance),
    }
}

fn hold_step(current: Option<&InstanceRecord>, hold: &Hold, reassert: bool) -> Step {
    let Some(current) = current else {
        return if reassert { Step::Create(fresh(hold)) } else { Step::Lost };
    };
    let mine = |holder: &Option<Holder>| holder.as_ref().is_some_and(|holder| holder.instance == hold.holder.instance);
    let mut record = current.clone();
    if mine(&current.owner) || (reassert && !mine(&current.predecessor)) {
        record.owner = Some(hold.holder.clone());
        record.crash_count = hold.crash_count;
        record.last_exit = hold.last_exit.clone();
        record.unplaced = None;
    } else if mine(&current.predecessor) {
        // A predecessor that ended serves nobody: the owner's story goes on without it.
        record.predecessor = Some(hold.holder.clone()).filter(|holder| holder.state != InstanceState::Crashed);
    } else {
        return Step::Lost;
    }
    if record == *current { Step::Nothing } else { Step::Update(record) }
}

fn release_step(current: Option<&InstanceRecord>, instance: InstanceId) -> Step {
    let Some(current) = current else { return Step::Nothing };
    let mine = |holder: &Option<Holder>| holder.as_ref().is_some_and(|holder| holder.instance == instance);
    match (mine(&current.owner), mine(&current.predecessor)) {
        (true, _) if current.predecessor.is_none() => Step::Remove,
        (true, _) => Step::Update(InstanceRecord { owner: None, ..current.clone() }),
        (_, true) => Step::Update(InstanceRecord { predecessor: None, ..current.clone() }),
        _ => Step::Nothing,
    }
}

/// Crashes in a row after one more, for an instance that ran since `running_since`.
///
/// Source: specs of the health manager: the count begins anew after five healthy minutes.
pub fn crashes(before: u32, running_since: Option<Timestamp>, now: Timestamp) -> u32 {
    match running_since {
        Some(since) if now.since(since).as_secs() >= 300 => 1,
        _ => before.saturating_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(n: u8) -> T {
        format!("00000000-0000-4000-8000-0000000000{n:02}").parse().unwrap()
    }

    fn holder(instance: u8, state: InstanceState) -> Holder {
        Holder {
            instance: id(instance),
            dea: id(9),
            state,
            since: Timestamp(5),
            endpoint: None,
            memory_mb: 64,
            disk_mb: 128,
            details: None,
        }
    }

    fn hold(instance: u8, state: InstanceState) -> Hold {
        let slot = Slot {
            app: id(1),
            process: id(2),
            process_type: "web".into(),
            version: id(3),
            index: 0,
            instance: id(instance),
            memory_mb: 64,
            disk_mb: 128,
            stack: "debian12".into(),
        };
        Hold { slot, holder: holder(instance, state), crash_count: 0, last_exit: None }
    }

    fn want(instance: u8, state: InstanceState) -> Wanted {
        Wanted::Hold(Box::new(hold(instance, state)))
    }

    #[test]
    fn the_health_managers_notes_are_kept_out_of_the_owners_way() {
        let mut record = claimed(None, &hold(4, InstanceState::Starting));
        record.unplaced = Some("old".into());
        let Step::Update(next) = step(Some(&record), &want(4, InstanceState::Running), false) else { panic!() };
        assert_eq!((next.owner.unwrap().state, next.unplaced), (InstanceState::Running, None));
    }

    #[test]
    fn a_slot_that_somebody_else_has_is_lost_unless_the_store_was_rolled_back() {
        let record = claimed(None, &hold(5, InstanceState::Running));
        assert_eq!(step(Some(&record), &want(4, InstanceState::Running), false), Step::Lost);
        assert_eq!(step(None, &want(4, InstanceState::Running), false), Step::Lost);
        assert!(matches!(step(None, &want(4, InstanceState::Running), true), Step::Create(_)));
        assert!(matches!(step(Some(&record), &want(4, InstanceState::Running), true), Step::Update(_)));
    }

    #[test]
    fn whoever_served_before_serves_on_as_predecessor() {
        let evacuating = claimed(None, &hold(4, InstanceState::Evacuating));
        let record = claimed(Some(&evacuating), &hold(5, InstanceState::Starting));
        assert_eq!(record.predecessor.as_ref().unwrap().instance, id(4));
        let Step::Update(next) = step(Some(&record), &Wanted::Release(id(4)), false) else { panic!() };
        assert_eq!((next.owner.unwrap().instance, next.predecessor), (id(5), None));
        let crashed = claimed(None, &hold(4, InstanceState::Crashed));
        assert_eq!(claimed(Some(&crashed), &hold(5, InstanceState::Starting)).predecessor, None);
    }

    #[test]
    fn a_predecessor_that_crashes_leaves_the_owners_story_alone() {
        let evacuating = claimed(None, &hold(4, InstanceState::Evacuating));
        let record = claimed(Some(&evacuating), &hold(5, InstanceState::Starting));
        let Step::Update(next) = step(Some(&record), &want(4, InstanceState::Crashed), false) else { panic!() };
        assert!(!keeps(&next, &want(4, InstanceState::Crashed)), "nothing of it is left to tell");
        assert_eq!((next.predecessor, next.owner.unwrap().state), (None, InstanceState::Starting));
    }

    #[test]
    fn a_stopped_instance_takes_its_record_along_and_nobody_elses() {
        let record = claimed(None, &hold(4, InstanceState::Stopping));
        assert_eq!(step(Some(&record), &Wanted::Release(id(4)), false), Step::Remove);
        assert_eq!(step(Some(&record), &Wanted::Release(id(5)), false), Step::Nothing);
        assert_eq!(step(None, &Wanted::Release(id(5)), false), Step::Nothing);
    }

    #[test]
    fn crashes_count_anew_after_five_healthy_minutes() {
        let now = Timestamp::from_secs(1_000);
        assert_eq!(crashes(3, None, now), 4);
        assert_eq!(crashes(3, Some(Timestamp::from_secs(701)), now), 4);
        assert_eq!(crashes(3, Some(Timestamp::from_secs(700)), now), 1);
    }
}
