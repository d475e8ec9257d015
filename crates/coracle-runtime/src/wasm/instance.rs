//! One running copy of a revision, and a call in it.
//! Invoke starts instances, keeps those that may serve again, and runs calls in them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coracle_model::{Body, CallId, Contract, Problem, Reply, code};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::fault;
use crate::wasm::component::Component;
use crate::wasm::engine::Ticker;
use crate::wasm::guest::Plan;
use crate::wasm::loaded::{Entry, Program};
use crate::wasm::stdio;

/// One running copy of a revision.
pub struct Instance {
    pub(super) id: u64,
    pub(super) plan: Arc<Plan>,
    pub(super) ticker: Arc<Ticker>,
    pub(super) kind: Kind,
    served: u32,
}

/// How the code is spoken to, and what is ready of it.
pub(super) enum Kind {
    /// A component, instantiated and waiting for a call.
    Component(Box<Component>),
    /// A program that is started with the call, because its environment holds the call's head.
    Stdio(Arc<Program>),
}

/// A call for an instance to serve.
#[derive(Debug)]
pub struct Work {
    /// Its identity.
    pub id: CallId,
    /// What the guest sees; in a box, because it passes through many hands.
    pub request: Box<http::Request<Body>>,
    /// When the head of its response must be there.
    pub deadline: Instant,
}

/// What an instance answered, and whether it still runs.
#[derive(Debug)]
pub struct Answer {
    /// The response, or why there is none.
    pub reply: Result<Reply, Box<Problem>>,
    /// What becomes of the call after its head.
    pub running: Running,
}

/// What becomes of a call after the head of its response.
#[derive(Debug)]
pub enum Running {
    /// It is over.
    Over(Ended),
    /// The guest still writes its body.
    Still(JoinHandle<Ended>),
}

/// How a call ended, and what it used.
#[derive(Debug)]
pub struct Ended {
    /// What went wrong, if anything did.
    pub problem: Option<Box<Problem>>,
    /// What is left of its instance.
    pub left: Left,
    /// The most memory it had, in bytes.
    pub memory_bytes: u64,
    /// The body of the call, as far as the guest read it, in bytes.
    pub bytes_in: u64,
    /// The body of the response, as far as it was taken, in bytes.
    pub bytes_out: u64,
}

/// What a call leaves of the instance that served it.
#[derive(Debug, Default)]
pub enum Left {
    /// Nothing: it is gone already.
    #[default]
    Nothing,
    /// An instance that is done; letting go of it takes a while, and may wait until the response is out.
    Spent(Instance),
    /// An instance that may serve again.
    Reusable(Instance),
}

static NEXT_INSTANCE: AtomicU64 = AtomicU64::new(1);

impl Instance {
    /// Starts an instance of a plan whose code is mapped.
    pub(super) async fn start(
        plan: &Arc<Plan>,
        program: Arc<Program>,
        ticker: &Arc<Ticker>,
        deadline: Instant,
    ) -> Result<Self, Box<Problem>> {
        let id = NEXT_INSTANCE.fetch_add(1, Ordering::Relaxed);
        let kind = match (&program.entry, plan.revision.contract) {
            (Entry::Component(pre), Contract::Component) => {
                let _ticking = ticker.running();
                let starting = Component::start(plan, pre, id);
                let timeout = plan.revision.settings.limits.timeout;
                // Pinned here: `before` would have room for it twice.
                let component = before(deadline, std::pin::pin!(starting))
                    .await
                    .ok_or_else(|| Box::new(fault::timed_out(&plan.revision.function, timeout)))??;
                Kind::Component(Box::new(component))
            }
            (Entry::Command(_), Contract::Stdio) => Kind::Stdio(program),
            _ => {
                let function = &plan.revision.function;
                return Err(Box::new(Problem::new(
                    &code::INTERNAL,
                    format!("the code of `{function}` is not a {}", plan.revision.contract),
                )));
            }
        };
        Ok(Self { id, plan: Arc::clone(plan), ticker: Arc::clone(ticker), kind, served: 0 })
    }

    /// Serves a call, as far as the head of its response.
    ///
    /// Dropping the future ends the guest.
    pub async fn serve(mut self, work: Work) -> Answer {
        self.served += 1;
        let ticking = self.ticker.running();
        match self.kind {
            Kind::Component(_) => super::component::serve(self, work, ticking).await,
            Kind::Stdio(ref program) => {
                let program = Arc::clone(program);
                // In a box: its future is the larger one, and would be moved with every call of a component.
                Box::pin(stdio::serve(&self.plan, &program, self.id, work, ticking)).await
            }
        }
    }

    /// Whether it may serve another call after those it served.
    pub(super) fn may_serve_again(&mut self) -> bool {
        let Kind::Component(component) = &mut self.kind else { return false };
        self.served <= self.plan.revision.settings.reuse && component.is_tidy()
    }

    /// The revision that it is a copy of.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("id", &self.id)
            .field("function", &self.plan.revision.function)
            .field("served", &self.served)
            .finish_non_exhaustive()
    }
}

/// Polls a future until the deadline; a timer is only made when it has to wait.
pub(crate) async fn before<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    // A future that always finds something to do takes all of the task's turns, and leaves none to an ordinary timer.
    let mut timer = std::pin::pin!(None::<tokio::task::coop::Unconstrained<tokio::time::Sleep>>);
    std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(cx) {
            return std::task::Poll::Ready(Some(output));
        }
        if timer.is_none() {
            timer.set(Some(tokio::task::coop::unconstrained(tokio::time::sleep_until(deadline))));
        }
        match timer.as_mut().as_pin_mut() {
            Some(timer) => timer.poll(cx).map(|()| None),
            None => std::task::Poll::Pending,
        }
    })
    .await
}
