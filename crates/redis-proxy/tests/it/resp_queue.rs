//! Reads of a Redis client that wait for each other, and those of them that are Redis' to answer.

use crate::support::start_resp;

#[test]
fn a_read_goes_to_redis_from_between_others_after_a_slow_command() {
    // What GETRANGE asks is not fetched in this mode.
    let (redis, proxy) = start_resp(&[("RESP_COHERENCE", "ttl")]);
    redis.client().command(&["MSET", "a", "1", "b", "22", "c", "333"]);
    let mut client = proxy.resp_client();
    client.ask("EVAL \"return 7\" 0", ":7");
    client.send("GET a\r\nGETRANGE b 0 0\r\nGETRANGE c 0 1\r\n").expect("$1\r\n1\r\n$1\r\n2\r\n$2\r\n33\r\n");
}
