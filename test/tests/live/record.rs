//! What is recorded is printed again, byte for byte, by somebody who may see nothing.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

use tcp_close_test::{
    clock::{Deadline, PATIENCE},
    copied,
    netns::Netns,
    oracle::{self},
};
use tempfile::tempdir;

use crate::{
    feed::{NOBODY, for_everybody},
    many_connections,
    program::{loopback_connections, program, wait_for_line},
};

/// Records a namespace while `act` runs in it, and gives back what was printed meanwhile.
fn record(netns: &Netns, file: &PathBuf, lines: u32, act: impl FnOnce()) -> Vec<u8> {
    let mut child = program()
        .args(["-v", "record", "--watch", "-o", "json", "--netns", &netns.inode().to_string()])
        .args(["--count", &lines.to_string()])
        .arg(file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start tcp-close; TCP_CLOSE_BIN names it, or cargo build --release makes it");
    let mut log = BufReader::new(child.stderr.take().expect("stderr is piped"));
    wait_for_line(&mut log, "attached");
    let mut out = child.stdout.take().expect("stdout is piped");
    // Whoever cannot print does not read the ring either.
    let printed = thread::spawn(move || {
        let mut printed = Vec::new();
        out.read_to_end(&mut printed).map(|_| printed)
    });
    act();
    let mut said = String::new();
    log.read_to_string(&mut said).expect("read its log");
    assert!(child.wait().expect("it ends").success(), "{said}");
    assert!(!said.contains("lost"), "{said}");
    printed.join().expect("nobody panicked").expect("read the lines")
}

/// Every end and every change of it: the same lines, as somebody without any privilege.
#[test]
fn a_replay_prints_what_was_printed() {
    let netns = Netns::new();
    netns.sysctl("net/ipv4/tcp_max_tw_buckets", "100000");
    // Where it takes long, the first ports would be given again.
    netns.sysctl("net/ipv4/tcp_tw_reuse", "0");
    let directory = tempdir().expect("a directory");
    let file = directory.path().join("closes.tcpclose");
    let connections = many_connections();
    let printed = record(&netns, &file, 2 * connections, || loopback_connections(&netns, connections));
    assert_eq!(printed.lines().count(), 2 * connections as usize);

    // It is given to somebody.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let mut replay = for_everybody(directory.path());
    let replay = replay.uid(NOBODY).gid(NOBODY).args(["replay", "-o", "json"]);
    let replayed = copied::output(replay.arg(&file).args(["--count", &(2 * connections).to_string()]));
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    assert!(replayed.stdout == printed, "byte for byte");

    // What it comes to is what the kernel counted.
    let summary = program().args(["replay", "--summary", "-o", "json"]).arg(&file).output().expect("start");
    let summary: serde_json::Value = serde_json::from_slice(&summary.stdout).expect("an object");
    assert_eq!(summary["closed"]["active"]["graceful"], connections, "{summary}");
    assert_eq!(summary["closed"]["passive"]["graceful"], connections, "{summary}");
    assert_eq!(oracle::sockstat(&netns)["tw"], i64::from(connections));
    // Opening changes were recorded too: a connection has thirteen events or more.
    assert!(summary["events"].as_u64() >= Some(10 * u64::from(connections)), "{summary}");

    // A file that was cut off is read as far as it goes.
    let whole = fs::read(&file).expect("read the recording");
    let cut = directory.path().join("cut.tcpclose");
    fs::write(&cut, &whole[..whole.len() * 2 / 3]).expect("write");
    let output = program().args(["replay", "-o", "json"]).arg(&cut).output().expect("start");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("the recording is cut off"), "{said}");
    assert!(printed.starts_with(&output.stdout), "nothing is made up");
}

/// What is there already is not written over, and what is no recording is not replayed.
#[test]
fn a_file_that_cannot_be_used_is_an_error() {
    let directory = tempdir().expect("a directory");
    let file = directory.path().join("notes");
    fs::File::create(&file).and_then(|mut file| file.write_all(b"not a recording\n")).expect("a file");
    let complains = |arguments: &[&str]| {
        let output = program().args(arguments).arg(&file).output().expect("start tcp-close");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(complains(&["record"]).contains("is there already; --force writes over it"));
    assert!(complains(&["replay"]).contains("it is no recording of tcp-close"));
    assert_eq!(fs::read(&file).expect("read"), b"not a recording\n");
    // Whoever could read what was there cannot read what is written over it.
    let netns = Netns::new().inode().to_string();
    let forced = ["record", "--force", "--duration", "100ms", "--netns", &netns];
    let written_over = program().args(forced).arg(&file).output().expect("start tcp-close");
    assert!(written_over.status.success(), "{written_over:?}");
    assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
}

/// ^C ends it, and what was seen is in the file.
#[test]
fn an_interrupt_ends_a_recording_and_loses_nothing() {
    let netns = Netns::new();
    let directory = tempdir().expect("a directory");
    let file = directory.path().join("closes.tcpclose");
    let mut child = Command::new(program().get_program())
        .args(["-v", "record", "--netns", &netns.inode().to_string()])
        .arg(&file)
        .stderr(Stdio::piped())
        .spawn()
        .expect("start tcp-close");
    let mut log = BufReader::new(child.stderr.take().expect("stderr is piped"));
    wait_for_line(&mut log, "attached");
    loopback_connections(&netns, 5);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .expect("it runs");
    let deadline = Deadline::after(PATIENCE);
    let status = child.wait().expect("it ends");
    assert!(status.success() && deadline.left().is_some(), "{status}");
    assert_eq!(
        fs::metadata(&file).expect("it is there").permissions().mode() & 0o777,
        0o600,
        "its owner's alone"
    );
    let replayed = program().args(["replay", "-H"]).arg(&file).output().expect("start tcp-close");
    let lines = String::from_utf8_lossy(&replayed.stdout);
    assert_eq!(lines.lines().count(), 10, "{lines}");
    assert_eq!(String::from_utf8_lossy(&replayed.stderr), "", "it is whole");
}
