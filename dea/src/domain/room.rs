//! What is promised and what is free.

use std::fmt;

/// What this DEA may promise in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Memory.
    pub memory_mb: u32,
    /// Disk.
    pub disk_mb: u32,
    /// Stacks on this host.
    pub stacks: Vec<String>,
    /// Cores of the host, for what an instance is entitled to.
    pub cores: u32,
    /// Memory of the host, for what an instance is entitled to.
    pub host_memory_bytes: u64,
    /// The most instances and stagings at once.
    pub max_instances: u32,
}

/// What is asked for, or taken in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Memory.
    pub memory_mb: u32,
    /// Disk.
    pub disk_mb: u32,
}

impl std::iter::Sum for Share {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            memory_mb: sum.memory_mb.saturating_add(one.memory_mb),
            disk_mb: sum.disk_mb.saturating_add(one.disk_mb),
        })
    }
}

/// Why something is not taken, in words for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// (asked, free)
    Memory(u32, u32),
    /// (asked, free)
    Disk(u32, u32),
    /// The stack is not on this host.
    Stack(String),
    /// The most instances that this DEA holds.
    Count(u32),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(asked, free) => write!(f, "no room: {asked} MB asked, {free} MB free"),
            Self::Disk(asked, free) => write!(f, "no room: {asked} MB of disk asked, {free} MB free"),
            Self::Stack(stack) => write!(f, "the stack `{stack}` is not on this host"),
            Self::Count(most) => write!(f, "no room: {most} instances are the most that this host takes"),
        }
    }
}

impl Capacity {
    /// What is left beside `taken`.
    pub fn free(&self, taken: Share) -> Share {
        Share { memory_mb: self.memory_mb.saturating_sub(taken.memory_mb), disk_mb: self.disk_mb.saturating_sub(taken.disk_mb) }
    }

    /// Whether `asked` on `stack` fits beside `taken` by `count` others.
    ///
    /// # Errors
    /// What is missing.
    pub fn admit(&self, asked: Share, stack: &str, taken: Share, count: usize) -> Result<(), Refusal> {
        let free = self.free(taken);
        if !self.stacks.iter().any(|known| known == stack) {
            Err(Refusal::Stack(stack.to_owned()))
        } else if asked.memory_mb > free.memory_mb {
            Err(Refusal::Memory(asked.memory_mb, free.memory_mb))
        } else if asked.disk_mb > free.disk_mb {
            Err(Refusal::Disk(asked.disk_mb, free.disk_mb))
        } else if count >= self.max_instances as usize {
            Err(Refusal::Count(self.max_instances))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_how_much_is_asked_and_how_much_is_free() {
        let capacity =
            Capacity { memory_mb: 2048, disk_mb: 4096, stacks: vec!["debian12".into()], max_instances: 2, ..Capacity::default() };
        let taken = Share { memory_mb: 848, disk_mb: 4000 };
        let ask = |memory_mb, disk_mb, stack, count| {
            capacity.admit(Share { memory_mb, disk_mb }, stack, taken, count).map_err(|refusal| refusal.to_string())
        };
        assert_eq!(ask(1200, 96, "debian12", 1), Ok(()));
        assert_eq!(ask(2048, 96, "debian12", 1), Err("no room: 2048 MB asked, 1200 MB free".into()));
        assert_eq!(ask(1, 97, "debian12", 1), Err("no room: 97 MB of disk asked, 96 MB free".into()));
        assert_eq!(ask(1, 1, "windows", 1), Err("the stack `windows` is not on this host".into()));
        assert_eq!(ask(1, 1, "debian12", 2), Err("no room: 2 instances are the most that this host takes".into()));
    }
}
