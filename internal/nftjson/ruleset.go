// Package nftjson reads the rule set of nftables from the kernel, over netlink,
// and writes it as "nft -j list ruleset" does.
//
// The kernel has programs for registers where a rule has expressions; nft takes
// these programs apart to print them, and so does this package: what of which
// header is loaded, compared, looked up. Sets, with their elements, and all
// objects are there, too.
//
// Errors: whatever is not understood to the last attribute is a *NotUnderstood
// error, and no part of the rule set is returned: then the tool has to be asked
// (Complete adds what its older releases leave out). Other errors are those of
// the socket. There are no guesses, and malformed messages do not panic.
//
// It is written for the form of nft 1.0.6, with what Complete would add. Names
// are those that nft has in it, and of devices; files on the host that give
// names to marks, labels or realms are not read.
package nftjson

import "crypto/sha256"

// RuleSet is a rule set as it was read, with what is needed to keep it so.
type RuleSet struct {
	// Data is what "nft -j list ruleset" prints. It is never written to again.
	Data []byte

	volatile []volatileSet
	indices  map[int]bool    // of interfaces that are written by name
	hooked   map[string]bool // interfaces at which chains and flow tables are
}

// Mentions says whether the rule set depends on which index an interface has,
// or on its name: the kernel has the index where a rule says iif, and nothing
// where a chain was whose interface is gone. Neither is a new generation.
func (r *RuleSet) Mentions(index int, name string) bool { return r.indices[index] || r.hooked[name] }

// volatileSet is a set whose elements change without a new generation: they
// time out, or packets add and remove them.
type volatileSet struct {
	table      *table // its name
	set        *set   // without elements
	begin, end int    // where it is written
	sum        [sha256.Size]byte
}

// table is a table with what was read of it.
type table struct {
	family uint8
	name   string
	handle uint64
	flags  uint32

	sets     map[string]*set
	setOrder []*set
	// objects, flowtables, chains and rules are written in this order.
	objects, flowtables, chains, rules writer
}

func (t *table) familyName() string { return familyNames[t.family] }

// assembler puts the messages of the kernel together.
type assembler struct {
	device func(index int) string
	// indices and hooked are those of RuleSet.
	indices map[int]bool
	hooked  map[string]bool
	tables  []*table
	byName  map[tableName]*table

	decoder  decoder
	elements decoder
	finisher finisher
}

type tableName struct {
	family uint8
	name   string
}

func newAssembler(device func(index int) string) *assembler {
	s := &assembler{byName: make(map[tableName]*table), indices: make(map[int]bool), hooked: make(map[string]bool)}
	s.device = func(index int) string {
		s.indices[index] = true
		return device(index)
	}
	return s
}

func (s *assembler) writer() writer {
	return writer{names: s.device, sets: &s.elements}
}

// Attributes of tables (NFTA_TABLE_*).
var tableAttributes = known(1, 2, 3, 4, 5, 6, 7)

func (s *assembler) table(family uint8, body []byte) error {
	var a attributes
	if err := a.parse(body, "table", tableAttributes); err != nil {
		return err
	}
	t := &table{family: family, name: a.text(1), flags: a.u32(2), handle: a.uint(4), sets: make(map[string]*set)}
	if t.familyName() == "" || t.flags >= 1<<len(tableFlags) {
		return unknownf("table %s of family %d with flags %#x", t.name, family, t.flags)
	}
	// nft 1.0.6 does not print the comment of a table. The release of nft that
	// made the table is no part of it.
	if _, err := commentOf(a[6], "a table", 1, 2); err != nil {
		return err
	}
	for _, w := range []*writer{&t.objects, &t.flowtables, &t.chains, &t.rules} {
		*w = s.writer()
	}
	s.tables = append(s.tables, t)
	s.byName[tableName{family, t.name}] = t
	return nil
}

// find is the table that an object says it belongs to.
func (s *assembler) find(family uint8, name []byte) (*table, error) {
	t := s.byName[tableName{family, cString(name)}]
	if t == nil {
		return nil, unknownf("an object of table %s, which is not there,", cString(name))
	}
	return t, nil
}

