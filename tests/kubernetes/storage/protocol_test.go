package storage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	testingclock "k8s.io/utils/clock/testing"
)

func (f *fixture) createPod(t *testing.T, name string) *example.Pod {
	t.Helper()
	pod, created := &example.Pod{}, &example.Pod{}
	pod.Namespace, pod.Name = "ns", name
	if err := f.Create(t.Context(), resourcePrefix+"ns/"+name, pod, created, 0); err != nil {
		t.Fatal(err)
	}
	return created
}

// TestStreamedListOfManyPods lists more pods than a server may put into one chunk of a RangeStream:
// the newest state, and the state at a revision that is no longer the newest.
func TestStreamedListOfManyPods(t *testing.T) {
	const count = 2_500
	gate(t, features.EtcdRangeStream, true)
	f := setUp(t, config{})
	for i := range count {
		f.createPod(t, fmt.Sprintf("pod-%04d", i))
	}
	list := func(options storage.ListOptions) *example.PodList {
		t.Helper()
		listed := &example.PodList{}
		if err := f.GetList(t.Context(), resourcePrefix, options, listed); err != nil {
			t.Fatal(err)
		}
		if f.reads.GetStreamReadsAndReset() == 0 {
			t.Error("listed without RangeStream")
		}
		for i, pod := range listed.Items {
			if want := fmt.Sprintf("pod-%04d", i); pod.Name != want {
				t.Fatalf("%s is listed where %s belongs", pod.Name, want)
			}
		}
		return listed
	}
	before := list(everyPod)
	if len(before.Items) != count {
		t.Fatalf("%d pods listed of %d", len(before.Items), count)
	}
	f.createPod(t, fmt.Sprintf("pod-%04d", count))
	atRevision := everyPod
	atRevision.ResourceVersion = before.ResourceVersion
	atRevision.ResourceVersionMatch = metav1.ResourceVersionMatchExact
	if past := list(atRevision); len(past.Items) != count ||
		past.ResourceVersion != before.ResourceVersion {
		t.Errorf("at revision %s: %d pods at revision %s",
			before.ResourceVersion, len(past.Items), past.ResourceVersion)
	}
	if now := list(everyPod); len(now.Items) != count+1 {
		t.Errorf("%d pods listed of %d", len(now.Items), count+1)
	}
}

// TestReadsKeepTheRevision checks that only writes advance the resource version.
func TestReadsKeepTheRevision(t *testing.T) {
	f := setUp(t, config{})
	created := f.createPod(t, "pod")
	listed := &example.PodList{}
	for range 5 {
		if _, err := f.client.KV.Get(t.Context(), f.root+resourcePrefix+"ns/pod"); err != nil {
			t.Fatal(err)
		}
		if err := f.GetList(t.Context(), resourcePrefix, everyPod, listed); err != nil {
			t.Fatal(err)
		}
	}
	if listed.ResourceVersion != created.ResourceVersion {
		t.Errorf("created at %s, listed at %s", created.ResourceVersion, listed.ResourceVersion)
	}
}

