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
	list     = listing(true)
	noList   = listing(false)
	progress = "--watch-progress-notify-interval=1s"
)

// listing says that a test lists, which the storage does in two ways: by RangeStream and by pages.
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
		{"Create", noList, config{}, func(ctx context.Context, t *testing.T, f *fixture) {
			storagetesting.RunTestCreate(ctx, t, f, f.validateStored)
		}},
		{"CreateWithTTL", noList, config{}, plain(storagetesting.RunTestCreateWithTTL)},
		{"CreateWithKeyExist", noList, config{}, plain(storagetesting.RunTestCreateWithKeyExist)},
		{"Get", noList, config{}, plain(storagetesting.RunTestGet)},
		{"KeySchema", list, config{}, plain(storagetesting.RunTestKeySchema)},

		{"UnconditionalDelete", noList, config{}, plain(storagetesting.RunTestUnconditionalDelete)},
		{"ConditionalDelete", noList, config{}, plain(storagetesting.RunTestConditionalDelete)},
		{"DeleteWithSuggestion", noList, config{}, plain(storagetesting.RunTestDeleteWithSuggestion)},
		{"DeleteWithSuggestionAndConflict", noList, config{},
			plain(storagetesting.RunTestDeleteWithSuggestionAndConflict)},
		{"DeleteWithSuggestionOfDeletedObject", noList, config{},
			plain(storagetesting.RunTestDeleteWithSuggestionOfDeletedObject)},
		{"ValidateDeletionWithSuggestion", noList, config{},
			plain(storagetesting.RunTestValidateDeletionWithSuggestion)},
		{"ValidateDeletionWithOnlySuggestionValid", noList, config{},
			plain(storagetesting.RunTestValidateDeletionWithOnlySuggestionValid)},
		{"DeleteWithConflict", noList, config{}, plain(storagetesting.RunTestDeleteWithConflict)},
		{"PreconditionalDeleteWithSuggestion", noList, config{},
			plain(storagetesting.RunTestPreconditionalDeleteWithSuggestion)},
		{"PreconditionalDeleteWithOnlySuggestionPass", noList, config{},
			plain(storagetesting.RunTestPreconditionalDeleteWithOnlySuggestionPass)},
		{"DeleteWithSuggestionAndMissingExpectedError", noList, config{gates: unsafeDelete},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError(
					ctx, t, f)
			}},

		{"GuaranteedUpdate", noList, config{}, func(ctx context.Context, t *testing.T, f *fixture) {
			storagetesting.RunTestGuaranteedUpdate(ctx, t, f, f.validateStored)
		}},
		{"GuaranteedUpdateWithTTL", noList, config{},
			plain(storagetesting.RunTestGuaranteedUpdateWithTTL)},
		{"GuaranteedUpdateChecksStoredData", noList, config{},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestGuaranteedUpdateChecksStoredData(ctx, t, f)
			}},
		{"GuaranteedUpdateWithConflict", noList, config{},
			plain(storagetesting.RunTestGuaranteedUpdateWithConflict)},
		{"GuaranteedUpdateWithSuggestionAndConflict", noList, config{},
			plain(storagetesting.RunTestGuaranteedUpdateWithSuggestionAndConflict)},
		{"TransformationFailure", list, config{},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestTransformationFailure(ctx, t, f)
			}},

		{"List", list, config{}, func(ctx context.Context, t *testing.T, f *fixture) {
			storagetesting.RunTestList(ctx, t, f, f.compact, false, f.lists)
		}},
		{"ListPaging", list, config{}, plain(storagetesting.RunTestListPaging)},
		{"ConsistentList", list, config{}, func(ctx context.Context, t *testing.T, f *fixture) {
			storagetesting.RunTestConsistentList(ctx, t, f, f.increaseRV, false, true, false)
		}},
		{"GetListNonRecursive", noList, config{},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestGetListNonRecursive(ctx, t, f.increaseRV, f)
			}},
		{"GetListRecursivePrefix", list, config{},
			plain(storagetesting.RunTestGetListRecursivePrefix)},
		{"GetListWithErrorAggregation", list, config{gates: unsafeDelete, noKeyPrefix: true},
			func(ctx context.Context, t *testing.T, f *fixture) {
				f.Interface = etcd3.NewStoreWithUnsafeCorruptObjectDeletion(f.Interface, pods)
				storagetesting.RunTestGetListWithErrorAggregation(ctx, t, f, corruptObject())
			}},
		{"GetListWithoutErrorAggregation", list, config{gates: noUnsafeDelete, noKeyPrefix: true},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestGetListWithoutErrorAggregation(ctx, t, f, corruptObject())
			}},
		{"ListContinuation", list, config{gates: noCompactRead},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestListContinuation(ctx, t, f, f.validateReads)
			}},
		{"ListContinuationWithFilter", list, config{gates: noCompactRead},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestListContinuationWithFilter(ctx, t, f, f.validateReads)
			}},
		{"ListPaginationRareObject", list, config{gates: noCompactRead},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestListPaginationRareObject(ctx, t, f, f.validateReads)
			}},
		{"ListInconsistentContinuation", list, config{},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestListInconsistentContinuation(ctx, t, f, f.compact)
			}},
		{"ListResourceVersionMatch", list, config{},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestListResourceVersionMatch(ctx, t, f)
			}},
		{"NamespaceScopedList", list, config{}, plain(storagetesting.RunTestNamespaceScopedList)},
		{"CompactRevision", list, config{gates: gates{features.ListFromCacheSnapshot: true}},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestCompactRevision(ctx, t, f, f.increaseRV, f.compact)
			}},
		{"Stats", noList, config{}, func(ctx context.Context, t *testing.T, f *fixture) {
			storagetesting.RunTestStats(ctx, t, f, f.codec, f.transformer, false)
		}},
		{"StatsWithSizes", noList, config{}, func(ctx context.Context, t *testing.T, f *fixture) {
			if err := f.EnableResourceSizeEstimation(f.keys); err != nil {
				t.Fatal(err)
			}
			storagetesting.RunTestStats(ctx, t, f, f.codec, f.transformer, true)
		}},

		{"Watch", list, config{}, plain(storagetesting.RunTestWatch)},
		{"ClusterScopedWatch", noList, config{}, plain(storagetesting.RunTestClusterScopedWatch)},
		{"NamespaceScopedWatch", noList, config{}, plain(storagetesting.RunTestNamespaceScopedWatch)},
		{"DeleteTriggerWatch", noList, config{}, plain(storagetesting.RunTestDeleteTriggerWatch)},
		{"WatchFromZero", list, config{}, func(ctx context.Context, t *testing.T, f *fixture) {
			storagetesting.RunTestWatchFromZero(ctx, t, f, f.compact)
		}},
		{"WatchFromNonZero", noList, config{}, plain(storagetesting.RunTestWatchFromNonZero)},
		{"DelayedWatchDelivery", noList, config{}, plain(storagetesting.RunTestDelayedWatchDelivery)},
		{"WatchError", noList, config{}, func(ctx context.Context, t *testing.T, f *fixture) {
			storagetesting.RunTestWatchError(ctx, t, f)
		}},
		{"WatchErrorIsBlockingFurtherEvents", noList, config{},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunWatchErrorIsBlockingFurtherEvents(ctx, t, f)
			}},
		{"WatchWithUnsafeDelete", noList, config{gates: unsafeDelete},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestWatchWithUnsafeDelete(ctx, t, f, corruptObject())
			}},
		{"WatchContextCancel", noList, config{}, plain(storagetesting.RunTestWatchContextCancel)},
		{"WatcherTimeout", noList, config{}, plain(storagetesting.RunTestWatcherTimeout)},
		{"WatchDeleteEventObjectHaveLatestRV", noList, config{},
			plain(storagetesting.RunTestWatchDeleteEventObjectHaveLatestRV)},
		{"WatchInitializationSignal", noList, config{},
			plain(storagetesting.RunTestWatchInitializationSignal)},
		{"ProgressNotify", noList, config{serverFlags: []string{progress}},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunOptionalTestProgressNotify(ctx, t, f, f.increaseRV)
			}},
		{"WatchDispatchBookmarkEvents", noList, config{serverFlags: []string{progress}},
			func(ctx context.Context, t *testing.T, f *fixture) {
				storagetesting.RunTestWatchDispatchBookmarkEvents(ctx, t, f, false)
			}},
		{"SendInitialEventsBackwardCompatibility", list, config{},
			plain(storagetesting.RunSendInitialEventsBackwardCompatibility)},
		{"WatchSemantics", list, config{}, plain(storagetesting.RunWatchSemantics)},
		{"WatchSemanticsWithConcurrentDecode", list,
			config{gates: gates{features.ConcurrentWatchObjectDecode: true}},
			plain(storagetesting.RunWatchSemantics)},
		{"WatchSemanticInitialEventsExtended", list, config{},
			plain(storagetesting.RunWatchSemanticInitialEventsExtended)},
		{"WatchListMatchSingle", list, config{}, plain(storagetesting.RunWatchListMatchSingle)},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.run(t.Context(), t, setUp(t, test.config))
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

// TestDirectUnreadable runs the suite's tests of objects that cannot be read back.
func TestDirectUnreadable(t *testing.T) {
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
	for name, broken := range map[string]func() (config, *failing){
		"Transform": transformer,
		"Decode":    codec,
	} {
		t.Run("DeleteExpected"+name+"Error", func(t *testing.T) {
			config, failing := broken()
			f := setUp(t, config)
			storagetesting.RunTestDeleteExpectedTransformOrDecodeError(t.Context(), t, f, failing.set)
		})
		t.Run("DeleteWithConflictAndMissingExpected"+name+"Error", func(t *testing.T) {
			config, failing := broken()
			f := setUp(t, config)
			storagetesting.RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError(
				t.Context(), t, f, failing.set)
		})
	}
}
