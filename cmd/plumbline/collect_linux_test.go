package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

func TestCollectRefusesWrongUsage(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no output":            {[]string{"collect"}, "plumbline: collect: where to? give --output DIR or --output FILE.tar.zst\n"},
		"a malformed pattern":  {[]string{"collect", "-o", "x", "--namespaces", "a[b"}, "plumbline: collect: namespace pattern \"a[b\": syntax error in pattern\n"},
		"an argument too many": {[]string{"collect", "x"}, "plumbline: unknown command \"x\" for \"plumbline collect\"\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(context.Background(), test.args, &stdout, &stderr)
			if code != statusUsage || stderr.String() != test.want || stdout.Len() != 0 {
				t.Errorf("got status %d, %q, %q; want status 2 and %q", code, stderr.String(), stdout.String(), test.want)
			}
		})
	}
}

func TestCollectWritesABundleThatReadsBackTheSame(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	name := "plcoll" + strconv.Itoa(os.Getpid()) + "-cli"
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	ip("netns", "add", name)
	t.Cleanup(func() { ip("netns", "del", name) })
	ip("-n", name, "link", "add", "e0", "type", "veth", "peer", "name", "e1")
	ip("-n", name, "addr", "add", "10.44.0.5/24", "dev", "e0")
	manifests := t.TempDir()
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nspec: {nodeName: n1}\nstatus: {phase: Running, podIP: 10.44.0.5}\n"
	if err := os.WriteFile(filepath.Join(manifests, "pods.yaml"), []byte(pod), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, output := range []string{"bundle", "bundle.tar.zst"} {
		t.Run(output, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), output)
			var stdout, stderr bytes.Buffer
			code := run(context.Background(), []string{"collect", "--output", path, "--manifests", manifests, "--namespaces", name}, &stdout, &stderr)
			want := path + ": 1 network namespace (0 nodes, 1 pod, 0 others)\n"
			if code != statusOK || stdout.String() != want || stderr.Len() != 0 {
				t.Fatalf("got status %d, %q, %q; want %q", code, stdout.String(), stderr.String(), want)
			}
			snapshot, err := bundle.Read(path)
			if err != nil {
				t.Fatal(err)
			}
			ns := snapshot.Namespaces[0]
			if ns.Name != name || ns.Kind != netstack.KindPod || ns.Pod != "shop/web" || ns.Node != "n1" || len(ns.Links) != 3 {
				t.Errorf("got namespace %q of kind %q, pod %q, node %q with %d links", ns.Name, ns.Kind, ns.Pod, ns.Node, len(ns.Links))
			}
			for part, status := range ns.Parts {
				if !ns.Known(part) && part != netstack.PartConntrack {
					t.Errorf("%s is %v after reading it back", part, status)
				}
			}
		})
	}
}
