//! A call that changes its protocol: the guest agreed with a 101, and bytes pass both ways from then on.
//! `ingress` joins the client's connection with the guest's; the call is in flight until one of them ends.

use std::sync::Arc;

use coracle_model::{Body, CallId};
use http::Response;
use http::response::Parts;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::fault;
use crate::oci::http1::Plain;
use crate::oci::ingress::{Inlet, ended};
use crate::oci::tunnel::{End, tunnel};
use crate::wasm::{Answer, Ended, Running};

/// Answers with the guest's 101, and joins both connections when the client's is free for it.
pub(super) fn join(inlet: &Arc<Inlet>, id: CallId, guest: Plain, head: Parts, client: OnUpgrade) -> Answer {
    let reply = Response::from_parts(head, Body::empty());
    let joined = joined(Arc::clone(inlet), id, guest, client);
    Answer { reply: Ok(reply), running: Running::Still(tokio::spawn(joined)) }
}

async fn joined(inlet: Arc<Inlet>, id: CallId, guest: Plain, client: OnUpgrade) -> Ended {
    let silence_max = inlet.revision.settings.limits.stream_timeout;
    let ends = async { (guest.into_other_protocol().await, client.await) };
    let problem = match timeout(silence_max, ends).await {
        Ok((Ok(guest), Ok(client))) => {
            let tunnel = tunnel(TokioIo::new(client), guest, silence_max);
            let carried = tokio::select! {
                biased;
                carried = tunnel => carried,
                () = inlet.ended.cancelled() => {
                    let problem = inlet.end().await;
                    return over(&inlet, &id, problem, 0, 0);
                }
            };
            let problem = match carried.end {
                // Whoever breaks a connection of an unknown protocol may mean to.
                End::Closed | End::Broken => None,
                End::Silent => Some(fault::gone("neither side of the connection said anything")),
            };
            return over(&inlet, &id, problem, carried.there, carried.back);
        }
        Ok((Err(_), _)) => Some(fault::invalid_response(&inlet.revision.function, "its 101 led nowhere")),
        Ok((Ok(_), Err(_))) | Err(_) => Some(fault::gone("the client went away")),
    };
    over(&inlet, &id, problem, 0, 0)
}

fn over(
    inlet: &Inlet,
    id: &CallId,
    problem: Option<coracle_model::Problem>,
    bytes_in: u64,
    bytes_out: u64,
) -> Ended {
    if let Some(problem) = &problem {
        inlet.note(id, problem);
    }
    ended(problem.map(Box::new), bytes_in, bytes_out)
}
