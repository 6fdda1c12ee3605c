package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

const (
	writers         = 8
	namespaces      = 20
	podCount        = 2_000
	configMapCount  = 2_000
	conflictRounds  = 100
	deleteEvery     = 4 // of the objects, one in so many is deleted,
	deletePod       = 1 // of the pods, this one of so many
	writeWithin     = 15 * time.Second
	churnPause      = 100 * time.Millisecond
	crashAfterAcks  = 400
	crashRecovery   = 200 // acknowledged writes that prove a recovery
	recoverWithin   = 60 * time.Second
	serverDownFor   = 500 * time.Millisecond
	crashes         = 3
	churnPodsAtMost = 150 // pods that one writer creates while servers crash
)

// work drives the apiserver and keeps the books.
type work struct {
	client  kubernetes.Interface
	ledger  *ledger
	calm    atomic.Bool // the judged server is up: no error is excused
	failed  atomic.Int64
	refused atomic.Int64
}

// write runs one write and notes how it ended. It returns whether it was acknowledged.
func (w *work) write(
	ctx context.Context, k key, do func(context.Context) (object, error),
) bool {
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	calm := w.calm.Load()
	written, err := do(ctx)
	if err == nil {
		w.ledger.acknowledge(k.resource, written)
		return true
	}
	w.fail(k, calm, err)
	return false
}

func (w *work) delete(ctx context.Context, k key) bool {
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	calm := w.calm.Load()
	var err error
	if k.resource == podsName {
		err = w.client.CoreV1().Pods(k.namespace).Delete(ctx, k.name, metav1.DeleteOptions{})
	} else {
		err = w.client.CoreV1().ConfigMaps(k.namespace).Delete(ctx, k.name, metav1.DeleteOptions{})
	}
	if err == nil {
		w.ledger.acknowledgeDelete(k)
		return true
	}
	w.fail(k, calm, err)
	return false
}

// fail notes a write without an answer that says what became of it.
func (w *work) fail(k key, calm bool, err error) {
	w.ledger.doubt(k)
	w.failed.Add(1)
	if calm && w.calm.Load() {
		w.ledger.violate("writing %v: %v", k, err)
	}
}

func (w *work) createPod(ctx context.Context, namespace, name string) bool {
	return w.write(ctx, key{podsName, namespace, name}, func(ctx context.Context) (object, error) {
		return w.client.CoreV1().Pods(namespace).
			Create(ctx, newPod(namespace, name), metav1.CreateOptions{})
	})
}

func (w *work) patchPod(
	ctx context.Context, namespace, name string, patch []byte, subresource ...string,
) bool {
	return w.write(ctx, key{podsName, namespace, name}, func(ctx context.Context) (object, error) {
		return w.client.CoreV1().Pods(namespace).Patch(
			ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, subresource...)
	})
}

func (w *work) createConfigMap(ctx context.Context, namespace, name string) bool {
	k := key{configMapsName, namespace, name}
	return w.write(ctx, k, func(ctx context.Context) (object, error) {
		return w.client.CoreV1().ConfigMaps(namespace).
			Create(ctx, newConfigMap(namespace, name), metav1.CreateOptions{})
	})
}

func podAt(i int) (namespace, name string) {
	return namespaceName(i % namespaces), fmt.Sprintf("pod-%04d", i)
}

func configMapAt(i int) (namespace, name string) {
	return namespaceName(i % namespaces), fmt.Sprintf("map-%04d", i)
}

// each runs do for 0 to count-1 on all writers.
func each(count int, do func(i int)) {
	var next atomic.Int64
	var wait sync.WaitGroup
	for range writers {
		wait.Go(func() {
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	wait.Wait()
}

func (w *work) createNamespaces(ctx context.Context) error {
	for i := range namespaces {
		n := &corev1.Namespace{}
		n.Name = namespaceName(i)
		_, err := w.client.CoreV1().Namespaces().Create(ctx, n, metav1.CreateOptions{})
		if err != nil {
			return err
		}
	}
	return nil
}

// fill creates all objects; every pod is patched twice, as a controller and a kubelet do.
// It calls halfway once, when half of them are there.
func (w *work) fill(ctx context.Context, halfway func()) {
	each(podCount+configMapCount, func(i int) {
		if i == (podCount+configMapCount)/2 {
			halfway()
		}
		if i%2 == 1 {
			namespace, name := configMapAt(i / 2)
			w.createConfigMap(ctx, namespace, name)
			return
		}
		namespace, name := podAt(i / 2)
		if w.createPod(ctx, namespace, name) {
			w.patchPod(ctx, namespace, name, markPatch(name))
			w.patchPod(ctx, namespace, name, statusPatch(name), "status")
		}
	})
}

// conflict lets all writers update the same object from the same state: one may succeed. Then it
// tries what has to be refused for a stale state, or for an object that exists.
func (w *work) conflict(ctx context.Context) (won int) {
	for round := range conflictRounds {
		namespace, name := configMapAt(round)
		k := key{configMapsName, namespace, name}
		maps := w.client.CoreV1().ConfigMaps(namespace)
		before, err := maps.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			w.ledger.violate("reading %v: %v", k, err)
			continue
		}
		refuse := func(err error, what string) {
			if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
				w.refused.Add(1)
			} else {
				w.ledger.violate("%s of %v: %v", what, k, err)
			}
		}
		var winners atomic.Int64
		each(writers, func(i int) {
			update := before.DeepCopy()
			update.Data["winner"] = fmt.Sprintf("round %d, writer %d", round, i)
			after, err := maps.Update(ctx, update, metav1.UpdateOptions{})
			if err != nil {
				refuse(err, "update")
				return
			}
			winners.Add(1)
			w.ledger.acknowledge(configMapsName, after)
		})
		if winners.Load() != 1 {
			w.ledger.violate("%d of %d updates of %v from one state succeeded",
				winners.Load(), writers, k)
		}
		won += int(winners.Load())

		stale := metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{ResourceVersion: &before.ResourceVersion},
		}
		refuse(maps.Delete(ctx, name, stale), "stale delete")
		_, err = maps.Create(ctx, newConfigMap(namespace, name), metav1.CreateOptions{})
		refuse(err, "second create")
	}
	return won
}

