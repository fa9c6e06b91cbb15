package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/plumbline-net/plumbline/confirm"
	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/resolver"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// TestScenarios holds diagnoses against real connections in clusters of real
// parts. Each cluster is started once; scenarios break it one after the other.
func TestScenarios(t *testing.T) {
	if os.Getenv(ComponentsVariable) == "" {
		t.Skip(ComponentsVariable + " is not set: make test-k8s sets it")
	}
	elsewhere := os.Getenv(ControlPlaneVariable) // as for a kernel with IPVS: see e2e/vm
	for _, tags := range stages {
		if ipvs := tags[0] == "ipvs"; ipvs != (elsewhere != "") {
			continue
		}
		t.Run(tags[0]+"-"+tags[1], func(t *testing.T) {
			t.Parallel()
			runScenarios(t, tags, Options{ProxyMode: tags[0], Plugin: tags[1], ControlPlane: elsewhere, Log: t.Logf})
		})
	}
}

func runScenarios(t *testing.T, tags []string, o Options) {
	c, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	stage := &stage{Cluster: c, nodes: []string{"node-1", "node-2"}, tags: tags[:2]}
	t.Cleanup(func() {
		if t.Failed() && stage.broken {
			t.Log(c.processes.complaints())
		}
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	if o.Plugin == flannel {
		stage.flannels = slices.Clone(stage.nodes)
	}
	base, err := testdata.ReadFile("testdata/base.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Apply(t.Context(), string(base)), c.Settled(t.Context(), stage.nodes...)); err != nil {
		t.Fatal(err, c.processes.complaints())
	}
	t.Run("proxy-mode", stage.proxiesSay)
	t.Run("names", stage.compareNames)
	play := func(list []*scenario) {
		for _, s := range list {
			t.Run(s.name, func(t *testing.T) { stage.play(t, s) })
			if stage.broken {
				t.Fatalf("scenario %s has left the cluster broken", s.name)
			}
		}
	}
	var now, enforced []*scenario
	for _, s := range scenarios(t) {
		switch {
		case s.playsWith(stage.tags):
			now = append(now, s)
		case s.playsWith(tags):
			enforced = append(enforced, s)
		}
	}
	play(now)
	if len(enforced) == 0 {
		return
	}
	if err := c.EnforcePolicies(t.Context()); err != nil {
		t.Fatal(err)
	}
	stage.enforcers, stage.tags = slices.Clone(stage.nodes), tags
	play(enforced)
}

// proxiesSay holds what is collected of kube-proxy against how it was started.
func (s *stage) proxiesSay(t *testing.T) {
	for _, ns := range against.Collect(t, s.Collector(t.Context())).Namespaces {
		if ns.Kind != netstack.KindNode || !slices.Contains(s.nodes, ns.Node) {
			continue
		}
		d := ns.Facts.Daemon("kube-proxy")
		if d == nil || d.Failure != "" || ns.Facts.ProxyMode != s.options.ProxyMode {
			t.Errorf("%s: %+v, mode %q; want %q", ns.Node, d, ns.Facts.ProxyMode, s.options.ProxyMode)
		}
	}
}

// stage is a cluster in which scenarios are played.
type stage struct {
	*Cluster
	nodes     []string // with kube-proxies that run
	enforcers []string // with kube-routers that run
	flannels  []string // with flannels that run
	tags      []string
	broken    bool // by a scenario that could not be undone
}

// settled waits until all that the API has been told is done.
func (s *stage) settled(ctx context.Context) error {
	if err := s.Settled(ctx, s.nodes...); err != nil {
		return err
	}
	return errors.Join(s.Joined(ctx, s.flannels...), s.Enforced(ctx, s.enforcers...))
}

// play brings about what a scenario says, looks at what is expected, and puts
// things right again.
func (s *stage) play(t *testing.T, sc *scenario) {
	ctx := t.Context()
	defer func() {
		if err := s.restore(context.WithoutCancel(ctx), sc); err != nil {
			s.broken = true
			t.Error(err)
		}
	}()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if sc.objects != "" {
		do(s.Apply(ctx, sc.objects))
		do(s.settled(ctx))
	}
	do(s.commands(ctx, sc.fault))
	if sc.later != "" {
		do(s.Apply(ctx, sc.later))
		do(s.settled(ctx))
	}
	snapshot := against.Collect(t, s.Collector(ctx))
	showSCTP(snapshot)
	inside := *snapshot
	inside.Namespaces = slices.DeleteFunc(slices.Clone(snapshot.Namespaces), func(n *netstack.Namespace) bool { return n.Kind == netstack.KindOther })
	stored, err := against.ThroughBundle(snapshot)
	do(err)
	seen := views{
		all: against.Compile(t, snapshot), inside: against.Compile(t, &inside), stored: against.Compile(t, stored), objects: &snapshot.Cluster,
		names: &confirm.Names{Ask: confirm.AskHere(lab.InNetns)}, asked: map[string]bool{},
	}
	words := s.words(seen.objects)
	for _, line := range sc.expects {
		e, err := parseExpectation(words.Replace(line))
		do(err)
		if !subset(e.tags, s.tags) {
			continue
		}
		report := s.judge(t, line, e, &seen)
		if report == nil {
			continue
		}
		for _, text := range sc.through {
			tags, text := cutTags(words.Replace(text))
			for i := range report.Paths {
				if trace := against.Trace(&report.Paths[i]); subset(tags, s.tags) && !strings.Contains(trace, text) {
					t.Errorf("%s\na path does not say %s:\n%s", line, text, trace)
				}
			}
		}
		if len(report.Reasons) == 0 {
			continue
		}
		for _, text := range sc.says {
			tags, text := cutTags(words.Replace(text))
			if reason := report.Reasons[0]; subset(tags, s.tags) && !strings.Contains(reason.Message+strings.Join(reason.Evidence, "\n"), text) {
				t.Errorf("%s\nthe first reason does not say %s: %s %q", line, text, reason.Message, reason.Evidence)
			}
		}
	}
}

// showSCTP adds the pods' SCTP listeners, which the lab has in place of the
// kernel's: their ports are those that the pods declare.
func showSCTP(s *simulator.Snapshot) {
	for i := range s.Cluster.Pods {
		p := &s.Cluster.Pods[i]
		for _, c := range p.Spec.Containers {
			for _, port := range c.Ports {
				at := slices.IndexFunc(s.Namespaces, func(ns *netstack.Namespace) bool { return ns.Pod == p.Namespace+"/"+p.Name })
				if port.Protocol == corev1.ProtocolSCTP && at >= 0 {
					lab.ShowSCTP(s.Namespaces[at], netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(port.ContainerPort)),
						netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port.ContainerPort)))
				}
			}
		}
	}
}

