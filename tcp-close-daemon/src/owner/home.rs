//! What the path of a cgroup says of who lives in it, by the conventions of systemd and of container runtimes.

use serde::{Deserialize, Serialize};

/// Hexadecimal digits of a container's id: Docker's, containerd's, CRI-O's and Podman's are SHA-256 sums.
const ID_DIGITS: usize = 64;

/// As many of them as runtimes show.
const SHORT_ID: usize = 12;

/// Who lives in a cgroup, as far as its path tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// The systemd unit of the system's manager: a service or scope, or the innermost slice where there is neither.
    pub unit: Option<String>,
    /// Id of the container, in full.
    pub container: Option<String>,
    /// UID of the Kubernetes pod.
    pub pod: Option<String>,
}

impl Home {
    /// Reads a path below the root of cgroup v2, such as `/system.slice/nginx.service`.
    pub fn of_path(path: &str) -> Self {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let innermost_first = || parts.iter().rev().copied();
        Self {
            unit: unit(&parts),
            container: innermost_first().find_map(container),
            pod: innermost_first().find_map(pod),
        }
    }

    /// The name that its closes are counted by: the beginning of the container's id, as its runtime shows it, or the unit.
    pub fn service(&self) -> Option<&str> {
        let container = self.container.as_deref().and_then(|id| id.get(..SHORT_ID));
        container.or(self.unit.as_deref())
    }

    /// The shortest name that says whose a socket is.
    pub fn name(&self) -> Option<&str> {
        self.unit.as_deref().or(self.container.as_deref())
    }
}

/// The first unit below the slices (`cg_path_get_unit`, systemd's src/basic/cgroup-util.c). What is below it belongs to
/// it: a user's own units to `user@1000.service`.
fn unit(parts: &[&str]) -> Option<String> {
    let mut slice = None;
    for part in parts {
        // A name that the kernel has taken for a file of its own is put behind an underscore.
        let part = part.strip_prefix('_').unwrap_or(part);
        match part.rsplit_once('.') {
            Some((_, "slice")) => slice = Some(part),
            Some((_, "service" | "scope" | "socket" | "mount" | "swap")) => return Some(part.to_owned()),
            // Not systemd's: a runtime's own tree.
            _ => break,
        }
    }
    slice.map(str::to_owned)
}

/// The container's id in `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope` (systemd), in
/// `ID` and `libpod-ID` (cgroupfs), and in `cri-containerd:ID` below `system.slice`. The monitor beside a container, `crio-conmon-ID.scope`,
/// is not in it.
fn container(part: &str) -> Option<String> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let split_at = name.len().checked_sub(ID_DIGITS)?;
    let (runtime, id) = name.split_at_checked(split_at)?;
    let is_id = id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let is_runtime = runtime.is_empty() || runtime.ends_with(['-', ':', '_']);
    (is_id && is_runtime && !runtime.contains("conmon")).then(|| id.to_owned())
}

