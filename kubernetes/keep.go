package kubernetes

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/plumbline-net/plumbline/simulator/cluster"
)

// keepPod is cluster.KeepPod with one copy of each text that many pods share.
// The pods of a cluster are most of what is kept of it.
func keepPod(o *corev1.Pod) corev1.Pod {
	p := cluster.KeepPod(o)
	p.Namespace, p.Labels = intern(p.Namespace), internMap(p.Labels)
	p.Spec.NodeName = intern(p.Spec.NodeName)
	p.Spec.DNSPolicy = corev1.DNSPolicy(intern(string(p.Spec.DNSPolicy)))
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			list[i].Name = intern(list[i].Name)
		}
	}
	s := &p.Status
	s.Phase, s.Reason, s.HostIP = corev1.PodPhase(intern(string(s.Phase))), intern(s.Reason), intern(s.HostIP)
	for i := range s.Conditions {
		c := &s.Conditions[i]
		c.Type, c.Status, c.Reason = corev1.PodConditionType(intern(string(c.Type))), corev1.ConditionStatus(intern(string(c.Status))), intern(c.Reason)
	}
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for i := range list {
			list[i].Name = intern(list[i].Name)
		}
	}
	return p
}

// keepEndpointSlice is the same for endpoint slices.
func keepEndpointSlice(o *discoveryv1.EndpointSlice) discoveryv1.EndpointSlice {
	s := cluster.KeepEndpointSlice(o)
	s.Namespace, s.Labels = intern(s.Namespace), internMap(s.Labels)
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		for _, text := range []*string{e.NodeName, e.Zone} {
			if text != nil {
				*text = intern(*text)
			}
		}
		if e.TargetRef != nil {
			e.TargetRef.Kind, e.TargetRef.Namespace = intern(e.TargetRef.Kind), intern(e.TargetRef.Namespace)
		}
	}
	return s
}
