package confirm

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/plumbline-net/plumbline/simulator/resolver"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// here is an agent whose node has one network namespace: that of this process.
func here(t *testing.T, handler http.Handler) (*http.Client, *url.URL) {
	t.Helper()
	if handler == nil {
		handler = Handler(func(namespace string, fn func() error) error {
			if namespace != "here" {
				return fmt.Errorf("no such network namespace: %s", namespace)
			}
			return fn()
		}, rate.NewLimiter(rate.Inf, 0))
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return server.Client(), address
}

func TestAnAgentIsAsked(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	to := listener.Addr().(*net.TCPAddr).AddrPort()
	p := Probe{Protocol: verdict.TCP, Destination: to.Addr(), Port: to.Port(), Timeout: 5 * time.Second}
	client, agent := here(t, nil)
	seen, err := Ask(t.Context(), client, agent, "here", p)
	if err != nil || seen.Outcome != verdict.OutcomeEstablished || seen.Source.Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("got %+v, %v", seen, err)
	}
	want := agent.Host + " answers 422 Unprocessable Entity: no such network namespace: there"
	if _, err := Ask(t.Context(), client, agent, "there", p); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestAMalformedOrderIsRefused(t *testing.T) {
	client, agent := here(t, nil)
	for name, test := range map[string]struct{ order, want string }{
		"no JSON":              {`hello`, "probe: invalid character 'h' looking for beginning of value"},
		"two":                  {`{"namespace":"here","probe":{}}{}`, "probe: text after the JSON object"},
		"an unknown field":     {`{"namespace":"here","probe":{"count":1000}}`, `probe: json: unknown field "count"`},
		"a name":               {`{"namespace":"here","probe":{"protocol":"tcp","destination":"localhost","port":80}}`, `probe: ParseAddr("localhost"): unable to parse IP`},
		"nothing":              {`{"namespace":"here"}`, "probe: want a probe or a question"},
		"both":                 {`{"namespace":"here","probe":{},"question":{}}`, "probe: want a probe or a question"},
		"no name":              {`{"namespace":"here","question":{"server":"127.0.0.1","name":"a..b"}}`, `probe: "a..b" is not a name that DNS can have`},
		"no server":            {`{"namespace":"here","question":{"name":"a.b"}}`, "probe: invalid IP is no address to send to"},
		"no destination":       {`{"namespace":"here","probe":{"protocol":"tcp","port":80,"timeout":1}}`, "probe: invalid IP is no address to send to"},
		"a zone":               {`{"namespace":"here","probe":{"protocol":"tcp","destination":"fe80::1%eth0","port":80,"timeout":1}}`, "probe: fe80::1%eth0 is no address to send to"},
		"everybody":            {`{"namespace":"here","probe":{"protocol":"udp","destination":"255.255.255.255","port":80,"timeout":1}}`, "probe: 255.255.255.255 is many: probes are sent to one address"},
		"a group":              {`{"namespace":"here","probe":{"protocol":"icmp","destination":"ff02::1","timeout":1}}`, "probe: ff02::1 is many: probes are sent to one address"},
		"a link-local address": {`{"namespace":"here","probe":{"protocol":"tcp","destination":"fe80::1","port":80,"timeout":1}}`, "probe: fe80::1 is a link-local address, and means something else on every interface"},
		"another family":       {`{"namespace":"here","probe":{"protocol":"tcp","source":"::1","destination":"127.0.0.1","port":80,"timeout":1}}`, "probe: ::1 cannot be the source of what goes to 127.0.0.1"},
		"another protocol":     {`{"namespace":"here","probe":{"protocol":"raw","destination":"127.0.0.1","port":80,"timeout":1}}`, `probe: protocol "raw" is not one of tcp, udp, icmp`},
		"SCTP":                 {`{"namespace":"here","probe":{"protocol":"sctp","destination":"127.0.0.1","port":80,"timeout":1}}`, "probe: probes of sctp are not supported"},
		"a redirect":           {`{"namespace":"here","probe":{"protocol":"icmp","icmpType":5,"destination":"127.0.0.1","timeout":1}}`, "probe: of icmp only echo requests are sent, not type 5"},
		"a port of icmp":       {`{"namespace":"here","probe":{"protocol":"icmp","port":80,"destination":"127.0.0.1","timeout":1}}`, "probe: the ports 0 and 80 are none of icmp"},
		"no port":              {`{"namespace":"here","probe":{"protocol":"udp","destination":"127.0.0.1","timeout":1}}`, "probe: the ports 0 and 0 are none of udp"},
		"a minute":             {`{"namespace":"here","probe":{"protocol":"tcp","destination":"127.0.0.1","port":80,"timeout":60000000000}}`, "probe: timeout 1m0s is not more than nothing, and at most 10s"},
		"a giant":              {`{"namespace":"here","probe":{"protocol":"udp","destination":"127.0.0.1","port":80,"timeout":1,"size":65536}}`, "probe: size 65536 is not from 0 to 65535 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := client.Post(agent.JoinPath(ProbePath).String(), "application/json", strings.NewReader(test.order))
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err != nil || answer.StatusCode != http.StatusBadRequest || string(body) != test.want+"\n" {
				t.Errorf("%s %q (%v), want 400 %q", answer.Status, body, err, test.want)
			}
		})
	}
}

