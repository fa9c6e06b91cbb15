package counters

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
)

const (
	prefix = "plcnt"
	// patience is how long a condition may take to come true on a busy machine.
	patience = time.Minute
	poll     = 50 * time.Millisecond
)

func TestMain(m *testing.M) {
	lab.ServeIfListener()
	goleak.VerifyTestMain(m)
}

func startLab(t *testing.T) *lab.Lab {
	t.Helper()
	return against.StartLab(t, lab.Options{Prefix: prefix})
}

// fabric is the place between the nodes, beside whose names it is used.
const fabric = "fabric"

// daemons are running `plumbline serve`, by the place that each watches.
type daemons map[string]*daemon

type daemon struct {
	url string
}

func startDaemons(t *testing.T, l *lab.Lab) daemons {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "plumbline")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/plumbline").CombinedOutput(); err != nil {
		t.Fatalf("building plumbline: %v\n%s", err, out)
	}
	watched := map[string][]lab.Endpoint{fabric: {{Kind: "fabric"}}}
	for _, n := range l.Spec.Nodes {
		watched[n.Name] = []lab.Endpoint{lab.NodeEndpoint(n.Name)}
	}
	for _, p := range l.Spec.Pods {
		watched[p.Node] = append(watched[p.Node], lab.PodEndpoint(p.ID()))
	}
	ds := daemons{}
	for place, endpoints := range watched {
		var namespaces []string
		for _, e := range endpoints {
			name, err := l.Netns(e)
			if err != nil {
				t.Fatal(err)
			}
			namespaces = append(namespaces, name)
		}
		config := filepath.Join(dir, place+".yaml")
		text := fmt.Sprintf("collector: {namespaces: [%s], manifests: %q}\n", strings.Join(namespaces, ", "), l.ClusterDir())
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		ds[place] = startDaemon(t, program, place, config)
	}
	for place, d := range ds {
		// From then on it knows whose namespace is whose.
		eventually(t, "the daemon of "+place+" is ready", func() error { return d.get(t.Context(), "/-/ready", nil) })
	}
	return ds
}

func startDaemon(t *testing.T, program, place, config string) *daemon {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	var log strings.Builder
	cmd := exec.Command(program, "serve", "--config", config, "--web.listen-address", address)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		// The death signal comes when this thread ends: it has to last.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		if err := <-ended; err != nil {
			t.Errorf("the daemon of %s: %v", place, err)
		}
		if t.Failed() {
			t.Logf("the daemon of %s said:\n%s", place, log.String())
		}
	})
	return &daemon{url: "http://" + address}
}

// eventually waits until condition holds.
func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	if err := against.Await(t, patience, poll, condition); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// get asks the daemon and gives a good answer to read, which may be nil.
func (d *daemon) get(ctx context.Context, path string, read func(*http.Response) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	if read == nil {
		return nil
	}
	return read(resp)
}

// counts are the values of a metric's series.
type counts[S comparable] map[S]float64

// scrape reads a counter from all daemons. What series makes of the labels is a
// key of the counts, unless it reports false.
func scrape[S comparable](ctx context.Context, ds daemons, metric string, series func(place string, labels map[string]string) (S, bool)) (counts[S], error) {
	result := counts[S]{}
	for place, d := range ds {
		var families map[string]*dto.MetricFamily
		err := d.get(ctx, "/metrics", func(resp *http.Response) (err error) {
			parser := expfmt.NewTextParser(model.UTF8Validation)
			families, err = parser.TextToMetricFamilies(resp.Body)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("the daemon of %s: %w", place, err)
		}
		for _, m := range families[metric].GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if s, ok := series(place, labels); ok {
				result[s] += m.GetCounter().GetValue()
			}
		}
	}
	return result, nil
}

// podOf is NAMESPACE/NAME, and empty for a node's own series.
func podOf(labels map[string]string) string {
	if labels["pod"] == "" && labels["namespace"] == "" {
		return ""
	}
	return labels["namespace"] + "/" + labels["pod"]
}

// since is what has changed after before.
func (c counts[S]) since(before counts[S]) counts[S] {
	delta := maps.Clone(c)
	for s, n := range before {
		delta[s] -= n
	}
	maps.DeleteFunc(delta, func(_ S, n float64) bool { return n == 0 })
	return delta
}
