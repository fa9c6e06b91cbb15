package main

import (
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/exporter"
)

func TestABundleIsCollectedFromAServer(t *testing.T) {
	daemon, err := exporter.New(exporter.Options{
		Bundle: "../../examples/lab.tar.zst", ListenAddress: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- daemon.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	server := "http://" + daemon.Addr().String()
	awaitReady(t, server)

	output := filepath.Join(t.TempDir(), "cluster.tar.zst")
	code, stdout, stderr := plumbline(t, "collect", "--server", server, "--output", output)
	if code != 0 || stderr != "" || !strings.HasPrefix(stdout, output+": 7 network namespaces (2 nodes, 4 pods, 1 others)\n") {
		t.Errorf("got status %d, %q, %q", code, stdout, stderr)
	}
	code, stdout, stderr = plumbline(t, "diagnose", "--bundle", output, "--from", "pod:shop/web-0", "--to", "pod:shop/api-1", "--port", "8080")
	if code != statusUnreachable || !strings.Contains(stdout, "\nreason  NetfilterDrop (fatal)\n") {
		t.Errorf("got status %d, %q, %q", code, stdout, stderr)
	}
	code, _, stderr = plumbline(t, "collect", "--server", server+"/nowhere", "--output", output)
	if want := "plumbline: collect: server: there is no /nowhere/api/v1/bundle; / lists what there is\n"; code != statusUsage || stderr != want {
		t.Errorf("got status %d, %q, want status 2, %q", code, stderr, want)
	}
}

// awaitReady waits until the server has state to answer from.
func awaitReady(t *testing.T, server string) {
	t.Helper()
	for tick := time.Tick(10 * time.Millisecond); ; <-tick {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server+"/-/ready", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
	}
}
