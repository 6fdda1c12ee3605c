package contract

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// watchStep is one row of a watch table: something is sent on the stream or
// called beside it, then each watcher named in want must get what stands there
// next. "0 @5 created" is a control answer for watcher 0, "0 PUT a=1/2.2.1" the
// events of one revision; how revisions are spread over messages is free.
type watchStep struct {
	name string
	send string // a WatchRequest in text form
	call string // or an RPC
	req  string
	wait time.Duration // before the next row, when nothing may come
	want []string
}

// watchStream sorts what a stream brings by watch id.
type watchStream struct {
	s      *server
	stream pb.Watch_WatchClient
	cancel context.CancelFunc

	mutex   sync.Mutex
	queues  map[int64]chan string
	last    map[int64]int64 // the last revision whose events a watcher got
	partial map[int64]*pb.WatchResponse
	pieces  map[int64]int // fragments of the last answer that had more than one
	faults  []string
	ended   chan error
}

func (s *server) watch(pairs ...string) *watchStream {
	s.t.Helper()
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(context.Background(), pairs...))
	stream, err := pb.NewWatchClient(s.conn).Watch(ctx)
	must(s.t, err)
	w := &watchStream{
		s: s, stream: stream, cancel: cancel,
		queues: map[int64]chan string{}, last: map[int64]int64{},
		partial: map[int64]*pb.WatchResponse{}, pieces: map[int64]int{}, ended: make(chan error, 1),
	}
	s.t.Cleanup(cancel)
	go w.receive()
	return w
}

func (w *watchStream) queue(id int64) chan string {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.queues[id] == nil {
		w.queues[id] = make(chan string, 1<<16)
	}
	return w.queues[id]
}

func (w *watchStream) receive() {
	for {
		r, err := w.stream.Recv()
		if err != nil {
			w.ended <- err
			return
		}
		if r = w.join(r); r == nil {
			continue
		}
		id := r.WatchId
		if len(r.Events) == 0 {
			if r.Created {
				w.last[id] = 0
			}
			r.WatchId = 0
			w.queue(id) <- w.s.show(r)
			continue
		}
		w.split(id, r)
	}
}

// join puts the fragments of one answer together; nil while more will come.
func (w *watchStream) join(r *pb.WatchResponse) *pb.WatchResponse {
	id := r.WatchId
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if whole := w.partial[id]; whole != nil {
		w.pieces[id]++
		whole.Events = append(whole.Events, r.Events...)
		if r.Fragment {
			return nil
		}
		delete(w.partial, id)
		whole.Fragment = false
		return whole
	}
	if r.Fragment {
		w.partial[id], w.pieces[id] = r, 1
		return nil
	}
	return r
}

// split hands the events of an answer on, revision by revision, and checks
// that revisions rise, are whole, and lie at or below the header.
func (w *watchStream) split(id int64, r *pb.WatchResponse) {
	var texts []string
	for i, event := range r.Events {
		revision := event.Kv.ModRevision
		if len(texts) == 0 && revision <= w.last[id] {
			w.fault("watcher %d: revision %d after %d", id, revision, w.last[id])
		}
		if revision > r.Header.Revision {
			w.fault("watcher %d: an event of %d under header %d", id, revision, r.Header.Revision)
		}
		texts = append(texts, w.s.show(event))
		if i+1 == len(r.Events) || r.Events[i+1].Kv.ModRevision != revision {
			w.last[id] = revision
			w.queue(id) <- strings.Join(texts, "; ")
			texts = nil
		}
	}
}

func (w *watchStream) fault(format string, values ...any) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.faults = append(w.faults, fmt.Sprintf(format, values...))
}

func (w *watchStream) send(text string) {
	w.s.t.Helper()
	request := &pb.WatchRequest{}
	must(w.s.t, prototext.Unmarshal([]byte(text), request))
	must(w.s.t, w.stream.Send(request))
}

// next gives the next thing that came for a watcher.
func (w *watchStream) next(id int64) string {
	w.s.t.Helper()
	select {
	case text := <-w.queue(id):
		return text
	case <-time.After(5 * time.Second):
		return "nothing"
	}
}

