package confirm

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

func TestMain(m *testing.M) {
	lab.ServeIfListener()
	goleak.VerifyTestMain(m)
}

// world is a lab with what collects it and probes it.
type world struct {
	*lab.Lab
	collector *collector.Collector
	*Confirmer
	// changing keeps rules from being changed while they are read.
	changing sync.Mutex
}

func newWorld(t *testing.T) *world {
	t.Helper()
	l := against.StartLab(t, lab.Options{Prefix: "plconf"})
	w := &world{Lab: l, collector: collector.New(collector.Options{Namespaces: []string{l.Prefix + "-*"}, ManifestDir: l.ClusterDir()})}
	w.Confirmer = New(Here(w.collector.Inside))
	w.Timeout = 900 * time.Millisecond // the lab's neighbours are given up on after 300
	return w
}

func (w *world) collect(t *testing.T) *simulator.World {
	t.Helper()
	w.changing.Lock()
	defer w.changing.Unlock()
	s, err := w.collector.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := simulator.Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func (w *world) do(t *testing.T, at, command string) {
	t.Helper()
	e, err := w.ParseEndpoint(at)
	if err != nil {
		t.Fatal(err)
	}
	w.changing.Lock()
	defer w.changing.Unlock()
	if out, err := w.Output(t.Context(), e, strings.Fields(command)...); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// confirm diagnoses and confirms a query; again is what collecting again yields.
func (w *world) confirm(t *testing.T, of *simulator.World, q verdict.Query, again func(context.Context) (Subject, error)) *verdict.Report {
	t.Helper()
	report, err := of.Diagnose(q)
	if err != nil {
		t.Fatal(err)
	}
	report, err = w.Confirm(t.Context(), World{World: of}, report, again)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

var errFrozen = errors.New("frozen")

func frozen(context.Context) (Subject, error) { return nil, errFrozen }

// TestEveryOutcomeIsObservedAndPredicted injects a fault for each outcome, and wants the probe to find it as the
// simulation says.
func TestEveryOutcomeIsObservedAndPredicted(t *testing.T) {
	w := newWorld(t)
	const client, near, far = "shop/web-0", "shop/api-0", "shop/api-1"
	type family struct {
		ip, iptables, icmp                  string
		near, far, service, gateway, nobody string
		port, admin, host, net              string // rejects
	}
	families := map[string]family{
		"IPv4": {
			"ip -4", "iptables-nft", "icmp", "10.244.1.20", "10.244.2.20", "10.96.0.80", "10.244.1.1", "10.244.1.99",
			"icmp-port-unreachable", "icmp-admin-prohibited", "icmp-host-unreachable", "icmp-net-unreachable",
		},
		"IPv6": {
			"ip -6", "ip6tables-nft", "icmpv6", "fd00:10:244:1::20", "fd00:10:244:2::20", "fd00:10:96::80", "fd00:10:244:1::1", "fd00:10:244:1::99",
			"icmp6-port-unreachable", "icmp6-adm-prohibited", "icmp6-addr-unreachable", "icmp6-no-route",
		},
	}
	judge := func(t *testing.T, f family) {
		chain := func(at, rule string) (string, string, string) {
			return at, f.iptables + " -I " + rule, f.iptables + " -D " + rule
		}
		none := func() (string, string, string) { return "", "", "" }
		for _, test := range []struct {
			name     string
			fault    func() (at, set, unset string)
			protocol verdict.Protocol
			to       string
			port     uint16
			want     verdict.Outcome
			detail   string // a part of it
		}{
			{"a server that listens", none, "tcp", f.far, 8080, verdict.OutcomeEstablished, "opened, and was closed"},
			{"a Service", none, "tcp", f.service, 80, verdict.OutcomeEstablished, "opened"},
			{"a server of UDP", none, "udp", f.far, 5353, verdict.OutcomeAnswered, "answered with 128 bytes"},
			{"a Service of DNS", none, "udp", f.service, 53, verdict.OutcomeAnswered, "answered with"},
			{"ping", none, "icmp", f.far, 0, verdict.OutcomeAnswered, "answered"},
			{"nobody listens to TCP", none, "tcp", f.far, 9, verdict.OutcomeRefused, "connection refused"},
			{"nobody listens to UDP", none, "udp", f.far, 9, verdict.OutcomeRefused, "from " + f.far},
			{"a neighbour that is missing", none, "tcp", f.nobody, 80, verdict.OutcomeHostUnreachable, ""},
			{"a neighbour that is missing, to ping", none, "icmp", f.nobody, 0, verdict.OutcomeHostUnreachable, ""},
			{
				"SYN dropped", func() (string, string, string) { return chain("node-1", "FORWARD -p tcp -d "+f.far+" -j DROP") },
				"tcp", f.far, 8080, verdict.OutcomeTimeout, "no answer within 900ms",
			},
			{
				"what follows the handshake dropped", func() (string, string, string) {
					return chain("node-1", "FORWARD -p tcp --tcp-flags SYN,ACK ACK -d "+f.far+" -j DROP")
				},
				"tcp", f.far, 8080, verdict.OutcomeTimeout, "what followed was not acknowledged",
			},
			{
				"reset in the handshake", func() (string, string, string) {
					return chain("node-1", "FORWARD -p tcp -d "+f.far+" -j REJECT --reject-with tcp-reset")
				},
				"tcp", f.far, 8080, verdict.OutcomeRefused, "connection refused",
			},
			{
				"reset after the handshake", func() (string, string, string) {
					return chain("node-1", "FORWARD -p tcp --tcp-flags SYN,ACK ACK -d "+f.far+" -j REJECT --reject-with tcp-reset")
				},
				"tcp", f.far, 8080, verdict.OutcomeReset, "connection reset",
			},
			{
				"UDP rejected with port unreachable", func() (string, string, string) {
					return chain("node-1", "FORWARD -p udp -d "+f.far+" -j REJECT --reject-with "+f.port)
				},
				"udp", f.far, 5353, verdict.OutcomeRefused, "from " + f.gateway,
			},
			{
				"TCP rejected as forbidden", func() (string, string, string) {
					return chain("node-1", "FORWARD -p tcp -d "+f.far+" -j REJECT --reject-with "+f.admin)
				},
				"tcp", f.far, 8080, verdict.OutcomeProhibited, "from " + f.gateway,
			},
			{
				"ping rejected as host unreachable", func() (string, string, string) {
					return chain("node-1", "FORWARD -p "+f.icmp+" -d "+f.far+" -j REJECT --reject-with "+f.host)
				},
				"icmp", f.far, 0, verdict.OutcomeHostUnreachable, "from " + f.gateway,
			},
			{
				"UDP rejected as net unreachable", func() (string, string, string) {
					return chain("node-1", "FORWARD -p udp -d "+f.far+" -j REJECT --reject-with "+f.net)
				},
				"udp", f.far, 5353, verdict.OutcomeNetUnreachable, "from " + f.gateway,
			},
			{
				"ping dropped", func() (string, string, string) { return chain("node-1", "FORWARD -p "+f.icmp+" -d "+f.far+" -j DROP") },
				"icmp", f.far, 0, verdict.OutcomeTimeout, "no answer",
			},
			{
				"UDP dropped by the client", func() (string, string, string) { return chain(client, "OUTPUT -p udp -d "+f.far+" -j DROP") },
				"udp", f.far, 5353, verdict.OutcomeProhibited, "operation not permitted",
			},
			{
				"no route at the client", func() (string, string, string) {
					return client, f.ip + " route del default", f.ip + " route add default via " + f.gateway
				},
				"tcp", f.far, 8080, verdict.OutcomeNetUnreachable, "network is unreachable",
			},
			{
				"a prohibit route at the client", func() (string, string, string) {
					return client, f.ip + " route add prohibit " + f.far, f.ip + " route del prohibit " + f.far
				},
				"udp", f.far, 5353, verdict.OutcomeProhibited, "permission denied",
			},
			{
				"a prohibit route at the node", func() (string, string, string) {
					return "node-1", f.ip + " route add prohibit " + f.far, f.ip + " route del prohibit " + f.far
				},
				"icmp", f.far, 0, verdict.OutcomeProhibited, "from " + f.gateway,
			},
		} {
			t.Run(test.name, func(t *testing.T) {
				if at, set, unset := test.fault(); at != "" {
					w.do(t, at, set)
					defer w.do(t, at, unset)
				}
				report := w.confirm(t, w.collect(t), verdict.Query{From: "pod:" + client, To: test.to, Port: test.port, Protocol: test.protocol, Confirm: true}, frozen)
				o := report.Observed
				if o == nil {
					t.Fatalf("nothing was observed: %q", report.Assumptions)
				}
				if o.Outcome != test.want || !strings.Contains(o.Detail, test.detail) {
					t.Errorf("observed %s (%s), want %s (%s)", o.Outcome, o.Detail, test.want, test.detail)
				}
				if o.Agrees == nil || !*o.Agrees {
					t.Errorf("the simulation says %s, %s", Simulated(report), report.Reason())
				}
			})
		}
	}
	t.Run("families", func(t *testing.T) {
		for name, f := range families {
			t.Run(name, func(t *testing.T) {
				t.Parallel() // neither sees the faults of the other
				judge(t, f)
			})
		}
	})

	t.Run("a packet larger than the path", func(t *testing.T) {
		w.do(t, "node-1", "ip link set eth0 mtu 1400")
		defer w.do(t, "node-1", "ip link set eth0 mtu 1500")
		for _, to := range []string{"10.244.2.20", "fd00:10:244:2::20"} {
			report := w.confirm(t, w.collect(t), verdict.Query{From: "pod:" + client, To: to, Protocol: "icmp", Size: 1480, Confirm: true}, frozen)
			if o := report.Observed; o == nil || o.Outcome != verdict.OutcomeMessageTooLong || o.Agrees == nil || !*o.Agrees {
				t.Errorf("%s: observed %+v, the simulation says %s; want message-too-long", to, o, Simulated(report))
			}
		}
	})
	t.Run("the flow of the query is what is sent", func(t *testing.T) {
		// Only this one packet passes.
		w.do(t, client, "iptables-nft -A OUTPUT -p tcp -s 10.244.1.10 --sport 23456 -m mark --mark 7 -m dscp --dscp 10 -m owner --uid-owner 1234 -m tcp --dport 8080 -j ACCEPT")
		w.do(t, client, "iptables-nft -A OUTPUT -p tcp -m tcp --dport 8080 -j REJECT --reject-with tcp-reset")
		defer w.do(t, client, "iptables-nft -F OUTPUT")
		uid := uint32(1234)
		q := verdict.Query{From: "10.244.1.10", To: "10.244.1.20", Port: 8080, Protocol: "tcp", SourcePort: 23456, Mark: 7, DSCP: 10, UID: &uid, Confirm: true}
		now := w.collect(t)
		report := w.confirm(t, now, q, frozen)
		if o := report.Observed; o == nil || o.Outcome != verdict.OutcomeEstablished || o.Agrees == nil || !*o.Agrees || o.Source != (verdict.Source{IP: "10.244.1.10", Port: 23456}) {
			t.Errorf("observed %+v (%q), the simulation says %s", o, report.Assumptions, Simulated(report))
		}
		q.Mark = 8
		report = w.confirm(t, now, q, frozen)
		if o := report.Observed; o == nil || o.Outcome != verdict.OutcomeRefused || o.Agrees == nil || !*o.Agrees {
			t.Errorf("with another mark: observed %+v (%q), the simulation says %s", o, report.Assumptions, Simulated(report))
		}
	})
	t.Run("silence about a datagram proves nothing", func(t *testing.T) {
		w.do(t, "node-1", "iptables-nft -I FORWARD -p udp -d 10.244.2.20 -j DROP")
		defer w.do(t, "node-1", "iptables-nft -D FORWARD -p udp -d 10.244.2.20 -j DROP")
		report := w.confirm(t, w.collect(t), verdict.Query{From: "pod:" + client, To: "10.244.2.20", Port: 5353, Protocol: "udp", Confirm: true}, frozen)
		if o := report.Observed; o == nil || o.Outcome != verdict.OutcomeInconclusive || o.Agrees != nil {
			t.Errorf("observed %+v, want inconclusive", o)
		}
	})
	t.Run("stale state disagrees", func(t *testing.T) {
		stale := w.collect(t)
		q := verdict.Query{From: "pod:" + client, To: "pod:" + near, Port: 8080, Protocol: "tcp", Confirm: true}
		w.do(t, client, "iptables-nft -I OUTPUT -p tcp -d 10.244.1.20 -j DROP")
		defer w.do(t, client, "iptables-nft -D OUTPUT -p tcp -d 10.244.1.20 -j DROP")

		for name, again := range map[string]func(context.Context) (Subject, error){
			"and is said to, where nothing newer can be had":   frozen,
			"and is said to, where what is newer is as it was": func(context.Context) (Subject, error) { return World{World: stale}, nil },
		} {
			t.Run(name, func(t *testing.T) {
				report := w.confirm(t, stale, q, again)
				if o := report.Observed; o == nil || o.Outcome != verdict.OutcomeTimeout || o.Agrees == nil || *o.Agrees {
					t.Fatalf("observed %+v, want a timeout that disagrees", o)
				}
				i := slices.IndexFunc(report.Reasons, func(f verdict.Finding) bool { return f.Code == verdict.ObservedDisagrees })
				if i < 0 {
					t.Fatalf("no finding says so: %+v", report.Reasons)
				}
				want := "a real tcp probe from pod:shop/web-0 to pod:shop/api-0 ended in timeout, where the simulation says established"
				if f := report.Reasons[i]; f.Message != want || !strings.Contains(strings.Join(f.Evidence, "; "), "again") {
					t.Errorf("got %q, evidence %q; want %q", f.Message, f.Evidence, want)
				}
			})
		}
		t.Run("and is mended where it can be collected again", func(t *testing.T) {
			report := w.confirm(t, stale, q, func(context.Context) (Subject, error) { return World{World: w.collect(t)}, nil })
			if o := report.Observed; o == nil || o.Outcome != verdict.OutcomeTimeout || o.Agrees == nil || !*o.Agrees || report.Verdict != verdict.Unreachable {
				t.Errorf("observed %+v, %s; want a timeout that was predicted", o, report.Verdict)
			}
			if !strings.Contains(strings.Join(report.Assumptions, "\n"), "a first probe ended in timeout") {
				t.Errorf("assumptions say nothing of the first probe: %q", report.Assumptions)
			}
		})
	})
	t.Run("nothing is sent", func(t *testing.T) {
		now := w.collect(t)
		for name, test := range map[string]struct {
			q    verdict.Query
			want string
		}{
			"for what enters from outside": {
				verdict.Query{From: "192.0.2.1", To: "10.244.1.20", Port: 80, Protocol: "tcp", Via: &verdict.Via{Namespace: "plconf-node-1", Interface: "eth0"}},
				"nothing was sent to confirm this: the packet comes from outside",
			},
			"for a name that nothing bears": {
				verdict.Query{From: "pod:shop/nobody", To: "10.244.1.20", Port: 80, Protocol: "tcp"}, "nothing was sent to confirm this: there is no pod shop/nobody",
			},
			"to many": {
				verdict.Query{From: "pod:shop/web-0", To: "224.0.0.1", Port: 80, Protocol: "udp"}, "nothing was sent to confirm this: 224.0.0.1 is many",
			},
		} {
			t.Run(name, func(t *testing.T) {
				report := w.confirm(t, now, test.q, frozen)
				if report.Observed != nil || !strings.Contains(strings.Join(report.Assumptions, "\n"), test.want) {
					t.Errorf("observed %+v, assumptions %q; want %q", report.Observed, report.Assumptions, test.want)
				}
			})
		}
		t.Run("in a namespace that is gone", func(t *testing.T) {
			here := Here(func(string, func() error) error { return collector.ErrNoNamespace })
			c := New(here)
			report, err := now.Diagnose(verdict.Query{From: "pod:shop/web-0", To: "10.244.1.20", Port: 8080, Protocol: "tcp"})
			if err != nil {
				t.Fatal(err)
			}
			if report, err = c.Confirm(t.Context(), World{World: now}, report, frozen); err != nil || report.Observed != nil {
				t.Errorf("observed %+v (%v), want nothing", report.Observed, err)
			}
		})
	})
}
