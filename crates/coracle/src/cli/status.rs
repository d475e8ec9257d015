//! `coracle status`: whether a server is there, how it does, and who it thinks is asking.
//! People ask it first when something is odd.

use coracle_api::{
    IdentityView, NodeInfo, NodeView, ProtectionView, SandboxesView, StatusDetails, StatusView,
};
use serde_json::json;

use super::ago::{bytes, span};
use crate::options::Common;
use crate::print;
use crate::stop::Done;
use crate::talk::{BAD, BOLD, DIM, GOOD, styled};

/// Show how the server does, and who you are to it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  coracle status --url http://10.0.0.7:8080")]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, common: &Common) -> Done {
    let client = common.client()?;
    let status = client.status().await?;
    let identity = client.whoami().await?;
    if common.json {
        return print::json(&json!({ "url": client.url(), "status": status, "identity": identity }));
    }
    let StatusView { version, uptime_s, namespaces, functions, .. } = &status;
    print::line(format_args!("{} Coracle {version}, up {}", styled(BOLD, client.url()), span(*uptime_s)))?;
    field("functions", format_args!("{functions}, namespaces: {namespaces}"))?;
    field("you are", who(&identity))?;
    status.details.as_ref().map_or(Ok(()), render_details)
}

fn render_details(details: &StatusDetails) -> Done {
    let StatusDetails { in_flight, instances, instances_max, instances_idle, instances_waiting, .. } =
        details;
    field("calls", format_args!("{in_flight} running, {instances_waiting} waiting"))?;
    field("instances", format_args!("{instances} of {instances_max}, {instances_idle} idle"))?;
    field("clients", format_args!("connections: {}", details.connections))?;
    render_nodes(&details.nodes)?;
    let cache = details.code_cache;
    let (mapped, most) = (bytes(cache.bytes), bytes(cache.bytes_max));
    field("code", format_args!("{mapped} of {most} mapped, artifacts: {}", cache.entries))?;
    if cache.rebuilt > 0 {
        field("", styled(BAD, format_args!("{} damaged files of it were made anew", cache.rebuilt)))?;
    }
    if !details.pagemap_scan {
        field("kernel", "without pagemap_scan: a fresh instance takes about twice as long")?;
    }
    render_sandboxes(&details.sandboxes)
}

/// The servers on one database; one that is alone is told of above.
fn render_nodes(nodes: &[NodeView]) -> Done {
    if nodes.len() < 2 {
        return Ok(());
    }
    for (number, NodeView { info: NodeInfo { name, url, version, .. }, here }) in nodes.iter().enumerate() {
        let here = if *here { ", this one" } else { "" };
        field(if number == 0 { "nodes" } else { "" }, format_args!("{name} {url}, Coracle {version}{here}"))?;
    }
    Ok(())
}

fn render_sandboxes(sandboxes: &SandboxesView) -> Done {
    if let Some(why) = &sandboxes.unavailable {
        return field("sandboxes", styled(BAD, why));
    }
    for (number, ProtectionView { name, active, how }) in sandboxes.protections.iter().enumerate() {
        let mark = if *active { styled(GOOD, "on ") } else { styled(BAD, "off") };
        field(if number == 0 { "sandboxes" } else { "" }, format_args!("{mark} {name:<16} {how}"))?;
    }
    field("", in_all(&sandboxes.protections))
}

/// Whether all is well, or where to read on.
fn in_all(protections: &[ProtectionView]) -> String {
    match protections.iter().filter(|one| !one.active).count() {
        0 => styled(GOOD, "all on"),
        off => format!(
            "{off} of {} off: programs run without; docs/operating.md says what that means, and what turns each on",
            protections.len()
        ),
    }
}

fn field(name: &str, value: impl std::fmt::Display) -> Done {
    print::line(format_args!("  {} {value}", styled(DIM, format_args!("{name:<9}"))))
}

fn who(identity: &IdentityView) -> String {
    let (Some(token), Some(scope)) = (&identity.token, identity.scope) else {
        return "nobody: no token was sent".to_owned();
    };
    let reach = match (&identity.function, &identity.namespace) {
        (Some(function), _) => format!(" for the function {function}"),
        (None, Some(namespace)) => format!(" in the namespace {namespace}"),
        (None, None) => String::new(),
    };
    format!("token {token}: {scope}{reach}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_is_counted_and_where_to_read_on_is_said() {
        let protections = |active: &[bool]| -> Vec<ProtectionView> {
            let one = |active: &bool| ProtectionView { name: "x".into(), active: *active, how: "y".into() };
            active.iter().map(one).collect()
        };
        let shown = |active: &[bool]| anstream::adapter::strip_str(&in_all(&protections(active))).to_string();
        assert_eq!(shown(&[true, true]), "all on");
        let some_off = shown(&[true, false, false]);
        assert!(some_off.starts_with("2 of 3 off: ") && some_off.contains("docs/operating.md"), "{some_off}");
    }
}
