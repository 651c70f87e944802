//! What it costs to watch connections, counted in instructions: an emulated processor's clock counts them, whatever else
//! this machine does, and Debian's kernels take every kind of hook.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use xshell::{Shell, cmd};

use super::{
    Arch, INIT,
    initramfs::Initramfs,
    machine::{End, Machine, NANOSECONDS_OF_AN_INSTRUCTION, News, Processors},
    supplies::Supplies,
};
use crate::debian::Unpacked;

/// The series of kernels.
const KERNEL: &str = "6.18";

/// Connections at a time: each takes a millisecond to emulate.
const CONNECTIONS: u32 = 2000;

/// How often they are made, with each who watches.
const ROUNDS: usize = 3;

/// Before each line of the machine's that tells of them.
const MARK: &str = "VM-COUNTED ";

/// Who watches, by the name that the machine tells, and how he is started there.
const WATCHERS: [(&str, &str); 4] = [
    (BARE, ""),
    (TRACEPOINT, "/bin/tcp-close daemon --probe tracepoint --web.listen-address 127.0.0.1:0 --socket /run/s"),
    (FENTRY, "/bin/tcp-close daemon --probe fentry --web.listen-address 127.0.0.1:0 --socket /run/s"),
    (TCPSTATES, "/bin/tcpstates"),
];

const BARE: &str = "bare";
const TRACEPOINT: &str = "tracepoint";
const FENTRY: &str = "fentry";
const TCPSTATES: &str = "tcpstates";

/// Instructions that a connection takes of who opens and closes it, both ends of it, what the kernel does for him included.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Counted {
    /// The kernel that was booted.
    pub(crate) kernel: String,
    /// Without anybody who watches.
    pub(crate) bare: f64,
    /// How many more there are by each kind of hook, and with the peer.
    pub(crate) tracepoint: f64,
    pub(crate) fentry: f64,
    pub(crate) tcpstates: f64,
}

/// A line of `churn`'s.
#[derive(Deserialize)]
struct Churned {
    connections: f64,
    processor_seconds: f64,
}

/// Counts them, with static programs of ours and one of Debian's.
pub(crate) fn measure(sh: &Shell, programs: &Path, peers: &Unpacked) -> anyhow::Result<Counted> {
    let arch = Arch::X86_64;
    let supplies = Supplies::provide(sh, arch)?;
    let kernel = supplies.kernel(KERNEL)?;
    let initramfs = supplies.folder.join("initramfs/counted");
    fs::write(&initramfs, self::initramfs(sh, &supplies.busybox, programs, peers)?)?;
    let machine = Machine {
        arch,
        tools: &supplies.tools,
        image: &kernel.image,
        initramfs: &initramfs,
        cmdline: "",
        processors: Processors::One,
        disk: None,
        ports: &[],
        overtime: Duration::ZERO,
        log: &supplies.folder.join("logs/counted.log"),
    };
    let (mut told, mut status) = (Vec::new(), None);
    let (end, _) = machine.run(|news| {
        if let News::Line(line) = news {
            told.extend(line.strip_prefix(MARK).map(str::to_owned));
            status = line.strip_prefix("VM-EXIT ").map(str::to_owned).or(status.take());
        }
    })?;
    fs::remove_file(&initramfs)?;
    let log = machine.log.display();
    ensure!(end == End::Off && status.as_deref() == Some("0"), "the machine did not do its job: see {log}");
    counted(&told, kernel.release).with_context(|| format!("what the machine told is in {log}"))
}

