//! Checks 11 and 14: logs and numbers.

use serde_json::Value;

use crate::face::{Face, refusal};
use crate::guests::{now, until};
use crate::wire::{self, Wire, address, ask};

/// The lines of a log.
fn lines(face: &Face, query: &str) -> Vec<Value> {
    let reply = face.get(&format!("/system/logs?{query}"));
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/x-ndjson")));
    reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn texts(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["text"].as_str().unwrap()).collect()
}

fn print(face: &Face, text: &str) {
    assert_eq!(ask(&face.server, "POST", &format!("/function/f/log/{text}"), &[], b"").status, 200);
}

#[test]
fn check_11_a_log_ends_has_its_fields_and_is_filtered() {
    let face = Face::start();
    face.deploy_mirror("f", Value::Null);
    for text in ["one", "two", "three"] {
        print(&face, text);
    }
    let all = until("three lines", || {
        let all = lines(&face, "name=f&follow=false");
        texts(&all).contains(&"three").then_some(all)
    });
    assert_eq!(texts(&all), ["the mirror is up", "one", "two", "three"]);
    let line = &all[1];
    assert_eq!((&line["name"], &line["namespace"]), (&"f".into(), &"openfaas-fn".into()));
    let time: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
    assert!(time.as_second() > 1_700_000_000);
    let instance = line["instance"].as_str().unwrap();
    assert_eq!(texts(&lines(&face, "name=f&namespace=openfaas-fn&tail=2&follow=false")), ["two", "three"]);
    let since = all[2]["timestamp"].as_str().unwrap();
    assert_eq!(texts(&lines(&face, &format!("name=f&since={since}"))), ["two", "three"]);
    assert_eq!(lines(&face, &format!("name=f&instance={instance}")).len(), 4);
    assert_eq!(lines(&face, "name=f&instance=987654").len(), 0);
}