// Attributes of chains (NFTA_CHAIN_*).
const (
	chainTable    = 1
	chainHandle   = 2
	chainName     = 3
	chainHook     = 4
	chainPolicy   = 5
	chainType     = 7
	chainFlags    = 10
	chainUserData = 12
)

var chainAttributes = known(chainTable, chainHandle, chainName, chainHook, chainPolicy, 6, chainType, 8, 9, chainFlags, 11, chainUserData)

var hookNames = map[uint8][]string{
	familyInet: {"prerouting", "input", "forward", "output", "postrouting", "ingress"},
	familyIPv4: {"prerouting", "input", "forward", "output", "postrouting"}, familyIPv6: {"prerouting", "input", "forward", "output", "postrouting"},
	familyBridge: {"prerouting", "input", "forward", "output", "postrouting"}, familyARP: {"input", "output", "forward"},
	familyNetdev: {"ingress", "egress"},
}

func (s *assembler) chain(family uint8, body []byte) error {
	var a attributes
	if err := a.parse(body, "chain", chainAttributes); err != nil {
		return err
	}
	t, err := s.find(family, a[chainTable])
	if err != nil {
		return err
	}
	const base, offload = 1, 2
	if flags := a.u32(chainFlags); flags&^(base|offload) != 0 {
		return unknownf("chain flags %#x", flags)
	}
	// nft 1.0.6 does not print the comment of a chain.
	if _, err := commentOf(a[chainUserData], "a chain"); err != nil {
		return err
	}
	w := &t.chains
	w.comma()
	w.only("chain")
	w.open('{')
	w.text("family", t.familyName())
	w.text("table", t.name)
	w.text("name", a.text(chainName))
	w.integer("handle", a.uint(chainHandle))
	if a[chainHook] != nil {
		var hook attributes
		if err := hook.parse(a[chainHook], "hook", known(1, 2, 3, 4)); err != nil {
			return err
		}
		number, policy := hook.u32(1), a.u32(chainPolicy)
		if int(number) >= len(hookNames[family]) || policy > 1 || a[chainPolicy] == nil || a[chainType] == nil {
			return unknownf("hook %d of chain %s", number, a.text(chainName))
		}
		w.text("type", a.text(chainType))
		w.text("hook", hookNames[family][number])
		w.key("prio")
		w.uint(uint64(int64(int32(hook.u32(2)))))
		w.text("policy", [...]string{"drop", "accept"}[policy])
		devices, err := s.devicesOf(hook[3], hook[4])
		if err != nil {
			return err
		}
		if devices != nil {
			w.list("dev", devices)
		}
	}
	w.closeBoth()
	return w.err
}

// devicesOf are those of a hook: one, or a list, which has the one, too.
func (s *assembler) devicesOf(one, list []byte) (names []string, err error) {
	defer func() {
		for _, name := range names {
			s.hooked[name] = true
		}
	}()
	if list == nil {
		if one == nil {
			return nil, nil
		}
		return []string{cString(one)}, nil
	}
	err = each(list, func(number int, value []byte) error {
		switch number {
		case 1:
			names = append(names, cString(value))
		case 2:
			names = append(names, cString(value)+"*")
		default:
			return unknownf("attribute %d of a device", number)
		}
		return nil
	})
	return names, err
}

// Attributes of flow tables (NFTA_FLOWTABLE_*).
var flowtableAttributes = known(1, 2, 3, 4, 5, 6, 7)

