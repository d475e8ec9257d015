//! Greets whoever calls: a request in, a response out, a line in the log.

use wstd::http::{Body, Error, Request, Response};

#[wstd::http_server]
async fn main(mut request: Request<Body>) -> Result<Response<Body>, Error> {
    let body = request.body_mut().str_contents().await?;
    let name = match body.trim() {
        "" => "world",
        name => name,
    };

    // What a function prints is its log: `coracle logs hello-rust`.
    println!("greeting {name}");

    let response = Response::builder().header("content-type", "text/plain; charset=utf-8");
    Ok(response.body(format!("Hello, {name}!\n").into())?)
}
