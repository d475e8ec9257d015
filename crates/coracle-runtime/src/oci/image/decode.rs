//! A layer or an archive while it is read: hashed as it comes, decompressed, hashed again, and held to its bounds.
//! `unpack.rs` reads tar from it, `archive.rs` a whole archive.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use coracle_model::{Digest, Problem};
use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use super::budget::Budget;
use super::fault::invalid;

/// The largest window that a zstd stream may ask for, as a power of two: 128 MiB, as `zstd -d` takes.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// How much tar may say of one entry before its content: long names and extended headers are read into memory.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// Bytes on their way from a compressed stream.
pub(super) struct Decoded<'a, R: Read> {
    decoder: Decoder<Tap<R>>,
    packed: Rc<Counted>,
    unpacked: Counted,
    /// How many bytes may be read until [`Allowance::content`] is said.
    allowance: Rc<Cell<u64>>,
    budget: &'a Budget,
}

/// Says what is read next: the headers of an entry, which are bounded, or its content.
#[derive(Clone)]
pub(super) struct Allowance(Rc<Cell<u64>>);

/// What a stream turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measured {
    /// The digest of the bytes as they came.
    pub(super) packed: Digest,
    /// The digest of what they unpacked to.
    pub(super) unpacked: Digest,
    /// How many bytes that was.
    pub(super) bytes: u64,
}

impl<'a, R: Read> Decoded<'a, R> {
    /// Reads this stream: gzip, zstd or neither, by its first bytes.
    pub(super) fn new(stream: R, budget: &'a Budget) -> io::Result<Self> {
        let packed = Rc::new(Counted::default());
        let tap = Tap { inner: stream, counted: Rc::clone(&packed) };
        let decoder = Decoder::new(BufReader::new(tap))?;
        let allowance = Rc::new(Cell::new(u64::MAX));
        Ok(Self { decoder, packed, unpacked: Counted::default(), allowance, budget })
    }

    pub(super) fn allowance(&self) -> Allowance {
        Allowance(Rc::clone(&self.allowance))
    }

    /// Reads to the end, what follows the archive included: digests are of all of it.
    pub(super) fn finish(mut self) -> io::Result<Measured> {
        self.allowance.set(u64::MAX);
        io::copy(&mut self, &mut io::sink())?;
        let mut rest = self.decoder.into_inner();
        io::copy(&mut rest, &mut io::sink())?;
        let bytes = self.unpacked.bytes.get();
        Ok(Measured { packed: self.packed.digest(), unpacked: self.unpacked.digest(), bytes })
    }
}

impl<R: Read> Read for Decoded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        self.unpacked.add(&buffer[..read]);
        let bytes = read as u64;
        let left = self.allowance.get().checked_sub(bytes);
        let left =
            left.ok_or_else(|| invalid("the head of an entry is too long")).map_err(io::Error::other)?;
        if left < HEADER_BYTES_MAX {
            self.allowance.set(left);
        }
        let within: Result<(), Problem> = self
            .budget
            .take_bytes(bytes)
            .and_then(|()| self.budget.check_ratio(self.packed.bytes.get(), self.unpacked.bytes.get()));
        within.map_err(io::Error::other)?;
        Ok(read)
    }
}

impl Allowance {
    /// What is read next are headers.
    pub(super) fn headers(&self) {
        self.0.set(HEADER_BYTES_MAX - 1);
    }

    /// What is read next is content, which has bounds of its own.
    pub(super) fn content(&self) {
        self.0.set(u64::MAX);
    }
}

enum Decoder<R: Read> {
    Plain(BufReader<R>),
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<R>>>),
}

impl<R: Read> Decoder<R> {
    fn new(mut stream: BufReader<R>) -> io::Result<Self> {
        // A first piece of less than four bytes is no archive of any kind.
        let start = stream.fill_buf()?;
        if start.starts_with(&[0x1f, 0x8b]) {
            return Ok(Self::Gzip(Box::new(MultiGzDecoder::new(stream))));
        }
        let is_skippable =
            |start: &[u8]| start.len() > 3 && start[0] & 0xf0 == 0x50 && start[1..4] == [0x2a, 0x4d, 0x18];
        if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable(start) {
            let mut decoder = zstd::Decoder::with_buffer(stream)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            return Ok(Self::Zstd(Box::new(decoder)));
        }
        Ok(Self::Plain(stream))
    }

    fn into_inner(self) -> BufReader<R> {
        match self {
            Self::Plain(inner) => inner,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish(),
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(inner) => inner.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// A stream whose bytes are hashed and counted while they pass.
struct Tap<R> {
    inner: R,
    counted: Rc<Counted>,
}

impl<R: Read> Read for Tap<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.counted.add(&buffer[..read]);
        Ok(read)
    }
}

#[derive(Default)]
struct Counted {
    hash: RefCell<Sha256>,
    bytes: Cell<u64>,
}

impl Counted {
    fn add(&self, bytes: &[u8]) {
        self.hash.borrow_mut().update(bytes);
        self.bytes.set(self.bytes.get() + bytes.len() as u64);
    }

    fn digest(&self) -> Digest {
        Digest::from_bytes(self.hash.borrow().clone().finalize().into())
    }
}
