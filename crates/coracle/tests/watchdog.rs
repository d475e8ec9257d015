//! Functions behind a watchdog, which the server keeps itself: with the real binary, as clients of OpenFaaS call them.
//! Needs root, as sandboxes do, and Debian's python3.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

#[expect(dead_code, reason = "these tests use a part of it")]
mod guests;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod wire;

use std::path::Path;

use guests::{log_with, until};
use harness::{Ended, Server};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use wire::{Reply, Wire, ask, get};

/// A web server behind a watchdog: `/slow` never answers, `/close` hangs up, `/events` sends its second event when somebody asks for `/go`,
/// `/drip` never ends, and everything else tells what was asked.
const LISTENS: &str = r#"
import http.server, threading
go = threading.Event()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/slow":
            threading.Event().wait()
        elif self.path == "/close":
            self.close_connection = True
        elif self.path in ("/events", "/drip"):
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            self.close_connection = True
            self.event(b"data: 1\n\n")
            go.wait() if self.path == "/events" else threading.Event().wait()
            self.event(b"data: 2\n\n")
        else:
            if self.path == "/go":
                go.set()
            text = f"{self.command} {self.path}".encode()
            self.send_response(503 if self.path == "/unwell" else 200)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
    do_POST = do_GET
    def event(self, data):
        self.wfile.write(data)
        self.wfile.flush()
    def log_message(self, *_):
        pass
print("listening soon", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", 5000), Handler).serve_forever()
"#;

/// Prints on both of its streams.
const BOTH: &str = "import sys\nprint(1, file=sys.stderr, flush=True)\nprint(2)\n";

/// The environment of a function that listens.
const HTTP: &str =
    "fprocess = 'python3 listens.py', mode = 'http', http_upstream_url = 'http://127.0.0.1:5000'";

/// A bundle that is deployed as `f` to a new server, with this environment and these lines in its manifest.
fn watched(env: &str, lines: &str) -> Server {
    let server = Server::start();
    let deployed = try_deploy(&server, env, lines);
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
    server
}

fn try_deploy(server: &Server, env: &str, lines: &str) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("app")).unwrap();
    for (name, program) in [("listens.py", LISTENS), ("both.py", BOTH)] {
        std::fs::write(folder.path().join("app").join(name), program).unwrap();
    }
    let hostile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/hostile/hostile.py");
    std::fs::copy(hostile, folder.path().join("app/hostile.py")).unwrap();
    let manifest = format!("[function.f]\ncode = 'app'\nenv = {{ {env} }}\n{lines}\n");
    std::fs::write(folder.path().join("coracle.toml"), manifest).unwrap();
    server.run(&["deploy", folder.path().to_str().unwrap()])
}

fn post(server: &Server, path: &str, body: &[u8]) -> Reply {
    ask(server, "POST", &format!("/function/f{path}"), &[], body)
}

fn message(reply: &Reply) -> String {
    reply.json()["message"].as_str().unwrap().to_owned()
}

/// A call whose body is half sent, in its process.
fn half_a_call(server: &Server) -> Wire {
    let mut wire = Wire::to(server);
    wire.send("POST /function/f HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab");
    until("a busy instance", || (instances(server, "busy") == 1).then_some(()));
    wire
}

fn instances(server: &Server, state: &str) -> u64 {
    server.json(&["show", "f"])["function"]["instances"][state].as_u64().unwrap()
}

/// Whether a process has this word among its arguments.
fn is_running(word: &str) -> bool {
    let of = |entry: std::io::Result<std::fs::DirEntry>| {
        let arguments = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        arguments.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes()).then_some(())
    };
    std::fs::read_dir("/proc").unwrap().any(|entry| of(entry).is_some())
}

