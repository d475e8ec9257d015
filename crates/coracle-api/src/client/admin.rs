//! One method for each operation of `/v1`.
//! Names and specs are checked before they get here, so that a path is always right.

use std::path::Path;

use bytes::BytesMut;
use coracle_model::{AppName, Body, BodyError, Digest, FunctionRef, NamespaceName, SecretName, TokenId};
use futures_util::stream;
use http::Method;
use http::header::CONTENT_LENGTH;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::io::AsyncReadExt;

use super::{Chunks, Client, ClientError, Lines, LogLines};
use crate::{
    AppSpec, AppView, ArtifactView, CallQuery, CallView, FUNCTIONS_SKIPPED, FollowedCall, FunctionQuery,
    FunctionSpec, FunctionView, IdentityView, ImageQuery, ImageView, KnownCall, LoadQuery, LogQuery,
    NamespaceView, Page, PrunedView, PullEvent, PullRequest, RegistryLogin, RegistryView, RevisionView,
    RollbackRequest, ScaleRequest, ScaledView, SecretValue, SecretView, ShowQuery, StatsQuery, StatsView,
    StatusView, TokenCreated, TokenRequest, TokenView, encode_query, encode_segment,
};

/// Functions that are asked for at once where all are wanted: few round trips, and a page of them with the largest
/// settings there may be is still an answer that is read.
const ITEMS_AT_ONCE: usize = 250;

/// How long an archive of images may take to be sent and unpacked.
const LOAD_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2 * 60 * 60);

/// How much of a file is read at once.
const UPLOAD_CHUNK_BYTES: usize = 64 << 10;

