package netfilter

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// stripTarget is TCPOPTSTRIP. Only the segment size has a say.
type stripTarget struct{ a stripMSS }

func (t *stripTarget) option(r *ruleParser, name string, _ bool) (bool, error) {
	if name != "--strip-options" {
		return false, nil
	}
	text, err := r.value(name)
	if err != nil {
		return true, err
	}
	for part := range strings.SplitSeq(text, ",") {
		switch part {
		case "mss":
			t.a.strips = true
			continue
		case "wscale", "sack-permitted", "sack", "timestamp", "md5":
			continue
		}
		n, err := strconv.ParseUint(part, 0, 8)
		if err != nil {
			return true, r.errorf(part, "unknown TCP option")
		}
		t.a.strips = t.a.strips || n == tcpOptionMSS
	}
	return true, nil
}

func (t *stripTarget) finish(*ruleParser) (action, error) { return &t.a, nil }

// ecnTarget is ECN.
type ecnTarget struct{ a setECN }

func (t *ecnTarget) option(r *ruleParser, name string, _ bool) (bool, error) {
	var flag netstack.TCPFlags
	switch name {
	case "--ecn-tcp-remove":
		t.a.mask |= netstack.ECE | netstack.CWR
		return true, nil
	case "--ecn-tcp-cwr":
		flag = netstack.CWR
	case "--ecn-tcp-ece":
		flag = netstack.ECE
	case "--ecn-ip-ect":
		n, err := r.number(name, 2)
		t.a.ip, t.a.ect = true, uint8(n)
		return true, err
	default:
		return false, nil
	}
	n, err := r.number(name, 1)
	t.a.mask |= flag
	if n == 1 {
		t.a.flags |= flag
	}
	return true, err
}

func (t *ecnTarget) finish(r *ruleParser) (action, error) {
	if !t.a.ip && t.a.mask == 0 {
		return nil, r.errorf("ECN", "target has no operation")
	}
	return &t.a, nil
}

// classifyTarget is CLASSIFY.
type classifyTarget struct{ set bool }

func (t *classifyTarget) option(r *ruleParser, name string, _ bool) (bool, error) {
	if name != "--set-class" {
		return false, nil
	}
	text, err := r.value(name)
	if err != nil {
		return true, err
	}
	major, minor, ok := strings.Cut(text, ":")
	_, err1 := strconv.ParseUint(major, 16, 16)
	_, err2 := strconv.ParseUint(minor, 16, 16)
	if !ok || err1 != nil || err2 != nil {
		return true, r.errorf(text, "invalid class")
	}
	t.set = true
	return true, nil
}

func (t *classifyTarget) finish(r *ruleParser) (action, error) {
	if !t.set {
		return nil, r.errorf("CLASSIFY", "target has no operation")
	}
	return setPriority{}, nil
}

// hmarkTarget is HMARK: a hash of the packet becomes its mark.
type hmarkTarget struct{ a hashMark }

var hmarkOptions = []string{
	"--hmark-tuple", "--hmark-mod", "--hmark-offset", "--hmark-rnd", "--hmark-src-prefix", "--hmark-dst-prefix", "--hmark-spi-mask", "--hmark-spi",
	"--hmark-sport-mask", "--hmark-dport-mask", "--hmark-sport", "--hmark-dport", "--hmark-proto-mask",
}

func (t *hmarkTarget) option(r *ruleParser, name string, _ bool) (bool, error) {
	var err error
	var n uint64
	switch {
	case name == "--hmark-mod":
		n, err = r.number(name, 32)
		t.a.modulus = uint32(n)
	case name == "--hmark-offset":
		n, err = r.number(name, 32)
		t.a.offset = uint32(n)
	case slices.Contains(hmarkOptions, name):
		_, err = r.value(name)
	default:
		return false, nil
	}
	return true, err
}

func (t *hmarkTarget) finish(r *ruleParser) (action, error) {
	if t.a.modulus == 0 {
		return nil, r.errorf("HMARK", "target needs --hmark-mod")
	}
	// It prefers the addresses of the connection.
	r.p.c.needTracking(r.p.family)
	if t.a.modulus > maxDrawn {
		r.unmodelled = true
		return newUnknownAction("target HMARK"), nil
	}
	return &t.a, nil
}

// nptTarget is SNPT and DNPT.
type nptTarget struct {
	dst      bool
	from, to netip.Prefix
}

func (t *nptTarget) option(r *ruleParser, name string, _ bool) (bool, error) {
	p := &t.from
	switch name {
	case "--src-pfx":
	case "--dst-pfx":
		p = &t.to
	default:
		return false, nil
	}
	text, err := r.value(name)
	if err != nil {
		return true, err
	}
	if *p, err = netip.ParsePrefix(text); err != nil || !p.Addr().Is6() || p.Bits() > 64 || p.Masked() != *p {
		return true, r.errorf(text, "invalid prefix for "+name)
	}
	return true, nil
}

func (t *nptTarget) finish(r *ruleParser) (action, error) {
	if !t.from.IsValid() || !t.to.IsValid() {
		return nil, r.errorf("NPT", "target needs --src-pfx and --dst-pfx")
	}
	return newPrefixTranslation(t.dst, t.from, t.to), nil
}

// setTarget is SET.
type setTarget struct {
	a *changeSet
	m *mapSet
}

func (t *setTarget) option(r *ruleParser, name string, _ bool) (bool, error) {
	switch name {
	case "--add-set", "--del-set", "--map-set":
		set, err := r.value(name)
		if err != nil {
			return true, err
		}
		m := setMatch{name: strings.Clone(set), set: r.p.c.set(set)}
		if m.src, err = r.setDirections(name); err != nil {
			return true, err
		}
		if name == "--map-set" {
			t.m = &mapSet{from: m}
			return true, nil
		}
		r.p.c.tellsSegmentsApart()
		if t.a == nil {
			t.a = &changeSet{}
		}
		if name == "--add-set" {
			t.a.add = &m
		} else {
			t.a.del = &m
		}
	case "--exist", "--map-prio", "--map-queue":
	case "--map-mark":
		if t.m == nil {
			return true, r.errorf(name, "option needs --map-set before it")
		}
		t.m.mark = true
	case "--timeout":
		_, err := r.number(name, 32)
		return true, err
	default:
		return false, nil
	}
	return true, nil
}

func (t *setTarget) finish(r *ruleParser) (action, error) {
	switch {
	case t.m != nil:
		return t.m, nil
	case t.a != nil:
		return t.a, nil
	}
	return nil, r.errorf("SET", "target has no operation")
}

// setDirections reads "src,dst,…".
func (r *ruleParser) setDirections(option string) ([]bool, error) {
	flags, err := r.value(option)
	if err != nil {
		return nil, err
	}
	var src []bool
	for part := range strings.SplitSeq(flags, ",") {
		if part != "src" && part != "dst" {
			return nil, r.errorf(part, "a set's direction is src or dst")
		}
		src = append(src, part == "src")
	}
	return src, nil
}
