//! Every command in every standing, beside the listing `plan.txt`.

use std::collections::BTreeMap;
use std::path::Path;

use resp::{RequestLimits, RequestParser};

use super::*;

/// Requests whose arguments decide, beside one of each command in the table.
const REQUESTS: [&str; 33] = [
    "auth u p surplus",
    "client caching yes",
    "client no-such",
    "client pause 100",
    "client pause 100 write",
    "client reply off",
    "client reply skip",
    "client tracking off",
    "client tracking off redirect 5",
    "client tracking on",
    "client tracking on redirect 5",
    "exists a b",
    "get",
    "get a b",
    "hello 3 auth u p",
    "hello no-such",
    "host: a",
    "info proxy",
    "info server",
    "multi surplus",
    "no-such redirect 5",
    "no-such a b redirect 5",
    "post /",
    "proxy help",
    "psubscribe a b",
    "select no-number",
    "subscribe",
    "subscribe a",
    "unsubscribe a b",
    "xread block 0 streams s 0",
    "xread streams block 0",
    "xreadgroup group g c block 0 streams s 0",
    "zrank k m withscore",
];

#[test]
fn a_get_is_read_at_once_where_its_plan_is_to_read() {
    let commands = Commands::built_in();
    assert!(gets_are_reads(&commands, false) && gets_are_reads(&commands, true));
    let request = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
    let mut parser = RequestParser::new(RequestLimits::REDIS);
    parser.parse(request).expect("a request");
    let call = Call::new(&commands, true, parser.arguments(request));
    let mut reads = 0;
    for (name, standing) in LISTED {
        let plan = plan(&call, standing);
        assert_eq!(plan == Plan::Read(Read::Get), reads_at_once(standing), "{name}: {plan:?}");
        reads += usize::from(reads_at_once(standing));
    }
    assert_eq!(reads, 3);
}

/// The standings of the listing. All others are as one of them: [`as_listed`].
const LISTED: [(&str, Standing); 23] = {
    use Ahead::{Lane, Nothing, Pin, Reads};
    use Stage::{Multi, MultiAsked, Plain, Shut, Subscribed, Subscribing};
    const fn standing(holding: Holding, ahead: Ahead) -> Standing {
        Standing { login: LoginState::Done, replies: ReplyMode::On, ahead, holding }
    }
    [
        ("stranger", Standing { login: LoginState::Open, ..standing(Holding::Nothing, Nothing) }),
        ("free", standing(Holding::Nothing, Nothing)),
        ("free behind reads", standing(Holding::Nothing, Reads)),
        ("free behind a lane", standing(Holding::Nothing, Lane)),
        ("paused", standing(Holding::Paused, Nothing)),
        ("paused behind reads", standing(Holding::Paused, Reads)),
        ("paused behind a lane", standing(Holding::Paused, Lane)),
        ("refused", standing(Holding::Refused, Nothing)),
        ("doomed", standing(Holding::Doomed, Nothing)),
        ("deferred", standing(Holding::Deferred, Nothing)),
        ("pin", standing(Holding::Pin(Plain), Nothing)),
        ("pin behind itself", standing(Holding::Pin(Plain), Pin)),
        ("pin behind a lane", standing(Holding::Pin(Plain), Lane)),
        ("shut", standing(Holding::Pin(Shut), Nothing)),
        ("multi asked", standing(Holding::Pin(MultiAsked), Pin)),
        ("multi", standing(Holding::Pin(Multi), Nothing)),
        ("multi behind itself", standing(Holding::Pin(Multi), Pin)),
        ("subscribed", standing(Holding::Pin(Subscribed), Nothing)),
        ("subscribed behind itself", standing(Holding::Pin(Subscribed), Pin)),
        ("subscribing", standing(Holding::Pin(Subscribing), Nothing)),
        ("subscribing behind itself", standing(Holding::Pin(Subscribing), Pin)),
        (
            "silent subscribing",
            Standing { replies: ReplyMode::Off, ..standing(Holding::Pin(Subscribing), Nothing) },
        ),
        ("silent pin", Standing { replies: ReplyMode::Off, ..standing(Holding::Pin(Plain), Nothing) }),
    ]
};

/// A request that was parsed.
struct Request {
    line: String,
    bytes: Vec<u8>,
    parser: RequestParser,
}

impl Request {
    fn new(line: String) -> Self {
        let bytes = format!("{line}\n").into_bytes();
        let mut parser = RequestParser::new(RequestLimits::REDIS);
        parser.parse(&bytes).expect("an inline request");
        Request { line, bytes, parser }
    }

    /// It, among commands that Redis has named if `is_live`.
    fn call<'a>(&'a self, commands: &'a Commands, is_live: bool) -> Call<'a> {
        Call::new(commands, is_live, self.parser.arguments(&self.bytes))
    }
}

/// A request of each command of the table with as few arguments as it takes, and those whose arguments decide.
fn requests(commands: &Commands) -> Vec<Request> {
    let table = commands.to_string();
    let of_the_table = table.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut words = line.split(' ');
        let name = words.next().expect("a name").replace('|', " ");
        let arity: i64 = words.next().expect("an arity").parse().expect("a number");
        let least = usize::try_from(arity.unsigned_abs()).expect("a few");
        let missing = least.saturating_sub(name.split(' ').count());
        name + &" 1".repeat(missing)
    });
    of_the_table.chain(REQUESTS.map(str::to_string)).map(Request::new).collect()
}

