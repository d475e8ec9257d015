//! Resizes an image: `POST /?width=200`, PNG or JPEG in the body, the same format back.
//! The image is fitted into `width` by `height`, either may be left out, and keeps its proportions.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use wstd::http::{Body, Error, Request, Response, StatusCode};

/// The longest side one may ask for, in pixels.
const TARGET_SIDE_MAX: u32 = 2048;
/// The longest side of an image sent, in pixels.
const SOURCE_SIDE_MAX: u32 = 8192;
/// What an image sent may occupy once decoded; the copies around it fit into the memory that `coracle.toml` grants.
const SOURCE_BYTES_MAX: u64 = 64 << 20;

#[wstd::http_server]
async fn main(mut request: Request<Body>) -> Result<Response<Body>, Error> {
    let query = request.uri().query().unwrap_or("").to_owned();
    let source = request.body_mut().bytes_contents().await?;

    Ok(match resize(&query, &source) {
        Ok((format, image)) => {
            Response::builder().header("content-type", format.to_mime_type()).body(image.into())?
        }
        Err((status, complaint)) => Response::builder()
            .status(status)
            .header("content-type", "text/plain; charset=utf-8")
            .body((complaint + "\n").into())?,
    })
}

/// Why an image is not resized, as it is told to the caller.
type Complaint = (StatusCode, String);

fn resize(query: &str, source: &[u8]) -> Result<(ImageFormat, Vec<u8>), Complaint> {
    let (width, height) = parse_target(query)?;
    if source.is_empty() {
        return Err(bad_request("send a PNG or JPEG image as the body of a POST"));
    }
    let format = match image::guess_format(source) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
        _ => return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is neither PNG nor JPEG".to_owned())),
    };

    let (image, orientation) = decode(source, format).map_err(explain)?;
    println!("{format:?} {}x{} into {width}x{height}", image.width(), image.height());
    let resized = fit(&image, orientation, width, height);

    let mut encoded = Cursor::new(Vec::new());
    resized.write_to(&mut encoded, format).map_err(explain)?;
    Ok((format, encoded.into_inner()))
}

fn decode(source: &[u8], format: ImageFormat) -> Result<(DynamicImage, Orientation), ImageError> {
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(SOURCE_SIDE_MAX);
    limits.max_image_height = Some(SOURCE_SIDE_MAX);
    limits.max_alloc = Some(SOURCE_BYTES_MAX);

    let mut reader = ImageReader::with_format(Cursor::new(source), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation()?;
    Ok((DynamicImage::from_decoder(decoder)?, orientation))
}

/// The result carries no metadata: a photograph taken sideways is turned here, or never.
/// It is turned when it is small already.
fn fit(image: &DynamicImage, orientation: Orientation, width: u32, height: u32) -> DynamicImage {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    let (width, height) = match orientation {
        Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH => (height, width),
        _ => (width, height),
    };
    // Averages whole pixels: good for shrinking, fast, and without the buffers of floats that `resize` needs.
    let mut resized = image.thumbnail(width, height);
    resized.apply_orientation(orientation);
    resized
}

/// The box to fit the image into; a side that is not named does not bind.
fn parse_target(query: &str) -> Result<(u32, u32), Complaint> {
    let (mut width, mut height) = (None, None);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let side = match &*key {
            "width" => &mut width,
            "height" => &mut height,
            _ => continue,
        };
        let pixels = value.parse().ok().filter(|pixels| (1..=TARGET_SIDE_MAX).contains(pixels));
        *side = Some(
            pixels.ok_or_else(|| bad_request(format!("{key} must be between 1 and {TARGET_SIDE_MAX}")))?,
        );
    }
    match (width, height) {
        (None, None) => Err(bad_request("say ?width=, ?height= or both, in pixels")),
        _ => Ok((width.unwrap_or(TARGET_SIDE_MAX), height.unwrap_or(TARGET_SIDE_MAX))),
    }
}

fn explain(error: ImageError) -> Complaint {
    match error {
        ImageError::Limits(_) => (
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "the image is too large: at most {SOURCE_SIDE_MAX} pixels a side and {} MiB decoded",
                SOURCE_BYTES_MAX >> 20,
            ),
        ),
        ImageError::Unsupported(error) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, error.to_string()),
        error => bad_request(format!("the image cannot be read: {error}")),
    }
}

fn bad_request(complaint: impl Into<String>) -> Complaint {
    (StatusCode::BAD_REQUEST, complaint.into())
}
