//! A PostgreSQL of one's own: in a temporary directory, on a Unix socket there, and gone with whoever started it.
//! Used by tests that need one, which may also kill it and start it again on what it left, and by benchmarks.

mod encrypted;

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Where Debian puts the versions of PostgreSQL that are installed.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Accounts that a server may run as when we are root, which it refuses to be.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];
/// How long a server may take to start, which after a kill includes to recover.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a start is tried while processes of a server that was killed are still about to end.
const STARTS_MAX: u32 = 100;
const START_PAUSE: Duration = Duration::from_millis(50);
/// The port that a socket is named after, unless there is another.
const PORT: u16 = 5432;
/// What a server says when it takes connections.
const READY: &str = "database system is ready to accept connections";
/// Lives beside the server, and ends it when our end of its standard input is closed, however we ended.
const KEEPER: &str = r#""$@" & server=$!; exec 2>/dev/null; read -r _; kill -INT "$server"; wait "$server""#;
/// The superuser needs no password; whoever else is made does, and whoever comes by a network must come by TLS.
const WHO_MAY: &str =
    "local all postgres trust\nlocal all all scram-sha-256\nhostssl all all 127.0.0.0/8 scram-sha-256\n";

/// A server, its files, and how to reach it. Dropping it ends the server and removes the files.
#[derive(Debug)]
pub struct OwnPostgres {
    // Before the directory, so that it has ended when its files go.
    server: Option<Server>,
    programs: PathBuf,
    account: Option<Account>,
    settings: Vec<(String, String)>,
    /// Where it listens beside its socket, if it does.
    network: Option<SocketAddr>,
    dir: TempDir,
}

impl OwnPostgres {
    /// Makes a new one and starts it, with the settings that PostgreSQL has of itself.
    ///
    /// # Errors
    /// If PostgreSQL is not installed, or does not start: with its own last words.
    pub fn start() -> io::Result<Self> {
        Self::start_with(&[])
    }

    /// Makes a new one and starts it, with some settings of `postgresql.conf`.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_with(settings: &[(&str, &str)]) -> io::Result<Self> {
        let mut own = Self::make(settings)?;
        own.start_again()?;
        Ok(own)
    }

    fn make(settings: &[(&str, &str)]) -> io::Result<Self> {
        let programs = programs()?;
        let dir = tempfile::Builder::new().prefix("pg").tempdir()?;
        let account = if rustix::process::geteuid().is_root() { Some(Account::find()?) } else { None };
        if let Some(Account { user, group }) = account {
            chown(dir.path(), Some(user), Some(group))?;
        }
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let own = Self { server: None, programs, account, settings, network: None, dir };
        own.initialize()?;
        Ok(own)
    }

    /// The URL of the database that is always there.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_to("postgres")
    }

    /// Makes an empty database, and returns its URL.
    ///
    /// # Errors
    /// If there is one of that name.
    pub fn database(&self, name: &str) -> io::Result<String> {
        self.sql("postgres", &format!("CREATE DATABASE \"{name}\""))?;
        Ok(self.url_to(name))
    }

    /// The URL of a database that was made.
    #[must_use]
    pub fn url_to(&self, database: &str) -> String {
        format!("postgres://postgres@/{database}?{}", self.place())
    }

    /// The URL of a database for another user, who has a password.
    #[must_use]
    pub fn url_for(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgres://{user}:{password}@/{database}?{}", self.place())
    }

    /// Runs statements as the superuser, and returns what they print, without decoration.
    ///
    /// # Errors
    /// With PostgreSQL's words.
    pub fn sql(&self, database: &str, statements: &str) -> io::Result<String> {
        let socket = self.dir.path().as_os_str();
        let port = self.port().to_string();
        let said = run(self.command("psql").arg("-h").arg(socket).args([
            "--port",
            &port,
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
            "--username=postgres",
            "--dbname",
            database,
            "--command",
            statements,
        ]))?;
        Ok(said.trim_end().to_owned())
    }

    /// Ends the server as a crash would. What it had not written down is lost; nobody was told of it.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&mut self) -> io::Result<()> {
        let server = self.server.take().ok_or_else(not_running)?;
        kill_process(self.pid()?, Signal::KILL)?;
        drop(server);
        Ok(())
    }

    /// Ends the server in order; connections are cut.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts it again after [`kill`](Self::kill) or [`stop`](Self::stop), with what it had.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_again(&mut self) -> io::Result<()> {
        for _ in 1..STARTS_MAX {
            match self.try_start() {
                // A server that was killed leaves processes that notice it in their own time.
                Err(error) if error.to_string().contains("still in use") => std::thread::sleep(START_PAUSE),
                result => return result,
            }
        }
        self.try_start()
    }

    fn try_start(&mut self) -> io::Result<()> {
        let data = self.data();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEPER, "sh"]).arg(self.programs.join("postgres"));
        command.arg("-D").arg(&data).arg("-k").arg(self.dir.path()).args(["-c", "listen_addresses="]);
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        self.become_owner(&mut command);
        self.server = Some(Server::start(&mut command)?);
        Ok(())
    }

    fn initialize(&self) -> io::Result<()> {
        let mut command = self.command("initdb");
        command.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
        run(command.arg("-D").arg(self.data()))?;
        fs::write(self.data().join("pg_hba.conf"), WHO_MAY)
    }

    /// Where its socket is, which is named after the port.
    fn place(&self) -> String {
        format!("host={}&port={}", self.dir.path().display(), self.port())
    }

    fn port(&self) -> u16 {
        self.network.map_or(PORT, |address| address.port())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        self.become_owner(&mut command);
        command
    }

    fn become_owner(&self, command: &mut Command) {
        command.current_dir(self.dir.path());
        if let Some(Account { user, group }) = self.account {
            command.uid(user).gid(group);
        }
    }

    fn pid(&self) -> io::Result<Pid> {
        let file = fs::read_to_string(self.data().join("postmaster.pid"))?;
        let pid = file.lines().next().and_then(|line| line.parse().ok()).and_then(Pid::from_raw);
        pid.ok_or_else(not_running)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }
}

