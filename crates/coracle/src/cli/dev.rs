//! `coracle dev`: builds and deploys a project on every save, and prints what its functions say.
//! The loop stands here; what it waits for, deploys to and prints through has a file each.

mod follow;
mod server;
mod stirs;
mod troubles;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_api::{ClientError, FunctionView};
use coracle_model::{Clock as _, FunctionName, FunctionRef, Span, code};
use coracle_observe::clock::System;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use self::follow::Following;
use self::server::Server;
use self::troubles::Troubles;
use self::watch::{Project, Watch};
use super::deploy::{BUILD_TIMEOUT, Builder, Plan, Voice};
use super::up;
use crate::busy::busy;
use crate::manifest::Source;
use crate::options::Common;
use crate::print;
use crate::signals::Signals;
use crate::stop::{Done, Stop};
use crate::talk::{self, BAD, BOLD, DIM, GOOD, styled};

const EXAMPLES: &str = "\
Examples:
  coracle dev                          the folder with coracle.toml that you stand in
  coracle dev shop/ --name resize      one function of it
  coracle dev out.wasm --name hello    a file that something else builds

All files are watched but hidden ones, those that .gitignore names, and what tools fill, as target/.
A server that is started here has the usual data directory: Ctrl-C stops it, and what was deployed stays.";

/// How often is looked whether the server and the functions are still as they were left.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A project whose every build changes its own sources is built this many times in a row, and then not until the next save.
const BUILDS_IN_A_ROW_MAX: u32 = 3;

/// Build, deploy and watch: every save is a new revision, and what the functions print is shown.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A folder with a coracle.toml or a stack.yaml, a .wasm file, an archive or an executable
    #[arg(default_value = ".", value_name = "FOLDER|FILE")]
    path: PathBuf,
    /// The name of the function; with a folder, the only one of it to deploy
    #[arg(long)]
    name: Option<FunctionName>,
    /// Start a server here [default: the one that runs, else a new one at 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT", value_parser = up::address)]
    listen: Option<SocketAddr>,
    /// How long a build command may take
    #[arg(long, value_name = "SPAN", default_value = BUILD_TIMEOUT)]
    build_timeout: Span,
}

pub(crate) async fn run(args: Args, common: &Common) -> Done {
    let mut signals = Signals::listen()?;
    up::log(up::LOG_FILTER)?;
    // Before a server is started: whether there is anything to deploy.
    let plan = Plan::of(&args.path, args.name.as_ref(), common)?;
    if plan.stack.is_some() {
        talk::say("a stack file names images: every save of it deploys them, and nothing is built here");
        talk::hint(
            "build beside this: faas-cli build, docker save IMAGE -o NAME.tar, coracle image load NAME.tar, and save the file again",
        );
    }
    let server = Server::find(common, args.listen).await?;
    let mut dev = Dev::new(args, common.clone(), server, &plan).await?;
    let done = tokio::select! {
        done = dev.run(plan) => done,
        () = signals.heard() => Ok(()),
    };
    if matches!(dev.server, Server::Embedded(_)) && done.is_ok() {
        let data = common.data_dir()?;
        talk::say(format_args!(
            "the server stops; what was deployed stays in {}, and answers again with `coracle up`",
            data.display()
        ));
    }
    dev.server.stop().await;
    done
}

/// A project that is worked on.
struct Dev {
    args: Args,
    common: Common,
    server: Server,
    builder: Builder,
    project: Project,
    watch: Watch,
    /// The revision of each function that was deployed last, here or, as we noticed, elsewhere; 0 when it is gone.
    revisions: BTreeMap<FunctionName, u32>,
    troubles: Troubles,
    is_gone: bool,
    following: tokio::sync::watch::Sender<Following>,
}

/// What a save came to.
struct Deployed {
    functions: Vec<FunctionView>,
    /// Functions that the app has no longer.
    removed: Vec<FunctionName>,
    /// The file that says so.
    file: String,
    /// How long building took, if there was anything to build.
    build: Option<Duration>,
    /// From the end of that until the functions answer.
    deploy: Duration,
}

impl Dev {
    async fn new(args: Args, common: Common, server: Server, plan: &Plan) -> Done<Self> {
        let (following, followed) = tokio::sync::watch::channel(following(&server, plan)?);
        tokio::spawn(follow::follow(followed, common.json));
        let project = project(plan);
        Ok(Self {
            builder: Builder { timeout: args.build_timeout, voice: Voice::WhenItFails },
            watch: Watch::of(project.clone()).await?,
            project,
            args,
            common,
            server,
            revisions: BTreeMap::new(),
            troubles: Troubles::default(),
            is_gone: false,
            following,
        })
    }

