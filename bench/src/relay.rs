//! The relay: what it costs at least to hand the requests of a batch on to several servers, and their replies back.
//!
//! One client, one epoll instance, no parsing: one read a batch, one write to each server, one read of each, one write to the client once
//! all is there. A proxy cannot do with fewer system calls on this interface, so this is the floor of what a second and a third node cost.
//!
//!     relay PORT REQUEST_BYTES REPLY_BYTES SERVER_PORT...

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// Bytes asked for in one read.
const READ_BYTES: usize = 64 * 1024;
/// The client's place among the connections.
const CLIENT: u64 = u64::MAX;

struct Relay {
    client: TcpStream,
    servers: Vec<TcpStream>,
    request_bytes: usize,
    reply_bytes: usize,
    /// Of replies that are here.
    replies: Vec<u8>,
    /// Bytes of replies until the client gets them.
    owed: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, request_bytes, reply_bytes, servers @ ..] = arguments.as_slice() else {
        return Err("usage: relay PORT REQUEST_BYTES REPLY_BYTES SERVER_PORT...".into());
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse()?))?;
    let connect = |port: &String| -> Result<TcpStream, Box<dyn Error>> {
        Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port.parse()?))?)
    };
    let servers = servers.iter().map(connect).collect::<Result<Vec<_>, _>>()?;
    let (client, _) = listener.accept()?;
    let relay = Relay {
        client,
        servers,
        request_bytes: request_bytes.parse()?,
        reply_bytes: reply_bytes.parse()?,
        replies: Vec::new(),
        owed: 0,
    };
    Ok(relay.run()?)
}

impl Relay {
    fn run(mut self) -> io::Result<()> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let interest = EventFlags::IN | EventFlags::ET;
        let places = (0..).zip(&self.servers).chain([(CLIENT, &self.client)]);
        for (place, stream) in places {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, stream, EventData::new_u64(place), interest)?;
        }
        let mut buffer = vec![0; READ_BYTES];
        let mut events = Vec::with_capacity(self.servers.len() + 1);
        loop {
            epoll::wait(&epoll, spare_capacity(&mut events), None)?;
            for event in events.drain(..) {
                let goes_on = match event.data.u64() {
                    CLIENT => self.hand_on(&mut buffer)?,
                    place => {
                        self.hand_back(usize::try_from(place).map_err(io::Error::other)?, &mut buffer)?
                    }
                };
                if !goes_on {
                    return Ok(());
                }
            }
        }
    }

    /// A batch goes to the servers in turn, each one's part in one write. False once the client has left.
    fn hand_on(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let Some(count) = read(&mut self.client, buffer)? else { return Ok(true) };
        let requests = count / self.request_bytes;
        self.owed += requests * self.reply_bytes;
        let (mut rest, servers) = (&buffer[..count], self.servers.len());
        for (place, server) in self.servers.iter_mut().enumerate() {
            let part = (requests + place) / servers * self.request_bytes;
            let (part, behind) = rest.split_at(part.min(rest.len()));
            rest = behind;
            if !part.is_empty() {
                server.write_all(part)?;
            }
        }
        Ok(count > 0)
    }

    /// The client gets the replies once all are here. False if the server has gone.
    fn hand_back(&mut self, place: usize, buffer: &mut [u8]) -> io::Result<bool> {
        let Some(count) = read(&mut self.servers[place], buffer)? else { return Ok(true) };
        self.replies.extend_from_slice(&buffer[..count]);
        if self.replies.len() >= self.owed && count > 0 {
            self.client.write_all(&self.replies)?;
            self.replies.clear();
            self.owed = 0;
        }
        Ok(count > 0)
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
