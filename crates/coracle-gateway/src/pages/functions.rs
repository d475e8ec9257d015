//! The page at `/ui/`: which functions there are, and how to call one.
//! It is made anew for each look, and holds nothing that must be loaded but its style.

use std::fmt;

use axum::extract::State;
use coracle_catalog::{Filter, Function};
use coracle_model::{Code, FunctionRef, NamespaceName, Principal, Problem, Reach, Scope, code};
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName};
use serde::Deserialize;

use super::STYLE;
use super::html::Text;
use crate::admin::rim::{Answer, Asked, Who};
use crate::admin::{Admin, Shared};

/// Functions on one page.
const FUNCTIONS_MAX: usize = 500;

/// What a page may be asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// The last function of the page before.
    after: Option<String>,
}

pub(super) async fn list(
    State(admin): State<Shared>,
    Who(who): Who,
    Asked(query): Asked<Query>,
    headers: HeaderMap,
) -> Answer<([(HeaderName, &'static str); 1], String)> {
    let who = admin.authenticator.require_somewhere(who, Scope::Deploy)?;
    let after = query.after.as_deref().map(FunctionRef::parse).transpose();
    let after = after.map_err(|error| Problem::new(&code::BAD_REQUEST, format!("`after`: {error}")))?;
    let mut found = reached(&admin, &who, after.as_ref());
    let more = found.len() > FUNCTIONS_MAX;
    found.truncate(FUNCTIONS_MAX);
    let page = Page {
        host: headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost:8080"),
        next: found.last().filter(|_| more).map(|last| last.function.to_string()),
        is_first: after.is_none(),
        rows: found.iter().map(|function| Row::of(&admin, function)).collect(),
    };
    Ok(([(CONTENT_TYPE, "text/html; charset=utf-8")], page.to_string()))
}

/// The functions that somebody may see, behind this one; one more than a page has, if there are more.
fn reached(admin: &Admin, who: &Principal, after: Option<&FunctionRef>) -> Vec<Function> {
    let in_reach = |namespace| {
        let filter = Filter { namespace, ..Filter::default() };
        admin.catalog.list(&filter, after, FUNCTIONS_MAX + 1)
    };
    match who {
        Principal::Anonymous => Vec::new(),
        Principal::Token { reach: Reach::All, .. } => in_reach(None),
        Principal::Token { reach: Reach::Namespace(own), .. } => in_reach(Some(own.clone())),
        Principal::Token { reach: Reach::Function(own), .. } => {
            admin.catalog.function(own).into_iter().collect()
        }
    }
}

/// A page, as it stands.
struct Page<'a> {
    /// The host that the browser asked.
    host: &'a str,
    rows: Vec<Row>,
    /// Where the next page begins, if there is one.
    next: Option<String>,
    is_first: bool,
}

/// A function in it.
struct Row {
    function: FunctionRef,
    code: String,
    instances: String,
    calls: u64,
    is_private: bool,
}

impl Row {
    fn of(admin: &Admin, function: &Function) -> Self {
        let (current, name) = (&function.current, &function.function);
        let counts = admin.invoke.instances_of(name);
        let up = counts.ready + counts.busy + counts.frozen;
        let (code, instances) = match &current.code {
            Code::Wasm(_) => ("WebAssembly".to_owned(), "one a call".to_owned()),
            Code::Bundle(_) => ("files".to_owned(), up.to_string()),
            Code::Image { reference, .. } => (reference.clone(), up.to_string()),
        };
        Self {
            calls: admin.observe.metrics.known(name).map_or(0, |metrics| metrics.answers.total()),
            function: name.clone(),
            is_private: current.settings.private,
            code,
            instances,
        }
    }

    /// As a path names it: without the namespace, where that is the first.
    fn short(&self) -> String {
        match self.function.namespace.as_str() {
            NamespaceName::DEFAULT => self.function.name.to_string(),
            _ => self.function.to_string(),
        }
    }
}

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Functions · Coracle</title>
<style>"#;

const BEGIN: &str = r#"</style>
<header><h1>Coracle</h1><p>functions on <b>"#;

const EMPTY: &str = r#"<section class="empty">
<h2>Nothing is deployed yet</h2>
<p>Begin with a project of your own:</p>
<pre><code>coracle new hello --lang rust
cd hello
coracle dev</code></pre>
<p>or deploy what you have:</p>
<pre><code>coracle deploy FILE --name NAME</code></pre>
</section>
"#;

const TABLE: &str = r#"<div class="table"><table>
<thead><tr><th>Function<th>Namespace<th>Code<th class="number">Instances<th class="number">Calls</thead>
<tbody>
"#;

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}{STYLE}{BEGIN}{}</b></p></header>\n<main>", Text(self.host))?;
        let Some(first) = self.rows.first() else {
            let empty = if self.is_first { EMPTY } else { "<p>That was the last page.</p>\n" };
            return write!(f, "{empty}</main>\n</html>\n");
        };
        f.write_str(TABLE)?;
        self.rows.iter().try_for_each(|row| write!(f, "{row}"))?;
        f.write_str("</tbody>\n</table></div>\n")?;
        if let Some(next) = &self.next {
            writeln!(f, r#"<p class="next"><a href="/ui/?after={}">more</a></p>"#, Text(next))?;
        }
        write_how_to_call(f, self.host, &first.short())?;
        f.write_str("</main>\n</html>\n")
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FunctionRef { name, namespace } = &self.function;
        let (short, name, namespace) = (self.short(), Text(name), Text(namespace));
        write!(f, r#"<tr><td><a href="/function/{}">{name}</a>"#, Text(short))?;
        if self.is_private {
            f.write_str(r#" <small>private</small>"#)?;
        }
        writeln!(
            f,
            r#"<td>{namespace}<td class="code">{}<td class="number">{}<td class="number">{}"#,
            Text(&self.code),
            Text(&self.instances),
            self.calls
        )
    }
}

fn write_how_to_call(f: &mut fmt::Formatter<'_>, host: &str, name: &str) -> fmt::Result {
    let (host, name) = (Text(host), Text(name));
    write!(
        f,
        r#"<section>
<h2>Call one</h2>
<pre><code>curl http://{host}/function/{name} -d 'some input'</code></pre>
<p>Whatever method, path, query and body you send, the function gets. From the command line of this server:</p>
<pre><code>coracle call {name} -d 'some input'
coracle logs {name} --follow
coracle show {name}</code></pre>
</section>
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn row(function: &str) -> Row {
        Row {
            function: FunctionRef::parse(function).unwrap(),
            code: "docker.io/team/<shop>:1".into(),
            instances: "2".into(),
            calls: 7,
            is_private: function.starts_with('p'),
        }
    }

    #[test]
    fn a_page_names_each_function_and_says_how_to_call_one() {
        let page = Page {
            host: "localhost:8080",
            rows: vec![row("pay.shop"), row("resize")],
            next: Some("resize.default".into()),
            is_first: true,
        };
        let text = page.to_string();
        let body = text.split_once("<tbody>\n").unwrap().1;
        expect![[r#"
            <tr><td><a href="/function/pay.shop">pay</a> <small>private</small><td>shop<td class="code">docker.io/team/&lt;shop&gt;:1<td class="number">2<td class="number">7
            <tr><td><a href="/function/resize">resize</a><td>default<td class="code">docker.io/team/&lt;shop&gt;:1<td class="number">2<td class="number">7
            </tbody>
            </table></div>
            <p class="next"><a href="/ui/?after=resize.default">more</a></p>
            <section>
            <h2>Call one</h2>
            <pre><code>curl http://localhost:8080/function/pay.shop -d 'some input'</code></pre>
            <p>Whatever method, path, query and body you send, the function gets. From the command line of this server:</p>
            <pre><code>coracle call pay.shop -d 'some input'
            coracle logs pay.shop --follow
            coracle show pay.shop</code></pre>
            </section>
            </main>
            </html>
        "#]].assert_eq(body);
    }

    #[test]
    fn whoever_has_no_functions_yet_is_told_how_to_get_one() {
        let page = |is_first| Page { host: "<b>", rows: Vec::new(), next: None, is_first }.to_string();
        assert!(page(true).contains("coracle new hello") && !page(false).contains("coracle new"));
        assert!(page(true).contains("&lt;b&gt;") && !page(true).contains("<tbody>"));
    }
}
