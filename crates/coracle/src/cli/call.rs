//! `coracle call`: one call, as any HTTP client would make it; the answer's body on standard output, as it comes.
//! An answer that says it failed ends with exit code 1. With `--repeat` it is many calls, and their latencies.

mod load;
mod queued;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use coracle_api::client::{FunctionCall, FunctionReply};
use coracle_api::{CallView, Client, ProblemView};
use coracle_model::{Body, FunctionRef, NamespaceName, Owner, Problem, code};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde_json::json;

use self::load::Load;
use super::ago::micros;
use crate::options::{Common, Named};
use crate::stop::{Done, Stop};
use crate::talk::{BAD, DIM, GOOD, styled};
use crate::{print, talk};

const EXAMPLES: &str = "\
Examples:
  coracle call hello -d Ada
  coracle call resize -d @cat.jpg --path '/?width=200' -o small.jpg
  coracle call shop -X PUT -H 'content-type: application/json' -d @- -i < order.json
  coracle call resize --async -d @cat.jpg -H 'x-callback-url: https://example.com/done'
  coracle call hello --repeat 1000 --concurrency 8

With --async, `-H 'x-coracle-delay: 30s'` delays it, `x-coracle-group: order-17` runs those of a
group in order, and `idempotency-key: KEY` sent twice is one call.";

/// The largest answer that `--json` holds in memory, in bytes.
const JSON_BODY_BYTES_MAX: usize = 64 << 20;
/// The largest error that is read, in bytes.
const PROBLEM_BYTES_MAX: usize = 1 << 20;

/// Call a function: its answer goes to standard output, and it fails when the status is 400 or more.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The function, as NAME or NAME.NS
    name: Named,
    /// The body: a text, @FILE, or @- for standard input
    #[arg(short = 'd', long, value_name = "BODY|@FILE")]
    body: Option<String>,
    /// Its own path and query, as in `/thumb?width=64`
    #[arg(long, default_value = "", value_name = "PATH", hide_default_value = true)]
    path: String,
    /// The method [default: GET, or POST with a body]
    #[arg(short = 'X', long, value_name = "METHOD")]
    method: Option<Method>,
    /// A header; may be repeated
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    header: Vec<Header>,
    /// Also show the status, the headers and the time it took, on standard error
    #[arg(short, long, visible_short_alias = 'v')]
    include: bool,
    /// Write the answer to a file
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["repeat", "json"])]
    output: Option<PathBuf>,
    /// Queue it, and print its ID; it is tried again if it fails
    #[arg(long = "async", conflicts_with_all = ["repeat", "include"])]
    queued: bool,
    /// Wait for the end of a queued call, and print its answer
    #[arg(long, requires = "queued")]
    wait: bool,
    /// Call so many times, and show how long it took in place of the answers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=REPEAT_MAX))]
    repeat: Option<u32>,
    /// How many of them at once
    #[arg(long, value_name = "C", default_value_t = 1, requires = "repeat")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=CONCURRENCY_MAX))]
    concurrency: u32,
}

/// Calls whose latencies are kept in memory.
const REPEAT_MAX: i64 = 10_000_000;
/// Each is a connection.
const CONCURRENCY_MAX: i64 = 1_000;

