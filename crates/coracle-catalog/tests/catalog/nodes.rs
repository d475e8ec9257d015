//! Two catalogs over one database, as two nodes will have it: each follows the other, and their rules hold together.

use coracle_model::{Settings, code};

use crate::{World, deploy, deployment, f, ns, one, reading, routed, secret};

#[tokio::test]
async fn what_one_node_deploys_or_removes_the_other_serves_or_forgets() {
    let world = World::new();
    let database = world.database();
    let (here, there) = (world.open_over(database.clone()).await, world.open_over(database).await);
    let mut changes = there.changes();
    here.deploy(one("hello", 1)).await.unwrap();
    assert_eq!(changes.recv().await.unwrap(), f("hello"));
    assert_eq!(there.resolve(&f("hello")), here.resolve(&f("hello")));
    there.deploy(one("hello", 2)).await.unwrap();
    here.deploy(one("hello", 3)).await.unwrap();
    here.remove(&f("hello")).await.unwrap();
    while there.resolve(&f("hello")).is_some() {
        changes.recv().await.unwrap();
    }
    assert_eq!(there.deploy(one("hello", 1)).await.unwrap()[0].number, 4);
}

#[tokio::test]
async fn a_new_value_of_a_secret_is_told_to_those_who_read_it() {
    let world = World::new();
    let database = world.database();
    let (here, there) = (world.open_over(database.clone()).await, world.open_over(database).await);
    here.set_secret(&ns("default"), &secret("key"), b"first").await.unwrap();
    let functions = vec![deployment("a", 1, reading(&["key"])), deployment("b", 1, Settings::default())];
    here.deploy(deploy(None, functions)).await.unwrap();
    let mut changes = here.changes();
    there.set_secret(&ns("default"), &secret("key"), b"second").await.unwrap();
    assert_eq!(changes.recv().await.unwrap(), f("a"));
    assert_eq!(here.reveal(&ns("default"), &secret("key")).unwrap().expose(), b"second");
}

#[tokio::test]
async fn of_two_nodes_that_deploy_the_same_route_at_once_one_is_refused() {
    let world = World::new();
    let database = world.database();
    let (here, there) = (world.open_over(database.clone()).await, world.open_over(database).await);
    for round in 0..10 {
        let claim = |name: &str| {
            let route = format!("/round-{round}/:x");
            deploy(None, vec![deployment(&format!("{name}-{round}"), 1, routed(&[&route]))])
        };
        let (first, second) = tokio::join!(here.deploy(claim("here")), there.deploy(claim("there")));
        let refused = [first.err(), second.err()].into_iter().flatten().collect::<Vec<_>>();
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert_eq!(refused[0].code, &code::ROUTE_TAKEN);
    }
}

#[tokio::test]
async fn a_secret_is_not_removed_on_one_node_while_another_deploys_its_reader() {
    let world = World::new();
    let database = world.database();
    let (here, there) = (world.open_over(database.clone()).await, world.open_over(database).await);
    for round in 0..10 {
        let name = format!("key-{round}");
        here.set_secret(&ns("default"), &secret(&name), b"x").await.unwrap();
        // Else the other node would refuse what it has not heard of, and nothing would be contended.
        while !there.secrets(&ns("default")).unwrap().iter().any(|info| info.name == secret(&name)) {
            tokio::task::yield_now().await;
        }
        let reader = deploy(None, vec![deployment(&format!("f{round}"), 1, reading(&[&name]))]);
        let (key, room) = (secret(&name), ns("default"));
        let (deployed, removed) = tokio::join!(here.deploy(reader), there.remove_secret(&room, &key));
        match (deployed, removed) {
            (Ok(_), Err(problem)) => assert_eq!(problem.code, &code::CONFLICT),
            (Err(problem), Ok(())) => assert_eq!(problem.code, &code::MISSING_SECRET),
            both => panic!("exactly one may win: {both:?}"),
        }
    }
}
