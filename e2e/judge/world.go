// Package judge holds the simulator against the kernel over random worlds: small sets of network namespaces with links,
// addresses, routes, rules and sets drawn from a seed. A world is built for real, packets are sent through it, and what
// becomes of each is compared with what the simulator says of the collected state, and of that state read back from a
// bundle.
//
// A World is data. Its subjects (subjects.go) come in turn, so that every feature decides now and then; generators
// (generators.go) add elements of their kind at random to a world under construction; build_linux.go
// makes the world, observe_linux.go sends the probes, simulate.go asks the simulator, and compare.go holds the two
// against each other. coverage.go counts which features decided a packet's fate, reasons.go says which need not, and
// shrink_linux.go makes a disagreement small.
package judge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// World is everything that has to be made, and everything that is to be asked.
type World struct {
	Seed  uint64 `json:"seed"`
	Index uint64 `json:"index"`
	// Only are the features that it was restricted to; none if it was not.
	Only       []string    `json:"only,omitempty"`
	Namespaces []Namespace `json:"namespaces"`
	Elements   []Element   `json:"elements"`
	Probes     []Probe     `json:"probes"`
	// Apart has one probe sent after the other, because what neighbours know of each other decides.
	Apart bool `json:"apart,omitempty"`
}

// String names the world, as the flags of the judge do that make it again.
func (w *World) String() string {
	s := fmt.Sprintf("world %d/%d", w.Seed, w.Index)
	if len(w.Only) > 0 {
		s += " of " + strings.Join(w.Only, " ")
	}
	return s
}

// Namespace is a network namespace to be made.
type Namespace struct {
	Name string        `json:"name"`
	Kind netstack.Kind `json:"kind"`
	Node string        `json:"node,omitempty"` // on which a pod runs
	// Hidden keeps it from the simulator: it is outside of the collected world.
	Hidden bool `json:"hidden,omitempty"`
	// Addresses are those by which the cluster's objects know a pod or node.
	Addresses []netip.Addr `json:"addresses,omitempty"`
}

// Tool says who reads an element's text, and when: in this order, all namespaces together.
type Tool string

// Tools. In the text, @NAME stands for the real name of the namespace NAME.
const (
	ToolEarly    Tool = "early-sysctl" // KEY=VALUE, before there are links
	ToolLink     Tool = "link"         // a line of `ip -batch`
	ToolIP       Tool = "ip"           // a line of `ip -batch`: addresses, routes, neighbours, next hops
	ToolTun      Tool = "tun"          // NAME of a tun or tap device whose packets are read, so that it has a carrier
	ToolBridge   Tool = "bridge"       // a line of `bridge -batch`
	ToolLate     Tool = "late"         // a line of `ip -batch`, once all links have settled
	ToolRule     Tool = "rule"         // a line of `ip -batch`, which has no say in what routes may be made
	ToolSysctl   Tool = "sysctl"       // KEY=VALUE
	ToolIPSet    Tool = "ipset"        // a line of `ipset restore`
	ToolIPTables Tool = "iptables"     // a line of iptables-restore: a chain or a rule
	ToolNFT      Tool = "nft"          // a command of `nft -f`
	ToolTC       Tool = "tc"           // a line of `tc -batch`
	ToolListen   Tool = "listen"       // PROTOCOL PORT [ADDRESS]: tcp 80 10.0.0.1
)

// Element is one thing of a world that can be left out.
type Element struct {
	// ID is unique in the world. A rule bears it as its comment.
	ID        string `json:"id"`
	Namespace string `json:"namespace"`
	Tool      Tool   `json:"tool"`
	// Family, Backend and Table are those of an iptables line.
	Family  netstack.Family  `json:"family,omitempty"`
	Backend netstack.Backend `json:"backend,omitempty"`
	Table   string           `json:"table,omitempty"`
	Text    string           `json:"text"`
	// Features are what is under test with it ("match:mark", "route:blackhole"); an element without is part of the stage.
	Features []string `json:"features,omitempty"`
	// Default is what a sysctl has without the element.
	Default string `json:"default,omitempty"`
	// Mark finds a route, policy rule or next hop in the collected state: its protocol number.
	Mark uint8 `json:"mark,omitempty"`
	// Instead is the target that takes the place of the rule's own to find out whether the rule decided; the rule is left
	// out when empty. A target that lets the packet pass on shows only in comparison with one that does not.
	Instead string `json:"instead,omitempty"`
	// Rebuild says that only a world built without the element shows what it decides.
	Rebuild bool `json:"rebuild,omitempty"`
	// Otherwise takes the place of the text in a world without the element, where others could not be made without it.
	Otherwise string `json:"otherwise,omitempty"`
}

