//! Where lines are kept: `NAMESPACE/NAME.log`, then `.log.1`, and so on, oldest last.
//! The writer appends; readers open what is there. Nothing is synced: a power cut may cost the last lines, never a call.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coracle_model::{FunctionRef, NamespaceName};

use super::{Limits, Line};

/// The names of the files, and the lock that keeps them in place while a reader opens them.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    limits: Limits,
    // Std mutex: held while the files of one function are renamed, removed or opened; never while they are read or written.
    moving: Mutex<()>,
}

impl Directory {
    pub(super) fn new(root: &Path, limits: Limits) -> Self {
        Self { root: root.to_owned(), limits, moving: Mutex::new(()) }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn namespace(&self, namespace: &NamespaceName) -> PathBuf {
        self.root.join(namespace.as_str())
    }

    /// The files of a function, newest first, with their lengths at this moment; what is appended later is not seen.
    pub(super) fn open(&self, function: &FunctionRef) -> io::Result<Vec<(File, u64)>> {
        let _still = self.hold();
        let mut files = Vec::new();
        for age in 0..self.files_max() {
            match File::open(self.path(function, age)) {
                Ok(file) => {
                    let bytes = file.metadata()?.len();
                    files.push((file, bytes));
                }
                // A crash between two renames leaves a gap.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }

    fn path(&self, function: &FunctionRef, age: u32) -> PathBuf {
        let name = match age {
            0 => format!("{}.log", function.name),
            age => format!("{}.log.{age}", function.name),
        };
        self.namespace(&function.namespace).join(name)
    }

    /// Makes room for a new file: every file gets older, and the oldest goes.
    fn rotate(&self, function: &FunctionRef) -> io::Result<()> {
        let _still = self.hold();
        let oldest = self.files_max() - 1;
        if oldest == 0 {
            return if_there(fs::remove_file(self.path(function, 0)));
        }
        for age in (0..oldest).rev() {
            if_there(fs::rename(self.path(function, age), self.path(function, age + 1)))?;
        }
        Ok(())
    }

    fn remove(&self, function: &FunctionRef) -> io::Result<()> {
        let _still = self.hold();
        for age in 0..self.files_max() {
            if_there(fs::remove_file(self.path(function, age)))?;
        }
        // Other functions may still have logs here: then it stays.
        let _ = fs::remove_dir(self.namespace(&function.namespace));
        Ok(())
    }

    fn files_max(&self) -> u32 {
        self.limits.files_per_function_max.max(1)
    }

    fn hold(&self) -> MutexGuard<'_, ()> {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn if_there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Lines of one function that are written together.
#[derive(Debug, Default)]
pub(super) struct Burst {
    pub(super) bytes: Vec<u8>,
    /// Where each line ends in `bytes`.
    pub(super) ends: Vec<usize>,
}

impl Burst {
    pub(super) fn push(&mut self, line: &Line) {
        line.encode(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }
}

/// The files that are open for writing; the writer's own.
#[derive(Debug)]
pub(super) struct Files {
    directory: Arc<Directory>,
    open: HashMap<FunctionRef, Appending>,
    uses: u64,
}

#[derive(Debug)]
struct Appending {
    file: File,
    bytes: u64,
    used: u64,
}

/// Lines that could not be written, and why.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) lines: u64,
    pub(super) error: io::Error,
}

impl Files {
    pub(super) fn new(directory: Arc<Directory>) -> Self {
        Self { directory, open: HashMap::new(), uses: 0 }
    }

    /// Appends a burst with one write for each file it goes to: one, unless a file gets full.
    pub(super) fn append(&mut self, function: &FunctionRef, burst: &Burst) -> Result<(), Lost> {
        let mut written = 0;
        while written < burst.ends.len() {
            match self.append_some(function, burst, written) {
                Ok(upto) => written = upto,
                Err(error) => {
                    // Opened anew next time: what the failed write left is found and closed off then.
                    self.open.remove(function);
                    return Err(Lost { lines: (burst.ends.len() - written) as u64, error });
                }
            }
        }
        Ok(())
    }

    /// Closes and removes the files of a function.
    pub(super) fn remove(&mut self, function: &FunctionRef) -> io::Result<()> {
        self.open.remove(function);
        self.directory.remove(function)
    }

    /// Writes lines from number `from` on, as many as the current file holds, and returns the number of the first that is left.
    fn append_some(&mut self, function: &FunctionRef, burst: &Burst, from: usize) -> io::Result<usize> {
        let file_bytes_max = self.directory.limits.file_bytes_max;
        let begin = if from == 0 { 0 } else { burst.ends[from - 1] };
        let file = self.appending(function)?;
        let room = file_bytes_max.saturating_sub(file.bytes);
        let mut upto = burst.ends.partition_point(|&end| end.saturating_sub(begin) as u64 <= room).max(from);
        if upto == from {
            if file.bytes > 0 {
                self.open.remove(function);
                self.directory.rotate(function)?;
                return Ok(from);
            }
            // A line longer than a file has a file of its own.
            upto = from + 1;
        }
        let bytes = &burst.bytes[begin..burst.ends[upto - 1]];
        if let Err(error) = file.file.write_all(bytes) {
            // Half a line is worth nothing. Where it cannot be taken back, `open_for_append` closes it off.
            let _ = file.file.set_len(file.bytes);
            return Err(error);
        }
        file.bytes += bytes.len() as u64;
        Ok(upto)
    }

    fn appending(&mut self, function: &FunctionRef) -> io::Result<&mut Appending> {
        self.uses += 1;
        if !self.open.contains_key(function) {
            self.close_least_used();
            let (file, bytes) = open_for_append(&self.directory.path(function, 0))?;
            self.open.insert(function.clone(), Appending { file, bytes, used: 0 });
        }
        let file = self.open.get_mut(function).ok_or(ErrorKind::NotFound)?;
        file.used = self.uses;
        Ok(file)
    }

    fn close_least_used(&mut self) {
        // A walk over at most `open_files_max` entries, beside a system call that opens a file.
        while self.open.len() >= self.directory.limits.open_files_max.max(1) {
            let least =
                self.open.iter().min_by_key(|(_, file)| file.used).map(|(function, _)| function.clone());
            let Some(least) = least else { return };
            self.open.remove(&least);
        }
    }
}

fn open_for_append(path: &Path) -> io::Result<(File, u64)> {
    let open = || OpenOptions::new().read(true).append(true).create(true).open(path);
    let mut file = match (open(), path.parent()) {
        (Err(error), Some(namespace)) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(namespace)?;
            open()?
        }
        (opened, _) => opened?,
    };
    let mut bytes = file.metadata()?.len();
    let mut last = [b'\n'];
    if bytes > 0 {
        file.read_exact_at(&mut last, bytes - 1)?;
    }
    if last != [b'\n'] {
        // A crash cut the last line: the next one must not be glued to what is left of it.
        file.write_all(b"\n")?;
        bytes += 1;
    }
    Ok((file, bytes))
}
