//! From a configuration to a serving member, and back to an exit code.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{TcpListener as StdListener, ToSocketAddrs};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use glommio::net::TcpListener;
use glommio::timer::sleep;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use super::clock::Clock;
use super::connection::{self, Limits, Sites};
use super::datadir::{DataDir, mark_used};
use super::disk::{Disk, DiskMetrics};
use super::mailbox::{Arrival, Mailboxes, Serves};
use super::metrics::{ApplyMetrics, CoreMetrics, ProcessMetrics, Scraper};
use super::page_disk::PageDisk;
use super::probe::Grant;
use super::station::Station;
use super::{memory, notify, recovery, signals};
use crate::base::CoreId;
use crate::base::limits::{
    CHECKPOINT_LOG_BYTES, CHECKPOINT_PAUSE_NS, CONNECTIONS_MAX, READ_SLICE_RECORDS,
    REQUEST_OVERHEAD_BYTES, RING_DEPTH_EXECUTOR, SCRUB_BYTES_PER_S, WATCH_STREAM_BYTES_MAX,
};
use crate::base::shared::Shared;
use crate::cluster::compactor::Mode;
use crate::config::{
    AutoCompaction, Config, Scheme, Url, WalSync, memtable_by_rule, page_cache_by_rule,
};
use crate::frontend::http::{Scope, Site};
use crate::frontend::port::{FrontendContext, Settings};
use crate::log;
use crate::node::{Boot, Core, Leader, NodeConfig, Outbox, ShardStart, Topology};
use crate::router::Router;
use crate::shard::store::ScrubSettings;
use crate::shard::wal::{Layout, Verdict};
use crate::wire::etcdserverpb as pb;

/// Exit code of a member that its disk or an invariant stopped.
const EXIT_FAULT: i32 = 74;
/// Time for answers under way when the process is told to stop.
const STOP_MS: u64 = 1_500;

/// What every executor thread is started with.
struct Start {
    topology: Arc<Topology>,
    shared: Arc<Shared>,
    mailboxes: Arc<Mailboxes>,
    node: Arc<NodeConfig>,
    /// What the shards start from, by number.
    starts: Vec<ShardStart>,
    /// The folder of their page files.
    shards_dir: PathBuf,
    settings: Settings,
    clock: Clock,
    /// Open connections per core.
    loads: Arc<Vec<AtomicU32>>,
    metrics: Arc<ProcessMetrics>,
    cors: Option<Vec<String>>,
    host_whitelist: Option<Vec<String>>,
    connections_max: usize,
}

/// What the orderer's core gets beside it.
struct First {
    boot: Boot,
    wal_dir: PathBuf,
    listeners: Vec<(StdListener, Serves, Url)>,
    config: Config,
}

