//! What the instances of one revision of a program are made by: from its settings, its image and its secrets to a sandbox.
//! Invoke keeps one for each revision that is current; `programs` launches by it.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::Arc;

use coracle_model::{Clock, Contract, Network, Outcome, Problem, Program, Revision, Settings};

use crate::abi::openfaas::{self, Standing, Watchdog};
use crate::host::{Host, text_of};
use crate::oci::image::ImageConfig;
use crate::oci::routes::{Routes, routes};
use crate::oci::sandbox::{self, Root, Runs, SecretFile, Spec};
use crate::output::{Output, Printer};

/// Who a bundle's program runs as: `app` in the accounts that its root is given.
const BUNDLE_USER: &str = "1000:1000";

/// Where a bundle's own files are.
const BUNDLE_FOLDER: &str = "/home/app";

/// Of the memory of an instance, what may be written to its root, and again to each of `/tmp` and `/dev/shm`.
const WRITABLE_OF_MEMORY: u64 = 2;

/// The longest name of a host that the kernel takes, in bytes.
const HOSTNAME_BYTES_MAX: usize = 64;

/// What the instances of one revision of a program are made by.
#[derive(Debug)]
pub struct Blueprint {
    pub(super) revision: Arc<Revision>,
    pub(super) host: Arc<dyn Host>,
    printer: Arc<Printer>,
    pub(super) routes: Routes,
    /// The watchdog that stands before the program, if that is its contract; or why there can be none.
    pub(super) watchdog: Result<Option<Watchdog>, Problem>,
    /// What the secrets were when this was made, as a number that tells nothing of them.
    secrets_then: u64,
    hashing: RandomState,
}

/// The files of a program, and what they say of how it is run.
pub(super) enum Files {
    Bundle(PathBuf),
    Image { layers: Vec<PathBuf>, config: ImageConfig },
}

impl Blueprint {
    /// `image` is what the image of the program says, if it has one.
    pub(super) fn new(
        revision: Arc<Revision>,
        image: Option<&ImageConfig>,
        host: Arc<dyn Host>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let settings = &revision.settings;
        let is_watched = revision.contract == Contract::Watchdog;
        let watchdog = is_watched.then(|| Watchdog::parse(image, settings)).transpose();
        let port = watchdog.as_ref().ok().and_then(|watchdog| watchdog.as_ref()?.port());
        let port = port.or(settings.program.port).unwrap_or(Program::PORT);
        let is_closed = settings.program.network == Network::Own;
        let printer = Printer::new(&revision, Arc::clone(&host), clock, is_closed);
        let routes = match settings.program.network {
            Network::Own => routes(&settings.outbound, port),
            // What reaches everything needs no way out.
            Network::Host => Routes::default(),
        };
        let hashing = RandomState::new();
        let secrets_then = hashing.hash_one(granted(&revision, &*host, |_| ()));
        Self { revision, host, printer, routes, watchdog, secrets_then, hashing }
    }

    /// Calls at once that one instance takes.
    pub fn calls_each(&self) -> u32 {
        let scale = &self.revision.settings.scale;
        match self.max_inflight() {
            Some(most) if scale.grows => most.min(scale.target),
            Some(most) => most,
            None => scale.target,
        }
    }

    /// What a call is told that finds every instance full, where such calls do not wait.
    pub fn full(&self) -> Option<Problem> {
        self.max_inflight().map(openfaas::full)
    }

    /// What the platform answers for the instances, if a call asks after them; `None` where one of them serves it.
    pub fn probed<B>(
        &self,
        request: &http::Request<B>,
        standing: impl FnOnce() -> Standing,
    ) -> Option<Outcome> {
        let full = || openfaas::full(self.max_inflight().unwrap_or_default());
        self.watchdog.as_ref().ok()?.as_ref()?.probed(request, standing, full)
    }

    fn max_inflight(&self) -> Option<u32> {
        self.watchdog.as_ref().ok()?.as_ref()?.max_inflight
    }

    /// Whether its program listens; else it runs for each call.
    pub(super) fn listens(&self) -> bool {
        match &self.watchdog {
            Ok(Some(watchdog)) => watchdog.port().is_some(),
            Ok(None) | Err(_) => self.revision.contract == Contract::Http,
        }
    }

    /// The path that answers 2xx when its program is ready and well.
    pub(super) fn health(&self) -> Option<String> {
        let own = self.revision.settings.program.health.as_deref();
        match &self.watchdog {
            Ok(Some(watchdog)) => watchdog.health(own),
            Ok(None) | Err(_) => own.map(str::to_owned),
        }
    }

    /// Whether the secrets that it grants are others than when this was made.
    pub fn secrets_changed(&self) -> bool {
        self.hashing.hash_one(granted(&self.revision, &*self.host, |_| ())) != self.secrets_then
    }

    pub(super) fn output(&self, instance: u64) -> Output {
        Output::new(&self.printer, instance)
    }

    /// The secrets that were granted, as far as they exist; `missing` hears of the others.
    pub(super) fn secrets(&self, missing: impl Fn(&str)) -> Vec<SecretFile> {
        granted(&self.revision, &*self.host, missing)
    }

