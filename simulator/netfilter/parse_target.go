package netfilter

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// newTarget returns the parser of a target extension, or nil for a name that
// none has.
func newTarget(name string) targetModule {
	switch name {
	case "REJECT":
		return &rejectTarget{}
	case "MARK":
		return &markTarget{}
	case "CONNMARK":
		return &connmarkTarget{nfMask: ^uint32(0), ctMask: ^uint32(0)}
	case "CT":
		return &ctTarget{}
	case "NOTRACK":
		return &ctTarget{notrack: true}
	case "DNAT":
		return &natTarget{a: natAction{kind: kindDNAT}}
	case "SNAT":
		return &natTarget{a: natAction{kind: kindSNAT}}
	case "MASQUERADE":
		return &natTarget{a: natAction{kind: kindMasquerade}}
	case "REDIRECT":
		return &natTarget{a: natAction{kind: kindRedirect}}
	case "NETMAP":
		return &natTarget{a: natAction{kind: kindNetmap}}
	case "TPROXY":
		return &tproxyTarget{}
	case "NFQUEUE":
		return &skipTarget{
			options: withFlags(values("--queue-num", "--queue-balance"), "--queue-bypass", "--queue-cpu-fanout"),
			a:       &verdictAction{kind: outQueue, text: "queue to user space"},
		}
	case "TCPMSS":
		return &mssTarget{}
	case "TCPOPTSTRIP":
		return &stripTarget{}
	case "DSCP", "TOS":
		return &tosTarget{name: name}
	case "ECN":
		return &ecnTarget{}
	case "TTL", "HL":
		return &ttlTarget{name: name}
	case "SET":
		return &setTarget{}
	case "HMARK":
		return &hmarkTarget{}
	case "SNPT", "DNPT":
		return &nptTarget{dst: name == "DNPT"}
	case "TEE":
		return &teeTarget{}
	case "CLASSIFY":
		return &classifyTarget{}
	case "SYNPROXY", "CLUSTERIP":
		return &opaqueTarget{name: name}
	}
	if options, ok := spectators[name]; ok {
		return &skipTarget{options: options, a: &noEffect{name: strings.ToLower(name)}, tracking: name == "CONNSECMARK"}
	}
	return nil
}

// spectators are the targets that never change a packet's fate, with how many
// values each of their options takes.
var spectators = map[string]map[string]int{
	"LOG":   withFlags(values("--log-level", "--log-prefix"), "--log-tcp-sequence", "--log-tcp-options", "--log-ip-options", "--log-uid", "--log-macdecode"),
	"NFLOG": values("--nflog-group", "--nflog-prefix", "--nflog-range", "--nflog-size", "--nflog-threshold"),
	"ULOG":  values("--ulog-nlgroup", "--ulog-prefix", "--ulog-cprange", "--ulog-qthreshold"),
	"TRACE": nil, "AUDIT": values("--type"), "CHECKSUM": withFlags(values(), "--checksum-fill"),
	"SECMARK": values("--selctx"), "CONNSECMARK": withFlags(values(), "--save", "--restore"),
	"IDLETIMER": withFlags(values("--timeout", "--label"), "--alarm"), "RATEEST": values("--rateest-name", "--rateest-interval", "--rateest-ewmalog"),
	"LED": withFlags(values("--led-trigger-id", "--led-delay"), "--led-always-blink"),
}

// opaqueTarget is a target that is not modelled: it takes every option.
type opaqueTarget struct{ name string }

func (t *opaqueTarget) option(r *ruleParser, _ string, _ bool) (bool, error) {
	r.skipValues()
	return true, nil
}

func (t *opaqueTarget) finish(r *ruleParser) (action, error) {
	r.unmodelled = true
	if t.name == "SYNPROXY" {
		r.p.c.needTracking(r.p.family)
	}
	return newUnknownAction("target " + t.name), nil
}

// skipTarget is a target whose options do not change what it does here.
type skipTarget struct {
	options  map[string]int
	a        action
	tracking bool
}

func (t *skipTarget) option(r *ruleParser, name string, _ bool) (bool, error) {
	n, ok := t.options[name]
	for range n {
		if _, err := r.value(name); err != nil {
			return true, err
		}
	}
	return ok, nil
}

