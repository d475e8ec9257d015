//! Passwords of registries: sealed at rest, shown nowhere, and no secret that a function could name.

use coracle_catalog::RegistryCredentials;

use crate::{World, ns, said, secret};

const HUSH: &str = "hush-51be0c";

#[tokio::test]
async fn a_password_is_revealed_for_a_pull_and_to_nothing_else() {
    let world = World::new();
    let credentials = RegistryCredentials { username: "ada".into(), password: HUSH.to_owned().into() };
    {
        let catalog = world.open().await;
        let kept = catalog.set_registry(&ns("default"), "ghcr.io", &credentials).await.unwrap();
        let shown = format!("{catalog:?} {kept:?} {credentials:?} {:?}", catalog.registries(&ns("default")));
        assert!(!shown.contains(HUSH), "{shown}");
        assert_eq!(catalog.secrets(&ns("default")).unwrap(), []);
        assert!(catalog.reveal(&ns("default"), &secret("ghcr.io")).is_none());
    }
    for file in std::fs::read_dir(world.folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(HUSH.len()).any(|window| window == HUSH.as_bytes()));
    }
    let catalog = world.open().await;
    let revealed = catalog.registry_credentials(&ns("default"), "ghcr.io").unwrap();
    assert_eq!((revealed.username.as_str(), revealed.password.as_str()), ("ada", HUSH));
    catalog.remove_registry(&ns("default"), "ghcr.io").await.unwrap();
    assert!(catalog.registry_credentials(&ns("default"), "ghcr.io").is_none());
    assert_eq!(said(catalog.remove_registry(&ns("default"), "ghcr.io").await).0, "secret-not-found");
}

#[tokio::test]
async fn a_registry_has_the_name_of_a_host_and_a_namespace_takes_its_passwords_along() {
    let world = World::new();
    let catalog = world.open().await;
    let credentials = RegistryCredentials { username: "ada".into(), password: HUSH.to_owned().into() };
    for name in ["", "a/b", "a b", "a\n", &"a".repeat(300)] {
        let refused = catalog.set_registry(&ns("default"), name, &credentials).await;
        assert_eq!(said(refused).0, "invalid-name", "{name:?}");
    }
    catalog.create_namespace(&ns("shop")).await.unwrap();
    catalog.set_registry(&ns("shop"), "localhost:5000", &credentials).await.unwrap();
    assert!(catalog.registry_credentials(&ns("default"), "localhost:5000").is_none());
    catalog.remove_namespace(&ns("shop")).await.unwrap();
    catalog.create_namespace(&ns("shop")).await.unwrap();
    assert!(catalog.registry_credentials(&ns("shop"), "localhost:5000").is_none());
}
