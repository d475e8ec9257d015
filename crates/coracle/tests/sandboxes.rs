//! What sandboxes need of the machine, and what is left of them: nothing, however the server ends.
//! With the real binary, as root; faults of the machine are made by `unshare` and `strace`.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

#[expect(dead_code, reason = "these tests use a part of it")]
mod guests;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod wire;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use guests::until;
use harness::{Data, Server};
use wire::{address, get};

/// A folder with the static web server, and a manifest of it with these lines.
fn folder(lines: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("app")).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/serve/serve.c");
    let program = folder.path().join("app/serve");
    let compiled =
        Command::new("cc").args(["-static", "-O2", "-o"]).arg(&program).arg(source).status().unwrap();
    assert!(compiled.success());
    let manifest =
        format!("[function.serve]\ncode = 'app'\ncommand = ['./serve']\ncontract = 'http'\n{lines}\n");
    std::fs::write(folder.path().join("coracle.toml"), manifest).unwrap();
    folder
}

fn deploy(server: &Server, lines: &str) {
    server.ok(&["deploy", folder(lines).path().to_str().unwrap()]);
}

/// The processes of the machine with this text among their arguments or their environment.
fn processes(text: &str) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|process| {
        let process = process.ok()?;
        let number = process.file_name().to_str()?.parse().ok()?;
        // One that ended in the meantime has neither.
        let has = |file| {
            std::fs::read(process.path().join(file))
                .is_ok_and(|read| String::from_utf8_lossy(&read).contains(text))
        };
        (has("cmdline") || has("environ")).then_some(number)
    });
    all.collect()
}

/// How many folders of control groups have this name.
fn groups(name: &str) -> usize {
    fn below(folder: &Path, name: &str) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.map(|entry| if entry.file_name() == name { 1 } else { below(&entry.path(), name) }).sum()
    }
    below(Path::new("/sys/fs/cgroup"), name)
}

/// Asks for the page of the static server on a connection of its own; whether it came.
fn knock(address: &str) -> bool {
    let asked = TcpStream::connect(address).and_then(|mut stream| {
        stream.write_all(b"GET /function/serve/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        Ok(reply.ends_with("hello\n"))
    });
    asked.unwrap_or(false)
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mounts").unwrap()
}

/// What the groups of this server are called: those of other tests are not ours to look at.
fn group_of(server: &Server) -> String {
    let line = std::fs::read_to_string(format!("/proc/{}/cmdline", spawner_of(server.pid()))).unwrap();
    format!("coracle-{}", line.split('\0').nth(2).unwrap())
}

#[test]
fn a_server_that_is_killed_under_load_leaves_nothing_of_fifty_sandboxes() {
    let (server, mark) = (Server::start(), format!("mark-{}", std::process::id()));
    deploy(
        &server,
        &format!("memory = '16MiB'\nenv = {{ MARK = '{mark}' }}\nscale = {{ max = 50, target = 1 }}"),
    );
    server.ok(&["scale", "serve", "50"]);
    until("fifty programs", || (processes(&mark).len() >= 50).then_some(()));
    let (group, address, folder) = (group_of(&server), address(&server).to_owned(), server.data());
    assert!(groups(&group) > 0, "they are bounded");
    let answered = AtomicU32::new(0);
    let data = std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while knock(&address) {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        until("load", || (answered.load(Ordering::Relaxed) > 200).then_some(()));
        server.kill()
    });
    until("the end of all programs", || processes(&mark).is_empty().then_some(()));
    until("the end of all groups", || (groups(&group) == 0).then_some(()));
    assert!(!mounts().contains(folder.to_str().unwrap()), "{}", mounts());
    let server = Server::start_with(data, &[]);
    assert_eq!(get(&server, "/function/serve/").text(), "hello\n");
}

