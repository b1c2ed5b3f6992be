//! What runs for a link in a schedule: one connection after the other, and what tends them.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use insight::AllSamples;
use sync::shuttle::future::yield_now;
use tokio::io::DuplexStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use upstream::{Account, Backend, Cluster, ConnectionLimits, Driver, Endpoint, Loss, RedisNode, Sink};

use super::super::canary::CanaryWriter;
use super::super::sink::{LinkSink, LinkTicket};
use super::super::tend::{Reporter, try_out};
use super::super::{Link, LinkSettings};
use super::mood::BOUND_NS;
use crate::config::Mode;
use crate::readthrough::cluster::Placed;
use crate::store::Store;

/// What the thread of a connection is told to do.
pub(in crate::readthrough) enum WireEvent {
    Beat,
    /// The connection is lost; with `down` the next attempt fails too.
    Cut {
        down: bool,
    },
    /// All that was told before has been done, and there is a connection.
    Rest(oneshot::Sender<()>),
    End,
}

/// A link, and what drives it.
pub(in crate::readthrough) struct DrivenLink {
    pub(in crate::readthrough) link: Arc<Link>,
    driver: Driver<LinkTicket>,
    endpoint: Endpoint,
}

impl DrivenLink {
    pub(in crate::readthrough) fn new(
        store: &Store,
        endpoint: Endpoint,
        placed: Option<Placed>,
        settings: LinkSettings,
    ) -> DrivenLink {
        let (upstream, driver) = upstream::connect(&Backend::tracked(endpoint.clone(), 1_000));
        let (detour, _) = upstream::connect(&Backend::new(endpoint.clone(), 1_000));
        let node = endpoint.node.clone();
        let link = Link::new(store.clone(), None, (upstream, detour), node, placed, settings);
        DrivenLink { link: Arc::new(link), driver, endpoint }
    }

    /// The link's own thread.
    pub(in crate::readthrough) async fn live(
        &self,
        connect: impl FnMut() -> (DuplexStream, u64),
        told: UnboundedReceiver<WireEvent>,
    ) {
        let (writer, _unused) = upstream::connect(&Backend::new(self.endpoint.clone(), 1));
        let writer = CanaryWriter::Own(writer);
        let (news, mut heard) = unbounded_channel();
        let sink = LinkSink::new(self.link.clone(), news);
        let mut reporter = Reporter::default();
        let tend = async || {
            heard.recv().await;
            try_out(&self.link, &writer, &mut heard, &mut reporter).await;
        };
        drive(&self.driver, &sink, connect, told, || self.link.send_beat(), tend).await;
    }

    /// Entries that are fetched anew at this moment.
    pub(in crate::readthrough) fn refills(&self) -> usize {
        self.link.refills.load(Ordering::Relaxed)
    }
}

/// The thread of a connection: one after the other is made by `connect`, which tells the generation of where it leads to.
pub(in crate::readthrough) async fn drive<S: Sink>(
    driver: &Driver<S::Ticket>,
    sink: &S,
    mut connect: impl FnMut() -> (DuplexStream, u64),
    mut told: UnboundedReceiver<WireEvent>,
    beat: impl Fn(),
    mut tend: impl AsyncFnMut(),
) {
    loop {
        let (stream, generation) = connect();
        let (loss, down) = {
            let mut serving = pin!(driver.serve_tracked(sink, stream, generation));
            loop {
                tokio::select! {
                    biased;
                    loss = &mut serving => match loss {
                        Loss::Departed => break (loss, false),
                        loss => panic!("the connection ended by itself: {loss}"),
                    },
                    () = tend() => {}
                    event = told.recv() => match event {
                        Some(WireEvent::Beat) => beat(),
                        Some(WireEvent::Cut { down }) => break (Loss::Closed("cut".into()), down),
                        Some(WireEvent::Rest(done)) => drop(done.send(())),
                        Some(WireEvent::End) | None => return,
                    }
                }
            }
        };
        driver.lose_connection(sink, &loss, down);
        yield_now().await;
    }
}

/// Of one link, in the mode `strict` or `tracking`.
pub(in crate::readthrough) fn settings(strict: bool, apart: bool) -> LinkSettings {
    LinkSettings {
        links: 1,
        mode: if strict { Mode::Strict } else { Mode::Tracking }.name(),
        apart,
        over_http: true,
        max_staleness_ns: BOUND_NS,
        canary_key: None,
        delivery: Arc::default(),
        relies: false,
        samples: AllSamples::with_seed(0, [0; 16]),
        _part: None,
        thrown_out: Default::default(),
    }
}

/// Where nobody listens: a schedule makes its streams itself.
pub(in crate::readthrough) fn endpoint(node: &RedisNode, cluster: Option<Cluster>) -> Endpoint {
    Endpoint {
        node: node.clone(),
        cluster,
        tls: None,
        login: Account::default(),
        db: 0,
        limits: ConnectionLimits {
            connect_timeout: Duration::from_secs(1),
            silence_timeout: Duration::from_secs(1),
            ping_interval: Duration::from_secs(1),
            max_reply_bytes: 1024,
        }
        .into(),
    }
}
