//! The face of OpenFaaS beside our own routes, and deploys and lists as its clients ask for them.
//! The parts of `cargo xtask bench openfaas`; requests are those that `faas-cli` sends.

use std::time::Duration;

use super::Plan;
use super::image::TAG;
use super::stage::{Cores, Stage, until};
use super::warm::{CONNECTIONS, SCALE, SCRIPT, in_turns, write};
use crate::bench::client::Connection;
use crate::bench::figure::{Bound, Figure, Unit, median};
use crate::bench::load;
use crate::surroundings::{now, say};

pub(super) const HOW: &str = "\
The image is that of the sandboxes: one static web server, which copies its input where it is called as `serve cat`.
The same function is deployed twice: through `/system/functions`, and by a manifest with a route of its own; both take turns within each round.
Loads as ever: server and programs on core 0, wrk on core 1; deploys and lists on all cores, medians of the rounds.
A deploy is a PUT for a function that is there with no instance, of an image that was loaded, to the answer that names the new environment.";

/// What makes one instance take all of the load, as `SCALE` does.
const LABELS: &str = r#"{"com.openfaas.scale.min":"1","com.openfaas.scale.max":"1","com.openfaas.scale.type":"capacity","com.openfaas.scale.target":"16","com.openfaas.scale.target-proportion":"1"}"#;

/// Functions of the list.
const FUNCTIONS: usize = 2_000;

/// Deploys of a round.
const DEPLOYS: usize = 10;

/// How long a new revision may take until it answers.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A web server that was deployed through the face and is called through it, beside its twin at a route.
pub(super) fn http(plan: &Plan) -> Result<Vec<Figure>, String> {
    let stage = Stage::set(plan, Cores::One)?;
    stage.deploy(&format!("[function.native]\nimage = \"{TAG}\"\nroute = \"/*\"\n{SCALE}"))?;
    deploy_new(&mut stage.connect_as_admin()?, "serve", "")?;
    let urls = [stage.url("/function/serve/"), stage.url("/")];
    let [face, native] = in_turns(plan, &urls, |url, seconds| load::run(url, CONNECTIONS, seconds))?;
    stage.clear()?;
    let what = format!(
        "`/function/NAME` of a warm image, {CONNECTIONS} connections, throughput beside a route of ours"
    );
    Ok(vec![Figure::beside(what, Unit::PerSecond, face, native, Bound::AtLeast { must: 0.97, aim: 1.0 })])
}

/// A process for each call behind a watchdog of ours, beside our own contract for it.
pub(super) fn fork(plan: &Plan) -> Result<Vec<Figure>, String> {
    let stage = Stage::set(plan, Cores::One)?;
    let script = plan.dir.join("post.lua");
    write(&script, SCRIPT)?;
    stage.deploy(&format!(
        "[function.native]\nimage = \"{TAG}\"\nentrypoint = [\"/serve\", \"cat\"]\ncontract = \"stdio\"\n{SCALE}"
    ))?;
    deploy_new(&mut stage.connect_as_admin()?, "cat", r#","envProcess":"/serve cat""#)?;
    let urls = [stage.url("/function/cat"), stage.url("/function/native")];
    let post = |url: &str, seconds| load::run_script(url, &script, CONNECTIONS, seconds);
    let [face, native] = in_turns(plan, &urls, post)?;
    stage.clear()?;
    let what =
        format!("`fprocess`, a process for each call, {CONNECTIONS} connections, throughput beside `stdio`");
    Ok(vec![Figure::beside(what, Unit::PerSecond, face, native, Bound::AtLeast { must: 0.9, aim: 1.0 })])
}

/// From the PUT to the first answer of what it deployed.
pub(super) fn deploy(plan: &Plan) -> Result<Vec<Figure>, String> {
    let stage = Stage::set(plan, Cores::All)?;
    let mut admin = stage.connect_as_admin()?;
    deploy_new(&mut admin, "serve", "")?;
    let mut times = Vec::new();
    for round in 1..=plan.rounds {
        say(&format!("round {round} of {}", plan.rounds));
        for deploy in 0..DEPLOYS {
            let body = br#"{"serviceName":"serve","replicas":0}"#;
            expect(&mut admin, "POST", "/system/scale-function/serve", body, 202)?;
            stage.await_none()?;
            times.push(deployed_ms(&mut admin, &format!("{round}.{deploy}"))?);
        }
    }
    stage.clear()?;
    let what = "PUT of an image that is here, to the first answer, p50";
    Ok(vec![Figure::alone(what, Unit::Milliseconds, median(&times), Bound::AtMost { must: 50.0, aim: 15.0 })])
}

/// All functions in one answer.
pub(super) fn list(plan: &Plan) -> Result<Vec<Figure>, String> {
    let stage = Stage::set(plan, Cores::All)?;
    let mut admin = stage.connect_as_admin()?;
    for number in 0..FUNCTIONS {
        let body = format!(
            r#"{{"service":"f{number}","image":"{TAG}","envVars":{{"NUMBER":"{number}"}},"labels":{{"com.openfaas.scale.zero":"true"}},"annotations":{{"topic":"bench"}}}}"#
        );
        expect(&mut admin, "POST", "/system/functions", body.as_bytes(), 202)?;
    }
    let mut times = Vec::new();
    for _ in 0..plan.rounds * DEPLOYS {
        let begun = now();
        let list = expect(&mut admin, "GET", "/system/functions", b"", 200)?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        let listed = list.windows(NAME.len()).filter(|window| window == &NAME).count();
        if listed != FUNCTIONS {
            return Err(format!("{listed} functions are listed, and not {FUNCTIONS}"));
        }
    }
    stage.clear()?;
    let what = format!("`/system/functions` with {FUNCTIONS} functions, p50");
    Ok(vec![Figure::alone(what, Unit::Milliseconds, median(&times), Bound::AtMost { must: 20.0, aim: 5.0 })])
}

/// What stands once in each function of a list.
const NAME: &[u8] = b"\"name\":";

/// Deploys a function as `faas-cli` does it the first time: PUT, and on 404 POST.
fn deploy_new(admin: &mut Connection, name: &str, more: &str) -> Result<(), String> {
    let body =
        format!(r#"{{"service":"{name}","image":"{TAG}","labels":{LABELS},"annotations":{{}}{more}}}"#);
    expect(admin, "PUT", "/system/functions", body.as_bytes(), 404)?;
    expect(admin, "POST", "/system/functions", body.as_bytes(), 202).map(drop)
}

/// Deploys the web server with another environment, and asks until it answers with that; in milliseconds.
fn deployed_ms(admin: &mut Connection, version: &str) -> Result<f64, String> {
    let body = format!(
        r#"{{"service":"serve","image":"{TAG}","labels":{LABELS},"annotations":{{}},"envVars":{{"VERSION":"{version}"}}}}"#
    );
    let begun = now();
    expect(admin, "PUT", "/system/functions", body.as_bytes(), 202)?;
    until(ANSWER_MAX, || {
        let said = expect(admin, "GET", "/function/serve/env/VERSION", b"", 200)?;
        Ok((said != version.as_bytes()).then(|| "the old revision answers on".to_owned()))
    })?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

fn expect(
    connection: &mut Connection,
    method: &str,
    path: &str,
    body: &[u8],
    status: u16,
) -> Result<Vec<u8>, String> {
    let (answer, said) = connection.ask(method, path, body)?;
    if answer.status == status {
        return Ok(said);
    }
    let said = String::from_utf8_lossy(&said);
    Err(format!("{method} {path} was answered with {}, and not {status}: {said}", answer.status))
}
