//! Cases: requests whose right answer is one and only one, written in every way, and broken in every way.

use crate::Random;

/// Requests, a blank between their words. Left out, because two servers that are alike may answer differently: what tells
/// the time or the server's state (TIME, INFO, TTL, OBJECT, CLIENT LIST, LASTSAVE, SLOWLOG), what is a race (a time-out as
/// short as the way of a client's end), what is random (RANDOMKEY, SPOP, SRANDMEMBER, ids of XADD *) or in the order of a
/// hash table (COMMAND, KEYS, SCAN, SMEMBERS). Left out, because it would change the server for the cases to come: CONFIG
/// SET, ACL, SHUTDOWN, REPLICAOF, FUNCTION, SCRIPT. Left out, because what is answered after it is not in step with what is
/// asked: MONITOR, SYNC, PUBLISH to others.
const REQUESTS: &str = "\
PING|PING hello|ECHO hello|ECHO|ping|PiNg|GET a|GET|GET a b|SET a 1|SET a 2 EX 100|SET b x NX|SET b y XX GET|SET a 1 EX 0\
|SET a 1 BOGUS|APPEND a xyz|INCR a|INCRBY a 5|INCRBY a notanumber|INCRBYFLOAT a 1.5|DECR a|STRLEN a|GETRANGE a 0 -1\
|SETRANGE a 3 zz|MGET a b c|MSET a 1 b 2|MSET a|MSETNX c 1 d 2|GETSET a 9|GETDEL a|SETBIT a 7 1|GETBIT a 7|BITCOUNT a\
|BITFIELD a GET u8 0 SET u8 0 255|EXISTS a b c|DEL a b|UNLINK a|TYPE a|TYPE l|RENAME a b|RENAME nosuch b|COPY a c|PERSIST a\
|HSET h f 1 g 2|HGET h f|HMGET h f g x|HGETALL h|HINCRBY h f 3|HDEL h f|HLEN h|HEXISTS h g|HSTRLEN h f|HVALS h|HGET a f\
|LPUSH l 1 2 3|RPUSH l 4|LRANGE l 0 -1|LPOP l|RPOP l 2|LLEN l|LINDEX l 0|LSET l 0 x|LREM l 0 x|LPOS l 3|LPUSH a x|LINSERT l BEFORE 2 y\
|SADD s 1 2 3|SREM s 1|SCARD s|SISMEMBER s 2|SMISMEMBER s 1 2|SINTERCARD 1 s|ZADD z 1 a 2 b 3.5 c|ZRANGE z 0 -1 WITHSCORES\
|ZSCORE z a|ZMSCORE z a x|ZRANK z b|ZINCRBY z 1 a|ZPOPMIN z|ZPOPMAX z 2|ZCOUNT z -inf +inf|ZRANGEBYSCORE z (1 5 LIMIT 0 2|ZREM z a\
|XADD x 1-1 f v|XADD x 1-1 f v|XLEN x|XRANGE x - +|XREAD STREAMS x 0|XREAD COUNT 1 STREAMS x 0 0|XDEL x 1-1|PFADD p 1 2|PFCOUNT p\
|GEOADD g 13.36 38.11 P|GEOPOS g P nosuch|GEODIST g P P|SORT l|SORT l ALPHA DESC|SORT l STORE m\
|EVAL return{1,2,{3,'x'}} 0|EVAL return(redis.call('GET',KEYS[1])) 1 a|EVAL return(nosuch) 0|EVAL x|EVALSHA 0000 0\
|MULTI|EXEC|DISCARD|WATCH a|UNWATCH|MULTI x|EXEC x|WATCH|MULTI|EXEC|SELECT 0|SELECT 1|SELECT 99|SELECT x|SWAPDB 0 1|MOVE a 1|DBSIZE\
|HELLO|HELLO 2|HELLO 3|HELLO 4|HELLO x|HELLO 3 SETNAME n|HELLO 3 AUTH default x|AUTH x|AUTH default x|AUTH a b c|AUTH nosuch x\
|CLIENT GETNAME|CLIENT SETNAME me|CLIENT SETNAME a\\tb|CLIENT NOSUCH|CLIENT|CLIENT REPLY ON|CLIENT REPLY SKIP|CLIENT REPLY OFF\
|CLIENT REPLY BOGUS|CLIENT SETINFO lib-name x|CLIENT TRACKING ON|CLIENT TRACKING OFF|CLIENT CACHING YES|CLIENT TRACKINGINFO\
|CLIENT GETREDIR|CLIENT NO-EVICT ON|CLIENT KILL 1.1.1.1:1|CLIENT KILL ID x|CLIENT UNBLOCK 0|CLIENT KILL\
|SUBSCRIBE c|SUBSCRIBE c d c|UNSUBSCRIBE|UNSUBSCRIBE c|PSUBSCRIBE p*|PUNSUBSCRIBE|SSUBSCRIBE s|SUNSUBSCRIBE|SUBSCRIBE|PUBLISH nobody x\
|PUBSUB NUMSUB nobody|RESET|RESET x|QUIT|QUIT x|READONLY|ASKING|WAIT 0 0|WAIT x y|BLPOP l 5|BLPOP l m 0|BLPOP l x|BRPOPLPUSH l m 0\
|BLMOVE l m LEFT RIGHT 0|BLMPOP 0 1 l LEFT|BZPOPMIN z 0|XREAD BLOCK 0 STREAMS x $\
|DEBUG SLEEP 0|CONFIG GET|OBJECT HELP|NOSUCH|NOSUCH a b|no\\tsuch a|FLUSHALL|FLUSHDB ASYNC\
|FLUSHALL BOGUS|ACL WHOAMI|FAILOVER ABORT|CLUSTER INFO|SPUBLISH nobody x|LMPOP 1 l LEFT|ZUNIONSTORE u 2 z z|ZUNION 1 z|BITOP NOT n a|POST /|Host: a\
|EXPIRE nosuch 1|SUBSTR a 0 1|LCS a b|FCALL nosuch 0|EVAL_RO return(1) 0|DUMP nosuch|TOUCH a|GETEX a PERSIST|ZRANDMEMBER nosuch|SRANDMEMBER nosuch";

