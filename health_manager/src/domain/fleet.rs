//! The DEAs, as far as they are known, and the choice among them.

use messages::{
    claims::InstanceState,
    dea::{Advertise, Heartbeat},
};
use rand::{Rng, RngExt};
use std::{collections::BTreeMap, time::Duration};
use types::{AppId, DeaId, InstanceId, MemoryMb, Timestamp};
use uuid::Uuid;

/// Memory and disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) memory_mb: u32,
    pub(crate) disk_mb: u32,
}

impl Room {
    fn add(&mut self, other: Room) {
        self.memory_mb = self.memory_mb.saturating_add(other.memory_mb);
        self.disk_mb = self.disk_mb.saturating_add(other.disk_mb);
    }
    fn take(&mut self, other: Room) {
        self.memory_mb = self.memory_mb.saturating_sub(other.memory_mb);
        self.disk_mb = self.disk_mb.saturating_sub(other.disk_mb);
    }
    fn holds(&self, other: Room) -> bool {
        self.memory_mb >= other.memory_mb && self.disk_mb >= other.disk_mb
    }
}

/// What is to be placed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ask<'a> {
    /// Instances of one app are spread over zones and DEAs; stagings (no app) are spread by number.
    pub(crate) app: Option<AppId>,
    pub(crate) room: Room,
    pub(crate) stack: &'a str,
    /// Nobody else may have it: its volume is there.
    pub(crate) only_on: Option<DeaId>,
    /// A volume that is made first takes this much disk besides.
    pub(crate) new_volume_mb: u32,
    /// Who may have that volume already, from a start that came to nothing.
    pub(crate) begun_on: Option<DeaId>,
    /// It is preferred, so that not every host gets one.
    pub(crate) stay: bool,
}

impl Ask<'_> {
    /// The room that it takes on this DEA.
    pub(crate) fn room_on(&self, dea: DeaId) -> Room {
        let volume = if self.begun_on == Some(dea) { 0 } else { self.new_volume_mb };
        Room { disk_mb: self.room.disk_mb.saturating_add(volume), ..self.room }
    }

    fn may_be_on(&self, dea: DeaId) -> bool {
        self.only_on.is_none_or(|only| only == dea)
    }
}

/// Why nothing was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoPlace {
    /// For the user.
    pub(crate) why: String,
    pub(crate) kind: NoPlaceKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlaceKind {
    /// There is no DEA to ask, or each refused: this may pass by itself.
    NobodyToAsk,
    /// Not enough is free now.
    NothingFree,
    /// More than any DEA has in all.
    NeverFits,
    /// A stack that no DEA has.
    NoStack,
}

/// One heartbeat.
#[derive(Debug, Default)]
pub(crate) struct Beat {
    pub(crate) at: Timestamp,
    pub(crate) instances: BTreeMap<InstanceId, InstanceState>,
    pub(crate) works: Vec<Uuid>,
}

/// What an advertisement changed.
pub(crate) struct News {
    /// It was silent before.
    pub(crate) returned: bool,
    /// It has more to offer than we counted.
    pub(crate) roomier: bool,
}

#[derive(Debug)]
pub(crate) struct Dea {
    offer: Option<Advertise>,
    offered_at: Timestamp,
    /// What is free by our own count: the last advertisement, less what was asked for since, plus what ended since.
    free: Room,
    /// Asked for and not answered yet.
    asked: BTreeMap<Uuid, Room>,
    heard: Timestamp,
    /// Silent for longer than is allowed; decided by the tick, so that one moment has one answer.
    pub(crate) silent: bool,
    pub(crate) last: Option<Beat>,
    pub(crate) previous: Option<Beat>,
}

impl Dea {
    fn new(now: Timestamp) -> Self {
        Self {
            offer: None,
            offered_at: Timestamp(0),
            free: Room::default(),
            asked: BTreeMap::new(),
            heard: now,
            silent: false,
            last: None,
            previous: None,
        }
    }

    /// It drains.
    pub(crate) fn evacuating(&self) -> bool {
        self.offer.as_ref().is_some_and(|offer| offer.evacuating)
    }

