package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

const violationsPrinted = 30

// key names an object of the two judged resources.
type key struct{ resource, namespace, name string }

func (k key) String() string { return k.resource + "/" + k.namespace + "/" + k.name }

func keyOf(resource string, o object) key { return key{resource, o.GetNamespace(), o.GetName()} }

// judged says whether the driver alone writes objects of this name.
func (k key) judged() bool { return strings.HasPrefix(k.namespace, namespacePrefix) }

// ledger is what the apiserver answered to the driver's writes, and all that is wrong.
type ledger struct {
	acknowledgedTotal atomic.Int64

	mu         sync.Mutex
	writes     map[key]map[int64]bool // acknowledged creates, updates and patches, by revision
	deletes    map[key]int            // acknowledged deletes; the answer does not name a revision
	unsure     map[key]int            // writes whose outcome is unknown
	contents   map[int64][32]byte     // what any read or write answered at a revision
	violations int
}

func newLedger() *ledger {
	return &ledger{
		writes:   map[key]map[int64]bool{},
		deletes:  map[key]int{},
		unsure:   map[key]int{},
		contents: map[int64][32]byte{},
	}
}

// violate reports something that must not be.
func (l *ledger) violate(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.violations++
	if l.violations <= violationsPrinted {
		fmt.Fprintf(os.Stderr, "VIOLATION: "+format+"\n", args...)
	}
}

// violated counts what was reported.
func (l *ledger) violated() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.violations
}

// acknowledge notes a write with the object that was answered.
func (l *ledger) acknowledge(resource string, o object) {
	l.compare(resource, o)
	l.mu.Lock()
	defer l.mu.Unlock()
	k := keyOf(resource, o)
	if l.writes[k] == nil {
		l.writes[k] = map[int64]bool{}
	}
	l.writes[k][revisionOf(o.GetResourceVersion())] = true
	l.acknowledgedTotal.Add(1)
}

func (l *ledger) acknowledgeDelete(k key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deletes[k]++
	l.acknowledgedTotal.Add(1)
}

// doubt notes a write that failed in a way that does not say whether it happened.
func (l *ledger) doubt(k key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsure[k]++
}

// compare checks that an object at a revision is the same whoever reads it.
func (l *ledger) compare(resource string, o object) {
	bytes, err := o.Marshal()
	if err != nil {
		l.violate("%v cannot be encoded: %v", keyOf(resource, o), err)
		return
	}
	content, revision := sha256.Sum256(bytes), revisionOf(o.GetResourceVersion())
	l.mu.Lock()
	before, known := l.contents[revision]
	l.contents[revision] = content
	l.mu.Unlock()
	if known && before != content {
		l.violate("%v at revision %d was read with two contents", keyOf(resource, o), revision)
	}
}
