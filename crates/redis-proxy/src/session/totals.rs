//! What the nodes of a cluster say to INFO, as one Redis would: what is counted is counted over all of them, and all else is what the first
//! says, which is the one that other commands without keys go to.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::str::from_utf8;

use memchr::memchr;

/// What is no answer to INFO.
const UNLIKE: &[u8] = b"-ERR proxy: the nodes of the cluster answer in different ways\r\n";

/// Of these sections numbers are summed: what one Redis with all keys and clients would say.
const COUNTED: &[&str] = &["Clients", "Memory", "Stats", "CPU"];
/// What is summed of others.
const COUNTED_ELSEWHERE: &[&str] = &["rdb_changes_since_last_save", "rdb_saves", "aof_rewrites"];
/// Of these the greatest is told: one node that loads is a Redis that loads, and scripts and functions are on all nodes.
const GREATEST: &[&str] = &[
    "client_recent_max_input_buffer",
    "client_recent_max_output_buffer",
    "latest_fork_usec",
    "active_defrag_running",
    "loading",
    "async_loading",
    "rdb_bgsave_in_progress",
    "aof_rewrite_in_progress",
    "number_of_cached_scripts",
    "number_of_functions",
    "number_of_libraries",
];
/// What numbers of several nodes do not tell together.
const OF_ONE: &[&str] = &["_ratio", "_perc", "total_system_memory"];
/// A number in other words.
const HUMAN: &str = "_human";
/// What a verbatim string says first of its text.
const VERBATIM: &str = "txt:";
/// Lines that only those nodes have which have something to say: of databases, commands, errors.
const BY_NAME: &[&str] = &["db", "cmdstat_", "errorstat_"];

/// The replies to INFO, which stand one behind the other, as one.
pub(super) fn total(replies: &[u8]) -> Vec<u8> {
    totalled(replies).unwrap_or_else(|| UNLIKE.to_vec())
}

fn totalled(replies: &[u8]) -> Option<Vec<u8>> {
    let texts = texts(replies)?;
    let mut nodes = texts.iter().map(|text| sections(text));
    let first = nodes.next()?;
    let nodes: Vec<_> = nodes.collect();
    let mut told = String::new();
    for section in &first {
        let others = nodes.iter().flatten().filter(|other| other.name == section.name);
        section.tell(&others.collect::<Vec<_>>(), &mut told);
    }
    let (kind, form) = if replies.starts_with(b"=") { ('=', VERBATIM) } else { ('$', "") };
    Some(format!("{kind}{}\r\n{form}{told}\r\n", form.len() + told.len()).into_bytes())
}

/// Lines up to the next section.
struct Section<'a> {
    /// Empty of what stands before the first.
    name: &'a str,
    /// As they stand there, with those that have no value.
    lines: Vec<&'a str>,
    values: HashMap<&'a str, &'a str>,
}

fn sections(text: &str) -> Vec<Section<'_>> {
    let empty = |name| Section { name, lines: Vec::new(), values: HashMap::new() };
    let mut sections = vec![empty("")];
    for line in text.split_inclusive('\n').map(|line| line.strip_suffix("\r\n").unwrap_or(line)) {
        if let Some(name) = line.strip_prefix("# ") {
            sections.push(empty(name));
        }
        let Some(section) = sections.last_mut() else { continue };
        section.lines.push(line);
        section.values.extend(line.split_once(':'));
    }
    sections
}