// deleteSome deletes a part of the objects one by one and all configmaps of the last namespace with
// one request.
func (w *work) deleteSome(ctx context.Context) (deleted int) {
	var count atomic.Int64
	each(podCount/deleteEvery, func(i int) {
		namespace, name := podAt(i*deleteEvery + deletePod)
		k := key{podsName, namespace, name}
		if w.delete(ctx, k) {
			count.Add(1)
		}
		_, err := w.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			w.ledger.violate("reading %v after its delete: %v", k, err)
		}
	})
	const last = namespaces - 1
	each(configMapCount/deleteEvery, func(i int) {
		namespace, name := configMapAt(i * deleteEvery)
		if namespace != namespaceName(last) && w.delete(ctx, key{configMapsName, namespace, name}) {
			count.Add(1)
		}
	})
	maps := w.client.CoreV1().ConfigMaps(namespaceName(last))
	if err := maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		w.ledger.violate("deleting all configmaps of %s: %v", namespaceName(last), err)
	}
	for i := last; i < configMapCount; i += namespaces {
		namespace, name := configMapAt(i)
		w.ledger.acknowledgeDelete(key{configMapsName, namespace, name})
		count.Add(1)
	}
	return int(count.Load())
}

// churn writes until it is stopped, with errors or not. Each writer has objects of its own, so
// nothing but a crash can excuse a conflict.
func (w *work) churn(ctx context.Context, stop <-chan struct{}, writer, round int) {
	random := rand.New(rand.NewPCG(uint64(writer), uint64(round)))
	var pods, maps []key
	for i := range podCount {
		if i%deleteEvery != deletePod && i/deleteEvery%writers == writer {
			namespace, name := podAt(i)
			pods = append(pods, key{podsName, namespace, name})
		}
	}
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		namespace := namespaceName(random.IntN(namespaces))
		name := fmt.Sprintf("churn-%d-%d-%05d", round, writer, n)
		done := true
		switch choice := random.IntN(10); {
		case choice < 3 && n < churnPodsAtMost*10/3:
			if done = w.createPod(ctx, namespace, name); done {
				pods = append(pods, key{podsName, namespace, name})
			}
		case choice < 6:
			pod := pods[random.IntN(len(pods))]
			done = w.patchPod(ctx, pod.namespace, pod.name, markPatch(name))
		case choice < 8 || len(maps) == 0:
			if done = w.createConfigMap(ctx, namespace, name); done {
				maps = append(maps, key{configMapsName, namespace, name})
			}
		case choice < 9:
			done = w.updateConfigMap(ctx, maps[random.IntN(len(maps))], name)
		default:
			last := len(maps) - 1
			done = w.delete(ctx, maps[last])
			maps = maps[:last]
		}
		if !done {
			time.Sleep(churnPause)
		}
	}
}

func (w *work) updateConfigMap(ctx context.Context, k key, mark string) bool {
	maps := w.client.CoreV1().ConfigMaps(k.namespace)
	return w.write(ctx, k, func(ctx context.Context) (object, error) {
		current, err := maps.Get(ctx, k.name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		current.Data["mark"] = mark
		return maps.Update(ctx, current, metav1.UpdateOptions{})
	})
}

// fence writes one object of each resource and returns their revisions: whoever has seen these has
// seen all that was written before. After a crash it takes a while until a write succeeds.
func (w *work) fence(ctx context.Context) (fences map[string]int64, ok bool) {
	fences = map[string]int64{}
	for n := 0; ctx.Err() == nil; n++ {
		name := fmt.Sprintf("fence-%d", time.Now().UnixNano())
		for _, resource := range []string{podsName, configMapsName} {
			if fences[resource] != 0 {
				continue
			}
			create := w.createPod
			if resource == configMapsName {
				create = w.createConfigMap
			}
			if !create(ctx, namespaceName(0), name) {
				continue
			}
			w.ledger.mu.Lock()
			for revision := range w.ledger.writes[key{resource, namespaceName(0), name}] {
				fences[resource] = revision
			}
			w.ledger.mu.Unlock()
		}
		if len(fences) == 2 {
			return fences, true
		}
		pause(ctx, retryPause)
	}
	return nil, false
}