// restore undoes a scenario, makes the kernel forget what it has learnt from
// it, and makes sure that things are as they were.
func (s *stage) restore(ctx context.Context, sc *scenario) error {
	if err := errors.Join(s.commands(ctx, sc.fix), s.Delete(ctx, sc.later), s.Delete(ctx, sc.objects), s.settled(ctx)); err != nil {
		return err
	}
	o, err := s.Cluster.objects(ctx)()
	if err != nil {
		return err
	}
	places := append([]string{"outside", "router"}, s.nodes...)
	for i := range o.Pods {
		if !o.Pods[i].Spec.HostNetwork {
			places = append(places, o.Pods[i].Namespace+"/"+o.Pods[i].Name)
		}
	}
	for _, p := range places {
		_, errCache := s.Run(ctx, p, "ip", "-6", "route", "flush", "cache")
		err := errors.Join(errCache, s.batch(ctx, p, "neigh flush all\nroute flush cache"),
			lab.InNetns(s.Netns(p), func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }))
		if err != nil {
			return err
		}
	}
	for _, to := range []string{"10.96.0.80:80", "10.96.0.81:80", outside4 + ":443"} {
		fate, err := lab.ConnectFrom(ctx, s.Netns("shop/web"), netip.MustParseAddrPort(to), lab.ConnectOptions{FullSize: true})
		if err != nil {
			return err
		}
		if !fate.FullSize {
			return fmt.Errorf("a connection from shop/web to %s is %s afterwards: %w", to, fate.Outcome, fate.Err)
		}
	}
	return nil
}