    fn zone(&self) -> &str {
        self.offer.as_ref().and_then(|offer| offer.placement_properties.get("zone")).map_or("", String::as_str)
    }

    fn takes_work(&self, now: Timestamp, offer_lifetime: Duration) -> bool {
        !self.silent && !self.evacuating() && self.offer.is_some() && now.since(self.offered_at) <= offer_lifetime
    }

    /// Share of its memory or disk, whichever is fuller, that is in use once `room` is taken too; in steps of a fiftieth.
    fn fullness_with(&self, room: Room) -> u32 {
        let share = |free: u32, asked: u32, total: u32| {
            let used = total.saturating_sub(free.saturating_sub(asked));
            (u64::from(used) * 50 / u64::from(total.max(1))) as u32
        };
        let (memory, disk) = self.offer.as_ref().map_or((0, 0), |offer| (offer.total_memory_mb, offer.total_disk_mb));
        share(self.free.memory_mb, room.memory_mb, memory).max(share(self.free.disk_mb, room.disk_mb, disk))
    }
}

/// All DEAs.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) deas: BTreeMap<DeaId, Dea>,
    /// Live instances of each app on each DEA, those that were asked for included.
    counts: BTreeMap<(AppId, DeaId), u32>,
    /// Nobody was heard before: silence counts from here.
    listening_since: Timestamp,
    silent_after: Duration,
}

impl Fleet {
    pub(crate) fn new(now: Timestamp, silent_after: Duration) -> Self {
        Self { deas: BTreeMap::new(), counts: BTreeMap::new(), listening_since: now, silent_after }
    }

    /// Nothing could be heard until now: silence counts from here again.
    pub(crate) fn listen_anew(&mut self, now: Timestamp) {
        self.listening_since = now;
    }

    /// Since when DEAs could be heard.
    pub(crate) fn listening_since(&self) -> Timestamp {
        self.listening_since
    }

    /// A DEA that is only known by name so far.
    pub(crate) fn know(&mut self, dea: DeaId, now: Timestamp) -> &mut Dea {
        self.deas.entry(dea).or_insert_with(|| Dea::new(now))
    }

    /// An advertisement.
    pub(crate) fn advertised(&mut self, offer: Advertise, now: Timestamp) -> News {
        let dea = self.know(offer.id, now);
        let (before, took_work) = (dea.free, dea.offer.as_ref().is_some_and(|offer| !offer.evacuating));
        dea.free = Room { memory_mb: offer.available_memory_mb, disk_mb: offer.available_disk_mb };
        for room in dea.asked.values() {
            dea.free.take(*room);
        }
        dea.offer = Some(offer);
        dea.offered_at = now;
        dea.heard = now;
        let returned = std::mem::take(&mut dea.silent);
        let roomier = returned || !took_work || dea.free.memory_mb > before.memory_mb || dea.free.disk_mb > before.disk_mb;
        News { returned, roomier }
    }

    /// A heartbeat; true when it was silent before.
    pub(crate) fn beat(&mut self, beat: &Heartbeat, now: Timestamp) -> bool {
        let dea = self.know(beat.dea, now);
        let instances = beat.droplets.iter().map(|report| (report.instance, report.state)).collect();
        dea.previous = dea.last.take();
        dea.last = Some(Beat { at: now, instances, works: beat.works.clone() });
        dea.heard = now;
        std::mem::take(&mut dea.silent)
    }

    /// The DEAs that fell silent just now.
    pub(crate) fn fall_silent(&mut self, now: Timestamp) -> Vec<DeaId> {
        let (since, limit) = (self.listening_since, self.silent_after);
        let fell = |dea: &Dea| !dea.silent && now.since(dea.heard.max(since)) > limit;
        let mut fallen = vec![];
        for (id, dea) in self.deas.iter_mut().filter(|(_, dea)| fell(dea)) {
            dea.silent = true;
            fallen.push(*id);
        }
        fallen
    }

    /// Forgets a DEA that has been silent for ten times as long as is allowed, if it is not `needed`.
    pub(crate) fn forget(&mut self, now: Timestamp, needed: impl Fn(&DeaId) -> bool) {
        let long_ago = |dea: &Dea| dea.silent && now.since(dea.heard) > self.silent_after * 10;
        self.deas.retain(|id, dea| needed(id) || !long_ago(dea));
    }

