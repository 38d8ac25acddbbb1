//! Commands: room, obedience, and the first answer.

use super::{Core, DOUBT, Effect, Instance, Ticket, Work, claimable};
use crate::domain::{
    claim::Slot,
    phase::{End, Phase},
    room::Share,
};
use messages::dea::{Answer, StageBuild, StartInstance, StopInstance};
use types::{BuildId, Timestamp};

impl Core {
    pub(super) fn taken(&self) -> Share {
        let held = self.instances.values().filter(|i| i.phase.reserves());
        let held = held.map(|i| Share { memory_mb: i.slot.memory_mb, disk_mb: i.slot.disk_mb });
        held.chain(self.works.values().map(|work| work.share)).sum()
    }

    pub(super) fn count(&self) -> usize {
        self.instances.values().filter(|i| i.phase.reserves()).count() + self.works.len()
    }

    /// Refuses older leaders, and everything while evacuating; then looks for room.
    pub(super) fn admit(
        &mut self,
        fence: u64,
        asked: Share,
        stack: &str,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) -> Result<(), String> {
        self.obey(fence, now, out)?;
        if self.evacuating {
            return Err("this host takes no new work: it is being emptied".into());
        }
        self.capacity.admit(asked, stack, self.taken(), self.count()).map_err(|refusal| refusal.to_string())
    }

    /// Refuses older leaders. One that is refused goes away within its lease; a lower number that is still commanding a minute
    /// later is the leader of a store that lost its leases, and then it is the higher number that is of the past.
    pub(super) fn obey(&mut self, fence: u64, now: Timestamp, out: &mut Vec<Effect>) -> Result<(), String> {
        if fence < self.fence {
            let since = match self.doubt {
                Some((doubted, since)) if doubted == fence => since,
                _ => now,
            };
            self.doubt = Some((fence, since));
            if now.since(since) < DOUBT {
                return Err(format!("the command comes from an older leader ({fence}, the newest is {})", self.fence));
            }
        }
        self.doubt = None;
        if fence != self.fence {
            self.fence = fence;
            out.push(Effect::RememberFence(fence));
        }
        Ok(())
    }

    pub(super) fn start(&mut self, ticket: Ticket, request: &StartInstance, now: Timestamp, out: &mut Vec<Effect>) {
        if let Some(known) = self.instances.get_mut(&request.instance) {
            let answer = match &known.phase {
                Phase::Claiming { end: None } => return known.tickets.push(ticket),
                phase if phase.reserves() && phase.state().is_some_and(claimable) => Answer::Accepted,
                _ => Answer::Refused { reason: "this instance has ended already".into() },
            };
            return out.push(Effect::Answer(ticket, answer));
        }
        let slot = Slot::from(request);
        let asked = Share { memory_mb: slot.memory_mb, disk_mb: slot.disk_mb };
        if let Err(reason) = self.admit(request.fence, asked, &slot.stack, now, out) {
            return out.push(Effect::Answer(ticket, Answer::Refused { reason }));
        }
        let mut instance = Instance::new(slot, Phase::Claiming { end: None }, now);
        instance.tickets.push(ticket);
        out.push(Effect::Claim(Box::new(instance.hold(self.settings.common.dea)), request.revision));
        self.instances.insert(request.instance, instance);
    }

    pub(super) fn stop(&mut self, ticket: Ticket, request: &StopInstance, now: Timestamp, out: &mut Vec<Effect>) {
        // The cloud controller has no fencing number.
        let obeyed = if request.fence == 0 { Ok(()) } else { self.obey(request.fence, now, out) };
        let answer = match obeyed {
            Ok(()) => Answer::Accepted,
            Err(reason) => return out.push(Effect::Answer(ticket, Answer::Refused { reason })),
        };
        out.push(Effect::Answer(ticket, answer));
        self.end(request.instance, End::Stop { reason: request.reason.clone() }, now, out);
    }

    pub(super) fn stage(&mut self, ticket: Ticket, request: &StageBuild, now: Timestamp, out: &mut Vec<Effect>) {
        if let Some(known) = self.works.get_mut(&request.build) {
            return match known.tickets.is_empty() {
                true => out.push(Effect::Answer(ticket, Answer::Accepted)),
                false => known.tickets.push(ticket),
            };
        }
        let share = Share { memory_mb: request.memory_mb, disk_mb: request.disk_mb };
        if let Err(reason) = self.admit(request.fence, share, &request.stack, now, out) {
            return out.push(Effect::Answer(ticket, Answer::Refused { reason }));
        }
        self.works.insert(request.build, Work { app: Some(request.app), share, tickets: vec![ticket] });
        out.push(Effect::ClaimWork(request.build));
    }

    pub(super) fn work_claimed(&mut self, build: BuildId, outcome: Result<(), String>, out: &mut Vec<Effect>) {
        let Some(work) = self.works.get_mut(&build) else { return };
        let tickets = std::mem::take(&mut work.tickets);
        let answer = match &outcome {
            Ok(()) => Answer::Accepted,
            Err(reason) => Answer::Refused { reason: reason.clone() },
        };
        out.extend(tickets.into_iter().map(|ticket| Effect::Answer(ticket, answer.clone())));
        match outcome {
            Ok(()) => out.push(Effect::RunWork(build)),
            Err(_) => drop(self.works.remove(&build)),
        }
        out.push(Effect::Tell);
    }
}
