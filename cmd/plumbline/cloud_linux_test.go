package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/cloud/alibaba/alibabatest"
	"github.com/plumbline-net/plumbline/simulator/bundle"
)

// TestCollectReadsTheCloud writes what the API says of the node's VPC into the bundle,
// and nothing that is nobody's business; what is refused is in the summary.
func TestCollectReadsTheCloud(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	name := "plclcld" + strconv.Itoa(os.Getpid())
	for _, command := range []string{"netns add " + name, "-n " + name + " link set lo up"} {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", command, err, out)
		}
	}
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	s := alibabatest.New(t, alibabatest.Small())
	s.Fail("vpc.DescribeNatGateways", alibabatest.Forbidden)
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", alibabatest.KeyID)
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", alibabatest.KeySecret)
	dir := t.TempDir()
	manifests := filepath.Join(dir, "manifests")
	if err := os.Mkdir(manifests, 0o755); err != nil {
		t.Fatal(err)
	}
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file("manifests/node.yaml", "apiVersion: v1\nkind: Node\nmetadata: {name: a}\nspec: {providerID: cn-test.i-a}\n")
	endpoints := ""
	for product, u := range s.Endpoints() {
		endpoints += fmt.Sprintf("    %s: %s\n", product, u)
	}
	config := file("plumbline.yaml", "cloud:\n  provider: alibaba\n  region: cn-test\n  endpoints:\n"+endpoints)

	output := filepath.Join(dir, "bundle")
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"collect", "--config", config, "--namespaces", name, "--manifests", manifests, "-o", output}, &stdout, &stderr); code != 0 {
		t.Fatalf("status %d: %s", code, &stderr)
	}
	if want := "\n  vpc.DescribeNatGateways of the cloud: Forbidden.RAM: "; !strings.Contains(stdout.String(), want) {
		t.Errorf("the summary is %q, without %q", stdout.String(), want)
	}
	snap, err := bundle.Read(output)
	if err != nil {
		t.Fatal(err)
	}
	if f := snap.Cloud; f.Empty() || len(f.Interfaces) != 2 || len(f.Listeners) != 2 || f.Failed["vpc.DescribeNatGateways"] == "" {
		t.Errorf("facts are %+v", f)
	}
	if err := filepath.Walk(output, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		s.Untold(t, path, string(data))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	s.Untold(t, "the command", stdout.String()+stderr.String())

	stderr.Reset()
	bad := file("bad.yaml", "cloud:\n  provider: alibaba\n")
	if code := run(t.Context(), []string{"collect", "--config", bad, "-o", output + "2"}, &stdout, &stderr); code != statusUsage || !strings.Contains(stderr.String(), "bad.yaml:2: cloud: needs a region") {
		t.Errorf("status %d: %s", code, &stderr)
	}
}
