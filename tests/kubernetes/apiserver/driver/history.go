package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/watch"
)

// change is one event of a judged object.
type change struct {
	revision int64
	key      key
	kind     watch.EventType
}

func (c change) String() string { return fmt.Sprintf("%s %v at %d", c.kind, c.key, c.revision) }

// stored is the newest version of a key.
type stored struct {
	revision int64
	value    [32]byte
}

func storedOf(kv *mvccpb.KeyValue) stored {
	return stored{kv.ModRevision, sha256.Sum256(kv.Value)}
}

// history is every change of the store, from one etcd watch of all keys that lasts for the whole
// run, over all crashes. It is what the apiserver's answers are compared with.
type history struct {
	ledger *ledger
	client *clientv3.Client

	mu       sync.Mutex
	revision int64    // of the newest event
	changes  []change // of judged objects
	store    map[string]stored
	podBytes []int // sizes of the pods' values, in order
}

// record watches from the current revision on until the context ends.
func record(ctx context.Context, client *clientv3.Client, l *ledger) (*history, error) {
	h := &history{ledger: l, client: client, store: map[string]stored{}}
	resp, err := client.Get(ctx, "\x00", clientv3.WithFromKey())
	if err != nil {
		return nil, err
	}
	for _, kv := range resp.Kvs {
		h.store[string(kv.Key)] = storedOf(kv)
	}
	h.revision = resp.Header.Revision
	events := client.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithPrevKV(),
		clientv3.WithRev(h.revision+1), clientv3.WithProgressNotify())
	go func() {
		for resp := range events {
			if err := resp.Err(); err != nil && ctx.Err() == nil {
				l.violate("the watch of all keys ended at %d: %v", h.newest(), err)
			}
			for _, event := range resp.Events {
				h.add(event)
			}
		}
	}()
	return h, nil
}

func (h *history) newest() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.revision
}

// add checks that an event follows what came before, and keeps it.
func (h *history) add(event *clientv3.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name, revision := string(event.Kv.Key), event.Kv.ModRevision
	// Keys of one transaction share a revision, otherwise every revision is one event.
	if revision != h.revision && revision != h.revision+1 {
		h.ledger.violate("the watch of all keys went from %d to %d", h.revision, revision)
	}
	h.revision = revision

	before, existed := h.store[name]
	if event.PrevKv == nil && existed {
		h.ledger.violate("the event of %q at %d lacks the value of %d",
			name, revision, before.revision)
	}
	if event.PrevKv != nil && before != storedOf(event.PrevKv) {
		h.ledger.violate("the event of %q at %d carries a wrong value for %d",
			name, revision, before.revision)
	}
	kind := watch.Modified
	switch {
	case event.Type == mvccpb.DELETE:
		kind = watch.Deleted
		delete(h.store, name)
	case !existed:
		kind = watch.Added
	}
	if kind != watch.Deleted {
		h.store[name] = storedOf(event.Kv)
	}
	if event.IsCreate() != (kind == watch.Added) {
		h.ledger.violate("the event of %q at %d has create revision %d",
			name, revision, event.Kv.CreateRevision)
	}
	if k, ok := parseKey(name); ok && k.judged() {
		h.changes = append(h.changes, change{revision, k, kind})
		if k.resource == podsName && kind != watch.Deleted {
			h.podBytes = append(h.podBytes, len(event.Kv.Value))
		}
	}
}

// until waits until the watch of all keys has passed a revision.
func (h *history) until(revision int64, within time.Duration) bool {
	for deadline := time.Now().Add(within); h.newest() < revision; {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
	return true
}

// since copies the changes of a resource after one revision, up to and with another.
func (h *history) since(resource string, after, upTo int64) []change {
	h.mu.Lock()
	defer h.mu.Unlock()
	var changes []change
	for _, c := range h.changes {
		if c.key.resource == resource && c.revision > after && c.revision <= upTo {
			changes = append(changes, c)
		}
	}
	return changes
}

// at replays which objects of a resource existed at a revision, with theirs.
func (h *history) at(resource string, revision int64) map[key]int64 {
	state := map[key]int64{}
	for _, c := range h.since(resource, 0, revision) {
		if c.kind == watch.Deleted {
			delete(state, c.key)
		} else {
			state[c.key] = c.revision
		}
	}
	return state
}

// checkStore compares the store with the changes that were seen of it: no event may be missing,
// and none may tell of a write that a crash undid.
func (h *history) checkStore(ctx context.Context) (keys int, err error) {
	resp, err := h.client.Get(ctx, "\x00", clientv3.WithFromKey())
	if err != nil {
		return 0, err
	}
	if !h.until(resp.Header.Revision, observeWithin) {
		h.ledger.violate("the watch of all keys is at %d, the store at %d",
			h.newest(), resp.Header.Revision)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.revision != resp.Header.Revision {
		return len(resp.Kvs), nil // Something was written since; the next check will see it.
	}
	seen := make(map[string]bool, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		seen[string(kv.Key)] = true
		if want := h.store[string(kv.Key)]; want != storedOf(kv) {
			h.ledger.violate("%q is stored at %d, its last event was at %d",
				kv.Key, kv.ModRevision, want.revision)
		}
	}
	for name, last := range h.store {
		if !seen[name] {
			h.ledger.violate("%q is not stored, its last event was at %d", name, last.revision)
		}
	}
	return len(resp.Kvs), nil
}

// parseKey reads /registry/<resource>/<namespace>/<name>.
func parseKey(name string) (key, bool) {
	parts := strings.Split(name, "/")
	if len(parts) != 5 || parts[1] != "registry" ||
		parts[2] != podsName && parts[2] != configMapsName {
		return key{}, false
	}
	return key{parts[2], parts[3], parts[4]}, true
}
