package storage

import (
	"context"
	"testing"

	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

const (
	listed   = listing(true)
	unlisted = listing(false)
	progress = "--watch-progress-notify-interval=1s"
)

// listing says that a test lists without a limit. The storage does that by RangeStream, or page by
// page if the server lacks it, so such a test runs a second time by pages.
type listing bool

// plain adapts a suite test that needs the storage and nothing else.
func plain(
	run func(context.Context, *testing.T, storage.Interface),
) func(context.Context, *testing.T, *fixture) {
	return func(ctx context.Context, t *testing.T, f *fixture) { run(ctx, t, f) }
}

// TestDirect runs the suite on the etcd3 storage.
func TestDirect(t *testing.T) {
	for _, test := range []struct {
		name    string
		listing listing
		config  config
		run     func(context.Context, *testing.T, *fixture)
	}{
		{"Create", unlisted, config{}, func(ctx context.Context, t *testing.T, f *fixture) {
			storagetesting.RunTestCreate(ctx, t, f, f.validateStored)
		}},
		{"CreateWithTTL", unlisted, config{}, plain(storagetesting.RunTestCreateWithTTL)},
		{"CreateWithKeyExist", unlisted, config{}, plain(storagetesting.RunTestCreateWithKeyExist)},
		{"Get", unlisted, config{}, plain(storagetesting.RunTestGet)},
		{"KeySchema", listed, config{}, plain(storagetesting.RunTestKeySchema)},

		{"UnconditionalDelete", unlisted, config{}, plain(storagetesting.RunTestUnconditionalDelete)},
		{"ConditionalDelete", unlisted, config{}, plain(storagetesting.RunTestConditionalDelete)},
		{"DeleteWithSuggestion", unlisted, config{}, plain(storagetesting.RunTestDeleteWithSuggestion)},
		{"DeleteWithSuggestionAndConflict", unlisted, config{},
			plain(storagetesting.RunTestDeleteWithSuggestionAndConflict)},
		{"DeleteWithSuggestionOfDeletedObject", unlisted, config{},
			plain(storagetesting.RunTestDeleteWithSuggestionOfDeletedObject)},
		{"ValidateDeletionWithSuggestion", unlisted, config{},
			plain(storagetesting.RunTestValidateDeletionWithSuggestion)},
		{"ValidateDeletionWithOnlySuggestionValid", unlisted, config{},
			plain(storagetesting.RunTestValidateDeletionWithOnlySuggestionValid)},
		{"DeleteWithConflict", unlisted, config{}, plain(storagetesting.RunTestDeleteWithConflict)},
		{"PreconditionalDeleteWithSuggestion", unlisted, config{},
			plain(storagetesting.RunTestPreconditionalDeleteWithSuggestion)},
		{"PreconditionalDeleteWithOnlySuggestionPass", unlisted, config{},
			plain(storagetesting.RunTestPreconditionalDeleteWithOnlySuggestionPass)},

		{"GuaranteedUpdate", unlisted, config{}, func(ctx context.Context, t *testing.T, f *fixture) {
			storagetesting.RunTestGuaranteedUpdate(ctx, t, f, f.validateStored)
		}},
		{"GuaranteedUpdateWithTTL", unlisted, config{},
			plain(storagetesting.RunTestGuaranteedUpdateWithTTL)},
		{"GuaranteedUpdateChecksStoredData", unlisted, config{},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestGuaranteedUpdateChecksStoredData(ctx, t, f)
			}},
		{"GuaranteedUpdateWithConflict", unlisted, config{},
			plain(storagetesting.RunTestGuaranteedUpdateWithConflict)},
		{"GuaranteedUpdateWithSuggestionAndConflict", unlisted, config{},
			plain(storagetesting.RunTestGuaranteedUpdateWithSuggestionAndConflict)},
		{"TransformationFailure", listed, config{},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestTransformationFailure(ctx, t, f)
			}},

		{"List", listed, config{}, func(ctx context.Context, t *testing.T, f *fixture) {
			storagetesting.RunTestList(ctx, t, f, f.compact, false, f.lists)
		}},
		{"ListPaging", listed, config{}, plain(storagetesting.RunTestListPaging)},
		{"ConsistentList", listed, config{}, func(ctx context.Context, t *testing.T, f *fixture) {
			storagetesting.RunTestConsistentList(ctx, t, f, f.increaseRV, false, true, false)
		}},
		{"GetListNonRecursive", unlisted, config{},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestGetListNonRecursive(ctx, t, f.increaseRV, f)
			}},
		{"GetListRecursivePrefix", listed, config{},
			plain(storagetesting.RunTestGetListRecursivePrefix)},
		{"GetListWithErrorAggregation", listed, config{gates: unsafeDelete, noKeyPrefix: true},
			func(ctx context.Context, t *testing.T, f *fixture) {
				f.Interface = etcd3.NewStoreWithUnsafeCorruptObjectDeletion(f.Interface, pods)
				storagetesting.RunTestGetListWithErrorAggregation(ctx, t, f, corruptObject())
			}},
		{"GetListWithoutErrorAggregation", listed, config{gates: noUnsafeDelete, noKeyPrefix: true},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestGetListWithoutErrorAggregation(ctx, t, f, corruptObject())
			}},
		{"ListContinuation", listed, config{gates: noCompactRead},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestListContinuation(ctx, t, f, f.validateReads)
			}},
		{"ListContinuationWithFilter", unlisted, config{gates: noCompactRead},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestListContinuationWithFilter(ctx, t, f, f.validateReads)
			}},
		{"ListPaginationRareObject", unlisted, config{gates: noCompactRead},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestListPaginationRareObject(ctx, t, f, f.validateReads)
			}},
		{"ListInconsistentContinuation", listed, config{},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestListInconsistentContinuation(ctx, t, f, f.compact)
			}},
		{"ListResourceVersionMatch", unlisted, config{},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestListResourceVersionMatch(ctx, t, f)
			}},
		{"NamespaceScopedList", listed, config{}, plain(storagetesting.RunTestNamespaceScopedList)},
		{"CompactRevision", listed, config{gates: gates{features.ListFromCacheSnapshot: true}},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestCompactRevision(ctx, t, f, f.increaseRV, f.compact)
			}},
		{"Stats", unlisted, config{}, func(ctx context.Context, t *testing.T, f *fixture) {
			storagetesting.RunTestStats(ctx, t, f, f.codec, f.transformer, false)
		}},
		{"StatsWithSizes", unlisted, config{}, func(ctx context.Context, t *testing.T, f *fixture) {
			if err := f.EnableResourceSizeEstimation(f.keys); err != nil {
				t.Fatal(err)
			}
			storagetesting.RunTestStats(ctx, t, f, f.codec, f.transformer, true)
		}},

		{"Watch", listed, config{}, plain(storagetesting.RunTestWatch)},
		{"ClusterScopedWatch", unlisted, config{}, plain(storagetesting.RunTestClusterScopedWatch)},
		{"NamespaceScopedWatch", unlisted, config{}, plain(storagetesting.RunTestNamespaceScopedWatch)},
		{"DeleteTriggerWatch", unlisted, config{}, plain(storagetesting.RunTestDeleteTriggerWatch)},
		{"WatchFromZero", unlisted, config{}, func(ctx context.Context, t *testing.T, f *fixture) {
			storagetesting.RunTestWatchFromZero(ctx, t, f, f.compact)
		}},
		{"WatchFromNonZero", unlisted, config{}, plain(storagetesting.RunTestWatchFromNonZero)},
		{"DelayedWatchDelivery", unlisted, config{}, plain(storagetesting.RunTestDelayedWatchDelivery)},
		{"WatchError", unlisted, config{}, func(ctx context.Context, t *testing.T, f *fixture) {
			storagetesting.RunTestWatchError(ctx, t, f)
		}},
		{"WatchErrorIsBlockingFurtherEvents", unlisted, config{},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunWatchErrorIsBlockingFurtherEvents(ctx, t, f)
			}},
		{"WatchWithUnsafeDelete", unlisted, config{gates: unsafeDelete},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestWatchWithUnsafeDelete(ctx, t, f, corruptObject())
			}},
		{"WatchContextCancel", unlisted, config{}, plain(storagetesting.RunTestWatchContextCancel)},
		{"WatcherTimeout", unlisted, config{}, plain(storagetesting.RunTestWatcherTimeout)},
		{"WatchDeleteEventObjectHaveLatestRV", unlisted, config{},
			plain(storagetesting.RunTestWatchDeleteEventObjectHaveLatestRV)},
		{"WatchInitializationSignal", unlisted, config{},
			plain(storagetesting.RunTestWatchInitializationSignal)},
		{"ProgressNotify", unlisted, config{serverFlags: []string{progress}},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunOptionalTestProgressNotify(ctx, t, f, f.increaseRV)
			}},
		{"WatchDispatchBookmarkEvents", unlisted, config{serverFlags: []string{progress}},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestWatchDispatchBookmarkEvents(ctx, t, f, false)
			}},
		{"SendInitialEventsBackwardCompatibility", unlisted, config{},
			plain(storagetesting.RunSendInitialEventsBackwardCompatibility)},
		{"WatchSemantics", listed, config{}, plain(storagetesting.RunWatchSemantics)},
		{"WatchSemanticsWithConcurrentDecode", listed,
			config{gates: gates{features.ConcurrentWatchObjectDecode: true}},
			plain(storagetesting.RunWatchSemantics)},
		{"WatchSemanticInitialEventsExtended", listed, config{},
			plain(storagetesting.RunWatchSemanticInitialEventsExtended)},
		{"WatchListMatchSingle", listed, config{}, plain(storagetesting.RunWatchListMatchSingle)},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := setUp(t, test.config)
			if test.listing {
				f.expectStreams(t, true)
			}
			test.run(t.Context(), t, f)
		})
		if test.listing {
			t.Run(test.name+"ByPages", func(t *testing.T) {
				gate(t, features.EtcdRangeStream, false)
				f := setUp(t, test.config)
				f.expectStreams(t, false)
				test.run(t.Context(), t, f)
			})
		}
	}
}