#[derive(Debug, Clone)]
struct Header(HeaderName, HeaderValue);

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("write it as `NAME: VALUE`")?;
        let name = name.trim().parse().map_err(|_| format!("`{name}` is not a name of a header"))?;
        let value =
            value.trim().parse().map_err(|_| "its value has a character that no header has".to_owned())?;
        Ok(Self(name, value))
    }
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    let client = common.client()?;
    let function = common.function(&args.name);
    let body = args.body.as_deref().map(read).transpose()?;
    let method = args.method.unwrap_or(if body.is_some() { Method::POST } else { Method::GET });
    let mut headers = HeaderMap::new();
    for Header(name, value) in args.header {
        headers.append(name, value);
    }
    let body = Bytes::from(body.unwrap_or_default());
    let (path, of) = (args.path, function.clone());
    let call = move || FunctionCall {
        function: of.clone(),
        method: method.clone(),
        path: path.clone(),
        headers: headers.clone(),
        body: Body::once(body.clone()),
    };
    if let Some(repeat) = args.repeat {
        let load = Load { repeat, concurrency: args.concurrency };
        return load::run(&client, load, common.json, call).await;
    }
    if args.queued {
        let to = args.output.map_or_else(|| Ok(To::stdout()), To::create)?;
        return queued::run(&client, call(), args.wait, to, common).await;
    }
    let reply = client.call(call()).await?;
    if common.json {
        return render_json(reply).await;
    }
    let status = reply.head.status;
    if args.include {
        render_head(&reply);
    }
    if reply.head.headers.contains_key("x-coracle-error") {
        return render_problem(reply, &function).await;
    }
    let id = reply.head.headers.get("x-call-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let mut to = match args.output {
        Some(file) => To::create(file)?,
        None => To::stdout(),
    };
    if let Err(stop) = render_body(reply, &mut to, args.include).await {
        to.end_line_before_talk()?;
        return Err(match (stop, id) {
            (Stop::Problem(problem), Some(id)) if problem.code == code::SERVER_UNREACHABLE.name => {
                cut_off(&client, &function, &id).await.unwrap_or(Stop::Problem(problem))
            }
            (stop, _) => stop,
        });
    }
    if args.include
        && let Some(id) = &id
    {
        render_parts(&client, id).await;
    }
    if status.as_u16() < 400 {
        return Ok(());
    }
    to.end_line_before_talk()?;
    talk::say(format_args!("{} {function} answered {status}", styled(BAD, "failed:")));
    if let Some(id) = id.filter(|_| status.is_server_error()) {
        talk::hint(format_args!("coracle logs {} --call {id}", shown(&function)));
    }
    Err(Stop::Shown)
}

fn read(data: &str) -> Result<Vec<u8>, Problem> {
    let Some(file) = data.strip_prefix('@') else { return Ok(data.as_bytes().to_vec()) };
    let mut bytes = Vec::new();
    let read = match file {
        "-" => std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes),
        file => std::fs::read(file),
    };
    read.map_err(|error| {
        Problem::new(&code::BAD_REQUEST, format!("cannot read the body from {file}: {error}"))
    })
}

fn render_head(reply: &FunctionReply) {
    let status = reply.head.status;
    let style = if status.as_u16() < 400 { GOOD } else { BAD };
    talk::say(styled(style, status));
    for (name, value) in &reply.head.headers {
        talk::say(format_args!("{DIM}{name}:{DIM:#} {}", String::from_utf8_lossy(value.as_bytes())));
    }
    talk::say("");
}

/// Where an answer goes.
enum To {
    /// Standard output, which somebody may be looking at.
    Stdout {
        is_seen: bool,
        /// What was written last is not the end of a line.
        is_amid_line: bool,
    },
    File(PathBuf, File),
}

impl To {
    fn stdout() -> Self {
        Self::Stdout { is_seen: print::columns().is_some(), is_amid_line: false }
    }

    fn create(path: PathBuf) -> Result<Self, Problem> {
        let file = File::create(&path).map_err(|error| cannot_write(&path, &error))?;
        Ok(Self::File(path, file))
    }

    fn write(&mut self, chunk: &[u8]) -> Done {
        match self {
            Self::Stdout { is_seen: true, .. } if chunk.contains(&0) => {
                // As curl does: such bytes can leave a terminal in a sorry state.
                let problem =
                    Problem::new(&code::BAD_REQUEST, "the answer is not text, and this is a terminal");
                Err(problem.hint("write it to a file with `-o FILE`").into())
            }
            Self::Stdout { is_amid_line, .. } => {
                *is_amid_line = chunk.last().map_or(*is_amid_line, |last| *last != b'\n');
                print::bytes(chunk)
            }
            Self::File(path, file) => {
                Ok(file.write_all(chunk).map_err(|error| cannot_write(path, &error))?)
            }
        }
    }

    /// Ends the line, so that the prompt stands on one of its own; only a person gets a byte that is not the answer's.
    fn end_line(&mut self) -> Done {
        match self {
            Self::Stdout { is_seen: true, is_amid_line: is_amid_line @ true } => {
                *is_amid_line = false;
                print::line("")
            }
            _ => Ok(()),
        }
    }

    /// Ends the line, also where standard output is for a program: what is said next may land in the same place.
    fn end_line_before_talk(&mut self) -> Done {
        self.end_line()?;
        if let Self::Stdout { is_amid_line: is_amid_line @ true, .. } = self {
            *is_amid_line = false;
            talk::say("");
        }
        Ok(())
    }
}

fn cannot_write(file: &Path, error: &std::io::Error) -> Problem {
    Problem::new(&code::BAD_REQUEST, format!("cannot write the answer to {}: {error}", file.display()))
}

