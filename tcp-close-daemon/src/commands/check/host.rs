//! What `check` says of the host: limits and their use, settings and their meaning, and what to do about what is seen.

use serde::Serialize;

use crate::{
    advice::{Sight, advice},
    event::TcpState,
    kernel::{
        limits::Limits,
        sysctls::{SYSCTLS, Sysctl},
    },
    ports::{Pressure, Sample, pressures},
    snapshot::{self, PortTable},
};

/// What is to be said of the host.
#[derive(Serialize)]
pub(super) struct Host {
    limits: Vec<LimitLine>,
    settings: Vec<SettingLine>,
    advice: Vec<String>,
    /// Why there may be more; `None` if all was seen.
    blind_spot: Option<String>,
}

/// A limit, and how far it is used.
#[derive(Serialize)]
struct LimitLine {
    limit: &'static str,
    /// `None` where it could not be seen.
    used: Option<u64>,
    most: Option<u64>,
    /// What it is about.
    detail: String,
}

/// A setting, and what it means.
#[derive(Serialize)]
struct SettingLine {
    name: &'static str,
    /// `None` where this kernel does not have it.
    value: Option<String>,
    does: &'static str,
    does_not: Option<&'static str>,
}

impl Host {
    /// Looks, once, at all network namespaces that can be seen.
    pub(super) fn look() -> Self {
        let limits = Limits::read();
        let (tables, blind_spot) = match snapshot::ports(&[]) {
            Ok((tables, blind_spot)) => (tables, blind_spot.map(|blind_spot| blind_spot.to_string())),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let pressures = pressures(None, &Sample::of(&tables));
        let number = |name: &str| {
            let sysctl = SYSCTLS.iter().find(|sysctl| sysctl.name == name)?;
            sysctl.read()?.parse::<u64>().ok()
        };
        let lines = limit_lines(&limits, pressures.first());
        let advice = advice(&Sight {
            limits,
            close_wait: close_wait(&tables),
            fin_timeout: number("tcp_fin_timeout"),
            tw_reuse: number("tcp_tw_reuse"),
            without_timestamps: number("tcp_timestamps") == Some(0),
            pressures,
        });
        Self { limits: lines, settings: SYSCTLS.iter().map(setting).collect(), advice, blind_spot }
    }

    /// As sections of the table.
    pub(super) fn table(&self) -> String {
        let mut lines = vec![format!("{:<20} {:>8} {:>8}  {}", "LIMIT", "USED", "MOST", "DETAIL")];
        let number =
            |number: Option<u64>| number.map_or_else(|| "unknown".to_owned(), |number| number.to_string());
        for LimitLine { limit, used, most, detail } in &self.limits {
            lines.push(format!("{limit:<20} {:>8} {:>8}  {detail}", number(*used), number(*most)));
        }
        lines.push(String::new());
        lines.push(format!("{:<24} {:<12} {}", "SETTING", "VALUE", "MEANING"));
        for SettingLine { name, value, does, does_not } in &self.settings {
            let value = value.as_deref().unwrap_or("-");
            lines.push(format!("{name:<24} {:<12} {does}", if value.is_empty() { "none" } else { value }));
            lines.extend(does_not.map(|does_not| format!("{:<37} does not {does_not}", "")));
        }
        lines.push(String::new());
        if self.advice.is_empty() {
            lines.push("ADVICE: none; nothing that is seen here calls for any.".to_owned());
        } else {
            lines.push("ADVICE".to_owned());
            lines.extend(self.advice.iter().map(|sentence| format!("- {sentence}")));
        }
        if let Some(blind_spot) = &self.blind_spot {
            lines.push(format!("Not all of the host was seen: {blind_spot}."));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

fn limit_lines(limits: &Limits, fullest: Option<&Pressure>) -> Vec<LimitLine> {
    let Limits { time_wait, time_wait_now, refused, orphans, orphans_now } = *limits;
    let refused =
        refused.map_or_else(String::new, |refused| format!("; {refused} were refused their TIME-WAIT"));
    let ports = fullest.map_or_else(
        || "ephemeral ports; none is used".to_owned(),
        |route| {
            let to = std::net::SocketAddr::from(route.destination);
            format!(
                "ephemeral ports, from {} to {to} in {}, where most are used",
                route.source, route.netns_name
            )
        },
    );
    vec![
        LimitLine {
            limit: "tcp_max_tw_buckets",
            used: time_wait_now,
            most: time_wait,
            detail: format!("minisocks of this network namespace{refused}"),
        },
        LimitLine {
            limit: "tcp_max_orphans",
            used: orphans_now,
            most: orphans,
            detail: "orphans of the host".to_owned(),
        },
        LimitLine {
            limit: "ip_local_port_range",
            used: Some(fullest.map_or(0, |route| u64::from(route.used))),
            most: fullest.map(|route| u64::from(route.range)),
            detail: ports,
        },
    ]
}

fn setting(sysctl: &Sysctl) -> SettingLine {
    let Sysctl { name, does, does_not } = *sysctl;
    SettingLine { name, value: sysctl.read(), does, does_not }
}

fn close_wait(tables: &[PortTable]) -> u64 {
    let rows = tables.iter().flat_map(|table| &table.rows);
    rows.filter(|row| row.state == TcpState::CloseWait).count() as u64
}
