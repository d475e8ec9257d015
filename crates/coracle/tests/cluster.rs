//! Several servers on one PostgreSQL, as their users see them: what one knows all know, and what one loses none loses.
//! Each test starts a PostgreSQL of its own.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

#[expect(dead_code, reason = "these tests use some of what they share with others")]
mod guests;
#[expect(dead_code, reason = "these tests use some of what they share with others")]
mod harness;
mod nodes;
#[expect(dead_code, reason = "these tests use some of what they share with others")]
mod wire;

use std::path::Path;
use std::time::{Duration, Instant};

use guests::{deploy, until};
use harness::{Data, Ended, Server};
use nodes::Cluster;
use wire::get;

#[test]
fn what_is_deployed_on_one_node_answers_on_all() {
    let cluster = Cluster::start(3);
    let [one, two, three] = &cluster.nodes[..] else { panic!("three were started") };
    assert_eq!(two.run_with(&["secret", "set", "api-key"], b"from two").code, 0);
    until("the secret", || one.ok(&["secret", "list"]).contains("api-key").then_some(()));
    deploy(one, "acid", &["--secret", "api-key"]);
    for node in [one, two, three] {
        until("the function", || (get(node, "/function/acid/").status == 200).then_some(()));
        let seen = get(node, "/function/acid/env").text();
        assert!(
            seen.contains("API_KEY=from two"),
            "every node has the code, and can open the secret: {seen}"
        );
    }
    three.ok(&["remove", "acid"]);
    until("the removal", || (get(one, "/function/acid/").status == 404).then_some(()));
}

#[test]
fn what_one_node_saw_all_can_tell() {
    let cluster = Cluster::start(2);
    let [one, two] = &cluster.nodes[..] else { panic!("two were started") };
    deploy(one, "acid", &[]);
    until("the function", || (get(two, "/function/acid/").status == 200).then_some(()));
    let mut ids = Vec::new();
    for node in [one, two, one] {
        let id = get(node, "/function/acid/log?bytes=100").header("x-call-id").unwrap().to_owned();
        for asked in [one, two] {
            until("the call", || {
                let shown = wire::admin(asked, "GET", &format!("/v1/calls/{id}"), b"");
                (shown.status == 200).then_some(())
            });
            until("the line", || {
                asked.ok(&["logs", "--call", &id]).contains("a hundred bytes").then_some(())
            });
        }
        ids.push(id);
    }
    for asked in [one, two] {
        let lines = asked.ok(&["logs", "acid", "--json"]);
        let at = |id: &String| lines.find(id).unwrap_or_else(|| panic!("`{id}` is missing: {lines}"));
        assert!(ids.is_sorted_by_key(at), "in the order of time: {lines}");
        let calls = asked.json(&["calls", "acid"]);
        let paths = calls.as_array().unwrap().iter().filter(|call| call["path"] == "/log").count();
        assert_eq!(paths, 3, "{calls}");
    }
}

#[test]
fn the_status_names_the_nodes_that_live() {
    let mut cluster = Cluster::start(3);
    let urls = |node: &Server| {
        let status = node.json(&["status"]);
        let nodes = status["status"]["details"]["nodes"].as_array().cloned().unwrap_or_default();
        let here = nodes.iter().filter(|node| node["here"] == true).count();
        let mut urls: Vec<_> = nodes.iter().map(|node| node["url"].as_str().unwrap().to_owned()).collect();
        urls.sort();
        (here, urls)
    };
    let mut expected: Vec<_> = cluster.nodes.iter().map(|node| node.url.clone()).collect();
    expected.sort();
    for node in &cluster.nodes {
        until("all nodes", || (urls(node) == (1, expected.clone())).then_some(()));
    }
    let gone = cluster.nodes.pop().unwrap();
    expected.retain(|url| *url != gone.url);
    assert_eq!(gone.stop().0, 0);
    for node in &cluster.nodes {
        until("who is left", || (urls(node) == (1, expected.clone())).then_some(()));
        let shown = node.ok(&["status"]);
        assert!(expected.iter().all(|url| shown.contains(url)), "{shown}");
    }
}

#[test]
fn nodes_on_one_machine_have_names_of_their_own() {
    let cluster = Cluster::start(2);
    let asked = &cluster.nodes[0];
    let nodes = until("both nodes", || {
        let status = asked.json(&["status"]);
        let nodes = status["status"]["details"]["nodes"].as_array().cloned().unwrap_or_default();
        (nodes.len() == 2).then_some(nodes)
    });
    for node in nodes {
        let (name, url) = (node["name"].as_str().unwrap(), node["url"].as_str().unwrap());
        let port = url.rsplit(':').next().unwrap();
        assert!(name.len() > port.len() + 1 && name.ends_with(&format!(":{port}")), "{name} is at {url}");
    }
}

/// Needs root, and Debian's python3.
#[test]
fn one_node_keeps_the_minimum_of_a_function_and_another_takes_over_when_it_dies() {
    let mut cluster = Cluster::start(3);
    deploy_site(&cluster.nodes[0], "scale={min=1,idle=\"1s\"}");
    for node in &cluster.nodes {
        until("the function", || (node.run(&["show", "site"]).code == 0).then_some(()));
    }
    let keeper = sole_keeper(&cluster.nodes);
    cluster.nodes.remove(keeper).kill();
    sole_keeper(&cluster.nodes);
}

