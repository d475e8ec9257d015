//! The tour of a person at a terminal: the real binary, from `up` to `backup` and back.
//! One test a story; what the server does in detail is tested where it is done.

#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use harness::{Data, Ended, Server, coracle, wasm};

#[test]
fn a_function_answers_from_deploy_to_remove() {
    let server = Server::start();
    assert_eq!(server.json(&["list"]).as_array().map(Vec::len), Some(0));

    let deployed =
        server.ok(&["deploy", wasm("hello").to_str().unwrap(), "--name", "hello", "--label", "team=media"]);
    assert_eq!(deployed, format!("{}/function/hello\n", server.url));
    assert_eq!(server.ok(&["call", "hello", "-d", "Ada"]), "Hello, Ada!\n");
    assert_eq!(server.ok(&["call", "hello", "--path", "?name=Grace"]), "Hello, Grace!\n");
    assert_eq!(server.run_with(&["call", "hello", "-d", "@-"], b"Mary").stdout, "Hello, Mary!\n");

    let included = server.run(&["call", "hello", "-i"]);
    assert!(included.stderr.starts_with("200 OK\n"), "{}", included.stderr);
    assert!(included.stderr.contains("content-type: text/plain"), "{}", included.stderr);
    assert!(included.stderr.contains("on the server: waited "), "{}", included.stderr);
    assert_eq!(server.json(&["call", "hello"])["status"], 200);

    let list = server.json(&["list"]);
    assert_eq!(list[0]["name"], "hello");
    assert_eq!(list[0]["settings"]["labels"]["team"], "media");
    assert!(server.ok(&["list", "--label", "team=media"]).contains("hello"));
    assert_eq!(server.ok(&["list", "--label", "team=other"]), "");

    let logs = server.ok(&["logs", "hello"]);
    assert!(logs.contains("greeting Ada\n") && logs.contains("greeting Mary\n"), "{logs}");
    let calls = server.json(&["calls", "hello"]);
    assert!(calls.as_array().is_some_and(|calls| calls.len() >= 5), "{calls}");
    let last = calls[0]["id"].as_str().unwrap();
    let line = server.json(&["logs", "hello", "--call", last]);
    assert_eq!((&line["text"], &line["call"]), (&"greeting world".into(), &last.into()));
    assert!(server.ok(&["show", "hello"]).contains(&format!("{}/function/hello", server.url)));

    server.ok(&["remove", "hello"]);
    let gone = server.run(&["call", "hello"]);
    assert_eq!((gone.code, gone.stdout.as_str()), (1, ""));
    assert!(gone.stderr.starts_with("error[function-not-found]:"), "{}", gone.stderr);
}

#[test]
fn a_call_is_repeated_and_its_latencies_are_shown() {
    let server = Server::start();
    server.ok(&["deploy", wasm("hello").to_str().unwrap(), "--name", "hello"]);
    let shown = server.ok(&["call", "hello", "-d", "Ada", "--repeat", "50", "--concurrency", "4"]);
    assert!(shown.starts_with("50 answered 200 in "), "{shown}");
    assert!(shown.contains("P99") && shown.contains('█'), "{shown}");
    let measured = server.json(&["call", "hello", "--repeat", "20"]);
    assert_eq!(measured["statuses"]["200"], 20);
    let rows = measured["histogram"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["calls"].as_u64().unwrap()).sum::<u64>(), 20);
    // One that answers with an error is as slow as it is, and fails.
    let failed = server.run(&["call", "nobody", "--repeat", "3"]);
    assert_eq!((failed.code, failed.stdout.starts_with("3 answered 404")), (1, true), "{}", failed.stdout);
    assert_eq!(server.run(&["call", "hello", "--repeat", "0"]).code, 2);
    assert_eq!(server.run(&["call", "hello", "--concurrency", "2"]).code, 2);
}

