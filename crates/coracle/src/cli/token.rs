//! `coracle token`: keys for people and programs, no wider than they need.
//! The text of a token is shown once, on standard output, alone.

use coracle_api::{TokenRequest, TokenView};
use coracle_model::{FunctionName, NamespaceName, Scope, Span, TokenId};

use super::ago::ago;
use crate::options::Common;
use crate::stop::Done;
use crate::table::{Column, Table};
use crate::{print, talk};

const EXAMPLES: &str = "\
Examples:
  coracle token create --scope deploy -n shop --expires 30d --label ci > ci.token
  coracle token list
  coracle token revoke ID";

/// Create, list and revoke tokens.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Create a token, and print it: it is not shown again
    Create {
        /// What it may do: call, deploy or admin
        #[arg(long)]
        scope: Scope,
        /// The only function it reaches; with -n, a namespace is all it reaches
        #[arg(long, value_name = "NAME")]
        function: Option<FunctionName>,
        /// How long it is good for, as in 30d [default: for ever]
        #[arg(long, value_name = "SPAN")]
        expires: Option<Span>,
        /// What it is for
        #[arg(long, default_value = "", hide_default_value = true)]
        label: String,
    },
    /// List tokens
    List,
    /// Revoke a token, at once
    Revoke {
        /// Its id, as the list shows it
        id: String,
    },
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    let client = common.client()?;
    match args.verb {
        Verb::Create { scope, function, expires, label } => {
            let namespace = common.namespace.clone();
            let request = TokenRequest { label, scope, namespace, function, expires_in: expires };
            let created = client.create_token(&request).await?;
            if common.json {
                return print::json(&created);
            }
            let TokenView { id, scope, .. } = &created.view;
            talk::say(format_args!(
                "created the token {id}: {scope}, {}; keep it, it is not shown again",
                reach(&created.view)
            ));
            print::line(&created.token)
        }
        Verb::List => {
            let tokens = client.tokens().await?;
            if common.json { print::json(&tokens) } else { render(&tokens).print() }
        }
        Verb::Revoke { id } => {
            client.revoke_token(&TokenId(id.clone())).await?;
            talk::say(format_args!("revoked the token {id}"));
            Ok(())
        }
    }
}

fn render(tokens: &[TokenView]) -> Table<6> {
    let mut table = Table::new([
        Column::Left("ID"),
        Column::Left("SCOPE"),
        Column::Left("REACHES"),
        Column::Left("LABEL"),
        Column::Left("CREATED"),
        Column::Left("EXPIRES"),
    ]);
    for token in tokens {
        table.row([
            token.id.to_string(),
            token.scope.to_string(),
            reach(token),
            token.label.clone(),
            ago(token.created),
            token
                .expires
                .map_or_else(|| "never".to_owned(), |time| time.strftime("%Y-%m-%d %H:%MZ").to_string()),
        ]);
    }
    table
}

fn reach(token: &TokenView) -> String {
    let namespace = token.namespace.as_ref().map_or(NamespaceName::DEFAULT, NamespaceName::as_str);
    match &token.function {
        Some(function) => format!("{function}.{namespace}"),
        None if token.namespace.is_some() => format!("namespace {namespace}"),
        None => "everything".to_owned(),
    }
}
