package schedules

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network is a scripted Source: what it says about a path is what the test set
// last, and a view keeps what was said when it was taken.
type network struct {
	mu        sync.Mutex
	pods      []corev1.Pod
	lost      error                   // why they are not known
	codes     map[string]verdict.Code // by path; reachable without one
	latest    *view
	collected int
	slow      chan struct{} // if not nil, diagnosing waits for it
	takes     time.Duration // each diagnosis
	err       error
}

type view struct {
	taken time.Time
	pods  []corev1.Pod
	lost  error
	codes map[string]verdict.Code
	slow  chan struct{}
	takes time.Duration
}

func (n *network) View(_ context.Context, notBefore time.Time) (View, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		if n.latest != nil {
			return n.latest, nil
		}
		return nil, n.err
	}
	if n.latest == nil || n.latest.taken.Before(notBefore) {
		n.collected++
		// Collecting takes a moment, which the clock of the bubble does not show.
		taken := time.Now().Add(time.Duration(n.collected) - time.Microsecond)
		n.latest = &view{taken: taken, pods: n.pods, lost: n.lost, codes: n.codes, slow: n.slow, takes: n.takes}
	}
	return n.latest, nil
}

func (n *network) set(codes map[string]verdict.Code) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.codes = codes
}

func (v *view) Taken() time.Time { return v.taken }
func (v *view) Pods() ([]corev1.Pod, error) {
	if v.lost != nil {
		return nil, v.lost
	}
	return v.pods, nil
}

func (v *view) AsksNames(q *verdict.Query) bool {
	_, named := q.DNSName()
	return named
}

func (v *view) Diagnose(_ context.Context, q verdict.Query) (*verdict.Report, error) {
	if v.slow != nil {
		<-v.slow
	}
	time.Sleep(v.takes)
	report := &verdict.Report{Query: q, Verdict: verdict.Reachable, Paths: []verdict.Path{{Verdict: verdict.Reachable}}}
	code, ok := v.codes[PathLabel(q)]
	if !ok {
		return report, nil
	}
	finding := verdict.NewFindingf(code, verdict.Where{}, nil, "because of %s", code)
	report.Reasons = []verdict.Finding{finding}
	report.Verdict = verdict.Unreachable
	if finding.Severity == verdict.SeverityUndecided {
		report.Verdict = verdict.Unknown
	}
	report.Paths[0].Verdict = report.Verdict
	return report, nil
}

// harness runs a runner on a clock that only moves when the test waits.
type harness struct {
	*Runner
	net       *network
	confirm   func(View, *verdict.Report) *verdict.Report // nil if nothing comes of it
	log       *bytes.Buffer
	published []string
}

func inBubble(t *testing.T, net *network, test func(t *testing.T, h *harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &harness{net: net, log: &bytes.Buffer{}}
		var mu sync.Mutex
		h.Runner = New(Options{
			Source: net,
			Log: slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}})),
			Confirm: func(_ context.Context, v View, r *verdict.Report) (*verdict.Report, error) {
				if h.confirm == nil {
					return r, nil
				}
				return h.confirm(v, r), nil
			},
			Published: func(r *verdict.Report) {
				mu.Lock()
				defer mu.Unlock()
				h.published = append(h.published, fmt.Sprintf("%s %s %s", PathLabel(r.Query), r.Verdict, r.Reason()))
			},
		})
		defer h.Close()
		test(t, h)
	})
}

// pass lets time go by, and what is due happen.
func pass(d time.Duration) {
	time.Sleep(d) // the bubble's clock: no real time passes
	synctest.Wait()
}

