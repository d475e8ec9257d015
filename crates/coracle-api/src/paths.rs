//! Every path of `/v1`, declared once; the OpenAPI document is made of these.
//! The gateway's handlers are the bodies; a test there holds its routes against [`operations`].
#![expect(dead_code, reason = "declarations for the document: nothing calls them")]

use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, RefOr, ResponseBuilder};
use utoipa::{IntoParams, Modify, OpenApi, ToSchema};

use crate::{
    AcceptedView, AppSpec, AppView, ArtifactView, CallQuery, CallView, CallsCount, CancelledView,
    FollowedCall, FunctionQuery, FunctionSpec, FunctionView, IdentityView, ImageQuery, ImageView, KnownCall,
    LoadQuery, LogLine, LogQuery, NamespaceView, Page, ProblemView, PrunedView, PullEvent, PullRequest,
    PurgeRequest, QueueListQuery, QueueQuery, QueueView, QueuedCallView, RedriveRequest, RegistryLogin,
    RegistryView, RevisionView, RollbackRequest, ScaleRequest, ScaledView, SecretValue, SecretView,
    ShowQuery, StatsQuery, StatsSort, StatsView, StatusView, SubmitQuery, TokenCreated, TokenRequest,
    TokenView, TopicEntryView, TopicQuery,
};

/// The OpenAPI document of `/v1`, as JSON that people can read.
pub fn openapi() -> String {
    // The document is built of texts and maps with text keys, which always have a JSON.
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// Every operation of `/v1`: its method, and its path with `{parameters}`.
pub fn operations() -> Vec<(http::Method, String)> {
    let mut operations = Vec::new();
    for (path, item) in Document::openapi().paths.paths {
        let methods = [
            (http::Method::GET, item.get),
            (http::Method::PUT, item.put),
            (http::Method::POST, item.post),
            (http::Method::DELETE, item.delete),
        ];
        for (method, operation) in methods {
            if operation.is_some() {
                operations.push((method, path.clone()));
            }
        }
    }
    operations
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Coracle",
        description = "Deploy functions, and see what they do.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        artifact_upload, artifact_get,
        function_list, function_get, function_deploy, function_remove, function_revisions, function_rollback,
        function_scale,
        app_list, app_get, app_deploy, app_remove,
        call_submit, call_submit_named, call_list, call_get, call_cancel, call_redrive,
        queue_get, queue_list, queue_redrive, queue_purge, topic_read,
        log_read, stats_read,
        secret_list, secret_set, secret_remove,
        image_list, image_pull, image_load, image_remove, image_prune,
        registry_list, registry_login, registry_logout,
        namespace_list, namespace_create, namespace_remove,
        token_list, token_create, token_revoke,
        status, whoami, backup, openapi_get,
    ),
    components(schemas(ProblemView, StatsSort)),
    modifiers(&Everywhere),
)]
struct Document;

/// What holds for every operation: how to authenticate, and what an error looks like.
struct Everywhere;

impl Modify for Everywhere {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        components.add_security_scheme("basic", SecurityScheme::Http(Http::new(HttpAuthScheme::Basic)));
        let any = |name: &str| SecurityRequirement::new(name, [] as [&str; 0]);
        document.security = Some(vec![any("bearer"), any("basic")]);
        let problem = utoipa::openapi::Ref::from_schema_name("ProblemView");
        let problem = ResponseBuilder::new()
            .description("What went wrong, and what to do next; `x-coracle-error` is its code")
            .content("application/json", ContentBuilder::new().schema(Some(problem)).build())
            .build();
        for item in document.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
            for operation in operations.into_iter().flatten() {
                operation.responses.responses.insert("default".into(), RefOr::T(problem.clone()));
            }
        }
    }
}

/// Any bytes.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
struct Bytes(Vec<u8>);

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
struct InNamespace {
    /// The namespace.
    #[param(example = "default")]
    ns: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
struct OfNamespace {
    /// The namespace.
    #[param(example = "default")]
    ns: String,
    /// The name there.
    name: String,
}

/// Upload code. The same bytes uploaded twice are one artifact.
#[utoipa::path(post, path = "/v1/artifacts", tag = "artifacts",
    request_body(content = Bytes, content_type = "application/octet-stream"),
    responses((status = 201, description = "It is kept", body = ArtifactView)))]
fn artifact_upload() {}

/// Whether the server has an artifact.
#[utoipa::path(get, path = "/v1/artifacts/{digest}", tag = "artifacts",
    params(("digest" = String, Path, description = "The SHA-256 of its bytes")),
    responses((status = 200, description = "It has it", body = ArtifactView), (status = 404, description = "It has not")))]
