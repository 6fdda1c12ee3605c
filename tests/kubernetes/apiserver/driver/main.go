// driver judges a server through Kubernetes' own apiserver: it fills the apiserver with objects,
// follows them as controllers do, kills the server in the middle of it, and compares what everybody
// was told with every change that the server announced.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"ringbolt.dev/tests/kubernetes/judged"
)

const runWithin = 6 * time.Minute

func main() {
	binary := flag.String("kube-apiserver", "../bin/kube-apiserver", "the built apiserver")
	keep := flag.Bool("keep", false, "keep data and logs even if nothing is wrong")
	flag.Parse()
	klog.SetLogger(logr.Discard()) // What client-go has to say of a crash is expected.
	if _, err := judged.Binary(); err != nil {
		fatal(err)
	}
	dir, err := os.MkdirTemp("", "kubernetes-judge-")
	if err != nil {
		fatal(err)
	}
	time.AfterFunc(runWithin, func() {
		fatal(fmt.Errorf("not done within %v, logs are in %s", runWithin, dir))
	})
	violations, err := judge(context.Background(), *binary, dir)
	if err != nil || violations > 0 || *keep {
		fmt.Fprintln(os.Stderr, "data and logs are in", dir)
	} else {
		os.RemoveAll(dir)
	}
	switch {
	case err != nil:
		fatal(err)
	case violations > 0:
		fatal(fmt.Errorf("%d violations", violations))
	}
	fmt.Println("ok: no violation")
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "FAIL:", err)
	os.Exit(1)
}

// run is one run of the judge.
type run struct {
	server    *judged.Server
	apiserver *apiserver
	work      *work
	ledger    *ledger
	history   *history
	observers []*observer
	listers   []*lister
	started   time.Time
}

func judge(ctx context.Context, binary, dir string) (violations int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &run{ledger: newLedger(), started: time.Now()}
	if r.server, err = judged.New(dir); err != nil {
		return 0, err
	}
	if err := r.server.Start(); err != nil {
		return 0, err
	}
	defer r.server.Kill()
	path, err := judged.Binary()
	if err != nil {
		return 0, err
	}
	r.report("server", "%s at %s", path, r.server.Endpoint())
	if r.apiserver, err = startAPIServer(ctx, binary, dir, r.server.Endpoint()); err != nil {
		return 0, err
	}
	defer r.apiserver.kill()
	r.report("apiserver", "ready")

	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{r.server.Endpoint()},
		DialTimeout: readyWithin,
		Logger:      zap.NewNop(),
	})
	if err != nil {
		return 0, err
	}
	defer client.Close()
	r.work = &work{client: r.apiserver.client, ledger: r.ledger}
	r.work.calm.Store(true)
	if r.history, err = record(ctx, client, r.ledger); err != nil {
		return 0, err
	}
	if err := r.work.createNamespaces(ctx); err != nil {
		return 0, err
	}

	var wait sync.WaitGroup
	pods, maps := podKind(r.apiserver.client), configMapKind(r.apiserver.client)
	following, stopFollowing := context.WithCancel(ctx)
	defer stopFollowing()
	r.follow(following, &wait, pods, maps)
	r.change(ctx, func() {
		late := observe(following, &wait, "pods, joined late", pods, r.ledger)
		r.observers = append(r.observers, late)
	})
	for n := range crashes {
		if err := r.crash(ctx, n+1); err != nil {
			return r.ledger.violated(), err
		}
		r.check(ctx)
	}
	r.survivors(ctx, pods, maps)
	stopFollowing()
	wait.Wait()
	r.summary(ctx, client)
	cancel()
	r.apiserver.kill()
	if err := r.server.Stop(); err != nil {
		r.ledger.violate("stopping the server: %v", err)
	}
	return r.ledger.violated(), nil
}

// follow starts a watcher and a lister for each kind.
func (r *run) follow(ctx context.Context, wait *sync.WaitGroup, kinds ...kind) {
	for _, k := range kinds {
		r.observers = append(r.observers, observe(ctx, wait, k.name, k, r.ledger))
		l := &lister{kind: k, ledger: r.ledger, calm: &r.work.calm}
		r.listers = append(r.listers, l)
		wait.Go(func() { l.run(ctx) })
	}
}

// change makes all changes that the server has no excuse to fail at, and checks what came of them.
func (r *run) change(ctx context.Context, halfway func()) {
	began, before := time.Now(), r.ledger.acknowledgedTotal.Load()
	r.work.fill(ctx, halfway)
	r.rate("fill", began, before,
		"%d namespaces, %d configmaps, %d pods of %d bytes, patched twice",
		namespaces, configMapCount, podCount, r.podBytes())
	r.check(ctx)

	won := r.work.conflict(ctx)
	r.report("conflicts", "%d rounds of %d writers: %d won, %d requests refused",
		conflictRounds, writers, won, r.work.refused.Load())

	began, before = time.Now(), r.ledger.acknowledgedTotal.Load()
	deleted := r.work.deleteSome(ctx)
	r.rate("deletes", began, before, "%d objects", deleted)
	r.check(ctx)
	for _, o := range r.observers {
		if _, relists, _ := o.events(); relists > 0 {
			r.ledger.violate("%s: had to list again while the server was up", o.name)
		}
	}
}

