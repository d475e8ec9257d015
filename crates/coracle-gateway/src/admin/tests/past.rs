//! What is known of the past: calls, logs, backups and the status.
//! Followed and read back, by whom may see it.

use super::*;

/// A call that ended so.
fn ended(function: &str, id: &str, end: End) -> CallRecord {
    CallRecord {
        id: CallId::parse(id).unwrap(),
        function: FunctionRef::parse(function).unwrap(),
        revision: 3,
        method: http::Method::GET,
        path: "/thumb".into(),
        status: 200,
        started: "2026-01-31T12:00:00Z".parse().unwrap(),
        waited_us: 1,
        started_us: 20,
        run_us: 300,
        total_us: 321,
        cold: true,
        bytes_in: 4,
        bytes_out: 5,
        memory_peak_bytes: 65_536,
        end,
    }
}

#[tokio::test]
async fn the_last_calls_are_shown_with_how_they_ended() {
    let server = Server::open().await;
    server.admin.observe.calls.record(ended("hello.shop", "good", End::Ok));
    let failed = End::Failed { code: "guest-trapped".into(), message: "`hello` crashed".into() };
    server.admin.observe.calls.record(ended("hello.shop", "bad", failed));
    server
        .check(
            "GET /v1/calls/good",
            "",
            expect![[r#"
                200
                {
                  "bytes_in": 4,
                  "bytes_out": 5,
                  "cold": true,
                  "function": "hello.shop",
                  "id": "good",
                  "memory_bytes": 65536,
                  "method": "GET",
                  "outcome": "ok",
                  "path": "/thumb",
                  "revision": 3,
                  "run_us": 300,
                  "start_us": 20,
                  "started": "2026-01-31T12:00:00Z",
                  "status": 200,
                  "total_us": 321,
                  "waited_us": 1
                }"#]],
        )
        .await;
    server
        .check(
            "GET /v1/calls?failed=true&limit=1",
            "",
            expect![[r#"
        200
        {
          "items": [
            {
              "bytes_in": 4,
              "bytes_out": 5,
              "cold": true,
              "function": "hello.shop",
              "hint": "coracle explain guest-trapped",
              "id": "bad",
              "memory_bytes": 65536,
              "message": "`hello` crashed",
              "method": "GET",
              "outcome": "guest-trapped",
              "path": "/thumb",
              "revision": 3,
              "run_us": 300,
              "start_us": 20,
              "started": "2026-01-31T12:00:00Z",
              "status": 200,
              "total_us": 321,
              "waited_us": 1
            }
          ]
        }"#]],
        )
        .await;
    let elsewhere = server.mint(Scope::Deploy, Reach::Namespace(NamespaceName::default())).await;
    let (status, body) = server.ask(&elsewhere, "GET /v1/calls/good", "").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
    assert_eq!(server.ask(&elsewhere, "GET /v1/calls", "").await.1, r#"{"items":[]}"#);
}

#[tokio::test]
async fn logs_are_read_from_their_end_and_from_a_time() {
    let server = Server::open().await;
    let logs = &server.admin.observe.logs;
    for (at, text) in
        [("2026-01-31T11:50:00Z", "one"), ("2026-01-31T11:58:00Z", "two"), ("2026-01-31T11:59:00Z", "three")]
    {
        logs.write(line(at, text));
    }
    let texts = async |query: &str| {
        let (status, body) = server.ask(&server.token, &format!("GET /v1/logs{query}"), "").await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let lines = body.lines().map(|line| serde_json::from_str::<coracle_api::LogLine>(line).unwrap().text);
        lines.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(texts("").await, "one two three");
    assert_eq!(texts("?tail=1").await, "three");
    assert_eq!(texts("?since=5m").await, "two three");
    assert_eq!(texts("?since=5m&tail=1").await, "three");
    assert_eq!(texts("?since=2026-01-31T11:59:00Z").await, "three");
    assert_eq!(texts("?function=hello&call=order-17&stream=stdout").await, "one two three");
    assert_eq!(texts("?stream=stderr").await, "");
    assert_eq!(texts("?function=other").await, "");
    server
        .check(
            "GET /v1/logs?tail=1",
            "",
            expect![[r#"
        200
        {
          "call": "order-17",
          "function": "hello.default",
          "instance": 2,
          "revision": 1,
          "stream": "stdout",
          "text": "three",
          "time": "2026-01-31T11:59:00Z"
        }"#]],
        )
        .await;
    server.check("GET /v1/logs?since=yesterday", "", expect![[r#"
        400
        {
          "code": "bad-request",
          "docs": "coracle explain bad-request",
          "message": "the query is not what was expected: `yesterday` is neither a time as `2026-01-31T12:00:00Z` nor a span as `5m`"
        }"#]]).await;
}

#[tokio::test]
async fn a_reader_who_follows_sees_each_line_once() {
    let server = Server::open().await;
    let logs = server.admin.observe.logs.clone();
    for (query, minute) in [("?follow=true&tail=5", 50), ("?follow=true&since=1h", 52)] {
        logs.write(line(&format!("2026-01-31T11:{minute}:00Z"), "before"));
        let response =
            server.send(request(&server.token, &format!("GET /v1/logs{query}"), Body::empty())).await;
        let mut body = response.into_body();
        let mut next = async || {
            let frame = body.frame().await.unwrap().unwrap();
            String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
        };
        let before = next().await;
        assert!(before.contains("before"), "{before}");
        logs.write(line(&format!("2026-01-31T11:{}:00Z", minute + 1), "after"));
        let after = next().await;
        assert_eq!((after.lines().count(), after.contains(r#""text":"after""#)), (1, true), "{after}");
    }
}

#[tokio::test]
async fn a_backup_is_a_file_and_leaves_none_behind() {
    let server = Server::open().await;
    let response = server.send(request(&server.token, "POST /v1/backup", Body::empty())).await;
    let length = response.headers()["content-length"].to_str().unwrap().to_owned();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(length, body.len().to_string());
    let file = server.dir.path().join("backup");
    std::fs::write(&file, &body).unwrap();
    DataDir::restore(&file, &server.dir.path().join("restored")).unwrap();
    let left = std::fs::read_dir(server.dir.path().join("data")).unwrap();
    let left: Vec<_> = left.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.contains("backup")), "{left:?}");
}

#[tokio::test]
async fn the_status_shows_its_inside_to_an_admin_only() {
    let server = Server::open().await;
    server.clock.advance(Duration::from_secs(90));
    let status = server.json("GET /v1/status", "").await;
    assert_eq!((&status["uptime_s"], &status["namespaces"]), (&90.into(), &1.into()));
    assert_eq!(status["details"]["instances_max"], 1);
    let token = server.mint(Scope::Deploy, Reach::All).await;
    let (_, body) = server.ask(&token, "GET /v1/status", "").await;
    assert!(!body.contains("details"), "{body}");
}

#[tokio::test]
async fn without_a_function_the_lines_of_all_that_the_token_reaches_come() {
    let server = Server::open().await;
    server.admin.catalog.create_namespace(&NamespaceName::parse("shop").unwrap()).await.unwrap();
    for (function, text) in [("hello", "elsewhere"), ("hello.shop", "mine"), ("other.shop", "beside")] {
        let function = FunctionRef::parse(function).unwrap();
        server.admin.observe.logs.write(Line { function, ..line("2026-01-31T11:59:00Z", text) });
    }
    let texts = async |reach, query: &str| {
        let token = server.mint(Scope::Deploy, reach).await;
        let (status, body) = server.ask(&token, &format!("GET /v1/logs{query}"), "").await;
        let text = |line: &str| serde_json::from_str::<coracle_api::LogLine>(line).unwrap().text;
        if status.is_success() { body.lines().map(text).collect() } else { vec![status.to_string()] }
    };
    assert_eq!(texts(Reach::All, "").await, ["elsewhere"]);
    assert_eq!(texts(Reach::All, "?namespace=shop").await, ["mine", "beside"]);
    assert_eq!(texts(in_shop(), "").await, ["mine", "beside"]);
    assert_eq!(texts(only_hello(), "").await, ["mine"]);
    assert_eq!(texts(only_hello(), "?namespace=shop").await, ["403 Forbidden"]);
    assert_eq!(texts(only_hello(), "?function=other").await, ["403 Forbidden"]);
}

#[tokio::test]
async fn calls_are_followed_as_they_end() {
    let server = Server::open().await;
    server.admin.catalog.create_namespace(&NamespaceName::parse("shop").unwrap()).await.unwrap();
    let calls = &server.admin.observe.calls;
    let failed = || End::Failed { code: "guest-trapped".into(), message: "`hello` crashed".into() };
    calls.record(ended("hello.shop", "first", End::Ok));
    calls.record(ended("hello.shop", "second", End::Ok));
    let token = server.mint(Scope::Deploy, in_shop()).await;
    let mut bodies = Vec::new();
    for query in ["", "&limit=1", "&limit=0&failed=true"] {
        let line = format!("GET /v1/calls?follow=true{query}");
        bodies.push(server.send(request(&token, &line, Body::empty())).await.into_body());
    }
    calls.record(ended("hello", "elsewhere", End::Ok));
    calls.record(ended("hello.shop", "third", End::Ok));
    calls.record(ended("hello.shop", "bad", failed()));
    let expected: [&[&str]; 3] = [&["third", "bad"], &["second", "third", "bad"], &["bad"]];
    for (mut body, expected) in bodies.into_iter().zip(expected) {
        for id in expected {
            let line = body.frame().await.unwrap().unwrap().into_data().unwrap();
            match serde_json::from_slice(&line).unwrap() {
                coracle_api::FollowedCall::Call(call) => assert_eq!(call.id, *id),
                missed => panic!("{missed:?}"),
            }
        }
    }
    for line in ["GET /v1/calls?follow=true&namespace=default", "GET /v1/calls?follow=true&function=hello"] {
        assert_eq!(server.ask(&token, line, "").await.0, StatusCode::FORBIDDEN, "{line}");
    }
    assert_eq!(server.ask(&token, "GET /v1/calls?limit=0", "").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_busiest_functions_of_late_come_first() {
    let server = Server::open().await;
    server.admin.catalog.create_namespace(&NamespaceName::parse("shop").unwrap()).await.unwrap();
    for function in ["quiet", "busy", "hello.shop", "slow.shop"] {
        server.deploy(function, Settings::default()).await;
    }
    let count = |function: &str, class, ms, times| {
        let metrics = server.admin.observe.metrics.function(&FunctionRef::parse(function).unwrap());
        let took = std::time::Duration::from_millis(ms);
        (0..times).for_each(|_| metrics.ended(class, took, server.admin.observe.clock.now()));
    };
    server.clock.advance(std::time::Duration::from_secs(60));
    count("hello.shop", Class::Ok, 3, 1_000);
    server.clock.advance(std::time::Duration::from_secs(60));
    count("busy", Class::Ok, 1, 40);
    count("busy", Class::Guest, 1, 10);
    count("slow.shop", Class::Ok, 900, 5);
    let view = async |reach, query: &str| {
        let token = server.mint(Scope::Deploy, reach).await;
        let (status, body) = server.ask(&token, &format!("GET /v1/stats{query}"), "").await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str::<coracle_api::StatsView>(&body).unwrap()
    };
    let names = |view: &coracle_api::StatsView| {
        view.items.iter().map(|item| item.name.to_string()).collect::<Vec<_>>().join(" ")
    };
    let all = view(Reach::All, "").await;
    assert_eq!(names(&all), "busy slow hello quiet");
    assert_eq!((all.window_s, all.functions, all.server), (5.0, 4, None));
    assert_eq!((all.totals.calls_per_s, all.totals.errors_per_s), (11.0, 2.0));
    assert_eq!((all.items[0].calls_per_s, all.items[0].errors_per_s, all.items[0].calls), (10.0, 2.0, 50));
    assert!(all.items[1].p50_ms.is_some_and(|ms| (500.0..=1_000.0).contains(&ms)), "{:?}", all.items[1]);
    assert_eq!((all.items[2].calls_per_s, all.items[2].p99_ms, all.items[2].calls), (0.0, None, 1_000));
    assert_eq!(names(&view(Reach::All, "?sort=p99&limit=2").await), "slow busy");
    assert_eq!(names(&view(Reach::All, "?sort=name").await), "busy quiet hello slow");
    assert_eq!(names(&view(Reach::All, "?contains=u").await), "busy quiet");
    assert_eq!(names(&view(Reach::All, "?contains=u&limit=1&sort=name").await), "busy");
    let shop = view(in_shop(), "").await;
    assert_eq!((names(&shop).as_str(), shop.functions, shop.totals.calls_per_s), ("slow hello", 2, 1.0));
    assert_eq!(names(&view(only_hello(), "").await), "hello");
    let (_, body) = server.ask(&server.token, "GET /v1/stats", "").await;
    assert!(body.contains(r#""server":{"instances":0,"#), "{body}");
    let token = server.mint(Scope::Deploy, only_hello()).await;
    for query in ["?namespace=shop", "?function=busy", "?namespace=default"] {
        let (status, _) = server.ask(&token, &format!("GET /v1/stats{query}"), "").await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{query}");
    }
}
