//! `coracle list`: the functions there are, one a line.
//! Programs read `--json`: an array of objects with `name`.

use coracle_api::{Client, FunctionQuery, FunctionView};
use coracle_model::{AppName, NamespaceName, Problem, code};

use super::ago::{ago, millis};
use crate::options::Common;
use crate::stop::Done;
use crate::table::{Column, Table};
use crate::{print, talk};

/// List functions, in all namespaces unless one is named with `-n`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  coracle list\n  coracle list --label team=media --json | jq -r '.[].name'"
)]
pub(crate) struct Args {
    /// Only those of this app
    #[arg(long)]
    app: Option<AppName>,
    /// Only those with this label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Option<String>,
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    let query = FunctionQuery {
        namespace: common.namespace.clone(),
        app: args.app,
        label: args.label,
        ..FunctionQuery::default()
    };
    let client = common.client()?;
    let functions = client.functions_all(&query).await?;
    if common.json {
        return print::json(&functions);
    }
    if functions.is_empty() {
        if let Some(namespace) = &common.namespace {
            exists(&client, namespace).await?;
        }
        talk::say("no functions yet");
        talk::hint("deploy one: coracle deploy FILE --name NAME");
    }
    render(&functions).print()
}

async fn exists(client: &Client, namespace: &NamespaceName) -> Done {
    if client.namespaces().await?.iter().any(|there| there.name == *namespace) {
        return Ok(());
    }
    let problem = Problem::new(&code::NAMESPACE_NOT_FOUND, format!("there is no namespace `{namespace}`"));
    Err(problem.hint("`coracle namespace list` shows those there are").into())
}

fn render(functions: &[FunctionView]) -> Table<9> {
    let mut table = Table::new([
        Column::Left("NAME"),
        Column::Left("NAMESPACE"),
        Column::Left("APP"),
        Column::Left("CODE"),
        Column::Right("REVISION"),
        Column::Right("CALLS"),
        Column::Right("ERRORS"),
        Column::Right("P50"),
        Column::Left("DEPLOYED"),
    ]);
    for function in functions {
        let FunctionView { stats, .. } = function;
        table.row([
            function.name.to_string(),
            function.namespace.to_string(),
            function.app.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            function.code.as_str().to_owned(),
            function.revision.to_string(),
            stats.calls.to_string(),
            stats.errors.to_string(),
            stats.p50_ms.map_or_else(|| "-".to_owned(), millis),
            ago(function.updated),
        ]);
    }
    table
}
