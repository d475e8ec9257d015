//! What clients and deployers should not send: each gets a clear error, and what is there already goes on answering.
//! The real binary, with sockets that send half of what they promise and a disk that is full.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

#[expect(dead_code, reason = "these tests use a part of the harness")]
mod guests;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod wire;

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;

use guests::{acid, built, deploy, record, until};
use harness::{CACHE, Data, Ended, Server, coracle, wasm};
use wire::{Wire, address, admin, ask, bearer, get, token};

const LONG: usize = 300;

/// What the command line says of a file that is deployed.
fn refused(server: &Server, file: &Path) -> String {
    let ended = server.run(&["deploy", file.to_str().unwrap(), "--name", "bad"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    ended.stderr
}

#[test]
fn a_file_that_is_no_function_is_refused_with_what_is_wrong_with_it() {
    let server = Server::start();
    server.deploy("hello");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let whole = fs::read(wasm("hello")).unwrap();
    for (name, bytes) in [
        ("empty.wasm", &b""[..]),
        ("text.wasm", b"not wasm at all"),
        ("magic.wasm", b"\0asm"),
        ("half.wasm", &whole[..whole.len() / 2]),
    ] {
        let said = refused(&server, &file(name, bytes));
        assert!(said.starts_with("error[invalid-wasm]:"), "{name}: {said}");
    }
    let said = refused(&server, &file("program.wasm", &fs::read("/proc/self/exe").unwrap()[..100_000]));
    assert!(said.starts_with("error[precompiled-wasm]:"), "{said}");
    let compiled = fs::read_dir(CACHE).unwrap().map(|entry| entry.unwrap().path());
    let compiled = compiled.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "cwasm"));
    let said = refused(&server, &file("compiled.wasm", &fs::read(compiled.unwrap()).unwrap()));
    assert!(said.starts_with("error[precompiled-wasm]:"), "{said}");

    let said = refused(&server, &built("unknown-import"));
    assert!(
        said.starts_with("error[unknown-import]:") && said.contains("acme:widgets/thing@1.0.0"),
        "{said}"
    );
    let said = refused(&server, &built("library"));
    assert!(said.starts_with("error[unsupported-contract]:"), "{said}");
    assert!(said.contains("acme:library/arithmetic@1.0.0") && said.contains("wasi:http"), "{said}");

    assert_eq!(server.json(&["list"]).as_array().unwrap().len(), 1, "none of them became a function");
    assert_eq!(server.ok(&["call", "hello"]), "Hello, world!\n");
}

#[test]
fn a_revision_that_is_refused_never_becomes_current() {
    let server = Server::start();
    server.deploy("hello");
    let bad = server.run(&["deploy", built("unknown-import").to_str().unwrap(), "--name", "hello"]);
    assert_eq!(bad.code, 1);
    assert_eq!(server.ok(&["call", "hello"]), "Hello, world!\n");
    assert_eq!(server.json(&["list"])[0]["revision"], 1);
}

#[test]
fn an_upload_over_its_bound_is_refused_and_leaves_nothing() {
    let server = Server::start_with(Data::new(), &["--upload-max", "10KiB"]);
    let said = refused(&server, &built("acid"));
    assert!(said.starts_with("error[request-too-large]:") && said.contains("10KiB"), "{said}");

    let mut chunked = Wire::to(&server);
    let authorization = bearer(&token(&server));
    chunked.send(format!(
        "POST /v1/artifacts HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\ntransfer-encoding: chunked\r\n\r\n"
    ));
    chunked.send(format!("{:x}\r\n{}\r\n0\r\n\r\n", 20 << 10, "x".repeat(20 << 10)));
    assert_eq!(chunked.reply("POST").problem(), (413, "request-too-large".to_owned()));
    assert_eq!(files_in(&server.data().join("artifacts")), Vec::<String>::new());
}

#[test]
fn an_upload_that_is_cut_off_half_way_leaves_nothing() {
    let server = Server::start();
    let artifacts = server.data().join("artifacts");
    drop(half_an_upload(&server));
    until("the end of the upload", || files_in(&artifacts).is_empty().then_some(()));
    assert_eq!(get(&server, "/healthz").status, 200);

    // The same when it is the server that goes away.
    let cut = half_an_upload(&server);
    let data = server.kill();
    drop(cut);
    assert_eq!(files_in(&artifacts).len(), 1);
    let server = Server::start_with(data, &[]);
    assert_eq!(files_in(&artifacts), Vec::<String>::new());
    server.deploy("hello");
}

