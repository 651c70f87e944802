//! What the program does in trouble: readers that go away, disks that are full, kernels that hide things.
//!
//! It must say one sentence and leave with the exit code that is promised, or go on with what is left.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tcp_close_test::{address::Family, clock::Deadline, copied, netns::Netns, stream};

/// What "at once" is for a program that was told to stop.
const STOP: Duration = Duration::from_secs(1);

/// Longer than anything else here takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Its number, from the kernel's `linux/capability.h`.
const CAP_SYSLOG: libc::c_ulong = 34;

/// The user who owns nothing.
const NOBODY: u32 = 65534;

/// The program, with none of its variables set.
fn tcp_close(arguments: &[&str]) -> Command {
    assert!(rustix::process::geteuid().is_root(), "the live tests need root");
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/tcp-close");
    let program = std::env::var_os("TCP_CLOSE_BIN").unwrap_or_else(|| built.into());
    assert!(Path::new(&program).exists(), "cargo build --release makes {}", Path::new(&program).display());
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TCP_CLOSE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// `watch` of one namespace only, so that tests run beside each other.
fn watch(netns: &Netns, arguments: &[&str]) -> Command {
    let mut command = tcp_close(&["watch", "--netns", &netns.inode().to_string()]);
    command.args(arguments);
    command
}

/// `daemon` at a port of the kernel's choice, and a socket of its own: at the usual one, the `watch` of a test beside this
/// would ask it, and end with it.
fn daemon(netns: &Netns, socket: &Made) -> Command {
    let mut command =
        tcp_close(&["daemon", "--netns", &netns.inode().to_string(), "--web.listen-address", "127.0.0.1:0"]);
    command.arg("--socket").arg(&socket.0);
    command
}

/// A running program, killed when the test is over before it is.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("start tcp-close"))
    }

    fn stdout(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.0.stdout.take().expect("stdout is piped"))
    }

    fn stderr(&mut self) -> BufReader<ChildStderr> {
        BufReader::new(self.0.stderr.take().expect("stderr is piped"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("send a signal");
    }

    /// Waits until it ends, and at most so long.
    #[track_caller]
    fn ends_within(&mut self, time: Duration) -> ExitStatus {
        let deadline = Deadline::after(time);
        loop {
            if let Some(status) = self.0.try_wait().expect("ask for its status") {
                return status;
            }
            assert!(deadline.left().is_some(), "it still runs after {time:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, if all went well.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn run(command: &mut Command) -> Output {
    command.output().expect("start tcp-close")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it is text")
}

fn line(reader: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).expect("read a line");
    line
}

/// A connection that opens and closes; both ends are in the namespace.
fn close_one(netns: &Netns) {
    let (client, mut server) = stream::pair(netns, netns, Family::V4.loopback());
    drop(client);
    assert_eq!(server.read(&mut [0]).expect("read the end of the stream"), 0);
}

#[track_caller]
fn assert_fails(output: &Output, code: i32, sentence: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), format!("tcp-close: {sentence}\n"));
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("take a port");
    let address = taken.local_addr().expect("it has an address").to_string();
    let socket = Made::somewhere();
    let output = run(tcp_close(&["daemon", "--web.listen-address", &address, "--socket"]).arg(&socket.0));
    assert_eq!(text(&output.stdout), "");
    assert_fails(
        &output,
        1,
        &format!(
            "cannot listen on {address} (choose another with --web.listen-address): Address already in use (os error 98)"
        ),
    );
}

#[test]
fn a_full_disk_is_told_from_the_header_on() {
    let full = || File::create("/dev/full").expect("the device that is always full");
    let sentence = "cannot write to stdout: No space left on device (os error 28)";
    assert_fails(&run(watch(&Netns::new(), &[]).stdout(full())), 1, sentence);
    assert_fails(&run(tcp_close(&["check"]).stdout(full())), 1, sentence);
    assert_fails(&run(tcp_close(&["check", "-o", "json"]).stdout(full())), 1, sentence);
}

#[test]
fn a_disk_that_is_full_by_the_first_line_is_told_then() {
    let netns = Netns::new();
    let full = File::create("/dev/full").expect("the device that is always full");
    let mut watching = Running::start(watch(&netns, &["-o", "json"]).stdout(full));
    let deadline = Deadline::after(PATIENCE);
    while watching.0.try_wait().expect("ask for its status").is_none() {
        close_one(&netns);
        assert!(deadline.left().is_some(), "it writes on");
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(watching.ends_within(STOP).code(), Some(1));
    assert_eq!(
        line(&mut watching.stderr()),
        "tcp-close: cannot write to stdout: No space left on device (os error 28)\n"
    );
}

/// A log that cannot be written must not end what it logs.
#[test]
fn a_full_stderr_harms_nobody() {
    let netns = Netns::new();
    let full = File::create("/dev/full").expect("the device that is always full");
    let hidden = Hidden::kallsyms();
    let mut watching = Running::start(hidden.from(&mut watch(&netns, &[])).stderr(full));
    assert!(line(&mut watching.stdout()).starts_with("TIME "), "it warned into the void, and went on");
    watching.signal(Signal::TERM);
    assert_eq!(watching.ends_within(STOP).code(), Some(0));
}

/// As in `tcp-close watch | head -1`.
#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    for arguments in [&[][..], &["-o", "json"], &["--transitions"]] {
        let netns = Netns::new();
        let mut watching = Running::start(&mut watch(&netns, arguments));
        let mut out = watching.stdout();
        let deadline = Deadline::after(PATIENCE);
        if arguments.contains(&"json") {
            // There is no header to say that it watches.
            thread::scope(|scope| {
                let first = scope.spawn(|| line(&mut out));
                while !first.is_finished() {
                    close_one(&netns);
                    assert!(deadline.left().is_some(), "it says nothing");
                    thread::sleep(Duration::from_millis(50));
                }
            });
        } else {
            line(&mut out);
        }
        drop(out);
        while watching.0.try_wait().expect("ask for its status").is_none() {
            close_one(&netns);
            assert!(deadline.left().is_some(), "it writes on");
            thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(watching.ends_within(STOP).code(), Some(0));
        assert_eq!(line(&mut watching.stderr()), "");
    }
}

#[test]
fn watch_ends_on_a_signal() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let netns = Netns::new();
        let mut watching = Running::start(&mut watch(&netns, &[]));
        line(&mut watching.stdout());
        watching.signal(signal);
        assert_eq!(watching.ends_within(STOP).code(), Some(0), "{signal:?}");
        assert_eq!(line(&mut watching.stderr()), "");
    }
}