#[test]
fn a_process_a_call_echoes_any_body_and_its_content_type() {
    let server = watched("fprocess = 'cat'", "");
    let body: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    let reply = ask(&server, "POST", "/function/f", &[("content-type", "image/png")], &body);
    assert!(reply.status == 200 && reply.whole && reply.body == body);
    assert_eq!(reply.header("content-type"), Some("image/png"));
    let seconds: f64 = reply.header("x-duration-seconds").unwrap().parse().unwrap();
    assert!(seconds > 0.0 && seconds < 60.0, "{seconds}");
    assert_eq!(post(&server, "", b"hello\n").header("content-type"), Some("text/plain; charset=utf-8"));
    let call = ask(&server, "POST", "/function/f", &[("x-call-id", "call-7")], b"12345");
    assert_eq!(call.text(), "12345");
    let log = log_with(&server, "call-7", "Wrote 5 Bytes - Duration: 0.");
    assert!(log.contains("Forking fprocess."), "{log}");
}

#[test]
fn the_head_of_a_call_is_in_the_environment_of_its_process() {
    let server = watched("fprocess = 'env'", "");
    let headers = [("x-foo", "bar"), ("proxy", "http://evil")];
    let reply = ask(&server, "POST", "/function/f/a/b?c=d", &headers, b"12345");
    let text = reply.text();
    for line in [
        "Http_Method=POST",
        "Http_Path=/a/b",
        "Http_Query=c=d",
        "Http_X_Foo=bar",
        "Http_ContentLength=5",
        "Http_Content_Length=5",
        "fprocess=env",
    ] {
        assert!(text.lines().any(|own| own == line), "{line}: {text}");
    }
    assert!(text.contains("\nHttp_Host=127.0.0.1:") && !text.contains("Http_Proxy"), "{text}");
    let server = watched("fprocess = 'env', cgi_headers = 'false'", "");
    assert!(!post(&server, "", b"").text().contains("Http_"));
}

#[test]
fn a_process_that_fails_is_a_500_that_says_why() {
    for mode in ["", ", mode = 'serializing'"] {
        let server = watched(&format!("fprocess = 'ls /no-such-folder'{mode}"), "");
        let reply = post(&server, "", b"");
        assert_eq!(reply.problem(), (500, "guest-exited".into()), "{mode}");
        assert!(message(&reply).contains("No such file"), "{mode} {}", reply.text());
        assert!(reply.header("x-duration-seconds").is_some());
    }
    let server = watched("fprocess = 'ls /home /no-such-folder', mode = 'streaming'", "");
    let reply = post(&server, "", b"");
    assert_eq!((reply.status, reply.whole), (200, true), "it answered before it failed");
    assert!(reply.text().contains("app"), "{}", reply.text());
}

#[test]
fn what_is_printed_on_standard_error_is_part_of_the_answer_unless_it_is_not_to_be() {
    let server = watched("fprocess = 'python3 both.py'", "");
    assert_eq!(post(&server, "", b"").text(), "1\n2\n");
    for line in ["combine_output = 'false'", "mode = 'serializing'"] {
        let deployed = try_deploy(&server, &format!("fprocess = 'python3 both.py', {line}"), "");
        assert_eq!(deployed.code, 0, "{}", deployed.stderr);
        assert_eq!(post(&server, "", b"").text(), "2\n", "{line}");
    }
}

#[test]
fn later_watchdogs_write_the_line_of_a_request_and_say_octets() {
    let server = watched("fprocess = 'cat', mode = 'streaming', log_callid = 'true'", "");
    let headers = [("x-call-id", "call-8"), ("content-type", "text/plain")];
    let reply = ask(&server, "POST", "/function/f/own?a=b", &headers, b"12345");
    assert_eq!(
        (reply.text().as_str(), reply.header("content-type")),
        ("12345", Some("application/octet-stream"))
    );
    let log = log_with(&server, "call-8", "POST /own?a=b - 200 - ContentLength: 5B (0.");
    assert!(log.contains("s) [call-8]"), "{log}");
    let server = watched("fprocess = 'cat', mode = 'serializing', content_type = 'text/html'", "");
    assert_eq!(post(&server, "", b"x").header("content-type"), Some("text/html"));
}

#[test]
fn a_streaming_process_answers_while_it_runs() {
    let server = watched("fprocess = 'cat', mode = 'streaming'", "");
    let mut wire = Wire::to(&server);
    wire.send("POST /function/f HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab");
    assert_eq!(wire.head("POST").status, 200);
    assert_eq!(wire.piece().unwrap().unwrap(), b"ab");
    wire.send("cd");
    assert_eq!(wire.piece().unwrap().unwrap(), b"cd");
    assert_eq!(wire.piece().unwrap(), None);
}

