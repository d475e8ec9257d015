//! Artifacts: uploaded once, whole or not at all, and known by their digest from then on.
//! `coracle deploy` uploads here what the server does not have yet.

use std::io::Read as _;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use bytes::Bytes;
use coracle_api::ArtifactView;
use coracle_model::{ByteSize, Digest, Problem, Scope, code};
use coracle_store::{ArtifactError, ArtifactWriter};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, EXPECT};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::format::{Format, HEAD_BYTES};
use super::rim::{Answer, Segment, Who};
use super::{Admin, Shared};

/// The longest silence between two pieces of an upload.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);
/// How much is read of an upload that is refused already, if the bound on uploads is not greater still.
const LINGER_BYTES_MIN: u64 = 64 << 20;
/// Pieces that wait for the disk.
pub(super) const PIECES_MAX: usize = 16;

pub(super) async fn upload(
    State(admin): State<Shared>,
    Who(who): Who,
    request: Request,
) -> Answer<(StatusCode, Json<ArtifactView>)> {
    admin.authenticator.require_somewhere(who, Scope::Deploy)?;
    let bytes_max = admin.upload_bytes_max;
    let length =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let waits = request.headers().contains_key(EXPECT);
    let mut body = request.into_body();
    if length.is_some_and(|length| length > bytes_max) {
        if !waits {
            linger(&mut body, bytes_max).await;
        }
        return Err(too_large(bytes_max).into());
    }
    let artifacts = admin.artifacts.clone();
    let (pieces, written) = mpsc::channel(PIECES_MAX);
    let writing = tokio::task::spawn_blocking(move || write(artifacts.writer(bytes_max)?, written));
    let passed = pass(&mut body, &pieces).await;
    drop(pieces);
    // The disk's answer first: when it is full, that is why nobody took the next piece.
    let written = writing
        .await
        .map_err(|error| Problem::new(&code::INTERNAL, format!("write the artifact: {error}")))?;
    match written {
        Ok(Some(view)) => Ok((StatusCode::CREATED, Json(view))),
        Err(error) => {
            linger(&mut body, bytes_max).await;
            Err(problem_of(error).into())
        }
        Ok(None) => {
            let ended = || Problem::new(&code::BAD_REQUEST, "the upload ended before its end");
            Err(passed.err().unwrap_or_else(ended).into())
        }
    }
}

pub(super) async fn show(
    State(admin): State<Shared>,
    Who(who): Who,
    Segment(digest): Segment,
) -> Answer<Json<ArtifactView>> {
    admin.authenticator.require_somewhere(who, Scope::Deploy)?;
    let digest: Digest =
        digest.parse().map_err(|error| Problem::new(&code::BAD_REQUEST, format!("`{digest}`: {error}")))?;
    let size = size(&admin, digest).await?;
    // Whoever asks is about to deploy it.
    let now = SystemTime::from(admin.observe.clock.now());
    let artifacts = admin.artifacts.clone();
    let touched =
        tokio::task::spawn_blocking(move || artifacts.touch(&digest, now).map_err(problem_of)).await;
    touched.map_err(|error| Problem::new(&code::INTERNAL, format!("touch {digest}: {error}")))??;
    Ok(Json(ArtifactView { digest, size }))
}

/// How many bytes an artifact has; a problem if it is not there.
pub(super) async fn size(admin: &Admin, digest: Digest) -> Result<u64, Problem> {
    let artifacts = admin.artifacts.clone();
    let length = tokio::task::spawn_blocking(move || {
        let file = artifacts.open_file(&digest).map_err(problem_of)?;
        let metadata = file.metadata();
        metadata
            .map_err(|error| Problem::new(&code::INTERNAL, format!("look at the artifact {digest}: {error}")))
    });
    let metadata =
        length.await.map_err(|error| Problem::new(&code::INTERNAL, format!("look at {digest}: {error}")))?;
    Ok(metadata?.len())
}

