//! The task behind a shared lane: connects when somebody wants it, writes what is queued, hands out what comes.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use resp::{ReplyScanner, Scanned};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};
use upstream::{Duplex, OpenError, RawConnection, Step, Tenure, sent_elsewhere};

use super::detours::{is_left, reroute, send_on};
use super::elsewhere::{MOST_BYTES, may_be_elsewhere};
use super::journal::DueReply;
use super::login::Logins;
use super::shared::{Lost, NoLane, SharedLane, unfit_line};
use super::{HelloReply, LaneKey, Lanes, Pace};
use crate::clock::{nanos, now_ns};
use crate::timer::Timer;

/// Between attempts, while commands wait or are refused.
const PAUSE: Duration = Duration::from_millis(50);

/// Why a connection ended.
enum Loss {
    Closed(String),
    /// No byte for the lane's time-out while answers were due.
    Silent,
    /// Redis is elsewhere by now.
    Departed,
    /// Nobody has used it for long, or another lane needs its permit.
    Idle,
}

/// So long a lane waits for the answers that are due where Redis was before: commands behind them wait as well.
const FAREWELL_NS: u64 = 100_000_000;

/// From one look at whether a node of a cluster that does not answer has still got its slots to the next.
const LOOK: Duration = Duration::from_millis(50);

/// Whether a fresh connection of a lane's key would be let in.
type Check = Pin<Box<dyn Future<Output = Result<bool, NoLane>>>>;

/// Runs a lane until nobody has a use for it.
pub(super) async fn drive(lane: Rc<SharedLane>, lanes: Rc<Lanes>) {
    let key = &lane.key;
    let mut closed_by_redis = false;
    loop {
        // Where Redis has closed the connection of clients, it shows at once whether it would have them again.
        let must_know = closed_by_redis && lane.has_clients();
        if !must_know && !poll_fn(|cx| lane.poll_wanted(cx)).await {
            return lanes.forget(&lane);
        }
        let rights = lane.rights();
        let connected = connect(&lane, &lanes).await;
        // The answer to ACL LOAD was there before the end of the connections that it ends.
        if must_know && key.identity.login().is_some() && lanes.anonymous.has_ended_users(rights) {
            let clients = lane.end_clients();
            info!(db = key.db, clients, "redis has ended its users' connections, and so do they");
        }
        let mut refusal = match connected {
            Ok(connection) => {
                closed_by_redis = serve(&lane, &lanes, connection).await;
                continue;
            }
            Err(refusal) => refusal,
        };
        if closed_by_redis && matches!(refusal, NoLane::Login(_)) {
            let clients = lane.end_clients();
            info!(db = key.db, clients, "redis has ended a user's connections, and so do they");
        }
        closed_by_redis = false;
        if !lane.is_wanted() {
            lane.rest();
            continue;
        }
        // For as long as it is asked for, and for one pause more, it says so at once.
        loop {
            if refusal == NoLane::Unreachable {
                lanes.stats.lane_failures.add(1);
            }
            lane.refuse(&refusal, &lanes.buffers);
            sleep(PAUSE).await;
            if !lane.was_called() || !lane.is_held() {
                lane.rest();
                break;
            }
            match open(&lane, &lanes).await {
                Ok(connection) => {
                    closed_by_redis = serve(&lane, &lanes, connection).await;
                    break;
                }
                Err(again) => refusal = again,
            }
        }
    }
}