// TestUnreadable runs the suite's tests of objects that cannot be read back, on both layers.
func TestUnreadable(t *testing.T) {
	etcd3.TestOnlySetFatalOnDecodeError(t, false) // By itself the storage panics in tests.
	direct := func(t *testing.T, c config) storage.Interface { return setUp(t, c) }
	cached := func(t *testing.T, c config) storage.Interface {
		return setUpCached(t, cachedConfig{config: c})
	}
	transformer := func() (config, *failing) {
		f := &failingTransformer{
			Transformer: storagetesting.NewPrefixTransformer([]byte(valuePrefix), false),
		}
		return config{gates: unsafeDelete, transformer: f}, &f.failing
	}
	codec := func() (config, *failing) {
		f := &failingCodec{Codec: podsCodec}
		return config{gates: unsafeDelete, codec: f}, &f.failing
	}
	for _, layer := range []struct {
		name  string
		setUp func(*testing.T, config) storage.Interface
	}{{"Direct", direct}, {"Cached", cached}} {
		for _, broken := range []struct {
			name string
			make func() (config, *failing)
		}{{"Transform", transformer}, {"Decode", codec}} {
			name := layer.name + broken.name
			t.Run(name+"DeleteExpectedError", func(t *testing.T) {
				config, failing := broken.make()
				storagetesting.RunTestDeleteExpectedTransformOrDecodeError(
					t.Context(), t, layer.setUp(t, config), failing.set)
			})
			t.Run(name+"DeleteWithConflictAndMissingExpectedError", func(t *testing.T) {
				config, failing := broken.make()
				storagetesting.RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError(
					t.Context(), t, layer.setUp(t, config), failing.set)
			})
		}
		t.Run(layer.name+"DeleteWithSuggestionAndMissingExpectedError", func(t *testing.T) {
			storagetesting.RunTestDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError(
				t.Context(), t, layer.setUp(t, config{gates: unsafeDelete}))
		})
	}
}
