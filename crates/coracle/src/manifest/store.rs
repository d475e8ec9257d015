//! A store of ours: tables as a manifest has them, and beside each what people read before they deploy it.
//! `coracle store` reads its own, and any other that somebody names.

use coracle_model::{Problem, code};

use super::document::{Document, Entry};
use super::{Function, function};

/// What a table has beside the keys of a manifest.
const KEYS: [&str; 5] = ["title", "description", "author", "example", "sha256"];

/// A function that is offered.
#[derive(Debug)]
pub(crate) struct Offer {
    /// What is deployed; a path of its code is relative to the store.
    pub(crate) function: Function,
    /// What it is called.
    pub(crate) title: Option<String>,
    /// What it does.
    pub(crate) description: Option<String>,
    /// Who wrote it.
    pub(crate) author: Option<String>,
    /// How it is called; `URL` stands for where it answers.
    pub(crate) example: Option<String>,
    /// The SHA-256 that its code must have, in hexadecimal digits.
    pub(crate) sha256: Option<String>,
}

/// Understands the text of a store; `file` is its name in errors.
pub(crate) fn parse(file: &str, text: &str) -> Result<Vec<Offer>, Problem> {
    let document = Document { file, text };
    let root = document.parse()?;
    let mut offers = Vec::new();
    for entry in document.entries(&root) {
        match entry.key {
            "function" => {
                for table in entry.table()? {
                    offers.push(offer(&table)?);
                }
            }
            _ => return Err(entry.unknown_key(&["function"])),
        }
    }
    if offers.is_empty() {
        let problem = Problem::new(&code::INVALID_MANIFEST, format!("{file} offers no function"));
        return Err(problem.hint("add a table `[function.NAME]` with a line `code = \"FILE.wasm\"`"));
    }
    Ok(offers)
}

fn offer(table: &Entry<'_>) -> Result<Offer, Problem> {
    let function = function::read(table, &KEYS)?;
    let entries = table.table()?;
    let entry = |key| entries.iter().find(|entry| entry.key == key);
    let text = |key| entry(key).map(|entry| entry.text().map(str::to_owned)).transpose();
    if let Some(build) = entry("build") {
        let problem = build.key_problem("a store offers what is built already");
        return Err(problem.hint("build it, and name the result with `code`"));
    }
    let sha256 = text("sha256")?.map(|digits| digits.to_ascii_lowercase());
    if let (Some(digits), Some(entry)) = (&sha256, entry("sha256"))
        && (digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
    {
        return Err(entry.problem("`sha256` must be 64 hexadecimal digits").hint("sha256sum FILE"));
    }
    Ok(Offer {
        function,
        title: text("title")?,
        description: text("description")?,
        author: text("author")?,
        example: text("example")?,
        sha256,
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, expected: Expect) {
        let problem = parse("store.toml", text).unwrap_err();
        let hint = problem.hint.as_deref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        expected.assert_eq(&format!("{problem}{hint}"));
    }

    #[test]
    fn a_table_is_that_of_a_manifest_and_a_little_more() {
        let text = "[function.a]\ntitle = 'A'\ndescription = 'it'\nexample = 'curl URL'\ncode = 'a.wasm'\nmemory = '64MiB'\n[function.b]\nimage = 'b:1'\n";
        let offers = parse("store.toml", text).unwrap();
        let [a, b] = &offers[..] else { panic!("two") };
        assert_eq!((a.title.as_deref(), a.function.settings.limits.memory_bytes), (Some("A"), 64 << 20));
        assert_eq!((b.function.name.as_str(), &b.title), ("b", &None));
    }

    #[test]
    fn every_mistake_is_shown_where_it_stands() {
        check(
            "app = 'x'\n",
            expect![[r#"
            store.toml:1:1: unknown key `app`
              |
            1 | app = 'x'
              | ^^^
            hint: known here: function"#]],
        );
        check(
            "",
            expect![[r#"
            store.toml offers no function
            hint: add a table `[function.NAME]` with a line `code = "FILE.wasm"`"#]],
        );
        check(
            "[function.a]\ncode = 'a.wasm'\ntitel = 'A'\n",
            expect![[r#"
                store.toml:3:1: unknown key `titel`
                  |
                3 | titel = 'A'
                  | ^^^^^
                hint: known here: build, code, image, contract, command, entrypoint, workdir, user, port, health, http2, start_timeout, read_only, network, secrets_in_env, cpu, processes, scale, route, private, env, secrets, outbound, memory, timeout, stream_timeout, concurrency, waiting, request_body, response_body, log_rate, reuse, content_type, labels, annotations, queue"#]],
        );
        check(
            "[function.a]\ncode = 'a.wasm'\nbuild = 'make'\n",
            expect![[r#"
            store.toml:3:1: a store offers what is built already
              |
            3 | build = 'make'
              | ^^^^^
            hint: build it, and name the result with `code`"#]],
        );
        check(
            "[function.a]\ncode = 'a.wasm'\nsha256 = '12'\n",
            expect![[r#"
            store.toml:3:10: `sha256` must be 64 hexadecimal digits
              |
            3 | sha256 = '12'
              |          ^^^^
            hint: sha256sum FILE"#]],
        );
    }
}
