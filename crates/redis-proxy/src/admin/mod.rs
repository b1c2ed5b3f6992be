//! The admin port: health and metrics, on a thread of its own, so that they answer while the workers are busy.

mod connections;
mod events;
mod exposition;
mod guard;
mod insight;
mod metrics;
mod page;
mod purge;
mod ready;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsAcceptor;

use self::connections::{AdminPermit, Connections};
use self::events::{EventBody, EventStreams};
use self::exposition::Format;
use self::insight::{COUNT, Insight, big_keys, count_of};
use crate::access::AccessSettings;
use crate::lanes::Bounds;
use crate::listener::Door;
use crate::listener::{Keepalive, keep_asking_from_now_on};
use crate::live::LiveReader;
use crate::nodes::Nodes;
use crate::ports::is_on_loopback;
use crate::readthrough::{IsBusy, Link, Links, PartitionTable, Purger};
use crate::session::Registry;
use crate::shutdown::Draining;
use crate::slow_log::SlowLog;
use crate::socket::{ClientSocket, Listening};
use crate::stats::WorkerStats;
use crate::store::Store;
use crate::tls::{PortName, begins_tls, tell_refused, tell_that_it_is_plain, tell_that_it_is_tls};
use crate::vital;
use crate::worker::Worker;

/// From a connection's first byte to the end of a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// From one look at the counters to the next.
const BEAT: Duration = Duration::from_secs(1);
/// How long accepting rests after an error, so that none is met in a spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
/// The most that is read and dropped of a client who does not speak as the port does.
const MOST_DROPPED: u64 = 64 * 1024;
/// What the system keeps of an answer that its client does not take (it doubles this), so that whoever listens to events and reads none
/// is known by the events that wait.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Who answers here.
const BANNER: &str = concat!(
    "redis-proxy ",
    env!("CARGO_PKG_VERSION"),
    "\nThis is the admin port: /livez /readyz /metrics /insight.json /events, POST /purge\n",
    "On the data port GET /{key} answers with the value of that key in Redis, from memory when it can.\n",
    "Documentation: README.md and docs/ of the source.\n",
);
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

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
    pub(crate) slow_log: Arc<SlowLog>,
    pub(crate) bounds: Bounds,
    pub(crate) live: LiveReader,
}

impl Watched {
    /// The links of both fronts.
    fn all_links(&self) -> Vec<Arc<Link>> {
        let mut links = self.links.now().to_vec();
        links.extend(self.partitions.links());
        links
    }

    /// What the workers count, and the threads of the links.
    fn all_stats(&self) -> impl Iterator<Item = Arc<WorkerStats>> {
        let workers = self.workers.iter().map(|worker| worker.stats.clone());
        workers.chain(self.all_links().into_iter().map(|link| link.stats.clone()))
    }

    /// A counter summed over them.
    fn sum(&self, of: impl Fn(&WorkerStats) -> u64) -> u64 {
        self.all_stats().map(|stats| of(&stats)).sum()
    }
}

/// Serves the admin port on a new thread, until the program ends.
///
/// # Errors
/// When the system has no thread to give.
pub(crate) fn start(listener: Listening, watched: Watched) -> io::Result<()> {
    vital::spawn("admin".into(), move |alive| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(alive.during(accept(listener, watched)))
    })?;
    Ok(())
}

/// What answers are made of.
struct Parts {
    watched: Watched,
    registry: prometheus_client::registry::Registry,
    insight: Insight,
    streams: EventStreams,
}

/// Has the counters looked at each [`BEAT`], and those told who listen. Never ends.
async fn look(parts: Arc<Parts>) {
    let mut live = parts.watched.live.clone();
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        parts.insight.look();
        match parts.watched.draining.is_on() {
            true => parts.streams.end(),
            false => parts.streams.tell(&live.now().access, || parts.insight.json(COUNT)),
        }
    }
}

