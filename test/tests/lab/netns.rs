//! Namespaces are apart from each other, and threads and settings are where they should be.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tcp_close_test::address::Family;
use tcp_close_test::netns::Netns;
use tcp_close_test::oracle::{self};
use tcp_close_test::stream;

#[test]
fn namespaces_are_separate_and_loopback_works() {
    let (one, other) = (Netns::new(), Netns::new());
    assert_ne!(one.inode(), other.inode());

    for family in Family::BOTH {
        let listener = stream::listener(&one, family.loopback());
        let address = listener.local_addr().unwrap();
        stream::connect(&one, address).write_all(b"hello").unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let mut text = String::new();
        accepted.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");

        let refused = other.run(move || TcpStream::connect(address)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
    assert_eq!(oracle::sockets(&other), []);
    one.destroy();
    other.destroy();
}

#[test]
fn threads_work_inside_the_namespace() {
    let netns = Netns::new();
    let inode = || {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino()
    };
    assert_eq!(netns.run(inode), u64::from(netns.inode()));
    assert_eq!(netns.spawn(inode).join().unwrap(), u64::from(netns.inode()));
    assert_ne!(inode(), u64::from(netns.inode()));
}

#[test]
fn a_panic_inside_comes_out_and_the_worker_lives_on() {
    let netns = Netns::new();
    let panic = catch_unwind(AssertUnwindSafe(|| netns.run(|| panic!("on purpose")))).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
    assert_eq!(netns.run(|| 7), 7);
}

#[test]
fn a_setting_stays_inside_its_namespace() {
    const NAME: &str = "net/ipv4/tcp_fin_timeout";

    let outside = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_fin_timeout").unwrap();
    let (one, other) = (Netns::new(), Netns::new());
    let before = other.sysctl_value(NAME);
    one.sysctl(NAME, "7");
    assert_eq!(one.sysctl_value(NAME), "7");
    assert_eq!(other.sysctl_value(NAME), before);
    other.sysctl(NAME, "9");
    assert_eq!(one.sysctl_value(NAME), "7");
    assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/tcp_fin_timeout").unwrap(), outside);
}
