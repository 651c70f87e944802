//! Any text is a filter or an error that points at a place; what a filter prints means the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tcp_close::filter::{Numbers, parse};

/// Longer texts are refused, and one may print longer than it was typed.
const LONGEST: usize = 16 * 1024;

fuzz_target!(|text: &str| {
    match parse(text, &Numbers) {
        Ok(filter) => {
            let printed = filter.to_string();
            if printed.len() <= LONGEST {
                assert_eq!(parse(&printed, &Numbers).as_ref(), Ok(&filter), "{printed}");
            }
        }
        Err(error) => assert!(error.to_string().contains('^'), "{error}"),
    }
});
