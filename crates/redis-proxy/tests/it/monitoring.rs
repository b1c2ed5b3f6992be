//! `deploy/`: the dashboard and the alert rules, as those understand them who are to.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testkit::{Cluster, wait_until};

use crate::prometheus_server::{Prometheus, installed};
use crate::support::{program, start_resp_in, wait_in_force};

const PATIENCE: Duration = Duration::from_secs(60);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(file: &str) -> String {
    fs::read_to_string(repository().join(file)).unwrap()
}

fn rules() -> PathBuf {
    repository().join("deploy/prometheus/alerts.yml")
}

/// The names of all alerts.
fn alerts() -> BTreeSet<String> {
    let text = fs::read_to_string(rules()).unwrap();
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/redis-proxy.json")).unwrap()
}

/// All expressions of the dashboard, as Grafana asks them for all instances.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(expression) = fields.get("expr").and_then(Value::as_str) {
                let variables = [("$job", ".*"), ("$instance", ".*"), ("$__rate_interval", "1m")];
                let asked = variables
                    .iter()
                    .fold(expression.to_owned(), |text, (name, value)| text.replace(name, value));
                found.push(asked);
            }
            fields.values().for_each(|field| expressions(field, found));
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

/// What a rule compares with a number: the condition without its comparisons, which hold for nothing while all is well.
fn compared(query: &str) -> Vec<&str> {
    let conditions = query.split(" and ");
    let sides = conditions.map(|condition| {
        let at = [" > ", " < ", " == "].iter().filter_map(|sign| condition.rfind(sign)).max();
        condition[..at.expect("a comparison")].trim()
    });
    sides.collect()
}

#[test]
fn every_expression_of_the_dashboard_and_of_the_rules_finds_what_it_names() {
    let (redis, proxy) = start_resp_in("tracking", &[("CAPACITY_BYTES", "64MiB")]);
    redis.client().set("k", "v");
    for path in ["/k", "/k", "/absent"] {
        proxy.get(path);
    }
    let cluster = Cluster::start();
    let before_cluster = program()
        .cluster(&cluster)
        .set("COHERENCE", "tracking")
        .set("MAX_STALENESS", "5s")
        .allow_warning("coherence is not in force")
        .start();
    before_cluster.get("/k");
    wait_in_force(&before_cluster);
    let Some(prometheus) = Prometheus::start(&[&proxy, &before_cluster], Some(&rules())) else { return };
    wait_until(PATIENCE, "three scrapes of both", || {
        prometheus.query("min(count_over_time(redis_proxy_entries[1m]))").is_some_and(|count| count >= 3.0)
            && prometheus.query("count(redis_proxy_entries)") == Some(2.0)
    });

    let mut wrong = Vec::new();
    let mut look = |query: &str| match prometheus.series(query) {
        Ok(series) if series.is_empty() => wrong.push(format!("finds nothing: {query}")),
        Ok(_) => {}
        Err(why) => wrong.push(format!("{why}: {query}")),
    };
    let mut asked = Vec::new();
    expressions(&dashboard(), &mut asked);
    assert!(asked.len() > 60, "{} expressions in the dashboard", asked.len());
    // An annotation is drawn where its condition holds.
    asked.iter().for_each(|query| look(query.trim_end_matches(" > 0")));

    let evaluated = |rule: &Value| rule["health"] == "ok" || rule["health"] == "err";
    let told = || -> Option<Vec<Value>> {
        let groups = prometheus.get("/api/v1/rules")?;
        Some(
            groups["data"]["groups"]
                .as_array()?
                .iter()
                .flat_map(|group| group["rules"].as_array().unwrap().clone())
                .collect(),
        )
    };
    wait_until(PATIENCE, "all rules to be evaluated", || {
        told().is_some_and(|rules| rules.iter().all(evaluated))
    });
    let rules = told().unwrap();
    let names: BTreeSet<_> = rules.iter().map(|rule| rule["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, alerts());
    for rule in &rules {
        compared(rule["query"].as_str().unwrap()).into_iter().for_each(&mut look);
    }
    let not_well = |rule: &&Value| rule["health"] != "ok" || rule["state"] == "firing";
    wrong.extend(rules.iter().filter(not_well).map(|rule| format!("while all is well: {rule}")));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_rules_are_right_by_promtool_and_each_is_set_off_by_its_test() {
    let Some(promtool) = installed("promtool") else { return };
    for (what, file) in [("check", "alerts.yml"), ("test", "alerts_test.yml")] {
        let mut command = Command::new(&promtool);
        let output =
            command.args([what, "rules", file]).current_dir(rules().parent().unwrap()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let tests = read("deploy/prometheus/alerts_test.yml");
    for alert in alerts() {
        let (_, test) = tests
            .split_once(&format!("- alertname: {alert}\n"))
            .unwrap_or_else(|| panic!("no test of {alert}"));
        let own = test.split("alertname: ").next().unwrap_or_default();
        assert!(
            own.contains("exp_labels: {") && own.contains("instance: bad"),
            "nothing sets off {alert}: {own}"
        );
        assert!(!own.contains("instance: good"), "{own}");
    }
}

#[test]
fn the_operator_is_told_of_each_alert_what_it_means_and_what_to_do() {
    let page = read("docs/operations.md");
    let (_, section) = page.split_once("### Alerts\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let told: BTreeSet<_> = rows
        .map(|(alert, cells)| {
            let filled = cells.split(" | ").filter(|cell| cell.trim_matches([' ', '|']).len() > 2).count();
            assert_eq!(filled, 3, "{alert}: what it means, what to look at, what to do");
            alert.to_owned()
        })
        .collect();
    assert_eq!(told, alerts());
    // A panel may name an alert.
    let text = dashboard().to_string();
    for named in text.split("RedisProxy").skip(1) {
        let name = named.split(|part: char| !part.is_ascii_alphanumeric()).next().unwrap();
        assert!(told.contains(&format!("RedisProxy{name}")), "the dashboard names RedisProxy{name}");
    }
}

#[test]
fn panels_of_the_dashboard_have_places_of_their_own_and_say_their_units() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        let title = &panel["title"];
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another one's");
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{title} is wider than the page");
        for cell in
            (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
        {
            assert!(taken.insert(cell), "{title} lies on another one");
        }
        if panel["type"] != "row" {
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
            let targets = panel["targets"].as_array().unwrap();
            let named = targets
                .iter()
                .all(|target| target["legendFormat"].as_str().is_some_and(|name| !name.is_empty()));
            assert!(named && !targets.is_empty(), "{title}: what is drawn has no name");
        }
    }
}