#[test]
fn daemon_ends_on_a_signal() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (netns, socket) = (Netns::new(), Made::somewhere());
        let mut serving = Running::start(&mut daemon(&netns, &socket));
        let mut log = serving.stderr();
        assert!(line(&mut log).contains("ready"));
        serving.signal(signal);
        assert_eq!(serving.ends_within(STOP).code(), Some(0), "{signal:?}");
        let last = line(&mut log);
        assert!(last.contains("stopped"), "{last}");
        assert!(!last.contains('\u{1b}'), "a log that is no terminal has no colors: {last:?}");
    }
}

/// As in `tcp-close watch | less` when nobody scrolls down: writing waits, and so would all else.
#[test]
fn a_second_signal_ends_what_is_stuck() {
    let netns = Netns::new();
    let mut watching = Running::start(&mut watch(&netns, &["--transitions", "-w"]));
    let mut out = watching.stdout();
    line(&mut out);
    // Eight lines each, of some 160 bytes; a pipe has room for 64 KiB, and this reader reads no more.
    for _ in 0..120 {
        close_one(&netns);
    }
    thread::sleep(Duration::from_millis(500));
    watching.signal(Signal::INT);
    thread::sleep(Duration::from_millis(300));
    assert!(watching.0.try_wait().expect("ask for its status").is_none(), "it was not stuck");
    watching.signal(Signal::INT);
    assert_eq!(watching.ends_within(STOP).code(), Some(1));
    drop(out);
}

#[test]
fn count_is_how_many_lines_there_are() {
    let netns = Netns::new();
    let mut watching = Running::start(&mut watch(&netns, &["--count", "3"]));
    let mut out = watching.stdout();
    assert!(line(&mut out).starts_with("TIME "));
    for _ in 0..5 {
        close_one(&netns);
    }
    assert_eq!(watching.ends_within(PATIENCE).code(), Some(0));
    let lines: Vec<String> = out.lines().map(|line| line.expect("a line")).collect();
    assert_eq!(lines.len(), 3, "{lines:#?}");
}

#[test]
fn duration_is_how_long_it_takes() {
    let start = tcp_close_test::clock::now();
    let output = run(&mut watch(&Netns::new(), &["--duration", "700ms"]));
    let took = tcp_close_test::clock::now().saturating_sub(start);
    assert_eq!(output.status.code(), Some(0));
    assert!(took >= Duration::from_millis(700) && took < PATIENCE, "{took:?}");
    assert_eq!(text(&output.stdout).lines().count(), 1, "the header");
}

