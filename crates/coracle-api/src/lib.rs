//! Our own wire: the types of `/v1`, its OpenAPI document, and a typed client.
//! The gateway answers in these types, the CLI asks in them; this crate knows no server and no catalog.

mod artifact;
mod call;
pub mod client;
mod function;
mod identity;
mod image;
mod json;
mod log;
mod namespace;
mod page;
mod paths;
mod problem;
mod query;
mod queue;
mod secret;
mod spec;
mod stats;
mod status;
mod token;

pub use artifact::{ARTIFACT_BYTES_MAX, ArtifactView};
pub use call::{CallQuery, CallView, FollowedCall};
pub use client::{Client, ClientError};
pub use function::{
    CodeKind, FunctionQuery, FunctionStats, FunctionView, InstancesView, ProgramView, QueueingView,
    RevisionView, RollbackRequest, ScaleRequest, ScaleView, ScaledView, SettingsView,
};
pub use identity::IdentityView;
pub use image::{
    IMAGE_BYTES_MAX, ImageQuery, ImageView, LoadQuery, PrunedView, PullEvent, PullProgress, PullRequest,
    RegistryLogin, RegistryView,
};
pub use json::{JSON_BYTES_MAX, decode_json, nearest_field};
pub use log::{FUNCTIONS_SKIPPED, LogLine, LogQuery, LogStream, Since};
pub use namespace::{AppView, NamespaceView};
pub use page::{PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX, Page};
pub use paths::{openapi, operations};
pub use problem::ProblemView;
pub use query::{decode_query, encode_query, encode_segment};
pub use queue::{
    AcceptedView, AttemptView, CallState, CallsCount, CancelledView, FunctionQueueView, KnownCall,
    PurgeRequest, QueueCounts, QueueListQuery, QueueQuery, QueueView, QueuedCallView, RedriveRequest,
    ResultView, ShowQuery, SubmitQuery, TopicEntryView, TopicQuery, WAIT_MAX,
};
pub use secret::{SecretValue, SecretView};
pub use spec::{AppSpec, CodeSpec, FunctionSpec, OriginalSpec, QueueingSpec, ScaleSpec};
pub use stats::{FunctionActivity, ServerStats, StatsQuery, StatsSort, StatsTotals, StatsView};
pub use status::{
    CodeCacheView, NodeInfo, NodeView, ProtectionView, SandboxesView, StatusDetails, StatusView,
};
pub use token::{TokenCreated, TokenRequest, TokenView};
