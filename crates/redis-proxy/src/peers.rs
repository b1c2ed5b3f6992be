//! How many connections an address has to the data ports (MAX_CLIENTS_PER_PEER).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use sync::Mutex;

/// The addresses of those that are counted: of all that come while there is a limit.
#[derive(Default)]
pub(crate) struct Peers {
    /// Taken when a client comes and when it goes.
    clients: Mutex<HashMap<IpAddr, usize>>,
}

/// A client that is counted for its address, until this is dropped.
pub(crate) struct Peer {
    address: IpAddr,
    peers: Arc<Peers>,
}

impl Peers {
    /// Counts a client of this address; none if it has `most` already.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Peer> {
        // An IPv4 client of a socket of both families has a mapped address.
        let address = address.to_canonical();
        let mut clients = self.clients.lock();
        let count = clients.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Peer { address, peers: self.clone() })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let mut clients = self.peers.clients.lock();
        if let Some(count) = clients.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_as_many_as_it_may_and_gives_them_back() {
        let peers = Arc::new(Peers::default());
        let enter = |address: &str| peers.enter(address.parse().expect("an address"), 2);
        let (first, second) = (enter("10.0.0.1"), enter("::ffff:10.0.0.1"));
        assert!(first.is_some() && second.is_some());
        assert!(enter("10.0.0.1").is_none() && enter("10.0.0.2").is_some());
        drop(first);
        let third = enter("10.0.0.1");
        assert!(third.is_some() && enter("10.0.0.1").is_none());
        drop((second, third));
        assert!(peers.clients.lock().is_empty());
    }
}
