//! `tcp-close top`: what closes on this host, on a whole screen.

use std::{
    env,
    io::{self, IsTerminal as _},
    ops::ControlFlow,
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use ratatui::{
    DefaultTerminal,
    crossterm::{
        event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
        execute,
        terminal::{self, EnterAlternateScreen},
    },
    layout::{Position, Rect},
};
use rustix::process::{Signal, kill_current_process_group};
use tokio::{
    sync::{
        mpsc::{self, Receiver, Sender},
        oneshot,
    },
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    Failure, listen_for_signals, runtime,
    seen::{self, Seen},
};
use crate::{
    api::{self, AskError, Client, Lines, Question},
    clock,
    closing::{self, ClosingSocket, Known},
    event::TcpState,
    kernel::capabilities,
    line::Line,
    owner::{Holders, Homes},
    ports::{Ports, Pressure},
    settings::TopSettings,
    shutdown::Shutdown,
    snapshot::Snapshot,
    top::{self, Key, Model, Screen, Wish},
};

/// How often the screen is drawn when nobody presses a key.
const FRAME: Duration = Duration::from_secs(1);

/// How often sockets and ports are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// How long nobody looks again, for each unit of time that looking took.
const REST: u32 = 50;

/// What became known.
enum News {
    Ended(Vec<Line>),
    Missed(u64),
    Sockets(Vec<ClosingSocket>),
    Routes(Vec<Pressure>),
}

pub(super) fn run(settings: &TopSettings) -> Result<ExitCode, Failure> {
    let is_dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    if is_dumb || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::Other(anyhow::anyhow!(
            "top draws on a terminal, and there is none that it can draw on; `tcp-close watch` prints lines"
        )));
    }
    runtime()?.block_on(top(settings)).map(|()| ExitCode::SUCCESS)
}

async fn top(settings: &TopSettings) -> Result<(), Failure> {
    let mut shutdown = listen_for_signals(None)?;
    let lines = tokio::select! {
        biased;
        _ = shutdown.reason() => return Ok(()),
        lines = daemon(settings) => lines?,
    };
    let (tell, news) = mpsc::channel(64);
    let (begin, begun) = oneshot::channel();
    let show = show(settings, begun, news, &mut shutdown);
    let Some(lines) = lines else {
        return tokio::select! {
            shown = show => shown,
            seen = see(settings, begin, &tell) => seen,
            looked = look_here(settings, &tell) => looked,
        };
    };
    // Nobody is gone yet.
    let _waits = begin.send(());
    tokio::select! {
        shown = show => shown,
        heard = hear(lines, &tell) => heard,
        looked = look_at_daemon(settings, &tell) => looked,
    }
}

