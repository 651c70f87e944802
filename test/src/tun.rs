//! A TUN device inside a namespace: what its kernel routes to the lab's network is read here, and the
//! reverse.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;

use crate::breakage::OrGiveUp as _;
use crate::interface;
use crate::netns::Netns;

/// The largest packet that goes over the device.
pub const MTU: u32 = 1500;

/// The device's name; one per namespace is enough.
const NAME: &str = "lab0";

/// A TUN device that is up and has an IPv4 and an IPv6 address.
///
/// Reading and writing never block and work from any thread; the kernel handles a written packet before
/// `write` returns.
/// The open device keeps its namespace alive.
#[derive(Debug)]
pub struct Tun {
    file: File,
}

impl Tun {
    /// Opens the device of a namespace. Gives up with a clear sentence when that is not possible.
    #[track_caller]
    pub fn open(netns: &Netns, v4: Ipv4Addr, v6: Ipv6Addr) -> Self {
        let file = netns.run(move || create(v4, v6)).or_give_up();
        Self { file }
    }

    /// Reads one packet, or nothing if none is there.
    pub(crate) fn read<'b>(&self, buffer: &'b mut [u8]) -> anyhow::Result<Option<&'b [u8]>> {
        match (&self.file).read(buffer) {
            Ok(length) => Ok(Some(buffer.get(..length).unwrap_or_default())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("read from the TUN device"),
        }
    }

    /// Hands one packet to the kernel.
    pub(crate) fn write(&self, packet: &[u8]) -> anyhow::Result<()> {
        (&self.file).write_all(packet).context("write to the TUN device")
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn create(v4: Ipv4Addr, v6: Ipv6Addr) -> anyhow::Result<File> {
    // The device belongs to the namespace of the thread that opens the file.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .context("open /dev/net/tun (is the module tun loaded?)")?;
    attach(&file)?;
    let index = interface::bring_up(NAME, Some(MTU))?;
    interface::assign(index, v4, v6)?;
    Ok(file)
}

/// Makes the device behind the file: IP packets without any header before them.
fn attach(file: &File) -> anyhow::Result<()> {
    let flags = libc::c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI).context("flags of a TUN device")?;
    // SAFETY: `ifreq` is a C structure of integers and a union of such; all zeros is a value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(NAME.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_flags = flags;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, and `request` is one that outlives the call.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if status < 0 {
        return Err(io::Error::last_os_error()).context("make a TUN device: ioctl(TUNSETIFF)");
    }
    Ok(())
}
