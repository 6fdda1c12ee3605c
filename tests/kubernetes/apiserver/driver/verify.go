package main

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/watch"
)

// checkWrites compares the apiserver's answers with the history, both ways: what was acknowledged
// happened, and what happened was acknowledged or at least asked for.
func checkWrites(l *ledger, h *history, upTo int64) {
	type happened struct {
		revisions []int64
		deletes   int
	}
	byKey := map[key]*happened{}
	for _, resource := range []string{podsName, configMapsName} {
		for _, c := range h.since(resource, 0, upTo) {
			if byKey[c.key] == nil {
				byKey[c.key] = &happened{}
			}
			if c.kind == watch.Deleted {
				byKey[c.key].deletes++
			} else {
				byKey[c.key].revisions = append(byKey[c.key].revisions, c.revision)
			}
		}
	}
	l.mu.Lock()
	writes, deletes, unsure := maps.Clone(l.writes), maps.Clone(l.deletes), maps.Clone(l.unsure)
	l.mu.Unlock()
	for k, revisions := range writes {
		for revision := range revisions {
			if byKey[k] == nil || !slices.Contains(byKey[k].revisions, revision) {
				l.violate("%v was acknowledged at %d, but no event tells of it", k, revision)
			}
		}
	}
	for k, count := range deletes {
		if byKey[k] == nil || byKey[k].deletes < count {
			l.violate("%v: %d deletes acknowledged, but no event tells of them", k, count)
		}
	}
	for k, events := range byKey {
		unknown := events.deletes - deletes[k]
		for _, revision := range events.revisions {
			if !writes[k][revision] {
				unknown++
			}
		}
		if k.resource == podsName {
			// Every delete of a pod is graceful: an update with its time comes first.
			unknown -= deletes[k]
		}
		if unknown > unsure[k] {
			l.violate("%v changed %d times more than it was written (%d writes unsure)",
				k, unknown, unsure[k])
		}
	}
}

// checkSurvivors compares the objects that the apiserver lists at the end with its own answers
// alone: what was acknowledged is there, at no older revision than was acknowledged last.
func checkSurvivors(l *ledger, listed *listing) (objects int) {
	l.mu.Lock()
	writes, deletes, unsure := maps.Clone(l.writes), maps.Clone(l.deletes), maps.Clone(l.unsure)
	l.mu.Unlock()
	for k, revisions := range writes {
		if k.resource != listed.resource {
			continue
		}
		last := slices.Max(slices.Collect(maps.Keys(revisions)))
		found, exists := listed.objects[k]
		switch {
		case !exists && deletes[k] == 0 && unsure[k] == 0:
			l.violate("%v is lost, it was acknowledged at %d", k, last)
		case exists && deletes[k] > 0:
			l.violate("%v is back at %d, its delete was acknowledged", k, found)
		case exists && found < last:
			l.violate("%v is at %d, it was acknowledged at %d", k, found, last)
		case exists:
			objects++
		}
	}
	return objects
}

// checkListing compares a list with the replayed history at its revision.
func checkListing(l *ledger, h *history, listed *listing) {
	want := h.at(listed.resource, listed.revision)
	if maps.Equal(want, listed.objects) {
		return
	}
	for k, revision := range want {
		if listed.objects[k] != revision {
			l.violate("list at %d: %v at %d, was at %d",
				listed.revision, k, listed.objects[k], revision)
		}
	}
	for k, revision := range listed.objects {
		if _, exists := want[k]; !exists {
			l.violate("list at %d: %v at %d, did not exist", listed.revision, k, revision)
		}
	}
}

// checkObserver compares every segment of events with the history: each change once, in order.
func checkObserver(l *ledger, h *history, o *observer, upTo int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, listed := range o.listings {
		checkListing(l, h, listed)
	}
	for i, s := range o.segments {
		end := upTo
		if i < len(o.segments)-1 { // Broken off: it is good for as long as it lasted.
			end = s.after
			if len(s.changes) > 0 {
				end = s.changes[len(s.changes)-1].revision
			}
		}
		want := h.since(o.kind.name, s.after, end)
		if slices.Equal(want, s.changes) {
			continue
		}
		l.violate("%s: %d events after %d where %d happened",
			o.name, len(s.changes), s.after, len(want))
		for j := range min(len(want), len(s.changes)) {
			if want[j] != s.changes[j] {
				l.violate("%s: event %d is %v where %v happened", o.name, j, s.changes[j], want[j])
				break
			}
		}
	}
}
