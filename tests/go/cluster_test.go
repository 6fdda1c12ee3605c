package contract

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// startCluster runs a cluster of n members and waits until all serve.
func startCluster(t *testing.T, n int, flags ...string) []*server {
	t.Helper()
	if testing.Short() {
		t.Skip("clusters are left out of short runs")
	}
	t.Parallel()
	var members []*server
	var urls []string
	for i := range n {
		s := newServer(t, executable, fmt.Sprintf("member%d", i), flags)
		members, urls = append(members, s), append(urls, s.name+"=http://"+s.peer)
	}
	for _, s := range members {
		s.cluster = strings.Join(urls, ",")
		s.launch()
		t.Cleanup(s.kill)
	}
	for _, s := range members {
		s.ready()
	}
	return members
}

// leader waits until all these members agree on a leader among them.
func leader(t *testing.T, members []*server) (*server, []*server) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		found := map[uint64]bool{}
		for _, s := range members {
			if got, err := pb.NewMaintenanceClient(s.conn).Status(s.context(), &pb.StatusRequest{}); err == nil {
				found[got.Leader] = true
			}
		}
		i := slices.IndexFunc(members, func(s *server) bool { return found[s.member.ID] })
		if len(found) == 1 && i >= 0 {
			return members[i], slices.Delete(slices.Clone(members), i, i+1)
		}
	}
	t.Fatal("no leader")
	return nil, nil
}

