package tc

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// object is a JSON object with its members in order: tc prints some keys twice.
type object []field

type field struct {
	key   string
	value json.RawMessage
}

func members(raw json.RawMessage) (object, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	open, err := d.Token()
	if err != nil {
		return nil, err
	}
	if open != json.Delim('{') {
		return nil, fmt.Errorf("%s where an object should be", bytes.TrimSpace(raw))
	}
	var o object
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		f := field{key: key.(string)}
		if err := d.Decode(&f.value); err != nil {
			return nil, err
		}
		o = append(o, f)
	}
	return o, nil
}

// get returns the first member of that name; nil without one.
func (o object) get(key string) json.RawMessage {
	for i := range o {
		if o[i].key == key {
			return o[i].value
		}
	}
	return nil
}

func (o object) all(key string) (list []json.RawMessage) {
	for i := range o {
		if o[i].key == key {
			list = append(list, o[i].value)
		}
	}
	return list
}

// text is the member as text; a number as it was written.
func (o object) text(key string) string {
	raw := o.get(key)
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(bytes.TrimSpace(raw))
}

func (o object) is(key string) bool { return o.text(key) == "true" }

// entry is a qdisc or a filter of a dump.
type entry struct {
	Dev      string
	Kind     string
	Handle   json.RawMessage
	Parent   string
	Root     bool
	Protocol *string // of filters
	Pref     uint32
	Chain    uint32
	Options  json.RawMessage
}

// Parse reads a list of qdiscs and filters as `tc -j qdisc show` and `tc -j filter
// show` print them, each filter with its device ("dev") and parent added.
func Parse(file string, data []byte) (*Filters, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	s := &Filters{blocks: map[place]*block{}, queues: map[string][]*Filter{}}
	entries := make([]entry, len(raw))
	for i := range raw {
		if err := json.Unmarshal(raw[i], &entries[i]); err != nil {
			return nil, fmt.Errorf("%s: entry %d: %w", file, i+1, err)
		}
	}
	roots := rootQdiscs(entries)
	for i := range entries {
		e := &entries[i]
		if e.Protocol == nil {
			queues, err := e.queueing(entries)
			if err != nil {
				return nil, fmt.Errorf("%s: entry %d: %w", file, i+1, err)
			}
			if e.Dev != "" && len(queues) > 0 {
				s.queues[e.Dev] = append(s.queues[e.Dev], queues...)
			}
			continue
		}
		if err := s.add(e, roots); err != nil {
			return nil, fmt.Errorf("%s: entry %d: %w", file, i+1, err)
		}
	}
	for _, b := range s.blocks {
		for _, c := range b.chains {
			slices.SortStableFunc(c.prios, func(a, b *prio) int { return cmp.Compare(a.pref, b.pref) })
			c.prios = slices.DeleteFunc(c.prios, func(p *prio) bool { return len(p.filters) == 0 })
		}
	}
	return s, nil
}

// rootQdiscs are the qdiscs of devices whose filters classify: by device.
func rootQdiscs(entries []entry) map[string]*entry {
	roots := map[string]*entry{}
	for i := range entries {
		if e := &entries[i]; e.Protocol == nil && (e.Root || e.Parent == "root") {
			roots[e.Dev] = e
		}
	}
	return roots
}

// hooks says where a filter hangs; one of a place that is not understood may be
// at any.
func (e *entry) hooks(roots map[string]*entry) (list []Hook, known bool) {
	switch e.Parent {
	case "ingress", "ffff:fff2":
		return []Hook{Ingress}, true
	case "egress", "ffff:fff3":
		return []Hook{Egress}, true
	case "primary": // of a netkit: what it sends
		return []Hook{Egress}, true
	case "peer": // what its other end sends
		return []Hook{Ingress}, true
	case "":
		return []Hook{Ingress, Egress}, false
	}
	// Filters of these drop what an action drops, and nothing else: htb_classify,
	// prio_classify.
	root := roots[e.Dev]
	known = root != nil && (root.Kind == "htb" || root.Kind == "prio") && (e.Parent == "root" || handle(e.Parent) == handle(object{{"", root.Handle}}.text("")))
	return []Hook{Qdisc}, known
}

// handle writes 1: and 1:0 in one way.
func handle(text string) string { return strings.TrimSuffix(text, "0") }