    async fn run(&mut self, plan: Plan) -> Done {
        self.greet(&plan)?;
        let mut plan = Some(plan);
        let mut in_a_row = 1;
        // What changed during every build in a row.
        let mut always = BTreeSet::new();
        loop {
            let deployed = self.cycle(plan.take()).await;
            self.show(deployed)?;
            let changed: BTreeSet<_> = self.watch.see(self.project.clone()).await?.into_iter().collect();
            always = if in_a_row == 1 { changed.clone() } else { &always & &changed };
            // Saved while it was built: once more, unless it is the build that saves.
            if !changed.is_empty() && (in_a_row < BUILDS_IN_A_ROW_MAX || changed != always) {
                in_a_row += 1;
                continue;
            }
            if !changed.is_empty() {
                says_that_builds_write(&changed);
            }
            in_a_row = 1;
            self.wait().await?;
            self.watch.see(self.project.clone()).await?;
        }
    }

    /// Reads the manifest, builds and deploys.
    async fn cycle(&mut self, plan: Option<Plan>) -> Done<Deployed> {
        let plan = match plan {
            Some(plan) => plan,
            None => Plan::of(&self.args.path, self.args.name.as_ref(), &self.common)?,
        };
        self.project = project(&plan);
        let is_built = plan.functions.iter().any(|function| function.build.is_some());
        let begun = System.instant();
        {
            let _busy = is_built.then(|| busy(format!("building {}", names(&plan))));
            plan.build(&self.builder).await?;
        }
        let built = System.instant();
        let _busy = busy(format!("the server takes {}", names(&plan)));
        let following = following(&self.server, &plan)?;
        // Those who listen already must not miss what is said meanwhile.
        self.following.send_if_modified(|now| {
            let is_new = !now.is_same(&following);
            *now = following;
            is_new
        });
        let client = self.server.client()?;
        let leaving = plan.leaving(&client).await?;
        let functions = plan.apply(&client).await?;
        Ok(Deployed {
            functions,
            removed: leaving.into_iter().map(|function| function.name).collect(),
            file: plan.file_name(),
            build: is_built.then(|| built.duration_since(begun)),
            deploy: System.instant().duration_since(built),
        })
    }