/// What broken requests are broken with.
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b" ",
    b"*",
    b"$",
    b"-",
    b"0",
    b"1",
    b"9",
    b"*0\r\n",
    b"*-1\r\n",
    b"*1\r\n",
    b"*2\r\n",
    b"*11\r\n",
    b"*1048577\r\n",
    b"*2147483648\r\n",
    b"$-1\r\n",
    b"$0\r\n\r\n",
    b"$1\r\na\r\n",
    b"$4\r\nPING\r\n",
    b"$536870913\r\n",
    b"$9999999999\r\n",
    b"$99999999\r\n",
    b"PING\r\n",
    b"\"",
    b"'",
    b"\\x41",
    b"\\n",
    b"\x0b",
    b"\xff",
    b"*1\r\n$4\r\nPING\r\n",
    b"\r\n\r\n",
];

/// A case: some requests, in either version of RESP, half of the cases left whole.
pub(super) fn random(random: &mut Random) -> Vec<u8> {
    let requests: Vec<&str> = REQUESTS.split('|').collect();
    let mut case = Vec::new();
    if random.percent(30) {
        multibulk(&[b"HELLO".to_vec(), b"3".to_vec()], &mut case);
    }
    for _ in 0..random.between(1, 6) {
        let request = requests[random.below(requests.len())];
        let words: Vec<Vec<u8>> =
            request.split(' ').map(|word| word.replace("\\t", "\t").into_bytes()).collect();
        match random.below(10) {
            0..=5 => multibulk(&words, &mut case),
            6 => loose(&words, random, &mut case),
            7 => quoted(&words, random, &mut case),
            _ => inline(&words, random, &mut case),
        }
    }
    if random.percent(50) {
        for _ in 0..random.between(1, 3) {
            damage(&mut case, random);
        }
    }
    case
}

fn multibulk(words: &[Vec<u8>], case: &mut Vec<u8>) {
    case.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        case.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        case.extend_from_slice(word);
        case.extend_from_slice(b"\r\n");
    }
}

/// With any byte where Redis does not look.
fn loose(words: &[Vec<u8>], random: &mut Random, case: &mut Vec<u8>) {
    let mut any = || b"\n \0x$*\xff"[random.below(7)];
    case.extend_from_slice(format!("*{}\r", words.len()).as_bytes());
    case.push(any());
    for word in words {
        case.extend_from_slice(format!("${}\r", word.len()).as_bytes());
        case.push(any());
        case.extend_from_slice(word);
        case.extend_from_slice(&[any(), any()]);
    }
}

fn inline(words: &[Vec<u8>], random: &mut Random, case: &mut Vec<u8>) {
    for word in words {
        case.extend_from_slice(word);
        case.extend_from_slice([&b" "[..], b"  ", b"\t", b" \x0b"][random.below(4)]);
    }
    case.extend_from_slice([&b"\r\n"[..], b"\n", b"\r\r\n"][random.below(3)]);
}

fn quoted(words: &[Vec<u8>], random: &mut Random, case: &mut Vec<u8>) {
    for word in words {
        let quote = b"\"'"[random.below(2)];
        case.push(quote);
        for &byte in word {
            match (quote, random.below(4)) {
                (b'"', 0) => case.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
                _ if byte == quote => case.extend_from_slice(&[b'\\', byte]),
                _ => case.push(byte),
            }
        }
        case.extend_from_slice(&[quote, b' ']);
    }
    case.extend_from_slice(b"\r\n");
}

fn damage(case: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(case.len() + 1);
    match random.below(8) {
        0 | 1 => drop(case.splice(at..at, TOKENS[random.below(TOKENS.len())].iter().copied())),
        2 => case.iter_mut().skip(at).take(1).for_each(|byte| *byte = TOKENS[random.below(TOKENS.len())][0]),
        3 => drop(case.drain(at..case.len().min(at + random.between(1, 4)))),
        4 => case.truncate(at),
        5 => {
            let end = case.len().min(at + random.between(1, 30));
            case.extend_from_within(at..end);
        }
        6 => {
            // A number that is off by a little.
            let digits: Vec<usize> = (0..case.len()).filter(|at| case[*at].is_ascii_digit()).collect();
            if !digits.is_empty() {
                case[digits[random.below(digits.len())]] = b'0' + u8::try_from(random.below(10)).unwrap_or(0);
            }
        }
        _ => {
            // A line that is long; that of over 64 KiB is a matter of how the bytes are cut, in Redis.
            let long = vec![b"x1 \""[random.below(4)]; random.between(100, 8000)];
            drop(case.splice(at..at, long));
        }
    }
}
