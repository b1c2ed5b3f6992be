//! One request, and its answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use hyper::{Method, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::command::CliOptions;
use crate::error::CliError;
use crate::printable;
use crate::server_url::ServerUrl;
use crate::tls::client_config;
use crate::token::BearerToken;

/// What is read of an answer that is none of those hoped for.
const MOST_WORDS_BYTES: usize = 4096;
/// Where caches say what they did (RFC 9211).
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// What this program calls itself there, on every answer about a key.
const OWN_NAME: &str = "redis-proxy";

/// What is asked for.
pub(crate) struct Inquiry<'a> {
    pub(crate) method: Method,
    /// The path, with a query perhaps.
    pub(crate) target: &'a str,
    /// A form; empty for a request without a body.
    pub(crate) body: String,
}

impl<'a> Inquiry<'a> {
    pub(crate) fn get(target: &'a str) -> Inquiry<'a> {
        Inquiry { method: Method::GET, target, body: String::new() }
    }
}

/// Asks one server. A connection carries one request: whoever asks each second pays for a handshake, and finds a server again that
/// was away.
pub(crate) struct ServerClient {
    server: ServerUrl,
    tls: Option<TlsConnector>,
    token: Option<BearerToken>,
    /// The longest silence.
    timeout: Duration,
}

impl ServerClient {
    /// # Errors
    /// The file of authorities.
    pub(crate) fn new(options: &CliOptions) -> Result<ServerClient, CliError> {
        let tls = match &options.server {
            ServerUrl::Tcp { is_tls: true, .. } => {
                let config = client_config(options.cacert.as_deref()).map_err(CliError::Usage)?;
                Some(TlsConnector::from(Arc::new(config)))
            }
            _ => None,
        };
        Ok(ServerClient {
            server: options.server.clone(),
            tls,
            token: options.token.clone(),
            timeout: options.timeout,
        })
    }

    /// Whom it asks.
    pub(crate) fn server(&self) -> &ServerUrl {
        &self.server
    }

    /// Sends a request and waits for the head of an answer of success.
    ///
    /// # Errors
    /// There is no answer, or one of another status, with its words.
    pub(crate) async fn ask(&self, request: Inquiry<'_>) -> Result<ServerAnswer, CliError> {
        self.answer(request).await?.of_success().await
    }

    /// Sends a request and waits for the head of an answer, whatever its status.
    ///
    /// # Errors
    /// There is no answer.
    pub(crate) async fn answer(&self, request: Inquiry<'_>) -> Result<ServerAnswer, CliError> {
        let Ok(target) = request.target.parse::<Uri>() else {
            return Err(CliError::Usage("the key is too long for a request".into()));
        };
        let mut asked = hyper::Request::new(Full::new(Bytes::from(request.body)));
        (*asked.method_mut(), *asked.uri_mut()) = (request.method, target);
        let asked = timeout(self.timeout, self.send(asked)).await;
        let response = asked
            .unwrap_or_else(|_| Err(format!("no answer within {}", humantime::format_duration(self.timeout))))
            .map_err(|why| CliError::Unreachable(format!("{}: {why}", self.server)))?;
        Ok(ServerAnswer {
            status: response.status(),
            is_about_key: is_about_key(response.headers()),
            body: response.into_body(),
            timeout: self.timeout,
        })
    }

    async fn send(&self, mut request: hyper::Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
        let stream = self.connect().await.map_err(|error| error.to_string())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(whole)?;
        // It ends with its one request, and what goes wrong with it is told to whoever waits for the answer.
        tokio::spawn(connection);
        let host = HeaderValue::try_from(self.server.authority()).map_err(|error| error.to_string())?;
        let is_post = request.method() == Method::POST;
        let headers = request.headers_mut();
        headers.insert(HOST, host);
        headers
            .insert(USER_AGENT, HeaderValue::from_static(concat!("redis-proxy/", env!("CARGO_PKG_VERSION"))));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if is_post {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        }
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.field());
        }
        sender.send_request(request).await.map_err(whole)
    }

    async fn connect(&self) -> io::Result<Box<dyn Duplex>> {
        let (host, port) = match &self.server {
            ServerUrl::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            ServerUrl::Tcp { host, port, .. } => (host.as_str(), *port),
        };
        let socket = TcpStream::connect((host, port)).await?;
        match &self.tls {
            None => Ok(Box::new(socket)),
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
                Ok(Box::new(tls.connect(name, socket).await?))
            }
        }
    }
}

/// A server's bytes, however they travel.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Whether a data port of ours says it of a key. Caches on the way may have put their own words before and behind.
fn is_about_key(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(CACHE_STATUS).iter().filter_map(|field| field.to_str().ok());
    let mut names = fields.flat_map(|field| field.split(',')).filter_map(|member| member.split(';').next());
    names.any(|name| name.trim() == OWN_NAME)
}

/// An answer, whose body is on its way.
pub(crate) struct ServerAnswer {
    pub(crate) status: StatusCode,
    /// Whether a data port of ours says it of a key: any other server has its 200 and its 404 too.
    pub(crate) is_about_key: bool,
    body: Incoming,
    timeout: Duration,
}

impl ServerAnswer {
    /// # Errors
    /// It is of another status, with its words.
    pub(crate) async fn of_success(mut self) -> Result<ServerAnswer, CliError> {
        if self.status.is_success() {
            return Ok(self);
        }
        let words = self.beginning(MOST_WORDS_BYTES).await;
        Err(CliError::Status(self.status, printable::words(&words)))
    }

    /// The next part of the body; none at its end.
    ///
    /// # Errors
    /// It breaks off.
    pub(crate) async fn part(&mut self) -> Result<Option<Bytes>, CliError> {
        loop {
            let frame = match timeout(self.timeout, self.body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    return Err(CliError::Unreachable(format!("the answer breaks off: {}", whole(error))));
                }
                Err(_) => return Err(CliError::Unreachable("the answer does not go on".into())),
            };
            // What is no data are trailers.
            if let Ok(part) = frame.into_data() {
                return Ok(Some(part));
            }
        }
    }

    /// The beginning of the body as text, as far as it comes.
    async fn beginning(&mut self, most_bytes: usize) -> String {
        let mut text = Vec::new();
        while text.len() < most_bytes
            && let Ok(Some(part)) = self.part().await
        {
            text.extend_from_slice(&part);
        }
        text.truncate(most_bytes);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The body as text; bytes that are none are replaced.
    ///
    /// # Errors
    /// It breaks off, or has more than `most_bytes`.
    pub(crate) async fn text(mut self, most_bytes: usize) -> Result<String, CliError> {
        let mut text = Vec::new();
        while let Some(part) = self.part().await? {
            if text.len() + part.len() > most_bytes {
                return Err(CliError::Unreachable(format!("the answer has more than {most_bytes} bytes")));
            }
            text.extend_from_slice(&part);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// An error with what has led to it: hyper tells of the first link alone.
fn whole(error: hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_cache_status_says_that_it_is_about_a_key() {
        for (fields, expected) in [
            (&[][..], false),
            (&["redis-proxy; hit"][..], true),
            (&["redis-proxy"], true),
            (&["edge; hit, redis-proxy; fwd=uri-miss; detail=\"tracking\""], true),
            (&["redis-proxy;hit, edge; hit"], true),
            (&["edge; hit", "redis-proxy; hit"], true),
            (&["edge; hit; detail=redis-proxy"], false),
            (&["redis-proxy-2; hit"], false),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(CACHE_STATUS, HeaderValue::from_static(field));
            }
            assert_eq!(is_about_key(&headers), expected, "{fields:?}");
        }
    }
}
