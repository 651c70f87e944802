//! `tcp-close list`: every socket that is closing now, by the kernel's own table.

use std::{
    collections::HashSet,
    io::{self, BufWriter, ErrorKind, Write as _},
    process::ExitCode,
};

use jiff::tz::TimeZone;

use super::Failure;
use crate::{
    cli::Output,
    clock,
    owner::{Holders, Homes},
    render::{Json, Listed, Table},
    settings::ListSettings,
    snapshot::{Row, Snapshot},
};

pub(super) fn run(settings: &ListSettings) -> Result<ExitCode, Failure> {
    let snapshot = Snapshot::take(&settings.netns, &settings.states)
        .map_err(|error| Failure::Other(anyhow::Error::new(error)))?;
    if let Some(blind_spot) = snapshot.blind_spot {
        tracing::warn!("there may be more: {blind_spot}");
    }
    let inodes: HashSet<u32> =
        snapshot.rows.iter().filter_map(|row| row.holder.and_then(|holder| holder.inode)).collect();
    let holders = Holders::of(&inodes);
    if holders.incomplete {
        tracing::warn!("not every process shows which sockets it holds; root sees them all");
    }
    match print(settings, &snapshot, &holders) {
        // A reader that has seen enough, such as `head`, is no error.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Stdout(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn print(settings: &ListSettings, snapshot: &Snapshot, holders: &Holders) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let table = Table::new(settings.lines.wide, TimeZone::system());
    if settings.lines.output == Output::Table && settings.lines.header {
        writeln!(out, "{}", table.list_header())?;
    }
    let mut homes = Homes::of_this_host();
    let mut rows: Vec<&Row> = snapshot.rows.iter().collect();
    rows.sort_by_key(|row| (row.state, row.timer.map(|timer| timer.left)));
    for row in rows {
        let inode = row.holder.and_then(|holder| holder.inode);
        let held = inode.map(|inode| holders.get(inode)).unwrap_or_default();
        let processes: Vec<_> = held.iter().map(|held| Some(held.by)).collect();
        if !settings.filter.matches(&row.pair, &processes) {
            continue;
        }
        let cgroup = row.holder.and_then(|holder| holder.cgroup);
        let home = cgroup.and_then(|cgroup| homes.get(cgroup, clock::monotonic_now));
        let listed = Listed { row, held, home: home.as_deref() };
        let line = match settings.lines.output {
            Output::Table => table.listed(&listed),
            Output::Json => Json::listed(&listed),
        };
        writeln!(out, "{line}")?;
    }
    out.flush()
}
