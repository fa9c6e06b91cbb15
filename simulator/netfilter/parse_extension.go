package netfilter

import (
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// extension is a match that takes plain options: which they are, and what they
// mean together.
type extension struct {
	// options says how many values each option takes.
	options map[string]int
	// compile turns them into a condition; when it is nil, no dump shows what the
	// match looks at.
	compile func(r *ruleParser, o options) (matcher, error)
	// unmodelled says that the match could be evaluated, but is not.
	unmodelled bool
	tracking   bool
	// family restricts the extension; 0 is both.
	family netstack.Family
}

// options are those that a rule gives to an extension.
type options []option

type option struct {
	name   string
	values []string
	invert bool
}

func (o options) get(names ...string) *option {
	for i := range o {
		if slices.Contains(names, o[i].name) {
			return &o[i]
		}
	}
	return nil
}

// inverted says whether any option of the match is negated: of those with one
// flag for all.
func (o options) inverted() bool {
	return slices.ContainsFunc(o, func(o option) bool { return o.invert })
}

// number reads the value of an option as a number of so many bits; 0 without the option.
func (o options) number(r *ruleParser, name string, size int) (uint64, error) {
	opt := o.get(name)
	if opt == nil {
		return 0, nil
	}
	n, err := strconv.ParseUint(opt.values[0], 0, size)
	if err != nil {
		return 0, r.errorf(opt.values[0], "invalid number for "+name)
	}
	return n, nil
}

// values are options with one value each.
func values(names ...string) map[string]int {
	m := make(map[string]int)
	for _, n := range names {
		m[n] = 1
	}
	return m
}

// withFlags adds options without a value.
func withFlags(m map[string]int, names ...string) map[string]int {
	for _, n := range names {
		m[n] = 0
	}
	return m
}

var extensions = map[string]extension{
	// What no dump shows.
	"limit": {options: values("--limit", "--limit-burst")},
	"hashlimit": {options: withFlags(values("--hashlimit", "--hashlimit-upto", "--hashlimit-above", "--hashlimit-burst", "--hashlimit-mode",
		"--hashlimit-srcmask", "--hashlimit-dstmask", "--hashlimit-name", "--hashlimit-htable-size", "--hashlimit-htable-max",
		"--hashlimit-htable-expire", "--hashlimit-htable-gcinterval", "--hashlimit-rate-interval"), "--hashlimit-rate-match")},
	"connlimit": {options: withFlags(values("--connlimit-upto", "--connlimit-above", "--connlimit-mask"), "--connlimit-saddr", "--connlimit-daddr"), tracking: true},
	"connbytes": {options: values("--connbytes", "--connbytes-dir", "--connbytes-mode"), tracking: true},
	"quota":     {options: values("--quota")},
	"rateest": {options: withFlags(values("--rateest1", "--rateest2", "--rateest", "--rateest-bps", "--rateest-pps", "--rateest-bps1",
		"--rateest-bps2", "--rateest-pps1", "--rateest-pps2"), "--rateest-delta", "--rateest-lt", "--rateest-gt", "--rateest-eq")},
	"cpu": {options: values("--cpu")},

	// What is in no packet of the model.
	"string": {options: withFlags(values("--string", "--hex-string", "--algo", "--from", "--to"), "--icase"), unmodelled: true},
	"bpf":    {options: values("--bytecode", "--object-pinned"), unmodelled: true},
	"osf":    {options: values("--genre", "--ttl", "--log"), unmodelled: true},
	"realm":  {options: values("--realm"), unmodelled: true},
	"l2tp":   {options: values("--tid", "--sid", "--pversion", "--type"), unmodelled: true},

	// Other protocols, of which a packet that has them shows no more.
	"esp":    {options: values("--espspi"), compile: onlyOf(netstack.ProtoESP, "esp")},
	"ah":     {options: withFlags(values("--ahspi", "--ahlen"), "--ahres"), compile: onlyOf(51, "ah")},
	"ipcomp": {options: withFlags(values("--ipcompspi"), "--compres"), compile: onlyOf(108, "ipcomp")},
	"dccp":   {options: values("--sport", "--source-port", "--dport", "--destination-port", "--dccp-types", "--dccp-option"), compile: onlyOf(33, "dccp")},

	// Extension headers of IPv6, of which packets of the model have none: then
	// no condition on them holds, negated or not.
	"frag": {options: withFlags(values("--fragid", "--fraglen"), "--fragres", "--fragfirst", "--fragmore", "--fraglast"), compile: noHeader, family: netstack.IPv6},
	"rt":   {options: withFlags(values("--rt-type", "--rt-segsleft", "--rt-len", "--rt-0-addrs"), "--rt-0-res", "--rt-0-not-strict"), compile: noHeader, family: netstack.IPv6},
	"hbh":  {options: values("--hbh-len", "--hbh-opts"), compile: noHeader, family: netstack.IPv6},
	"dst":  {options: values("--dst-len", "--dst-opts"), compile: noHeader, family: netstack.IPv6},
	"mh":   {options: values("--mh-type"), compile: noHeader, family: netstack.IPv6},
	"srh": {
		options: values("--srh-next-hdr", "--srh-hdr-len-eq", "--srh-hdr-len-gt", "--srh-hdr-len-lt", "--srh-segs-left-eq", "--srh-segs-left-gt",
			"--srh-segs-left-lt", "--srh-last-entry-eq", "--srh-last-entry-gt", "--srh-last-entry-lt", "--srh-tag", "--srh-psid", "--srh-nsid", "--srh-lsid"),
		compile: noHeader, family: netstack.IPv6,
	},
	"ipv6header": {options: withFlags(values("--header"), "--soft"), compile: compileIPv6Header, family: netstack.IPv6},
	"eui64":      {compile: func(*ruleParser, options) (matcher, error) { return eui64Match{}, nil }, family: netstack.IPv6},

	"devgroup": {options: values("--src-group", "--dst-group"), compile: compileDevgroup},
	"ecn":      {options: withFlags(values("--ecn-ip-ect"), "--ecn-tcp-cwr", "--ecn-tcp-ece"), compile: compileECN},
	"time": {options: withFlags(values("--datestart", "--datestop", "--timestart", "--timestop", "--monthdays", "--weekdays"),
		"--kerneltz", "--localtz", "--utc", "--contiguous"), compile: compileTime},
	"u32":       {options: values("--u32"), compile: compileU32},
	"helper":    {options: values("--helper"), compile: compileHelper, tracking: true},
	"connlabel": {options: withFlags(values("--label"), "--set"), compile: compileConnlabel, tracking: true},
	"cluster": {
		options: values("--cluster-total-nodes", "--cluster-local-node", "--cluster-local-nodemask", "--cluster-hash-seed"),
		compile: compileCluster, tracking: true,
	},
	"cgroup": {options: values("--path", "--cgroup"), compile: func(*ruleParser, options) (matcher, error) { return cgroupMatch{}, nil }},
	"ipvs": {
		options: withFlags(values("--vproto", "--vaddr", "--vport", "--vdir", "--vmethod", "--vportctl"), "--ipvs"),
		compile: compileIPVS, tracking: true,
	},
	"nfacct": {options: values("--nfacct-name"), compile: func(*ruleParser, options) (matcher, error) { return nil, nil }}, // it only counts
}

// extensionModule collects the options of an extension.
type extensionModule struct {
	extension
	name  string
	given options
}

func (m *extensionModule) option(r *ruleParser, name string, invert bool) (bool, error) {
	n, ok := m.options[name]
	if !ok {
		return false, nil
	}
	opt := option{name: name, invert: invert}
	for range n {
		v, err := r.value(name)
		if err != nil {
			return true, err
		}
		opt.values = append(opt.values, strings.Clone(v))
	}
	m.given = append(m.given, opt)
	return true, nil
}

func (m *extensionModule) finish(r *ruleParser) error {
	if m.family != 0 && m.family != r.p.family {
		return r.errorf(m.name, "no such match in "+r.p.family.String())
	}
	if m.tracking {
		r.p.c.needTracking(r.p.family)
	}
	if m.compile == nil {
		r.add(unknownMatch{"match " + m.name})
		r.unmodelled = r.unmodelled || m.unmodelled
		return nil
	}
	match, err := m.compile(r, m.given)
	if err == nil && match != nil {
		r.add(match)
	}
	return err
}

func onlyOf(proto netstack.Protocol, name string) func(*ruleParser, options) (matcher, error) {
	return func(_ *ruleParser, o options) (matcher, error) {
		if len(o) == 0 {
			return &protoMatch{proto: proto}, nil
		}
		return &protocolFieldMatch{proto, "match " + name}, nil
	}
}

func noHeader(*ruleParser, options) (matcher, error) { return never{}, nil }

// ipv6Headers are the bits of xt_ipv6header, with all their names.
var ipv6Headers = map[string]uint8{
	"hop": 0x80, "hop-by-hop": 0x80, "0": 0x80, "dst": 0x40, "ipv6-opts": 0x40, "60": 0x40, "route": 0x20, "ipv6-route": 0x20, "43": 0x20,
	"frag": 0x10, "ipv6-frag": 0x10, "44": 0x10, "auth": 0x08, "ah": 0x08, "51": 0x08, "esp": 0x04, "50": 0x04,
	"none": 0x02, "ipv6-nonxt": 0x02, "59": 0x02, "prot": 0x01, "proto": 0x01, "protocol": 0x01, "255": 0x01,
}

func compileIPv6Header(r *ruleParser, o options) (matcher, error) {
	h := o.get("--header")
	if h == nil {
		return nil, r.errorf("ipv6header", "match needs --header")
	}
	m := &ipv6HeaderMatch{soft: o.get("--soft") != nil, invert: h.invert}
	for name := range strings.SplitSeq(h.values[0], ",") {
		bit, ok := ipv6Headers[name]
		if !ok {
			return nil, r.errorf(name, "unknown header")
		}
		m.headers |= bit
	}
	return m, nil
}

func compileECN(r *ruleParser, o options) (matcher, error) {
	m := &ecnMatch{}
	for i := range o {
		opt := &o[i]
		switch opt.name {
		case "--ecn-ip-ect":
			n, err := strconv.ParseUint(opt.values[0], 0, 2)
			if err != nil {
				return nil, r.errorf(opt.values[0], "invalid number for "+opt.name)
			}
			m.ip, m.ect, m.notECT = true, uint8(n), opt.invert
		case "--ecn-tcp-ece":
			m.set(netstack.ECE, opt.invert)
		case "--ecn-tcp-cwr":
			m.set(netstack.CWR, opt.invert)
		}
	}
	if len(o) == 0 {
		return nil, r.errorf("ecn", "match has no condition")
	}
	return m, nil
}

func compileHelper(r *ruleParser, o options) (matcher, error) {
	h := o.get("--helper")
	if h == nil {
		return nil, r.errorf("helper", "match needs --helper")
	}
	// helper_mt looks at the connection that this one was expected by. What
	// starts on a walk was not expected.
	if h.invert {
		return nil, nil
	}
	return never{}, nil
}

func compileConnlabel(r *ruleParser, o options) (matcher, error) {
	label := o.get("--label")
	if label == nil {
		return nil, r.errorf("connlabel", "match needs --label")
	}
	n, err := strconv.ParseUint(label.values[0], 0, 7)
	if err != nil {
		// A name of connlabel.conf.
		r.unmodelled = true
		return unknownMatch{"match connlabel " + label.values[0]}, nil
	}
	m := &connlabelMatch{label: u128{lo: 1}.shiftLeft(uint(n)), invert: label.invert}
	if o.get("--set") != nil {
		r.p.c.tellsSegmentsApart()
		r.before = append(r.before, &setLabel{m.label})
		m.set = true
	}
	return m, nil
}

func compileCluster(r *ruleParser, o options) (matcher, error) {
	total, err := o.number(r, "--cluster-total-nodes", 32)
	if err != nil {
		return nil, err
	}
	seed, err := o.number(r, "--cluster-hash-seed", 32)
	if err != nil {
		return nil, err
	}
	m := &clusterMatch{total: uint32(total), seed: uint32(seed), invert: o.inverted()}
	if total < 1 || total > 32 {
		return nil, r.errorf("cluster", "the number of nodes is from 1 to 32")
	}
	node, err := o.number(r, "--cluster-local-node", 6)
	if err != nil {
		return nil, err
	}
	mask, err := o.number(r, "--cluster-local-nodemask", 32)
	if err != nil {
		return nil, err
	}
	m.nodes = uint32(mask)
	if node > 0 {
		m.nodes = 1 << (node - 1)
	}
	if m.nodes == 0 || bits.Len32(m.nodes) > int(total) {
		return nil, r.errorf("cluster", "the local node is not one of the nodes")
	}
	return m, nil
}

// compileU32 reads tests like "0>>22&0x3C@0>>16=22:80,443&&6&0xFF=6".
func compileU32(r *ruleParser, o options) (matcher, error) {
	opt := o.get("--u32")
	if opt == nil {
		return nil, r.errorf("u32", "match needs --u32")
	}
	text := opt.values[0]
	bad := func(at string) error {
		if !strings.Contains(text, at) {
			at = text // which had white space there
		}
		return r.errorf(at, "invalid test for --u32")
	}
	r.p.c.tellsSegmentsApart()
	m := &u32Match{invert: opt.invert}
	rest := strings.Join(strings.Fields(text), "")
	number := func() (uint32, bool) {
		n := strings.IndexAny(rest, "&<>@=,:")
		if n < 0 {
			n = len(rest)
		}
		v, err := strconv.ParseUint(rest[:n], 0, 32)
		rest = rest[n:]
		return uint32(v), err == nil
	}
	for {
		var t u32Test
		at := rest
		v, ok := number()
		if !ok {
			return nil, bad(at)
		}
		t.start = v
		for {
			at = rest
			var op u32Op
			switch {
			case strings.HasPrefix(rest, "<<"), strings.HasPrefix(rest, ">>"):
				op.kind, rest = rest[0], rest[2:]
			case strings.HasPrefix(rest, "&"), strings.HasPrefix(rest, "@"):
				op.kind, rest = rest[0], rest[1:]
			case strings.HasPrefix(rest, "="):
				rest = rest[1:]
			default:
				return nil, bad(at)
			}
			if op.kind == 0 {
				break
			}
			if op.n, ok = number(); !ok {
				return nil, bad(at)
			}
			t.ops = append(t.ops, op)
		}
		for {
			at = rest
			first, ok := number()
			last := first
			if ok && strings.HasPrefix(rest, ":") {
				rest = rest[1:]
				last, ok = number()
			}
			if !ok || last < first {
				return nil, bad(at)
			}
			t.ranges = append(t.ranges, u32Range{first, last})
			if !strings.HasPrefix(rest, ",") {
				break
			}
			rest = rest[1:]
		}
		m.tests = append(m.tests, t)
		if rest == "" {
			return anyLength{m}, nil
		}
		if !strings.HasPrefix(rest, "&&") {
			return nil, bad(rest)
		}
		rest = rest[2:]
	}
}
