//! What outlives a crash, a restart, damage on the disk and a deploy: all that was acknowledged, and calls in flight.
//! The real binary, killed and stopped and started again on the same folder.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

#[expect(dead_code, reason = "these tests use a part of the harness")]
mod guests;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use guests::{acid, deploy, now, record, until};
use harness::{Data, Ended, Server, coracle};
use wire::{Wire, admin, bearer, get, token, try_ask};

#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    const STARTED_WITHIN: Duration = Duration::from_secs(20);
    let mut server = Server::start();
    server.deploy("hello");
    let digest = server.json(&["list"])[0]["digest"].as_str().unwrap().to_owned();
    let mut acknowledged = vec!["hello".to_owned()];
    for (round, kill_after) in [1, 2, 5, 9, 14].into_iter().enumerate() {
        let (address, token) = (wire::address(&server).to_owned(), token(&server));
        let spec = format!(r#"{{"artifact": "{digest}", "env": {{"ROUND": "{round}"}}}}"#);
        let (acknowledge, acknowledgements) = sync_channel(1_000);
        let deploying = std::thread::spawn(move || {
            // Until the server is gone.
            for number in 0.. {
                let name = format!("f-{round}-{number}");
                let path = format!("/v1/namespaces/default/functions/{name}");
                let headers = [("authorization", &*bearer(&token))];
                match try_ask(&address, "PUT", &path, &headers, spec.as_bytes()) {
                    Ok(reply) if reply.whole => {
                        assert_eq!(reply.status, 201, "{}", reply.text());
                        acknowledge.send(name).unwrap();
                    }
                    _ => return,
                }
            }
        });
        acknowledged.extend((0..kill_after).map(|_| acknowledgements.recv().unwrap()));
        let data = server.kill();
        deploying.join().unwrap();
        acknowledged.extend(acknowledgements.iter());
        let begun = now();
        server = Server::start_with(data, &[]);
        assert_eq!(get(&server, "/function/hello").status, 200);
        assert!(begun.elapsed() < STARTED_WITHIN, "it took {:?}", begun.elapsed());
        for name in &acknowledged {
            assert_eq!(get(&server, &format!("/function/{name}")).status, 200, "{name}");
        }
    }
    assert!(acknowledged.len() > 30, "{}", acknowledged.len());
}

#[test]
fn compiled_code_that_is_damaged_is_noticed_and_made_anew() {
    let cache = tempfile::tempdir().unwrap();
    let flags = ["--cache", cache.path().to_str().unwrap()];
    let server = Server::start_with(Data::new(), &flags);
    deploy(&server, "acid", &[]);
    let rebuilt = |server: &Server| {
        let status = admin(server, "GET", "/v1/status", b"").json();
        status["details"]["code_cache"]["rebuilt"].as_u64().unwrap()
    };
    let (_, data) = server.stop();
    flip_a_byte(&file_of(cache.path(), "cwasm"));
    let server = Server::start_with(data, &flags);
    assert_eq!(get(&server, "/function/acid/count").text(), "1\n");
    assert_eq!(rebuilt(&server), 1);

    let (_, data) = server.stop();
    fs::write(file_of(cache.path(), "seal"), "{}").unwrap();
    let server = Server::start_with(data, &flags);
    assert_eq!(get(&server, "/function/acid/count").text(), "1\n");
    assert_eq!(rebuilt(&server), 1);

    let (_, data) = server.stop();
    fs::remove_file(file_of(cache.path(), "seal")).unwrap();
    let server = Server::start_with(data, &flags);
    assert_eq!(get(&server, "/function/acid/count").text(), "1\n");
}