fn artifact_get() {}

/// List functions.
#[utoipa::path(get, path = "/v1/functions", tag = "functions", params(FunctionQuery),
    responses((status = 200, description = "A page of them, by namespace and name", body = Page<FunctionView>)))]
fn function_list() {}

/// A function: what runs now, how, and how it does.
#[utoipa::path(get, path = "/v1/namespaces/{ns}/functions/{name}", tag = "functions", params(OfNamespace),
    responses((status = 200, description = "The function", body = FunctionView)))]
fn function_get() {}

/// Deploy a function. Calls in flight finish on the revision they began with, the next call gets the new one.
#[utoipa::path(put, path = "/v1/namespaces/{ns}/functions/{name}", tag = "functions", params(OfNamespace),
    request_body = FunctionSpec,
    responses((status = 200, description = "It has a new revision", body = FunctionView), (status = 201, description = "It is new", body = FunctionView)))]
fn function_deploy() {}

/// Remove a function and its revisions.
#[utoipa::path(delete, path = "/v1/namespaces/{ns}/functions/{name}", tag = "functions", params(OfNamespace),
    responses((status = 204, description = "It is gone")))]
fn function_remove() {}

/// List the revisions of a function, newest first.
#[utoipa::path(get, path = "/v1/namespaces/{ns}/functions/{name}/revisions", tag = "functions", params(OfNamespace),
    responses((status = 200, description = "All that are kept", body = Page<RevisionView>)))]
fn function_revisions() {}

/// Go back to an earlier revision.
#[utoipa::path(post, path = "/v1/namespaces/{ns}/functions/{name}/rollback", tag = "functions", params(OfNamespace),
    request_body = RollbackRequest,
    responses((status = 200, description = "Calls run it from now on", body = FunctionView)))]
fn function_rollback() {}

/// Start or stop instances of a program, and keep so many running until told otherwise. Calls may start more.
#[utoipa::path(post, path = "/v1/namespaces/{ns}/functions/{name}/scale", tag = "functions", params(OfNamespace),
    request_body = ScaleRequest,
    responses((status = 200, description = "So many run, or are starting", body = ScaledView)))]
fn function_scale() {}

/// List the apps of a namespace.
#[utoipa::path(get, path = "/v1/namespaces/{ns}/apps", tag = "apps", params(InNamespace),
    responses((status = 200, description = "All of them", body = Page<AppView>)))]
fn app_list() {}

/// An app and the names of its functions.
#[utoipa::path(get, path = "/v1/namespaces/{ns}/apps/{name}", tag = "apps", params(OfNamespace),
    responses((status = 200, description = "The app", body = AppView)))]
fn app_get() {}

/// Deploy an app, all of its functions or none. Those that are not named any more are removed, unless `part` is set.
#[utoipa::path(put, path = "/v1/namespaces/{ns}/apps/{name}", tag = "apps", params(OfNamespace),
    request_body = AppSpec,
    responses((status = 200, description = "Its functions", body = Page<FunctionView>)))]
fn app_deploy() {}

/// Remove an app and its functions.
#[utoipa::path(delete, path = "/v1/namespaces/{ns}/apps/{name}", tag = "apps", params(OfNamespace),
    responses((status = 204, description = "They are gone")))]
fn app_remove() {}

/// List the last calls, newest first, or follow calls as they end.
#[utoipa::path(get, path = "/v1/calls", tag = "calls", params(CallQuery),
    responses((status = 200, description = "Those that are kept; with `follow` one JSON object a line",
        content((Page<CallView> = "application/json"), (FollowedCall = "application/x-ndjson")))))]
fn call_list() {}

/// A call by its identity: one that was queued, with all that was tried, or one of the last ones.
#[utoipa::path(get, path = "/v1/calls/{id}", tag = "calls",
    params(("id" = String, Path, description = "Its `X-Call-Id`"), ShowQuery),
    responses((status = 200, description = "The call", body = KnownCall)))]
fn call_get() {}

/// Queue a call. Method, path, headers and body are kept, and the function sees them as they were sent.
///
/// The same headers are understood as at `/async-function/NAME`: `X-Callback-Url`, `X-Coracle-Delay`, `X-Coracle-Group`, `Idempotency-Key`.
#[utoipa::path(post, path = "/v1/namespaces/{ns}/functions/{name}/calls", tag = "queue", params(OfNamespace, SubmitQuery),
    request_body(content = Bytes, content_type = "application/octet-stream"),
    responses((status = 202, description = "It is durable; `X-Call-Id` says which", body = AcceptedView)))]
