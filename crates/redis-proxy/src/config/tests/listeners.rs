//! Where we listen, and what is spoken there.

use super::*;
use crate::tls::PortName;

fn pair(folder: &tempfile::TempDir, name: &str) -> [String; 2] {
    let signed = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let cert = file(folder, &format!("{name}.pem"), &signed.cert.pem());
    [cert, file(folder, &format!("{name}.key"), &signed.signing_key.serialize_pem())]
}

#[test]
fn a_unix_socket_stands_in_place_of_a_host_and_its_port() {
    let read = settings(&[], &[("HOST", "unix:/run/http.sock"), ("RESP_HOST", "unix:/run/resp.sock")]);
    assert_eq!(read.http, Some(ListenAddress::Unix("/run/http.sock".into())));
    assert!(read.http.unwrap().is_local() && read.resp.unwrap().is_local());
    assert_eq!(settings(&[], &[("SOCKET_MODE", "666")]).socket_mode, 0o666);
    assert_eq!(Settings::default().socket_mode, 0o660);
    let long = format!("unix:/{}", "x".repeat(107));
    let cases: [(Pairs<'_>, &str); 9] = [
        (&[("HOST", "unix:/s"), ("PORT", "5000")], "HOST (environment) and PORT (environment) are both set"),
        (&[("ADMIN_HOST", "unix:/s"), ("ADMIN_PORT", "off")], "a unix socket has no port"),
        (
            &[("HOST", "unix:/s"), ("RESP_HOST", "unix:/s")],
            "HOST=unix:/s and RESP_HOST=unix:/s: expected two",
        ),
        (&[("HOST", "unix:relative")], "unix:/path"),
        (&[("HOST", "unix:")], "unix:/path"),
        (&[("HOST", &long)], "107 bytes"),
        (&[("REDIS_HOST", "unix:/s")], "REDIS_HOST="),
        (&[("SOCKET_MODE", "0060")], "octal"),
        (&[("SOCKET_MODE", "0o660")], "octal"),
    ];
    for (env, expected) in cases {
        assert!(error(&[], env).contains(expected), "{env:?}: {}", error(&[], env));
    }
}

#[test]
fn tls_is_spoken_where_it_is_told_to_and_asks_for_certificates_there_alone() {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = pair(&folder, "a");
    let tls = |more: Pairs<'_>| {
        let all = [&[("TLS_CERT", cert.as_str()), ("TLS_KEY", key.as_str())], more].concat();
        let settings = settings(&[], &all).tls.unwrap().settings().clone();
        (settings.ports, settings.client_ports)
    };
    let [http, resp, admin] = PortName::ALL;
    let ca = ("TLS_CLIENT_CA", cert.as_str());
    let cases: [(Pairs<'_>, &[PortName], &[PortName]); 6] = [
        (&[], &[http, resp], &[]),
        (&[("TLS_PORTS", "admin,http")], &[http, admin], &[]),
        (&[ca], &[http, resp], &[http, resp]),
        (&[ca, ("TLS_PORTS", "http, admin")], &[http, admin], &[http]),
        (&[ca, ("TLS_CLIENT_PORTS", "resp")], &[http, resp], &[resp]),
        (&[ca, ("TLS_PORTS", "admin"), ("TLS_CLIENT_PORTS", "admin")], &[admin], &[admin]),
    ];
    for (more, ports, client_ports) in cases {
        assert_eq!(tls(more), (ports.to_vec(), client_ports.to_vec()), "{more:?}");
    }
    assert!(Settings::default().tls.is_none());
}

#[test]
fn tls_that_cannot_be_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = pair(&folder, "a");
    let [_, other_key] = pair(&folder, "b");
    let (cert, key, other_key) =
        (("TLS_CERT", cert.as_str()), ("TLS_KEY", key.as_str()), ("TLS_KEY", other_key.as_str()));
    let ca = ("TLS_CLIENT_CA", cert.1);
    let cases: [(Pairs<'_>, &str); 13] = [
        (&[cert], "TLS_CERT (environment) is set without TLS_KEY"),
        (&[key], "TLS_KEY (environment) is set without TLS_CERT"),
        (&[("TLS_PORTS", "http")], "TLS_PORTS (environment) is set without TLS_CERT"),
        (&[ca], "TLS_CLIENT_CA (environment) is set without TLS_CERT"),
        (&[cert, other_key], "TLS_KEY is not that of"),
        (&[cert, ("TLS_KEY", cert.1)], "TLS_KEY: no private key"),
        (&[cert, ("TLS_KEY", "/nowhere")], "TLS_KEY=\"/nowhere\""),
        (
            &[cert, key, ("TLS_PORTS", "https")],
            "TLS_PORTS=\"https\" (environment) is not accepted: expected http, resp, admin",
        ),
        (&[cert, key, ("TLS_PORTS", "http,")], "TLS_PORTS="),
        (&[cert, key, ("TLS_PORTS", "resp"), ("RESP_HOST", "unix:/s")], "a unix socket is always plain"),
        (
            &[cert, key, ("TLS_CLIENT_PORTS", "http")],
            "TLS_CLIENT_PORTS (environment) is set without TLS_CLIENT_CA",
        ),
        (
            &[cert, key, ca, ("TLS_CLIENT_PORTS", "admin")],
            "TLS_CLIENT_PORTS names admin, which is not among TLS_PORTS",
        ),
        (&[cert, key, ("TLS_CLIENT_CA", key.1)], "TLS_CLIENT_CA: there is no certificate"),
    ];
    for (env, expected) in cases {
        let text = error(&[], env);
        assert!(text.contains(expected) && !text.contains("BEGIN"), "{env:?}: {text}");
    }
}

#[test]
fn the_proxys_user_is_lent_off_loopback_only_to_those_who_show_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = pair(&folder, "a");
    let lent = |more: Pairs<'_>| {
        let tls = [("TLS_CERT", cert.as_str()), ("TLS_KEY", key.as_str()), ("RESP_IDENTITY", "proxy")];
        load_with(&[], &[&tls[..], more].concat()).map_err(|error| error.to_string())
    };
    let (off, ca) = (("RESP_HOST", "0.0.0.0"), ("TLS_CLIENT_CA", cert.as_str()));
    for more in [&[off, ca][..], &[ca], &[("RESP_HOST", "unix:/run/resp.sock")], &[("RESP_HOST", "::1")]] {
        assert!(lent(more).is_ok(), "{more:?}");
    }
    for more in [
        &[off][..],
        &[off, ca, ("TLS_PORTS", "http")],
        &[off, ca, ("TLS_CLIENT_PORTS", "http")],
        &[("RESP_HOST", "redis.example")],
    ] {
        let error = lent(more).unwrap_err();
        assert!(
            error.contains("RESP_IDENTITY=proxy") && error.contains("TLS_CLIENT_CA"),
            "{more:?}: {error}"
        );
    }
    // A port that is off lends nothing.
    assert!(lent(&[off, ("RESP_PORT", "off")]).is_ok());
}
