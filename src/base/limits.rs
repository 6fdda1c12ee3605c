//! Every bound of the process, with what happens at it.

/// Connections per process. Above it a new connection is closed at once.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Streams per connection that SETTINGS advertise; the flag may lower it. h2 refuses more.
pub const STREAMS_PER_CONNECTION: u32 = 10_000;
/// Header list of a request. A larger one resets the stream.
pub const HEADER_LIST_BYTES_MAX: u32 = 64 << 10;
/// Streams reset by the peer and not yet collected. More of them: GOAWAY (rapid reset).
pub const PENDING_RESETS_MAX: usize = 20;
/// Streams that this side may reset on one connection. More of them: GOAWAY (MadeYouReset).
pub const LOCAL_RESETS_MAX: usize = 100;
/// Bytes queued in h2 per stream before a sender waits.
pub const SEND_BUFFER_BYTES: usize = 256 << 10;
/// Largest slice of a bulk answer handed to h2 at once, so that small messages can go between.
pub const BULK_SLICE_BYTES: usize = 64 << 10;
/// Receive window of a stream and of a connection.
pub const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Receive window of a connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Preface and SETTINGS have to arrive within this.
pub const PREFACE_TIMEOUT_MS: u64 = 5_000;
/// Keepalive pings below the interval that a client is forgiven. One more: GOAWAY.
pub const PING_STRIKES_MAX: u32 = 2;
/// Interval below which a client's ping is a strike.
pub const PING_INTERVAL_MIN_MS: u64 = 5_000;
/// SETTINGS of a client per ten seconds. More of them: GOAWAY.
pub const SETTINGS_PER_WINDOW_MAX: u32 = 100;
/// A connection that is silent for this long is pinged by the server.
pub const KEEPALIVE_INTERVAL_MS: u64 = 2 * 60 * 60 * 1_000;
/// A pinged connection that stays silent for this long is closed.
pub const KEEPALIVE_TIMEOUT_MS: u64 = 20_000;
/// API versions of clients that a core counts by name. Further ones are counted together.
pub const CLIENT_VERSIONS_MAX: usize = 16;
/// A longer name of such a version is not kept.
pub const CLIENT_VERSION_BYTES_MAX: usize = 32;
/// Default time for an answer: 5 s and two election timeouts. Above it: request timed out.
pub const REQUEST_TIMEOUT_MS: u64 = 7_000;
/// Bytes that are read from a connection before they are looked at. Not more: h2 closes a
/// connection that has very many small DATA frames unread.
pub const ROUND_READ_BYTES: usize = 64 << 10;
/// Small messages of one stream that wait together leave as one DATA frame up to this.
pub const JOINED_BYTES_MAX: usize = 16 << 10;
/// Bytes gathered for one write; a turn's answers above it leave in several.
pub const WRITE_BATCH_BYTES: usize = 64 << 10;
/// Answers handed to h2 on one connection and not written. Above it the rest waits.
pub const CONNECTION_UNSENT_BYTES_MAX: usize = 256 << 10;
/// The same for all connections of a core; above it each may have one slice under way.
pub const CORE_UNSENT_BYTES_MAX: usize = 64 << 20;
/// Parts of requests gathered on a core. Above it a call that needs more is refused.
pub const CORE_REQUEST_BYTES_MAX: usize = 256 << 20;
/// Messages that wait to be written on one stream. Above it the stream is not read.
pub const STREAM_QUEUE_MESSAGES_MAX: usize = 1_024;
/// Keepalives under way on one stream. Above it the stream is not read.
pub const KEEPALIVES_IN_FLIGHT_MAX: usize = 1_024;
/// Head of an HTTP/1 request. A larger one is refused.
pub const HTTP1_HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of an HTTP/1 request. One more is refused.
pub const HTTP1_HEADERS_MAX: usize = 64;
/// Body of an HTTP/1 request. A larger one is refused.
pub const HTTP1_BODY_BYTES_MAX: usize = 64 << 10;
/// Bytes read at once from an HTTP/1 connection; so much may come ahead of its turn.
pub const HTTP1_READ_BYTES: usize = 4 << 10;
/// An HTTP/1 request must be read whole within this. Else it is refused.
pub const HTTP1_HEAD_TIMEOUT_MS: u64 = 10_000;
/// An HTTP/1 connection that asks nothing for this long is closed.
pub const HTTP1_IDLE_TIMEOUT_MS: u64 = 120_000;
/// An HTTP/1 client must take an answer within this. Else the connection is closed.
pub const HTTP1_WRITE_TIMEOUT_MS: u64 = 30_000;
/// Keys of the first chunk of a RangeStream.
pub const RANGE_STREAM_FIRST_KEYS: i64 = 10;
/// Default of --max-request-bytes: a larger write is refused as too large.
pub const REQUEST_BYTES_MAX: usize = 1_572_864;
/// What a gRPC message may have above --max-request-bytes before it is refused unread.
pub const REQUEST_OVERHEAD_BYTES: usize = 512 << 10;
/// The most that --max-request-bytes may be set to; a larger setting is refused at start.
pub const REQUEST_BYTES_CEILING: usize = 3 << 20;
/// Default of --max-txn-ops.
pub const TXN_OPS_MAX: usize = 128;
/// Depth of nested transactions. A deeper one is refused as too many operations.
pub const TXN_DEPTH_MAX: usize = 32;
/// Writes admitted and not answered. Above it: too many requests.
pub const ADMITTED_MAX: i64 = 5_000;
/// Bytes of writes that hold a revision and are not visible yet. Above it: too many requests.
pub const IN_FLIGHT_BYTES_MAX: i64 = 256 << 20;
/// Writes that wait at a shard for their turn. One more is refused: too many requests. Beside them
/// wait the latches of operations.
pub const SHARD_QUEUE_MAX: usize = 2 * ADMITTED_MAX as usize;
/// Operations under way at the coordinator, calls that wait for a term, and calls that are refused
/// once the space alarm is raised: so many of each. One more is refused: too many requests.
pub const OPERATIONS_MAX: usize = 2 * ADMITTED_MAX as usize;
/// Keep-alives and grants that wait for a lease to be gone. One more is refused: too many requests.
pub const LEASE_WAITING_MAX: usize = 65_536;
/// Rounds of mail and apply that one step of a core takes on before it lets others run.
pub const STEP_ROUNDS_MAX: usize = 64;
/// Records that one slice of a long read visits before other work gets its turn.
pub const READ_SLICE_RECORDS: usize = 1_000;
/// Bytes that one slice of a long read takes.
pub const READ_SLICE_BYTES: usize = 4 << 20;
/// Versions that one slice of a hash sums up.
pub const HASH_SLICE_RECORDS: usize = 200;
/// Committed batches that stay in the ring. The orderer publishes no more until all cores have
/// passed the oldest; a watcher that falls behind it catches up from the shards.
pub const RING_BATCHES: usize = 1024;
/// Bytes of the batches in the ring. Above it those that all cores have passed go before their
/// turn.
pub const RING_BYTES_MAX: u64 = 64 << 20;
/// Effects of one raft entry in bytes; a larger operation spans several entries.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;
/// Effects of one raft entry in number.
pub const ENTRY_EFFECTS_MAX: usize = 16_384;
/// Batches on their way to disk. The next one waits and grows.
pub const BATCHES_IN_FLIGHT_MAX: usize = 8;
/// One WAL segment in bytes.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Segments kept zero-filled ahead per lane.
pub const SEGMENTS_AHEAD: usize = 1;
/// Segments kept for reuse per lane when nothing in them is needed. One more is deleted.
pub const WAL_SEGMENTS_SPARE: usize = 4;
/// Largest segment that may be configured; what a file has beyond is not read.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Zeros written at once to a segment in preparation, so that frames can go between.
pub const WAL_ZERO_SLICE_BYTES: u64 = 1 << 20;
/// Lanes of a log. A file of a higher lane is refused at start.
pub const WAL_LANES_MAX: u16 = 64;
/// Writes in flight per lane that may be configured. With all of them out the lane is not free.
pub const WAL_DEPTH_MAX: usize = 16;
/// Slices of one frame's payload. An entry of more is a bug of the sender.
pub const WAL_CHUNKS_MAX: usize = 2 * ENTRY_EFFECTS_MAX;
/// Payload of one frame in bytes. An entry of more is a bug of the sender.
pub const WAL_PAYLOAD_BYTES_MAX: usize = 4 * ENTRY_BYTES_MAX;
/// Frames of waiting entries that share one write, in bytes. The next frame waits for the next.
pub const WAL_RUN_BYTES_MAX: u64 = 1 << 20;
/// Writes that have ended whose memory is kept for the next ones. That of one more goes back.
pub const BLOCK_POOL_RUNS_MAX: usize = BATCHES_IN_FLIGHT_MAX;
/// Memory of such a write. A larger one goes back.
pub const BLOCK_POOL_RUN_BYTES_MAX: usize = 4 * WAL_RUN_BYTES_MAX as usize;
/// Bytes that recovery holds of each lane.
pub const WAL_SCAN_BYTES: usize = 256 << 10;
/// Indexes, terms, revisions and sequences that a log or a checkpoint may say. A higher one is
/// damage: nobody counts that far, and whoever goes on from there needs numbers above it.
pub const COUNT_MAX: u64 = 1 << 62;
/// Damaged frames that recovery remembers to name them. More of them stay without a name.
pub const WAL_DAMAGE_NAMED_MAX: usize = 1024;
/// A page as it is handed in. A larger one is a bug of the sender; a reference to one is refused.
/// The longest hold a key twice, beside its version and within it, or are branches of two keys,
/// and no key and value come in that are longer together than a message. A unit is for the rest.
pub const PAGE_LOGICAL_BYTES_MAX: usize =
    2 * (REQUEST_BYTES_CEILING + REQUEST_OVERHEAD_BYTES) + 4096;