// TestCurrentResourceVersion checks the read with which consistent reads from the cache begin.
func TestCurrentResourceVersion(t *testing.T) {
	f := setUp(t, config{})
	check := func(want string) {
		t.Helper()
		current, err := f.GetCurrentResourceVersion(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := strconv.FormatUint(current, 10); got != want {
			t.Errorf("current resource version is %s, want %s", got, want)
		}
	}
	check(f.createPod(t, "pod").ResourceVersion)
	check(strconv.FormatInt(f.increaseRV(t.Context(), t), 10))
}

// TestStatsCountTheirPrefix checks that neighbours of the resource's keys are not counted.
func TestStatsCountTheirPrefix(t *testing.T) {
	f := setUp(t, config{})
	inside := f.root + resourcePrefix + "pod"
	for _, key := range []string{"pod", f.root + "/pod", f.root + "/podspod", inside} {
		if _, err := f.client.KV.Put(t.Context(), key, key); err != nil {
			t.Fatal(err)
		}
	}
	if stats, err := f.Stats(t.Context()); err != nil || stats.ObjectCount != 1 {
		t.Errorf("%d objects, error %v", stats.ObjectCount, err)
	}
	if keys, err := f.keys(t.Context()); err != nil || len(keys) != 1 || keys[0] != inside {
		t.Errorf("keys %q, error %v", keys, err)
	}
}

// TestTTLObjectsShareALease checks that objects created together expire by one lease.
func TestTTLObjectsShareALease(t *testing.T) {
	f := setUp(t, config{})
	leases := map[int64]int{}
	for _, name := range []string{"a", "b", "c"} {
		pod, key := &example.Pod{}, resourcePrefix+"ns/"+name
		pod.Namespace, pod.Name = "ns", name
		if err := f.Create(t.Context(), key, pod, &example.Pod{}, 600); err != nil {
			t.Fatal(err)
		}
		resp, err := f.client.KV.Get(t.Context(), f.root+key)
		if err != nil {
			t.Fatal(err)
		}
		leases[resp.Kvs[0].Lease]++
	}
	// The shared lease may have come of age between two of the three.
	if len(leases) > 2 || leases[0] > 0 {
		t.Errorf("objects by lease: %v", leases)
	}
}

// TestCompactorsTakeTurns checks the agreement of many apiservers on one compaction per interval.
func TestCompactorsTakeTurns(t *testing.T) {
	client := connect(t, startServer(t)).Client
	put := func() int64 {
		t.Helper()
		resp, err := client.Put(t.Context(), "key", "value")
		if err != nil {
			t.Fatal(err)
		}
		return resp.Header.Revision
	}
	first := put()
	for _, turn := range []struct {
		logicalTime, revision          int64 // of the call
		nextTime, newestRev, compacted int64 // of the answer
	}{
		{0, first, 1, first + 1, first},         // compacts
		{0, first + 1, 1, first + 1, first},     // comes late, learns the time
		{1, first + 1, 2, first + 2, first + 1}, // compacts
	} {
		nextTime, newestRev, compacted, err := etcd3.Compact(
			t.Context(), client, turn.logicalTime, turn.revision)
		if err != nil || nextTime != turn.nextTime || newestRev != turn.newestRev ||
			compacted != turn.compacted {
			t.Errorf("turn %+v: time %d, newest %d, compacted %d, error %v",
				turn, nextTime, newestRev, compacted, err)
		}
	}
}

// TestCompactorKeepsAnInterval checks, interval by interval, which revision can still be read.
func TestCompactorKeepsAnInterval(t *testing.T) {
	client := connect(t, startServer(t)).Client
	now := testingclock.NewFakeClock(time.Now())
	compactor := etcd3.NewCompactor(client, time.Minute, now, nil)
	t.Cleanup(compactor.Stop)
	pass := func() {
		t.Helper()
		if !eventually(now.HasWaiters) {
			t.Fatal("the compactor does not wait for its turn")
		}
		now.Step(time.Minute)
		if !eventually(now.HasWaiters) {
			t.Fatal("the compactor did not end its turn")
		}
	}
	write := func() int64 {
		t.Helper()
		resp, err := client.Put(t.Context(), "key", "value")
		if err != nil {
			t.Fatal(err)
		}
		return resp.Header.Revision
	}
	readable := func(revision int64, want bool) {
		t.Helper()
		_, err := client.Get(t.Context(), "key", clientv3.WithRev(revision))
		if want && err != nil || !want && !errors.Is(err, rpctypes.ErrCompacted) {
			t.Errorf("reading at %d: %v", revision, err)
		}
	}
	pass() // Notes the revision, has nothing to compact.
	first := write()
	pass()
	readable(first, true)
	second := write()
	pass()
	readable(first, false)
	readable(second, true)
	pass()
	readable(second, false)
}

// TestProgressOnRequest checks what the cache's consistent reads rest on: a progress notification,
// asked for on a stream that is shared by an idle watch, names a revision not older than any write
// that was acknowledged before, and comes after its events.
func TestProgressOnRequest(t *testing.T) {
	const writes = 200
	client := connect(t, startServer(t)).Client
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(t.Context()), observeWithin)
	defer cancel()
	watch := client.Watch(ctx, "a/", clientv3.WithPrefix(), clientv3.WithProgressNotify(),
		clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	if created := <-watch; !created.Created {
		t.Fatalf("first response %+v", created)
	}
	seen := map[int64]bool{}
	for i := range writes {
		key := "a/watched"
		if i%2 == 1 {
			key = "b/elsewhere"
		}
		put, err := client.Put(ctx, key, "value")
		if err != nil {
			t.Fatal(err)
		}
		if err := client.RequestProgress(ctx); err != nil {
			t.Fatal(err)
		}
		for progress := int64(0); progress < put.Header.Revision; {
			select {
			case <-ctx.Done():
				t.Fatalf("no progress to %d", put.Header.Revision)
			case resp := <-watch:
				if err := resp.Err(); err != nil {
					t.Fatal(err)
				}
				for _, event := range resp.Events {
					seen[event.Kv.ModRevision] = true
				}
				if resp.IsProgressNotify() {
					progress = resp.Header.Revision
				}
			case <-time.After(100 * time.Millisecond): // as the cache does
				if err := client.RequestProgress(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
		if i%2 == 0 && !seen[put.Header.Revision] {
			t.Fatalf("progress passed %d before its event came", put.Header.Revision)
		}
	}
}