impl Section<'_> {
    /// Appends it with what others have counted.
    fn tell(&self, others: &[&Section<'_>], told: &mut String) {
        let names = others.iter().flat_map(|other| other.values.keys());
        let missing: BTreeSet<_> =
            names.filter(|name| is_by_name(name) && !self.values.contains_key(*name)).collect();
        let missing = missing
            .into_iter()
            .fold(String::new(), |lines, name| lines + &format!("{name}:{}\r\n", self.total(name, others)));
        let values = self.lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
        for (number, line) in self.lines.iter().enumerate() {
            if number == values {
                told.push_str(&missing);
            }
            match line.split_once(':') {
                Some((name, _)) => {
                    let _ = write!(told, "{name}:{}\r\n", self.total(name, others));
                }
                None => {
                    let _ = write!(told, "{line}\r\n");
                }
            }
        }
        if values == self.lines.len() {
            told.push_str(&missing);
        }
    }

    /// What all have of this name.
    fn total(&self, name: &str, others: &[&Section<'_>]) -> String {
        let values = |name| {
            let others = others.iter().filter_map(|other| other.values.get(name).copied());
            self.values.get(name).copied().into_iter().chain(others).collect::<Vec<_>>()
        };
        let of_bytes = name.strip_suffix(HUMAN).filter(|bytes| self.values.contains_key(bytes));
        of_bytes
            .and_then(|bytes| human(&self.value(bytes, &values(bytes))))
            .unwrap_or_else(|| self.value(name, &values(name)))
    }

    /// What is told of these values of one name, of which the first is this one's own.
    fn value(&self, name: &str, values: &[&str]) -> String {
        let first = values.first().copied().unwrap_or_default();
        let told = if is_by_name(name) {
            sum_fields(values)
        } else if GREATEST.contains(&name) {
            let numbers: Option<Vec<u64>> = values.iter().map(|value| value.parse().ok()).collect();
            numbers.and_then(|numbers| numbers.into_iter().max()).map(|most| most.to_string())
        } else if COUNTED_ELSEWHERE.contains(&name)
            || COUNTED.contains(&self.name) && !OF_ONE.iter().any(|end| name.ends_with(end))
        {
            sum(values)
        } else {
            None
        };
        told.unwrap_or_else(|| first.to_owned())
    }
}

fn is_by_name(name: &str) -> bool {
    BY_NAME.iter().any(|beginning| match name.strip_prefix(beginning) {
        Some(rest) if *beginning == "db" => rest.bytes().all(|byte| byte.is_ascii_digit()),
        rest => rest.is_some(),
    })
}

/// The sum of numbers, with as many places behind the point as the first has. None if they are no numbers.
fn sum(values: &[&str]) -> Option<String> {
    let first = values.first()?;
    match first.split_once('.') {
        None => {
            let numbers: Option<Vec<i64>> = values.iter().map(|value| value.parse().ok()).collect();
            Some(numbers?.into_iter().fold(0, i64::saturating_add).to_string())
        }
        Some((_, places)) => {
            let numbers: Option<Vec<f64>> = values.iter().map(|value| value.parse().ok()).collect();
            Some(format!("{:.*}", places.len(), numbers?.into_iter().sum::<f64>()))
        }
    }
}

/// The same of lines of several numbers (`keys=1,expires=0,avg_ttl=0`): each is summed by its name, but for what is a mean of others.
fn sum_fields(values: &[&str]) -> Option<String> {
    let fields = |value: &'_ str| -> Option<Vec<(String, String)>> {
        let pairs = value.split(',').map(|field| field.split_once('='));
        pairs.map(|pair| pair.map(|(name, value)| (name.to_owned(), value.to_owned()))).collect()
    };
    let all: Vec<_> = values.iter().map(|value| fields(value)).collect::<Option<_>>()?;
    let of = |of: &[(String, String)], name: &str| {
        of.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone())
    };
    let summed = |name: &str| {
        let values: Vec<_> = all.iter().filter_map(|fields| of(fields, name)).collect();
        sum(&values.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let number = |text: Option<String>| text.and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    let told = all.first()?.iter().map(|(name, _)| {
        let value = match name.as_str() {
            "usec_per_call" => {
                let calls = number(summed("calls")).max(1.0);
                format!("{:.2}", number(summed("usec")) / calls)
            }
            "avg_ttl" => {
                let weighted = |fields: &Vec<(String, String)>| {
                    number(of(fields, "avg_ttl")) * number(of(fields, "expires"))
                };
                let weighted: f64 = all.iter().map(weighted).sum();
                format!("{:.0}", weighted / number(summed("expires")).max(1.0))
            }
            name => summed(name)?,
        };
        Some(format!("{name}={value}"))
    });
    Some(told.collect::<Option<Vec<_>>>()?.join(","))
}

/// A number of bytes as INFO has it for people (server.c, `bytesToHuman`).
fn human(bytes: &str) -> Option<String> {
    const UNITS: &[(u64, &str)] = &[(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    let bytes: u64 = bytes.parse().ok()?;
    let unit = UNITS.iter().find(|(size, _)| bytes >= *size);
    Some(match unit {
        // What a fraction of a byte more or less would be is not seen.
        Some((size, unit)) => format!("{:.2}{unit}", bytes as f64 / *size as f64),
        None => format!("{bytes}B"),
    })
}

/// What stands in strings, bulk or verbatim. None if there is something else.
fn texts(mut replies: &[u8]) -> Option<Vec<Cow<'_, str>>> {
    let mut texts = Vec::new();
    while !replies.is_empty() {
        let (line, rest) = replies.split_at(memchr(b'\n', replies)? + 1);
        let (kind, length) = line.strip_suffix(b"\r\n")?.split_first()?;
        let (text, rest) = rest.split_at_checked(from_utf8(length).ok()?.parse().ok()?)?;
        let text = match kind {
            b'$' => text,
            b'=' => text.strip_prefix(VERBATIM.as_bytes())?,
            _ => return None,
        };
        texts.push(String::from_utf8_lossy(text));
        replies = rest.strip_prefix(b"\r\n")?;
    }
    Some(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> String {
        let text = text.replace('\n', "\r\n");
        format!("${}\r\n{text}\r\n", text.len())
    }

    #[track_caller]
    fn assert_total(nodes: &[&str], expected: &str) {
        let replies: String = nodes.iter().map(|node| bulk(node)).collect();
        let told = String::from_utf8(total(replies.as_bytes())).unwrap();
        assert_eq!(told, bulk(expected));
    }

    #[test]
    fn what_is_counted_is_summed_and_all_else_is_that_of_the_first() {
        assert_total(
            &[
                "# Server\ntcp_port:1\nuptime_in_seconds:7\n\n# Clients\nblocked_clients:1\n",
                "# Server\ntcp_port:2\nuptime_in_seconds:9\n\n# Clients\nblocked_clients:2\nnew:1\n",
            ],
            "# Server\ntcp_port:1\nuptime_in_seconds:7\n\n# Clients\nblocked_clients:3\n",
        );
        assert_total(
            &[
                "# Memory\nused_memory:1000\nused_memory_human:1000B\nmaxmemory_human:0B\nmem_fragmentation_ratio:1.5\nmem_allocator:j-5.3\n",
                "# Memory\nused_memory:1048\nused_memory_human:1.02K\nmaxmemory_human:0B\nmem_fragmentation_ratio:2.5\nmem_allocator:j-5.3\n",
            ],
            "# Memory\nused_memory:2048\nused_memory_human:2.00K\nmaxmemory_human:0B\nmem_fragmentation_ratio:1.5\nmem_allocator:j-5.3\n",
        );
        assert_total(
            &[
                "# Persistence\nloading:0\nrdb_changes_since_last_save:2\nrdb_last_save_time:5\n\n# CPU\nused_cpu_sys:0.250000\n",
                "# Persistence\nloading:1\nrdb_changes_since_last_save:3\nrdb_last_save_time:6\n\n# CPU\nused_cpu_sys:0.500001\n",
            ],
            "# Persistence\nloading:1\nrdb_changes_since_last_save:5\nrdb_last_save_time:5\n\n# CPU\nused_cpu_sys:0.750001\n",
        );
    }

    #[test]
    fn databases_commands_and_errors_are_told_wherever_they_are() {
        assert_total(
            &[
                "# Keyspace\n",
                "# Keyspace\ndb0:keys=1,expires=0,avg_ttl=0\n",
                "# Keyspace\ndb0:keys=3,expires=2,avg_ttl=50\n",
            ],
            "# Keyspace\ndb0:keys=4,expires=2,avg_ttl=50\n",
        );
        let get = "cmdstat_get:calls=2,usec=3,usec_per_call=1.50,rejected_calls=0,failed_calls=1\n";
        let more = "cmdstat_get:calls=2,usec=7,usec_per_call=3.50,rejected_calls=1,failed_calls=0\n";
        assert_total(
            &[
                &format!("# Commandstats\n{get}\n# Errorstats\nerrorstat_ERR:count=1\n"),
                &format!(
                    "# Commandstats\n{more}cmdstat_set:calls=1,usec=1,usec_per_call=1.00\n\n# Errorstats\n"
                ),
            ],
            "# Commandstats\ncmdstat_get:calls=4,usec=10,usec_per_call=2.50,rejected_calls=1,failed_calls=1\n\
             cmdstat_set:calls=1,usec=1,usec_per_call=1.00\n\n# Errorstats\nerrorstat_ERR:count=1\n",
        );
    }

    #[test]
    fn the_form_is_that_of_the_first_and_what_is_no_text_is_an_error() {
        assert_eq!(total(b"=9\r\ntxt:a:1\r\n\r\n$5\r\na:2\r\n\r\n"), b"=9\r\ntxt:a:1\r\n\r\n");
        assert_eq!(total(b"$0\r\n\r\n$0\r\n\r\n"), b"$0\r\n\r\n");
        for unlike in [&b""[..], b"+OK\r\n", b"$5\r\na:1", b"$-1\r\n", b"=1\r\nx\r\n", b"*0\r\n"] {
            assert_eq!(total(unlike), UNLIKE, "{}", unlike.escape_ascii());
        }
    }

    #[test]
    fn numbers_that_are_none_or_too_large_are_no_trouble() {
        let most = i64::MAX;
        assert_total(
            &[&format!("# Stats\na:{most}\nb:x\nc:1\n"), &format!("# Stats\na:{most}\nb:1\nc:y\n")],
            &format!("# Stats\na:{most}\nb:x\nc:1\n"),
        );
        assert_total(&["# Keyspace\ndb0:keys\n", "# Keyspace\ndb0:keys=1\n"], "# Keyspace\ndb0:keys\n");
    }
}
