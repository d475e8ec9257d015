//! A queue on a database in a folder that goes away, with a clock that stands still and functions that do as a test says.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coracle_catalog::{Catalog, Deploy, Deployment, SecretKey};
use coracle_invoke::Invoke;
use coracle_model::{
    Body, Call, CallId, Code, Contract, Digest, FunctionRef, NamespaceName, Outcome, Principal, Problem,
    SecretName, Settings, Trace,
};
use coracle_observe::Observe;
use coracle_observe::clock::Simulated;
use coracle_observe::logs::Limits;
use coracle_runtime::{Bounds, Host, ImageBounds, Images, Printed, Programs, Runtime, Secret};
use coracle_store::{Artifacts, DataDir, Database, Embedded, Faulty, Topics};
use http::Request;
use http_body_util::BodyExt as _;
use tempfile::TempDir;
use tokio::sync::Semaphore;

use crate::run::Executor;
use crate::worker::look_everywhere;
use crate::{Filter, Options, Parts, Queue, QueuedCall, Submission};

/// What no guest asks here.
#[derive(Debug)]
struct NoHost;

impl Host for NoHost {
    fn log(&self, _: Printed) {}
    fn denied(&self, _: &FunctionRef) {}
    fn secret(&self, _: &NamespaceName, _: &SecretName) -> Option<Secret> {
        None
    }
}

