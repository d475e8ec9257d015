//! `coracle namespace`: the rooms that functions and secrets live in.
//! One that has something in it is not removed.

use coracle_model::NamespaceName;

use super::ago::ago;
use crate::options::Common;
use crate::stop::Done;
use crate::table::{Column, Table};
use crate::{print, talk};

/// Create, list and remove namespaces.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  coracle namespace create shop")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Create a namespace
    Create {
        /// Its name
        name: NamespaceName,
    },
    /// List namespaces
    List,
    /// Remove a namespace, which must be empty
    Remove {
        /// Its name
        name: NamespaceName,
    },
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    let client = common.client()?;
    match args.verb {
        Verb::Create { name } => {
            let namespace = client.create_namespace(&name).await?;
            if common.json {
                return print::json(&namespace);
            }
            talk::say(format_args!("created the namespace {name}"));
        }
        Verb::Remove { name } => {
            client.remove_namespace(&name).await?;
            talk::say(format_args!("removed the namespace {name}"));
        }
        Verb::List => {
            let namespaces = client.namespaces().await?;
            if common.json {
                return print::json(&namespaces);
            }
            let mut table =
                Table::new([Column::Left("NAMESPACE"), Column::Right("FUNCTIONS"), Column::Left("CREATED")]);
            for namespace in &namespaces {
                let functions = namespace.functions.to_string();
                table.row([namespace.name.to_string(), functions, ago(namespace.created)]);
            }
            return table.print();
        }
    }
    Ok(())
}
