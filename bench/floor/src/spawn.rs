//! The floor of programs that run once for each call: spawned as they are, without a sandbox around them.
//! `main.rs` answers so when it is started with `--spawn PROGRAM`.

use std::io;
use std::process::{Output, Stdio};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Runs the program with the body of the request on its standard input; what it prints is the answer.
pub(crate) async fn answer(
    program: &str,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let body = request.into_body().collect().await?.to_bytes();
    let Output { status, stdout, .. } = run(program, &body).await?;
    if status.success() {
        Ok(Response::new(Full::new(Bytes::from(stdout))))
    } else {
        Err(format!("{program} ended with {status}").into())
    }
}

async fn run(program: &str, input: &[u8]) -> io::Result<Output> {
    let mut command = Command::new(program);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let stdin = child.stdin.take();
    // Both at once: a program may print before it has read all.
    let (written, output) = tokio::join!(feed(stdin, input), child.wait_with_output());
    written.and(output)
}

async fn feed(stdin: Option<tokio::process::ChildStdin>, input: &[u8]) -> io::Result<()> {
    match stdin {
        // Dropped at the end, so that the program sees the end.
        Some(mut stdin) => stdin.write_all(input).await,
        None => Ok(()),
    }
}
