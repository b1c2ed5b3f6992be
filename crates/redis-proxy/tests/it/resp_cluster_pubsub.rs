//! Subscribers in front of a cluster.

use testkit::{Cluster, Proxy, RawClient, wait_until};

use crate::resp_cluster::{KEYS, PATIENCE, another, before};

fn message(kind: char, words: &[&str]) -> String {
    let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("{kind}{}\r\n{words}", words.matches('$').count())
}

/// A confirmation, with the number that is left.
fn confirmation(kind: char, what: &str, channel: &str, left: u32) -> String {
    format!("{kind}3\r\n${}\r\n{what}\r\n${}\r\n{channel}\r\n:{left}\r\n", what.len(), channel.len())
}

fn clients(proxy: &Proxy) -> [(char, RawClient); 2] {
    let mut resp3 = proxy.resp_client();
    resp3.resp3();
    [('*', proxy.resp_client()), ('>', resp3)]
}

#[test]
fn what_is_published_at_any_node_reaches_subscribers_through_the_proxy() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[]);
    for (kind, mut client) in clients(&proxy) {
        client.send("SUBSCRIBE news\r\nPSUBSCRIBE n*\r\n");
        client
            .expect(confirmation(kind, "subscribe", "news", 1) + &confirmation(kind, "psubscribe", "n*", 2));
        let both = |text: &str| {
            message(kind, &["message", "news", text]) + &message(kind, &["pmessage", "n*", "news", text])
        };
        let mut other = proxy.resp_client();
        other.ask("PUBLISH news ours", ":2");
        client.expect(both("ours"));
        other.ask("MULTI", "+OK").ask("PUBLISH news queued", "+QUEUED").ask("INCR b", "+QUEUED");
        let exec = String::from_utf8(other.send("EXEC\r\n").reply()).expect("text");
        assert!(exec.starts_with("*2\r\n:"), "{exec}");
        client.expect(both("queued"));
        for node in cluster.nodes() {
            node.client().command(&["PUBLISH", "news", "theirs"]);
            client.expect(both("theirs"));
        }
        client.send("UNSUBSCRIBE\r\nPUNSUBSCRIBE n*\r\n");
        client.expect(
            confirmation(kind, "unsubscribe", "news", 1) + &confirmation(kind, "punsubscribe", "n*", 0),
        );
        client.ask("GET b", "$1\r\n1").ask("DEL b", ":1").ask("SET b 0", "+OK");
    }
}

/// To a shard whose slot nodes may not agree about for a moment.
#[track_caller]
fn subscribe(client: &mut RawClient, kind: char, channel: &str) {
    let confirmed = confirmation(kind, "ssubscribe", channel, 1);
    wait_until(PATIENCE, "a subscription", || {
        let reply =
            String::from_utf8(client.send(format!("SSUBSCRIBE {channel}\r\n")).reply()).expect("text");
        assert!(reply == confirmed || reply.starts_with("-TRYAGAIN proxy: "), "{reply}");
        reply == confirmed
    });
}

#[test]
fn a_subscription_to_a_shard_ends_with_a_word_as_its_slot_moves_and_can_be_had_anew() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[]);
    for (kind, mut client) in clients(&proxy) {
        for key in KEYS {
            let slot = cluster.slot_of(key);
            let mut other = proxy.resp_client();
            for round in 0..3 {
                subscribe(&mut client, kind, key);
                other.ask(&format!("SPUBLISH {key} {round}"), ":1");
                client.expect(message(kind, &["smessage", key, &round.to_string()]));
                cluster.migrate_slot(slot, another(&cluster, slot));
                client.expect(confirmation(kind, "sunsubscribe", key, 0));
                // It is a client like any other.
                client.ask("PING", "+PONG").ask(&format!("SET {key} 0"), "+OK");
                other.ask(&format!("SPUBLISH {key} x"), ":0");
                subscribe(&mut client, kind, &format!("{{{key}}}1"));
                let twice = format!("SSUBSCRIBE {{{key}}}2\r\nSUNSUBSCRIBE {{{key}}}1\r\n");
                client.send(twice).expect(
                    confirmation(kind, "ssubscribe", &format!("{{{key}}}2"), 2)
                        + &confirmation(kind, "sunsubscribe", &format!("{{{key}}}1"), 1),
                );
                client.send("SUNSUBSCRIBE\r\n");
                client
                    .expect(confirmation(kind, "sunsubscribe", &format!("{{{key}}}2"), 0))
                    .ask("PING", "+PONG");
            }
        }
    }
    wait_until(PATIENCE, "all pins to be given back", || {
        proxy.metrics().value("redis_proxy_pinned_connections") == 0.0
    });
}