/// Units of 4 KiB that a page takes on disk. A reference to a larger one is refused.
pub const PAGE_UNITS_MAX: u32 = (PAGE_LOGICAL_BYTES_MAX / 4096) as u32 + 1;
/// Reads in flight per page file. The next one waits.
pub const PAGE_READS_IN_FLIGHT_MAX: usize = 32;
/// Pages that are wished for at a time per page file. One more is to be asked for again.
pub const PAGE_WISHES_MAX: usize = 4_096;
/// Writes of pages in flight per page file. The next one waits.
pub const PAGE_WRITES_IN_FLIGHT_MAX: usize = 16;
/// Bytes of pages that wait to be written. Above it the checkpoint pauses.
pub const PAGE_QUEUE_BYTES_MAX: usize = 4 << 20;
/// Extents that one slice of work behind a checkpoint makes free.
pub const PAGE_CLEAR_SLICE: usize = 256;
/// Cuts and punches in flight per page file. The next one waits.
pub const PAGE_TRIMS_IN_FLIGHT_MAX: usize = 4;
/// Shortest free run, in units of 4 KiB, whose space is given back.
pub const PAGE_PUNCH_UNITS_MIN: u32 = 256;
/// An idle leader stamps `durable_upto` this long after its last batch.
pub const STAMP_IDLE_MS: u64 = 10;
/// Mail from one core to another. A full box makes the sender keep it and try again.
pub const MAIL_MAX: usize = 16_384;
/// Connections on their way to one core. One more is closed.
pub const ARRIVALS_MAX: usize = 1_024;
/// Steps of a node before the connections of its core have their turn.
pub const STEPS_PER_TURN: usize = 4;
/// Rest of a core between two slices of long work.
pub const SLICE_PAUSE_NS: u64 = 50_000;
/// A core wakes at least this often.
pub const HEARTBEAT_MS: u64 = 100;
/// The same in the first second of an executor.
pub const HEARTBEAT_FIRST_MS: u64 = 5;
/// Timers of a core's connections that end at once; the rest waits for the next slice.
pub const NAPS_PER_SLICE: usize = 64;
/// Pause between two slices of them, for everything else.
pub const NAPS_PAUSE_MS: u64 = 1;
/// Entries of the log's ring; more writes and syncs than this are never in flight.
pub const RING_DEPTH: u32 = 256;
/// Entries of each of an executor's rings. The kernel finds what is to be canceled in a table of
/// this size divided by 16, and every read of a connection that has nothing to bring is canceled
/// once: few entries make thousands of connections dear.
pub const RING_DEPTH_EXECUTOR: usize = 1024;
/// Shards of a member.
pub const SHARDS_MAX: u16 = 16;
/// Bytes of watch events queued at the frontend per stream; above it the watcher lags.
pub const WATCH_STREAM_BYTES_MAX: usize = 4 << 20;
/// Watchers on one stream. One more is refused.
pub const WATCHERS_PER_STREAM_MAX: usize = 100_000;
/// Values of one catch-up window of one watcher.
pub const CATCH_UP_WINDOW_BYTES: usize = 16 << 20;
/// Bytes of one catch-up answer, events of one revision never split.
pub const CATCH_UP_MESSAGE_BYTES: usize = 1 << 20;
/// Changes that a stretch of history looks at in one slice. From what layers hold a stretch is one
/// slice, and ends early, never within a revision, and says how far it came.
pub const STRETCH_CHANGES_MAX: usize = 8_192;
/// Slices of changes that a stretch takes from the trees; then it ends early.
pub const STRETCH_SLICES_MAX: usize = 4;
/// Bytes of deltas behind a stretch that wait for the whole version they start from. With more the
/// keys left are looked up one by one.
pub const LOOK_THROUGH_BYTES_MAX: usize = 32 << 20;
/// Catch-up windows that one hub has open at a time. A further watcher waits for its turn.
pub const CATCH_UP_WINDOWS_MAX: usize = 4;
/// Requests of one watch stream that wait for the hub. Above it a create is refused, a progress
/// request is dropped and a cancel is carried out at once.
pub const WATCH_REQUESTS_WAITING_MAX: usize = 10_000;
/// Events times watchers that a hub matches, and as many that it replays, before it yields.
pub const WATCH_SLICE: usize = 4_096;
/// Effects that a watcher behind the hub is shown before the next one has its turn.
pub const WATCH_TURN: usize = 1_024;
/// Leases whose expiry one pass under a latch may carry out.
pub const LEASE_EXPIRIES_PER_PASS: usize = 500;
/// Renewed leases that one look for those that are due gives their new place; the rest waits for
/// the next look.
pub const LEASES_MOVED_PER_PASS: usize = 1_000;
/// Leases that a core renews without asking the orderer's. One more, and it forgets them all.
pub const LIFELINES_PER_CORE_MAX: usize = 65_536;
/// Leases that a new leader lets expire within a second; the surplus of a pile-up gets more time.
pub const LEASE_EXPIRIES_PER_S: usize = 750;
/// Largest TTL of a lease in seconds.
pub const LEASE_TTL_MAX_S: i64 = 9_000_000_000;
/// Bytes of one value in a line of the log. A longer one is cut.
pub const LOG_FIELD_BYTES_MAX: usize = 8 << 10;
/// Memory that the quota counts for each version beside its bytes.
pub const RECORD_OVERHEAD_BYTES: u64 = 128;
/// Units of 4 KiB of a leaf of `current` that does not compress. An entry above half of it gets a
/// leaf of its own.
pub const CURRENT_LEAF_UNITS: usize = 32;
/// The same of a leaf of `undo`: what was replaced is alike, so the longer a page the smaller.
pub const UNDO_LEAF_UNITS: usize = 64;
/// The same of a leaf of the other trees.
pub const LEAF_UNITS: usize = 16;
/// The same of a branch of any tree. Two children stand in one branch, however long their keys.
pub const BRANCH_UNITS: usize = 8;
/// Levels of branches over a tree's leaves. A higher root is damaged.
pub const TREE_HEIGHT_MAX: u8 = 32;
/// Pages that a reader or a merge asks for at once; the first of them is the one that it needs.
pub const PAGES_AHEAD: usize = 16;
/// Changes that a merge looks ahead to see which pages they touch.
pub const MERGE_AHEAD_CHANGES: usize = 1_024;
/// Untouched pages that a merge rewrites to fill an underfull one before it; then it stays so.
pub const MERGE_PULLS_MAX: usize = 6;
/// Bytes that one slice of a checkpoint moves, before other work gets its turn; a page that it
/// writes may be more.
pub const CHECKPOINT_SLICE_BYTES: usize = 32 << 10;
/// The same while the next layer is far ahead.
pub const CHECKPOINT_HURRIED_SLICE_BYTES: usize = 128 << 10;
/// The most that a checkpoint rests between two slices.
pub const CHECKPOINT_PAUSE_NS: u64 = 500_000;
/// How far a layer is ahead of the merge of the one before it, in thousandths of itself, when that
/// rests no more.
pub const CHECKPOINT_HURRY_PERMILLE: u64 = 250;
/// The same when writers wait.
pub const CHECKPOINT_AHEAD_PERMILLE: u64 = 500;
/// A checkpoint that found no space is tried again behind so long.
pub const CHECKPOINT_RETRY_MS: u64 = 1_000;
/// Bytes of log behind which a checkpoint is due.
pub const CHECKPOINT_LOG_BYTES: u64 = 256 << 20;
/// The least that --page-cache-bytes and --memtable-bytes may be set to: the cache has to hold two
/// of the largest pages, and changes of some large requests come together.
pub const MEMORY_SHARE_BYTES_MIN: u64 = 16 << 20;
/// Steps that a read of an old version goes back from a whole copy at most; the next entry of the
/// key is a whole copy itself.
pub const CHAIN_STEPS_MAX: u8 = 15;
/// A shorter value is kept whole when it is replaced.
pub const DELTA_VALUE_BYTES_MIN: usize = 64;
/// Places of lists on each core of which the count of what is left is remembered. The oldest one is
/// forgotten, and counted anew when it is asked for.
pub const REMAINING_MAX: usize = 1_024;
/// Bytes of the two keys of such a place. A longer one is not remembered.
pub const REMAINING_KEY_BYTES_MAX: usize = 4 << 10;
/// Pages of each old shard in memory while a store is written for another number of shards: two of
/// the largest with the branches above them, and some that are read ahead.
pub const RESHARD_CACHE_BYTES: usize = 16 << 20;
/// Reads of old versions that remember how far they have come while they wait for a page. With one
/// more, another begins anew.
pub const TRAILS_MAX: usize = 128;
/// Bytes that a pass over all pages reads per second and shard.
pub const SCRUB_BYTES_PER_S: u64 = 4 << 20;
/// Branches that one slice of the walk behind a start looks at.
pub const ADOPT_SLICE_PAGES: usize = 64;
/// Changes and keys of a merged layer that one slice lets go of.
pub const LAYER_SLICE_RECORDS: usize = 500;