#[test]
fn a_process_that_runs_for_too_long_is_killed_with_all_that_it_started() {
    let server = watched("fprocess = 'sleep 61235', exec_timeout = '300ms'", "");
    let reply = post(&server, "", b"");
    assert_eq!(reply.problem(), (408, "guest-timeout".into()));
    assert!(message(&reply).contains("Killed process."), "{}", reply.text());
    until("the end of its process", || (!is_running("61235")).then_some(()));
    let server = watched("fprocess = 'sleep 61236', exec_timeout = '300ms', mode = 'serializing'", "");
    assert_eq!(post(&server, "", b"").problem(), (500, "guest-timeout".into()));
    until("the end of its process", || (!is_running("61236")).then_some(()));
}

#[test]
fn one_call_more_than_max_inflight_is_refused_at_once_and_ready_says_so() {
    let server = watched("fprocess = 'cat', max_inflight = '1'", "scale = { grows = false }");
    let mut wire = half_a_call(&server);
    for path in ["", "/_/ready"] {
        let reply = get(&server, &format!("/function/f{path}"));
        assert_eq!(reply.problem(), (429, "function-busy".into()), "{path}");
        assert_eq!(message(&reply), "Concurrent request limit exceeded. Max concurrent requests: 1");
        assert_eq!(reply.header("x-openfaas-internal"), Some("faas-middleware"));
    }
    assert_eq!(get(&server, "/function/f/_/health").text(), "OK");
    wire.send("cd");
    assert_eq!(wire.reply("POST").text(), "abcd");
    until("a free place", || (get(&server, "/function/f/_/ready").status == 200).then_some(()));
    assert_eq!(post(&server, "", b"x").text(), "x");
}

#[test]
fn what_scales_by_capacity_starts_another_instance_before_it_refuses() {
    let server = watched("fprocess = 'cat', max_inflight = '1'", "scale = { max = 2 }");
    let mut first = half_a_call(&server);
    let mut second = Wire::to(&server);
    second.send("POST /function/f HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab");
    until("two busy instances", || (instances(&server, "busy") == 2).then_some(()));
    assert_eq!(post(&server, "", b"x").status, 429);
    for wire in [&mut first, &mut second] {
        wire.send("cd");
        assert_eq!(wire.reply("POST").text(), "abcd");
    }
}

#[test]
fn health_and_readiness_are_answered_without_the_process() {
    let server = watched("fprocess = 'false'", "");
    for path in ["/_/health", "/_/ready"] {
        let reply = get(&server, &format!("/function/f{path}"));
        assert_eq!((reply.status, reply.text().as_str()), (200, "OK"), "{path}");
        assert_eq!(post(&server, path, b"").status, 405);
    }
    let server = watched("fprocess = 'cat', suppress_lock = 'true'", "");
    assert_eq!(get(&server, "/function/f/_/health").status, 503);
    assert_eq!(post(&server, "", b"x").text(), "x");
}

#[test]
fn a_process_that_listens_gets_calls_as_they_are() {
    let server = watched(HTTP, "");
    let reply = ask(&server, "POST", "/function/f/a/b?c=d", &[("x-call-id", "call-9")], b"12345");
    assert_eq!((reply.status, reply.text().as_str()), (200, "POST /a/b?c=d"));
    assert!(reply.header("x-duration-seconds").is_some());
    log_with(&server, "call-9", "POST /a/b?c=d - 200 - ContentLength: 13B (0.");
    let reply = get(&server, "/function/f/unwell");
    assert_eq!((reply.status, reply.text().as_str()), (503, "GET /unwell"), "its own errors are its own");
    assert_eq!(get(&server, "/function/f/_/health").text(), "OK");
    assert_eq!(get(&server, "/function/f/_/ready").text(), "OK");
}