#[test]
fn code_that_is_damaged_beyond_repair_is_an_error_of_its_own_function_alone() {
    let cache = tempfile::tempdir().unwrap();
    let flags = ["--cache", cache.path().to_str().unwrap()];
    let server = Server::start_with(Data::new(), &flags);
    deploy(&server, "acid", &[]);
    server.deploy("hello");
    let digest = server.json(&["show", "acid"])["function"]["digest"].as_str().unwrap().to_owned();
    let (_, data) = server.stop();
    let artifacts = data.path().join("artifacts");
    flip_a_byte(&files_in(&artifacts).into_iter().find(|path| path.ends_with(&digest)).unwrap());
    for path in files_in(cache.path()) {
        if path.file_name().unwrap().to_str().unwrap().starts_with(&digest) {
            fs::remove_file(path).unwrap();
        }
    }
    let server = Server::start_with(data, &flags);
    assert_eq!(get(&server, "/function/acid/count").problem(), (500, "artifact-damaged".to_owned()));
    assert_eq!(get(&server, "/function/hello").text(), "Hello, world!\n");
    // As the hint says.
    deploy(&server, "acid", &[]);
    assert_eq!(get(&server, "/function/acid/count").text(), "1\n");
}

#[test]
fn two_servers_never_share_a_folder() {
    let server = Server::start();
    let second = coracle()
        .args(["up", "--listen", "127.0.0.1:0", "--metrics-listen", "none", "--data"])
        .arg(server.data())
        .output()
        .map(Ended::of)
        .unwrap();
    assert_eq!(second.code, 1);
    assert!(second.stderr.contains("error[data-locked]:"), "{}", second.stderr);
    assert!(second.stderr.contains(&format!("process {}", server.pid())), "{}", second.stderr);
    assert_eq!(get(&server, "/healthz").status, 200, "the first one does not mind");
    let server = Server::start_with(server.kill(), &[]);
    assert_eq!(get(&server, "/healthz").status, 200, "one that was killed holds nothing");
}

#[test]
fn a_backup_taken_while_serving_has_the_functions_and_their_secrets() {
    let server = Server::start();
    assert_eq!(server.run_with(&["secret", "set", "api-key"], b"hunter2").code, 0);
    deploy(&server, "acid", &["--secret", "api-key", "--env", "LEVEL=debug"]);
    let before = get(&server, "/function/acid/env").text();
    assert!(before.contains("API_KEY=hunter2\n"), "{before}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.backup");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let calls = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(get(&server, "/function/acid/count").status, 200);
            }
        });
        let backup = server.run(&["backup", file.to_str().unwrap()]);
        done.store(true, Ordering::Relaxed);
        assert_eq!(backup.code, 0, "{}", backup.stderr);
        calls.join().unwrap();
    });
    deploy(&server, "later", &[]);

    let copy = Server::start_with(Data::new(), &["--restore", file.to_str().unwrap()]);
    assert_eq!(get(&copy, "/function/acid/env").text(), before);
    assert_eq!(get(&copy, "/function/later").status, 404, "it came after the backup");
}

#[test]
fn a_server_that_is_stopped_finishes_what_runs_and_takes_nothing_new() {
    let server = acid(&[]);
    let address = wire::address(&server).to_owned();
    let mut wire = Wire::get(&server, "/function/acid/slow?chunks=4&ms=250");
    assert_eq!(wire.head("GET").status, 200);
    assert_eq!(wire.piece().unwrap().unwrap(), b"chunk 1\n");
    let stopping = std::thread::spawn(move || server.stop());
    let mut rest = Vec::new();
    while let Some(piece) = wire.piece().expect("it comes to its end") {
        rest.extend(piece);
    }
    assert_eq!(rest, b"chunk 2\nchunk 3\nchunk 4\n");
    let (code, _data) = stopping.join().unwrap();
    assert_eq!(code, 0);
    assert!(try_ask(&address, "GET", "/healthz", &[], b"").is_err(), "nobody listens there any more");
}