func (s *assembler) flowtable(family uint8, body []byte) error {
	var a, hook attributes
	if err := a.parse(body, "flow table", flowtableAttributes); err != nil {
		return err
	}
	t, err := s.find(family, a[1])
	if err != nil {
		return err
	}
	if err := hook.parse(a[3], "hook of a flow table", known(1, 2, 3)); err != nil {
		return err
	}
	devices, err := s.devicesOf(nil, hook[3])
	if err != nil {
		return err
	}
	if hook.u32(1) != 0 {
		return unknownf("hook %d of a flow table", hook.u32(1))
	}
	w := &t.flowtables
	w.comma()
	w.only("flowtable")
	w.open('{')
	w.text("family", t.familyName())
	w.text("name", a.text(2))
	w.text("table", t.name)
	w.integer("handle", a.uint(5))
	w.text("hook", "ingress")
	w.key("prio")
	w.uint(uint64(int64(int32(hook.u32(2)))))
	w.strings("dev", devices)
	w.closeBoth()
	return w.err
}

func (s *assembler) object(family uint8, body []byte) error {
	var a attributes
	if err := a.parse(body, "object", known(objTable, objName, objType, objData, 5, objHandle, 7, objUserData)); err != nil {
		return err
	}
	t, err := s.find(family, a[objTable])
	if err != nil {
		return err
	}
	if err := t.objects.object(t, &a); err != nil {
		return err
	}
	return t.objects.err
}

func (s *assembler) set(family uint8, body []byte) error {
	var a attributes
	if err := a.parse(body, "set", setAttributes); err != nil {
		return err
	}
	t, err := s.find(family, a[1])
	if err != nil {
		return err
	}
	set, err := readSet(&a)
	if err != nil {
		return in("set "+t.familyName()+" "+t.name+" "+a.text(setName), err)
	}
	t.sets[set.name] = set
	t.setOrder = append(t.setOrder, set)
	return nil
}

// in says where something was not understood.
func in(where string, err error) error {
	if e, ok := err.(*NotUnderstood); ok && e.Where == "" {
		e.Where = where
	}
	return err
}

// Attributes of rules (NFTA_RULE_*).
const (
	ruleTable       = 1
	ruleChain       = 2
	ruleHandle      = 3
	ruleExpressions = 4
	ruleUserData    = 7
)

var ruleAttributes = known(ruleTable, ruleChain, ruleHandle, ruleExpressions, 5, 6, ruleUserData, 8, 9, 10)

// rule writes a rule. Tables, sets and their elements come before.
func (s *assembler) rule(family uint8, body []byte) error {
	var a attributes
	if err := a.parse(body, "rule", ruleAttributes); err != nil {
		return err
	}
	t, err := s.find(family, a[ruleTable])
	if err != nil {
		return err
	}
	if err := s.writeRule(t, &a); err != nil {
		return in("rule with handle "+uintString(a.uint(ruleHandle))+" of "+t.familyName()+" "+t.name+" "+a.text(ruleChain), err)
	}
	return nil
}

func (s *assembler) writeRule(t *table, a *attributes) error {
	comment, err := commentOf(a[ruleUserData], "a rule")
	if err != nil {
		return err
	}
	d := &s.decoder
	d.start(t)
	d.expressions(a[ruleExpressions])
	if d.err != nil {
		return d.err
	}
	list := s.finisher.finish(d)
	if d.err != nil {
		return d.err
	}
	w := &t.rules
	s.elements.table = t
	w.comma()
	w.only("rule")
	w.open('{')
	w.text("family", t.familyName())
	w.text("table", t.name)
	w.key("chain")
	w.string(a.text(ruleChain))
	w.integer("handle", a.uint(ruleHandle))
	if comment != "" {
		w.text("comment", comment)
	}
	if len(list) > 0 {
		w.key("expr")
		w.open('[')
		for _, st := range list {
			if !st.implied {
				w.comma()
				w.statement(st)
			}
		}
		w.close(']')
	}
	w.closeBoth()
	return w.err
}

// metainfo names the release whose form this is.
const metainfo = `{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}}`