/// A server and its keeper.
#[derive(Debug)]
struct Server {
    keeper: Child,
}

impl Server {
    /// Starts it, and waits until it takes connections.
    fn start(command: &mut Command) -> io::Result<Self> {
        let keeper = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut server = Self { keeper };
        let words = listen(server.keeper.stderr.take());
        let mut said = Vec::new();
        while let Ok(line) = words.recv_timeout(START_TIMEOUT) {
            if line.contains(READY) {
                return Ok(server);
            }
            said.push(line);
        }
        Err(io::Error::other(format!("PostgreSQL does not start: {}", said.join("\n"))))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait(); // It has ended, or cannot be waited for: there is no more to do.
    }
}

/// The lines of a stream, read to its end by a thread, so that whoever writes them never waits for us.
fn listen(stream: Option<impl io::Read + Send + 'static>) -> Receiver<String> {
    const LINES_MAX: usize = 1000;
    let (tell, told) = sync_channel(LINES_MAX);
    if let Some(stream) = stream {
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let _ = tell.try_send(line); // Nobody listens once the server is ready.
            }
        });
    }
    told
}

/// The numbers of an account.
#[derive(Debug, Clone, Copy)]
struct Account {
    user: u32,
    group: u32,
}

impl Account {
    fn find() -> io::Result<Self> {
        let accounts = fs::read_to_string("/etc/passwd")?;
        ACCOUNTS
            .iter()
            .find_map(|name| accounts.lines().find_map(|line| Self::read(line, name)))
            .ok_or_else(|| io::Error::other("there is no account to run PostgreSQL as, other than root"))
    }

    fn read(line: &str, name: &str) -> Option<Self> {
        let mut fields = line.strip_prefix(name)?.strip_prefix(':')?.split(':').skip(1);
        Some(Self { user: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
    }
}

/// The programs of the newest version that is installed.
fn programs() -> io::Result<PathBuf> {
    let missing = || {
        let hint = format!("no PostgreSQL in {VERSIONS}; `cargo xtask test --only install` installs it");
        io::Error::new(io::ErrorKind::NotFound, hint)
    };
    let versions = fs::read_dir(VERSIONS).map_err(|_| missing())?;
    let version =
        |path: &Path| path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse::<u32>().ok());
    let found = versions.filter_map(Result::ok).map(|version| version.path());
    let installed = found.filter(|path| path.join("bin/postgres").is_file());
    installed.max_by_key(|path| version(path)).map(|path| path.join("bin")).ok_or_else(missing)
}

fn run(command: &mut Command) -> io::Result<String> {
    let program = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{program} ended with {}: {}", output.status, said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn not_running() -> io::Error {
    io::Error::other("the server does not run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_committed_survives_a_kill() {
        let mut own = OwnPostgres::start_with(&[("fsync", "off")]).unwrap();
        own.database("one").unwrap();
        own.sql("one", "CREATE TABLE t (n int); INSERT INTO t VALUES (7)").unwrap();
        own.kill().unwrap();
        assert!(own.sql("one", "SELECT n FROM t").is_err(), "it is gone");
        own.start_again().unwrap();
        assert_eq!(own.sql("one", "SELECT n FROM t").unwrap(), "7");
        let dir = own.dir.path().to_owned();
        drop(own);
        assert!(!dir.exists(), "nothing is left behind");
    }
}