func (h *harness) apply(t *testing.T, text string) {
	t.Helper()
	c, err := Parse("p.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	h.Apply(c)
	synctest.Wait()
}

func (h *harness) only(t *testing.T) Status {
	t.Helper()
	all := h.Status()
	if len(all) != 1 {
		t.Fatalf("%d schedules, want 1", len(all))
	}
	return all[0]
}

const (
	webToAPI  = "pod:shop/web-0->svc:shop/api:80/tcp"
	every30s  = "jitter: 0\ncollector: {maxAge: 1s}\nschedules:\n- {name: a, cron: '@every 30s', from: 'pod:shop/web-0', to: 'svc:shop/api', port: 80, expect: reachable}\n"
	twoOfEach = "jitter: 0\ncollector: {maxAge: 1s}\nschedules:\n- {name: a, cron: '@every 30s', from: 'pods:shop?app=web', to: 'svc:shop/api', port: 80, expect: reachable}\n"
)

func TestAScheduleRunsAtOnceAndThenWhenDue(t *testing.T) {
	inBubble(t, &network{}, func(t *testing.T, h *harness) {
		began := time.Now()
		h.apply(t, every30s)
		s := h.only(t)
		if s.LastRun == nil || !s.LastRun.Equal(began) {
			t.Errorf("last run is %v, want the start, %v", s.LastRun, began)
		}
		if want := began.Add(30 * time.Second); s.Next == nil || !s.Next.Equal(want) {
			t.Errorf("next run is %v, want %v", s.Next, want)
		}
		pass(90 * time.Second)
		if got := h.only(t).Paths[0]; got.Path != webToAPI || got.Verdict != verdict.Reachable || got.ExpectationMet == nil || !*got.ExpectationMet || got.Since != began {
			t.Errorf("path is %+v", got)
		}
		if got := len(h.published); got != 4 {
			t.Errorf("%d reports are published after 90 seconds, want 4", got)
		}
	})
}

func TestARunIsMissedWhileThePreviousOneGoesOn(t *testing.T) {
	inBubble(t, &network{}, func(t *testing.T, h *harness) {
		slow := make(chan struct{}) // of the bubble, so that waiting for it is idle
		h.net.slow = slow
		h.apply(t, every30s)
		pass(75 * time.Second)
		if s := h.only(t); s.Missed != 2 || !s.Running || s.LastRun != nil {
			t.Errorf("%d runs missed, running %v, last run %v; want 2, true, none", s.Missed, s.Running, s.LastRun)
		}
		close(slow)
		pass(30 * time.Second)
		if s := h.only(t); s.Missed != 2 || s.Running || len(h.published) != 2 {
			t.Errorf("%d runs missed, running %v, %d published; want 2, false, 2", s.Missed, s.Running, len(h.published))
		}
	})
}

func TestANewFailureIsConfirmedOnceBeforeItIsPublished(t *testing.T) {
	fault := map[string]verdict.Code{webToAPI: verdict.NoRoute}
	t.Run("and not published if it was not one", func(t *testing.T) {
		inBubble(t, &network{}, func(t *testing.T, h *harness) {
			h.apply(t, every30s)
			pass(29 * time.Second)
			// The next run uses a view that someone else collected meanwhile,
			// and that shows a fault; when it looks again, there is none.
			h.net.mu.Lock()
			h.net.latest = &view{taken: time.Now().Add(500 * time.Millisecond), codes: fault}
			before := h.net.collected
			h.net.mu.Unlock()
			pass(2 * time.Second)
			if got := h.net.collected - before; got != 1 {
				t.Errorf("collected %d times, want once, to confirm", got)
			}
			want := []string{webToAPI + " reachable ", webToAPI + " reachable "}
			if diff := cmp.Diff(want, h.published); diff != "" {
				t.Errorf("published (-want +got):\n%s", diff)
			}
		})
	})
	t.Run("and not confirmed again while it lasts", func(t *testing.T) {
		inBubble(t, &network{codes: fault}, func(t *testing.T, h *harness) {
			h.apply(t, every30s)
			if h.net.collected != 2 {
				t.Errorf("collected %d times for the first run, want 2", h.net.collected)
			}
			pass(60 * time.Second)
			if h.net.collected != 4 {
				t.Errorf("collected %d times after three runs, want 4", h.net.collected)
			}
			want := strings.Repeat(webToAPI+" unreachable NoRoute\n", 3)
			if got := strings.Join(h.published, "\n") + "\n"; got != want {
				t.Errorf("published\n%swant\n%s", got, want)
			}
		})
	})
	t.Run("and stands if nothing newer can be collected", func(t *testing.T) {
		inBubble(t, &network{codes: fault}, func(t *testing.T, h *harness) {
			h.net.latest = &view{taken: time.Now(), codes: fault}
			h.net.err = errors.New("no privilege")
			h.apply(t, every30s)
			if got := h.only(t).Paths[0]; got.Verdict != verdict.Unreachable || got.Reason != verdict.NoRoute {
				t.Errorf("path is %+v", got)
			}
		})
	})
}

func TestRealProbesAreSentForSchedulesThatWantThem(t *testing.T) {
	// The view that just began to fail was looked at again: the report is of the later one.
	inBubble(t, &network{codes: map[string]verdict.Code{webToAPI: verdict.NoRoute}}, func(t *testing.T, h *harness) {
		var mu sync.Mutex
		var confirmed []string
		h.confirm = func(v View, r *verdict.Report) *verdict.Report {
			mu.Lock()
			defer mu.Unlock()
			confirmed = append(confirmed, PathLabel(r.Query)+" "+string(r.Reason()))
			if latest := h.net.latest; v != latest {
				t.Errorf("the report is said to be of the view of %s, not that of %s", v.Taken(), latest.taken)
			}
			r.Observed = &verdict.Observed{Outcome: verdict.OutcomeTimeout}
			return r
		}
		h.apply(t, every30s)
		if len(confirmed) != 0 || h.only(t).Paths[0].Observed != nil {
			t.Errorf("unasked, %q were confirmed", confirmed)
		}
		h.apply(t, strings.Replace(every30s, "expect: reachable", "expect: reachable, confirm: true", 1))
		if diff := cmp.Diff([]string{webToAPI + " NoRoute"}, confirmed); diff != "" {
			t.Errorf("confirmed (-want +got):\n%s", diff)
		}
		if o := h.only(t).Paths[0].Observed; o == nil || o.Outcome != verdict.OutcomeTimeout {
			t.Errorf("the path's observation is %+v", o)
		}
	})
}

func TestSchedulesThatRunTogetherShareACollection(t *testing.T) {
	inBubble(t, &network{}, func(t *testing.T, h *harness) {
		h.apply(t, "jitter: 0\ncollector: {maxAge: 1s}\nschedules:\n"+
			"- {name: a, cron: '@every 30s', from: node:a, to: node:b, port: 1}\n"+
			"- {name: b, cron: '*/30 * * * * *', from: node:a, to: node:b, port: 2}\n")
		pass(60 * time.Second)
		if len(h.published) != 6 || h.net.collected != 3 {
			t.Errorf("%d reports of %d collections, want 6 of 3", len(h.published), h.net.collected)
		}
	})
}

func TestFailuresAreCountedFromZero(t *testing.T) {
	inBubble(t, &network{}, func(t *testing.T, h *harness) {
		h.apply(t, every30s)
		counts := func() map[verdict.Code]uint64 { return h.only(t).Failures }
		expect := func(when string, want map[verdict.Code]uint64) {
			t.Helper()
			if diff := cmp.Diff(want, counts()); diff != "" {
				t.Errorf("failures %s (-want +got):\n%s", when, diff)
			}
		}
		expect("of a reachable path", map[verdict.Code]uint64{})
		h.net.set(map[string]verdict.Code{webToAPI: verdict.NoRoute})
		pass(30 * time.Second)
		expect("in the run that sees the reason first", map[verdict.Code]uint64{verdict.NoRoute: 0})
		h.net.set(nil)
		pass(30 * time.Second)
		expect("one run later, when it is over", map[verdict.Code]uint64{verdict.NoRoute: 1})
		h.net.set(map[string]verdict.Code{webToAPI: verdict.NoRoute})
		pass(30 * time.Second)
		expect("when it is back", map[verdict.Code]uint64{verdict.NoRoute: 2})
		h.net.set(map[string]verdict.Code{webToAPI: verdict.UnmodelledRule})
		pass(30 * time.Second)
		expect("when nothing fatal is known", map[verdict.Code]uint64{verdict.NoRoute: 2})
		if got := h.only(t).Paths[0].Failures; got != 2 {
			t.Errorf("path failed %d times, want 2", got)
		}
	})
}

func TestTheHistoryTellsWhatChangedWhen(t *testing.T) {
	inBubble(t, &network{}, func(t *testing.T, h *harness) {
		began := time.Now()
		h.apply(t, every30s)
		h.net.set(map[string]verdict.Code{webToAPI: verdict.NoRoute})
		pass(60 * time.Second)
		h.net.set(map[string]verdict.Code{webToAPI: verdict.NetfilterDrop})
		pass(30 * time.Second)
		p := h.only(t).Paths[0]
		at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
		id := func(n int) string { return fmt.Sprintf("%s-%d", h.records.epoch, n) }
		want := []Change{
			{verdict.Unreachable, verdict.NetfilterDrop, at(90), id(3)},
			{verdict.Unreachable, verdict.NoRoute, at(30), id(2)},
			{verdict.Reachable, "", began, id(1)},
		}
		if diff := cmp.Diff(want, p.History); diff != "" {
			t.Errorf("history (-want +got):\n%s", diff)
		}
		records := h.Reports(Filter{})
		for i := range records {
			records[i].report = nil
		}
		wantRecords := []Record{
			{ID: id(3), Schedule: "a", Path: webToAPI, Verdict: verdict.Unreachable, Reason: verdict.NetfilterDrop, Message: "because of NetfilterDrop", Since: at(90), Last: at(90), Runs: 1, Current: true},
			{ID: id(2), Schedule: "a", Path: webToAPI, Verdict: verdict.Unreachable, Reason: verdict.NoRoute, Message: "because of NoRoute", Since: at(30), Last: at(60), Runs: 2},
			{ID: id(1), Schedule: "a", Path: webToAPI, Verdict: verdict.Reachable, Since: at(0), Last: at(0), Runs: 1},
		}
		if diff := cmp.Diff(wantRecords, records, cmp.AllowUnexported(Record{})); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		if report, ok := h.Report(id(2)); !ok || report.Reason() != verdict.NoRoute || report.ID != id(2) {
			t.Errorf("report of the second record is %+v, %v", report, ok)
		}
		if _, ok := h.Report("no-such"); ok {
			t.Error("a report that there is not was found")
		}
		const logged = `level=WARN msg="verdict changed" schedule=a path=` + webToAPI + ` verdict=unreachable reason=NoRoute was=reachable message="because of NoRoute"`
		if !strings.Contains(h.log.String(), logged) {
			t.Errorf("log is\n%swant a line\n%s", h.log, logged)
		}
	})
}

func TestOldRecordsMakeRoomButCurrentOnesStay(t *testing.T) {
	inBubble(t, &network{}, func(t *testing.T, h *harness) {
		h.apply(t, "history: 2\n"+every30s+"- {name: b, cron: '@every 30s', from: node:a, to: node:b, port: 1}\n")
		for i := range 8 {
			if i%2 == 0 {
				h.net.set(map[string]verdict.Code{webToAPI: verdict.NoRoute})
			} else {
				h.net.set(nil)
			}
			pass(30 * time.Second)
		}
		var past int
		for _, r := range h.Reports(Filter{}) {
			if !r.Current {
				past++
			}
		}
		if past != 2 {
			t.Errorf("%d past records, want 2", past)
		}
		if got := h.Reports(Filter{Schedule: "b"}); len(got) != 1 || got[0].Runs != 9 || !got[0].Current {
			t.Errorf("records of the quiet schedule are %+v", got)
		}
		if got := h.Reports(Filter{Verdict: verdict.Unreachable, Limit: 1}); len(got) != 1 || got[0].Schedule != "a" {
			t.Errorf("records of unreachable paths are %+v", got)
		}
		if got := h.Reports(Filter{Path: webToAPI, Verdict: verdict.Unknown}); len(got) != 0 {
			t.Errorf("records of unknown paths are %+v", got)
		}
	})
}

func TestPathsFollowThePods(t *testing.T) {
	web := map[string]string{"app": "web"}
	net := &network{pods: []corev1.Pod{pod("shop", "web-0", corev1.PodRunning, web), pod("shop", "web-1", corev1.PodRunning, web)}}
	inBubble(t, net, func(t *testing.T, h *harness) {
		names := func() string {
			var all []string
			for _, p := range h.only(t).Paths {
				all = append(all, p.Path+" "+string(p.Verdict)+" "+string(p.Reason)+" "+p.Message)
			}
			return strings.Join(all, "\n")
		}
		h.apply(t, twoOfEach)
		if want := "pod:shop/web-0->svc:shop/api:80/tcp reachable  \npod:shop/web-1->svc:shop/api:80/tcp reachable  "; names() != want {
			t.Errorf("paths are\n%s\nwant\n%s", names(), want)
		}
		net.mu.Lock()
		net.pods = net.pods[1:]
		net.mu.Unlock()
		pass(30 * time.Second)
		if want := "pod:shop/web-1->svc:shop/api:80/tcp reachable  "; names() != want {
			t.Errorf("paths are\n%s\nwant\n%s", names(), want)
		}
		net.mu.Lock()
		net.pods = nil
		net.mu.Unlock()
		pass(30 * time.Second)
		if want := "pods:shop?app=web->svc:shop/api:80/tcp unknown EndpointUnresolved no running pod matches pods:shop?app=web"; names() != want {
			t.Errorf("paths are\n%s\nwant\n%s", names(), want)
		}
		net.mu.Lock()
		net.lost = errors.New("pods are forbidden")
		net.mu.Unlock()
		pass(30 * time.Second)
		if want := "pods:shop?app=web->svc:shop/api:80/tcp unknown EndpointUnresolved pods are forbidden"; names() != want {
			t.Errorf("paths are\n%s\nwant\n%s", names(), want)
		}
		for _, r := range h.Reports(Filter{Path: "pod:shop/web-1->svc:shop/api:80/tcp"}) {
			if r.Current {
				t.Errorf("the record of a path that vanished is current: %+v", r)
			}
		}
	})
}

// A name server that is silent takes four seconds of each path.
func TestNameServersAreWaitedForBySeveralPathsAtOnce(t *testing.T) {
	net := &network{takes: 4 * time.Second, codes: make(map[string]verdict.Code)}
	for i := range 10 {
		name := fmt.Sprintf("web-%d", i)
		net.pods = append(net.pods, pod("shop", name, corev1.PodRunning, map[string]string{"app": "web"}))
		net.codes["pod:shop/"+name+"->dns:api.example:80/tcp"] = verdict.DNSTimeout
	}
	for _, test := range []struct {
		to, perSecond string
		want          time.Duration
	}{
		{"svc:shop/api", "20", 40 * time.Second},
		{"dns:api.example", "20", 16 * time.Second}, // five at once, and once more what fails
		{"dns:api.example", "1", 80 * time.Second},  // questions wait for one another as it is
	} {
		inBubble(t, net, func(t *testing.T, h *harness) {
			began := time.Now()
			h.apply(t, "confirm: {perSecond: "+test.perSecond+"}\n"+strings.NewReplacer("svc:shop/api", test.to, "30s", "1h").Replace(twoOfEach))
			pass(5 * time.Minute)
			s := h.only(t)
			if s.LastRun == nil || s.LastRun.Sub(began) != test.want || len(s.Paths) != 10 {
				t.Errorf("%s, %s: the run of %d paths began at %s and ended at %v, want after %s", test.to, test.perSecond, len(s.Paths), began, s.LastRun, test.want)
			}
			for i, p := range s.Paths {
				if want := fmt.Sprintf("pod:shop/web-%d", i); p.Source != want || !strings.HasPrefix(h.published[i], want+"->"+test.to+":80/tcp "+string(p.Verdict)) {
					t.Errorf("path %d is %s, published as %s", i, p.Source, h.published[i])
				}
			}
		})
		net.latest = nil
	}
}

func TestAPodDoesNotTalkToItselfUnlessAsked(t *testing.T) {
	web := map[string]string{"app": "web"}
	net := &network{pods: []corev1.Pod{pod("shop", "web-0", corev1.PodRunning, web), pod("shop", "web-1", corev1.PodRunning, web)}}
	for from, want := range map[string]int{"pods:shop?app=web": 2, "pod:shop/web-0": 1} {
		s := schedule{Schedule: Schedule{From: selector(t, from), To: selector(t, "pods:shop?app=web"), Query: verdict.Query{Port: 80, Protocol: verdict.TCP}}}
		queries, fault := s.expand(net.pods)
		if fault != nil || len(queries) != want {
			t.Errorf("%s to pods:shop?app=web: %d paths, fault %v; want %d", from, len(queries), fault, want)
		}
	}
	self := schedule{Schedule: Schedule{From: selector(t, "pod:shop/web-0"), To: selector(t, "pod:shop/web-0")}}
	if queries, _ := self.expand(net.pods); len(queries) != 1 {
		t.Errorf("a pod to itself makes %d paths, want 1", len(queries))
	}
}

func TestAnExplosionOfPathsIsRefused(t *testing.T) {
	var pods []corev1.Pod
	for i := range 101 {
		pods = append(pods, pod("shop", fmt.Sprintf("web-%d", i), corev1.PodRunning, nil))
	}
	s := schedule{Schedule: Schedule{From: selector(t, "pods:shop"), To: selector(t, "pods:shop"), Query: verdict.Query{Port: 80, Protocol: verdict.TCP}}}
	queries, fault := s.expand(pods)
	if queries != nil || fault == nil || fault.report.Verdict != verdict.Unknown || fault.report.Reason() != verdict.TooManyBranches ||
		fault.report.Reasons[0].Message != "pods:shop and pods:shop make 10201 paths; a schedule may have 10000" {
		t.Errorf("%d queries, fault %+v", len(queries), fault)
	}
}

func TestTooManyPathsAreSaidOnce(t *testing.T) {
	web := map[string]string{"app": "web"}
	net := &network{pods: []corev1.Pod{pod("shop", "web-0", corev1.PodRunning, web), pod("shop", "web-1", corev1.PodRunning, web)}}
	inBubble(t, net, func(t *testing.T, h *harness) {
		h.apply(t, "maxPathSeries: 1\n"+twoOfEach)
		pass(60 * time.Second)
		if s := h.only(t); !s.Capped || len(s.Paths) != 2 {
			t.Errorf("capped %v with %d paths, want true with 2", s.Capped, len(s.Paths))
		}
		const line = "level=WARN msg=\"schedule has more paths than maxPathSeries: only its schedule-level metrics are exported\" schedule=a paths=2 maxPathSeries=1\n"
		if got := h.log.String(); got != line {
			t.Errorf("log is\n%swant\n%s", got, line)
		}
	})
}

func TestWithoutAnyStateAPathIsUnknown(t *testing.T) {
	inBubble(t, &network{err: errors.New("collect: operation not permitted")}, func(t *testing.T, h *harness) {
		h.apply(t, twoOfEach)
		s := h.only(t)
		if len(s.Paths) != 1 || s.Error != "collect: operation not permitted" {
			t.Fatalf("status is %+v", s)
		}
		p := s.Paths[0]
		if p.Path != "pods:shop?app=web->svc:shop/api:80/tcp" || p.Verdict != verdict.Unknown || p.Reason != verdict.SnapshotMissing ||
			p.Message != "no state has been collected yet: collect: operation not permitted" || p.ExpectationMet == nil || *p.ExpectationMet {
			t.Errorf("path is %+v", p)
		}
	})
}

func TestAReloadDisturbsOnlyWhatItChanges(t *testing.T) {
	const (
		head    = "jitter: 0\ncollector: {maxAge: 1s}\nschedules:\n"
		same    = "- {name: same, cron: '@every 30s', from: node:a, to: node:b, port: 1}\n"
		removed = "- {name: removed, cron: '@every 30s', from: node:a, to: node:b, port: 2}\n"
		changed = "- {name: changed, cron: '@every 30s', from: node:a, to: node:b, port: 3}\n"
		after   = "- {name: changed, cron: '@every 30s', from: node:a, to: node:b, port: 4}\n"
		added   = "- {name: added, cron: '@every 30s', from: node:a, to: node:b, port: 5}\n"
	)
	net := &network{codes: map[string]verdict.Code{"node:a->node:b:1/tcp": verdict.NoRoute, "node:a->node:b:3/tcp": verdict.NoRoute}}
	inBubble(t, net, func(t *testing.T, h *harness) {
		h.apply(t, head+same+removed+changed)
		pass(75 * time.Second)
		before := h.Status()[2]
		h.apply(t, head+same+after+added)
		now := h.Status()
		var names []string
		for _, s := range now {
			names = append(names, s.Name)
		}
		if diff := cmp.Diff([]string{"added", "changed", "same"}, names); diff != "" {
			t.Fatalf("schedules (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(before, now[2]); diff != "" {
			t.Errorf("the unchanged schedule differs (-before +after):\n%s", diff)
		}
		if s := now[1]; len(s.Failures) != 0 || len(s.Paths) != 1 || s.Paths[0].Path != "node:a->node:b:4/tcp" {
			t.Errorf("the changed schedule is %+v", s)
		}
		if got := h.Reports(Filter{Schedule: "removed"}); len(got) != 1 || got[0].Current {
			t.Errorf("records of the removed schedule are %+v", got)
		}
		seen := len(h.Reports(Filter{Schedule: "removed"}))
		pass(60 * time.Second)
		if got := h.Reports(Filter{Schedule: "removed"}); len(got) != seen || got[0].Runs != 3 {
			t.Errorf("the removed schedule ran on: %+v", got)
		}
		if got := h.Status()[2].Paths[0].Failures; got != 5 {
			t.Errorf("the unchanged schedule counted %d failures, want 5", got)
		}
	})
}

func TestARunThatIsRemovedPublishesNothing(t *testing.T) {
	inBubble(t, &network{}, func(t *testing.T, h *harness) {
		slow := make(chan struct{}) // of the bubble, so that waiting for it is idle
		h.net.slow = slow
		h.apply(t, every30s)
		h.apply(t, "schedules: []\n")
		close(slow)
		synctest.Wait()
		if len(h.published) != 0 || len(h.Reports(Filter{})) != 0 || len(h.Status()) != 0 {
			t.Errorf("published %v, records %v", h.published, h.Reports(Filter{}))
		}
	})
}

func TestAScheduleWithoutAnExpectationHasNoneToMeet(t *testing.T) {
	inBubble(t, &network{}, func(t *testing.T, h *harness) {
		h.apply(t, strings.Replace(every30s, ", expect: reachable", "", 1))
		if got := h.only(t); got.Expect != "" || len(got.Paths) != 1 || got.Paths[0].ExpectationMet != nil {
			t.Errorf("status is %+v, want no expectation", got)
		}
	})
}
