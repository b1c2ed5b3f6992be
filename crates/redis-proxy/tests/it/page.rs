//! The page of the admin port, in Chromium: live, through a restart, whatever keys are called, in every size.

use serde_json::{Value, json};
use testkit::{HttpClient, Proxy, ProxyBuilder, RedisServer};

use crate::chromium::{Browser, is_installed};
use crate::support::{lateness, program, random_numbers};

const TOKEN: &str = "page-planted-0001";

fn url(proxy: &Proxy) -> String {
    format!("http://127.0.0.1:{}/", proxy.admin_address().port())
}

fn watched(redis: &RedisServer) -> ProxyBuilder {
    // Beside a browser that starts a worker may be late.
    program().redis(redis).set("ADMIN_TOKEN", TOKEN).set("REDIS_CONNECT_TIMEOUT", "10s")
}

/// What a tile shows.
fn tile(name: &str) -> String {
    let tiles = "[...document.querySelectorAll('.tile')]";
    format!(
        "{tiles}.find(tile => tile.querySelector('h3').textContent === '{name}').querySelector('.value').textContent"
    )
}

const IS_LIVE: &str =
    "document.getElementById('state').dataset.state === 'live' && !document.getElementById('main').hidden";
const IS_LOST: &str = "document.getElementById('state').dataset.state === 'lost'";
const IS_WIDE: &str = "document.documentElement.scrollWidth > innerWidth";