// none checks that nothing lies waiting for any watcher.
func (w *watchStream) none(t *testing.T) {
	t.Helper()
	w.mutex.Lock()
	defer w.mutex.Unlock()
	for id, queue := range w.queues {
		for len(queue) > 0 {
			t.Errorf("watcher %d got unasked: %s", id, <-queue)
		}
	}
	for _, fault := range w.faults {
		t.Error(fault)
	}
}

// follow runs the rows in order over one stream.
func follow(t *testing.T, w *watchStream, steps []watchStep) {
	t.Helper()
	for i, row := range steps {
		if row.send != "" {
			w.send(row.send)
		}
		if row.call != "" {
			if answer := w.s.call(row.call, row.req); !strings.HasPrefix(answer, "@") {
				t.Errorf("row %d: %s %s: %s", i, row.call, row.req, answer)
			}
		}
		time.Sleep(row.wait)
		for _, want := range row.want {
			var id int64
			head, text, _ := strings.Cut(want, " ")
			_, err := fmt.Sscan(head, &id)
			must(t, err)
			if got := w.next(id); !matches(got, text) {
				t.Errorf("row %d: %s\n%s%s %s\nwatcher %d\n got %s\nwant %s", i, row.name, row.send, row.call, row.req, id, got, text)
			}
		}
	}
	time.Sleep(50 * time.Millisecond)
	w.none(t)
}

func TestWatchCreate(t *testing.T) {
	s := start(t)
	follow(t, s.watch(), []watchStep{
		{name: "the first id is 0", send: `create_request{key:"a"}`, want: []string{"0 @1 created"}},
		{name: "then 1", send: `create_request{key:"b" range_end:"d"}`, want: []string{"1 @1 created"}},
		{name: "an id of one's own", send: `create_request{key:"c" watch_id:7}`, want: []string{"7 @1 created"}},
		{name: "automatic ids go on", send: `create_request{key:"z"}`, want: []string{"2 @1 created"}},
		{name: "a number that will be taken", send: `create_request{key:"z" watch_id:3}`, want: []string{"3 @1 created"}},
		{name: "is passed over", send: `create_request{key:"z"}`, want: []string{"4 @1 created"}},
		{name: "an id in use", send: `create_request{key:"c" watch_id:7}`,
			want: []string{"-1 @1 created canceled cancel_reason=mvcc: duplicate watch ID provided on the WatchStream"}},
		{name: "an end below the key", send: `create_request{key:"c" range_end:"a"}`,
			want: []string{"-1 @1 created canceled cancel_reason=mvcc: watcher range is empty"}},
		{name: "an end equal to the key", send: `create_request{key:"c" range_end:"c"}`,
			want: []string{"-1 @1 created canceled cancel_reason=mvcc: watcher range is empty"}},
		{name: "a negative revision", send: `create_request{key:"c" start_revision:-1}`,
			want: []string{"-1 @1 created canceled cancel_reason=etcdserver: mvcc: required revision has been compacted"}},
		{name: "a refusal takes no id", send: `create_request{key:"z"}`, want: []string{"5 @1 created"}},
		{name: "no key is the smallest one", send: `create_request{}`, want: []string{"6 @1 created"}},
		{name: "from a key", send: `create_request{key:"c" range_end:"\000"}`, want: []string{"8 @1 created"}},
		{name: "each gets what it watches", call: "Put", req: `key:"c" value:"1"`,
			want: []string{"1 PUT c=1/2.2.1", "7 PUT c=1/2.2.1", "8 PUT c=1/2.2.1"}},
		{name: "the one without key watches a single key", call: "Put", req: `key:"\000"`, want: []string{`6 PUT \x00=/3.3.1`}},
		{name: "cancel", send: `cancel_request{watch_id:7}`, want: []string{"7 @3 canceled"}},
		{name: "an unknown id is passed over", send: `cancel_request{watch_id:99}`},
		{name: "twice as well", send: `cancel_request{watch_id:7}`},
		{call: "Put", req: `key:"c" value:"2"`,
			want: []string{"1 PUT c=2/2.4.2", "8 PUT c=2/2.4.2"}},
		{name: "a free id can be had again", send: `create_request{key:"c" watch_id:7 start_revision:2}`,
			want: []string{"7 @4 created", "7 PUT c=1/2.2.1", "7 PUT c=2/2.4.2"}},
	})
}

