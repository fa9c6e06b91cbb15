package collector

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// readARPTables reads the tables of the kernel's own arptables, and writes them as
// arptables-save does: arptables-legacy-save itself asks whatever tool is called
// arptables. Asking for a table that is not there would create it, so the kernel
// is only asked for those that it says are there.
func readARPTables(_ context.Context, t *target) error {
	names, err := os.ReadFile(t.procNet("arp_tables_names"))
	if err != nil {
		return ignoreMissing(err)
	}
	t.ns.ARPTables.File = t.file("arptables-save-legacy.txt")
	var out bytes.Buffer
	for name := range strings.FieldsSeq(string(names)) {
		table, err := getARPTable(name)
		if err != nil {
			return fmt.Errorf("read the table %s of arptables: %w", name, err)
		}
		if err := table.print(&out); err != nil {
			return fmt.Errorf("read the table %s of arptables: %w", name, err)
		}
	}
	t.ns.ARPTables.Data = out.Bytes()
	return nil
}

// Of <linux/netfilter_arp/arp_tables.h>.
const (
	arptEntrySize = 192 // struct arpt_entry, before its target
	xtTargetSize  = 32  // struct xt_entry_target
)

// arpTable is a table as the kernel has it: entries one after the other, of which
// some begin chains.
type arpTable struct {
	name       string
	validHooks uint32
	hookEntry  [3]uint32
	underflow  [3]uint32
	entries    []byte
}

// arpHooks are the built-in chains, by NF_ARP_*.
var arpHooks = [3]string{"INPUT", "OUTPUT", "FORWARD"}

var errARPEntry = errors.New("an entry is not understood")

// getARPTable asks for a table.
func getARPTable(name string) (*arpTable, error) {
	info, entries, err := arpXTables.get(name)
	if err != nil {
		return nil, err
	}
	word := func(i int) uint32 { return binary.NativeEndian.Uint32(info[xtNameSize+4*i:]) }
	t := &arpTable{name: name, validHooks: word(0), entries: entries}
	for i := range t.hookEntry {
		t.hookEntry[i], t.underflow[i] = word(1+i), word(4+i)
	}
	return t, nil
}

// arpEntry is a rule, a chain's policy or its name.
type arpEntry struct {
	offset, next uint32
	arp          []byte // struct arpt_arp
	target       string
	data         []byte // of the target
}

// split takes the entries apart.
func (t *arpTable) split() ([]arpEntry, error) {
	var list []arpEntry
	for at := 0; at < len(t.entries); {
		e := t.entries[at:]
		if len(e) < arptEntrySize {
			return nil, errARPEntry
		}
		targetAt, next := int(binary.NativeEndian.Uint16(e[164:])), int(binary.NativeEndian.Uint16(e[166:]))
		if targetAt < arptEntrySize || next < targetAt+xtTargetSize || next > len(e) {
			return nil, errARPEntry
		}
		target := e[targetAt:next]
		list = append(list, arpEntry{
			offset: uint32(at), next: uint32(at + next), arp: e[:164],
			target: unix.ByteSliceToString(target[2:31]), data: target[xtTargetSize:],
		})
		at += next
	}
	return list, nil
}

// errorTarget is the target of entries that begin a chain, with its name, and of
// the last one of the table (XT_ERROR_TARGET).
const errorTarget = "ERROR"

