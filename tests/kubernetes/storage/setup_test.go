// Package storage judges a server with the conformance suite that Kubernetes keeps for its own
// storage layer. direct_test.go runs it on the etcd3 storage, cached_test.go on the watch cache
// above it, protocol_test.go adds what the suite leaves to the storage's private tests.
package storage

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/api/apitesting"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	storagefeature "k8s.io/apiserver/pkg/storage/feature"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/featuregate"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"ringbolt.dev/tests/kubernetes/judged"
)

const (
	keyPrefix      = "/registry"
	resourcePrefix = "/pods/"
	// Every stored value begins with this: the test transformer's stand-in for encryption.
	valuePrefix = "sealed:"
	// The suite waits 30 s at the most, so a lease may not be shared for as long as by default.
	leaseReuseSeconds = 1
	observeWithin     = 30 * time.Second
)

var (
	scheme         = runtime.NewScheme()
	podsCodec      runtime.Codec
	pods           = schema.GroupResource{Resource: "pods"}
	versioner      = storage.APIObjectVersioner{}
	errSynthetic   = errors.New("synthetic error")
	newPod         = func() runtime.Object { return &example.Pod{} }
	newPodList     = func() runtime.Object { return &example.PodList{} }
	everyPod       = storage.ListOptions{Predicate: storage.Everything, Recursive: true}
	unsafeDelete   = gates{features.AllowUnsafeMalformedObjectDeletion: true}
	noUnsafeDelete = gates{features.AllowUnsafeMalformedObjectDeletion: false}
	noCompactRead  = gates{features.ListFromCacheSnapshot: false}
)

func TestMain(m *testing.M) {
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	utilruntime.Must(example.AddToScheme(scheme))
	utilruntime.Must(examplev1.AddToScheme(scheme))
	podsCodec = apitesting.TestCodec(serializer.NewCodecFactory(scheme), examplev1.SchemeGroupVersion)
	klog.SetLogger(logr.Discard()) // The suite provokes errors on purpose.
	os.Exit(m.Run())
}

// gates are feature gates of the apiserver with the value that a test needs.
type gates map[featuregate.Feature]bool

// config is what tests vary. The zero value is what most of them use.
type config struct {
	gates       gates
	serverFlags []string
	transformer value.Transformer
	codec       runtime.Codec
	noKeyPrefix bool // for tests that compare keys with those the server knows
}

// fixture is Kubernetes' etcd3 storage on a server of its own.
type fixture struct {
	storage.Interface

	client      *kubernetes.Client
	root        string // of all keys
	codec       runtime.Codec
	transformer *swapTransformer
	prefix      *storagetesting.PrefixTransformer // what transformer begins with, unless configured
	reads       *storagetesting.KVRecorder
	streams     uint64 // what reads counted of RangeStream before it was reset
	lists       *storagetesting.KubernetesRecorder
}

// setUp starts a fresh server and builds the storage on it; both end with the test.
func setUp(t testing.TB, c config) *fixture {
	t.Helper()
	for feature, enabled := range c.gates {
		gate(t, feature, enabled)
	}
	f := &fixture{
		client: connect(t, startServer(t, c.serverFlags...)),
		root:   keyPrefix,
		codec:  c.codec,
		prefix: storagetesting.NewPrefixTransformer([]byte(valuePrefix), false),
	}
	requireServerFeatures(t)
	if c.noKeyPrefix {
		f.root = ""
	}
	f.lists = storagetesting.NewKubernetesRecorder(f.client.Kubernetes)
	f.reads = storagetesting.NewKVRecorder(f.client.KV, f.lists)
	f.client.KV, f.client.Kubernetes = f.reads, f.lists
	if f.codec == nil {
		f.codec = podsCodec
	}
	f.transformer = newSwapTransformer(f.prefix)
	if c.transformer != nil {
		f.transformer = newSwapTransformer(c.transformer)
	}

	compactor := etcd3.NewCompactor(f.client.Client, 0, clock.RealClock{}, nil)
	t.Cleanup(compactor.Stop)
	leases := etcd3.NewDefaultLeaseManagerConfig()
	leases.ReuseDurationSeconds = leaseReuseSeconds
	store, err := etcd3.New(f.client, compactor, f.codec, newPod, newPodList, f.root,
		resourcePrefix, pods, f.transformer, leases,
		etcd3.NewDefaultDecoder(f.codec, versioner), versioner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	f.Interface = store
	return f
}

// gate sets a feature gate for the length of the test.
func gate(t testing.TB, feature featuregate.Feature, enabled bool) {
	featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, feature, enabled)
}

