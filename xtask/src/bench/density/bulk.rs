//! Thousands of deploys through the API, on a few connections that stay open.
//! `density.rs` fills a server with it, as a program that deploys for others would.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::numbered::Tiny;
use crate::bench::client::Connection;
use crate::surroundings::{now, say};

/// Connections that deploy at once.
const CONNECTIONS: usize = 8;

/// The longest that a bulk deploy may take: below some ten a second there is nothing to measure.
const DEPLOY_MAX: Duration = Duration::from_secs(20 * 60);

/// How often it says how far it is.
const SAYS: usize = 10;

/// Who deploys, and where to.
#[derive(Debug)]
pub(super) struct Bulk<'a> {
    pub(super) url: &'a str,
    pub(super) token: &'a str,
    pub(super) tiny: &'a Tiny,
}

impl Bulk<'_> {
    /// Uploads and deploys the functions of the numbers below `count`, and says how long all of it took.
    pub(super) fn deploy(&self, count: usize) -> Result<Duration, String> {
        let begun = now();
        let (next, stopped, failure) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
        let work = || -> Result<(), String> {
            let mut connection = Connection::open(self.url)?.with_token(self.token);
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= count || stopped.load(Relaxed) {
                    return Ok(());
                }
                if begun.elapsed() > DEPLOY_MAX {
                    let seconds = DEPLOY_MAX.as_secs();
                    return Err(format!("only {number} of {count} were deployed in {seconds} s"));
                }
                let digest = self.upload(&mut connection, number)?;
                let path = format!("/v1/namespaces/default/functions/{}", name_of(number));
                put(&mut connection, &path, &format!("{{\"artifact\":\"{digest}\"}}"))?;
                if number > 0 && number.is_multiple_of(count.div_ceil(SAYS)) {
                    say(&format!("deployed {number} of {count} in {} s", begun.elapsed().as_secs()));
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                scope.spawn(|| {
                    if let Err(error) = work() {
                        stopped.store(true, Relaxed);
                        failure
                            .lock()
                            .unwrap_or_else(std::sync::PoisonError::into_inner)
                            .get_or_insert(error);
                    }
                });
            }
        });
        let took = begun.elapsed();
        match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(took),
        }
    }

    /// Deploys the functions of the numbers below `count` once more, in another namespace that this makes.
    pub(super) fn deploy_again(&self, namespace: &str, count: usize) -> Result<(), String> {
        let mut connection = Connection::open(self.url)?.with_token(self.token);
        put(&mut connection, &format!("/v1/namespaces/{namespace}"), "")?;
        for number in 0..count {
            let digest = digest_of(&self.tiny.numbered(number));
            let path = format!("/v1/namespaces/{namespace}/functions/{}", name_of(number));
            put(&mut connection, &path, &format!("{{\"artifact\":\"{digest}\"}}"))?;
        }
        Ok(())
    }

    fn upload(&self, connection: &mut Connection, number: usize) -> Result<String, String> {
        let wasm = self.tiny.numbered(number);
        let digest = digest_of(&wasm);
        let (answer, said) = connection.ask("POST", "/v1/artifacts", &wasm)?;
        let said = String::from_utf8_lossy(&said);
        if answer.status == 201 && said.contains(&digest) {
            Ok(digest)
        } else {
            Err(format!("the upload of {} was answered with {}: {said}", name_of(number), answer.status))
        }
    }
}

/// The name of the function of a number.
pub(super) fn name_of(number: usize) -> String {
    format!("f{number}")
}

fn put(connection: &mut Connection, path: &str, body: &str) -> Result<(), String> {
    let (answer, said) = connection.ask("PUT", path, body.as_bytes())?;
    match answer.status {
        200..=299 => Ok(()),
        status => Err(format!("PUT {path} was answered with {status}: {}", String::from_utf8_lossy(&said))),
    }
}

fn digest_of(wasm: &[u8]) -> String {
    Sha256::digest(wasm).iter().map(|byte| format!("{byte:02x}")).collect()
}
