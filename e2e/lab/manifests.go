package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// writeManifests writes the Kubernetes objects that an API server would hold for this cluster, one file a kind.
func writeManifests(s *Spec, dir string) error {
	files := map[string][]any{
		"namespaces.yaml":     namespaces(s),
		"nodes.yaml":          nodes(s),
		"pods.yaml":           pods(s),
		"services.yaml":       services(s),
		"endpointslices.yaml": endpointSlices(s),
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create manifests: %w", err)
	}
	for name, objects := range files {
		if err := writeYAML(filepath.Join(dir, name), objects); err != nil {
			return err
		}
	}
	return nil
}

// writeYAML writes objects as the documents of one YAML stream.
func writeYAML(path string, objects []any) error {
	var b strings.Builder
	for _, o := range objects {
		data, err := yaml.Marshal(o)
		if err != nil {
			return fmt.Errorf("marshal %s: %w", filepath.Base(path), err)
		}
		b.WriteString("---\n")
		b.Write(data)
	}
	if err := writeFile(path, []byte(b.String())); err != nil {
		return fmt.Errorf("write manifests: %w", err)
	}
	return nil
}

// uid is stable across runs, so that two bundles of the same lab can be compared.
func uid(kind, id string) types.UID {
	h := digest(kind + "/" + id)
	return types.UID(fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:32]))
}

func namespaces(s *Spec) []any {
	var out []any
	seen := map[string]bool{}
	add := func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		out = append(out, &corev1.Namespace{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: uid("Namespace", name), Labels: map[string]string{corev1.LabelMetadataName: name}},
			Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
		})
	}
	for _, p := range s.Pods {
		add(p.Namespace)
	}
	for _, svc := range s.Services {
		add(svc.Namespace)
	}
	return out
}

func nodes(s *Spec) []any {
	var out []any
	for _, n := range s.Nodes {
		node := &corev1.Node{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
			ObjectMeta: metav1.ObjectMeta{Name: n.Name, UID: uid("Node", n.Name), Labels: map[string]string{corev1.LabelHostname: n.Name, corev1.LabelOSStable: "linux"}},
			Spec:       corev1.NodeSpec{PodCIDR: n.PodCIDRs[0].String()},
			Status: corev1.NodeStatus{
				Conditions: []corev1.NodeCondition{
					{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasSufficientMemory"},
					{Type: corev1.NodeDiskPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasNoDiskPressure"},
					{Type: corev1.NodePIDPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasSufficientPID"},
					{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"},
				},
				Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: n.Name}},
			},
		}
		for _, p := range n.PodCIDRs {
			node.Spec.PodCIDRs = append(node.Spec.PodCIDRs, p.String())
		}
		for _, a := range n.Addresses {
			node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
		}
		out = append(out, node)
	}
	return out
}

func pods(s *Spec) []any {
	var out []any
	for _, p := range s.Pods {
		pod := &corev1.Pod{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
			ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace, UID: uid("Pod", p.ID()), Labels: p.Labels},
			Spec: corev1.PodSpec{
				NodeName:   p.Node,
				Containers: []corev1.Container{{Name: "main", Image: "lab"}},
			},
			Status: corev1.PodStatus{
				Phase:  corev1.PodRunning,
				PodIP:  p.Addresses[0].String(),
				HostIP: s.node(p.Node).Addresses[0].String(),
				ContainerStatuses: []corev1.ContainerStatus{{
					Name: "main", Image: "lab", Ready: true, Started: new(true),
					State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
				}},
			},
		}
		for _, port := range p.Ports {
			pod.Spec.Containers[0].Ports = append(pod.Spec.Containers[0].Ports, corev1.ContainerPort{
				Name: port.Name, ContainerPort: int32(port.Port), Protocol: corev1.Protocol(port.Protocol),
			})
		}
		for _, a := range p.Addresses {
			pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: a.String()})
		}
		for _, a := range s.node(p.Node).Addresses {
			pod.Status.HostIPs = append(pod.Status.HostIPs, corev1.HostIP{IP: a.String()})
		}
		for _, c := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
			pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: c, Status: corev1.ConditionTrue})
		}
		out = append(out, pod)
	}
	return out
}