/// Serves until told to stop. The exit code, or the signal to end with.
///
/// # Errors
/// A sentence, when the member cannot start.
pub fn serve(
    config: Config,
    data_dir: &DataDir,
    grant: Grant,
    cores: u16,
) -> Result<signals::End, String> {
    let identity = &data_dir.identity;
    let router = Router::new(identity.key_hash_seed, identity.member.shards);
    let topology = Arc::new(Topology::new(cores, router));
    let boot = recover(&config, data_dir)?;
    let mut listeners = listen(&config.listen_client, Serves::Clients)?;
    listeners.extend(listen(&config.listen_metrics, Serves::Metrics)?);
    // The peer service is not there yet; its port is kept so that nobody else takes it.
    let _peers = listen(&config.listen_peer, Serves::Metrics)?;
    signals::block().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let start = Arc::new(Start {
        shared: Arc::new(Shared::new(cores, router.shards())),
        mailboxes: Arc::new(Mailboxes::new(cores)),
        node: Arc::new(node_config(&config, data_dir)),
        starts: boot.starts.clone(),
        shards_dir: data_dir.shards(),
        settings: settings(&config, data_dir),
        clock: Clock::new(),
        loads: Arc::new((0..cores).map(|_| AtomicU32::new(0)).collect()),
        metrics: Arc::new(ProcessMetrics {
            cores: (0..cores).map(|_| CoreMetrics::default()).collect(),
            disk: Arc::new(DiskMetrics::default()),
            leader: OnceLock::new(),
            applies: Arc::new(ApplyMetrics::new(config.warn_apply_ms)),
            health: Arc::default(),
            member: identity.member.member_id,
            quota_bytes: config.quota_bytes.unwrap_or(0),
            gates: config.gates.clone(),
        }),
        cors: config.cors.clone(),
        host_whitelist: config.host_whitelist.clone(),
        connections_max: connections_max(),
        topology,
    });
    let cpus = signals::allowed_cpus();
    let first = First { boot, wal_dir: data_dir.wal(), listeners, config };
    let mut first = Some(first);
    let mut threads = Vec::new();
    for core in (0..cores).map(CoreId) {
        let placement = match cpus.get(usize::from(core.0)) {
            Some(cpu) if cpus.len() >= usize::from(cores) => Placement::Fixed(*cpu),
            _ => Placement::Unbound,
        };
        let (start, first) = (Arc::clone(&start), first.take());
        let thread: ExecutorJoinHandle<signals::End> = LocalExecutorBuilder::new(placement)
            .name(&format!("ringbolt-{core}"))
            .io_memory(grant.io_memory)
            .ring_depth(RING_DEPTH_EXECUTOR)
            .spawn(move || run_core(core, start, first))
            .map_err(|error| format!("cannot start the executor of core {core}: {error}"))?;
        threads.push(thread);
    }
    let mut end = signals::End::Code(0);
    for thread in threads {
        let one = thread.join().map_err(|error| format!("an executor failed: {error}"))?;
        end = end.worse(one);
    }
    Ok(end)
}

/// Connections that descriptors allow.
fn connections_max() -> usize {
    let files = signals::open_files_max();
    CONNECTIONS_MAX.min(files / 5 * 4).max(1)
}

fn node_config(config: &Config, data_dir: &DataDir) -> NodeConfig {
    let member = &data_dir.identity.member;
    let advertised = config.advertise_client.iter().map(|url| url.as_str().to_owned());
    let described = pb::Member {
        id: member.member_id,
        name: config.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: advertised.collect(),
        is_learner: false,
    };
    let memory = memory::allowed_bytes();
    let page_cache = config.page_cache_bytes.unwrap_or(page_cache_by_rule(memory));
    let ticks = (config.election_ms / config.heartbeat_ms.max(1)).max(2);
    NodeConfig {
        member: member.member_id,
        members: vec![described],
        quota_bytes: config.quota_bytes,
        tick_ms: config.heartbeat_ms,
        election_ticks: usize::try_from(ticks).unwrap_or(10),
        compaction: match config.auto_compaction {
            AutoCompaction::Off => Mode::Off,
            AutoCompaction::PeriodMs(ms) => Mode::Periodic(ms),
            AutoCompaction::Revisions(kept) => Mode::Revisions(kept),
        },
        progress_interval_ms: config.watch_progress_interval_ms,
        watch_stream_bytes: WATCH_STREAM_BYTES_MAX,
        watch_fragment_bytes: config.max_request_bytes + REQUEST_OVERHEAD_BYTES,
        read_slice_records: READ_SLICE_RECORDS,
        page_cache_bytes: usize::try_from(page_cache).unwrap_or(usize::MAX),
        memtable_bytes: config.memtable_bytes.unwrap_or(memtable_by_rule(memory)),
        checkpoint_behind: (config.checkpoint_records, CHECKPOINT_LOG_BYTES),
        checkpoint_pause_ns: CHECKPOINT_PAUSE_NS,
        scrub: ScrubSettings {
            rest_ms: Some(config.page_scrub_interval_ms).filter(|ms| *ms > 0),
            bytes_per_s: SCRUB_BYTES_PER_S,
        },
        seed: signals::random_seed(),
    }
}

