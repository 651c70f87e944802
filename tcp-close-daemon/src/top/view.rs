//! Draws what is known. It fits 80 columns and 24 lines, and uses what there is beyond.

use std::{collections::HashMap, time::Duration};

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Style,
    symbols,
    text::{Line as TextLine, Span},
    widgets::{Block, Clear, Paragraph, Row, Sparkline, Table, TableState},
};

use crate::{event::TcpState, line::Line, render::Measure};

use super::{
    Model, Screen,
    model::{SECONDS, Tally, slowness},
    screen::{Order, Tab},
};

const HELP: &str = "\
1-5, Tab      overview, owners, peers and ports, TIME-WAIT, slow closes
up, down      mark a line; page up, page down
Enter         the marked slow close as a ladder; any other key closes it
s             sort owners and peers by closed, now, resets, name
/             filter, in the language of ss: dport = :443 and not comm = curl
space, p      pause and go on
q, ^C         quit
^Z            back to the shell; fg returns

CLOSED, ACTIVE, RESETS and TW count what ended since this was begun;
NOW and what is right of it count what is closing at this moment.";

/// Draws the screen.
pub fn draw(frame: &mut Frame<'_>, model: &Model, screen: &Screen) {
    let model = screen.shown(model);
    let [title, tabs, body, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(self::title(model, screen)), title);
    frame.render_widget(Paragraph::new(self::tabs(screen)), tabs);
    match screen.tab {
        Tab::Overview => overview(frame, body, model, screen),
        Tab::Owners => tallies(frame, body, "OWNER", model.owners(), screen),
        Tab::Peers => peers(frame, body, model, screen),
        Tab::TimeWait => time_wait(frame, body, model, screen),
        Tab::Slow => slow(frame, body, model, screen),
    }
    frame.render_widget(Paragraph::new(bottom(screen)), keys);
    if let Some((text, from)) = &screen.ladder {
        let lines: Vec<TextLine<'_>> = text.lines().skip(*from).map(TextLine::raw).collect();
        frame.render_widget(Clear, body);
        frame.render_widget(Paragraph::new(lines), body);
    }
    if screen.shows_help {
        frame.render_widget(Clear, body);
        frame.render_widget(Paragraph::new(HELP), body);
    }
    if let Some(error) = &screen.error {
        let height = u16::try_from(error.lines().count()).unwrap_or(3).min(body.height);
        let place = Rect { y: body.bottom().saturating_sub(height), height, ..body };
        frame.render_widget(Clear, place);
        frame.render_widget(Paragraph::new(error.as_str()), place);
    }
}

fn title(model: &Model, screen: &Screen) -> TextLine<'static> {
    let mut parts = vec![
        Span::styled("tcp-close top", Style::new().bold()),
        Span::raw(format!("  {:.1} closes/s  {} closed", model.rate(), model.closed())),
    ];
    if let Some(seconds) = model.staleness() {
        parts.push(Span::styled(format!("  sockets of {seconds} s ago"), Style::new().bold()));
    }
    if model.missed() > 0 {
        parts.push(Span::raw(format!("  at most {} missed", model.missed())));
    }
    if screen.is_paused() {
        parts.push(Span::styled("  PAUSED", Style::new().reversed()));
    }
    if !model.filter().wants_all() {
        parts.push(Span::raw(format!("  {}", model.filter())));
    }
    TextLine::from(parts)
}

fn tabs(screen: &Screen) -> TextLine<'static> {
    let mut parts = Vec::new();
    for (number, tab) in Tab::ALL.into_iter().enumerate() {
        let style = if tab == screen.tab { Style::new().reversed() } else { Style::new() };
        parts.push(Span::styled(format!(" {} {} ", number + 1, tab.name()), style));
    }
    TextLine::from(parts)
}

fn bottom(screen: &Screen) -> String {
    match &screen.typed {
        Some(typed) => format!("filter: {typed}_"),
        None => "q quit  Tab next  space pause  s sort  / filter  Enter ladder  ? help".to_owned(),
    }
}

