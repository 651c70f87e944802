//! What the daemon itself takes, by the names and units that every exporter has for it.
//!
//! In hundredths of a second, as the kernel counts (`/proc/PID/stat`): in whole seconds, as the collector of the
//! prometheus crate has it, who takes a hundredth of a processor takes nothing for most of the time.

use procfs::{
    CurrentSI as _, KernelStats, WithCurrentSystemInfo as _,
    process::{LimitValue, Process as Entry},
};
use prometheus::{Counter, Gauge, IntGauge, Registry};

use super::{as_gauge, catalogue::register};

/// The metrics of this process.
pub(super) struct Process {
    cpu_seconds: Counter,
    open_fds: IntGauge,
    most_fds: IntGauge,
    virtual_bytes: IntGauge,
    resident_bytes: IntGauge,
    threads: IntGauge,
}

impl Process {
    /// Registers them. When the process started is known once and for all.
    pub(super) fn registered(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name, help| register(registry, IntGauge::new(name, help)?);
        let started = Gauge::new(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
        )?;
        if let Some(seconds) = start() {
            register(registry, started)?.set(seconds);
        }
        let process = Self {
            cpu_seconds: register(
                registry,
                Counter::new(
                    "process_cpu_seconds_total",
                    "Total user and system CPU time spent in seconds.",
                )?,
            )?,
            open_fds: gauge("process_open_fds", "Number of open file descriptors.")?,
            most_fds: gauge("process_max_fds", "Maximum number of open file descriptors.")?,
            virtual_bytes: gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.")?,
            resident_bytes: gauge("process_resident_memory_bytes", "Resident memory size in bytes.")?,
            threads: gauge("process_threads", "Number of OS threads in the process.")?,
        };
        process.look();
        Ok(process)
    }

    /// Takes in what the kernel says now. What it does not say stays as it was.
    pub(super) fn look(&self) {
        let Ok(entry) = Entry::myself() else {
            return;
        };
        if let Ok(count) = entry.fd_count() {
            self.open_fds.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        if let Ok(limits) = entry.limits()
            && let LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            self.most_fds.set(i64::try_from(most).unwrap_or(i64::MAX));
        }
        if let Ok(stat) = entry.stat() {
            let seconds = in_seconds(stat.utime + stat.stime);
            self.cpu_seconds.inc_by((seconds - self.cpu_seconds.get()).max(0.0));
            self.virtual_bytes.set(as_gauge(stat.vsize));
            self.resident_bytes.set(as_gauge(stat.rss_bytes().get()));
            self.threads.set(stat.num_threads);
        }
    }
}

/// When this process started, in seconds since the epoch.
fn start() -> Option<f64> {
    let booted = KernelStats::current().ok()?.btime;
    let after = Entry::myself().ok()?.stat().ok()?.starttime;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 seconds")]
    Some(booted as f64 + in_seconds(after))
}

/// From the ticks that /proc counts in.
fn in_seconds(ticks: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 ticks")]
    let seconds = ticks as f64 / procfs::ticks_per_second() as f64;
    seconds
}