func TestWatchEvents(t *testing.T) {
	s := start(t)
	follow(t, s.watch(), []watchStep{
		{send: `create_request{key:"a" range_end:"z"}`, want: []string{"0 @1 created"}},
		{send: `create_request{key:"a" range_end:"z" prev_kv:true watch_id:10}`, want: []string{"10 @1 created"}},
		{send: `create_request{key:"a" range_end:"z" filters:NOPUT prev_kv:true watch_id:11}`, want: []string{"11 @1 created"}},
		{send: `create_request{key:"a" range_end:"z" filters:NODELETE watch_id:12}`, want: []string{"12 @1 created"}},
		{send: `create_request{key:"a" range_end:"z" filters:NODELETE filters:NOPUT watch_id:13}`, want: []string{"13 @1 created"}},
		{send: `create_request{key:"b" prev_kv:true watch_id:14}`, want: []string{"14 @1 created"}},
		{name: "a creation", call: "Put", req: `key:"a" value:"1"`,
			want: []string{"0 PUT a=1/2.2.1", "10 PUT a=1/2.2.1", "12 PUT a=1/2.2.1"}},
		{name: "a change", call: "Put", req: `key:"a" value:"2"`,
			want: []string{"0 PUT a=2/2.3.2", "10 PUT a=2/2.3.2 was a=1/2.2.1", "12 PUT a=2/2.3.2"}},
		{name: "a deletion has key and revision only", call: "DeleteRange", req: `key:"a"`,
			want: []string{"0 DELETE a=/0.4.0", "10 DELETE a=/0.4.0 was a=2/2.3.2", "11 DELETE a=/0.4.0 was a=2/2.3.2"}},
		{name: "a rebirth has no previous value", call: "Put", req: `key:"a" value:"3"`,
			want: []string{"0 PUT a=3/5.5.1", "10 PUT a=3/5.5.1", "12 PUT a=3/5.5.1"}},
		{name: "a deletion of nothing is no event", call: "DeleteRange", req: `key:"x"`},
		{name: "a txn is one revision, in the order of its ops", call: "Txn",
			req: `success{request_put{key:"c" value:"1"}} success{request_delete_range{key:"a" range_end:"b"}} success{request_put{key:"b" value:"1"}}`,
			want: []string{"0 PUT c=1/6.6.1; DELETE a=/0.6.0; PUT b=1/6.6.1", "10 PUT c=1/6.6.1; DELETE a=/0.6.0 was a=3/5.5.1; PUT b=1/6.6.1",
				"11 DELETE a=/0.6.0 was a=3/5.5.1", "12 PUT c=1/6.6.1; PUT b=1/6.6.1", "14 PUT b=1/6.6.1"}},
		{name: "a range is deleted in the order of its keys", call: "DeleteRange", req: `key:"a" range_end:"z"`,
			want: []string{"0 DELETE b=/0.7.0; DELETE c=/0.7.0", "10 DELETE b=/0.7.0 was b=1/6.6.1; DELETE c=/0.7.0 was c=1/6.6.1",
				"11 DELETE b=/0.7.0 was b=1/6.6.1; DELETE c=/0.7.0 was c=1/6.6.1", "14 DELETE b=/0.7.0 was b=1/6.6.1"}},
		{call: "LeaseGrant", req: `ID:7 TTL:5000`},
		{name: "a lease shows", call: "Put", req: `key:"b" value:"2" lease:7`,
			want: []string{"0 PUT b=2/8.8.1L7", "10 PUT b=2/8.8.1L7", "12 PUT b=2/8.8.1L7", "14 PUT b=2/8.8.1L7"}},
		{call: "Put", req: `key:"a" value:"2" lease:7`,
			want: []string{"0 PUT a=2/9.9.1L7", "10 PUT a=2/9.9.1L7", "12 PUT a=2/9.9.1L7"}},
		{name: "a revocation deletes in the order of the keys", call: "LeaseRevoke", req: `ID:7`,
			want: []string{"0 DELETE a=/0.10.0; DELETE b=/0.10.0", "10 DELETE a=/0.10.0 was a=2/9.9.1L7; DELETE b=/0.10.0 was b=2/8.8.1L7",
				"11 DELETE a=/0.10.0 was a=2/9.9.1L7; DELETE b=/0.10.0 was b=2/8.8.1L7", "14 DELETE b=/0.10.0 was b=2/8.8.1L7"}},

		// Two changes of one key in one revision: both have the value below it.
		{call: "Put", req: `key:"b" value:"5"`,
			want: []string{"0 PUT b=5/11.11.1", "10 PUT b=5/11.11.1", "12 PUT b=5/11.11.1", "14 PUT b=5/11.11.1"}},
		{name: "put, then delete", call: "Txn",
			req: `success{request_txn{success{request_put{key:"b" value:"6"}}}} success{request_txn{success{request_delete_range{key:"b"}}}}`,
			want: []string{"0 PUT b=6/11.12.2; DELETE b=/0.12.0", "10 PUT b=6/11.12.2 was b=5/11.11.1; DELETE b=/0.12.0 was b=5/11.11.1",
				"11 DELETE b=/0.12.0 was b=5/11.11.1", "12 PUT b=6/11.12.2", "14 PUT b=6/11.12.2 was b=5/11.11.1; DELETE b=/0.12.0 was b=5/11.11.1"}},
		{name: "create, then delete", call: "Txn",
			req: `success{request_txn{success{request_put{key:"b" value:"7"}}}} success{request_txn{success{request_delete_range{key:"b"}}}}`,
			want: []string{"0 PUT b=7/13.13.1; DELETE b=/0.13.0", "10 PUT b=7/13.13.1; DELETE b=/0.13.0",
				"11 DELETE b=/0.13.0", "12 PUT b=7/13.13.1", "14 PUT b=7/13.13.1; DELETE b=/0.13.0"}},
	})
}