/// Our client: receive window of a stream and of a connection, given back at the half.
pub const CLIENT_WINDOW_BYTES: u32 = 16 << 20;
/// Our client: one message of an answer. A larger one ends its call.
pub const CLIENT_MESSAGE_BYTES_MAX: usize = (1 << 31) - 1;
/// Our client: header block or decoded header list of an answer. A larger one ends the connection.
pub const CLIENT_HEADER_BYTES_MAX: usize = 64 << 10;
/// Our client: bytes that wait to be written or for the server's window, per connection. Above it
/// no call is opened and no message taken.
pub const CLIENT_UNSENT_BYTES_MAX: usize = 256 << 20;
/// Our client: control frames that the server made us answer and does not read. Above it the
/// connection ends.
pub const CLIENT_REPLIES_MAX: u32 = 10_000;

// A batch must fit a segment with room for its frame, or the log could never take it.
const _: () = assert!((ENTRY_BYTES_MAX * 4) < SEGMENT_BYTES as usize);
// One operation of the largest request must fit the quota of an entry with its header.
const _: () = assert!(REQUEST_BYTES_CEILING + REQUEST_OVERHEAD_BYTES < ENTRY_BYTES_MAX * 4);
const _: () = assert!(REQUEST_BYTES_MAX <= REQUEST_BYTES_CEILING);
// A page that does not compress takes its header beside its bytes, and no more than its units.
const _: () = assert!(PAGE_LOGICAL_BYTES_MAX.is_multiple_of(4096));
