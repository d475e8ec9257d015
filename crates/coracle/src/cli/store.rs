//! `coracle store`: functions to deploy without writing any, from the binary itself, a file or an address.
//! Both formats are understood: ours, which words a function as coracle.toml does, and that of OpenFaaS.

pub(super) mod built_in;
mod fetch;
mod grants;
mod shelf;

use coracle_model::{FunctionName, Problem, code};
use serde::Serialize;

use self::grants::Asks;
use self::shelf::{Offer, Shelf, Typed};
use super::deploy::{Flags, Plan, deploy_all};
use crate::options::Common;
use crate::stop::Done;
use crate::table::{Column, Table};
use crate::{print, talk};

const EXAMPLES: &str = "\
Examples:
  coracle store list
  coracle store deploy qrcode
  coracle store deploy qrcode --name qr --route '/qr/*'
  coracle store list --from https://example.com/functions.json";

/// List and deploy functions that others wrote.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
    /// The store, in our format or OpenFaaS' [default: the one in this binary]
    #[arg(long, global = true, env = "CORACLE_STORE", hide_env_values = true, value_name = "FILE|URL")]
    from: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the functions of a store
    #[command(visible_alias = "ls")]
    List,
    /// Show all about one of them
    #[command(visible_alias = "describe")]
    Inspect {
        /// Its name, as the list shows it
        #[arg(value_name = "NAME")]
        offer: String,
    },
    /// Deploy one of them
    Deploy(Box<Deploy>),
}

#[derive(Debug, clap::Args)]
struct Deploy {
    /// Its name, as the list shows it
    #[arg(value_name = "NAME")]
    offer: String,
    /// The name to deploy it under [default: its own]
    #[arg(long)]
    name: Option<FunctionName>,
    /// The machine that its image is for: x86_64, arm64 or armhf [default: this one]
    #[arg(long, value_name = "ARCH")]
    platform: Option<String>,
    /// Grant all that a store other than this binary's asks for, as `inspect` shows it
    #[arg(long)]
    grant: bool,
    #[command(flatten)]
    flags: Flags,
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    let from = args.from.as_deref();
    match args.verb {
        Verb::List => list(&Shelf::open(from).await?, common),
        Verb::Inspect { offer } => inspect(Shelf::open(from).await?.find(&offer)?, common),
        Verb::Deploy(args) => deploy(&args, from, common).await,
    }
}

fn list(shelf: &Shelf, common: &Common) -> Done {
    if common.json {
        return print::json(&shelf.offers);
    }
    let mut table = Table::new([Column::Whole("NAME"), Column::Left("TITLE"), Column::Left("DESCRIPTION")]);
    for Offer { name, title, description, .. } in &shelf.offers {
        table.row([plain(name), plain(title), plain(description)]);
    }
    table.print()
}

/// An offer and all that it asks for.
#[derive(Debug, Serialize)]
struct Inspected<'a> {
    #[serde(flatten)]
    offer: &'a Offer,
    asks: Asks,
}

fn inspect(offer: &Offer, common: &Common) -> Done {
    let asks = offer.asks(common)?;
    if common.json {
        return print::json(&Inspected { offer, asks });
    }
    let Offer { name, title, description, author, source, example, code, .. } = offer;
    let mut lines = vec![("name", name), ("title", title), ("description", description)];
    lines.extend(
        [("author", author), ("source", source)]
            .into_iter()
            .filter_map(|(key, text)| Some((key, text.as_ref()?))),
    );
    lines.extend(code.iter().map(|code| ("code", code)));
    lines.extend(example.iter().map(|example| ("call it", example)));
    for (key, text) in lines.into_iter().filter(|(_, text)| !text.is_empty()) {
        print::line(format_args!("{key:<12} {}", plain(text)))?;
    }
    for (key, text) in asks.lines() {
        print::line(format_args!("{key:<12} {}", plain(&text)))?;
    }
    talk::hint(format_args!("coracle store deploy {}", plain(name)));
    Ok(())
}

/// A text of somebody else on one line, without what a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

async fn deploy(args: &Deploy, from: Option<&str>, common: &Common) -> Done {
    let client = common.client()?;
    let shelf = Shelf::open(from).await?;
    let offer = shelf.find(&args.offer)?;
    let folder = tempfile::tempdir()
        .map_err(|error| Problem::new(&code::DATA_UNUSABLE, format!("make a temporary folder: {error}")))?;
    let typed = Typed {
        name: args.name.as_ref(),
        platform: args.platform.as_deref().unwrap_or(std::env::consts::ARCH),
        flags: &args.flags,
        grants_all: args.grant,
        common,
    };
    let function = shelf.function(offer, &typed, folder.path()).await?;
    let plan = Plan::of_functions(vec![function], None, common);
    let example = offer.example.as_deref().map(plain);
    deploy_all(&client, &[plan], example.as_deref(), common.json).await
}
