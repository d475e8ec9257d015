//! What goes wrong with an image, as problems.
//! Everything in this folder makes them; errors of files and streams become problems here, in one way.

use std::error::Error;
use std::io::{self, ErrorKind};

use coracle_model::{Problem, code};
use rustix::io::Errno;

/// How much of a name from outside an error repeats.
const SHOWN_MAX: usize = 100;

/// An image or an archive that breaks a rule.
pub(super) fn invalid(message: impl Into<String>) -> Problem {
    Problem::new(&code::IMAGE_INVALID, message)
}

/// What the system refused, while something was done.
pub(super) fn failed(what: &str, error: impl Into<io::Error>) -> Problem {
    let error = error.into();
    if let Some(problem) = within(&error) {
        return problem.clone();
    }
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Problem::new(&code::DISK_FULL, format!("{what}: {error}"))
                .hint("make room on the disk of the data directory; `coracle image prune` removes images that nothing needs")
        }
        // What decoders say of bytes that they do not understand.
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::InvalidInput => {
            invalid(format!("{what}: {error}"))
        }
        _ => Problem::new(&code::INTERNAL, format!("{what}: {error}")),
    }
}

/// A stream that could not be read: what comes from outside is wrong, unless it says otherwise.
pub(super) fn unreadable(what: &str, error: &io::Error) -> Problem {
    within(error).cloned().unwrap_or_else(|| invalid(format!("{what}: {error}")))
}

/// What the system refused in a folder that is being unpacked.
pub(super) fn unpacking(entry: &[u8], errno: Errno) -> Problem {
    let entry = shown(entry);
    match errno {
        Errno::PERM | Errno::ACCESS | Errno::NOTSUP => Problem::new(
            &code::UNPACK_DENIED,
            format!("unpack `{entry}`: the system does not allow it: {errno}"),
        )
        .hint("images take a server that runs as root, with its data on a file system such as ext4 or xfs"),
        Errno::LOOP | Errno::NOTDIR | Errno::XDEV => {
            invalid(format!("`{entry}` lies below something that is not a folder"))
        }
        Errno::NAMETOOLONG
        | Errno::INVAL
        | Errno::ISDIR
        | Errno::NOTEMPTY
        | Errno::EXIST
        | Errno::NOENT
        | Errno::MLINK => invalid(format!("`{entry}` cannot be unpacked: {errno}")),
        errno => failed(&format!("unpack `{entry}`"), errno),
    }
}

/// A name from outside, for an error: short, and without control characters.
pub(super) fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut shown: String =
        text.chars().take(SHOWN_MAX).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// Our own problem, if that is what ended a stream. Readers can only fail with an I/O error, so it travels inside one.
fn within(error: &io::Error) -> Option<&Problem> {
    let mut source: Option<&(dyn Error + 'static)> = error.get_ref().map(|inner| inner as _);
    while let Some(inner) = source {
        if let Some(problem) = inner.downcast_ref::<Problem>() {
            return Some(problem);
        }
        source = match inner.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as _),
            None => inner.source(),
        };
    }
    None
}