// What an agent says ends up in labels, logs and pages.
func TestAnAgentIsNotBelievedEverything(t *testing.T) {
	p := Probe{Protocol: verdict.ICMP, Destination: netip.MustParseAddr("127.0.0.1"), Timeout: time.Second}
	for name, test := range map[string]struct{ answer, want string }{
		"an outcome that there is not": {`{"outcome":"splendid"}`, `"splendid" is no outcome`},
		"one of simulations only":      {`{"outcome":"unknown"}`, `"unknown" is no outcome`},
		"no JSON":                      {"<html>", "unreadable answer: invalid character '<' looking for beginning of value"},
		"no end":                       {`{"detail":"` + strings.Repeat("x", 1<<20), "unreadable answer: unexpected end of JSON input"},
	} {
		t.Run(name, func(t *testing.T) {
			client, agent := here(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, test.answer) }))
			if _, err := Ask(t.Context(), client, agent, "here", p); err == nil || err.Error() != agent.Host+": "+test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestAnswersOfNameServersAreNotBelievedEither(t *testing.T) {
	for _, answer := range []string{`{"status":"splendid"}`, `{"status":"ok","addresses":["fe80::1%eth0"]}`, `{"status":"ok","addresses":["::ffff:10.0.0.1"]}`, `{"status":"ok","addresses":[""]}`} {
		client, agent := here(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }))
		if _, err := AskName(t.Context(), client, agent, "here", resolver.Question{}); err == nil || err.Error() != agent.Host+": unreadable answer of a name server" {
			t.Errorf("%s: got %v", answer, err)
		}
	}
}