#[test]
fn a_log_is_followed_while_it_is_written() {
    let server = Server::start();
    server.deploy("hello");
    server.ok(&["call", "hello", "-d", "before"]);
    let mut follower =
        server.command(&["logs", "hello", "-f", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    // The first line says that the follower has begun.
    assert!(next().contains("greeting before"));
    server.ok(&["call", "hello", "-d", "after"]);
    assert!(next().contains("greeting after"));
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn the_logs_of_all_functions_are_followed_at_once() {
    let server = Server::start();
    for name in ["hello", "again"] {
        server.ok(&["deploy", wasm("hello").to_str().unwrap(), "--name", name]);
        server.ok(&["call", name, "-d", "before"]);
    }
    let lines = server.ok(&["logs", "--tail", "1"]);
    assert!(lines.contains(" again 1/") && lines.lines().count() == 1, "{lines}");
    assert_eq!(server.ok(&["logs", "--since", "1h"]).lines().count(), 2);
    let mut follower = server.command(&["logs", "-f"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().contains(" hello 1/"));
    assert!(next().contains(" again 1/"));
    server.ok(&["call", "hello", "-d", "after"]);
    let after = next();
    assert!(after.contains(" hello 1/") && after.ends_with("greeting after"), "{after}");
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn calls_are_followed_as_they_end() {
    let server = Server::start();
    server.deploy("hello");
    server.ok(&["call", "hello", "--path", "/before"]);
    let mut follower =
        server.command(&["calls", "-f", "--limit", "1", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    // The first line says that the follower has begun.
    assert!(next().contains(r#""path":"/before""#));
    server.ok(&["call", "hello", "--path", "/after"]);
    let after = next();
    assert!(after.contains(r#""path":"/after""#) && after.contains(r#""outcome":"ok""#), "{after}");
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert!(server.run(&["calls", "nobody", "-f"]).stderr.contains("function-not-found"));
}

#[test]
fn the_busiest_functions_are_watched() {
    let server = Server::start();
    // Without functions, and without a terminal: a table of nothing, and no screen.
    assert_eq!(server.run(&["top"]).stderr, "no functions yet\n");
    for name in ["busy", "quiet"] {
        server.ok(&["deploy", wasm("hello").to_str().unwrap(), "--name", name]);
    }
    server.ok(&["call", "busy", "--repeat", "200"]);
    let table = server.ok(&["top", "--once"]);
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((rows[0][..3].join(" ").as_str(), rows.len()), ("FUNCTION CALLS/S P50", 3), "{table}");
    assert_eq!((rows[1][0], rows[2][0], rows[2][1]), ("busy", "quiet", "0"), "{table}");
    let snapshot = server.json(&["top", "--once"]);
    let busy = &snapshot["items"][0];
    assert!(busy["calls_per_s"].as_f64().unwrap() >= 20.0, "{snapshot}");
    assert!(busy["p99_ms"].as_f64().unwrap() >= busy["p50_ms"].as_f64().unwrap(), "{snapshot}");
    assert_eq!((&busy["calls"], &busy["errors"]), (&200.into(), &0.into()), "{snapshot}");
    assert!(busy["memory_bytes"].as_u64().unwrap() > 0, "{snapshot}");
    assert!(snapshot["server"]["resident_bytes"].as_u64().unwrap() > 0, "{snapshot}");
    assert_eq!(server.json(&["top", "--once", "--sort", "name"])["items"][1]["name"], "quiet");
    let shown = server.ok(&["show", "busy"]);
    assert!(shown.contains("calls/s") && shown.contains(" running, "), "{shown}");

    let mut watcher =
        server.command(&["top", "--json", "--interval", "100ms"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let line = lines.next().unwrap().unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["functions"], 2);
    }
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    assert_eq!(server.run(&["top", "--interval", "0s"]).code, 2);
    assert_eq!(server.run(&["top", "--sort", "speed"]).code, 2);
}

#[test]
fn what_is_not_there_is_said_to_be_not_there() {
    let server = Server::start();
    let cases: [(&[&str], &str); 4] = [
        (&["calls", "nobody"], "function-not-found"),
        (&["logs", "nobody"], "function-not-found"),
        (&["list", "-n", "nowhere"], "namespace-not-found"),
        (&["list", "--label", "team"], "bad-request"),
    ];
    for (args, code) in cases {
        let ended = server.run(args);
        assert!(ended.code == 1 && ended.stderr.contains(code), "{args:?}: {ended:?}");
    }
    // In the same words, whoever is asked.
    let called = server.run(&["call", "nobody"]).stderr;
    for verb in
        [&["show", "nobody"][..], &["remove", "nobody"], &["rollback", "nobody"], &["scale", "nobody", "1"]]
    {
        assert_eq!(server.run(verb).stderr, called, "{verb:?}");
    }
    let scripts = server.ok(&["completions", "bash"]);
    assert!(scripts.contains("rollback") && !scripts.contains("compile-worker"));
}

#[test]
fn a_call_is_found_by_the_beginning_of_its_identity() {
    let server = Server::start();
    server.ok(&["deploy", wasm("hello").to_str().unwrap(), "--name", "hello"]);
    server.ok(&["call", "hello", "-d", "Ada"]);
    server.ok(&["call", "hello", "-d", "Grace"]);
    let calls = server.ok(&["calls", "hello"]);
    let newest = calls.lines().nth(1).unwrap().split_whitespace().next().unwrap();
    assert_eq!(newest.len(), 12, "{calls}");
    let lines = server.ok(&["logs", "hello", "--call", newest]);
    assert!(lines.contains("greeting Grace") && !lines.contains("Ada"), "{lines}");
    let unknown = server.run(&["logs", "hello", "--call", "ffffffffffff"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("error[call-not-found]"), "{unknown:?}");
}

#[test]
fn what_is_said_of_an_answer_begins_on_a_line_of_its_own() {
    let server = with_acid(&["--response-body", "1MiB"]);
    // Both into one file, as on a terminal.
    let together = |args: &[&str]| {
        let mut file = tempfile::tempfile().unwrap();
        let mut command = server.command(args);
        command.stdout(file.try_clone().unwrap()).stderr(file.try_clone().unwrap()).status().unwrap();
        file.rewind().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let echo = ["call", "acid", "--path", "/echo", "-d", "half a line", "-i"];
    let included = together(&echo);
    assert!(included.contains("\nhalf a line\n11 bytes, connected in "), "{included}");
    // Standard output has the answer, to the byte.
    assert_eq!(server.run(&echo).stdout, "half a line");
    let status = together(&["call", "acid", "--path", "/status?code=500"]);
    assert!(status.contains("\nfailed: ") && !status.contains("\n\n"), "{status}");
    let broken = together(&["call", "acid", "--path", "/source?bytes=4000000"]);
    let (_, end) = broken.split_at(broken.floor_char_boundary(broken.len() - 300));
    assert!(end.contains("\nerror[response-too-large]: the answer was cut off"), "{end}");
}

/// A server with the guest whose paths are its misdeeds.
fn with_acid(settings: &[&str]) -> Server {
    let server = Server::start();
    let acid = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guests/built/acid.wasm");
    server.ok(&[&["deploy", acid, "--name", "acid"], settings].concat());
    server
}

#[test]
fn failed_calls_say_why() {
    let server = with_acid(&[]);
    server.run(&["call", "acid", "--path", "/trap"]);
    let calls = server.ok(&["calls", "--failed"]);
    assert_eq!(calls.lines().count(), 3, "{calls}");
    assert!(calls.lines().nth(2).unwrap().starts_with("  `acid.default` "), "{calls}");
    assert_eq!(server.ok(&["calls"]).lines().count(), 2);
}

#[test]
fn an_image_in_a_file_is_told_how_it_is_deployed() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.tar");
    let mut tar = tar::Builder::new(fs::File::create(&file).unwrap());
    for name in ["blobs/sha256/x", "index.json", "oci-layout"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        tar.append_data(&mut header, name, std::io::empty()).unwrap();
    }
    tar.into_inner().unwrap();
    let file = file.to_str().unwrap();
    for what in [&["deploy", file, "--name", "shop"][..], &["deploy", "--image", file, "--name", "shop"]] {
        let refused = server.run(what);
        let hint = format!(
            "hint: coracle image load {file} --tag shop, then coracle deploy --image shop --name shop\n"
        );
        assert!(refused.code == 1 && refused.stderr.contains(&hint), "{refused:?}");
    }
}

#[test]
fn an_answer_goes_into_a_file() {
    let server = Server::start();
    server.ok(&["deploy", wasm("hello").to_str().unwrap(), "--name", "hello"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answer");
    assert_eq!(server.ok(&["call", "hello", "-d", "Ada", "-o", file.to_str().unwrap()]), "");
    assert_eq!(fs::read_to_string(&file).unwrap(), "Hello, Ada!\n");
    let nowhere = server.run(&["call", "hello", "-o", "/no/such/folder/answer"]);
    assert!(nowhere.code == 1 && nowhere.stderr.contains("/no/such/folder/answer"), "{nowhere:?}");
}

#[test]
fn a_server_that_cannot_start_leaves_nothing_behind() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup");
    server.ok(&["backup", backup.to_str().unwrap()]);
    let up = |data: &str, listen: &str, backup: &std::path::Path| {
        let mut command = coracle();
        command
            .args(["up", "--listen", listen, "--metrics-listen", "none", "--restore"])
            .arg(backup)
            .arg("--data");
        Ended::of(command.arg(folder.path().join(data)).stdin(Stdio::null()).output().unwrap())
    };
    let taken = up("new", server.url.strip_prefix("http://").unwrap(), &backup);
    assert!(taken.stderr.contains("address-in-use") && !folder.path().join("new").exists(), "{taken:?}");
    let missing = up("new", "127.0.0.1:0", &folder.path().join("nothing"));
    assert!(missing.stderr.contains("No such file"), "{missing:?}");
}

#[test]
fn an_older_revision_answers_again() {
    let server = Server::start();
    server.deploy("hello");
    let hello = wasm("hello");
    server.ok(&["deploy", hello.to_str().unwrap(), "--name", "hello", "--memory", "64MiB"]);
    assert_eq!(server.json(&["list"])[0]["revision"], 2);
    assert_eq!(server.json(&["rollback", "hello"])["revision"], 1);
    let shown = server.json(&["show", "hello"]);
    assert_eq!(shown["function"]["settings"]["memory"], "128MiB");
    assert_eq!(shown["revisions"].as_array().map(Vec::len), Some(2));
    assert_eq!(server.json(&["rollback", "hello", "--to", "2"])["revision"], 2);
    // The table has the one that answers, however old it is.
    for size in 65..72 {
        server.ok(&["deploy", hello.to_str().unwrap(), "--name", "hello", "--memory", &format!("{size}MiB")]);
    }
    server.ok(&["rollback", "hello", "--to", "1"]);
    let shown = server.ok(&["show", "hello"]);
    let rows: Vec<_> = shown.lines().skip_while(|line| !line.starts_with("REVISION")).collect();
    assert!(rows.len() == 7 && rows[6].trim_start().starts_with("1  current "), "{shown}");
    let wrong = server.run(&["rollback", "hello", "--to", "99"]);
    assert!(wrong.stderr.starts_with("error[revision-not-found]:"), "{}", wrong.stderr);
}

#[test]
fn a_folder_is_deployed_as_its_manifest_says() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let manifest = "app = \"shop\"\n\
        [function.one]\nbuild = \"cp $HELLO built.wasm\"\ncode = \"built.wasm\"\nroute = \"/greet/*\"\n\
        [function.two]\ncode = \"built.wasm\"\nprivate = true\n";
    fs::write(folder.path().join("coracle.toml"), manifest).unwrap();
    let deploy = |extra: &[&str]| {
        let mut command = server.command(&["deploy", folder.path().to_str().unwrap()]);
        Ended::of(command.args(extra).env("HELLO", wasm("hello")).output().unwrap())
    };
    let first = deploy(&[]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert_eq!(first.stdout.lines().count(), 2, "{}", first.stdout);
    assert!(first.stderr.contains("building one: cp $HELLO built.wasm"), "{}", first.stderr);
    assert_eq!(server.json(&["list", "--app", "shop"]).as_array().map(Vec::len), Some(2));

    let alone = deploy(&["--name", "one"]);
    assert_eq!((alone.code, alone.stdout.lines().count()), (0, 1), "{}", alone.stderr);
    let both = server.json(&["list", "--app", "shop"]);
    assert_eq!(both.as_array().map(Vec::len), Some(2), "the other one stays");

    server.ok(&["remove", "--app", "shop"]);
    assert_eq!(server.ok(&["list"]), "");

    fs::write(folder.path().join("coracle.toml"), manifest.replace("app = \"shop\"", "")).unwrap();
    let one = deploy(&["--name", "one", "--env", "LEVEL=debug"]);
    assert_eq!(one.stdout, format!("{}/function/one\n", server.url), "{}", one.stderr);
    assert_eq!(server.json(&["show", "one"])["function"]["settings"]["env"]["LEVEL"], "debug");
    assert_eq!(server.json(&["list"]).as_array().map(Vec::len), Some(1));
}

#[test]
fn a_secret_goes_in_and_never_comes_back() {
    let server = Server::start();
    let set = server.run_with(&["secret", "set", "api-key"], b"hunter2\n");
    assert_eq!(set.code, 0, "{}", set.stderr);
    assert!(set.stderr.contains("API_KEY"), "{}", set.stderr);
    assert!(server.ok(&["secret", "list"]).contains("api-key"));
    assert!(!server.ok(&["secret", "list", "--json"]).contains("hunter2"));
    server.ok(&["secret", "remove", "api-key"]);
    assert_eq!(server.ok(&["secret", "list"]), "");
}

#[test]
fn a_token_opens_what_it_was_made_for() {
    let server = Server::start();
    server.deploy("hello");
    let token = server.ok(&["token", "create", "--scope", "call", "--label", "ci", "--expires", "1d"]);
    let with_token = |args: &[&str]| {
        let mut command = coracle();
        command.args(args).env("CORACLE_URL", &server.url).env("CORACLE_TOKEN", token.trim());
        Ended::of(command.output().unwrap())
    };
    assert_eq!(with_token(&["call", "hello"]).stdout, "Hello, world!\n");
    let refused = with_token(&["remove", "hello"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.starts_with("error[forbidden]:"), "{}", refused.stderr);

    let tokens = server.json(&["token", "list"]);
    let made = tokens.as_array().unwrap().iter().find(|token| token["label"] == "ci").unwrap();
    server.ok(&["token", "revoke", made["id"].as_str().unwrap()]);
    let revoked = with_token(&["list"]);
    assert!(revoked.stderr.starts_with("error[unauthenticated]:"), "{}", revoked.stderr);
    assert!(!revoked.stderr.contains(token.trim()));
}

#[test]
fn a_namespace_is_a_room_of_its_own() {
    let server = Server::start();
    server.ok(&["namespace", "create", "shop"]);
    server.ok(&["deploy", wasm("hello").to_str().unwrap(), "--name", "hello", "-n", "shop"]);
    assert_eq!(server.ok(&["call", "hello.shop", "-d", "Ada"]), "Hello, Ada!\n");
    assert_eq!(server.ok(&["call", "hello", "-n", "shop", "-d", "Ada"]), "Hello, Ada!\n");
    assert_eq!(server.run(&["call", "hello"]).code, 1);
    let full = server.run(&["namespace", "remove", "shop"]);
    assert!(full.stderr.starts_with("error[namespace-not-empty]:"), "{}", full.stderr);
    server.ok(&["remove", "hello.shop"]);
    server.ok(&["namespace", "remove", "shop"]);
    assert!(!server.ok(&["namespace", "list"]).contains("shop"));
}

#[test]
fn a_backup_is_restored_into_another_folder() {
    let server = Server::start();
    server.deploy("hello");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.backup");
    let file = file.to_str().unwrap();
    server.ok(&["backup", file]);
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = server.run(&["backup", file]);
    assert!(again.stderr.starts_with("error[already-exists]:"), "{}", again.stderr);
    server.ok(&["backup", file, "--force"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half-written is left");

    let restored = Server::start_with(Data::new(), &["--restore", file]);
    assert_eq!(restored.ok(&["call", "hello", "-d", "Ada"]), "Hello, Ada!\n");
}

#[test]
fn a_server_that_was_killed_serves_the_same_functions_again() {
    let server = Server::start();
    server.deploy("hello");
    let server = Server::start_with(server.kill(), &[]);
    assert_eq!(server.ok(&["call", "hello", "-d", "Ada"]), "Hello, Ada!\n");
    let (code, data) = server.stop();
    assert_eq!(code, 0);
    let nobody = coracle().args(["list", "--data"]).arg(data.path()).output().unwrap();
    assert!(Ended::of(nobody).stderr.starts_with("error[server-unreachable]: no server runs"));
}

#[test]
fn the_demo_can_be_called_at_once() {
    let data = Data::new();
    let mut server = coracle()
        .args(["up", "--demo", "--listen", "127.0.0.1:0", "--metrics-listen", "none", "--data"])
        .arg(data.path())
        .env("CORACLE_CACHE", harness::CACHE)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(server.stderr.take().unwrap()).lines().map(Result::unwrap);
    let said: Vec<_> = said.take_while(|line| !line.contains("stop with Ctrl-C")).collect();
    assert!(said[0].starts_with("listening on http://127.0.0.1:"), "{said:?}");
    let listed = coracle().args(["list", "--json", "--data"]).arg(data.path()).output().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|function| &function["name"]).collect();
    assert_eq!(names, ["hello", "resize", "sse"], "{said:?}");
    for name in names {
        let url = format!("/function/{}", name.as_str().unwrap());
        assert!(said.iter().any(|line| line.contains("curl") && line.contains(&url)), "{said:?}");
    }
}

#[test]
fn status_says_who_is_asking() {
    let server = Server::start();
    let status = server.json(&["status"]);
    assert_eq!(
        (&status["url"], &status["identity"]["scope"]),
        (&server.url.as_str().into(), &"admin".into())
    );
    assert!(server.ok(&["status"]).contains("admin"));
}

#[test]
fn words_of_faas_cli_find_their_verbs() {
    let help = |typed: &[&str]| Ended::of(coracle().args(typed).arg("--help").output().unwrap()).stdout;
    for (theirs, ours) in [
        (&["describe"][..], &["show"][..]),
        (&["invoke"], &["call"]),
        (&["secret", "create"], &["secret", "set"]),
    ] {
        assert_eq!(help(theirs), help(ours), "{theirs:?}");
    }
    let login = Ended::of(coracle().args(["login", "-u", "admin", "--password-stdin"]).output().unwrap());
    assert_eq!(login.code, 0, "{}", login.stderr);
    assert!(login.stderr.starts_with("no login is needed"), "{}", login.stderr);
    assert!(login.stderr.contains("--url URL --token TOKEN"), "{}", login.stderr);
}
