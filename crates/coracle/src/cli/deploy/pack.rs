//! A folder or an executable as one file to upload: a tar whose bytes depend on nothing but the files.
//! `coracle deploy` packs with it what is neither WebAssembly nor an archive already.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use coracle_model::{ByteSize, Problem, code};
use ignore::WalkBuilder;
use tar::{Builder, EntryType, Header};
use tempfile::NamedTempFile;

use super::code::CODE_BYTES_MAX;
use crate::manifest;

/// What names files of a folder that stay behind, in the syntax of `.gitignore`.
const IGNORE_FILE: &str = ".coracleignore";

/// Entries of a bundle, at most.
const ENTRIES_MAX: usize = 200_000;

/// Code that is ready to be uploaded.
#[derive(Debug)]
pub(super) enum Packed {
    /// The file itself: WebAssembly, or an archive.
    AsItIs(PathBuf),
    /// A bundle of a folder.
    Folder(NamedTempFile),
    /// A bundle of one executable, and the command that starts it.
    Executable(NamedTempFile, String),
}

impl Packed {
    /// Packs a file or a folder, as far as it has to be.
    pub(super) fn of(path: &Path) -> Result<Self, Problem> {
        let cannot = |error: io::Error| {
            let message = format!("cannot pack {}: {error}", path.display());
            Problem::new(&code::BAD_REQUEST, message)
        };
        if path.is_dir() {
            return pack_folder(path).map(Self::Folder);
        }
        if is_taken_as_it_is(path).map_err(cannot)? {
            return Ok(Self::AsItIs(path.to_owned()));
        }
        let name = path.file_name().unwrap_or_default();
        if fs::metadata(path).map_err(cannot)?.permissions().mode() & 0o111 == 0 {
            let message =
                format!("{} is neither WebAssembly nor an archive, and cannot be executed", path.display());
            return Err(
                Problem::new(&code::BAD_REQUEST, message).hint(format!("chmod +x {}", path.display()))
            );
        }
        let mut bundle = Bundle::begin().map_err(cannot)?;
        // It may well be named by a link.
        bundle.add(&fs::canonicalize(path).map_err(cannot)?, Path::new(name))?;
        Ok(Self::Executable(bundle.end().map_err(cannot)?, format!("./{}", name.to_string_lossy())))
    }

    /// The file to upload.
    pub(super) fn file(&self) -> &Path {
        match self {
            Self::AsItIs(path) => path,
            Self::Folder(file) | Self::Executable(file, _) => file.path(),
        }
    }
}

/// Whether the server knows what to do with this very file.
fn is_taken_as_it_is(file: &Path) -> io::Result<bool> {
    const ENDINGS: [&str; 5] = [".wasm", ".tar", ".tar.gz", ".tgz", ".zip"];
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let mut magic = Vec::with_capacity(4);
    File::open(file)?.take(4).read_to_end(&mut magic)?;
    Ok(ENDINGS.iter().any(|ending| name.ends_with(ending)) || magic == b"\0asm")
}

fn pack_folder(folder: &Path) -> Result<NamedTempFile, Problem> {
    let cannot = |error: &dyn std::fmt::Display| {
        Problem::new(&code::BAD_REQUEST, format!("cannot pack {}: {error}", folder.display()))
    };
    let mut bundle = Bundle::begin().map_err(|error| cannot(&error))?;
    // It may be named by a link, which would not be followed.
    let folder = &fs::canonicalize(folder).map_err(|error| cannot(&error))?;
    let files = WalkBuilder::new(folder)
        // What git does not keep is often just what runs: only our own file leaves things out.
        .standard_filters(false)
        .add_custom_ignore_filename(IGNORE_FILE)
        .sort_by_file_name(std::ffi::OsStr::cmp)
        .filter_entry(|entry| entry.depth() == 0 || !stays_behind(entry.path(), entry.depth()))
        .build();
    for entry in files {
        let entry = entry.map_err(|error| cannot(&error))?;
        let Ok(inside) = entry.path().strip_prefix(folder) else { continue };
        if inside != Path::new("") {
            bundle.add(entry.path(), inside)?;
        }
    }
    if bundle.entries == 0 {
        return Err(cannot(&"it is empty").hint("name the folder that has the program in it"));
    }
    bundle.end().map_err(|error| cannot(&error))
}

