package cluster

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// annotations that networking depends on; all others are left out of bundles.
var annotations = [...]string{
	"flannel.alpha.coreos.com/backend-data",
	"flannel.alpha.coreos.com/backend-type",
	"flannel.alpha.coreos.com/backend-v6-data",
	"flannel.alpha.coreos.com/public-ip",
	"flannel.alpha.coreos.com/public-ipv6",
	"k8s.v1.cni.cncf.io/network-status",
	"projectcalico.org/IPv4Address",
	"projectcalico.org/IPv4IPIPTunnelAddr",
	"projectcalico.org/IPv4VXLANTunnelAddr",
	"projectcalico.org/IPv6Address",
	"projectcalico.org/IPv6VXLANTunnelAddr",
	"service.kubernetes.io/topology-mode",
}

// Files writes objects as YAML, by file name, one list of each kind. A bundle
// is given to strangers: only what a diagnosis reads is kept, field by field.
// Environments, commands, images, volumes, messages and most annotations are not.
// The same objects in any order give the same bytes; kinds without an object give
// no file.
func Files(o *Objects) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := errors.Join(
		addFile(files, "namespaces.yaml", o.Namespaces, KeepNamespace),
		addFile(files, "nodes.yaml", o.Nodes, KeepNode),
		addFile(files, "pods.yaml", o.Pods, KeepPod),
		addFile(files, "services.yaml", o.Services, KeepService),
		addFile(files, "endpointslices.yaml", o.EndpointSlices, KeepEndpointSlice),
		addFile(files, "networkpolicies.yaml", o.NetworkPolicies, KeepNetworkPolicy),
		addFile(files, "otherpolicies.yaml", o.OtherPolicies, keepRef),
		addFile(files, "adminpolicies.yaml", o.AdminPolicies, keepAdminPolicy),
	)
	if err != nil {
		return nil, err
	}
	return files, nil
}

func addFile[T, K any](files map[string][]byte, file string, objects []T, keep func(*T) K) error {
	if len(objects) == 0 {
		return nil
	}
	type item struct {
		name   string
		fields map[string]any
	}
	items := make([]item, len(objects))
	for i := range objects {
		fields, err := toFields(keep(&objects[i]))
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		items[i] = item{sortKey(fields), fields}
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Compare(a.name, b.name) })
	list := make([]any, len(items))
	for i := range items {
		list[i] = items[i].fields
	}
	text, err := yaml.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": list})
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	files[file] = text
	return nil
}

func toFields(object any) (fields map[string]any, err error) {
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	return fields, json.Unmarshal(text, &fields)
}

func sortKey(fields map[string]any) string {
	meta, _ := fields["metadata"].(map[string]any)
	return fmt.Sprint(meta["namespace"], "/", meta["name"], "/", fields["kind"])
}

func keepRef(r *ObjectRef) metav1.PartialObjectMetadata {
	return metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: r.APIVersion, Kind: r.Kind},
		ObjectMeta: metav1.ObjectMeta{Name: r.Name, Namespace: r.Namespace},
	}
}

func keepMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	kept := metav1.ObjectMeta{
		Name:              m.Name,
		Namespace:         m.Namespace,
		UID:               m.UID, // names a pod's cgroup
		CreationTimestamp: m.CreationTimestamp,
		DeletionTimestamp: m.DeletionTimestamp,
		Labels:            m.Labels,
	}
	for _, key := range annotations {
		if value, ok := m.Annotations[key]; ok {
			if kept.Annotations == nil {
				kept.Annotations = map[string]string{}
			}
			kept.Annotations[key] = value
		}
	}
	return kept
}

// KeepNamespace returns what is kept of a namespace: what Files writes, and all that a
// diagnosis reads. Parts are shared with the original. So do the others below.
func KeepNamespace(o *corev1.Namespace) corev1.Namespace {
	return corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: keepMeta(&o.ObjectMeta), Status: corev1.NamespaceStatus{Phase: o.Status.Phase}}
}

// KeepNode is KeepNamespace for nodes. The times of heartbeats are not kept: they
// change all the time and say nothing.
func KeepNode(o *corev1.Node) corev1.Node {
	kept := corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: keepMeta(&o.ObjectMeta),
		Spec: corev1.NodeSpec{
			PodCIDR:       o.Spec.PodCIDR,
			PodCIDRs:      o.Spec.PodCIDRs,
			ProviderID:    o.Spec.ProviderID,
			Unschedulable: o.Spec.Unschedulable,
		},
		Status: corev1.NodeStatus{
			Addresses: o.Status.Addresses,
			NodeInfo: corev1.NodeSystemInfo{
				KernelVersion:           o.Status.NodeInfo.KernelVersion,
				OSImage:                 o.Status.NodeInfo.OSImage,
				OperatingSystem:         o.Status.NodeInfo.OperatingSystem,
				Architecture:            o.Status.NodeInfo.Architecture,
				KubeletVersion:          o.Status.NodeInfo.KubeletVersion,
				ContainerRuntimeVersion: o.Status.NodeInfo.ContainerRuntimeVersion,
			},
		},
	}
	for _, c := range o.Status.Conditions {
		kept.Status.Conditions = append(kept.Status.Conditions, corev1.NodeCondition{
			Type: c.Type, Status: c.Status, Reason: c.Reason, LastTransitionTime: c.LastTransitionTime,
		})
	}
	return kept
}

