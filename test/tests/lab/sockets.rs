//! The kernel answers for the namespace that was asked.

use tcp_close_test::address::Family;
use tcp_close_test::oracle::{self, TcpState};

use crate::{Lab, wait_for_state};

#[test]
fn the_oracle_knows_a_socket_by_its_cookie() {
    let lab = Lab::new();
    let (client, server) = lab.pair(Family::V4);
    let open = wait_for_state(&lab.client, TcpState::Established);
    assert_ne!(open.cookie, 0);
    assert_ne!(open.inode, 0);
    assert_eq!(open.local, client.local_addr().unwrap());
    assert_eq!(oracle::sockstat(&lab.client)["inuse"], 1);
    lab.close(client, server);
    let remains = wait_for_state(&lab.client, TcpState::TimeWait);
    assert_eq!(remains.local, open.local);
    assert_eq!(remains.cookie, open.cookie);
    assert_eq!(oracle::sockstat(&lab.client)["inuse"], 0);
}
