//! Who may do what, and what nobody ever gets to see: the values of secrets and the texts of tokens.
//! The real binary, asked without a token, with a wrong one, and with one that is too narrow.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

#[expect(dead_code, reason = "these tests use a part of the harness")]
mod guests;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod wire;

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use guests::{acid, built, deploy, until};
use harness::Server;
use wire::{Reply, admin, ask, bearer, get, token};

fn with_token(server: &Server, token: &str, method: &str, path: &str) -> Reply {
    ask(server, method, path, &[("authorization", &bearer(token))], b"")
}

fn problem(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[test]
fn without_a_token_that_is_known_the_api_says_nothing() {
    let server = acid(&[]);
    let wrong = format!("{}x", token(&server));
    for path in
        ["/v1/functions", "/v1/status", "/v1/calls", "/v1/logs", "/v1/tokens", "/metrics", "/v1/whoami"]
    {
        let nobody = get(&server, path);
        assert_eq!(nobody.problem(), problem(401, "unauthenticated"), "{path}");
        assert!(nobody.header("www-authenticate").unwrap().contains("Bearer"), "{path}");
        let stranger = with_token(&server, &wrong, "GET", path);
        assert_eq!(stranger.problem(), problem(401, "unauthenticated"), "{path}");
        assert!(!stranger.text().contains(&wrong), "{path}");
    }
    for (method, path) in [
        ("DELETE", "/v1/namespaces/default/functions/acid"),
        ("POST", "/v1/artifacts"),
        ("POST", "/v1/backup"),
        ("POST", "/v1/tokens"),
        ("PUT", "/v1/namespaces/default/secrets/api-key"),
    ] {
        assert_eq!(ask(&server, method, path, &[], b"{}").status, 401, "{method} {path}");
    }
    assert_eq!(get(&server, "/healthz").status, 200, "that it lives is no secret");
    assert_eq!(
        get(&server, "/function/acid/count").status,
        200,
        "a function is public unless it says otherwise"
    );
}

#[test]
fn a_token_opens_no_more_than_it_was_made_for() {
    let server = acid(&[]);
    deploy(&server, "other", &["--private"]);
    let make = |args: &[&str]| server.ok(&[&["token", "create"], args].concat()).trim().to_owned();
    let call = make(&["--scope", "call"]);
    let deploying = make(&["--scope", "deploy", "-n", "default"]);
    let narrow = make(&["--scope", "call", "--function", "acid"]);
    let table = [
        (&call, "GET", "/v1/tokens", 403),
        (&call, "DELETE", "/v1/namespaces/default/functions/acid", 403),
        (&call, "POST", "/v1/backup", 403),
        (&call, "GET", "/function/other/count", 200),
        (&deploying, "GET", "/v1/functions", 200),
        (&deploying, "POST", "/v1/tokens", 403),
        (&deploying, "POST", "/v1/backup", 403),
        (&deploying, "DELETE", "/v1/namespaces/else/functions/acid", 403),
        (&narrow, "GET", "/function/other/count", 403),
        (&narrow, "GET", "/function/acid/count", 200),
        (&narrow, "GET", "/v1/namespaces/default/secrets", 403),
    ];
    for (token, method, path, status) in table {
        let reply =
            ask(&server, method, path, &[("authorization", &bearer(token))], br#"{"scope": "admin"}"#);
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text());
        if status == 403 {
            assert_eq!(reply.problem(), problem(403, "forbidden"), "{method} {path}");
        }
    }
    assert_eq!(server.json(&["list"]).as_array().unwrap().len(), 2);
}

#[test]
fn a_token_that_has_expired_opens_nothing() {
    let server = acid(&["--private"]);
    let token = server.ok(&["token", "create", "--scope", "call", "--expires", "1s"]);
    let token = token.trim();
    let reply = until("the end of the token", || {
        let reply = with_token(&server, token, "GET", "/function/acid/count");
        (reply.status != 200).then_some(reply)
    });
    assert_eq!(reply.problem(), problem(401, "unauthenticated"));
    assert!(reply.json()["message"].as_str().unwrap().contains("expired"), "{}", reply.text());
}

#[test]
fn a_private_function_answers_those_who_may_and_never_sees_their_token() {
    let server = acid(&["--private"]);
    let nobody = get(&server, "/function/acid/headers");
    assert_eq!(nobody.problem(), problem(401, "unauthenticated"));
    assert!(nobody.header("www-authenticate").unwrap().contains("Basic"));
    let by_host = ask(&server, "GET", "/headers", &[("host", "acid.default.localhost")], b"");
    assert_eq!(by_host.status, 401, "there is no other door");

    let token = token(&server);
    let basic = format!("Basic {}", BASE64.encode(format!("whoever:{token}")));
    for authorization in [bearer(&token), basic] {
        let reply = ask(&server, "GET", "/function/acid/headers", &[("authorization", &authorization)], b"");
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(
            !reply.text().contains("authorization") && !reply.text().contains(&token),
            "{}",
            reply.text()
        );
    }
}

#[test]
fn what_a_public_function_is_sent_for_itself_it_gets() {
    let server = acid(&[]);
    let own = ask(&server, "GET", "/function/acid/headers", &[("authorization", "Bearer of-its-own")], b"");
    assert!(own.text().contains("authorization: Bearer of-its-own"), "{}", own.text());
    let ours = with_token(&server, &token(&server), "GET", "/function/acid/headers");
    assert!(!ours.text().contains("authorization"), "a token of ours is not its business");
}

#[test]
fn a_secret_is_seen_by_its_function_and_by_nobody_else() {
    const SECRET: &str = "correct-horse-battery-staple";
    let server = Server::start();
    assert_eq!(server.run_with(&["secret", "set", "api-key"], SECRET.as_bytes()).code, 0);
    deploy(&server, "acid", &["--secret", "api-key"]);
    deploy(&server, "other", &[]);
    assert!(get(&server, "/function/acid/env").text().contains(&format!("API_KEY={SECRET}\n")));
    assert!(!get(&server, "/function/other/env").text().contains("API_KEY"));
    assert_eq!(get(&server, "/function/acid/trap").status, 502);

    let mut said = String::new();
    for path in [
        "/v1/functions",
        "/v1/namespaces/default/functions/acid",
        "/v1/namespaces/default/functions/acid/revisions",
        "/v1/namespaces/default/secrets",
        "/v1/namespaces/default/secrets/api-key",
        "/v1/calls",
        "/v1/logs",
        "/v1/status",
        "/metrics",
    ] {
        said += &admin(&server, "GET", path, b"").text();
    }
    // A value that comes in a way it cannot be read is not repeated in the complaint.
    for body in
        [format!(r#"{{"valu": "{SECRET}"}}"#), format!(r#"{{"value": ["{SECRET}"]}}"#), SECRET.to_owned()]
    {
        let reply = admin(&server, "PUT", "/v1/namespaces/default/secrets/another", body.as_bytes());
        assert_eq!(reply.status, 400, "{}", reply.text());
        said += &reply.text();
    }
    for args in [&["show", "acid"][..], &["secret", "list"], &["logs"], &["calls"], &["status"]] {
        let ended = server.run(args);
        said += &(ended.stdout + &ended.stderr);
    }
    for file in ["cmdline", "environ"] {
        said += &String::from_utf8_lossy(&fs::read(format!("/proc/{}/{file}", server.pid())).unwrap());
    }
    assert!(said.contains("api-key"), "it is known by its name");
    assert!(!said.contains(SECRET), "{said}");
    let backup = server.data().parent().unwrap().join("all.backup");
    server.ok(&["backup", backup.to_str().unwrap()]);
    nowhere_below(server.data().parent().unwrap(), &[SECRET.to_owned(), BASE64.encode(SECRET)], &[]);
}

#[test]
fn an_instance_that_was_made_before_a_secret_was_replaced_serves_with_the_new_one() {
    let server = Server::start();
    assert_eq!(server.run_with(&["secret", "set", "api-key"], b"old").code, 0);
    deploy(&server, "acid", &["--secret", "api-key"]);
    assert!(get(&server, "/function/acid/env").text().contains("API_KEY=old\n"));
    until("one is made ahead", || {
        let status = admin(&server, "GET", "/v1/status", b"").json();
        (status["details"]["instances_idle"] == 1).then_some(())
    });
    assert_eq!(server.run_with(&["secret", "set", "api-key"], b"new").code, 0);
    assert!(get(&server, "/function/acid/env").text().contains("API_KEY=new\n"));
}

#[test]
fn the_text_of_a_token_is_kept_nowhere_but_where_the_command_line_finds_it() {
    let server = acid(&["--private"]);
    let made = server.ok(&["token", "create", "--scope", "call", "--label", "ci"]);
    let texts = [made.trim().to_owned(), token(&server)];
    for text in &texts {
        assert_eq!(with_token(&server, text, "GET", "/function/acid/count").status, 200);
    }
    let listed = server.ok(&["token", "list", "--json"]) + &server.ok(&["logs"]) + &server.ok(&["calls"]);
    assert!(listed.contains("\"ci\"") && texts.iter().all(|text| !listed.contains(text)), "{listed}");
    nowhere_below(&server.data(), &texts, &["admin.token"]);
}

/// That no file but these has any of these texts in it.
fn nowhere_below(folder: &Path, texts: &[String], but: &[&str]) {
    let files = files_below(folder);
    assert!(files.iter().any(|file| file.ends_with("coracle.db")), "{files:?}");
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let found = |text: &String| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        let excepted = but.iter().any(|name| file.ends_with(name));
        assert!(excepted || !texts.iter().any(found), "{}", file.display());
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn a_deploy_says_what_it_opens_and_what_it_gives_up() {
    let server = acid(&["--private", "--env", "GREETING=Hi"]);
    let file = built("acid");
    let again = || server.run(&["deploy", file.to_str().unwrap(), "--name", "acid"]).stderr;
    let said = again();
    assert!(said.contains("changed: private true → false"), "{said}");
    assert!(said.contains("changed: env -GREETING"), "{said}");
    let said = again();
    assert!(said.starts_with("unchanged: acid, revision 2"), "{said}");
    let shown = server.ok(&["show", "acid"]);
    assert!(shown.contains("env -GREETING, private true → false"), "{shown}");
}