// crash kills the server under load, starts it again, and waits until writes go on.
func (r *run) crash(ctx context.Context, n int) error {
	var wait sync.WaitGroup
	defer wait.Wait()
	stop := make(chan struct{})
	stopOnce := sync.OnceFunc(func() { close(stop) })
	defer stopOnce()
	before, failed := r.ledger.acknowledgedTotal.Load(), r.work.failed.Load()
	for writer := range writers {
		wait.Go(func() { r.work.churn(ctx, stop, writer, n) })
	}
	if !r.acknowledged(before + crashAfterAcks) {
		return fmt.Errorf("crash %d: no %d writes within %v", n, crashAfterAcks, recoverWithin)
	}
	r.work.calm.Store(false)
	if err := r.server.Kill(); err != nil {
		return err
	}
	killed := r.ledger.acknowledgedTotal.Load()
	time.Sleep(serverDownFor)
	starting := time.Now()
	if err := r.server.Start(); err != nil {
		return fmt.Errorf("crash %d: %w", n, err)
	}
	serving := time.Since(starting)
	if !r.acknowledged(killed + crashRecovery) {
		return fmt.Errorf("crash %d: no %d writes within %v of the restart",
			n, crashRecovery, recoverWithin)
	}
	recovered := time.Since(starting)
	stopOnce()
	wait.Wait()
	r.work.calm.Store(true)
	r.report(fmt.Sprintf("crash %d", n),
		"killed after %d writes; serves again after %.2f s, %d more writes after %.2f s; %d failed",
		killed-before, serving.Seconds(), crashRecovery, recovered.Seconds(),
		r.work.failed.Load()-failed)
	return nil
}

// acknowledged waits for a number of acknowledged writes.
func (r *run) acknowledged(total int64) bool {
	for deadline := time.Now().Add(recoverWithin); r.ledger.acknowledgedTotal.Load() < total; {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	return true
}

// check waits until everybody has seen everything, and compares.
func (r *run) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, recoverWithin)
	defer cancel()
	if !r.apiserver.running() {
		r.ledger.violate("kube-apiserver ended, see %s", r.apiserver.log)
		return
	}
	fences, ok := r.work.fence(ctx)
	if !ok {
		r.ledger.violate("nothing can be written any more")
		return
	}
	upTo := max(fences[podsName], fences[configMapsName])
	if !r.history.until(upTo, observeWithin) {
		r.ledger.violate("the watch of all keys is at %d, %d was written",
			r.history.newest(), upTo)
	}
	checkWrites(r.ledger, r.history, upTo)
	for _, o := range r.observers {
		fence := fences[o.kind.name]
		if !o.until(fence, observeWithin) {
			r.ledger.violate("%s: at %d, %d was written", o.name, o.seen(), fence)
		}
		checkObserver(r.ledger, r.history, o, fence)
	}
	for _, s := range r.listers {
		s.mu.Lock()
		listings := slices.Clone(s.listings)
		s.mu.Unlock()
		for _, listed := range listings {
			if listed.revision <= upTo {
				checkListing(r.ledger, r.history, listed)
			}
		}
	}
	if _, err := r.history.checkStore(ctx); err != nil {
		r.ledger.violate("reading the store: %v", err)
	}
}

// survivors lists everything once more and compares it with the acknowledgements.
func (r *run) survivors(ctx context.Context, kinds ...kind) {
	for _, k := range kinds {
		listed, _, err := listPaged(ctx, k, r.ledger, metav1.ListOptions{Limit: pageSize})
		if err != nil {
			r.ledger.violate("listing %s: %v", k.name, err)
			continue
		}
		checkListing(r.ledger, r.history, listed)
		r.report("survivors", "%d %s are there as acknowledged",
			checkSurvivors(r.ledger, listed), k.name)
	}
}

func (r *run) summary(ctx context.Context, client *clientv3.Client) {
	for _, o := range r.observers {
		events, relists, resumed := o.events()
		r.report("watch", "%s: %d events, %d times resumed, %d times listed again",
			o.name, events, resumed, relists)
	}
	for _, s := range r.listers {
		r.report("lists", "%s: %d lists of %d pages, as many at an exact revision",
			s.kind.name, len(s.listings)/2, s.pages)
	}
	keys, err := r.history.checkStore(ctx)
	compacted, compactErr := client.Get(ctx, "compact_rev_key")
	if err = errors.Join(err, compactErr); err != nil {
		r.ledger.violate("reading the store: %v", err)
		return
	}
	compaction := "none"
	if len(compacted.Kvs) == 1 {
		compaction = string(compacted.Kvs[0].Value)
	}
	r.report("store", "%d keys at revision %d, compacted at %s; %d writes acknowledged, %d unsure",
		keys, r.history.newest(), compaction,
		r.ledger.acknowledgedTotal.Load(), r.work.failed.Load())
}

func (r *run) podBytes() int {
	r.history.mu.Lock()
	defer r.history.mu.Unlock()
	sum := 0
	for _, size := range r.history.podBytes {
		sum += size
	}
	return sum / max(1, len(r.history.podBytes))
}

func (r *run) report(what, format string, args ...any) {
	fmt.Printf("%6.1fs  %-10s %s\n",
		time.Since(r.started).Seconds(), what, fmt.Sprintf(format, args...))
}

// rate reports with the number of acknowledged writes and how fast they were.
func (r *run) rate(what string, began time.Time, before int64, format string, args ...any) {
	writes, took := r.ledger.acknowledgedTotal.Load()-before, time.Since(began).Seconds()
	r.report(what, "%s: %d writes in %.1f s (%.0f/s)",
		fmt.Sprintf(format, args...), writes, took, float64(writes)/took)
}
