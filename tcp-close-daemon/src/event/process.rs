//! Processes, and the names that they give themselves.

use std::{convert::Infallible, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The kernel's name of a process or thread (`task_struct.comm`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Comm([u8; 16]);

impl Comm {
    /// From the kernel's bytes, NUL-padded.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The kernel's bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for Comm {
    /// A process may put any byte into its name: what is not printable is shown as `?`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        let name = String::from_utf8_lossy(self.0.get(..length).unwrap_or_default());
        let printable: String =
            name.chars().map(|character| if character.is_control() { '?' } else { character }).collect();
        formatter.pad(&printable)
    }
}

impl FromStr for Comm {
    type Err = Infallible;

    /// What is longer than the kernel's names are is cut off.
    fn from_str(name: &str) -> Result<Self, Infallible> {
        let mut bytes = [0; 16];
        // The last byte stays empty.
        for (place, &byte) in bytes.iter_mut().take(15).zip(name.as_bytes()) {
            *place = byte;
        }
        Ok(Self(bytes))
    }
}

/// As it is shown where people read it, as it is elsewhere.
impl Serialize for Comm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Comm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return <[u8; 16]>::deserialize(deserializer).map(Self);
        }
        let name = String::deserialize(deserializer)?;
        let Ok(comm) = name.parse();
        Ok(comm)
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

/// A process, as it was when it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id in the initial PID namespace.
    pub pid: u32,
    /// Its name.
    pub comm: Comm,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_a_line() {
        let comm = Comm::from_bytes(*b"a\nb\x1b[31m\0\0\0\0\0\0\0\0");
        assert_eq!(comm.to_string(), "a?b?[31m");
    }
}
