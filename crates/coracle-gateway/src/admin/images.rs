//! Images: pulled from registries, loaded from archives, listed, removed.
//! `coracle image` asks here. They are the whole server's, so that what changes a name takes a token for all of it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use coracle_api::{
    IMAGE_BYTES_MAX, ImageQuery, ImageView, LoadQuery, Page, ProblemView, PrunedView, PullEvent,
    PullProgress, PullRequest,
};
use coracle_model::{BodyError, ByteSize, Code, Digest, FunctionRef, NamespaceName, Problem, Scope, code};
use coracle_runtime::{Credentials, Image, Images, Progress, Pruned};
use futures_util::stream;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::sync::{mpsc, watch};

use super::artifacts::{PIECES_MAX, linger, pass};
use super::logs::NDJSON;
use super::rim::{Answer, Asked, Failure, Sent, Who};
use super::{Admin, Shared};

/// How often a client is told how far a pull is.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

pub(super) async fn list(State(admin): State<Shared>, Who(who): Who) -> Answer<Json<Page<ImageView>>> {
    admin.authenticator.require_somewhere(who, Scope::Deploy)?;
    let needed = admin.catalog.artifacts();
    let views = admin.images.list().into_iter().map(|image| {
        let named = admin.images.find(&image.reference).is_some_and(|named| named.digest == image.digest);
        ImageView { named, ..view(&needed, image) }
    });
    Ok(Json(views.collect()))
}

pub(super) async fn pull(
    State(admin): State<Shared>,
    Who(who): Who,
    Sent(request): Sent<PullRequest>,
) -> Answer<Response> {
    let PullRequest { reference, namespace, if_missing } = request;
    admin.authenticator.require_in(who, Scope::Deploy, &namespace)?;
    let registry = registry_of(&reference)?;
    let credentials = credentials(&admin, &namespace, &registry);
    let (told, progress) = watch::channel(Progress::default());
    let puller = admin.clone();
    let pulled = Box::pin(async move {
        if let Some(image) = puller.images.find(&reference).filter(|_| if_missing) {
            return PullEvent::Image(view(&puller.catalog.artifacts(), image));
        }
        let pulled = puller
            .images
            .pull(&reference, credentials, |progress| {
                let _before = told.send_replace(progress);
            })
            .await;
        match pulled {
            Ok(image) => PullEvent::Image(view(&puller.catalog.artifacts(), image)),
            Err(problem) => PullEvent::Problem(ProblemView::new(&problem, None)),
        }
    });
    // A client that goes away drops the stream, and the pull with it; layers that are complete are kept.
    let lines = stream::unfold(Some((pulled, progress)), async |pulling| {
        let (mut pulled, mut progress) = pulling?;
        let event = tokio::select! {
            ended = &mut pulled => return Some((line(&ended), None)),
            event = next(&mut progress) => event,
        };
        Some((line(&event), Some((pulled, progress))))
    });
    let mut response = Response::new(Body::new(StreamBody::new(lines)));
    response.headers_mut().insert(CONTENT_TYPE, NDJSON);
    Ok(response)
}

pub(super) async fn load(
    State(admin): State<Shared>,
    Who(who): Who,
    Asked(LoadQuery { tag }): Asked<LoadQuery>,
    request: Request,
) -> Answer<(StatusCode, Json<Page<ImageView>>)> {
    // Whoever loads says what a name stands for, to everybody.
    admin.authenticator.require(who, Scope::Deploy)?;
    let length =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > IMAGE_BYTES_MAX) {
        return Err(too_large().into());
    }
    let archive = receive(&admin, request.into_body()).await?;
    let loaded = admin.images.load(archive, tag.as_deref()).await?;
    let needed = admin.catalog.artifacts();
    Ok((StatusCode::CREATED, Json(loaded.into_iter().map(|image| view(&needed, image)).collect())))
}

pub(super) async fn remove(
    State(admin): State<Shared>,
    Who(who): Who,
    asked: Result<Asked<ImageQuery>, Failure>,
) -> Answer<Json<PrunedView>> {
    admin.authenticator.require(who, Scope::Deploy)?;
    // Who may not ask is told that, and not how to ask better.
    let Asked(ImageQuery { reference }) = asked?;
    let pruned = admin.images.remove(&reference, admin.catalog.artifacts()).await?;
    Ok(Json(pruned_view(pruned)))
}

pub(super) async fn prune(State(admin): State<Shared>, Who(who): Who) -> Answer<Json<PrunedView>> {
    admin.authenticator.require(who, Scope::Deploy)?;
    let pruned = admin.images.prune(&admin.catalog.artifacts()).await?;
    Ok(Json(pruned_view(pruned)))
}

