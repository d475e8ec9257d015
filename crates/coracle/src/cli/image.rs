//! `coracle image`: images that functions run, from registries and from files.
//! A password comes from a prompt or a pipe, never from an argument, which every process on the machine could read.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use coracle_api::{
    Client, ImageQuery, ImageView, LoadQuery, PrunedView, PullEvent, PullProgress, PullRequest, RegistryLogin,
};
use coracle_model::{Problem, code};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::ago::{ago, bytes};
use super::secret::prompt;
use crate::options::Common;
use crate::stop::{Done, Stop};
use crate::table::{Column, Table};
use crate::{print, talk};

const EXAMPLES: &str = "\
Examples:
  coracle image pull nginx
  docker save shop | gzip > shop.tar.gz && coracle image load shop.tar.gz
  pass show ghcr | coracle image login ghcr.io --username ada
  coracle image list";

/// The longest password, in bytes.
const PASSWORD_BYTES_MAX: usize = 16 << 10;

/// Pull, load, list and remove images.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Get an image from its registry
    Pull {
        /// Its name, as Docker reads it: `nginx` is docker.io/library/nginx:latest
        reference: String,
    },
    /// Load images from a file that `docker save` or another tool wrote
    Load {
        /// An OCI layout in a tar, or an archive of Docker's, compressed or not
        file: PathBuf,
        /// What to call the image [default: as the archive says]
        #[arg(long, value_name = "NAME")]
        tag: Option<String>,
    },
    /// List the images that the server has
    #[command(visible_alias = "ls")]
    List,
    /// Remove an image by its name; what a function runs is kept, without a name
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name
        reference: String,
    },
    /// Remove all images that no function runs
    Prune,
    /// Keep a password for a registry, in the namespace, sealed as secrets are
    Login {
        /// Its host, and its port if need be
        #[arg(default_value = "docker.io")]
        registry: String,
        /// The name of the user
        #[arg(long, short, value_name = "USER")]
        username: String,
    },
    /// Forget the password for a registry
    Logout {
        /// Its host, and its port if need be
        #[arg(default_value = "docker.io")]
        registry: String,
    },
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    let client = common.client()?;
    let namespace = common.namespace();
    let room = talk::in_namespace(&namespace);
    match args.verb {
        Verb::Pull { reference } => {
            let image = pull(&client, PullRequest { reference, namespace, if_missing: false }).await?;
            if common.json {
                return print::json(&image);
            }
            talk::say(format_args!("pulled {}, {}", image.reference, bytes(image.size)));
        }
        Verb::Load { file, tag } => {
            let images = load(&client, &file, tag).await?;
            if common.json {
                return print::json(&images);
            }
            for image in images {
                talk::say(format_args!("loaded {}, {}", image.reference, bytes(image.size)));
            }
        }
        Verb::List => {
            let images = client.images().await?;
            if common.json {
                return print::json(&images);
            }
            if images.is_empty() {
                talk::say("no images yet");
                talk::hint("get one: coracle image pull NAME");
            }
            return render(&images).print();
        }
        Verb::Remove { reference } => {
            let pruned = client.remove_image(&ImageQuery { reference: reference.clone() }).await?;
            if common.json {
                return print::json(&pruned);
            }
            match pruned.images {
                0 => talk::say(format_args!(
                    "removed the name {reference}; the image stays: it has another one, or a function runs it"
                )),
                _ => talk::say(format_args!("removed {reference}")),
            }
        }
        Verb::Prune => {
            let pruned = client.prune_images().await?;
            if common.json {
                return print::json(&pruned);
            }
            let PrunedView { images, layers } = pruned;
            talk::say(format_args!("removed images: {images}, layers: {layers}"));
        }
        Verb::Login { registry, username } => {
            let password = password(&registry, &username)?;
            client.set_registry(&namespace, &registry, &RegistryLogin { username, password }).await?;
            talk::say(format_args!("kept the password for {registry}{room}"));
        }
        Verb::Logout { registry } => {
            client.remove_registry(&namespace, &registry).await?;
            talk::say(format_args!("forgot the password for {registry}{room}"));
        }
    }
    Ok(())
}