#[test]
fn a_process_that_listens_says_itself_whether_it_is_ready() {
    let server = watched(&format!("{HTTP}, ready_path = '/fit'"), "health = '/_/ready'");
    assert_eq!(get(&server, "/function/f/_/ready").text(), "GET /fit");
    let server = Server::start();
    let lines = "health = '/_/ready'\nstart_timeout = '5s'";
    let deployed = try_deploy(&server, &format!("{HTTP}, ready_path = '/unwell'"), lines);
    assert!(deployed.stderr.contains("error[guest-not-ready]"), "{}", deployed.stderr);
}

#[test]
fn a_process_that_listens_and_does_not_answer_in_time_is_a_504_of_the_platform() {
    let server = watched(&format!("{HTTP}, exec_timeout = '20s'"), "");
    let slow = ask(&server, "GET", "/function/f/slow", &[("x-timeout", "300ms")], b"");
    assert_eq!(slow.problem(), (504, "guest-timeout".into()));
    assert_eq!(slow.header("x-openfaas-internal"), Some("of-watchdog"));
    let closed = get(&server, "/function/f/close");
    assert_eq!(closed.problem(), (500, "guest-no-response".into()));
    assert_eq!(closed.header("x-openfaas-internal"), Some("of-watchdog"));
    let mut drip = Wire::to(&server);
    drip.send("GET /function/f/drip HTTP/1.1\r\nhost: x\r\nx-timeout: 500ms\r\n\r\n");
    let reply = drip.reply("GET");
    assert_eq!((reply.status, reply.text().as_str(), reply.whole), (200, "data: 1\n\n", false));
}

#[test]
fn events_arrive_one_by_one() {
    let server = watched(HTTP, "");
    let mut wire = Wire::to(&server);
    wire.send("GET /function/f/events HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n");
    assert_eq!(wire.head("GET").header("content-type"), Some("text/event-stream"));
    // The second is not sent before the first was seen.
    assert_eq!(wire.piece().unwrap().unwrap(), b"data: 1\n\n");
    assert_eq!(get(&server, "/function/f/go").status, 200);
    assert_eq!(wire.piece().unwrap().unwrap(), b"data: 2\n\n");
}

