//! Web config files, good and bad, and what is said to the bad ones.

#![expect(clippy::panic, reason = "helpers of a test fail as the test itself does")]

use std::{fmt::Write as _, path::Path};

use expect_test::{Expect, expect};
use tcp_close::http::web_config::{ClientCertificates, Pem, WebConfig};

const HASH: &str = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG";

fn parse(text: &str) -> WebConfig {
    WebConfig::parse(text, Path::new("/etc/tcp-close")).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Each text between lines of `---`, and behind `>` what is said to it.
fn check_errors(texts: &str, expected: &Expect) {
    let mut said = String::new();
    for text in texts.split("---\n").map(|text| text.trim_matches('\n')) {
        let Err(error) = WebConfig::parse(text, Path::new("/etc/tcp-close")) else {
            panic!("nothing is said to {text}");
        };
        writeln!(said, "{text}\n> {error}").expect("a string takes all");
    }
    expected.assert_eq(&said);
}

#[test]
fn nothing_said_is_plain_http_for_everybody() {
    for text in [
        "",
        "\n\n",
        "# nothing\n",
        "---\n",
        "{}",
        "tls_server_config:\n",
        "tls_server_config: {}\nbasic_auth_users: {}\nrate_limit: {}\nhttp_server_config: {}\n",
        "rate_limit:\n  interval: 0\n  burst: 0\n",
        "rate_limit: {interval: 0s, burst: 7}",
    ] {
        let config = parse(text);
        assert!(config.tls.is_none() && config.users.is_empty() && config.headers.is_empty(), "{text:?}");
        assert!(config.rate_limit.is_none() && config.http2, "{text:?}");
    }
}

#[test]
fn all_of_it_at_once() {
    let config = parse(&format!(
        "tls_server_config:
  cert_file: server.crt
  key_file: /srv/server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca/clients.crt
  min_version: TLS12
  max_version: TLS13
  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [CurveP384, X25519]
http_server_config:
  http2: false
  headers:
    X-Frame-Options: deny
    Strict-Transport-Security: max-age=31536000
basic_auth_users:
  prometheus: {HASH}
  '42': '{HASH}'
rate_limit:
  interval: 1m30s
  burst: 20
"
    ));
    let tls = config.tls.expect("TLS");
    let path = |pem: &Pem| match pem {
        Pem::File(_, path) => path.to_string_lossy().into_owned(),
        Pem::Text(..) => panic!("it is a file"),
    };
    assert_eq!(path(&tls.cert), "/etc/tcp-close/server.crt", "relative to the file's folder");
    assert_eq!(path(&tls.key), "/srv/server.key");
    let ClientCertificates::Good(ca) = &tls.clients else { panic!("they are asked for") };
    assert_eq!(path(ca), "/etc/tcp-close/ca/clients.crt");
    assert_eq!(tls.versions, 2..=3);
    assert!(!tls.server_chooses);
    let suites: Vec<_> = tls.cipher_suites.iter().filter_map(|suite| suite.suite().as_str()).collect();
    assert_eq!(
        suites,
        [
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            // Nothing was said of TLS 1.3.
            "TLS13_AES_256_GCM_SHA384",
            "TLS13_AES_128_GCM_SHA256",
            "TLS13_CHACHA20_POLY1305_SHA256",
        ]
    );
    let curves: Vec<_> = tls.curves.iter().filter_map(|curve| curve.name().as_str()).collect();
    assert_eq!(curves, ["secp384r1", "X25519"]);
    assert!(!config.http2);
    let headers: Vec<_> = config.headers.iter().map(|(name, value)| (name.as_str(), value)).collect();
    assert_eq!(headers[0], ("strict-transport-security", &"max-age=31536000".parse().expect("a value")));
    assert_eq!(headers[1], ("x-frame-options", &"deny".parse().expect("a value")));
    let users: Vec<_> = config.users.keys().map(String::as_str).collect();
    assert_eq!(users, ["42", "prometheus"]);
    let limit = config.rate_limit.expect("a limit");
    assert_eq!((limit.interval.as_secs(), limit.burst), (90, 20));
}

#[test]
fn what_is_said_to_what_is_no_such_file() {
    check_errors(
        "tls_server_config: [
---
- a
---
nonsense
---
tls_server_confg: {}
---
tls_server_config: {cert_fiel: a.crt}
---
tls_server_config: {cert_file: a.crt, cert_file: b.crt}
---
http_server_config: {http2: maybe}
---
rate_limit: {burst: -1}
---
basic_auth_users: [alice]
",
        &expect![[r"
            tls_server_config: [
            > tls_server_config: expected mapping start at line 1, column 20
            - a
            > the file: expected mapping start at line 1, column 1
            nonsense
            > the file: expected mapping start at line 1, column 1
            tls_server_confg: {}
            > tls_server_confg: unknown field `tls_server_confg`, expected one of tls_server_config, http_server_config, basic_auth_users, rate_limit at line 1, column 1
            tls_server_config: {cert_fiel: a.crt}
            > tls_server_config.cert_fiel: unknown field `cert_fiel`, expected one of cert, cert_file, key, key_file, client_ca, client_ca_file, client_auth_type, client_allowed_sans, min_version, max_version, cipher_suites, prefer_server_cipher_suites, curve_preferences at line 1, column 21
            tls_server_config: {cert_file: a.crt, cert_file: b.crt}
            > tls_server_config.?: duplicate mapping key `cert_file` is not allowed here at line 1, column 39
            http_server_config: {http2: maybe}
            > http_server_config.http2: invalid boolean at line 1, column 29
            rate_limit: {burst: -1}
            > rate_limit.burst: invalid u32 at line 1, column 21
            basic_auth_users: [alice]
            > basic_auth_users: expected mapping start at line 1, column 19
        "]],
    );
}

#[test]
fn what_is_said_to_tls_that_cannot_be_had() {
    check_errors(
        "tls_server_config: {min_version: TLS12}
---
tls_server_config: {cert_file: a.crt}
---
tls_server_config: {cert_file: a.crt, cert: text, key_file: a.key}
---
tls_server_config: {cert_file: a.crt, key_file: a.key, min_version: TLS10}
---
tls_server_config: {cert_file: a.crt, key_file: a.key, max_version: TLS11}
---
tls_server_config: {cert_file: a.crt, key_file: a.key, min_version: TLS13, max_version: TLS12}
---
tls_server_config: {cert_file: a.crt, key_file: a.key, client_auth_type: Always}
---
tls_server_config: {cert_file: a.crt, key_file: a.key, client_auth_type: RequireAndVerifyClientCert}
---
tls_server_config: {cert_file: a.crt, key_file: a.key, client_auth_type: VerifyClientCertIfGiven}
---
tls_server_config: {cert_file: a.crt, key_file: a.key, client_ca_file: ca.crt}
---
tls_server_config: {cert_file: a.crt, key_file: a.key, client_auth_type: RequireAnyClientCert, client_ca: text}
---
tls_server_config: {cert_file: a.crt, key_file: a.key, client_allowed_sans: [a.example]}
---
tls_server_config: {cert_file: a.crt, key_file: a.key, cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]}
---
tls_server_config: {cert_file: a.crt, key_file: a.key, curve_preferences: [CurveP521]}
",
        &expect![[r#"
            tls_server_config: {min_version: TLS12}
            > tls_server_config.cert_file: it is missing
            tls_server_config: {cert_file: a.crt}
            > tls_server_config.key_file: it is missing
            tls_server_config: {cert_file: a.crt, cert: text, key_file: a.key}
            > tls_server_config.cert_file: cert is given as well; one of them is enough
            tls_server_config: {cert_file: a.crt, key_file: a.key, min_version: TLS10}
            > tls_server_config.min_version: "TLS10" is not offered; it takes TLS12 or TLS13
            tls_server_config: {cert_file: a.crt, key_file: a.key, max_version: TLS11}
            > tls_server_config.max_version: "TLS11" is not offered; it takes TLS12 or TLS13
            tls_server_config: {cert_file: a.crt, key_file: a.key, min_version: TLS13, max_version: TLS12}
            > tls_server_config.min_version: it is above max_version
            tls_server_config: {cert_file: a.crt, key_file: a.key, client_auth_type: Always}
            > tls_server_config.client_auth_type: "Always" is not offered; it takes NoClientCert, RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert
            tls_server_config: {cert_file: a.crt, key_file: a.key, client_auth_type: RequireAndVerifyClientCert}
            > tls_server_config.client_ca_file: it is missing
            tls_server_config: {cert_file: a.crt, key_file: a.key, client_auth_type: VerifyClientCertIfGiven}
            > tls_server_config.client_ca_file: it is missing
            tls_server_config: {cert_file: a.crt, key_file: a.key, client_ca_file: ca.crt}
            > tls_server_config.client_ca_file: it says nothing without client_auth_type VerifyClientCertIfGiven or RequireAndVerifyClientCert
            tls_server_config: {cert_file: a.crt, key_file: a.key, client_auth_type: RequireAnyClientCert, client_ca: text}
            > tls_server_config.client_ca: it says nothing without client_auth_type VerifyClientCertIfGiven or RequireAndVerifyClientCert
            tls_server_config: {cert_file: a.crt, key_file: a.key, client_allowed_sans: [a.example]}
            > tls_server_config.client_allowed_sans: it is not supported
            tls_server_config: {cert_file: a.crt, key_file: a.key, cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]}
            > tls_server_config.cipher_suites: "TLS_RSA_WITH_AES_128_CBC_SHA" is not offered; it takes TLS_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256, TLS_CHACHA20_POLY1305_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
            tls_server_config: {cert_file: a.crt, key_file: a.key, curve_preferences: [CurveP521]}
            > tls_server_config.curve_preferences: "CurveP521" is not offered; it takes X25519, CurveP256, CurveP384
        "#]],
    );
}

#[test]
fn what_is_said_to_the_rest_that_cannot_be_honored() {
    check_errors(
        &r#"http_server_config: {headers: {Server: Apache}}
---
http_server_config: {headers: {X-Frame-Options: allow}}
---
http_server_config: {headers: {X-Content-Type-Options: sniff}}
---
http_server_config: {headers: {Content-Security-Policy: "a\nb"}}
---
basic_auth_users: {alice: secret}
---
basic_auth_users: {alice: }
---
basic_auth_users: {'a:b': HASH}
---
basic_auth_users: {alice: $2y$20$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG}
---
basic_auth_users: {alice: $2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7z!}
---
rate_limit: {interval: soon, burst: 1}
---
rate_limit: {interval: -1s, burst: 1}
---
rate_limit: {interval: 25h, burst: 1}
---
rate_limit: {interval: 1s}
---
rate_limit: {interval: 1s, burst: 0}
---
rate_limit: {burst: 5}
"#
        .replace("HASH", HASH),
        &expect![[r#"
            http_server_config: {headers: {Server: Apache}}
            > http_server_config.headers: "Server" is not offered; headers are Content-Security-Policy, Strict-Transport-Security, X-Content-Type-Options, X-Frame-Options, X-XSS-Protection
            http_server_config: {headers: {X-Frame-Options: allow}}
            > http_server_config.headers.X-Frame-Options: "allow" is not offered; it takes deny or sameorigin
            http_server_config: {headers: {X-Content-Type-Options: sniff}}
            > http_server_config.headers.X-Content-Type-Options: "sniff" is not offered; it takes nosniff
            http_server_config: {headers: {Content-Security-Policy: "a\nb"}}
            > http_server_config.headers.Content-Security-Policy: it is no value of a header
            basic_auth_users: {alice: secret}
            > basic_auth_users.alice: it is no bcrypt hash; `htpasswd -nBC 10 ""` makes one
            basic_auth_users: {alice: }
            > basic_auth_users.alice: null is not allowed here at line 1, column 25
            basic_auth_users: {'a:b': $2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG}
            > basic_auth_users.a:b: a name that has a colon cannot be sent
            basic_auth_users: {alice: $2y$20$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG}
            > basic_auth_users.alice: a check at cost 20 takes longer than a request may; at most 16 is possible
            basic_auth_users: {alice: $2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7z!}
            > basic_auth_users.alice: it is no bcrypt hash; `htpasswd -nBC 10 ""` makes one
            rate_limit: {interval: soon, burst: 1}
            > rate_limit.interval: "soon" is no time; it takes a number with a unit, such as 100ms or 1s
            rate_limit: {interval: -1s, burst: 1}
            > rate_limit.interval: "-1s" is no time; it takes a number with a unit, such as 100ms or 1s
            rate_limit: {interval: 25h, burst: 1}
            > rate_limit.interval: "25h" is not offered; it takes at most 24h
            rate_limit: {interval: 1s}
            > rate_limit.burst: it is missing
            rate_limit: {interval: 1s, burst: 0}
            > rate_limit.burst: it must be at least 1
            rate_limit: {burst: 5}
            > rate_limit.burst: it says nothing without interval
        "#]],
    );
}