// daemon runs on some of the nodes.
type daemon struct {
	running     *[]string // on these nodes
	start, stop func(node string) error
}

// daemons are those that scenarios stop and start.
func (s *stage) daemons() map[string]daemon {
	return map[string]daemon{
		"kube-proxy": {&s.nodes, s.StartProxy, s.StopProxy},
		enforcer:     {&s.enforcers, s.StartEnforcer, s.StopEnforcer},
		flannel:      {&s.flannels, s.StartFlannel, s.StopFlannel},
	}
}

// commands runs the lines of a fault: PLACE PROGRAM ARGUMENT…; or one of
//
//	kube-proxy NODE stop|start
//	kube-router NODE stop|start
//	flannel NODE stop|start
//	await PLACE PROGRAM ARGUMENT…
//	api patch|status|delete KIND NAMESPACE/NAME [PATCH]
//	health PLACE ADDRESS:PORT STATUS
//	settled
//
// where await waits until a program succeeds, and health until an HTTP server
// answers with that status.
// Tags limit a line to clusters that have them all.
func (s *stage) commands(ctx context.Context, list []string) error {
	if len(list) == 0 {
		return nil
	}
	o, err := s.Cluster.objects(ctx)()
	if err != nil {
		return err
	}
	words, daemons := s.words(&o), s.daemons()
	for _, line := range list {
		tags, command := cutTags(words.Replace(line))
		if !subset(tags, s.tags) {
			continue
		}
		argv := strings.Fields(command)
		daemon := daemons[argv[0]]
		switch {
		case argv[0] == "settled":
			err = s.settled(ctx)
		case daemon.running != nil && argv[2] == "stop":
			*daemon.running = slices.DeleteFunc(slices.Clone(*daemon.running), func(n string) bool { return n == argv[1] })
			err = daemon.stop(argv[1])
		case daemon.running != nil && argv[2] == "start":
			*daemon.running = append(*daemon.running, argv[1])
			err = daemon.start(argv[1])
		case argv[0] == "await":
			err = await(ctx, strings.Join(argv[2:], " "), func(ctx context.Context) error {
				_, err := s.Run(ctx, argv[1], argv[2:]...)
				return err
			})
		case argv[0] == "health":
			err = s.health(ctx, argv[1], argv[2], argv[3])
		case argv[0] == "api":
			err = s.api(ctx, argv[1:])
		default:
			_, err = s.Run(ctx, argv[0], argv[1:]...)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
	}
	return nil
}

func (s *stage) health(ctx context.Context, place, address, status string) error {
	return await(ctx, "http://"+address+" answers "+status, func(ctx context.Context) error {
		var conn net.Conn
		err := lab.InNetns(s.Netns(place), func() (err error) {
			conn, err = (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
			return err
		})
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(conn, "GET /healthz HTTP/1.0\r\nHost: %s\r\n\r\n", address); err != nil {
			return err
		}
		answer, err := io.ReadAll(conn)
		if !strings.Contains(string(answer), " "+status+" ") {
			return errors.Join(fmt.Errorf("it answers %q", answer), err)
		}
		return nil
	})
}

func (s *stage) api(ctx context.Context, argv []string) error {
	namespace, name, namespaced := strings.Cut(argv[2], "/")
	if !namespaced {
		namespace, name = "", namespace
	}
	switch argv[0] {
	case "patch":
		return s.Patch(ctx, argv[1], namespace, name, strings.Join(argv[3:], " "))
	case "status":
		return s.PatchStatus(ctx, argv[1], namespace, name, strings.Join(argv[3:], " "))
	case "delete": // with all the grace that it has
		return s.DeleteGently(ctx, argv[1], namespace, name)
	}
	return fmt.Errorf("%q is neither patch, status nor delete", argv[0])
}

// words replaces what is written in braces by what it is called in this
// cluster: {NAMESPACE/POD}, {node-1} and {outside} are IPv4 addresses, the same
// with " 6" IPv6 addresses; {pods node-1} is the range of a node's pods, {first node-1}
// its first address; {veth NAMESPACE/POD} is the node's end of a pod's wire; {mac node-1
// DEVICE} is the hardware address of a VXLAN device; {netns PLACE} is a network
// namespace.
func (s *stage) words(o *cluster.Objects) *strings.Replacer {
	var pairs []string
	add := func(word, value string) { pairs = append(pairs, "{"+word+"}", value) }
	add("outside", outside4)
	add("outside 6", outside6)
	places := []string{"outside", "router", "control"}
	for _, n := range s.Cluster.nodes {
		add(n.name, n.addrs[0].String())
		add(n.name+" 6", n.addrs[1].String())
		add("pods "+n.name, n.pods[0].String())
		add("pods "+n.name+" 6", n.pods[1].String())
		add("first "+n.name, n.pods[0].Addr().String())
		add("first "+n.name+" 6", n.pods[1].Addr().String())
		for _, l := range s.links(n.name, "vxlan") {
			add("mac "+n.name+" "+l.Name, l.Address)
		}
		add("gateway "+n.name, n.pods[0].Addr().Next().String())
		add("gateway "+n.name+" 6", n.pods[1].Addr().Next().String())
		places = append(places, n.name)
	}
	for i := range o.Pods {
		p := &o.Pods[i]
		id := p.Namespace + "/" + p.Name
		for _, ip := range p.Status.PodIPs {
			if strings.Contains(ip.IP, ":") {
				add(id+" 6", ip.IP)
			} else {
				add(id, ip.IP)
			}
		}
		if !p.Spec.HostNetwork {
			places = append(places, id)
			add("veth "+id, s.veth(id, p.Spec.NodeName))
		}
	}
	for _, p := range places {
		add("netns "+p, s.Netns(p))
	}
	return strings.NewReplacer(pairs...)
}

// veth is what a node calls its end of a pod's wire, and "" if there is none.
func (s *stage) veth(pod, node string) string {
	for _, in := range s.links(pod, "veth") {
		for _, out := range s.links(node, "veth") {
			if in.Name == podInterface && out.Index == in.Peer {
				return out.Name
			}
		}
	}
	return ""
}

// link is what ip(8) says of one.
type link struct {
	Index   int    `json:"ifindex"`
	Peer    int    `json:"link_index"`
	Name    string `json:"ifname"`
	Address string `json:"address"`
}

// links are those of one kind; where they cannot be listed, there are none.
func (s *stage) links(place, kind string) (links []link) {
	if out, err := s.Run(context.Background(), place, "ip", "-j", "link", "show", "type", kind); err == nil {
		_ = json.Unmarshal(out, &links)
	}
	return links
}

// views are what a diagnosis may see of a cluster: all, its nodes and pods alone,
// or all as a bundle has it.
type views struct {
	all, inside, stored *simulator.World
	names               *confirm.Names
	asked               map[string]bool // for which queries name servers were asked: once
	objects             *cluster.Objects
}

// ending is what a path or a connection comes to, in the words of both.
type ending struct {
	outcome string
	verdict verdict.Verdict
	// Of those that succeed: who answers, by network namespace, and which address
	// it sees the client by; UDP listeners do not say.
	at, seen string
}

// judge compares a report with what is expected, and with real connections.
func (s *stage) judge(t *testing.T, line string, e *expectation, seen *views) *verdict.Report {
	t.Helper()
	if e.outcomes == "none" { // there is nothing to connect to
		if report := seen.diagnose(t, seen.all, e.query); len(report.Paths) > 0 || !e.met(report) {
			t.Errorf("%s\nsimulated: %d paths, %s %s@%s", line, len(report.Paths), report.Verdict, report.Reason(), placeOf(report))
		}
		return nil
	}
	from, to, err := s.ends(t.Context(), e, seen.objects)
	if err != nil {
		t.Errorf("%s: %v", line, err)
		return nil
	}
	name, named := nameOf(seen.objects, e.query.To)
	if named {
		report := seen.diagnose(t, seen.all, e.query)
		addresses := []string{}
		for _, a := range to {
			addresses = append(addresses, a.Addr().String())
		}
		slices.Sort(addresses)
		if r := report.Resolution; r == nil || !slices.Equal(addresses, slices.Sorted(slices.Values(r.Addresses))) {
			t.Errorf("%s\n%s has the addresses %v; simulated was %+v %v", line, name, addresses, r, report.Reasons)
			return report
		}
		if len(to) == 0 {
			if e.outcomes != "unresolved" || !e.met(report) {
				t.Errorf("%s\nsimulated: unresolved %s %v", line, report.Verdict, report.Reasons)
			}
			s.alike(t, line, e, seen, report)
			s.confirm(t, line, e, seen, seen.all)
			return report
		}
		// The client goes on to addresses of the other version after these.
		to = slices.DeleteFunc(to, func(a netip.AddrPort) bool { return a.Addr().Is4() != to[0].Addr().Is4() })
	}
	if via := e.query.Via; via != nil {
		via.Namespace = s.Netns(via.Namespace)
	}
	if place, ok := strings.CutPrefix(e.query.From, "ns:"); ok {
		e.query.From = "ns:" + s.Netns(place)
	}
	world := seen.all
	if e.inside {
		world = seen.inside
	}
	report := seen.diagnose(t, world, e.query)
	simulated := map[ending]bool{}
	outcomes := map[string]bool{}
	for i := range report.Paths {
		p := &report.Paths[i]
		outcomes[string(p.Outcome)] = true
		end := pathEnding(p, e.query.Protocol)
		if e.handshake {
			end.at, end.seen = "", ""
		}
		simulated[end] = true
	}
	failed := false
	errorf := func(format string, args ...any) {
		t.Helper()
		failed = true
		t.Errorf(line+"\n"+format, args...)
	}
	if got := strings.Join(sorted(outcomes), ","); got != e.outcomes || !e.met(report) {
		errorf("simulated: %s %s %s@%s", got, report.Verdict, report.Reason(), placeOf(report))
	}
	explained := slices.ContainsFunc(report.Reasons, func(f verdict.Finding) bool {
		return f.Code == verdict.NetworkPolicyDeny || f.Code == verdict.NetworkPolicyNotEnforced
	})
	if denied := report.Policy.Verdict == verdict.PolicyDeny; denied != explained {
		errorf("the API's policies say %s, by %q", report.Policy.Verdict, report.Policy.Policies)
	}
	real, err := s.connect(t.Context(), e, from, to, simulated, hostPods(seen.objects))
	if err != nil {
		errorf("%v", err)
	}
	// What happens outside is not known; where the diagnosis knows nothing, all is right.
	if !report.Boundary && report.Verdict != verdict.Unknown {
		for ending := range real {
			if !simulated[ending] {
				errorf("the kernel made it %+v; simulated were %+v", ending, simulated)
			}
		}
		for ending := range simulated {
			if real[ending] == 0 && !e.some {
				errorf("simulated %+v; what connections came to: %+v", ending, real)
			}
		}
	}
	// Probes that nobody answers take their time, and ICMP errors are limited in rate. None speaks SCTP.
	if e.query.Via == nil && e.query.Protocol != "sctp" && (e.outcomes == "established" || e.outcomes == "answered") {
		s.confirm(t, line, e, seen, world)
	}
	s.alike(t, line, e, seen, report)
	if failed {
		for i := range report.Paths {
			t.Logf("%v\n%s", report.Paths[i].Findings, against.Trace(&report.Paths[i]))
		}
		t.Logf("reasons: %v", report.Reasons)
	}
	return report
}

// diagnose answers a query, with what name servers say where it asks about a name.
func (v *views) diagnose(t *testing.T, w *simulator.World, q verdict.Query) *verdict.Report {
	t.Helper()
	if id := q.From + " " + q.To; !v.asked[id] {
		v.asked[id] = true
		if _, err := v.names.Diagnose(t.Context(), v.all, q); err != nil {
			t.Fatal(err)
		}
	}
	r, err := w.DiagnoseWith(q, resolver.AnswersOf(v.names.Known(time.Time{})))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// alike makes sure that a bundle is diagnosed alike, and what those say who see less.
func (s *stage) alike(t *testing.T, line string, e *expectation, seen *views, report *verdict.Report) {
	t.Helper()
	if !e.inside {
		if diff := cmp.Diff(report, seen.diagnose(t, seen.stored, e.query)); diff != "" {
			t.Errorf(line+"\nthe bundle is diagnosed differently (-live +bundle):\n%s", diff)
		}
	}
	if !e.inside && !strings.HasPrefix(e.query.From, "ns:") {
		narrow := seen.diagnose(t, seen.inside, e.query)
		// What leaves the collected world is said there, and what it leaves as.
		same := narrow.Verdict == report.Verdict && (narrow.Reason() == report.Reason() || narrow.Boundary &&
			(narrow.Reason() == verdict.LeavesModel || narrow.Reason() == verdict.EgressNotTranslated))
		if e.blind && narrow.Verdict != verdict.Unknown || !e.blind && !same {
			t.Errorf(line+"\nseen from nodes and pods alone, it is %s %v, not %s %s", narrow.Verdict, narrow.Reasons, report.Verdict, report.Reason())
		}
	}
}

// confirm wants a real probe to find what was diagnosed.
func (s *stage) confirm(t *testing.T, line string, e *expectation, seen *views, world *simulator.World) {
	t.Helper()
	report := seen.diagnose(t, world, e.query)
	report, err := confirm.New(confirm.Here(lab.InNetns)).Confirm(t.Context(), confirm.World{World: world, Names: seen.names}, report, frozen)
	if err != nil {
		t.Fatal(err)
	}
	if o := report.Observed; o == nil || o.Agrees == nil || !*o.Agrees {
		t.Errorf("%s\na real probe observed %+v: %v", line, o, report.Assumptions)
	}
}

// frozen is collecting again where nothing has changed.
func frozen(context.Context) (confirm.Subject, error) { return nil, errors.New("not collected again") }

func pathEnding(p *verdict.Path, protocol verdict.Protocol) ending {
	e := ending{outcome: string(p.Outcome), verdict: p.Verdict}
	switch {
	case p.Outcome == verdict.OutcomeDelivered:
		e.outcome = lab.Timeout // silence is all that the client can see
	case p.Outcome == verdict.OutcomeEstablished:
		e.at, e.seen = p.Destination.Namespace, p.SeenAs.IP
	case p.Outcome == verdict.OutcomeAnswered && protocol == verdict.UDP:
		e.at = p.Destination.Namespace
	}
	return e
}

// connect makes connections until all that was simulated has been seen, or
// something else, or the odds of there being more are small: of two backends,
// 40 connections miss one with a probability of 2 to the -39. Where all is well, and
// something may choose among backends, eight more look for one that is not.
func (s *stage) connect(ctx context.Context, e *expectation, from string, targets []netip.AddrPort, simulated map[ending]bool, hosts map[string]string) (map[ending]int, error) {
	real := map[ending]int{}
	tries, more := 40, 0
	if e.some {
		tries = 3
	} else if e.verdict == verdict.Reachable && !strings.HasPrefix(e.query.To, "pod:") {
		more = 8
	}
	for try := range tries {
		to := targets[try%len(targets)]
		if e.handshake {
			outcome, err := handshake(ctx, e.query.Protocol, from, to)
			if err != nil {
				return real, err
			}
			end := ending{outcome: outcome, verdict: verdict.Unreachable}
			if outcome == lab.Established || outcome == lab.Answered {
				end.verdict = verdict.Reachable
			}
			real[end]++
			break
		}
		fate, err := lab.ConnectFrom(ctx, from, to, lab.ConnectOptions{Protocol: string(e.query.Protocol), FullSize: e.query.Protocol == verdict.TCP})
		if err != nil {
			return real, err
		}
		end := ending{outcome: fate.Outcome, verdict: verdict.Unreachable}
		switch fate.Outcome {
		case lab.Established:
			end.verdict = verdict.Reachable
			if e.query.Protocol == verdict.TCP && !fate.FullSize {
				end.verdict = verdict.Degraded
			}
			end.seen = fate.Seen.Addr().Unmap().String()
			end.at = s.at(fate.Peer, hosts)
		case lab.Answered:
			end.verdict = verdict.Reachable
			if e.query.Protocol == verdict.UDP {
				end.at = s.at(fate.Peer, hosts)
			}
		case lab.Timeout:
			// That a datagram arrives, its receiver alone knows.
			if arrived := (ending{outcome: lab.Timeout, verdict: verdict.Degraded}); e.query.Protocol == verdict.UDP && simulated[arrived] {
				end = arrived
			}
		}
		real[end]++
		if !simulated[end] {
			break
		}
		if len(real) == len(simulated) {
			if more--; more < 0 {
				break
			}
		}
	}
	return real, nil
}

// handshake says what becomes of one alone; of UDP, of a question to a name server.
func handshake(ctx context.Context, protocol verdict.Protocol, from string, to netip.AddrPort) (outcome string, err error) {
	if protocol == verdict.UDP {
		outcome = lab.Answered
		_, err = exchange(ctx, from, to.String(), packQuestion(".", dnsmessage.TypeNS))
	} else {
		outcome = lab.Established
		err = lab.InNetns(from, func() error {
			conn, err := (&net.Dialer{Timeout: silence}).DialContext(ctx, "tcp", to.String())
			if err == nil {
				conn.Close()
			}
			return err
		})
	}
	var netErr net.Error
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return lab.Refused, nil
	case errors.As(err, &netErr) && netErr.Timeout():
		return lab.Timeout, nil
	}
	return outcome, err
}

// at is the network namespace of a listener.
func (s *stage) at(peer string, hosts map[string]string) string {
	if node := hosts[peer]; node != "" {
		return s.Netns(node)
	}
	return s.Netns(peer)
}

// hostPods are the nodes of pods that live in their node's namespace.
func hostPods(o *cluster.Objects) map[string]string {
	hosts := map[string]string{}
	for i := range o.Pods {
		if p := &o.Pods[i]; p.Spec.HostNetwork {
			hosts[p.Namespace+"/"+p.Name] = p.Spec.NodeName
		}
	}
	return hosts
}

// ends are the network namespace and the addresses that an expectation means: of a
// name, those that the source resolves it to.
func (s *stage) ends(ctx context.Context, e *expectation, o *cluster.Objects) (from string, to []netip.AddrPort, err error) {
	addresses := map[string]string{}
	for _, n := range s.Cluster.nodes {
		addresses["node:"+n.name] = n.addrs[0].String()
	}
	for i := range o.Pods {
		addresses["pod:"+o.Pods[i].Namespace+"/"+o.Pods[i].Name] = o.Pods[i].Status.PodIP
	}
	for i := range o.Services {
		addresses["svc:"+o.Services[i].Namespace+"/"+o.Services[i].Name] = o.Services[i].Spec.ClusterIP
	}
	kind, place, found := strings.Cut(e.query.From, ":")
	if !found || strings.Contains(place, ":") { // an address: only those outside enter somewhere
		kind, place = "ns", "outside"
	}
	if hosts := hostPods(o); kind == "pod" && hosts[place] != "" {
		place = hosts[place]
	}
	var addrs []netip.Addr
	if name, named := nameOf(o, e.query.To); named {
		addrs, err = s.resolve(ctx, place, name)
	} else {
		target := e.query.To
		if a, ok := addresses[target]; ok {
			target = a
		}
		addrs = make([]netip.Addr, 1)
		addrs[0], err = netip.ParseAddr(target)
	}
	for _, a := range addrs {
		to = append(to, netip.AddrPortFrom(a, e.query.Port))
	}
	return s.Netns(place), to, err
}

// nameOf is the name by which clients know a destination that has no address of its own:
// dns:NAME, a headless Service, or one that stands for another name.
func nameOf(o *cluster.Objects, to string) (string, bool) {
	for i := range o.Services {
		s := &o.Services[i]
		if to == "svc:"+s.Namespace+"/"+s.Name && (s.Spec.ClusterIP == corev1.ClusterIPNone || s.Spec.Type == corev1.ServiceTypeExternalName) {
			return s.Name + "." + s.Namespace + ".svc.cluster.local.", true
		}
	}
	return strings.CutPrefix(to, "dns:")
}

func sorted(set map[string]bool) []string {
	var list []string
	for s := range set {
		list = append(list, s)
	}
	slices.Sort(list)
	return list
}
