//! Turns Markdown into HTML: `POST` the one, get the other.
//! Tables, footnotes, task lists and ~~strikethrough~~ are understood; HTML within the Markdown is shown, not obeyed.

use pulldown_cmark::{Event, Options, Parser, html};
use wstd::http::{Body, Error, Request, Response, StatusCode};

#[wstd::http_server]
async fn main(mut request: Request<Body>) -> Result<Response<Body>, Error> {
    let body = request.body_mut().bytes_contents().await?;
    let Ok(markdown) = std::str::from_utf8(&body) else {
        let complaint = Response::builder().status(StatusCode::BAD_REQUEST);
        return Ok(complaint.body("the body is not UTF-8 text\n".to_owned().into())?);
    };

    let html = render(markdown);
    println!("rendered {} bytes of Markdown as {} bytes of HTML", markdown.len(), html.len());
    Ok(Response::builder().header("content-type", "text/html; charset=utf-8").body(html.into())?)
}

fn render(markdown: &str) -> String {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_STRIKETHROUGH;
    // Who writes the Markdown is not who shows the page: a script must not come along.
    let events = Parser::new_ext(markdown, options).map(|event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        event => event,
    });
    let mut html = String::with_capacity(markdown.len() * 3 / 2);
    html::push_html(&mut html, events);
    html
}