/// The requests of one row of plans stand together; a plan stands before the standings that lead to it.
fn listing(commands: &Commands) -> String {
    let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for request in requests(commands) {
        let mut outcomes: Vec<(String, Vec<&str>)> = Vec::new();
        for (name, standing) in LISTED {
            let plan = match plan(&request.call(commands, true), standing) {
                Plan::Read(_) => "Read".to_string(),
                Plan::Answer(_) => "Answer".to_string(),
                plan => format!("{plan:?}"),
            };
            match outcomes.iter_mut().find(|(known, _)| *known == plan) {
                Some((_, standings)) => standings.push(name),
                None => outcomes.push((plan, vec![name])),
            }
        }
        let lines =
            outcomes.iter().map(|(plan, standings)| format!("    {plan}: {}\n", standings.join(", ")));
        rows.entry(lines.collect()).or_default().push(request.line);
    }
    let mut blocks: Vec<String> =
        rows.iter().map(|(row, requests)| format!("{}{row}", wrapped(requests))).collect();
    blocks.sort();
    blocks.join("\n")
}

/// Requests with bars between them, in lines of a readable length.
fn wrapped(requests: &[String]) -> String {
    let mut lines = vec![String::new()];
    for request in requests {
        if lines.last().is_some_and(|line| line.len() + request.len() > 120) {
            lines.push(String::new());
        }
        let line = lines.last_mut().expect("a line");
        *line += &format!("{request} | ");
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// `UPDATE_PLAN=1 cargo test -p redis-proxy --lib plan` writes the listing anew.
#[test]
fn every_command_goes_as_listed_in_every_standing() {
    let found = listing(&Commands::built_in());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/session/plan/plan.txt");
    if std::env::var_os("UPDATE_PLAN").is_some() {
        std::fs::write(&path, &found).expect("a file");
    }
    let listed = std::fs::read_to_string(&path).expect("the listing");
    for (found, listed) in found.lines().zip(listed.lines()) {
        assert_eq!(found, listed, "beside {}", path.display());
    }
    assert_eq!(found.lines().count(), listed.lines().count());
}

/// The standing of the listing in which the same is planned; `None` if it waits whatever the command is.
fn as_listed(standing: Standing) -> Option<Standing> {
    let is_silent = standing.replies != ReplyMode::On;
    if standing.login == LoginState::Open || is_silent && standing.ahead != Ahead::Nothing {
        return None;
    }
    let is_quiet = matches!(standing.holding, Holding::Pin(Stage::Plain | Stage::Subscribing));
    let is_off_on_pin = standing.replies == ReplyMode::Off && is_quiet;
    let replies = if is_off_on_pin { ReplyMode::Off } else { ReplyMode::On };
    let (holding, ahead) = match (standing.holding, standing.ahead) {
        (Holding::Refused | Holding::Doomed | Holding::Deferred, _) => (standing.holding, Ahead::Nothing),
        (Holding::Nothing | Holding::Paused, Ahead::Pin) => (standing.holding, Ahead::Lane),
        (Holding::Pin(_), Ahead::Reads | Ahead::Lane) => (Holding::Pin(Stage::Plain), Ahead::Lane),
        (Holding::Pin(Stage::Shut), _) => (standing.holding, Ahead::Nothing),
        same => same,
    };
    Some(Standing { replies, holding, ahead, ..standing })
}

#[test]
fn what_is_not_listed_goes_as_what_is() {
    use Stage::{Multi, MultiAsked, Plain, Shut, Subscribed, Subscribing};
    let commands = Commands::built_in();
    let requests = requests(&commands);
    let calls: Vec<_> =
        requests.iter().map(|request| (&*request.line, request.call(&commands, true))).collect();
    let pins = [Plain, Shut, MultiAsked, Multi, Subscribed, Subscribing].map(Holding::Pin);
    let without = [Holding::Nothing, Holding::Paused, Holding::Refused, Holding::Doomed, Holding::Deferred];
    let holdings = without.into_iter().chain(pins);
    for holding in holdings {
        for ahead in [Ahead::Nothing, Ahead::Reads, Ahead::Lane, Ahead::Pin] {
            for replies in [ReplyMode::On, ReplyMode::Off, ReplyMode::SkipNext, ReplyMode::Skipping] {
                for login in [LoginState::Done, LoginState::Open] {
                    go_as_listed(&calls, Standing { login, replies, ahead, holding });
                }
            }
        }
    }
}

fn go_as_listed(calls: &[(&str, Call<'_>)], standing: Standing) {
    let listed = as_listed(standing);
    // A MULTI that was asked for and is not on its way there is not.
    let is_possible = |listed: &Standing| listed.holding != Holding::Pin(Stage::MultiAsked);
    if let Some(listed) = listed.filter(is_possible) {
        assert!(LISTED.iter().any(|(_, known)| *known == listed), "{listed:?}");
    }
    for (line, call) in calls {
        let is_login = || plan(call, LISTED[0].1) != Plan::Admit;
        let expected = match listed {
            Some(listed) => plan(call, listed),
            None if standing.login == LoginState::Done => Plan::Wait,
            // A login goes as that of whoever has logged in.
            None if is_login() => plan(call, Standing { login: LoginState::Done, ..standing }),
            None => Plan::Admit,
        };
        assert_eq!(plan(call, standing), expected, "{line} {standing:?}");
    }
}

/// Before Redis has named its commands, one that the table does not have goes along a lane: it may be of a module.
#[test]
fn an_unknown_command_gets_a_pin_only_where_redis_has_named_them_all() {
    let commands = Commands::built_in();
    let request = Request::new("no-such a".to_string());
    let planned = |is_live| plan(&request.call(&commands, is_live), LISTED[1].1);
    assert_eq!(planned(false), Plan::Change(Pace::Quick));
    assert_eq!(planned(true), Plan::GetPin(PinReason::Unknown));
}
