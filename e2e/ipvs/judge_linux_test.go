package ipvs

import (
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

func TestScenarios(t *testing.T) {
	need(t)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.makeWorld(t)
			for _, s := range scenarios {
				t.Run(s.name, func(t *testing.T) { s.run(t, &f) })
			}
		})
	}
}

// undo brings the world back to what it was before a scenario.
var undo = []string{
	"n ipvsadm -C", "n sysctl -qw net.ipv4.vs.conntrack=0 net.ipv4.conf.all.accept_local=0",
	"n sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0",
	"n {iptables} -F", "n {iptables} -t nat -F", "n {iptables} -t mangle -F",
}

var word = regexp.MustCompile(`\{\w+\}|(^|[ ])(\d+\.\d+)(:\d+|/\d+)?`)

// expand puts the words of the family into a line.
func expand(line string, f *family) []string {
	line = word.ReplaceAllStringFunc(line, func(w string) string {
		switch w {
		case "{iptables}":
			return f.iptables
		case "{tunnel}":
			if f.option == "-6" {
				return "ip6tnl mode ip6ip6"
			}
			return "ipip"
		case "{family}":
			if f.option == "-6" {
				return "-6"
			}
			return ""
		}
		space, w := w[:len(w)-len(strings.TrimLeft(w, " "))], strings.TrimLeft(w, " ")
		if short, port, ok := strings.Cut(w, ":"); ok {
			return space + f.host(short, port)
		}
		short, bits, isNet := strings.Cut(w, "/")
		switch {
		case isNet && f.option == "-6":
			bits = map[string]string{"24": "64", "32": "128"}[bits]
			fallthrough
		case isNet:
			return space + f.addr(short) + "/" + bits
		}
		return space + f.addr(short)
	})
	return strings.Fields(line)
}

func (s *scenario) run(t *testing.T, f *family) {
	lines := slices.Clone(undo)
	for _, ns := range []string{"p", "q"} { // addresses of direct routing, and the tunnel
		exec.Command("ip", "-n", f.netns(ns), "link", "del", "t0").Run()
		exec.Command("ip", append([]string{"-n", f.netns(ns), "addr", "del"}, expand("9.9/32 dev lo", f)...)...).Run()
	}
	for line := range strings.Lines(s.setup) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	for _, line := range lines {
		words := expand(line, f)
		f.command(t, words[0], words[1:]...)
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := exec.Command("ip", "netns", "exec", f.netns("n"), "ipvsadm", "-S", "-n").Output()
			t.Logf("IPVS:\n%s", out)
		}
	})
	world := f.collect(t)
	port := s.port
	if port == "" {
		port = "8000"
	}
	to := netip.MustParseAddrPort(f.host("9.9", port))
	for line := range strings.Lines(s.fates) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		who, wanted, _ := strings.Cut(line, ":")
		protocol, client, _ := strings.Cut(who, " ")
		if version := strings.TrimLeft(protocol, "tcpudim"); version != "" && !strings.HasSuffix(f.name, version) {
			continue
		}
		protocol = strings.TrimRight(protocol, "46")
		f.judge(t, world, protocol, client, to, strings.Fields(wanted))
	}
}

// judge holds the simulator and the kernel against what is wanted.
func (f *family) judge(t *testing.T, world *simulator.World, protocol, client string, to netip.AddrPort, want []string) {
	t.Helper()
	query := verdict.Query{From: "ns:" + f.netns(client), To: to.Addr().String(), Port: to.Port(), Protocol: verdict.Protocol(protocol)}
	if protocol == "icmp" {
		query.Port = 0
	}
	report, err := world.Diagnose(query)
	if err != nil {
		t.Fatal(err)
	}
	name := protocol + " from " + client
	var fates []string
	certain := true // all that is predicted happens
	for i := range report.Paths {
		p := &report.Paths[i]
		certain = certain && p.Probability != nil
		if fate := f.simulated(p); !slices.Contains(fates, fate) {
			fates = append(fates, fate)
		}
	}
	slices.Sort(fates)
	slices.Sort(want)
	if !slices.Equal(fates, want) {
		t.Errorf("%s: simulated %q, want %q\n%s", name, fates, want, trace(report))
	}
	if report.Verdict == verdict.Unknown {
		return
	}
	predicted := make([]string, len(fates))
	for i, fate := range fates {
		predicted[i], _, _ = strings.Cut(fate, "/")
	}
	happened := f.actual(t, client, protocol, to, predicted)
	for _, fate := range happened {
		if !slices.Contains(predicted, fate) {
			t.Errorf("%s: the kernel made it %q, simulated was %q\n%s", name, happened, fates, trace(report))
			return
		}
	}
	if certain && len(happened) != len(slices.Compact(slices.Sorted(slices.Values(predicted)))) {
		t.Errorf("%s: of %q only %q happened", name, predicted, happened)
	}
}

// simulated is the server that answers, or what the client sees and why.
func (f *family) simulated(p *verdict.Path) string {
	switch {
	case p.Verdict == verdict.Reachable:
		return strings.TrimPrefix(p.Destination.Namespace, f.netns(""))
	case len(p.Findings) == 0:
		return string(p.Outcome) + "/"
	}
	outcome := p.Outcome
	if outcome == verdict.OutcomeDelivered {
		outcome = verdict.OutcomeTimeout // all that the client sees
	}
	return string(outcome) + "/" + string(p.Findings[0].Code)
}

// actual makes connections, and returns what became of them. On a busy machine
// silence means little: it is tried again when something else is predicted.
func (f *family) actual(t *testing.T, client, protocol string, to netip.AddrPort, predicted []string) []string {
	t.Helper()
	const patience = 3 * time.Second
	var seen []string
	for try := 0; try < 2*len(predicted) || try < 12 && len(seen) < len(predicted); try++ {
		options := lab.ConnectOptions{Protocol: protocol, Timeout: patience}
		if len(predicted) == 1 && predicted[0] == lab.Timeout {
			options.Timeout = time.Second
		}
		fate, err := lab.ConnectFrom(t.Context(), f.netns(client), to, options)
		if err != nil {
			t.Fatal(err)
		}
		result := fate.Outcome
		switch {
		case fate.Peer != "":
			result = fate.Peer
		case protocol == "icmp" && fate.Outcome == lab.Answered:
			result = "n" // whose address it is
		case fate.Outcome == lab.Timeout && !slices.Contains(predicted, lab.Timeout) && try < 3:
			continue
		}
		if !slices.Contains(seen, result) {
			seen = append(seen, result)
		}
		if len(predicted) == 1 {
			break
		}
	}
	slices.Sort(seen)
	return seen
}

func trace(r *verdict.Report) string {
	var text strings.Builder
	for i := range r.Paths {
		p := &r.Paths[i]
		fmt.Fprintf(&text, "path %s %s %v\n", p.Verdict, p.Outcome, p.Findings)
		text.WriteString(against.Trace(p))
	}
	return text.String()
}