// pastOf makes the history that the tables below look back on.
var pastOf = []step{
	{call: "Put", req: `key:"a" value:"1"`, want: `@2`},
	{call: "Put", req: `key:"b" value:"1"`, want: `@3`},
	{call: "Txn", req: `success{request_put{key:"a" value:"2"}} success{request_put{key:"c" value:"1"}}`, want: `@4 succeeded responses=[put(~4); put(~4)]`},
	{call: "DeleteRange", req: `key:"a"`, want: `@5 deleted=1`},
	{call: "Put", req: `key:"a" value:"3"`, want: `@6`},
}

func TestWatchPast(t *testing.T) {
	s := start(t)
	check(t, s, pastOf)
	follow(t, s.watch(), []watchStep{
		{name: "from the first revision", send: `create_request{key:"a" range_end:"z" start_revision:1}`,
			want: []string{"0 @6 created", "0 PUT a=1/2.2.1", "0 PUT b=1/3.3.1", "0 PUT a=2/2.4.2; PUT c=1/4.4.1", "0 DELETE a=/0.5.0", "0 PUT a=3/6.6.1"}},
		{name: "one key, with previous values", send: `create_request{key:"a" start_revision:2 prev_kv:true}`,
			want: []string{"1 @6 created", "1 PUT a=1/2.2.1", "1 PUT a=2/2.4.2 was a=1/2.2.1", "1 DELETE a=/0.5.0 was a=2/2.4.2", "1 PUT a=3/6.6.1"}},
		{name: "from the middle", send: `create_request{key:"a" range_end:"z" start_revision:5 prev_kv:true}`,
			want: []string{"2 @6 created", "2 DELETE a=/0.5.0 was a=2/2.4.2", "2 PUT a=3/6.6.1"}},
		{name: "filtered", send: `create_request{key:"a" range_end:"z" start_revision:1 filters:NOPUT}`,
			want: []string{"3 @6 created", "3 DELETE a=/0.5.0"}},
		{name: "from the current", send: `create_request{key:"a" start_revision:6}`, want: []string{"4 @6 created", "4 PUT a=3/6.6.1"}},
		{name: "from the next", send: `create_request{key:"a" start_revision:7}`, want: []string{"5 @6 created"}},
		{name: "from far ahead", send: `create_request{key:"a" start_revision:9}`, want: []string{"6 @6 created"}},
		{name: "from now", send: `create_request{key:"a"}`, want: []string{"7 @6 created"}},
		{name: "no progress while one lies ahead", send: `progress_request{}`, wait: 200 * time.Millisecond},
		{call: "Put", req: `key:"a" value:"4"`, want: []string{"0 PUT a=4/6.7.2", "1 PUT a=4/6.7.2 was a=3/6.6.1",
			"2 PUT a=4/6.7.2 was a=3/6.6.1", "4 PUT a=4/6.7.2", "5 PUT a=4/6.7.2", "7 PUT a=4/6.7.2"}},
		{call: "Put", req: `key:"a" value:"5"`, want: []string{"0 PUT a=5/6.8.3", "1 PUT a=5/6.8.3 was a=4/6.7.2",
			"2 PUT a=5/6.8.3 was a=4/6.7.2", "4 PUT a=5/6.8.3", "5 PUT a=5/6.8.3", "7 PUT a=5/6.8.3"}},
		{call: "Put", req: `key:"a" value:"6"`, want: []string{"0 PUT a=6/6.9.4", "1 PUT a=6/6.9.4 was a=5/6.8.3",
			"2 PUT a=6/6.9.4 was a=5/6.8.3", "4 PUT a=6/6.9.4", "5 PUT a=6/6.9.4", "6 PUT a=6/6.9.4", "7 PUT a=6/6.9.4"}},
		{name: "progress once it is reached", send: `progress_request{}`, want: []string{"-1 @9"}},
	})
}

