//! `coracle rollback`: an earlier revision answers again, from the next call on.
//! Nothing is lost: the newer one stays, and can be rolled forward to.

use super::deploy::starts;
use crate::options::{Common, Named};
use crate::stop::Done;
use crate::{print, talk};

/// Go back to an earlier revision of a function; `--to` a later one goes forward again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  coracle rollback hello\n  coracle rollback hello --to 3")]
pub(crate) struct Args {
    /// The function, as NAME or NAME.NS
    name: Named,
    /// The revision [default: the one before the current one]
    #[arg(long, value_name = "N")]
    to: Option<u32>,
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    let function = common.client()?.rollback(&common.function(&args.name), args.to).await?;
    if common.json {
        print::json(&function)?;
        return starts(&function);
    }
    let room = talk::in_namespace(&function.namespace);
    talk::say(format_args!(
        "{}{room} runs revision {}, of {}",
        function.name, function.revision, function.latest
    ));
    starts(&function)
}