/// Pulls an image, with a bar on a terminal.
pub(super) async fn pull(client: &Client, request: PullRequest) -> Done<ImageView> {
    let mut events = client.pull_image(&request).await?;
    let bar = bar("pulling", request.reference);
    while let Some(event) = events.next().await? {
        match event {
            PullEvent::Progress(PullProgress { layers, layers_done, bytes, bytes_total }) => {
                bar.set_length(bytes_total);
                bar.set_position(bytes.min(bytes_total));
                bar.set_prefix(format!("{layers_done}/{layers} layers"));
            }
            PullEvent::Image(image) => {
                bar.finish_and_clear();
                return Ok(image);
            }
            PullEvent::Problem(problem) => {
                bar.finish_and_clear();
                return Err(Stop::Problem(Box::new(problem)));
            }
        }
    }
    bar.finish_and_clear();
    Err(Problem::new(&code::SERVER_UNREACHABLE, "the server stopped before the image was there").into())
}

async fn load(client: &Client, file: &Path, tag: Option<String>) -> Done<Vec<ImageView>> {
    let bar = bar("loading", file.display().to_string());
    bar.set_length(std::fs::metadata(file).map_or(0, |file| file.len()));
    let moving = bar.clone();
    let loaded = client.load_images(file, &LoadQuery { tag }, move |sent| moving.set_position(sent)).await;
    bar.finish_and_clear();
    Ok(loaded?)
}

/// A bar on a terminal; elsewhere nothing moves.
fn bar(what: &'static str, of: String) -> ProgressBar {
    if !talk::is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    // The template is ours, and right.
    let style = ProgressStyle::with_template(&format!(
        "{what} {{msg}} {{wide_bar}} {{bytes}}/{{total_bytes}} {{prefix}}"
    ));
    bar.with_message(of).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn render(images: &[ImageView]) -> Table<6> {
    let mut table = Table::new([
        Column::Left("IMAGE"),
        Column::Whole("DIGEST"),
        Column::Right("SIZE"),
        Column::Right("LAYERS"),
        Column::Left("BUILT"),
        Column::Left("IN USE"),
    ]);
    for image in images {
        table.row([
            // What is left of an image without a name is known by its digest, and by what runs it.
            if image.named { image.reference.clone() } else { "-".to_owned() },
            image.digest.short(),
            bytes(image.size),
            image.layers.to_string(),
            image.created.map_or_else(|| "-".to_owned(), ago),
            if image.in_use { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table
}

fn password(registry: &str, username: &str) -> Done<String> {
    let stdin = std::io::stdin();
    let read = if stdin.is_terminal() {
        prompt::hidden(&format!("password of {username} at {registry}: "))
    } else {
        let mut typed = Vec::new();
        // Some bytes more than are allowed, so that too many are noticed.
        stdin.take(PASSWORD_BYTES_MAX as u64 + 3).read_to_end(&mut typed).map(|_| typed)
    };
    let bad = |why: &str| {
        Stop::from(Problem::new(
            &code::BAD_REQUEST,
            format!("cannot read the password for {registry}: {why}"),
        ))
    };
    let typed = match read {
        Ok(typed) => typed,
        // Ctrl-C at the prompt: whoever typed it knows.
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Err(Stop::Shown),
        Err(error) => return Err(bad(&error.to_string())),
    };
    let text = String::from_utf8(typed).map_err(|_| bad("it is not text"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    match text.len() {
        0 => Err(bad("it is empty")),
        1..=PASSWORD_BYTES_MAX => Ok(text.to_owned()),
        _ => Err(bad(&format!("it is longer than {PASSWORD_BYTES_MAX} bytes"))),
    }
}