func (t *skipTarget) finish(r *ruleParser) (action, error) {
	if t.tracking {
		r.p.c.needTracking(r.p.family)
	}
	return t.a, nil
}

// The kinds of REJECT with all their names; the first is what we report.
var rejectKinds4 = map[string]string{
	"icmp-net-unreachable": "icmp-net-unreachable", "net-unreach": "icmp-net-unreachable",
	"icmp-host-unreachable": "icmp-host-unreachable", "host-unreach": "icmp-host-unreachable",
	"icmp-proto-unreachable": "icmp-proto-unreachable", "proto-unreach": "icmp-proto-unreachable",
	"icmp-port-unreachable": "icmp-port-unreachable", "port-unreach": "icmp-port-unreachable",
	"icmp-net-prohibited": "icmp-net-prohibited", "net-prohib": "icmp-net-prohibited",
	"icmp-host-prohibited": "icmp-host-prohibited", "host-prohib": "icmp-host-prohibited",
	"icmp-admin-prohibited": "icmp-admin-prohibited", "admin-prohib": "icmp-admin-prohibited",
	"tcp-reset": "tcp-reset", "tcp-rst": "tcp-reset",
}

var rejectKinds6 = map[string]string{
	"icmp6-no-route": "icmp6-no-route", "no-route": "icmp6-no-route",
	"icmp6-adm-prohibited": "icmp6-adm-prohibited", "adm-prohibited": "icmp6-adm-prohibited",
	"icmp6-addr-unreachable": "icmp6-addr-unreachable", "addr-unreach": "icmp6-addr-unreachable",
	"icmp6-port-unreachable": "icmp6-port-unreachable", "port-unreach": "icmp6-port-unreachable",
	"icmp6-policy-fail": "icmp6-policy-fail", "policy-fail": "icmp6-policy-fail",
	"icmp6-reject-route": "icmp6-reject-route", "reject-route": "icmp6-reject-route",
	"tcp-reset": "tcp-reset",
}

type rejectTarget struct{ with string }

func (t *rejectTarget) option(r *ruleParser, name string, _ bool) (bool, error) {
	if name != "--reject-with" {
		return false, nil
	}
	text, err := r.value(name)
	if err != nil {
		return true, err
	}
	kinds := rejectKinds4
	if r.p.family == netstack.IPv6 {
		kinds = rejectKinds6
	}
	with, ok := kinds[text]
	if !ok {
		return true, r.errorf(text, "unknown kind of reject")
	}
	t.with = with
	return true, nil
}

func (t *rejectTarget) finish(r *ruleParser) (action, error) {
	if t.with == "" {
		t.with = "icmp-port-unreachable"
		if r.p.family == netstack.IPv6 {
			t.with = "icmp6-port-unreachable"
		}
	}
	return &rejectAction{with4: t.with, with6: t.with}, nil
}

type markTarget struct {
	a   setMark
	set bool
}

func (t *markTarget) option(r *ruleParser, name string, _ bool) (bool, error) {
	a, ok, err := r.markOption(name)
	if ok && err == nil {
		t.a, t.set = a, true
	}
	return ok, err
}

// markOption reads the options that MARK and CONNMARK share.
func (r *ruleParser) markOption(name string) (setMark, bool, error) {
	switch name {
	case "--set-mark", "--set-xmark":
		value, mask, err := r.masked(name, 32)
		if err != nil {
			return setMark{}, true, err
		}
		if name == "--set-mark" {
			mask |= value
		}
		return setMark{uint32(value), uint32(mask)}, true, nil
	case "--and-mark", "--or-mark", "--xor-mark":
		n, err := r.number(name, 32)
		if err != nil {
			return setMark{}, true, err
		}
		v := uint32(n)
		switch name {
		case "--and-mark":
			return setMark{0, ^v}, true, nil
		case "--or-mark":
			return setMark{v, v}, true, nil
		}
		return setMark{v, 0}, true, nil
	}
	return setMark{}, false, nil
}

func (t *markTarget) finish(r *ruleParser) (action, error) {
	if !t.set {
		return nil, r.errorf("MARK", "target has no operation")
	}
	return &t.a, nil
}

type connmarkTarget struct {
	op             string
	set            setMark
	nfMask, ctMask uint32
	shift          int8
}

