//! The head of a call as CGI-like programs know it.
//! Both kinds of programs that run for one call read it from their environment.

/// `Http_Method`, `Http_Path`, `Http_Query`, and `Http_<Header>` for each header.
///
/// No header takes the place of one of the three, and none is `Http_Proxy`, which programs obey wherever it comes from
/// (<https://httpoxy.org>).
pub(crate) fn variables(head: &http::request::Parts) -> Vec<(String, String)> {
    let mut variables = vec![
        ("Http_Method".to_owned(), head.method.as_str().to_owned()),
        ("Http_Path".to_owned(), head.uri.path().to_owned()),
        ("Http_Query".to_owned(), head.uri.query().unwrap_or_default().to_owned()),
    ];
    for name in head.headers.keys().filter(|name| !NOT_PASSED_ON.contains(&name.as_str())) {
        if let Some(value) = head.headers.get(name).and_then(|value| value.to_str().ok()) {
            variables.push((variable_of(name.as_str()), value.to_owned()));
        }
    }
    variables
}

/// Headers whose variables mean something else.
const NOT_PASSED_ON: [&str; 4] = ["method", "path", "query", "proxy"];

/// `content-type` is `Http_Content_Type`.
fn variable_of(header: &str) -> String {
    let mut name = String::from("Http");
    for word in header.split('-') {
        let mut letters = word.chars();
        name.push('_');
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

#[cfg(test)]
mod tests {
    #[test]
    fn headers_become_variables() {
        assert_eq!(super::variable_of("content-type"), "Http_Content_Type");
        assert_eq!(super::variable_of("x-foo"), "Http_X_Foo");
        assert_eq!(super::variable_of("host"), "Http_Host");
    }

    #[test]
    fn no_header_says_what_was_called_or_where_a_proxy_is() {
        let request = http::Request::get("/own?a=b").header("path", "/other").header("method", "PUT");
        let request = request.header("query", "c=d").header("proxy", "http://evil").header("x-a", "1");
        let (head, ()) = request.body(()).unwrap().into_parts();
        let shown: Vec<_> =
            super::variables(&head).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown, ["Http_Method=GET", "Http_Path=/own", "Http_Query=a=b", "Http_X_A=1"]);
    }
}
