//! The sweep: fail the n-th commit, n = 1, 2, 3 … until none fails, in each way in which a commit can fail.
//! What was acknowledged is there after a restart, what was not is wholly there or not at all, and memory agrees.

use std::fmt::Write;
use std::sync::Arc;

use coracle_catalog::{Catalog, Filter};
use coracle_model::{Principal, Problem, Reach, Scope, Settings};
use coracle_store::{Embedded, Fault, Faulty};

use crate::{World, deploy, deployment, f, ns, one, reading, routed, said, secret};

/// How many steps the workload has; each is one commit, and can be asked for again.
const STEPS: usize = 11;

async fn step(catalog: &Catalog, number: usize) -> Result<(), Problem> {
    let (default, shop) = (ns("default"), ns("shop"));
    match number {
        0 => drop(catalog.deploy(one("hello", 1)).await?),
        1 => drop(catalog.set_secret(&default, &secret("key"), b"first").await?),
        2 => {
            let functions =
                vec![deployment("a", 1, reading(&["key"])), deployment("b", 1, routed(&["/b/*"]))];
            drop(catalog.deploy(deploy(Some("shop"), functions)).await?);
        }
        3 => drop(catalog.deploy(one("hello", 2)).await?),
        4 => drop(catalog.rollback(&f("hello"), Some(1)).await?),
        5 => drop(catalog.set_secret(&default, &secret("key"), b"second").await?),
        6 => {
            let functions =
                vec![deployment("b", 1, Settings::default()), deployment("c", 1, routed(&["/b/*"]))];
            drop(catalog.deploy(deploy(Some("shop"), functions)).await?);
        }
        7 => catalog.remove_secret(&default, &secret("key")).await?,
        8 => drop(catalog.create_namespace(&shop).await?),
        9 => drop(catalog.mint("ci", Scope::Deploy, Reach::Namespace(shop), None).await?),
        10 => catalog.remove(&f("hello")).await?,
        _ => unreachable!("there are {STEPS} steps"),
    }
    Ok(())
}

/// All that can be seen of a catalog, as text.
async fn shown(catalog: &Catalog) -> String {
    let mut text = String::new();
    for function in catalog.list(&Filter::default(), None, 100) {
        let reference = &function.function;
        let kept: Vec<_> = catalog.revisions(reference).await.unwrap().iter().map(|r| r.number).collect();
        let (current, latest) = (function.current.number, function.latest);
        writeln!(text, "{reference} of {:?}: {current} of {latest}, kept {kept:?}", function.app).unwrap();
        assert_eq!(catalog.resolve(reference), Some(function.current));
    }
    for path in ["/b", "/b/x"] {
        let function = catalog.route(path).map(|routed| routed.revision.function.clone());
        writeln!(text, "{path} → {function:?}").unwrap();
    }
    for namespace in catalog.namespaces() {
        writeln!(text, "namespace {}", namespace.name).unwrap();
        for info in catalog.secrets(&namespace.name).unwrap() {
            let value = catalog.reveal(&namespace.name, &info.name).unwrap();
            writeln!(text, "  {} = {:?}", info.name, std::str::from_utf8(value.expose())).unwrap();
        }
    }
    for token in catalog.tokens() {
        writeln!(text, "token {} {:?} {:?}", token.label, token.scope, token.reach).unwrap();
    }
    text
}

/// What is shown before the first step, and after each.
async fn undisturbed() -> Vec<String> {
    let world = World::new();
    let catalog = world.open().await;
    let mut all = vec![shown(&catalog).await];
    for number in 0..STEPS {
        step(&catalog, number).await.unwrap();
        all.push(shown(&catalog).await);
    }
    all
}

/// Runs the workload with a fault at its n-th commit.
async fn disturbed(fault: impl Fn(u64) -> Fault, happens: bool) {
    let expected = undisturbed().await;
    for n in 0..STEPS {
        let world = World::new();
        let database: Arc<Faulty<Embedded>> =
            Arc::new(Faulty::new(Embedded::open(&world.path(), world.clock.clone()).unwrap()));
        let catalog = world.open_over(database.clone()).await;
        database.set(Some(fault(database.commits() + n as u64 + 1)));
        for number in 0..n {
            step(&catalog, number).await.unwrap();
        }
        let (code, _) = said(step(&catalog, n).await);
        assert_eq!(code, "store-unavailable", "step {n}");
        database.set(None);
        let now = if happens { n + 1 } else { n };
        assert_eq!(shown(&catalog).await, expected[now], "memory after step {n} failed");
        drop((catalog, database));

        let catalog = world.open().await;
        assert_eq!(shown(&catalog).await, expected[now], "the database after step {n} failed");
        for number in now..STEPS {
            step(&catalog, number).await.unwrap();
        }
        assert_eq!(shown(&catalog).await, expected[STEPS], "all the rest after step {n} failed");
    }
}

#[tokio::test]
async fn a_commit_that_fails_leaves_memory_and_disk_as_they_were() {
    disturbed(Fault::Before, false).await;
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_again_in_memory_and_on_disk() {
    disturbed(Fault::After, true).await;
}

#[tokio::test]
async fn a_database_that_goes_down_takes_nothing_along() {
    disturbed(Fault::Down, false).await;
}

#[tokio::test]
async fn while_the_database_is_down_calls_are_resolved_and_when_it_is_back_writes_go_on() {
    let world = World::new();
    let database = Arc::new(Faulty::new(world.database()));
    let catalog = world.open_over(database.clone()).await;
    catalog.deploy(one("hello", 1)).await.unwrap();
    let (_, token) = catalog.mint("ci", Scope::Call, Reach::All, None).await.unwrap();
    database.set(Some(Fault::Down(0)));
    for _ in 0..3 {
        assert_eq!(said(catalog.deploy(one("hello", 2)).await).0, "store-unavailable");
    }
    assert_eq!(catalog.resolve(&f("hello")).unwrap().number, 1);
    assert!(matches!(catalog.authenticate(&token), Ok(Principal::Token { .. })));
    database.set(None);
    assert_eq!(catalog.deploy(one("hello", 2)).await.unwrap()[0].number, 2);
}

#[tokio::test]
async fn a_write_that_nobody_waits_for_any_more_does_not_confuse_the_next() {
    let world = World::new();
    let catalog = world.open().await;
    for code in 0..20 {
        // Polled once, so that the commit is on its way, and then dropped; on a busy machine it may be over by then.
        let mut dropped = Box::pin(catalog.deploy(one("hello", code)));
        let _ = std::future::poll_fn(|context| std::task::Poll::Ready(dropped.as_mut().poll(context))).await;
        drop(dropped);
        catalog.deploy(one("hello", 100 + code)).await.unwrap();
    }
    let before = shown(&catalog).await;
    drop(catalog);
    assert_eq!(shown(&world.open().await).await, before);
}