/// What an artifact is; a problem if it is not there, or nothing that can be run.
pub(super) async fn format(admin: &Admin, digest: Digest) -> Result<Format, Problem> {
    let artifacts = admin.artifacts.clone();
    let head = tokio::task::spawn_blocking(move || {
        let file = artifacts.open_file(&digest).map_err(problem_of)?;
        let mut head = Vec::with_capacity(HEAD_BYTES);
        file.take(HEAD_BYTES as u64)
            .read_to_end(&mut head)
            .map_err(|error| Problem::new(&code::INTERNAL, format!("read the artifact {digest}: {error}")))?;
        Ok::<_, Problem>(head)
    });
    let head =
        head.await.map_err(|error| Problem::new(&code::INTERNAL, format!("look at {digest}: {error}")))??;
    Format::of(&head)
}

/// Passes a body on, piece by piece, and then `None` if all of it came.
pub(super) async fn pass(body: &mut Body, pieces: &mpsc::Sender<Option<Bytes>>) -> Result<(), Problem> {
    loop {
        let frame = timeout(PIECE_TIMEOUT, body.frame()).await.map_err(|_| {
            let seconds = PIECE_TIMEOUT.as_secs();
            Problem::new(&code::REQUEST_TIMEOUT, format!("the upload paused for more than {seconds} s"))
        })?;
        let piece = match frame {
            None => None,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Some(data),
                Err(_trailers) => continue,
            },
            Some(Err(error)) => {
                return Err(Problem::new(
                    &code::BAD_REQUEST,
                    format!("the upload ended before its end: {error}"),
                ));
            }
        };
        let whole = piece.is_none();
        // Whoever writes has stopped: its own error says why.
        if pieces.send(piece).await.is_err() || whole {
            return Ok(());
        }
    }
}

/// Writes what comes; `None` if it broke off, and then nothing is left of it.
fn write(
    mut writer: ArtifactWriter,
    mut pieces: mpsc::Receiver<Option<Bytes>>,
) -> Result<Option<ArtifactView>, ArtifactError> {
    let mut size = 0;
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Some(bytes) => {
                size += bytes.len() as u64;
                writer.write(&bytes)?;
            }
            None => return Ok(Some(ArtifactView { digest: writer.finish()?, size })),
        }
    }
    Ok(None)
}

/// Reads on for a while after the answer is clear.
///
/// A client that sends all before it reads would else see a broken connection in place of the reason.
pub(crate) async fn linger(body: &mut Body, bytes_max: u64) {
    let mut left = bytes_max.max(LINGER_BYTES_MIN);
    while left > 0 {
        let Ok(Some(Ok(frame))) = timeout(PIECE_TIMEOUT, body.frame()).await else { return };
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len).max(1) as u64);
    }
}

fn too_large(bytes_max: u64) -> Problem {
    Problem::new(&code::REQUEST_TOO_LARGE, format!("the upload has more than {}", ByteSize(bytes_max)))
        .hint("build without debug information; whoever runs the server can raise the bound")
}

fn problem_of(error: ArtifactError) -> Problem {
    match error {
        ArtifactError::Full => Problem::new(&code::DISK_FULL, error.to_string())
            .hint("make room on the disk of the data directory"),
        ArtifactError::TooLarge { bytes_max } => too_large(bytes_max),
        ArtifactError::Missing { digest } => Problem::new(
            &code::ARTIFACT_NOT_FOUND,
            format!("the artifact {} is not uploaded", digest.short()),
        )
        .hint("send its bytes to `POST /v1/artifacts` first"),
        ArtifactError::Corrupt { .. } => {
            Problem::new(&code::ARTIFACT_DAMAGED, error.to_string()).hint("upload it again")
        }
        ArtifactError::File { ref source, .. } => Problem::new(&code::INTERNAL, format!("{error}: {source}")),
    }
}
