//! TLS and passwords of the daemon's HTTP, asked for by curl.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Stdio},
};

use command_fds::{CommandFdExt as _, FdMapping};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tcp_close_test::netns::Netns;
use tempfile::{TempDir, tempdir};

use crate::program::{daemon_with, program, start};

/// A folder with an authority, a server's certificate by it, and a web config file with a user.
fn folder() -> TempDir {
    let folder = tempdir().expect("a folder");
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).expect("write a file");
    let mut params = CertificateParams::new([]).expect("no names");
    // Otherwise both would have the same name, as who signs himself has.
    params.distinguished_name.push(DnType::CommonName, "An authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
    let authority = authority.expect("a certificate");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
    write("ca.crt", authority.pem());
    write("server.crt", params.signed_by(&key, &authority).expect("a certificate").pem());
    write("server.key", key.serialize_pem());
    let hash = bcrypt::hash("secret", 5).expect("a hash");
    write(
        "web.yml",
        format!(
            "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\nbasic_auth_users:\n  alice: '{hash}'\n"
        ),
    );
    folder
}

/// What curl prints of `/metrics`, with the status in a line behind it, and whether it succeeded.
fn curl(folder: &Path, address: SocketAddr, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "10",
            "--write-out",
            "\n%{http_version} %{http_code}",
        ])
        .arg("--cacert")
        .arg(folder.join("ca.crt"))
        .args(arguments)
        .arg(format!("https://{address}/metrics"))
        .output()
        .expect("start curl");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn is_let_in_with_the_password_alone(folder: &Path, address: SocketAddr) {
    let (done, text) = curl(folder, address, &["-u", "alice:secret"]);
    assert!(done && text.ends_with("\n2 200") && text.contains("\ntcp_close_build_info"), "{text}");
    let (done, text) = curl(folder, address, &["-u", "alice:secret", "--http1.1", "--tls-max", "1.2"]);
    assert!(done && text.ends_with("\n1.1 200"), "{text}");
    for arguments in [&["-u", "alice:wrong"][..], &["-u", "bob:secret"], &[]] {
        let (done, text) = curl(folder, address, arguments);
        assert!(done && text == "unauthorized\n\n2 401", "{text}");
    }
    let (done, text) = curl(folder, address, &["-u", "alice:secret", "--tls-max", "1.1"]);
    assert!(!done, "{text}");
}

#[test]
fn curl_is_let_in_with_the_password_alone() {
    let netns = Netns::new();
    let folder = folder();
    let file = folder.path().join("web.yml");
    let arguments = ["--netns", &netns.inode().to_string(), "--web.config.file", &file.to_string_lossy()];
    let daemon = daemon_with(&arguments);
    is_let_in_with_the_password_alone(folder.path(), daemon.address);
}

/// The file is named relative to where the daemon was started, and what it names relative to itself.
#[test]
fn a_socket_that_was_handed_over_is_encrypted_as_well() {
    let netns = Netns::new();
    let folder = folder();
    let http = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = http.local_addr().expect("an address");
    let mut command = program();
    command.args(["daemon", "--netns", &netns.inode().to_string()]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.env("TCP_CLOSE_SOCKET", folder.path().join("tcp-close.sock"));
    command.current_dir(&folder).env("TCP_CLOSE_WEB_CONFIG_FILE", "web.yml");
    let fds = vec![FdMapping { parent_fd: http.into(), child_fd: 3 }];
    command.fd_mappings(fds).expect("a descriptor").env("LISTEN_FDS", "1");
    let _running = start(&mut command);
    is_let_in_with_the_password_alone(folder.path(), address);
}

#[test]
fn a_bad_file_is_a_mistake_in_what_was_typed() {
    let folder = folder();
    let file = folder.path().join("web.yml");
    fs::write(&file, "tls_server_config: {min_version: TLS10, cert_file: a, key_file: b}").expect("write it");
    let output = program().args(["daemon", "--web.config.file"]).arg(&file).output().expect("start");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let expected = format!(
        "tcp-close: --web.config.file {}: tls_server_config.min_version: \"TLS10\" is not offered; it takes TLS12 or TLS13\n",
        file.display()
    );
    assert_eq!(said, expected);
}
