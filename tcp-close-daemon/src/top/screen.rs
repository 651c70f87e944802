//! What is looked at, and what keys do.

use crate::{
    filter::{self, Expression, HostNames},
    line::Line,
    render::{Signs, ladder},
};

use super::Model;

/// A key, or something typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they say it")]
pub enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    PageUp,
    PageDown,
    Tab,
    BackTab,
    /// ^C.
    Interrupt,
    /// ^Z.
    Suspend,
}

/// What somebody wants of whoever shows this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To see no more of it.
    Quit,
    /// To go back to the shell for a while.
    Suspend,
    /// To see only those.
    Filter(Expression),
}

/// What is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tab {
    #[default]
    Overview,
    Owners,
    Peers,
    TimeWait,
    Slow,
}

impl Tab {
    pub(super) const ALL: [Self; 5] = [Self::Overview, Self::Owners, Self::Peers, Self::TimeWait, Self::Slow];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Owners => "owners",
            Self::Peers => "peers and ports",
            Self::TimeWait => "TIME-WAIT",
            Self::Slow => "slow closes",
        }
    }

    fn after(self, steps: usize) -> Self {
        let place = Self::ALL.iter().position(|&tab| tab == self).unwrap_or_default();
        Self::ALL.iter().copied().cycle().nth(place + steps).unwrap_or_default()
    }
}

/// What tables of owners and peers are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// Most closes first.
    #[default]
    Closed,
    /// Most sockets that are closing now.
    Now,
    /// Most resets.
    Resets,
    /// By name.
    Name,
}

impl Order {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Now => "now",
            Self::Resets => "resets",
            Self::Name => "name",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Closed => Self::Now,
            Self::Now => Self::Resets,
            Self::Resets => Self::Name,
            Self::Name => Self::Closed,
        }
    }
}

/// What is looked at, and how.
#[derive(Debug, Default)]
pub struct Screen {
    pub(super) tab: Tab,
    pub(super) order: Order,
    /// The line that is marked.
    pub(super) selected: usize,
    /// One close, drawn as a ladder, from this line of it on.
    pub(super) ladder: Option<(String, usize)>,
    /// A filter that is being typed.
    pub(super) typed: Option<String>,
    /// What is wrong with it.
    pub(super) error: Option<String>,
    pub(super) shows_help: bool,
    /// What was known when somebody wanted it to stand still.
    frozen: Option<Box<Model>>,
    /// Nothing but ASCII can be shown.
    pub(super) ascii: bool,
}

impl Screen {
    /// For a terminal that shows more than ASCII, or not.
    pub fn new(ascii: bool) -> Self {
        Self { ascii, ..Self::default() }
    }

    /// What is to be shown of what is known.
    pub fn shown<'a>(&'a self, model: &'a Model) -> &'a Model {
        self.frozen.as_deref().unwrap_or(model)
    }

    pub(super) const fn is_paused(&self) -> bool {
        self.frozen.is_some()
    }

    /// Takes a key; gives back what it asks for beyond the screen.
    pub fn key(&mut self, key: Key, model: &Model) -> Option<Wish> {
        match key {
            Key::Interrupt => return Some(Wish::Quit),
            Key::Suspend => return Some(Wish::Suspend),
            _ => {}
        }
        if self.typed.is_some() {
            return self.typing(key, model);
        }
        if let Some((text, from)) = &mut self.ladder {
            let last = text.lines().count().saturating_sub(1);
            match key {
                Key::Up => *from = from.saturating_sub(1),
                Key::Down => *from = (*from + 1).min(last),
                Key::PageUp => *from = from.saturating_sub(PAGE),
                Key::PageDown => *from = (*from + PAGE).min(last),
                _ => self.ladder = None,
            }
            return None;
        }
        if self.shows_help {
            self.shows_help = false;
            return None;
        }
        match key {
            Key::Char('q') => return Some(Wish::Quit),
            Key::Char('?' | 'h') => self.shows_help = true,
            Key::Char(' ' | 'p') => {
                self.frozen = if self.is_paused() { None } else { Some(Box::new(model.clone())) };
            }
            Key::Char('s') => self.order = self.order.next(),
            Key::Char('/') => self.typed = Some(model.filter().to_string()),
            Key::Char(digit @ '1'..='5') => {
                let place = digit.to_digit(10).map_or(0, |digit| digit as usize - 1);
                self.look_at(Tab::ALL.get(place).copied().unwrap_or_default());
            }
            Key::Tab => self.look_at(self.tab.after(1)),
            Key::BackTab => self.look_at(self.tab.after(Tab::ALL.len() - 1)),
            Key::Up => self.selected = self.selected.saturating_sub(1),
            Key::Down => self.selected += 1,
            Key::PageUp => self.selected = self.selected.saturating_sub(PAGE),
            Key::PageDown => self.selected += PAGE,
            Key::Enter => self.drill_down(model),
            Key::Char(_) | Key::Escape | Key::Backspace | Key::Interrupt | Key::Suspend => {}
        }
        let lines = self.lines(model);
        self.selected = self.selected.min(lines.saturating_sub(1));
        None
    }

    const fn look_at(&mut self, tab: Tab) {
        self.tab = tab;
        self.selected = 0;
    }

    /// How many lines there are to mark one of.
    fn lines(&self, model: &Model) -> usize {
        let model = self.shown(model);
        match self.tab {
            Tab::Owners => model.owners().len(),
            Tab::Peers => model.remotes().len(),
            Tab::Slow => model.slow().len(),
            Tab::Overview | Tab::TimeWait => 0,
        }
    }

    /// Shows the close that is marked as a ladder.
    fn drill_down(&mut self, model: &Model) {
        if self.tab != Tab::Slow {
            return;
        }
        let signs = if self.ascii { Signs::ASCII } else { Signs::UNICODE };
        let line: Option<&Line> = self.shown(model).slow().get(self.selected);
        self.ladder = line.and_then(|line| ladder(line, signs)).map(|text| (text, 0));
    }

    fn typing(&mut self, key: Key, model: &Model) -> Option<Wish> {
        let typed = self.typed.as_mut()?;
        match key {
            Key::Char(character) => typed.push(character),
            Key::Backspace => {
                typed.pop();
            }
            Key::Escape => {
                self.typed = None;
                self.error = None;
            }
            Key::Enter => match filter::parse(typed, &HostNames) {
                Ok(filter) => {
                    self.typed = None;
                    self.error = None;
                    self.selected = 0;
                    if filter != *model.filter() {
                        self.frozen = None;
                        return Some(Wish::Filter(filter));
                    }
                }
                Err(error) => self.error = Some(error.to_string()),
            },
            _ => {}
        }
        None
    }
}

/// Lines that a page has, about.
const PAGE: usize = 15;