func TestWatchCompacted(t *testing.T) {
	s := start(t)
	check(t, s, pastOf)
	check(t, s, []step{{call: "Compact", req: `revision:4 physical:true`, want: `@6`}})
	follow(t, s.watch(), []watchStep{
		{name: "below the compact revision", send: `create_request{key:"a" start_revision:3}`,
			want: []string{"0 @6 created", "0 @0 canceled compact_revision=4"}},
		{name: "at the compact revision", send: `create_request{key:"a" range_end:"z" start_revision:4 prev_kv:true}`,
			want: []string{"1 @6 created", "1 PUT a=2/2.4.2; PUT c=1/4.4.1", "1 DELETE a=/0.5.0 was a=2/2.4.2", "1 PUT a=3/6.6.1"}},
		{name: "the id of a compacted one is still held", send: `create_request{key:"a" watch_id:8 start_revision:1}`,
			want: []string{"8 @6 created", "8 @0 canceled compact_revision=4"}},
		{send: `create_request{key:"a" watch_id:8}`,
			want: []string{"-1 @6 created canceled cancel_reason=mvcc: duplicate watch ID provided on the WatchStream"}},
		{name: "until it is canceled by the client", send: `cancel_request{watch_id:8}`, want: []string{"8 @6 canceled"}},
		{send: `create_request{key:"a" watch_id:8}`, want: []string{"8 @6 created"}},
		{name: "and blocks manual progress as long", send: `progress_request{}`, wait: 200 * time.Millisecond},
		{send: `cancel_request{watch_id:0}`, want: []string{"0 @6 canceled"}},
		{call: "Put", req: `key:"a" value:"4"`, want: []string{"1 PUT a=4/6.7.2 was a=3/6.6.1", "8 PUT a=4/6.7.2"}},
		{send: `progress_request{}`, want: []string{"-1 @7"}},
		{name: "a watcher that is up to date outlives a compaction", call: "Compact", req: `revision:7 physical:true`},
		{call: "Put", req: `key:"a" value:"5"`, want: []string{"1 PUT a=5/6.8.3 was a=4/6.7.2", "8 PUT a=5/6.8.3"}},
		{call: "Compact", req: `revision:8 physical:true`},
		{name: "no previous value when it is compacted", send: `create_request{key:"a" start_revision:8 prev_kv:true watch_id:9}`,
			want: []string{"9 @8 created", "9 PUT a=5/6.8.3"}},
	})
}

func TestWatchCompactedTombstone(t *testing.T) {
	s := start(t)
	check(t, s, pastOf)
	check(t, s, []step{{call: "Compact", req: `revision:5 physical:true`, want: `@6`}})
	follow(t, s.watch(), []watchStep{
		{name: "a deletion at the compact revision is still an event", send: `create_request{key:"a" range_end:"z" start_revision:5 prev_kv:true}`,
			want: []string{"0 @6 created", "0 DELETE a=/0.5.0", "0 PUT a=3/6.6.1"}},
	})
	check(t, s, []step{{call: "Compact", req: `revision:6 physical:true`, want: `@6`}})
	follow(t, s.watch(), []watchStep{
		{send: `create_request{key:"a" range_end:"z" start_revision:5}`, want: []string{"0 @6 created", "0 @0 canceled compact_revision=6"}},
		{name: "one that starts later than a revision older than the compaction", send: `create_request{key:"a" range_end:"z" start_revision:6}`,
			want: []string{"1 @6 created", "1 PUT a=3/6.6.1"}},
	})
}

