//! Names of this host that stand for numbers.

use std::{fs, io};

use crate::kernel::netns;

/// Where services have their names.
const SERVICES: &str = "/etc/services";

/// What names in a filter stand for.
pub trait Names {
    /// The TCP port of a service such as `https`, or why there is none.
    fn port(&self, service: &str) -> Result<u16, String>;

    /// The inode number of a network namespace, or why there is none.
    fn netns(&self, name: &str) -> Result<u32, String>;
}

/// The names of this host.
#[derive(Clone, Copy, Debug)]
pub struct HostNames;

impl Names for HostNames {
    fn port(&self, service: &str) -> Result<u16, String> {
        if service.contains('/') {
            return Err(format!(
                "{service} is no port; the prefix of a network comes before it: 192.0.2.0/24:443"
            ));
        }
        match fs::read_to_string(SERVICES) {
            Ok(services) => port(&services, service)
                .ok_or_else(|| format!("{SERVICES} has no TCP service called {service}")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("this host has no {SERVICES} that tells what {service} is"))
            }
            Err(error) => Err(format!("{SERVICES} cannot be read: {error}")),
        }
    }

    fn netns(&self, name: &str) -> Result<u32, String> {
        netns::inode(name).map_err(|error| error.to_string())
    }
}

/// No names at all: whoever wrote the filter has put numbers for them.
#[derive(Clone, Copy, Debug)]
pub struct Numbers;

impl Names for Numbers {
    fn port(&self, service: &str) -> Result<u16, String> {
        Err(format!("{service} is no number of a port"))
    }

    fn netns(&self, name: &str) -> Result<u32, String> {
        name.parse().map_err(|_error| format!("{name} is no inode number"))
    }
}

/// The TCP port of a service by its name or one of its other names, as services(5) has them.
fn port(services: &str, wanted: &str) -> Option<u16> {
    services.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let name = words.next()?;
        let port = words.next()?.strip_suffix("/tcp")?;
        let is_it = name == wanted || words.any(|other| other == wanted);
        is_it.then(|| port.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_found_by_each_of_its_names() {
        let services =
            "# services\ndomain\t53/udp\ndomain 53/tcp\nhttp 80/tcp www # WorldWideWeb\nsyslog 514/udp\n";
        assert_eq!(port(services, "http"), Some(80));
        assert_eq!(port(services, "www"), Some(80));
        assert_eq!(port(services, "domain"), Some(53));
        assert_eq!(port(services, "syslog"), None);
        assert_eq!(port(services, "WorldWideWeb"), None);
    }
}
