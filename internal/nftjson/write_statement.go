package nftjson

// statements writes those of a rule that nothing else implies.
func (w *writer) statements(list []statement) {
	w.open('[')
	for i := range list {
		if !list[i].implied {
			w.comma()
			w.statement(&list[i])
		}
	}
	w.close(']')
}

func (w *writer) statement(s *statement) {
	switch s.kind {
	case matchStatement, verdictStatement:
		w.expression(s.expr)
		return
	case payloadStatement, metaStatement, ctStatement, extensionStatement:
		w.only("mangle")
		w.open('{')
		w.key("key")
		w.expression(s.left)
		w.key("value")
		w.expression(s.expr)
		w.close('}')
	case resetStatement:
		w.only("reset")
		w.expression(s.left)
	case natStatement:
		w.nat(s)
	case tproxyStatement:
		w.tproxy(s)
	case rejectStatement:
		w.reject(s)
	case setStatement:
		w.dynamic(s, "set")
	case mapStatement:
		w.dynamic(s, "map")
	case meterStatement:
		w.meter(s)
	case dupStatement:
		w.dup(s)
	case fwdStatement:
		w.only("fwd")
		w.open('{')
		w.optional("dev", s.expr)
		if s.left != nil {
			w.text("family", familyNames[s.family])
			w.optional("addr", s.left)
		}
		w.close('}')
	case queueStatement:
		w.only("queue")
		w.open('{')
		w.optional("num", s.expr)
		w.strings("flags", names(s.flags, "bypass", "fanout"))
		w.close('}')
	case logStatement:
		w.log(s)
	case limitStatement:
		w.only("limit")
		w.open('{')
		w.limit(s.limit)
		w.close('}')
	case quotaStatement:
		w.only("quota")
		w.open('{')
		w.size("val", s.number)
		w.inverted(s.flags&quotaInverted != 0)
		if !w.stateless && s.second != 0 {
			w.size("used", s.second)
		}
		w.close('}')
	case counterStatement:
		w.only("counter")
		if w.stateless {
			w.null()
			break
		}
		w.open('{')
		w.integer("packets", s.number)
		w.integer("bytes", s.second)
		w.close('}')
	case connlimitStatement:
		w.only("ct count")
		w.open('{')
		w.integer("val", s.number)
		w.inverted(s.flags&connlimitInverted != 0)
		w.close('}')
	case lastStatement:
		w.only("last")
		if w.stateless || s.flags == 0 {
			w.null()
			break
		}
		w.open('{')
		w.integer("used", s.number)
		w.close('}')
	case notrackStatement:
		w.only("notrack")
		w.null()
	case flowStatement:
		w.only("flow")
		w.open('{')
		w.text("op", "add")
		w.text("flowtable", "@"+s.text)
		w.close('}')
	case synproxyStatement:
		w.synproxy(s)
	case objectStatement:
		w.only(objectKeyword(uint32(s.number)))
		if s.expr != nil {
			w.expression(s.expr)
		} else {
			w.string(s.text)
		}
	case xtablesStatement:
		w.only("xt")
		w.open('{')
		w.text("type", s.text)
		w.text("name", s.name)
		w.close('}')
	default:
		w.fail("a statement of kind %d", s.kind)
	}
	w.close('}')
}

// tproxy names a family only where the table is one of both.
func (w *writer) tproxy(s *statement) {
	w.only("tproxy")
	w.open('{')
	if s.family != 0 && s.number == familyInet {
		w.text("family", familyNames[s.family])
	}
	w.optional("addr", s.left)
	w.optional("port", s.expr)
	w.close('}')
}

// dynamic writes a statement that puts elements into a set or a map, or takes them out.
func (w *writer) dynamic(s *statement, kind string) {
	w.only(kind)
	w.open('{')
	w.text("op", s.text)
	w.key("elem")
	w.expression(s.left)
	w.optional("data", s.expr)
	w.text(kind, "@"+s.set.name)
	if s.nested != nil {
		w.nested("stmt", s.nested)
	}
	w.close('}')
}

func (w *writer) meter(s *statement) {
	w.only("meter")
	w.open('{')
	w.key("key")
	w.expression(s.left)
	w.key("stmt")
	stateless := w.stateless
	w.stateless = true
	w.statement(&s.nested[0])
	w.stateless = stateless
	w.integer("size", uint64(s.set.size))
	w.text("name", s.set.name)
	w.close('}')
}

func (w *writer) dup(s *statement) {
	w.only("dup")
	addr, dev := s.left, s.expr
	if addr == nil {
		addr, dev = s.expr, nil
	}
	if addr == nil {
		w.null()
		return
	}
	w.open('{')
	w.optional("addr", addr)
	w.optional("dev", dev)
	w.close('}')
}

// inverted writes that a condition is turned round.
func (w *writer) inverted(is bool) {
	if is {
		w.key("inv")
		w.bool(true)
	}
}

func (w *writer) optional(key string, n *node) {
	if n != nil {
		w.key(key)
		w.expression(n)
	}
}

// nested writes the statements that a set has with its elements.
func (w *writer) nested(key string, list []statement) {
	stateless := w.stateless
	w.stateless = true
	w.key(key)
	w.statements(list)
	w.stateless = stateless
}

