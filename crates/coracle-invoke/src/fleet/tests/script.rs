//! Instances that do what a test says, and write down what they were told.
//! They hold a fleet to its promises: never asked while frozen, never stopped while frozen, never forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use coracle_model::{Problem, code};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::fleet::member::{Member, Start};

/// How instances behave.
#[derive(Debug, Default)]
pub(crate) struct Script {
    start_ms: u64,
    thaw_ms: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    starts: u64,
    fails: bool,
    told: Vec<String>,
    alive: BTreeMap<u64, Arc<Notify>>,
    frozen: BTreeSet<u64>,
    ill: BTreeSet<u64>,
}

/// A scripted instance.
#[derive(Debug)]
pub(crate) struct Scripted {
    pub(crate) number: u64,
    crash: Arc<Notify>,
    script: Arc<Script>,
}

impl Script {
    /// Instances whose start takes so many milliseconds.
    pub(crate) fn taking(start_ms: u64) -> Arc<Self> {
        Arc::new(Self { start_ms, ..Self::default() })
    }

    pub(crate) fn fail(&self, fails: bool) {
        self.lock().fails = fails;
    }

    pub(crate) fn thawing_takes(&self, ms: u64) {
        self.thaw_ms.store(ms, Ordering::Relaxed);
    }

    pub(crate) fn crash(&self, number: u64) {
        if let Some(crash) = self.lock().alive.get(&number) {
            crash.notify_one();
        }
    }

    pub(crate) fn fall_ill(&self, number: u64) {
        self.lock().ill.insert(number);
    }

    pub(crate) fn starts(&self) -> u64 {
        self.lock().starts
    }

    pub(crate) fn alive(&self) -> usize {
        self.lock().alive.len()
    }

    pub(crate) fn is_awake(&self, number: u64) -> bool {
        !self.lock().frozen.contains(&number)
    }

    /// What all instances were told, in its order.
    pub(crate) fn told(&self) -> String {
        self.lock().told.join(", ")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Start for Arc<Script> {
    type Member = Scripted;

    async fn start(&self) -> Result<Scripted, Box<Problem>> {
        let number = {
            let mut state = self.lock();
            state.starts += 1;
            let number = state.starts;
            state.told.push(format!("start {number}"));
            number
        };
        sleep(Duration::from_millis(self.start_ms)).await;
        let mut state = self.lock();
        if state.fails {
            return Err(Box::new(Problem::new(&code::GUEST_EXITED, "exited with code 2")));
        }
        let crash = Arc::new(Notify::new());
        state.alive.insert(number, Arc::clone(&crash));
        Ok(Scripted { number, crash, script: Arc::clone(self) })
    }
}

impl Member for Scripted {
    async fn freeze(&self) {
        let mut state = self.script.lock();
        state.told.push(format!("freeze {}", self.number));
        state.frozen.insert(self.number);
    }

    async fn thaw(&self) {
        sleep(Duration::from_millis(self.script.thaw_ms.load(Ordering::Relaxed))).await;
        let mut state = self.script.lock();
        state.told.push(format!("thaw {}", self.number));
        state.frozen.remove(&self.number);
    }

    async fn is_healthy(&self) -> bool {
        let mut state = self.script.lock();
        state.told.push(format!("check {}", self.number));
        assert!(!state.frozen.contains(&self.number), "a frozen instance cannot answer");
        !state.ill.contains(&self.number)
    }

    async fn ended(&self) -> String {
        self.crash.notified().await;
        self.script.lock().alive.remove(&self.number);
        "exited with code 1".to_owned()
    }

    async fn stop(&self, grace: Duration) {
        let mut state = self.script.lock();
        assert!(!state.frozen.contains(&self.number) || grace.is_zero(), "a frozen instance hears no signal");
        state.told.push(format!("stop {} within {grace:?}", self.number));
        state.alive.remove(&self.number);
    }
}
