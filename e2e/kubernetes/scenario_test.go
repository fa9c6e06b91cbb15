package kubernetes

import (
	"embed"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

//go:embed testdata/base.yaml testdata/names.yaml testdata/scenarios
var testdata embed.FS

// scenario is a file of testdata/scenarios: text that says what it is about,
// and these parts, all but the last optional:
//
//	objects.yaml   Kubernetes objects that it adds to those of base.yaml
//	fault          what breaks then, a command a line: see stage.commands
//	later.yaml     objects that come when the fault is there
//	fix            what puts the fault right, in the same form
//	expect         what is expected of connections, one a line: see expectation
//	says           what the first reason says, in its message or evidence, wherever
//	               a connection fails: one a line, after tags as in an expectation
//
// A line of the text may say "only: TAG": the scenario makes sense in the
// clusters alone that have this tag. Those with the tag kube-router, in which it
// enforces network policies, come last.
type scenario struct {
	name                string
	objects, later      string
	only                []string
	fault, fix, expects []string
	says                []string
}

// scenarios are all there are, in the order of their names.
func scenarios(t *testing.T) (list []*scenario) {
	t.Helper()
	files, err := testdata.ReadDir("testdata/scenarios")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := testdata.ReadFile(path.Join("testdata/scenarios", f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseScenario(strings.TrimSuffix(f.Name(), ".txtar"), data)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

// TestScenariosAreWellFormed needs no cluster.
func TestScenariosAreWellFormed(t *testing.T) {
	for _, s := range scenarios(t) {
		for _, manifest := range []string{s.objects, s.later} {
			if _, err := parse(manifest); err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
		}
	}
}

func parseScenario(name string, data []byte) (*scenario, error) {
	archive := txtar.Parse(data)
	s := &scenario{name: name}
	for line := range strings.Lines(string(archive.Comment)) {
		if tags, ok := strings.CutPrefix(line, "only: "); ok {
			s.only = strings.Fields(tags)
		}
	}
	for _, f := range archive.Files {
		switch f.Name {
		case "objects.yaml":
			s.objects = string(f.Data)
		case "later.yaml":
			s.later = string(f.Data)
		case "fault":
			s.fault = lines(f.Data)
		case "fix":
			s.fix = lines(f.Data)
		case "expect":
			s.expects = lines(f.Data)
		case "says":
			s.says = lines(f.Data)
		default:
			return nil, fmt.Errorf("scenario %s: there is no part %q", name, f.Name)
		}
	}
	if len(s.expects) == 0 {
		return nil, fmt.Errorf("scenario %s expects nothing", name)
	}
	for _, line := range s.expects {
		if _, err := parseExpectation(line); err != nil {
			return nil, fmt.Errorf("scenario %s: %w", name, err)
		}
	}
	return s, nil
}

// lines are those of a text that are neither empty nor comments.
func lines(text []byte) (list []string) {
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			list = append(list, line)
		}
	}
	return list
}

// expectation is one connection and what becomes of it:
//
//	[TAG TAG] FROM -> TO PORT/PROTOCOL via PLACE INTERFACE: OUTCOMES VERDICT REASON
//
// The ends are those of a query, or an address in braces (see stage.words).
// Tags limit the line to clusters that have them all. There is one outcome for
// each kind of path, in alphabetical order, with commas in between. The reason
// is the report's first; without one there is none.
//
// The diagnosis sees all namespaces. Another, that sees those of nodes and pods
// alone, as in a real cluster, may say the same or that it does not know; the tag
// "inside" is for what is expected of that one. It judges what enters with via, too.
// The tag "some" is for a choice that the kernel makes once: some of what is
// diagnosed is seen then, and nothing else. With the tag "handshake" the server is
// not one of the lab: TCP's handshake is all that is tried, or a question to a name
// server. The outcome "none" is that of a query which names nothing that could be
// connected to, "unresolved" that of dns:NAME where the name comes to no address.
type expectation struct {
	tags   []string
	inside bool
	some   bool
	// handshake alone is made: the server does not speak as the lab's do.
	handshake bool
	query     verdict.Query
	outcomes  string
	verdict   verdict.Verdict
	reason    verdict.Code
}

var expectationForm = regexp.MustCompile(`^(?:\[(.*?)\] )?(\S+|\{.*?\}) -> (\S+|\{.*?\}) (?:(\d+)/)?(tcp|udp|icmp|sctp)(?: via (\S+) (\S+))?: (\S+) (\S+)(?: (\S+))?$`)

func parseExpectation(line string) (*expectation, error) {
	m := expectationForm.FindStringSubmatch(line)
	if m == nil {
		return nil, fmt.Errorf("expectation %q has not the form of one", line)
	}
	e := &expectation{tags: strings.Fields(m[1]), outcomes: m[8], verdict: verdict.Verdict(m[9]), reason: verdict.Code(m[10])}
	e.query = verdict.Query{From: m[2], To: m[3], Protocol: verdict.Protocol(m[5])}
	if m[4] != "" {
		port, err := strconv.ParseUint(m[4], 10, 16)
		if err != nil {
			return nil, fmt.Errorf("expectation %q: %w", line, err)
		}
		e.query.Port = uint16(port)
	}
	if m[6] != "" {
		e.query.Via, e.inside = &verdict.Via{Namespace: m[6], Interface: m[7]}, true
	}
	for tag, flag := range map[string]*bool{"inside": &e.inside, "some": &e.some, "handshake": &e.handshake} {
		if at := slices.Index(e.tags, tag); at >= 0 {
			*flag, e.tags = true, slices.Delete(e.tags, at, at+1)
		}
	}
	if !e.verdict.Valid() {
		return nil, fmt.Errorf("expectation %q: there is no verdict %q", line, e.verdict)
	}
	return e, nil
}
