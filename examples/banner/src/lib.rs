//! Writes a text in large letters: `GET /?text=hello`, or the text as the body of a `POST`.
//! A line of it is four lines of blocks, or eight lines of the character that `paint` names.

use font8x8::{BASIC_FONTS, GREEK_FONTS, LATIN_FONTS, UnicodeFonts};
use wstd::http::{Body, Error, Request, Response, StatusCode};

/// The longest text, in characters: more is no banner.
const TEXT_CHARS_MAX: usize = 200;
/// Rows and columns of a letter.
const SIDE: usize = 8;

/// A letter, a byte a row, whose lowest bit is the leftmost column.
type Glyph = [u8; SIDE];

#[wstd::http_server]
async fn main(mut request: Request<Body>) -> Result<Response<Body>, Error> {
    let query = request.uri().query().unwrap_or("").to_owned();
    let body = request.body_mut().bytes_contents().await?;

    let (status, answer) = match banner(&query, &body) {
        Ok(banner) => (StatusCode::OK, banner),
        Err(complaint) => (StatusCode::BAD_REQUEST, format!("{complaint}\n")),
    };
    let response = Response::builder().status(status).header("content-type", "text/plain; charset=utf-8");
    Ok(response.body(answer.into())?)
}

fn banner(query: &str, body: &[u8]) -> Result<String, String> {
    let (mut text, mut paint) = (None, None);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "text" => text = Some(value.into_owned()),
            "paint" => paint = value.chars().next(),
            _ => {}
        }
    }
    let text = match text {
        Some(text) => text,
        None => String::from_utf8(body.to_owned()).map_err(|_| "the body is not UTF-8 text")?,
    };
    let text = text.trim_end();
    match text.chars().count() {
        0 => return Err("send a text as the body of a POST, or as `?text=`".to_owned()),
        1..=TEXT_CHARS_MAX => {}
        many => return Err(format!("{many} characters are no banner: send {TEXT_CHARS_MAX} at most")),
    }

    println!("a banner of {text:?}");
    let lines = text.lines().map(|line| {
        let glyphs: Vec<Glyph> = line.chars().map(glyph).collect();
        match paint {
            Some(paint) => painted(&glyphs, paint),
            None => blocks(&glyphs),
        }
    });
    Ok(lines.collect())
}

/// What is no letter that we know is a question mark.
fn glyph(letter: char) -> Glyph {
    let fonts: [&dyn Fn(char) -> Option<Glyph>; 3] =
        [&|c| BASIC_FONTS.get(c), &|c| LATIN_FONTS.get(c), &|c| GREEK_FONTS.get(c)];
    fonts.iter().find_map(|font| font(letter)).or_else(|| BASIC_FONTS.get('?')).unwrap_or_default()
}

fn painted(glyphs: &[Glyph], paint: char) -> String {
    lines(glyphs, 1, |is_set| if is_set(0) { paint } else { ' ' })
}

/// Two rows to a line.
fn blocks(glyphs: &[Glyph]) -> String {
    lines(glyphs, 2, |is_set| match (is_set(0), is_set(1)) {
        (true, true) => '█',
        (true, false) => '▀',
        (false, true) => '▄',
        (false, false) => ' ',
    })
}

/// Lines of so many rows each, without the blanks at their ends.
fn lines(glyphs: &[Glyph], rows: usize, draw: impl Fn(&dyn Fn(usize) -> bool) -> char) -> String {
    let mut text = String::new();
    for row in (0..SIDE).step_by(rows) {
        let columns = glyphs.iter().flat_map(|glyph| (0..SIDE).map(move |column| (glyph, column)));
        let line: String =
            columns.map(|(glyph, column)| draw(&|below| glyph[row + below] >> column & 1 == 1)).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
