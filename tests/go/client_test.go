package contract

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/clientv3util"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/client/v3/namespace"
)

// TestClientErrors: the official client recognises errors by their text.
func TestClientErrors(t *testing.T) {
	s := start(t)
	c, ctx := s.client(), s.context()
	for range 3 {
		_, err := c.Put(ctx, "a", "1")
		must(t, err)
	}
	_, err := c.Compact(ctx, 3, clientv3.WithCompactPhysical())
	must(t, err)
	for _, row := range []struct {
		name string
		want error
		call func() error
	}{
		{"compacted", rpctypes.ErrCompacted, func() error { _, err := c.Get(ctx, "a", clientv3.WithRev(2)); return err }},
		{"compacted twice", rpctypes.ErrCompacted, func() error { _, err := c.Compact(ctx, 2); return err }},
		{"future", rpctypes.ErrFutureRev, func() error { _, err := c.Get(ctx, "a", clientv3.WithRev(9)); return err }},
		{"empty key", rpctypes.ErrEmptyKey, func() error { _, err := c.Put(ctx, "", ""); return err }},
		{"duplicate", rpctypes.ErrDuplicateKey, func() error {
			_, err := c.Txn(ctx).Then(clientv3.OpPut("a", ""), clientv3.OpPut("a", "")).Commit()
			return err
		}},
		{"lease", rpctypes.ErrLeaseNotFound, func() error { _, err := c.Put(ctx, "a", "", clientv3.WithLease(5)); return err }},
		{"keep alive", rpctypes.ErrLeaseNotFound, func() error { _, err := c.KeepAliveOnce(ctx, 5); return err }},
		{"member", rpctypes.ErrMemberNotFound, func() error { _, err := c.MemberRemove(ctx, 5); return err }},
		{"watch", rpctypes.ErrCompacted, func() error {
			for answer := range c.Watch(ctx, "a", clientv3.WithRev(1)) {
				if answer.Canceled {
					if answer.CompactRevision != 3 {
						return fmt.Errorf("compact revision %d", answer.CompactRevision)
					}
					return answer.Err()
				}
			}
			return nil
		}},
	} {
		if row.name == "member" && judge == "ringbolt" {
			continue // clusters are not built yet
		}
		if err := row.call(); !errors.Is(err, row.want) {
			t.Errorf("%s: got %v, want %v", row.name, err, row.want)
		}
	}
}

