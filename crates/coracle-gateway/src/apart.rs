//! A future that is polled only when it has something new, beside one whose task is woken all the time.
//! `listen` waits so for what ends a connection, which is woken for every call of its client.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Polls its future at first, and then whenever that asked for it.
pub(crate) struct Apart<F> {
    future: Pin<Box<F>>,
    news: Arc<News>,
    waker: Waker,
    /// The same as stands in `news`: whoever is polled for other reasons sees without a lock that it is still told.
    told: Option<Waker>,
}

#[derive(Debug)]
struct News {
    are_there: AtomicBool,
    // Std mutex: held to put a waker in or copy it out. It stays there, so that being polled again costs nothing.
    task: Mutex<Option<Waker>>,
}

impl News {
    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future> Apart<F> {
    pub(crate) fn new(future: F) -> Self {
        let news = Arc::new(News { are_there: AtomicBool::new(true), task: Mutex::default() });
        Self { future: Box::pin(future), waker: Waker::from(Arc::clone(&news)), news, told: None }
    }
}

impl Wake for News {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.are_there.store(true, Ordering::Release);
        let task = self.task().clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<F: Future> Future for Apart<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Before the look, so that no news fall between the two.
        if !self.told.as_ref().is_some_and(|told| told.will_wake(cx.waker())) {
            self.told = Some(cx.waker().clone());
            *self.news.task() = Some(cx.waker().clone());
        }
        if !self.news.are_there.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        self.news.are_there.swap(false, Ordering::AcqRel);
        let Self { future, waker, .. } = &mut *self;
        future.as_mut().poll(&mut Context::from_waker(waker))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicU32;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_for_its_own_news_alone() {
        let (polled, notify) = (AtomicU32::new(0), Notify::new());
        let mut notified = Box::pin(notify.notified());
        let inner = poll_fn(|cx| {
            polled.fetch_add(1, Ordering::Relaxed);
            notified.as_mut().poll(cx)
        });
        let mut apart = Apart::new(inner);
        for _ in 0..9 {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(Pin::new(&mut apart).poll(&mut cx).is_pending());
        }
        assert_eq!(polled.load(Ordering::Relaxed), 1);
        notify.notify_one();
        apart.await;
        assert_eq!(polled.load(Ordering::Relaxed), 2);
    }
}
