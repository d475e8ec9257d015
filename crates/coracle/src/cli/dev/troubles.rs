//! Why instances of programs do not start, each reason told once, however often a start is tried again.
//! The loop of `coracle dev` asks it before it says one.

use std::collections::{BTreeMap, BTreeSet};

use coracle_model::FunctionName;

/// Reasons of one function that are told; one that has more of them has been told enough.
const REASONS_MAX: usize = 20;

/// What was told since the programs were deployed.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<FunctionName, BTreeSet<String>>);

impl Troubles {
    /// Whether this is worth telling; from then on it is not.
    pub(super) fn is_new(&mut self, name: &FunctionName, reason: &str) -> bool {
        let told = self.0.entry(name.clone()).or_default();
        told.len() < REASONS_MAX && told.insert(reason.to_owned())
    }

    /// Another revision was deployed: whatever is wrong with it is news.
    pub(super) fn forget(&mut self, name: &FunctionName) {
        self.0.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_for_each_revision() {
        let (one, other): (FunctionName, FunctionName) = ("one".parse().unwrap(), "other".parse().unwrap());
        let mut troubles = Troubles::default();
        assert!(troubles.is_new(&one, "exited") && troubles.is_new(&other, "exited"));
        assert!(troubles.is_new(&one, "was killed"));
        // It is tried again, and ends one way or the other.
        assert!(!troubles.is_new(&one, "exited") && !troubles.is_new(&one, "was killed"));
        troubles.forget(&one);
        assert!(troubles.is_new(&one, "exited") && !troubles.is_new(&other, "exited"));
    }

    #[test]
    fn a_program_that_always_has_another_reason_is_told_some_of_them() {
        let name: FunctionName = "one".parse().unwrap();
        let mut troubles = Troubles::default();
        let told = (0..1_000).filter(|number| troubles.is_new(&name, &format!("exited at {number}"))).count();
        assert_eq!(told, REASONS_MAX);
    }
}
