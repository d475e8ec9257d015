//! `coracle up --demo`: three functions, deployed through the API as anybody would, and a line to call each.
//! They are part of the binary, so that the first command needs no guest toolchain.

use std::io::Write as _;

use coracle_api::{Client, FunctionSpec, FunctionView};
use coracle_model::{ByteSize, FunctionName, FunctionRef, NamespaceName, Problem, code as codes};

use super::store::built_in;
use crate::stop::Done;
use crate::talk::{self, BOLD, styled};

/// A function that comes with the binary.
struct Example {
    name: &'static str,
    /// Its code, in `examples`.
    code: &'static str,
    /// What its manifest asks for, if that is more than the default.
    memory: Option<ByteSize>,
    /// How to call it; `URL` stands for where it answers.
    line: &'static str,
}

const EXAMPLES: [Example; 3] = [
    Example { name: "hello", code: "hello/hello.wasm", memory: None, line: "curl 'URL?name=Ada'" },
    Example {
        name: "resize",
        code: "resize/resize.wasm",
        memory: Some(ByteSize(256 << 20)),
        line: "curl 'URL?width=200' --data-binary @PICTURE.jpg -o small.jpg",
    },
    Example { name: "sse", code: "sse/sse.wasm", memory: None, line: "curl -N 'URL'" },
];

/// Deploys them, and says how to call them.
pub(super) async fn deploy(url: &str, token: &str) -> Done {
    let client = Client::new(url, Some(token))?;
    for Example { name, code, memory, line } in EXAMPLES {
        let function = deploy_one(&client, name, code, memory).await?;
        let line = line.replace("URL", &format!("{url}{}", function.path));
        talk::say(format_args!("  {}{line}", styled(BOLD, format_args!("{name:<8}"))));
    }
    Ok(())
}

async fn deploy_one(client: &Client, name: &str, code: &str, memory: Option<ByteSize>) -> Done<FunctionView> {
    let name = FunctionName::parse(name)
        .map_err(|error| Problem::new(&codes::INTERNAL, format!("deploy the demo: {error}")))?;
    let wasm = built_in::file(code)
        .ok_or_else(|| Problem::new(&codes::INTERNAL, format!("deploy the demo: there is no {code}")))?;
    let unwritable =
        |error: std::io::Error| Problem::new(&codes::DATA_UNUSABLE, format!("unpack the demo: {error}"));
    let mut file = tempfile::NamedTempFile::new().map_err(unwritable)?;
    file.write_all(wasm).map_err(unwritable)?;
    let artifact = super::deploy::upload(client, &name, file.path()).await?;
    let function = FunctionRef { namespace: NamespaceName::default(), name };
    let spec = FunctionSpec { memory, ..FunctionSpec::new(artifact) };
    Ok(client.deploy(&function, &spec).await?)
}