fn settings(config: &Config, data_dir: &DataDir) -> Settings {
    let never = u64::MAX / 2_000_000;
    let or_never = |ms: u64| if ms == 0 { never } else { ms };
    Settings {
        cluster_id: data_dir.identity.member.cluster_id,
        member_id: data_dir.identity.member.member_id,
        request_bytes_max: config.max_request_bytes,
        txn_ops_max: config.max_txn_ops,
        streams_max: config.max_concurrent_streams,
        request_timeout_ms: 5_000 + 2 * config.election_ms,
        ping_interval_min_ms: config.keepalive_min_time_ms,
        keepalive_interval_ms: or_never(config.keepalive_interval_ms),
        keepalive_timeout_ms: or_never(config.keepalive_timeout_ms),
        election_timeout_ms: config.election_ms,
        warn_apply_ms: config.warn_apply_ms,
        ..Settings::default()
    }
}

/// Reads the page files' superblocks and the log, and says what it found.
fn recover(config: &Config, data_dir: &DataDir) -> Result<Boot, String> {
    let layout = Layout {
        lanes: data_dir.identity.member.shards,
        depth: config.wal_depth,
        segment_bytes: config.wal_segment_bytes,
    };
    let whose = recovery::whose(data_dir);
    let boot = recovery::recover(data_dir, data_dir.shards(), &whose, layout)?;
    match &boot.recovered.verdict {
        Verdict::Clean => log!(Info, "the log is intact", "entries" => boot.entries.len()),
        torn => log!(
            Warn, "the end of the log was torn by a crash and is discarded: nothing of it was \
                   acknowledged", "verdict" => format!("{torn:?}"), "entries" => boot.entries.len()
        ),
    }
    Ok(boot)
}

/// Binds every address of the URLs.
fn listen(urls: &[Url], serves: Serves) -> Result<Vec<(StdListener, Serves, Url)>, String> {
    let mut bound = Vec::new();
    for url in urls.iter().filter(|url| !url.is_unix()) {
        let address = (url.host().trim_matches(['[', ']']), url.port());
        let failed = |error: io::Error| format!("cannot listen on {}: {error}", url.as_str());
        let found: Vec<_> = address.to_socket_addrs().map_err(failed)?.collect();
        // A name that stands for both loopbacks is served on the first that works.
        let listener = StdListener::bind(&found[..]).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        bound.push((listener, serves, url.clone()));
    }
    Ok(bound)
}

/// One executor's whole life.
async fn run_core(core: CoreId, start: Arc<Start>, first: Option<First>) -> signals::End {
    let mut out = Outbox::default();
    let now = start.clock.now();
    let (mut leader, mut rest) = (None, None);
    if let Some(First { boot, wal_dir, listeners, config }) = first {
        match Leader::boot(boot, &start.node, &start.topology, now, &mut out) {
            Ok(booted) => leader = Some(booted),
            Err(error) => {
                log!(Fatal, "cannot start from the log", "error" => error.to_string());
                start.mailboxes.end();
                return signals::End::Code(1);
            }
        }
        rest = Some((wal_dir, listeners, config));
    }
    let (topology, shared) = (Arc::clone(&start.topology), Arc::clone(&start.shared));
    let config = Arc::clone(&start.node);
    let node = Core::new(core, topology, Arc::clone(&shared), config, &start.starts, leader);
    let mailboxes = Arc::clone(&start.mailboxes);
    let station = Station::new(
        core,
        node,
        out,
        mailboxes,
        shared,
        start.clock,
        Arc::clone(&start.metrics.applies),
    );
    let counted = &start.metrics.cores[usize::from(core.0)];
    let meters = Arc::clone(&counted.frontend);
    let port: Rc<Station> = Rc::clone(&station);
    let sites = sites(&start);
    let mut frontend = FrontendContext::new(port, start.settings.clone(), meters);
    frontend.http = Some(Rc::clone(&sites.clients));
    let frontend = Rc::new(frontend);
    station.set_frontend(&frontend);
    station.look(|core| {
        let known = (core.watch_metrics(), core.metrics());
        counted.node.set(known).expect("a core is set up once");
        if let Some(leader) = core.leader() {
            let known = (leader.lease_metrics(), leader.metrics());
            start.metrics.leader.set(known).expect("there is one leader's part");
        }
    });
    let acceptor =
        connection::Acceptor::new(core, &frontend, &start.loads, Limits::default(), sites);
    let drive = glommio::spawn_local(Rc::clone(&station).drive(move |arrival| {
        acceptor.take(arrival);
    }));
    let log = rest.as_ref().map(|(dir, _, config)| (dir.clone(), config.wal_sync));
    if let Err(error) = attach_disks(&station, core, &start, log) {
        log!(Fatal, "cannot set up a disk's ring", "error" => error.to_string());
        start.mailboxes.end();
        return signals::End::Code(1);
    }
    let end = match rest {
        Some((_, listeners, config)) => lead(&start, &station, listeners, &config).await,
        None => follow(&start, &station).await,
    };
    frontend.stop();
    drop(drive);
    end
}