#[test]
fn another_protocol_is_passed_to_a_process_that_listens() {
    let server = watched(&format!("{}, LISTEN_ON = '5000'", HTTP.replace("listens.py", "hostile.py")), "");
    let mut wire = Wire::to(&server);
    wire.send("GET /function/f/upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    assert_eq!(wire.head("GET").status, 101);
    for word in ["ping", "pong"] {
        wire.send(word);
        assert_eq!(wire.exactly(4), word.as_bytes());
    }
}

#[test]
fn a_streaming_process_that_runs_for_too_long_breaks_off_whatever_the_function_may() {
    let server = watched("fprocess = 'cat', mode = 'streaming', exec_timeout = '600ms'", "timeout = '500ms'");
    let mut wire = Wire::to(&server);
    wire.send("POST /function/f HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab");
    let reply = wire.reply("POST");
    assert_eq!((reply.status, reply.text().as_str(), reply.whole), (200, "ab", false));
}

#[test]
fn a_call_in_flight_finishes_when_its_instance_is_told_to_stop() {
    let server = watched("fprocess = 'cat'", "scale = { min = 1 }");
    let mut wire = half_a_call(&server);
    server.ok(&["scale", "f", "0"]);
    wire.send("cd");
    let reply = wire.reply("POST");
    assert_eq!((reply.status, reply.text().as_str()), (200, "abcd"));
    let gone = || ["busy", "ready", "frozen", "starting"].iter().all(|state| instances(&server, state) == 0);
    until("none runs", || gone().then_some(()));
    let mut wire = half_a_call(&server);
    let stopping = std::thread::spawn(move || server.stop());
    wire.send("cd");
    assert_eq!(wire.reply("POST").text(), "abcd");
    assert_eq!(stopping.join().unwrap().0, 0);
}

#[test]
fn what_drives_a_watchdog_and_cannot_be_kept_is_refused_at_the_deploy() {
    let server = Server::start();
    let table = [
        ("fprocess = 'x', mode = 'static'", "does not run here"),
        ("fprocess = 'x', mode = 'http'", "nothing says where its function listens"),
        ("fprocess = 'x', exec_timeout = 'soon'", "`exec_timeout` of `soon` is no span of time"),
        ("mode = 'http'", "does not say what is run"),
    ];
    for (env, said) in table {
        let deployed = try_deploy(&server, env, "");
        assert!(deployed.code != 0 && deployed.stderr.contains(said), "{env}: {}", deployed.stderr);
    }
    let deployed = try_deploy(&server, "mode = 'http'", "contract = 'watchdog'");
    assert!(deployed.stderr.contains("nothing says what it runs"), "{}", deployed.stderr);
    let deployed = try_deploy(&server, "fprocess = 'x'", "command = ['cat']");
    assert!(deployed.stderr.contains("so does the environment of a watchdog"), "{}", deployed.stderr);
}

#[test]
fn the_bytes_of_a_secret_are_exact() {
    let server = Server::start();
    let every: Vec<u8> = (0..=255).collect();
    assert_eq!(server.run_with(&["secret", "set", "raw"], &every).code, 0);
    for path in ["/var/openfaas/secrets/raw", "/run/secrets/raw"] {
        let lines = "secrets = ['raw']\nsecrets_in_env = true";
        let deployed = try_deploy(&server, &format!("fprocess = 'cat {path}'"), lines);
        assert_eq!(deployed.code, 0, "{}", deployed.stderr);
        assert_eq!(get(&server, "/function/f").body, every, "{path}");
    }
    until("the line about its variable", || {
        server.ok(&["logs", "f"]).contains("the secret `raw` is no text").then_some(())
    });
    let deployed = try_deploy(&server, "fprocess = 'ls /var/openfaas/secrets'", "");
    assert_eq!(deployed.code, 0);
    assert_eq!(get(&server, "/function/f").status, 500, "only what was granted");
}

/// An image of this machine's `cat`, whose folders of secrets are links to elsewhere.
fn image(folder: &Path) -> std::path::PathBuf {
    let mut layer = tar::Builder::new(Vec::new());
    layer.follow_symlinks(true);
    let listed = std::process::Command::new("ldd").arg("/bin/cat").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for path in libraries.chain(["/bin/cat"]) {
        layer.append_path_with_name(path, path.trim_start_matches('/')).unwrap();
    }
    for (name, to) in [("run/secrets", "/etc"), ("var/openfaas", "/nowhere")] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        layer.append_link(&mut header, name, to).unwrap();
    }
    let layer = layer.into_inner().unwrap();
    let digest: String = Sha256::digest(&layer).iter().map(|byte| format!("{byte:02x}")).collect();
    let config = json!({
        "os": "linux",
        "config": { "Env": ["fprocess=cat /var/openfaas/secrets/raw"], "Cmd": ["/bin/sh"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] }
    });
    let list = json!([{ "Config": "config.json", "RepoTags": ["reads:1"], "Layers": ["layer.tar"] }]);
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in [
        ("config.json", config.to_string().into_bytes()),
        ("layer.tar", layer),
        ("manifest.json", list.to_string().into_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    let path = folder.join("image.tar");
    std::fs::write(&path, archive.into_inner().unwrap()).unwrap();
    path
}

#[test]
fn an_image_that_names_its_process_is_watched_and_its_links_lead_no_secret_elsewhere() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    assert_eq!(server.run_with(&["secret", "set", "raw"], b"hush").code, 0);
    server.ok(&["image", "load", image(folder.path()).to_str().unwrap()]);
    for read_only in ["true", "false"] {
        let manifest =
            format!("[function.f]\nimage = 'reads:1'\nsecrets = ['raw']\nread_only = {read_only}\n");
        std::fs::write(folder.path().join("coracle.toml"), manifest).unwrap();
        server.ok(&["deploy", folder.path().to_str().unwrap()]);
        let reply = get(&server, "/function/f");
        assert_eq!((reply.status, reply.text().as_str()), (200, "hush"), "read_only = {read_only}");
    }
    assert_eq!(server.json(&["show", "f"])["function"]["contract"], "watchdog");
}