#[test]
fn names_that_are_none_are_refused_wherever_they_stand() {
    let server = acid(&[]);
    let long = "a".repeat(LONG);
    for name in ["a%2Fb", "..", "%2e%2e", "a%20b", "%00", "ä", long.as_str()] {
        let reply = get(&server, &format!("/function/{name}"));
        assert!(matches!(reply.status, 400 | 404), "{name}: {reply:?}");
        if reply.status == 404 {
            assert_eq!(reply.problem().1, "function-not-found", "{name}");
        }
        let path = format!("/v1/namespaces/default/functions/{name}");
        let put = admin(&server, "PUT", &path, b"{}");
        assert!(matches!(put.status, 400 | 404 | 422), "{name}: {put:?}");
        assert_eq!(admin(&server, "PUT", &format!("/v1/namespaces/{name}"), b"").status, 400, "{name}");
    }
    assert_eq!(get(&server, &format!("/function/{long}")).problem(), (400, "invalid-name".to_owned()));
    assert_eq!(get(&server, "/function/").problem(), (404, "function-not-found".to_owned()));
    for name in ["a/b", "..", "", "a b", &long] {
        let ended = server.run(&["deploy", wasm("hello").to_str().unwrap(), "--name", name]);
        assert_eq!(ended.code, 2, "{name}: {}", ended.stderr);
    }
    assert_eq!(server.json(&["list"]).as_array().unwrap().len(), 1);
    let above = get(&server, "/function/acid/../../../../etc/passwd");
    assert_eq!((above.status, above.text().contains("root:")), (404, false));
}

