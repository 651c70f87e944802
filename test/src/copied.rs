//! Programs that a test has just copied.

use std::{
    io::ErrorKind,
    process::{Command, Output},
    thread,
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    breakage::OrGiveUp as _,
    clock::{Deadline, PATIENCE},
};

/// What such a program prints.
///
/// A child that another test was about to start has the copy open for writing, too, until it becomes another program: as
/// long as that takes, nobody may run it.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    let deadline = Deadline::after(PATIENCE);
    loop {
        match command.output() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && deadline.left().is_some() => {
                thread::sleep(Duration::from_millis(10));
            }
            output => return output.context("start what was copied").or_give_up(),
        }
    }
}
