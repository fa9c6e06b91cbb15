package lab

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

// decode reads the documents of a manifest as a client of Kubernetes does, and refuses unknown fields.
func decode[T any](t *testing.T, path string) []T {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []T
	for doc := range bytes.SplitSeq(bytes.TrimPrefix(data, []byte("---\n")), []byte("\n---\n")) {
		var o T
		if err := yaml.UnmarshalStrict(doc, &o); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out = append(out, o)
	}
	return out
}

func TestManifestsDescribeTheClusterThatTheSpecDescribes(t *testing.T) {
	s, err := DefaultSpec()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := writeManifests(s, dir); err != nil {
		t.Fatal(err)
	}
	var got []string
	say := func(format string, args ...any) { got = append(got, fmt.Sprintf(format, args...)) }
	for _, n := range decode[corev1.Node](t, filepath.Join(dir, "nodes.yaml")) {
		i := slices.IndexFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
		say("node %s %v %v ready=%s", n.Name, n.Status.Addresses, n.Spec.PodCIDRs, n.Status.Conditions[i].Status)
	}
	for _, p := range decode[corev1.Pod](t, filepath.Join(dir, "pods.yaml")) {
		say("pod %s/%s on %s %v %v %s ready=%t ports=%d", p.Namespace, p.Name, p.Spec.NodeName, p.Status.PodIPs, p.Labels, p.Status.Phase, p.Status.ContainerStatuses[0].Ready, len(p.Spec.Containers[0].Ports))
	}
	for _, v := range decode[corev1.Service](t, filepath.Join(dir, "services.yaml")) {
		say("service %s/%s %s %v %v %s->%s", v.Namespace, v.Name, v.Spec.Type, v.Spec.ClusterIPs, v.Spec.Selector, v.Spec.Ports[0].Name, v.Spec.Ports[0].TargetPort.String())
	}
	for _, e := range decode[discoveryv1.EndpointSlice](t, filepath.Join(dir, "endpointslices.yaml")) {
		text := fmt.Sprintf("slice of %s %s", e.Labels[discoveryv1.LabelServiceName], e.AddressType)
		for _, p := range e.Ports {
			text += fmt.Sprintf(" %s=%d/%s", *p.Name, *p.Port, *p.Protocol)
		}
		for _, ep := range e.Endpoints {
			text += fmt.Sprintf(" %v on %s is %s ready=%t", ep.Addresses, *ep.NodeName, ep.TargetRef.Name, *ep.Conditions.Ready)
		}
		say("%s", text)
	}
	if err := writeYAML(filepath.Join(dir, "networkpolicies.yaml"), []any{denyPolicy(s)}); err != nil {
		t.Fatal(err)
	}
	for _, p := range decode[networkingv1.NetworkPolicy](t, filepath.Join(dir, "networkpolicies.yaml")) {
		say("policy %s/%s for %v from %v %v", p.Namespace, p.Name, p.Spec.PodSelector.MatchLabels, p.Spec.Ingress[0].From[0].PodSelector.MatchLabels, p.Spec.PolicyTypes)
	}
	for _, n := range decode[corev1.Namespace](t, filepath.Join(dir, "namespaces.yaml")) {
		say("namespace %s %v", n.Name, n.Labels)
	}
	want := []string{
		"node node-1 [{Hostname node-1} {InternalIP 172.30.0.11} {InternalIP fd00:172:30::11}] [10.244.1.0/24 fd00:10:244:1::/64] ready=True",
		"node node-2 [{Hostname node-2} {InternalIP 172.30.0.12} {InternalIP fd00:172:30::12}] [10.244.2.0/24 fd00:10:244:2::/64] ready=True",
		"pod shop/web-0 on node-1 [{10.244.1.10} {fd00:10:244:1::10}] map[app:web] Running ready=true ports=1",
		"pod shop/api-0 on node-1 [{10.244.1.20} {fd00:10:244:1::20}] map[app:api] Running ready=true ports=2",
		"pod shop/api-1 on node-2 [{10.244.2.20} {fd00:10:244:2::20}] map[app:api] Running ready=true ports=2",
		"pod shop/db-0 on node-2 [{10.244.2.30} {fd00:10:244:2::30}] map[app:db] Running ready=true ports=1",
		"service shop/api NodePort [10.96.0.80 fd00:10:96::80] map[app:api] http->http",
		"service shop/db ClusterIP [10.96.0.90 fd00:10:96::90] map[app:db] postgres->postgres",
		"slice of api IPv4 http=8080/TCP dns=5353/UDP [10.244.1.20] on node-1 is api-0 ready=true [10.244.2.20] on node-2 is api-1 ready=true",
		"slice of api IPv6 http=8080/TCP dns=5353/UDP [fd00:10:244:1::20] on node-1 is api-0 ready=true [fd00:10:244:2::20] on node-2 is api-1 ready=true",
		"slice of db IPv4 postgres=5432/TCP [10.244.2.30] on node-2 is db-0 ready=true",
		"slice of db IPv6 postgres=5432/TCP [fd00:10:244:2::30] on node-2 is db-0 ready=true",
		"policy shop/api-isolated for map[app:api] from map[app:db] [Ingress]",
		"namespace shop map[kubernetes.io/metadata.name:shop]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%q\nwant:\n%q", got, want)
	}
}
