//! What is in the database and cannot be read: said, skipped, and left alone.

use coracle_model::code;
use coracle_store::{Batch, Condition, Database, Key};

use crate::{World, f, ns, one, said, secret};

#[tokio::test]
async fn a_record_that_cannot_be_read_is_skipped_protected_and_kept() {
    let world = World::new();
    let database = world.database();
    {
        let catalog = world.open_over(database.clone()).await;
        catalog.create_namespace(&ns("shop")).await.unwrap();
        catalog.deploy(one("well", 1)).await.unwrap();
    }
    let broken = [
        ("catalog/fn/default/newer", br#"{"version":9,"record":{}}"#.as_slice()),
        ("catalog/fn/default/damaged", b"{"),
        ("catalog/fn/shop/damaged", b"\0\xff"),
        (
            "catalog/secret/default/key",
            br#"{"version":1,"record":{"sealed":"?","updated":"2026-01-01T00:00:00Z"}}"#,
        ),
        ("catalog/token/0123", br#"{"version":1}"#),
        ("catalog/weather/today", b"sun"),
    ];
    for (key, value) in broken {
        let batch = Batch::new().put(Key::new(key).unwrap(), value.to_vec(), Condition::Absent);
        database.commit(batch).await.unwrap();
    }
    let catalog = world.open_over(database.clone()).await;
    assert_eq!(catalog.count(), 1);
    assert_eq!(catalog.resolve(&f("well")).unwrap().number, 1);
    for name in ["newer", "damaged"] {
        let problem = catalog.deploy(one(name, 1)).await.unwrap_err();
        assert_eq!(problem.code, &code::DATA_UNUSABLE);
        assert!(problem.message.contains(&format!("`catalog/fn/default/{name}`")), "{problem}");
    }
    assert_eq!(said(catalog.set_secret(&ns("default"), &secret("key"), b"x").await).0, "data-unusable");
    assert_eq!(said(catalog.remove_namespace(&ns("shop")).await).0, "namespace-not-empty");
    catalog.deploy(one("well", 2)).await.unwrap();
    for (key, value) in broken {
        let entry = database.get(&Key::new(key).unwrap()).await.unwrap().unwrap();
        assert_eq!(entry.value, value, "{key}");
    }
}

#[tokio::test]
async fn the_record_of_one_function_does_not_stand_in_for_another() {
    let world = World::new();
    let database = world.database();
    world.open_over(database.clone()).await.deploy(one("hello", 1)).await.unwrap();
    let record = database.get(&Key::new("catalog/fn/default/hello").unwrap()).await.unwrap().unwrap();
    let other = Key::new("catalog/fn/default/other").unwrap();
    database.commit(Batch::new().put(other, record.value, Condition::Absent)).await.unwrap();
    assert_eq!(world.open_over(database).await.resolve(&f("other")), None);
}

#[tokio::test]
async fn a_damaged_old_revision_cannot_come_back_and_the_others_can() {
    let world = World::new();
    let database = world.database();
    let catalog = world.open_over(database.clone()).await;
    for code in 1..=3 {
        catalog.deploy(one("hello", code)).await.unwrap();
    }
    let key = Key::new("revision/default/hello/0000000002").unwrap();
    database.commit(Batch::new().put(key, &b"{"[..], Condition::Any)).await.unwrap();
    let numbers: Vec<_> = catalog.revisions(&f("hello")).await.unwrap().iter().map(|r| r.number).collect();
    assert_eq!(numbers, [3, 1]);
    assert_eq!(said(catalog.rollback(&f("hello"), None).await).0, "data-unusable");
    assert_eq!(catalog.rollback(&f("hello"), Some(1)).await.unwrap().number, 1);
}