fn call_submit() {}

/// Queue a call of a function that is named as `NAME`, or as `NAME.NAMESPACE`.
#[utoipa::path(post, path = "/v1/functions/{name}/calls", tag = "queue",
    params(("name" = String, Path, description = "`NAME` in the first namespace, or `NAME.NAMESPACE`"), SubmitQuery),
    request_body(content = Bytes, content_type = "application/octet-stream"),
    responses((status = 202, description = "It is durable; `X-Call-Id` says which", body = AcceptedView)))]
fn call_submit_named() {}

/// Cancel a queued call. One that waits never runs; one that runs is stopped.
#[utoipa::path(post, path = "/v1/calls/{id}/cancel", tag = "queue",
    params(("id" = String, Path, description = "Its `X-Call-Id`")),
    responses((status = 202, description = "It ends", body = CancelledView)))]
fn call_cancel() {}

/// Have a dead call run again, or a dead delivery; its attempts are counted anew.
#[utoipa::path(post, path = "/v1/calls/{id}/redrive", tag = "queue",
    params(("id" = String, Path, description = "Its `X-Call-Id`")),
    responses((status = 200, description = "So many run again", body = CallsCount)))]
fn call_redrive() {}

/// How full the queue is.
#[utoipa::path(get, path = "/v1/queue", tag = "queue", params(QueueQuery),
    responses((status = 200, description = "Totals, and each function that has queued calls", body = QueueView)))]
fn queue_get() {}

/// List queued calls in one state: the oldest first, and of those that ended the newest.
#[utoipa::path(get, path = "/v1/queue/calls", tag = "queue", params(QueueListQuery),
    responses((status = 200, description = "A page of them", body = Page<QueuedCallView>)))]
fn queue_list() {}

/// Read how calls ended that sent it to a topic, the oldest first.
#[utoipa::path(get, path = "/v1/namespaces/{ns}/topics/{name}", tag = "queue", params(OfNamespace, TopicQuery),
    responses((status = 200, description = "Some of them; `after` the last one come more", body = Page<TopicEntryView>)))]
fn topic_read() {}

/// Have dead calls and dead deliveries run again.
#[utoipa::path(post, path = "/v1/queue/redrive", tag = "queue",
    request_body = RedriveRequest,
    responses((status = 200, description = "So many run again", body = CallsCount)))]
fn queue_redrive() {}

/// Remove calls for good: those that wait, or those that are dead. What runs is left alone.
#[utoipa::path(post, path = "/v1/queue/purge", tag = "queue",
    request_body = PurgeRequest,
    responses((status = 200, description = "So many are gone", body = CallsCount)))]
fn queue_purge() {}

/// Read logs, and follow them.
#[utoipa::path(get, path = "/v1/logs", tag = "logs", params(LogQuery),
    responses((status = 200, description = "One JSON object per line", body = LogLine, content_type = "application/x-ndjson",
        headers(("x-coracle-functions-skipped" = Option<usize>, description = "Functions whose older lines were left out, because 1000 others wrote later")))))]
fn log_read() {}

/// How functions do of late, the busiest first.
#[utoipa::path(get, path = "/v1/stats", tag = "stats", params(StatsQuery),
    responses((status = 200, description = "Totals, and the first functions", body = StatsView)))]
fn stats_read() {}

/// List secrets by name. Their values never come back.
#[utoipa::path(get, path = "/v1/namespaces/{ns}/secrets", tag = "secrets", params(InNamespace),
    responses((status = 200, description = "All of them", body = Page<SecretView>)))]
fn secret_list() {}

/// Set a secret. Functions that name it see the new value from their next instance on.
#[utoipa::path(put, path = "/v1/namespaces/{ns}/secrets/{name}", tag = "secrets", params(OfNamespace),
    request_body = SecretValue,
    responses((status = 204, description = "It is kept, encrypted")))]
fn secret_set() {}

/// Remove a secret.
#[utoipa::path(delete, path = "/v1/namespaces/{ns}/secrets/{name}", tag = "secrets", params(OfNamespace),
    responses((status = 204, description = "It is gone")))]
fn secret_remove() {}

/// List the images that the server has.
#[utoipa::path(get, path = "/v1/images", tag = "images",
    responses((status = 200, description = "All of them, by name", body = Page<ImageView>)))]
fn image_list() {}

/// Get an image from its registry.
#[utoipa::path(post, path = "/v1/images/pull", tag = "images",
    request_body = PullRequest,
    responses((status = 200, description = "One JSON object a line: how far it is, and then the image or the problem",
        body = PullEvent, content_type = "application/x-ndjson")))]
