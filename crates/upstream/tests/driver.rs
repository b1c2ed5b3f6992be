//! A connection as its sender and its sink see it, before a Redis that misbehaves.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

mod support;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use resp::Frame;
use support::{Link, PATIENCE, Told, bulk, endpoint, run};
use sync::Mutex;
use testkit::{Action, FaultProxy, ScriptedRedis};
use tokio::time::timeout;
use upstream::{
    Account, Backend, ConnectionState, Doubt, Endpoint, Incarnation, Loss, Secret, Sink, Tracking,
};

/// An ordinary connection is ready.
const CONNECTED: Told = Told::Connected(Tracking::NotAsked);

#[test]
fn replies_come_with_their_tickets_in_the_order_of_the_wire() {
    let redis = ScriptedRedis::start(|key, _| Action::value(key));
    run(async {
        let mut link = Link::start(&Backend::new(endpoint(redis.address()), 100));
        (0..50).for_each(|ticket| link.get(&ticket.to_string(), ticket));
        assert_eq!(link.next().await, CONNECTED);
        for ticket in 0..50 {
            assert_eq!(link.next().await, Told::Reply(ticket, bulk(&ticket.to_string())));
        }
        assert_eq!(link.upstream.state(), ConnectionState::Up);
    });
}

#[test]
fn a_push_keeps_its_place_among_the_replies() {
    let redis = ScriptedRedis::start(|_, before| match before {
        0 => Action::Reply(b">1\r\n+first\r\n$1\r\na\r\n>1\r\n+second\r\n".to_vec()),
        _ => Action::value("b"),
    });
    run(async {
        let mut link = Link::start(&Backend::new(endpoint(redis.address()), 100));
        link.get("a", 1);
        link.get("b", 2);
        let simple = |text: &str| Frame::Simple(text.to_owned().into());
        assert_eq!(link.next().await, CONNECTED);
        assert_eq!(link.next().await, Told::Push(vec![simple("first")]));
        assert_eq!(link.next().await, Told::Reply(1, bulk("a")));
        assert_eq!(link.next().await, Told::Push(vec![simple("second")]));
        assert_eq!(link.next().await, Told::Reply(2, bulk("b")));
    });
}

#[test]
fn bytes_that_were_there_before_a_command_left_are_not_its_answer() {
    let redis = ScriptedRedis::start(|key, _| Action::value(key));
    run(async {
        let mut link = Link::start(&Backend::new(endpoint(redis.address()), 100));
        link.get("first", 1);
        assert_eq!(link.next().await, CONNECTED);
        assert_eq!(link.next().await, Told::Reply(1, bulk("first")));
        redis.send_to_all(b"$5\r\nstray\r\n");
        // As with a client's request: its event and that of the stray reply come in one look at the sockets, and the
        // request is handled first.
        let (mut client, server) = std::os::unix::net::UnixStream::pair().unwrap();
        client.write_all(b"a request").unwrap();
        server.set_nonblocking(true).unwrap();
        let server = tokio::net::UnixStream::from_std(server).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        server.readable().await.unwrap();
        link.get("second", 2);
        let loss = Loss::Closed("a reply that nobody asked for".into());
        assert_eq!(link.next().await, Told::Disconnected(loss.clone()));
        assert_eq!(link.next().await, Told::Lost(2, loss));
    });
}

#[test]
fn a_doubted_reply_ends_the_connection_and_loses_the_commands_behind_it() {
    let redis = ScriptedRedis::start(|key, _| match key {
        b"odd" => Action::Reply(b":1\r\n".to_vec()),
        key => Action::value(key),
    });
    run(async {
        let mut link = Link::start(&Backend::new(endpoint(redis.address()), 100));
        link.get("odd", 1);
        link.get("behind", 2);
        assert_eq!(link.next().await, CONNECTED);
        assert_eq!(link.next().await, Told::Reply(1, Frame::Integer(1)));
        assert!(matches!(link.next().await, Told::Disconnected(Loss::Closed(_))));
        assert!(matches!(link.next().await, Told::Lost(2, Loss::Closed(_))));
        assert_eq!(link.next().await, CONNECTED);
        link.get("again", 3);
        assert_eq!(link.next().await, Told::Reply(3, bulk("again")));
    });
}

#[test]
fn a_reply_that_cannot_be_read_is_the_loss_of_its_own_command() {
    let redis = ScriptedRedis::start(|_, before| match before {
        0 => Action::Reply(b"nonsense\r\n".to_vec()),
        _ => Action::value("v"),
    });
    run(async {
        let mut link = Link::start(&Backend::new(endpoint(redis.address()), 100));
        link.get("a", 1);
        assert_eq!(link.next().await, CONNECTED);
        assert!(matches!(link.next().await, Told::Lost(1, Loss::Garbled(_))));
        assert!(matches!(link.next().await, Told::Disconnected(Loss::Closed(_))));
    });
}