// names are those of the flags that are set, from the lowest bit on; an empty
// name is never written.
func names(flags uint32, list ...string) []string {
	var set []string
	for i, name := range list {
		if name != "" && flags&(1<<i) != 0 {
			set = append(set, name)
		}
	}
	return set
}

func (w *writer) nat(s *statement) {
	w.only(s.text)
	if s.family == 0 && s.left == nil && s.expr == nil && s.flags == 0 && !s.prefix {
		w.null()
		return
	}
	w.open('{')
	if s.family != 0 {
		w.text("family", familyNames[s.family])
	}
	w.optional("addr", s.left)
	w.optional("port", s.expr)
	var flags []string
	for _, f := range [...]struct {
		flag uint32
		name string
	}{{natRandom, "random"}, {natFullyRandom, "fully-random"}, {natPersistent, "persistent"}, {natNetmap, "netmap"}} {
		if s.flags&f.flag != 0 {
			flags = append(flags, f.name)
		}
	}
	w.strings("flags", flags)
	if s.prefix {
		w.text("type_flags", "prefix")
	}
	w.close('}')
}

func (w *writer) reject(s *statement) {
	w.only("reject")
	kind := ""
	switch s.number {
	case rejectReset:
		w.open('{')
		w.text("type", "tcp reset")
		w.close('}')
		return
	case rejectICMPX:
		kind = "icmpx"
	case rejectICMP:
		kind = map[uint8]string{familyIPv4: "icmp", familyIPv6: "icmpv6"}[s.family]
	}
	if kind == "" {
		w.fail("a reject of no family")
		w.null()
		return
	}
	w.open('{')
	w.text("type", kind)
	w.key("expr")
	w.expression(s.expr)
	w.close('}')
}

// Levels of syslog, and that of audit.
var logLevels = [...]string{"emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", "audit"}

const (
	logLevelWarn = 4
	logFlagsAll  = 0x2f // NF_LOG_MASK
)

func (w *writer) log(s *statement) {
	has := func(n int) bool { return s.present&(1<<n) != 0 }
	flags := names(s.log.flags, "tcp sequence", "tcp options", "ip options", "skuid", "", "ether")
	if s.log.flags == logFlagsAll {
		flags = []string{"all"}
	}
	level := has(logLevel) && s.log.level != logLevelWarn
	w.only("log")
	if !has(logPrefix) && !has(logGroup) && !has(logSnaplen) && !has(logThreshold) && !level && flags == nil {
		w.null()
		return
	}
	w.open('{')
	if has(logPrefix) {
		w.text("prefix", s.log.prefix)
	}
	if has(logGroup) {
		w.integer("group", uint64(s.log.group))
	}
	if has(logSnaplen) {
		w.integer("snaplen", uint64(s.log.snaplen))
	}
	if has(logThreshold) {
		w.integer("queue-threshold", uint64(s.log.threshold))
	}
	if level {
		w.text("level", logLevels[s.log.level])
	}
	w.strings("flags", flags)
	w.close('}')
}

// unitName is the name of a number of seconds; "" if it has none.
func unitName(seconds uint64) string {
	switch seconds {
	case 1:
		return "second"
	case 60:
		return "minute"
	case 60 * 60:
		return "hour"
	case 60 * 60 * 24:
		return "day"
	case 60 * 60 * 24 * 7:
		return "week"
	}
	return ""
}

var sizeUnits = [...]string{"bytes", "kbytes", "mbytes"}

// sizeOf is a number of bytes in the largest unit that needs no fraction
// (get_rate).
func sizeOf(bytes uint64) (uint64, string) {
	i := 0
	for ; i < len(sizeUnits)-1 && bytes != 0 && bytes%1024 == 0; i++ {
		bytes /= 1024
	}
	return bytes, sizeUnits[i]
}

func (w *writer) size(key string, bytes uint64) {
	n, unit := sizeOf(bytes)
	w.integer(key, n)
	w.text(key+"_unit", unit)
}

// amount is a number of bytes in its unit, or of packets, which have none.
func (l *limitOptions) amount(n uint64) (uint64, string) {
	if l.bytes {
		return sizeOf(n)
	}
	return n, ""
}

func (w *writer) limit(l *limitOptions) {
	rate, rateUnit := l.amount(l.rate)
	burst, burstUnit := l.amount(l.burst)
	w.integer("rate", rate)
	w.integer("burst", burst)
	w.text("per", unitName(l.unit))
	w.inverted(l.inverted)
	if l.bytes {
		w.text("rate_unit", rateUnit)
		w.text("burst_unit", burstUnit)
	}
}

func (w *writer) synproxy(s *statement) {
	w.only("synproxy")
	if s.flags == 0 {
		w.null()
		return
	}
	w.open('{')
	if s.flags&synproxyMSS != 0 {
		w.integer("mss", s.number)
	}
	if s.flags&synproxyWScale != 0 {
		w.integer("wscale", s.second)
	}
	if flags := synproxyFlags(s.flags); flags != nil {
		w.list("flags", flags)
	}
	w.close('}')
}

func synproxyFlags(flags uint32) []string {
	var list []string
	if flags&synproxyTimestamp != 0 {
		list = append(list, "timestamp")
	}
	if flags&synproxySACK != 0 {
		list = append(list, "sack-perm")
	}
	return list
}