/// Attempts until one succeeds or Redis says no, for at most the connect time-out: so long a command may wait.
async fn connect(lane: &SharedLane, lanes: &Rc<Lanes>) -> Result<RawConnection, NoLane> {
    let deadline = Instant::now() + lanes.endpoint.limits.connect_timeout();
    loop {
        reroute(lanes, lane);
        if lanes.are_of_cluster() && !lane.is_wanted() {
            return Err(NoLane::Unreachable);
        }
        match open_or_leave(lane, lanes).await {
            Err(NoLane::Unreachable) if Instant::now() + PAUSE < deadline => sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
}

/// Opens a lane, and meanwhile sees to it that nothing waits for a node of a cluster that is another's to answer by now.
async fn open_or_leave(lane: &SharedLane, lanes: &Rc<Lanes>) -> Result<RawConnection, NoLane> {
    if !lanes.are_of_cluster() {
        return open(lane, lanes).await;
    }
    let mut opening = pin!(open(lane, lanes));
    loop {
        tokio::select! {
            outcome = &mut opening => return outcome,
            () = sleep(LOOK) => {
                lane.endpoint.node.doubt();
                reroute(lanes, lane);
                if !lane.is_wanted() {
                    lane.set_permit(None);
                    return Err(NoLane::Unreachable);
                }
            }
        }
    }
}

async fn open(lane: &SharedLane, lanes: &Lanes) -> Result<RawConnection, NoLane> {
    lane.set_permit(Some(lanes.lane_permit().await?));
    lane.set_rights(lanes.anonymous.voided());
    let opened = lanes.open(&lane.endpoint, &lane.key.greeting()).await;
    if let Err(error) = &opened {
        lane.set_permit(None);
        if let OpenError::Unreachable(why) = error {
            debug!(db = lane.key.db, %why, "no lane to redis");
        }
    }
    opened.map_err(refusal)
}

fn refusal(error: OpenError) -> NoLane {
    match error {
        OpenError::Unreachable(_) => NoLane::Unreachable,
        OpenError::Unfit(why) => NoLane::Unfit(why),
        OpenError::Refused(Step::Auth, text) => NoLane::Login(text),
        OpenError::Refused(Step::Hello | Step::Select, text) => NoLane::Request(text),
    }
}

/// Whether Redis lets in one more connection of this key: then the one that there is may be closed.
///
/// # Errors
/// Redis cannot be asked.
pub(super) async fn opens_another(lanes: &Lanes, key: &LaneKey) -> Result<bool, NoLane> {
    match lanes.open(&lanes.endpoint.at(key.to.node()), &key.greeting()).await.map_err(refusal) {
        Ok(_) => Ok(true),
        Err(NoLane::Unreachable) => Err(NoLane::Unreachable),
        Err(_) => Ok(false),
    }
}

/// Whether it was Redis that closed the connection.
async fn serve(lane: &Rc<SharedLane>, lanes: &Rc<Lanes>, connection: RawConnection) -> bool {
    let key = &lane.key;
    info!(db = key.db, protocol = ?key.protocol, "lane opened");
    lanes.stats.lane_opens.add(1);
    lane.opened(Rc::new(HelloReply::new(connection.hello)));
    lanes.opened.notify_one();
    let mut link = Link {
        stream: connection.stream,
        tenure: Tenure::new(&lane.endpoint.node, connection.generation),
        leaves_ns: None,
        scanner: ReplyScanner::new(),
        is_begun: false,
        held_back: Vec::new(),
        flushed: true,
        due_since_ns: None,
        timer: Timer::new(now_ns(), u64::MAX),
        check: None,
        logins: Logins::of(lanes, key),
        lane,
        lanes,
    };
    let loss = poll_fn(|cx| link.poll(cx)).await;
    // Nothing of its own is lost with it, or sent again.
    drop(link);
    lane.set_idle(None);
    lane.set_permit(None);
    let closed_by_redis = matches!(loss, Loss::Closed(_));
    match loss {
        Loss::Idle => {
            info!(db = key.db, "idle lane closed");
            // What has come in this very turn goes to the next connection.
            lane.lose();
        }
        Loss::Silent => {
            warn!(db = key.db, commands = lane.commands(), "redis does not answer on a lane");
            lane.endpoint.node.doubt();
            lanes.stats.lane_timeouts.add(1);
            lane.time_out(&lanes.buffers);
        }
        Loss::Departed => {
            let Lost { clients, retries } = lane.lose();
            info!(db = key.db, clients, retries, "lane closed: redis is elsewhere");
            lanes.stats.lost_clients.add(clients);
        }
        Loss::Closed(why) => {
            lane.endpoint.node.doubt();
            let lost = lane.lose();
            if lost.clients > 0 || lost.retries > 0 {
                let (clients, retries) = (lost.clients, lost.retries);
                warn!(db = key.db, why, clients, retries, "lane lost with commands on their way");
            } else {
                info!(db = key.db, why, "lane closed");
            }
            lanes.stats.lane_losses.add(1);
            lanes.stats.lost_clients.add(lost.clients);
        }
    }
    closed_by_redis
}

/// An open connection.
struct Link<'a> {
    stream: Box<dyn Duplex>,
    /// As long as Redis is where it leads.
    tenure: Tenure,
    /// Redis is elsewhere: until when what is owed is waited for.
    leaves_ns: Option<u64>,
    scanner: ReplyScanner,
    /// Whether the reply at hand began in an earlier read.
    is_begun: bool,
    /// What is here of that reply, if no client is to have it before it is known what it says.
    held_back: Vec<u8>,
    flushed: bool,
    /// Since when a byte has been due.
    due_since_ns: Option<u64>,
    timer: Timer,
    /// Whether its clients could have another connection, once nobody has used it for long.
    check: Option<Check>,
    /// Of the proxy's own user.
    logins: Option<Logins>,
    lane: &'a SharedLane,
    lanes: &'a Rc<Lanes>,
}

impl Link<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Loss> {
        let has_departed = self.tenure.poll_over_by_its_task(cx).is_ready();
        if !has_departed {
            if let Some(logins) = &mut self.logins {
                logins.poll(self.lane, cx);
            }
            if let Err(loss) = self.write(cx) {
                return Poll::Ready(loss);
            }
        }
        loop {
            match self.poll_read(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(loss)) => return Poll::Ready(loss),
                Poll::Pending => break,
            }
        }
        if let Some(logins) = &self.logins {
            logins.hear();
        }
        if has_departed {
            if self.lane.with_journal(|journal| journal.is_owed()) {
                let leaves_ns = *self.leaves_ns.get_or_insert_with(|| now_ns() + FAREWELL_NS);
                ready!(self.timer.poll_until(leaves_ns, cx));
            }
            return Poll::Ready(Loss::Departed);
        }
        if self.lane.commands() == 0 {
            self.due_since_ns = None;
            // Of rights that may be void it ends with the last of its clients.
            let is_left = !self.lane.is_held() && self.lanes.is_suspect(self.lane);
            if is_left || !self.lane.has_place() {
                return Poll::Ready(Loss::Idle);
            }
            let since_ns = self.lane.idle_since_ns().unwrap_or_else(now_ns);
            self.lane.set_idle(Some(since_ns));
            ready!(self.timer.poll_until(since_ns.saturating_add(nanos(self.lanes.limits.get().idle)), cx));
            return self.poll_idle(cx);
        }
        self.check = None;
        self.lane.set_idle(None);
        let since_ns = *self.due_since_ns.get_or_insert_with(now_ns);
        // What a slow lane carries may take as long as it likes; keepalive finds a machine that is gone.
        let late_ns = match self.lane.pace {
            Pace::Quick => since_ns.saturating_add(nanos(self.lanes.limits.get().timeout)),
            Pace::Slow => u64::MAX,
        };
        if self.lanes.are_of_cluster() {
            return self.poll_of_cluster(since_ns, late_ns, cx);
        }
        ready!(self.timer.poll_until(late_ns, cx));
        Poll::Ready(Loss::Silent)
    }

    /// A node of a cluster owes answers since then: it is late, or what it owes is another's to answer by now.
    fn poll_of_cluster(&mut self, since_ns: u64, late_ns: u64, cx: &mut Context<'_>) -> Poll<Loss> {
        let now_ns = now_ns();
        if now_ns >= late_ns {
            return Poll::Ready(Loss::Silent);
        }
        if now_ns >= since_ns + FAREWELL_NS {
            if is_left(self.lanes, self.lane) {
                return Poll::Ready(Loss::Departed);
            }
            // One that answers at once otherwise.
            if self.lane.pace == Pace::Quick {
                self.lane.endpoint.node.doubt();
            }
        }
        ready!(self.timer.poll_until(late_ns.min(now_ns + nanos(LOOK)), cx));
        // Looked at again.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Nobody has used it for long. It is closed, unless clients are on it to whom Redis would not open another.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Loss> {
        if !self.lane.is_held() {
            return Poll::Ready(Loss::Idle);
        }
        let check = self.check.get_or_insert_with(|| {
            let (lanes, key) = (self.lanes.clone(), self.lane.key.clone());
            Box::pin(async move { opens_another(&lanes, &key).await })
        });
        if ready!(check.as_mut().poll(cx)) == Ok(true) {
            return Poll::Ready(Loss::Idle);
        }
        // Looked at again when as much time has passed.
        self.check = None;
        let now_ns = now_ns();
        self.lane.set_idle(Some(now_ns));
        match self.timer.poll_until(now_ns.saturating_add(nanos(self.lanes.limits.get().idle)), cx) {
            Poll::Ready(()) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// As much of the journal as the kernel takes.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Loss> {
        loop {
            let (lane, stream) = (self.lane, &mut self.stream);
            let outcome = lane.unwritten(cx, |cx, bytes| match Pin::new(stream).poll_write(cx, bytes) {
                Poll::Ready(Ok(count)) => (count, Ok(count > 0)),
                Poll::Ready(Err(error)) => (0, Err(error)),
                Poll::Pending => (0, Ok(false)),
            });
            match outcome {
                Some(Ok(true)) => self.flushed = false,
                Some(Ok(false)) => break,
                Some(Err(error)) => return Err(Loss::Closed(error.to_string())),
                None => break,
            }
        }
        if !self.flushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.flushed = true,
                Poll::Ready(Err(error)) => return Err(Loss::Closed(error.to_string())),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    /// One read, and every byte of it to its client.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Loss>> {
        let mut room = self.lanes.buffers.take_input();
        let mut buffer = ReadBuf::new(&mut room);
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
        let count = buffer.filled().len();
        let outcome = match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(Loss::Closed(error.to_string()))),
            Poll::Ready(Ok(())) if count == 0 => Poll::Ready(Err(Loss::Closed("closed by redis".into()))),
            Poll::Ready(Ok(())) => {
                self.due_since_ns = None;
                Poll::Ready(self.deliver(&room[..count]))
            }
        };
        self.lanes.buffers.give_input(room);
        outcome
    }

    /// Cuts `bytes` into stretches of one client each.
    fn deliver(&mut self, mut bytes: &[u8]) -> Result<(), Loss> {
        if !self.held_back.is_empty() {
            bytes = self.hold_back(bytes)?;
        }
        while !bytes.is_empty() {
            let Some(DueReply { mailbox, number, missing }) = self.lane.front() else {
                return Err(Loss::Closed("a reply that nobody asked for".into()));
            };
            let (mut taken, mut whole, mut partly) = (0, 0, false);
            let mut is_held_back = false;
            while whole < missing && taken < bytes.len() {
                if bytes[taken] == b'-' && !self.is_begun {
                    let error = &bytes[taken..];
                    is_held_back = may_be_elsewhere(error);
                    if is_held_back {
                        break;
                    }
                    mailbox.error(number + whole as u64, error);
                }
                let scanned = self.scan(&bytes[taken..])?;
                taken += scanned.len;
                whole += usize::from(scanned.whole);
                partly = !scanned.whole;
            }
            if taken > 0 {
                mailbox.deliver(number, &bytes[..taken], whole, partly, &self.lanes.buffers);
                self.lane.replied(whole, partly);
                bytes = &bytes[taken..];
            }
            if is_held_back {
                bytes = self.hold_back(bytes)?;
            }
        }
        Ok(())
    }

    /// Finds the next end of a reply.
    #[inline]
    fn scan(&mut self, bytes: &[u8]) -> Result<Scanned, Loss> {
        let scanned = self.scanner.scan(bytes);
        let scanned = scanned.map_err(|error| Loss::Closed(format!("malformed reply: {error}")))?;
        // Nothing on a shared lane asks for pushes; whose would it be?
        if self.scanner.kind() == Some(b'>') {
            return Err(Loss::Closed("a push on a shared lane".into()));
        }
        self.is_begun = !scanned.whole;
        Ok(scanned)
    }

    /// Takes the next piece of a reply that may send its reader elsewhere, and goes on once it is known whether it does. What
    /// stands behind it.
    #[cold]
    fn hold_back<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Loss> {
        let scanned = self.scan(bytes)?;
        let (piece, rest) = bytes.split_at(scanned.len);
        self.held_back.extend_from_slice(piece);
        let may_be = self.held_back.len() <= MOST_BYTES && may_be_elsewhere(&self.held_back);
        if !scanned.whole && may_be {
            return Ok(rest);
        }
        let reply = std::mem::take(&mut self.held_back);
        if self.lanes.are_of_cluster() && may_be {
            send_on(self.lanes, &reply, self.lane);
            return Ok(rest);
        }
        let Some(DueReply { mailbox, number, .. }) = self.lane.front() else { return Ok(rest) };
        // HELLO and INFO would have told of a node of a cluster; without them, its first such answer does.
        let why = sent_elsewhere(&reply[1..]).filter(|_| !self.lanes.are_of_cluster());
        let said = why.map_or(reply, unfit_line);
        let whole = usize::from(scanned.whole || why.is_some());
        mailbox.error(number, &said);
        mailbox.deliver(number, &said, whole, whole == 0, &self.lanes.buffers);
        self.lane.replied(whole, whole == 0);
        match why {
            None => Ok(rest),
            Some(why) => {
                self.lanes.note_moved(why);
                Err(Loss::Closed(why.into()))
            }
        }
    }
}
