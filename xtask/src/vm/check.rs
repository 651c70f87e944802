//! What tcp-close says of a kernel: `check` of each hook, `watch` of whether it starts. Read off the console.

use std::fmt;

use serde::Deserialize;

use super::Family;

/// The script that makes it speak.
pub(super) const SCRIPT: &str = include_str!("check.sh");

/// What `tcp-close check -o json` prints, as far as it is of interest here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Answer {
    pub(super) hooks: Vec<HookLine>,
}

/// A hook, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct HookLine {
    pub(super) hook: String,
    pub(super) rung: Option<String>,
    /// `None` where it was not tried.
    pub(super) verdict: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) lost: Option<String>,
}

impl fmt::Display for HookLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |word: &Option<String>, without: &str| word.clone().unwrap_or_else(|| without.to_owned());
        write!(f, "{} {} {}", self.hook, or(&self.rung, "-"), or(&self.verdict, "unknown"))?;
        self.detail.iter().try_for_each(|detail| write!(f, " ({detail})"))
    }
}

/// How one call of the program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) verb: Verb,
    pub(super) family: Family,
    pub(super) status: i32,
    /// What it said on stderr.
    pub(super) complaints: Vec<String>,
    /// What `check` answered; `None` of `watch`, or where it is no JSON.
    pub(super) answer: Option<Answer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Check,
    Watch,
}

/// Every call on one machine, as they are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    pub(super) ended: Vec<Call>,
    /// Of the call that has not ended yet.
    complaints: Vec<String>,
}

impl Calls {
    /// Reads a line of the console; most are about something else.
    pub(super) fn read(&mut self, line: &str) {
        let Some((verb, rest)) = [("VM-CHECK ", Verb::Check), ("VM-WATCH ", Verb::Watch)]
            .into_iter()
            .find_map(|(mark, verb)| Some((verb, line.strip_prefix(mark)?)))
        else {
            return;
        };
        let mut words = rest.splitn(3, ' ');
        let family = words.next().and_then(Family::named);
        let (Some(family), Some(status)) = (family, words.next()) else { return };
        let text = words.next().unwrap_or_default();
        if status == "|" {
            self.complaints.push(text.to_owned());
        } else if let Ok(status) = status.parse() {
            let complaints = std::mem::take(&mut self.complaints);
            let answer = serde_json::from_str(text).ok();
            self.ended.push(Call { verb, family, status, complaints, answer });
        }
    }

    /// What `check` answered for this kind of hook.
    pub(super) fn answer(&self, family: Family) -> Option<&Answer> {
        self.ended.iter().find(|call| call.verb == Verb::Check && call.family == family)?.answer.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_off_the_console() {
        let mut calls = Calls::default();
        for line in [
            "VM-CHECK auto 0 {\"version\":\"1\",\"hooks\":[{\"hook\":\"minisock\",\"rung\":\"fentry\",\
             \"verdict\":\"ok\",\"detail\":null,\"lost\":null}],\"facts\":[]}",
            "something else",
            "VM-WATCH auto | WARN it is cold",
            "VM-WATCH auto 3",
            "VM-CHECK fentry 101 ",
        ] {
            calls.read(line);
        }
        let line = HookLine {
            hook: "minisock".to_owned(),
            rung: Some("fentry".to_owned()),
            verdict: Some("ok".to_owned()),
            detail: None,
            lost: None,
        };
        assert_eq!(line.to_string(), "minisock fentry ok");
        assert_eq!(calls.answer(Family::Auto), Some(&Answer { hooks: vec![line] }));
        assert_eq!(calls.answer(Family::Fentry), None);
        let of = |call: &Call| (call.verb, call.status, call.complaints.clone());
        assert_eq!(
            calls.ended.iter().map(of).collect::<Vec<_>>(),
            [
                (Verb::Check, 0, Vec::new()),
                (Verb::Watch, 3, vec!["WARN it is cold".to_owned()]),
                (Verb::Check, 101, Vec::new())
            ]
        );
    }
}
