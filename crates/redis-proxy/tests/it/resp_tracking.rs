//! CLIENT TRACKING through the proxy, with and without REDIRECT.

use std::time::Duration;

use testkit::{RawClient, wait_until};

use crate::support::start_resp;

const SOON: Duration = Duration::from_secs(5);
const INVALID: &str = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n";

fn pins(proxy: &testkit::Proxy) -> f64 {
    proxy.metrics().value("redis_proxy_pinned_connections")
}

fn hello3(client: &mut RawClient) {
    client.send("HELLO 3\r\n");
    while client.line() != "*0" {}
}

fn id(client: &mut RawClient) -> String {
    client.send("CLIENT ID\r\n").line()[1..].to_owned()
}

#[test]
fn tracking_reaches_the_client_that_asked_for_it_until_it_is_off() {
    let (redis, proxy) = start_resp(&[]);
    let mut client = proxy.resp_client();
    hello3(&mut client);
    client.ask("CLIENT TRACKING OFF", "+OK").ask("CLIENT TRACKING ON", "+OK").ask("GET k", "_");
    assert_eq!(pins(&proxy), 1.0);
    redis.client().set("k", "v");
    client.expect(INVALID).ask("GET k", "$1\r\nv").ask("CLIENT TRACKING OFF", "+OK");
    wait_until(SOON, "the pin is given back", || pins(&proxy) == 0.0);
    // The connection knows keys of another: the next one who tracks must not hear of them.
    let mut next = proxy.resp_client();
    hello3(&mut next);
    next.ask("CLIENT TRACKING ON", "+OK");
    redis.client().set("k", "w");
    next.ask("PING", "+PONG");
}

#[test]
fn invalidations_go_to_the_client_of_ours_that_redirect_names() {
    let (redis, proxy) = start_resp(&[("WORKERS", "2")]);
    // Whichever workers they come to: one of a pair that shares one, and one that does not.
    for _ in 0..6 {
        let (mut source, mut target) = (proxy.resp_client(), proxy.resp_client());
        hello3(&mut target);
        let number = id(&mut target);
        source
            .ask(&format!("CLIENT TRACKING ON REDIRECT {number}"), "+OK")
            .ask("CLIENT GETREDIR", &format!(":{number}"));
        source.send("CLIENT TRACKINGINFO\r\n").expect(format!(
            "*6\r\n$5\r\nflags\r\n*1\r\n$2\r\non\r\n$8\r\nredirect\r\n:{number}\r\n$8\r\nprefixes\r\n*0\r\n"
        ));
        source.send("GET k\r\n");
        while !source.line().starts_with(['$', 'v']) {}
        target.ask("PING", "+PONG");
        redis.client().set("k", "v");
        target.expect(INVALID).ask("CLIENT ID", &format!(":{number}"));
        redis.client().del("k");
    }
    let mut client = proxy.resp_client();
    client
        .ask("CLIENT TRACKING ON REDIRECT 999999", "-ERR The client ID you want redirect to does not exist");
    client.ask("CLIENT GETREDIR", ":-1");
}

#[test]
fn tracking_off_takes_the_proxys_ids_and_a_lost_target_is_named_by_them() {
    let (redis, proxy) = start_resp(&[("WORKERS", "1")]);
    let (mut source, mut target) = (proxy.resp_client(), proxy.resp_client());
    let number = id(&mut target);
    let nobody = "-ERR The client ID you want redirect to does not exist";
    hello3(&mut source);
    // With a connection of its own and without.
    for _ in 0..2 {
        source.ask(&format!("CLIENT TRACKING OFF REDIRECT {number}"), "+OK");
        source.ask("CLIENT TRACKING OFF REDIRECT 999999", nobody);
        source.ask("CLIENT TRACKING OFF REDIRECT x", "-ERR value is not an integer or out of range");
        source.ask("WATCH w", "+OK");
    }
    source.ask("UNWATCH", "+OK").ask(&format!("CLIENT TRACKING ON REDIRECT {number}"), "+OK");
    source.send("GET k\r\n").line();
    drop(target);
    wait_until(SOON, "the target is gone", || pins(&proxy) == 1.0);
    redis.client().set("k", "v");
    source.expect(format!(">2\r\n$21\r\ntracking-redir-broken\r\n:{number}\r\n"));
    source.ask("CLIENT GETREDIR", &format!(":{number}"));
}

/// Whoever asks for it in vain, or no longer, must not use up everybody's connections.
#[test]
fn a_target_keeps_its_connection_for_as_long_as_somebody_redirects_to_it() {
    let (_redis, proxy) = start_resp(&[]);
    let (mut source, mut target) = (proxy.resp_client(), proxy.resp_client());
    let number = id(&mut target);
    let on = format!("CLIENT TRACKING ON REDIRECT {number}");
    source.ask(&format!("{on} NOSUCH"), "-ERR syntax error");
    wait_until(SOON, "the pins are given back", || pins(&proxy) == 0.0);
    target.ask("PING", "+PONG");
    for end in ["CLIENT TRACKING OFF", "RESET"] {
        source.ask(&on, "+OK");
        assert_eq!(pins(&proxy), 2.0);
        source.ask(end, if end == "RESET" { "+RESET" } else { "+OK" });
        wait_until(SOON, "the pins are given back", || pins(&proxy) == 0.0);
    }
    source.ask(&on, "+OK").ask(&on, "+OK");
    drop(source);
    wait_until(SOON, "the pins are given back", || pins(&proxy) == 0.0);
    target.ask("PING", "+PONG");
}

#[test]
fn a_client_that_could_not_be_redirected_to_is_asked_for_anew() {
    let (redis, proxy) = start_resp(&[("MAX_PINNED", "2")]);
    let (mut source, mut target, mut other) = (proxy.resp_client(), proxy.resp_client(), proxy.resp_client());
    let redirects = format!("CLIENT TRACKING ON REDIRECT {}", id(&mut target));
    other.send("BLPOP list 0\r\n");
    wait_until(SOON, "a client is blocked", || pins(&proxy) == 1.0);
    source.ask(&redirects, "-ERR proxy: no connection for the client to redirect to");
    redis.client().command(&["RPUSH", "list", "v"]);
    other.expect("*2\r\n$4\r\nlist\r\n$1\r\nv\r\n").ask("PING", "+PONG");
    wait_until(SOON, "its pin is given back", || pins(&proxy) == 1.0);
    source.ask(&redirects, "+OK");
}
