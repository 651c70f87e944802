//! `cargo xtask ci container`: the image, run by an OCI runtime with the capabilities that are documented and no more.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use xshell::{Shell, cmd};

use crate::{clock, debian::Unpacked, dist, workspace};

const PROFILE: &str = "packaging/oci/seccomp.json";

/// What the unit for systemd grants, and what is left of it once the daemon is attached.
const FULL: (&[&str], &str) = (
    &["CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"],
    "0000008000280004",
);

/// The least that it takes to attach.
const LEAST: (&[&str], &str) = (&["CAP_BPF", "CAP_PERFMON"], "0000008000000000");

/// As the image has it.
const SOMEBODY: u32 = 65532;

/// How long a container may take to what it will soon have, its end included.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn check(sh: &Shell) -> anyhow::Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "containers are started by root: run this as root");
    let folder = workspace::target_dir(sh)?.join("container");
    fs::create_dir_all(&folder)?;
    // An OCI runtime, and what reads images.
    let tools = Unpacked::provide(sh, &folder, &["runc", "skopeo"])?;
    let image = dist::image(sh, &folder)?;
    // Whoever pulls it chooses a variant by what the index says.
    tools.find(cmd!(sh, "skopeo inspect --raw oci-archive:{image}")).ignore_stdout().run()?;
    let inspected = tools.find(cmd!(sh, "skopeo inspect --config oci-archive:{image}")).read()?;
    let config: Value = serde_json::from_str(&inspected)?;
    let root = unpack(sh, &image, &folder)?;
    for (user, (capabilities, kept)) in [(SOMEBODY, FULL), (0, FULL), (SOMEBODY, LEAST), (0, LEAST)] {
        println!("user {user}, {}", capabilities.join(" "));
        let container = Container::start(sh, &tools, &folder, &root, &config["config"], user, capabilities)?;
        container.is_ready(sh)?;
        container.keeps(kept, user)?;
        container.counts(sh)?;
        container.ends_well()?;
    }
    println!("user {SOMEBODY}, no capability");
    let container = Container::start(sh, &tools, &folder, &root, &config["config"], SOMEBODY, &[])?;
    container.says_what_it_lacks()
}

/// The file system of the image's first variant, as a container gets it.
fn unpack(sh: &Shell, image: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let layout = folder.join("layout");
    let root = folder.join("bundle/rootfs");
    for emptied in [&layout, &root] {
        sh.remove_path(emptied)?;
        fs::create_dir_all(emptied)?;
    }
    cmd!(sh, "tar --extract --file {image} --directory {layout}").quiet().run()?;
    let blob = |reference: &Value| -> anyhow::Result<Vec<u8>> {
        let digest = reference["digest"].as_str().context("a reference has a digest")?;
        Ok(fs::read(layout.join("blobs").join(digest.replace(':', "/")))?)
    };
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
    let variants: Value = serde_json::from_slice(&blob(&index["manifests"][0])?)?;
    let manifest: Value = serde_json::from_slice(&blob(&variants["manifests"][0])?)?;
    let layer = folder.join("layer.tar");
    std::io::copy(&mut GzDecoder::new(&*blob(&manifest["layers"][0])?), &mut fs::File::create(&layer)?)?;
    // What runtimes do: capabilities of files are attributes of theirs.
    cmd!(sh, "tar --extract --xattrs --xattrs-include=security.capability --file {layer} --directory {root}")
        .quiet()
        .run()?;
    Ok(root)
}

/// A container that runs.
struct Container {
    child: Child,
    /// Where it is asked.
    port: u16,
    /// What it says.
    log: PathBuf,
}

