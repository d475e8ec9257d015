//! The function store with the real binary: what it offers is deployed, called, and does what it says.
//! System information and images run in sandboxes, so those need root.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

mod archive;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;
#[expect(dead_code, reason = "these tests use a part of the harness")]
mod wire;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;

use harness::Server;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use wire::{Reply, ask, get};

/// A function as the server has it.
fn shown(server: &Server, function: &str) -> Value {
    wire::admin(server, "GET", &format!("/v1/namespaces/default/functions/{function}"), b"").json()
}

/// A server with one function of the built-in store.
fn deployed(name: &str) -> Server {
    let server = Server::start();
    server.ok(&["store", "deploy", name]);
    server
}

fn post(server: &Server, path: &str, body: &[u8]) -> Reply {
    ask(server, "POST", &format!("/function/{path}"), &[], body)
}

#[test]
fn what_is_told_to_try_is_the_example_of_the_store() {
    let server = Server::start();
    let ended = server.run(&["store", "deploy", "csv-to-json", "--name", "rows"]);
    let tried: Vec<_> = ended.stderr.lines().filter_map(|line| line.trim().strip_prefix("try: ")).collect();
    let [line] = tried[..] else { panic!("{}", ended.stderr) };
    let (rows, call) = line.split_once(" | ").unwrap();
    assert!(call.starts_with("curl http://") && call.ends_with("/function/rows --data-binary @-"), "{line}");
    let rows = std::process::Command::new("sh").args(["-c", rows]).output().unwrap().stdout;
    let reply = post(&server, "rows", &rows);
    assert_eq!((reply.status, reply.text().contains("Ada")), (200, true), "{}", reply.text());
}

#[test]
fn a_qr_code_says_what_it_was_made_of() {
    let server = deployed("qrcode");
    let text = "https://example.com/menu";
    let svg = post(&server, "qrcode", text.as_bytes());
    assert_eq!((svg.status, svg.header("content-type")), (200, Some("image/svg+xml")));
    assert_eq!(scanned(&modules_of_svg(&svg.text())), ("medium", text.to_owned()));
    let blocks = post(&server, "qrcode?format=text&level=L", text.as_bytes()).text();
    assert_eq!(scanned(&modules_of_text(&blocks)), ("medium", text.to_owned()), "it costs no more than low");
    let blocks = post(&server, "qrcode?format=text&level=h", b"fourteen bytes").text();
    assert_eq!(scanned(&modules_of_text(&blocks)), ("high", "fourteen bytes".to_owned()));

    assert_eq!(get(&server, "/function/qrcode?text=1&format=gif").status, 400);
    assert_eq!(
        get(&server, "/function/qrcode").text(),
        "send a text as the body of a POST, or as `?text=`\n"
    );
    assert_eq!(post(&server, "qrcode", &[b'x'; 3_000]).status, 400, "more than fits into one");
}

/// The dark modules of a QR code of version 2, without its margin: row by row.
type Modules = Vec<Vec<bool>>;

/// Modules along a side of version 2, and those of its margin.
const SIDE: usize = 25;
const MARGIN: usize = 4;

fn modules_of_svg(svg: &str) -> Modules {
    assert!(svg.contains("viewBox=\"0 0 33 33\""), "{svg}");
    let mut modules = vec![vec![false; SIDE]; SIDE];
    // The first is the white ground.
    for module in svg.split('M').skip(2) {
        let (x, rest) = module.split_once(' ').unwrap();
        let (x, y): (usize, usize) = (x.parse().unwrap(), rest.split('h').next().unwrap().parse().unwrap());
        modules[y - MARGIN][x - MARGIN] = true;
    }
    modules
}

/// What is light is painted there, two rows to a line.
fn modules_of_text(text: &str) -> Modules {
    let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
    let is_dark = |x: usize, y: usize| {
        let letter = lines[(y + MARGIN) / 2][x + MARGIN];
        let light = if (y + MARGIN).is_multiple_of(2) { ['█', '▀'] } else { ['█', '▄'] };
        !light.contains(&letter)
    };
    (0..SIDE).map(|y| (0..SIDE).map(|x| is_dark(x, y)).collect()).collect()
}