fn overview(frame: &mut Frame<'_>, area: Rect, model: &Model, screen: &Screen) {
    let [tables, rates] = Layout::vertical([Constraint::Min(10), Constraint::Length(8)]).areas(area);
    let [manners, states] =
        Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(tables);
    let rows = model.by_manner().map(|(role, manner, count)| {
        Row::new([role.to_owned(), manner.replace('_', " "), count.to_string()])
    });
    let widths = [Constraint::Length(13), Constraint::Length(15), Constraint::Length(9)];
    frame.render_widget(Table::new(rows, widths).header(header(["CLOSED", "", "SOCKETS"])), manners);
    let rows: Vec<Row<'_>> = match model.states() {
        None => vec![Row::new(["not looked at yet", "", ""])],
        Some(states) => states
            .into_iter()
            .map(|(state, count, oldest)| {
                let row = Row::new([state.ss_name().to_owned(), count.to_string(), measured(oldest)]);
                // What no peer and no time will end.
                if state == TcpState::CloseWait && count > 0 { row.style(Style::new().bold()) } else { row }
            })
            .collect(),
    };
    let widths = [Constraint::Length(18), Constraint::Length(8), Constraint::Length(8)];
    frame
        .render_widget(Table::new(rows, widths).header(header(["CLOSING NOW", "SOCKETS", "OLDEST"])), states);
    let most = model.seconds().into_iter().max().unwrap_or_default();
    let block = Block::new().title(format!("closes in each of the last {SECONDS} seconds, at most {most}"));
    let seconds = model.seconds();
    let shown = seconds.len().min(usize::from(rates.width));
    let seconds = seconds.get(seconds.len() - shown..).unwrap_or_default();
    let bars = if screen.ascii { ASCII_BARS } else { symbols::bar::NINE_LEVELS };
    frame.render_widget(Sparkline::default().block(block).data(seconds).bar_set(bars), rates);
}

/// Bars of full cells only.
const ASCII_BARS: symbols::bar::Set<'static> = symbols::bar::Set {
    full: "#",
    seven_eighths: "#",
    three_quarters: "#",
    five_eighths: "#",
    half: "#",
    three_eighths: " ",
    one_quarter: " ",
    one_eighth: " ",
    empty: " ",
};

fn tallies(
    frame: &mut Frame<'_>,
    area: Rect,
    what: &'static str,
    tallies: &HashMap<String, Tally>,
    screen: &Screen,
) {
    let mut sorted: Vec<(&String, &Tally)> = tallies.iter().collect();
    sorted.sort_by(|(name, tally), (other_name, other)| {
        let by_name = name.cmp(other_name);
        match screen.order {
            Order::Closed => other.closed.cmp(&tally.closed).then(by_name),
            Order::Now => other.all_now().cmp(&tally.all_now()).then(by_name),
            Order::Resets => other.resets.cmp(&tally.resets).then(by_name),
            Order::Name => by_name,
        }
    });
    let rows = sorted.into_iter().map(|(name, tally)| {
        let counts = [
            tally.closed,
            tally.active,
            tally.resets,
            tally.time_waits,
            tally.all_now(),
            tally.now(TcpState::FinWait2),
            tally.now(TcpState::TimeWait),
            tally.now(TcpState::CloseWait),
            tally.now(TcpState::LastAck),
        ];
        Row::new([name.clone()].into_iter().chain(counts.map(|count| format!("{count:>6}"))))
    });
    let names = ["CLOSED", "ACTIVE", "RESETS", "TW", "NOW", "FIN2", "TW", "CWAIT", "LACK"];
    let what = format!("{what} (by {})", screen.order.name());
    let header = Row::new([what].into_iter().chain(names.map(|name| format!("{name:>6}"))));
    let widths = [Constraint::Min(16)].into_iter().chain([Constraint::Length(6); 9]);
    let table = Table::new(rows, widths)
        .header(header.style(Style::new().bold()))
        .row_highlight_style(Style::new().reversed());
    let mut state = TableState::new().with_selected(Some(screen.selected));
    frame.render_stateful_widget(table, area, &mut state);
}

