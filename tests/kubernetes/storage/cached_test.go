package storage

import (
	"context"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	storagefeature "k8s.io/apiserver/pkg/storage/feature"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// forgetEvery is how often the watch cache looks for a compaction in these tests. By itself it does
// so every forgetByDefault, and its clock is the only way to hurry it.
const (
	forgetEvery     = 50 * time.Millisecond
	forgetByDefault = 15 * time.Second
)

// cached is a watch cache on a fixture, as apiservers put it in front of nearly all resources. It
// asks the server what the etcd3 storage alone does not: for progress, to serve consistent reads.
type cached struct {
	*cacher.CacheDelegator
	below *fixture
}

// cachedConfig is what tests of the cache vary.
type cachedConfig struct {
	config
	clusterScoped bool // keys without namespaces
	indexed       bool // by node and namespace
}

func setUpCached(t *testing.T, c cachedConfig) *cached {
	t.Helper()
	below := setUp(t, c.config)
	config := cacher.Config{
		Storage:             below,
		Versioner:           versioner,
		GroupResource:       pods,
		EventsHistoryWindow: cacher.DefaultEventFreshDuration,
		ResourcePrefix:      resourcePrefix,
		KeyFunc: func(obj runtime.Object) (string, error) {
			return storage.NamespaceKeyFunc(resourcePrefix, obj)
		},
		GetAttrsFunc: podAttributes,
		NewFunc:      newPod,
		NewListFunc:  newPodList,
		Indexers:     &cache.Indexers{},
		Codec:        below.codec,
		Clock:        hurriedClock{},
	}
	if c.clusterScoped {
		config.KeyFunc = func(obj runtime.Object) (string, error) {
			return storage.NoNamespaceKeyFunc(resourcePrefix, obj)
		}
	}
	if c.indexed {
		config.IndexerFuncs = storage.IndexerFuncs{"spec.nodeName": func(obj runtime.Object) string {
			return obj.(*example.Pod).Spec.NodeName
		}}
		config.Indexers = &cache.Indexers{
			"f:spec.nodeName": func(obj any) ([]string, error) {
				return []string{obj.(*example.Pod).Spec.NodeName}, nil
			},
			"f:metadata.namespace": func(obj any) ([]string, error) {
				return []string{obj.(*example.Pod).Namespace}, nil
			},
		}
	}
	above, err := cacher.NewCacherFromConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(above.Stop)
	if err := above.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The storage asks for the server's version in the background, and a consistent list goes past a
	// cache that cannot yet know whether it may serve it.
	knows := func() bool {
		return storagefeature.DefaultFeatureSupportChecker.Supports(storage.RequestWatchProgress)
	}
	if !eventually(knows) {
		t.Fatal("the storage does not find out whether the server reports progress")
	}
	delegator := cacher.NewCacheDelegator(above, below)
	t.Cleanup(delegator.Stop)
	return &cached{CacheDelegator: delegator, below: below}
}

// compact compacts the server and waits for the cache to forget as much.
func (c *cached) compact(ctx context.Context, t *testing.T, resourceVersion string) {
	t.Helper()
	c.below.compact(ctx, t, resourceVersion)
	if utilfeature.DefaultFeatureGate.Enabled(features.ListFromCacheSnapshot) {
		time.Sleep(10 * forgetEvery)
	}
}

func podAttributes(obj runtime.Object) (labels.Set, fields.Set, error) {
	pod := obj.(*example.Pod)
	return pod.Labels, fields.Set{
		"metadata.name":      pod.Name,
		"metadata.namespace": pod.Namespace,
		"spec.nodeName":      pod.Spec.NodeName,
		"spec.restartPolicy": string(pod.Spec.RestartPolicy),
		"status.phase":       string(pod.Status.Phase),
	}, nil
}

// seenByCache returns from Create only once the cache has the object: some watch tests compare with
// what the cache held when they began.
type seenByCache struct{ storage.Interface }

func (s seenByCache) Create(
	ctx context.Context, key string, obj, out runtime.Object, ttl uint64,
) error {
	if err := s.Interface.Create(ctx, key, obj, out, ttl); err != nil {
		return err
	}
	var err error
	if !eventually(func() bool {
		seen := &example.Pod{}
		err = s.Get(ctx, key, storage.GetOptions{ResourceVersion: "0"}, seen)
		created := out.(*example.Pod).ResourceVersion
		return err == nil && seen.ResourceVersion == created || err != nil && !storage.IsNotFound(err)
	}) {
		return context.DeadlineExceeded
	}
	return err
}

// hurriedClock is the real clock with the cache's timer for compactions sped up.
type hurriedClock struct{ clock.RealClock }

func (c hurriedClock) NewTimer(d time.Duration) clock.Timer {
	if d != forgetByDefault {
		return c.RealClock.NewTimer(d)
	}
	return hurriedTimer{c.RealClock.NewTimer(forgetEvery)}
}

type hurriedTimer struct{ clock.Timer }

func (t hurriedTimer) Reset(time.Duration) bool { return t.Timer.Reset(forgetEvery) }

// TestCached runs the suite on the watch cache.
func TestCached(t *testing.T) {
	plain := func(
		run func(context.Context, *testing.T, storage.Interface),
	) func(context.Context, *testing.T, *cached) {
		return func(ctx context.Context, t *testing.T, c *cached) { run(ctx, t, c) }
	}
	seen := func(
		run func(context.Context, *testing.T, storage.Interface),
	) func(context.Context, *testing.T, *cached) {
		return func(ctx context.Context, t *testing.T, c *cached) { run(ctx, t, seenByCache{c}) }
	}
	unchecked := func(*testing.T, uint64, uint64) {} // The cache spares the server most reads.
	with := func(g gates) cachedConfig { return cachedConfig{config: config{gates: g}} }
	withSnapshots := with(gates{features.ListFromCacheSnapshot: true})
	noSnapshots := with(gates{features.ListFromCacheSnapshot: false})
	indexed := cachedConfig{indexed: true}
	clusterScoped := cachedConfig{indexed: true, clusterScoped: true}

	consistentList := func(snapshots bool) func(context.Context, *testing.T, *cached) {
		return func(ctx context.Context, t *testing.T, c *cached) {
			storagetesting.RunTestConsistentList(
				ctx, t, c, c.below.increaseRV, true, true, snapshots)
		}
	}
	listAll := func(ctx context.Context, t *testing.T, c *cached) {
		storagetesting.RunTestList(ctx, t, c, c.compact, true, c.below.lists)
	}
	listOne := func(ctx context.Context, t *testing.T, c *cached) {
		storagetesting.RunTestGetListNonRecursive(ctx, t, c.below.increaseRV, c)
	}
	stats := func(sizes bool) func(context.Context, *testing.T, *cached) {
		return func(ctx context.Context, t *testing.T, c *cached) {
			storagetesting.RunTestStats(ctx, t, c, c.below.codec, c.below.transformer, sizes)
		}
	}
	for _, test := range []struct {
		name   string
		config cachedConfig
		run    func(context.Context, *testing.T, *cached)
	}{
		{"Create", cachedConfig{}, func(ctx context.Context, t *testing.T, c *cached) {
			storagetesting.RunTestCreate(ctx, t, c, c.below.validateStored)
		}},
		{"CreateWithTTL", cachedConfig{}, plain(storagetesting.RunTestCreateWithTTL)},
		{"CreateWithKeyExist", cachedConfig{}, plain(storagetesting.RunTestCreateWithKeyExist)},
		{"Get", cachedConfig{}, plain(storagetesting.RunTestGet)},
		{"KeySchema", cachedConfig{}, plain(storagetesting.RunTestKeySchema)},

		{"UnconditionalDelete", cachedConfig{}, plain(storagetesting.RunTestUnconditionalDelete)},
		{"ConditionalDelete", cachedConfig{}, plain(storagetesting.RunTestConditionalDelete)},
		{"DeleteWithSuggestion", cachedConfig{}, plain(storagetesting.RunTestDeleteWithSuggestion)},
		{"DeleteWithSuggestionAndConflict", cachedConfig{},
			plain(storagetesting.RunTestDeleteWithSuggestionAndConflict)},
		{"DeleteWithSuggestionOfDeletedObject", cachedConfig{},
			plain(storagetesting.RunTestDeleteWithSuggestionOfDeletedObject)},
		{"ValidateDeletionWithSuggestion", cachedConfig{},
			plain(storagetesting.RunTestValidateDeletionWithSuggestion)},
		{"ValidateDeletionWithOnlySuggestionValid", cachedConfig{},
			plain(storagetesting.RunTestValidateDeletionWithOnlySuggestionValid)},
		{"DeleteWithConflict", cachedConfig{}, plain(storagetesting.RunTestDeleteWithConflict)},
		{"PreconditionalDeleteWithSuggestion", cachedConfig{},
			plain(storagetesting.RunTestPreconditionalDeleteWithSuggestion)},
		{"PreconditionalDeleteWithOnlySuggestionPass", cachedConfig{},
			plain(storagetesting.RunTestPreconditionalDeleteWithOnlySuggestionPass)},

		{"GuaranteedUpdateWithTTL", cachedConfig{},
			plain(storagetesting.RunTestGuaranteedUpdateWithTTL)},
		{"GuaranteedUpdateWithConflict", cachedConfig{},
			plain(storagetesting.RunTestGuaranteedUpdateWithConflict)},
		{"GuaranteedUpdateWithSuggestionAndConflict", cachedConfig{},
			plain(storagetesting.RunTestGuaranteedUpdateWithSuggestionAndConflict)},

		{"List", withSnapshots, listAll},
		{"ListWithoutSnapshots", noSnapshots, listAll},
		{"ConsistentList", withSnapshots, consistentList(true)},
		{"ConsistentListWithoutSnapshots", noSnapshots, consistentList(false)},
		{"GetListNonRecursive", withSnapshots, listOne},
		{"GetListNonRecursiveWithoutSnapshots", noSnapshots, listOne},
		{"GetListRecursivePrefix", cachedConfig{}, plain(storagetesting.RunTestGetListRecursivePrefix)},
		{"ListPaging", cachedConfig{}, plain(storagetesting.RunTestListPaging)},
		{"ListContinuation", cachedConfig{}, func(ctx context.Context, t *testing.T, c *cached) {
			storagetesting.RunTestListContinuation(ctx, t, c, unchecked)
		}},
		{"ListContinuationWithFilter", cachedConfig{},
			func(ctx context.Context, t *testing.T, c *cached) {
				storagetesting.RunTestListContinuationWithFilter(ctx, t, c, unchecked)
			}},
		{"ListPaginationRareObject", cachedConfig{},
			func(ctx context.Context, t *testing.T, c *cached) {
				storagetesting.RunTestListPaginationRareObject(ctx, t, c, unchecked)
			}},
		{"NamespaceScopedList", indexed, plain(storagetesting.RunTestNamespaceScopedList)},
		{"CompactRevision", withSnapshots, func(ctx context.Context, t *testing.T, c *cached) {
			storagetesting.RunTestCompactRevision(ctx, t, c, c.below.increaseRV, c.compact)
		}},
		{"Stats", with(gates{features.SizeBasedListCostEstimate: false}), stats(false)},
		{"StatsWithSizes", with(gates{features.SizeBasedListCostEstimate: true}), stats(true)},

		{"Watch", cachedConfig{}, plain(storagetesting.RunTestWatch)},
		{"ClusterScopedWatch", clusterScoped, plain(storagetesting.RunTestClusterScopedWatch)},
		{"NamespaceScopedWatch", indexed, plain(storagetesting.RunTestNamespaceScopedWatch)},
		{"DeleteTriggerWatch", cachedConfig{}, plain(storagetesting.RunTestDeleteTriggerWatch)},
		{"WatchFromNonZero", cachedConfig{}, plain(storagetesting.RunTestWatchFromNonZero)},
		{"DelayedWatchDelivery", cachedConfig{}, plain(storagetesting.RunTestDelayedWatchDelivery)},
		{"WatcherTimeout", cachedConfig{}, plain(storagetesting.RunTestWatcherTimeout)},
		{"WatchDeleteEventObjectHaveLatestRV", cachedConfig{},
			plain(storagetesting.RunTestWatchDeleteEventObjectHaveLatestRV)},
		{"WatchInitializationSignal", cachedConfig{},
			plain(storagetesting.RunTestWatchInitializationSignal)},
		{"WatchDispatchBookmarkEvents", cachedConfig{},
			func(ctx context.Context, t *testing.T, c *cached) {
				storagetesting.RunTestWatchDispatchBookmarkEvents(ctx, t, c, true)
			}},
		{"WatchBookmarksWithCorrectResourceVersion", cachedConfig{},
			plain(storagetesting.RunTestOptionalWatchBookmarksWithCorrectResourceVersion)},
		{"SendInitialEventsBackwardCompatibility", cachedConfig{},
			plain(storagetesting.RunSendInitialEventsBackwardCompatibility)},
		{"WatchSemantics", cachedConfig{}, seen(storagetesting.RunWatchSemantics)},
		{"WatchSemanticInitialEventsExtended", cachedConfig{},
			seen(storagetesting.RunWatchSemanticInitialEventsExtended)},
		{"WatchListMatchSingle", cachedConfig{}, seen(storagetesting.RunWatchListMatchSingle)},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.run(t.Context(), t, setUpCached(t, test.config))
		})
	}
}