#[test]
fn a_server_waits_for_calls_no_longer_than_it_was_told() {
    let server = Server::start_with(Data::new(), &["--drain", "200ms"]);
    deploy(&server, "acid", &["--stream-timeout", "60s"]);
    let mut wire = Wire::get(&server, "/function/acid/sleep-after-head?ms=600000");
    assert_eq!(wire.head("GET").status, 200);
    let (code, data) = server.stop();
    assert_eq!(code, 1, "calls were cut off");
    assert_eq!(get(&Server::start_with(data, &[]), "/function/acid/count").text(), "1\n");
}

#[test]
fn a_call_finishes_on_the_revision_it_began_with() {
    let server = acid(&["--env", "REVISION=1"]);
    let mut old = Wire::to(&server);
    old.send("POST /function/acid/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nfirst");
    let head = old.head("POST");
    assert_eq!(old.piece().unwrap().unwrap(), b"first");
    deploy(&server, "acid", &["--env", "REVISION=2"]);
    assert!(get(&server, "/function/acid/env").text().contains("REVISION=2\n"));
    old.send("later");
    assert_eq!(old.piece().unwrap().unwrap(), b"later");
    assert_eq!(old.piece().unwrap(), None);
    let record = record(&server, head.header("x-call-id").unwrap());
    assert_eq!((&record["revision"], &record["outcome"]), (&1.into(), &"ok".into()));
}

#[test]
fn no_call_fails_while_its_function_is_deployed_anew() {
    const DEPLOYS: u32 = 12;
    let server = acid(&["--env", "REVISION=1"]);
    let done = AtomicBool::new(false);
    let revision_seen = || {
        let reply = get(&server, "/function/acid/env");
        assert_eq!(reply.status, 200, "{}", reply.text());
        let text = reply.text();
        text.lines().find_map(|line| line.strip_prefix("REVISION=")).unwrap().parse::<u32>().unwrap()
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut newest = 0;
                while !done.load(Ordering::Relaxed) {
                    let seen = revision_seen();
                    assert!(seen >= newest, "{seen} after {newest}");
                    newest = seen;
                }
            });
        }
        for revision in 2..=DEPLOYS {
            deploy(&server, "acid", &["--env", &format!("REVISION={revision}")]);
            assert_eq!(revision_seen(), revision, "the next call gets the new one");
        }
        done.store(true, Ordering::Relaxed);
    });
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The one file of this kind.
fn file_of(folder: &Path, kind: &str) -> PathBuf {
    let mut files = files_in(folder);
    files.retain(|path| path.extension().is_some_and(|extension| extension == kind));
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// Damages a file as a disk would, under the same name.
fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_server_that_cannot_say_where_it_is_serves_none_the_less() {
    let server = acid(&[]);
    let (_, data) = server.stop();
    // As when the disk is full: the file cannot be written.
    fs::create_dir(data.path().join("server.json")).unwrap();
    let server = Server::start_with(data, &[]);
    assert_eq!(get(&server, "/function/acid/count").status, 200);
}

#[test]
fn code_that_nobody_needs_is_removed_once_it_is_old() {
    let server = acid(&[]);
    // Code of this test's own: the compiled one goes too, and other tests share theirs.
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own.wasm");
    let section = b"\0\x08\x03own-own";
    fs::write(&own, [&fs::read(guests::built("tiny")).unwrap()[..], &section[..10]].concat()).unwrap();
    server.ok(&["deploy", own.to_str().unwrap(), "--name", "own"]);
    server.ok(&["remove", "own"]);
    let (_, data) = server.stop();
    let artifacts = || -> Vec<_> {
        fs::read_dir(data.path().join("artifacts")).unwrap().map(|file| file.unwrap().path()).collect()
    };
    assert_eq!(artifacts().len(), 2);
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1);
    for file in artifacts() {
        fs::File::open(file).unwrap().set_modified(long_ago).unwrap();
    }
    let folder = data.path().join("artifacts");
    let server = Server::start_with(data, &[]);
    until("the code that is left over is gone", || {
        (fs::read_dir(&folder).unwrap().count() == 1).then_some(())
    });
    assert_eq!(get(&server, "/function/acid/count").status, 200);
}