fn peers(frame: &mut Frame<'_>, area: Rect, model: &Model, screen: &Screen) {
    let [peers, ports] =
        Layout::vertical([Constraint::Percentage(60), Constraint::Percentage(40)]).areas(area);
    tallies(frame, peers, "PEER", model.remotes(), screen);
    let rows = model.routes().unwrap_or_default().iter().map(|route| {
        let to = std::net::SocketAddr::from(route.destination);
        let time_wait = route.states.get(&TcpState::TimeWait).copied().unwrap_or_default();
        let counts =
            [route.used, time_wait, route.reusable, route.available].map(|count| format!("{count:>6}"));
        let empty = measured(route.exhaustion_seconds);
        Row::new(
            [route.netns_name.clone(), route.source.to_string(), to.to_string()]
                .into_iter()
                .chain(counts)
                .chain([empty]),
        )
    });
    let widths = [
        Constraint::Length(8),
        Constraint::Length(15),
        Constraint::Min(18),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(6),
    ];
    let names = ["NETNS", "SOURCE", "DESTINATION", "  USED", "    TW", " REUSE", " AVAIL", "EMPTY"];
    frame.render_widget(Table::new(rows, widths).header(header(names)), ports);
}

fn time_wait(frame: &mut Frame<'_>, area: Rect, model: &Model, screen: &Screen) {
    let [dwells, ends] = Layout::vertical([Constraint::Length(9), Constraint::Min(0)]).areas(area);
    let most = model.dwells().ranges().map(|(_, count)| count).max().unwrap_or_default().max(1);
    let room = u64::from(dwells.width.saturating_sub(20));
    let full = if screen.ascii { "#" } else { "█" };
    let rows = model.dwells().ranges().map(|(range, count)| {
        let cells = usize::try_from(count * room / most).unwrap_or_default();
        let cells = if count > 0 { cells.max(1) } else { 0 };
        Row::new([range.to_owned(), format!("{count:>8}"), full.repeat(cells)])
    });
    let widths = [Constraint::Length(8), Constraint::Length(8), Constraint::Min(0)];
    frame.render_widget(Table::new(rows, widths).header(header(["LASTED", "   ENDED", ""])), dwells);
    let [causes, verdicts] =
        Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(ends);
    let widths = [Constraint::Length(22), Constraint::Length(10)];
    let row = |(name, count): (&str, u64)| Row::new([name.replace('_', "-"), count.to_string()]);
    let table = |rows, names| Table::new(rows, widths).header(header(names));
    let by_cause: Vec<Row<'_>> = model.causes().map(row).collect();
    let by_verdict: Vec<Row<'_>> = model.verdicts().map(row).collect();
    frame.render_widget(table(by_cause, ["ENDED BY", "MINISOCKS"]), causes);
    frame.render_widget(table(by_verdict, ["VERDICT", "TIME-WAITS"]), verdicts);
}

fn slow(frame: &mut Frame<'_>, area: Rect, model: &Model, screen: &Screen) {
    let rows = model.slow().iter().map(|line| {
        let longest = slowness(line).map(Duration::from_nanos);
        let (story, head) = match line {
            Line::Closed(closed) => (&closed.story, &closed.head),
            _ => return Row::new([String::new()]),
        };
        let state = story
            .states
            .iter()
            .max_by(|a, b| a.seconds.unwrap_or_default().total_cmp(&b.seconds.unwrap_or_default()));
        Row::new([
            longest.map_or_else(String::new, |longest| Measure(longest).to_string()),
            state.map_or_else(String::new, |state| state.state.ss_name().to_owned()),
            story.owner.name().unwrap_or_else(|| "-".to_owned()),
            std::net::SocketAddr::from(head.local).to_string(),
            std::net::SocketAddr::from(head.remote).to_string(),
            story.manner.map_or_else(|| "unknown".to_owned(), |manner| manner.label().replace('_', " ")),
        ])
    });
    let widths = [
        Constraint::Length(7),
        Constraint::Length(10),
        Constraint::Length(12),
        Constraint::Min(15),
        Constraint::Min(15),
        Constraint::Length(10),
    ];
    let table = Table::new(rows, widths)
        .header(header(["LONGEST", "IN", "OWNER", "LOCAL", "REMOTE", "HOW"]))
        .row_highlight_style(Style::new().reversed());
    let mut state = TableState::new().with_selected(Some(screen.selected));
    frame.render_stateful_widget(table, area, &mut state);
}

fn header<const N: usize>(names: [&'static str; N]) -> Row<'static> {
    Row::new(names).style(Style::new().bold())
}

fn measured(seconds: Option<f64>) -> String {
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.map_or_else(|| "-".to_owned(), |duration| Measure(duration).to_string())
}
