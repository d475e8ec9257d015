//! Tables under `docs/` that are made from the code, compared with what is checked in.
//! `cargo xtask generate` runs these tests with `UPDATE_EXPECT` set, and so writes them.
#![expect(clippy::unwrap_used, reason = "what cannot be read fails the test")]

use std::fmt::Write as _;
use std::path::Path;

use coracle_model::{ByteSize, CODES, Limits, Queueing, RetryPolicy, Scale, Settings, Span};
use expect_test::expect_file;
use serde_json::Value;

const MADE_BY: &str = "<!-- Made by `cargo xtask generate`. -->";

/// Keys of a manifest that its reader understands, and the API does not know: name, default, meaning.
const MANIFEST_ALONE: [(&str, &str, &str); 2] = [
    ("build", "none", "A command for the shell, run in the manifest's folder before `code` is read."),
    (
        "code",
        "required, or `image`",
        "What to deploy, relative to the manifest's folder: a `.wasm`, or a program as a folder, an archive (`.tar`, `.tar.gz`, `.tgz`, `.zip`) or an executable.",
    ),
];

/// The keys of the API that a manifest does not have: its `code` becomes the one, what another system wrote the other.
const API_ALONE: [&str; 2] = ["artifact", "original"];

#[test]
fn the_index_of_errors_lists_every_code() {
    let mut page = format!(
        "# Errors\n\n{MADE_BY}\n\nEvery error has a code, in the header `x-coracle-error` and in the field `code` of its body.\n\
         `coracle explain CODE` prints its page.\n\n| code | status | whose fault | what it is |\n|---|---|---|---|\n"
    );
    for code in CODES {
        let (name, owner) = (code.name, code.owner.as_str());
        row(&mut page, &[&format!("[{name}]({name}.md)"), &code.status.to_string(), owner, code.title]);
    }
    expect_file!["../../docs/errors/README.md"].assert_eq(&page);
}

#[test]
fn the_page_of_metrics_lists_every_metric() {
    let mut page = format!(
        "# Metrics\n\n{MADE_BY}\n\n`GET /metrics` answers these in the format of Prometheus; it needs a token.\n\n\
         | metric | kind | what it counts |\n|---|---|---|\n"
    );
    for metric in coracle_observe::metrics::table() {
        row(&mut page, &[&format!("`{}`", metric.name), metric.kind.as_str(), metric.help]);
    }
    page.push_str(
        "\n## Under OpenFaaS' names\n\nThe same calls, for dashboards that know these; `function_name` is `NAME.NAMESPACE`, where `default` is `openfaas-fn`.\n\n\
         | metric | kind | what it counts |\n|---|---|---|\n",
    );
    for family in coracle_faces::openfaas::metrics::Family::ALL {
        let mut head = String::new();
        family.write_head(&mut head);
        let after = |word: &str| {
            let line =
                head.lines().find_map(|line| line.strip_prefix(&format!("# {word} {} ", family.name())));
            line.unwrap().to_owned()
        };
        row(&mut page, &[&format!("`{}`", family.name()), &after("TYPE"), &after("HELP")]);
    }
    expect_file!["../../docs/metrics.md"].assert_eq(&page);
}