func services(s *Spec) []any {
	var out []any
	for _, svc := range s.Services {
		o := &corev1.Service{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
			ObjectMeta: metav1.ObjectMeta{Name: svc.Name, Namespace: svc.Namespace, UID: uid("Service", svc.ID())},
			Spec: corev1.ServiceSpec{
				Type:                  corev1.ServiceTypeClusterIP,
				Selector:              svc.Selector,
				ClusterIP:             svc.ClusterIPs[0].String(),
				IPFamilies:            []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
				IPFamilyPolicy:        new(corev1.IPFamilyPolicyRequireDualStack),
				SessionAffinity:       corev1.ServiceAffinityNone,
				InternalTrafficPolicy: new(corev1.ServiceInternalTrafficPolicyCluster),
			},
		}
		for _, a := range svc.ClusterIPs {
			o.Spec.ClusterIPs = append(o.Spec.ClusterIPs, a.String())
		}
		for _, p := range svc.Ports {
			o.Spec.Ports = append(o.Spec.Ports, corev1.ServicePort{
				Name: p.Name, Port: int32(p.Port), Protocol: corev1.Protocol(p.Protocol), TargetPort: intstr.FromString(p.TargetPort), NodePort: int32(p.NodePort),
			})
			if p.NodePort != 0 {
				o.Spec.Type = corev1.ServiceTypeNodePort
				o.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
			}
		}
		out = append(out, o)
	}
	return out
}

func endpointSlices(s *Spec) []any {
	var out []any
	for _, svc := range s.Services {
		for f, addressType := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
			name := svc.Name + "-" + digest(svc.ID() + string(addressType))[:5]
			slice := &discoveryv1.EndpointSlice{
				TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
				ObjectMeta: metav1.ObjectMeta{
					Name: name, Namespace: svc.Namespace, UID: uid("EndpointSlice", svc.Namespace+"/"+name),
					Labels: map[string]string{
						discoveryv1.LabelServiceName: svc.Name,
						discoveryv1.LabelManagedBy:   "endpointslice-controller.k8s.io",
					},
					OwnerReferences: []metav1.OwnerReference{{
						APIVersion: "v1", Kind: "Service", Name: svc.Name, UID: uid("Service", svc.ID()),
						Controller: new(true), BlockOwnerDeletion: new(true),
					}},
				},
				AddressType: addressType,
			}
			backends := s.backends(svc)
			for _, p := range svc.Ports {
				if len(backends) == 0 {
					break
				}
				target, _ := backends[0].target(p)
				slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{
					Name: new(p.Name), Port: new(int32(target)), Protocol: new(corev1.Protocol(p.Protocol)),
				})
			}
			for _, b := range backends {
				slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
					Addresses:  []string{b.Addresses[f].String()},
					Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
					NodeName:   new(b.Node),
					TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: b.Namespace, Name: b.Name, UID: uid("Pod", b.ID())},
				})
			}
			out = append(out, slice)
		}
	}
	return out
}

// denyPolicy is the NetworkPolicy of the fault network-policy: it isolates the pods that carry the same labels as
// Roles.Far for ingress, and allows Roles.Allowed alone.
func denyPolicy(s *Spec) *networkingv1.NetworkPolicy {
	far := s.role(s.Roles.Far)
	name := policyName(s)
	return &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: far.Namespace, UID: uid("NetworkPolicy", far.Namespace+"/"+name)},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: far.Labels},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: s.Roles.Allowed}}},
			}},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		},
	}
}

func policyName(s *Spec) string {
	far := s.role(s.Roles.Far)
	if app := far.Labels["app"]; app != "" {
		return app + "-isolated"
	}
	return far.Name + "-isolated"
}