#[test]
fn what_a_killed_server_and_a_killed_spawner_left_is_swept_by_the_next_one() {
    let (server, mark) = (Server::start(), format!("sweep-{}", std::process::id()));
    deploy(&server, &format!("env = {{ MARK = '{mark}' }}"));
    assert_eq!(get(&server, "/function/serve/").status, 200);
    let (spawner, group) = (spawner_of(server.pid()), group_of(&server));
    // Stopped, it cannot tidy up; the program is frozen by then, or will be.
    signal(spawner, "STOP");
    let data = server.kill();
    signal(spawner, "KILL");
    let server = Server::start_with(data, &[]);
    until("the end of the program", || processes(&mark).is_empty().then_some(()));
    assert_eq!(get(&server, "/function/serve/").text(), "hello\n");
    assert_eq!(server.stop().0, 0);
    until("the end of all groups", || (groups(&group) == 0).then_some(()));
}

#[test]
fn without_a_right_to_groups_programs_run_and_status_says_what_is_missing() {
    let hide = "mount -t tmpfs -o ro none /sys/fs/cgroup && exec \"$@\"";
    let server = Server::start_within(&["unshare", "--mount", "sh", "-c", hide, "sh"], Data::new(), &[]);
    deploy(&server, "");
    assert_eq!(get(&server, "/function/serve/").text(), "hello\n");
    let status = server.json(&["status"]);
    let protections = status["status"]["details"]["sandboxes"]["protections"].as_array().unwrap().clone();
    for name in ["memory limit", "processor limit", "process limit", "freezer"] {
        let one = protections.iter().find(|one| one["name"] == name).unwrap();
        assert_eq!(one["active"], false, "{one}");
        assert!(one["how"].as_str().is_some_and(|how| !how.is_empty()), "{one}");
    }
    let walls = protections.iter().find(|one| one["name"] == "namespaces").unwrap();
    assert_eq!(walls["active"], true);
}

#[test]
fn who_is_not_root_is_told_at_the_deploy() {
    let data = Data::new();
    let owned = Command::new("chown").args(["-R", "65534:65534"]).arg(data.path().parent().unwrap()).status();
    assert!(owned.unwrap().success());
    let drop_rights =
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "-u", "CORACLE_CACHE"];
    let server = Server::start_within(&drop_rights, data, &[]);
    let refused = server.run(&["deploy", folder("").path().to_str().unwrap()]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("error[sandbox-unavailable]"), "{}", refused.stderr);
    assert!(refused.stderr.contains("does not run as root"), "{}", refused.stderr);
}

#[test]
fn a_program_that_floods_its_log_is_bounded_and_answers() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("app")).unwrap();
    std::fs::write(
        folder.path().join("coracle.toml"),
        "[function.flood]\ncode = 'app'\ncommand = ['/bin/sh', '-c', 'yes flood | head -c 5000000 >&2; echo done']\ncontract = 'stdio'\nlog_rate = '4KiB'\n",
    )
    .unwrap();
    std::fs::write(folder.path().join("app/empty"), "").unwrap();
    server.ok(&["deploy", folder.path().to_str().unwrap()]);
    assert_eq!(get(&server, "/function/flood").text(), "done\n");
    let kept = server.ok(&["logs", "flood"]);
    assert!(kept.len() < 1 << 20, "{} bytes", kept.len());
    until("what was dropped", || {
        server.ok(&["logs", "flood", "--tail", "10000"]).contains("lines are dropped").then_some(())
    });
}

/// The process that makes sandboxes for a server.
fn spawner_of(server: u32) -> u32 {
    let parent = format!("PPid:\t{server}\n");
    let is_child = |process: &u32| {
        std::fs::read_to_string(format!("/proc/{process}/status"))
            .is_ok_and(|status| status.contains(&parent))
    };
    processes("sandbox-spawner").into_iter().find(is_child).unwrap()
}

fn signal(process: u32, name: &str) {
    assert!(
        Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status().unwrap().success()
    );
}