/// How much damage a code survives, and its text: read as ISO/IEC 18004 says, with nothing of whoever drew it.
fn scanned(modules: &Modules) -> (&'static str, String) {
    // Beside the upper left corner stand the level and the mask, themselves masked.
    let format = (0..5).fold(0, |format, x| format << 1 | u8::from(modules[8][x])) ^ 0b10101;
    let level = ["medium", "low", "high", "quartile"][usize::from(format >> 3)];
    let remainder = |x: usize, y: usize| match format & 7 {
        0 => (x + y) % 2,
        1 => y % 2,
        2 => x % 3,
        3 => (x + y) % 3,
        4 => (y / 2 + x / 3) % 2,
        5 => x * y % 2 + x * y % 3,
        6 => (x * y % 2 + x * y % 3) % 2,
        _ => ((x + y) % 2 + x * y % 3) % 2,
    };
    // What says where the code is: three corners, the lines between them, and a small square.
    let is_pattern = |x: usize, y: usize| {
        let corner = x < 9 && !(9..SIDE - 8).contains(&y) || x >= SIDE - 8 && y < 9;
        corner || x == 6 || y == 6 || (16..21).contains(&x) && (16..21).contains(&y)
    };
    // Two columns at a time, from the right, upwards and downwards in turn.
    let columns = (0..SIDE).rev().filter(|x| *x != 6).collect::<Vec<_>>();
    let mut bits = Vec::new();
    for (turn, pair) in columns.chunks(2).enumerate() {
        for step in 0..SIDE {
            let y = if turn % 2 == 0 { SIDE - 1 - step } else { step };
            let here = pair.iter().filter(|x| !is_pattern(**x, y));
            bits.extend(here.map(|x| modules[y][*x] != (remainder(*x, y) == 0)));
        }
    }
    let number = |from: usize, length: usize| {
        bits[from..from + length].iter().fold(0_u8, |number, bit| number << 1 | u8::from(*bit))
    };
    assert_eq!(number(0, 4), 0b0100, "bytes");
    let length = usize::from(number(4, 8));
    let bytes = (0..length).map(|at| number(12 + 8 * at, 8)).collect();
    (level, String::from_utf8(bytes).unwrap())
}

#[test]
fn an_image_is_resized() {
    let server = deployed("resize");
    server.ok(&["store", "deploy", "qrcode"]);
    let png = post(&server, "qrcode?format=png", b"a picture").body;
    assert!(png.starts_with(b"\x89PNG") && size_of(&png) == (232, 232), "{:?}", size_of(&png));
    let small = post(&server, "resize?width=58", &png);
    assert_eq!((small.status, small.header("content-type")), (200, Some("image/png")));
    assert_eq!(size_of(&small.body), (58, 58));
    assert_eq!(post(&server, "resize?width=58", b"no picture").status, 415);
}

