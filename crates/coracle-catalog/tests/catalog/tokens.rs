//! Tokens: what opens, what does not, and until when.

use coracle_catalog::{AuthFailure, new_token_text};
use coracle_model::{Principal, Reach, Scope, TokenId};

use crate::{World, f, ns, said};

#[tokio::test]
async fn a_token_is_who_it_was_minted_for_also_after_a_restart() {
    let world = World::new();
    let (scope, reach) = (Scope::Deploy, Reach::Function(f("resize")));
    let (info, text) = world.open().await.mint("ci", scope, reach.clone(), None).await.unwrap();
    let catalog = world.open().await;
    let principal = Principal::Token { id: info.id.clone(), scope, reach };
    assert_eq!(catalog.authenticate(&text), Ok(principal.clone()));
    assert!(principal.may_on(Scope::Deploy, &f("resize")) && !principal.may_on(Scope::Call, &f("other")));
    let secret = text.rsplit('_').next().unwrap();
    assert!(!format!("{catalog:?} {info:?} {:?}", catalog.tokens()).contains(secret));
    catalog.revoke(&info.id).await.unwrap();
    assert_eq!(catalog.authenticate(&text), Err(AuthFailure::Unknown));
}

#[tokio::test]
async fn anything_but_the_very_text_is_unknown() {
    let world = World::new();
    let catalog = world.open().await;
    let (info, text) = catalog.mint("ci", Scope::Admin, Reach::All, None).await.unwrap();
    let (_, other) = catalog.mint("other", Scope::Admin, Reach::All, None).await.unwrap();
    let swapped = format!("cor_{}_{}", info.id, other.rsplit('_').next().unwrap());
    let flipped = format!("{}{}", &text[..text.len() - 1], if text.ends_with('0') { '1' } else { '0' });
    let (upper, longer, shorter) = (text.to_uppercase(), format!("{text}0"), &text[..text.len() - 1]);
    let stranger = new_token_text().unwrap();
    for wrong in
        ["", "cor_", "cor__", "é", &text[4..], &swapped, &flipped, &upper, &longer, shorter, &stranger]
    {
        assert_eq!(catalog.authenticate(wrong), Err(AuthFailure::Unknown), "{wrong}");
    }
    assert_eq!(said(catalog.revoke(&TokenId("../\0".into())).await).0, "token-not-found");
}

#[tokio::test]
async fn a_token_ends_at_its_time() {
    let world = World::new();
    let catalog = world.open().await;
    let expires = Some("2026-01-02T00:00:00Z".parse().unwrap());
    let (_, text) = catalog.mint("day", Scope::Call, Reach::All, expires).await.unwrap();
    world.clock.set("2026-01-01T23:59:59Z");
    assert!(catalog.authenticate(&text).is_ok());
    world.clock.set("2026-01-02T00:00:00Z");
    assert_eq!(catalog.authenticate(&text), Err(AuthFailure::Expired));
    assert_eq!(said(catalog.mint("late", Scope::Call, Reach::All, expires).await).0, "invalid-settings");
}

#[tokio::test]
async fn a_token_cannot_be_minted_for_nowhere_or_under_a_false_label() {
    let world = World::new();
    let catalog = world.open().await;
    let mint = |label: &'static str, reach| catalog.mint(label, Scope::Call, reach, None);
    assert_eq!(said(mint("x", Reach::Namespace(ns("nowhere"))).await).0, "namespace-not-found");
    assert_eq!(said(mint("admin.token", Reach::All).await).0, "invalid-settings");
    assert_eq!(said(mint("a\nb", Reach::All).await).0, "invalid-settings");
    assert_eq!(catalog.tokens(), []);
}

#[tokio::test]
async fn tokens_of_a_namespace_go_with_it() {
    let world = World::new();
    let catalog = world.open().await;
    catalog.create_namespace(&ns("shop")).await.unwrap();
    let (_, narrow) = catalog.mint("narrow", Scope::Admin, Reach::Namespace(ns("shop")), None).await.unwrap();
    let (_, wide) = catalog.mint("wide", Scope::Admin, Reach::All, None).await.unwrap();
    catalog.remove_namespace(&ns("shop")).await.unwrap();
    catalog.create_namespace(&ns("shop")).await.unwrap();
    assert_eq!(catalog.authenticate(&narrow), Err(AuthFailure::Unknown));
    assert!(catalog.authenticate(&wide).is_ok());
}

#[tokio::test]
async fn the_token_in_the_data_directory_is_an_admin_until_it_is_replaced() {
    let world = World::new();
    let catalog = world.open().await;
    let (first, second) = (new_token_text().unwrap(), new_token_text().unwrap());
    for _ in 0..2 {
        catalog.ensure_admin_token(&first).await.unwrap();
    }
    assert!(catalog.authenticate(&first).unwrap().may(Scope::Admin));
    assert_eq!(catalog.tokens().len(), 1);
    catalog.ensure_admin_token(&second).await.unwrap();
    assert_eq!(catalog.authenticate(&first), Err(AuthFailure::Unknown));
    assert!(catalog.authenticate(&second).unwrap().may(Scope::Admin));
    assert_eq!(said(catalog.ensure_admin_token("hunter2").await).0, "data-unusable");
}
