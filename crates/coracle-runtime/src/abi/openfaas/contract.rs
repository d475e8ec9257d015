//! Which contract the program of an image or a bundle has: what was asked for, else what it says itself.
//! The gateway asks at every deploy, whichever face it came through.

use coracle_model::{Contract, Problem, Settings};

use super::settings::{Variables, Watchdog};
use crate::oci::{ImageConfig, command};

/// The watchdogs: a program of such a name listens, and runs the function itself.
const WATCHDOGS: [&str; 2] = ["fwatchdog", "of-watchdog"];

/// How a program is spoken to; `image` is what its image says of how it is run, `None` for a bundle.
///
/// # Errors
/// `invalid-settings`, where what drives a watchdog cannot be obeyed.
pub fn contract_of(
    asked: Option<Contract>,
    image: Option<&ImageConfig>,
    settings: &Settings,
) -> Result<Contract, Problem> {
    let contract = asked.unwrap_or_else(|| said(image, settings));
    if contract == Contract::Watchdog {
        Watchdog::parse(image, settings)?;
    }
    Ok(contract)
}

/// What a program says itself.
fn said(image: Option<&ImageConfig>, settings: &Settings) -> Contract {
    let program = &settings.program;
    // Not the first word alone: an init may stand before it.
    let words = command(program, image.unwrap_or(&ImageConfig::default()));
    if words.iter().any(|word| WATCHDOGS.contains(&word.rsplit('/').next().unwrap_or_default())) {
        return Contract::Http;
    }
    let is_own = !program.entrypoint.is_empty() || !program.command.is_empty();
    // Whoever names a command does not mean the process that the image was built for.
    let image_is_asked = image.filter(|_| !is_own);
    match Variables::new(image_is_asked, settings).process() {
        Some(_) => Contract::Watchdog,
        None if image.is_some() => Contract::Http,
        None => Contract::Stdio,
    }
}

#[cfg(test)]
mod tests {
    use coracle_model::code;

    use super::*;

    fn words_of(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn env_of(text: &str) -> impl Iterator<Item = (String, String)> {
        text.split_whitespace().filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        })
    }

    fn image(entrypoint: &str, command: &str, env: &str) -> ImageConfig {
        ImageConfig {
            entrypoint: words_of(entrypoint),
            command: words_of(command),
            env: env_of(env).collect(),
            ..ImageConfig::default()
        }
    }

    fn settings(command: &str, env: &str) -> Settings {
        let mut settings = Settings { env: env_of(env).collect(), ..Settings::default() };
        settings.program.command = words_of(command);
        settings
    }

    #[test]
    fn an_image_says_itself_how_it_is_spoken_to() {
        // Entrypoint, command and environment of the image; command and environment of the settings.
        let table = [
            ("/server", "", "", "", "", Contract::Http),
            ("", "", "", "", "", Contract::Http),
            ("", "fwatchdog", "fprocess=cat", "", "", Contract::Http),
            ("/usr/bin/of-watchdog", "-v", "fprocess=cat mode=http", "", "fprocess=env", Contract::Http),
            ("/server", "", "", "/usr/bin/fwatchdog", "fprocess=cat", Contract::Http),
            ("/sbin/tini", "-- fwatchdog", "fprocess=cat", "", "", Contract::Http),
            ("", "sh", "fprocess=cat", "", "", Contract::Watchdog),
            ("", "sh", "", "", "fprocess=cat", Contract::Watchdog),
            ("", "sh", "", "", "function_process=cat", Contract::Watchdog),
            ("", "sh", "fprocess=cat", "", "fprocess=", Contract::Http),
            ("", "not-fwatchdog", "", "", "", Contract::Http),
            ("", "fwatchdog", "fprocess=cat", "./server", "", Contract::Http),
            ("", "fwatchdog", "fprocess=cat", "./server", "fprocess=env", Contract::Watchdog),
        ];
        for (entrypoint, command, env, set_command, set_env, expected) in table {
            let (image, settings) = (image(entrypoint, command, env), settings(set_command, set_env));
            assert_eq!(
                contract_of(None, Some(&image), &settings).unwrap(),
                expected,
                "{image:?} {settings:?}"
            );
        }
    }

    #[test]
    fn a_bundle_prints_unless_it_names_a_process() {
        let table = [
            ("./print", "", Contract::Stdio),
            ("./print", "LEVEL=info", Contract::Stdio),
            ("", "fprocess=cat", Contract::Watchdog),
            ("./bin/fwatchdog", "fprocess=cat", Contract::Http),
        ];
        for (command, env, expected) in table {
            assert_eq!(
                contract_of(None, None, &settings(command, env)).unwrap(),
                expected,
                "{command} {env}"
            );
        }
    }

    #[test]
    fn what_is_asked_for_stands() {
        let settings = settings("", "fprocess=cat");
        for asked in [Contract::Http, Contract::Stdio, Contract::Watchdog] {
            assert_eq!(contract_of(Some(asked), None, &settings).unwrap(), asked);
        }
    }

    #[test]
    fn a_watchdog_without_a_process_is_refused() {
        let refused = contract_of(Some(Contract::Watchdog), None, &settings("", "fprocess=")).unwrap_err();
        assert_eq!((refused.code, refused.hint.is_some()), (&code::INVALID_SETTINGS, true));
    }
}