/// Deploys a web server with this scale.
fn deploy_site(node: &Server, scale: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello-python-http/src");
    let program = ["--command", "python3 -u server.py", "--contract", "http", "--set", scale];
    node.ok(&[&["deploy", folder.to_str().unwrap(), "--name", "site"], &program[..]].concat());
}

/// Which of these nodes has an instance of the web server, when for long no other has had one.
fn sole_keeper(nodes: &[Server]) -> usize {
    // Longer than what nobody keeps is left to run: a deploy tries an instance where it is asked for.
    const LONG: Duration = Duration::from_secs(4);
    let mut sole: Option<(usize, Instant)> = None;
    until("one node that keeps an instance", || {
        let now = guests::now();
        let keepers: Vec<usize> = (0..nodes.len()).filter(|&node| instances(&nodes[node]) > 0).collect();
        let &[keeper] = &keepers[..] else {
            sole = None;
            return None;
        };
        let since = sole.filter(|(before, _)| *before == keeper).map_or(now, |(_, since)| since);
        sole = Some((keeper, since));
        (now.duration_since(since) > LONG).then_some(keeper)
    })
}

/// Instances of the web server that a node has, awake or not.
fn instances(node: &Server) -> u64 {
    let shown = node.json(&["show", "site"]);
    let instances = &shown["function"]["instances"];
    ["starting", "ready", "busy", "frozen"].iter().filter_map(|state| instances[state].as_u64()).sum()
}

#[test]
fn while_the_database_is_away_calls_are_answered_and_deploys_are_told_to_come_again() {
    let mut cluster = Cluster::start(2);
    deploy(&cluster.nodes[0], "acid", &[]);
    for node in &cluster.nodes {
        until("the function", || (get(node, "/function/acid/").status == 200).then_some(()));
    }
    cluster.postgres.kill().unwrap();
    for node in &cluster.nodes {
        assert_eq!(get(node, "/function/acid/").status, 200, "no call asks the database");
    }
    let refused = cluster.nodes[0].run_with(&["secret", "set", "api-key"], b"x");
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("database"), "{}", refused.stderr);
    cluster.postgres.start_again().unwrap();
    until("a write", || {
        let set = cluster.nodes[1].run_with(&["secret", "set", "api-key"], b"x");
        (set.code == 0).then_some(())
    });
    until("the news", || cluster.nodes[0].ok(&["secret", "list"]).contains("api-key").then_some(()));
}

#[test]
fn a_node_that_comes_with_another_key_is_refused() {
    let cluster = Cluster::start(1);
    let other = Data::new();
    let mut command = harness::coracle();
    command.args([
        "up",
        "--listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "none",
        "--store",
        &cluster.url,
        "--data",
    ]);
    let ended = Ended::of(command.arg(other.path()).output().unwrap());
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("another key") && ended.stderr.contains("CORACLE_KEY_FILE"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_key_file_that_is_named_and_not_there_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let (key, data) = (folder.path().join("key"), folder.path().join("data"));
    let mut command = harness::coracle();
    command.args(["up", "--listen", "127.0.0.1:0", "--metrics-listen", "none", "--data"]).arg(&data);
    // The key is looked for before the database is, which nobody has to start here.
    command.env("CORACLE_STORE", "postgres://ann@127.0.0.1:1/coracle").env("CORACLE_KEY_FILE", &key);
    let ended = Ended::of(command.output().unwrap());
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let said = format!("error[data-unusable]: read the key file {}: no such file\n", key.display());
    assert!(ended.stderr.starts_with(&said) && ended.stderr.contains("/dev/urandom"), "{}", ended.stderr);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_store_that_cannot_be_used_is_named_without_its_password() {
    let cluster = Cluster::start(0);
    cluster.postgres.sql("coracle", "CREATE USER ann PASSWORD 'right'").unwrap();
    let wrong = cluster.postgres.url_for("ann", "hunter2", "coracle");
    let right = cluster.postgres.url_for("ann", "right", "coracle");
    cluster.postgres.sql("coracle", "REVOKE CREATE ON DATABASE coracle FROM PUBLIC").unwrap();
    for (url, said) in [
        (wrong.as_str(), "does not let this user in"),
        (right.as_str(), "permission denied"),
        ("postgres://ann:hunter2@127.0.0.1:1/coracle", "connect to"),
        ("mysql://ann:hunter2@127.0.0.1/coracle", "postgres://"),
    ] {
        let data = Data::new();
        let mut command = harness::coracle();
        command
            .args(["up", "--listen", "127.0.0.1:0", "--metrics-listen", "none", "--data"])
            .arg(data.path());
        let ended = Ended::of(command.env("CORACLE_STORE", url).output().unwrap());
        assert_ne!(ended.code, 0);
        let all = format!("{}{}", ended.stdout, ended.stderr);
        assert!(all.contains(said), "{url}: {all}");
        assert!(!all.contains("hunter2"), "{url}: {all}");
    }
}