func TestCluster(t *testing.T) {
	needs(t, "clusters")
	members := startCluster(t, 3)
	first, followers := leader(t, members)
	one, two := followers[0], followers[1]

	// What one member acknowledged, each other reads at once, sees in its
	// watches, and hashes to the same figure.
	var streams []*watchStream
	for _, s := range members {
		w := s.watch()
		w.send(`create_request{key:"a" range_end:"z" prev_kv:true}`)
		if got := w.next(0); got != "@1 created" {
			t.Fatal(got)
		}
		streams = append(streams, w)
	}
	for i := range 30 {
		revision := i + 2
		check(t, members[i%3], []step{{call: "Put", req: fmt.Sprintf(`key:"k" value:"%d"`, i), want: fmt.Sprintf("@%d", revision)}})
		for _, s := range members {
			check(t, s, []step{{call: "Range", req: `key:"k"`, want: fmt.Sprintf("@%d kvs=[k=%d/2.%d.%d] count=1", revision, i, revision, i+1)}})
		}
	}
	for _, w := range streams {
		for i := range 30 {
			want := fmt.Sprintf("PUT k=%d/2.%d.%d", i, i+2, i+1)
			if i > 0 {
				want += fmt.Sprintf(" was k=%d/2.%d.%d", i-1, i+1, i)
			}
			if got := w.next(0); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
		w.send(`progress_request{}`)
		if got := w.next(-1); got != "@31" {
			t.Errorf("progress %s", got)
		}
		w.none(t)
	}
	if a, b, c := first.call("HashKV", ""), one.call("HashKV", ""), two.call("HashKV", ""); a != b || b != c {
		t.Errorf("hashes differ: %s, %s, %s", a, b, c)
	}
	list := func(s *server) string { return s.call("MemberList", "linearizable:true") }
	if a, b, c := list(first), list(one), list(two); a != b || b != c || strings.Count(a, "ID=") != 3 {
		t.Errorf("members differ: %s, %s, %s", a, b, c)
	}

	// Leases may be served by any member.
	check(t, one, []step{
		{call: "LeaseGrant", req: `ID:7 TTL:3`, want: `@31 ID=7 TTL=3`},
		{call: "LeaseKeepAlive", req: `ID:7`, want: `@31 ID=7 TTL=3`},
		{call: "LeaseKeepAlive", req: `ID:8`, want: `@31 ID=8`},
		{call: "Put", req: `key:"l" lease:7`, want: `@32`},
		{call: "LeaseTimeToLive", req: `ID:7 keys:true`, want: `@32 ID=7 TTL=* grantedTTL=3 keys=[l]`},
		{call: "LeaseTimeToLive", req: `ID:8`, want: `@32 ID=8 TTL=-1`},
	})
	for i, w := range streams {
		if got := w.next(0); got != "PUT l=/32.32.1L7" {
			t.Errorf("member %d: %s", i, got)
		}
		if got := w.next(0); got != "DELETE l=/0.33.0 was l=/32.32.1L7" {
			t.Errorf("member %d: %s", i, got)
		}
	}

	// The leader moves where it is told to, and with it one term.
	check(t, one, []step{{call: "MoveLeader", req: fmt.Sprintf(`targetID:%d`, two.member.ID), want: `FailedPrecondition: etcdserver: not leader`}})
	check(t, first, []step{{call: "MoveLeader", req: fmt.Sprintf(`targetID:%d`, two.member.ID), want: ``}})
	now, _ := leader(t, members)
	if now != two {
		t.Errorf("%s leads, not %s", now.name, two.name)
	}
	status, err := pb.NewMaintenanceClient(now.conn).Status(now.context(), &pb.StatusRequest{})
	must(t, err)
	if status.RaftTerm != first.header.RaftTerm+1 {
		t.Errorf("term %d after %d", status.RaftTerm, first.header.RaftTerm)
	}

	// A leader that is told to end hands over first.
	two.terminate(10 * time.Second)
	now, _ = leader(t, []*server{first, one})
	status, err = pb.NewMaintenanceClient(now.conn).Status(now.context(), &pb.StatusRequest{})
	must(t, err)
	if status.RaftTerm != first.header.RaftTerm+2 {
		t.Errorf("term %d after %d and two hand-overs", status.RaftTerm, first.header.RaftTerm)
	}
	check(t, now, []step{{call: "Put", req: `key:"k" value:"x"`, want: `@34`}})
	two.run()
	check(t, two, []step{{call: "Range", req: `key:"k"`, want: `@34 kvs=[k=x/2.34.31] count=1`}})
}

func TestClusterFailures(t *testing.T) {
	needs(t, "clusters")
	members := startCluster(t, 3)
	first, followers := leader(t, members)
	one, two := followers[0], followers[1]
	check(t, first, []step{{call: "Put", req: `key:"k" value:"1"`, want: `@2`}})

	// Without one follower nothing changes, and it catches up.
	one.kill()
	check(t, two, []step{{call: "Put", req: `key:"k" value:"2"`, want: `@3`}})
	one.run()
	check(t, one, []step{{call: "Range", req: `key:"k"`, want: `@3 kvs=[k=2/2.3.2] count=1`}})

	// Without the leader another is chosen, with all that was acknowledged.
	first.kill()
	second, rest := leader(t, followers)
	check(t, rest[0], []step{
		{call: "Range", req: `key:"k"`, want: `@3 kvs=[k=2/2.3.2] count=1`},
		{call: "Put", req: `key:"k" value:"3"`, want: `@4`},
	})

	// Without a quorum only serializable reads are answered.
	w := second.watch("hasleader", "true")
	w.send(`create_request{key:"k"}`)
	if got := w.next(0); got != "@4 created" {
		t.Fatal(got)
	}
	rest[0].kill()
	check(t, second, []step{{call: "Range", req: `key:"k" serializable:true`, want: `@4 kvs=[k=3/2.4.3] count=1`}})
	select {
	case err := <-w.ended:
		if got := problem(err); got != "Unavailable: etcdserver: no leader" {
			t.Errorf("a watch that needs a leader ended with %s", got)
		}
	case <-time.After(15 * time.Second):
		t.Error("a watch that needs a leader goes on without one")
	}
	for _, row := range []struct{ call, req, want string }{
		{"Range", `key:"k"`, "Unavailable: etcdserver: request timed out"},
		{"Put", `key:"k"`, "DeadlineExceeded: context deadline exceeded"},
	} {
		begin := time.Now()
		if got := second.call(row.call, row.req); got != row.want {
			t.Errorf("%s without a quorum: %s", row.call, got)
		}
		if took := time.Since(begin); took < 6*time.Second || took > 10*time.Second {
			t.Errorf("%s without a quorum took %v", row.call, took)
		}
	}
	probe(t, second, []request{
		{path: "/health", status: 503, body: `{"health":"false","reason":"RAFT NO LEADER"}` + "\n"},
		{path: "/health?serializable=true", status: 200, body: `{"health":"true","reason":""}`},
		{path: "/livez", status: 200, body: "ok\n"},
		{path: "/readyz/serializable_read", status: 200, body: "ok\n"},
	})
	status, err := pb.NewMaintenanceClient(second.conn).Status(second.context(), &pb.StatusRequest{})
	must(t, err)
	if status.Leader != 0 || fmt.Sprint(status.Errors) != "[etcdserver: no leader]" {
		t.Errorf("status: %v", status)
	}

	first.run()
	leader(t, []*server{first, second})
	got := first.call("Put", `key:"k" value:"4" prev_kv:true`)
	// What timed out may have been done later.
	if !matches(got, "@5 prev_kv=k=3/2.4.3") && !matches(got, "@6 prev_kv=k=/2.5.4") {
		t.Errorf("with a quorum again: %s", got)
	}
}

func TestClusterGrows(t *testing.T) {
	needs(t, "clusters")
	members := startCluster(t, 1)
	first := members[0]
	for i := range 50 {
		check(t, first, []step{{call: "Put", req: `key:"k" value:"1"`, want: fmt.Sprintf("@%d", i+2)}})
	}
	second := newServer(t, executable, "second", []string{"--initial-cluster-state=existing"})
	check(t, first, []step{{call: "MemberAdd", req: `isLearner:true peerURLs:"http://` + second.peer + `"`, want: "@0 member=ID=* peerURLs=* isLearner members=[ID=* * * * * * *"}})
	added := first.call("MemberList", "")
	var id uint64
	for _, word := range strings.Fields(strings.ReplaceAll(added, "[ID", "ID")) {
		var found uint64
		if _, err := fmt.Sscanf(word, "ID=%d", &found); err == nil && found != first.member.ID {
			id = found
		}
		if _, err := fmt.Sscanf(word, "members=ID=%d", &found); err == nil && found != first.member.ID {
			id = found
		}
	}
	promote := fmt.Sprintf("ID:%d", id)
	check(t, first, []step{{name: "promote who never came", call: "MemberPromote", req: promote,
		want: `FailedPrecondition: etcdserver: can only promote a learner member which is in sync with leader`}})
	second.cluster = fmt.Sprintf("%s,second=http://%s", first.cluster, second.peer)
	second.run()
	t.Cleanup(second.kill)
	if second.member.ID != id || !second.member.IsLearner {
		t.Errorf("the new member is %v", second.member)
	}
	const refused = `FailedPrecondition: etcdserver: rpc not supported for learner`
	deadline := time.Now().Add(10 * time.Second)
	for !strings.HasPrefix(second.call("Range", `key:"k" serializable:true`), "@51 ") && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
	}
	check(t, second, []step{
		{name: "a learner reads what it has", call: "Range", req: `key:"k" serializable:true`, want: `@51 kvs=[k=1/2.51.50] count=1`},
		{name: "and nothing else", call: "Range", req: `key:"k"`, want: refused},
		{call: "Put", req: `key:"k"`, want: refused},
		{call: "LeaseGrant", req: `TTL:50`, want: refused},
		{call: "Txn", req: `success{request_range{key:"k" serializable:true}}`, want: refused},
	})
	probe(t, second, []request{
		{path: "/readyz", status: 503, body: "[+]linearizable_read ok\n[-]non_learner failed: not supported for learner\n[+]data_corruption ok\n[+]serializable_read ok\n\n", lines: true},
		{path: "/livez", status: 200, body: "ok\n"},
	})
	for deadline = time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if got := first.call("MemberPromote", promote); strings.HasPrefix(got, "@0 members=") {
			break
		} else if time.Now().After(deadline) {
			t.Fatal("not promoted: ", got)
		}
	}
	check(t, first, []step{{name: "promote twice", call: "MemberPromote", req: promote, want: `FailedPrecondition: etcdserver: can only promote a learner member`}})
	check(t, second, []step{
		{name: "a member in full", call: "Put", req: `key:"k" value:"2" prev_kv:true`, want: `@52 prev_kv=k=1/2.51.50`},
	})
	check(t, first, []step{{call: "Range", req: `key:"k"`, want: `@52 kvs=[k=2/2.52.51] count=1`}})
	for deadline = time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		got := first.call("MemberRemove", promote)
		if strings.HasPrefix(got, "@0 members=") {
			break
		}
		if got != `Unavailable: etcdserver: unhealthy cluster` || time.Now().After(deadline) {
			t.Fatal("not removed: ", got)
		}
	}
	check(t, first, []step{
		{name: "remove twice", call: "MemberRemove", req: promote, want: `NotFound: etcdserver: member not found`},
		{call: "Put", req: `key:"k" value:"3"`, want: `@53`},
	})
	select {
	case <-second.exited:
	case <-time.After(15 * time.Second):
		t.Error("a removed member goes on")
	}
}
