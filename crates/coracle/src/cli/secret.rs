//! `coracle secret`: values that functions read by name, and that nobody reads back.
//! A value comes from a file, a pipe or a prompt; never from an argument, which every process on the machine could read.

pub(in crate::cli) mod prompt;

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coracle_api::SecretValue;
use coracle_model::{Problem, SecretName, Settings, code};

use super::ago::ago;
use crate::options::Common;
use crate::stop::{Done, Stop};
use crate::table::{Column, Table};
use crate::{print, talk};

const EXAMPLES: &str = "\
Examples:
  coracle secret set api-key                     asks for the value
  coracle secret set api-key --from-file key.txt
  pass show shop/api | coracle secret set api-key";

/// The longest value, in bytes.
const VALUE_BYTES_MAX: u64 = 64 << 10;

/// Set, list and remove secrets.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Set a secret: from a prompt, standard input or a file
    #[command(alias = "create")]
    Set {
        /// Its name
        name: SecretName,
        /// Read the value from this file
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
    },
    /// List secrets, without their values
    List,
    /// Remove a secret
    Remove {
        /// Its name
        name: SecretName,
    },
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    let client = common.client()?;
    let namespace = common.namespace();
    let room = talk::in_namespace(&namespace);
    match args.verb {
        Verb::Set { name, from_file } => {
            // No address can end in one of those names: the server would not be asked.
            name.check_new()?;
            let value = value(&name, from_file.as_deref())?;
            client.set_secret(&namespace, &name, &value).await?;
            talk::say(format_args!(
                "set {name}{room}: functions that name it read {}, programs /run/secrets/{name}",
                Settings::variable_of(&name)
            ));
        }
        Verb::Remove { name } => {
            client.remove_secret(&namespace, &name).await?;
            talk::say(format_args!("removed {name}{room}"));
        }
        Verb::List => {
            let secrets = client.secrets(&namespace).await?;
            if common.json {
                return print::json(&secrets);
            }
            let mut table =
                Table::new([Column::Left("SECRET"), Column::Left("VARIABLE"), Column::Left("SET")]);
            for secret in &secrets {
                table.row([
                    secret.name.to_string(),
                    Settings::variable_of(&secret.name),
                    ago(secret.updated),
                ]);
            }
            return table.print();
        }
    }
    Ok(())
}

fn value(name: &SecretName, file: Option<&Path>) -> Done<SecretValue> {
    let stdin = std::io::stdin();
    let (from, read) = match file {
        Some(file) => (file.display().to_string(), std::fs::File::open(file).and_then(bounded)),
        None if stdin.is_terminal() => {
            ("the terminal".to_owned(), prompt::hidden(&format!("value of {name}: ")))
        }
        None => ("standard input".to_owned(), bounded(stdin)),
    };
    let bad = |why: String| {
        Problem::new(&code::BAD_REQUEST, format!("cannot read the value of `{name}` from {from}: {why}"))
    };
    let mut value = match read {
        Ok(value) => value,
        // Ctrl-C at the prompt: whoever typed it knows.
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Err(Stop::Shown),
        Err(error) => return Err(bad(error.to_string()).into()),
    };
    // An editor or `echo` ended the line; a value that ends with a line break would surprise everybody.
    if value.last() == Some(&b'\n') {
        value.pop();
        value.pop_if(|last| *last == b'\r');
    }
    if value.is_empty() {
        return Err(bad("it is empty".to_owned()).into());
    }
    if value.len() as u64 > VALUE_BYTES_MAX {
        return Err(bad(format!("it is longer than {VALUE_BYTES_MAX} bytes")).into());
    }
    Ok(match String::from_utf8(value) {
        Ok(text) => SecretValue::Value(text),
        Err(bytes) => SecretValue::ValueBase64(STANDARD.encode(bytes.as_bytes())),
    })
}

/// Some bytes more than are allowed, so that too many are noticed.
fn bounded(source: impl std::io::Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(VALUE_BYTES_MAX + 3).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(bytes: &[u8]) -> Result<SecretValue, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        match value(&"api-key".parse().unwrap(), Some(file.path())) {
            Ok(value) => Ok(value),
            Err(Stop::Problem(problem)) => Err(problem.message),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_value_is_what_is_in_the_file_without_its_last_line_end() {
        assert_eq!(value_of(b"hunter2\n"), Ok(SecretValue::Value("hunter2".into())));
        assert_eq!(value_of(b"two\nlines\r\n"), Ok(SecretValue::Value("two\nlines".into())));
        assert_eq!(value_of(&[0xff, 0xfe]), Ok(SecretValue::ValueBase64("//4=".into())));
    }

    #[test]
    fn an_empty_or_endless_value_is_refused() {
        assert!(value_of(b"\n").unwrap_err().ends_with("it is empty"));
        assert!(value_of(&vec![b'x'; 100_000]).unwrap_err().contains("longer than"));
        assert!(value_of(&vec![b'x'; 64 << 10]).is_ok());
    }
}