/// What no program wants: the history of its source, what cargo built it with, and what is for us.
fn stays_behind(path: &Path, depth: usize) -> bool {
    let name = path.file_name().unwrap_or_default();
    name == ".git"
        || name == "target" && path.join("CACHEDIR.TAG").is_file()
        || depth == 1 && (name == IGNORE_FILE || name == manifest::FILE_NAME)
}

/// A tar that grows in a temporary file.
struct Bundle {
    tar: Builder<BufWriter<NamedTempFile>>,
    entries: usize,
    bytes: u64,
}

impl Bundle {
    fn begin() -> io::Result<Self> {
        Ok(Self { tar: Builder::new(BufWriter::new(NamedTempFile::new()?)), entries: 0, bytes: 0 })
    }

    /// Adds what is at a path under its name in the bundle.
    fn add(&mut self, path: &Path, name: &Path) -> Result<(), Problem> {
        let cannot = |why: &dyn std::fmt::Display| {
            Problem::new(&code::BAD_REQUEST, format!("cannot pack {}: {why}", path.display()))
        };
        let leave_out = format!("remove it, or name it in {IGNORE_FILE}");
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            let problem = cannot(&format!("there are more than {ENTRIES_MAX} files"));
            return Err(problem.hint(format!("name what is not needed in {IGNORE_FILE}")));
        }
        let metadata = fs::symlink_metadata(path).map_err(|error| cannot(&error))?;
        let mut header = header(&metadata);
        if metadata.is_dir() {
            header.set_entry_type(EntryType::Directory);
            return self
                .tar
                .append_data(&mut header, name.join(""), io::empty())
                .map_err(|error| cannot(&error));
        }
        if metadata.is_symlink() {
            let target = fs::read_link(path).map_err(|error| cannot(&error))?;
            if !stays_inside(name, &target) {
                let problem = cannot(&format!("it is a link out of the folder, to {}", target.display()));
                return Err(problem.hint(leave_out));
            }
            header.set_entry_type(EntryType::Symlink);
            return self.tar.append_link(&mut header, name, target).map_err(|error| cannot(&error));
        }
        if !metadata.is_file() {
            return Err(cannot(&"it is neither a file, a folder nor a link").hint(leave_out));
        }
        self.bytes += metadata.len();
        if self.bytes > CODE_BYTES_MAX {
            let problem = cannot(&format!("with it there are more than {}", ByteSize(CODE_BYTES_MAX)));
            return Err(problem.hint(format!("name what is not needed in {IGNORE_FILE}, or deploy an image")));
        }
        header.set_size(metadata.len());
        let file = File::open(path).map_err(|error| cannot(&error))?;
        // What is appended meanwhile stays behind; what is cut off would shift all that follows.
        let mut file = file.take(metadata.len());
        self.tar.append_data(&mut header, name, &mut file).map_err(|error| cannot(&error))?;
        if file.limit() > 0 { Err(cannot(&"it became shorter while it was read")) } else { Ok(()) }
    }

    fn end(self) -> io::Result<NamedTempFile> {
        let mut file = self.tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.flush()?;
        Ok(file)
    }
}

