//! Deploy, roll back, remove, list, route: what a person does with functions.

use coracle_catalog::{App, Filter, Presence, REVISIONS_KEPT_MAX};
use coracle_model::{Digest, FunctionRef, Settings};

use crate::{World, deploy, deployment, f, ns, one, reading, routed, said};

#[tokio::test]
async fn a_deploy_is_current_when_it_returns_and_after_a_restart() {
    let world = World::new();
    {
        let catalog = world.open().await;
        let revisions = catalog.deploy(one("hello", 1)).await.unwrap();
        assert_eq!((revisions.len(), revisions[0].number), (1, 1));
        assert_eq!(catalog.resolve(&f("hello")).as_ref(), Some(&revisions[0]));
        catalog.deploy(one("hello", 2)).await.unwrap();
    }
    let catalog = world.open().await;
    let function = catalog.function(&f("hello")).unwrap();
    assert_eq!((function.current.number, function.latest), (2, 2));
    assert_eq!(function.current.code.digest(), Digest::from_bytes([2; 32]));
    assert_eq!(catalog.resolve(&f("hello.shop")), None);
}

#[tokio::test]
async fn deploying_the_same_again_changes_nothing() {
    let world = World::new();
    let catalog = world.open().await;
    let first = catalog.deploy(one("hello", 1)).await.unwrap();
    let mut changes = catalog.changes();
    world.clock.set("2026-02-01T00:00:00Z");
    assert_eq!(catalog.deploy(one("hello", 1)).await.unwrap(), first);
    assert!(changes.try_recv().is_err());
    let other = deploy(None, vec![deployment("hello", 1, routed(&["/x"]))]);
    assert_eq!(catalog.deploy(other).await.unwrap()[0].number, 2, "other settings make another revision");
    assert_eq!(changes.try_recv().unwrap(), f("hello"));
}

#[tokio::test]
async fn concurrent_deploys_of_one_function_all_succeed_with_numbers_of_their_own() {
    let world = World::new();
    let catalog = world.open().await;
    let deploys: Vec<_> = (0..16)
        .map(|code| {
            let catalog = catalog.clone();
            tokio::spawn(async move { catalog.deploy(one("hello", code)).await.unwrap()[0].number })
        })
        .collect();
    let mut numbers = Vec::new();
    for deploy in deploys {
        numbers.push(deploy.await.unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=16).collect::<Vec<_>>());
    assert_eq!(catalog.function(&f("hello")).unwrap().latest, 16);
}

#[tokio::test]
async fn an_app_is_deployed_whole_or_not_at_all() {
    let world = World::new();
    let catalog = world.open().await;
    let functions = vec![deployment("a", 1, Settings::default()), deployment("b", 1, reading(&["missing"]))];
    let (code, hint) = said(catalog.deploy(deploy(Some("shop"), functions)).await);
    assert_eq!((code, hint.as_str()), ("missing-secret", "coracle secret set missing"));
    assert_eq!(catalog.count(), 0);
}

#[tokio::test]
async fn functions_that_an_app_names_no_longer_go_and_give_their_routes_to_the_others() {
    let world = World::new();
    let catalog = world.open().await;
    let before = vec![deployment("a", 1, routed(&["/a"])), deployment("b", 1, routed(&["/b"]))];
    catalog.deploy(deploy(Some("shop"), before)).await.unwrap();
    let after = vec![deployment("a", 1, routed(&["/b"])), deployment("c", 1, routed(&["/a"]))];
    catalog.deploy(deploy(Some("shop"), after)).await.unwrap();
    let whose = |path: &str| catalog.route(path).map(|routed| routed.revision.function.to_string());
    assert_eq!(whose("/b").as_deref(), Some("a.default"));
    assert_eq!(whose("/a").as_deref(), Some("c.default"));
    assert_eq!(catalog.function(&f("b")), None);
    let names = ["a", "c"].map(|name| name.parse().unwrap()).to_vec();
    let app = App { namespace: ns("default"), name: "shop".parse().unwrap(), functions: names };
    assert_eq!(catalog.apps(None), std::slice::from_ref(&app));
    assert_eq!(catalog.app(&app.namespace, &app.name).as_ref(), Some(&app));
    assert_eq!(catalog.app(&ns("other"), &app.name), None);
    catalog.remove_app(&app.namespace, &app.name).await.unwrap();
    assert_eq!(catalog.app(&app.namespace, &app.name), None);
    assert_eq!(catalog.apps(Some(&ns("other"))), []);
}

