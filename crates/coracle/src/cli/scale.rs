//! `coracle scale`: so many instances of a program, until told otherwise; calls may start more.
//! No revision is made: what outlives the server is the setting `scale` of the function.

use coracle_model::Scale;
use serde_json::json;

use crate::options::{Common, Named};
use crate::stop::Done;
use crate::{print, talk};

const EXAMPLES: &str = "\
Examples:
  coracle scale site 3       before the crowd comes
  coracle scale site 0       stop all that nobody calls

So many are kept until the next `scale`, or until the server ends; calls start more, up to `scale.max`.
After 0 nothing runs until the next call, which brings `scale.min` back.
To keep some for ever: `scale = { min = 3 }` in the manifest.";

/// Start or stop instances of a program, and keep so many running.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The function, as NAME or NAME.NS
    name: Named,
    /// How many instances
    #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(..=i64::from(Scale::INSTANCES_MAX)))]
    instances: u32,
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    let function = common.function(&args.name);
    let scaled = common.client()?.scale(&function, args.instances).await?;
    if common.json {
        return print::json(&json!({ "function": function.to_string(), "instances": scaled.instances }));
    }
    let wanted = match scaled.instances {
        0 => "nothing of it runs until it is called".to_owned(),
        1 => "1 instance".to_owned(),
        many => format!("{many} instances"),
    };
    talk::say(format_args!("{function}: {wanted}"));
    let (asked, bound) = (args.instances, scaled.instances);
    if bound < asked {
        talk::hint(format_args!(
            "{bound} is the most that `scale.max` allows: deploy with `--set scale.max={asked}`"
        ));
    }
    Ok(())
}
