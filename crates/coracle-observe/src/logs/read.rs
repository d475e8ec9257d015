//! Reading lines back, newest first within each file, so that the last few cost a block and not a file.
//! `Logs` calls it on a thread that may wait for the disk.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use coracle_model::{FunctionName, FunctionRef};
use jiff::{SignedDuration, Timestamp};

use super::files::Directory;
use super::{Error, Filter, Line};

/// Lines that one reading returns.
pub const READ_LINES_MAX: usize = 10_000;
/// Bytes of lines that one reading returns.
pub const READ_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of files that one reading looks through.
pub const SCAN_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Functions whose files one reading opens, one after the other: those that wrote last.
pub const READ_FUNCTIONS_MAX: usize = 1_000;

/// Bytes read at a time: some hundred lines.
const BLOCK_BYTES: u64 = 32 * 1024;
/// How far the time of a file may lie before that of its last line: file systems keep a coarse clock, and lines that came at once are moved apart.
const FILE_TIME_SLACK: SignedDuration = SignedDuration::from_secs(1);

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lines {
    /// Oldest first.
    pub lines: Vec<Line>,
    /// Whether a bound ended the reading before everything that was asked for was found.
    pub cut: bool,
    /// Functions that may have such lines too and were not looked at: [`READ_FUNCTIONS_MAX`] others wrote later.
    pub functions_skipped: usize,
}

/// Which end of the log is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Want {
    /// The last `n` lines up to a time.
    Last { n: usize, until: Timestamp },
    /// The first lines from a time on.
    Since(Timestamp),
}

pub(super) fn read(directory: &Directory, filter: &Filter, want: Want) -> Result<Lines, Error> {
    let failed = |source| Error::Read { of: filter.subject(), source };
    let mut reading = Reading { filter, want, found: Lines::default(), scan_bytes_left: SCAN_BYTES_MAX };
    let written = functions(directory, filter).map_err(failed)?;
    for (number, (function, at)) in written.iter().enumerate() {
        if !reading.may_have(*at) {
            // Those that follow were written even earlier.
            break;
        }
        if number == READ_FUNCTIONS_MAX {
            let left = written[number..].iter();
            reading.found.functions_skipped = left.take_while(|(_, at)| reading.may_have(*at)).count();
            break;
        }
        reading.read_function(directory, function).map_err(failed)?;
    }
    Ok(reading.found)
}

/// The functions that have logs and may have lines that match, and when each wrote last; the latest first.
///
/// It looks at the names and times of all files of a namespace, and opens none.
fn functions(directory: &Directory, filter: &Filter) -> io::Result<Vec<(FunctionRef, Timestamp)>> {
    let in_namespace = |name| FunctionRef { namespace: filter.namespace.clone(), name };
    if let Some(name) = &filter.function {
        return Ok(vec![(in_namespace(name.clone()), Timestamp::MAX)]);
    }
    let entries = match fs::read_dir(directory.namespace(&filter.namespace)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut written: BTreeMap<FunctionName, Timestamp> = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        let file = entry.file_name();
        // Names of functions hold no dot: whatever stands before the first one is the name, of the older files too.
        let name = file.to_str().and_then(|file| file.split_once(".log"));
        let Some(name) = name.and_then(|(name, _)| FunctionName::parse(name).ok()) else { continue };
        // A file that was just removed has no time, and one that has none may be of any.
        let at = entry.metadata().and_then(|file| file.modified()).ok();
        let at = at.and_then(|at| Timestamp::try_from(at).ok()).unwrap_or(Timestamp::MAX);
        let latest = written.entry(name).or_insert(at);
        *latest = at.max(*latest);
    }
    let mut written: Vec<_> = written.into_iter().map(|(name, at)| (in_namespace(name), at)).collect();
    written.sort_by_key(|(_, at)| std::cmp::Reverse(*at));
    Ok(written)
}

struct Reading<'a> {
    filter: &'a Filter,
    want: Want,
    /// The best so far, oldest first: what every file read later has to beat.
    found: Lines,
    scan_bytes_left: u64,
}

