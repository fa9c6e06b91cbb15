package kubernetes

import (
	"cmp"
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
//	through        what the trace of each path says, one a line, after tags
//
// A line of the text may say "only: TAG": the scenario makes sense in the
// clusters alone that have this tag. Those with the tag kube-router, in which it
// enforces network policies, come last. Clusters with flannel play what names its
// tag, there or in a line "also: TAG": most of the others have nothing to do with
// how nodes are joined, or break what it has not made. Nowhere is a scenario played
// of which no expectation holds there.
type scenario struct {
	name                string
	objects, later      string
	only, also          []string
	fault, fix, expects []string
	says, through       []string
}

// enforcer is the tag of clusters in which kube-router enforces network policies.
const enforcer = "kube-router"

// joiner is the tag of clusters whose nodes flannel joins.
const joiner = "flannel"

// stages are the clusters in which scenarios are played, by their tags: the mode of
// kube-proxy, the network plugin, and whether policies are enforced in the end.
// The last one is played in the virtual machine, as its kernel has IPVS.
var stages = [][]string{
	{"iptables", "bridge", enforcer},
	{"nftables", "bridge"},
	{"nftables", "ptp", enforcer},
	{"nftables", joiner}, // so that it writes rules of nftables, too: those of iptables the others have
	{"ipvs", "bridge"},
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
	known := slices.Concat(stages...)
	for _, s := range scenarios(t) {
		if !slices.ContainsFunc(stages, s.playsWith) {
			t.Errorf("%s: no cluster plays it", s.name)
		}
		for _, tag := range s.tags() {
			if !slices.Contains(known, tag) {
				t.Errorf("%s: no cluster has the tag %q", s.name, tag)
			}
		}
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
		} else if tags, ok := strings.CutPrefix(line, "also: "); ok {
			s.also = strings.Fields(tags)
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
		case "through":
			s.through = lines(f.Data)
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

// playsWith says whether a cluster with these tags has anything to show of it.
func (s *scenario) playsWith(tags []string) bool {
	if len(s.only) > 0 && !slices.ContainsFunc(s.only, func(tag string) bool { return slices.Contains(tags, tag) }) {
		return false
	}
	if slices.Contains(tags, joiner) && !slices.Contains(s.tags(), joiner) {
		return false
	}
	return slices.ContainsFunc(s.expects, func(line string) bool {
		e, err := parseExpectation(line)
		return err == nil && subset(e.tags, tags)
	})
}

// tags are all that it names.
func (s *scenario) tags() []string {
	list := slices.Concat(s.only, s.also)
	for _, line := range s.expects {
		if e, err := parseExpectation(line); err == nil {
			list = append(list, e.tags...)
		}
	}
	for _, line := range slices.Concat(s.fault, s.fix, s.says, s.through) {
		tags, _ := cutTags(line)
		list = append(list, tags...)
	}
	return list
}

// cutTags takes the tags off a line that begins with them: [TAG TAG] REST.
func cutTags(line string) (tags []string, rest string) {
	if inner, found := strings.CutPrefix(line, "["); found {
		if inner, after, found := strings.Cut(inner, "] "); found {
			return strings.Fields(inner), after
		}
	}
	return nil, line
}

// subset says whether a cluster with the second has all of the first.
func subset(tags, of []string) bool {
	return !slices.ContainsFunc(tags, func(tag string) bool { return !slices.Contains(of, tag) })
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
// is the report's first; without one there is none. REASON@NODE says on which
// node, REASON@NAMESPACE/POD in which pod it is.
//
// The diagnosis sees all namespaces. Another, that sees those of nodes and pods
// alone, as in a real cluster, has to say the same; with the tag "blind" it has to say
// that it does not know. The tag "inside" is for what is expected of that one. It
// judges what enters with via, too.
// The tag "some" is for a choice that the kernel makes once: some of what is
// diagnosed is seen then, and nothing else. With the tag "handshake" the server is
// not one of the lab: TCP's handshake is all that is tried, or a question to a name
// server. The outcome "none" is that of a query which names nothing that could be
// connected to, "unresolved" that of dns:NAME, or a Service that
// stands for a name, where the name comes to no address.
type expectation struct {
	tags   []string
	inside bool
	blind  bool
	some   bool
	// handshake alone is made: the server does not speak as the lab's do.
	handshake bool
	query     verdict.Query
	outcomes  string
	verdict   verdict.Verdict
	reason    verdict.Code
	where     string // the node or the pod of the reason; "" is anywhere
}

var expectationForm = regexp.MustCompile(`^(?:\[(.*?)\] )?(\S+|\{.*?\}) -> (\S+|\{.*?\}) (?:(\d+)/)?(tcp|udp|icmp|sctp)(?: via (\S+) (\S+))?: (\S+) (\S+)(?: (\S+))?$`)

func parseExpectation(line string) (*expectation, error) {
	m := expectationForm.FindStringSubmatch(line)
	if m == nil {
		return nil, fmt.Errorf("expectation %q has not the form of one", line)
	}
	reason, where, _ := strings.Cut(m[10], "@")
	e := &expectation{tags: strings.Fields(m[1]), outcomes: m[8], verdict: verdict.Verdict(m[9]), reason: verdict.Code(reason), where: where}
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
	for tag, flag := range map[string]*bool{"inside": &e.inside, "blind": &e.blind, "some": &e.some, "handshake": &e.handshake} {
		if at := slices.Index(e.tags, tag); at >= 0 {
			*flag, e.tags = true, slices.Delete(e.tags, at, at+1)
		}
	}
	if !e.verdict.Valid() {
		return nil, fmt.Errorf("expectation %q: there is no verdict %q", line, e.verdict)
	}
	return e, nil
}

// met says whether a report has the verdict and the first reason that are expected.
func (e *expectation) met(r *verdict.Report) bool {
	if r.Verdict != e.verdict || r.Reason() != e.reason {
		return false
	}
	return e.where == "" || e.where == placeOf(r)
}

// placeOf is where the first reason is: a pod, or else a node.
func placeOf(r *verdict.Report) string {
	if len(r.Reasons) == 0 {
		return ""
	}
	return cmp.Or(r.Reasons[0].Where.Pod, r.Reasons[0].Where.Node)
}