func TestWatchProgress(t *testing.T) {
	s := start(t, "--watch-progress-notify-interval=200ms")
	t.Run("manual", func(t *testing.T) {
		follow(t, s.watch(), []watchStep{
			{name: "no watchers, no answer", send: `progress_request{}`, wait: 200 * time.Millisecond},
			{send: `create_request{key:"a"}`, want: []string{"0 @1 created"}},
			{name: "the answer is for the stream", send: `progress_request{}`, want: []string{"-1 @1"}},
			{call: "Put", req: `key:"x"`},
			{name: "it has the current revision", send: `progress_request{}`, want: []string{"-1 @2"}},
			{call: "Put", req: `key:"a" value:"1"`, want: []string{"0 PUT a=1/3.3.1"}},
			{send: `create_request{key:"b"}`, want: []string{"1 @3 created"}},
			{name: "once for two watchers", send: `progress_request{}`, want: []string{"-1 @3"}},
			{send: `cancel_request{watch_id:0}`, want: []string{"0 @3 canceled"}},
			{send: `cancel_request{watch_id:1}`, want: []string{"1 @3 canceled"}},
			{name: "again no watchers", send: `progress_request{}`, wait: 200 * time.Millisecond},
		})
	})
	t.Run("automatic", func(t *testing.T) {
		w := s.watch()
		follow(t, w, []watchStep{
			{send: `create_request{key:"c" watch_id:5}`, want: []string{"5 @3 created"}},
		})
		w.send(`create_request{key:"b" progress_notify:true watch_id:6}`)
		for _, want := range []string{"@3 created", "@3", "@3"} {
			if got := w.next(6); got != want {
				t.Errorf("watcher 6 got %s, want %s", got, want)
			}
		}
		check(t, s, []step{{call: "Put", req: `key:"x"`, want: `@4`}})
		deadline := time.Now().Add(3 * time.Second)
		for got := w.next(6); got != "@4"; got = w.next(6) {
			if got != "@3" || time.Now().After(deadline) {
				t.Fatalf("watcher 6 got %s, want @4", got)
			}
		}
		if n := len(w.queue(5)) + len(w.queue(-1)); n != 0 {
			t.Errorf("%d answers for watchers that did not ask for progress", n)
		}
	})
}

// TestWatchOrder: a watcher made after a write was acknowledged never gets
// that write, and its header is not below it; manual progress is not below
// any header seen before, and comes after all events up to its revision.
func TestWatchOrder(t *testing.T) {
	s := start(t)
	w := s.watch()
	kv := pb.NewKVClient(dial(t, s.address))
	for i := range 150 {
		put, err := kv.Put(s.context(), &pb.PutRequest{Key: []byte("k")})
		must(t, err)
		w.send(fmt.Sprintf(`create_request{key:"k" watch_id:%d}`, i+1))
		if got, want := w.next(int64(i+1)), fmt.Sprintf("@%d created", put.Header.Revision); got != want {
			t.Fatalf("after a put at %d: %s", put.Header.Revision, got)
		}
		// One more event, then the watcher goes.
		put, err = kv.Put(s.context(), &pb.PutRequest{Key: []byte("k")})
		must(t, err)
		w.send(`progress_request{}`)
		if got, want := w.next(-1), fmt.Sprintf("@%d", put.Header.Revision); got != want {
			t.Fatalf("progress %s after a put at %d", got, put.Header.Revision)
		}
		event := fmt.Sprintf("PUT k=/2.%d.%d", put.Header.Revision, put.Header.Revision-1)
		select {
		case got := <-w.queue(int64(i + 1)):
			if got != event {
				t.Fatalf("the first event is %s, want %s", got, event)
			}
		default:
			t.Fatalf("progress at %d came before the event of that revision", put.Header.Revision)
		}
		w.send(fmt.Sprintf(`cancel_request{watch_id:%d}`, i+1))
		if got, want := w.next(int64(i+1)), fmt.Sprintf("@%d canceled", put.Header.Revision); got != want {
			t.Fatalf("cancel gave %s, want %s", got, want)
		}
	}
	w.none(t)
}

