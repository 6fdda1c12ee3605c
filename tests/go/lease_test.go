package contract

import (
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func TestLease(t *testing.T) {
	s := start(t)
	check(t, s, []step{
		{name: "no leases", call: "LeaseLeases", req: ``, want: `@1`},
		{name: "an id of one's own", call: "LeaseGrant", req: `ID:3 TTL:3000`, want: `@1 ID=3 TTL=3000`},
		{name: "an id in use", call: "LeaseGrant", req: `ID:3 TTL:10`, want: `FailedPrecondition: etcdserver: lease already exists`},
		{name: "short ones are raised to 2 s", call: "LeaseGrant", req: `ID:4 TTL:1`, want: `@1 ID=4 TTL=2`},
		{name: "no time at all", call: "LeaseGrant", req: `ID:5`, want: `@1 ID=5 TTL=2`},
		{name: "less than no time", call: "LeaseGrant", req: `ID:6 TTL:-7`, want: `@1 ID=6 TTL=2`},
		{name: "exactly 2 s", call: "LeaseGrant", req: `ID:7 TTL:2`, want: `@1 ID=7 TTL=2`},
		{name: "revoke", call: "LeaseRevoke", req: `ID:4`, want: `@1`},
		{name: "twice", call: "LeaseRevoke", req: `ID:4`, want: `NotFound: etcdserver: requested lease not found`},
		{name: "no id", call: "LeaseRevoke", req: ``, want: `NotFound: etcdserver: requested lease not found`},
		{call: "LeaseRevoke", req: `ID:5`, want: `@1`},
		{call: "LeaseRevoke", req: `ID:6`, want: `@1`},
		{call: "LeaseRevoke", req: `ID:7`, want: `@1`},
		{name: "the longest", call: "LeaseGrant", req: `ID:9 TTL:9000000000`, want: `@1 ID=9 TTL=9000000000`},
		{name: "too long", call: "LeaseGrant", req: `ID:10 TTL:9000000001`, want: `OutOfRange: etcdserver: too large lease TTL`},
		{name: "a negative id", call: "LeaseGrant", req: `ID:-11 TTL:2000`, want: `@1 ID=-11 TTL=2000`},
		{call: "LeaseGrant", req: `ID:1 TTL:1000`, want: `@1 ID=1 TTL=1000`},
		{name: "leases in the order of their ends", call: "LeaseLeases", req: ``, want: `@1 leases=[ID=1; ID=-11; ID=3; ID=9]`},

		{name: "time to live", call: "LeaseTimeToLive", req: `ID:3`, want: `@1 ID=3 TTL=29* grantedTTL=3000`},
		{name: "of a missing lease", call: "LeaseTimeToLive", req: `ID:4`, want: `@1 ID=4 TTL=-1`},
		{name: "of a missing lease, with keys", call: "LeaseTimeToLive", req: `ID:4 keys:true`, want: `@1 ID=4 TTL=-1`},
		{name: "of no lease", call: "LeaseTimeToLive", req: ``, want: `@1 TTL=-1`},
		{name: "no keys", call: "LeaseTimeToLive", req: `ID:3 keys:true`, want: `@1 ID=3 TTL=29* grantedTTL=3000`},
		{name: "keep alive", call: "LeaseKeepAlive", req: `ID:3`, want: `@1 ID=3 TTL=3000`},
		{name: "keep a missing lease alive", call: "LeaseKeepAlive", req: `ID:4`, want: `@1 ID=4`},

		{name: "attach", call: "Put", req: `key:"b" value:"1" lease:3`, want: `@2`},
		{call: "LeaseTimeToLive", req: `ID:3 keys:true`, want: `@2 ID=3 TTL=* grantedTTL=3000 keys=[b]`},
		{name: "keys only when asked for", call: "LeaseTimeToLive", req: `ID:3`, want: `@2 ID=3 TTL=* grantedTTL=3000`},
		{name: "attach to another", call: "Put", req: `key:"b" value:"2" lease:1`, want: `@3`},
		{call: "LeaseTimeToLive", req: `ID:3 keys:true`, want: `@3 ID=3 TTL=* grantedTTL=3000`},
		{call: "LeaseTimeToLive", req: `ID:1 keys:true`, want: `@3 ID=1 TTL=* grantedTTL=1000 keys=[b]`},
		{name: "a lease that was left deletes nothing", call: "LeaseRevoke", req: `ID:3`, want: `@3`},
		{call: "Put", req: `key:"d" lease:1`, want: `@4`},
		{call: "Put", req: `key:"c" lease:1`, want: `@5`},
		{name: "detach", call: "Put", req: `key:"d" value:"1"`, want: `@6`},
		{name: "a deleted key is detached", call: "DeleteRange", req: `key:"c"`, want: `@7 deleted=1`},
		{call: "Put", req: `key:"c" value:"new"`, want: `@8`},
		{call: "Put", req: `key:"e" lease:1`, want: `@9`},
		{name: "the header of a revocation is its revision", call: "LeaseRevoke", req: `ID:1`, want: `@10`},
		{name: "b and e went together", call: "Range", req: `key:"a" range_end:"z"`, want: `@10 kvs=[c=new/8.8.1 d=1/4.6.2] count=2`},
		{name: "before it", call: "Range", req: `key:"a" range_end:"z" revision:9 keys_only:true`, want: `@10 kvs=[b=/2.3.2 c=/8.8.1 d=/4.6.2 e=/9.9.1] count=4`},
		{name: "an id can be granted again", call: "LeaseGrant", req: `ID:1 TTL:50`, want: `@10 ID=1 TTL=50`},
		{name: "and holds nothing", call: "LeaseTimeToLive", req: `ID:1 keys:true`, want: `@10 ID=1 TTL=* grantedTTL=50`},
	})

	lease := pb.NewLeaseClient(s.conn)
	seen := map[int64]bool{}
	for range 5 {
		granted, err := lease.LeaseGrant(s.context(), &pb.LeaseGrantRequest{TTL: 100})
		must(t, err)
		if granted.ID <= 0 || seen[granted.ID] || granted.TTL != 100 {
			t.Errorf("an automatic lease: %v", granted)
		}
		seen[granted.ID] = true
	}
}

// TestLeaseExpiry: the end of a lease deletes its keys in one revision, in
// the order of the keys; what was moved to another lease stays.
func TestLeaseExpiry(t *testing.T) {
	s := start(t)
	w := s.watch()
	w.send(`create_request{key:"a" range_end:"z" prev_kv:true}`)
	if got := w.next(0); got != "@1 created" {
		t.Fatal(got)
	}
	granted := time.Now()
	check(t, s, []step{
		{call: "LeaseGrant", req: `ID:2 TTL:3`, want: `@1 ID=2 TTL=3`},
		{call: "LeaseGrant", req: `ID:3 TTL:5000`, want: `@1 ID=3 TTL=5000`},
		{call: "Put", req: `key:"m" lease:2`, want: `@2`},
		{call: "Put", req: `key:"c" lease:2`, want: `@3`},
		{call: "Put", req: `key:"x" lease:2`, want: `@4`},
		{call: "Put", req: `key:"d" lease:2`, want: `@5`},
		{call: "Put", req: `key:"d" lease:3`, want: `@6`},
		{call: "Put", req: `key:"e" lease:2`, want: `@7`},
		{call: "Put", req: `key:"e"`, want: `@8`},
	})
	for range 7 {
		w.next(0)
	}
	want := "DELETE c=/0.9.0 was c=/3.3.1L2; DELETE m=/0.9.0 was m=/2.2.1L2; DELETE x=/0.9.0 was x=/4.4.1L2"
	if got := w.next(0); got != want {
		t.Errorf("the end of a lease gave\n got %s\nwant %s", got, want)
	}
	if took := time.Since(granted); took < 3*time.Second || took > 6*time.Second {
		t.Errorf("a lease of 3 s ended after %v", took)
	}
	check(t, s, []step{
		{call: "LeaseTimeToLive", req: `ID:2`, want: `@9 ID=2 TTL=-1`},
		{call: "LeaseKeepAlive", req: `ID:2`, want: `@9 ID=2`},
		{call: "LeaseRevoke", req: `ID:2`, want: `NotFound: etcdserver: requested lease not found`},
		{call: "Put", req: `key:"c" lease:2`, want: `NotFound: etcdserver: requested lease not found`},
		{call: "LeaseLeases", req: ``, want: `@9 leases=[ID=3]`},
		{call: "Range", req: `key:"a" range_end:"z"`, want: `@9 kvs=[d=/5.6.2L3 e=/7.8.2] count=2`},
	})
}

// TestLeaseKeepAlive: renewals on one stream keep a lease beyond its time.
func TestLeaseKeepAlive(t *testing.T) {
	s := start(t)
	check(t, s, []step{
		{call: "LeaseGrant", req: `ID:2 TTL:2`, want: `@1 ID=2 TTL=2`},
		{call: "Put", req: `key:"a" lease:2`, want: `@2`},
	})
	stream, err := pb.NewLeaseClient(s.conn).LeaseKeepAlive(s.context())
	must(t, err)
	for begin := time.Now(); time.Since(begin) < 4*time.Second; time.Sleep(500 * time.Millisecond) {
		for _, want := range []string{"@2 ID=2 TTL=2", "@2 ID=9"} {
			var id int64
			_, err := fmt.Sscanf(want, "@2 ID=%d", &id)
			must(t, err)
			must(t, stream.Send(&pb.LeaseKeepAliveRequest{ID: id}))
			answer, err := stream.Recv()
			if got := s.outcome(answer, err); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
	}
	check(t, s, []step{{call: "Range", req: `key:"a"`, want: `@2 kvs=[a=/2.2.1L2] count=1`}})
}

// TestLeaseManyExpire: leases that end together each make one revision.
func TestLeaseManyExpire(t *testing.T) {
	s := start(t)
	const leases = 50
	var puts []string
	for i := range leases {
		check(t, s, []step{{call: "LeaseGrant", req: fmt.Sprintf(`ID:%d TTL:4`, i+1), want: fmt.Sprintf(`@1 ID=%d TTL=4`, i+1)}})
		puts = append(puts, fmt.Sprintf(`success{request_put{key:"a%02d" lease:%d}} success{request_put{key:"b%02d" lease:%d}}`, i, i+1, i, i+1))
	}
	check(t, s, []step{{call: "Txn", req: strings.Join(puts, " "), want: "@2 succeeded responses=[" + strings.Repeat("put(~2); ", 2*leases-1) + "put(~2)]"}})
	w := s.watch()
	w.send(`create_request{key:"a" range_end:"c" start_revision:3}`)
	if got := w.next(0); got != "@2 created" {
		t.Fatal(got)
	}
	seen := map[string]bool{}
	for i := range leases {
		revision := 3 + i
		var a, b string
		_, err := fmt.Sscanf(strings.NewReplacer("=/", " ", ";", " ").Replace(w.next(0)), "DELETE a%s %s DELETE b%s %s", &a, new(string), &b, new(string))
		if err != nil || a != b || seen[a] {
			t.Fatalf("revision %d: a%s and b%s (%v)", revision, a, b, err)
		}
		seen[a] = true
	}
	check(t, s, []step{{call: "Range", req: `key:"a" range_end:"c"`, want: fmt.Sprintf("@%d", leases+2)}})
}

// TestLeaseMinimum: the least time follows from the election timeout.
func TestLeaseMinimum(t *testing.T) {
	s := start(t, "--heartbeat-interval=50", "--election-timeout=500")
	check(t, s, []step{{call: "LeaseGrant", req: `ID:1`, want: `@1 ID=1 TTL=1`}})
}