#[tokio::test]
async fn a_function_of_another_app_is_refused_and_one_of_none_is_taken_in() {
    let world = World::new();
    let catalog = world.open().await;
    catalog.deploy(one("a", 1)).await.unwrap();
    let with = |app| deploy(app, vec![deployment("a", 1, Settings::default())]);
    assert_eq!(catalog.deploy(with(Some("shop"))).await.unwrap()[0].number, 1);
    assert_eq!(catalog.function(&f("a")).unwrap().app, Some("shop".parse().unwrap()));
    for app in [None, Some("bank")] {
        let (code, hint) = said(catalog.deploy(with(app)).await);
        assert_eq!(code, "conflict");
        assert!(hint.contains("coracle remove a"), "{hint}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_anything_changes() {
    let world = World::new();
    let catalog = world.open().await;
    catalog.deploy(deploy(None, vec![deployment("a", 1, routed(&["/shop/:id"]))])).await.unwrap();
    let twice = vec![deployment("x", 1, Settings::default()), deployment("x", 2, Settings::default())];
    let siblings = vec![deployment("x", 1, routed(&["/x"])), deployment("y", 1, routed(&["/x"]))];
    let mut elsewhere = one("x", 1);
    elsewhere.namespace = ns("nowhere");
    let table = [
        (elsewhere, "namespace-not-found"),
        (deploy(None, vec![deployment("x", 1, routed(&["/shop/:name"]))]), "route-taken"),
        (deploy(None, vec![deployment("x", 1, routed(&["/x/:a", "/x/:b"]))]), "invalid-settings"),
        (deploy(None, siblings), "route-taken"),
        (deploy(None, twice), "invalid-settings"),
        (
            deploy(None, (0..201).map(|i| deployment(&format!("x{i}"), 1, Settings::default())).collect()),
            "limit-reached",
        ),
    ];
    for (wrong, expected) in table {
        assert_eq!(said(catalog.deploy(wrong).await).0, expected);
    }
    assert_eq!(catalog.count(), 1);
}

#[tokio::test]
async fn a_rollback_keeps_the_old_number_and_the_next_deploy_goes_on_from_the_latest() {
    let world = World::new();
    let catalog = world.open().await;
    for code in 1..=3 {
        catalog.deploy(one("hello", code)).await.unwrap();
    }
    assert_eq!(catalog.rollback(&f("hello"), None).await.unwrap().number, 2);
    assert_eq!(catalog.resolve(&f("hello")).unwrap().number, 2);
    assert_eq!(catalog.rollback(&f("hello"), None).await.unwrap().number, 1);
    assert_eq!(said(catalog.rollback(&f("hello"), None).await).0, "revision-not-found");
    assert_eq!(said(catalog.rollback(&f("hello"), Some(9)).await).0, "revision-not-found");
    assert_eq!(said(catalog.rollback(&f("nobody"), None).await).0, "function-not-found");
    assert_eq!(
        catalog.rollback(&f("hello"), Some(3)).await.unwrap().code.digest(),
        Digest::from_bytes([3; 32])
    );
    catalog.rollback(&f("hello"), Some(1)).await.unwrap();
    assert_eq!(catalog.deploy(one("hello", 4)).await.unwrap()[0].number, 4);
    let numbers: Vec<_> = catalog.revisions(&f("hello")).await.unwrap().iter().map(|r| r.number).collect();
    assert_eq!(numbers, [4, 3, 2, 1]);
}

#[tokio::test]
async fn a_rollback_to_what_no_longer_fits_is_refused() {
    let world = World::new();
    let catalog = world.open().await;
    catalog.deploy(deploy(None, vec![deployment("a", 1, routed(&["/x"]))])).await.unwrap();
    catalog.deploy(one("a", 2)).await.unwrap();
    catalog.deploy(deploy(None, vec![deployment("b", 1, routed(&["/x"]))])).await.unwrap();
    assert_eq!(said(catalog.rollback(&f("a"), Some(1)).await).0, "route-taken");
    assert_eq!(catalog.resolve(&f("a")).unwrap().number, 2);
}

#[tokio::test]
async fn only_so_many_revisions_are_kept_and_never_without_the_current_one() {
    let world = World::new();
    let catalog = world.open().await;
    for code in 1..=REVISIONS_KEPT_MAX as u8 + 5 {
        catalog.deploy(one("hello", code)).await.unwrap();
    }
    let revisions = catalog.revisions(&f("hello")).await.unwrap();
    assert_eq!(revisions.len(), REVISIONS_KEPT_MAX);
    assert_eq!(revisions.last().unwrap().number, 6);
    assert_eq!(catalog.artifacts().len(), REVISIONS_KEPT_MAX);
    assert!(!catalog.artifacts().contains(&Digest::from_bytes([5; 32])));
}

#[tokio::test]
async fn a_number_is_never_used_twice_even_if_the_function_was_removed() {
    let world = World::new();
    {
        let catalog = world.open().await;
        catalog.deploy(one("hello", 1)).await.unwrap();
        catalog.deploy(one("hello", 2)).await.unwrap();
        catalog.remove(&f("hello")).await.unwrap();
        assert_eq!(catalog.resolve(&f("hello")), None);
        assert_eq!(said(catalog.remove(&f("hello")).await).0, "function-not-found");
        assert!(catalog.artifacts().is_empty());
    }
    let catalog = world.open().await;
    assert_eq!(catalog.deploy(one("hello", 1)).await.unwrap()[0].number, 3);
    assert_eq!(catalog.revisions(&f("hello")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_part_of_an_app_is_deployed_and_the_others_stay() {
    let world = World::new();
    let catalog = world.open().await;
    let both = ["a", "b"].map(|name| deployment(name, 1, Settings::default())).to_vec();
    catalog.deploy(deploy(Some("shop"), both)).await.unwrap();
    let part = ["b", "c"].map(|name| deployment(name, 2, Settings::default())).to_vec();
    catalog.deploy_part(deploy(Some("shop"), part), Presence::Any).await.unwrap();
    let app = catalog.app(&ns("default"), &"shop".parse().unwrap()).unwrap();
    assert_eq!(app.functions, ["a", "b", "c"].map(|name| name.parse().unwrap()));
    let number = |name: &str| catalog.function(&f(name)).unwrap().current.number;
    assert_eq!(["a", "b", "c"].map(number), [1, 2, 1]);
    let elsewhere = catalog
        .deploy_part(deploy(Some("other"), vec![deployment("a", 2, Settings::default())]), Presence::Any)
        .await;
    assert_eq!(said(elsewhere).0, "conflict");
}

#[tokio::test]
async fn an_app_of_many_functions_with_long_histories_is_removed_whole() {
    let world = World::new();
    let catalog = world.open().await;
    for code in 1..=REVISIONS_KEPT_MAX as u8 {
        let functions = (0..60).map(|i| deployment(&format!("f{i}"), code, Settings::default())).collect();
        catalog.deploy(deploy(Some("large"), functions)).await.unwrap();
    }
    catalog.deploy(one("beside", 1)).await.unwrap();
    let app = "large".parse().unwrap();
    assert_eq!(catalog.remove_app(&ns("default"), &app).await.unwrap().len(), 60);
    assert_eq!(catalog.count(), 1);
    assert_eq!(said(catalog.remove_app(&ns("default"), &app).await).0, "app-not-found");
}

#[tokio::test]
async fn a_list_is_paged_in_order_and_filtered() {
    let world = World::new();
    let catalog = world.open().await;
    for room in ["aa", "zz"] {
        catalog.create_namespace(&ns(room)).await.unwrap();
    }
    let labelled = Settings { labels: [("team".into(), "media".into())].into(), ..Settings::default() };
    for (room, app) in [("zz", None), ("aa", Some("shop")), ("default", Some("shop"))] {
        let functions =
            vec![deployment("one", 1, labelled.clone()), deployment("two", 1, Settings::default())];
        let mut deploy = deploy(app, functions);
        deploy.namespace = ns(room);
        catalog.deploy(deploy).await.unwrap();
    }
    let names = |filter: &Filter, after: Option<&FunctionRef>, limit| -> Vec<String> {
        catalog.list(filter, after, limit).iter().map(|function| function.function.to_string()).collect()
    };
    let all = names(&Filter::default(), None, 100);
    assert_eq!(all, ["one.aa", "two.aa", "one.default", "two.default", "one.zz", "two.zz"]);
    // Every page size pages through the same.
    for limit in 1..=6 {
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = names(&Filter::default(), after.as_ref(), limit);
            let Some(last) = page.last() else { break };
            after = Some(f(last));
            paged.extend(page);
        }
        assert_eq!(paged, all, "pages of {limit}");
    }
    let only = |room: &str| Filter { namespace: Some(ns(room)), ..Filter::default() };
    assert_eq!(names(&only("default"), None, 100), ["one.default", "two.default"]);
    assert_eq!(names(&only("default"), Some(&f("one.default")), 100), ["two.default"]);
    assert_eq!(names(&only("default"), Some(&f("two.aa")), 1), ["one.default"]);
    assert_eq!(names(&only("default"), Some(&f("one.zz")), 100), [""; 0]);
    assert_eq!(names(&only("nowhere"), None, 100), [""; 0]);
    let app = Filter { app: Some("shop".parse().unwrap()), ..Filter::default() };
    assert_eq!(names(&app, Some(&f("one.aa")), 2), ["two.aa", "one.default"]);
    let label = Filter { label: Some(("team".into(), "media".into())), ..Filter::default() };
    assert_eq!(names(&label, None, 100), ["one.aa", "one.default", "one.zz"]);
}

#[tokio::test]
async fn a_route_gives_the_current_revision_and_the_parameters() {
    let world = World::new();
    let catalog = world.open().await;
    let functions =
        vec![deployment("a", 1, routed(&["/users/:id", "/*"])), deployment("b", 1, routed(&["/users/me"]))];
    catalog.deploy(deploy(None, functions)).await.unwrap();
    let found = catalog.route("/users/7").unwrap();
    assert_eq!((found.revision.function.clone(), found.params), (f("a"), vec![("id".into(), "7".into())]));
    assert_eq!(catalog.route("/users/me").unwrap().revision.function, f("b"));
    catalog.deploy(one("a", 1)).await.unwrap();
    assert_eq!(catalog.route("/users/7"), None);
    catalog.remove(&f("b")).await.unwrap();
    assert_eq!(catalog.route("/users/me"), None);
}

#[tokio::test]
async fn namespaces_are_made_listed_and_removed_only_when_empty() {
    let world = World::new();
    let catalog = world.open().await;
    let shop = ns("shop");
    catalog.create_namespace(&shop).await.unwrap();
    assert_eq!(said(catalog.create_namespace(&shop).await).0, "already-exists");
    let mut here = one("hello", 1);
    here.namespace = shop.clone();
    catalog.deploy(here).await.unwrap();
    let counts: Vec<_> = catalog.namespaces().into_iter().map(|info| (info.name, info.functions)).collect();
    assert_eq!(counts, [(ns("default"), 0), (shop.clone(), 1)]);
    assert_eq!([ns("default"), shop.clone(), ns("nowhere")].map(|room| catalog.count_in(&room)), [0, 1, 0]);
    assert_eq!(said(catalog.remove_namespace(&shop).await).0, "namespace-not-empty");
    catalog.remove(&f("hello.shop")).await.unwrap();
    catalog.set_secret(&shop, &"key".parse().unwrap(), b"x").await.unwrap();
    assert_eq!(said(catalog.remove_namespace(&shop).await).0, "namespace-not-empty");
    catalog.remove_secret(&shop, &"key".parse().unwrap()).await.unwrap();
    catalog.remove_namespace(&shop).await.unwrap();
    assert_eq!(said(catalog.remove_namespace(&shop).await).0, "namespace-not-found");
    assert_eq!(said(catalog.remove_namespace(&ns("default")).await).0, "conflict");
    let names: Vec<_> = catalog.namespaces().into_iter().map(|info| info.name).collect();
    assert_eq!(names, [ns("default")]);
}

#[tokio::test]
async fn the_largest_settings_that_are_allowed_can_be_kept() {
    let world = World::new();
    let catalog = world.open().await;
    let many = |count: usize, text: &str| (0..count).map(|i| (format!("{i:03}"), text.to_owned())).collect();
    let settings = Settings {
        // Control characters are written with six.
        env: [("X".into(), "\u{1}".repeat((64 << 10) - 1))].into(),
        annotations: many(64, &"\n".repeat(1021)),
        labels: many(64, &"\n".repeat(253)),
        outbound: (0..256)
            .map(|i| format!("https://{}{i}.example.com", "x.".repeat(100)).parse().unwrap())
            .collect(),
        routes: (0..32).map(|i| format!("/{i}{}", "x".repeat(500)).parse().unwrap()).collect(),
        ..Settings::default()
    };
    catalog.deploy(deploy(None, vec![deployment("large", 1, settings)])).await.unwrap();
    assert_eq!(world_restarted(world, catalog).await, 1);
}

async fn world_restarted(world: World, catalog: coracle_catalog::Catalog) -> usize {
    drop(catalog);
    world.open().await.count()
}