/// The pod's UID in `kubepods-burstable-pod0a1b2c3d_….slice` (systemd, where a dash means a parent) and in `pod0a1b2c3d-…`
/// (cgroupfs). Of a static pod it is a sum without dashes.
fn pod(part: &str) -> Option<String> {
    let name = match part.strip_suffix(".slice") {
        Some(slice) => slice.strip_prefix("kubepods")?.rsplit_once("-pod")?.1,
        None => part.strip_prefix("pod")?,
    };
    let uid = name.replace('_', "-");
    let is_uuid = uid.len() == 36 && uid.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    let digits = uid.bytes().filter(|byte| *byte != b'-');
    ((is_uuid || uid.len() == 32)
        && digits.clone().count() == 32
        && digits.clone().all(|byte| byte.is_ascii_hexdigit()))
    .then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const UID: &str = "8dbc5577-d0e2-4706-8787-57d52c03ddf2";

    #[track_caller]
    fn check(path: &str, unit: Option<&str>, container: Option<&str>, pod: Option<&str>) {
        let path = path.replace("UID", UID).replace("U_D", &UID.replace('-', "_")).replace("ID", ID);
        let unit = unit.map(|unit| unit.replace("ID", ID).replace("U_D", &UID.replace('-', "_")));
        let expected = Home { unit, container: container.map(str::to_owned), pod: pod.map(str::to_owned) };
        assert_eq!(Home::of_path(&path), expected, "{path}");
    }

    #[test]
    fn units_of_systemd() {
        let unit = |path, unit| check(path, Some(unit), None, None);
        unit("/system.slice/nginx.service", "nginx.service");
        unit("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service");
        unit("/system.slice/nginx.service/workers", "nginx.service");
        unit("/init.scope", "init.scope");
        unit("/user.slice/user-1000.slice/session-3.scope", "session-3.scope");
        unit("/user.slice/user-1000.slice/user@1000.service/app.slice/app.service", "user@1000.service");
        unit("/user.slice", "user.slice");
        unit("/user.slice/user-1000.slice", "user-1000.slice");
        unit("/system.slice/sshd.socket", "sshd.socket");
        unit("/system.slice/_cgroup.service", "cgroup.service");
        unit("/machine.slice/systemd-nspawn@one.service/payload", "systemd-nspawn@one.service");
        unit("/machine.slice/machine-qemu\\x2d1\\x2done.scope", "machine-qemu\\x2d1\\x2done.scope");
    }

    #[test]
    fn no_unit() {
        for path in ["", "/", "/lxc.payload.one", "/mine/of/my/own", "/mine/nginx.service"] {
            check(path, None, None, None);
        }
    }

    #[test]
    fn containers_of_docker() {
        check("/system.slice/docker-ID.scope", Some("docker-ID.scope"), Some(ID), None);
        check("/docker/ID", None, Some(ID), None);
        check("/docker/ID/system.slice/nginx.service", None, Some(ID), None);
        check(
            "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope",
            Some("user@1000.service"),
            Some(ID),
            None,
        );
        check("/system.slice/docker.service", Some("docker.service"), None, None);
        check("/system.slice/docker.service/docker/ID", Some("docker.service"), Some(ID), None);
    }

    #[test]
    fn containers_of_podman() {
        check("/machine.slice/libpod-ID.scope", Some("libpod-ID.scope"), Some(ID), None);
        check("/machine.slice/libpod-ID.scope/container", Some("libpod-ID.scope"), Some(ID), None);
        check("/machine.slice/libpod-conmon-ID.scope", Some("libpod-conmon-ID.scope"), None, None);
        check("/libpod_parent/libpod-ID", None, Some(ID), None);
        check(
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
            Some("user@1000.service"),
            Some(ID),
            None,
        );
        check(
            "/machine.slice/machine-libpod_pod_ID.slice/libpod-ID.scope",
            Some("libpod-ID.scope"),
            Some(ID),
            None,
        );
    }

    #[test]
    fn containers_of_kubernetes() {
        // containerd, by systemd and by cgroupfs.
        check(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_D.slice/cri-containerd-ID.scope",
            Some("cri-containerd-ID.scope"),
            Some(ID),
            Some(UID),
        );
        check("/kubepods/burstable/podUID/ID", None, Some(ID), Some(UID));
        check("/kubepods/podUID/ID", None, Some(ID), Some(UID));
        check(
            "/system.slice/containerd.service/kubepods-besteffort-podU_D.slice:cri-containerd:ID",
            Some("containerd.service"),
            Some(ID),
            None,
        );
        // A guaranteed pod has no class.
        check(
            "/kubepods.slice/kubepods-podU_D.slice/cri-containerd-ID.scope",
            Some("cri-containerd-ID.scope"),
            Some(ID),
            Some(UID),
        );
        // CRI-O, its monitor, and the cgroup that newer ones make below.
        check(
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podU_D.slice/crio-ID.scope/container",
            Some("crio-ID.scope"),
            Some(ID),
            Some(UID),
        );
        check(
            "/kubepods.slice/kubepods-podU_D.slice/crio-conmon-ID.scope",
            Some("crio-conmon-ID.scope"),
            None,
            Some(UID),
        );
        check(
            "/kubepods/burstable/pod0123456789abcdef0123456789abcdef/ID",
            None,
            Some(ID),
            Some("0123456789abcdef0123456789abcdef"),
        );
        // kind and minikube: nodes that are containers themselves.
        check("/docker/ID/kubelet/kubepods/podUID/ID", None, Some(ID), Some(UID));
    }

    #[test]
    fn what_looks_like_an_id_and_is_none() {
        check(&format!("/docker/{}", ID.replacen('0', "", 1)), None, None, None);
        check("/podman/podium", None, None, None);
        check("/docker/xID", None, None, None);
        check(&format!("/docker/{}", ID.to_uppercase()), None, None, None);
        check("/\u{e9}ID", None, None, None);
    }
}
