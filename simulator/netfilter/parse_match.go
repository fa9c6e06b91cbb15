package netfilter

import (
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// newModule returns the parser of a match extension. One that is not modelled
// takes whatever options follow it, and makes the rule undecidable.
func newModule(name string) module {
	switch name {
	case "comment":
		return commentModule{}
	case "tcp":
		return portModule{netstack.ProtoTCP}
	case "udp":
		return portModule{netstack.ProtoUDP}
	case "udplite":
		return portModule{netstack.ProtoUDPLite}
	case "sctp":
		return portModule{netstack.ProtoSCTP}
	case "icmp":
		return icmpModule{netstack.ProtoICMP}
	case "icmp6", "icmpv6":
		return icmpModule{netstack.ProtoICMPv6}
	case "multiport":
		return multiportModule{}
	case "mark", "connmark":
		return markModule{conn: name == "connmark"}
	case "conntrack", "state":
		return &conntrackModule{}
	case "addrtype":
		return &addrtypeModule{}
	case "set":
		return &setModule{}
	case "statistic":
		return &statisticModule{}
	case "rpfilter":
		return &rpfilterModule{}
	case "socket":
		return &socketModule{}
	case "owner":
		return &ownerModule{}
	case "physdev":
		return &physdevModule{}
	case "policy":
		return &policyModule{}
	case "recent":
		return &recentModule{}
	case "iprange", "length", "ttl", "hl", "dscp", "tos", "mac", "pkttype", "tcpmss":
		return fieldModule{}
	}
	if e, ok := extensions[name]; ok {
		return &extensionModule{extension: e, name: name}
	}
	return &opaqueModule{name: strings.Clone(name)}
}

// protocolModule is the match that -p loads without being asked.
func protocolModule(p netstack.Protocol) module {
	switch p {
	case netstack.ProtoTCP, netstack.ProtoUDP, netstack.ProtoUDPLite, netstack.ProtoSCTP:
		return portModule{p}
	case netstack.ProtoICMP, netstack.ProtoICMPv6:
		return icmpModule{p}
	}
	return nil
}

// opaqueModule is a match that nobody here has heard of.
type opaqueModule struct{ name string }

func (m *opaqueModule) option(r *ruleParser, _ string, _ bool) (bool, error) {
	r.skipValues()
	return true, nil
}

// skipValues drops the values of an option that is not understood.
func (r *ruleParser) skipValues() {
	for len(r.tokens) > 0 {
		t := r.tokens[0]
		if t == "!" || len(t) > 1 && t[0] == '-' && (t[1] == '-' || len(t) == 2 && !isDigits(t[1:])) {
			return
		}
		r.tokens = r.tokens[1:]
	}
}

func (m *opaqueModule) finish(r *ruleParser) error {
	r.add(unknownMatch{"match " + m.name})
	r.unmodelled = true
	return nil
}

type commentModule struct{}

func (commentModule) option(r *ruleParser, name string, _ bool) (bool, error) {
	if name != "--comment" {
		return false, nil
	}
	_, err := r.value(name)
	return true, err
}

func (commentModule) finish(*ruleParser) error { return nil }

// portModule is tcp, udp, udplite and sctp.
type portModule struct{ proto netstack.Protocol }

func (m portModule) option(r *ruleParser, name string, invert bool) (bool, error) {
	switch name {
	case "--sport", "--source-port", "--dport", "--destination-port":
		first, last, err := r.numberRange(name, 65535)
		if err != nil {
			return true, err
		}
		side := portDst
		if name == "--sport" || name == "--source-port" {
			side = portSrc
		}
		r.add(r.portMatch(side, netstack.PortRange{First: uint16(first), Last: uint16(last)}, invert))
		return true, nil
	}
	switch {
	case m.proto == netstack.ProtoTCP && name == "--tcp-flags":
		maskText, err := r.value(name)
		if err != nil {
			return true, err
		}
		setText, err := r.value(name)
		if err != nil {
			return true, err
		}
		mask, ok := parseTCPFlags(maskText)
		if !ok {
			return true, r.errorf(maskText, "unknown TCP flag")
		}
		set, ok := parseTCPFlags(setText)
		if !ok {
			return true, r.errorf(setText, "unknown TCP flag")
		}
		r.p.c.looksAtFlags(mask)
		r.add(&tcpFlagsMatch{mask: mask, set: set, invert: invert})
	case m.proto == netstack.ProtoTCP && name == "--syn":
		r.add(&tcpFlagsMatch{mask: netstack.SYN | netstack.RST | netstack.ACK | netstack.FIN, set: netstack.SYN, invert: invert})
	case m.proto == netstack.ProtoTCP && name == "--tcp-option":
		n, err := r.number(name, 8)
		if err != nil {
			return true, err
		}
		r.add(&tcpOptionMatch{option: uint8(n), invert: invert})
	case m.proto == netstack.ProtoSCTP && name == "--chunk-types":
		return true, r.sctpChunks(name, invert)
	default:
		return false, nil
	}
	return true, nil
}

func (portModule) finish(*ruleParser) error { return nil }

type icmpModule struct{ proto netstack.Protocol }

func (m icmpModule) option(r *ruleParser, name string, invert bool) (bool, error) {
	want := "--icmp-type"
	if m.proto == netstack.ProtoICMPv6 {
		want = "--icmpv6-type"
	}
	if name != want {
		return false, nil
	}
	text, err := r.value(name)
	if err != nil {
		return true, err
	}
	t, ok := parseICMPType(m.proto, text)
	if !ok {
		return true, r.errorf(text, "unknown ICMP type")
	}
	r.add(&icmpMatch{icmpType: t, proto: m.proto, invert: invert})
	return true, nil
}

func (icmpModule) finish(*ruleParser) error { return nil }

type multiportModule struct{}

func (multiportModule) option(r *ruleParser, name string, invert bool) (bool, error) {
	m := &portMatch{invert: invert}
	switch name {
	case "--sports", "--source-ports":
		m.side = portSrc
	case "--dports", "--destination-ports":
		m.side = portDst
	case "--ports":
		m.side = portEither
	default:
		return false, nil
	}
	text, err := r.value(name)
	if err != nil {
		return true, err
	}
	for part := range strings.SplitSeq(text, ",") {
		first, last, ok := parseRange(part, ":", 65535)
		if !ok {
			return true, r.errorf(part, "invalid range for "+name)
		}
		m.ranges = append(m.ranges, netstack.PortRange{First: uint16(first), Last: uint16(last)})
	}
	r.add(m)
	return true, nil
}

func (multiportModule) finish(*ruleParser) error { return nil }

type markModule struct{ conn bool }

func (m markModule) option(r *ruleParser, name string, invert bool) (bool, error) {
	if name != "--mark" {
		return false, nil
	}
	value, mask, err := r.masked(name, 32)
	if err != nil {
		return true, err
	}
	if m.conn {
		r.add(&connmarkMatch{value: uint32(value), mask: uint32(mask), invert: invert})
	} else {
		r.add(&markMatch{value: uint32(value), mask: uint32(mask), invert: invert})
	}
	return true, nil
}

func (m markModule) finish(r *ruleParser) error {
	if m.conn {
		r.p.c.needTracking(r.p.family)
	}
	return nil
}

type conntrackModule struct{ m conntrackMatch }

func (m *conntrackModule) option(r *ruleParser, name string, invert bool) (bool, error) {
	switch name {
	case "--ctstate", "--state":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		m.m.hasState, m.m.invertState = true, invert
		for part := range strings.SplitSeq(text, ",") {
			bit, ok := ctStateBits[part]
			if !ok {
				return true, r.errorf(part, "unknown connection state")
			}
			m.m.state |= bit
		}
	case "--ctstatus":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		m.m.hasStatus, m.m.invertStatus = true, invert
		for part := range strings.SplitSeq(text, ",") {
			bit, ok := ctStatusBits[part]
			if !ok {
				return true, r.errorf(part, "unknown connection status")
			}
			m.m.status |= bit
		}
	case "--ctdir":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		if text != "ORIGINAL" && text != "REPLY" {
			return true, r.errorf(text, "unknown direction")
		}
		m.m.hasDirection, m.m.reply = true, (text == "REPLY") != invert
	case "--ctproto":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		proto, ok := parseProtocol(text)
		if !ok {
			return true, r.errorf(text, "unknown protocol")
		}
		m.m.hasProtocol, m.m.invertProtocol, m.m.protocol = true, invert, proto
	case "--ctorigsrc", "--ctorigdst", "--ctreplsrc", "--ctrepldst":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		mask, ok := parseAddrMask(r.p.family, text)
		if !ok {
			return true, r.errorf(text, "invalid "+r.p.family.String()+" address or mask")
		}
		m.m.addrs = append(m.m.addrs, tupleAddr{
			addrMask: mask, reply: strings.HasPrefix(name, "--ctrepl"), src: strings.HasSuffix(name, "src"), invert: invert,
		})
	case "--ctorigsrcport", "--ctorigdstport", "--ctreplsrcport", "--ctrepldstport":
		first, last, err := r.numberRange(name, 65535)
		if err != nil {
			return true, err
		}
		m.m.ports = append(m.m.ports, tuplePort{
			PortRange: netstack.PortRange{First: uint16(first), Last: uint16(last)},
			reply:     strings.HasPrefix(name, "--ctrepl"), src: strings.HasSuffix(name, "srcport"), invert: invert,
		})
	case "--ctexpire":
		if _, _, err := r.numberRange(name, 1<<32-1); err != nil {
			return true, err
		}
		m.m.expire = true
	default:
		return false, nil
	}
	return true, nil
}

func (m *conntrackModule) finish(r *ruleParser) error {
	r.p.c.needTracking(r.p.family)
	r.add(&m.m)
	return nil
}

type addrtypeModule struct{ m addrtypeMatch }

func (m *addrtypeModule) option(r *ruleParser, name string, invert bool) (bool, error) {
	switch name {
	case "--src-type", "--dst-type":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		var types addrTypes
		for part := range strings.SplitSeq(text, ",") {
			t, ok := addrTypeNames[part]
			if !ok {
				return true, r.errorf(part, "unknown address type")
			}
			types |= t
		}
		if name == "--src-type" {
			m.m.src, m.m.invertSrc = types, invert
		} else {
			m.m.dst, m.m.invertDst = types, invert
		}
	case "--limit-iface-in":
		m.m.limitIn = true
	case "--limit-iface-out":
		m.m.limitOut = true
	default:
		return false, nil
	}
	return true, nil
}

func (m *addrtypeModule) finish(r *ruleParser) error {
	r.add(&m.m)
	return nil
}

type setModule struct{ m setMatch }

func (m *setModule) option(r *ruleParser, name string, invert bool) (bool, error) {
	switch name {
	case "--match-set", "--set":
		set, err := r.value(name)
		if err != nil {
			return true, err
		}
		m.m.name, m.m.set, m.m.invert = strings.Clone(set), r.p.c.set(set), invert
		m.m.src, err = r.setDirections(name)
		return true, err
	case "--return-nomatch":
		m.m.returnNomatch = true
	case "--update-counters", "--update-subcounters":
	case "--packets-eq", "--packets-lt", "--packets-gt", "--bytes-eq", "--bytes-lt", "--bytes-gt":
		m.m.counters = true
		_, err := r.number(name, 64)
		return true, err
	default:
		return false, nil
	}
	return true, nil
}

func (m *setModule) finish(r *ruleParser) error {
	if m.m.name == "" {
		return r.errorf("set", "match set needs --match-set")
	}
	r.add(&m.m)
	return nil
}

type statisticModule struct {
	mode        string
	probability float64
	every       uint64
	invert      bool
}

func (m *statisticModule) option(r *ruleParser, name string, invert bool) (bool, error) {
	switch name {
	case "--mode":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		if text != "random" && text != "nth" {
			return true, r.errorf(text, "unknown mode of statistic")
		}
		m.mode = text
	case "--probability":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		p, err := strconv.ParseFloat(text, 64)
		if err != nil || !(p >= 0 && p <= 1) {
			return true, r.errorf(text, "a probability is from 0 to 1")
		}
		m.probability, m.invert = p, invert
	case "--every":
		n, err := r.number(name, 32)
		if err != nil {
			return true, err
		}
		if n == 0 {
			return true, r.errorf("0", "invalid number for --every")
		}
		m.every, m.invert = n, invert
	case "--packet":
		_, err := r.number(name, 32)
		return true, err
	default:
		return false, nil
	}
	return true, nil
}

func (m *statisticModule) finish(r *ruleParser) error {
	switch {
	case m.mode == "":
		return r.errorf("statistic", "match statistic needs --mode")
	case m.mode == "nth" && m.every == 0:
		return r.errorf("nth", "mode nth needs --every")
	case m.mode == "nth":
		// Where the counter stands is not known: any packet may be the one.
		m.probability = 1 / float64(m.every)
	}
	r.add(newStatisticMatch(m.probability, m.invert))
	return nil
}

type rpfilterModule struct{ m rpfilterMatch }

func (m *rpfilterModule) option(_ *ruleParser, name string, _ bool) (bool, error) {
	switch name {
	case "--loose":
		m.m.loose = true
	case "--validmark":
		m.m.validMark = true
	case "--accept-local":
		m.m.acceptLocal = true
	case "--invert":
		m.m.invert = true
	default:
		return false, nil
	}
	return true, nil
}

func (m *rpfilterModule) finish(r *ruleParser) error {
	r.add(&m.m)
	return nil
}

type socketModule struct{ m socketMatch }

func (m *socketModule) option(_ *ruleParser, name string, _ bool) (bool, error) {
	switch name {
	case "--transparent":
		m.m.transparent = true
	case "--nowildcard":
		m.m.noWildcard = true
	case "--restore-skmark":
		m.m.restoreMark = true
	default:
		return false, nil
	}
	return true, nil
}

func (m *socketModule) finish(r *ruleParser) error {
	r.add(&m.m)
	return nil
}

type ownerModule struct{ m ownerMatch }

func (m *ownerModule) option(r *ruleParser, name string, invert bool) (bool, error) {
	switch name {
	case "--uid-owner":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		first, last, ok := parseRange(text, "-", 1<<32-1)
		if !ok {
			return true, r.errorf(text, "invalid user id")
		}
		m.m.uid = &uidRange{uint32(first), uint32(last), invert}
	case "--gid-owner":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		if _, _, ok := parseRange(text, "-", 1<<32-1); !ok {
			return true, r.errorf(text, "invalid group id")
		}
		m.m.gid, m.m.gidInvert = true, invert
	case "--suppl-groups":
	case "--socket-exists":
		m.m.socket, m.m.noSocket = !invert, invert
	default:
		return false, nil
	}
	return true, nil
}

func (m *ownerModule) finish(r *ruleParser) error {
	r.add(&m.m)
	return nil
}

type physdevModule struct{ m physdevMatch }

func (m *physdevModule) option(r *ruleParser, name string, invert bool) (bool, error) {
	switch name {
	case "--physdev-in", "--physdev-out":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		if text == "" || len(text) > 15 {
			return true, r.errorf(text, "invalid interface name")
		}
		if name == "--physdev-in" {
			m.m.in = newIfaceMatch(text, true, invert)
		} else {
			m.m.out = newIfaceMatch(text, false, invert)
		}
	case "--physdev-is-in":
		m.m.isIn, m.m.notIn = !invert, invert
	case "--physdev-is-out":
		m.m.isOut, m.m.notOut = !invert, invert
	case "--physdev-is-bridged":
		m.m.isBridged, m.m.notBridged = !invert, invert
	default:
		return false, nil
	}
	return true, nil
}

func (m *physdevModule) finish(r *ruleParser) error {
	r.add(&m.m)
	return nil
}

// policyModule is policy: without any IPsec policy in the namespace, no packet
// has been or will be transformed.
type policyModule struct {
	pol   string
	other bool
}

func (m *policyModule) option(r *ruleParser, name string, _ bool) (bool, error) {
	switch name {
	case "--dir":
		_, err := r.value(name)
		return true, err
	case "--pol":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		if text != "none" && text != "ipsec" {
			return true, r.errorf(text, "unknown policy")
		}
		m.pol = text
		return true, nil
	case "--strict", "--next", "--reqid", "--spi", "--proto", "--mode", "--tunnel-src", "--tunnel-dst":
		m.other = true
		r.skipValues()
		return true, nil
	}
	return false, nil
}

func (m *policyModule) finish(r *ruleParser) error {
	switch {
	case r.p.c.transforms() || m.pol == "":
		r.add(unknownMatch{"match policy"})
		r.unmodelled = true
	case m.pol == "ipsec":
		r.add(never{})
	}
	return nil
}

// recentModule is recent. Setting an entry always matches; whether one is
// there, no dump says.
type recentModule struct {
	set, invert bool
}

func (m *recentModule) option(r *ruleParser, name string, invert bool) (bool, error) {
	switch name {
	case "--set":
		m.set, m.invert = true, invert
	case "--rcheck", "--update", "--remove", "--rsource", "--rdest", "--rttl", "--reap":
	case "--seconds", "--hitcount", "--name", "--mask":
		_, err := r.value(name)
		return true, err
	default:
		return false, nil
	}
	return true, nil
}

func (m *recentModule) finish(r *ruleParser) error {
	switch {
	case !m.set:
		r.add(unknownMatch{"match recent"})
	case m.invert:
		r.add(never{})
	}
	return nil
}

// fieldModule holds the small matches: one option, one condition.
type fieldModule struct{}

func (fieldModule) finish(*ruleParser) error { return nil }

func (fieldModule) option(r *ruleParser, name string, invert bool) (bool, error) {
	switch name {
	case "--src-range", "--dst-range":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		firstText, lastText, found := strings.Cut(text, "-")
		if !found {
			lastText = firstText
		}
		first, ok1 := parseAddr(r.p.family, firstText)
		last, ok2 := parseAddr(r.p.family, lastText)
		if !ok1 || !ok2 || last.Less(first) {
			return true, r.errorf(text, "invalid range of "+r.p.family.String()+" addresses")
		}
		r.add(&addrRangeMatch{first: addrBits(first), last: addrBits(last), src: name == "--src-range", invert: invert})
	case "--length":
		first, last, err := r.numberRange(name, 65535)
		if err != nil {
			return true, err
		}
		r.p.c.tellsSegmentsApart()
		r.add(anyLength{&lengthMatch{first: int(first), last: int(last), invert: invert}})
	case "--mss":
		first, last, err := r.numberRange(name, 65535)
		if err != nil {
			return true, err
		}
		r.add(&mssMatch{first: uint16(first), last: uint16(last), invert: invert})
	case "--ttl-eq", "--ttl", "--ttl-lt", "--ttl-gt", "--hl-eq", "--hl", "--hl-lt", "--hl-gt":
		n, err := r.number(name, 8)
		if err != nil {
			return true, err
		}
		m := &byteMatch{field: fieldTTL, mask: 255, first: uint8(n), last: uint8(n), invert: invert}
		switch {
		case strings.HasSuffix(name, "-lt"):
			if n == 0 {
				r.add(never{})
				return true, nil
			}
			m.first, m.last = 0, uint8(n-1)
		case strings.HasSuffix(name, "-gt"):
			if n == 255 {
				r.add(never{})
				return true, nil
			}
			m.first, m.last = uint8(n+1), 255
		}
		r.add(m)
	case "--dscp":
		n, err := r.number(name, 6)
		if err != nil {
			return true, err
		}
		r.add(&byteMatch{field: fieldDSCP, first: uint8(n), last: uint8(n), invert: invert})
	case "--dscp-class":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		n, ok := parseDSCPClass(text)
		if !ok {
			return true, r.errorf(text, "unknown DSCP class")
		}
		r.add(&byteMatch{field: fieldDSCP, first: n, last: n, invert: invert})
	case "--tos":
		value, mask, err := r.tos(name)
		if err != nil {
			return true, err
		}
		r.add(&byteMatch{field: fieldTOS, mask: uint8(mask), first: uint8(value), last: uint8(value), invert: invert})
	case "--mac-source":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		mac, ok := netstack.ParseMAC(text)
		if !ok {
			return true, r.errorf(text, "invalid MAC address")
		}
		r.add(&macMatch{mac: mac, invert: invert})
	case "--pkt-type":
		text, err := r.value(name)
		if err != nil {
			return true, err
		}
		m := &pkttypeMatch{invert: invert}
		switch text {
		case "unicast", "host":
		case "broadcast":
			m.kind = packetBroadcast
		case "multicast":
			m.kind = packetMulticast
		case "otherhost":
			m.kind = packetOtherHost
		default:
			return true, r.errorf(text, "unknown packet type")
		}
		r.add(m)
	default:
		return false, nil
	}
	return true, nil
}