/// Who answers plain HTTP on this core.
fn sites(start: &Start) -> Sites {
    let site = |scope| {
        let source = Scraper::new(&start.metrics, &start.shared, start.clock);
        Rc::new(Site::new(scope, source, Arc::clone(&start.metrics.health)))
    };
    let (cors, host_whitelist) = (start.cors.clone(), start.host_whitelist.clone());
    Sites {
        clients: site(Scope::Client { cors, host_whitelist, is_secure: false }),
        metrics: site(Scope::Metrics),
    }
}

/// Gives a core the disks that it works with: of its shards' page files, and of the log.
fn attach_disks(
    station: &Rc<Station>,
    core: CoreId,
    start: &Start,
    log: Option<(PathBuf, WalSync)>,
) -> io::Result<()> {
    let woken = Rc::downgrade(station);
    let wake: Rc<dyn Fn()> = Rc::new(move || {
        if let Some(station) = woken.upgrade() {
            station.wake();
        }
    });
    if let Some((dir, sync)) = log {
        let metrics = Arc::clone(&start.metrics.disk);
        station.set_disk(Disk::new(dir, sync, start.clock, metrics, &wake)?);
    }
    let shards = start.topology.shards_on(core);
    if !shards.is_empty() {
        let metrics = Arc::clone(&start.metrics.cores[usize::from(core.0)].pages);
        let (dir, clock) = (&start.shards_dir, start.clock);
        station.set_pages(PageDisk::new(dir, shards.iter(), clock, metrics, &wake)?);
    }
    station.wake();
    Ok(())
}

/// A core without the orderer: it serves until the process stops.
async fn follow(start: &Start, station: &Rc<Station>) -> signals::End {
    let mut stopping = false;
    loop {
        if start.mailboxes.is_ended() {
            return signals::End::Code(0);
        }
        if start.mailboxes.is_stopping() && !stopping {
            stopping = true;
            station.stop_frontend();
        }
        if let Some(why) = station.halted() {
            log!(Fatal, "the member stops", "error" => why);
            start.mailboxes.end();
            return signals::End::Code(EXIT_FAULT);
        }
        if stopping {
            sleep(Duration::from_millis(5)).await;
        } else {
            station.noticed().await;
        }
    }
}