// print writes the table as arptables-save does.
func (t *arpTable) print(out *bytes.Buffer) error {
	entries, err := t.split()
	if err != nil {
		return err
	}
	type chain struct {
		name  string
		rules []arpEntry
	}
	var builtin, made []*chain
	chains := make(map[uint32]*chain) // by where their rules begin
	var current *chain
	policies := make(map[string]string)
	for i, e := range entries {
		hook := slices.Index(t.hookEntry[:], e.offset)
		switch {
		case e.target == errorTarget && i == len(entries)-1:
			continue
		case e.target == errorTarget:
			current = &chain{name: unix.ByteSliceToString(e.data)}
			made = append(made, current)
			chains[e.next] = current
			continue
		case hook >= 0 && t.validHooks&(1<<hook) != 0:
			current = &chain{name: arpHooks[hook]}
			builtin = append(builtin, current)
		case current == nil:
			return errARPEntry
		}
		current.rules = append(current.rules, e)
	}
	for _, c := range slices.Concat(builtin, made) {
		// The last entry is the policy, or the return of a chain that a user made.
		if len(c.rules) == 0 {
			return errARPEntry
		}
		last := c.rules[len(c.rules)-1]
		c.rules = c.rules[:len(c.rules)-1]
		v, ok := last.verdict()
		switch {
		case !ok || verdictName(v) == "":
			return errARPEntry
		case slices.Contains(builtin, c):
			if !slices.Contains(t.underflow[:], last.offset) {
				return errARPEntry
			}
			policies[c.name] = verdictName(v)
		}
	}
	fmt.Fprintf(out, "*%s\n", t.name)
	for _, c := range builtin {
		fmt.Fprintf(out, ":%s %s\n", c.name, policies[c.name])
	}
	for _, c := range made {
		fmt.Fprintf(out, ":%s -\n", c.name)
	}
	for _, c := range slices.Concat(builtin, made) {
		for _, e := range c.rules {
			target := e.target
			if v, standard := e.verdict(); standard {
				switch to := chains[uint32(v)]; {
				case v < 0:
					target = verdictName(v)
				case to != nil:
					target = to.name
				case uint32(v) == e.next: // the rule only counts
					target = "CONTINUE"
				}
			}
			switch target {
			case "":
				return errARPEntry
			case "CONTINUE":
				target = ""
			default:
				target = " -j " + target
			}
			fmt.Fprintf(out, "-A %s%s%s%s\n", c.name, target, e.conditions(), e.options())
		}
	}
	return nil
}

// verdict is that of a standard target, whose name is empty.
func (e *arpEntry) verdict() (int32, bool) {
	if e.target != "" || len(e.data) < 4 {
		return 0, false
	}
	return int32(binary.NativeEndian.Uint32(e.data)), true
}

// verdictName is empty for what rules do not say.
func verdictName(v int32) string {
	switch v {
	case -1:
		return "DROP"
	case -2:
		return "ACCEPT"
	case -4:
		return "QUEUE"
	case -5:
		return "RETURN"
	}
	return ""
}

// Of struct arpt_arp: flags of what is negated.
const (
	arptInvIn = 1 << iota
	arptInvOut
	arptInvSource
	arptInvTarget
	arptInvSourceMAC
	arptInvTargetMAC
	arptInvOperation
	arptInvHardware
	arptInvProtocol
	arptInvLength
)

