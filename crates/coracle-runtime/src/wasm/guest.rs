//! What belongs to one running guest, and what all guests of a revision share.
//! `instance` makes a [`Guest`] of a [`Plan`]; the WASI crates reach their state through it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use coracle_model::{Clock, Outbound, Revision, Settings};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};
use wasmtime_wasi_io::IoView;

use crate::capabilities::outbound::Egress;
use crate::host::{Host, Stream};
use crate::output::{Output, Printer};
use crate::wasm::limiter::Limiter;
use crate::wasm::stream::GuestStream;

/// Handles that a guest may hold at once: bodies, headers, streams.
const RESOURCES_MAX: usize = 10_000;

/// Handles that calls may leave behind in an instance that is used again.
const RESOURCES_LEFT_MAX: usize = 256;

/// The headers of one message, in memory, in bytes; about 1,000 short ones.
const HEADER_BYTES_MAX: usize = 128 << 10;

/// Random bytes that a guest may ask for at once.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// What all instances of a revision share.
pub struct Plan {
    pub(super) revision: Arc<Revision>,
    pub(super) host: Arc<dyn Host>,
    printer: Arc<Printer>,
    pub(super) grants: Arc<[Outbound]>,
}

impl Plan {
    pub(super) fn new(revision: Arc<Revision>, host: Arc<dyn Host>, clock: Arc<dyn Clock>) -> Self {
        // What its guests may not reach is refused by name, and they are told so.
        let is_closed = false;
        let printer = Printer::new(&revision, Arc::clone(&host), clock, is_closed);
        let grants = revision.settings.outbound.clone().into();
        Self { revision, host, printer, grants }
    }

    /// The revision that is run.
    pub fn revision(&self) -> &Arc<Revision> {
        &self.revision
    }

    pub(super) fn output(&self, instance: u64) -> Output {
        Output::new(&self.printer, instance)
    }

    /// A context that holds the environment that was set, the secrets that were granted, and nothing else.
    pub(super) fn context(&self, output: &Output) -> WasiCtxBuilder {
        let Settings { env, secrets, .. } = &self.revision.settings;
        let mut context = WasiCtxBuilder::new();
        for (name, value) in env {
            context.env(name, value);
        }
        for name in secrets {
            match self.host.secret(&self.revision.function.namespace, name) {
                Some(value) => match value.text() {
                    Some(text) => {
                        context.env(Settings::variable_of(name), text);
                    }
                    None => {
                        output.note(format!("the secret `{name}` is no text: it is given to programs alone"))
                    }
                },
                None => output
                    .note(format!("the secret `{name}` does not exist any more: its variable is not set")),
            }
        }
        context.max_random_size(RANDOM_BYTES_MAX).allow_udp(false).allow_ip_name_lookup(false);
        if !self.grants.is_empty() {
            let egress = Egress::new(Arc::clone(&self.grants), output.clone());
            context.socket_addr_check(move |address: SocketAddr, purpose| {
                let allowed = matches!(purpose, SocketAddrUse::TcpConnect) && egress.may_connect(address);
                Box::pin(async move { allowed })
            });
        }
        context
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// The state of one guest.
pub(super) struct Guest {
    plan: Arc<Plan>,
    /// Made when the guest asks for it first: many a guest that answers requests never does.
    wasi: Option<Box<WasiCtx>>,
    http: WasiHttpCtx,
    table: ResourceTable,
    egress: Egress,
    pub(super) limiter: Limiter,
    pub(super) output: Output,
}

impl Guest {
    /// A guest that prints to its function's log.
    pub(super) fn new(plan: &Arc<Plan>, instance: u64) -> Self {
        Self::with(plan, None, plan.output(instance))
    }

    /// A guest with this context; without one, it gets that of a component when it asks for it.
    pub(super) fn with(plan: &Arc<Plan>, context: Option<&mut WasiCtxBuilder>, output: Output) -> Self {
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(HEADER_BYTES_MAX);
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            plan: Arc::clone(plan),
            wasi: context.map(|context| Box::new(context.build())),
            http,
            table,
            egress: Egress::new(Arc::clone(&plan.grants), output.clone()),
            limiter: Limiter::new(plan.revision.settings.limits.memory_bytes),
            output,
        }
    }

    /// Whether calls left little behind: few handles that the guest did not give back.
    pub(super) fn is_tidy(&mut self) -> bool {
        self.table.iter_mut().take(RESOURCES_LEFT_MAX + 1).count() <= RESOURCES_LEFT_MAX
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Self { plan, wasi, table, output, .. } = self;
        let ctx = wasi.get_or_insert_with(|| {
            let mut context = plan.context(output);
            context
                .stdout(GuestStream::new(output, Stream::Stdout))
                .stderr(GuestStream::new(output, Stream::Stderr));
            Box::new(context.build())
        });
        WasiCtxView { ctx, table }
    }
}

impl IoView for Guest {
    fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.egress, table: &mut self.table, ctx: &mut self.http }
    }
}
