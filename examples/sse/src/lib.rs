//! Streams server-sent events: `GET /?count=5&interval=100ms`.
//! The body is a stream: each event leaves as soon as it is written, and the function waits in between.

use std::convert::Infallible;
use std::time::Duration;

use futures_lite::stream;
use wstd::http::{Body, Error, Request, Response, StatusCode};

const COUNT_DEFAULT: u32 = 5;
const COUNT_MAX: u32 = 10_000;
const INTERVAL_DEFAULT: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(60);

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let Schedule { count, interval } = match Schedule::parse(request.uri().query().unwrap_or("")) {
        Ok(schedule) => schedule,
        Err(complaint) => {
            let response = Response::builder().status(StatusCode::BAD_REQUEST);
            return Ok(response.body((complaint + "\n").into())?);
        }
    };

    let events = stream::unfold(0, move |id| async move {
        if id == count {
            return None;
        }
        if id > 0 {
            wstd::task::sleep(interval.into()).await;
        }
        let event = format!("id: {id}\ndata: event {} of {count}\n\n", id + 1);
        Some((Ok::<_, Infallible>(event), id + 1))
    });

    Ok(Response::builder()
        .header("content-type", "text/event-stream")
        .header("cache-control", "no-store")
        .body(Body::from_try_stream(events))?)
}

/// How many events, and how long to wait between two of them.
struct Schedule {
    count: u32,
    interval: Duration,
}

impl Schedule {
    fn parse(query: &str) -> Result<Self, String> {
        let mut schedule = Self { count: COUNT_DEFAULT, interval: INTERVAL_DEFAULT };
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "count" => {
                    let count = value.parse().ok().filter(|&count| count <= COUNT_MAX);
                    schedule.count =
                        count.ok_or_else(|| format!("count must be a number up to {COUNT_MAX}"))?;
                }
                "interval" => {
                    let interval = parse_interval(&value).filter(|&wait| wait <= INTERVAL_MAX);
                    schedule.interval = interval.ok_or_else(|| {
                        format!("interval must be like 100ms or 2s, up to {}s", INTERVAL_MAX.as_secs())
                    })?;
                }
                _ => {}
            }
        }
        Ok(schedule)
    }
}

fn parse_interval(text: &str) -> Option<Duration> {
    if let Some(millis) = text.strip_suffix("ms") {
        millis.parse().ok().map(Duration::from_millis)
    } else {
        text.strip_suffix('s')?.parse().ok().map(Duration::from_secs)
    }
}