    /// The sandbox of an instance. `port` is where its program is to listen.
    pub(super) fn spec(&self, files: Files, secrets: Vec<SecretFile>, port: u16) -> Spec {
        let settings = &self.revision.settings;
        let program = &settings.program;
        let (root, config, user, workdir) = match files {
            Files::Bundle(folder) => {
                (Root::Host(folder), ImageConfig::default(), BUNDLE_USER.to_owned(), BUNDLE_FOLDER.to_owned())
            }
            Files::Image { layers, config } => {
                let (user, workdir) = (config.user.clone(), config.workdir.clone());
                (Root::Image(layers), config, user.unwrap_or_default(), workdir.unwrap_or_default())
            }
        };
        let network = match program.network {
            Network::Host => sandbox::Network::Host,
            Network::Own => {
                let listen: Vec<SocketAddrV4> = self.routes.listen.iter().map(|(at, _)| *at).collect();
                sandbox::Network::Own { hosts: self.routes.hosts.clone(), listen }
            }
        };
        let memory_bytes = settings.limits.memory_bytes;
        Spec {
            id: 0,
            root,
            scratch: PathBuf::new(),
            bounds: sandbox::Bounds {
                memory_bytes,
                cpu_millis: program.cpu_millis,
                processes: program.processes,
                writable_bytes: memory_bytes / WRITABLE_OF_MEMORY,
            },
            read_only: program.read_only,
            user: program.user.clone().unwrap_or(user),
            hostname: self.hostname(),
            network,
            env: self.environment(&config, &secrets, port),
            secrets,
            command: match &self.watchdog {
                Ok(Some(watchdog)) => watchdog.command.clone(),
                Ok(None) | Err(_) => command(program, &config),
            },
            workdir: program.workdir.clone().unwrap_or(workdir),
            runs: if self.listens() { Runs::Always } else { Runs::EachCall },
        }
    }

    /// The name of the function, as far as it is one of a host.
    fn hostname(&self) -> String {
        let name = self.revision.function.name.as_str().replace('_', "-");
        name.chars().take(HOSTNAME_BYTES_MAX).collect()
    }

    /// What the image says, then what the settings say, then what the platform knows; of the same name the last one stands.
    fn environment(&self, image: &ImageConfig, secrets: &[SecretFile], port: u16) -> Vec<(String, String)> {
        let settings = &self.revision.settings;
        let mut all = image.env.clone();
        if self.revision.contract == Contract::Http {
            all.push(("PORT".into(), port.to_string()));
        }
        all.extend(self.routes.environment().into_iter().map(|(name, value)| (name.to_owned(), value)));
        all.extend(settings.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        if settings.program.secrets_in_env {
            for (name, file) in settings
                .secrets
                .iter()
                .filter_map(|name| Some((name, secrets.iter().find(|file| file.name == name.as_str())?)))
            {
                // One that is no text is a file alone.
                all.extend(text_of(&file.value).map(|text| (Settings::variable_of(name), text.to_owned())));
            }
        }
        let mut only: Vec<(String, String)> = Vec::with_capacity(all.len());
        for (name, value) in all {
            match only.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = value,
                None => only.push((name, value)),
            }
        }
        only
    }
}

fn granted(revision: &Revision, host: &dyn Host, missing: impl Fn(&str)) -> Vec<SecretFile> {
    let mut files = Vec::new();
    for name in &revision.settings.secrets {
        match host.secret(&revision.function.namespace, name) {
            Some(value) => files.push(SecretFile { name: name.to_string(), value: value.reveal().to_vec() }),
            None => missing(name.as_str()),
        }
    }
    files
}

/// What is run: as container engines put it together, an entrypoint that was set drops the image's command.
pub(crate) fn command(program: &Program, image: &ImageConfig) -> Vec<String> {
    let (first, rest) = match (program.entrypoint.is_empty(), program.command.is_empty()) {
        (false, _) => (&program.entrypoint, &program.command),
        (true, false) => (&image.entrypoint, &program.command),
        (true, true) => (&image.entrypoint, &image.command),
    };
    first.iter().chain(rest).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_override_an_image_as_container_engines_do_it() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        // Entrypoint and command of the image, those of the settings, and what is run.
        let table = [
            ("/entry", "serve", "", "", "/entry serve"),
            ("/entry", "serve", "", "check -v", "/entry check -v"),
            ("/entry", "serve", "/bin/sh", "", "/bin/sh"),
            ("/entry", "serve", "/bin/sh", "-c ls", "/bin/sh -c ls"),
            ("", "nginx -g", "", "", "nginx -g"),
            ("", "", "", "./server", "./server"),
            ("", "", "", "", ""),
        ];
        for (entrypoint, of_image, set_entrypoint, set_command, expected) in table {
            let image = ImageConfig {
                entrypoint: words(entrypoint),
                command: words(of_image),
                ..ImageConfig::default()
            };
            let program = Program {
                entrypoint: words(set_entrypoint),
                command: words(set_command),
                ..Program::default()
            };
            assert_eq!(command(&program, &image), words(expected), "{image:?} {program:?}");
        }
    }
}
