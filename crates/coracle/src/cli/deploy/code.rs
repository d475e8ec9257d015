//! Code on its way to the server: the digest, the upload.
//! `coracle deploy` calls it for each function, the demo for its own three.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use coracle_api::Client;
use coracle_model::{ByteSize, Digest, FunctionName, Problem, code};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};

use crate::stop::Done;
use crate::talk;

/// An upload that is done sooner shows no bar.
const MOMENT: Duration = Duration::from_millis(300);

/// How much of a file is hashed at once.
const HASH_CHUNK_BYTES: usize = 64 << 10;

/// More than any server takes, whatever its `--upload-max`: it is not even read.
pub(super) const CODE_BYTES_MAX: u64 = 4 << 30;

/// Uploads a file, unless the server has it.
pub(in crate::cli) async fn upload(client: &Client, name: &FunctionName, file: &Path) -> Done<Digest> {
    let length = std::fs::metadata(file).map_or(0, |file| file.len());
    if length > CODE_BYTES_MAX {
        let (length, most) = (ByteSize(length), ByteSize(CODE_BYTES_MAX));
        let message =
            format!("{} has {length}, and no server takes code of more than {most}", file.display());
        return Err(Problem::new(&code::REQUEST_TOO_LARGE, message).into());
    }
    let (digest, size) = digest(file).map_err(|error| {
        Problem::new(&code::BAD_REQUEST, format!("cannot read {}: {error}", file.display()))
    })?;
    if client.artifact(&digest).await?.is_some() {
        return Ok(digest);
    }
    let bar = bar(name, size);
    let moving = bar.clone();
    let uploaded = client.upload(file, move |sent| moving.set_position(sent)).await;
    bar.finish_and_clear();
    Ok(uploaded?.digest)
}

fn bar(name: &FunctionName, size: u64) -> ProgressBar {
    if !talk::is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(size), indicatif::ProgressDrawTarget::hidden());
    // The template is ours, and right.
    let style = ProgressStyle::with_template("uploading {msg} {wide_bar} {bytes}/{total_bytes} {eta}");
    let bar =
        bar.with_message(name.to_string()).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let shown = bar.clone();
    tokio::spawn(async move {
        tokio::time::sleep(MOMENT).await;
        if !shown.is_finished() {
            shown.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        }
    });
    bar
}

fn digest(file: &Path) -> io::Result<(Digest, u64)> {
    let mut file = File::open(file)?;
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut chunk = vec![0; HASH_CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok((Digest::from_bytes(hash.finalize().into()), size)),
            read => {
                hash.update(&chunk[..read]);
                size += read as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_its_sha256() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let (digest, size) = digest(file.path()).unwrap();
        assert_eq!(
            (digest.to_string().as_str(), size),
            ("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 3)
        );
    }
}