// result is the whole rule set.
func (s *assembler) result() (*RuleSet, error) {
	r := &RuleSet{indices: s.indices, hooked: s.hooked}
	size := 1024
	for _, t := range s.tables {
		size += len(t.rules.out) + len(t.chains.out) + len(t.objects.out)
	}
	w := s.writer()
	w.out = make([]byte, 0, size+size/4)
	w.only("nftables")
	w.open('[')
	w.comma()
	w.out = append(w.out, metainfo...)
	for _, t := range s.tables {
		w.comma()
		w.only("table")
		w.open('{')
		w.text("family", t.familyName())
		w.text("name", t.name)
		w.integer("handle", t.handle)
		if t.flags != 0 {
			w.list("flags", names(t.flags, tableFlags...))
		}
		w.closeBoth()
		w.part(&t.objects)
		for _, set := range t.setOrder {
			if set.anonymous() {
				continue
			}
			w.comma()
			v := volatileSet{table: &table{family: t.family, name: t.name}, set: set, begin: len(w.out)}
			if err := w.set(&s.decoder, t, set); err != nil {
				return nil, in(set.in(t), err)
			}
			if set.volatile() {
				v.end = len(w.out)
				var err error
				if v.sum, err = s.sum(v.table, set); err != nil {
					return nil, err
				}
				r.volatile = append(r.volatile, v)
			}
			set.elements = nil
		}
		w.part(&t.flowtables)
		w.part(&t.chains)
		w.part(&t.rules)
	}
	w.close(']')
	w.close('}')
	w.out = append(w.out, '\n')
	r.Data = w.out
	return r, w.err
}

// sum is the same for a set of which only counters and the time that elements
// have left are others than before.
func (s *assembler) sum(t *table, set *set) (sum [sha256.Size]byte, err error) {
	w := s.writer()
	w.stateless = true
	err = in(set.in(t), w.set(&s.decoder, t, set))
	return sha256.Sum256(w.out), err
}

// part appends what was written before, of which the first has no comma.
func (w *writer) part(p *writer) {
	if len(p.out) > 0 {
		w.out = append(w.out, p.out...)
		w.first = false
	}
}

// set writes a named set or map with its elements (set_print_json).
func (w *writer) set(d *decoder, t *table, s *set) error {
	d.start(t)
	kind := "set"
	switch {
	case s.flags&(setMap|setObject) != 0:
		kind = "map"
	}
	w.only(kind)
	w.open('{')
	w.text("family", t.familyName())
	w.text("name", s.name)
	w.text("table", t.name)
	w.key("type")
	w.types(s.key)
	w.integer("handle", s.handle)
	if s.comment != "" {
		w.text("comment", s.comment)
	}
	switch {
	case s.flags&setMap != 0:
		name := s.data[0].typ.name
		for _, p := range s.data[1:] {
			name += " . " + p.typ.name
		}
		w.text("map", name)
	case s.flags&setObject != 0:
		w.text("map", objectKeyword(s.object))
		if objectKeyword(s.object) == "" {
			return unknownf("a map of objects of type %d", s.object)
		}
	}
	if s.flags&setConstant == 0 {
		switch s.policy {
		case 0:
		case 1:
			w.text("policy", "memory")
		default:
			return unknownf("policy %d", s.policy)
		}
		if s.size != 0 {
			w.integer("size", uint64(s.size))
		}
	}
	if flags := names(s.flags, "", "constant", "interval", "", "timeout"); flags != nil {
		w.list("flags", flags)
	}
	if s.timeout != 0 {
		w.integer("timeout", s.timeout/1000)
	}
	if s.interval != 0 {
		w.integer("gc-interval", s.interval/1000)
	}
	if len(s.elements) > 0 {
		w.key("elem")
		before := len(w.out)
		w.writeSetElements(d, s, 0)
		// The end of an interval alone is no element.
		if string(w.out[before:]) == "[]" {
			return unknownf("an interval without a beginning")
		}
	}
	if s.statements != nil {
		w.nested("stmt", d.stateful(s.statements, false))
	}
	w.closeBoth()
	if d.err != nil {
		return d.err
	}
	return w.err
}

// types are the names of the types of a key.
func (w *writer) types(parts []keyPart) {
	if len(parts) == 1 {
		w.string(parts[0].typ.name)
		return
	}
	w.open('[')
	for _, p := range parts {
		w.comma()
		w.string(p.typ.name)
	}
	w.close(']')
}
