package cluster_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/simulator/cluster"
)

// decode reads one document for a test.
func decode(t *testing.T, text string) *cluster.Objects {
	t.Helper()
	var o cluster.Objects
	if err := cluster.Decode("test.yaml", []byte(text), &o); err != nil {
		t.Fatal(err)
	}
	return &o
}

func podNames(o *cluster.Objects) []string {
	names := []string{}
	for _, p := range o.Pods {
		names = append(names, p.Namespace+"/"+p.Name)
	}
	return names
}

func TestDecodeReads(t *testing.T) {
	tests := []struct {
		name, text string
		pods       []string
	}{
		{"an empty file", "", []string{}},
		{"a file of comments and separators", "---\n# nothing\n---\n", []string{}},
		{"one YAML object", "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: n}\n", []string{"n/a"}},
		{"several YAML documents in order", `
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: n}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: n}
`, []string{"n/a", "n/b"}},
		{"a List, each item of which says its kind", `
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: a, namespace: n}
- apiVersion: v1
  kind: Secret
  metadata: {name: s, namespace: n}
`, []string{"n/a"}},
		{"a typed list, whose items say no kind", `{"apiVersion":"v1","kind":"PodList","items":[{"metadata":{"name":"a","namespace":"n"}}]}`, []string{"n/a"}},
		{"a list without items", "apiVersion: v1\nkind: PodList\nitems:\n", []string{}},
		{"several JSON objects", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"n"}}
{"apiVersion":"v1","kind":"Pod","metadata":{"name":"b","namespace":"n"}}`, []string{"n/a", "n/b"}},
		{"JSON indented with tabs and with an escaped emoji", "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Pod\",\n\t\"metadata\": {\"name\": \"a\", \"namespace\": \"n\", \"labels\": {\"x\": \"\\ud83d\\ude00\"}}\n}", []string{"n/a"}},
		{"an object without a namespace, which is in default", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", []string{"default/a"}},
		{"fields that a newer version may have", "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: n}\nspec: {quantumNetwork: [1, {x: y}]}\n", []string{"n/a"}},
		{"kinds that do not matter, and of other groups", `
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: a}
spec: {ports: not even a list}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: n}
`, []string{"n/a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := decode(t, tt.text)
			if diff := cmp.Diff(tt.pods, podNames(o)); diff != "" {
				t.Error(diff)
			}
			if len(o.Services) != 0 {
				t.Errorf("services of another group were taken: %v", o.Services)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: n}\n"
	tests := []struct{ name, text, want string }{
		{"broken YAML", pod + "spec:\n  nodeName: [\n", "cluster/x:5: did not find expected node content"},
		{"broken JSON", "{\n\"kind\": \"Pod\",\n}", "cluster/x:3: invalid character '}'"},
		{"JSON that ends too early", "{\n\"kind\":", "cluster/x:2: unexpected end of JSON input"},
		{"JSON with a missing comma", "{\n\"kind\": \"Pod\"\n\"a\": 1}", "cluster/x:3: invalid character '\"' after object key:value pair"},
		{"a scalar", "hello\n", `cluster/x:1: a Kubernetes object is expected at "hello"`},
		{"a sequence of objects", "- a\n", "cluster/x:1: a Kubernetes object is expected"},
		{"an object without a kind", "# c\nmetadata: {name: a}\n", "cluster/x:2: the object has no kind"},
		{"an object without an apiVersion", "kind: Pod\n", "cluster/x:1: the object of kind Pod has no apiVersion"},
		{"a kind that is no string", "apiVersion: v1\nkind: 7\n", `cluster/x:2: kind is not a string at "7"`},
		{"an item without a kind", "apiVersion: v1\nkind: List\nitems:\n- metadata: {name: a}\n", "cluster/x:4: the object has no kind"},
		{"items that are no list", "apiVersion: v1\nkind: PodList\nitems: {a: b}\n", `cluster/x:3: the items of a list are not a list at "items"`},
		{"a list within a list", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: List}\n", `cluster/x:4: a list within a list at "List"`},
		{"a number where text belongs", pod + "spec:\n  nodeName: 7\n", `cluster/x:5: Pod: a number where a string is expected at "spec.nodeName"`},
		{"text where a number belongs, in the second item", pod + "spec:\n  containers:\n  - ports:\n    - containerPort: 80\n    - containerPort: http\n", `cluster/x:8: Pod: a string where an integer is expected at "spec.containers.ports.containerPort"`},
		{"a port that overflows", pod + "spec:\n  containers:\n  - ports:\n    - containerPort: 5000000000\n", `cluster/x:7: Pod: the number 5000000000 where an integer is expected at "spec.containers.ports.containerPort"`},
		{"a mapping where a list belongs", pod + "spec:\n  containers:\n    name: a\n", `cluster/x:6: Pod: an object where a list is expected at "spec.containers"`},
		{"a list where a mapping belongs", pod + "status: []\n", `cluster/x:4: Pod: a list where an object is expected at "status"`},
		{"text where a boolean belongs", pod + "spec:\n  hostNetwork: \"true\"\n", `cluster/x:5: Pod: a string where a boolean is expected at "spec.hostNetwork"`},
		{"a targetPort that is neither number nor name", "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec:\n  ports:\n  - port: 80\n    targetPort: {}\n", `cluster/x:7: Service: an object where an integer is expected at "spec.ports.targetPort"`},
		{"a time that is none", pod + "status:\n  startTime: yesterday\n", `cluster/x:5: Pod: parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006" at "status.startTime"`},
		{"an object without a name", "apiVersion: v1\nkind: Pod\nmetadata: {namespace: n}\n", "cluster/x:1: Pod: it has no metadata.name"},
		{"a key that is there twice", pod + "spec:\n  nodeName: a\n  nodeName: b\n", `cluster/x:6: the key is there twice at "nodeName"`},
		{"an alias", pod + "spec: &s {nodeName: a}\nstatus: *s\n", `cluster/x:5: aliases are not read at "s"`},
		{"a merge", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  <<: {nodeName: a}\n", `cluster/x:5: not a key that an object may have at "<<"`},
		{"binary data", pod + "spec:\n  nodeName: !!binary aGVsbG8=\n", `cluster/x:5: values of type !!binary are not read at "spec.nodeName"`},
		{"infinity", pod + "spec:\n  priority: .inf\n", `cluster/x:5: not a number at ".inf"`},
		{"an integer of more than 64 bits", pod + "spec:\n  priority: 99999999999999999999\n", "cluster/x:5: Pod: the number 1e+20 where an integer is expected at \"spec.priority\""},
		{"JSON nested without end", "{\"kind\":" + strings.Repeat("[", 200), "cluster/x:1: nested deeper than 100 levels"},
		{"YAML nested without end", pod + "spec: " + strings.Repeat("[", 200) + strings.Repeat("]", 200), "cluster/x:4: nested deeper than 100 levels"},
		{"a version of a policy that clusters no longer serve", "apiVersion: extensions/v1beta1\nkind: NetworkPolicy\nmetadata: {name: a}\n", `cluster/x:1: this version of NetworkPolicy is not served any more and not read at "extensions/v1beta1"`},
		{"a policy of another kind without a name", "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nspec: {}\n", "cluster/x:1: CiliumNetworkPolicy: it has no metadata.name"},
		{"an unknown kind that is malformed all the same", "apiVersion: v1\nkind: Secret\nmetadata: {name: a, name: b}\n", `cluster/x:3: the key is there twice at "name"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			good := decode(t, pod)
			err := cluster.Decode("cluster/x", []byte(tt.text), good)
			if err == nil {
				t.Fatal("no error")
			}
			var syntax *cluster.SyntaxError
			if !errors.As(err, &syntax) {
				t.Errorf("%T is no *SyntaxError", err)
			}
			if !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
			if diff := cmp.Diff([]string{"n/a"}, podNames(good)); diff != "" {
				t.Errorf("objects changed: %s", diff)
			}
		})
	}
}

func TestDecodeNamesTheSecondDocument(t *testing.T) {
	var o cluster.Objects
	err := cluster.Decode("x", []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: 3\n"), &o)
	const want = `x:8: Pod: a number where a string is expected at "metadata.name"`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if len(o.Pods) != 0 {
		t.Error("the first document was kept although the second is broken")
	}
}

func FuzzDecode(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, s := range seeds {
		text, err := os.ReadFile(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"apiVersion":"v1","kind":"PodList","items":[{"metadata":{"name":"a"},"status":{"podIPs":[{"ip":"::1"}]}}]}`))
	f.Add([]byte("apiVersion: v1\nkind: Pod\nmetadata: &a {name: *a}\n"))
	f.Add([]byte("a: !!binary x\n? [b]\n: c\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var o cluster.Objects
		if err := cluster.Decode("fuzz", data, &o); err != nil {
			var syntax *cluster.SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		cluster.Compile(&o)
		if _, err := cluster.Files(&o); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
	})
}
