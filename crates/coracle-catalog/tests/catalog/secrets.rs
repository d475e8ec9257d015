//! Secrets: sealed at rest, shown nowhere, guarded while they are read.

use coracle_catalog::SECRET_BYTES_MAX;
use coracle_store::{Batch, Condition, Database, Key};

use crate::{World, deploy, deployment, ns, one, reading, said, secret};

const HUSH: &str = "hush-3f9c1a";

#[tokio::test]
async fn a_secret_is_revealed_to_the_runtime_and_to_nothing_else() {
    let world = World::new();
    {
        let catalog = world.open().await;
        let info = catalog.set_secret(&ns("default"), &secret("api-key"), HUSH.as_bytes()).await.unwrap();
        let functions = vec![deployment("reader", 1, reading(&["api-key"]))];
        catalog.deploy(deploy(None, functions)).await.unwrap();
        let revealed = catalog.reveal(&ns("default"), &secret("api-key")).unwrap();
        assert_eq!(revealed.expose(), HUSH.as_bytes());
        let shown = format!("{catalog:?} {info:?} {revealed:?} {:?}", catalog.secrets(&ns("default")));
        assert!(!shown.contains(HUSH), "{shown}");
        assert_eq!(catalog.reveal(&ns("default"), &secret("other")).map(|_| ()), None);
    }
    for file in std::fs::read_dir(world.folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(HUSH.len()).any(|window| window == HUSH.as_bytes()));
    }
    let catalog = world.open().await;
    assert_eq!(catalog.reveal(&ns("default"), &secret("api-key")).unwrap().expose(), HUSH.as_bytes());
}

#[tokio::test]
async fn a_value_may_hold_any_bytes() {
    let world = World::new();
    let catalog = world.open().await;
    let every: Vec<u8> = (0..=255).collect();
    catalog.set_secret(&ns("default"), &secret("raw"), &every).await.unwrap();
    assert_eq!(catalog.reveal(&ns("default"), &secret("raw")).unwrap().expose(), every);
}

#[tokio::test]
async fn a_value_that_is_refused_is_not_repeated_in_the_error() {
    let world = World::new();
    let catalog = world.open().await;
    let too_long = HUSH.repeat(SECRET_BYTES_MAX);
    let problem = catalog.set_secret(&ns("default"), &secret("key"), too_long.as_bytes()).await.unwrap_err();
    assert_eq!(problem.code.name, "invalid-settings");
    assert!(!format!("{problem} {problem:?} {:?}", problem.hint).contains("hush"), "{problem:?}");
    assert_eq!(said(catalog.set_secret(&ns("nowhere"), &secret("key"), b"x").await).0, "namespace-not-found");
    assert_eq!(said(catalog.secrets(&ns("nowhere"))).0, "namespace-not-found");
}

#[tokio::test]
async fn a_secret_goes_only_when_no_current_revision_reads_it() {
    let world = World::new();
    let catalog = world.open().await;
    let (room, key) = (ns("default"), secret("key"));
    catalog.set_secret(&room, &key, b"x").await.unwrap();
    catalog.deploy(deploy(None, vec![deployment("reader", 1, reading(&["key"]))])).await.unwrap();
    let (code, hint) = said(catalog.remove_secret(&room, &key).await);
    assert_eq!(code, "conflict");
    assert!(hint.contains("`reader`"), "{hint}");
    catalog.deploy(one("reader", 1)).await.unwrap();
    catalog.remove_secret(&room, &key).await.unwrap();
    assert_eq!(said(catalog.remove_secret(&room, &key).await).0, "secret-not-found");
    let (code, _) = said(catalog.rollback(&crate::f("reader"), Some(1)).await);
    assert_eq!(code, "missing-secret");
}

#[tokio::test]
async fn a_sealed_value_that_was_moved_to_another_name_does_not_open() {
    let world = World::new();
    let database = world.database();
    let catalog = world.open_over(database.clone()).await;
    catalog.set_secret(&ns("default"), &secret("mine"), HUSH.as_bytes()).await.unwrap();
    drop(catalog);
    let sealed = database.get(&Key::new("catalog/secret/default/mine").unwrap()).await.unwrap().unwrap();
    let theirs = Key::new("catalog/secret/default/theirs").unwrap();
    database.commit(Batch::new().put(theirs, sealed.value, Condition::Absent)).await.unwrap();
    let catalog = world.open_over(database).await;
    assert_eq!(catalog.secrets(&ns("default")).unwrap().len(), 2);
    assert!(catalog.reveal(&ns("default"), &secret("theirs")).is_none());
    assert!(catalog.reveal(&ns("default"), &secret("mine")).is_some());
}

#[tokio::test]
async fn a_database_does_not_open_with_another_key() {
    let world = World::new();
    drop(world.open().await);
    let (code, hint) = said(world.try_open(world.database(), 8).await);
    assert_eq!(code, "data-unusable");
    assert!(hint.contains("CORACLE_KEY_FILE"), "{hint}");
    world.try_open(world.database(), 7).await.unwrap();
}