func (t *connmarkTarget) option(r *ruleParser, name string, _ bool) (bool, error) {
	if m, ok, err := r.markOption(name); ok {
		t.op, t.set = "set", m
		return true, err
	}
	switch name {
	case "--save-mark":
		t.op = "save"
	case "--restore-mark":
		t.op = "restore"
	case "--nfmask", "--ctmask", "--mask":
		n, err := r.number(name, 32)
		if err != nil {
			return true, err
		}
		if name != "--ctmask" {
			t.nfMask = uint32(n)
		}
		if name != "--nfmask" {
			t.ctMask = uint32(n)
		}
	case "--left-shift-mark", "--right-shift-mark":
		n, err := r.number(name, 5)
		if err != nil {
			return true, err
		}
		t.shift = int8(n)
		if name == "--right-shift-mark" {
			t.shift = -t.shift
		}
	default:
		return false, nil
	}
	return true, nil
}

func (t *connmarkTarget) finish(r *ruleParser) (action, error) {
	r.p.c.needTracking(r.p.family)
	a := &setConnmark{nfMask: t.nfMask, ctMask: t.ctMask, shift: t.shift}
	switch t.op {
	case "set":
		a.op, a.value, a.ctMask = connmarkSet, t.set.value, t.set.mask
	case "save":
		a.op = connmarkSave
	case "restore":
		a.op = connmarkRestore
	default:
		return nil, r.errorf("CONNMARK", "target has no operation")
	}
	if a.op != connmarkRestore {
		r.p.c.tellsSegmentsApart()
	}
	return a, nil
}

// ctTarget is CT and NOTRACK. A helper, a time-out or events do not change the
// fate of a packet; a zone does.
type ctTarget struct {
	notrack bool
	a       setTemplate
}

// zoneOptions are those that name a zone of connection tracking, and the directions in which it counts.
var zoneOptions = map[string]zoneDirections{"--zone": 0, "--zone-orig": zoneOriginal, "--zone-reply": zoneReply}

func (t *ctTarget) option(r *ruleParser, name string, _ bool) (bool, error) {
	switch name {
	case "--notrack":
		t.notrack = true
		return true, nil
	case "--zone", "--zone-orig", "--zone-reply":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		t.a.zone.only |= zoneOptions[name]
		if text == "mark" {
			t.a.fromMark = true
			return true, nil
		}
		id, err := strconv.ParseUint(text, 0, 16)
		if err != nil {
			return true, r.errorf(text, "invalid number for "+name)
		}
		t.a.zone.id = uint16(id)
		return true, nil
	case "--helper", "--ctevents", "--expevents", "--timeout":
	default:
		return false, nil
	}
	_, err := r.value(name)
	return true, err
}

func (t *ctTarget) finish(r *ruleParser) (action, error) {
	if t.notrack {
		return notrack{}, nil
	}
	r.p.c.needTracking(r.p.family)
	return &t.a, nil
}

type natTarget struct {
	a      natAction
	set    bool
	random bool
}

func (t *natTarget) option(r *ruleParser, name string, _ bool) (bool, error) {
	switch name {
	case "--random", "--random-fully":
		t.random = true
		return true, nil
	case "--persistent":
		return true, nil
	}
	want := "--to-ports"
	switch t.a.kind {
	case kindDNAT:
		want = "--to-destination"
	case kindSNAT:
		want = "--to-source"
	case kindNetmap:
		want = "--to"
	}
	if name != want {
		return false, nil
	}
	text, err := r.value(name)
	if err != nil {
		return true, err
	}
	if t.set {
		return true, r.errorf(text, "option given twice")
	}
	t.set = true
	var ok bool
	switch t.a.kind {
	case kindDNAT, kindSNAT:
		var a natAction
		if a, ok = parseNATAddr(r.p.family, text); ok {
			a.kind = t.a.kind
			t.a = a
		}
	case kindNetmap:
		t.a.prefix, ok = parseNetmap(r.p.family, text)
	default:
		t.a.ports, ok = parseNATPorts(text)
	}
	if !ok {
		return true, r.errorf(text, "invalid value for "+name)
	}
	return true, nil
}

func parseNetmap(f netstack.Family, text string) (netip.Prefix, bool) {
	m, ok := parseAddrMask(f, text)
	if !ok {
		return netip.Prefix{}, false
	}
	for n := 0; n <= addrWidth(f); n++ {
		if prefixMask(n, addrWidth(f)) == m.mask {
			return netip.PrefixFrom(m.value.addr(f), n), true
		}
	}
	return netip.Prefix{}, false // the mask has holes
}

