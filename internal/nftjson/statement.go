package nftjson

// statementKind says what a statement is.
type statementKind uint8

const (
	matchStatement statementKind = iota // expr, which may be a verdict map, too
	verdictStatement
	payloadStatement // left is set to expr
	metaStatement
	ctStatement
	extensionStatement
	resetStatement  // of the option left
	natStatement    // text is the kind
	tproxyStatement // family, left, expr
	rejectStatement // number is the type, expr the code
	setStatement    // text is the operation
	mapStatement    // left is added with expr
	meterStatement
	dupStatement
	fwdStatement
	queueStatement
	logStatement
	limitStatement
	quotaStatement
	counterStatement
	connlimitStatement
	lastStatement
	notrackStatement
	flowStatement
	synproxyStatement
	objectStatement
	xtablesStatement
)

// stateful says whether a set may keep such a statement with each element.
func (k statementKind) stateful() bool {
	switch k {
	case limitStatement, quotaStatement, counterStatement, connlimitStatement, lastStatement:
		return true
	}
	return false
}

// statement is one of a rule. Which fields have a meaning depends on its kind.
type statement struct {
	kind       statementKind
	left, expr *node
	set        *set
	text, name string
	family     uint8
	number     uint64
	second     uint64
	flags      uint32
	prefix     bool // NAT of prefixes
	nested     []statement
	present    numbers // of log and synproxy
	log        *logOptions
	limit      *limitOptions
	// implied says that another statement implies this match: nft leaves it out.
	implied bool
}

type logOptions struct {
	group, snaplen, threshold, level, flags uint32
	prefix                                  string
}

type limitOptions struct {
	rate, unit, burst uint64
	bytes, inverted   bool
}

func (d *decoder) add(s statement) { d.list = append(d.list, s) }

// Flags of NAT (NF_NAT_RANGE_*).
const (
	natMapAddresses   = 1 << 0
	natPorts          = 1 << 1
	natRandom         = 1 << 2
	natPersistent     = 1 << 3
	natFullyRandom    = 1 << 4
	natOffset         = 1 << 5
	natNetmap         = 1 << 6
	natFlagsOfUser    = natRandom | natPersistent | natFullyRandom | natNetmap
	natFlagsOfTheRest = natMapAddresses | natPorts
)

func (d *decoder) natFlags(flags uint32) uint32 {
	if flags&^(natFlagsOfUser|natFlagsOfTheRest) != 0 {
		d.fail("NAT flags %#x", flags)
	}
	return flags & natFlagsOfUser
}

func (d *decoder) nat(a *attributes) {
	s := statement{kind: natStatement}
	switch a.u32(1) {
	case 0:
		s.text = "snat"
	case 1:
		s.text = "dnat"
	default:
		d.fail("NAT type %d", a.u32(1))
	}
	family := uint8(a.u32(2))
	typ := typeIPv6
	switch family {
	case familyIPv4:
		typ = typeIPv4
	case familyIPv6:
	case familyInet:
		// Of ports only.
		if a[3] != nil || a[4] != nil {
			d.fail("NAT of addresses of either family")
		}
	default:
		d.fail("NAT of family %d", family)
	}
	if family != familyInet && d.table.family == familyInet {
		s.family = family
	}
	s.flags = d.natFlags(a.u32(7))
	s.prefix = s.flags&natNetmap != 0
	first, last := d.register(a, 3), d.register(a, 4)
	if first != 0 {
		n := d.read(first)
		n.setType(typ, orderNetwork)
		s.left = n
	}
	// A map of addresses and ports, or of ranges of addresses, fills all
	// registers at once.
	if n := s.left; n != nil && n.kind == mapLookup {
		if n.right.set.dataInterval || n.right.set.dataConcatenated() {
			s.family = family
			d.add(s)
			return
		}
	}
	if last != 0 && last != first {
		n := d.read(last)
		n.setType(typ, orderNetwork)
		if s.left == nil {
			d.fail("NAT to the end of a range")
			return
		}
		s.left = d.rangeToPrefix(s.left, n)
	}
	s.expr = d.ports(a, 5, 6)
	d.add(s)
}

