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
/// Default of --max-request-bytes: a larger write is refused as too large.
pub const REQUEST_BYTES_MAX: usize = 1_572_864;
/// What a gRPC message may have above --max-request-bytes before it is refused unread.
pub const REQUEST_OVERHEAD_BYTES: usize = 512 << 10;
/// Default of --max-txn-ops.
pub const TXN_OPS_MAX: usize = 128;
/// Depth of nested transactions. A deeper one is refused as too many operations.
pub const TXN_DEPTH_MAX: usize = 32;
/// Writes admitted and not answered. Above it: too many requests.
pub const ADMITTED_MAX: i64 = 5_000;
/// Committed batches that stay in the ring. The orderer publishes no more until all cores have
/// passed the oldest; a watcher that falls behind it catches up from the shards.
pub const RING_BATCHES: usize = 1024;
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
/// An idle leader stamps `durable_upto` this long after its last batch.
pub const STAMP_IDLE_MS: u64 = 10;
/// Mail from one core to another. A full box makes the sender keep it and try again.
pub const MAIL_MAX: usize = 16_384;
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
/// Leases that a new leader lets expire within a second; the surplus of a pile-up gets more time.
pub const LEASE_EXPIRIES_PER_S: usize = 750;
/// Largest TTL of a lease in seconds.
pub const LEASE_TTL_MAX_S: i64 = 9_000_000_000;
/// Memory that the quota counts for each version beside its bytes.
pub const RECORD_OVERHEAD_BYTES: u64 = 128;

// A batch must fit a segment with room for its frame, or the log could never take it.
const _: () = assert!((ENTRY_BYTES_MAX * 4) < SEGMENT_BYTES as usize);
// One operation of the largest request must fit the quota of an entry with its header.
const _: () = assert!(REQUEST_BYTES_MAX + REQUEST_OVERHEAD_BYTES < ENTRY_BYTES_MAX * 4);