async fn render_body(mut reply: FunctionReply, to: &mut To, timed: bool) -> Done {
    let mut length = 0;
    while let Some(chunk) = reply.body.next().await? {
        to.write(&chunk)?;
        length += chunk.len();
    }
    to.end_line()?;
    if timed {
        to.end_line_before_talk()?;
        let us = |span: Duration| micros(u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
        let timings = reply.timings;
        let (connect, head, total) = (us(timings.connect), us(timings.first_byte), us(reply.total()));
        talk::say(styled(
            DIM,
            format_args!("{length} bytes, connected in {connect}, head in {head}, all in {total}"),
        ));
    }
    Ok(())
}

/// Why an answer ended in the middle: the record of its call knows, once it is written.
async fn cut_off(client: &Client, function: &FunctionRef, id: &str) -> Option<Stop> {
    const LOOKS: u32 = 20;
    for _ in 0..LOOKS {
        if let Ok(call) = client.call_view(id).await {
            let code = Problem::code_named(&call.outcome)?;
            let why = call.message.unwrap_or_default();
            let problem = Problem::new(code, format!("the answer was cut off: {why}"));
            return Some(problem.hint(format!("coracle logs {} --call {id}", shown(function))).into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    None
}

/// How long the server was at it, and with what; not everybody who may call may ask for that.
async fn render_parts(client: &Client, id: &str) {
    let Ok(call) = client.call_view(id).await else { return };
    let CallView { waited_us, start_us, run_us, total_us, cold, .. } = call;
    let [waited, start, ran, all] = [waited_us, start_us, run_us, total_us].map(micros);
    let cold = if cold { " (cold)" } else { "" };
    talk::say(styled(
        DIM,
        format_args!("on the server: waited {waited}, started in {start}{cold}, ran {ran}, all {all}"),
    ));
}

/// An error of the platform, as a person wants to read it.
async fn render_problem(mut reply: FunctionReply, function: &FunctionRef) -> Done {
    let body = reply.body.collect(PROBLEM_BYTES_MAX).await?;
    let Ok(mut problem) = serde_json::from_slice::<ProblemView>(&body) else {
        // In another shape, because the call asked for it.
        print::bytes(&body)?;
        return Err(Stop::Shown);
    };
    let owner = Problem::code_named(&problem.code).map(|code| code.owner);
    let logs = problem.call_id.as_ref().filter(|_| owner == Some(Owner::Guest));
    let logs = logs.map(|id| format!("coracle logs {} --call {id}", shown(function)));
    // The server's hint may be to look at the function's logs; here it is known which of them.
    let hints_at_logs = problem.hint.as_ref().is_some_and(|hint| hint.starts_with("`coracle logs"));
    let rest = match logs {
        Some(logs) if hints_at_logs => {
            problem.hint = Some(logs);
            None
        }
        logs => logs,
    };
    talk::problem(&problem, false);
    if let Some(logs) = rest {
        talk::say(styled(DIM, format_args!("its logs: {logs}")));
    }
    Err(Stop::Shown)
}

/// A function as one would type it.
pub(super) fn shown(function: &FunctionRef) -> String {
    match function.namespace.as_str() {
        NamespaceName::DEFAULT => function.name.to_string(),
        _ => function.to_string(),
    }
}

async fn render_json(mut reply: FunctionReply) -> Done {
    let body = reply.body.collect(JSON_BODY_BYTES_MAX).await?;
    let headers: Vec<_> = reply
        .head
        .headers
        .iter()
        .map(|(name, value)| [name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()])
        .collect();
    let status = reply.head.status;
    print::json(&json!({
        "status": status.as_u16(),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
        "first_byte_us": reply.timings.first_byte.as_micros(),
        "total_us": reply.total().as_micros(),
    }))?;
    if status < StatusCode::BAD_REQUEST { Ok(()) } else { Err(Stop::Shown) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_and_a_value() {
        let header: Header = "X-A: b: c".parse().unwrap();
        assert_eq!((header.0.as_str(), header.1.as_bytes()), ("x-a", &b"b: c"[..]));
        assert!("no colon".parse::<Header>().is_err());
        assert!("a b: c".parse::<Header>().is_err());
        assert!("a: b\r\nc: d".parse::<Header>().is_err());
    }

    #[test]
    fn a_body_is_a_text_or_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0, 159]).unwrap();
        assert_eq!(read("Ada").unwrap(), b"Ada");
        assert_eq!(read(&format!("@{}", file.path().display())).unwrap(), [0, 159]);
        assert!(read("@/no/such/file").unwrap_err().message.contains("/no/such/file"));
    }
}
