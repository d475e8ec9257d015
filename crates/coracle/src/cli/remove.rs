//! `coracle remove`: a function, or all functions of an app.
//! Calls in flight are finished.

use coracle_model::AppName;

use crate::options::{Common, Named};
use crate::stop::Done;
use crate::talk;

/// Remove a function with its revisions, or a whole app.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
#[command(after_help = "Examples:\n  coracle remove hello\n  coracle remove --app shop")]
pub(crate) struct Args {
    /// The function, as NAME or NAME.NS
    name: Option<Named>,
    /// All functions of this app
    #[arg(long)]
    app: Option<AppName>,
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    let client = common.client()?;
    if let Some(app) = &args.app {
        client.remove_app(&common.namespace(), app).await?;
        talk::say(format_args!("removed the app {app}{}", talk::in_namespace(&common.namespace())));
    }
    if let Some(name) = &args.name {
        let function = common.function(name);
        client.remove(&function).await?;
        talk::say(format_args!("removed {}{}", function.name, talk::in_namespace(&function.namespace)));
    }
    Ok(())
}
