//! What takes many calls, or cannot be taken back, asks whoever sits at a terminal, and nobody else.
//! The terminal is `script`'s: of the program, both its input and its output are one.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

#[expect(dead_code, reason = "these tests use a part of it")]
mod guests;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;
mod queued;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod wire;

use std::io::Write as _;
use std::process::{Command, Stdio};

use expect_test::expect;
use guests::acid;
use harness::{Ended, Server};
use queued::{ended, queued};

/// Runs a verb on a terminal where somebody types this. All that is shown stands in `stdout`, with what was typed.
fn typed(server: &Server, args: &[&str], answer: &str) -> Ended {
    let verb = server.command(args);
    let words: Vec<String> = std::iter::once(verb.get_program())
        .chain(verb.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--flush", "--command", &words.join(" "), "/dev/null"]);
    for (name, value) in verb.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
    let mut ended = Ended::of(child.wait_with_output().unwrap());
    ended.stdout = ended.stdout.replace("\r\n", "\n");
    ended
}

/// A server with so many dead calls of a function that does not mend.
fn with_dead(calls: usize) -> Server {
    let server = acid(&["--set", "queue.attempts=1"]);
    for call in 1..=calls {
        let id = format!("c{call}");
        queued(&server, "/async-function/acid/trap", &[("x-call-id", &id)], b"");
        assert_eq!(ended(&server, &id)["state"], "dead");
    }
    server
}

fn dead(server: &Server) -> u64 {
    server.json(&["queue", "status"])["totals"]["dead"].as_u64().unwrap()
}

#[test]
fn purge_asks_and_does_nothing_unless_the_answer_is_yes() {
    let server = with_dead(2);
    for answer in ["n\n", "no\n", "\n", "yesterday\n", "\u{4}"] {
        let asked = typed(&server, &["queue", "purge", "--all"], answer);
        assert_eq!(asked.code, 1, "{answer:?}: {}", asked.to_text());
        assert!(asked.stdout.contains("remove 2 dead calls for good? [y/N] "), "{}", asked.to_text());
        assert!(asked.stdout.ends_with("nothing was done\n"), "{}", asked.to_text());
        assert_eq!(dead(&server), 2, "{answer:?}");
    }
    let asked = typed(&server, &["queue", "purge", "--all"], "y\n");
    assert_eq!(asked.code, 0, "{}", asked.to_text());
    assert!(asked.stdout.ends_with("removed 2 dead calls\n"), "{}", asked.to_text());
    assert_eq!(dead(&server), 0);
}

#[test]
fn redrive_asks_and_does_nothing_unless_the_answer_is_yes() {
    let server = with_dead(2);
    for verb in [
        &["queue", "redrive", "--all"][..],
        &["queue", "redrive", "--function", "acid"],
        &["queue", "redrive", "c1", "c2"],
    ] {
        let asked = typed(&server, verb, "no\n");
        assert_eq!(asked.code, 1, "{verb:?}: {}", asked.to_text());
        assert!(
            asked.stdout.contains(" again? [y/N] ") && asked.stdout.ends_with("nothing was done\n"),
            "{}",
            asked.to_text()
        );
        assert_eq!(ended(&server, "c1")["attempts_made"], 1, "{verb:?}");
    }
    let asked = typed(&server, &["queue", "redrive", "c1"], "yes\n");
    assert_eq!(asked.code, 0, "{}", asked.to_text());
    assert!(asked.stdout.ends_with("c1 runs again\n"), "{}", asked.to_text());
    assert_eq!(ended(&server, "c1")["attempts_made"], 2);
    assert_eq!(ended(&server, "c2")["attempts_made"], 1);
}

#[test]
fn nobody_is_asked_who_said_yes_or_sits_at_no_terminal() {
    let server = with_dead(3);
    let said = typed(&server, &["queue", "purge", "--function", "acid", "--yes"], "");
    assert_eq!((said.code, said.stdout.as_str()), (0, "removed 3 dead calls of acid\n"));
    let server = with_dead(1);
    expect![[r#"
        exit code 0
        --- stderr
        removed 1 dead call
    "#]]
    .assert_eq(&server.run(&["queue", "purge", "--all"]).to_text());
}
