//! What is asked, as it stands in the query of a URL: both sides of the socket write and read it here.

use std::{str::FromStr, time::Duration};

use form_urlencoded::Serializer;

use crate::{
    event::TcpState,
    filter::{self, Expression, Numbers},
};

/// Which sockets or closes are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Inode numbers of network namespaces; empty for all.
    pub netns: Vec<u32>,
    /// Closing states; empty for all.
    pub states: Vec<TcpState>,
    /// What else there is to say of them.
    pub filter: Expression,
    /// Of what has ended, that which did so in this time; `None` for all that is remembered, or where it is followed,
    /// for nothing.
    pub since: Option<Duration>,
    /// Go on with what ends from now on.
    pub follow: bool,
}

impl Question {
    /// As a query: `netns=1,2&state=time_wait&filter=dport+%3D+%3A443`.
    pub(super) fn query(&self) -> String {
        let mut query = Serializer::new(String::new());
        let joined = |parts: Vec<String>| parts.join(",");
        if !self.netns.is_empty() {
            query.append_pair("netns", &joined(self.netns.iter().map(u32::to_string).collect()));
        }
        if !self.states.is_empty() {
            let states = self.states.iter().map(|state| state.label().to_owned());
            query.append_pair("state", &joined(states.collect()));
        }
        if !self.filter.wants_all() {
            query.append_pair("filter", &self.filter.to_string());
        }
        if let Some(since) = self.since {
            query.append_pair("since", &since.as_secs_f64().to_string());
        }
        if self.follow {
            query.append_pair("follow", "true");
        }
        query.finish()
    }

    /// From a query, or why it makes no sense.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut question = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let bad = || format!("{name} cannot be {value:?}");
            match &*name {
                "netns" => question.netns.extend(list::<u32>(&value).ok_or_else(bad)?),
                "state" => {
                    let states = list::<TcpState>(&value).ok_or_else(bad)?;
                    if !states.iter().all(|state| state.is_closing()) {
                        return Err(bad());
                    }
                    question.states.extend(states);
                }
                "filter" => {
                    question.filter = filter::parse(&value, &Numbers).map_err(|error| error.to_string())?;
                }
                "since" => {
                    let seconds = value.parse().ok();
                    let since = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                    question.since = Some(since.ok_or_else(bad)?);
                }
                "follow" => question.follow = value.parse().map_err(|_error| bad())?,
                _ => return Err(format!("there is no parameter {name:?}")),
            }
        }
        Ok(question)
    }
}

/// Some values between commas; `None` if one of them is none.
fn list<T: FromStr>(text: &str) -> Option<Vec<T>> {
    text.split(',').map(|value| value.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_as_it_was_written() {
        let filter = filter::parse("dport = :443 and not comm = \"a & b\"", &Numbers).expect("a filter");
        let question = Question {
            netns: vec![1, 2],
            states: vec![TcpState::TimeWait, TcpState::FinWait2],
            filter,
            since: Some(Duration::from_millis(1500)),
            follow: true,
        };
        assert_eq!(Question::parse(&question.query()), Ok(question));
        assert_eq!(Question::parse(&Question::default().query()), Ok(Question::default()));
    }

    #[test]
    fn it_can_be_typed() {
        let question =
            Question::parse("netns=1,2&state=time_wait,fin-wait-2&filter=role+active").expect("one");
        assert_eq!(question.netns, [1, 2]);
        assert_eq!(question.states, [TcpState::TimeWait, TcpState::FinWait2]);
        assert_eq!(question.filter.to_string(), "role = active");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (query, part) in [
            ("netns=x", "netns"),
            ("state=open", "state"),
            ("state=listen", "state"),
            ("colour=red", "colour"),
            ("filter=dport+%3D+%3Ahttps", "https is no number of a port"),
            ("filter=role+%3D", "compared with nothing"),
            ("since=-1", "since"),
            ("since=inf", "since"),
            ("follow=perhaps", "follow"),
        ] {
            let error = Question::parse(query).expect_err("it makes no sense");
            assert!(error.contains(part), "{error}");
        }
    }
}