// TestClientWatch: many watchers share one stream; progress can be asked for;
// a namespace is invisible to who lives in it.
func TestClientWatch(t *testing.T) {
	s := start(t)
	c, ctx := s.client(), clientv3.WithRequireLeader(s.context())
	const watchers = 30
	var channels []clientv3.WatchChan
	for i := range watchers {
		channels = append(channels, c.Watch(ctx, fmt.Sprintf("k%02d", i), clientv3.WithCreatedNotify(), clientv3.WithPrevKV()))
	}
	for i, channel := range channels {
		if answer := <-channel; !answer.Created {
			t.Fatalf("watcher %d got %v", i, answer)
		}
	}
	for i := range watchers {
		_, err := c.Put(ctx, fmt.Sprintf("k%02d", i), "1")
		must(t, err)
		answer := <-channels[i]
		if event := answer.Events[0]; len(answer.Events) != 1 || !event.IsCreate() || event.PrevKv != nil || event.Kv.ModRevision != int64(i+2) {
			t.Errorf("watcher %d got %v", i, answer)
		}
	}
	must(t, c.RequestProgress(ctx))
	for i, channel := range channels {
		select {
		case answer := <-channel:
			if !answer.IsProgressNotify() || answer.Header.Revision != watchers+1 {
				t.Errorf("watcher %d got %v", i, answer)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("watcher %d got no progress", i)
		}
	}

	inside := clientv3.NewCtxClient(context.Background())
	inside.KV, inside.Watcher = namespace.NewKV(c.KV, "ns/"), namespace.NewWatcher(c.Watcher, "ns/")
	channel := inside.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-channel
	_, err := inside.Put(ctx, "x", "1")
	must(t, err)
	if answer := <-channel; string(answer.Events[0].Kv.Key) != "x" {
		t.Errorf("got %v", answer)
	}
	got, err := c.Get(ctx, "ns/", clientv3.WithPrefix())
	must(t, err)
	if got.Count != 1 || string(got.Kvs[0].Key) != "ns/x" {
		t.Errorf("got %v", got)
	}
}

// TestClientLease: the client keeps a lease alive by itself, and learns of
// its end.
func TestClientLease(t *testing.T) {
	s := start(t)
	c, ctx := s.client(), s.context()
	granted, err := c.Grant(ctx, 2)
	must(t, err)
	alive, err := c.KeepAlive(ctx, granted.ID)
	must(t, err)
	for range 3 {
		if answer := <-alive; answer == nil || answer.TTL != 2 || answer.ID != granted.ID {
			t.Fatalf("kept alive: %v", answer)
		}
	}
	_, err = c.Revoke(ctx, granted.ID)
	must(t, err)
	select {
	case answer, open := <-alive:
		for open {
			answer, open = <-alive
		}
		_ = answer
	case <-time.After(5 * time.Second):
		t.Error("keeping alive outlives the lease")
	}
	left, err := c.TimeToLive(ctx, granted.ID)
	must(t, err)
	if left.TTL != -1 {
		t.Errorf("time to live %d", left.TTL)
	}
}

// TestKubernetes: the calls of an apiserver, made by the client's own
// interface for it.
func TestKubernetes(t *testing.T) {
	s := start(t)
	c, err := kubernetes.New(s.clientConfig())
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	ctx := s.context()
	k := c.Kubernetes

	current := int64(1)
	for i := range 5 {
		put, err := k.OptimisticPut(ctx, fmt.Sprintf("/registry/pods/%d", i), []byte("v"), 0, kubernetes.PutOptions{})
		must(t, err)
		if current++; !put.Succeeded || put.Revision != current {
			t.Fatalf("create: %+v", put)
		}
	}
	put, err := k.OptimisticPut(ctx, "/registry/pods/0", []byte("w"), 0, kubernetes.PutOptions{GetOnFailure: true})
	must(t, err)
	if put.Succeeded || put.Revision != 6 || put.KV == nil || put.KV.ModRevision != 2 {
		t.Errorf("create what is there: %+v", put)
	}
	put, err = k.OptimisticPut(ctx, "/registry/pods/0", []byte("w"), 2, kubernetes.PutOptions{})
	must(t, err)
	if !put.Succeeded || put.Revision != 7 {
		t.Errorf("update: %+v", put)
	}
	gone, err := k.OptimisticDelete(ctx, "/registry/pods/1", 2, kubernetes.DeleteOptions{GetOnFailure: true})
	must(t, err)
	if gone.Succeeded || gone.KV == nil || gone.KV.ModRevision != 3 {
		t.Errorf("delete under an old revision: %+v", gone)
	}
	gone, err = k.OptimisticDelete(ctx, "/registry/pods/1", 3, kubernetes.DeleteOptions{})
	must(t, err)
	if !gone.Succeeded || gone.Revision != 8 {
		t.Errorf("delete: %+v", gone)
	}
	one, err := k.Get(ctx, "/registry/pods/0", kubernetes.GetOptions{})
	must(t, err)
	if one.Revision != 8 || string(one.KV.Value) != "w" {
		t.Errorf("get: %+v", one)
	}

	page, err := k.List(ctx, "/registry/pods/", kubernetes.ListOptions{Limit: 3})
	must(t, err)
	if len(page.Kvs) != 3 || page.Count != 4 || page.Revision != 8 {
		t.Errorf("first page: %+v", page)
	}
	_, err = k.OptimisticPut(ctx, "/registry/pods/9", []byte("v"), 0, kubernetes.PutOptions{})
	must(t, err)
	last := string(page.Kvs[2].Key)
	rest, err := k.List(ctx, "/registry/pods/", kubernetes.ListOptions{Revision: page.Revision, Limit: 3, Continue: last + "\x00"})
	must(t, err)
	if len(rest.Kvs) != 1 || rest.Count != 1 || rest.Revision != 9 {
		t.Errorf("second page: %+v", rest)
	}
	count, err := k.Count(ctx, "/registry/pods/", kubernetes.CountOptions{})
	must(t, err)
	if count != 5 {
		t.Errorf("count %d", count)
	}

	// A watch from the list's revision on loses nothing.
	watch := c.Watch(clientv3.WithRequireLeader(ctx), "/registry/pods/", clientv3.WithPrefix(),
		clientv3.WithRev(page.Revision+1), clientv3.WithPrevKV(), clientv3.WithProgressNotify())
	if answer := <-watch; len(answer.Events) != 1 || answer.Events[0].Type != mvccpb.Event_PUT || answer.Events[0].Kv.ModRevision != 9 {
		t.Errorf("watch: %v", answer)
	}

	// The compactor's turn: one of two wins.
	won := 0
	for range 2 {
		txn, err := c.Txn(ctx).If(clientv3util.KeyMissing("compact_rev_key")).
			Then(clientv3.OpPut("compact_rev_key", "9")).Else(clientv3.OpGet("compact_rev_key")).Commit()
		must(t, err)
		if txn.Succeeded {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d compactors won", won)
	}
}