impl Reading<'_> {
    /// Whether a function that wrote last at `written` may have lines that are wanted.
    fn may_have(&self, written: Timestamp) -> bool {
        let latest = written.checked_add(FILE_TIME_SLACK).unwrap_or(Timestamp::MAX);
        match self.want {
            Want::Since(from) => latest >= from,
            Want::Last { n, .. } => {
                let enough = self.found.lines.len() >= n.min(READ_LINES_MAX);
                !enough || self.found.lines.first().is_some_and(|first| latest >= first.at)
            }
        }
    }

    fn read_function(&mut self, directory: &Directory, function: &FunctionRef) -> io::Result<()> {
        let mut backward = Backward::new(directory.open(function)?);
        let mut kept = Kept::default();
        while let Some(bytes) = backward.next(&mut self.scan_bytes_left)? {
            let Some(line) = Line::decode(bytes, function) else { continue };
            if self.is_too_old(&line, &kept) {
                break;
            }
            if self.is_wanted(&line) {
                kept.push_front(line);
                self.found.cut |= kept.trim(self.want);
            }
        }
        self.found.cut |= backward.exhausted;
        self.merge(kept);
        Ok(())
    }

    /// Whether neither this line nor any before it can be among what is wanted.
    fn is_too_old(&self, line: &Line, kept: &Kept) -> bool {
        match self.want {
            Want::Since(from) => line.at < from,
            Want::Last { n, .. } => {
                let n = n.min(READ_LINES_MAX);
                let beaten = self.found.lines.len() >= n
                    && self.found.lines.first().is_none_or(|first| line.at < first.at);
                kept.lines.len() >= n || kept.full || beaten
            }
        }
    }

    fn is_wanted(&self, line: &Line) -> bool {
        let in_time = match self.want {
            Want::Since(_) => true,
            Want::Last { until, .. } => line.at <= until,
        };
        in_time && self.filter.matches(line)
    }

    /// Joins what one function had with what the others have, by time; a function's own lines keep their order.
    fn merge(&mut self, kept: Kept) {
        if kept.lines.is_empty() {
            return;
        }
        self.found.lines.extend(kept.lines);
        self.found.lines.sort_by_key(|line| line.at);
        let mut all = Kept::of(std::mem::take(&mut self.found.lines));
        self.found.cut |= all.trim(self.want);
        self.found.lines = all.lines.into();
    }
}

/// Lines within the bounds of one reading, oldest first.
#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Bytes ran out, so older lines are of no use.
    full: bool,
}

impl Kept {
    fn of(lines: Vec<Line>) -> Self {
        let bytes = lines.iter().map(Line::bytes).sum();
        Self { lines: lines.into(), bytes, full: false }
    }

    fn push_front(&mut self, line: Line) {
        self.bytes += line.bytes();
        self.lines.push_front(line);
    }

    /// Lets go of what is too much, at the end that is not wanted; returns whether the reader asked for it.
    fn trim(&mut self, want: Want) -> bool {
        let (lines_max, asked) = match want {
            Want::Last { n, .. } => (n.min(READ_LINES_MAX), n),
            Want::Since(_) => (READ_LINES_MAX, usize::MAX),
        };
        let mut cut = false;
        while self.lines.len() > lines_max || self.bytes > READ_BYTES_MAX {
            let over_bytes = self.bytes > READ_BYTES_MAX;
            cut |= over_bytes || lines_max < asked;
            self.full |= over_bytes;
            let gone = match want {
                Want::Last { .. } => self.lines.pop_front(),
                Want::Since(_) => self.lines.pop_back(),
            };
            self.bytes -= gone.map_or(0, |line| line.bytes());
        }
        cut
    }
}

/// The lines of a function's files, newest first.
#[derive(Debug)]
struct Backward {
    /// Still to be read, newest first.
    files: VecDeque<(File, u64)>,
    file: Option<File>,
    /// Where in the current file `block` begins.
    start: u64,
    /// Whole lines that are not yet returned are `block[..end]`.
    block: Vec<u8>,
    end: usize,
    /// Whether the end of the file may be half a line.
    torn: bool,
    /// Whether the bound on bytes read ended it.
    exhausted: bool,
}

