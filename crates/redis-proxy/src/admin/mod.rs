//! The admin port: health and metrics, on a thread of its own, so that they answer while the workers are busy.

mod connections;
mod exposition;
mod metrics;
mod ready;

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};

use self::connections::Connections;
use self::exposition::Format;
use crate::lanes::Bounds;
use crate::listener::Door;
use crate::nodes::Nodes;
use crate::readthrough::{Links, PartitionTable};
use crate::session::Registry;
use crate::shutdown::Draining;
use crate::store::Store;
use crate::vital;
use crate::worker::Worker;

/// From a connection's first byte to the end of a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long accepting rests after an error, so that none is met in a spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
/// Who answers here.
const BANNER: &str = concat!(
    "redis-proxy ",
    env!("CARGO_PKG_VERSION"),
    "\nThis is the admin port: /livez /readyz /metrics\n",
    "On the data port GET /{key} answers with the value of that key in Redis, from memory when it can.\n",
    "Documentation: README.md and docs/ of the source.\n",
);
const TEXT: &str = "text/plain; charset=utf-8";

/// What the admin port looks at.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) store: Store,
    pub(crate) workers: Arc<[Worker]>,
    /// The tracked links of the HTTP front; none in mode `ttl`.
    pub(crate) links: Links,
    pub(crate) partitions: Arc<PartitionTable>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) door: Arc<Door>,
    pub(crate) draining: Arc<Draining>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) bounds: Bounds,
}

/// Serves the admin port on a new thread, until the program ends.
///
/// # Errors
/// When the system has no thread to give.
pub(crate) fn start(listener: TcpListener, watched: Watched) -> io::Result<()> {
    vital::spawn("admin".into(), move |alive| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(alive.during(accept(listener, watched)))
    })?;
    Ok(())
}

async fn accept(listener: TcpListener, watched: Watched) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let connections = Connections::new();
    let registry = Arc::new(metrics::registry(watched.clone()));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ERROR_PAUSE).await;
            continue;
        };
        let permit = connections.permit().await;
        let (watched, registry) = (watched.clone(), registry.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let (watched, registry, permit) = (&watched, &registry, &permit);
                async move { Ok::<_, Infallible>(permit.asking(answer(&request, watched, registry)).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // A client that breaks off concerns nobody.
                _ = connection => {}
                () = permit.is_wanted() => {}
            }
        });
    }
}

async fn answer(
    request: &Request<Incoming>,
    watched: &Watched,
    registry: &prometheus_client::registry::Registry,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".into());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/livez" => match vital::check().await {
            Ok(()) => response(StatusCode::OK, TEXT, "alive\n".into()),
            Err(why) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not alive: {why}\n")),
        },
        "/readyz" => match ready::check(watched).await {
            Ok(()) => response(
                StatusCode::OK,
                TEXT,
                ["ready\n", &ready::coherence(watched), &watched.nodes.seen().text(), &ready::nodes(watched)]
                    .concat(),
            ),
            Err(why) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {why}\n")),
        },
        "/metrics" => {
            let format = Format::accepted(request.headers());
            match format.text(registry) {
                Ok(text) => response(StatusCode::OK, format.content_type(), text),
                Err(_) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "cannot encode\n".into()),
            }
        }
        "/" => response(StatusCode::OK, TEXT, BANNER.into()),
        _ => response(StatusCode::NOT_FOUND, TEXT, "not found: try /livez, /readyz or /metrics\n".into()),
    }
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
