package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

const (
	podsName        = "pods"
	configMapsName  = "configmaps"
	namespacePrefix = "judged-"
)

// object is what the judge needs of a pod or a configmap.
type object interface {
	metav1.Object
	Marshal() ([]byte, error)
}

// kind is one of the two resources, without its Go type.
type kind struct {
	name  string
	list  func(context.Context, metav1.ListOptions) (metav1.ListMeta, []object, error)
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
}

func podKind(client kubernetes.Interface) kind {
	pods := client.CoreV1().Pods(metav1.NamespaceAll)
	return kind{
		name:  podsName,
		watch: pods.Watch,
		list: func(ctx context.Context, o metav1.ListOptions) (metav1.ListMeta, []object, error) {
			list, err := pods.List(ctx, o)
			if err != nil {
				return metav1.ListMeta{}, nil, err
			}
			objects := make([]object, len(list.Items))
			for i := range list.Items {
				objects[i] = &list.Items[i]
			}
			return list.ListMeta, objects, nil
		},
	}
}

func configMapKind(client kubernetes.Interface) kind {
	maps := client.CoreV1().ConfigMaps(metav1.NamespaceAll)
	return kind{
		name:  configMapsName,
		watch: maps.Watch,
		list: func(ctx context.Context, o metav1.ListOptions) (metav1.ListMeta, []object, error) {
			list, err := maps.List(ctx, o)
			if err != nil {
				return metav1.ListMeta{}, nil, err
			}
			objects := make([]object, len(list.Items))
			for i := range list.Items {
				objects[i] = &list.Items[i]
			}
			return list.ListMeta, objects, nil
		},
	}
}

func namespaceName(i int) string { return fmt.Sprintf("%s%02d", namespacePrefix, i) }

// revisionOf parses a resource version as the store revision that it is.
func revisionOf(resourceVersion string) int64 {
	revision, err := strconv.ParseInt(resourceVersion, 10, 64)
	if err != nil {
		return -1
	}
	return revision
}

// newConfigMap makes a configmap of about 2 KB.
func newConfigMap(namespace, name string) *corev1.ConfigMap {
	m := &corev1.ConfigMap{Data: map[string]string{}}
	m.Namespace, m.Name = namespace, name
	m.Labels = map[string]string{"app.kubernetes.io/name": name}
	for i := range 20 {
		m.Data[fmt.Sprintf("setting-%02d", i)] = filler(name, 80)
	}
	return m
}

// newPod makes a pod that takes about 12 KB in the store once it has a status.
func newPod(namespace, name string) *corev1.Pod {
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name = namespace, name
	pod.Labels = map[string]string{
		"app.kubernetes.io/name":     "checkout",
		"app.kubernetes.io/instance": name,
		"pod-template-hash":          "6d4b75cb6d",
	}
	pod.Annotations = map[string]string{"judge/template": filler(name, 700)}
	pod.Spec.TerminationGracePeriodSeconds = new(int64)
	pod.Spec.NodeSelector = map[string]string{"topology.kubernetes.io/zone": "zone-a"}
	pod.Spec.Tolerations = []corev1.Toleration{
		{Key: "node.kubernetes.io/not-ready", Operator: "Exists", Effect: "NoExecute"},
	}
	for i := range 4 {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{
			Name: fmt.Sprintf("config-%d", i),
			VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{
					Name: fmt.Sprintf("%s-%d", name, i),
				},
			}},
		})
	}
	for i := range 2 {
		pod.Spec.Containers = append(pod.Spec.Containers, newContainer(name, i, pod.Spec.Volumes))
	}
	return pod
}

func newContainer(pod string, number int, volumes []corev1.Volume) corev1.Container {
	probe := &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)},
		},
		PeriodSeconds: 10,
	}
	container := corev1.Container{
		Name:           fmt.Sprintf("container-%d", number),
		Image:          "registry.example/team/checkout:v1.2.3@sha256:" + strings.Repeat("0f", 32),
		Args:           []string{"--config=/etc/config-0/checkout.yaml", "--shard=" + pod},
		Ports:          []corev1.ContainerPort{{ContainerPort: int32(8080 + number)}},
		LivenessProbe:  probe,
		ReadinessProbe: probe,
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("250m"),
			corev1.ResourceMemory: resource.MustParse("512Mi"),
		}},
	}
	for i := range 20 {
		container.Env = append(container.Env, corev1.EnvVar{
			Name: fmt.Sprintf("CHECKOUT_SETTING_%02d", i), Value: filler(pod, 60),
		})
	}
	for _, volume := range volumes {
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{
			Name: volume.Name, MountPath: "/etc/" + volume.Name, ReadOnly: true,
		})
	}
	return container
}

// filler is text of the given length that differs from object to object.
func filler(name string, length int) string {
	return strings.Repeat(name+"/", length/(len(name)+1)+1)[:length]
}

// markPatch is a patch of an object's metadata that no other write equals.
func markPatch(mark string) []byte {
	return fmt.Appendf(nil,
		`{"metadata":{"annotations":{"judge/mark":%q},"labels":{"judge/marked":"true"}}}`, mark)
}

// statusPatch is a patch as a kubelet sends it when the pod's containers run.
func statusPatch(mark string) []byte {
	const containerStatus = `{"name":"container-%d","image":"checkout:v1.2.3","imageID":"%s",` +
		`"containerID":"containerd://%s","ready":true,"started":true,"restartCount":0,` +
		`"state":{"running":{"startedAt":"2026-01-01T00:00:00Z"}}}`
	const condition = `{"type":%q,"status":"True","reason":%q,` +
		`"lastTransitionTime":"2026-01-01T00:00:00Z"}`
	var containers, conditions []string
	for i := range 2 {
		containers = append(containers,
			fmt.Sprintf(containerStatus, i, filler("sha256", 70), filler(mark, 64)))
	}
	for _, name := range []string{"PodScheduled", "Initialized", "ContainersReady", "Ready"} {
		conditions = append(conditions, fmt.Sprintf(condition, name, filler(mark, 40)))
	}
	return fmt.Appendf(nil, `{"status":{"phase":"Running","hostIP":"10.1.2.3","podIP":"10.2.3.4",`+
		`"podIPs":[{"ip":"10.2.3.4"}],"startTime":"2026-01-01T00:00:00Z",`+
		`"conditions":[%s],"containerStatuses":[%s]}}`,
		strings.Join(conditions, ","), strings.Join(containers, ","))
}
