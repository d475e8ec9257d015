//! A problem as HTTP: status, `x-coracle-error`, and a body for programs or for people, never an empty one.
//! Called for every platform error, by `data` for functions and by `admin` for our own API.

use coracle_api::ProblemView;
use coracle_model::{Body, CallId, Problem, code};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};

const CORACLE_ERROR: HeaderName = HeaderName::from_static("x-coracle-error");
/// What to authenticate with: a token as a password, or as it is.
const CHALLENGE: HeaderValue = HeaderValue::from_static(r#"Basic realm="coracle", Bearer"#);

/// The response that tells a client of a problem; `accept` is what it said it takes.
pub(crate) fn render(
    problem: &Problem,
    call_id: Option<&CallId>,
    accept: Option<&HeaderValue>,
) -> Response<Body> {
    let view = ProblemView::new(problem, call_id);
    let (kind, body) = if prefers_text(accept) {
        ("text/plain; charset=utf-8", view.to_text())
    } else {
        // Texts always have a JSON.
        ("application/json", serde_json::to_string(&view).unwrap_or_default() + "\n")
    };
    let mut response = Response::new(Body::once(body));
    *response.status_mut() = StatusCode::from_u16(view.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CORACLE_ERROR, HeaderValue::from_static(problem.code.name));
    if let Some(seconds) = problem.retry_after_s {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    for (name, value) in problem.answer.iter().flat_map(|answer| &answer.headers) {
        headers.insert(name.clone(), value.clone());
    }
    if problem.code == &code::UNAUTHENTICATED {
        headers.insert(WWW_AUTHENTICATE, CHALLENGE);
    }
    response
}

/// Whether a client ranks plain text above JSON; whoever takes anything gets JSON.
fn prefers_text(accept: Option<&HeaderValue>) -> bool {
    let Some(accept) = accept.and_then(|accept| accept.to_str().ok()) else { return false };
    quality(accept, "text", "plain") > quality(accept, "application", "json")
}

/// How much a client wants a type, in thousandths: what the most specific of its ranges says (RFC 9110, 12.5.1).
fn quality(accept: &str, kind: &str, subtype: &str) -> u16 {
    let mut found = (0, 0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let Some((range_kind, range_subtype)) = parts.next().and_then(|name| name.split_once('/')) else {
            continue;
        };
        let same = |range: &str, own: &str| range.eq_ignore_ascii_case(own);
        let rank = if same(range_kind, kind) && same(range_subtype, subtype) {
            3
        } else if same(range_kind, kind) && range_subtype == "*" {
            2
        } else if range_kind == "*" && range_subtype == "*" {
            1
        } else {
            continue;
        };
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        // A weight that cannot be read is none.
        let weight = weight.map_or(Some(1.0), |text| text.parse().ok()).filter(|q| (0.0..=1.0).contains(q));
        if rank > found.0 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it lies between 0 and 1000"
            )]
            let thousandths = (weight.unwrap_or(1.0_f32) * 1000.0).round() as u16;
            found = (rank, thousandths);
        }
    }
    found.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use http_body_util::BodyExt;

    async fn check(problem: Problem, accept: Option<&'static str>, expected: Expect) {
        let accept = accept.map(HeaderValue::from_static);
        let response = render(&problem, CallId::parse("order-17").as_ref(), accept.as_ref());
        let (head, body) = response.into_parts();
        let mut text = format!("{}\n", head.status);
        for (name, value) in &head.headers {
            text += &format!("{name}: {}\n", value.to_str().unwrap());
        }
        text += "\n";
        text += std::str::from_utf8(&body.collect().await.unwrap().to_bytes()).unwrap();
        expected.assert_eq(&text);
    }

    #[tokio::test]
    async fn a_problem_is_whole_for_programs_and_for_people() {
        let busy = || Problem::new(&code::FUNCTION_BUSY, "`resize` has 100 calls in flight").retry_after(1);
        check(busy(), None, expect![[r#"
            429 Too Many Requests
            content-type: application/json
            x-coracle-error: function-busy
            retry-after: 1

            {"code":"function-busy","message":"`resize` has 100 calls in flight","call_id":"order-17","docs":"coracle explain function-busy"}
        "#]]).await;
        check(
            busy().hint("raise `concurrency`"),
            Some("text/plain"),
            expect![[r#"
            429 Too Many Requests
            content-type: text/plain; charset=utf-8
            x-coracle-error: function-busy
            retry-after: 1

            error: `resize` has 100 calls in flight
            hint: raise `concurrency`
            call: order-17
            code: function-busy (coracle explain function-busy)
        "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn who_is_not_known_is_told_how_to_become_known() {
        check(Problem::new(&code::UNAUTHENTICATED, "a token is needed"), None, expect![[r#"
            401 Unauthorized
            content-type: application/json
            x-coracle-error: unauthenticated
            www-authenticate: Basic realm="coracle", Bearer

            {"code":"unauthenticated","message":"a token is needed","call_id":"order-17","docs":"coracle explain unauthenticated"}
        "#]]).await;
    }

    #[test]
    fn text_is_for_clients_that_rank_it_higher() {
        let table = [
            ("*/*", false),
            ("", false),
            ("nonsense", false),
            ("application/json", false),
            ("text/plain", true),
            ("TEXT/Plain", true),
            ("text/*", true),
            ("text/plain, application/json", false),
            ("text/plain;q=0.5, application/json", false),
            ("text/plain, application/json;q=0.9", true),
            ("text/plain;q=0.9, application/json;q=0.8", true),
            ("text/plain;q=0.2, */*;q=0.1", true),
            ("text/plain;q=0, */*", false),
            ("application/json;q=0, */*", true),
            ("text/plain; format=flowed; q=0.3, application/*;q=0.4", false),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false),
            ("text/plain;q=x", true),
            ("image/png", false),
        ];
        for (accept, text) in table {
            assert_eq!(prefers_text(Some(&HeaderValue::from_static(accept))), text, "{accept}");
        }
        assert!(!prefers_text(None));
    }
}
