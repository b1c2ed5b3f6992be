//! A peer: hyper with a constant answer on one thread, which is what a service costs that does nothing but say it.
//!
//!     hyper-constant PORT ANSWER_FILE
//!
//! The file holds an answer as it is on the wire. hyper says Date and Content-Length by itself.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::Ipv4Addr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The fields that hyper adds.
const ITS_OWN: [&str; 2] = ["date", "content-length"];

/// What every request is answered with.
#[derive(Clone)]
struct Constant {
    fields: HeaderMap,
    body: Bytes,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, file] = arguments.as_slice() else {
        return Err("usage: hyper-constant PORT ANSWER_FILE".into());
    };
    let answer = Constant::read(&std::fs::read_to_string(file)?).ok_or("not an answer of HTTP/1.1")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, serve(port.parse()?, answer))?;
    Ok(())
}

async fn serve(port: u16, answer: Constant) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        let service = service_fn(move |_: Request<Incoming>| {
            let response = answer.response();
            async { Ok::<_, Infallible>(response) }
        });
        // The answers of a pipeline leave in one write. A client that has left is nobody's error.
        let connection =
            http1::Builder::new().pipeline_flush(true).serve_connection(TokioIo::new(stream), service);
        tokio::task::spawn_local(async { drop(connection.await) });
    }
}

impl Constant {
    /// Of an answer's text.
    fn read(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut fields = HeaderMap::new();
        for line in head.lines().skip(1) {
            let (name, value) = line.split_once(": ")?;
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            if !ITS_OWN.contains(&name.as_str()) {
                fields.append(name, HeaderValue::from_str(value).ok()?);
            }
        }
        Some(Constant { fields, body: Bytes::copy_from_slice(body.as_bytes()) })
    }

    fn response(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body.clone()));
        *response.headers_mut() = self.fields.clone();
        response
    }
}
