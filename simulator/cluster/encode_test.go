package cluster_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/simulator/cluster"
)

func shop(t *testing.T) *cluster.Objects {
	t.Helper()
	text, err := os.ReadFile("testdata/shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, string(text))
}

func files(t *testing.T, o *cluster.Objects) map[string][]byte {
	t.Helper()
	f, err := cluster.Files(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFilesComeBackAsTheyWere(t *testing.T) {
	first := files(t, shop(t))
	var back cluster.Objects
	for _, name := range []string{"namespaces.yaml", "nodes.yaml", "pods.yaml", "services.yaml", "endpointslices.yaml", "networkpolicies.yaml", "otherpolicies.yaml"} {
		if len(first[name]) == 0 {
			t.Fatalf("no %s", name)
		}
		if err := cluster.Decode(name, first[name], &back); err != nil {
			t.Fatal(err)
		}
	}
	if len(first) != 7 {
		t.Errorf("%d files, want 7", len(first))
	}
	original := shop(t)
	if len(back.Pods) != len(original.Pods) || len(back.Nodes) != len(original.Nodes) || len(back.Namespaces) != len(original.Namespaces) {
		t.Errorf("objects were lost")
	}
	byName := func(o *cluster.Objects) {
		slices.SortFunc(o.EndpointSlices, func(a, b slice) int { return strings.Compare(a.Name, b.Name) })
		slices.SortFunc(o.Services, func(a, b service) int { return strings.Compare(a.Name, b.Name) })
		for i := range o.EndpointSlices {
			o.EndpointSlices[i].TypeMeta = back.EndpointSlices[0].TypeMeta
		}
	}
	byName(&back)
	byName(original)
	if diff := cmp.Diff(original.EndpointSlices, back.EndpointSlices); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(original.Services, back.Services); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(original.NetworkPolicies, back.NetworkPolicies); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(original.OtherPolicies, back.OtherPolicies); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(first, files(t, &back)); diff != "" {
		t.Errorf("a second round changes the files: %s", diff)
	}
}

func TestFilesDoNotDependOnTheOrderOfObjects(t *testing.T) {
	o := shop(t)
	first := files(t, o)
	slices.Reverse(o.Pods)
	slices.Reverse(o.Nodes)
	slices.Reverse(o.EndpointSlices)
	if diff := cmp.Diff(first, files(t, o)); diff != "" {
		t.Error(diff)
	}
}

func TestFilesKeepNothingPrivate(t *testing.T) {
	all := ""
	for _, text := range files(t, shop(t)) {
		all += string(text)
	}
	for _, private := range []string{
		"hidden", "PASSWORD", "env", "command", "args", "imagePullSecrets", "volumes", "managedFields",
		"alice", "example.com/note", "registry.example", "secret-machine", "is posting",
	} {
		if strings.Contains(all, private) {
			t.Errorf("%q is in the files", private)
		}
	}
	for _, kept := range []string{"flannel.alpha.coreos.com/public-ip", "CrashLoopBackOff", "nodeName: a", "hostNetwork: true", "hostPort: 9001", "kernelVersion: 6.1.0", "tier: front"} {
		if !strings.Contains(all, kept) {
			t.Errorf("%q is not in the files", kept)
		}
	}
}

func TestFilesOfNothing(t *testing.T) {
	if f := files(t, &cluster.Objects{}); len(f) != 0 {
		t.Errorf("got %d files", len(f))
	}
}