// TestWatchConcurrent: while many write, every watcher gets each revision
// once, whole and in order, whatever revision it starts from.
func TestWatchConcurrent(t *testing.T) {
	s := start(t)
	const writers, writes, watchers = 4, 150, 20
	const last = 1 + writers*writes
	var group sync.WaitGroup
	for writer := range writers {
		kv := pb.NewKVClient(dial(t, s.address))
		group.Go(func() {
			for i := range writes {
				var ops []*pb.RequestOp
				for j := range 1 + i%3 {
					put := &pb.PutRequest{Key: fmt.Appendf(nil, "k%d-%d", writer, j), Value: []byte("v")}
					ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}})
				}
				if _, err := kv.Txn(s.context(), &pb.TxnRequest{Success: ops}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	w := s.watch()
	for i := range watchers {
		w.send(fmt.Sprintf(`create_request{key:"k" range_end:"l" start_revision:%d watch_id:%d}`, 2+i*10, i+1))
	}
	group.Wait()
	for i := range watchers {
		if got := w.next(int64(i + 1)); !strings.HasSuffix(got, "created") {
			t.Fatalf("watcher %d got %s", i+1, got)
		}
		for revision := 2 + i*10; revision <= last; revision++ {
			text := w.next(int64(i + 1))
			count := strings.Count(text, "; ") + 1
			if !strings.Contains(text, fmt.Sprintf(".%d.", revision)) || strings.Count(text, fmt.Sprintf(".%d.", revision)) < count {
				t.Fatalf("watcher %d, revision %d: %s", i+1, revision, text)
			}
		}
	}
	w.none(t)
}

// TestWatchFragments: a txn larger than a request can be comes whole, or in
// pieces for who asked for pieces.
func TestWatchFragments(t *testing.T) {
	s := start(t, "--max-request-bytes=1000000")
	w := s.watch()
	w.send(`create_request{key:"k" range_end:"l" fragment:true watch_id:1}`)
	w.send(`create_request{key:"k" range_end:"l" fragment:true prev_kv:true watch_id:2}`)
	w.send(`create_request{key:"k" range_end:"l" prev_kv:true watch_id:3}`)
	for id := range 3 {
		if got := w.next(int64(id + 1)); got != "@1 created" {
			t.Fatal(got)
		}
	}
	kv := pb.NewKVClient(s.conn)
	for round := range 2 {
		txn := &pb.TxnRequest{}
		for i := range 9 {
			put := &pb.PutRequest{Key: fmt.Appendf(nil, "k%d", i), Value: make([]byte, 100_000)}
			txn.Success = append(txn.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}})
		}
		if size := proto.Size(txn); size > 1_000_000 {
			t.Fatal("the txn is too large", size)
		}
		_, err := kv.Txn(s.context(), txn)
		must(t, err)
		for id := range 3 {
			if got := strings.Count(w.next(int64(id+1)), "PUT"); got != 9 {
				t.Errorf("watcher %d got %d events in round %d", id+1, got, round)
			}
		}
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	// With previous values the second txn is 1.8 MB, above the limit of 1.5 MB.
	if w.pieces[1] != 0 || w.pieces[2] < 2 || w.pieces[3] != 0 {
		t.Errorf("fragments: %v, want some for watcher 2 only", w.pieces)
	}
}

func TestWatchEnd(t *testing.T) {
	s := start(t)
	w := s.watch("hasleader", "true")
	follow(t, w, []watchStep{
		{name: "a stream that needs a leader", send: `create_request{key:"a"}`, want: []string{"0 @1 created"}},
		{call: "Put", req: `key:"a"`, want: []string{"0 PUT a=/2.2.1"}},
	})
	must(t, w.stream.CloseSend())
	follow(t, w, []watchStep{
		{name: "goes on after the client closed its side", call: "Put", req: `key:"a"`, wait: 100 * time.Millisecond, want: []string{"0 PUT a=/2.3.2"}},
	})
	must(t, s.process.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-w.ended:
		if status.Code(err) != codes.Unavailable {
			t.Errorf("when the server stops: %s", problem(err))
		}
	case <-time.After(12 * time.Second):
		t.Error("the stream outlives the server")
	}
}
