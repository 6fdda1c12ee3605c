//! A server process under test, and a gRPC client that shares nothing with it but the messages.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::stream;
use http::uri::PathAndQuery;
use ringbolt::wire::etcdserverpb as pb;
use ringbolt::wire::mvccpb;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// The binary under test; `RINGBOLT_BIN` names another one.
pub fn binary() -> PathBuf {
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_ringbolt"));
    std::env::var_os("RINGBOLT_BIN").map_or_else(built, PathBuf::from)
}

/// A folder of its own for one test, on the disk that the build is on. Removed on success only.
#[derive(Debug)]
pub struct Folder {
    pub path: PathBuf,
}

impl Folder {
    pub fn new(name: &str) -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{number}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a folder for the test");
        Folder { path }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // What cannot be removed is left to whoever cleans the target folder.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Addresses that were free a moment ago.
#[derive(Clone, Debug)]
pub struct Ports {
    pub client: String,
    pub peer: String,
}

impl Ports {
    pub fn free() -> Ports {
        let bound: Vec<TcpListener> =
            (0..2).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let address = |at: usize| bound[at].local_addr().expect("an address").to_string();
        Ports { client: address(0), peer: address(1) }
    }
}

/// One process over one data directory.
#[derive(Debug)]
pub struct Member {
    pub child: Child,
    pub ports: Ports,
    pub log: PathBuf,
}

const READY: &str = "ready to serve client requests";
const START_LIMIT: Duration = Duration::from_secs(60);
pub const STOP_LIMIT: Duration = Duration::from_secs(20);

/// The command that runs a member in `folder`, its log going to a new file there.
pub fn command(folder: &Path, ports: &Ports, flags: &[&str]) -> (Command, PathBuf) {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let log = folder.join(format!("log-{run}"));
    let (client, peer) = (format!("http://{}", ports.client), format!("http://{}", ports.peer));
    let mut command = Command::new(binary());
    command
        .env_clear()
        .arg("--data-dir")
        .arg(folder.join("data"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log).expect("a log file"));
    (command, log)
}

impl Member {
    /// Starts a process without waiting for it.
    pub fn launch(folder: &Path, ports: &Ports, flags: &[&str]) -> Member {
        let (mut command, log) = command(folder, ports, flags);
        let child = command.spawn().expect("the binary runs");
        Member { child, ports: ports.clone(), log }
    }

    /// Starts a process and waits until it serves.
    #[track_caller]
    pub fn start(folder: &Path, ports: &Ports, flags: &[&str]) -> Member {
        let mut member = Member::launch(folder, ports, flags);
        let deadline = Instant::now() + START_LIMIT;
        while !member.has_logged(READY) {
            let ended = member.child.try_wait().expect("a child");
            assert!(ended.is_none(), "it ended with {ended:?}:\n{}", member.log_text());
            assert!(Instant::now() < deadline, "it does not serve:\n{}", member.log_text());
            std::thread::sleep(Duration::from_millis(5));
        }
        member
    }

    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn has_logged(&self, text: &str) -> bool {
        self.log_text().contains(text)
    }

    /// The one line that says why it stopped.
    pub fn fatal_line(&self) -> String {
        let text = self.log_text();
        let mut fatal = text.lines().filter(|line| line.contains("\"level\":\"fatal\""));
        let line = fatal.next().unwrap_or_default().to_owned();
        assert!(fatal.next().is_none(), "more than one sentence: {text}");
        line
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("a child that runs");
        self.child.wait().expect("a child");
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill");
        assert!(sent.success(), "kill -s {name} {id}");
    }

    /// How it ends, without being told to.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.log_text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.ports.client).await.expect("a connection")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a test's calls.
pub fn run<T>(calls: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(calls)
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
}

/// Both directions of one call.
#[derive(Debug)]
pub struct Duplex<Q, A> {
    pub requests: mpsc::UnboundedSender<Q>,
    pub answers: Streaming<A>,
}

impl<Q, A> Duplex<Q, A> {
    pub fn send(&self, request: Q) {
        assert!(self.requests.send(request).is_ok(), "the stream is open");
    }

    /// The next answer.
    pub async fn next(&mut self) -> A {
        self.answer().await.expect("no error").expect("the stream goes on")
    }

    /// The next answer, or how the stream ended.
    pub async fn answer(&mut self) -> Result<Option<A>, Status> {
        let limit = Duration::from_secs(20);
        let timeout = |_| Status::new(Code::DeadlineExceeded, "no answer within 20 s");
        tokio::time::timeout(limit, self.answers.message()).await.map_err(timeout)?
    }
}

impl Client {
    pub async fn connect(address: &str) -> Result<Client, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let limit = Duration::from_secs(5);
        Ok(Client { channel: endpoint.connect_timeout(limit).connect().await? })
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(grpc.max_decoding_message_size(usize::MAX))
    }

    /// One request, one answer.
    pub async fn unary<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, A>::default();
        let mut request = Request::new(request);
        request.set_timeout(Duration::from_secs(20));
        self.grpc().await?.unary(request, path, codec).await.map(Response::into_inner)
    }