#[test]
fn the_reference_lists_every_key_of_a_manifest() {
    let mut page = format!(
        "# The manifest, `coracle.toml`\n\n{MADE_BY}\n\n\
         Above all tables stand `app` (the functions of a manifest are deployed, shown and removed together under this name) \
         and `namespace` (`default` if nothing is said).\n\
         Each function has a table `[function.NAME]`, with these keys:\n\n\
         | key | default | what it is |\n|---|---|---|\n"
    );
    for (key, default, meaning) in MANIFEST_ALONE {
        row(&mut page, &[&format!("`{key}`"), default, meaning]);
    }
    let api =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json")).unwrap();
    let api: Value = serde_json::from_str(&api).unwrap();
    let keys = api.pointer("/components/schemas/FunctionSpec/properties").and_then(Value::as_object).unwrap();
    for (key, schema) in keys.iter().filter(|(key, _)| !API_ALONE.contains(&key.as_str())) {
        // What may be absent and is an object stands as one of two, the first of them described.
        let described = schema["oneOf"][0].as_object().map_or(schema, |_| &schema["oneOf"][0]);
        let meaning =
            described["description"].as_str().unwrap_or_else(|| panic!("`{key}` has no description"));
        row(&mut page, &[&format!("`{key}`"), &default_of(key), meaning]);
    }
    let example =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/coracle.toml")).unwrap();
    writeln!(page, "\n`/resize/*` also answers `/resize`. A flag of `coracle deploy` outranks the manifest for that deploy alone.").unwrap();
    write!(page, "\n## Every key\n\n```toml\n{example}```\n").unwrap();
    expect_file!["../../docs/reference.md"].assert_eq(&page);
}

/// What a key is when nothing is said, as a manifest would say it.
fn default_of(key: &str) -> String {
    let Settings { limits, reuse, private, program, scale, queue, .. } = Settings::default();
    let Limits {
        memory_bytes,
        timeout,
        stream_timeout,
        concurrency,
        waiting,
        request_body_bytes,
        response_body_bytes,
        log_bytes_per_second,
    } = limits;
    let quoted = |value: &dyn std::fmt::Display| format!("`\"{value}\"`");
    match key {
        "memory" => quoted(&ByteSize(memory_bytes)),
        "timeout" => quoted(&Span(timeout)),
        "stream_timeout" => quoted(&Span(stream_timeout)),
        "concurrency" => format!("`{concurrency}`"),
        "waiting" => format!("`{waiting}`"),
        "request_body" => quoted(&ByteSize(request_body_bytes)),
        "response_body" => quoted(&ByteSize(response_body_bytes)),
        "log_rate" => quoted(&ByteSize(log_bytes_per_second)),
        "reuse" => format!("`{reuse}`"),
        "private" => format!("`{private}`"),
        "content_type" => "`\"application/octet-stream\"`".to_owned(),
        "start_timeout" => quoted(&Span(program.start_timeout)),
        "http2" => format!("`{}`", program.http2),
        "read_only" => format!("`{}`", program.read_only),
        "network" => quoted(&program.network),
        "secrets_in_env" => format!("`{}`", program.secrets_in_env),
        "processes" => format!("`{}`", program.processes),
        "scale" => {
            let Scale { min, max, target, grows, idle } = scale;
            format!(
                "`{{ min = {min}, max = {max}, target = {target}, grows = {grows}, idle = \"{}\" }}`",
                Span(idle)
            )
        }
        "queue" => {
            let Queueing { concurrency, retry, .. } = queue;
            let RetryPolicy { attempts, first_wait, longest_wait, age, statuses } = retry;
            let statuses: Vec<_> = statuses.iter().map(|statuses| format!("\"{statuses}\"")).collect();
            format!(
                "`{{ attempts = {attempts}, first_wait = \"{}\", longest_wait = \"{}\", age = \"{}\", retry_on = [{}], concurrency = {concurrency} }}`",
                Span(first_wait),
                Span(longest_wait),
                Span(age),
                statuses.join(", ")
            )
        }
        "contract" => "see there".to_owned(),
        "command" | "entrypoint" | "workdir" | "user" | "port" => "the image's own".to_owned(),
        "image" | "cpu" | "health" => "none".to_owned(),
        "env" | "secrets" | "outbound" | "route" | "labels" | "annotations" => "none".to_owned(),
        _ => panic!("`{key}` is new: what is its default?"),
    }
}

fn row(page: &mut String, cells: &[&str]) {
    writeln!(page, "| {} |", cells.join(" | ").replace('\n', " ")).unwrap();
}
