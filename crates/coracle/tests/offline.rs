//! What the command line does without a server: help, wrong usage, explanations, manifests, and the news that no server is there.

#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;

use std::process::Stdio;

use expect_test::{Expect, expect};
use harness::{Ended, coracle};

/// What a screen shows of a help page without scrolling.
const SCREEN_LINES: usize = 42;

#[expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]
fn run(args: &[&str]) -> Ended {
    let home = tempfile::tempdir().unwrap();
    let output = coracle()
        .args(args)
        .env("HOME", home.path())
        .env_remove("XDG_DATA_HOME")
        .stdin(Stdio::null())
        .output();
    let ended = Ended::of(output.unwrap());
    Ended { stderr: ended.stderr.replace(home.path().to_str().unwrap(), "HOME"), ..ended }
}

fn check(args: &[&str], expected: Expect) {
    expected.assert_eq(&run(args).to_text());
}

#[test]
fn help_fits_a_screen() {
    let help = run(&["--help"]);
    assert!(help.stdout.lines().count() <= SCREEN_LINES, "{}", help.stdout);
    check(
        &["--help"],
        expect![[r#"
            exit code 0
            --- stdout
            Serverless functions made simple, in one binary

            Usage: coracle [OPTIONS] <COMMAND>

            Commands:
              up           Start a server
              new          Begin a project in Rust, JavaScript, Python, C or any other language
              deploy       Deploy a folder, a stack.yaml, a .wasm file, any program, or an image
              dev          Build, deploy and watch: every save is a new revision
              call         Call a function
              list         List functions [alias: ls]
              show         Show all about a function
              logs         Read what functions printed
              calls        List the last calls, and how they ended
              queue        Look at queued calls; cancel them, run them again
              top          Watch functions live: calls, latencies, errors, instances
              remove       Remove a function, or a whole app [alias: rm]
              rollback     Go back to an earlier revision
              scale        Start or stop instances of a program
              secret       Set, list and remove secrets
              image        Pull, load, list and remove images
              store        List and deploy functions that others wrote
              token        Create, list and revoke tokens
              namespace    Create, list and remove namespaces
              status       Show how the server does
              explain      Explain an error code
              backup       Take a copy of everything, while the server runs
              completions  Print completions for a shell

            Options:
              -h, --help     Print help
              -V, --version  Print version

            Options of every verb:
                  --url <URL>       The server [default: the one of the data directory] [env: CORACLE_URL]
                  --token <TOKEN>   The token to show it [default: in the data directory] [env: CORACLE_TOKEN]
                  --data <DIR>      The data directory [default: ~/.local/share/coracle] [env: CORACLE_DATA]
              -n, --namespace <NS>  The namespace [default: default]
                  --json            Print JSON, for programs

            Example:
              coracle up --demo                    a server to play with: coracle call hello -d Ada
        "#]],
    );
}

#[test]
fn every_verb_fits_a_screen_and_has_an_example_that_it_understands() {
    let help = run(&["--help"]).stdout;
    let verbs =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let verbs: Vec<_> = verbs.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(verbs.len() > 10, "{verbs:?}");
    for verb in verbs {
        let help = run(&[verb, "--help"]).stdout;
        assert!(help.lines().count() <= SCREEN_LINES, "{verb} has more than a screen\n{help}");
        let (_, examples) = help.split_once("Example").unwrap_or_else(|| panic!("{verb} shows no example"));
        assert!(examples.contains(&format!("coracle {verb}")), "{verb}: {examples}");
    }
    for verb in ["status", "list", "show", "topic", "cancel", "redrive", "purge"] {
        let help = run(&["queue", verb, "--help"]).stdout;
        assert!(help.lines().count() <= SCREEN_LINES, "queue {verb} has more than a screen\n{help}");
        let (_, examples) = help.split_once("Example").unwrap_or_else(|| panic!("{verb} shows no example"));
        assert!(examples.contains(&format!("coracle queue {verb}")), "{verb}: {examples}");
    }
}

#[test]
fn whoever_runs_or_removes_many_calls_says_which() {
    check(
        &["queue", "redrive"],
        expect![[r#"
        exit code 2
        --- stderr
        error: the following required arguments were not provided:
          <ID|--all|--function <NAME>>

        Usage: coracle queue redrive [OPTIONS] <ID|--all|--function <NAME>>

        For more information, try '--help'.
    "#]],
    );
    check(
        &["queue", "purge", "--yes"],
        expect![[r#"
        exit code 2
        --- stderr
        error: the following required arguments were not provided:
          <--all|--function <NAME>>

        Usage: coracle queue purge [OPTIONS] <--all|--function <NAME>>

        For more information, try '--help'.
    "#]],
    );
    check(
        &["queue", "list", "--help"],
        expect![[r#"
        exit code 0
        --- stdout
        List calls of one state: those that wait, unless another is named

        Usage: coracle queue list [OPTIONS] [NAME]

        Arguments:
          [NAME]  The function, as NAME or NAME.NS [default: all]

        Options:
              --state <STATE>  Where they stand: waiting, running, succeeded, failed, cancelled or dead
                               [default: waiting]
              --limit <N>      How many at most [default: 20]
          -h, --help           Print help

        Options of every verb:
              --url <URL>       The server [default: the one of the data directory] [env: CORACLE_URL]
              --token <TOKEN>   The token to show it [default: in the data directory] [env: CORACLE_TOKEN]
              --data <DIR>      The data directory [default: ~/.local/share/coracle] [env: CORACLE_DATA]
          -n, --namespace <NS>  The namespace [default: default]
              --json            Print JSON, for programs

        Those of one state are listed: those that wait, unless `--state` names another.

        Examples:
          coracle queue list
          coracle queue list resize --state dead
    "#]],
    );
}

#[test]
fn wrong_usage_ends_with_exit_code_2() {
    check(
        &["deplpy"],
        expect![[r#"
        exit code 2
        --- stderr
        error: unrecognized subcommand 'deplpy'

          tip: a similar subcommand exists: 'deploy'

        Usage: coracle [OPTIONS] <COMMAND>

        For more information, try '--help'.
    "#]],
    );
    check(
        &["call"],
        expect![[r#"
            exit code 2
            --- stderr
            error: the following required arguments were not provided:
              <NAME>

            Usage: coracle call [OPTIONS] <NAME>

            For more information, try '--help'.
        "#]],
    );
    check(
        &["call", "a/b"],
        expect![[r#"
        exit code 2
        --- stderr
        error: invalid value 'a/b' for '<NAME>': `a/b` is not a name of a function: a name is 1 to 64 of the characters A-Z a-z 0-9 _ -

        For more information, try '--help'.
    "#]],
    );
    check(
        &["logs", "hello", "--since", "yesterday"],
        expect![[r#"
        exit code 2
        --- stderr
        error: invalid value 'yesterday' for '--since <TIME|SPAN>': `yesterday` is neither a time as `2026-01-31T12:00:00Z` nor a span as `5m`

        For more information, try '--help'.
    "#]],
    );
    // Its usage is that of its help, whatever else was typed.
    check(
        &["scale", "--data", "/tmp", "site"],
        expect![[r#"
        exit code 2
        --- stderr
        error: the following required arguments were not provided:
          <N>

        Usage: coracle scale [OPTIONS] <NAME> <N>

        For more information, try '--help'.
    "#]],
    );
    check(
        &["remove"],
        expect![[r#"
            exit code 2
            --- stderr
            error: the following required arguments were not provided:
              <NAME|--app <APP>>

            Usage: coracle remove [OPTIONS] <NAME|--app <APP>>

            For more information, try '--help'.
        "#]],
    );
    check(
        &["up", "--listen", "8080"],
        expect![[r#"
        exit code 2
        --- stderr
        error: invalid value '8080' for '--listen <ADDR:PORT>': write an address and a port, as in `127.0.0.1:8080` or `0.0.0.0:80`

        For more information, try '--help'.
    "#]],
    );
    assert_eq!(run(&[]).code, 2);
}

#[test]
fn wrong_flags_of_a_program_say_what_is_right() {
    let deploy = |flags: &[&str]| {
        run(&[&["deploy", "/bin/true", "--name", "x", "--url", "http://127.0.0.1:1"], flags].concat())
            .to_text()
    };
    let table: [(&[&str], &str); 9] = [
        (&["--command", ""], "'--command <WORDS>': name a program"),
        (&["--command", "say 'hi"], "'--command <WORDS>': a quote is not closed"),
        (&["--contract", "ftp"], "`ftp` is not a contract: write `http` for a program that listens"),
        (&["--port", "0"], "'--port <PORT>': 0 is not in 1..=65535"),
        (&["--port", "http"], "invalid value 'http' for '--port <PORT>'"),
        (&["--health"], "a value is required for '--health <PATH>'"),
        (&["--image", "nginx:1"], "'[FOLDER|FILE]' cannot be used with '--image <REFERENCE>'"),
        (&["--set", "cpu"], "'--set <KEY=VALUE>': write it as KEY=VALUE"),
        (&["--set", "=1"], "'--set <KEY=VALUE>': write it as KEY=VALUE"),
    ];
    for (flags, said) in table {
        let text = deploy(flags);
        assert!(text.starts_with("exit code 2\n") && text.contains(said), "{flags:?}\n{text}");
    }
    // What is set is read as a manifest is, and so are its mistakes.
    expect![[r#"
        exit code 1
        --- stderr
        error[invalid-manifest]: --set:1:7: unknown key `maxx`
          |
        1 | scale.maxx = 3
          |       ^^^^
        hint: did you mean `max`?
        see: coracle explain invalid-manifest
    "#]]
    .assert_eq(&deploy(&["--set", "scale.maxx=3"]));
    expect![[r#"
        exit code 1
        --- stderr
        error[invalid-manifest]: --set:1:11: `command` must be an array of words, as ["./server", "--verbose"], and is a text
          |
        1 | command = "./server -v"
          |           ^^^^^^^^^^^^^
        hint: for what a shell would do, write ["sh", "-c", "…"]
        see: coracle explain invalid-manifest
    "#]].assert_eq(&deploy(&["--set", "command=./server -v"]));
    expect![[r#"
        exit code 1
        --- stderr
        error[invalid-manifest]: --set:1:1: `image` is no setting
          |
        1 | image = "nginx:1"
          | ^^^^^
        hint: name it as in `coracle deploy --image NAME:TAG`
        see: coracle explain invalid-manifest
    "#]]
    .assert_eq(&deploy(&["--set", "image=nginx:1"]));
    expect![[r#"
        exit code 1
        --- stderr
        error[invalid-manifest]: --set:1:11: `bridge` is not a network: write `own` for one of its own, `host` for that of the machine
          |
        1 | network = "bridge"
          |           ^^^^^^^^
        see: coracle explain invalid-manifest
    "#]].assert_eq(&deploy(&["--set", "network=bridge"]));
}

#[test]
fn an_image_or_a_folder_without_a_name_is_told_one() {
    let folder = tempfile::tempdir().unwrap();
    let deploy =
        |flags: &[&str]| run(&[&["deploy", "--url", "http://127.0.0.1:1"], flags].concat()).to_text();
    let dist = folder.path().join("dist");
    std::fs::create_dir(&dist).unwrap();
    expect![[r#"
        exit code 2
        --- stderr
        error: a function needs a name to be deployed under

        hint: add `--name nginx`

        Usage: coracle deploy [OPTIONS] [FOLDER|FILE]

        For more information, try '--help'.
    "#]]
    .assert_eq(&deploy(&["--image", "docker.io/library/nginx:1"]));
    expect![[r#"
        exit code 2
        --- stderr
        error: a function needs a name to be deployed under

        hint: add `--name dist`

        Usage: coracle deploy [OPTIONS] [FOLDER|FILE]

        For more information, try '--help'.
    "#]]
    .assert_eq(&deploy(&[dist.to_str().unwrap(), "--command", "./server"]));
}

#[test]
fn a_file_without_a_name_is_told_one() {
    let file =
        tempfile::Builder::new().prefix("re size.v2").suffix(".wasm").rand_bytes(0).tempfile().unwrap();
    let ended = run(&["deploy", file.path().to_str().unwrap(), "--url", "http://127.0.0.1:1"]);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: add `--name re-size-v2`\n"), "{}", ended.stderr);
}

#[test]
fn every_code_is_explained_and_a_slip_is_understood() {
    let page = run(&["explain", "function-busy"]);
    assert_eq!((page.code, page.stdout.lines().next()), (0, Some("# function-busy")));
    assert_eq!(run(&["explain", "error[function-busy]:"]).stdout, page.stdout);
    assert_eq!(run(&["explain", "FUNCTION_BUSY"]).stdout, page.stdout);
    check(
        &["explain", "function-bussy"],
        expect![[r#"
        exit code 1
        --- stderr
        error[bad-request]: there is no error code `function-bussy`
        hint: did you mean `coracle explain function-busy`?
        see: coracle explain bad-request
    "#]],
    );
    check(
        &["explain", "warp-core-breach"],
        expect![[r#"
        exit code 1
        --- stderr
        error[bad-request]: there is no error code `warp-core-breach`
        hint: see all of them: coracle explain
        see: coracle explain bad-request
    "#]],
    );
    let all = run(&["explain"]).stdout;
    assert!(all.starts_with("CODE") && all.contains("guest-trapped"), "{all}");
}

#[test]
fn where_no_server_is_the_next_command_is_said() {
    check(
        &["list"],
        expect![[r#"
        exit code 1
        --- stderr
        error[server-unreachable]: no server runs on the data directory HOME/.local/share/coracle
        hint: start one with `coracle up`, or name another with `--url` or `--data`
        see: coracle explain server-unreachable
    "#]],
    );
    check(
        &["list", "--json"],
        expect![[r#"
        exit code 1
        --- stderr
        {"code":"server-unreachable","message":"no server runs on the data directory HOME/.local/share/coracle","hint":"start one with `coracle up`, or name another with `--url` or `--data`","docs":"coracle explain server-unreachable"}
    "#]],
    );
    check(
        &["list", "--url", "http://127.0.0.1:1"],
        expect![[r#"
        exit code 1
        --- stderr
        error[server-unreachable]: no server answers at http://127.0.0.1:1: Connection refused (os error 111)
        hint: start one with `coracle up`, or name another with `--url`
        see: coracle explain server-unreachable
    "#]],
    );
    check(
        &["list", "--url", "127.0.0.1:8080"],
        expect![[r#"
        exit code 1
        --- stderr
        error[bad-request]: cannot use `127.0.0.1:8080`: write it with a scheme, as in `http://127.0.0.1:8080`
        see: coracle explain bad-request
    "#]],
    );
}

#[test]
fn a_token_stands_in_no_error() {
    for args in [
        ["list", "--url", "http://127.0.0.1:1", "--token", "hunter2"],
        ["list", "--url", "nonsense", "--token", "hunter2"],
        ["list", "--url", "http://127.0.0.1:1", "--token", "hunter2\nx"],
    ] {
        let ended = run(&args);
        assert_eq!(ended.code, 1);
        assert!(!ended.to_text().contains("hunter2"), "{}", ended.to_text());
    }
    let output = coracle().args(["list", "--help"]).env("CORACLE_TOKEN", "hunter2").output().unwrap();
    assert!(!Ended::of(output).to_text().contains("hunter2"));
}

#[test]
fn a_manifest_is_read_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let deploy = |manifest: &str| {
        std::fs::write(folder.path().join("coracle.toml"), manifest).unwrap();
        let ended = run(&["deploy", folder.path().to_str().unwrap(), "--url", "http://127.0.0.1:1"]);
        ended.to_text().replace(folder.path().to_str().unwrap(), "FOLDER")
    };
    expect![[r#"
        exit code 1
        --- stderr
        error[invalid-manifest]: FOLDER/coracle.toml:3:1: unknown key `memroy`
          |
        3 | memroy = "1MiB"
          | ^^^^^^
        hint: did you mean `memory`?
        see: coracle explain invalid-manifest
    "#]]
    .assert_eq(&deploy("[function.hello]\ncode = \"hello.wasm\"\nmemroy = \"1MiB\"\n"));
    expect![[r#"
        exit code 1
        --- stderr
        error[invalid-manifest]: FOLDER/coracle.toml:2:8: the code of `hello` does not exist: FOLDER/hello.wasm
          |
        2 | code = "hello.wasm"
          |        ^^^^^^^^^^^^
        hint: build it first, or add a line `build = "COMMAND"` that does
        see: coracle explain invalid-manifest
    "#]].assert_eq(&deploy("[function.hello]\ncode = \"hello.wasm\"\n"));
    expect![[r#"
        exit code 1
        --- stderr
        building hello: echo building; exit 3
        building
        error[build-failed]: cannot build `hello`: `echo building; exit 3` failed with exit code 3
        see: coracle explain build-failed
    "#]]
    .assert_eq(&deploy("[function.hello]\nbuild = \"echo building; exit 3\"\ncode = \"hello.wasm\"\n"));
    std::fs::remove_file(folder.path().join("coracle.toml")).unwrap();
    let nothing = run(&["deploy", folder.path().to_str().unwrap(), "--url", "http://127.0.0.1:1"]);
    expect![[r#"
        exit code 1
        --- stderr
        error[invalid-manifest]: there is neither a coracle.toml nor a stack.yaml in FOLDER
        hint: begin a project with `coracle new NAME --lang rust`, or say what runs in it: coracle deploy FOLDER --name NAME --command ./PROGRAM
        see: coracle explain invalid-manifest
    "#]]
    .assert_eq(&nothing.to_text().replace(folder.path().to_str().unwrap(), "FOLDER"));
}

#[test]
fn every_shell_is_completed() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]);
        assert_eq!(script.code, 0);
        assert!(script.stdout.contains("rollback"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_a_verb_quietly() {
    let mut child =
        coracle().args(["explain"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = Ended::of(child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
}
