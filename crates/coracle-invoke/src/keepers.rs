//! Which of the servers that share a database keeps the instances of a function that run without a call.
//! Room asks for each fleet that it makes; `serve.rs` says which servers there are.
//!
//! Each server decides alone, and all that know of the same servers decide alike: nobody is asked, and nothing is agreed.

use coracle_model::FunctionRef;

/// The servers of which one keeps the minimum of a function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Keepers {
    /// This one has its database for itself, and keeps them all.
    #[default]
    Alone,
    /// Several share one.
    Among {
        /// This one, by the name that no other has.
        own: String,
        /// Those that are alive, in whichever order; this one may be missing, and keeps nothing then.
        alive: Vec<String>,
    },
}

impl Keepers {
    /// Whether this server keeps the minimum of a function.
    ///
    /// The revision does not matter: a deploy does not move what runs.
    pub(crate) fn has(&self, function: &FunctionRef) -> bool {
        match self {
            Self::Alone => true,
            Self::Among { own, alive } => keeper(function, alive) == Some(own),
        }
    }
}

/// The one of these that keeps a function: the one with the highest weight, so that who comes takes only what it
/// keeps itself, and only what somebody kept who goes is spread over those that stay.
fn keeper<'n>(function: &FunctionRef, alive: &'n [String]) -> Option<&'n String> {
    alive.iter().max_by_key(|node| (weight(node, function), *node))
}

/// Alike in all versions and on all machines, which no hash of the standard library promises.
fn weight(node: &str, function: &FunctionRef) -> u64 {
    // FNV-1a, with a byte between the two that no name has.
    let (name, namespace) = (function.name.as_str(), function.namespace.as_str());
    let parts = [node, name, namespace].into_iter().map(str::as_bytes);
    let bytes = parts.flat_map(|part| part.iter().copied().chain([0xff]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // Its last bytes hardly reach its highest bits, which decide who is first: mixed as MurmurHash3 does at its end.
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn function(text: &str) -> FunctionRef {
        FunctionRef::parse(text).expect("a name")
    }

    fn nodes(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("http://10.0.0.{number}:8080")).collect()
    }

    #[test]
    fn every_version_gives_a_function_the_same_keeper() {
        let alive = nodes(5);
        for (name, keeper) in [("resize", 4), ("hello.shop", 0), ("hello", 1), ("a", 3), ("b", 1)] {
            assert_eq!(super::keeper(&function(name), &alive), Some(&alive[keeper]), "{name}");
        }
    }

    #[test]
    fn who_is_alone_keeps_all_and_who_is_not_known_to_live_nothing() {
        let among = |alive: &[&str]| Keepers::Among {
            own: "a".to_owned(),
            alive: alive.iter().map(|&node| node.to_owned()).collect(),
        };
        for (keepers, keeps) in
            [(Keepers::Alone, true), (among(&["a"]), true), (among(&[]), false), (among(&["b", "c"]), false)]
        {
            assert_eq!(keepers.has(&function("resize")), keeps, "{keepers:?}");
        }
    }

    #[test]
    fn each_of_three_keeps_about_a_third() {
        let alive = nodes(3);
        let kept = |node: &String| {
            let functions = (0..3_000).map(|number| function(&format!("f{number}")));
            functions.filter(|function| keeper(function, &alive) == Some(node)).count()
        };
        for node in &alive {
            let kept = kept(node);
            assert!((900..1_100).contains(&kept), "{node} keeps {kept}");
        }
    }

    proptest! {
        #[test]
        fn who_comes_or_goes_moves_only_what_it_keeps(
            names in prop::collection::hash_set("[a-z]{1,8}(\\.[a-z]{1,8})?", 1..40),
            (count, which) in (1_usize..8).prop_flat_map(|count| (Just(count), 0..count)),
        ) {
            let all = nodes(count);
            let without: Vec<String> = all.iter().filter(|node| **node != all[which]).cloned().collect();
            for name in names {
                let function = function(&name);
                let (with, then) = (keeper(&function, &all), keeper(&function, &without));
                prop_assert!(with.is_some());
                prop_assert!(then == with || with == Some(&all[which]), "{name} moved from {with:?} to {then:?}");
                prop_assert_eq!(then.is_none(), count == 1);
            }
        }

        #[test]
        fn those_that_know_the_same_servers_name_one_keeper(
            name in "[a-z]{1,8}", count in 1_usize..8, turn in 0_usize..8,
        ) {
            let alive = nodes(count);
            let keepers = alive.iter().enumerate().filter(|(number, own)| {
                // Each hears of them in another order.
                let mut alive = alive.clone();
                alive.rotate_left((number + turn) % count);
                Keepers::Among { own: (*own).clone(), alive }.has(&function(&name))
            });
            prop_assert_eq!(keepers.count(), 1);
        }
    }
}
