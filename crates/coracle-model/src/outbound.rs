//! The capability to reach a host: `outbound = ["https://api.example.com"]`.
//! A manifest's text is parsed here; the runtime asks for every connection, by name before it resolves and by address before it dials.
//!
//! The grammar is the one that Spin users know: `SCHEME://HOST[:PORT]`, where
//! SCHEME is a scheme or `*`; HOST is a name, `*.suffix`, `*`, an address or a CIDR block;
//! PORT is a number, a range `lo..hi` (its end is excluded), or `*`.
//! Without a port, it is the scheme's own.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Hosts that a guest may reach; all that is not named is denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Outbound {
    text: String,
    /// `None` is any scheme.
    scheme: Option<String>,
    host: Host,
    ports: Ports,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    /// A name and nothing else, lower case.
    Name(String),
    /// Any name under this one, which begins with a dot.
    Under(String),
    Block {
        base: IpAddr,
        bits: u8,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ports {
    OfScheme,
    Any,
    Within { first: u16, last: u16 },
}

/// Where a guest wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    scheme: String,
    host: String,
    port: u16,
}

impl Destination {
    /// A destination; `None` when there is no port and the scheme has none of its own.
    pub fn new(scheme: &str, host: &str, port: Option<u16>) -> Option<Self> {
        let scheme = scheme.to_ascii_lowercase();
        let host =
            host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
        let port = port.or_else(|| port_of(&scheme))?;
        Some(Self { scheme, host, port })
    }

    /// The host: a name in lower case, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same, named by an address in place of its host.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Self {
        Self { host: address.to_string(), ..self.clone() }
    }

    /// The line of a manifest that would allow this destination.
    pub fn manifest_line(&self) -> String {
        format!("outbound = [\"{self}\"]")
    }

    /// Whether one of these grants names this destination.
    pub fn is_named_by(&self, grants: &[Outbound]) -> bool {
        grants.iter().any(|grant| grant.names(self))
    }

    /// Whether this address may be dialled for this destination, which is named already.
    ///
    /// A public address may be.
    /// A loopback, private or link-local one only if a grant names it as such: by address, by CIDR block, or as `localhost`.
    pub fn may_dial(&self, address: IpAddr, grants: &[Outbound]) -> bool {
        let address = address.to_canonical();
        is_public(address) || grants.iter().any(|grant| grant.names_address(self, address))
    }

    /// Whether the platform itself may send to this address, because somebody who may call a function asked for it.
    ///
    /// A public address may be sent to, whatever the function was granted.
    /// Any other only if a grant names this very host and port, and the address as [`Destination::may_dial`] wants it:
    /// what a pattern or a block opens to the code of a function is not open to all of its callers.
    pub fn may_deliver(&self, address: IpAddr, grants: &[Outbound]) -> bool {
        let address = address.to_canonical();
        let is_named = || grants.iter().any(|grant| !grant.exact().is_empty() && grant.names(self));
        is_public(address) || (is_named() && self.may_dial(address, grants))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{}://{open}{}{close}", self.scheme, self.host)?;
        if port_of(&self.scheme) == Some(self.port) { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl Outbound {
    /// The destinations it allows, if it names one host or address and each port: none for a pattern, a range or a block.
    pub fn exact(&self) -> Vec<Destination> {
        let host = match &self.host {
            Host::Name(host) => host.clone(),
            Host::Block { base, bits } if *bits == width(*base) => base.to_string(),
            Host::Any | Host::Under(_) | Host::Block { .. } => return Vec::new(),
        };
        let to = |scheme: &str, port| Destination { scheme: scheme.into(), host: host.clone(), port };
        match (self.ports, &self.scheme) {
            (Ports::Within { first, last }, scheme) if first == last => {
                vec![to(scheme.as_deref().unwrap_or(ANY), first)]
            }
            (Ports::OfScheme, Some(scheme)) => {
                port_of(scheme).into_iter().map(|port| to(scheme, port)).collect()
            }
            (Ports::OfScheme, None) => vec![to("http", 80), to("https", 443)],
            (Ports::Within { .. } | Ports::Any, _) => Vec::new(),
        }
    }

    /// The scheme it asks for; `None` is any.
    pub fn scheme(&self) -> Option<&str> {
        self.scheme.as_deref()
    }

    fn names(&self, to: &Destination) -> bool {
        let host = match &self.host {
            Host::Any => true,
            Host::Name(name) => *name == to.host,
            Host::Under(suffix) => to.host.len() > suffix.len() && to.host.ends_with(suffix),
            Host::Block { base, bits } => {
                to.host.parse().is_ok_and(|ip: IpAddr| in_block(ip.to_canonical(), *base, *bits))
            }
        };
        host && self.fits(to)
    }

    fn names_address(&self, to: &Destination, address: IpAddr) -> bool {
        let named = match &self.host {
            Host::Any | Host::Under(_) => false,
            Host::Name(name) => address.is_loopback() && name == "localhost" && to.host == "localhost",
            Host::Block { base, bits } => in_block(address, *base, *bits),
        };
        named && self.fits(to)
    }

    fn fits(&self, to: &Destination) -> bool {
        let scheme = self.scheme.as_ref().is_none_or(|scheme| *scheme == to.scheme);
        scheme
            && match self.ports {
                Ports::Any => true,
                Ports::Within { first, last } => (first..=last).contains(&to.port),
                Ports::OfScheme => port_of(&to.scheme) == Some(to.port),
            }
    }
}

/// Stands for any scheme.
const ANY: &str = "*";

fn port_of(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// A text that is not a grant of hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` does not say which hosts may be reached: {reason}")]
pub struct InvalidOutbound {
    text: String,
    reason: &'static str,
}

impl FromStr for Outbound {
    type Err = InvalidOutbound;

    fn from_str(text: &str) -> Result<Self, InvalidOutbound> {
        let invalid = |reason| InvalidOutbound { text: text.into(), reason };
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| invalid("write it with a scheme, as in `https://api.example.com`"))?;
        let scheme = match scheme {
            ANY => None,
            "" => return Err(invalid("the scheme is empty")),
            name if name.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c)) => {
                Some(name.to_ascii_lowercase())
            }
            _ => return Err(invalid("the scheme has a character that no scheme has")),
        };
        let (host, port) = split_port(rest.strip_suffix('/').unwrap_or(rest)).map_err(invalid)?;
        let host = parse_host(host).map_err(invalid)?;
        let ports = match port {
            None => Ports::OfScheme,
            Some(port) => parse_ports(port)
                .ok_or_else(|| invalid("a port is a number, a range `8000..9000`, or `*`"))?,
        };
        if ports == Ports::OfScheme && scheme.as_deref().is_some_and(|scheme| port_of(scheme).is_none()) {
            return Err(invalid("this scheme has no port of its own: name one"));
        }
        Ok(Self { text: text.into(), scheme, host, ports })
    }
}

