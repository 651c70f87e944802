//! What real kernels told of the live scenarios, through the lifecycle again: the same closes as then.
//!
//! The recordings are made by `cargo xtask vm --record tcp-close-daemon/tests/recordings`, for each kernel and kind of hook
//! a folder. `UPDATE_EXPECT=1` writes what they say now into the texts beside them: read the difference.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use expect_test::expect_file;

/// What `replay` prints of each recording in a folder.
fn replayed(folder: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings").join(folder);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("a folder of recordings")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let mut text = String::new();
    for file in files {
        let output = Command::new(env!("CARGO_BIN_EXE_tcp-close"))
            .args(["replay", "--wide", "--no-header"])
            .arg(&file)
            .env("TZ", "UTC")
            .output()
            .expect("tcp-close");
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", file.display());
        let name = file.file_stem().expect("a name").to_string_lossy();
        writeln!(text, "{name}").expect("a string");
        // The time of day, and a name that a column is wider for, say nothing of the lifecycle.
        for line in String::from_utf8(output.stdout).expect("text").lines() {
            let words: Vec<_> = line.split_whitespace().skip(1).collect();
            writeln!(text, "    {}", words.join(" ")).expect("a string");
        }
    }
    text
}

/// Each folder, and no other text than those of the folders.
#[test]
fn real_closes_are_told_as_they_were() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let entries = fs::read_dir(&root).expect("the recordings").map(|entry| entry.expect("an entry").path());
    let folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    assert!(!folders.is_empty());
    for folder in folders {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        expect_file![root.join(format!("{name}.txt"))].assert_eq(&replayed(&name));
    }
}
