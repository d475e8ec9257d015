//! What an image says of how it is run.
//! Read when it is pulled or loaded, and kept with it.

use std::collections::BTreeMap;

use coracle_model::{Digest, Problem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::fault::invalid;
use super::manifest::{architecture, other_machine, sha256_of};

/// What an image says of how it is run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// What is run first.
    pub entrypoint: Vec<String>,
    /// What is run, or the arguments of the entrypoint where there is one.
    pub command: Vec<String>,
    /// Its environment, in the image's order.
    pub env: Vec<(String, String)>,
    /// Who it runs as: `USER`, `UID`, `UID:GID` or `USER:GROUP`.
    pub user: Option<String>,
    /// The folder it starts in.
    pub workdir: Option<String>,
    /// The lowest TCP port that it exposes.
    pub port: Option<u16>,
    /// The signal that asks it to end, as in `SIGQUIT`.
    pub stop_signal: Option<String>,
}

/// All that is taken from the configuration of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Configuration {
    pub(super) config: ImageConfig,
    /// The digests of the unpacked layers, lowest first.
    pub(super) layers: Vec<Digest>,
    pub(super) created: Option<Timestamp>,
}

impl Configuration {
    /// Reads the configuration of an image for this machine.
    ///
    /// # Errors
    /// `IMAGE_INVALID`, `IMAGE_ARCHITECTURE`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|error| invalid(format!("the configuration of the image cannot be read: {error}")))?;
        let os = document.os.as_deref().unwrap_or("linux");
        let built_for = document.architecture.as_deref().unwrap_or(architecture());
        if (os, built_for) != ("linux", architecture()) {
            return Err(other_machine(&super::fault::shown(format!("{os}/{built_for}").as_bytes())));
        }
        let layers =
            document.rootfs.diff_ids.iter().map(|digest| sha256_of(digest)).collect::<Result<_, _>>()?;
        let created = document.created.and_then(|created| created.parse().ok());
        Ok(Self { config: document.config.unwrap_or_default().into(), layers, created })
    }
}

#[derive(Deserialize)]
struct Document {
    os: Option<String>,
    architecture: Option<String>,
    created: Option<String>,
    config: Option<Run>,
    rootfs: Rootfs,
}

#[derive(Deserialize)]
struct Rootfs {
    diff_ids: Vec<String>,
}

/// As Docker writes it: everything may be null.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Run {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    stop_signal: Option<String>,
}

impl From<Run> for ImageConfig {
    fn from(run: Run) -> Self {
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        let variable = |text: String| match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (text, String::new()),
        };
        let port = |exposed: &String| match exposed.split_once('/') {
            None | Some((_, "tcp")) => exposed.split('/').next()?.parse().ok().filter(|port| *port > 0),
            Some(_) => None,
        };
        Self {
            entrypoint: run.entrypoint.unwrap_or_default(),
            command: run.cmd.unwrap_or_default(),
            env: run.env.unwrap_or_default().into_iter().map(variable).collect(),
            user: said(run.user),
            workdir: said(run.working_dir),
            port: run.exposed_ports.unwrap_or_default().keys().filter_map(port).min(),
            stop_signal: said(run.stop_signal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_model::code;

    #[test]
    fn a_configuration_is_read_with_all_it_says() {
        let text = format!(
            r#"{{"os":"linux","architecture":"{}","created":"2026-01-31T12:00:00Z",
                "config":{{"Entrypoint":["/run"],"Cmd":["-v"],"Env":["PATH=/bin","A=b=c","EMPTY"],"User":"1000:1000",
                "WorkingDir":"/srv","ExposedPorts":{{"9000/tcp":{{}},"80":{{}},"53/udp":{{}}}},"StopSignal":"SIGQUIT"}},
                "rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
            architecture(),
            "1".repeat(64)
        );
        let Configuration { config, layers, created } = Configuration::parse(text.as_bytes()).unwrap();
        assert_eq!((config.entrypoint, config.command), (vec!["/run".to_owned()], vec!["-v".to_owned()]));
        let env: Vec<_> = config.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(env, [("PATH", "/bin"), ("A", "b=c"), ("EMPTY", "")]);
        assert_eq!((config.user.as_deref(), config.workdir.as_deref()), (Some("1000:1000"), Some("/srv")));
        assert_eq!((config.port, config.stop_signal.as_deref()), (Some(80), Some("SIGQUIT")));
        assert_eq!((layers.len(), created.is_some()), (1, true));
    }

    #[test]
    fn what_is_null_or_missing_is_nothing() {
        let text = r#"{"config":{"Entrypoint":null,"Env":null,"User":""},"rootfs":{"diff_ids":[]}}"#;
        assert_eq!(Configuration::parse(text.as_bytes()).unwrap().config, ImageConfig::default());
        let text = r#"{"config":null,"rootfs":{"diff_ids":[]}}"#;
        assert_eq!(Configuration::parse(text.as_bytes()).unwrap().config, ImageConfig::default());
    }

    #[test]
    fn another_machine_and_damage_are_told_apart() {
        let table = [
            (r#"{"architecture":"s390x","rootfs":{"diff_ids":[]}}"#, &code::IMAGE_ARCHITECTURE),
            (r#"{"os":"windows","rootfs":{"diff_ids":[]}}"#, &code::IMAGE_ARCHITECTURE),
            (r#"{"rootfs":{"diff_ids":["sha256:1"]}}"#, &code::IMAGE_INVALID),
            ("{}", &code::IMAGE_INVALID),
            ("", &code::IMAGE_INVALID),
        ];
        for (text, code) in table {
            assert_eq!(Configuration::parse(text.as_bytes()).unwrap_err().code, code, "{text}");
        }
    }
}