/// Width and height of a PNG, as its first chunk says.
fn size_of(png: &[u8]) -> (u32, u32) {
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[test]
fn markdown_becomes_html() {
    let server = deployed("markdown");
    let html = post(&server, "markdown", b"# Tea\n\n- *green*\n<script>\n").text();
    assert!(html.starts_with("<h1>Tea</h1>\n<ul>\n<li><em>green</em>"), "{html}");
    assert!(!html.contains("<script>"), "{html}");
}

#[test]
fn csv_becomes_json() {
    let server = deployed("csv-to-json");
    let csv = "\u{feff}name,born\nAda,1815\n\"Hopper, Grace\",1906\nÉmilie\n";
    let json = post(&server, "csv-to-json", csv.as_bytes());
    assert_eq!((json.status, json.header("content-type")), (200, Some("application/json")));
    let expected = json!([
        { "name": "Ada", "born": "1815" },
        { "name": "Hopper, Grace", "born": "1906" },
        { "name": "Émilie", "born": null },
    ]);
    assert_eq!(json.json(), expected);
    assert!(
        json.text().find("name").unwrap() < json.text().find("born").unwrap(),
        "in the order of the columns"
    );
    assert_eq!(
        post(&server, "csv-to-json?delimiter=%3B", b"a;b\n1,5;2\n").json(),
        json!([{ "a": "1,5", "b": "2" }])
    );
    let table = [
        ("", "it is empty"),
        ("name\nAda,1815\n", "line 2 has more fields than the first line"),
        ("a,a\n1,2\n", "two columns are called `a`"),
    ];
    for (csv, why) in table {
        let refused = post(&server, "csv-to-json", csv.as_bytes());
        assert_eq!((refused.status, refused.text()), (400, format!("the body is not CSV: {why}\n")));
    }
}

#[test]
fn a_banner_is_a_text_in_large_letters() {
    let server = deployed("banner");
    let painted = post(&server, "banner?paint=%23", b"I").text();
    let expected = " ####\n  ##\n  ##\n  ##\n  ##\n  ##\n ####\n\n";
    assert_eq!(painted, expected);
    let blocks = post(&server, "banner", b"I").text();
    assert_eq!(blocks, " ▀██▀\n  ██\n  ██\n ▀▀▀▀\n");
    assert_eq!(post(&server, "banner", "Ahoy\nÉΩ".as_bytes()).text().lines().count(), 8);
    assert_eq!(post(&server, "banner", &[b'x'; 300]).status, 400);
}

#[test]
fn the_system_tells_about_itself() {
    let server = deployed("sysinfo");
    let told = get(&server, "/function/sysinfo/some/where");
    assert_eq!((told.status, told.header("content-type")), (200, Some("text/plain; charset=utf-8")));
    let text = told.text();
    let value = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{key}:")));
        line.unwrap_or_else(|| panic!("{key} is told: {text}")).split_once(':').unwrap().1.trim().to_owned()
    };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(value("kernel").starts_with(&format!("Linux {}", release.trim())), "{text}");
    let memory = fs::read_to_string("/proc/meminfo").unwrap();
    let total = memory.lines().next().unwrap().split_whitespace().nth(1).unwrap();
    assert!(value("memory").starts_with(&format!("{total} kB, of which ")), "{text}");
    assert!(value("cores").parse::<u32>().unwrap() >= 1, "{text}");
    assert_ne!(value("user"), "0", "{text}");
    assert_eq!(value("called by"), "GET /some/where");
}

