//! A server with a pipeline that does as a test says, and a client that knows as little HTTP as it can.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tcp_close::{
    clock,
    event::Monotonic,
    http::{Access, LastTurn, Patience, Served, serve},
    lifecycle::{Limits, Wait},
    metrics::Metrics,
    probe::{Hook, HookReport, Rung, Verdict},
    render::page,
};
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// How the pipeline takes a scrape.
#[derive(Clone, Copy)]
pub(crate) enum Pipeline {
    /// At once.
    Prompt,
    /// After a while.
    Slow(Duration),
    /// Never.
    Stuck,
    /// It is not there any more.
    Gone,
}

pub(crate) struct Setup {
    pub(crate) telemetry_path: String,
    pub(crate) ready: bool,
    pub(crate) pipeline: Pipeline,
    pub(crate) patience: Patience,
    pub(crate) access: Access,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) ready: CancellationToken,
    pub(crate) stopping: CancellationToken,
    scrapes: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
    runtime: Runtime,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup {
            telemetry_path: "/metrics".to_owned(),
            ready: true,
            pipeline: Pipeline::Prompt,
            patience: Patience::USUAL,
            access: Access::open(),
        };
        change(&mut setup);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("start a runtime");
        let (scrape, mut waiting) = mpsc::channel::<oneshot::Sender<()>>(tcp_close::pipeline::MOST_SCRAPES);
        let scrapes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&scrapes);
        if matches!(setup.pipeline, Pipeline::Gone) {
            waiting.close();
        }
        runtime.spawn(async move {
            let mut held = Vec::new();
            while let Some(done) = waiting.recv().await {
                count.fetch_add(1, Ordering::SeqCst);
                match setup.pipeline {
                    Pipeline::Slow(time) => tokio::time::sleep(time).await,
                    // It takes one, and comes back for no other.
                    Pipeline::Stuck => {
                        held.push(done);
                        return std::future::pending().await;
                    }
                    Pipeline::Prompt | Pipeline::Gone => {}
                }
                // Who waited may have been cut off.
                let _gone = done.send(());
            }
        });
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("listen");
        let address = listener.local_addr().expect("it has an address");
        let (ready, stopping) = (CancellationToken::new(), CancellationToken::new());
        if setup.ready {
            ready.cancel();
        }
        let served = Served {
            page: page::index(&setup.telemetry_path, &hooks()),
            telemetry_path: setup.telemetry_path,
            access: setup.access,
            metrics: Arc::new(Mutex::new(metrics())),
            scrape,
            ready: ready.clone(),
            stopping: stopping.clone(),
            last_turn: Arc::new(LastTurn::at(match setup.pipeline {
                Pipeline::Stuck => Monotonic::default(),
                _ => clock::monotonic_now() + Duration::from_secs(3600),
            })),
        };
        let serving = runtime.spawn(serve(listener, Arc::new(served), setup.patience));
        Self { address, ready, stopping, scrapes, serving, runtime }
    }

    /// How many scrapes the pipeline was woken for.
    pub(crate) fn scrapes(&self) -> usize {
        self.scrapes.load(Ordering::SeqCst)
    }

    pub(crate) fn wait_for_scrape(&self) {
        while self.scrapes() == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops it and waits until every connection is done with.
    pub(crate) fn stop(self) {
        self.stopping.cancel();
        self.runtime.block_on(self.serving).expect("it ends without a panic");
    }
}

fn hooks() -> [HookReport; 2] {
    [
        HookReport {
            hook: Hook::StateChange,
            rung: Some(Rung::TpBtf),
            verdict: Verdict::Ok,
            detail: None,
            lost: None,
        },
        HookReport {
            hook: Hook::Minisock,
            rung: None,
            verdict: Verdict::Unsupported,
            detail: Some("<hidden> & gone".to_owned()),
            lost: None,
        },
    ]
}

fn metrics() -> Metrics {
    let wait = Wait { nominal: Duration::from_secs(60), slack: Duration::from_secs(2) };
    Metrics::new(&hooks(), BTreeMap::new(), Limits { sockets: 8, minisocks: 8 }, wait)
        .expect("the catalogue is sound")
}

/// Time on a clock that only goes forward.
pub(crate) fn monotonic() -> Duration {
    clock::monotonic_now().since(Monotonic::default())
}

pub(crate) struct Response {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Response {
    /// Reads to the end of the connection.
    pub(crate) fn read(client: &mut TcpStream) -> Self {
        let mut text = String::new();
        client.read_to_string(&mut text).expect("read a response");
        let (head, body) = text.split_once("\r\n\r\n").expect("a response has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Self {
            status: status.expect("a response has a status"),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    }
}

impl Response {
    pub(crate) fn header_names(&self) -> Vec<String> {
        let headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.map(|(name, _)| name.to_ascii_lowercase()).collect()
    }
}

/// Sends a request of this first line, the last of its connection.
pub(crate) fn send(client: &mut TcpStream, line: &str) {
    write!(client, "{line}\r\nHost: here\r\nConnection: close\r\n\r\n").expect("send a request");
}

pub(crate) fn ask(address: SocketAddr, line: &str) -> Response {
    let mut client = TcpStream::connect(address).expect("connect");
    send(&mut client, line);
    Response::read(&mut client)
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Response {
    ask(address, &format!("GET {path} HTTP/1.1"))
}
