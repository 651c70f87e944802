//! Real closes, two real daemons that watch them, and a real Prometheus that scrapes both and keeps our rules.
//!
//! The closes are made by `every-ending` of the live tests, in namespaces of its own.
//! The second daemon has room for a few minisocks and for one name each, so that its alerts have a reason to fire.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use xshell::{Shell, cmd};

use crate::{
    clock,
    prometheus::{Programs, RULES},
    running::{Running, User, free_port},
    workspace,
};

/// The host that is shown where only one is: the one that follows everything.
pub(super) const HOST: &str = "192.0.2.1:10060";
const CROWDED: &str = "192.0.2.2:10060";

/// How long a TIME-WAIT may take from before its begin to its being told, with a busy machine's leave.
const WHOLE_LIFE: Duration = Duration::from_secs(120);

/// What Grafana makes of its variables, were it to show the last two minutes.
pub(super) const WINDOW: Duration = Duration::from_secs(120);

pub(super) struct Stage<'a> {
    sh: &'a Shell,
    programs: Programs,
    server: String,
    /// Prometheus, the daemons, and what they watch, in the order in which they end.
    running: Vec<Running>,
}

impl<'a> Stage<'a> {
    pub(super) fn set(sh: &'a Shell) -> anyhow::Result<Self> {
        let programs = Programs::provide(sh)?;
        cmd!(sh, "cargo build --release --package tcp-close-daemon --bin tcp-close").run()?;
        // With its tests, which are built from other parts than the program by itself, and are wanted sooner or later.
        cmd!(sh, "cargo test --release --package tcp-close-test --no-run").run()?;
        let programs_of_ours = workspace::release_dir(sh)?;
        let folder = workspace::target_dir(sh)?.join("grafana");
        let data = folder.join("data");
        sh.remove_path(&data)?;
        sh.create_dir(&data)?;

        let closes = Running::start(
            User::Root,
            &programs_of_ours.join("every-ending"),
            &[],
            folder.join("closes.log"),
        )?;
        let namespaces = namespaces(&closes)?;
        let ports = [free_port()?, free_port()?, free_port()?];
        let [server, ..] = ports.map(|port| format!("127.0.0.1:{port}"));
        let daemon = |name: &str, port: u16, more: &[&str]| {
            let address = format!("127.0.0.1:{port}");
            let socket = folder.join(format!("{name}.sock")).display().to_string();
            let mut arguments = vec![
                "daemon",
                "--web.listen-address",
                &address,
                "--socket",
                &socket,
                "--reconcile-interval",
                "5s",
            ];
            for namespace in &namespaces {
                arguments.extend(["--netns", namespace]);
            }
            arguments.extend(more);
            let program = programs_of_ours.join("tcp-close");
            Running::start(User::Root, &program, &arguments, folder.join(format!("{name}.log")))
        };
        let roomy = daemon("roomy", ports[1], &[])?;
        let crowded = daemon("crowded", ports[2], &["--max-minisocks", "20", "--top", "1"])?;
        let rules = folder.join("rules.yml");
        fs::write(&rules, without_waits(&sh.read_file(RULES)?))?;
        let settings = folder.join("prometheus.yml");
        fs::write(&settings, settings_of_prometheus(&rules, [(HOST, ports[1]), (CROWDED, ports[2])]))?;
        let prometheus = Running::start(
            User::Whoever,
            &programs.prometheus,
            &[
                &format!("--config.file={}", settings.display()),
                &format!("--storage.tsdb.path={}", data.display()),
                &format!("--web.listen-address={server}"),
                "--log.level=warn",
            ],
            folder.join("prometheus.log"),
        )?;
        let running = vec![prometheus, roomy, crowded, closes];
        Ok(Self { sh, programs, server: format!("http://{server}"), running })
    }

    /// Waits until a TIME-WAIT has ended because its time was over.
    pub(super) fn wait_for_a_whole_life(&self) -> anyhow::Result<()> {
        let lived = format!(
            "min_over_time(rate(tcp_close_time_wait_ended_total{{instance=\"{HOST}\",cause=\"expired\"}}[5s])[5s:]) > 0"
        );
        let found = clock::wait_for(WHOLE_LIFE, || {
            // Prometheus itself may not be there yet.
            Ok(self.now(&lived).ok().filter(|found| !found.is_empty()))
        })?;
        ensure!(
            found.is_some(),
            "no TIME-WAIT lived out its time: {:?}\n{}",
            self.now(&lived),
            self.last_words()
        );
        Ok(())
    }

    /// Answers to a query at this moment: a series each.
    pub(super) fn now(&self, query: &str) -> anyhow::Result<Vec<Value>> {
        let Self { sh, programs: Programs { promtool, .. }, server, .. } = self;
        series(
            &cmd!(sh, "{promtool} query instant --format=json {server} {query}")
                .quiet()
                .ignore_status()
                .output()?,
        )
    }

    /// The same at every step of the last five minutes, which is what promtool takes unless it is told.
    pub(super) fn lately(&self, query: &str) -> anyhow::Result<Vec<Value>> {
        let Self { sh, programs: Programs { promtool, .. }, server, .. } = self;
        let output = cmd!(sh, "{promtool} query range --format=json --step=5s {server} {query}")
            .quiet()
            .ignore_status()
            .output()?;
        series(&output)
    }

    /// The values of a label, on series of this metric.
    pub(super) fn values(&self, label: &str, metric: &str) -> anyhow::Result<Vec<String>> {
        let found = self.now(&format!("count by ({label}) ({metric})"))?;
        let values = found.iter().filter_map(|series| series.pointer("/metric")?.get(label)?.as_str());
        Ok(values.map(str::to_owned).collect())
    }

    /// What those on stage said last.
    pub(super) fn last_words(&self) -> String {
        let words = self.running.iter().map(|one| format!("{}:\n{}", one.log.display(), one.last_words()));
        words.collect::<Vec<_>>().join("\n")
    }
}

/// The namespaces that there are closes in, by their inodes.
fn namespaces(closes: &Running) -> anyhow::Result<Vec<String>> {
    let said = clock::wait_for(Duration::from_secs(10), || {
        let said = fs::read_to_string(&closes.log)?;
        Ok(said.split_once('\n').map(|(first, _)| first.to_owned()))
    })?;
    let said = said.context("there are no closes")?;
    let numbers: Vec<String> = said.split(' ').map(str::to_owned).collect();
    ensure!(numbers.iter().all(|number| number.parse::<u64>().is_ok()), "there are no closes: {said}");
    Ok(numbers)
}

/// Alerts that fire as soon as there is a reason: how long one has to last is what `promtool test rules` looks at.
fn without_waits(rules: &str) -> String {
    let kept = rules.lines().filter(|line| !line.trim_start().starts_with("for: "));
    kept.flat_map(|line| [line, "\n"]).collect()
}

fn settings_of_prometheus(rules: &Path, targets: [(&str, u16); 2]) -> String {
    let targets = targets.map(|(host, port)| {
        format!("      - {{targets: [\"127.0.0.1:{port}\"], labels: {{instance: \"{host}\"}}}}\n")
    });
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: [\"{}\"]\n\
         scrape_configs:\n  - job_name: tcp-close\n    static_configs:\n{}",
        rules.display(),
        targets.concat()
    )
}

/// What promtool answers.
fn series(output: &std::process::Output) -> anyhow::Result<Vec<Value>> {
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("promtool answers in JSON")
}
