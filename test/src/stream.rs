//! Ordinary connections between the sockets of two namespaces, or of one.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use anyhow::Context as _;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect as connect_to, socket_with, sockopt,
};

use crate::breakage::OrGiveUp as _;
use crate::clock::PATIENCE;
use crate::netns::Netns;

/// A listening socket inside a namespace, at a port the kernel picks.
#[track_caller]
pub fn listener(netns: &Netns, address: IpAddr) -> TcpListener {
    netns
        .run(move || TcpListener::bind((address, 0)).with_context(|| format!("listen at {address}")))
        .or_give_up()
}

/// A connection from a namespace to an address.
#[track_caller]
pub fn connect(netns: &Netns, to: SocketAddr) -> TcpStream {
    netns
        .run(move || TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("connect to {to}")))
        .or_give_up()
}

/// Both ends of a new connection: the client's, then the server's.
#[track_caller]
pub fn pair(client: &Netns, server: &Netns, server_address: IpAddr) -> (TcpStream, TcpStream) {
    let listener = listener(server, server_address);
    let address = listener.local_addr().context("address of the listener").or_give_up();
    let near = connect(client, address);
    let (far, _) = listener.accept().context("accept the connection").or_give_up();
    (near, far)
}

/// A connection from this address, though a TIME-WAIT may have it, in the namespace of this thread.
pub fn connect_bound(from: SocketAddr, to: SocketAddr) -> rustix::io::Result<TcpStream> {
    let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    // As those of the standard library: a program that another test starts meanwhile would keep it open.
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &from)?;
    connect_to(&socket, &to)?;
    Ok(TcpStream::from(socket))
}