fn split_port(rest: &str) -> Result<(&str, Option<&str>), &'static str> {
    if let Some(bracketed) = rest.strip_prefix('[') {
        let (host, tail) = bracketed.split_once(']').ok_or("a `[` has no `]`")?;
        // A block of addresses may stand inside the brackets or behind them.
        return match tail.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if tail.is_empty() => Ok((host, None)),
            None => Err("what follows `]` is not a port"),
        };
    }
    match rest.split_once(':') {
        Some((_, port)) if port.contains(':') => {
            Err("write an IPv6 address in brackets, as in `http://[::1]:8080`")
        }
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((rest, None)),
    }
}

fn parse_host(host: &str) -> Result<Host, &'static str> {
    const NAME: fn(u8) -> bool = |c| c.is_ascii_alphanumeric() || b"-._".contains(&c);
    if let Ok(base) = host.parse::<IpAddr>() {
        let base = base.to_canonical();
        return Ok(Host::Block { base, bits: width(base) });
    }
    if let Some((base, bits)) = host.split_once('/') {
        let (Ok(base), Ok(bits)) = (base.parse::<IpAddr>(), bits.parse::<u8>()) else {
            return Err("paths cannot be granted, only whole hosts");
        };
        return if bits <= width(base) {
            Ok(Host::Block { base, bits })
        } else {
            Err("the block has more bits than its address")
        };
    }
    match host {
        "" => Err("the host is empty"),
        "*" => Ok(Host::Any),
        "self" => Err("`self` has no meaning here: name the host"),
        _ => match host.strip_prefix("*.") {
            Some(suffix) if !suffix.is_empty() && suffix.bytes().all(NAME) => {
                Ok(Host::Under(format!(".{}", suffix.to_ascii_lowercase())))
            }
            None if host.bytes().all(NAME) => Ok(Host::Name(host.trim_end_matches('.').to_ascii_lowercase())),
            _ if host.contains('*') => Err("a `*` stands for a whole host, or first as in `*.example.com`"),
            _ => Err("the host has a character that no host has"),
        },
    }
}

