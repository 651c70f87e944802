//! `tcp-close ports`: which ephemeral ports are used, towards whom, and when there will be none left.

use std::{
    io::{self, BufWriter, Write as _},
    net::SocketAddr,
    process::ExitCode,
};

use jiff::tz::TimeZone;

use super::{Failure, printed, runtime, warn_of, warn_of_missing};
use crate::{
    api::{AskError, Client, Question},
    cli::Output,
    ports::{Ports, Pressure},
    render::Table,
    settings::PortsSettings,
};

pub(super) fn run(settings: &PortsSettings) -> Result<ExitCode, Failure> {
    warn_of_missing(&settings.netns);
    let runtime = runtime()?;
    let standalone = || runtime.block_on(standalone(settings)).map_err(Failure::Other);
    let (pressures, blind_spot) = if settings.standalone {
        standalone()?
    } else {
        match runtime.block_on(from_daemon(settings)) {
            Ok(answer) => answer,
            Err(error @ (AskError::NoDaemon(_) | AskError::NotAllowed(_))) if !settings.daemon.named => {
                tracing::debug!("{error}");
                standalone()?
            }
            Err(error) => return Err(error.into()),
        }
    };
    warn_of(blind_spot.as_deref());
    printed(print(settings, &pressures))
}

type Answer = (Vec<Pressure>, Option<String>);

async fn from_daemon(settings: &PortsSettings) -> Result<Answer, AskError> {
    let question = Question { netns: settings.netns.clone(), ..Question::default() };
    let mut lines = Client::connect(&settings.daemon).await?.ports(&question).await?;
    let mut pressures = Vec::new();
    while let Some(some) = lines.next().await? {
        pressures.extend::<Vec<Pressure>>(some);
    }
    Ok((pressures, lines.blind_spot))
}

async fn standalone(settings: &PortsSettings) -> anyhow::Result<Answer> {
    let report = Ports::new(settings.netns.clone()).now().await?;
    Ok((report.pressures.clone(), report.blind_spot.map(|blind_spot| blind_spot.to_string())))
}

fn print(settings: &PortsSettings, pressures: &[Pressure]) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let wanted =
        |pressure: &&Pressure| settings.to.is_none_or(|to| SocketAddr::from(pressure.destination) == to);
    let pressures: Vec<_> = pressures.iter().filter(wanted).collect();
    let table = Table::new(settings.lines.wide, TimeZone::system()).fitted_to_routes(&pressures);
    if settings.lines.output == Output::Table && settings.lines.header {
        writeln!(out, "{}", table.ports_header())?;
    }
    for pressure in pressures {
        match settings.lines.output {
            Output::Table => writeln!(out, "{}", table.ports(pressure))?,
            Output::Json => writeln!(out, "{}", serde_json::to_string(pressure)?)?,
        }
    }
    out.flush()
}
