package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	pageSize      = 500
	retryPause    = 200 * time.Millisecond
	listPause     = time.Second
	observeWithin = 30 * time.Second
)

// listing is what a list answered, to be compared with the history later.
type listing struct {
	resource string
	revision int64
	objects  map[key]int64
}

// listPaged lists all judged objects of a kind, page by page, and checks that the pages are of one
// revision and in order.
func listPaged(
	ctx context.Context, k kind, l *ledger, options metav1.ListOptions,
) (result *listing, pages int, err error) {
	result = &listing{resource: k.name, objects: map[key]int64{}}
	var last string
	for pages = 1; ; pages++ {
		meta, objects, err := k.list(ctx, options)
		if err != nil {
			return nil, pages, err
		}
		revision := revisionOf(meta.ResourceVersion)
		if result.revision == 0 {
			result.revision = revision
		}
		if revision != result.revision {
			l.violate("page %d of %s is of revision %d, the first was of %d",
				pages, k.name, revision, result.revision)
		}
		for _, o := range objects {
			name := keyOf(k.name, o)
			if place := name.namespace + "/" + name.name; place <= last {
				l.violate("%s are listed in the order %q, %q", k.name, last, place)
			} else {
				last = place
			}
			if name.judged() {
				l.compare(k.name, o)
				result.objects[name] = revisionOf(o.GetResourceVersion())
			}
		}
		if meta.Continue == "" {
			return result, pages, nil
		}
		options = metav1.ListOptions{Limit: options.Limit, Continue: meta.Continue}
	}
}

// segment is an unbroken run of events, from a list on.
type segment struct {
	after   int64 // revision of the list
	changes []change
}

// observer follows a resource as controllers do: it lists, watches from there, and watches on from
// the last revision it saw whenever a watch ends. It lists again only if the apiserver says so.
type observer struct {
	name   string
	kind   kind
	ledger *ledger

	mu       sync.Mutex
	listings []*listing
	segments []*segment
	last     int64 // revision that was seen last
	resumed  int   // watches that went on where another ended
}

func observe(
	ctx context.Context, wait *sync.WaitGroup, name string, k kind, l *ledger,
) *observer {
	o := &observer{name: name, kind: k, ledger: l}
	wait.Go(func() { o.run(ctx) })
	return o
}

func (o *observer) run(ctx context.Context) {
	for listed := false; ctx.Err() == nil; {
		if !listed {
			if !o.list(ctx) {
				pause(ctx, retryPause)
				continue
			}
			listed = true
		}
		w, err := o.kind.watch(ctx, metav1.ListOptions{
			ResourceVersion:     fmt.Sprint(o.seen()),
			AllowWatchBookmarks: true,
		})
		if err == nil {
			err = o.follow(w)
			w.Stop()
		}
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			listed = false
			continue
		}
		if ctx.Err() == nil {
			o.mu.Lock()
			o.resumed++
			o.mu.Unlock()
		}
		pause(ctx, retryPause)
	}
}

// list starts a new segment.
func (o *observer) list(ctx context.Context) bool {
	listed, _, err := listPaged(ctx, o.kind, o.ledger, metav1.ListOptions{Limit: pageSize})
	if err != nil {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if listed.revision < o.last {
		o.ledger.violate("%s: listed at %d after %d was seen", o.name, listed.revision, o.last)
	}
	o.last = listed.revision
	o.listings = append(o.listings, listed)
	o.segments = append(o.segments, &segment{after: listed.revision})
	return true
}

// follow takes the events of one watch until it ends.
func (o *observer) follow(w watch.Interface) error {
	for event := range w.ResultChan() {
		if event.Type == watch.Error {
			return apierrors.FromObject(event.Object)
		}
		seen := event.Object.(object)
		k, revision := keyOf(o.kind.name, seen), revisionOf(seen.GetResourceVersion())
		if event.Type != watch.Bookmark && k.judged() {
			o.ledger.compare(o.kind.name, seen)
		}
		o.mu.Lock()
		if revision < o.last || revision == o.last && event.Type != watch.Bookmark {
			o.ledger.violate("%s: %s at %d came after %d", o.name, event.Type, revision, o.last)
		}
		o.last = revision
		if event.Type != watch.Bookmark && k.judged() {
			current := o.segments[len(o.segments)-1]
			current.changes = append(current.changes, change{revision, k, event.Type})
		}
		o.mu.Unlock()
	}
	return nil
}

func (o *observer) seen() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}

// until waits until the observer has seen a revision.
func (o *observer) until(revision int64, within time.Duration) bool {
	for deadline := time.Now().Add(within); o.seen() < revision; {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
	return true
}

// events counts what was seen, over all segments.
func (o *observer) events() (events, relists, resumed int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.segments {
		events += len(s.changes)
	}
	return events, max(0, len(o.segments)-1), o.resumed
}

// lister lists a resource over and over, the way large controllers and people do.
type lister struct {
	kind   kind
	ledger *ledger
	calm   *atomic.Bool // no error is excused

	mu       sync.Mutex
	listings []*listing
	pages    int
}

func (s *lister) run(ctx context.Context) {
	for ctx.Err() == nil {
		calm := s.calm.Load()
		paged, pages, err := listPaged(ctx, s.kind, s.ledger, metav1.ListOptions{Limit: pageSize})
		var exact *listing
		if err == nil {
			exact, _, err = listPaged(ctx, s.kind, s.ledger, metav1.ListOptions{
				ResourceVersion:      fmt.Sprint(paged.revision),
				ResourceVersionMatch: metav1.ResourceVersionMatchExact,
			})
		}
		if err == nil {
			s.mu.Lock()
			s.listings = append(s.listings, paged, exact)
			s.pages += pages
			s.mu.Unlock()
		} else if calm && s.calm.Load() && ctx.Err() == nil {
			s.ledger.violate("listing %s: %v", s.kind.name, err)
		}
		pause(ctx, listPause)
	}
}

func pause(ctx context.Context, length time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(length):
	}
}