#[test]
fn a_spec_that_cannot_be_read_says_where_and_what_was_meant() {
    let server = acid(&[]);
    let digest = server.json(&["list"])[0]["digest"].as_str().unwrap().to_owned();
    let put = |body: String| {
        let reply = admin(&server, "PUT", "/v1/namespaces/default/functions/new", body.as_bytes());
        (reply.problem(), reply.text())
    };
    let (problem, said) = put("{\"artifact\": \"".to_owned());
    assert_eq!(problem, (400, "bad-request".to_owned()));
    assert!(said.contains("line 1"), "{said}");
    let (problem, said) = put(format!(r#"{{"artifact": "{digest}", "timeuot": "1s"}}"#));
    assert_eq!(problem, (400, "bad-request".to_owned()));
    assert!(said.contains("`timeuot`") && said.contains("`timeout`"), "{said}");
    for (setting, value) in [
        ("timeout", r#""soon""#),
        ("timeout", "5"),
        ("memory", r#""8 elephants""#),
        ("memory", r#""1TiB""#),
        ("concurrency", "-1"),
        ("concurrency", "0"),
        ("route", r#"["/v1/mine"]"#),
        ("outbound", r#"["everything"]"#),
        ("env", r#"{"A=B": "x"}"#),
    ] {
        let ((status, _), said) = put(format!(r#"{{"artifact": "{digest}", "{setting}": {value}}}"#));
        assert!(matches!(status, 400 | 422), "{setting} {value}: {said}");
    }
    let (problem, said) = put(format!(r#"{{"artifact": "{}"}}"#, "0".repeat(64)));
    assert!(matches!(problem.0, 404 | 422), "{said}");
    assert_eq!(server.json(&["list"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_body_over_its_bound_is_refused_however_it_is_sent() {
    let server = acid(&["--request-body", "1KiB"]);
    let body = [b'x'; 2048];
    let known = ask(&server, "POST", "/function/acid/sink", &[], &body);
    assert_eq!(known.problem(), (413, "request-too-large".to_owned()));
    // Whatever the guest makes of half a body: one crashes over it, the other answers 400.
    for path in ["stdout", "sink"] {
        let mut chunked = Wire::to(&server);
        chunked.send(format!(
            "POST /function/acid/{path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n400\r\n"
        ));
        chunked.send(&body[..1024]);
        chunked.send("\r\n400\r\n");
        chunked.send(&body[1024..]);
        let _ = chunked.try_send("\r\n0\r\n\r\n"); // It may have been refused already.
        assert_eq!(chunked.reply("POST").problem(), (413, "request-too-large".to_owned()), "{path}");
    }
    assert_eq!(ask(&server, "POST", "/function/acid/sink", &[], &body[..1024]).text(), "1024\n");
}

#[test]
fn a_body_that_never_comes_is_not_waited_for() {
    let server = acid(&["--timeout", "500ms"]);
    let mut wire = Wire::to(&server);
    wire.send("POST /function/acid/sink HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf");
    assert_eq!(wire.reply("POST").problem(), (408, "request-timeout".to_owned()));
}

#[test]
fn a_body_that_is_not_in_its_own_framing_is_the_callers_fault() {
    let server = acid(&[]);
    let mut wire = Wire::to(&server);
    wire.send("POST /function/acid/sink HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello");
    wire.send("nonsense\r\n\r\n");
    // Refused, or cut off where the framing is lost.
    if let Ok(reply) = wire.try_reply("POST") {
        assert!((400..500).contains(&reply.status), "{reply:?}");
    }
    assert_eq!(get(&server, "/function/acid/count").status, 200);
}

#[test]
fn clients_that_send_half_a_head_hold_up_nobody() {
    let server = acid(&[]);
    let mut slow: Vec<_> = (0..200).map(|_| Wire::to(&server)).collect();
    for wire in &mut slow {
        wire.send("GET /function/acid/cou");
    }
    assert_eq!(get(&server, "/function/acid/count").text(), "1\n");
    slow[0].send("nt HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(slow[0].reply("GET").text(), "1\n", "slow is not wrong");
}

#[test]
fn a_head_that_does_not_come_in_time_ends_its_connection() {
    let server = Server::start_with(Data::new(), &["--head-timeout", "400ms"]);
    // Of HTTP/2 too: the start of its preface, and all of it with its settings.
    let beginnings: [&[u8]; 5] = [
        b"",
        b"GET /healthz HTTP/1.1\r\nx-ha",
        b"PRI",
        b"PRI * HTTP/2.0\r\n\r\nSM",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    ];
    for beginning in beginnings {
        let mut wire = Wire::to(&server);
        wire.send(beginning);
        assert!(wire.ends(), "{}", String::from_utf8_lossy(beginning));
    }
    // And the silence after a request.
    let mut wire = Wire::get(&server, "/healthz");
    assert_eq!(wire.reply("GET").status, 200);
    assert!(wire.ends());
}

#[test]
fn a_client_that_takes_nothing_of_its_answers_is_not_kept() {
    let server = Server::start_with(Data::new(), &["--head-timeout", "400ms"]);
    deploy(&server, "acid", &["--stream-timeout", "300ms"]);
    // HTTP/2 with a window of nothing (RFC 9113, section 6.5.2), and a request by the static table of HPACK.
    let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0";
    let path = b"/function/acid/count";
    let block = [&[0x82, 0x86, 0x01, 1, b'x', 0x04, path.len() as u8][..], path].concat();
    let head = [&[0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1][..], &block].concat();
    let mut wire = Wire::to(&server);
    wire.send([&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], settings, &head].concat());
    assert!(wire.ends());
    assert_eq!(get(&server, "/function/acid/count").status, 200);

    // HTTP/1.1 with more than the buffers on the way hold: the client's doing, and not the function's.
    let mut wire = Wire::to(&server);
    wire.send("GET /function/acid/source?bytes=100000000 HTTP/1.1\r\nhost: x\r\nx-call-id: unread\r\n\r\n");
    assert_eq!(record(&server, "unread")["outcome"], "client-gone");
}

#[test]
fn a_client_that_reads_slowly_gets_all_of_it() {
    let server = Server::start_with(Data::new(), &["--head-timeout", "2s"]);
    deploy(&server, "acid", &["--stream-timeout", "2s"]);
    let mut wire = Wire::get(&server, "/function/acid/source?bytes=16000000");
    assert_eq!(wire.head("GET").status, 200);
    let mut read = 0;
    while let Some(piece) = wire.piece().unwrap() {
        read += piece.len();
        // A pace, and no waiting for something: 4 MB a second, with which all of it takes twice as long as the bounds,
        // and no step of the kernel's (a third of its buffer) comes near them.
        std::thread::sleep(std::time::Duration::from_micros(piece.len() as u64 / 4));
    }
    assert_eq!(read, 16_000_000);
}

#[test]
fn a_request_says_once_which_host_it_means() {
    let server = acid(&[]);
    for hosts in ["", "host: a\r\nhost: b\r\n", "host: a b\r\n", "host: a@b\r\n"] {
        let mut wire = Wire::to(&server);
        wire.send(format!("GET /function/acid/count HTTP/1.1\r\n{hosts}\r\n"));
        assert_eq!(wire.reply("GET").problem(), (400, "bad-request".to_owned()), "{hosts:?}");
    }
    let mut wire = Wire::to(&server);
    wire.send("GET /function/acid/count HTTP/1.0\r\n\r\n");
    assert_eq!(wire.reply("GET").status, 200, "the older version has no such header");
}

#[test]
fn a_call_that_is_refused_is_heard_out_so_that_the_reason_arrives() {
    let server = acid(&["--private"]);
    let body = vec![b'x'; 2 << 20];
    for (path, status) in [("/function/nobody", 404), ("/function/acid/sink", 401)] {
        // All of it is sent before anything is read.
        let mut wire = Wire::to(&server);
        wire.send(format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len()));
        wire.send(&body);
        assert_eq!(wire.reply("POST").status, status);
    }
}

#[test]
fn headers_of_the_connection_stay_on_it() {
    let server = acid(&[]);
    let headers = [("connection", "close, x-secret"), ("x-secret", "1"), ("x-open", "2")];
    let seen = ask(&server, "GET", "/function/acid/headers", &headers, b"").text();
    assert!(seen.contains("x-open") && !seen.contains("x-secret"), "{seen}");
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let server = acid(&[]);
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("coracle.toml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let ended = server.run(&["deploy", folder.path().to_str().unwrap()]);
    assert!(ended.stderr.contains("it is not a file"), "{}", ended.stderr);
    let huge = folder.path().join("huge.wasm");
    fs::File::create(&huge).unwrap().set_len(20 << 30).unwrap();
    let ended = server.run(&["deploy", huge.to_str().unwrap(), "--name", "huge"]);
    assert!(ended.stderr.contains("request-too-large"), "{}", ended.stderr);
}

/// As many of the ten thousand as the machine lets one program open.
#[test]
fn thousands_of_idle_connections_hold_up_nobody() {
    const WANTED: u64 = 10_000;
    let server = acid(&[]);
    let idle: Vec<_> =
        (0..connections_possible(WANTED)).map(|_| TcpStream::connect(address(&server)).unwrap()).collect();
    until("all of them", || {
        let status = admin(&server, "GET", "/v1/status", b"").json();
        let connections = status["details"]["connections"].as_u64().unwrap();
        (connections >= idle.len() as u64).then_some(())
    });
    for _ in 0..20 {
        assert_eq!(get(&server, "/function/acid/count").text(), "1\n");
    }
    drop(idle);
    until("that they are gone", || {
        let status = admin(&server, "GET", "/v1/status", b"").json();
        (status["details"]["connections"].as_u64().unwrap() < 100).then_some(())
    });
}

#[test]
fn a_full_disk_refuses_a_deploy_and_takes_nothing_away() {
    let data = Data::new();
    let folder = data.path().parent().unwrap().to_owned();
    let root = rustix::process::geteuid().is_root();
    // Somebody who is not root may still be root of a namespace of their own.
    let unshare: &[&str] =
        if root { &["unshare", "--mount"] } else { &["unshare", "--map-root-user", "--mount"] };
    let mount = "mount -t tmpfs -o size=4m,mode=0700 tmpfs \"$0\" && exec \"$@\"";
    let within = [unshare, &["sh", "-c", mount, folder.to_str().unwrap()]].concat();
    let server = Server::start_within(&within, data, &[]);
    let token = token(&server);
    let run = |args: &[&str]| {
        let mut command = coracle();
        command.args(args).env("CORACLE_URL", &server.url).env("CORACLE_TOKEN", &token);
        Ended::of(command.output().unwrap())
    };
    let deploy = |file: &Path, name: &str| run(&["deploy", file.to_str().unwrap(), "--name", name]);
    let hello = deploy(&wasm("hello"), "hello");
    assert_eq!(hello.code, 0, "{}", hello.stderr);

    // The same disk, as the server sees it.
    let spare = format!("/proc/{}/root{}/spare", server.pid(), folder.display());
    let mut file = fs::File::create(&spare).unwrap();
    let full = std::iter::repeat_with(|| file.write_all(&[0; 4096])).find_map(Result::err).unwrap();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);

    let said = deploy(&built("acid"), "acid").stderr;
    assert!(said.starts_with("error[disk-full]:"), "{said}");
    assert_eq!(run(&["call", "hello", "-d", "Ada"]).stdout, "Hello, Ada!\n");
    assert_eq!(get(&server, "/function/acid").status, 404);

    drop(file);
    fs::remove_file(&spare).unwrap();
    let again = deploy(&built("acid"), "acid");
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(get(&server, "/function/acid/count").text(), "1\n");
}

/// An upload of which half has come, and its connection.
fn half_an_upload(server: &Server) -> Wire {
    let mut wire = Wire::to(server);
    let authorization = bearer(&token(server));
    wire.send(format!(
        "POST /v1/artifacts HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\ncontent-length: 200000\r\n\r\n"
    ));
    wire.send([0; 100_000]);
    let artifacts = server.data().join("artifacts");
    until("the beginning of the upload", || (files_in(&artifacts).len() == 1).then_some(()));
    wire
}

fn files_in(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// As many as the test's own process may open, which is often less.
fn connections_possible(wanted: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const BESIDE: u64 = 1_000;
    let maximum = getrlimit(Resource::Nofile).maximum;
    let possible = maximum.map_or(wanted + BESIDE, |maximum| maximum.min(wanted + BESIDE));
    setrlimit(Resource::Nofile, Rlimit { current: Some(possible), maximum }).unwrap();
    possible - BESIDE
}

#[test]
fn a_head_that_is_too_large_or_none_is_refused() {
    let server = acid(&[]);
    let mut wire = Wire::to(&server);
    let huge =
        format!("GET /function/acid/count HTTP/1.1\r\nhost: x\r\nx-huge: {}\r\n\r\n", "x".repeat(200_000));
    // It is refused before all of it was read, and so the answer may be lost on the way.
    if wire.try_send(huge).is_ok()
        && let Ok(reply) = wire.try_reply("GET")
    {
        assert_eq!(reply.problem(), (431, "head-too-large".to_owned()));
    }
    let mut wire = Wire::to(&server);
    let many: String = (0..1000).map(|number| format!("x-{number}: y\r\n")).collect();
    let _ = wire.try_send(format!("GET /function/acid/count HTTP/1.1\r\nhost: x\r\n{many}\r\n"));
    assert_eq!(wire.reply("GET").problem(), (431, "head-too-large".to_owned()));
    // The header `host` is one of them.
    for (headers, status) in [(100, 200), (101, 431)] {
        let mut wire = Wire::to(&server);
        let many: String = (1..headers).map(|number| format!("x-{number}: y\r\n")).collect();
        wire.send(format!("GET /function/acid/count HTTP/1.1\r\nhost: x\r\n{many}\r\n"));
        assert_eq!(wire.reply("GET").status, status, "{headers} headers");
    }
    let mut wire = Wire::to(&server);
    wire.send("this is not HTTP\r\n\r\n");
    assert_eq!(wire.reply("GET").problem(), (400, "bad-request".to_owned()));
    // After a request that could be read, and with its bytes behind it.
    let mut wire = Wire::to(&server);
    wire.send("GET /function/acid/count HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/9.9\r\n\r\n");
    assert_eq!(wire.reply("GET").text(), "1\n");
    assert_eq!(wire.reply("GET").problem(), (400, "bad-request".to_owned()));
    assert_eq!(get(&server, "/function/acid/count").status, 200);
}

#[test]
fn nothing_is_smuggled_behind_a_body_of_two_lengths() {
    let server = acid(&[]);
    let mut wire = Wire::to(&server);
    wire.send("POST /function/acid/sink HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n");
    wire.send("0\r\n\r\nGET /function/acid/count HTTP/1.1\r\nhost: x\r\n\r\n");
    let first = wire.reply("POST");
    // Either refused, or read by the chunks alone; nothing after it is taken for a request.
    assert!(first.status == 400 || first.text() == "0\n", "{first:?}");
    assert!(wire.is_closed());
    let mut wire = Wire::to(&server);
    wire.send(
        "POST /function/acid/sink HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    );
    assert_eq!(wire.reply("POST").problem(), (400, "bad-request".to_owned()));
}