// rangeToPrefix writes a range of addresses as a prefix where it is one.
func (d *decoder) rangeToPrefix(from, to *node) *node {
	if from.kind == constant && to.kind == constant {
		if width, ok := prefixLength(from.value, to.value, from.bits); ok {
			return d.prefix(from, width)
		}
	}
	return d.rangeOf(from, to)
}

// prefixLength is that of the prefix from the first to the last address; false
// if they are no prefix (range_expr_is_prefix).
func prefixLength(from, to number, width int) (int, bool) {
	differ := from.xor(to)
	low := differ.lowestZero(0)
	if differ.lowestOne(low+1) < width || from.lowestOne(0) < low {
		return 0, false
	}
	return width - low, true
}

// ports are those of NAT: a register, or two.
func (d *decoder) ports(a *attributes, first, last int) *node {
	low, high := d.register(a, first), d.register(a, last)
	if low == 0 {
		if high != 0 {
			d.fail("NAT to the end of a range of ports")
		}
		return nil
	}
	n := d.read(low)
	n.setType(typeService, orderNetwork)
	if high != 0 && high != low {
		end := d.read(high)
		end.setType(typeService, orderNetwork)
		n = d.rangeOf(n, end)
	}
	return n
}

func (d *decoder) masquerade(a *attributes) {
	d.add(statement{kind: natStatement, text: "masquerade", flags: d.natFlags(a.u32(1)), expr: d.ports(a, 2, 3)})
}

func (d *decoder) redirect(a *attributes) {
	d.add(statement{kind: natStatement, text: "redirect", flags: d.natFlags(a.u32(3)), expr: d.ports(a, 1, 2)})
}

// address is a source of an address of a family.
func (d *decoder) address(a *attributes, number int, family uint8) *node {
	if a[number] == nil {
		return nil
	}
	n := d.source(a, number)
	switch family {
	case familyIPv4:
		n.setType(typeIPv4, orderNetwork)
	case familyIPv6:
		n.setType(typeIPv6, orderNetwork)
	default:
		d.fail("an address of family %d", family)
	}
	return n
}

func (d *decoder) tproxy(a *attributes) {
	s := statement{kind: tproxyStatement, family: uint8(a.u32(1))}
	s.left = d.address(a, 2, s.family)
	s.expr = d.ports(a, 3, 0)
	d.add(s)
}

// Types of rejects (enum nft_reject_types).
const (
	rejectICMP  = 0
	rejectReset = 1
	rejectICMPX = 2
)

func (d *decoder) reject(a *attributes) {
	s := statement{kind: rejectStatement, number: a.uint(1), expr: d.arena.number(small(a.uint(2)), 8)}
	if s.number > rejectICMPX {
		d.fail("reject %d", s.number)
	}
	d.add(s)
}

func (d *decoder) dup(a *attributes) {
	s := statement{kind: dupStatement}
	if a[1] != nil {
		family := d.table.family
		if family != familyIPv4 && family != familyIPv6 {
			d.fail("dup to an address in family %d", family)
		}
		s.left = d.address(a, 1, family)
	}
	if a[2] != nil {
		s.expr = d.source(a, 2)
		s.expr.setType(typeIfIndex, orderHost)
	}
	d.add(s)
}

func (d *decoder) fwd(a *attributes) {
	s := statement{kind: fwdStatement, family: uint8(a.u32(3))}
	s.expr = d.source(a, 1)
	s.expr.setType(typeIfIndex, orderHost)
	s.left = d.address(a, 2, s.family)
	d.add(s)
}