/// As Redis itself does: the client is to know that it may have missed something.
#[test]
fn a_subscriber_whose_node_dies_is_closed() {
    let cluster = Cluster::builder().nodes(3, 1).start().expect("a redis-server");
    let proxy = before(&cluster, &[]);
    let (mut plain, mut shard) = (proxy.resp_client(), proxy.resp_client());
    plain.send("SUBSCRIBE news\r\n").expect(confirmation('*', "subscribe", "news", 1));
    shard.send("SSUBSCRIBE a\r\n").expect(confirmation('*', "ssubscribe", "a", 1));
    let of_news = cluster.nodes().iter().find(|node| {
        let channels = format!("{:?}", node.client().command(&["PUBSUB", "CHANNELS"]));
        channels.contains("[") && channels.contains("Bulk")
    });
    of_news.expect("the node of the subscriber").kill();
    assert!(plain.at_end());
    wait_until(PATIENCE, "another node to take it", || {
        let mut client = proxy.resp_client();
        client.send("SUBSCRIBE news\r\n");
        let said = client.line();
        said == "*3"
    });
    let of_shard = cluster.node_of(cluster.slot_of("a"));
    of_shard.kill();
    assert!(shard.at_end());
}

#[test]
fn pubsub_tells_of_the_subscribers_of_all_nodes_and_of_no_channel_of_the_proxy() {
    let cluster = Cluster::start();
    // What is read is watched, by channels of the proxy's own.
    let proxy = before(&cluster, &[("RESP_COHERENCE", "tracking")]);
    let mut ours = proxy.resp_client();
    ours.send("SUBSCRIBE news\r\n").expect(confirmation('*', "subscribe", "news", 1));
    let mut theirs: Vec<_> =
        cluster.nodes()[..3].iter().map(|node| RawClient::connect(node.address())).collect();
    for (number, client) in theirs.iter_mut().enumerate() {
        client.send(format!("SUBSCRIBE news only{number}\r\nPSUBSCRIBE p*\r\n"));
        client.expect(confirmation('*', "subscribe", "news", 1));
        client.expect(confirmation('*', "subscribe", &format!("only{number}"), 2));
        client.expect(confirmation('*', "psubscribe", "p*", 3));
    }
    let mut shards: Vec<_> = KEYS.iter().map(|_| proxy.resp_client()).collect();
    KEYS.iter().zip(&mut shards).for_each(|(key, client)| subscribe(client, '*', key));
    for protocol in [2, 3] {
        let mut client = proxy.resp_client();
        if protocol == 3 {
            client.resp3();
        }
        for key in KEYS {
            client.ask(&format!("GET {key}"), "$1\r\n0");
        }
        let mut list = |request: &str| {
            let reply = String::from_utf8(client.send(format!("{request}\r\n")).reply()).expect("text");
            let mut words: Vec<_> =
                reply.lines().filter(|line| !line.contains(['$', '*'])).map(String::from).collect();
            words.sort();
            words
        };
        let nodes = theirs.len();
        let only: Vec<_> = (0..nodes).map(|number| format!("only{number}")).collect();
        let expected: Vec<String> = ["news".to_owned()].into_iter().chain(only).collect();
        assert_eq!(list("PUBSUB CHANNELS"), expected);
        assert_eq!(list("PUBSUB CHANNELS n*"), ["news"]);
        assert_eq!(list("PUBSUB SHARDCHANNELS"), KEYS);
        client.ask(
            "PUBSUB NUMSUB news none",
            &format!("*4\r\n$4\r\nnews\r\n:{}\r\n$4\r\nnone\r\n:0", nodes + 1),
        );
        client.ask("PUBSUB SHARDNUMSUB a b", "*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n:1");
        client.ask("PUBSUB NUMPAT", &format!(":{nodes}"));
    }
    // There are channels of ours, as a node says itself.
    let told =
        format!("{:?}", cluster.node_of(cluster.slot_of("a")).client().command(&["PUBSUB", "SHARDCHANNELS"]));
    assert!(told.contains("Bulk"), "{told}");
}