func startServer(t testing.TB, flags ...string) *judged.Server {
	t.Helper()
	server, err := judged.New(t.TempDir(), flags...)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of the server's log:\n%s", server.LogTail())
		}
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func connect(t testing.TB, server *judged.Server) *kubernetes.Client {
	t.Helper()
	client, err := kubernetes.New(clientv3.Config{
		Endpoints:   []string{server.Endpoint()},
		DialTimeout: 10 * time.Second,
		Logger:      zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// requireServerFeatures fails the test if the storage finds the server to lack something: it would
// take another path in silence then, and the test would judge that one.
func requireServerFeatures(t testing.TB) {
	shared := storagefeature.DefaultFeatureSupportChecker
	checker := storagefeature.NewDefaultFeatureSupportChecker()
	storagefeature.DefaultFeatureSupportChecker = checker
	t.Cleanup(func() {
		storagefeature.DefaultFeatureSupportChecker = shared
		for _, needed := range []storage.Feature{storage.RangeStream, storage.RequestWatchProgress} {
			// The storage asks for the server's version in the background.
			if !eventually(func() bool { return checker.Supports(needed) }) {
				t.Errorf("the storage finds the server to lack %v", needed)
			}
		}
	})
}

// eventually waits until the condition holds; false says that it never did.
func eventually(condition func() bool) bool {
	for deadline := time.Now().Add(observeWithin); !condition(); {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(20 * time.Millisecond)
	}
	return true
}

// expectStreams fails the test at its end unless RangeStream was used, or was not used. Some tests
// of the suite run on in parallel after their function returned, so it cannot be checked before.
func (f *fixture) expectStreams(t *testing.T, used bool) {
	t.Cleanup(func() {
		f.streams += f.reads.GetStreamReadsAndReset()
		if used != (f.streams > 0) {
			t.Errorf("%d requests by RangeStream", f.streams)
		}
	})
}

// compact compacts as apiservers do: whoever finds the logical time of the last compaction
// unchanged may compact, and the first try may only be good for learning that time.
func (f *fixture) compact(ctx context.Context, t *testing.T, resourceVersion string) {
	t.Helper()
	revision, err := strconv.ParseInt(resourceVersion, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for logicalTime, compacted := int64(0), int64(0); compacted < revision; {
		logicalTime, _, compacted, err = etcd3.Compact(ctx, f.client.Client, logicalTime, revision)
		if err != nil {
			t.Fatal(err)
		}
	}
	if !utilfeature.DefaultFeatureGate.Enabled(features.ListFromCacheSnapshot) {
		return // Nobody watches compactions.
	}
	if !eventually(func() bool { return f.CompactRevision() >= revision }) {
		t.Fatalf("compaction at %d is not observed within %v", revision, observeWithin)
	}
}

// increaseRV advances the store's revision without touching the resource under test.
func (f *fixture) increaseRV(ctx context.Context, t *testing.T) int64 {
	t.Helper()
	resp, err := f.client.KV.Put(ctx, "elsewhere", "")
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

// validateStored checks that the server holds the object as the storage must write it: transformed
// and without what only the server knows.
func (f *fixture) validateStored(ctx context.Context, t *testing.T, key string) {
	t.Helper()
	resp, err := f.client.KV.Get(ctx, f.root+key)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) != 1 {
		t.Fatalf("%d values under %s", len(resp.Kvs), key)
	}
	plain, _, err := f.transformer.TransformFromStorage(ctx, resp.Kvs[0].Value, plainContext{})
	if err != nil {
		t.Fatal(err)
	}
	pod := &example.Pod{}
	if err := runtime.DecodeInto(f.codec, plain, pod); err != nil {
		t.Fatal(err)
	}
	if pod.ResourceVersion != "" || pod.SelfLink != "" {
		t.Errorf("stored with resource version %q, self link %q", pod.ResourceVersion, pod.SelfLink)
	}
}

// validateReads checks how much was read since the last call: a page that the filter leaves too
// empty makes the storage double its page size, up to 10,000.
func (f *fixture) validateReads(t *testing.T, pageSize, objects uint64) {
	t.Helper()
	if decoded := f.prefix.GetReadsAndReset(); decoded != objects {
		t.Errorf("%d objects decoded, want %d", decoded, objects)
	}
	pages := uint64(1)
	for covered := pageSize; pageSize != 0 && covered < objects; pages++ {
		pageSize = min(2*pageSize, 10_000)
		covered += pageSize
	}
	streams := f.reads.GetStreamReadsAndReset()
	f.streams += streams
	if reads := f.reads.GetReadsAndReset() + streams; reads != pages {
		t.Fatalf("%d requests to the server, want %d", reads, pages)
	}
}

// keys lists what the server holds of the resource.
func (f *fixture) keys(ctx context.Context) ([]string, error) {
	resp, err := f.client.KV.Get(ctx, f.root+resourcePrefix,
		clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, kv := range resp.Kvs {
		keys = append(keys, string(kv.Key))
	}
	return keys, nil
}

// UpdatePrefixTransformer is for suite tests that alter the transformer under a storage in use.
func (f *fixture) UpdatePrefixTransformer(
	modify storagetesting.PrefixTransformerModifier,
) func() {
	return f.transformer.swap(func(current value.Transformer) value.Transformer {
		altered := *current.(*storagetesting.PrefixTransformer)
		return modify(&altered)
	})
}

// UpdateTransformer is the same for any transformer.
func (f *fixture) UpdateTransformer(modify storagetesting.TransformerModifier) func() {
	return f.transformer.swap(modify)
}

// swapTransformer stands for a transformer that can be replaced while it is used.
type swapTransformer struct {
	current atomic.Pointer[value.Transformer]
}

func newSwapTransformer(first value.Transformer) *swapTransformer {
	s := &swapTransformer{}
	s.current.Store(&first)
	return s
}

func (s *swapTransformer) swap(modify func(value.Transformer) value.Transformer) (undo func()) {
	before := s.current.Load()
	after := modify(*before)
	s.current.Store(&after)
	return func() { s.current.Store(before) }
}

func (s *swapTransformer) TransformFromStorage(
	ctx context.Context, data []byte, dataCtx value.Context,
) ([]byte, bool, error) {
	return (*s.current.Load()).TransformFromStorage(ctx, data, dataCtx)
}

func (s *swapTransformer) TransformToStorage(
	ctx context.Context, data []byte, dataCtx value.Context,
) ([]byte, error) {
	return (*s.current.Load()).TransformToStorage(ctx, data, dataCtx)
}

// plainContext is the context of a value that no key is bound to.
type plainContext struct{}

func (plainContext) AuthenticatedData() []byte { return nil }

// failing is a switch that makes every read of stored data fail.
type failing struct{ on atomic.Bool }

func (f *failing) set(on bool) { f.on.Store(on) }

type failingTransformer struct {
	value.Transformer
	failing
}

func (f *failingTransformer) TransformFromStorage(
	ctx context.Context, data []byte, dataCtx value.Context,
) ([]byte, bool, error) {
	if f.on.Load() {
		return nil, false, errSynthetic
	}
	return f.Transformer.TransformFromStorage(ctx, data, dataCtx)
}

type failingCodec struct {
	runtime.Codec
	failing
}

func (f *failingCodec) Decode(
	data []byte, defaults *schema.GroupVersionKind, into runtime.Object,
) (runtime.Object, *schema.GroupVersionKind, error) {
	if f.on.Load() {
		return nil, nil, errSynthetic
	}
	return f.Codec.Decode(data, defaults, into)
}

// corruptObject is the storage's own error for data that cannot be transformed. Its type is
// private, so it is taken from where the storage makes it.
func corruptObject() error {
	broken := &failingTransformer{}
	broken.set(true)
	_, _, err := etcd3.WithCorruptObjErrorHandlingTransformer(broken).
		TransformFromStorage(context.Background(), nil, plainContext{})
	return err
}
