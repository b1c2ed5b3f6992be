//! Logging in again on connections that live: for passwords that end, and for those that are replaced.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::endpoint::Endpoint;
use crate::queue::Shared;
use crate::raw::Credentials;

/// How often the connections of one identity log in again, and how it went last.
#[derive(Clone, Debug)]
pub struct Reauth(Arc<State>);

#[derive(Debug)]
struct State {
    /// None: only once there are other credentials.
    period: watch::Sender<Option<Duration>>,
    /// Whether the operator was told that Redis refuses it. Relaxed: it guards a log line.
    is_refused: AtomicBool,
}

impl Reauth {
    /// Once in `period`, if there is one, and each time that other credentials are read.
    pub fn every(period: Option<Duration>) -> Reauth {
        let period = watch::Sender::new(period);
        Reauth(Arc::new(State { period, is_refused: AtomicBool::new(false) }))
    }

    /// From now on it is this period, also for those who wait.
    pub(crate) fn set_period(&self, period: Option<Duration>) {
        self.0.period.send_if_modified(|before| std::mem::replace(before, period) != period);
    }

    /// What Redis has answered: nothing, or an error's text without its dash. The connection stays who it was then, so that it is told
    /// once, until it works again.
    pub fn answered(&self, error: Option<&[u8]>) {
        let was_refused = self.0.is_refused.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(why) if !was_refused => warn!(
                reason = %String::from_utf8_lossy(why).trim_end(),
                "redis refuses to let an open connection log in again: it stays as it is"
            ),
            None if was_refused => info!("redis lets open connections log in again"),
            _ => {}
        }
    }
}

impl Endpoint {
    /// Returns when an open connection is to log in again, with the credentials of that moment; never where none does, or there is no
    /// password. What is read of other credentials between two calls is not heard of: the connection stays who it was.
    pub async fn next_login(&self) -> Credentials {
        let Some(Reauth(state)) = &self.login.reauth else { return pending().await };
        loop {
            let mut periods = state.period.subscribe();
            let period = async {
                loop {
                    let period = *periods.borrow_and_update();
                    let over = async {
                        match period {
                            Some(period) => sleep(period).await,
                            None => pending().await,
                        }
                    };
                    tokio::select! {
                        () = over => return,
                        // Not with an error: we hold the sender.
                        _ = periods.changed() => {}
                    }
                }
            };
            let replaced = async {
                match self.own_source() {
                    Some(source) => source.changed().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = period => {}
                () = replaced => {}
            }
            let who = self.as_of_now().await;
            match Credentials::of(&who) {
                Credentials::None => {}
                who => return who,
            }
        }
    }
}

impl<T> Shared<T> {
    /// Logs in again for as long as a connection is served.
    pub(crate) async fn log_in_again(&self, endpoint: &Endpoint) -> Infallible {
        loop {
            let who = endpoint.next_login().await;
            self.log_in(&who);
        }
    }
}
