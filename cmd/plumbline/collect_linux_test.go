package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

func TestCollectMakesNoBundleOfNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to read network namespaces")
	}
	output := filepath.Join(t.TempDir(), "bundle.tar.zst")
	code, stdout, stderr := plumbline(t, "collect", "--namespaces", "plnone-*", "-o", output)
	if want := "plumbline: collect: --namespaces: this host has no network namespace whose name matches plnone-*\n"; code != statusUsage || stderr != want || stdout != "" {
		t.Errorf("got status %d, %q, %q; want status 2 and %q", code, stderr, stdout, want)
	}
	if _, err := os.Stat(output); !os.IsNotExist(err) {
		t.Errorf("the bundle is there: %v", err)
	}
}

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

// TestCollectKeepsWhatNameServersAnswer has a process in a namespace of its own, whose
// resolv.conf leads to a server there.
func TestCollectKeepsWhatNameServersAnswer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	name := "plcolq" + strconv.Itoa(os.Getpid())
	do := func(command ...string) *exec.Cmd {
		t.Helper()
		cmd := exec.Command(command[0], command[1:]...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
		}
		return cmd
	}
	do("ip", "netns", "add", name)
	t.Cleanup(func() { do("ip", "netns", "del", name) })
	do("ip", "-n", name, "link", "set", "lo", "up")
	do("ip", "-n", name, "addr", "add", "192.0.2.1/32", "dev", "lo")
	var server net.PacketConn
	if err := lab.InNetns(name, func() (err error) {
		server, err = net.ListenPacket("udp", "127.0.0.1:53")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	go answerWith(server, [4]byte{192, 0, 2, 1})

	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	resolvConf := file("resolv.conf", "nameserver 127.0.0.1\n")
	resident := exec.Command("nsenter", "--net=/run/netns/"+name, "unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && echo ready && exec sleep infinity`, resolvConf)
	resident.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ready, err := resident.StdoutPipe()
	if err == nil {
		err = resident.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-resident.Process.Pid, syscall.SIGKILL)
		_ = resident.Wait()
	})
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}

	query := []string{"--from", "ns:" + name, "--to", "dns:here.example", "--port", "80"}
	queries := file("queries.jsonl", `{"from":"ns:`+name+`","to":"dns:here.example","port":80,"protocol":"tcp"}`+"\n")
	output := filepath.Join(dir, "bundle")
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"collect", "-o", output, "--namespaces", name, "--queries", queries}, &stdout, &stderr); code != statusOK {
		t.Fatalf("status %d: %s", code, stderr.String())
	}
	var reports [2]verdict.Report
	for i, source := range [][]string{{"--namespaces", name}, {"--bundle", output}} {
		stdout.Reset()
		run(t.Context(), slices.Concat([]string{"diagnose", "-o", "json"}, query, source), &stdout, &stderr)
		if err := json.Unmarshal(stdout.Bytes(), &reports[i]); err != nil {
			t.Fatalf("%v: %s %s", err, stdout.String(), stderr.String())
		}
		r := &reports[i]
		if r.Reason() != verdict.NoListener || r.Resolution == nil || !slices.Equal(r.Resolution.Addresses, []string{"192.0.2.1"}) {
			t.Errorf("%v: %s %v, %+v", source, r.Verdict, r.Reasons, r.Resolution)
		}
		r.Snapshot = verdict.SnapshotInfo{}
	}
	if diff := cmp.Diff(reports[0], reports[1]); diff != "" {
		t.Errorf("the bundle is diagnosed differently (-live +bundle):\n%s", diff)
	}
}

// answerWith answers questions for addresses with one, whatever the name.
func answerWith(server net.PacketConn, addr [4]byte) {
	buf := make([]byte, 4096)
	for {
		n, from, err := server.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		m.Response, m.Additionals = true, nil
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60}, Body: &dnsmessage.AResource{A: addr}}}
		}
		if packed, err := m.Pack(); err == nil {
			_, _ = server.WriteTo(packed, from)
		}
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