    pub(crate) fn is_silent(&self, dea: DeaId) -> bool {
        self.deas.get(&dea).is_some_and(|dea| dea.silent)
    }

    /// Asked for: takes the room at once in our own count.
    pub(crate) fn ask(&mut self, dea: DeaId, what: Uuid, room: Room) {
        if let Some(dea) = self.deas.get_mut(&dea) {
            dea.free.take(room);
            dea.asked.insert(what, room);
        }
    }

    /// Answered: what was refused is free again.
    pub(crate) fn answered(&mut self, dea: DeaId, what: Uuid, taken: bool) {
        if let Some(dea) = self.deas.get_mut(&dea)
            && let Some(room) = dea.asked.remove(&what)
            && !taken
        {
            dea.free.add(room);
        }
    }

    /// An instance ended: what it held is free again; the next advertisement corrects us.
    pub(crate) fn release(&mut self, dea: DeaId, room: Room) {
        if let Some(dea) = self.deas.get_mut(&dea) {
            dea.free.add(room);
        }
    }

    /// One instance of the app more.
    pub(crate) fn count(&mut self, app: AppId, dea: DeaId) {
        *self.counts.entry((app, dea)).or_default() += 1;
    }

    /// One instance of the app less.
    pub(crate) fn uncount(&mut self, app: AppId, dea: DeaId) {
        if let Some(count) = self.counts.get_mut(&(app, dea)) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&(app, dea));
            }
        }
    }

    /// The best DEA: enough room, the stack, then fewest of the app in its zone, fewest on it, emptiest; by lot among equals.
    pub(crate) fn place(
        &self,
        ask: &Ask<'_>,
        refused: &BTreeMap<DeaId, String>,
        now: Timestamp,
        rng: &mut dyn Rng,
    ) -> Result<DeaId, NoPlace> {
        let none = BTreeMap::new();
        let here = ask.app.map_or(none, |app| self.spread(app));
        let mut zones: BTreeMap<&str, u32> = BTreeMap::new();
        for (dea, count) in &here {
            *zones.entry(self.deas.get(dea).map_or("", Dea::zone)).or_default() += count;
        }
        let mut best: Option<((u32, u32, u32), Vec<DeaId>)> = None;
        for (id, dea) in self.candidates(now) {
            if !fits(ask, id, dea) || refused.contains_key(&id) {
                continue;
            }
            if ask.stay && ask.begun_on == Some(id) {
                return Ok(id);
            }
            let crowd = match ask.app {
                Some(_) => here.get(&id).copied().unwrap_or(0),
                None => dea.asked.len() as u32 + dea.last.as_ref().map_or(0, |beat| beat.works.len() as u32),
            };
            let score = (zones.get(dea.zone()).copied().unwrap_or(0), crowd, dea.fullness_with(ask.room_on(id)));
            match &mut best {
                Some((lowest, equals)) if score == *lowest => equals.push(id),
                Some((lowest, _)) if score > *lowest => {}
                _ => best = Some((score, vec![id])),
            }
        }
        match best {
            Some((_, equals)) => Ok(equals[rng.random_range(0..equals.len())]),
            None => Err(self.explain(ask, refused, now)),
        }
    }

    /// There is a DEA with enough room.
    pub(crate) fn has_place(&self, ask: &Ask<'_>, now: Timestamp) -> bool {
        self.candidates(now).any(|(id, dea)| fits(ask, id, dea))
    }

    fn candidates(&self, now: Timestamp) -> impl Iterator<Item = (DeaId, &Dea)> {
        self.deas.iter().filter(move |(_, dea)| dea.takes_work(now, self.silent_after)).map(|(id, dea)| (*id, dea))
    }

    fn spread(&self, app: AppId) -> BTreeMap<DeaId, u32> {
        let least = DeaId::from(Uuid::nil());
        let most = DeaId::from(Uuid::max());
        self.counts.range((app, least)..=(app, most)).map(|((_, dea), count)| (*dea, *count)).collect()
    }

    fn explain(&self, ask: &Ask<'_>, refused: &BTreeMap<DeaId, String>, now: Timestamp) -> NoPlace {
        let no_place = |why: String, kind| NoPlace { why, kind };
        if let Some(only) = ask.only_on {
            return no_place(self.explain_pinned(ask, only, refused, now), NoPlaceKind::NobodyToAsk);
        }
        let all: Vec<(DeaId, &Dea)> = self.candidates(now).collect();
        if all.is_empty() {
            return no_place("no DEA takes work at present".into(), NoPlaceKind::NobodyToAsk);
        }
        let right: Vec<_> = all.into_iter().filter(|(_, dea)| has_stack(dea, ask.stack)).collect();
        if right.is_empty() {
            return no_place(format!("no DEA has the stack `{}`", ask.stack), NoPlaceKind::NoStack);
        }
        let most = |of: fn(&Dea) -> u32| right.iter().map(|(_, dea)| of(dea)).max().unwrap_or(0);
        let Room { memory_mb, .. } = ask.room;
        let disk_mb = ask.room.disk_mb.saturating_add(ask.new_volume_mb);
        let free_memory = most(|dea| dea.free.memory_mb);
        let all_memory = most(|dea| dea.offer.as_ref().map_or(0, |offer| offer.total_memory_mb));
        let free_disk = most(|dea| dea.free.disk_mb);
        let all_disk = most(|dea| dea.offer.as_ref().map_or(0, |offer| offer.total_disk_mb));
        let kind = |asked, all| if asked > all { NoPlaceKind::NeverFits } else { NoPlaceKind::NothingFree };
        if memory_mb > free_memory {
            let why = format!("InsufficientResources: {memory_mb} MB asked, most free {free_memory} MB");
            return no_place(why, kind(memory_mb, all_memory));
        }
        if disk_mb > free_disk {
            let why = format!("InsufficientResources: {disk_mb} MB of disk asked, most free {free_disk} MB of disk");
            return no_place(why, kind(disk_mb, all_disk));
        }
        if let Some(reason) = refused.values().next_back() {
            return no_place(format!("refused: {reason}"), NoPlaceKind::NobodyToAsk);
        }
        let why =
            format!("InsufficientResources: no DEA has both {} of memory and {disk_mb} MB of disk free", MemoryMb(memory_mb));
        no_place(why, NoPlaceKind::NothingFree)
    }

    /// Why the only DEA that may have it does not take it.
    fn explain_pinned(&self, ask: &Ask<'_>, only: DeaId, refused: &BTreeMap<DeaId, String>, now: Timestamp) -> String {
        let that = format!("the DEA {only} that has its volume");
        let Some(dea) = self.deas.get(&only) else { return format!("{that} does not answer") };
        if dea.evacuating() && !dea.silent {
            return format!("{that} is being emptied");
        }
        if !dea.takes_work(now, self.silent_after) {
            return format!("{that} does not answer");
        }
        if !has_stack(dea, ask.stack) {
            return format!("{that} does not have the stack `{}`", ask.stack);
        }
        let Room { memory_mb, disk_mb } = ask.room_on(only);
        if memory_mb > dea.free.memory_mb {
            return format!("InsufficientResources: {memory_mb} MB asked, {that} has {} MB free", dea.free.memory_mb);
        }
        if disk_mb > dea.free.disk_mb {
            return format!("InsufficientResources: {disk_mb} MB of disk asked, {that} has {} MB of disk free", dea.free.disk_mb);
        }
        match refused.get(&only) {
            Some(reason) => format!("{that} refused: {reason}"),
            None => format!("{that} does not take it"),
        }
    }
}