    /// Waits for a save; meanwhile it looks after the server.
    async fn wait(&mut self) -> Done {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = self.watch.changed() => return Ok(changed?),
                problem = self.server.ended() => return Err(problem.into()),
                _ = looks.tick() => {}
            }
            let is_gone = self.look_after().await.is_err();
            let was_gone = std::mem::replace(&mut self.is_gone, is_gone);
            match (was_gone, self.is_gone) {
                (false, true) => talk::say("the server does not answer any more: waiting for it"),
                (true, false) => {
                    talk::say(styled(GOOD, "the server is back"));
                    // Whether it still has the functions as they were left is for a deploy to find out.
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    /// Asks the server for the functions, and says who else changed one; an error when it does not answer.
    async fn look_after(&mut self) -> Done {
        let client = self.server.client()?;
        client.whoami().await?;
        let namespace = self.following.borrow().namespace.clone();
        for (name, known) in &mut self.revisions {
            let function = FunctionRef { namespace: namespace.clone(), name: name.clone() };
            let view = match client.function(&function).await {
                Ok(view) => Some(view),
                Err(ClientError::Problem(problem)) if problem.status == 404 => None,
                Err(error) => return Err(error.into()),
            };
            let now = view.as_ref().map_or(0, |view| view.revision);
            if now != *known {
                self.troubles.forget(name);
            }
            if let Some(view) = &view {
                show_trouble(view, &mut self.troubles, self.common.json)?;
            }
            match now {
                0 if *known != 0 => {
                    talk::say(format_args!("`{name}` was removed: save a file to deploy it again"))
                }
                now if now != *known => talk::say(format_args!(
                    "`{name}` answers with revision {now}, which somebody else deployed: save a file to deploy yours again"
                )),
                _ => {}
            }
            *known = now;
        }
        Ok(())
    }

    fn greet(&self, plan: &Plan) -> Done {
        let client = self.server.client()?;
        let json = self.common.json;
        for function in &plan.functions {
            let function = FunctionRef { namespace: plan.namespace.clone(), name: function.name.clone() };
            let url = format!("{}{}", client.url(), FunctionView::path_of(&function));
            let text = format!("{} {url}", styled(BOLD, &function.name));
            event(json, text, &json!({ "event": "began", "function": function.to_string(), "url": url }))?;
        }
        if matches!(self.server, Server::Embedded(_)) {
            talk::say(styled(
                DIM,
                format_args!("a server of its own, data in {}", self.common.data_dir()?.display()),
            ));
        }
        talk::say(styled(DIM, format_args!("watching {}, stop with Ctrl-C", self.args.path.display())));
        Ok(())
    }

    fn show(&mut self, deployed: Done<Deployed>) -> Done {
        match deployed {
            Ok(deployed) => {
                for function in &deployed.functions {
                    let before = self.revisions.insert(function.name.clone(), function.revision);
                    let is_same = before == Some(function.revision);
                    show_deployed(function, is_same, &deployed, self.common.json)?;
                    // Whoever saves wants to hear of what is still wrong.
                    self.troubles.forget(&function.name);
                    show_trouble(function, &mut self.troubles, self.common.json)?;
                }
                for name in &deployed.removed {
                    self.revisions.remove(name);
                    self.troubles.forget(name);
                    let text = format!("removed {name}: {} has it no longer", deployed.file);
                    event(self.common.json, text, &json!({ "event": "removed", "name": name }))?;
                }
                Ok(())
            }
            Err(Stop::Problem(problem)) => {
                // Then it is deployed once the server is back, also if that is in a moment.
                self.is_gone = problem.code == code::SERVER_UNREACHABLE.name;
                if self.common.json {
                    return print::json_line(&json!({ "event": "failed", "problem": problem }));
                }
                talk::problem(&problem, false);
                self.say_what_goes_on();
                Ok(())
            }
            Err(stop) => Err(stop),
        }
    }

    /// What answers although the last save does not.
    fn say_what_goes_on(&self) {
        if self.is_gone {
            return talk::say(styled(DIM, "it is deployed when the server is back"));
        }
        for (name, revision) in self.revisions.iter().filter(|(_, revision)| **revision != 0) {
            talk::say(styled(DIM, format_args!("`{name}` goes on with revision {revision}")));
        }
        if self.revisions.is_empty() {
            talk::say(styled(DIM, "nothing is deployed yet; save a file to try again"));
        }
    }
}

/// What happened: a line for people, an object for programs.
fn event(json: bool, text: impl std::fmt::Display, event: &serde_json::Value) -> Done {
    if json { print::json_line(event) } else { print::line(text) }
}

fn show_deployed(
    FunctionView { name, revision, instances, .. }: &FunctionView,
    is_same: bool,
    Deployed { build, deploy, .. }: &Deployed,
    json: bool,
) -> Done {
    let ms = |span: &Duration| span.as_secs_f64() * 1e3;
    let mut text = styled(GOOD, format_args!("{name} revision {revision}"));
    if is_same {
        text.push_str(" goes on, nothing changed");
    }
    if let Some(build) = build {
        text.push_str(&format!(", built in {:.1} s", build.as_secs_f64()));
    }
    if !is_same {
        let is_before = instances.as_ref().is_some_and(|instances| instances.serves_before.is_some());
        let done = if is_before { "deployed" } else { "answers" };
        text.push_str(&format!(", {done} after {:.0} ms", ms(deploy)));
    }
    let value = json!({
        "event": if is_same { "unchanged" } else { "deployed" },
        "name": name,
        "revision": revision,
        "build_ms": build.as_ref().map(ms),
        "deploy_ms": ms(deploy),
    });
    event(json, text, &value)
}

/// Why no instance of a program starts, or why they end.
fn show_trouble(view: &FunctionView, troubles: &mut Troubles, json: bool) -> Done {
    let FunctionView { name, revision, .. } = view;
    let Some(instances) = &view.instances else { return Ok(()) };
    let Some(failure) = instances.failure.as_ref().filter(|failure| troubles.is_new(name, &failure.message))
    else {
        return Ok(());
    };
    let before =
        instances.serves_before.map(|before| format!("; revision {before} goes on")).unwrap_or_default();
    let text = styled(BAD, format_args!("{name} revision {revision}: {}", failure.message));
    let value = json!({ "event": "trouble", "name": name, "revision": revision, "problem": failure });
    event(json, text + &before, &value)
}

fn says_that_builds_write(changed: &BTreeSet<PathBuf>) {
    let files: Vec<_> = changed.iter().take(3).map(|file| file.display().to_string()).collect();
    talk::say(format_args!("every build changes what is watched: {}", files.join(", ")));
    talk::hint("name such files in .gitignore; it is built again at the next save");
}

fn names(plan: &Plan) -> String {
    let names: Vec<_> = plan.functions.iter().map(|function| function.name.as_str()).collect();
    names.join(", ")
}

/// What is watched: all of a folder but what its builds make, and code that nothing builds.
fn project(plan: &Plan) -> Project {
    if let Some(files) = &plan.stack {
        // What images are made of is none of our sources: after one was loaded, whoever saves the file as it is wants it.
        return Project { folder: None, code: files.clone(), made: Vec::new(), every_save: true };
    }
    let folder = plan.folder.clone();
    let code = |is_built: bool| {
        let functions = plan.functions.iter().filter(move |function| function.build.is_some() == is_built);
        let folder = folder.as_deref().unwrap_or(Path::new(""));
        functions.filter_map(move |function| match &function.source {
            Source::Path(path) => Some(folder.join(path)),
            Source::Image(_) => None,
        })
    };
    // A build that makes the folder in which its sources lie makes not all of it.
    let made = code(true).filter(|made| folder.as_ref().is_none_or(|folder| !folder.starts_with(made)));
    Project { made: made.collect(), code: code(false).collect(), folder: folder.clone(), every_save: false }
}

fn following(server: &Server, plan: &Plan) -> Done<Following> {
    Ok(Following {
        client: server.client()?,
        namespace: plan.namespace.clone(),
        functions: plan.functions.iter().map(|function| function.name.clone()).collect(),
    })
}
