//! A bare reverse proxy: what it costs to pass a call on to a web server, before there is a platform.
//! `cargo xtask bench sandbox` starts it with the address of the server, on the core that our own server gets.

mod pool;

use std::error::Error;
use std::io::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use crate::pool::Pool;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One thread, as it gets one core: nothing is shared, and so nothing is locked.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let to: SocketAddr = std::env::args().nth(1).ok_or("usage: proxy ADDRESS:PORT")?.parse()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "http://{}", listener.local_addr()?)?;
    LocalSet::new().run_until(accept(&listener, Rc::new(Pool::new(to)))).await
}

async fn accept(listener: &TcpListener, pool: Rc<Pool>) -> Result<(), Box<dyn Error>> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let pool = Rc::clone(&pool);
        tokio::task::spawn_local(async move {
            let pass = service_fn(|request| pass(&pool, request));
            // A client that goes away ends its own connection, and nothing else.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), pass).await;
        });
    }
}

/// Sends a request on as it is: a client that speaks to a proxy of ours sends nothing that is meant for one hop.
async fn pass(
    pool: &Pool,
    request: Request<Incoming>,
) -> Result<Response<Incoming>, Box<dyn Error + Send + Sync>> {
    let mut connection = pool.take().await?;
    let response = connection.send_request(request).await?;
    // It is taken again once the body of this response was read.
    pool.put(connection);
    Ok(response)
}
