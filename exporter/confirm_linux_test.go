package exporter

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// serveAsListener makes this process a listener of a lab, if it was started as one.
func serveAsListener() { lab.ServeIfListener() }

// TestConfirming asks a daemon that serves a lab, as a client of its API does, for real probes: first where all is as it was
// collected, then where something was changed behind the back of a collector that does not look any more.
func TestConfirming(t *testing.T) {
	ctx := t.Context()
	l := against.StartLab(t, lab.Options{Prefix: "plexpo"})
	d, _ := newDaemon(t, Options{ConfigFile: configFile(t, `
collector: {namespaces: ["plexpo-*"], manifests: `+l.ClusterDir()+`, maxAge: 0s}
confirm: {timeout: 900ms}
probes: {enabled: false}
schedules:
- {name: confirmed, cron: "@every 1h", from: pod:shop/web-0, to: svc:shop/api, port: 80, confirm: true}
- {name: simulated, cron: "@every 1h", from: pod:shop/web-0, to: svc:shop/api, port: 80}
`)})
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- d.Run(running) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	post := func(query string) *verdict.Report {
		t.Helper()
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+d.Addr().String()+"/api/v1/diagnose", strings.NewReader(query))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s (%v)", answer.Status, body, err)
		}
		var report verdict.Report
		if err := json.Unmarshal(body, &report); err != nil {
			t.Fatal(err)
		}
		return &report
	}
	const toPod = `{"id":"q","from":"pod:shop/web-0","to":"pod:shop/api-1","port":8080,"protocol":"tcp","confirm":true}`
	agreement := func(simulated, observed verdict.Outcome) float64 {
		return scrape(t, d)[`plumbline_agreement_total{observed="`+string(observed)+`",simulated="`+string(simulated)+`"}`]
	}

	for _, s := range ran(t, d) {
		o := s.Paths[0].Observed
		if s.Name == "simulated" {
			if o != nil {
				t.Errorf("a schedule that does not ask for probes observed %+v", o)
			}
			continue
		}
		if o == nil || o.Outcome != verdict.OutcomeEstablished || o.Agrees == nil || !*o.Agrees {
			t.Errorf("the schedule observed %+v, want established as simulated", o)
		}
	}
	if page := ask(t, d, "GET", "/", "").Body.Bytes(); !bytes.Contains(page, []byte(`title="the connection opened, and was closed">established</span>`)) {
		t.Errorf("the page does not show what was observed:\n%s", page)
	}

	report := post(toPod)
	if o := report.Observed; o == nil || o.Outcome != verdict.OutcomeEstablished || o.Agrees == nil || !*o.Agrees || o.Source.IP != "10.244.1.10" {
		t.Errorf("observed %+v, want established as simulated", o)
	}
	if report := post(strings.Replace(toPod, `,"confirm":true`, "", 1)); report.Observed != nil {
		t.Errorf("observed %+v unasked", report.Observed)
	}
	if got := agreement(verdict.OutcomeEstablished, verdict.OutcomeEstablished); got != 2 {
		t.Errorf("%v agreements are counted, want 2", got)
	}

	// A daemon that waits for nothing collects no more.
	latest, _ := d.network.newest()
	d.network.close()
	d.network.mu.Lock()
	d.network.collect = func(context.Context, time.Duration) (*simulator.Snapshot, error) { return latest.snapshot, nil }
	d.network.ctx, d.network.cancel = context.WithCancel(ctx)
	d.network.mu.Unlock()
	if out, err := l.Output(ctx, lab.PodEndpoint("shop/web-0"), "iptables-nft", "-I", "OUTPUT", "-p", "tcp", "-d", "10.244.2.20", "-j", "DROP"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	report = post(toPod)
	if o := report.Observed; o == nil || o.Outcome != verdict.OutcomeTimeout || o.Agrees == nil || *o.Agrees {
		t.Errorf("observed %+v, want a timeout that was not simulated", o)
	}
	if i := slices.IndexFunc(report.Reasons, func(f verdict.Finding) bool { return f.Code == verdict.ObservedDisagrees }); i < 0 {
		t.Errorf("no reason says that they disagree: %+v", report.Reasons)
	} else if report.Reasons[i].Remedy == "" || len(report.Reasons[i].Evidence) < 3 {
		t.Errorf("the reason helps nobody: %+v", report.Reasons[i])
	}
	if got := agreement(verdict.OutcomeEstablished, verdict.OutcomeTimeout); got != 1 {
		t.Errorf("%v disagreements are counted, want 1", got)
	}
}