// Probe is a packet, or connection, to be tried.
type Probe struct {
	ID   string `json:"id"`
	From string `json:"from"` // namespace
	// Via is NAMESPACE/INTERFACE where a probe from a hidden namespace enters the collected world.
	Via      string           `json:"via,omitempty"`
	Source   netip.Addr       `json:"source,omitzero"` // bound by the client, when valid
	Protocol verdict.Protocol `json:"protocol"`
	To       netip.Addr       `json:"to"`
	Port     uint16           `json:"port,omitempty"`
	// SourcePort is the client's, different for every probe of a world.
	SourcePort uint16  `json:"sourcePort,omitempty"`
	Mark       uint32  `json:"mark,omitempty"`
	UID        *uint32 `json:"uid,omitempty"`
	DSCP       uint8   `json:"dscp,omitempty"`
	// AnyPort says that the client's port as the receiver sees it is not compared: some rule takes a random one.
	AnyPort bool `json:"anyPort,omitempty"`
	// Repeat is how often it is tried when the kernel rolls dice; once when zero.
	Repeat int `json:"repeat,omitempty"`
}

func (p *Probe) String() string {
	to := p.To.String()
	if p.Port != 0 {
		to = netip.AddrPortFrom(p.To, p.Port).String()
	}
	s := fmt.Sprintf("%s: %s %s -> %s", p.ID, p.Protocol, p.From, to)
	if p.SourcePort != 0 {
		s += fmt.Sprintf(" from port %d", p.SourcePort)
	}
	if p.Mark != 0 {
		s += fmt.Sprintf(" mark %#x", p.Mark)
	}
	if p.UID != nil {
		s += fmt.Sprintf(" uid %d", *p.UID)
	}
	if p.DSCP != 0 {
		s += fmt.Sprintf(" dscp %d", p.DSCP)
	}
	return s
}

// Namespace finds a namespace by name.
func (w *World) Namespace(name string) *Namespace {
	for i := range w.Namespaces {
		if w.Namespaces[i].Name == name {
			return &w.Namespaces[i]
		}
	}
	return nil
}

// Without is the world without the elements that drop names, and with those probes only that keep names.
func (w *World) Without(drop func(*Element) bool, keep func(*Probe) bool) *World {
	c := *w
	c.Elements = nil
	for i := range w.Elements {
		e := w.Elements[i]
		if drop(&w.Elements[i]) {
			if e.Otherwise == "" {
				continue
			}
			e.Text, e.Otherwise, e.Features, e.Rebuild = e.Otherwise, "", nil, false
		}
		c.Elements = append(c.Elements, e)
	}
	c.Probes = slices.DeleteFunc(slices.Clone(w.Probes), func(p Probe) bool { return !keep(&p) })
	return &c
}

// ReadWorld reads a world from a file.
func ReadWorld(path string) (*World, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	w := new(World)
	if err := json.Unmarshal(data, w); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return w, nil
}

// writeJSON writes a file that people can read and compare: each member of a list of the value has a line of its own.
func writeJSON(path string, value any) error {
	data, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return err
	}
	keep := 2 // the depth down to which lines are broken
	if data[0] == '[' {
		keep = 1
	}
	var out []byte
	for line := range bytes.Lines(data) {
		text := bytes.TrimLeft(line, " ")
		closes := text[0] == '}' || text[0] == ']'
		depth := len(line) - len(text)
		if depth > keep || closes && depth == keep {
			out = bytes.TrimSuffix(out, []byte("\n"))
			if last := out[len(out)-1]; last == ',' {
				out = append(out, ' ')
			}
			line = text
		}
		out = append(out, line...)
	}
	return os.WriteFile(path, append(out, '\n'), 0o644)
}

// savedBundle is the state of a saved world.
const savedBundle = "bundle.tar.zst"

// Regression is what is known of a saved world: what the kernel made of each probe.
type Regression struct {
	Probe    string   `json:"probe"`
	Observed Observed `json:"observed"`
}

// readRegressions reads what was seen of a saved world, by probe.
func readRegressions(path string) (map[string]Observed, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []Regression
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	seen := map[string]Observed{}
	for _, r := range list {
		seen[r.Probe] = r.Observed
	}
	return seen, nil
}