#[test]
fn the_store_is_listed_and_its_functions_shown() {
    let server = Server::start();
    let listed = server.json(&["store", "list"]);
    let names: Vec<_> =
        listed.as_array().unwrap().iter().map(|offer| offer["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["resize", "markdown", "csv-to-json", "qrcode", "banner", "sysinfo"]);
    assert!(server.ok(&["store", "list"]).contains("qrcode       QR code"));
    assert!(server.ok(&["store", "inspect", "qrcode"]).contains("title        QR code\n"));
    let unknown = server.run(&["store", "deploy", "qrcod"]);
    assert!(unknown.stderr.contains("hint: did you mean `qrcode`?"), "{}", unknown.stderr);
}

#[test]
fn a_function_takes_another_name_and_flags() {
    let server = Server::start();
    server.ok(&["store", "deploy", "banner", "--name", "big", "--route", "/big/*", "--set", "timeout='5s'"]);
    assert_eq!(ask(&server, "POST", "/big/", &[], b"x").status, 200);
    assert_eq!(shown(&server, "big")["settings"]["timeout"], "5s");
}

#[test]
fn a_store_of_ours_in_a_folder_or_at_an_address_offers_what_it_names() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let hello = fs::read(harness::wasm("hello")).unwrap();
    let digest: String = Sha256::digest(&hello).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::create_dir(folder.path().join("code")).unwrap();
    fs::write(folder.path().join("code/hello.wasm"), &hello).unwrap();
    let wrong = "0".repeat(64);
    let store = format!(
        "[function.greet]\ntitle = 'Greeting'\ncode = 'code/hello.wasm'\nsha256 = '{digest}'\nmemory = '64MiB'\n\
         [function.other]\ncode = 'code/hello.wasm'\nsha256 = '{wrong}'\n\
         [function.gone]\ncode = 'code/gone.wasm'\n"
    );
    let file = folder.path().join("store.toml");
    fs::write(&file, store).unwrap();
    let address = format!("{}/store.toml", serve_files(folder.path()));
    for (from, name) in [(file.to_str().unwrap(), "near"), (address.as_str(), "far")] {
        server.ok(&["store", "deploy", "greet", "--from", from, "--name", name]);
        assert_eq!(server.ok(&["call", name, "-d", "Ada"]), "Hello, Ada!\n");
        assert_eq!(shown(&server, name)["settings"]["memory"], "64MiB");
        let changed = server.run(&["store", "deploy", "other", "--from", from]);
        assert!(
            changed.stderr.contains(&format!("its SHA-256 is {digest}, and the store says {wrong}")),
            "{}",
            changed.stderr
        );
        assert_eq!(server.run(&["store", "deploy", "gone", "--from", from]).code, 1);
    }
    let missing =
        server.run(&["store", "list", "--from", &format!("{}/nothing.toml", serve_files(folder.path()))]);
    assert!(missing.stderr.contains("the answer is 404 Not Found"), "{}", missing.stderr);
}

#[test]
fn a_store_of_openfaas_is_understood() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let archive = archive::serve(folder.path());
    server.ok(&["image", "load", archive.to_str().unwrap(), "--tag", "shop/serve:1"]);
    let store = json!({
        "version": "0.2.1",
        "functions": [{
            "title": "Web server", "name": "serve", "description": "Says hello", "repo_url": "https://example.com",
            "images": { "x86_64": "shop/serve:1", "arm64": "shop/serve:1" },
            "environment": { "LEVEL": "info" }, "labels": { "team": "media" }, "annotations": {},
            "readOnlyRootFilesystem": true
        }]
    });
    fs::write(folder.path().join("functions.json"), store.to_string()).unwrap();
    let address = format!("{}/functions.json", serve_files(folder.path()));
    let listed = server.json(&["store", "list", "--from", &address]);
    assert_eq!((&listed[0]["name"], &listed[0]["source"]), (&json!("serve"), &json!("https://example.com")));
    server.ok(&["store", "deploy", "serve", "--from", &address, "--env", "LEVEL=debug"]);
    assert_eq!(get(&server, "/function/serve/env/LEVEL").text(), "debug");
    let settings = &shown(&server, "serve")["settings"];
    assert_eq!((&settings["read_only"], &settings["labels"]), (&json!(true), &json!({ "team": "media" })));
    let other = server.run(&["store", "deploy", "serve", "--from", &address, "--platform", "armhf"]);
    assert!(other.stderr.contains("hint: it has images for: arm64, x86_64"), "{}", other.stderr);
}

#[test]
fn what_is_too_long_or_comes_from_nobody_is_not_taken() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    fs::write(folder.path().join("large.toml"), vec![b'#'; 9 << 20]).unwrap();
    for from in [
        format!("{}/large.toml", serve_files(folder.path())),
        folder.path().join("large.toml").display().to_string(),
    ] {
        let refused = server.run(&["store", "list", "--from", &from]);
        assert!(refused.code == 1 && refused.stderr.contains(" than 8"), "{}", refused.stderr);
    }
    let refused = server.run(&["store", "list", "--from", "http://example.com/store.toml"]);
    assert!(refused.stderr.contains("nobody vouches for what comes"), "{}", refused.stderr);
    for from in ["http://ada:PASSWORT@example.com/store.toml", "http://ada:PASSWORT@127.0.0.1:1/store.toml"] {
        let refused = server.run(&["store", "list", "--from", from]);
        assert!(refused.code == 1 && !refused.stderr.contains("PASSWORT"), "{}", refused.stderr);
    }
}

