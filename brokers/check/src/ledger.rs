//! What may exist at the broker because of this run, and so must be removed again.

use parking_lot::Mutex;

/// An instance, or a binding of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) instance: String,
    pub(crate) binding: Option<String>,
    pub(crate) service_id: String,
    pub(crate) plan_id: String,
}

impl Target {
    fn is(&self, other: &Self) -> bool {
        self.instance == other.instance && self.binding == other.binding
    }
    pub(crate) fn name(&self) -> String {
        match &self.binding {
            Some(binding) => format!("binding {binding} of instance {}", self.instance),
            None => format!("instance {}", self.instance),
        }
    }
}

/// In the order of making. Kept outside of the cases, so that a stopped case leaves it behind.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Vec<Target>>);

impl Ledger {
    /// Notes what may exist from now on; false if it was there already.
    pub(crate) fn add(&self, target: &Target) -> bool {
        let mut all = self.0.lock();
        let new = !all.iter().any(|other| other.is(target));
        if new {
            all.push(target.clone());
        }
        new
    }

    pub(crate) fn remove(&self, target: &Target) {
        self.0.lock().retain(|other| !other.is(target));
    }

    /// The plan of an instance was changed.
    pub(crate) fn moved(&self, instance: &str, plan_id: &str) {
        self.0
            .lock()
            .iter_mut()
            .filter(|target| target.instance == instance)
            .for_each(|target| target.plan_id = plan_id.to_owned());
    }

    /// Everything, in the order in which it must be removed: bindings before instances.
    pub(crate) fn left(&self) -> Vec<Target> {
        let mut all = self.0.lock().clone();
        all.reverse();
        all.sort_by_key(|target| target.binding.is_none());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_are_removed_before_instances_and_the_newest_first() {
        let target = |instance: &str, binding: Option<&str>| Target {
            instance: instance.into(),
            binding: binding.map(Into::into),
            service_id: String::new(),
            plan_id: String::new(),
        };
        let ledger = Ledger::default();
        for new in [target("a", None), target("a", Some("x")), target("b", None), target("a", Some("y"))] {
            assert!(ledger.add(&new));
        }
        assert!(!ledger.add(&target("a", Some("x"))));
        ledger.remove(&target("b", None));
        assert_eq!(ledger.left(), [target("a", Some("y")), target("a", Some("x")), target("a", None)]);
    }
}