fn parse_ports(port: &str) -> Option<Ports> {
    if port == "*" {
        return Some(Ports::Any);
    }
    if let Some((low, high)) = port.split_once("..") {
        let (first, end): (u16, u16) = (low.parse().ok()?, high.parse().ok()?);
        return (first < end).then(|| Ports::Within { first, last: end - 1 });
    }
    let port = port.parse().ok()?;
    Some(Ports::Within { first: port, last: port })
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn in_block(address: IpAddr, base: IpAddr, bits: u8) -> bool {
    let wide = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    address.is_ipv4() == base.is_ipv4()
        && (bits == 0 || (wide(address) ^ wide(base)) >> (128 - u32::from(bits)) == 0)
}

/// Whether anybody on the internet may have this address: it is in none of the special-purpose registries of RFC 6890.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let special = v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_multicast()
        || v4.is_documentation()
        || a == 0 // "this network"
        || a >= 240 // reserved, and broadcast
        || (a == 100 && (64..128).contains(&b)) // carrier-grade NAT
        || (a == 192 && b == 0 && c == 0) // protocol assignments
        || (a == 198 && (18..20).contains(&b)); // benchmarks
    !special
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let s = v6.segments();
    // Addresses that carry an IPv4 address reach it: 6to4 and NAT64.
    if s[0] == 0x2002 {
        return is_public_v4(Ipv4Addr::from_bits(u32::from(s[1]) << 16 | u32::from(s[2])));
    }
    if s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return is_public_v4(Ipv4Addr::from_bits(u32::from(s[6]) << 16 | u32::from(s[7])));
    }
    // Only 2000::/3 is given out; within it, 2001::/23 and the documentation blocks are special.
    s[0] & 0xe000 == 0x2000
        && !(s[0] == 0x2001 && (s[1] < 0x200 || s[1] == 0xdb8))
        && !(s[0] == 0x3fff && s[1] < 0x1000)
}

impl From<Outbound> for String {
    fn from(outbound: Outbound) -> Self {
        outbound.text
    }
}

impl TryFrom<String> for Outbound {
    type Error = InvalidOutbound;

    fn try_from(text: String) -> Result<Self, InvalidOutbound> {
        text.parse()
    }
}

