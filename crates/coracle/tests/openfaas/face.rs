//! A server as OpenFaaS' clients use it: Basic with the user `admin`, and the requests of its command line.
//! Every test of this folder starts one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::guests::until;
use crate::harness::{Data, Server};
use crate::mirror;
use crate::wire::{self, Reply};

/// A server, and who asks it.
pub(crate) struct Face {
    pub(crate) server: Server,
    basic: String,
}

impl Face {
    /// A server without images, which are not needed to be refused.
    pub(crate) fn bare() -> Self {
        Self::of(Server::start())
    }

    /// A server that has the image of these tests.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with these flags.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let face = Self::of(Server::start_with(Data::new(), flags));
        let folder = tempfile::tempdir().unwrap();
        let archive = mirror::archive(folder.path());
        face.server.ok(&["image", "load", archive.to_str().unwrap(), "--tag", mirror::IMAGE]);
        face
    }

    /// A server that has the image with a watchdog of its own.
    pub(crate) fn start_with_watchdog() -> Self {
        let face = Self::of(Server::start());
        let folder = tempfile::tempdir().unwrap();
        let archive = mirror::archive_with_watchdog(folder.path());
        face.server.ok(&["image", "load", archive.to_str().unwrap(), "--tag", mirror::IMAGE]);
        face
    }

    fn of(server: Server) -> Self {
        let basic = basic("admin", &wire::token(&server));
        Self { server, basic }
    }

    /// The same on the same data, after the server was killed.
    pub(crate) fn killed(self) -> Self {
        Self::of(Server::start_with(self.server.kill(), &[]))
    }

    /// Sends a request as the command line does.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Reply {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask_bytes(method, path, body.as_bytes())
    }

    pub(crate) fn ask_bytes(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        let headers = [
            ("authorization", self.basic.as_str()),
            ("content-type", "application/json"),
            ("user-agent", "faas-cli/0.17.8"),
        ];
        wire::ask(&self.server, method, path, &headers, body)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &Value::Null)
    }

    /// `faas-cli deploy`: an update, and where there is nothing to update, a creation; gives the statuses.
    pub(crate) fn deploy(&self, deployment: &Value) -> Vec<u16> {
        let mut statuses = vec![self.ask("PUT", "/system/functions", deployment).status];
        if statuses == [404] {
            statuses.push(self.ask("POST", "/system/functions", deployment).status);
        }
        statuses
    }

    /// Deploys the mirror under a name, with these fields beside.
    pub(crate) fn deploy_mirror(&self, name: &str, more: Value) {
        let deployment = deployment(name, more);
        let deployed = self.ask("POST", "/system/functions", &deployment);
        assert_eq!(deployed.status, 202, "{}", deployed.text());
    }

    /// `faas-cli invoke`: by the name with its namespace, and without credentials.
    pub(crate) fn invoke(&self, name: &str, body: &[u8]) -> Reply {
        let path = format!("/function/{name}.openfaas-fn");
        wire::ask(&self.server, "POST", &path, &[("content-type", "text/plain")], body)
    }

    /// A function's status.
    pub(crate) fn status(&self, name: &str) -> Value {
        let reply = self.get(&format!("/system/function/{name}"));
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    /// The functions of a namespace, as the list has them.
    pub(crate) fn list(&self, query: &str) -> Vec<Value> {
        let reply = self.get(&format!("/system/functions{query}"));
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json().as_array().unwrap().clone()
    }

    /// Waits until a function has so many instances that take calls.
    pub(crate) fn until_available(&self, name: &str, count: u64) {
        until(&format!("{count} instances of {name}"), || {
            let status = self.status(name);
            // Zero is said by saying nothing.
            let available = status.get("availableReplicas").and_then(Value::as_u64).unwrap_or(0);
            (available == count).then_some(())
        });
    }
}

/// What `Authorization` holds for a user and a password.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
}

/// A deployment of the mirror as the command line sends one, with these fields beside.
pub(crate) fn deployment(name: &str, more: Value) -> Value {
    let mut deployment = json!({ "service": name, "image": mirror::IMAGE, "labels": {}, "annotations": {} });
    if let Value::Object(more) = more {
        deployment.as_object_mut().unwrap().extend(more);
    }
    deployment
}

/// Status and code of a refusal, whose body explains.
pub(crate) fn refusal(reply: &Reply) -> (u16, String) {
    reply.problem()
}