impl Backward {
    fn new(files: Vec<(File, u64)>) -> Self {
        let files = files.into();
        Self { files, file: None, start: 0, block: Vec::new(), end: 0, torn: true, exhausted: false }
    }

    /// The line before the last one, without its line end.
    fn next(&mut self, bytes_left: &mut u64) -> io::Result<Option<&[u8]>> {
        loop {
            if self.torn {
                // A crash, or a write that is under way, left something without a line end: not a line.
                self.end = newline_before(&self.block, self.end).map_or(0, |newline| newline + 1);
                self.torn = self.end == 0;
            }
            if self.end > 0 {
                let upto = self.end - 1;
                let newline = newline_before(&self.block, upto);
                if newline.is_some() || self.start == 0 {
                    self.end = newline.map_or(0, |newline| newline + 1);
                    return Ok(Some(&self.block[self.end..upto]));
                }
            }
            if self.start == 0 && !self.open_next() {
                return Ok(None);
            }
            if *bytes_left < BLOCK_BYTES {
                self.exhausted = true;
                return Ok(None);
            }
            *bytes_left -= BLOCK_BYTES;
            self.read_block()?;
        }
    }

    fn open_next(&mut self) -> bool {
        let Some((file, bytes)) = self.files.pop_front() else { return false };
        (self.file, self.start, self.end, self.torn) = (Some(file), bytes, 0, true);
        true
    }

    /// Puts the block before what is there in front of it.
    fn read_block(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let bytes = self.start.min(BLOCK_BYTES);
        let size = usize::try_from(bytes).unwrap_or(0);
        let mut block = vec![0; size];
        match file.read_exact_at(&mut block, self.start - bytes) {
            Ok(()) => {}
            // The writer took back a write that failed: what was there is gone, what stands before it is not.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => block.fill(b'\n'),
            Err(error) => return Err(error),
        }
        block.extend_from_slice(&self.block[..self.end]);
        self.start -= bytes;
        self.end = block.len();
        self.block = block;
        Ok(())
    }
}

fn newline_before(block: &[u8], end: usize) -> Option<usize> {
    block[..end].iter().rposition(|&byte| byte == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn backward(files: &[&str], bytes_left: &mut u64) -> (Vec<String>, bool) {
        let open = |text: &&str| {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(text.as_bytes()).expect("room");
            (file, text.len() as u64)
        };
        let mut backward = Backward::new(files.iter().map(open).collect());
        let mut lines = Vec::new();
        while let Some(line) = backward.next(bytes_left).expect("a readable file") {
            lines.push(String::from_utf8(line.to_vec()).expect("text"));
        }
        (lines, backward.exhausted)
    }

    #[test]
    fn lines_come_newest_first_across_files_and_half_lines_do_not_come() {
        let (lines, exhausted) = backward(&["c\nd\nhal", "", "a\nb\n", "half"], &mut u64::MAX.clone());
        assert_eq!((lines, exhausted), (["d", "c", "b", "a"].map(str::to_owned).to_vec(), false));
    }

    #[test]
    fn a_reading_ends_when_it_has_looked_through_enough() {
        let long = "x".repeat(40_000) + "\n";
        let (lines, exhausted) = backward(&[&long, "a\n"], &mut (2 * BLOCK_BYTES).clone());
        assert_eq!((lines.len(), exhausted), (1, true));
    }

    proptest! {
        #[test]
        fn blocks_do_not_show(lengths in prop::collection::vec(0_usize..50_000, 0..8), torn in 0_usize..40_000) {
            let lines: Vec<_> = lengths.iter().enumerate().map(|(i, &length)| format!("{i}{}", "x".repeat(length))).collect();
            let mut text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
            text.push_str(&"t".repeat(torn));
            let (mut read, exhausted) = backward(&[&text], &mut u64::MAX.clone());
            read.reverse();
            prop_assert!(!exhausted);
            prop_assert_eq!(read, lines);
        }
    }
}
