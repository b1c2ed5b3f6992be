//! A password that a program prints.

use upstream::Secret;

use super::{Pairs, error, file, load_with, printed, settings};
use crate::config::{Invocation, PASSWORD_OF_COMMAND};

const PRINTS: (&str, &str) = ("REDIS_PASSWORD_COMMAND", "printf 'SECRET pw\\n'");

#[test]
fn the_password_is_what_the_command_prints() {
    let login = |env: Pairs<'_>| {
        let redis = settings(&[], env).redis;
        assert!(redis.login.source.is_some(), "it is asked again");
        (redis.login.username, redis.login.password.expect("a password"))
    };
    let password = Secret::new("SECRET pw");
    assert_eq!(login(&[PRINTS]), (None, password.clone()));
    assert_eq!(login(&[PRINTS, ("REDIS_USERNAME", "u")]), (Some("u".into()), password.clone()));
    assert_eq!(login(&[PRINTS, ("REDIS_URL", "redis://u@h")]), (Some("u".into()), password.clone()));
    assert_eq!(login(&[PRINTS, ("REDIS_URL", "unix://u@/r.sock")]), (Some("u".into()), password.clone()));
    let sentinels = ("REDIS_URL", "redis+sentinel://u@h1/m");
    assert_eq!(login(&[PRINTS, sentinels]), (Some("u".into()), password.clone()));
    assert!(
        settings(&[], &[PRINTS, sentinels]).nodes.sentinels().cloned().expect("sentinels").password.is_none()
    );
    let text = error(&[], &[PRINTS, sentinels, ("REDIS_SENTINEL_USERNAME", "u")]);
    assert!(text.contains("without REDIS_SENTINEL_PASSWORD"), "it is Redis' own: {text}");
}

#[test]
fn a_command_excludes_any_other_password_and_is_not_run_then() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, url) = (file(&dir, "secret", "SECRET"), file(&dir, "url", "redis://:SECRET@h"));
    let mark = dir.path().join("mark");
    let command = ("REDIS_PASSWORD_COMMAND", format!("touch {}", mark.display()));
    for other in [
        ("REDIS_PASSWORD", "SECRET"),
        ("REDIS_PASSWORD_FILE", &secret),
        ("REDIS_URL", "redis://:SECRET@h"),
        ("REDIS_URL", "redis+sentinel://u:SECRET@h/m"),
        ("REDIS_URL_FILE", &url),
        ("WITH_REDIS", "on"),
    ] {
        let text = error(&[], &[(command.0, &command.1), other]);
        let names = [format!("{} (environment)", other.0), "REDIS_PASSWORD_COMMAND (environment)".into()];
        assert!(names.iter().all(|name| text.contains(name)) && text.contains("are both set"), "{text}");
    }
    assert!(!mark.exists(), "it was run");
    assert!(!settings(&[], &[PRINTS, ("WITH_REDIS", "auto")]).with_redis, "a login is for another Redis");
}

#[test]
fn a_command_that_gives_no_password_is_an_error_in_words() {
    for (command, why) in [
        ("false", "ended with exit status: 1"),
        ("true", "prints no password: its first line is empty"),
        ("/nowhere/get-token SECRET", "cannot be started: No such file or directory (os error 2)"),
    ] {
        for args in [&[][..], &["--check-config"], &["--print-config"]] {
            let text = error(args, &[("REDIS_PASSWORD_COMMAND", command)]);
            assert_eq!(text, format!("REDIS_PASSWORD_COMMAND (environment) {why}"));
        }
    }
    for text in ["echo 'SECRET", "''"] {
        let text = error(&[], &[("REDIS_PASSWORD_COMMAND", text)]);
        assert!(text.starts_with("REDIS_PASSWORD_COMMAND=\"***\" (environment) is not accepted"), "{text}");
    }
}

#[test]
fn whoever_asks_for_health_asks_for_no_password() {
    let env = [("REDIS_PASSWORD_COMMAND", "false"), ("REDIS_USERNAME", "u")];
    assert!(matches!(load_with(&["--check-health"], &env), Ok(Invocation::CheckHealth(_))));
}

#[test]
fn print_config_shows_neither_arguments_nor_password() {
    let text = printed(&["--print-config"], &[("REDIS_PASSWORD_COMMAND", "echo 'SECRET pw'")]);
    assert!(!text.contains("SECRET") && text.contains("REDIS_PASSWORD_COMMAND = \"echo ***\""), "{text}");
    assert!(text.contains("# printed by REDIS_PASSWORD_COMMAND, environment"), "{text}");
    assert!(text.contains("with a password"), "{text}");
}

#[test]
fn another_password_needs_no_restart_and_another_command_does() {
    let named = |command| settings(&[], &[("REDIS_PASSWORD_COMMAND", command)]).named;
    assert_eq!(
        named("printf b").differing(&named("printf a")),
        ["REDIS_PASSWORD_COMMAND", PASSWORD_OF_COMMAND].into_iter().rev().collect::<Vec<_>>()
    );
    assert_eq!(named("printf 'a'").differing(&named("printf a")), ["REDIS_PASSWORD_COMMAND"]);
}
