//! Fronts turn bytes into keys and values into bytes. They know `readthrough`, never the cache or Redis.
//!
//! Both serve their clients by the same loop, [`client`]; what is theirs is what requests mean and how they are written.

mod client;
pub mod http;
pub(crate) mod resp;

use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::task::{AbortHandle, spawn_local};

use self::http::{HttpFront, HttpSettings};
use self::resp::RespFront;
use crate::places::Place;

/// What the clients of a port speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http,
    Resp,
}

/// The fronts of one worker.
#[derive(Clone)]
pub(crate) struct Fronts {
    pub(crate) http: Rc<HttpFront>,
    pub(crate) resp: Rc<RespFront>,
}

impl Fronts {
    /// Starts a task that serves one client until either side ends it. What it holds, its place with it, is given back then, also by
    /// a panic.
    ///
    /// Cost: a task of one front has no room for what a client of the other is.
    pub(crate) fn serve(
        &self,
        stream: TcpStream,
        speaks: Speaks,
        place: Place,
        holds: impl Sized + 'static,
    ) -> AbortHandle {
        let task = match speaks {
            Speaks::Http => spawn_local(http::serve(stream, self.http.clone(), place, holds)),
            Speaks::Resp => spawn_local(resp::serve(stream, self.resp.clone(), (place, holds))),
        };
        task.abort_handle()
    }

    /// What the fronts do beside serving clients. Never ends.
    pub(crate) async fn run(&self) {
        self.resp.run().await;
    }

    /// From now on clients are let go.
    pub(crate) fn start_draining(&self) {
        self.http.start_draining();
        self.resp.start_draining();
    }
}

/// How a client for whom there is no place is told.
#[derive(Clone)]
pub(crate) struct Refusals(pub(crate) Arc<HttpSettings>);

impl Refusals {
    /// Once `hurry` is ready nothing more is waited for.
    pub(crate) async fn refuse(&self, stream: TcpStream, speaks: Speaks, hurry: impl Future<Output = ()>) {
        match speaks {
            Speaks::Http => http::refuse(stream, &self.0, hurry).await,
            Speaks::Resp => tokio::select! {
                biased;
                () = resp::refuse(stream) => {}
                () = hurry => {}
            },
        }
    }
}
