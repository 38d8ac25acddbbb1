//! Stagings: each is placed at most once, and ends with a reason if it cannot be.

use super::{
    Core, Effect, Outcome,
    fleet::{Ask, NoPlaceKind, Room},
};
use cloud_controller_client::DesiredBuild;
use messages::dea::StageBuild;
use std::{collections::BTreeMap, time::Duration};
use types::{BuildId, DeaId, Timestamp};
use uuid::Uuid;

/// How often a failure is told again until the feed shows that it was heard.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// How long nobody may be there to ask: the platform may be just starting.
const NOBODY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Build {
    wanted: DesiredBuild,
    phase: Phase,
    /// When it was first tried to place it.
    tried: Option<Timestamp>,
    refused: BTreeMap<DeaId, String>,
}

#[derive(Debug)]
enum Phase {
    /// Found no place; looked for again when something changes, or then.
    Waiting { again: Timestamp },
    /// A DEA was asked.
    Asked { dea: DeaId, at: Timestamp },
    /// It accepted, or nobody knows whether it did.
    Open { dea: DeaId, at: Timestamp },
    /// A DEA claimed it.
    Taken,
    /// It failed; the cloud controller is to know.
    Failed { id: &'static str, message: String, told: Option<Timestamp> },
}

impl Core {
    pub(super) fn want_build(&mut self, wanted: DesiredBuild) {
        let build = wanted.build;
        let taken = self.works.contains_key(&build.uuid());
        let phase = if taken { Phase::Taken } else { Phase::Waiting { again: Timestamp(0) } };
        self.builds.entry(build).or_insert(Build { wanted, phase, tried: None, refused: BTreeMap::new() });
    }

    pub(super) fn unwant_build(&mut self, build: BuildId) {
        if let Some(Build { phase: Phase::Asked { dea, .. }, .. }) = self.builds.remove(&build) {
            self.in_flight -= 1;
            self.fleet.answered(dea, build.uuid(), true);
        }
    }

    /// A DEA claimed it.
    pub(super) fn work_taken(&mut self, work: Uuid, _dea: DeaId) {
        if let Some(build) = self.builds.get_mut(&BuildId::from(work)) {
            match build.phase {
                Phase::Asked { dea, .. } => {
                    self.in_flight -= 1;
                    self.fleet.answered(dea, work, true);
                    build.phase = Phase::Taken;
                }
                Phase::Waiting { .. } | Phase::Open { .. } => build.phase = Phase::Taken,
                Phase::Taken | Phase::Failed { .. } => {}
            }
        }
    }

    pub(super) fn asked_builds(&self) -> usize {
        self.builds.values().filter(|build| matches!(build.phase, Phase::Asked { .. })).count()
    }

    /// Room may have come free.
    pub(super) fn builds_wait_no_more(&mut self) {
        for build in self.builds.values_mut() {
            if let Phase::Waiting { again } = &mut build.phase {
                *again = Timestamp(0);
            }
        }
    }

    pub(super) fn staged(&mut self, id: BuildId, dea: DeaId, outcome: Outcome, now: Timestamp, effects: &mut Vec<Effect>) {
        let taken = !matches!(outcome, Outcome::Refused(_) | Outcome::NotSent);
        self.fleet.answered(dea, id.uuid(), taken);
        let Some(build) = self.builds.get_mut(&id) else { return };
        let Phase::Asked { dea: asked, at } = build.phase else { return };
        if asked != dea {
            return;
        }
        self.in_flight -= 1;
        match outcome {
            Outcome::Accepted => build.phase = Phase::Open { dea, at },
            Outcome::Unknown => {
                build.phase = Phase::Open { dea, at };
                effects.push(Effect::Locate);
            }
            Outcome::Refused(why) => {
                build.refused.insert(dea, why);
                build.phase = Phase::Waiting { again: now };
            }
            Outcome::NotSent => {
                build.refused.insert(dea, "the DEA does not answer".into());
                build.phase = Phase::Waiting { again: now };
            }
        }
    }

    pub(super) fn build_failed(&mut self, id: BuildId, told: bool) {
        if let Some(Build { phase: Phase::Failed { told: at, .. }, .. }) = self.builds.get_mut(&id)
            && !told
        {
            *at = None;
        }
    }

    pub(super) fn tend_builds(&mut self, fence: u64, now: Timestamp, effects: &mut Vec<Effect>) {
        let ids: Vec<BuildId> = self.builds.keys().copied().collect();
        for id in ids {
            self.tend_build(id, fence, now, effects);
        }
        self.remove_old_works(now, effects);
    }

