//! Compiling an upload: in processes of its own, within bounds, and no matter what happens to those processes.
//! The real binary; what it does with code that is no function stands in `bad_input.rs`.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

#[expect(dead_code, reason = "these tests use a part of the harness")]
mod guests;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod wire;

use std::fs;

use guests::{built, until};
use harness::{Data, Server, coracle, wasm};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// A folder for compiled code that nobody shares, so that every deploy has to compile.
fn server_that_compiles(flags: &[&str]) -> (Server, tempfile::TempDir) {
    let cache = tempfile::tempdir().unwrap();
    let flags = [&["--cache", cache.path().to_str().unwrap()], flags].concat();
    (Server::start_with(Data::new(), &flags), cache)
}

fn deploy(server: &Server, guest: &str) {
    server.ok(&["deploy", built(guest).to_str().unwrap(), "--name", guest]);
}

fn refused(server: &Server) -> String {
    let ended = server.run(&["deploy", wasm("resize").to_str().unwrap(), "--name", "large"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    ended.stderr
}

/// The processes whose parent is this one.
fn children_of(pid: u32) -> Vec<Pid> {
    // Children are listed by the thread that made them.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let pids: String = children.collect();
    pids.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

#[test]
fn a_compile_that_needs_more_memory_than_its_bound_is_refused_and_says_so() {
    let (server, _cache) = server_that_compiles(&["--compile-memory", "16MiB"]);
    let said = refused(&server);
    assert!(said.contains("error[compile-limit]") && said.contains("16MiB of memory"), "{said}");
}

#[test]
fn a_compile_that_needs_more_time_than_its_bound_is_ended_and_says_so() {
    let (server, cache) = server_that_compiles(&["--compile-timeout", "30ms"]);
    let said = refused(&server);
    assert!(said.contains("error[compile-limit]") && said.contains("30ms of time"), "{said}");
    // The zygote ends the process that nobody waits for any more.
    let zygote = children_of(server.pid())[0].as_raw_nonzero().get();
    until("the compile process is gone", || children_of(zygote.unsigned_abs()).is_empty().then_some(()));
    let drafts = fs::read_dir(cache.path()).unwrap().flatten();
    let drafts = drafts.filter(|file| file.path().extension().is_some_and(|kind| kind == "tmp"));
    assert_eq!(drafts.count(), 0);
}

#[test]
fn a_zygote_that_was_killed_is_started_anew() {
    let (server, _cache) = server_that_compiles(&[]);
    deploy(&server, "tiny");
    let first = children_of(server.pid());
    assert_eq!(first.len(), 1, "compiling is done by processes of one zygote");
    kill_process(first[0], Signal::KILL).unwrap();
    until("the zygote is gone", || children_of(server.pid()).is_empty().then_some(()));
    deploy(&server, "upper");
    server.ok(&["call", "tiny"]);
    assert_eq!(server.ok(&["call", "upper", "-d", "ada"]), "ADA");
}

#[test]
fn a_zygote_that_does_not_listen_is_replaced_and_ended() {
    let (server, _cache) = server_that_compiles(&[]);
    deploy(&server, "tiny");
    let stopped = children_of(server.pid())[0];
    kill_process(stopped, Signal::STOP).unwrap();
    deploy(&server, "upper");
    until("the stopped one is gone", || test_kill_process(stopped).is_err().then_some(()));
}

#[test]
fn code_whose_files_went_away_while_it_was_mapped_is_compiled_anew() {
    let (server, cache) = server_that_compiles(&[]);
    deploy(&server, "tiny");
    server.ok(&["call", "tiny"]);
    for file in fs::read_dir(cache.path()).unwrap().flatten() {
        if file.path().extension().is_some_and(|kind| kind == "seal") {
            fs::remove_file(file.path()).unwrap();
        }
    }
    server.ok(&["deploy", built("tiny").to_str().unwrap(), "--name", "again"]);
    server.ok(&["call", "again"]);
}

#[test]
fn nothing_is_left_of_a_server_that_was_killed_while_it_compiled() {
    let (server, _cache) = server_that_compiles(&[]);
    deploy(&server, "tiny");
    let zygote = children_of(server.pid())[0];
    let mut deploy = server.command(&["deploy", wasm("resize").to_str().unwrap(), "--name", "large"]);
    let mut deploy = deploy.stderr(std::process::Stdio::null()).spawn().unwrap();
    let pid = zygote.as_raw_nonzero().get().unsigned_abs();
    let compiling = until("it compiles", || Some(children_of(pid)).filter(|all| !all.is_empty()));
    drop(server.kill());
    assert!(!deploy.wait().unwrap().success());
    until("all its processes are gone", || {
        compiling.iter().chain([&zygote]).all(|pid| test_kill_process(*pid).is_err()).then_some(())
    });
}

#[test]
fn the_process_that_compiles_is_no_verb() {
    let ended = coracle().arg("compile-worker").stdin(std::process::Stdio::null()).output().unwrap();
    assert!(ended.stdout.is_empty());
}
