//! What the tests see, in files, where somebody wants that: `cargo xtask vm --record` makes tests of the core of them.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    env,
    fs::File,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Mutex,
    thread,
};

use tcp_close::{
    clock::{self, Anchor},
    lifecycle::{Limits, Observation, Sees, Wait},
    recording::{Header, Host, Recorder as Steps, Step, Writer},
};

/// A file for one observer of the running test, in the folder that `TCP_CLOSE_TEST_RECORD` names; `None` without one.
pub(crate) fn file_of_this_test() -> Option<PathBuf> {
    static OBSERVERS: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());
    let folder = env::var_os("TCP_CLOSE_TEST_RECORD")?;
    let test = thread::current().name().expect("a test has a thread of its name").replace("::", "-");
    let mut observers = OBSERVERS.lock().expect("nobody panicked");
    let number = observers.entry(test.clone()).or_insert(0);
    *number += 1;
    Some(Path::new(&folder).join(format!("{test}-{number}.tcpclose")))
}

/// A recording of what one observer is told.
pub(crate) struct Recorder(Rc<RefCell<Writer<File>>>);

impl Recorder {
    pub(crate) fn new(
        file: &Path,
        core: (Limits, Wait, Sees),
        sees_fin_retransmits: bool,
        reset_reasons: BTreeMap<u32, String>,
    ) -> Self {
        let host = Host::running().expect("the kernel publishes BTF");
        let header = Header::new(host, clock::now(), core, sees_fin_retransmits, reset_reasons);
        let file = File::create(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self(Rc::new(RefCell::new(Writer::new(file, &header).expect("write the header"))))
    }

    /// Takes in what happens to the pipeline.
    pub(crate) fn steps(&self) -> Steps {
        let writer = Rc::clone(&self.0);
        Box::new(move |step| writer.borrow_mut().add(&step).expect("write a step"))
    }

    pub(crate) fn turn_ends(&self, observations: &[Observation]) {
        if !observations.is_empty() {
            self.steps()(Step::turn_ends(&Anchor::now()));
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let written = self.0.borrow_mut().flush();
        assert!(written.is_ok() || thread::panicking(), "{written:?}");
    }
}