async fn accept(listener: Listening, mut watched: Watched) -> io::Result<()> {
    let on_loopback = is_on_loopback(Some(&listener));
    let listener = listener.watched()?;
    let connections = Connections::new();
    let parts = Arc::new(Parts {
        registry: metrics::registry(watched.clone()),
        insight: Insight::new(watched.clone()),
        streams: EventStreams::default(),
        watched: watched.clone(),
    });
    tokio::spawn(vital::task("the look at the counters", look(parts.clone())));
    let mut keepalive = Keepalive::new(watched.live.clone());
    loop {
        let accepted = tokio::select! {
            silence = keepalive.changed() => {
                keep_asking_from_now_on(&listener, silence);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let Ok(socket) = accepted else {
            tokio::time::sleep(ERROR_PAUSE).await;
            continue;
        };
        let permit = connections.permit().await;
        let config = watched.live.now().tls.as_ref().and_then(|tls| tls.of(PortName::Admin)).cloned();
        let parts = parts.clone();
        tokio::spawn(async move {
            let serving = async {
                match socket {
                    ClientSocket::Tcp(socket) => {
                        let peer = socket.peer_addr().ok();
                        let met = timeout(HEAD_TIMEOUT, meet(socket, config));
                        if let Ok(Some(stream)) = met.await {
                            serve(stream, &parts, &permit, AdminPeer { peer, on_loopback }).await;
                        }
                    }
                    ClientSocket::Unix(socket) => {
                        if let Ok(socket) = tokio::net::UnixStream::from_std(socket) {
                            let from = AdminPeer { peer: None, on_loopback };
                            serve(socket, &parts, &permit, from).await;
                        }
                    }
                }
            };
            tokio::select! {
                () = serving => {}
                () = permit.is_wanted() => {}
            }
        });
    }
}

/// A client's bytes, however they travel.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Waits for the first byte, and tells whose it is that is not spoken here. None if the client is not served.
async fn meet(socket: TcpStream, config: Option<Arc<ServerConfig>>) -> Option<Box<dyn Duplex>> {
    // It is no matter of life.
    let _ = set_socket_send_buffer_size(&socket, SEND_BUFFER_BYTES);
    let mut socket = tokio::net::TcpStream::from_std(socket).ok()?;
    let mut first = [0];
    if socket.peek(&mut first).await.ok()? == 0 {
        return None;
    }
    match (begins_tls(&first), config) {
        (false, None) => Some(Box::new(socket)),
        (true, Some(config)) => match TlsAcceptor::from(config).accept(socket).await {
            Ok(stream) => Some(Box::new(stream)),
            Err(error) => {
                tell_refused(PortName::Admin, &error);
                None
            }
        },
        (false, Some(_)) => {
            let _ = socket.write_all(tell_that_it_is_tls(PortName::Admin)).await;
            // What it has said is taken in, lest the answer be lost with it.
            let _ = socket.shutdown().await;
            let _ = tokio::io::copy(&mut socket.take(MOST_DROPPED), &mut tokio::io::sink()).await;
            None
        }
        (true, None) => {
            tell_that_it_is_plain(PortName::Admin);
            None
        }
    }
}

/// Where a client of the admin port comes from.
#[derive(Clone, Copy)]
struct AdminPeer {
    /// None by a unix socket.
    peer: Option<SocketAddr>,
    /// Whether nobody but this machine reaches the listener.
    on_loopback: bool,
}

/// All at once, or events as they come.
type AnswerBody = Either<Full<Bytes>, EventBody>;

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    parts: &Parts,
    permit: &AdminPermit,
    from: AdminPeer,
) {
    let watched = &parts.watched;
    let service = service_fn(|request: Request<Incoming>| async move {
        let _asking = permit.asking();
        let access = &watched.live.clone().now().access.clone();
        let answer = match guard::refuses(&request, access, from.on_loopback) {
            Some(refused) => refused,
            None if request.uri().path() == "/purge" => {
                purge::answer(request, Purger::new(&watched.store), from.peer).await
            }
            None if request.uri().path() == "/events" && *request.method() == Method::GET => {
                return Ok::<_, Infallible>(listen(parts, permit, access));
            }
            None => answer(&request, parts).await,
        };
        Ok(answer.map(Either::Left))
    });
    // A client that breaks off concerns nobody.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// The object of `/insight.json` once a second; a refusal where there are too many, or the program ends.
fn listen(parts: &Parts, permit: &AdminPermit, access: &AccessSettings) -> Response<AnswerBody> {
    let refused = |text: &str| response(StatusCode::SERVICE_UNAVAILABLE, TEXT, text.into()).map(Either::Left);
    if parts.watched.draining.is_on() {
        return refused("shutting down\n");
    }
    match parts.streams.open(permit, access, || parts.insight.json(COUNT)) {
        Some(events) => response(StatusCode::OK, EVENTS, String::new()).map(|_| Either::Right(events)),
        None => refused("as many listen to /events as may: close another page\n"),
    }
}

async fn answer(request: &Request<Incoming>, parts: &Parts) -> Response<Full<Bytes>> {
    let watched = &parts.watched;
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
            match format.text(&parts.registry) {
                Ok(text) => response(StatusCode::OK, format.content_type(), text),
                Err(_) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "cannot encode\n".into()),
            }
        }
        "/events" => response(StatusCode::OK, EVENTS, String::new()),
        "/insight.json" => match count_of(request.uri().query()) {
            Ok(count) => response(StatusCode::OK, JSON, parts.insight.json(count)),
            Err(why) => response(StatusCode::BAD_REQUEST, TEXT, format!("{why}\n")),
        },
        "/big-keys.json" => match count_of(request.uri().query()) {
            Ok(count) => match big_keys(watched, count).await {
                Ok(json) => response(StatusCode::OK, JSON, json),
                Err(IsBusy) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{}\n", IsBusy::TEXT)),
            },
            Err(why) => response(StatusCode::BAD_REQUEST, TEXT, format!("{why}\n")),
        },
        "/" => page::answer(request.headers()),
        _ => response(
            StatusCode::NOT_FOUND,
            TEXT,
            "not found: try /livez, /readyz, /metrics, /insight.json, /events or POST /purge\n".into(),
        ),
    }
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    );
    response
}
