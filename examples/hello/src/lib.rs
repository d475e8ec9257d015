//! Greets: `GET /?name=Ada`, or a name as the body of a `POST`.
//! The smallest whole function: a request in, a response out, a line in the log.

use wstd::http::{Body, Error, Method, Request, Response};

#[wstd::http_server]
async fn main(mut request: Request<Body>) -> Result<Response<Body>, Error> {
    let name = if request.method() == Method::POST {
        request.body_mut().str_contents().await?.trim().to_owned()
    } else {
        name_in_query(&request).unwrap_or_else(|| "world".to_owned())
    };

    // What a function prints is its log: `coracle logs hello`.
    println!("greeting {name}");

    let response = Response::builder().header("content-type", "text/plain; charset=utf-8");
    Ok(response.body(format!("Hello, {name}!\n").into())?)
}

fn name_in_query(request: &Request<Body>) -> Option<String> {
    let query = request.uri().query()?;
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (_, name) = pairs.find(|(key, _)| key == "name")?;
    Some(name.into_owned())
}