/// What a function does with a call.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// It answers with a status and a body.
    Answer(u16, &'static str),
    /// It answers with a status and a header.
    AnswerWith(u16, &'static str, &'static str),
    /// It echoes the body.
    Echo,
    /// The platform finds a problem.
    Fail(&'static coracle_model::ProblemCode),
    /// It panics, as no executor should.
    Panic,
    /// It runs until the test lets it end, and then answers 200.
    Hold,
    /// It does so, but the call of this id never ends.
    HoldFor(&'static str),
}

/// What functions do, and what they were asked.
#[derive(Clone)]
pub(crate) struct Script(Arc<Inner>);

struct Inner {
    acts: Mutex<HashMap<String, Vec<Act>>>,
    begun: Mutex<Vec<(String, String)>>,
    ended: Mutex<Vec<String>>,
    release: Semaphore,
    starts: Semaphore,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

impl Script {
    fn new() -> Self {
        Self(Arc::new(Inner {
            acts: Mutex::default(),
            begun: Mutex::default(),
            ended: Mutex::default(),
            release: Semaphore::new(0),
            starts: Semaphore::new(0),
        }))
    }

    pub(crate) async fn call(&self, call: Call) -> Outcome {
        let Call { id, function, request, .. } = call;
        let body = request.into_body().collect().await.unwrap().to_bytes();
        self.0.begun.lock().unwrap().push((function.name.to_string(), id.to_string()));
        self.0.starts.add_permits(1);
        let act = {
            let mut acts = self.0.acts.lock().unwrap();
            let acts = acts.get_mut(function.name.as_str()).expect("a function of the test");
            // The last one is done for ever.
            if acts.len() > 1 { acts.remove(0) } else { acts[0].clone() }
        };
        let answer = |status: u16| http::Response::builder().status(status);
        let outcome = match act {
            Act::Answer(status, body) => Ok(answer(status).body(Body::once(body)).unwrap()),
            Act::AnswerWith(status, name, value) => {
                Ok(answer(status).header(name, value).body(Body::empty()).unwrap())
            }
            Act::Echo => Ok(answer(200).body(Body::once(body)).unwrap()),
            Act::Fail(code) => Err(Box::new(Problem::new(code, "as the test says"))),
            Act::Panic => panic!("as the test says"),
            Act::HoldFor(never) if id.as_str() == never => std::future::pending().await,
            Act::Hold | Act::HoldFor(_) => {
                self.0.release.acquire().await.unwrap().forget();
                Ok(answer(200).body(Body::empty()).unwrap())
            }
        };
        self.0.ended.lock().unwrap().push(id.to_string());
        outcome
    }

    /// Lets so many held calls end.
    pub(crate) fn release(&self, calls: usize) {
        self.0.release.add_permits(calls);
    }

    /// The ids of the calls that were begun, in their order.
    pub(crate) fn begun(&self) -> Vec<String> {
        self.0.begun.lock().unwrap().iter().map(|(_, id)| id.clone()).collect()
    }

    /// The ids of the calls that ran to their end.
    pub(crate) fn ended(&self) -> Vec<String> {
        self.0.ended.lock().unwrap().clone()
    }

    /// Waits until so many more calls have begun.
    pub(crate) async fn until_begun(&self, calls: u32) {
        let begun = tokio::time::timeout(PATIENCE, self.0.starts.acquire_many(calls)).await;
        begun.expect("a call did not begin").unwrap().forget();
    }
}

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Rig {
    pub(crate) queue: Queue,
    pub(crate) database: Arc<Faulty<Embedded>>,
    pub(crate) clock: Arc<Simulated>,
    pub(crate) catalog: Catalog,
    pub(crate) script: Script,
    dir: TempDir,
}

impl Rig {
    pub(crate) async fn open() -> Self {
        Self::open_with(Options::default()).await
    }

    pub(crate) async fn open_with(options: Options) -> Self {
        let clock = Arc::new(Simulated::new("2026-11-22T00:00:00Z".parse().unwrap()));
        Self::in_dir(tempfile::tempdir().unwrap(), clock, Script::new(), options).await
    }

    /// One whose server has the database for itself; all others are as if there were more.
    pub(crate) async fn alone() -> Self {
        let clock = Arc::new(Simulated::new("2026-11-22T00:00:00Z".parse().unwrap()));
        let dir = tempfile::tempdir().unwrap();
        Self::on(Faulty::alone, dir, clock, Script::new(), Options::default()).await
    }

    async fn in_dir(dir: TempDir, clock: Arc<Simulated>, script: Script, options: Options) -> Self {
        Self::on(Faulty::new, dir, clock, script, options).await
    }

    async fn on(
        database: fn(Embedded) -> Faulty<Embedded>,
        dir: TempDir,
        clock: Arc<Simulated>,
        script: Script,
        options: Options,
    ) -> Self {
        let data = DataDir::open(&dir.path().join("data")).unwrap();
        let artifacts = Artifacts::open(&data.artifacts()).unwrap();
        let embedded = Embedded::open(&data.database(), clock.clone()).unwrap();
        let database = Arc::new(database(embedded));
        let observe = Observe::open(&data.logs(), Limits::default(), clock.clone()).unwrap();
        let key = SecretKey::load_or_create(&data.key()).unwrap();
        let shared = Arc::clone(&database) as Arc<dyn Database>;
        let catalog = Catalog::open(Arc::clone(&shared), key, clock.clone()).await.unwrap();
        // No code is compiled, so that no program has to do it.
        let program = dir.path().join("no-compiler");
        let images = Images::open(&data.images(), ImageBounds::DEFAULT).unwrap();
        let programs = Programs::open(images, artifacts.clone(), &data.sandboxes(), program.clone()).unwrap();
        let bounds = Bounds { instances: 1, ..Bounds::DEFAULT };
        let (cache, host) = (data.cache(), Arc::new(NoHost));
        let runtime =
            Runtime::open(bounds, artifacts.clone(), programs, &cache, program, host, clock.clone()).unwrap();
        let invoke = Invoke::new(catalog.clone(), runtime, observe.clone(), 1, 0);
        let parts = Parts {
            database: shared,
            artifacts: artifacts.clone(),
            catalog: catalog.clone(),
            invoke,
            observe,
        };
        let executor = Executor::Scripted(script.clone());
        let queue = Queue::open_with(parts, options, executor).await.unwrap();
        Self { queue, database, clock, catalog, script, dir }
    }

    /// One in which `one` runs, and `two` and `three` are leased and wait for its place.
    pub(crate) async fn with_two_ahead() -> Self {
        let rig = Self::open_with(Options { concurrency: 1, ..Options::default() }).await;
        rig.function("f", [Act::Hold]).await;
        rig.put("f", "one").await.unwrap();
        rig.script.until_begun(1).await;
        rig.queue.engine().board.trust();
        rig.put("f", "two").await.unwrap();
        rig.put("f", "three").await.unwrap();
        rig.until("two are leased ahead", async |rig| rig.ahead("f") == 2).await;
        rig
    }

    /// What the machine would find after the server was killed now: another queue on a copy of the files.
    ///
    /// Nothing may be writing meanwhile.
    pub(crate) async fn killed(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy(&self.dir.path().join("data"), &dir.path().join("data"));
        let script = Script::new();
        *script.0.acts.lock().unwrap() = self.script.0.acts.lock().unwrap().clone();
        Self::in_dir(dir, Arc::clone(&self.clock), script, self.queue.engine().options.clone()).await
    }

    /// Deploys a function that does this with its calls, one after the other, the last for ever.
    pub(crate) async fn function(&self, name: &str, acts: impl Into<Vec<Act>>) {
        self.function_with(name, acts, Settings::default()).await;
    }

    pub(crate) async fn function_with(&self, name: &str, acts: impl Into<Vec<Act>>, settings: Settings) {
        let function = FunctionRef::parse(name).unwrap();
        self.script.0.acts.lock().unwrap().insert(function.name.to_string(), acts.into());
        let code = Code::Wasm(Digest::from_bytes([7; 32]));
        let functions =
            vec![Deployment { name: function.name, code, contract: Contract::Component, settings }];
        let deploy = Deploy { namespace: function.namespace, app: None, functions };
        self.catalog.deploy(deploy).await.unwrap();
    }

    /// Puts a call under this id.
    pub(crate) async fn put(&self, function: &str, id: &str) -> Result<crate::Accepted, Problem> {
        self.queue.put(submission(function, id, "")).await
    }

    /// Lets time pass, and the queue see it.
    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
        let engine = Arc::clone(self.queue.engine());
        tokio::spawn(async move {
            // What was said before to be due after some time was said of a time that has not passed as it does here.
            look_everywhere(&engine).await;
            engine.board.nudge();
        });
    }

    /// A call once it has ended.
    pub(crate) async fn ended(&self, id: &str) -> QueuedCall {
        let call = self.queue.wait(&call_id(id), &Filter::All, PATIENCE).await.unwrap();
        assert!(call.state.is_ended(), "{id} has not ended: {call:?}");
        call
    }

    pub(crate) async fn show(&self, id: &str) -> QueuedCall {
        self.queue.show(&call_id(id), |_| true).await.unwrap()
    }

    /// Waits until this is so.
    pub(crate) async fn until(&self, what: &str, mut is_so: impl AsyncFnMut(&Self) -> bool) {
        let waited = async {
            while !is_so(self).await {
                // Each look is a few tasks' turns; whoever is waited for has theirs in between.
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    /// Waits until nothing is leased and nothing is on its way to the database.
    pub(crate) async fn until_quiet(&self) {
        let over = tokio::time::timeout(PATIENCE, self.queue.engine().sessions.until_over()).await;
        over.expect("it becomes quiet");
    }

    /// How many calls of a function are leased and have not begun.
    pub(crate) fn ahead(&self, name: &str) -> u64 {
        self.queue.engine().board.ahead_in(&crate::topics::Room::Calls(function(name)).topic())
    }

    /// How many calls of a function have begun, as far as the database knows.
    pub(crate) async fn held(&self, name: &str) -> u64 {
        let topic = crate::topics::Room::Calls(function(name)).topic();
        let asked = Topics { prefix: topic.as_str().to_owned(), after: None, limit: 1 };
        self.database.topics(asked).await.unwrap().first().map_or(0, |count| count.held)
    }

    /// How full the queue is, in a line.
    pub(crate) async fn counts(&self) -> String {
        let totals = self.queue.status(&Filter::All).await.unwrap().totals;
        format!(
            "waiting {} running {} dead {} deliveries {}",
            totals.waiting, totals.running, totals.dead, totals.deliveries
        )
    }
}

pub(crate) fn submission(function: &str, id: &str, body: &'static str) -> Submission {
    let request = Request::post("http://localhost/").body(Body::once(body)).unwrap();
    Submission::new(Call {
        id: call_id(id),
        function: FunctionRef::parse(function).unwrap(),
        request: Box::new(request),
        principal: Principal::Anonymous,
        trace: Trace { trace: 7, span: 9, parent: None, flags: 1 },
        client: None,
    })
}

pub(crate) fn call_id(text: &str) -> CallId {
    CallId::parse(text).unwrap()
}

pub(crate) fn function(text: &str) -> FunctionRef {
    FunctionRef::parse(text).unwrap()
}

/// The code of a problem.
pub(crate) fn code_of<T: fmt::Debug>(result: Result<T, Problem>) -> &'static str {
    result.unwrap_err().code.name
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if !entry.file_name().to_str().unwrap().ends_with("-shm") {
            // What is removed meanwhile was not needed.
            let _ = std::fs::copy(entry.path(), target);
        }
    }
}