func (s *Filters) add(e *entry, roots map[string]*entry) error {
	if e.Dev == "" {
		return errors.New("a filter without \"dev\"")
	}
	f, err := e.compile()
	if err != nil {
		return err
	}
	hooks, known := e.hooks(roots)
	if f != nil && !known {
		f.tests = append(f.tests, untested("parent "+e.Parent))
	}
	ether := protocol(*e.Protocol)
	if f != nil && ether == 0 {
		ether = EtherAll
		f.tests = append(f.tests, untested("protocol "+*e.Protocol))
	}
	for _, hook := range hooks {
		at := place{e.Dev, hook}
		b := s.blocks[at]
		if b == nil {
			b = &block{chains: map[uint32]*chain{}}
			s.blocks[at] = b
		}
		c := b.chains[e.Chain]
		if c == nil {
			c = &chain{}
			b.chains[e.Chain] = c
		}
		i := slices.IndexFunc(c.prios, func(p *prio) bool { return p.pref == e.Pref && p.kind == e.Kind })
		if i < 0 {
			i = len(c.prios)
			c.prios = append(c.prios, &prio{pref: e.Pref, kind: e.Kind, protocol: ether})
		}
		if f != nil {
			c.prios[i].filters = append(c.prios[i].filters, f)
		}
		if e.Kind == "u32" && tables(e.Options) {
			c.prios[i].hashed = true
		}
	}
	return nil
}

// tables says whether a u32 filter belongs to a hash table beside the root, leads
// to one, or is one.
func tables(options json.RawMessage) bool {
	o, err := members(options)
	if err != nil {
		return false
	}
	divisor := o.get("ht_divisor")
	bucket, hashed := o.number("bkt", 16)
	return divisor != nil && string(divisor) != "1" || o.get("link") != nil || hashed && bucket != 0
}

// protocol reads the name that ll_proto_n2a of iproute2 gives to it; 0 if it is not
// known.
func protocol(name string) EtherType {
	switch strings.ToLower(name) {
	case "all":
		return EtherAll
	case "ip":
		return EtherIPv4
	case "ipv6":
		return EtherIPv6
	case "arp":
		return EtherARP
	case "802.1q":
		return EtherVLAN
	case "802.1ad":
		return EtherQinQ
	case "802_3", "802_2", "loop", "pup", "ieee_pup", "x25", "rarp", "aarp", "ipx", "ppp_disc", "ppp_ses", "mpls_uc", "mpls_mc", "lldp", "tipc", "profinet", "aoe", "ethercat":
		return 1 // of frames that are not walked
	}
	if n, err := strconv.ParseUint(strings.Trim(name, "[]"), 0, 16); err == nil {
		return EtherType(n)
	}
	return 0
}

// compile makes the filter that an entry stands for; nil if it only introduces
// those of a priority, or holds a table of u32.
func (e *entry) compile() (*Filter, error) {
	f := &Filter{Text: e.text("")}
	if e.Options == nil && e.Kind != "bpf" && e.Kind != "tcx" && e.Kind != "netkit" {
		return nil, nil
	}
	var o object
	if e.Options != nil {
		var err error
		if o, err = members(e.Options); err != nil {
			return nil, fmt.Errorf("options: %w", err)
		}
	}
	if o.get("ht_divisor") != nil || o.is("skip_sw") {
		return nil, nil
	}
	if raw := o.get("actions"); raw != nil {
		var err error
		if f.actions, err = compileActions(raw); err != nil {
			return nil, err
		}
	}
	for _, key := range []string{"fh", "handle"} {
		if h := o.text(key); h != "" && o.get(key)[0] != '{' {
			f.Text = e.text(" " + key + " " + h)
		}
	}
	if dev := o.get("indev"); dev != nil {
		f.tests = append(f.tests, untested("indev"))
	}
	if o.get("police") != nil {
		f.tests = append(f.tests, untested("police"))
	}
	var err error
	switch e.Kind {
	case "matchall":
	case "u32":
		err = f.compileU32(o)
	case "flower":
		err = f.compileFlower(o)
	case "fw":
		f.compileFW(o)
	case "basic":
		if o.get("ematch") != nil {
			f.tests = append(f.tests, untested("ematch"))
		}
	case "bpf", "tcx", "netkit":
		f.actions = []action{{kind: e.Kind, do: rewrite{program(e, o)}}}
	default:
		f.tests = append(f.tests, untested("classifier "+e.Kind))
	}
	if o.get("unknown") != nil {
		f.tests = append(f.tests, untested("options that are not understood"))
	}
	return f, err
}

func (e *entry) text(which string) string {
	return fmt.Sprintf("filter protocol %s pref %d %s chain %d%s on %s %s", *e.Protocol, e.Pref, e.Kind, e.Chain, which, e.Dev, cmp.Or(e.Parent, "(parent not given)"))
}

// program names an eBPF program.
func program(e *entry, o object) string {
	for _, key := range []string{"bpf_name", "name"} {
		if name := o.text(key); name != "" {
			return e.Kind + " " + name
		}
	}
	return e.Kind
}
