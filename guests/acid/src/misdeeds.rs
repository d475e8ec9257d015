//! The paths that spin, wait, grow, trap, chatter, or tell what they see.

use std::hint::black_box;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use wasip2::clocks::monotonic_clock;
use wasip2::http::types::{Fields, Method, Scheme};

use crate::exchange::{Exchange, Outgoing, content_type};

const NANOS_PER_MILLI: u64 = 1_000_000;

pub fn spin_forever() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

pub fn loop_after_head(call: Exchange) {
    let _body = head_and_chunk(call);
    spin_forever();
}

pub fn trap_after_head(call: Exchange) {
    let _body = head_and_chunk(call);
    panic!("asked to trap after the head");
}

pub fn sleep(call: Exchange) {
    let millis = call.number("ms").unwrap_or(1000);
    pause(millis);
    call.answer(200, &format!("slept {millis} ms\n"));
}

pub fn sleep_after_head(call: Exchange) {
    let millis = call.number("ms").unwrap_or(1000);
    let mut body = head_and_chunk(call);
    pause(millis);
    body.write(b"second\n").expect("write the second chunk");
    body.finish(None);
}

pub fn spin(call: Exchange) {
    let millis = call.number("ms").unwrap_or(100);
    let end = monotonic_clock::now() + millis * NANOS_PER_MILLI;
    while monotonic_clock::now() < end {
        for turn in 0..10_000_u64 {
            black_box(turn);
        }
    }
    call.answer(200, &format!("spun {millis} ms\n"));
}

/// Blocks in a host call.
pub fn pause(millis: u64) {
    monotonic_clock::subscribe_duration(millis * NANOS_PER_MILLI).block();
}

/// Takes memory and touches all of it.
pub fn grow(call: Exchange) {
    let goal = call.number("mib").unwrap_or(u64::MAX);
    let mut taken: Vec<Vec<u8>> = Vec::new();
    while (taken.len() as u64) < goal {
        let mut block = Vec::new();
        if block.try_reserve_exact(1 << 20).is_err() {
            panic!("out of memory after {} MiB", taken.len());
        }
        block.resize(1 << 20, 1);
        taken.push(black_box(block));
    }
    call.answer(200, &format!("took {} MiB\n", taken.len()));
}

pub fn log(call: Exchange) {
    const LINE: &[u8] = b"a line of a hundred bytes, written again and again, to see what becomes of those who talk too much.\n";
    const { assert!(LINE.len() == 100) };

    let bytes = call.number("bytes").unwrap_or(1000);
    let page = LINE.repeat(40);
    let mut stdout = std::io::stdout().lock();
    let mut left = bytes;
    while left > 0 {
        let length = left.min(page.len() as u64);
        stdout.write_all(&page[..length as usize]).expect("write to stdout");
        left -= length;
    }
    stdout.flush().expect("flush stdout");
    call.answer(200, &format!("wrote {bytes} bytes\n"));
}

pub fn bad_header(call: Exchange) {
    let attempts: [(&str, &[u8]); 8] = [
        ("a name with spaces", b"value"),
        ("", b"no name"),
        ("name\r\ninjected", b"value"),
        ("x-split", b"value\r\ninjected: yes"),
        ("x-nul", b"\0"),
        ("connection", b"close"),
        ("transfer-encoding", b"chunked"),
        ("host", b"elsewhere.example"),
    ];
    let fields = content_type(b"text/plain; charset=utf-8");
    let mut findings = String::new();
    for (name, value) in attempts {
        let finding = match fields.append(name, value) {
            Ok(()) => "accepted".to_owned(),
            Err(error) => format!("{error:?}"),
        };
        findings += &format!("{name:?}: {:?} -> {finding}\n", String::from_utf8_lossy(value));
    }
    let mut body = call.begin(200, fields);
    body.write(findings.as_bytes()).expect("write the findings");
    body.finish(None);
}

pub fn status(call: Exchange) {
    let code = call.number("code").unwrap_or(200);
    let code = u16::try_from(code).expect("a status is a small number");
    if matches!(code, 204 | 304) {
        call.begin(code, Fields::new()).finish(None);
    } else {
        call.answer(code, &format!("status {code}\n"));
    }
}

pub fn count(call: Exchange) {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    call.answer(200, &format!("{calls}\n"));
}

pub fn exit(call: &Exchange) -> ! {
    let code = call.number("code").unwrap_or(1);
    std::process::exit(i32::try_from(code).expect("an exit code is a small number"));
}

pub fn env(call: Exchange) {
    let mut lines: Vec<String> = std::env::vars().map(|(key, value)| format!("{key}={value}\n")).collect();
    lines.sort();
    call.answer(200, &lines.concat());
}

pub fn headers(call: Exchange) {
    let method = match call.request.method() {
        Method::Other(method) => method,
        method => method_name(&method).to_owned(),
    };
    let scheme = match call.request.scheme() {
        Some(Scheme::Http) => "http".to_owned(),
        Some(Scheme::Https) => "https".to_owned(),
        Some(Scheme::Other(scheme)) => scheme,
        None => "-".to_owned(),
    };
    let authority = call.request.authority().unwrap_or_else(|| "-".to_owned());
    let path = call.path_with_query();
    let mut text = format!("method: {method}\nscheme: {scheme}\nauthority: {authority}\npath: {path}\n\n");
    for (name, value) in call.request.headers().entries() {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(&value));
    }
    call.answer(200, &text);
}

fn head_and_chunk(call: Exchange) -> Outgoing {
    let mut body = call.begin(200, content_type(b"text/plain; charset=utf-8"));
    body.write(b"first\n").expect("write the first chunk");
    body.flush().expect("flush the first chunk");
    body
}

fn method_name(method: &Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(_) => "?",
    }
}