#[test]
fn check_11_a_line_is_followed_within_a_second_until_the_client_leaves() {
    let face = Face::start();
    face.deploy_mirror("f", Value::Null);
    print(&face, "before");
    let connections = || {
        let metrics = wire::admin(&face.server, "GET", "/metrics", b"").text();
        let line = metrics.lines().find(|line| line.starts_with("coracle_connections ")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()
    };
    let alone = until("no other connection", || (connections() == 1).then_some(1));
    let mut wire = Wire::to(&face.server);
    let head = format!(
        "GET /system/logs?name=f&follow=1&tail=1 HTTP/1.1\r\nhost: {}\r\nauthorization: {}\r\n\r\n",
        address(&face.server),
        wire::bearer(&wire::token(&face.server))
    );
    wire.send(head);
    assert_eq!(wire.head("GET").status, 200);
    let first = String::from_utf8(wire.piece().unwrap().unwrap()).unwrap();
    assert!(first.contains("\"before\""), "{first}");
    let begun = now();
    print(&face, "live");
    let live = String::from_utf8(wire.piece().unwrap().unwrap()).unwrap();
    assert!(live.contains("\"live\""), "{live}");
    assert!(begun.elapsed().as_secs() < 1);
    assert!(connections() > alone);
    drop(wire);
    until("the end of the connection", || (connections() == alone).then_some(()));
}

#[test]
fn check_14_numbers_are_under_the_names_that_dashboards_know() {
    let face = Face::start_with(&["--metrics-listen", "127.0.0.1:0"]);
    face.deploy_mirror("f", Value::Null);
    for _ in 0..7 {
        assert_eq!(face.invoke("f", b"").status, 200);
    }
    for _ in 0..2 {
        assert_eq!(ask(&face.server, "GET", "/function/f/status/503", &[], b"").status, 503);
    }
    // A call is counted when its body has ended, which its client may see first.
    let counted =
        || face.list("").first().map_or(0.0, |function| function["invocationCount"].as_f64().unwrap_or(0.0));
    until("nine calls", || (counted() >= 9.0).then_some(()));
    assert_eq!(counted(), 9.0);
    assert!(face.status("f").get("invocationCount").is_none(), "only the list has it");

    let url = face.server.ready["metrics_url"].as_str().unwrap();
    let listener = url.strip_prefix("http://").unwrap().strip_suffix("/metrics").unwrap();
    let beside = wire::try_ask(listener, "GET", "/metrics", &[], b"").unwrap().text();
    let main = wire::admin(&face.server, "GET", "/metrics", b"").text();
    for text in [beside, main] {
        for line in [
            r#"gateway_function_invocation_total{function_name="f.openfaas-fn",code="200"} 7"#,
            r#"gateway_function_invocation_total{function_name="f.openfaas-fn",code="503"} 2"#,
            r#"gateway_function_invocation_started{function_name="f.openfaas-fn"} 9"#,
            r#"gateway_functions_seconds_bucket{function_name="f.openfaas-fn",code="200",le="+Inf"} 7"#,
            r#"gateway_functions_seconds_count{function_name="f.openfaas-fn",code="503"} 2"#,
            r#"gateway_service_count{function_name="f.openfaas-fn"} 1"#,
        ] {
            assert!(text.lines().any(|own| own == line), "{line}\n{text}");
        }
        assert!(text.contains("coracle_calls_total{"), "ours are there too");
    }
    assert_eq!(wire::try_ask(listener, "GET", "/system/functions", &[], b"").unwrap().status, 404);
}

#[test]
fn what_a_function_uses_is_measured() {
    let face = Face::start();
    face.deploy_mirror("f", Value::Null);
    let usage = |name: &str| face.get(&format!("/system/function/{name}?usage=1")).json()["usage"].clone();
    assert_eq!(face.invoke("f", b"").status, 200);
    let to = address(&face.server).to_owned();
    let spinning =
        std::thread::spawn(move || wire::try_ask(&to, "POST", "/function/f/spin/20000", &[], b"").is_ok());
    until("processor time", || (usage("f")["cpu"].as_f64().unwrap() >= 100.0).then_some(()));
    let bytes = usage("f")["totalMemoryBytes"].as_f64().unwrap();
    assert!((65_536.0..536_870_912.0).contains(&bytes), "{bytes}");
    let activity = wire::admin(&face.server, "GET", "/v1/stats?sort=memory", b"").json();
    assert!(activity["items"][0]["memory_bytes"].as_u64().unwrap() >= 65_536, "{activity}");
    assert!(face.status("f").get("usage").is_none(), "only where it is asked for");
    // What computes ends with its server.
    drop(face);
    assert!(!spinning.join().unwrap());
}

#[test]
fn what_webassembly_uses_is_its_memory() {
    let face = Face::bare();
    face.server.ok(&[
        "deploy",
        crate::harness::wasm("hello").to_str().unwrap(),
        "--name",
        "hello",
        "--set",
        "reuse=5",
    ]);
    assert_eq!(face.invoke("hello", b"Ada").status, 200);
    until("an instance that waits", || {
        let usage = face.get("/system/function/hello?usage=1").json()["usage"].clone();
        assert!(usage.get("cpu").is_none(), "nobody measures it: {usage}");
        (usage["totalMemoryBytes"].as_f64().unwrap() >= 65_536.0).then_some(())
    });
}

#[test]
fn check_14_anybody_sees_that_the_server_is_well_and_where_its_first_page_is() {
    let face = Face::bare();
    assert_eq!(wire::get(&face.server, "/healthz").status, 200);
    let first = wire::get(&face.server, "/");
    assert_eq!((first.status, first.header("location")), (307, Some("/ui/")));
    let stranger = wire::get(&face.server, "/ui/");
    assert_eq!(refusal(&stranger), (401, "unauthenticated".into()));
    let challenge = stranger.header("www-authenticate").unwrap();
    assert!(challenge.starts_with(r#"Basic realm="coracle-ui""#), "a realm of its own: {challenge}");
    face.server.deploy("hello");
    let page = face.get("/ui/");
    assert!(page.text().contains("/function/hello") && page.text().contains("curl"), "{}", page.text());
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
}