    /// One request, many answers.
    pub async fn download<Q, A>(
        &self,
        path: &'static str,
        request: Q,
    ) -> Result<Streaming<A>, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, A>::default();
        let mut grpc = self.grpc().await?;
        let answer = grpc.server_streaming(Request::new(request), path, codec).await?;
        Ok(answer.into_inner())
    }

    /// Many requests, many answers. The first goes with the call.
    pub async fn duplex<Q, A>(&self, path: &'static str, first: Q) -> Result<Duplex<Q, A>, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let (requests, received) = mpsc::unbounded_channel();
        assert!(requests.send(first).is_ok(), "the channel is open");
        let outgoing = stream::unfold(received, |mut received| async {
            received.recv().await.map(|request| (request, received))
        });
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, A>::default();
        let mut grpc = self.grpc().await?;
        let answer = grpc.streaming(Request::new(outgoing), path, codec).await?;
        Ok(Duplex { requests, answers: answer.into_inner() })
    }

    pub async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        self.unary("/etcdserverpb.KV/Range", request).await
    }

    pub async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, Status> {
        self.unary("/etcdserverpb.KV/Put", request).await
    }

    pub async fn delete(
        &self,
        request: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, Status> {
        self.unary("/etcdserverpb.KV/DeleteRange", request).await
    }

    pub async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
        self.unary("/etcdserverpb.KV/Txn", request).await
    }

    pub async fn compact(&self, revision: i64) -> Result<pb::CompactionResponse, Status> {
        let request = pb::CompactionRequest { revision, physical: true };
        self.unary("/etcdserverpb.KV/Compact", request).await
    }

    pub async fn grant(&self, id: i64, ttl: i64) -> Result<pb::LeaseGrantResponse, Status> {
        let request = pb::LeaseGrantRequest { id, ttl };
        self.unary("/etcdserverpb.Lease/LeaseGrant", request).await
    }

    pub async fn watch(
        &self,
        request: pb::WatchCreateRequest,
    ) -> Result<Duplex<pb::WatchRequest, pb::WatchResponse>, Status> {
        self.duplex("/etcdserverpb.Watch/Watch", create(request)).await
    }
}

/// A watch request that creates.
pub fn create(request: pb::WatchCreateRequest) -> pb::WatchRequest {
    use pb::watch_request::RequestUnion;
    pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) }
}

/// A watch request that cancels.
pub fn cancel(watch_id: i64) -> pb::WatchRequest {
    use pb::watch_request::RequestUnion;
    let request = pb::WatchCancelRequest { watch_id };
    pb::WatchRequest { request_union: Some(RequestUnion::CancelRequest(request)) }
}

/// A watch request for progress.
pub fn progress() -> pb::WatchRequest {
    use pb::watch_request::RequestUnion;
    let request = pb::WatchProgressRequest {};
    pb::WatchRequest { request_union: Some(RequestUnion::ProgressRequest(request)) }
}

/// The bytes of a text.
pub fn bytes(text: &str) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(text.as_bytes())
}

pub fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: bytes(key), value: bytes(value), ..Default::default() }
}

pub fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: bytes(key), ..Default::default() }
}

/// From `key` up to `end`, which is not in it.
pub fn list(key: &str, end: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: bytes(key), range_end: bytes(end), ..Default::default() }
}

pub fn delete(key: &str, end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: bytes(key), range_end: bytes(end), ..Default::default() }
}

/// A key with its value, create and mod revision and version: `k=v/2.3.2`, `@lease` behind it.
pub fn shown(kv: &mvccpb::KeyValue) -> String {
    let (key, value) = (String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value));
    let lease = if kv.lease == 0 { String::new() } else { format!("@{}", kv.lease) };
    format!("{key}={value}/{}.{}.{}{lease}", kv.create_revision, kv.mod_revision, kv.version)
}

pub fn all_shown(kvs: &[mvccpb::KeyValue]) -> String {
    kvs.iter().map(shown).collect::<Vec<_>>().join(" ")
}

/// An event: `+` or `-` and what it is about, the version before it behind `<`.
pub fn event_shown(event: &mvccpb::Event) -> String {
    let sign = if event.r#type == 0 { "+" } else { "-" };
    let kv = event.kv.as_ref().map(shown).unwrap_or_default();
    let before = event.prev_kv.as_ref().map(|kv| format!("<{}", shown(kv)));
    format!("{sign}{kv}{}", before.unwrap_or_default())
}

pub fn events_shown(response: &pb::WatchResponse) -> String {
    response.events.iter().map(event_shown).collect::<Vec<_>>().join(" ")
}

/// The revision in a header.
#[track_caller]
pub fn revision(header: Option<&pb::ResponseHeader>) -> i64 {
    header.expect("every answer has a header").revision
}

/// Code and message of a refusal.
pub fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    match answer {
        Ok(answer) => (Code::Ok, format!("{answer:?}")),
        Err(status) => (status.code(), status.message().to_owned()),
    }
}
