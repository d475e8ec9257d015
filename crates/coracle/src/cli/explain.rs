//! `coracle explain CODE`: the page of an error, without a server and without a network.
//! Every error names this command.

use coracle_model::{CODES, Problem, code};
use serde_json::json;

use crate::options::Common;
use crate::print;
use crate::stop::Done;
use crate::table::{Column, Table};

/// Explain an error code: what it means, and what to do. Without one, list them all.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  coracle explain function-busy")]
pub(crate) struct Args {
    /// The code, as in `error[CODE]` or the header `x-coracle-error`
    code: Option<String>,
}

pub(crate) fn run(args: &Args, common: &Common) -> Done {
    let Some(name) = &args.code else { return list(common.json) };
    // In whatever way it was copied: `error[guest-trapped]:`, `GUEST_TRAPPED`.
    let name =
        name.trim_start_matches("error").trim_matches(['[', ']', ':']).to_lowercase().replace('_', "-");
    let Some(known) = Problem::code_named(&name) else {
        let problem = Problem::new(&code::BAD_REQUEST, format!("there is no error code `{name}`"));
        let meant = coracle_model::nearest(&name, CODES.iter().map(|code| code.name));
        return Err(match meant {
            Some(meant) => problem.hint(format!("did you mean `coracle explain {meant}`?")),
            None => problem.hint("see all of them: coracle explain"),
        }
        .into());
    };
    if common.json {
        return print::json(&object(known));
    }
    print::line(known.page.trim_end())
}

fn list(json: bool) -> Done {
    if json {
        return print::json(&CODES.iter().copied().map(object).collect::<Vec<_>>());
    }
    let mut table = Table::new([
        Column::Left("CODE"),
        Column::Right("STATUS"),
        Column::Left("FAULT"),
        Column::Left("MEANING"),
    ]);
    for code in CODES {
        table.row([
            code.name.to_owned(),
            code.status.to_string(),
            code.owner.as_str().to_owned(),
            code.title.to_owned(),
        ]);
    }
    table.print()
}

fn object(code: &coracle_model::ProblemCode) -> serde_json::Value {
    json!({
        "code": code.name,
        "status": code.status,
        "fault": code.owner.as_str(),
        "title": code.title,
        "page": code.page,
    })
}
