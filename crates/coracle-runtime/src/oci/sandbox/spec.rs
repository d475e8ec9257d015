//! What a sandbox is made of, as the server says it to the process that makes it.
//! `sandboxes.rs` sends it, `worker.rs` and `init.rs` obey; it holds secrets, so it travels in memory alone.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A sandbox to be made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// Its number; no two sandboxes of a server have the same.
    pub(crate) id: u64,
    /// Where its files come from.
    pub(crate) root: Root,
    /// An empty folder of the server's, to build the root on.
    pub(crate) scratch: PathBuf,
    /// Its bounds.
    pub(crate) bounds: Bounds,
    /// Whether nobody may write its root.
    pub(crate) read_only: bool,
    /// Who its program runs as, as an image says it: `USER`, `UID`, `USER:GROUP` or `UID:GID`; empty is root.
    pub(crate) user: String,
    /// Its host name.
    pub(crate) hostname: String,
    /// The network it sees.
    pub(crate) network: Network,
    /// What its program may read in `/run/secrets`.
    pub(crate) secrets: Vec<SecretFile>,
    /// All of the environment.
    pub(crate) env: Vec<(String, String)>,
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// The folder the program starts in.
    pub(crate) workdir: String,
    /// When the program runs.
    pub(crate) runs: Runs,
}

/// Where the files of a sandbox come from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Root {
    /// Layers of an image, the top one first.
    Image(Vec<PathBuf>),
    /// The machine's own `/usr`, and this folder at `/home/app`.
    Host(PathBuf),
}

/// How much a sandbox may use.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Bounds {
    /// Memory of all its processes and of what they write, in bytes.
    pub(crate) memory_bytes: u64,
    /// Processor time, in thousandths of a core; `None` is all there is.
    pub(crate) cpu_millis: Option<u32>,
    /// Processes and threads.
    pub(crate) processes: u32,
    /// What may be written to the root, and again to each of `/tmp` and `/dev/shm`, in bytes.
    pub(crate) writable_bytes: u64,
}

/// The network of a sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Network {
    /// A loopback of its own.
    Own {
        /// Names that stand for addresses of that loopback.
        hosts: Vec<(Ipv4Addr, String)>,
        /// Where somebody is to listen on it, on behalf of the server.
        listen: Vec<SocketAddrV4>,
    },
    /// The machine's.
    Host,
}

/// A secret, as a file.
#[derive(Hash, Serialize, Deserialize)]
pub(crate) struct SecretFile {
    pub(crate) name: String,
    #[serde(with = "letters")]
    pub(crate) value: Vec<u8>,
}

/// Any bytes as a text, in which each is the letter of its number: short, and exact.
mod letters {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&bytes.iter().map(|byte| char::from(*byte)).collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = text.chars().map(u8::try_from).collect::<Result<_, _>>();
        bytes.map_err(|_| D::Error::custom("a letter that is no byte"))
    }
}

/// When the program of a sandbox runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Runs {
    /// Once, for as long as the sandbox lives.
    Always,
    /// Once for each call.
    EachCall,
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretFile").field("name", &self.name).finish_non_exhaustive()
    }
}