fn image_pull() {}

/// Upload an archive of images: an OCI layout in a tar, or what `docker save` writes, compressed or not.
#[utoipa::path(post, path = "/v1/images/load", tag = "images", params(LoadQuery),
    request_body(content = Bytes, content_type = "application/octet-stream"),
    responses((status = 201, description = "The images that it held", body = Page<ImageView>)))]
fn image_load() {}

/// Remove an image by its name; what a revision runs is kept without a name.
#[utoipa::path(delete, path = "/v1/images", tag = "images", params(ImageQuery),
    responses((status = 200, description = "What is gone", body = PrunedView)))]
fn image_remove() {}

/// Remove the images that no revision runs, and the layers that no image needs.
#[utoipa::path(post, path = "/v1/images/prune", tag = "images",
    responses((status = 200, description = "What is gone", body = PrunedView)))]
fn image_prune() {}

/// List the registries that a namespace has a password for.
#[utoipa::path(get, path = "/v1/namespaces/{ns}/registries", tag = "images", params(InNamespace),
    responses((status = 200, description = "All of them", body = Page<RegistryView>)))]
fn registry_list() {}

/// Set the user and the password for a registry. They never come back, and no function can read them.
#[utoipa::path(put, path = "/v1/namespaces/{ns}/registries/{name}", tag = "images", params(OfNamespace),
    request_body = RegistryLogin,
    responses((status = 204, description = "They are kept, encrypted")))]
fn registry_login() {}

/// Forget the password for a registry.
#[utoipa::path(delete, path = "/v1/namespaces/{ns}/registries/{name}", tag = "images", params(OfNamespace),
    responses((status = 204, description = "It is gone")))]
fn registry_logout() {}

/// List the namespaces that the token reaches.
#[utoipa::path(get, path = "/v1/namespaces", tag = "namespaces",
    responses((status = 200, description = "All of them", body = Page<NamespaceView>)))]
fn namespace_list() {}

/// Make a namespace.
#[utoipa::path(put, path = "/v1/namespaces/{ns}", tag = "namespaces", params(InNamespace),
    responses((status = 200, description = "It was there already", body = NamespaceView), (status = 201, description = "It is new", body = NamespaceView)))]
fn namespace_create() {}

/// Remove a namespace, which must be empty.
#[utoipa::path(delete, path = "/v1/namespaces/{ns}", tag = "namespaces", params(InNamespace),
    responses((status = 204, description = "It is gone")))]
fn namespace_remove() {}

/// List tokens, without the half that opens doors.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens",
    responses((status = 200, description = "All of them", body = Page<TokenView>)))]
fn token_list() {}

/// Make a token. Its text is shown this once.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens",
    request_body = TokenRequest,
    responses((status = 201, description = "The token", body = TokenCreated)))]
fn token_create() {}

/// Revoke a token, at once.
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "tokens",
    params(("id" = String, Path, description = "Its public name")),
    responses((status = 204, description = "It opens nothing any more")))]
fn token_revoke() {}

/// How the server does; its inside for an admin only.
#[utoipa::path(get, path = "/v1/status", tag = "server",
    responses((status = 200, description = "The server at a glance", body = StatusView)))]
fn status() {}

/// Who the server thinks is asking.
#[utoipa::path(get, path = "/v1/whoami", tag = "server",
    responses((status = 200, description = "The token, its scope and its reach", body = IdentityView)))]
fn whoami() {}

/// A consistent copy of all that survives a restart, taken while serving.
#[utoipa::path(post, path = "/v1/backup", tag = "server",
    responses((status = 200, description = "The file that `coracle up --restore` reads", body = Bytes, content_type = "application/octet-stream")))]
fn backup() {}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "server", security(()),
    responses((status = 200, description = "This document", body = serde_json::Value)))]
fn openapi_get() {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checked in, so that a change of the API is seen in review. Written anew with `UPDATE_EXPECT=1`.
    #[test]
    fn the_document_that_is_checked_in_is_the_one_that_is_served() {
        expect_test::expect_file!["../../../docs/openapi.json"].assert_eq(&openapi());
    }

    #[test]
    fn whatever_is_named_is_described() {
        let text = openapi();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        for name in text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }

    #[test]
    fn every_operation_says_what_an_error_looks_like() {
        let document: serde_json::Value = serde_json::from_str(&openapi()).unwrap();
        for (method, path) in operations() {
            let operation = &document["paths"][&path][method.as_str().to_lowercase()];
            let schema = &operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/ProblemView", "{method} {path}");
        }
    }
}
