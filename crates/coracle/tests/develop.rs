//! The first minute and the edit loop: `coracle new`, build commands, `coracle dev`.
//! The real binary; builds are `cp` where it does not matter what they build.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

#[expect(dead_code, reason = "these tests use a part of the harness")]
mod guests;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod wire;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use expect_test::expect;
use guests::{built, until};
use harness::{CACHE, Data, Ended, Server, coracle, wasm};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// What has not happened after so long will not.
const PATIENCE: Duration = Duration::from_secs(60);

/// Events that nobody looked at yet.
const EVENTS_MAX: usize = 10_000;

/// A project whose build copies a guest; which one is what its source says.
struct Project(TempDir);

impl Project {
    fn new(guest: &Path) -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        project.write("guest", guest.to_str().unwrap());
        project.build("cp \"$(cat guest)\" out.wasm");
        project
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.path().join(file), text).unwrap();
    }

    fn build(&self, command: &str) {
        self.write(
            "coracle.toml",
            &format!("[function.work]\nbuild = '''{command}'''\ncode = \"out.wasm\"\n"),
        );
    }
}

/// `coracle dev`, and what it says as JSON.
struct Dev {
    child: Child,
    events: mpsc::Receiver<Value>,
}

impl Dev {
    fn start(project: &Project, data: &Path) -> Self {
        let mut dev = coracle();
        dev.args(["dev", project.path(), "--json", "--data"]).arg(data);
        Self::spawn(dev)
    }

    fn spawn(mut dev: Command) -> Self {
        let dev = dev
            .env("CORACLE_CACHE", CACHE)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = dev.spawn().unwrap();
        let (say, events) = mpsc::sync_channel(EVENTS_MAX);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The test may have seen enough.
                let _ = say.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, events }
    }

    /// The next event of this kind.
    fn next(&self, kind: &str) -> Value {
        loop {
            let event = self.events.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no event `{kind}`"));
            if event["event"] == kind {
                return event;
            }
            assert_ne!(event["event"], "failed", "{event}");
        }
    }

    /// What it deployed next.
    fn revision(&self) -> u64 {
        self.next("deployed")["revision"].as_u64().unwrap()
    }

    /// Its end, and what it said to whoever sat there.
    fn end(mut self) -> (i32, String) {
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code().unwrap_or(-1), said)
    }

    fn interrupt(self) -> (i32, String) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        self.end()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It may have ended already.
        let _ = self.child.wait();
    }
}

fn in_folder(folder: &Path, args: &[&str]) -> Ended {
    let output = coracle().args(args).current_dir(folder).stdin(Stdio::null()).output().unwrap();
    Ended::of(output)
}