func (t *natTarget) finish(r *ruleParser) (action, error) {
	r.p.c.needTracking(r.p.family)
	if !t.set && (t.a.kind == kindDNAT || t.a.kind == kindSNAT || t.a.kind == kindNetmap) {
		return nil, r.errorf(strings.ToUpper(string(t.a.kind)), "target has no address")
	}
	if !r.p.kind.nat {
		return nil, r.errorf(strings.ToUpper(string(t.a.kind)), "target is only valid in table nat")
	}
	t.a.random = t.random
	return &t.a, nil
}

type mssTarget struct {
	a   setMSS
	set bool
}

func (t *mssTarget) option(r *ruleParser, name string, _ bool) (bool, error) {
	switch name {
	case "--set-mss":
		n, err := r.number(name, 16)
		if err != nil {
			return true, err
		}
		t.a.mss, t.set = uint16(n), true
	case "--clamp-mss-to-pmtu":
		t.a.clamp, t.set = true, true
	default:
		return false, nil
	}
	return true, nil
}

func (t *mssTarget) finish(r *ruleParser) (action, error) {
	t.a.add = true
	if !t.set {
		return nil, r.errorf("TCPMSS", "target has no operation")
	}
	return &t.a, nil
}

type tosTarget struct {
	name string
	a    setTOS
	set  bool
}

func (t *tosTarget) option(r *ruleParser, name string, _ bool) (bool, error) {
	switch name {
	case "--set-dscp":
		n, err := r.number(name, 6)
		if err != nil {
			return true, err
		}
		t.a = setTOS{uint8(n) << 2, 0xfc}
	case "--set-dscp-class":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		n, ok := parseDSCPClass(text)
		if !ok {
			return true, r.errorf(text, "unknown DSCP class")
		}
		t.a = setTOS{n << 2, 0xfc}
	case "--set-tos":
		value, mask, err := r.tos(name)
		if err != nil {
			return true, err
		}
		t.a = setTOS{uint8(value), uint8(mask)}
	case "--and-tos", "--or-tos", "--xor-tos":
		n, err := r.number(name, 8)
		if err != nil {
			return true, err
		}
		v := uint8(n)
		switch name {
		case "--and-tos":
			t.a = setTOS{0, ^v}
		case "--or-tos":
			t.a = setTOS{v, v}
		default:
			t.a = setTOS{v, 0}
		}
	default:
		return false, nil
	}
	t.set = true
	return true, nil
}

func (t *tosTarget) finish(r *ruleParser) (action, error) {
	if !t.set {
		return nil, r.errorf(t.name, "target has no operation")
	}
	return &t.a, nil
}

type ttlTarget struct {
	name string
	a    setTTL
	set  bool
}

func (t *ttlTarget) option(r *ruleParser, name string, _ bool) (bool, error) {
	switch name {
	case "--ttl-set", "--hl-set":
		t.a.op = ttlSet
	case "--ttl-inc", "--hl-inc":
		t.a.op = ttlInc
	case "--ttl-dec", "--hl-dec":
		t.a.op = ttlDec
	default:
		return false, nil
	}
	n, err := r.number(name, 8)
	t.a.value, t.set = uint8(n), true
	return true, err
}

func (t *ttlTarget) finish(r *ruleParser) (action, error) {
	if !t.set {
		return nil, r.errorf(t.name, "target has no operation")
	}
	return &t.a, nil
}

// tosNames are those that iptables takes for the bits of RFC 1349.
var tosNames = map[string]uint64{
	"Minimize-Delay": 0x10, "Maximize-Throughput": 0x08, "Maximize-Reliability": 0x04, "Minimize-Cost": 0x02, "Normal-Service": 0,
}

// tos reads VALUE[/MASK], or a name, which leaves the ECN bits and the
// precedence alone.
func (r *ruleParser) tos(option string) (value, mask uint64, err error) {
	if len(r.tokens) > 0 {
		if v, ok := tosNames[r.tokens[0]]; ok {
			r.tokens = r.tokens[1:]
			return v, 0x3f, nil
		}
	}
	return r.masked(option, 8)
}
