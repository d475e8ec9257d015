//! Calls that are queued: sent, looked at, cancelled and run again.
//! `coracle queue` and `coracle call --async` ask with it.

use std::time::Duration;

use coracle_model::{NamespaceName, Span, TopicName};
use http::Method;

use super::call::add_headers;
use super::{Client, ClientError, FunctionCall};
use crate::{
    AcceptedView, CallState, CallsCount, CancelledView, KnownCall, Page, PurgeRequest, QueueListQuery,
    QueueQuery, QueueView, QueuedCallView, RedriveRequest, ShowQuery, SubmitQuery, TopicEntryView,
    TopicQuery, WAIT_MAX, encode_query, encode_segment,
};

/// Every method fails with a [`ClientError`], and for no other reason than those named there.
#[expect(clippy::missing_errors_doc, reason = "said once, for all of them")]
impl Client {
    /// Has a call queued. When this returns it is durable.
    pub async fn submit(&self, call: FunctionCall) -> Result<AcceptedView, ClientError> {
        let query = SubmitQuery {
            r#async: Some("true".to_owned()),
            method: Some(call.method.to_string()),
            path: Some(call.path).filter(|path| !path.is_empty()),
        };
        let function = call.function;
        let path = format!(
            "/v1/namespaces/{}/functions/{}/calls{}",
            function.namespace,
            function.name,
            encode_query(&query)
        );
        let mut request = self.request(Method::POST, &path, call.body)?;
        add_headers(request.headers_mut(), call.headers);
        let answer = self.answer(request).await?;
        self.read(answer).await
    }

    /// A call by its identity, which is looked for among the queued ones first.
    pub async fn known_call(&self, id: &str) -> Result<KnownCall, ClientError> {
        self.ask(Method::GET, &format!("/v1/calls/{}", encode_segment(id))).await
    }

    /// A queued call, once it has ended.
    pub async fn ended_call(&self, id: &str) -> Result<QueuedCallView, ClientError> {
        loop {
            let query = ShowQuery { wait: Some(Span(WAIT_MAX / 2)), here: false };
            let path = format!("/v1/calls/{}{}", encode_segment(id), encode_query(&query));
            let call: QueuedCallView = self.ask(Method::GET, &path).await?;
            if call.state.is_ended() {
                return Ok(call);
            }
            // The server waits; should it answer at once, it is not asked all the time.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Cancels a queued call.
    pub async fn cancel_call(&self, id: &str) -> Result<CancelledView, ClientError> {
        self.ask(Method::POST, &format!("/v1/calls/{}/cancel", encode_segment(id))).await
    }

    /// Has a dead call run again.
    pub async fn redrive_call(&self, id: &str) -> Result<CallsCount, ClientError> {
        self.ask(Method::POST, &format!("/v1/calls/{}/redrive", encode_segment(id))).await
    }

    /// How full the queue is.
    pub async fn queue(&self, query: &QueueQuery) -> Result<QueueView, ClientError> {
        self.ask(Method::GET, &format!("/v1/queue{}", encode_query(query))).await
    }

    /// A page of queued calls.
    pub async fn queued_calls(&self, query: &QueueListQuery) -> Result<Page<QueuedCallView>, ClientError> {
        self.ask(Method::GET, &format!("/v1/queue/calls{}", encode_query(query))).await
    }

    /// How calls ended that sent it to a topic.
    pub async fn topic(
        &self,
        namespace: &NamespaceName,
        topic: &TopicName,
        query: &TopicQuery,
    ) -> Result<Vec<TopicEntryView>, ClientError> {
        let path = format!("/v1/namespaces/{namespace}/topics/{topic}{}", encode_query(query));
        Ok(self.ask::<Page<TopicEntryView>>(Method::GET, &path).await?.items)
    }

    /// Has dead calls run again.
    pub async fn redrive(&self, request: &RedriveRequest) -> Result<CallsCount, ClientError> {
        self.send(Method::POST, "/v1/queue/redrive", request).await
    }

    /// Removes calls for good.
    pub async fn purge(&self, query: QueueQuery, state: CallState) -> Result<CallsCount, ClientError> {
        let QueueQuery { namespace, function } = query;
        self.send(Method::POST, "/v1/queue/purge", &PurgeRequest { namespace, function, state }).await
    }
}