#[test]
fn without_a_header_there_is_none() {
    for arguments in [["-H", "--duration=100ms"], ["--no-header", "--duration=100ms"]] {
        let output = run(&mut watch(&Netns::new(), &arguments));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn nobody_is_told_what_is_missing() {
    // The folder it was built in may be closed to others.
    let copy = Made::somewhere();
    fs::copy(tcp_close(&[]).get_program(), &copy.0).expect("copy the program");
    let as_nobody = |command: &str| {
        let mut copied = Command::new(&copy.0);
        copied.arg(command).env_clear().current_dir("/").uid(NOBODY).gid(NOBODY);
        copied::output(&mut copied)
    };
    for command in ["watch", "daemon"] {
        let output = as_nobody(command);
        assert_fails(
            &output,
            3,
            &format!(
                "{command} needs CAP_BPF and CAP_PERFMON in the initial user namespace: run it as root of the host, or give it these capabilities; \
                 `tcp-close check` says what each is for"
            ),
        );
    }
    let output = as_nobody("check");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    assert!(text(&output.stdout).contains("not tried: needs CAP_BPF and CAP_PERFMON"));
}

/// Whether the kernel then hides its addresses is up to its settings; whatever it does, `check` knows.
#[test]
fn without_cap_syslog_check_says_so() {
    let mut check = tcp_close(&["check"]);
    // SAFETY: between fork and exec it makes one system call, and allocates nothing.
    unsafe { check.pre_exec(|| drop_from_bounding_set(CAP_SYSLOG)) };
    let output = run(&mut check);
    let table = text(&output.stdout);
    assert!(table.lines().any(|line| line.starts_with("CAP_SYSLOG ") && line.contains("missing")), "{table}");
    // Kernel addresses name causes, and where functions can be hooked not even these.
    assert_eq!(output.status.code(), Some(0), "{table}");
    let minisock = table.lines().find(|line| line.starts_with("minisock ")).expect("it has a line");
    assert!(minisock.contains("ok") || minisock.contains("degraded"), "{table}");
    assert_eq!(text(&output.stderr), "");
}

/// The kernel shows what he may see who opens the file: that may be somebody else.
#[test]
fn kernel_addresses_may_be_handed_over() {
    let hidden = Hidden::kallsyms();
    let kallsyms = |stdin: Stdio| {
        let output = run(hidden.from(&mut tcp_close(&["check"])).stdin(stdin));
        let table = text(&output.stdout);
        table.lines().find(|line| line.starts_with("kallsyms ")).expect("it has a line").to_owned()
    };
    let none = kallsyms(Stdio::null());
    assert!(none.contains("hidden"), "{none}");
    let opened = File::open("/proc/kallsyms").expect("it is there");
    let handed_over = kallsyms(opened.into());
    assert!(handed_over.contains(" yes "), "{handed_over}");
    // What is no list of symbols is none.
    let other = File::open("/proc/cpuinfo").expect("it is there");
    assert!(kallsyms(other.into()).contains("hidden"));
}

#[test]
fn check_of_root_finds_every_hook() {
    let output = run(&mut tcp_close(&["check"]));
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    let table = text(&output.stdout);
    let rows = table.lines().skip(1).take_while(|line| !line.is_empty());
    let hooks: Vec<&str> = rows.filter(|line| !line.starts_with(' ')).collect();
    assert!(hooks.len() >= 5 && hooks.iter().all(|line| line.ends_with("ok")), "{table}");
}

#[test]
fn without_kernel_addresses_it_watches_what_is_left() {
    let hidden = Hidden::kallsyms();
    let netns = Netns::new();
    let mut watching =
        Running::start(hidden.from(&mut watch(&netns, &["--count", "2", "--probe", "tracepoint"])));
    let mut out = watching.stdout();
    line(&mut out);
    close_one(&netns);
    let closed = line(&mut out);
    assert!(closed.contains(" closed "), "{closed}");
    assert_eq!(watching.ends_within(PATIENCE).code(), Some(0));
    let log: Vec<String> = watching.stderr().lines().map(|line| line.expect("a line")).collect();
    let [warning] = log.as_slice() else { panic!("one warning: {log:#?}") };
    let lost = "lost: why a minisock ended";
    for part in ["WARN", "hook minisock is degraded", "/proc/kallsyms", "CAP_SYSLOG", lost] {
        assert!(warning.contains(part), "{part} in {warning}");
    }

    let output = run(hidden.from(&mut tcp_close(&["check", "--probe", "tracepoint"])));
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    let table = text(&output.stdout);
    let lines: Vec<&str> = table.lines().skip_while(|line| !line.starts_with("minisock ")).take(3).collect();
    let [hook, what, why] = lines[..] else { panic!("{table}") };
    assert!(hook.contains("degraded"), "{table}");
    assert!(what.trim_start().starts_with(lost), "{table}");
    assert!(why.contains("/proc/kallsyms hides"), "{table}");
    assert!(table.lines().any(|line| line.starts_with("kallsyms ") && line.contains(" no ")), "{table}");
    assert!(table.lines().any(|line| line.starts_with("state_change ") && line.ends_with("ok")), "{table}");
}

#[test]
fn without_btf_there_is_nothing_to_watch() {
    let hidden = Hidden::file("/sys/kernel/btf/vmlinux", b"");
    for command in ["watch", "daemon"] {
        let output = run(hidden.from(&mut tcp_close(&[command])));
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
        let log = text(&output.stderr);
        assert!(log.starts_with("tcp-close: cannot read kernel BTF from /sys/kernel/btf/vmlinux: "), "{log}");
        assert!(
            log.ends_with("; tcp-close needs Linux 5.10 or later built with CONFIG_DEBUG_INFO_BTF\n"),
            "{log}"
        );
        assert_eq!(log.lines().count(), 1, "{log}");
    }
    let output = run(hidden.from(&mut tcp_close(&["check"])));
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), String::new()));
    let table = text(&output.stdout);
    assert!(table.lines().any(|line| line.starts_with("btf ") && line.contains(" no ")), "{table}");
    assert!(table.contains("lost: everything"), "{table}");
}

