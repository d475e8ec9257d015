//! Makes a QR code: `GET /?text=hello`, or the text as the body of a `POST`.
//! It is an SVG, or what `format` names: `png`, or `text` for a terminal. `level` says how much damage it survives.

use std::fmt::Write as _;

use qrcodegen::{QrCode, QrCodeEcc};
use wstd::http::{Body, Error, Request, Response, StatusCode};

/// The margin that the standard wants around a code, in modules.
const MARGIN: i32 = 4;
/// The side of a module in a PNG, in pixels.
const MODULE_PIXELS: usize = 8;

#[wstd::http_server]
async fn main(mut request: Request<Body>) -> Result<Response<Body>, Error> {
    let query = request.uri().query().unwrap_or("").to_owned();
    let body = request.body_mut().bytes_contents().await?;

    let (status, kind, answer) = match draw(&query, &body) {
        Ok((kind, drawn)) => (StatusCode::OK, kind, drawn),
        Err(complaint) => {
            (StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", format!("{complaint}\n").into_bytes())
        }
    };
    Ok(Response::builder().status(status).header("content-type", kind).body(answer.into())?)
}

fn draw(query: &str, body: &[u8]) -> Result<(&'static str, Vec<u8>), String> {
    let (mut text, mut format, mut level) = (None, None, None);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "text" => text = Some(value.into_owned().into_bytes()),
            "format" => format = Some(value),
            "level" => level = Some(value),
            _ => {}
        }
    }
    let text = text.unwrap_or_else(|| body.to_owned());
    if text.is_empty() {
        return Err("send a text as the body of a POST, or as `?text=`".to_owned());
    }

    let code = encode(&text, level.as_deref().unwrap_or("m"))?;
    println!("{} bytes as {} by {} modules", text.len(), code.size(), code.size());
    match format.as_deref().unwrap_or("svg") {
        "svg" => Ok(("image/svg+xml", svg(&code).into_bytes())),
        "png" => Ok(("image/png", png(&code)?)),
        "text" => Ok(("text/plain; charset=utf-8", blocks(&code).into_bytes())),
        other => Err(format!("`{other}` is not a format: it may be svg, png or text")),
    }
}

fn encode(text: &[u8], level: &str) -> Result<QrCode, String> {
    let level = match level.to_ascii_lowercase().as_str() {
        "l" => QrCodeEcc::Low,
        "m" => QrCodeEcc::Medium,
        "q" => QrCodeEcc::Quartile,
        "h" => QrCodeEcc::High,
        other => return Err(format!("`{other}` is not a level: it may be l, m, q or h")),
    };
    // A text may be all digits or capitals, which take less room.
    let code = match std::str::from_utf8(text) {
        Ok(text) => QrCode::encode_text(text, level),
        Err(_) => QrCode::encode_binary(text, level),
    };
    code.map_err(|_| format!("{} bytes are more than a QR code holds at this level", text.len()))
}

/// One path for all modules, so that no seam shows between them.
fn svg(code: &QrCode) -> String {
    let side = code.size() + 2 * MARGIN;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h{side}v{side}H0z"/><path d=""##
    );
    for (x, y) in modules(code.size()).filter(|(x, y)| code.get_module(*x, *y)) {
        // A `String` takes all that is written.
        let _ = write!(svg, "M{} {}h1v1h-1z", x + MARGIN, y + MARGIN);
    }
    svg.push_str("\"/></svg>\n");
    svg
}

fn png(code: &QrCode) -> Result<Vec<u8>, String> {
    let side = (code.size() + 2 * MARGIN) as usize * MODULE_PIXELS;
    let is_light = |pixel: usize, line: usize| {
        let module = |pixels: usize| (pixels / MODULE_PIXELS) as i32 - MARGIN;
        !code.get_module(module(pixel), module(line))
    };
    let mut bits = vec![0; side.div_ceil(8) * side];
    for (line, bytes) in bits.chunks_mut(side.div_ceil(8)).enumerate() {
        for pixel in (0..side).filter(|pixel| is_light(*pixel, line)) {
            bytes[pixel / 8] |= 0x80 >> (pixel % 8);
        }
    }
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, side as u32, side as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().map_err(|error| error.to_string())?;
    writer.write_image_data(&bits).map_err(|error| error.to_string())?;
    writer.finish().map_err(|error| error.to_string())?;
    Ok(png)
}

/// Two modules to a character, one above the other; what is light is painted, since terminals are dark.
fn blocks(code: &QrCode) -> String {
    let (least, most) = (-MARGIN, code.size() + MARGIN);
    let mut text = String::new();
    for y in (least..most).step_by(2) {
        for x in least..most {
            // Below the last line there is nothing, which is dark.
            let is_light = |y| y < most && !code.get_module(x, y);
            text.push(match (is_light(y), is_light(y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        text.push('\n');
    }
    text
}

fn modules(side: i32) -> impl Iterator<Item = (i32, i32)> {
    (0..side).flat_map(move |y| (0..side).map(move |x| (x, y)))
}
