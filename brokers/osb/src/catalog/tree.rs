//! What is wrong with a catalog, as a tree.

use std::fmt;

/// All that is wrong, from the broker down. Its `Display` is the text that users see: indented lines, a line break before and after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// Of the catalog as a whole.
    pub messages: Vec<String>,
    /// Of single offerings.
    pub services: Vec<ServiceProblems>,
}

/// What is wrong with an offering.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceProblems {
    /// Its name, as far as it has one.
    pub name: String,
    /// Of the offering itself.
    pub messages: Vec<String>,
    /// Of its plans.
    pub plans: Vec<PlanProblems>,
}

/// What is wrong with a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanProblems {
    /// Its name, as far as it has one.
    pub name: String,
    /// Of the plan itself.
    pub messages: Vec<String>,
    /// Of its schemas.
    pub schemas: Vec<String>,
}

impl Problems {
    /// True if nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.services.iter().all(ServiceProblems::is_empty)
    }
}
impl ServiceProblems {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.plans.iter().all(PlanProblems::is_empty)
    }
}
impl PlanProblems {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.schemas.is_empty()
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        lines(f, 0, &self.messages)?;
        for service in self.services.iter().filter(|service| !service.is_empty()) {
            writeln!(f, "Service {}", service.name)?;
            lines(f, 1, &service.messages)?;
            for plan in service.plans.iter().filter(|plan| !plan.is_empty()) {
                writeln!(f, "  Plan {}", plan.name)?;
                lines(f, 2, &plan.messages)?;
                if !plan.schemas.is_empty() {
                    writeln!(f, "    Schemas")?;
                    lines(f, 3, &plan.schemas)?;
                }
            }
        }
        Ok(())
    }
}

fn lines(f: &mut fmt::Formatter<'_>, depth: usize, messages: &[String]) -> fmt::Result {
    messages.iter().try_for_each(|message| writeln!(f, "{:1$}{message}", "", depth * 2))
}