/// The orderer's core: opens the member, accepts, waits for the end.
async fn lead(
    start: &Arc<Start>,
    station: &Rc<Station>,
    listeners: Vec<(StdListener, Serves, Url)>,
    config: &Config,
) -> signals::End {
    let signal = Rc::new(Cell::new(None));
    let (signaled, woken) = (Rc::clone(&signal), Rc::clone(station));
    glommio::spawn_local(async move {
        signaled.set(Some(signals::next().await));
        woken.notice();
    })
    .detach();
    let mut listeners = Some(listeners);
    let accepting = Rc::new(RefCell::new(Vec::new()));
    loop {
        if let Some(why) = station.halted() {
            log!(Fatal, "the member stops", "error" => why);
            start.mailboxes.end();
            return signals::End::Code(EXIT_FAULT);
        }
        if start.mailboxes.is_ended() {
            // Another core has said why.
            return signals::End::Code(0);
        }
        if let Some(signal) = signal.get() {
            log!(Info, "received signal; shutting down", "signal" => signals::name(signal));
            accepting.borrow_mut().clear();
            stop(start, station).await;
            return signals::End::Signal(signal);
        }
        let is_open = station.look(|core| core.leader().is_some_and(Leader::is_open));
        if is_open && let Some(listeners) = listeners.take() {
            if let Err(error) = mark_used(&config.data_dir) {
                log!(Fatal, "cannot note that the data directory is in use",
                     "error" => error.to_string());
                start.mailboxes.end();
                return signals::End::Code(1);
            }
            for (listener, serves, url) in listeners {
                accepting.borrow_mut().push(accept(start, listener, serves));
                announce(serves, &url);
            }
            log!(Info, "published local member to cluster through raft",
                 "local-member-id" => format!("{:x}", start.settings.member_id),
                 "cluster-id" => format!("{:x}", start.settings.cluster_id),
                 "name" => config.name.as_str());
            if let Err(error) = notify::ready(std::env::var_os("NOTIFY_SOCKET").as_deref()) {
                log!(Warn, "cannot tell the supervisor that the member serves",
                     "error" => error.to_string());
            }
        }
        if is_open {
            station.noticed().await;
        } else {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

fn announce(serves: Serves, url: &Url) {
    if serves == Serves::Metrics {
        log!(Info, "serving metrics", "address" => url.as_str());
        return;
    }
    log!(Info, "ready to serve client requests");
    let traffic = if url.scheme() == Scheme::Http { "http" } else { "grpc" };
    log!(Info, "serving client traffic insecurely; this is strongly discouraged!",
         "traffic" => traffic, "address" => url.as_str());
}

/// Lets the log witness everything and answers leave.
async fn stop(start: &Start, station: &Rc<Station>) {
    start.mailboxes.stop();
    station.stop_frontend();
    station.with_core(Core::stop);
    let deadline = start.clock.now().plus_ms(STOP_MS);
    loop {
        let stopped = station.look(|core| core.leader().is_none_or(Leader::is_stopped));
        let open: u32 = start.loads.iter().map(|load| load.load(Ordering::Relaxed)).sum();
        let late = start.clock.now() >= deadline || station.halted().is_some();
        if late || (stopped && open == 0) {
            break;
        }
        sleep(Duration::from_millis(2)).await;
    }
    start.mailboxes.end();
    sleep(Duration::from_millis(20)).await;
}

/// Accepts on one listener and gives each connection to the least loaded core that serves.
fn accept(start: &Arc<Start>, listener: StdListener, serves: Serves) -> glommio::Task<()> {
    let start = Arc::clone(start);
    glommio::spawn_local(async move {
        // SAFETY: the descriptor was taken out of its owner, so the new one is its only owner.
        #[expect(unsafe_code, reason = "a std listener becomes one of the executor")]
        let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
        loop {
            match listener.shared_accept().await {
                Ok(stream) => {
                    let open: u32 = start.loads.iter().map(|l| l.load(Ordering::Relaxed)).sum();
                    if open as usize >= start.connections_max {
                        log!(Warn, "a connection is refused: as many are open as may be",
                             "connections" => open);
                        continue;
                    }
                    let cores = start.topology.all_cores();
                    let serving = cores.filter(|core| start.topology.serves(*core));
                    let load =
                        |core: &CoreId| start.loads[usize::from(core.0)].load(Ordering::Relaxed);
                    let Some(core) = serving.min_by_key(load) else { continue };
                    start.loads[usize::from(core.0)].fetch_add(1, Ordering::Relaxed);
                    if !start.mailboxes.arrive(core, Arrival { stream, serves }) {
                        start.loads[usize::from(core.0)].fetch_sub(1, Ordering::Relaxed);
                    }
                }
                Err(error) => {
                    // Out of descriptors or memory: those that end will free some.
                    log!(Warn, "cannot accept a connection", "error" => error.to_string());
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    })
}