impl Container {
    /// Starts one as Kubernetes would: nothing ambient, no new privileges, nothing to write to but a folder for the socket.
    fn start(
        sh: &Shell,
        tools: &Unpacked,
        folder: &Path,
        root: &Path,
        config: &Value,
        user: u32,
        capabilities: &[&str],
    ) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let bundle = root.parent().context("a bundle is around it")?;
        let run = folder.join("run");
        sh.remove_path(&run)?;
        fs::create_dir_all(&run)?;
        chown(&run, Some(user), Some(user))?;
        let profile: Value = serde_json::from_str(&sh.read_file(PROFILE)?)?;
        let mut words = config["Entrypoint"].as_array().context("the image says what runs")?.clone();
        words.extend(config["Cmd"].as_array().context("the image says how")?.iter().cloned());
        words.extend(["--web.listen-address".into(), format!("127.0.0.1:{port}").into()]);
        let mount = |kind: &str, place: &str, options: &[&str]| json!({ "destination": place, "type": kind, "source": kind, "options": options });
        let runtime = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": user, "gid": user },
                "args": words,
                "env": ["PATH=/usr/bin"],
                "cwd": "/",
                "capabilities": {
                    "bounding": capabilities,
                    "effective": capabilities,
                    "permitted": capabilities,
                },
                "noNewPrivileges": true,
            },
            "root": { "path": "rootfs", "readonly": true },
            "mounts": [
                mount("proc", "/proc", &[]),
                mount("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
                mount("sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
                { "destination": "/run/tcp-close", "type": "bind", "source": run, "options": ["bind", "rw"] },
            ],
            // The network and the processes are the host's.
            "linux": { "namespaces": [{ "type": "mount" }, { "type": "ipc" }, { "type": "uts" }], "seccomp": profile },
        });
        fs::write(bundle.join("config.json"), serde_json::to_vec(&runtime)?)?;
        let log = folder.join("log");
        let said = fs::File::create(&log)?;
        // It is killed with the thread that started it, and the container with it.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "runc", "--root"])
            .arg(folder.join("state"))
            .args(["run", "--bundle"])
            .arg(bundle)
            .arg(format!("tcp-close-{port}"))
            .envs(tools.environment())
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .context("cannot start runc")?;
        Ok(Self { child, port, log })
    }

    fn is_ready(&self, sh: &Shell) -> anyhow::Result<()> {
        let url = format!("http://127.0.0.1:{}/readyz", self.port);
        let answers = || cmd!(sh, "curl -sSf {url}").quiet().ignore_stdout().ignore_stderr().run().is_ok();
        self.soon("is ready", answers)
    }

    /// Its capabilities are these, permitted and effective, and there are no more to be had.
    fn keeps(&self, expected: &str, user: u32) -> anyhow::Result<()> {
        let pid = self.pid()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let of = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
            value.unwrap_or_default().to_owned()
        };
        ensure!(of("Uid").split('\t').all(|uid| uid == user.to_string()), "it runs as {}", of("Uid"));
        for set in ["CapEff", "CapPrm"] {
            ensure!(of(set) == expected, "{set} is {}, expected {expected}: {}", of(set), self.last_words());
        }
        for (name, value) in [("CapAmb", "0000000000000000"), ("NoNewPrivs", "1"), ("Seccomp", "2")] {
            ensure!(of(name) == value, "{name} is {}, expected {value}", of(name));
        }
        Ok(())
    }

    /// The process of ours that runc started.
    fn pid(&self) -> anyhow::Result<u32> {
        let is_ours = |pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "tcp-close")
        };
        // Any thread of it may have.
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let children = fs::read_to_string(thread?.path().join("children"))?;
            let ours = children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_ours);
            if let Some(ours) = ours {
                return Ok(ours);
            }
        }
        bail!("runc has no child of ours: {}", self.last_words())
    }

    /// Connections close, and it sees them: those that ask for its metrics.
    fn counts(&self, sh: &Shell) -> anyhow::Result<()> {
        let url = format!("http://127.0.0.1:{}/metrics", self.port);
        let counts = || {
            let metrics = cmd!(sh, "curl -sSf {url}").quiet().ignore_stderr().read().unwrap_or_default();
            let mut closed =
                metrics.lines().filter(|line| line.starts_with("tcp_close_endpoints_closed_total{"));
            closed.any(|line| !line.ends_with(" 0"))
        };
        self.soon("counts closes", counts)
    }

    fn soon(&self, what: &str, is_so: impl Fn() -> bool) -> anyhow::Result<()> {
        let so = clock::wait_for(PATIENCE, || Ok(is_so().then_some(())))?;
        so.with_context(|| format!("it never {what}: {}", self.last_words()))
    }

    fn end(&mut self) -> anyhow::Result<ExitStatus> {
        let end = clock::wait_for(PATIENCE, || Ok(self.child.try_wait()?))?;
        end.with_context(|| format!("it never ends: {}", self.last_words()))
    }

    fn ends_well(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()?)?;
        let pid = rustix::process::Pid::from_raw(pid).context("a process has a number")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.end()?;
        ensure!(status.success(), "it ended with {status}: {}", self.last_words());
        Ok(())
    }

    fn says_what_it_lacks(mut self) -> anyhow::Result<()> {
        let status = self.end()?;
        let said = self.last_words();
        ensure!(status.code() == Some(3) && said.contains("CAP_BPF"), "it ended with {status}: {said}");
        Ok(())
    }

    fn last_words(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        if let Ok(Some(pid)) = self.pid().map(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
            // It may be gone by now.
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