// conditions writes what the entry asks for (arp_packet_match).
func (e *arpEntry) conditions() string {
	var out strings.Builder
	a := e.arp
	inverted := binary.NativeEndian.Uint16(a[160:])
	add := func(flag uint16, option, value string) {
		if inverted&flag != 0 {
			out.WriteString(" !")
		}
		out.WriteString(" " + option + " " + value)
	}
	device := func(flag uint16, option string, name, mask []byte) {
		if mask[0] == 0 && inverted&flag == 0 {
			return
		}
		text := unix.ByteSliceToString(name)
		if n := bytes.IndexByte(mask, 0); n >= 0 && n <= len(text) { // the name's end is not compared
			text = text[:n] + "+"
		}
		add(flag, option, text)
	}
	address := func(flag uint16, option string, addr, mask []byte) {
		ip, _ := netip.AddrFromSlice(addr)
		bits, prefix := maskBits(mask)
		switch {
		case prefix && bits == 0 && inverted&flag == 0:
		case prefix && bits == 32:
			add(flag, option, ip.String())
		case prefix:
			add(flag, option, fmt.Sprintf("%s/%d", ip, bits))
		default:
			m, _ := netip.AddrFromSlice(mask)
			add(flag, option, ip.String()+"/"+m.String())
		}
	}
	hardware := func(flag uint16, option string, mac, mask []byte) {
		value, bits := net.HardwareAddr(mac[:6]).String(), net.HardwareAddr(mask[:6]).String()
		switch {
		case bits == "00:00:00:00:00:00" && inverted&flag == 0:
		case bits == "ff:ff:ff:ff:ff:ff":
			add(flag, option, value)
		default:
			add(flag, option, value+"/"+bits)
		}
	}
	number := func(flag uint16, option, format string, value, mask, all uint16) {
		switch {
		case mask == 0 && inverted&flag == 0:
		case mask == all:
			add(flag, option, fmt.Sprintf(format, value))
		default:
			add(flag, option, fmt.Sprintf(format+"/0x%x", value, mask))
		}
	}
	device(arptInvIn, "-i", a[94:110], a[126:142])
	device(arptInvOut, "-o", a[110:126], a[142:158])
	address(arptInvSource, "-s", a[0:4], a[8:12])
	address(arptInvTarget, "-d", a[4:8], a[12:16])
	hardware(arptInvSourceMAC, "--src-mac", a[18:], a[34:])
	hardware(arptInvTargetMAC, "--dst-mac", a[50:], a[66:])
	number(arptInvLength, "--h-length", "%d", uint16(a[16]), uint16(a[17]), 0xff)
	number(arptInvOperation, "--opcode", "%d", binary.BigEndian.Uint16(a[82:]), binary.BigEndian.Uint16(a[84:]), 0xffff)
	number(arptInvHardware, "--h-type", "%x", binary.BigEndian.Uint16(a[86:]), binary.BigEndian.Uint16(a[88:]), 0xffff)
	number(arptInvProtocol, "--proto-type", "0x%x", binary.BigEndian.Uint16(a[90:]), binary.BigEndian.Uint16(a[92:]), 0xffff)
	return out.String()
}

// maskBits is the length of a mask that is a prefix.
func maskBits(mask []byte) (int, bool) {
	m := binary.BigEndian.Uint32(mask)
	for bits := range 33 {
		if m == ^uint32(0)<<(32-bits) {
			return bits, true
		}
	}
	return 0, false
}

// options writes those of targets that tell what they do; others are known by name.
func (e *arpEntry) options() string {
	word := func(at int) uint32 {
		if len(e.data) < at+4 {
			return 0
		}
		return binary.NativeEndian.Uint32(e.data[at:])
	}
	switch e.target {
	case "MARK": // struct xt_mark_tginfo2
		return fmt.Sprintf(" --set-xmark 0x%x/0x%x", word(0), word(4))
	case "CLASSIFY":
		return fmt.Sprintf(" --set-class %x:%x", word(0)>>16, word(0)&0xffff)
	case "mangle": // struct arpt_mangle
		return e.mangled()
	case "":
		return ""
	}
	return fmt.Sprintf(" --data %x", e.data) // no tool has it
}

// mangled writes what the target mangle puts into the packet.
func (e *arpEntry) mangled() string {
	if len(e.data) < 48 {
		return ""
	}
	var out strings.Builder
	flags := e.data[40]
	for i, option := range []string{"--mangle-mac-s", "--mangle-mac-d", "--mangle-ip-s", "--mangle-ip-d"} {
		if flags&(1<<i) == 0 {
			continue
		}
		var value string
		if i < 2 {
			value = net.HardwareAddr(e.data[16*i : 16*i+6]).String()
		} else {
			ip, _ := netip.AddrFromSlice(e.data[32+4*(i-2):][:4])
			value = ip.String()
		}
		fmt.Fprintf(&out, " %s %s", option, value)
	}
	const drop, accept = 0, 1 // NF_DROP, NF_ACCEPT
	switch binary.NativeEndian.Uint32(e.data[44:]) {
	case accept: // which need not be said
	case drop:
		out.WriteString(" --mangle-target DROP")
	default: // XT_CONTINUE
		out.WriteString(" --mangle-target CONTINUE")
	}
	return out.String()
}
