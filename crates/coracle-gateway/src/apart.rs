//! A future that is polled only when it has something new, beside one whose task is woken all the time.
//! `listen` waits so for what ends a connection, which is woken for every call of its client.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Polls its future at first, and then whenever that asked for it.
pub(crate) struct Apart<F> {
    future: Pin<Box<F>>,
    news: Arc<News>,
    waker: Waker,
}

#[derive(Debug)]
struct News {
    are_there: AtomicBool,
    task: AtomicWaker,
}

impl<F: Future> Apart<F> {
    pub(crate) fn new(future: F) -> Self {
        let news = Arc::new(News { are_there: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { future: Box::pin(future), waker: Waker::from(Arc::clone(&news)), news }
    }
}

impl Wake for News {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.are_there.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> Future for Apart<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Before the look, so that no news fall between the two.
        self.news.task.register(cx.waker());
        if !self.news.are_there.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
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
