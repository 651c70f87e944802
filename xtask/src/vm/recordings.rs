//! What the tests of a machine recorded: told on its console, since that is all there is of it afterwards.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context as _;

/// Larger files are of storms of connections, and would take long to be told.
const MOST_KIB: u32 = 24;

/// A script that runs the tests and tells what they recorded, with their status.
pub(super) fn made_by(tests: &str) -> Vec<String> {
    [
        "/bin/busybox mkdir /tmp/recordings",
        "export TCP_CLOSE_TEST_RECORD=/tmp/recordings",
        tests,
        "status=$?",
        &format!("for file in $(/bin/busybox find /tmp/recordings -type f -size -{MOST_KIB}k); do"),
        "    echo VM-RECORDING ${file##*/}",
        "    /bin/busybox xxd -p $file",
        "    echo VM-RECORDED",
        "done",
        "exit $status",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The files, in hexadecimal digits, by name.
#[derive(Debug, Default)]
pub(super) struct Recordings {
    files: BTreeMap<String, String>,
    /// The one that is being told.
    name: Option<String>,
}

impl Recordings {
    pub(super) fn read(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("VM-RECORDING ") {
            self.name = Some(name.to_owned());
        } else if line == "VM-RECORDED" {
            self.name = None;
        } else if let Some(name) = &self.name {
            self.files.entry(name.clone()).or_default().push_str(line);
        }
    }

    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        for (name, digits) in &self.files {
            let bytes = hex::decode(digits).with_context(|| format!("{name} came to harm on the console"))?;
            fs::write(folder.join(name), bytes)?;
        }
        println!("{} recordings in {}", self.files.len(), folder.display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_a_file_again() {
        let mut recordings = Recordings::default();
        for line in ["test a ... ok", "VM-RECORDING a", "00ff", "10", "VM-RECORDED", "VM-EXIT 0"] {
            recordings.read(line);
        }
        let folder = std::env::temp_dir().join(format!("tcp-close-recordings-{}", std::process::id()));
        recordings.write(&folder).expect("a folder");
        let written = fs::read(folder.join("a")).expect("a file");
        fs::remove_dir_all(&folder).expect("it is ours");
        assert_eq!(written, [0, 0xff, 0x10]);
    }
}
