//! The life of one instance.
//!
//! ```text
//! Claiming -> Fetching -> Creating -> Probing -> Running -> Evacuating
//!                |           |           |          |           |
//!                v           v           v          v           v
//!             (an end: stop, crash, claim lost) -> Draining -> Stopping -> Destroying -> Releasing | Crashed | gone
//! ```
//! An end that is decided while the container is being made waits for it: what was asked of Warden is never abandoned.

use messages::claims::{Exit, InstanceState};

/// Why an instance ends.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It was told to; its record goes.
    Stop {
        /// For the app's log.
        reason: String,
    },
    /// It ended by itself or never became healthy; its record stays and says so.
    Crash(Exit),
    /// Another instance has its slot: nothing is written.
    Lost,
}

/// Where an instance is in its life.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// The slot's record is being claimed.
    Claiming {
        /// A stop that came meanwhile.
        end: Option<End>,
    },
    /// Launch spec and droplet are under way.
    Fetching,
    /// Warden makes the container.
    Creating {
        /// An end that waits for the container.
        end: Option<End>,
    },
    /// The start-up check runs.
    Probing,
    /// It serves.
    Running,
    /// It serves until its replacement runs.
    Evacuating,
    /// Its routes are gone; routers get a moment before TERM.
    Draining(End),
    /// TERM was sent.
    Stopping(End),
    /// Its container is being taken away.
    Destroying(End),
    /// Its record is being removed.
    Releasing,
    /// It ended by itself; only its record is left.
    Crashed(Exit),
}

/// An input that does not fit the phase: late news, as a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{verb}` does not fit {phase}")]
pub struct BadMove {
    verb: &'static str,
    phase: &'static str,
}

