//! A Prometheus of this machine, which scrapes the daemon in the other.

use std::{fs, net::TcpStream, path::Path, thread, time::Duration};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use xshell::{Shell, cmd};

use crate::running::{Running, User, free_port};

/// What it must have been told, and what that shows: that it reached the daemon, that this counts closes, that its hooks
/// are there, and that nothing was lost on the way.
const QUERIES: [&str; 4] = [
    "up == 1",
    "sum(tcp_close_endpoints_closed_total) > 20",
    "count(tcp_close_hook_info) > 0",
    "sum(tcp_close_events_lost_total) == 0",
];

/// How often it is asked for all of it, and how long it is left alone between.
const TRIES: u32 = 120;
const PAUSE: Duration = Duration::from_millis(500);

/// Scrapes the daemon at this port of loopback until all queries have an answer, and then says so at the other.
pub(super) fn run(
    sh: &Shell,
    prometheus: &Path,
    folder: &Path,
    metrics: u16,
    word: u16,
) -> anyhow::Result<()> {
    let data = folder.join("prometheus");
    sh.remove_path(&data)?;
    fs::create_dir_all(&data)?;
    let settings = data.join("prometheus.yml");
    fs::write(
        &settings,
        format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n  - job_name: tcp-close\n    \
             static_configs:\n      - targets: ['127.0.0.1:{metrics}']\n"
        ),
    )?;
    let server = format!("127.0.0.1:{}", free_port()?);
    let options = [
        format!("--config.file={}", settings.display()),
        format!("--storage.tsdb.path={}", data.join("tsdb").display()),
        format!("--web.listen-address={server}"),
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let running = Running::start(User::Whoever, prometheus, &options, data.join("log"))?;
    let mut missing = QUERIES.to_vec();
    for _ in 0..TRIES {
        missing.retain(|query| !has_answer(sh, &server, query).unwrap_or_default());
        if missing.is_empty() {
            println!("ok      Prometheus has an answer to: {}", QUERIES.join("; "));
            TcpStream::connect(("127.0.0.1", word)).context("the machine waits for no word")?;
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    bail!("Prometheus has no answer to {}: {}", missing.join("; "), running.last_words())
}

fn has_answer(sh: &Shell, server: &str, query: &str) -> anyhow::Result<bool> {
    let query = format!("query={query}");
    let answer = cmd!(sh, "curl -sSf --data-urlencode {query} http://{server}/api/v1/query")
        .quiet()
        .ignore_stderr()
        .read()?;
    let answer: Value = serde_json::from_str(&answer)?;
    ensure!(answer["status"] == "success", "Prometheus says {answer}");
    Ok(answer["data"]["result"].as_array().is_some_and(|series| !series.is_empty()))
}