/// What the daemon has to tell, if it is to be asked and there is one.
async fn daemon(settings: &TopSettings) -> Result<Option<Lines>, Failure> {
    if settings.standalone {
        return Ok(None);
    }
    let question = Question { follow: true, ..Question::default() };
    let asked = match Client::connect(&settings.daemon).await {
        Ok(client) => client.ends(&question).await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(lines) => Ok(Some(lines)),
        Err(AskError::NoDaemon(_)) if !settings.daemon.named => Ok(None),
        Err(AskError::NotAllowed(_)) if !settings.daemon.named && capabilities::are_held() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What the daemon tells.
async fn hear(mut lines: Lines, tell: &Sender<News>) -> Result<(), Failure> {
    while let Some(told) = lines.next_told().await? {
        let ended = told.iter().map(|line| api::told(line)).collect::<Result<_, _>>()?;
        let missed = lines.missed();
        // Whoever draws has ended.
        if tell.send(News::Ended(ended)).await.is_err()
            || missed > 0 && tell.send(News::Missed(missed)).await.is_err()
        {
            return Ok(());
        }
    }
    Err(Failure::Other(anyhow::anyhow!("the daemon stopped")))
}

/// What is seen here.
async fn see(settings: &TopSettings, begin: oneshot::Sender<()>, tell: &Sender<News>) -> Result<(), Failure> {
    let mut shutdown = listen_for_signals(None)?;
    let mut begin = Some(begin);
    let take = |seen: Seen| {
        match seen {
            Seen::Attached => {
                let _waits = begin.take().map(|begin| begin.send(()));
            }
            Seen::Lines(lines) if lines.is_empty() => {}
            Seen::Lines(lines) => {
                let count = lines.len() as u64;
                if tell.try_send(News::Ended(lines)).is_err() {
                    // Whoever draws is far behind: that he is has to wait as well, if there is no room for it.
                    let _behind = tell.try_send(News::Missed(count));
                }
            }
        }
        ControlFlow::Continue(())
    };
    seen::follow("top", &settings.wanted, &mut shutdown, None, take).await
}

/// Looks at sockets and ports through the daemon, again and again.
async fn look_at_daemon(settings: &TopSettings, tell: &Sender<News>) -> Result<(), Failure> {
    let question = Question::default();
    let sockets = async || {
        let mut lines = Client::connect(&settings.daemon).await?.quiet().closing(&question).await?;
        let mut sockets = Vec::new();
        while let Some(some) = lines.next::<ClosingSocket>().await? {
            sockets.extend(some);
        }
        Ok(sockets)
    };
    let routes = async || {
        let mut lines = Client::connect(&settings.daemon).await?.quiet().ports(&question).await?;
        let mut routes = Vec::new();
        while let Some(some) = lines.next::<Pressure>().await? {
            routes.extend(some);
        }
        Ok(routes)
    };
    keep_looking(tell, sockets, routes).await
}

/// Looks at sockets and ports in the kernel's own table, again and again.
async fn look_here(settings: &TopSettings, tell: &Sender<News>) -> Result<(), Failure> {
    let netns = settings.wanted.probe.netns.clone();
    let ports = Ports::new(netns.clone());
    let sockets = async || {
        let wanted = netns.clone();
        let looked = spawn_blocking(move || {
            let snapshot = Snapshot::take(&wanted, &TcpState::CLOSING)?;
            let holders = Holders::of(&snapshot.inodes());
            let mut homes = Homes::of_this_host();
            let home = |cgroup| homes.get(cgroup, clock::monotonic_now);
            let known = Known::default();
            anyhow::Ok(closing::join(snapshot, known, &TcpState::CLOSING, holders, home).collect())
        });
        looked.await.context("looking at the sockets broke down").flatten().map_err(Failure::Other)
    };
    let routes = async || Ok(ports.now().await.map_err(Failure::Other)?.pressures.clone());
    keep_looking(tell, sockets, routes).await
}

/// Hands over what is seen of the sockets, and beside that of the ports, until nobody wants more.
///
/// They do not wait for each other: how ports change takes two looks, with a second of nothing between them.
async fn keep_looking(
    tell: &Sender<News>,
    sockets: impl AsyncFn() -> Result<Vec<ClosingSocket>, Failure>,
    routes: impl AsyncFn() -> Result<Vec<Pressure>, Failure>,
) -> Result<(), Failure> {
    let look_at_sockets = async {
        loop {
            let begun = clock::monotonic_now();
            let sockets = sockets().await?;
            let rest = LOOK.max(clock::monotonic_now().since(begun) * REST);
            if tell.send(News::Sockets(sockets)).await.is_err() {
                return Ok(());
            }
            sleep(rest).await;
        }
    };
    let look_at_ports = async {
        loop {
            let routes = routes().await?;
            if tell.send(News::Routes(routes)).await.is_err() {
                return Ok(());
            }
            sleep(LOOK).await;
        }
    };
    tokio::select! {
        ended = look_at_sockets => ended,
        ended = look_at_ports => ended,
    }
}

const CANNOT_DRAW: &str = "cannot draw on this terminal";

/// The screen, ours until this is gone: then, and when anything panics, it is as it was.
struct Screened(DefaultTerminal);

impl Screened {
    fn new() -> Result<Self, Failure> {
        ratatui::try_init().map(Self).context(CANNOT_DRAW).map_err(Failure::Other)
    }

    /// Goes back to the shell, as ^Z does where the terminal itself acts on it, and on when the shell says so.
    fn suspend(&mut self) -> Result<(), Failure> {
        let mut suspended = || {
            ratatui::try_restore()?;
            self.0.show_cursor()?;
            // All of it: a script that waits for this has to stop as well. Where nobody could make it go on, the kernel
            // stops nobody.
            kill_current_process_group(Signal::TSTP)?;
            terminal::enable_raw_mode()?;
            execute!(io::stdout(), EnterAlternateScreen)?;
            // As after a change of its size, all is drawn anew; `clear` would ask the terminal where its cursor is, and the
            // answer go to whoever reads the keys.
            let size = self.0.size()?;
            self.0.resize(Rect::from((Position::ORIGIN, size)))
        };
        suspended().context(CANNOT_DRAW).map_err(Failure::Other)
    }
}

impl Drop for Screened {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Draws until somebody has seen enough.
async fn show(
    settings: &TopSettings,
    begun: oneshot::Receiver<()>,
    mut news: Receiver<News>,
    shutdown: &mut Shutdown,
) -> Result<(), Failure> {
    tokio::select! {
        biased;
        _ = shutdown.reason() => return Ok(()),
        // It may have ended before it began, and says why.
        begun = begun => if begun.is_err() {
            return std::future::pending().await;
        }
    }
    let mut screened = Screened::new()?;
    let mut keys = keys();
    let mut model = Model::new(settings.filter.clone());
    let mut screen = Screen::new(settings.ascii);
    let mut frame = interval(FRAME);
    frame.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        model.advance(clock::monotonic_now());
        let drawn = screened.0.draw(|frame| top::draw(frame, &model, &screen));
        drawn.context(CANNOT_DRAW).map_err(Failure::Other)?;
        loop {
            tokio::select! {
                biased;
                _ = shutdown.reason() => return Ok(()),
                event = keys.recv() => match event {
                    Some(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                        match read(key).and_then(|key| screen.key(key, &model)) {
                            Some(Wish::Quit) => return Ok(()),
                            Some(Wish::Suspend) => screened.suspend()?,
                            Some(Wish::Filter(filter)) => model.set_filter(filter),
                            None => {}
                        }
                        break;
                    }
                    Some(Event::Resize(..)) => break,
                    Some(_) => {}
                    // Nobody is at the terminal any more.
                    None => return Ok(()),
                },
                _ = frame.tick() => break,
                Some(news) = news.recv() => {
                    model.advance(clock::monotonic_now());
                    take(&mut model, news);
                }
            }
        }
    }
}

fn take(model: &mut Model, news: News) {
    match news {
        News::Ended(lines) => lines.into_iter().for_each(|line| model.add(line)),
        News::Missed(missed) => model.add_missed(missed),
        News::Sockets(sockets) => model.set_sockets(sockets),
        News::Routes(routes) => model.set_routes(routes),
    }
}

/// What is typed; it ends with the terminal. Reading cannot be called off, so it has a thread of its own, which nobody
/// waits for.
fn keys() -> Receiver<Event> {
    let (tell, keys) = mpsc::channel(16);
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if tell.blocking_send(event).is_err() {
                break;
            }
        }
    });
    keys
}

/// A key, if it means anything here.
const fn read(key: KeyEvent) -> Option<Key> {
    Some(match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Interrupt,
        KeyCode::Char('z') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Suspend,
        KeyCode::Char(_) if key.modifiers.intersects(KeyModifiers::CONTROL.union(KeyModifiers::ALT)) => {
            return None;
        }
        KeyCode::Char(character) => Key::Char(character),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        _ => return None,
    })
}