fn fits(ask: &Ask<'_>, id: DeaId, dea: &Dea) -> bool {
    ask.may_be_on(id) && dea.free.holds(ask.room_on(id)) && has_stack(dea, ask.stack)
}

fn has_stack(dea: &Dea, stack: &str) -> bool {
    dea.offer.as_ref().is_some_and(|offer| offer.stacks.iter().any(|known| known == stack))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn dea(n: u128) -> DeaId {
        DeaId::from(Uuid::from_u128(n))
    }

    fn app(n: u128) -> AppId {
        AppId::from(Uuid::from_u128(n))
    }

    fn offer(n: u128, free: u32, zone: &str) -> Advertise {
        Advertise {
            id: dea(n),
            stacks: vec!["debian12".into()],
            available_memory_mb: free,
            available_disk_mb: 10_000,
            total_memory_mb: 4_096,
            total_disk_mb: 10_000,
            app_id_to_count: BTreeMap::new(),
            placement_properties: BTreeMap::from([("zone".into(), zone.into())]),
            evacuating: false,
        }
    }

    fn fleet(offers: &[(u128, u32, &str)]) -> Fleet {
        let mut fleet = Fleet::new(NOW, Duration::from_secs(30));
        for (n, free, zone) in offers {
            fleet.advertised(offer(*n, *free, zone), NOW);
        }
        fleet
    }

    fn place(fleet: &Fleet, app: Option<AppId>, memory_mb: u32, stack: &str) -> Result<DeaId, String> {
        let ask = Ask { app, room: Room { memory_mb, disk_mb: 100 }, stack, ..Ask::default() };
        fleet.place(&ask, &BTreeMap::new(), NOW, &mut StdRng::seed_from_u64(3)).map_err(|no| no.why)
    }

    #[test]
    fn instances_of_one_app_go_to_the_emptiest_zone_then_to_the_emptiest_dea_of_it() {
        let mut fleet = fleet(&[(1, 4_000, "a"), (2, 1_000, "b"), (3, 1_200, "b")]);
        fleet.count(app(1), dea(1));
        assert_eq!(place(&fleet, Some(app(1)), 100, "debian12"), Ok(dea(3)));
        fleet.count(app(1), dea(3));
        fleet.count(app(1), dea(1));
        assert_eq!(place(&fleet, Some(app(1)), 100, "debian12"), Ok(dea(2)), "the zone with fewer, and there the DEA with none");
        assert_eq!(place(&fleet, Some(app(2)), 100, "debian12"), Ok(dea(1)), "another app starts afresh");
    }

    #[test]
    fn what_was_asked_for_counts_until_it_is_refused() {
        let mut fleet = fleet(&[(1, 1_000, "")]);
        fleet.ask(dea(1), Uuid::from_u128(9), Room { memory_mb: 600, disk_mb: 0 });
        let none = "InsufficientResources: 500 MB asked, most free 400 MB";
        assert_eq!(place(&fleet, None, 500, "debian12"), Err(none.into()));
        fleet.advertised(offer(1, 1_000, ""), NOW);
        assert_eq!(place(&fleet, None, 500, "debian12"), Err(none.into()), "the advertisement cannot know of it yet");
        fleet.answered(dea(1), Uuid::from_u128(9), false);
        assert_eq!(place(&fleet, None, 500, "debian12"), Ok(dea(1)));
    }

    #[test]
    fn the_reason_says_what_is_missing() {
        let fleet = fleet(&[(1, 1_200, ""), (2, 300, "")]);
        let none = |memory, stack| place(&fleet, None, memory, stack).unwrap_err();
        assert_eq!(none(2_048, "debian12"), "InsufficientResources: 2048 MB asked, most free 1200 MB");
        assert_eq!(none(100, "windows"), "no DEA has the stack `windows`");
        let nobody = Fleet::new(NOW, Duration::from_secs(30));
        assert_eq!(place(&nobody, None, 1, "debian12").unwrap_err(), "no DEA takes work at present");
    }

    #[test]
    fn a_dea_is_silent_only_after_it_could_have_been_heard_long_enough() {
        let mut fleet = fleet(&[(1, 100, "")]);
        assert!(fleet.fall_silent(NOW + Duration::from_secs(30)).is_empty());
        fleet.listen_anew(NOW + Duration::from_secs(20));
        assert!(fleet.fall_silent(NOW + Duration::from_secs(45)).is_empty());
        assert_eq!(fleet.fall_silent(NOW + Duration::from_secs(51)), [dea(1)]);
        assert!(fleet.advertised(offer(1, 100, ""), NOW + Duration::from_secs(60)).returned);
    }
}
