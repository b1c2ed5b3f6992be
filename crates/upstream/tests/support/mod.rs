//! A running connection and what it tells its sink.

use std::sync::Arc;
use std::time::Duration;

use resp::Frame;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use upstream::{
    Account, Address, Backend, ConnectionLimits, Doubt, Endpoint, Incarnation, Loss, RedisNode, Sink,
    Tracking, Upstream,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a sink was told.
#[derive(Debug, PartialEq)]
pub(crate) enum Told {
    Reply(u32, Frame),
    Push(Vec<Frame>),
    Lost(u32, Loss),
    Connected(Tracking),
    Disconnected(Loss),
}

/// Passes everything on; doubts replies that are numbers.
struct Recorder(UnboundedSender<Told>);

impl Recorder {
    fn tell(&self, told: Told) {
        // The test may be over.
        let _ = self.0.send(told);
    }
}

impl Sink for Recorder {
    type Ticket = u32;

    fn reply(&self, ticket: u32, frame: Frame) -> Result<(), Doubt> {
        let doubt = matches!(frame, Frame::Integer(_));
        self.tell(Told::Reply(ticket, frame));
        if doubt { Err(Doubt::WRONG_TYPE) } else { Ok(()) }
    }

    fn push(&self, items: Vec<Frame>) {
        self.tell(Told::Push(items));
    }

    fn lost(&self, ticket: u32, loss: &Loss) {
        self.tell(Told::Lost(ticket, loss.clone()));
    }

    fn connected(&self, _incarnation: Incarnation, tracking: &Tracking) {
        self.tell(Told::Connected(tracking.clone()));
    }

    fn disconnected(&self, loss: &Loss) {
        self.tell(Told::Disconnected(loss.clone()));
    }
}

pub(crate) fn endpoint(address: std::net::SocketAddr) -> Endpoint {
    Endpoint {
        node: RedisNode::at(Address::Tcp { host: address.ip().to_string(), port: address.port() }),
        cluster: None,
        tls: None,
        login: Account::default(),
        db: 0,
        limits: ConnectionLimits {
            connect_timeout: Duration::from_secs(5),
            silence_timeout: Duration::from_millis(300),
            ping_interval: Duration::from_secs(60),
            max_reply_bytes: 1 << 20,
        }
        .into(),
    }
}

/// A running connection and what it tells.
pub(crate) struct Link {
    pub(crate) upstream: Upstream<u32>,
    told: UnboundedReceiver<Told>,
}

impl Link {
    pub(crate) fn start(backend: &Arc<Backend>) -> Link {
        let (upstream, driver) = upstream::connect(backend);
        let (sender, told) = unbounded_channel();
        tokio::task::spawn_local(driver.run(tracing::Span::none(), Recorder(sender)));
        Link { upstream, told }
    }

    pub(crate) async fn next(&mut self) -> Told {
        timeout(PATIENCE, self.told.recv()).await.expect("an event in time").expect("the driver runs")
    }

    pub(crate) fn get(&self, key: &str, ticket: u32) {
        self.upstream.send(&[b"GET", key.as_bytes()], ticket).unwrap();
    }
}

pub(crate) fn bulk(text: &str) -> Frame {
    Frame::Bulk(text.to_owned().into())
}

pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}
