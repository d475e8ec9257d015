//! Bodies of calls: a short one stands in its message, a long one is an artifact.
//! `put.rs` reads them in, `run.rs` has them read back.

use std::io::Read as _;

use bytes::{Bytes, BytesMut};
use coracle_model::{Body, BodyError, ByteSize, Digest, Problem, code};
use coracle_store::{ArtifactError, Artifacts};
use futures_util::StreamExt as _;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::{Semaphore, mpsc};

use crate::payload::KeptBody;
use crate::put::RETRY_AFTER_S;

/// The largest body that stands in its message, in bytes.
pub(crate) const INLINE_BYTES_MAX: usize = 6 << 20;
/// Memory for all bodies that are being read, in KiB; while there is none, those that come are written to the disk.
const READING_KIB_MAX: usize = 256 << 10;
/// Pieces that wait for the disk.
const PIECES_MAX: usize = 16;
/// Bytes read from the disk at once.
const PIECE_BYTES: usize = 256 << 10;

/// Room for as many bodies as may be read at once.
pub(crate) fn room() -> Semaphore {
    Semaphore::new(READING_KIB_MAX)
}

/// Reads a body to its end.
pub(crate) async fn keep(
    artifacts: &Artifacts,
    reading: &Semaphore,
    mut body: Body,
    bytes_max: u64,
) -> Result<KeptBody, Problem> {
    let mut held = Vec::new();
    let (mut first, mut read) = (None::<Bytes>, BytesMut::new());
    let mut bytes = 0u64;
    while let Some(data) = next(&mut body).await? {
        bytes += data.len() as u64;
        if bytes > bytes_max {
            return Err(too_large(bytes_max));
        }
        let room = reading.try_acquire_many(u32::try_from(data.len() / 1024 + 1).unwrap_or(u32::MAX));
        let has_room = room.is_ok();
        held.extend(room);
        if bytes > INLINE_BYTES_MAX as u64 || !has_room {
            let begun = first.into_iter().chain((!read.is_empty()).then(|| read.freeze()));
            let pieces: Vec<Bytes> = begun.chain([data]).collect();
            return keep_long(artifacts, pieces, bytes, body, bytes_max).await;
        }
        // Most bodies come in one piece, which needs no copy.
        if first.is_none() && read.is_empty() {
            first = Some(data);
            continue;
        }
        if let Some(first) = first.take() {
            read.extend_from_slice(&first);
        }
        read.extend_from_slice(&data);
    }
    Ok(KeptBody::Here(first.unwrap_or_else(|| read.freeze())))
}

/// A body that is an artifact, piece by piece.
pub(crate) async fn open(artifacts: &Artifacts, digest: &Digest) -> Result<Body, Problem> {
    let (artifacts, digest) = (artifacts.clone(), *digest);
    let file = blocking(move || artifacts.open_file(&digest).map_err(problem_of)).await??;
    let pieces = futures_util::stream::unfold(Some(file), |file| async {
        let mut file = file?;
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE_BYTES];
            let read = file.read(&mut piece)?;
            piece.truncate(read);
            Ok::<_, std::io::Error>((piece, file))
        });
        match read.await {
            Ok(Ok((piece, _))) if piece.is_empty() => None,
            Ok(Ok((piece, file))) => Some((Ok(http_body::Frame::data(Bytes::from(piece))), Some(file))),
            Ok(Err(error)) => Some((Err(BodyError::broken(error)), None)),
            Err(error) => Some((Err(BodyError::broken(error)), None)),
        }
    });
    Ok(Body::stream(StreamBody::new(pieces.boxed())))
}

/// Writes a body to the disk as it comes.
async fn keep_long(
    artifacts: &Artifacts,
    begun: Vec<Bytes>,
    mut bytes: u64,
    mut body: Body,
    bytes_max: u64,
) -> Result<KeptBody, Problem> {
    let artifacts = artifacts.clone();
    let (pieces, mut waiting) = mpsc::channel::<Bytes>(PIECES_MAX);
    let (done, is_done) = tokio::sync::oneshot::channel::<()>();
    let writing = tokio::task::spawn_blocking(move || {
        let mut writer = artifacts.writer(bytes_max)?;
        for piece in begun {
            writer.write(&piece)?;
        }
        while let Some(piece) = waiting.blocking_recv() {
            writer.write(&piece)?;
        }
        // A body that broke off is no artifact.
        match is_done.blocking_recv() {
            Ok(()) => writer.finish().map(Some),
            Err(_) => Ok(None),
        }
    });
    let passed = async {
        while let Some(data) = next(&mut body).await? {
            bytes += data.len() as u64;
            if bytes > bytes_max {
                return Err(too_large(bytes_max));
            }
            // The writer that is gone says why.
            if pieces.send(data).await.is_err() {
                break;
            }
        }
        let _ = done.send(());
        Ok(())
    }
    .await;
    drop(pieces);
    let written: Result<Option<Digest>, ArtifactError> =
        writing.await.map_err(|error| Problem::new(&code::INTERNAL, format!("write the body: {error}")))?;
    passed?;
    match written.map_err(problem_of)? {
        Some(digest) => Ok(KeptBody::Artifact { digest, bytes, mark: mark() }),
        None => Err(Problem::new(&code::INTERNAL, "the body was not written to its end")),
    }
}

async fn next(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(BodyError::Problem(problem))) => return Err(*problem),
            Some(Err(broken @ BodyError::Broken(_))) => {
                return Err(Problem::new(&code::CLIENT_GONE, broken.to_string()));
            }
        }
    }
}

/// What tells the uses of one artifact apart.
fn mark() -> String {
    format!("{:016x}", coracle_runtime::random_bits())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.map_err(|error| Problem::new(&code::INTERNAL, format!("read the body: {error}")))
}

fn too_large(bytes_max: u64) -> Problem {
    Problem::new(&code::REQUEST_TOO_LARGE, format!("the body of the request is over {}", ByteSize(bytes_max)))
        .hint("set `request_body` of the function to allow more")
}

fn problem_of(error: ArtifactError) -> Problem {
    match error {
        ArtifactError::Missing { .. } => {
            Problem::new(&code::CALL_UNREADABLE, format!("the body of the call is gone: {error}"))
        }
        ArtifactError::Full => Problem::new(&code::STORE_UNAVAILABLE, "the disk is full")
            .hint("make room on the disk of the data directory")
            .retry_after(RETRY_AFTER_S),
        error @ ArtifactError::Unavailable { .. } => {
            Problem::new(&code::STORE_UNAVAILABLE, format!("the body of the call: {error}"))
                .hint("try again in a moment")
                .retry_after(RETRY_AFTER_S)
        }
        error => Problem::new(&code::INTERNAL, format!("the body of the call: {error}")),
    }
}
