//! The results as a table, and in docs/overhead.md.

use std::fmt::Write as _;

use anyhow::Context as _;
use xshell::Shell;

use super::{Costs, Measured, Results, polls::Poll, tracked::Tracked};
use crate::vm::counted::Counted;

const PAGE: &str = "docs/overhead.md";

/// Between these two lines of the page stands what was measured last.
const BEGIN: &str = "<!-- cargo xtask bench --write -->\n";
const END: &str = "<!-- the end of it -->\n";

/// The results, in Markdown.
pub(super) fn tables(results: &Results) -> String {
    let Measured { tracked, polls, daemon, recorded, counted, .. } = &results.measured;
    let mut text = observers(results);
    text += &loads(results);
    text += "\n| promised of `tcp-close daemon` | measured | |\n|---|---|---|\n";
    // Writing to a string cannot fail.
    for verdict in &results.verdicts {
        let met = if verdict.is_met { "met" } else { "**not met**" };
        let _written = writeln!(text, "| {} | {:.3} | {met} |", verdict.bound.trim(), verdict.measured);
    }
    let _written = writeln!(
        text,
        "\nAfter its run the daemon has {:.0} MB: {} TIME-WAITs, and the closes that it remembers.\n\
         `replay` has {:.0} MB once it was told of {} TIME-WAITs.",
        daemon.resident_bytes_after / 1e6,
        results.load.connections,
        recorded.resident_bytes / 1e6,
        recorded.minisocks
    );
    text += "\n| minisocks tracked | memory, MB | scrape, ms | list of none of them, ms | list of all, ms |\n|---|---|---|---|---|\n";
    for Tracked { minisocks, resident_bytes, scrape_seconds, none_seconds, all_seconds, .. } in tracked {
        let _written = writeln!(
            text,
            "| {minisocks:.0} | {:.0} | {} | {} | {:.0} |",
            resident_bytes / 1e6,
            scrape_seconds.text(1e3, 2),
            none_seconds.text(1e3, 1),
            all_seconds * 1e3
        );
    }
    let Counted { kernel, bare, tracepoint, fentry, tcpstates } = counted;
    let _written = writeln!(
        text,
        "\nInstructions of a connection on an emulated processor, Linux {kernel}: {bare:.0} without anybody who watches.\n\n\
         | who watches there | instructions that are added |\n|---|---|\n\
         | `tcp-close --probe tracepoint` | {tracepoint:.0} |\n\
         | `tcp-close --probe fentry` | {fentry:.0} |\n\
         | `tcpstates` | {tcpstates:.0} |"
    );
    text += "\n| who looks | processor time for a look, ms |\n|---|---|\n";
    for Poll { name, seconds } in polls {
        let _written = writeln!(text, "| `{name}` | {:.1} |", seconds * 1e3);
    }
    text
}

/// Who watches, and what that costs.
fn observers(results: &Results) -> String {
    let Results { kernel, processor, processors, rounds, load, measured, .. } = results;
    let Measured { empty_run, bare, observers, .. } = measured;
    let mut text = format!(
        "Linux {kernel}, {processors} processors ({processor}).\n\
         Each time: {} {}, both ends of them.\n\
         Without anybody who watches: {} a second, the median of {} runs and their range.\n\
         A run of a program that does nothing is accounted {} ns.\n\n\
         | who watches | rate, % of bare (medians of {rounds} pairs, and ranges) | kernel time, ns a connection | programs run for each |\n|---|---|---|---|\n",
        load.connections,
        load.title(),
        bare.text(1.0, 0),
        observers.len() * usize::try_from(*rounds).unwrap_or_default(),
        empty_run.text(1.0, 1),
    );
    for Costs { name, rate, kernel, runs } in observers {
        let (rate, kernel) = (rate.text(100.0, 1), kernel.text(1.0, 0));
        let _written = writeln!(text, "| `{name}` | {rate} | {kernel} | {runs:.1} |");
    }
    text
}

/// What tcp-close costs with other loads.
fn loads(results: &Results) -> String {
    let mut text = "\n| load, watched by `tcp-close` | bare, a second | rate, % of bare | kernel time for each, ns | programs run for each |\n|---|---|---|---|---|\n".to_owned();
    for (load, bare, Costs { rate, kernel, runs, .. }) in &results.measured.loads {
        let (bare, rate) = (bare.text(1.0, 0), rate.text(100.0, 1));
        let _written =
            writeln!(text, "| {} | {bare} | {rate} | {:.0} | {runs:.1} |", load.title(), kernel.median);
    }
    text
}

/// Puts it into the page.
pub(super) fn write(sh: &Shell, table: &str) -> anyhow::Result<()> {
    let page = sh.read_file(PAGE)?;
    let (before, rest) = page.split_once(BEGIN).with_context(|| format!("{PAGE} has no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{PAGE} has no line {END}"))?;
    sh.write_file(PAGE, format!("{before}{BEGIN}\n{table}\n{END}{after}"))?;
    println!("wrote {PAGE}");
    Ok(())
}
