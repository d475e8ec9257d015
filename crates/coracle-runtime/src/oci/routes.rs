//! Where a sandbox's loopback leads: an address for each host that was granted by name, and a proxy for the rest.
//! The sandbox writes the names into its `/etc/hosts`, listens on the addresses, and gives the listeners to `relay`.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use coracle_model::{Destination, Outbound};

/// The first address of a host; the next host has the next one.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 1);

/// Where the forward proxy listens.
const PROXY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 127, 0, 1), 3128);

/// Within the sandbox it is the sandbox, but for the ports of the machine's that were granted.
const LOCALHOST: &str = "localhost";

/// Hosts that have an address of their own; those beyond it are reached through the proxy.
const HOSTS_MAX: usize = 1024;

/// What the loopback of a sandbox needs, so that its program reaches what it was granted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Routes {
    /// Names for `/etc/hosts`.
    pub(crate) hosts: Vec<(Ipv4Addr, String)>,
    /// Where to listen, and what for.
    pub(crate) listen: Vec<(SocketAddrV4, Way)>,
    /// Where the proxy listens, if some grant needs it; it stands in `listen` too.
    pub(crate) proxy: Option<SocketAddrV4>,
}

/// Where a connection that a program opens leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// To one destination, whatever is spoken.
    Direct(Destination),
    /// To whatever it asks the proxy for.
    Proxy,
}

/// The routes of these grants; the same grants give the same routes.
///
/// A grant of one host by name and one port is a route of its own; that of a port of `localhost` leads from there to the machine's.
/// Patterns, ranges, blocks and addresses, which `/etc/hosts` cannot name, are for the proxy, and so is `localhost`
/// at `own_port`, where the program itself listens.
pub(crate) fn routes(grants: &[Outbound], own_port: u16) -> Routes {
    let mut hosts = BTreeSet::new();
    let mut needs_proxy = false;
    for grant in grants {
        let to = grant.exact();
        needs_proxy |= to.is_empty();
        for to in to {
            let is_known = hosts.contains(to.host());
            if to.host() == LOCALHOST {
                needs_proxy |= to.port() == own_port;
                continue;
            }
            if !is_known && hosts.len() == HOSTS_MAX {
                needs_proxy = true;
                continue;
            }
            hosts.insert(to.host().to_owned());
        }
    }
    let addressed: Vec<(Ipv4Addr, String)> = hosts
        .into_iter()
        .zip(FIRST_ADDRESS.to_bits()..)
        .map(|(host, bits)| (Ipv4Addr::from_bits(bits), host))
        .collect();
    let mut listen = direct(grants, &addressed, own_port);
    let proxy = needs_proxy.then_some(PROXY);
    listen.extend(proxy.map(|proxy| (proxy, Way::Proxy)));
    Routes { hosts: addressed, listen, proxy }
}

/// One listener for each host and port, for the first grant that names them.
fn direct(grants: &[Outbound], addressed: &[(Ipv4Addr, String)], own_port: u16) -> Vec<(SocketAddrV4, Way)> {
    let mut listen: Vec<(SocketAddrV4, Way)> = Vec::new();
    for to in grants.iter().flat_map(Outbound::exact) {
        let known = addressed.iter().find(|(_, host)| host == to.host()).map(|(address, _)| *address);
        let here = (to.host() == LOCALHOST && to.port() != own_port).then_some(Ipv4Addr::LOCALHOST);
        let Some(address) = known.or(here) else { continue };
        let at = SocketAddrV4::new(address, to.port());
        if listen.iter().all(|(taken, _)| *taken != at) {
            listen.push((at, Way::Direct(to)));
        }
    }
    listen
}

impl Routes {
    /// The environment that names the proxy to a program; empty if there is none.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let Some(proxy) = self.proxy else { return Vec::new() };
        let proxy = format!("http://{proxy}");
        // Hosts with an address of their own are reached without it.
        let mut direct = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        direct.extend(self.hosts.iter().map(|(_, host)| host.clone()));
        let direct = direct.join(",");
        vec![
            ("HTTP_PROXY", proxy.clone()),
            ("HTTPS_PROXY", proxy.clone()),
            ("http_proxy", proxy.clone()),
            ("https_proxy", proxy),
            ("NO_PROXY", direct.clone()),
            ("no_proxy", direct),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(grants: &str) -> Vec<String> {
        let grants: Vec<Outbound> = grants.split_whitespace().map(|grant| grant.parse().unwrap()).collect();
        let routes = routes(&grants, 8080);
        let hosts = routes.hosts.iter().map(|(address, host)| format!("{address} {host}"));
        let listen = routes.listen.iter().map(|(at, way)| match way {
            Way::Direct(to) => format!("{at} -> {to}"),
            Way::Proxy => format!("{at} -> proxy"),
        });
        hosts.chain(listen).collect()
    }

    #[test]
    fn each_host_has_one_address_and_each_port_one_listener() {
        assert_eq!(
            shown("postgres://db.example:5432 https://api.example http://api.example *://api.example:443"),
            [
                "127.64.0.1 api.example",
                "127.64.0.2 db.example",
                "127.64.0.2:5432 -> postgres://db.example:5432",
                "127.64.0.1:443 -> https://api.example",
                "127.64.0.1:80 -> http://api.example",
            ]
        );
    }

    #[test]
    fn a_port_of_the_machines_loopback_is_found_where_it_is_there() {
        assert_eq!(shown("postgres://localhost:5432"), ["127.0.0.1:5432 -> postgres://localhost:5432"]);
    }

    #[test]
    fn what_has_no_name_goes_through_the_proxy() {
        for grant in
            ["https://*.example.com", "http://x:1..9", "http://10.0.0.7", "http://localhost:8080", "*://*:*"]
        {
            assert_eq!(shown(grant), ["127.127.0.1:3128 -> proxy"], "{grant}");
        }
        assert!(shown("").is_empty());
    }

    #[test]
    fn the_proxy_is_named_to_the_program_only_if_it_is_there() {
        let of = |grants: &[&str]| {
            let grants: Vec<Outbound> = grants.iter().map(|grant| grant.parse().unwrap()).collect();
            routes(&grants, 8080).environment()
        };
        assert!(of(&["https://api.example"]).is_empty());
        let environment = of(&["https://api.example", "https://*.example.com"]);
        assert!(environment.contains(&("HTTPS_PROXY", "http://127.127.0.1:3128".into())));
        assert!(environment.contains(&("NO_PROXY", "localhost,127.0.0.1,api.example".into())));
    }

    #[test]
    fn hosts_beyond_the_bound_go_through_the_proxy() {
        let grants: Vec<Outbound> =
            (0..HOSTS_MAX + 1).map(|n| format!("https://h{n}.example").parse().unwrap()).collect();
        let routes = routes(&grants, 8080);
        assert_eq!(routes.hosts.len(), HOSTS_MAX);
        assert!(routes.proxy.is_some());
    }
}
