//! The results as a table, and in docs/overhead.md.

use std::fmt::Write as _;

use anyhow::Context as _;
use xshell::Shell;

use super::Results;

const PAGE: &str = "docs/overhead.md";

/// Between these two lines of the page stands what was measured last.
const BEGIN: &str = "<!-- cargo xtask bench --write -->\n";
const END: &str = "<!-- the end of it -->\n";

/// The results, in Markdown.
pub(super) fn table(results: &Results) -> String {
    let Results { kernel, processor, processors, connections, threads, ipv6, rounds, bare, .. } = results;
    let family = if *ipv6 { "IPv6" } else { "IPv4" };
    let mut text = format!(
        "{connections} connections by {threads} thread(s) over {family} on loopback, both ends of them, each time; Linux {kernel}, {processors} processors ({processor}).\n\
         Without anybody who watches: {} connections a second, the median of {} runs and their range.\n\n\
         | who watches | rate, % of bare (medians of {rounds} pairs, and ranges) | kernel time, ns a connection | programs run for each |\n|---|---|---|---|\n",
        bare.text(1.0, 0),
        results.observers.len() * usize::try_from(*rounds).unwrap_or_default(),
    );
    for costs in &results.observers {
        // Writing to a string cannot fail.
        let _written = writeln!(
            text,
            "| `{}` | {} | {} | {:.1} |",
            costs.name,
            costs.rate.text(100.0, 1),
            costs.kernel.text(1.0, 0),
            costs.runs
        );
    }
    text += "\n| promised of `tcp-close daemon` | measured | |\n|---|---|---|\n";
    for verdict in &results.verdicts {
        let met = if verdict.is_met { "met" } else { "**not met**" };
        let _written = writeln!(text, "| {} | {:.3} | {met} |", verdict.bound.trim(), verdict.measured);
    }
    let _written = writeln!(
        text,
        "\nAfter that run the daemon has {:.0} MB: {connections} TIME-WAITs, and the closes that it remembers.",
        results.daemon.resident_bytes_after / 1e6
    );
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