/// What a machine starts from.
fn initramfs(sh: &Shell, busybox: &[u8], programs: &Path, peers: &Unpacked) -> anyhow::Result<Vec<u8>> {
    let mut files = Initramfs::new();
    for folder in ["bin", "dev", "lib", "lib64", "modules", "proc", "run", "sys", "tmp"] {
        files.folder(folder)?;
    }
    files.file("bin/busybox", busybox)?;
    let mut file = |name: &str, path: &Path| -> anyhow::Result<()> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(files.file(name, &bytes)?)
    };
    file("bin/tcp-close", &programs.join("tcp-close"))?;
    file("bin/churn", &programs.join("churn"))?;
    let tcpstates = peers.find(cmd!(sh, "which tcpstates")).read()?;
    file("bin/tcpstates", Path::new(&tcpstates))?;
    // `libelf.so.1 => /lib/x86_64-linux-gnu/libelf.so.1 (0x…)`, and for the loader its path alone.
    let needed = peers.find(cmd!(sh, "ldd {tcpstates}")).read()?;
    for path in needed.split_ascii_whitespace().filter(|word| word.starts_with('/')).map(Path::new) {
        let name = path.file_name().context("ldd names files")?.to_string_lossy();
        let folder = if path.starts_with("/lib64") { "lib64" } else { "lib" };
        file(&format!("{folder}/{name}"), path)?;
    }
    files.file("init", INIT.as_bytes())?;
    files.file("job", job().as_bytes())?;
    Ok(files.finish()?)
}

/// A shell script: who watches has time to attach, and what is left of connections to go, neither of which takes any here.
fn job() -> String {
    let mut lines = vec![
        "export LD_LIBRARY_PATH=/lib".to_owned(),
        "churn() { echo \"$1 $(/bin/churn --connections $2)\"; /bin/busybox sleep 3; }".to_owned(),
        // The first ones of all take more than any others.
        "churn first 500".to_owned(),
    ];
    for (name, command) in WATCHERS {
        if !command.is_empty() {
            lines.push(format!("{command} >/dev/null 2>/tmp/complaints &"));
            lines.push("watcher=$!; /bin/busybox sleep 5".to_owned());
        }
        lines.extend((0..ROUNDS).map(|_| format!("churn '{MARK}{name}' {CONNECTIONS}")));
        if !command.is_empty() {
            let complain = "{ /bin/busybox cat /tmp/complaints; exit 1; }";
            lines.push(format!("kill $watcher || {complain}; wait $watcher"));
        }
    }
    lines.push("exit 0".to_owned());
    lines.join("\n")
}

/// Of lines that each tell who watched, and what there was to watch.
fn counted(told: &[String], kernel: String) -> anyhow::Result<Counted> {
    let instructions = |name: &str| -> anyhow::Result<f64> {
        let lines = told.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let each = |line: &str| -> anyhow::Result<f64> {
            let Churned { connections, processor_seconds } = serde_json::from_str(line)?;
            Ok(processor_seconds * 1e9 / NANOSECONDS_OF_AN_INSTRUCTION / connections)
        };
        let mut counted: Vec<f64> = lines.map(each).collect::<anyhow::Result<_>>()?;
        counted.sort_by(f64::total_cmp);
        counted.get(counted.len() / 2).copied().with_context(|| format!("nothing was counted of {name}"))
    };
    let bare = instructions(BARE)?;
    let more = |name| -> anyhow::Result<f64> {
        let more = instructions(name)? - bare;
        ensure!(more > 0.0, "{name} took no instructions: it did not watch");
        Ok(more)
    };
    Ok(Counted {
        kernel,
        bare,
        tracepoint: more(TRACEPOINT)?,
        fentry: more(FENTRY)?,
        tcpstates: more(TCPSTATES)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_counted() {
        let line = |name: &str, seconds: f64| {
            format!(
                "{name} {{\"connections\":1000,\"requests\":0,\"seconds\":9,\"processor_seconds\":{seconds}}}"
            )
        };
        let mut told = vec![line(BARE, 0.09), line(BARE, 0.1), line(BARE, 0.2)];
        told.extend([line(TRACEPOINT, 0.12), line(FENTRY, 0.11)]);
        assert!(counted(&told, String::new()).is_err(), "of one nothing was told");
        told.push(line(TCPSTATES, 0.3));
        let Counted { bare, tracepoint, fentry, tcpstates, .. } =
            counted(&told, String::new()).expect("of each");
        let whole = [bare, tracepoint, fentry, tcpstates].map(|count| format!("{count:.0}"));
        assert_eq!(whole, ["50000", "10000", "5000", "100000"]);
    }
}