#[test]
fn a_new_project_has_a_function_and_says_what_comes_next() {
    let folder = tempfile::tempdir().unwrap();
    for lang in ["rust", "js", "python", "c", "python-http", "node-http", "binary"] {
        let name = format!("my-{lang}");
        let ended = in_folder(folder.path(), &["new", &name, "--lang", lang]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert!(ended.stdout.contains(&format!("{name}/coracle.toml\n")), "{}", ended.stdout);
        assert!(ended.stderr.contains(&format!("cd {name} && coracle dev")), "{}", ended.stderr);
        let readme = fs::read_to_string(folder.path().join(&name).join("README.md")).unwrap();
        assert_eq!(readme.lines().count(), 3);
        assert!(readme.contains(&format!("coracle call {name} -d Ada")), "{readme}");
    }
}

#[test]
fn a_new_project_never_writes_over_anything_and_its_name_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    fs::create_dir(folder.path().join("mine")).unwrap();
    fs::write(folder.path().join("mine/notes"), "precious").unwrap();
    fs::write(folder.path().join("file"), "precious").unwrap();
    let new = |args: &[&str]| in_folder(folder.path(), &[&["new"], args].concat()).to_text();
    assert!(new(&["empty", "--lang", "c"]).starts_with("exit code 0\n"));
    expect![[r#"
        exit code 1
        --- stderr
        error[bad-request]: cannot begin a project `mine`: there is something at mine already
        hint: choose another name, or another folder to stand in
        see: coracle explain bad-request
    "#]]
    .assert_eq(&new(&["mine", "--lang", "c"]));
    assert!(new(&["file", "--lang", "c"]).starts_with("exit code 1\n"));
    assert_eq!(fs::read_to_string(folder.path().join("mine/notes")).unwrap(), "precious");
    expect![[r#"
        exit code 1
        --- stderr
        error[bad-request]: cannot begin a project `fn`: Rust uses that word itself
        hint: choose another name; a function may be renamed later
        see: coracle explain bad-request
    "#]]
    .assert_eq(&new(&["fn", "--lang", "rust"]));
    expect![[r#"
        exit code 2
        --- stderr
        error: invalid value 'cobol' for '--lang <LANG>'
          [possible values: rust, js, python, c, python-http, node-http, binary]

          tip: a similar value exists: 'c'

        For more information, try '--help'.
    "#]]
    .assert_eq(&new(&["shop", "--lang", "cobol"]));
    for name in ["a/b", "..", "", &"x".repeat(300)] {
        assert!(new(&[name, "--lang", "c"]).starts_with("exit code 2\n"), "{name}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn a_new_project_in_c_is_built_deployed_and_called() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(in_folder(folder.path(), &["new", "greet", "--lang", "c"]).code, 0);
    server.ok(&["deploy", folder.path().join("greet").to_str().unwrap()]);
    assert_eq!(server.ok(&["call", "greet", "-d", "Ada"]), "Hello, Ada!\n");
}

#[test]
fn a_new_web_server_is_deployed_as_it_is_and_called() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    for lang in ["python-http", "node-http"] {
        assert_eq!(in_folder(folder.path(), &["new", lang, "--lang", lang]).code, 0);
        server.ok(&["deploy", folder.path().join(lang).to_str().unwrap()]);
        assert_eq!(server.ok(&["call", lang, "-d", "Ada"]), "Hello, Ada!\n");
    }
}

#[test]
fn a_program_that_is_saved_answers_as_it_is_now_and_one_that_does_not_start_is_told() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(in_folder(folder.path(), &["new", "greet", "--lang", "python-http"]).code, 0);
    let project = folder.path().join("greet");
    let mut dev = coracle();
    dev.args(["dev", project.to_str().unwrap(), "--json", "--data"]).arg(server.data());
    let dev = Dev::spawn(dev);
    assert_eq!(dev.revision(), 1);
    assert_eq!(server.ok(&["call", "greet", "-d", "Ada"]), "Hello, Ada!\n");
    assert_eq!(dev.next("log")["line"]["text"], "greeting Ada");

    let source = project.join("src/server.py");
    let text = fs::read_to_string(&source).unwrap();
    fs::write(&source, text.replace("Hello, ", "Ahoy, ")).unwrap();
    assert_eq!(dev.revision(), 2);
    assert_eq!(server.ok(&["call", "greet", "-d", "Ada"]), "Ahoy, Ada!\n");

    // One that does not start is shown, and the last one that did goes on.
    fs::write(&source, "import nonsense\n").unwrap();
    assert_eq!(dev.revision(), 3);
    let trouble = dev.next("trouble");
    assert_eq!((&trouble["revision"], &trouble["problem"]["code"]), (&3.into(), &"guest-exited".into()));
    assert!(trouble["problem"]["message"].as_str().unwrap().contains("nonsense"), "{trouble}");
    assert_eq!(server.ok(&["call", "greet", "-d", "Ada"]), "Ahoy, Ada!\n");
    let (code, said) = dev.interrupt();
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_build_that_goes_wrong_says_how_and_deploys_nothing() {
    let server = Server::start();
    let project = Project::new(&built("tiny"));
    let deploy = |flags: &[&str]| {
        let ended = server.run(&[&["deploy", project.path()], flags].concat());
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        ended.stderr
    };
    project.build("echo 'no such comet' >&2; exit 3");
    let said = deploy(&[]);
    assert!(said.contains("no such comet\n") && said.contains("error[build-failed]"), "{said}");
    assert!(said.contains("failed with exit code 3"), "{said}");

    project.build("no-such-compiler --fast");
    assert!(deploy(&[]).contains("hint: `no-such-compiler` is not installed, or not in PATH"));

    project.build("true");
    let said = deploy(&[]);
    assert!(said.contains("does not exist") && said.contains("hint: `true` succeeded, but"), "{said}");

    project.build("sleep 1000 & echo $! > pid; wait");
    let said = deploy(&["--build-timeout", "300ms"]);
    assert!(said.contains("did not end within 300ms") && said.contains("--build-timeout"), "{said}");
    let pid = fs::read_to_string(project.0.path().join("pid")).unwrap();
    until("what the build left behind is gone", || {
        (!Path::new("/proc").join(pid.trim()).join("exe").exists()).then_some(())
    });
    assert_eq!(server.json(&["list"]).as_array().unwrap().len(), 0);
}

#[test]
fn every_save_is_a_revision_and_a_failed_build_keeps_the_last_one() {
    let server = Server::start();
    let project = Project::new(&built("upper"));
    let dev = Dev::start(&project, &server.data());
    let url = dev.next("began")["url"].as_str().unwrap().to_owned();
    assert_eq!(url, format!("{}/function/work", server.url));
    assert_eq!(dev.revision(), 1);
    assert_eq!(server.ok(&["call", "work", "-d", "ada"]), "ADA");

    project.write("guest", wasm("hello").to_str().unwrap());
    assert_eq!(dev.revision(), 2);
    assert_eq!(server.ok(&["call", "work", "-d", "Ada"]), "Hello, Ada!\n");
    let (mut printed, mut ended) = (None, None);
    while printed.is_none() || ended.is_none() {
        let event = dev.events.recv_timeout(PATIENCE).unwrap();
        if event["event"] == "log" {
            printed = Some(event["line"]["text"].clone());
        } else if event["call"]["revision"] == 2 {
            ended = Some((event["call"]["status"].clone(), event["call"]["outcome"].clone()));
        }
    }
    assert_eq!((printed.unwrap(), ended.unwrap()), ("greeting Ada".into(), (200.into(), "ok".into())));

    project.write("guest", "/nowhere/at/all");
    let failed = dev.events.recv_timeout(PATIENCE).unwrap();
    assert_eq!((&failed["event"], &failed["problem"]["code"]), (&"failed".into(), &"build-failed".into()));
    assert_eq!(server.ok(&["call", "work", "-d", "Ada"]), "Hello, Ada!\n");

    // A manifest is a source as well, and its mistakes are no end.
    project.build("true\nbroken = ");
    project.write("coracle.toml", "[function.work]\ncod = 1\n");
    let failed = std::iter::repeat_with(|| dev.events.recv_timeout(PATIENCE).unwrap())
        .find(|event| event["event"] == "failed")
        .unwrap();
    assert_eq!(failed["problem"]["code"], "invalid-manifest");

    project.write("guest", wasm("sse").to_str().unwrap());
    project.build("cp \"$(cat guest)\" out.wasm");
    let deployed = std::iter::repeat_with(|| dev.events.recv_timeout(PATIENCE).unwrap())
        .find(|event| event["event"] == "deployed")
        .unwrap();
    assert_eq!(deployed["revision"], 3);

    let (code, said) = dev.interrupt();
    assert_eq!(code, 0, "{said}");
    // The server was there before, and goes on.
    server.ok(&["call", "work"]);
}

#[test]
fn many_saves_at_once_are_one_deploy() {
    let server = Server::start();
    let project = Project::new(&built("upper"));
    // Each build counts itself, where nobody watches.
    let counted = tempfile::NamedTempFile::new().unwrap();
    project.build(&format!("echo >> {}; cp \"$(cat guest)\" out.wasm", counted.path().display()));
    let dev = Dev::start(&project, &server.data());
    assert_eq!(dev.revision(), 1);
    for file in 0..200 {
        project.write(&format!("source-{file}"), "");
    }
    project.write("guest", built("tiny").to_str().unwrap());
    assert_eq!(dev.revision(), 2);
    // A few beside two hundred: the first look may come in the middle, and a busy machine lets time pass between saves.
    let builds = fs::read_to_string(counted.path()).unwrap().lines().count();
    assert!((2..=20).contains(&builds), "{builds} builds");
}

#[test]
fn a_build_that_changes_its_sources_does_not_go_on_for_ever() {
    let server = Server::start();
    let project = Project::new(&built("tiny"));
    project.build("date +%N > stamp; cp \"$(cat guest)\" out.wasm");
    let mut dev = Dev::start(&project, &server.data());
    assert_eq!(dev.revision(), 1);
    dev.next("unchanged");
    dev.next("unchanged");
    let mut said = BufReader::new(dev.child.stderr.as_mut().unwrap()).lines().map_while(Result::ok);
    let said = said.find(|line| line.contains("every build changes what is watched: ")).unwrap();
    assert!(said.contains("stamp"), "{said}");
    // It waits now, and a save is heard.
    project.write("guest", built("upper").to_str().unwrap());
    assert_eq!(dev.revision(), 2);
}

#[test]
fn a_server_that_goes_away_is_waited_for() {
    let server = Server::start();
    let data = server.data();
    let project = Project::new(&built("upper"));
    let dev = Dev::start(&project, &data);
    assert_eq!(dev.revision(), 1);
    let kept = server.kill();
    project.write("guest", wasm("hello").to_str().unwrap());
    let failed = dev.events.recv_timeout(PATIENCE).unwrap();
    assert_eq!(failed["problem"]["code"], "server-unreachable", "{failed}");
    // On another port, too: it is found by its data directory.
    let server = Server::start_with(kept, &[]);
    assert_eq!(dev.revision(), 2);
    assert_eq!(server.ok(&["call", "work", "-d", "Ada"]), "Hello, Ada!\n");
    assert_eq!(dev.next("log")["line"]["text"], "greeting Ada");
    let (_, said) = dev.interrupt();
    assert!(said.contains("the server is back"), "{said}");
}

#[test]
fn of_two_who_work_on_one_function_each_hears_of_the_other() {
    let server = Server::start();
    let (mine, yours) = (Project::new(&built("upper")), Project::new(&wasm("hello")));
    let mut me = Dev::start(&mine, &server.data());
    assert_eq!(me.revision(), 1);
    let you = Dev::start(&yours, &server.data());
    assert_eq!(you.revision(), 2);
    let mut said = BufReader::new(me.child.stderr.as_mut().unwrap()).lines().map_while(Result::ok);
    let heard = said.find(|line| line.contains("somebody else")).unwrap();
    assert!(heard.contains("`work` answers with revision 2"), "{heard}");
}

#[test]
fn a_folder_that_is_removed_ends_it_and_says_so() {
    let server = Server::start();
    let project = Project::new(&built("upper"));
    let dev = Dev::start(&project, &server.data());
    assert_eq!(dev.revision(), 1);
    drop(project);
    let (code, said) = dev.end();
    assert_eq!(code, 1);
    assert!(said.contains("is gone\"") && said.contains("the function goes on"), "{said}");
    assert_eq!(server.ok(&["call", "work", "-d", "ada"]), "ADA");
}

#[test]
fn without_a_server_it_brings_its_own_and_takes_it_along() {
    let data = Data::new();
    let project = Project::new(&wasm("hello"));
    let mut dev = coracle();
    dev.args(["dev", project.path(), "--json", "--listen", "127.0.0.1:0", "--data"]).arg(data.path());
    let dev = Dev::spawn(dev);
    let url = dev.next("began")["url"].as_str().unwrap().to_owned();
    assert_eq!(dev.revision(), 1);
    let call = |project: &[&str]| {
        let mut call = coracle();
        call.args(["call", "work", "-d", "Ada", "--data"]).arg(data.path()).args(project);
        Ended::of(call.stdin(Stdio::null()).output().unwrap())
    };
    assert_eq!(call(&[]).stdout, "Hello, Ada!\n");
    assert_eq!(dev.next("log")["line"]["text"], "greeting Ada");
    let (code, _) = dev.interrupt();
    assert_eq!(code, 0);
    let ended = call(&[]);
    assert!(ended.stderr.contains("no server runs"), "{url}: {}", ended.stderr);
}

#[test]
fn a_server_that_is_named_must_be_there() {
    let project = Project::new(&built("tiny"));
    let ended = in_folder(project.0.path(), &["dev", "--url", "http://127.0.0.1:1", "--token", "x"]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("error[server-unreachable]"), "{}", ended.stderr);
    let empty = tempfile::tempdir().unwrap();
    let ended = in_folder(empty.path(), &["dev"]);
    assert!(ended.stderr.contains("coracle new NAME --lang"), "{}", ended.stderr);
}

#[test]
fn a_build_that_leaves_something_running_is_over_when_its_command_is() {
    let server = Server::start();
    let project = Project::new(&built("tiny"));
    project.build("cp \"$(cat guest)\" out.wasm; sleep 1000 & echo $! > .pid");
    let dev = Dev::start(&project, &server.data());
    assert_eq!(dev.revision(), 1);
    let pid = fs::read_to_string(project.0.path().join(".pid")).unwrap();
    until("what the build left behind is gone", || {
        (!Path::new("/proc").join(pid.trim()).join("exe").exists()).then_some(())
    });
}
