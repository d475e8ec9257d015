//! The paths that are about bodies: echoed, counted, made, fetched, slow, and not as long as declared.

use std::io::Write;

use wasip2::http::outgoing_handler;
use wasip2::http::types::{ErrorCode, Fields, IncomingResponse, OutgoingRequest, Scheme};

use crate::exchange::{Exchange, Incoming, content_type};
use crate::misdeeds::pause;

const CHUNK: [u8; 64 << 10] = [b'x'; 64 << 10];

pub fn echo(call: Exchange) {
    let types = call.header("content-type");
    let fields = content_type(types.first().map_or(b"application/octet-stream", |value| value));
    let mut incoming = call.body();
    let mut outgoing = call.begin(200, fields);
    while let Some(chunk) = incoming.chunk().expect("read the body") {
        outgoing.write(&chunk).expect("write the body");
    }
    outgoing.finish(None);
}

pub fn sink(call: Exchange) {
    let mut incoming = call.body();
    let mut bytes = 0;
    loop {
        match incoming.chunk() {
            Ok(Some(chunk)) => bytes += chunk.len(),
            Ok(None) => return call.answer(200, &format!("{bytes}\n")),
            Err(error) => {
                return call.answer(400, &format!("the body broke off after {bytes} bytes: {error:?}\n"));
            }
        }
    }
}

pub fn source(call: Exchange) {
    let mut left = call.number("bytes").unwrap_or(0);
    let mut body = call.begin(200, content_type(b"application/octet-stream"));
    while left > 0 {
        let length = left.min(CHUNK.len() as u64);
        body.write(&CHUNK[..length as usize]).expect("write the body");
        left -= length;
    }
    body.finish(None);
}

pub fn short(call: Exchange) {
    let declared = call.number("declared").unwrap_or(10);
    let sent = call.number("sent").unwrap_or(3).min(CHUNK.len() as u64);
    let fields = content_type(b"application/octet-stream");
    fields.append("content-length", declared.to_string().as_bytes()).expect("a length is allowed");
    let mut body = call.begin(200, fields);
    if let Err(error) = body.write(&CHUNK[..sent as usize]) {
        eprintln!("cannot write the body: {error:?}");
    }
    body.finish(None);
}

pub fn slow(call: Exchange) {
    let chunks = call.number("chunks").unwrap_or(3);
    let millis = call.number("ms").unwrap_or(100);
    let fields = content_type(b"text/plain; charset=utf-8");
    fields.append("trailer", b"x-chunks").expect("a trailer may be announced");
    let mut body = call.begin(200, fields);
    for chunk in 1..=chunks {
        pause(millis);
        body.write(format!("chunk {chunk}\n").as_bytes()).expect("write a chunk");
        body.flush().expect("flush a chunk");
    }
    let trailers = Fields::new();
    trailers.append("x-chunks", chunks.to_string().as_bytes()).expect("a trailer is allowed");
    body.finish(Some(trailers));
}

pub fn log_body(call: Exchange, log: &mut dyn Write) {
    let mut incoming = call.body();
    while let Some(chunk) = incoming.chunk().expect("read the body") {
        log.write_all(&chunk).expect("write to the log");
    }
    log.flush().expect("flush the log");
    call.answer(200, "logged\n");
}

pub fn fetch(call: Exchange) {
    let url = call.text("url").expect("say ?url=");
    let response = match get(&url) {
        Ok(response) => response,
        Err(error) => return call.answer(502, &format!("{error:?}\n")),
    };
    let types = response.headers().get("content-type");
    let fields = content_type(types.first().map_or(b"application/octet-stream", |value| value));
    let mut incoming = Incoming::new(response.consume().expect("a response has one body"));
    let mut outgoing = call.begin(response.status(), fields);
    while let Some(chunk) = incoming.chunk().expect("read the fetched body") {
        outgoing.write(&chunk).expect("write the body");
    }
    outgoing.finish(None);
}

fn get(url: &str) -> Result<IncomingResponse, ErrorCode> {
    let (scheme, rest) = url.split_once("://").ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    let path = if path.is_empty() { "/" } else { path };

    let request = OutgoingRequest::new(Fields::new());
    let built = request
        .set_scheme(Some(&scheme))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(path)));
    built.map_err(|()| ErrorCode::HttpRequestUriInvalid)?;

    let response = outgoing_handler::handle(request, None)?;
    response.subscribe().block();
    response.get().expect("it is ready").expect("it is taken once")
}
