//! Any text is a web config file or an error in one line; what is taken holds what it promises.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tcp_close::http::web_config::{Pem, WebConfig};

fuzz_target!(|text: &str| {
    let folder = Path::new("/etc/tcp-close");
    match WebConfig::parse(text, folder) {
        Ok(config) => {
            if let Some(tls) = &config.tls {
                assert!(!tls.versions.is_empty() && !tls.cipher_suites.is_empty() && !tls.curves.is_empty());
                for pem in [&tls.cert, &tls.key] {
                    assert!(!matches!(pem, Pem::File(_, path) if !path.is_absolute()));
                }
            }
            assert!(config.users.keys().all(|name| !name.contains(':')));
            assert!(config.rate_limit.is_none_or(|limit| limit.burst > 0 && !limit.interval.is_zero()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
