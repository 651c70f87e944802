//! What `list` prints is the kernel's table, and who holds what.

use serde_json::Value;
use tcp_close_test::oracle::{self, Timer};

use crate::{
    program::program,
    stuck::{CLOSING, Stuck, count},
};

/// What it prints of these sockets, and on stderr.
fn list(stuck: &Stuck, arguments: &[&str]) -> (String, String) {
    let output = program()
        .args(["list", "--netns", &stuck.netns.inode().to_string()])
        .args(arguments)
        .output()
        .expect("start tcp-close; TCP_CLOSE_BIN names it, or cargo build --release makes it");
    assert!(output.status.success(), "{output:?}");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(output.stdout), text(output.stderr))
}

#[test]
fn every_socket_that_closes_is_listed_with_its_holder() {
    let mut stuck = Stuck::new();
    stuck.in_every_state();
    let (lines, complaints) = list(&stuck, &["-o", "json"]);
    let table = oracle::sockets(&stuck.netns);
    assert_eq!(complaints, "");
    let rows: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("a line is an object")).collect();
    for (kernels, ours) in CLOSING {
        let listed = rows.iter().filter(|row| row["state"] == ours.label()).count();
        assert_eq!(listed, count(&table, kernels), "{ours:?}: {lines}");
    }
    for row in &rows {
        let socket = table.iter().find(|socket| row["cookie"] == socket.cookie).expect("it is in the table");
        assert_eq!(row["local"]["port"], socket.local.port());
        assert_eq!(row["remote"]["addr"], socket.remote.ip().to_string());
        let left = (socket.timer == Timer::TimeWait).then_some(socket.expires.as_secs_f64());
        // The list came first.
        let apart = row["left_seconds"].as_f64().zip(left).map(|(listed, left)| listed - left);
        assert_eq!(apart.is_some(), left.is_some(), "{row} {socket}");
        assert!(apart.is_none_or(|apart| (0.0..1.0).contains(&apart)), "{row} {socket}");
        // This process holds whatever is held.
        let holders = row["holders"].as_array().expect("an array");
        assert_eq!(holders.len(), usize::from(socket.inode != 0), "{row} {socket}");
        for holder in holders {
            assert_eq!(holder["pid"], std::process::id());
            let fd = holder["fd"].as_i64().expect("a number");
            let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).expect("it is open");
            assert_eq!(link.to_str(), Some(&*format!("socket:[{}]", socket.inode)));
        }
    }

    let (only, _) = list(&stuck, &["--state", "close-wait", "-H", "-4"]);
    let held = format!("/{}", std::process::id());
    assert_eq!(only.lines().count(), 2, "{only}");
    assert!(only.lines().all(|line| line.starts_with("close-wait ") && line.contains(&held)), "{only}");
}