/// A head in which nothing depends on whose file it is, and when it was written.
fn header(metadata: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    let is_program = metadata.is_dir() || metadata.permissions().mode() & 0o111 != 0;
    header.set_mode(if is_program { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

/// Whether a link of this name, followed as it is written, ends within the folder.
fn stays_inside(name: &Path, target: &Path) -> bool {
    let mut depth = name.components().count().saturating_sub(1);
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => match depth.checked_sub(1) {
                Some(above) => depth = above,
                None => return false,
            },
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder(files: &[(&str, u32)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, mode) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        folder
    }

    fn entries(packed: &Packed) -> Vec<String> {
        let mut tar = tar::Archive::new(File::open(packed.file()).unwrap());
        let shown = tar.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
            let path = entry.path().unwrap().display().to_string();
            let link =
                entry.link_name().unwrap().map(|to| format!(" -> {}", to.display())).unwrap_or_default();
            format!("{:o} {path}{link}", header.mode().unwrap())
        });
        shown.collect()
    }

    #[test]
    fn a_folder_is_packed_whole_but_for_what_no_program_wants() {
        let folder = folder(&[
            ("server", 0o700),
            ("lib/b.js", 0o600),
            ("lib/a.js", 0o664),
            ("node_modules/x/.hidden", 0o644),
            (".gitignore", 0o644),
            (".git/config", 0o644),
            ("target/CACHEDIR.TAG", 0o644),
            ("lib/target/x", 0o644),
            ("debug.log", 0o644),
            ("coracle.toml", 0o644),
        ]);
        fs::write(folder.path().join(".gitignore"), "node_modules").unwrap();
        fs::write(folder.path().join(IGNORE_FILE), "*.log\n").unwrap();
        symlink("../server", folder.path().join("lib/run")).unwrap();
        let packed = Packed::of(folder.path()).unwrap();
        assert_eq!(
            entries(&packed),
            [
                "644 .gitignore",
                "755 lib/",
                "644 lib/a.js",
                "644 lib/b.js",
                "755 lib/run -> ../server",
                "755 lib/target/",
                "644 lib/target/x",
                "755 node_modules/",
                "755 node_modules/x/",
                "644 node_modules/x/.hidden",
                "755 server",
            ]
        );
        assert!(matches!(packed, Packed::Folder(_)));
    }

    #[test]
    fn the_same_files_are_the_same_bytes_wherever_and_whenever_they_lie() {
        let files = [("b", 0o755), ("a/c", 0o644), ("a.txt", 0o600)];
        let (one, other) = (folder(&files), folder(&[files[2], files[0], files[1]]));
        let bytes = |folder: &Path| fs::read(Packed::of(folder).unwrap().file()).unwrap();
        assert_eq!(bytes(one.path()), bytes(other.path()));
        fs::set_permissions(other.path().join("b"), fs::Permissions::from_mode(0o644)).unwrap();
        assert_ne!(bytes(one.path()), bytes(other.path()));
    }

    #[test]
    fn a_link_out_of_the_folder_is_named() {
        for target in ["/etc/passwd", "../x", "a/../../x"] {
            let folder = folder(&[("a", 0o644)]);
            symlink(target, folder.path().join("out")).unwrap();
            let problem = Packed::of(folder.path()).unwrap_err();
            assert!(problem.message.contains("/out: it is a link out of the folder, to "), "{problem}");
        }
    }

    #[test]
    fn an_executable_becomes_a_bundle_and_an_archive_goes_as_it_is() {
        let folder =
            folder(&[("hello.sh", 0o755), ("notes.txt", 0o644), ("app.tar.gz", 0o644), ("x.wasm", 0o644)]);
        let of = |name: &str| Packed::of(&folder.path().join(name));
        let packed = of("hello.sh").unwrap();
        assert_eq!(entries(&packed), ["755 hello.sh"]);
        assert!(matches!(&packed, Packed::Executable(_, command) if command == "./hello.sh"));
        for name in ["app.tar.gz", "x.wasm"] {
            assert!(matches!(of(name).unwrap(), Packed::AsItIs(_)), "{name}");
        }
        let problem = of("notes.txt").unwrap_err();
        assert!(problem.hint.unwrap().starts_with("chmod +x "));
    }

    #[test]
    fn what_cannot_be_packed_is_an_error() {
        let empty = tempfile::tempdir().unwrap();
        assert!(Packed::of(empty.path()).unwrap_err().message.ends_with("it is empty"));
        let _socket = std::os::unix::net::UnixListener::bind(empty.path().join("socket")).unwrap();
        assert!(
            Packed::of(empty.path()).unwrap_err().message.contains("neither a file, a folder nor a link")
        );
    }
}