/// The image that a function is to run: its whole name, and the manifest that the name stands for now.
///
/// A registry says what its names stand for, at every deploy, and whether this namespace may have it; only what was
/// loaded from an archive is taken as it is here. What is here already does not come again.
pub(super) async fn deployed(
    admin: &Admin,
    function: &FunctionRef,
    reference: &str,
) -> Result<(String, Digest), Problem> {
    if let Some(image) = admin.images.find(reference).filter(|image| image.loaded) {
        return Ok((image.reference, image.digest));
    }
    let registry = registry_of(reference)?;
    let pulled =
        admin.images.pull(reference, credentials(admin, &function.namespace, &registry), |_| ()).await;
    match pulled {
        Ok(image) => Ok((image.reference, image.digest)),
        // Another setting of what runs already needs nobody's help.
        Err(problem) if problem.code == &code::REGISTRY_UNAVAILABLE => {
            let current = admin.catalog.resolve(function).map(|revision| revision.code.clone());
            let here = admin.images.find(reference);
            match (current, here) {
                (Some(Code::Image { digest, .. }), Some(image)) if image.digest == digest => {
                    tracing::warn!(%function, %problem, "what the image stands for could not be asked; it stays as it is");
                    Ok((image.reference, digest))
                }
                _ => Err(problem),
            }
        }
        Err(problem) => Err(problem),
    }
}

/// The registry of an image; whoever names a file is told how the image in it gets here.
fn registry_of(reference: &str) -> Result<String, Problem> {
    Images::registry_of(reference).map_err(|problem| match reference.starts_with(['.', '/']) {
        true => problem.hint("an image in a file is loaded first, and then goes by its name: coracle image load FILE --tag NAME"),
        false => problem,
    })
}

fn credentials(admin: &Admin, namespace: &NamespaceName, registry: &str) -> Option<Credentials> {
    let known = admin.catalog.registry_credentials(namespace, registry)?;
    Some(Credentials::new(known.username, known.password.as_str()))
}

/// Takes an upload into a file that has no name.
async fn receive(admin: &Admin, mut body: Body) -> Result<File, Problem> {
    let images = admin.images.clone();
    let (pieces, written) = mpsc::channel(PIECES_MAX);
    let writing = tokio::task::spawn_blocking(move || write(images.new_archive()?, written));
    let passed = pass(&mut body, &pieces).await;
    drop(pieces);
    let written = writing
        .await
        .map_err(|error| Problem::new(&code::INTERNAL, format!("write the archive: {error}")))?;
    match written {
        Ok(Some(file)) => Ok(file),
        Err(problem) => {
            linger(&mut body, 0).await;
            Err(problem)
        }
        Ok(None) => {
            let ended = || Problem::new(&code::BAD_REQUEST, "the upload ended before its end");
            Err(passed.err().unwrap_or_else(ended))
        }
    }
}

/// Writes what comes; `None` if it broke off.
fn write(mut file: File, mut pieces: mpsc::Receiver<Option<Bytes>>) -> Result<Option<File>, Problem> {
    let cannot = |error: std::io::Error| {
        let full = error.kind() == std::io::ErrorKind::StorageFull;
        let code = if full { &code::DISK_FULL } else { &code::INTERNAL };
        Problem::new(code, format!("write the archive: {error}"))
    };
    let mut size = 0;
    while let Some(piece) = pieces.blocking_recv() {
        let Some(bytes) = piece else {
            file.seek(SeekFrom::Start(0)).map_err(cannot)?;
            return Ok(Some(file));
        };
        size += bytes.len() as u64;
        if size > IMAGE_BYTES_MAX {
            return Err(too_large());
        }
        file.write_all(&bytes).map_err(cannot)?;
    }
    Ok(None)
}

/// The next word of how far a pull is, not too soon after the last one.
async fn next(progress: &mut watch::Receiver<Progress>) -> PullEvent {
    // A pace, and no waiting: a line for each piece that comes would be more than the pieces.
    tokio::time::sleep(PROGRESS_EVERY).await;
    if progress.changed().await.is_err() {
        // Nobody pulls any more: how it ended comes next, from elsewhere.
        std::future::pending::<()>().await;
    }
    let Progress { layers, layers_done, bytes, bytes_total } = *progress.borrow_and_update();
    PullEvent::Progress(PullProgress { layers, layers_done, bytes, bytes_total })
}

fn line(event: &PullEvent) -> Result<Frame<Bytes>, BodyError> {
    // Texts and numbers always have a JSON.
    let mut json = serde_json::to_vec(event).unwrap_or_default();
    json.push(b'\n');
    Ok(Frame::data(json.into()))
}

fn view(needed: &HashSet<Digest>, image: Image) -> ImageView {
    let Image { reference, digest, config, layers, size, created, loaded: _ } = image;
    ImageView {
        reference,
        named: true,
        digest,
        size,
        layers: layers.len(),
        created,
        entrypoint: config.entrypoint,
        command: config.command,
        user: config.user,
        workdir: config.workdir,
        port: config.port,
        in_use: needed.contains(&digest),
    }
}

fn pruned_view(Pruned { images, layers }: Pruned) -> PrunedView {
    PrunedView { images, layers }
}

fn too_large() -> Problem {
    Problem::new(&code::REQUEST_TOO_LARGE, format!("the archive has more than {}", ByteSize(IMAGE_BYTES_MAX)))
        .hint("push it to a registry, and pull it from there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_names_a_file_is_told_to_load_it() {
        let hint = |reference: &str| registry_of(reference).unwrap_err().hint.unwrap_or_default();
        assert!(hint("./shop.tar").contains("coracle image load"));
        assert!(hint("/tmp/shop.tar").contains("coracle image load"));
        assert!(!hint("Shop").contains("load"));
        assert_eq!(registry_of("ghcr.io/team/shop").unwrap(), "ghcr.io");
    }
}