func (d *decoder) queue(a *attributes) {
	s := statement{kind: queueStatement, flags: a.u32(3)}
	if s.flags > 3 {
		d.fail("queue flags %#x", s.flags)
	}
	if a[4] != nil {
		s.expr = d.source(a, 4)
		d.add(s)
		return
	}
	first := d.arena.number(small(a.uint(1)), 16)
	first.typ, first.order = typeInteger, orderHost
	s.expr = first
	if total := a.uint(2); total > 1 {
		last := d.arena.number(small((a.uint(1)+total-1)&0xffff), 16)
		last.typ, last.order = typeInteger, orderHost
		s.expr = d.rangeOf(first, last)
	}
	d.add(s)
}

// Attributes of log, in the order of the kernel.
const (
	logGroup     = 1
	logPrefix    = 2
	logSnaplen   = 3
	logThreshold = 4
	logLevel     = 5
	logFlags     = 6
)

func (d *decoder) log(a *attributes) {
	s := statement{kind: logStatement, log: &logOptions{
		group: a.u32(logGroup), prefix: a.text(logPrefix), snaplen: a.u32(logSnaplen), threshold: a.u32(logThreshold),
		level: a.u32(logLevel), flags: a.u32(logFlags),
	}}
	for i := logGroup; i <= logFlags; i++ {
		if a[i] != nil {
			s.present |= 1 << i
		}
	}
	if s.log.flags > logFlagsAll || s.log.level >= uint32(len(logLevels)) {
		d.fail("log flags %#x", s.log.flags)
	}
	d.add(s)
}

const limitInverted, quotaInverted, connlimitInverted = 1, 1, 1

func readLimit(a *attributes) (limitOptions, error) {
	l := limitOptions{rate: a.uint(1), unit: a.uint(2), burst: a.uint(3), bytes: a.uint(4) == 1, inverted: a.uint(5) == limitInverted}
	if a.uint(4) > 1 || a.uint(5) > limitInverted || unitName(l.unit) == "" {
		return l, unknownf("limit")
	}
	return l, nil
}

func (d *decoder) limit(a *attributes) {
	l, err := readLimit(a)
	d.keep(err)
	d.add(statement{kind: limitStatement, limit: &l})
}

func (d *decoder) quota(a *attributes) {
	const depleted = 2
	flags := a.u32(2) &^ depleted
	if flags > quotaInverted {
		d.fail("quota flags %#x", flags)
	}
	d.add(statement{kind: quotaStatement, number: a.uint(1), second: a.uint(4), flags: flags})
}

func (d *decoder) counter(a *attributes) {
	d.add(statement{kind: counterStatement, number: a.uint(2), second: a.uint(1)})
}

func (d *decoder) connlimit(a *attributes) {
	if a.u32(2) > connlimitInverted {
		d.fail("ct count flags %#x", a.u32(2))
	}
	d.add(statement{kind: connlimitStatement, number: a.uint(1), flags: a.u32(2)})
}

func (d *decoder) last(a *attributes) {
	d.add(statement{kind: lastStatement, flags: a.u32(1), number: a.uint(2)})
}

func (d *decoder) flow(a *attributes) { d.add(statement{kind: flowStatement, text: a.text(1)}) }

// Options of synproxy (NF_SYNPROXY_OPT_*).
const (
	synproxyMSS       = 1
	synproxyWScale    = 2
	synproxySACK      = 4
	synproxyTimestamp = 8
	synproxyECN       = 16
)

func (d *decoder) synproxy(a *attributes) {
	flags := a.u32(3)
	if flags >= 2*synproxyECN {
		d.fail("synproxy flags %#x", flags)
	}
	d.add(statement{kind: synproxyStatement, number: a.uint(1), second: a.uint(2), flags: flags})
}

// xtables is a match or target of iptables, of which nft prints the name only:
// what it does is in a structure of its extension, and iptables-save prints it.
func (d *decoder) xtables(kind string, a *attributes) {
	d.add(statement{kind: xtablesStatement, text: kind, name: a.text(1)})
}