#[test]
fn silence_loses_all_that_waited_and_is_told_apart() {
    let redis = ScriptedRedis::start(|_, _| Action::Silence);
    run(async {
        let mut link = Link::start(&Backend::new(endpoint(redis.address()), 100));
        link.get("a", 1);
        link.get("b", 2);
        assert_eq!(link.next().await, CONNECTED);
        let sent = Instant::now();
        assert_eq!(link.next().await, Told::Disconnected(Loss::Silent));
        assert!((250..600).contains(&sent.elapsed().as_millis()), "{:?}", sent.elapsed());
        assert_eq!(link.next().await, Told::Lost(1, Loss::Silent));
        assert_eq!(link.next().await, Told::Lost(2, Loss::Silent));
    });
}

#[test]
fn commands_in_flight_are_bounded_over_all_connections() {
    let redis = ScriptedRedis::start(|_, _| Action::Silence);
    run(async {
        let backend = Backend::new(endpoint(redis.address()), 2);
        let (one, other) = (Link::start(&backend), Link::start(&backend));
        one.get("a", 1);
        other.get("b", 2);
        let unsent = one.upstream.send(&[b"GET", b"c"], 3).unwrap_err();
        assert_eq!((unsent.ticket, unsent.loss), (3, Loss::Full));
    });
}

#[test]
fn one_connection_that_gets_through_and_one_refused_read_bring_the_others_back() {
    let redis = ScriptedRedis::start(|key, _| Action::value(key));
    let link = FaultProxy::start(redis.address());
    run(async {
        let backend = Backend::new(endpoint(link.address()), 100);
        let mut links = [Link::start(&backend), Link::start(&backend)];
        for link in &mut links {
            assert_eq!(link.next().await, CONNECTED);
        }
        link.refuse();
        link.reset();
        // Attempts are far apart by now.
        for link in &mut links {
            for _ in 0..6 {
                assert!(matches!(link.next().await, Told::Disconnected(_)));
            }
        }
        link.accept();
        let asked = Instant::now();
        assert!(links[0].upstream.send(&[b"GET", b"k"], 1).is_err());
        for link in &mut links {
            while !matches!(link.next().await, Told::Connected(_)) {}
        }
        assert!(asked.elapsed() <= Duration::from_millis(250), "{:?}", asked.elapsed());
    });
}

#[test]
fn a_server_that_greets_and_closes_is_not_hammered() {
    let redis = ScriptedRedis::builder()
        .refuse_hello()
        .answer("CLIENT SETNAME", "+OK\r\n:1\r\n")
        .start(|_, _| Action::Close);
    run(async {
        let mut link = Link::start(&Backend::new(endpoint(redis.address()), 100));
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(700) {
            let told = link.next().await;
            assert!(matches!(told, Told::Connected(_) | Told::Disconnected(_)), "{told:?}");
        }
        assert!(redis.accepted() <= 8, "{} attempts in 0.7 s", redis.accepted());
    });
}

#[test]
fn a_secret_is_not_in_the_text_of_a_refusal() {
    let redis =
        ScriptedRedis::builder().answer("HELLO", "-WRONGPASS not hunter2\r\n").start(|_, _| Action::Close);
    let login = Account { password: Some(Secret::new("hunter2")), ..Account::default() };
    let secret = Endpoint { login, ..endpoint(redis.address()) };
    assert!(!format!("{secret:?}").contains("hunter2"));
    run(async {
        let mut link = Link::start(&Backend::new(secret, 100));
        let Told::Disconnected(loss) = link.next().await else { panic!("it was accepted") };
        assert_eq!(loss, Loss::Refused("WRONGPASS not ***".into()));
    });
}

#[test]
fn incarnations_are_never_used_twice() {
    struct Numbers(Arc<Mutex<Vec<u64>>>);
    impl Sink for Numbers {
        type Ticket = ();
        fn reply(&self, (): (), _frame: Frame) -> Result<(), Doubt> {
            Ok(())
        }
        fn push(&self, _items: Vec<Frame>) {}
        fn lost(&self, (): (), _loss: &Loss) {}
        fn connected(&self, incarnation: Incarnation, _tracking: &Tracking) {
            self.0.lock().push(incarnation.number);
        }
        fn disconnected(&self, _loss: &Loss) {}
    }
    let redis = ScriptedRedis::start(|_, _| Action::Close);
    run(async {
        let backend = Backend::new(endpoint(redis.address()), 100);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut handles = Vec::new();
        for _ in 0..2 {
            let (upstream, driver) = upstream::connect(&backend);
            tokio::task::spawn_local(driver.run(tracing::Span::none(), Numbers(seen.clone())));
            handles.push(upstream);
        }
        let wait = async {
            while seen.lock().len() < 8 {
                for handle in &handles {
                    // Each is answered with a close; while one is down it is refused.
                    let _ = handle.send(&[b"GET", b"k"], ());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, wait).await.expect("eight connections");
        let mut numbers = seen.lock().clone();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), seen.lock().len());
    });
}