/// Every method fails with a [`ClientError`], and for no other reason than those named there.
#[expect(clippy::missing_errors_doc, reason = "said once, for all of them")]
impl Client {
    /// An artifact that the server has; `None` if it has to be uploaded.
    pub async fn artifact(&self, digest: &Digest) -> Result<Option<ArtifactView>, ClientError> {
        match self.ask(Method::GET, &format!("/v1/artifacts/{digest}")).await {
            Err(ClientError::Problem(problem)) if problem.status == 404 => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// Uploads a file; `progress` is told how many bytes of it were sent so far.
    pub async fn upload(
        &self,
        path: &Path,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<ArtifactView, ClientError> {
        let request = self.request_with_file("/v1/artifacts", path, progress).await?;
        let answer = self.answer(request).await?;
        self.read(answer).await
    }

    /// Deploys a function.
    pub async fn deploy(
        &self,
        function: &FunctionRef,
        spec: &FunctionSpec,
    ) -> Result<FunctionView, ClientError> {
        self.send(Method::PUT, &path_of(function), spec).await
    }

    /// A page of functions.
    pub async fn functions(&self, query: &FunctionQuery) -> Result<Page<FunctionView>, ClientError> {
        self.ask(Method::GET, &format!("/v1/functions{}", encode_query(query))).await
    }

    /// All functions, page by page.
    pub async fn functions_all(&self, query: &FunctionQuery) -> Result<Vec<FunctionView>, ClientError> {
        let mut query = FunctionQuery { limit: query.limit.or(Some(ITEMS_AT_ONCE)), ..query.clone() };
        let mut all = Vec::new();
        loop {
            let page = self.functions(&query).await?;
            all.extend(page.items);
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// A function.
    pub async fn function(&self, function: &FunctionRef) -> Result<FunctionView, ClientError> {
        self.ask(Method::GET, &path_of(function)).await
    }

    /// Removes a function.
    pub async fn remove(&self, function: &FunctionRef) -> Result<(), ClientError> {
        self.tell(Method::DELETE, &path_of(function)).await
    }

    /// The revisions of a function, newest first.
    pub async fn revisions(&self, function: &FunctionRef) -> Result<Vec<RevisionView>, ClientError> {
        self.list(&format!("{}/revisions", path_of(function))).await
    }

    /// Goes back to an earlier revision: this one, or the one before the current one.
    pub async fn rollback(
        &self,
        function: &FunctionRef,
        revision: Option<u32>,
    ) -> Result<FunctionView, ClientError> {
        self.send(Method::POST, &format!("{}/rollback", path_of(function)), &RollbackRequest { revision })
            .await
    }

    /// Starts or stops instances of a program, and keeps so many running.
    pub async fn scale(&self, function: &FunctionRef, instances: u32) -> Result<ScaledView, ClientError> {
        self.send(Method::POST, &format!("{}/scale", path_of(function)), &ScaleRequest { instances }).await
    }

    /// The apps of a namespace.
    pub async fn apps(&self, namespace: &NamespaceName) -> Result<Vec<AppView>, ClientError> {
        self.list(&format!("/v1/namespaces/{namespace}/apps")).await
    }

    /// An app.
    pub async fn app(&self, namespace: &NamespaceName, app: &AppName) -> Result<AppView, ClientError> {
        self.ask(Method::GET, &format!("/v1/namespaces/{namespace}/apps/{app}")).await
    }

    /// Deploys an app, all of its functions or none.
    pub async fn deploy_app(
        &self,
        namespace: &NamespaceName,
        app: &AppName,
        spec: &AppSpec,
    ) -> Result<Vec<FunctionView>, ClientError> {
        let page: Page<_> =
            self.send(Method::PUT, &format!("/v1/namespaces/{namespace}/apps/{app}"), spec).await?;
        Ok(page.items)
    }

    /// Removes an app and its functions.
    pub async fn remove_app(&self, namespace: &NamespaceName, app: &AppName) -> Result<(), ClientError> {
        self.tell(Method::DELETE, &format!("/v1/namespaces/{namespace}/apps/{app}")).await
    }

    /// The last calls, newest first.
    pub async fn calls(&self, query: &CallQuery) -> Result<Vec<CallView>, ClientError> {
        self.list(&format!("/v1/calls{}", encode_query(query))).await
    }

    /// Calls as they end, after as many of the last ones as `limit` says.
    pub async fn follow_calls(&self, query: &CallQuery) -> Result<Lines<FollowedCall>, ClientError> {
        let query = CallQuery { follow: true, ..query.clone() };
        let request =
            self.request(Method::GET, &format!("/v1/calls{}", encode_query(&query)), Body::empty())?;
        let answer = self.answer(request).await?;
        Ok(Lines::new(Chunks::new(self.url(), answer.into_body())))
    }

    /// One of the last calls. Any text may be asked for: callers choose their own identities.
    pub async fn call_view(&self, id: &str) -> Result<CallView, ClientError> {
        self.ask(Method::GET, &format!("/v1/calls/{}", encode_segment(id))).await
    }

    /// One of the last calls of this node alone.
    pub async fn call_here(&self, id: &str) -> Result<KnownCall, ClientError> {
        let query = encode_query(&ShowQuery { wait: None, here: true });
        self.ask(Method::GET, &format!("/v1/calls/{}{query}", encode_segment(id))).await
    }

    /// Logs, as they come.
    pub async fn logs(&self, query: &LogQuery) -> Result<LogLines, ClientError> {
        let request =
            self.request(Method::GET, &format!("/v1/logs{}", encode_query(query)), Body::empty())?;
        let answer = self.answer(request).await?;
        let skipped =
            answer.headers().get(FUNCTIONS_SKIPPED).and_then(|number| number.to_str().ok()?.parse().ok());
        let lines = Lines::new(Chunks::new(self.url(), answer.into_body()));
        Ok(LogLines::new(lines, skipped.unwrap_or(0)))
    }

    /// How functions do of late.
    pub async fn stats(&self, query: &StatsQuery) -> Result<StatsView, ClientError> {
        self.ask(Method::GET, &format!("/v1/stats{}", encode_query(query))).await
    }

    /// The secrets of a namespace, by name.
    pub async fn secrets(&self, namespace: &NamespaceName) -> Result<Vec<SecretView>, ClientError> {
        self.list(&format!("/v1/namespaces/{namespace}/secrets")).await
    }

    /// Sets a secret.
    pub async fn set_secret(
        &self,
        namespace: &NamespaceName,
        name: &SecretName,
        value: &SecretValue,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/namespaces/{namespace}/secrets/{name}");
        self.answer(self.json_request(Method::PUT, &path, value)?).await.map(drop)
    }

    /// Removes a secret.
    pub async fn remove_secret(
        &self,
        namespace: &NamespaceName,
        name: &SecretName,
    ) -> Result<(), ClientError> {
        self.tell(Method::DELETE, &format!("/v1/namespaces/{namespace}/secrets/{name}")).await
    }

    /// The namespaces that the token reaches.
    pub async fn namespaces(&self) -> Result<Vec<NamespaceView>, ClientError> {
        self.list("/v1/namespaces").await
    }

    /// Makes a namespace; one that is there already is no error.
    pub async fn create_namespace(&self, namespace: &NamespaceName) -> Result<NamespaceView, ClientError> {
        self.ask(Method::PUT, &format!("/v1/namespaces/{namespace}")).await
    }

    /// Removes a namespace, which must be empty.
    pub async fn remove_namespace(&self, namespace: &NamespaceName) -> Result<(), ClientError> {
        self.tell(Method::DELETE, &format!("/v1/namespaces/{namespace}")).await
    }

    /// All tokens, without the half that opens doors.
    pub async fn tokens(&self) -> Result<Vec<TokenView>, ClientError> {
        self.list("/v1/tokens").await
    }

    /// Makes a token.
    pub async fn create_token(&self, request: &TokenRequest) -> Result<TokenCreated, ClientError> {
        self.send(Method::POST, "/v1/tokens", request).await
    }

    /// Revokes a token.
    pub async fn revoke_token(&self, id: &TokenId) -> Result<(), ClientError> {
        self.tell(Method::DELETE, &format!("/v1/tokens/{}", encode_segment(&id.0))).await
    }

    /// How the server does.
    pub async fn status(&self) -> Result<StatusView, ClientError> {
        self.ask(Method::GET, "/v1/status").await
    }

    /// Who the server thinks is asking.
    pub async fn whoami(&self) -> Result<IdentityView, ClientError> {
        self.ask(Method::GET, "/v1/whoami").await
    }

    /// A consistent copy of all that survives a restart, as it comes.
    pub async fn backup(&self) -> Result<Chunks, ClientError> {
        let answer = self.answer(self.request(Method::POST, "/v1/backup", Body::empty())?).await?;
        Ok(Chunks::new(self.url(), answer.into_body()))
    }

    /// The images that the server has.
    pub async fn images(&self) -> Result<Vec<ImageView>, ClientError> {
        self.list("/v1/images").await
    }

    /// Has the server get an image; what comes says how far it is, and then how it ended.
    pub async fn pull_image(&self, request: &PullRequest) -> Result<Lines<PullEvent>, ClientError> {
        let answer = self.answer(self.json_request(Method::POST, "/v1/images/pull", request)?).await?;
        Ok(Lines::new(Chunks::new(self.url(), answer.into_body())))
    }

    /// Uploads an archive of images; `progress` is told how many bytes of it were sent so far.
    pub async fn load_images(
        &self,
        path: &Path,
        query: &LoadQuery,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<Vec<ImageView>, ClientError> {
        let target = format!("/v1/images/load{}", encode_query(query));
        let request = self.request_with_file(&target, path, progress).await?;
        // An archive may be large, and what is sent slowly is no server that does not answer.
        let answer = self.answer_in_time(request, LOAD_TIMEOUT).await?;
        Ok(self.read::<Page<ImageView>>(answer).await?.items)
    }

    /// Removes an image by its name.
    pub async fn remove_image(&self, query: &ImageQuery) -> Result<PrunedView, ClientError> {
        self.ask(Method::DELETE, &format!("/v1/images{}", encode_query(query))).await
    }

    /// Removes the images that no revision runs.
    pub async fn prune_images(&self) -> Result<PrunedView, ClientError> {
        self.ask(Method::POST, "/v1/images/prune").await
    }

    /// The registries that a namespace has a password for.
    pub async fn registries(&self, namespace: &NamespaceName) -> Result<Vec<RegistryView>, ClientError> {
        self.list(&format!("/v1/namespaces/{namespace}/registries")).await
    }

    /// Sets the user and the password for a registry.
    pub async fn set_registry(
        &self,
        namespace: &NamespaceName,
        registry: &str,
        login: &RegistryLogin,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/namespaces/{namespace}/registries/{}", encode_segment(registry));
        self.answer(self.json_request(Method::PUT, &path, login)?).await.map(drop)
    }

    /// Forgets the password for a registry.
    pub async fn remove_registry(
        &self,
        namespace: &NamespaceName,
        registry: &str,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/namespaces/{namespace}/registries/{}", encode_segment(registry));
        self.tell(Method::DELETE, &path).await
    }

    /// A request whose body is a file.
    async fn request_with_file(
        &self,
        target: &str,
        path: &Path,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<http::Request<Body>, ClientError> {
        let unreadable = |source| ClientError::File { path: path.to_owned(), source };
        let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let length = file.metadata().await.map_err(unreadable)?.len();
        // Taken, so that a file that grows meanwhile does not outgrow the length we promise.
        let state = (file.take(length), 0, progress);
        let chunks = stream::try_unfold(state, async |(mut file, mut sent, mut progress)| {
            let mut chunk = BytesMut::with_capacity(UPLOAD_CHUNK_BYTES);
            let read = file.read_buf(&mut chunk).await.map_err(BodyError::broken)?;
            if read == 0 {
                return Ok(None);
            }
            sent += read as u64;
            progress(sent);
            Ok::<_, BodyError>(Some((Frame::data(chunk.freeze()), (file, sent, progress))))
        });
        let body = Body::stream(StreamBody::new(chunks));
        let mut request = self.request(Method::POST, target, body)?;
        request.headers_mut().insert(CONTENT_LENGTH, length.into());
        Ok(request)
    }

    async fn list<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, ClientError> {
        Ok(self.ask::<Page<T>>(Method::GET, path).await?.items)
    }
}

fn path_of(function: &FunctionRef) -> String {
    format!("/v1/namespaces/{}/functions/{}", function.namespace, function.name)
}