/// Texts whose contrast against what is behind them is below 4.5:1 (WCAG 2.1, 1.4.3).
const PALE: &str = r#"(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const rgba = color => {
    if (known.has(color)) return known.get(color);
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    known.set(color, [...canvas.getImageData(0, 0, 1, 1).data]);
    return known.get(color);
  };
  const light = ([r, g, b]) => {
    const linear = [r, g, b].map(part => part / 255).map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const pale = [];
  for (const element of document.querySelectorAll("body *")) {
    const hasText = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!hasText || !element.checkVisibility() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    let behind = element, back = rgba(getComputedStyle(behind).backgroundColor);
    while (back[3] < 255 && behind.parentElement) {
      behind = behind.parentElement;
      back = rgba(getComputedStyle(behind).backgroundColor);
    }
    const [one, other] = [light(rgba(getComputedStyle(element).color)), light(back)];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) pale.push(`${element.tagName} ${element.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return pale;
})()"#;

#[test]
fn without_its_token_the_page_shows_nothing_and_with_it_what_happens_now() {
    if !is_installed() {
        return;
    }
    let redis = RedisServer::start();
    redis.client().set("k", "value");
    let proxy = watched(&redis).start();
    let mut browser = Browser::start();
    browser.open(&url(&proxy));
    // It asks for the token where one would write it.
    browser.wait_for("!document.getElementById('ask').hidden && document.activeElement.id === 'token'");
    assert_eq!(browser.value("document.getElementById('main').hidden"), true);
    browser.write("not-the-token");
    browser.press("Enter");
    browser.wait_for("document.getElementById('why').textContent.includes('not the token')");
    browser.wait_for("document.activeElement.id === 'token'");
    browser.write(TOKEN);
    browser.press("Enter");
    browser.wait_for(IS_LIVE);
    // It is in no address and on no disk.
    assert_eq!(
        browser.value("location.href + JSON.stringify(localStorage) + document.cookie"),
        format!("{}{{}}", url(&proxy))
    );
    assert_eq!(browser.value("Object.values(sessionStorage).join()"), TOKEN);
    browser.wait_for(&format!("{} === '0'", tile("Requests a second")));
    let mut client = proxy.client();
    let (asked, seen) = std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let load = scope.spawn(move || {
            let mut asked = 0;
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                assert_eq!(client.get("/k").status, 200);
                asked += 1;
            }
            asked
        });
        let (late, begun) = (lateness(), std::time::Instant::now());
        browser.wait_for(&format!("parseFloat({}) > 0", tile("Requests a second")));
        let seen = begun.elapsed().saturating_sub(10 * late());
        browser.wait_for(&format!("parseFloat({}) > 90", tile("Hit ratio")));
        browser.wait_for(&format!("{}.includes('s')", tile("Hit, slowest hundredth")));
        drop(stop);
        (load.join().expect("a load"), seen)
    });
    assert!(asked > 0 && seen < std::time::Duration::from_secs(2), "numbers changed after {seen:?}");
    assert_eq!(
        browser.value("document.getElementById('health').innerText.includes('✓ Redis at 127.0.0.1')"),
        true
    );
    // By the keyboard alone: all that can be used is reached, in the order in which it stands.
    let focused: Vec<_> = (0..12)
        .map(|_| {
            browser.press("Tab");
            let focused = "document.activeElement.id || document.activeElement.className || document.activeElement.tagName";
            browser.value(focused).as_str().unwrap_or_default().to_owned()
        })
        .collect();
    let order = ["skip", "pause", "forget", "SUMMARY", "A", "A"];
    assert!(focused.windows(order.len()).any(|window| window == order), "{focused:?}");
    browser.value("document.getElementById('pause').focus()");
    browser.press("Enter");
    assert_eq!(browser.value("document.getElementById('pause').getAttribute('aria-pressed')"), "true");
    browser.press("Enter");
    // A restart on the same port.
    let port = proxy.admin_address().port();
    proxy.stop();
    browser.wait_for(IS_LOST);
    assert_eq!(browser.value("document.body.classList.contains('stale')"), true);
    assert_eq!(browser.value(PALE), json!([]));
    let again = watched(&redis).set("ADMIN_PORT", port.to_string()).start();
    browser.wait_for(IS_LIVE);
    assert_eq!(browser.value("document.body.classList.contains('stale')"), false);
    // What folds does so by the keyboard.
    let folds = browser.value("document.querySelectorAll('summary').length").as_u64().expect("a number");
    assert!(folds > 0);
    for fold in 0..folds {
        let summary = format!("document.querySelectorAll('summary')[{fold}]");
        for (key, is_open) in [("Enter", true), (" ", false)] {
            browser.value(&format!("{summary}.focus()"));
            browser.press(key);
            assert_eq!(browser.value(&format!("{summary}.parentElement.open")), is_open, "{fold}, {key}");
        }
    }
    // Forgotten, it is asked for anew, and nothing stays.
    browser.value("document.getElementById('forget').focus()");
    browser.press("Enter");
    browser.wait_for("!document.getElementById('ask').hidden");
    assert_eq!(browser.value("document.getElementById('main').hidden && sessionStorage.length === 0"), true);
    // What was refused or lost is a line of the console each, of the network and of nothing else.
    for complaint in &browser.complaints {
        assert_eq!(complaint["entry"]["source"], "network", "{complaint}");
    }
    drop(again);
}

/// Names that somebody may give to a key in order to do harm.
fn hostile_names() -> Vec<String> {
    let kinds: [fn(usize) -> String; 10] = [
        |number| format!("<script>window.harmed = {number}</script>"),
        |number| format!("<img src=x onerror=\"window.harmed = {number}\">"),
        |number| format!("\"><svg onload=window.harmed={number}>"),
        |number| format!("javascript:window.harmed={number}"),
        |number| format!("</table></section><style>body{{display:none}}</style>{number}"),
        |number| format!("\u{202e}\u{2066}txet{number}\u{200f}"),
        |number| "x".repeat(10_000) + &number.to_string(),
        |number| "a\u{301}\u{302}\u{303}".repeat(200) + &number.to_string(),
        |number| format!("\u{fdfd}{}\n\n\t{number}", "\u{fdfd}".repeat(60)),
        |number| {
            format!("{{{{constructor.constructor('window.harmed={number}')()}}}}${{window.harmed={number}}}")
        },
    ];
    (0..500).map(|number| kinds[number % kinds.len()](number)).collect()
}

/// What the program tells, with lists of such names in it.
fn with_names(proxy: &Proxy, names: &[String]) -> Value {
    let answer = HttpClient::connect(proxy.admin_address()).request(
        "GET",
        "/insight.json",
        &[("Authorization", &format!("Bearer {TOKEN}"))],
    );
    let mut told: Value = serde_json::from_str(answer.text()).expect("JSON");
    let list = |count, line: fn(&String) -> Value| names.iter().take(count).map(line).collect::<Value>();
    told["hot_keys"] = list(names.len(), |name| {
        json!({ "key": name, "partition": 1, "reads_per_s": 12345.6, "error_per_s": 78.9, "share": 0.5,
            "hit_ratio": 0.987, "bytes": 123456, "left_ms": 59000 })
    });
    told["hot_misses"] = list(
        20,
        |name| json!({ "key": name, "partition": 0, "reason": "evicted", "misses_per_s": 1234.5, "error_per_s": 6.7 }),
    );
    told["prefixes"] = list(
        20,
        |name| json!({ "prefix": name, "reads_per_s": 1.5, "error_per_s": 0.1, "hit_ratio": 0.9, "bytes": 1, "invalidations_per_s": 0.0 }),
    );
    told["slow_log"] = list(20, |name| {
        json!({ "id": 1, "at_ms": 1_764_500_000_000_u64, "total_us": 12345, "queued_us": 1, "redis_us": 12000,
            "delivered_us": 344, "client": "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535", "arguments": ["GET", name] })
    });
    told
}

/// The same where Redis is away.
fn in_trouble(mut told: Value) -> Value {
    let why = "cannot connect to redis at 127.0.0.1:6379: connection refused";
    (told["upstreams"][0]["connected"], told["upstreams"][0]["why_not"]) = (false.into(), why.into());
    (told["coherence"]["in_force"], told["coherence"]["why_not"]) = (false.into(), why.into());
    told
}

#[test]
fn names_that_mean_harm_are_text_in_every_size_and_colour() {
    if !is_installed() {
        return;
    }
    let redis = RedisServer::start();
    let proxy = watched(&redis).start();
    let mut browser = Browser::start();
    browser.open(&url(&proxy));
    browser.value(&format!("sessionStorage.setItem('redis-proxy admin token', '{TOKEN}')"));
    browser.open(&url(&proxy));
    browser.wait_for(IS_LIVE);
    // What comes meanwhile is not drawn over it.
    browser.value("document.getElementById('pause').click()");
    let names = hostile_names();
    let told = with_names(&proxy, &names);
    let shown = |told: &Value| {
        format!(
            "document.getElementById('pause').click(); show({told}); document.getElementById('pause').click()"
        )
    };
    // First as it is told where Redis is away, and of a few names.
    browser.value(&shown(&in_trouble(with_names(&proxy, &names[..10]))));
    let alarms = "[...document.querySelectorAll('#health .bad')].map(line => line.innerText).join()";
    let alarms = browser.value(alarms).as_str().unwrap_or_default().to_owned();
    assert!(alarms.contains("not in force") && alarms.contains("connection refused"), "{alarms}");
    for (width, scheme) in [(320, "light"), (320, "dark"), (2_560, "light"), (2_560, "dark")] {
        browser.show_as(width, 900, scheme);
        assert_eq!(browser.value(PALE), json!([]), "{width} px, {scheme}");
        assert_eq!(browser.value(IS_WIDE), false, "{width} px wide, in {scheme}, the page is wider");
    }
    browser.value(&shown(&told));
    assert_eq!(browser.value("document.querySelectorAll('#hot_keys .key').length"), 500);
    for (width, height) in [(320, 640), (800, 900), (2_560, 1_300)] {
        for scheme in ["light", "dark"] {
            browser.show_as(width, height, scheme);
            assert_eq!(browser.value(IS_WIDE), false, "{width} px wide, in {scheme}, the page is wider");
            if width < 2_000 {
                assert_eq!(browser.value(PALE), json!([]), "{width} px, {scheme}");
            }
            if let Some(folder) = std::env::var_os("PHOTOGRAPHS_OF_NAMES") {
                let path = std::path::Path::new(&folder).join(format!("{width}-{scheme}.png"));
                std::fs::write(path, browser.photograph()).expect("a file");
            }
        }
    }
    let shown = browser.value("document.querySelector('#hot_keys .key').textContent");
    assert_eq!(shown, names[0].as_str());
    assert_eq!(browser.value("typeof window.harmed"), "undefined");
    assert_eq!(
        browser
            .value("document.querySelectorAll('main script, main img, main style, main svg[onload]').length"),
        0
    );
    // A script that somebody gets into the page all the same is not run.
    let tried = "(() => { try { document.body.innerHTML += '<img src=x onerror=\"window.harmed=1\">' } catch { return 'refused' } })()";
    assert_eq!(browser.value(tried), "refused");
    let tried = "(() => { try { document.body.setAttribute('onclick', 'window.harmed = 1') } catch { return 'refused' } })()";
    assert_eq!(browser.value(tried), "refused");
    assert_eq!(browser.value("typeof window.harmed"), "undefined");
}

/// `PHOTOGRAPHS=$PWD/docs cargo test -p redis-proxy --test it -- page::the_pictures` takes those of the documents anew.
#[test]
fn the_pictures_of_the_documents_are_taken_where_that_is_asked_for() {
    let Some(folder) = std::env::var_os("PHOTOGRAPHS").filter(|_| is_installed()) else { return };
    let redis = RedisServer::start();
    let mut writer = redis.client();
    let key = |number: usize| match number % 3 {
        0 => format!("user:{number}"),
        1 => format!("session:{number}"),
        _ => format!("product:{number}:price"),
    };
    (0..400).for_each(|number| writer.set(key(number), "x".repeat(20 + number * 7 % 900)));
    let proxy = watched(&redis)
        .set("COHERENCE", "tracking")
        .set("RESP_PORT", "0")
        .set("CAPACITY", "150")
        .set("SLOWLOG_THRESHOLD", "2ms")
        .start();
    let mut browser = Browser::start();
    browser.show_as(1_280, 1_900, "light");
    browser.open(&url(&proxy));
    browser.value(&format!("sessionStorage.setItem('redis-proxy admin token', '{TOKEN}')"));
    browser.open(&url(&proxy));
    browser.wait_for(IS_LIVE);
    let mut random = random_numbers();
    let (mut http, mut resp) = (proxy.client(), proxy.redis_client());
    let begun = std::time::Instant::now();
    let mut rounds = 0_u32;
    while begun.elapsed() < std::time::Duration::from_secs(30) {
        // The lower a number, the likelier: the lowest of three, and fewer at a time each while.
        let number = random(400).min(random(400)).min(random(401));
        http.get_key(key(number));
        resp.command(&["GET", &key(random(400).min(random(400)))]);
        rounds += 1;
        if rounds.is_multiple_of(50) {
            writer.set(key(random(30)), "changed");
            std::thread::sleep(std::time::Duration::from_millis(3 + u64::from(rounds / 200 % 9)));
        }
        if rounds.is_multiple_of(3_000) {
            resp.command(&["EVAL", "local n = 0 for i = 1, 200000 do n = n + i end return n", "0"]);
        }
    }
    for scheme in ["light", "dark"] {
        browser.show_as(1_280, 1_900, scheme);
        let path = std::path::Path::new(&folder).join(format!("page-{scheme}.png"));
        std::fs::write(path, browser.photograph()).expect("a file");
    }
}
