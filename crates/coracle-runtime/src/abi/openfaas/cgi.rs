//! The head of a call as the variables of a watchdog's process: those that both kinds of programs have, and those of each watchdog.
//! `fork` asks for each call.

use coracle_model::Body;
use http::header;
use http::request::Parts;
use http_body::Body as _;

use super::settings::Kind;
use crate::cgi;

/// The variables of a call.
pub(super) fn variables(head: &Parts, body: &Body, kind: Kind) -> Vec<(String, String)> {
    let mut variables = cgi::variables(head);
    let length = body.size_hint().exact();
    let mut set = |name: &str, value: String| match variables.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => *known = value,
        None => variables.push((name.to_owned(), value)),
    };
    if length.is_none() {
        // Nobody knows how long it is, so that it came in chunks.
        set("Http_Transfer_Encoding", "chunked".into());
    }
    if kind == Kind::Classic {
        let length = length.map_or(-1, u64::cast_signed).to_string();
        set("Http_Content_Length", length.clone());
        set("Http_ContentLength", length);
        let named = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = named.or(head.uri.authority().map(http::uri::Authority::as_str));
        set("Http_Host", host.unwrap_or_default().to_owned());
    } else {
        // It is no header to them.
        variables.retain(|(name, _)| name != "Http_Host");
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: Kind, body: Body) -> Vec<String> {
        let request = http::Request::post("http://hello.test/own?a=b").header("host", "hello.test");
        let request = request.header("x-foo", "1").header("x-foo", "2").header("content-type", "text/plain");
        let (head, ()) = request.body(()).unwrap().into_parts();
        let mut shown: Vec<_> = variables(&head, &body, kind)
            .into_iter()
            .map(|(name, value)| format!("{}={value}", name.trim_start_matches("Http_")))
            .collect();
        shown.sort();
        shown
    }

    #[test]
    fn the_classic_one_knows_lengths_and_the_host() {
        let whole = shown(Kind::Classic, Body::once("12345"));
        let expected = [
            "ContentLength=5",
            "Content_Length=5",
            "Content_Type=text/plain",
            "Host=hello.test",
            "Method=POST",
            "Path=/own",
            "Query=a=b",
            "X_Foo=1",
        ];
        assert_eq!(whole, expected);
    }

    #[test]
    fn a_body_without_a_length_came_in_chunks() {
        let endless = || {
            Body::stream(http_body_util::StreamBody::new(futures_util::stream::pending::<
                Result<http_body::Frame<bytes::Bytes>, coracle_model::BodyError>,
            >()))
        };
        let classic = shown(Kind::Classic, endless());
        assert!(classic.contains(&"ContentLength=-1".to_owned()), "{classic:?}");
        let later = shown(Kind::Streaming, endless());
        let expected = [
            "Content_Type=text/plain",
            "Method=POST",
            "Path=/own",
            "Query=a=b",
            "Transfer_Encoding=chunked",
            "X_Foo=1",
        ];
        assert_eq!(later, expected);
    }
}