// KeepPod is KeepNamespace for pods.
func KeepPod(o *corev1.Pod) corev1.Pod {
	kept := corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: keepMeta(&o.ObjectMeta),
		Spec: corev1.PodSpec{
			NodeName:       o.Spec.NodeName,
			HostNetwork:    o.Spec.HostNetwork,
			Hostname:       o.Spec.Hostname,
			Subdomain:      o.Spec.Subdomain,
			DNSPolicy:      o.Spec.DNSPolicy,
			DNSConfig:      o.Spec.DNSConfig,
			HostAliases:    o.Spec.HostAliases,
			ReadinessGates: o.Spec.ReadinessGates,
			InitContainers: keepContainers(o.Spec.InitContainers),
			Containers:     keepContainers(o.Spec.Containers),
		},
		Status: corev1.PodStatus{
			Phase:                 o.Status.Phase,
			Reason:                o.Status.Reason,
			HostIP:                o.Status.HostIP,
			HostIPs:               o.Status.HostIPs,
			PodIP:                 o.Status.PodIP,
			PodIPs:                o.Status.PodIPs,
			StartTime:             o.Status.StartTime,
			InitContainerStatuses: keepStatuses(o.Status.InitContainerStatuses),
			ContainerStatuses:     keepStatuses(o.Status.ContainerStatuses),
		},
	}
	for _, c := range o.Status.Conditions {
		kept.Status.Conditions = append(kept.Status.Conditions, corev1.PodCondition{
			Type: c.Type, Status: c.Status, Reason: c.Reason, LastTransitionTime: c.LastTransitionTime,
		})
	}
	return kept
}

func keepContainers(list []corev1.Container) []corev1.Container {
	var kept []corev1.Container
	for i := range list {
		kept = append(kept, corev1.Container{Name: list[i].Name, Ports: list[i].Ports, RestartPolicy: list[i].RestartPolicy})
	}
	return kept
}

func keepStatuses(list []corev1.ContainerStatus) []corev1.ContainerStatus {
	var kept []corev1.ContainerStatus
	for i := range list {
		s := &list[i]
		kept = append(kept, corev1.ContainerStatus{
			Name:         s.Name,
			Ready:        s.Ready,
			Started:      s.Started,
			RestartCount: s.RestartCount,
			ContainerID:  s.ContainerID, // names a container's cgroup
			State:        keepState(&s.State),
		})
	}
	return kept
}

func keepState(s *corev1.ContainerState) corev1.ContainerState {
	kept := corev1.ContainerState{Running: s.Running}
	if s.Waiting != nil {
		kept.Waiting = &corev1.ContainerStateWaiting{Reason: s.Waiting.Reason}
	}
	if s.Terminated != nil {
		kept.Terminated = &corev1.ContainerStateTerminated{
			Reason:     s.Terminated.Reason,
			ExitCode:   s.Terminated.ExitCode,
			Signal:     s.Terminated.Signal,
			StartedAt:  s.Terminated.StartedAt,
			FinishedAt: s.Terminated.FinishedAt,
		}
	}
	return kept
}

// KeepService is KeepNamespace for services.
func KeepService(o *corev1.Service) corev1.Service {
	s := &o.Spec
	kept := corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: keepMeta(&o.ObjectMeta),
		Spec: corev1.ServiceSpec{
			Type:                          s.Type,
			Ports:                         s.Ports,
			Selector:                      s.Selector,
			ClusterIP:                     s.ClusterIP,
			ClusterIPs:                    s.ClusterIPs,
			IPFamilies:                    s.IPFamilies,
			IPFamilyPolicy:                s.IPFamilyPolicy,
			ExternalIPs:                   s.ExternalIPs,
			ExternalName:                  s.ExternalName,
			ExternalTrafficPolicy:         s.ExternalTrafficPolicy,
			InternalTrafficPolicy:         s.InternalTrafficPolicy,
			TrafficDistribution:           s.TrafficDistribution,
			HealthCheckNodePort:           s.HealthCheckNodePort,
			LoadBalancerIP:                s.LoadBalancerIP,
			LoadBalancerClass:             s.LoadBalancerClass,
			LoadBalancerSourceRanges:      s.LoadBalancerSourceRanges,
			AllocateLoadBalancerNodePorts: s.AllocateLoadBalancerNodePorts,
			PublishNotReadyAddresses:      s.PublishNotReadyAddresses,
			SessionAffinity:               s.SessionAffinity,
			SessionAffinityConfig:         s.SessionAffinityConfig,
		},
	}
	for _, in := range o.Status.LoadBalancer.Ingress {
		kept.Status.LoadBalancer.Ingress = append(kept.Status.LoadBalancer.Ingress,
			corev1.LoadBalancerIngress{IP: in.IP, Hostname: in.Hostname, IPMode: in.IPMode})
	}
	return kept
}

// KeepEndpointSlice is KeepNamespace for endpoint slices.
func KeepEndpointSlice(o *discoveryv1.EndpointSlice) discoveryv1.EndpointSlice {
	kept := discoveryv1.EndpointSlice{TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"}, ObjectMeta: keepMeta(&o.ObjectMeta), AddressType: o.AddressType, Ports: o.Ports}
	for i := range o.Endpoints {
		e := &o.Endpoints[i]
		k := discoveryv1.Endpoint{
			Addresses: e.Addresses, Conditions: e.Conditions, Hostname: e.Hostname,
			NodeName: e.NodeName, Zone: e.Zone, Hints: e.Hints,
		}
		if e.TargetRef != nil {
			k.TargetRef = &corev1.ObjectReference{Kind: e.TargetRef.Kind, Namespace: e.TargetRef.Namespace, Name: e.TargetRef.Name}
		}
		kept.Endpoints = append(kept.Endpoints, k)
	}
	return kept
}

// KeepNetworkPolicy is KeepNamespace for network policies.
func KeepNetworkPolicy(o *networkingv1.NetworkPolicy) networkingv1.NetworkPolicy {
	return networkingv1.NetworkPolicy{TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}, ObjectMeta: keepMeta(&o.ObjectMeta), Spec: o.Spec}
}