impl fmt::Display for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(text: &str) -> Vec<Outbound> {
        text.split(' ').filter(|part| !part.is_empty()).map(|part| part.parse().unwrap()).collect()
    }

    fn to(url: &str) -> Destination {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
            _ => (rest, None),
        };
        Destination::new(scheme, host, port).unwrap()
    }

    #[test]
    fn only_what_is_named_is_allowed() {
        let table = [
            ("", "https://api.example.com", false),
            ("https://api.example.com", "https://api.example.com", true),
            ("https://api.example.com", "https://API.example.com.", true),
            ("https://api.example.com", "http://api.example.com", false),
            ("https://api.example.com", "https://api.example.com:8443", false),
            ("https://api.example.com", "https://evil-api.example.com", false),
            ("https://*.example.com", "https://a.b.example.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://badexample.com", false),
            ("*://example.com:*", "redis://example.com:6379", true),
            ("http://example.com:8000..9000", "http://example.com:8999", true),
            ("http://example.com:8000..9000", "http://example.com:9000", false),
            ("http://10.0.0.0/8:80", "http://10.1.2.3", true),
            ("http://10.0.0.0/8", "http://11.1.2.3", false),
            ("http://[::1]:8080", "http://[::1]:8080", true),
            ("*://*:*", "https://anything.example:1234", true),
        ];
        for (granted, asked, allowed) in table {
            assert_eq!(to(asked).is_named_by(&grants(granted)), allowed, "{granted} -> {asked}");
        }
    }

    #[test]
    fn a_private_address_must_be_named_as_such() {
        let table = [
            ("https://api.example.com", "https://api.example.com", "93.184.216.34", true),
            ("https://api.example.com", "https://api.example.com", "127.0.0.1", false),
            ("https://api.example.com", "https://api.example.com", "10.0.0.7", false),
            ("https://api.example.com", "https://api.example.com", "169.254.169.254", false),
            ("https://api.example.com", "https://api.example.com", "::ffff:127.0.0.1", false),
            ("https://api.example.com", "https://api.example.com", "fe80::1", false),
            ("https://api.example.com", "https://api.example.com", "64:ff9b::7f00:1", false),
            ("https://api.example.com", "https://api.example.com", "2002:7f00:1::", false),
            ("https://api.example.com", "https://api.example.com", "2606:2800:220:1::1", true),
            ("*://*:*", "http://anything.example", "192.168.0.1", false),
            ("http://localhost:8080", "http://localhost:8080", "127.0.0.1", true),
            ("http://localhost:8080", "http://localhost:8080", "10.0.0.1", false),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1", true),
            ("http://db.internal http://10.0.0.0/8", "http://db.internal", "10.0.0.7", true),
            ("http://db.internal http://10.0.0.0/8:81", "http://db.internal", "10.0.0.7", false),
        ];
        for (granted, asked, address, allowed) in table {
            let address = address.parse().unwrap();
            assert_eq!(
                to(asked).may_dial(address, &grants(granted)),
                allowed,
                "{granted} -> {asked} at {address}"
            );
        }
    }

    #[test]
    fn a_caller_reaches_no_private_address_that_was_not_named_one_by_one() {
        let table = [
            ("", "https://example.com", "93.184.216.34", true),
            ("", "http://127.0.0.1:9000", "127.0.0.1", false),
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000", "127.0.0.1", true),
            ("http://127.0.0.1:9000", "http://127.0.0.1:9001", "127.0.0.1", false),
            ("http://127.0.0.1:9000", "https://127.0.0.1:9000", "127.0.0.1", false),
            ("http://localhost:9000", "http://localhost:9000", "127.0.0.1", true),
            ("http://127.0.0.1:9000", "http://[::ffff:127.0.0.1]:9000", "::ffff:127.0.0.1", true),
            ("*://*:*", "http://127.0.0.1:9000", "127.0.0.1", false),
            ("http://10.0.0.0/8", "http://10.0.0.7", "10.0.0.7", false),
            ("http://169.254.0.0/16", "http://169.254.169.254", "169.254.169.254", false),
            ("http://169.254.169.254", "http://169.254.169.254", "169.254.169.254", true),
            ("http://db.internal", "http://db.internal", "10.0.0.7", false),
            ("http://db.internal http://10.0.0.7", "http://db.internal", "10.0.0.7", true),
            ("http://10.0.0.7", "http://rebound.example.com", "10.0.0.7", false),
        ];
        for (granted, asked, address, allowed) in table {
            let address = address.parse().unwrap();
            let may = to(asked).may_deliver(address, &grants(granted));
            assert_eq!(may, allowed, "{granted} -> {asked} at {address}");
        }
    }

    #[test]
    fn a_wrong_grant_says_why() {
        let reason = |text: &str| text.parse::<Outbound>().unwrap_err().reason;
        assert!(reason("api.example.com").contains("scheme"));
        assert!(reason("https://api.example.com/v1").contains("paths"));
        assert!(reason("https://a.*.com").contains('*'));
        assert!(reason("https://").contains("empty"));
        assert!(reason("http://::1").contains("brackets"));
        assert!(reason("http://x:70000").contains("port"));
        assert!(reason("http://x:9..9").contains("port"));
        assert!(reason("redis://x").contains("name one"));
        assert!(reason("http://10.0.0.0/33").contains("bits"));
        assert!(reason("http://self").contains("self"));
    }

    #[test]
    fn a_grant_of_one_host_and_port_is_exact() {
        let exact = |text: &str| -> Vec<String> {
            text.parse::<Outbound>().unwrap().exact().iter().map(ToString::to_string).collect()
        };
        assert_eq!(exact("https://api.example.com"), ["https://api.example.com"]);
        assert_eq!(exact("postgres://db.example.com:5432"), ["postgres://db.example.com:5432"]);
        assert_eq!(exact("http://10.0.0.7"), ["http://10.0.0.7"]);
        assert_eq!(exact("*://db.example.com:5432"), ["*://db.example.com:5432"]);
        assert_eq!(exact("*://example.com"), ["http://example.com", "https://example.com"]);
        for pattern in [
            "https://*.example.com",
            "https://*",
            "http://x:1..9",
            "http://x:*",
            "http://10.0.0.0/31",
            "*://*:*",
        ] {
            assert!(exact(pattern).is_empty(), "{pattern}");
        }
    }

    #[test]
    fn a_denial_shows_the_line_to_add() {
        assert_eq!(
            to("https://api.example.com").manifest_line(),
            r#"outbound = ["https://api.example.com"]"#
        );
        assert_eq!(to("http://[::1]:8080").manifest_line(), r#"outbound = ["http://[::1]:8080"]"#);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_grant_or_an_error(text: String) {
            let _ = text.parse::<Outbound>();
        }

        #[test]
        fn what_a_denial_suggests_would_have_been_allowed(host in "[a-z]{1,9}(\\.[a-z]{1,9}){0,2}", port: u16) {
            proptest::prop_assume!(host != "self");
            let asked = Destination::new("https", &host, Some(port)).unwrap();
            let suggested: Outbound = asked.to_string().parse().unwrap();
            assert!(asked.is_named_by(&[suggested]));
        }
    }
}
