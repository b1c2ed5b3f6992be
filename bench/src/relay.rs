//! The relay: what it costs at least to hand the requests of batches on to several servers, and their replies back.
//!
//! One epoll instance, no parsing: one read a batch, one write to each server for all batches that a wake-up brings, one read of each, one write
//! to each client once all is there that it has asked for. A proxy cannot do with fewer system calls on this interface, so this is the floor of
//! what a second and a third node cost.
//!
//!     relay PORT CLIENTS REQUEST_BYTES REPLY_BYTES SERVER_PORT...

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// Bytes asked for in one read.
const READ_BYTES: usize = 64 * 1024;

struct Relay {
    clients: Vec<Client>,
    servers: Vec<Server>,
    request_bytes: usize,
    reply_bytes: usize,
}

struct Client {
    stream: TcpStream,
    /// Of replies that are here.
    replies: Vec<u8>,
    /// Bytes of replies until it gets them.
    owed: usize,
}

struct Server {
    stream: TcpStream,
    /// What this wake-up brings for it.
    requests: Vec<u8>,
    /// Whose replies come next, and how many bytes.
    owes: VecDeque<(usize, usize)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, clients, request_bytes, reply_bytes, servers @ ..] = arguments.as_slice() else {
        return Err("usage: relay PORT CLIENTS REQUEST_BYTES REPLY_BYTES SERVER_PORT...".into());
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse()?))?;
    let connect = |port: &String| -> Result<Server, Box<dyn Error>> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port.parse()?))?;
        Ok(Server { stream, requests: Vec::new(), owes: VecDeque::new() })
    };
    let accept = |_| -> io::Result<Client> {
        Ok(Client { stream: listener.accept()?.0, replies: Vec::new(), owed: 0 })
    };
    let relay = Relay {
        servers: servers.iter().map(connect).collect::<Result<_, _>>()?,
        clients: (0..clients.parse()?).map(accept).collect::<Result<_, _>>()?,
        request_bytes: request_bytes.parse()?,
        reply_bytes: reply_bytes.parse()?,
    };
    Ok(relay.run()?)
}

impl Relay {
    fn run(mut self) -> io::Result<()> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let interest = EventFlags::IN | EventFlags::ET;
        let servers = self.servers.len();
        let streams = self.servers.iter().map(|server| &server.stream);
        let streams = streams.chain(self.clients.iter().map(|client| &client.stream));
        for (place, stream) in (0..).zip(streams) {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, stream, EventData::new_u64(place), interest)?;
        }
        let mut buffer = vec![0; READ_BYTES];
        let mut events = Vec::with_capacity(servers + self.clients.len());
        loop {
            epoll::wait(&epoll, spare_capacity(&mut events), None)?;
            for event in events.drain(..) {
                let place = usize::try_from(event.data.u64()).map_err(io::Error::other)?;
                let goes_on = match place.checked_sub(servers) {
                    Some(client) => self.take_batch(client, &mut buffer)?,
                    None => self.take_replies(place, &mut buffer)?,
                };
                if !goes_on {
                    return Ok(());
                }
            }
            for server in self.servers.iter_mut().filter(|server| !server.requests.is_empty()) {
                server.stream.write_all(&server.requests)?;
                server.requests.clear();
            }
            for client in self.clients.iter_mut().filter(|client| client.is_answered()) {
                client.stream.write_all(&client.replies)?;
                client.replies.clear();
                client.owed = 0;
            }
        }
    }

    /// A batch is for the servers in turn. False once the client has left.
    fn take_batch(&mut self, place: usize, buffer: &mut [u8]) -> io::Result<bool> {
        let client = &mut self.clients[place];
        let Some(count) = read(&mut client.stream, buffer)? else { return Ok(true) };
        if count % self.request_bytes != 0 {
            return Err(io::Error::other("a request in pieces"));
        }
        let requests = count / self.request_bytes;
        client.owed += requests * self.reply_bytes;
        let (mut rest, servers) = (&buffer[..count], self.servers.len());
        for (turn, server) in self.servers.iter_mut().enumerate() {
            let part = (requests + turn) / servers;
            let (requests, behind) = rest.split_at(part * self.request_bytes);
            rest = behind;
            if part > 0 {
                server.requests.extend_from_slice(requests);
                server.owes.push_back((place, part * self.reply_bytes));
            }
        }
        Ok(count > 0)
    }

    /// Replies are for the clients in the order of their requests. False if the server has gone.
    fn take_replies(&mut self, place: usize, buffer: &mut [u8]) -> io::Result<bool> {
        let server = &mut self.servers[place];
        let Some(count) = read(&mut server.stream, buffer)? else { return Ok(true) };
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let Some((client, owed)) = server.owes.front_mut() else {
                return Err(io::Error::other("more replies than requests"));
            };
            let (replies, behind) = rest.split_at(rest.len().min(*owed));
            rest = behind;
            *owed -= replies.len();
            self.clients[*client].replies.extend_from_slice(replies);
            if *owed == 0 {
                server.owes.pop_front();
            }
        }
        Ok(count > 0)
    }
}

impl Client {
    fn is_answered(&self) -> bool {
        self.owed > 0 && self.replies.len() >= self.owed
    }
}

/// `None` if there is nothing yet.
fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match stream.read(buffer) {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