#[test]
fn what_a_strangers_offer_is_let_at_is_typed_by_whoever_deploys_it() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    assert_eq!(server.run_with(&["secret", "set", "api-key"], b"hush").code, 0);
    fs::copy(harness::wasm("hello"), folder.path().join("hello.wasm")).unwrap();
    let ours = "[function.greet]\ncode = 'hello.wasm'\nsecrets = 'api-key'\noutbound = 'https://evil.example.com'\n\
         route = '/login'\nenv = { LEVEL = 'info' }\n\
         [function.site]\nimage = 'shop/site:1'\nnetwork = 'host'\nsecrets_in_env = true\n";
    let theirs = json!({ "version": "0.2.0", "functions": [{
        "name": "page", "images": { "x86_64": "shop/page:1", "arm64": "shop/page:1" },
        "annotations": { "coracle.outbound": "https://evil.example.com" }
    }] });
    fs::write(folder.path().join("store.toml"), ours).unwrap();
    fs::write(folder.path().join("functions.json"), theirs.to_string()).unwrap();
    let (ours, theirs) = (folder.path().join("store.toml"), folder.path().join("functions.json"));
    let (ours, theirs) = (ours.to_str().unwrap(), theirs.to_str().unwrap());

    let secret_only = &["store", "deploy", "greet", "--from", ours, "--secret", "api-key"][..];
    let table: [(&[&str], &str, &str); 4] = [
        (
            &["store", "deploy", "greet", "--from", ours],
            "asks for the secret `api-key`, the hosts `https://evil.example.com`, the path `/login`",
            "--secret api-key --outbound https://evil.example.com --route /login",
        ),
        (
            secret_only,
            "asks for the hosts `https://evil.example.com`, the path `/login`",
            "--outbound https://evil.example.com --route /login",
        ),
        (
            &["store", "deploy", "site", "--from", ours],
            "asks for secrets in its environment, the network of the machine",
            "--set secrets_in_env=true --set network=host",
        ),
        (
            &["store", "deploy", "page", "--from", theirs],
            "asks for the hosts `https://evil.example.com`",
            "--outbound https://evil.example.com",
        ),
    ];
    for (typed, asks, flags) in table {
        let refused = server.run(typed);
        assert_eq!(refused.code, 1, "{typed:?}");
        assert!(refused.stderr.contains(asks) && refused.stderr.contains(flags), "{}", refused.stderr);
        assert!(refused.stderr.contains("--grant"), "{}", refused.stderr);
    }
    assert_eq!(server.json(&["list"]), json!([]));

    let shown = server.ok(&["store", "inspect", "greet", "--from", ours]);
    for line in [
        "secrets      api-key",
        "outbound     https://evil.example.com",
        "route        /login",
        "env          LEVEL",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let shown = server.json(&["store", "inspect", "page", "--from", theirs]);
    assert_eq!(shown["asks"]["outbound"], json!(["https://evil.example.com"]));

    let (secret, hosts) = (["--secret", "api-key"], ["--outbound", "https://evil.example.com"]);
    let one_by_one =
        [&["store", "deploy", "greet", "--from", ours][..], &secret, &hosts, &["--route", "/login"]];
    server.ok(&one_by_one.concat());
    server.ok(&["store", "deploy", "greet", "--from", ours, "--name", "all", "--grant", "--set", "route=[]"]);
    assert_eq!(self::shown(&server, "all")["settings"]["secrets"], json!(["api-key"]));
}

#[test]
fn a_folder_is_not_taken_for_what_a_digest_vouches_for() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    fs::create_dir(folder.path().join("site")).unwrap();
    let store = folder.path().join("store.toml");
    fs::write(&store, format!("[function.site]\ncode = 'site'\nsha256 = '{}'\n", "0".repeat(64))).unwrap();
    let refused = server.run(&["store", "deploy", "site", "--from", store.to_str().unwrap()]);
    assert!(refused.stderr.contains("it is a folder, and `sha256` is of a file"), "{}", refused.stderr);
}

/// Serves the files of a folder on this machine, for as long as the test runs.
fn serve_files(folder: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, folder) = (listener.local_addr().unwrap(), folder.to_owned());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut head = BufReader::new(client.try_clone().unwrap()).lines().map_while(Result::ok);
            let path = head.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
            head.find(String::is_empty);
            let (status, body) = match fs::read(folder.join(path.trim_start_matches('/'))) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let length = body.len();
            // Whoever has seen enough of it goes away.
            let _ =
                write!(client, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            let _ = client.write_all(&body);
        }
    });
    format!("http://{address}")
}