// TestAgreementAboutNames is about addresses 10.0.0.1 and 10.0.0.2, or none.
func TestAgreementAboutNames(t *testing.T) {
	first, second := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	reachable := []verdict.Path{{Outcome: verdict.OutcomeEstablished, Verdict: verdict.Reachable}}
	for name, test := range map[string]struct {
		addresses []string
		verdict   verdict.Verdict
		paths     []verdict.Path
		seen      verdict.Outcome
		at        netip.Addr
		want      string
	}{
		"an address that was simulated":      {[]string{"10.0.0.1"}, verdict.Reachable, reachable, verdict.OutcomeEstablished, first, "true"},
		"another address":                    {[]string{"10.0.0.1"}, verdict.Reachable, reachable, verdict.OutcomeEstablished, second, "false"},
		"another outcome":                    {[]string{"10.0.0.1"}, verdict.Reachable, reachable, verdict.OutcomeTimeout, first, "false"},
		"no address, where there was one":    {[]string{"10.0.0.1"}, verdict.Reachable, reachable, verdict.OutcomeUnresolved, netip.Addr{}, "false"},
		"no address, as simulated":           {nil, verdict.Unreachable, nil, verdict.OutcomeUnresolved, netip.Addr{}, "true"},
		"an address, where there was none":   {nil, verdict.Unreachable, nil, verdict.OutcomeEstablished, first, "false"},
		"no address, where nothing is known": {nil, verdict.Unknown, nil, verdict.OutcomeUnresolved, netip.Addr{}, "nil"},
		"an address, where nothing is known": {nil, verdict.Unknown, nil, verdict.OutcomeEstablished, first, "nil"},
		"no address, with a doubt":           {[]string{"10.0.0.1"}, verdict.Unknown, reachable, verdict.OutcomeUnresolved, netip.Addr{}, "nil"},
	} {
		report := &verdict.Report{Query: verdict.Query{To: "dns:api"}, Verdict: test.verdict, Paths: test.paths, Resolution: &verdict.Resolution{Addresses: test.addresses}}
		got := "nil"
		if agrees := agreement(report, test.seen, test.at); agrees != nil {
			got = fmt.Sprint(*agrees)
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestAgreement(t *testing.T) {
	odds := func(f float64) *float64 { return &f }
	path := func(o verdict.Outcome) verdict.Path {
		return verdict.Path{Outcome: o, Verdict: verdict.Unreachable, Destination: verdict.Destination{Namespace: "pod"}}
	}
	with := func(p verdict.Path, change func(*verdict.Path)) verdict.Path { change(&p); return p }
	leaving := with(path(verdict.OutcomeDelivered), func(p *verdict.Path) { p.Destination.Namespace = "" })
	undecided := with(path(verdict.OutcomeEstablished), func(p *verdict.Path) { p.Verdict = verdict.Unknown })
	stalled := with(path(verdict.OutcomeTimeout), func(p *verdict.Path) { p.Opened = true })
	never := with(path(verdict.OutcomeRefused), func(p *verdict.Path) { p.Probability = odds(0) })
	seldom := with(path(verdict.OutcomeRefused), func(p *verdict.Path) { p.Probability = odds(.01) })
	mostly := with(path(verdict.OutcomeEstablished), func(p *verdict.Path) { p.Probability = odds(.99) })
	for name, test := range map[string]struct {
		paths     []verdict.Path
		seen      verdict.Outcome
		want      string // of Agrees
		simulated verdict.Outcome
	}{
		"what was predicted":                     {[]verdict.Path{path(verdict.OutcomeTimeout)}, verdict.OutcomeTimeout, "true", verdict.OutcomeTimeout},
		"something else":                         {[]verdict.Path{path(verdict.OutcomeTimeout)}, verdict.OutcomeRefused, "false", verdict.OutcomeTimeout},
		"an unlikely path":                       {[]verdict.Path{mostly, seldom}, verdict.OutcomeRefused, "true", verdict.OutcomeRefused},
		"an impossible path":                     {[]verdict.Path{mostly, never}, verdict.OutcomeRefused, "false", verdict.OutcomeEstablished},
		"none of several":                        {[]verdict.Path{seldom, mostly}, verdict.OutcomeTimeout, "false", verdict.OutcomeEstablished},
		"nothing is known":                       {[]verdict.Path{undecided}, verdict.OutcomeTimeout, "nil", verdict.OutcomeUnknown},
		"not everything is known":                {[]verdict.Path{mostly, undecided}, verdict.OutcomeTimeout, "nil", verdict.OutcomeUnknown},
		"what is known is seen":                  {[]verdict.Path{undecided, mostly}, verdict.OutcomeEstablished, "true", verdict.OutcomeEstablished},
		"it is inconclusive":                     {[]verdict.Path{path(verdict.OutcomeAnswered)}, verdict.OutcomeInconclusive, "nil", verdict.OutcomeAnswered},
		"an answer from outside":                 {[]verdict.Path{leaving}, verdict.OutcomeEstablished, "true", verdict.OutcomeEstablished},
		"none from outside":                      {[]verdict.Path{leaving}, verdict.OutcomeTimeout, "nil", verdict.OutcomeUnknown},
		"an answer that should have got lost":    {[]verdict.Path{path(verdict.OutcomeDelivered)}, verdict.OutcomeAnswered, "false", verdict.OutcomeDelivered},
		"it opens, and data gets lost":           {[]verdict.Path{stalled}, verdict.OutcomeEstablished, "nil", verdict.OutcomeUnknown},
		"it should open, and data get lost":      {[]verdict.Path{stalled}, verdict.OutcomeRefused, "false", verdict.OutcomeTimeout},
		"nothing was simulated":                  {nil, verdict.OutcomeRefused, "nil", verdict.OutcomeUnknown},
		"a path of which the odds are not known": {[]verdict.Path{path(verdict.OutcomeReset), seldom}, verdict.OutcomeTimeout, "false", verdict.OutcomeRefused},
	} {
		t.Run(name, func(t *testing.T) {
			got := "nil"
			agrees := agreementOf(test.paths, test.seen)
			if agrees != nil {
				got = fmt.Sprint(*agrees)
			}
			simulated := Simulated(&verdict.Report{Paths: test.paths, Observed: &verdict.Observed{Outcome: test.seen, Agrees: agrees}})
			if got != test.want || simulated != test.simulated {
				t.Errorf("got %s, simulated %s; want %s, %s", got, simulated, test.want, test.simulated)
			}
		})
	}
}