    fn tend_build(&mut self, id: BuildId, fence: u64, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(build) = self.builds.get(&id) else { return };
        match &build.phase {
            Phase::Waiting { again } if *again <= now && self.in_flight < self.settings.max_in_flight => {
                self.place_build(id, fence, now, effects);
            }
            Phase::Asked { dea, at } if now.since(*at) >= Duration::from_secs(15) => {
                let (dea, at) = (*dea, *at);
                self.in_flight -= 1;
                self.fleet.answered(dea, id.uuid(), true);
                self.set_phase(id, Phase::Open { dea, at });
            }
            Phase::Open { dea, at } if self.did_not_take_work(*dea, id, *at, now) => {
                // Safe to ask another: the work's record is made once only, whoever comes second finds it there.
                let dea = *dea;
                self.set_phase(id, Phase::Waiting { again: now + Duration::from_secs(1) });
                if let Some(build) = self.builds.get_mut(&id) {
                    build.refused.insert(dea, "the DEA did not take it".into());
                }
            }
            Phase::Taken if self.is_fresh(now) && self.work_lost(id.uuid()) => {
                self.fail(id, "StagingError", "the host that staged it was lost; try again".into(), now, effects);
            }
            Phase::Failed { id: kind, message, told } if told.is_none_or(|at| now.since(at) >= TELL_AGAIN) => {
                let (kind, message) = (*kind, message.clone());
                self.fail(id, kind, message, now, effects);
            }
            _ => {}
        }
    }

    fn place_build(&mut self, id: BuildId, fence: u64, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(build) = self.builds.get_mut(&id) else { return };
        let first = *build.tried.get_or_insert(now);
        let wanted = build.wanted.clone();
        let room = Room { memory_mb: wanted.memory_mb, disk_mb: wanted.disk_mb };
        let ask = Ask { room, stack: &wanted.stack, ..Ask::default() };
        let no = match self.fleet.place(&ask, &build.refused, now, &mut self.rng) {
            Ok(dea) => {
                build.phase = Phase::Asked { dea, at: now };
                self.in_flight += 1;
                self.fleet.ask(dea, id.uuid(), room);
                let DesiredBuild { build, app, memory_mb, disk_mb, stack, .. } = wanted;
                effects.push(Effect::Stage { dea, stage: StageBuild { build, app, memory_mb, disk_mb, stack, fence } });
                return;
            }
            Err(no) => no,
        };
        // Those who refused may think again.
        build.refused.clear();
        build.phase = Phase::Waiting { again: now + Duration::from_secs(2) };
        let waited = now.since(first);
        let heard_all = now.since(self.fleet.listening_since()) >= Duration::from_secs(10);
        let hopeless = match no.kind {
            NoPlaceKind::NeverFits | NoPlaceKind::NoStack => heard_all,
            NoPlaceKind::NothingFree => waited >= self.settings.build_patience,
            NoPlaceKind::NobodyToAsk => waited >= NOBODY,
        };
        if hopeless && self.is_fresh(now) {
            let message = no.why.trim_start_matches("InsufficientResources: ").to_owned();
            let kind = if no.kind == NoPlaceKind::NoStack { "NoCompatibleCell" } else { "InsufficientResources" };
            self.fail(id, kind, message, now, effects);
        }
    }

    fn fail(&mut self, build: BuildId, id: &'static str, message: String, now: Timestamp, effects: &mut Vec<Effect>) {
        self.set_phase(build, Phase::Failed { id, message: message.clone(), told: Some(now) });
        effects.push(Effect::FailBuild { build, id, message });
    }

    fn set_phase(&mut self, id: BuildId, phase: Phase) {
        if let Some(build) = self.builds.get_mut(&id) {
            build.phase = phase;
        }
    }

    fn did_not_take_work(&self, dea: DeaId, id: BuildId, asked: Timestamp, now: Timestamp) -> bool {
        let Some(dea) = self.fleet.deas.get(&dea) else { return true };
        let told_without =
            dea.last.as_ref().is_some_and(|beat| beat.at > asked + Duration::from_secs(6) && !beat.works.contains(&id.uuid()));
        told_without || dea.silent || now.since(asked) >= Duration::from_secs(60)
    }

    /// Its DEA fell silent, or told twice that it does not know of it: it will never end by itself.
    fn work_lost(&self, work: Uuid) -> bool {
        let Some(known) = self.works.get(&work).filter(|work| !work.record.done) else { return false };
        let Some(dea) = self.fleet.deas.get(&known.record.dea) else { return false };
        let lacks = |beat: &Option<super::fleet::Beat>| {
            beat.as_ref().is_some_and(|beat| beat.at > known.told + Duration::from_secs(1) && !beat.works.contains(&work))
        };
        dea.silent || (lacks(&dea.last) && lacks(&dea.previous))
    }

    /// Records of stagings that are over: the feed knows them no more, and nobody works on them.
    fn remove_old_works(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let aged = |told: Timestamp| now.since(told) >= Duration::from_secs(60);
        if !self.is_fresh(now) || !self.works.values().any(|work| aged(work.told)) {
            return;
        }
        let over: Vec<Uuid> = self
            .works
            .iter()
            .filter(|(id, work)| aged(work.told) && !self.builds.contains_key(&BuildId::from(**id)))
            .filter(|(id, work)| work.record.done || self.work_lost(**id))
            .map(|(id, _)| *id)
            .collect();
        for work in over {
            if let Some(record) = self.works.get_mut(&work) {
                record.told = now;
                effects.push(Effect::RemoveWork { work, revision: record.revision });
            }
        }
    }
}