#[test]
fn check_knows_the_lockdown_mode() {
    for (mode, said) in [
        ("[none] integrity confidentiality\n", "none"),
        ("none [integrity] confidentiality\n", "integrity"),
        ("none integrity [confidentiality]\n", "confidentiality"),
    ] {
        let hidden = Hidden::folder("/sys/kernel/security", "lockdown", mode.as_bytes());
        let output = run(hidden.from(&mut tcp_close(&["check"])));
        let table = text(&output.stdout);
        let lockdown = table.lines().find(|line| line.starts_with("lockdown ")).expect("it has a line");
        assert_eq!(lockdown.split_whitespace().nth(2), Some(said), "{lockdown}");
        assert_eq!(lockdown.contains("no kprobes"), said == "confidentiality", "{lockdown}");
    }
}

/// A file or folder of ours, gone when the test is over.
struct Made(PathBuf);

impl Made {
    fn somewhere() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("tcp-close-test-{}-{number}", std::process::id())))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // What remains is where everything may be thrown away.
        let _folder = fs::remove_dir_all(&self.0);
        let _file = fs::remove_file(&self.0);
    }
}

/// A file or folder of the kernel's, with another in its place, for one program alone.
struct Hidden {
    place: CString,
    instead: Made,
}

impl Hidden {
    fn kallsyms() -> Self {
        Self::file("/proc/kallsyms", b"0000000000000000 T _text\n0000000000000000 t tw_timer_handler\n")
    }

    fn file(place: &str, contents: &[u8]) -> Self {
        let instead = Made::somewhere();
        fs::write(&instead.0, contents).expect("write a file");
        Self { place: path(Path::new(place)), instead }
    }

    fn folder(place: &str, name: &str, contents: &[u8]) -> Self {
        let instead = Made::somewhere();
        fs::create_dir(&instead.0).expect("make a folder");
        fs::write(instead.0.join(name), contents).expect("write a file");
        Self { place: path(Path::new(place)), instead }
    }

    /// Lets the program see what is in place of the kernel's own.
    fn from<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let (place, instead) = (self.place.clone(), path(&self.instead.0));
        // SAFETY: between fork and exec it makes system calls alone, and allocates nothing.
        unsafe { command.pre_exec(move || mount_privately(&instead, &place)) }
    }
}

fn path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path has no NUL in it")
}

/// What is not in its bounding set, root's next program does not get.
fn drop_from_bounding_set(capability: libc::c_ulong) -> std::io::Result<()> {
    // SAFETY: it takes no pointers.
    checked(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) })
}

fn checked(result: i32) -> std::io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// In a mount namespace of its own, puts one file or folder in the place of another.
fn mount_privately(source: &std::ffi::CStr, target: &std::ffi::CStr) -> std::io::Result<()> {
    let mount = |source: &std::ffi::CStr, target: &std::ffi::CStr, flags| {
        // SAFETY: both paths end in NUL and live through the call; type and data may be null for these flags.
        checked(unsafe {
            libc::mount(source.as_ptr(), target.as_ptr(), std::ptr::null(), flags, std::ptr::null())
        })
    };
    // SAFETY: it takes no pointers; this process has one thread between fork and exec.
    checked(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    // Nothing of it may reach the host.
    mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE)?;
    mount(source, target, libc::MS_BIND)
}