/// What an end means for an instance, as it stands.
#[derive(Clone, Debug, PartialEq)]
pub enum EndMove {
    /// There is no container: straight to the end.
    Bare(End),
    /// Routes go first, then TERM, then the container.
    Serve(End),
    /// The container ends already; only the meaning of the end changed, or it waits.
    Noted(Phase),
    /// It has ended before and now loses its record.
    Release,
    /// It has ended before and is forgotten.
    Forget,
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Self::Claiming { .. } => "claiming",
            Self::Fetching => "fetching",
            Self::Creating { .. } => "creating",
            Self::Probing => "probing",
            Self::Running => "running",
            Self::Evacuating => "evacuating",
            Self::Draining(_) => "draining",
            Self::Stopping(_) => "stopping",
            Self::Destroying(_) => "destroying",
            Self::Releasing => "releasing",
            Self::Crashed(_) => "crashed",
        }
    }

    fn bad<T>(&self, verb: &'static str) -> Result<T, BadMove> {
        Err(BadMove { verb, phase: self.name() })
    }

    /// The slot is ours: go on, or end at once.
    pub fn claimed(&self) -> Result<Result<Self, End>, BadMove> {
        match self {
            Self::Claiming { end: None } => Ok(Ok(Self::Fetching)),
            Self::Claiming { end: Some(end) } => Ok(Err(end.clone())),
            other => other.bad("claimed"),
        }
    }

    /// Spec and droplet are here.
    pub fn fetched(&self) -> Result<Self, BadMove> {
        match self {
            Self::Fetching => Ok(Self::Creating { end: None }),
            other => other.bad("fetched"),
        }
    }

    /// The container runs: check it, or end it.
    pub fn created(&self) -> Result<Result<Self, End>, BadMove> {
        match self {
            Self::Creating { end: None } => Ok(Ok(Self::Probing)),
            Self::Creating { end: Some(end) } => Ok(Err(end.clone())),
            other => other.bad("created"),
        }
    }

    /// Its check passed.
    pub fn healthy(&self) -> Result<Self, BadMove> {
        match self {
            Self::Probing => Ok(Self::Running),
            other => other.bad("healthy"),
        }
    }

    /// It is to serve until its replacement runs.
    pub fn evacuate(&self) -> Result<Self, BadMove> {
        match self {
            Self::Running => Ok(Self::Evacuating),
            other => other.bad("evacuate"),
        }
    }

    /// Routers had their moment.
    pub fn drained(&self) -> Result<Self, BadMove> {
        match self {
            Self::Draining(end) => Ok(Self::Stopping(end.clone())),
            other => other.bad("drained"),
        }
    }

    /// Its main process has ended on our request.
    pub fn stopped(&self) -> Result<Self, BadMove> {
        match self {
            Self::Draining(end) | Self::Stopping(end) => Ok(Self::Destroying(end.clone())),
            other => other.bad("stopped"),
        }
    }

    /// Its container is gone. `None`: nothing of it is left.
    pub fn destroyed(&self) -> Result<Option<Self>, BadMove> {
        match self {
            Self::Destroying(End::Stop { .. }) => Ok(Some(Self::Releasing)),
            Self::Destroying(End::Crash(exit)) => Ok(Some(Self::Crashed(exit.clone()))),
            Self::Destroying(End::Lost) => Ok(None),
            other => other.bad("destroyed"),
        }
    }

    /// It is to end, for this reason. A stop overrules a crash, a lost claim overrules both.
    pub fn end(&self, end: End) -> Result<EndMove, BadMove> {
        let overrules = |old: &End| {
            !matches!(
                (old, &end),
                (End::Lost, _) | (End::Stop { .. }, End::Stop { .. } | End::Crash(_)) | (End::Crash(_), End::Crash(_))
            )
        };
        match self {
            Self::Claiming { .. } => Ok(EndMove::Noted(Self::Claiming { end: Some(end) })),
            Self::Fetching => Ok(EndMove::Bare(end)),
            Self::Creating { end: None } => Ok(EndMove::Noted(Self::Creating { end: Some(end) })),
            Self::Probing | Self::Running | Self::Evacuating => Ok(EndMove::Serve(end)),
            Self::Creating { end: Some(old) } if overrules(old) => Ok(EndMove::Noted(Self::Creating { end: Some(end) })),
            Self::Draining(old) if overrules(old) => Ok(EndMove::Noted(Self::Draining(end))),
            Self::Stopping(old) if overrules(old) => Ok(EndMove::Noted(Self::Stopping(end))),
            Self::Destroying(old) if overrules(old) => Ok(EndMove::Noted(Self::Destroying(end))),
            Self::Crashed(_) if matches!(end, End::Stop { .. }) => Ok(EndMove::Release),
            Self::Crashed(_) | Self::Releasing if end == End::Lost => Ok(EndMove::Forget),
            other => other.bad("end"),
        }
    }

    /// True while a container may exist.
    pub fn has_container(&self) -> bool {
        !matches!(self, Self::Claiming { .. } | Self::Fetching | Self::Releasing | Self::Crashed(_))
    }

    /// True while its routes are registered.
    pub fn serves(&self) -> bool {
        matches!(self, Self::Running | Self::Evacuating)
    }

    /// True while it takes memory and disk. Once its processes have ended, what is left of its container is Warden's to count.
    pub fn reserves(&self) -> bool {
        !matches!(self, Self::Destroying(_) | Self::Releasing | Self::Crashed(_))
    }

    /// What its record says; `None` where it writes none.
    pub fn state(&self) -> Option<InstanceState> {
        match self {
            Self::Claiming { .. } | Self::Fetching | Self::Creating { end: None } | Self::Probing => {
                Some(InstanceState::Starting)
            }
            Self::Running => Some(InstanceState::Running),
            Self::Evacuating => Some(InstanceState::Evacuating),
            Self::Creating { end: Some(end) } | Self::Draining(end) | Self::Stopping(end) | Self::Destroying(end) => match end {
                End::Stop { .. } => Some(InstanceState::Stopping),
                End::Crash(_) => Some(InstanceState::Crashed),
                End::Lost => None,
            },
            Self::Releasing => Some(InstanceState::Stopping),
            Self::Crashed(_) => Some(InstanceState::Crashed),
        }
    }

    /// How it ended by itself, once it has.
    pub fn crash(&self) -> Option<&Exit> {
        match self {
            Self::Creating { end: Some(End::Crash(exit)) }
            | Self::Draining(End::Crash(exit))
            | Self::Stopping(End::Crash(exit))
            | Self::Destroying(End::Crash(exit))
            | Self::Crashed(exit) => Some(exit),
            _ => None,
        }
    }

    /// True once it has lost its slot to another.
    pub fn lost(&self) -> bool {
        matches!(
            self,
            Self::Claiming { end: Some(End::Lost) }
                | Self::Creating { end: Some(End::Lost) }
                | Self::Draining(End::Lost)
                | Self::Stopping(End::Lost)
                | Self::Destroying(End::Lost)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop() -> End {
        End::Stop { reason: "stopped".into() }
    }

    #[test]
    fn a_healthy_life_goes_through_every_phase() {
        let phase = Phase::Claiming { end: None }.claimed().unwrap().unwrap();
        let phase = phase.fetched().unwrap().created().unwrap().unwrap().healthy().unwrap();
        assert_eq!(phase, Phase::Running);
        let EndMove::Serve(end) = phase.end(stop()).unwrap() else { panic!("a running instance drains first") };
        let phase = Phase::Draining(end).drained().unwrap().stopped().unwrap().destroyed().unwrap();
        assert_eq!(phase, Some(Phase::Releasing));
    }

    #[test]
    fn late_news_is_refused() {
        assert!(Phase::Running.created().is_err());
        assert!(Phase::Fetching.healthy().is_err());
        assert!(Phase::Draining(stop()).healthy().is_err(), "a check that passes late must not revive it");
        assert!(Phase::Draining(stop()).evacuate().is_err());
        assert!(Phase::Releasing.destroyed().is_err());
    }

    #[test]
    fn a_stop_while_the_container_is_made_waits_for_it() {
        let EndMove::Noted(phase) = (Phase::Creating { end: None }).end(stop()).unwrap() else { panic!() };
        assert_eq!(phase.created().unwrap(), Err(stop()));
    }

    #[test]
    fn a_stop_overrules_a_crash_and_a_lost_claim_overrules_both() {
        let exit = Exit { instance: uuid(), at: types::Timestamp(1), status: Some(1), reason: "x".into() };
        let crashing = Phase::Stopping(End::Crash(exit.clone()));
        assert_eq!(crashing.end(stop()).unwrap(), EndMove::Noted(Phase::Stopping(stop())));
        assert!(Phase::Stopping(stop()).end(End::Crash(exit.clone())).is_err());
        assert_eq!(Phase::Stopping(stop()).end(End::Lost).unwrap(), EndMove::Noted(Phase::Stopping(End::Lost)));
        assert!(Phase::Stopping(End::Lost).end(stop()).is_err());
        assert_eq!(Phase::Crashed(exit).end(stop()).unwrap(), EndMove::Release);
    }

    fn uuid() -> types::InstanceId {
        "00000000-0000-4000-8000-000000000001".parse().unwrap()
    }
}
