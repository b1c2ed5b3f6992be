//! What the nodes of a cluster say to PUBSUB, as one: each channel once, and of subscribers the sum. The channels by which the proxy
//! itself watches slots are nobody's.

use std::collections::HashSet;

/// With this begin the shard channels of this proxy and of others, as `SlotWatches` subscribes to them.
const OWN: &[u8] = b"redis-proxy:{";
/// What is no list of channels.
const UNLIKE: &[u8] = b"-ERR proxy: the nodes of the cluster answer in different ways\r\n";

/// One reply of several to PUBSUB CHANNELS or SHARDCHANNELS, which stand one behind the other.
pub(super) fn union(replies: &[u8]) -> Vec<u8> {
    let Some(lists) = lists(replies) else { return UNLIKE.to_vec() };
    let mut seen = HashSet::new();
    let all = lists.into_iter().flatten();
    let channels: Vec<_> = all.filter(|channel| !channel.starts_with(OWN) && seen.insert(*channel)).collect();
    let mut reply = format!("*{}\r\n", channels.len()).into_bytes();
    channels.into_iter().for_each(|channel| bulk(&mut reply, channel));
    reply
}

/// The same to PUBSUB NUMSUB or SHARDNUMSUB: each names the same channels, with a number behind each.
pub(super) fn sum(replies: &[u8]) -> Vec<u8> {
    summed(replies).unwrap_or_else(|| UNLIKE.to_vec())
}

fn summed(replies: &[u8]) -> Option<Vec<u8>> {
    let lists = lists(replies)?;
    let first = lists.first()?;
    let mut reply = format!("*{}\r\n", first.len()).into_bytes();
    for at in (0..first.len()).step_by(2) {
        let count = |list: &Vec<&[u8]>| {
            let (channel, count) = list.get(at).zip(list.get(at + 1))?;
            let count = std::str::from_utf8(count).ok()?.parse::<i64>().ok()?;
            (*channel == first[at]).then_some(count)
        };
        let counts: Option<Vec<i64>> = lists.iter().map(count).collect();
        bulk(&mut reply, first[at]);
        reply.extend_from_slice(format!(":{}\r\n", counts?.iter().sum::<i64>()).as_bytes());
    }
    Some(reply)
}

fn bulk(reply: &mut Vec<u8>, text: &[u8]) {
    reply.extend_from_slice(format!("${}\r\n", text.len()).as_bytes());
    reply.extend_from_slice(text);
    reply.extend_from_slice(b"\r\n");
}

/// Lists of strings and numbers, each element as its text. None if they are something else.
fn lists(mut replies: &[u8]) -> Option<Vec<Vec<&[u8]>>> {
    let mut lists = Vec::new();
    while !replies.is_empty() {
        let (b'*' | b'~', count) = line(&mut replies)? else { return None };
        let mut list = Vec::new();
        for _ in 0..number(count)? {
            match line(&mut replies)? {
                (b':' | b'+', text) => list.push(text),
                (b'$', length) => {
                    let (text, rest) = replies.split_at_checked(number(length)?)?;
                    list.push(text);
                    replies = rest.strip_prefix(b"\r\n")?;
                }
                _ => return None,
            }
        }
        lists.push(list);
    }
    Some(lists)
}

/// The next line: its first byte, and the others without its end.
fn line<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let end = memchr::memchr(b'\n', bytes)?;
    let (line, rest) = bytes.split_at(end + 1);
    *bytes = rest;
    let (kind, text) = line.strip_suffix(b"\r\n")?.split_first()?;
    Some((*kind, text))
}

fn number(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_is_told_once_and_none_of_ours() {
        let all = b"*2\r\n$1\r\na\r\n$16\r\nredis-proxy:{06S\r\n*0\r\n*2\r\n$4\r\nb\r\nb\r\n$1\r\na\r\n";
        assert_eq!(union(all), b"*2\r\n$1\r\na\r\n$4\r\nb\r\nb\r\n");
        assert_eq!(union(b"*0\r\n*0\r\n"), b"*0\r\n");
        for unlike in [&b"+OK\r\n"[..], b"*1\r\n$5\r\na\r\n", b"*1\r\n*0\r\n", b"*-1\r\n", b"*2\r\n:1\r\n"] {
            assert_eq!(union(unlike), UNLIKE, "{}", unlike.escape_ascii());
        }
    }

    #[test]
    fn subscribers_are_summed_channel_by_channel() {
        assert_eq!(
            sum(b"*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n:0\r\n*4\r\n$1\r\na\r\n:2\r\n$1\r\nb\r\n:0\r\n"),
            b"*4\r\n$1\r\na\r\n:3\r\n$1\r\nb\r\n:0\r\n"
        );
        assert_eq!(sum(b"*0\r\n*0\r\n"), b"*0\r\n");
        for unlike in [&b""[..], b"*2\r\n$1\r\na\r\n:1\r\n*2\r\n$1\r\nb\r\n:1\r\n", b"*1\r\n$1\r\na\r\n"] {
            assert_eq!(sum(unlike), UNLIKE, "{}", unlike.escape_ascii());
        }
    }
}
