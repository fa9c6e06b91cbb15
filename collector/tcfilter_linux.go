package collector

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// tcOptions are the options of a filter or an action in the order of `tc -j`, which
// prints some keys more than once. What is not understood is there, too, as the
// key "unknown": nothing must be taken for less than it is.
type tcOptions []tcOption

type tcOption struct {
	key   string
	value any
}

func (o *tcOptions) add(key string, value any) { *o = append(*o, tcOption{key, value}) }

// MarshalJSON writes an object.
func (o tcOptions) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, member := range o {
		if i > 0 {
			out = append(out, ',')
		}
		value, err := json.Marshal(member.value)
		if err != nil {
			return nil, err
		}
		out = append(strconv.AppendQuote(out, member.key), ':')
		out = append(out, value...)
	}
	return append(out, '}'), nil
}

// tcAttributes are netlink attributes by type.
type tcAttributes map[uint16][]byte

func parseTC(raw []byte) (tcAttributes, error) {
	ad, err := netlink.NewAttributeDecoder(raw)
	if err != nil {
		return nil, err
	}
	a := make(tcAttributes)
	for ad.Next() {
		a[ad.Type()] = ad.Bytes()
	}
	return a, ad.Err()
}

// take removes an attribute, of at least size bytes.
func (a tcAttributes) take(typ uint16, size int) []byte {
	b := a[typ]
	if len(b) < size {
		return nil
	}
	delete(a, typ)
	return b
}

func (a tcAttributes) drop(types ...uint16) {
	for _, t := range types {
		delete(a, t)
	}
}

// rest notes the attributes that nobody took.
func (a tcAttributes) rest(o *tcOptions) {
	if len(a) > 0 {
		o.add("unknown", slices.Sorted(maps.Keys(a)))
	}
}

// Attributes that the netlink library has no name for, or not the right one.
const (
	tcaMatchallClassID, tcaMatchallAct, tcaMatchallFlags, tcaMatchallPcnt = 1, 2, 3, 4
	tcaBasicClassID, tcaBasicEmatches, tcaBasicAct, tcaBasicPcnt          = 1, 2, 3, 5
	tcaFWClassID, tcaFWIndev, tcaFWAct, tcaFWMask                         = 1, 3, 4, 5
	tcaU32Flags                                                           = 11
	tcaSkbeditPriority, tcaSkbeditQueue, tcaSkbeditMark, tcaSkbeditPtype  = 3, 4, 5, 7
	tcaSkbeditMask, tcaSkbeditFlags, tcaSkbeditQueueMax                   = 8, 9, 10
	tcaTM, tcaParms                                                       = 1, 2
)

// Flags of classifiers.
const tcSkipSW = 1 << 1

// filterOptions are the "options" of a filter; nil for one that only introduces
// others.
func (t *target) filterOptions(kind string, handle uint32, raw []byte) (tcOptions, error) {
	if raw == nil {
		return nil, nil
	}
	a, err := parseTC(raw)
	if err != nil {
		return nil, err
	}
	o := tcOptions{}
	switch kind {
	case "matchall":
		o.add("handle", handle)
		a.drop(tcaMatchallClassID, tcaMatchallPcnt)
		o.flags(a, tcaMatchallFlags)
		err = t.actions(&o, a, tcaMatchallAct)
	case "u32":
		err = t.u32Options(&o, handle, a)
	case "flower":
		err = t.flowerOptions(&o, handle, a)
	case "fw":
		mask := "0xffffffff"
		if b := a.take(tcaFWMask, 4); b != nil {
			mask = fmt.Sprintf("%#x", binary.NativeEndian.Uint32(b))
		}
		o.add("fw", tcOptions{{"mark", fmt.Sprintf("%#x", handle)}, {"mask", mask}})
		a.drop(tcaFWClassID)
		if b := a.take(tcaFWIndev, 1); b != nil {
			o.add("indev", unix.ByteSliceToString(b))
		}
		err = t.actions(&o, a, tcaFWAct)
	case "basic":
		o.add("handle", fmt.Sprint(handle))
		// struct tcf_ematch_tree_hdr: how many matches, first of the tree.
		tree, err := parseTC(a.take(tcaBasicEmatches, 0))
		if err != nil {
			return nil, err
		}
		if header := tree[1]; len(header) >= 2 && binary.NativeEndian.Uint16(header) > 0 {
			o.add("ematch", true)
		}
		a.drop(tcaBasicClassID, tcaBasicPcnt)
		if err := t.actions(&o, a, tcaBasicAct); err != nil {
			return nil, err
		}
	case "bpf":
		o.add("handle", fmt.Sprintf("%#x", handle))
		if b := a.take(nl.TCA_BPF_NAME, 1); b != nil {
			o.add("bpf_name", unix.ByteSliceToString(b))
		}
		if b := a.take(nl.TCA_BPF_ID, 4); b != nil {
			o.add("prog", tcOptions{{"id", binary.NativeEndian.Uint32(b)}})
		}
		return o, nil // nobody looks further
	}
	a.rest(&o)
	return o, err
}

func (o *tcOptions) flags(a tcAttributes, typ uint16) {
	if b := a.take(typ, 4); b != nil && binary.NativeEndian.Uint32(b)&tcSkipSW != 0 {
		o.add("skip_sw", true)
	}
}

// u32Options reads a filter or a hash table of u32.
func (t *target) u32Options(o *tcOptions, handle uint32, a tcAttributes) error {
	table, bucket, node := handle>>20, handle>>12&0xff, handle&0xfff
	if b := a.take(nl.TCA_U32_DIVISOR, 4); b != nil {
		o.add("fh", fmt.Sprintf("%x:", table))
		o.add("ht_divisor", binary.NativeEndian.Uint32(b))
		return nil
	}
	fh := fmt.Sprintf("%x:", table)
	if bucket != 0 {
		fh += fmt.Sprintf("%x", bucket)
	}
	o.add("fh", fh+fmt.Sprintf(":%x", node))
	if b := a.take(nl.TCA_U32_HASH, 4); b != nil {
		hash := binary.NativeEndian.Uint32(b)
		o.add("key_ht", fmt.Sprintf("%x", hash>>20))
		o.add("bkt", fmt.Sprintf("%x", hash>>12&0xff))
	}
	if b := a.take(nl.TCA_U32_LINK, 4); b != nil {
		o.add("link", fmt.Sprintf("%x:", binary.NativeEndian.Uint32(b)>>20))
	}
	a.drop(nl.TCA_U32_CLASSID, nl.TCA_U32_PCNT, 12) // TCA_U32_PAD
	o.flags(a, tcaU32Flags)
	if b := a.take(nl.TCA_U32_MARK, 12); b != nil {
		o.add("fwmark_value", fmt.Sprintf("%#x", binary.NativeEndian.Uint32(b)))
		o.add("fwmark_mask", fmt.Sprintf("%#x", binary.NativeEndian.Uint32(b[4:])))
	}
	// struct tc_u32_sel: flags, offshift, nkeys, offmask, off, offoff, hoff, hmask;
	// then the keys: mask, val, off, offmask.
	if sel := a.take(nl.TCA_U32_SEL, 16); sel != nil {
		keys := int(sel[2])
		if len(sel) < 16+16*keys {
			return fmt.Errorf("selector of u32 with %d keys in %d bytes", keys, len(sel))
		}
		for i := range keys {
			k := sel[16+16*i:]
			offmask := ""
			if m := binary.NativeEndian.Uint32(k[12:]); m != 0 {
				offmask = fmt.Sprintf("%x", m)
			}
			o.add("match", tcOptions{
				{"value", fmt.Sprintf("%x", binary.BigEndian.Uint32(k[4:]))},
				{"mask", fmt.Sprintf("%x", binary.BigEndian.Uint32(k))},
				{"offmask", offmask},
				{"off", int32(binary.NativeEndian.Uint32(k[8:]))},
			})
		}
	}
	if b := a.take(nl.TCA_U32_INDEV, 1); b != nil {
		o.add("indev", unix.ByteSliceToString(b))
	}
	return t.actions(o, a, nl.TCA_U32_ACT)
}

// flowerKey is a key of flower with the name that tc gives to it.
type flowerKey struct {
	name      string
	typ, mask uint16 // mask is 0 for those without
	size      int
	text      func(value, mask []byte) any
}

func flowerKeys() []flowerKey {
	port := func(v, _ []byte) any { return binary.BigEndian.Uint16(v) }
	prefix := func(v, mask []byte) any {
		ip, _ := netip.AddrFromSlice(v)
		ones, bits := net.IPMask(mask).Size()
		switch {
		case mask == nil || bits != 0 && ones == bits:
			return ip.String()
		case bits == 0: // with holes
			m, _ := netip.AddrFromSlice(mask)
			return ip.String() + "/" + m.String()
		}
		return fmt.Sprintf("%s/%d", ip, ones)
	}
	mac := func(v, mask []byte) any {
		text := net.HardwareAddr(v).String()
		if mask != nil && !bytes.Equal(mask, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) {
			text += "/" + net.HardwareAddr(mask).String()
		}
		return text
	}
	icmp := func(v, mask []byte) any {
		if mask != nil && mask[0] != 0xff {
			return fmt.Sprintf("%d/%#x", v[0], mask[0])
		}
		return fmt.Sprint(v[0])
	}
	octet := func(v, _ []byte) any { return v[0] }
	return []flowerKey{
		{"dst_mac", nl.TCA_FLOWER_KEY_ETH_DST, nl.TCA_FLOWER_KEY_ETH_DST_MASK, 6, mac},
		{"src_mac", nl.TCA_FLOWER_KEY_ETH_SRC, nl.TCA_FLOWER_KEY_ETH_SRC_MASK, 6, mac},
		{"dst_ip", nl.TCA_FLOWER_KEY_IPV4_DST, nl.TCA_FLOWER_KEY_IPV4_DST_MASK, 4, prefix},
		{"src_ip", nl.TCA_FLOWER_KEY_IPV4_SRC, nl.TCA_FLOWER_KEY_IPV4_SRC_MASK, 4, prefix},
		{"dst_ip", nl.TCA_FLOWER_KEY_IPV6_DST, nl.TCA_FLOWER_KEY_IPV6_DST_MASK, 16, prefix},
		{"src_ip", nl.TCA_FLOWER_KEY_IPV6_SRC, nl.TCA_FLOWER_KEY_IPV6_SRC_MASK, 16, prefix},
		{"src_port", nl.TCA_FLOWER_KEY_TCP_SRC, nl.TCA_FLOWER_KEY_TCP_SRC_MASK, 2, port},
		{"dst_port", nl.TCA_FLOWER_KEY_TCP_DST, nl.TCA_FLOWER_KEY_TCP_DST_MASK, 2, port},
		{"src_port", nl.TCA_FLOWER_KEY_UDP_SRC, nl.TCA_FLOWER_KEY_UDP_SRC_MASK, 2, port},
		{"dst_port", nl.TCA_FLOWER_KEY_UDP_DST, nl.TCA_FLOWER_KEY_UDP_DST_MASK, 2, port},
		{"src_port", nl.TCA_FLOWER_KEY_SCTP_SRC, nl.TCA_FLOWER_KEY_SCTP_SRC_MASK, 2, port},
		{"dst_port", nl.TCA_FLOWER_KEY_SCTP_DST, nl.TCA_FLOWER_KEY_SCTP_DST_MASK, 2, port},
		{"ip_tos", nl.TCA_FLOWER_KEY_IP_TOS, nl.TCA_FLOWER_KEY_IP_TOS_MASK, 1, octet},
		{"ip_ttl", nl.TCA_FLOWER_KEY_IP_TTL, nl.TCA_FLOWER_KEY_IP_TTL_MASK, 1, octet},
		{"icmp_type", nl.TCA_FLOWER_KEY_ICMPV4_TYPE, nl.TCA_FLOWER_KEY_ICMPV4_TYPE_MASK, 1, icmp},
		{"icmp_code", nl.TCA_FLOWER_KEY_ICMPV4_CODE, nl.TCA_FLOWER_KEY_ICMPV4_CODE_MASK, 1, icmp},
		{"icmp_type", nl.TCA_FLOWER_KEY_ICMPV6_TYPE, nl.TCA_FLOWER_KEY_ICMPV6_TYPE_MASK, 1, icmp},
		{"icmp_code", nl.TCA_FLOWER_KEY_ICMPV6_CODE, nl.TCA_FLOWER_KEY_ICMPV6_CODE_MASK, 1, icmp},
		{"tcp_flags", nl.TCA_FLOWER_KEY_TCP_FLAGS, nl.TCA_FLOWER_KEY_TCP_FLAGS_MASK, 2, func(v, mask []byte) any {
			text := fmt.Sprintf("%#x", binary.BigEndian.Uint16(v))
			if mask != nil {
				text += fmt.Sprintf("/%x", binary.BigEndian.Uint16(mask))
			}
			return text
		}},
		{"vlan_id", nl.TCA_FLOWER_KEY_VLAN_ID, 0, 2, func(v, _ []byte) any { return binary.NativeEndian.Uint16(v) }},
		{"vlan_prio", nl.TCA_FLOWER_KEY_VLAN_PRIO, 0, 1, octet},
		{"vlan_ethtype", nl.TCA_FLOWER_KEY_VLAN_ETH_TYPE, 0, 2, func(v, _ []byte) any { return etherType(uint32(binary.NativeEndian.Uint16(v))) }},
	}
}

// flowerOptions reads a filter of flower.
func (t *target) flowerOptions(o *tcOptions, handle uint32, a tcAttributes) error {
	o.add("handle", handle)
	a.drop(nl.TCA_FLOWER_CLASSID, nl.TCA_FLOWER_IN_HW_COUNT)
	if b := a.take(nl.TCA_FLOWER_INDEV, 1); b != nil {
		o.add("indev", unix.ByteSliceToString(b))
	}
	keys := tcOptions{}
	if b := a.take(nl.TCA_FLOWER_KEY_ETH_TYPE, 2); b != nil {
		name := etherType(uint32(binary.NativeEndian.Uint16(b)))
		if name == "ip" {
			name = "ipv4"
		}
		keys.add("eth_type", name)
	}
	if b := a.take(nl.TCA_FLOWER_KEY_IP_PROTO, 1); b != nil {
		names := map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp", unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_ICMPV6: "icmpv6"}
		name, known := names[b[0]]
		if !known {
			name = fmt.Sprintf("%02x", b[0])
		}
		keys.add("ip_proto", name)
	}
	for _, k := range flowerKeys() {
		value := a.take(k.typ, k.size)
		if value == nil {
			continue
		}
		var mask []byte
		if k.mask != 0 {
			mask = a.take(k.mask, k.size)
		}
		keys.add(k.name, k.text(value, mask))
		if full := bytes.Repeat([]byte{0xff}, k.size); mask != nil && !bytes.Equal(mask, full) && (k.size <= 2 && k.name != "tcp_flags") {
			keys.add(k.name+"_mask", fmt.Sprintf("%x", mask))
		}
	}
	for _, r := range []struct {
		name        string
		first, last uint16
	}{{"src_port", nl.TCA_FLOWER_KEY_PORT_SRC_MIN, nl.TCA_FLOWER_KEY_PORT_SRC_MAX}, {"dst_port", nl.TCA_FLOWER_KEY_PORT_DST_MIN, nl.TCA_FLOWER_KEY_PORT_DST_MAX}} {
		first, last := a.take(r.first, 2), a.take(r.last, 2)
		if first != nil && last != nil {
			keys.add(r.name, tcOptions{{"start", binary.BigEndian.Uint16(first)}, {"end", binary.BigEndian.Uint16(last)}})
		}
	}
	// Of the flags, that the packet is no fragment.
	flags, mask := a[nl.TCA_FLOWER_KEY_FLAGS], a[nl.TCA_FLOWER_KEY_FLAGS_MASK]
	if len(flags) == 4 && len(mask) == 4 && binary.BigEndian.Uint32(mask) == 1 && binary.BigEndian.Uint32(flags) == 0 {
		a.drop(nl.TCA_FLOWER_KEY_FLAGS, nl.TCA_FLOWER_KEY_FLAGS_MASK)
		keys.add("ip_flags", tcOptions{{"frag", false}})
	}
	o.add("keys", keys)
	o.flags(a, nl.TCA_FLOWER_FLAGS)
	return t.actions(o, a, nl.TCA_FLOWER_ACT)
}

// actions adds those of a filter.
func (t *target) actions(o *tcOptions, a tcAttributes, typ uint16) error {
	raw := a.take(typ, 0)
	if raw == nil {
		return nil
	}
	ad, err := netlink.NewAttributeDecoder(raw)
	if err != nil {
		return fmt.Errorf("actions: %w", err)
	}
	var list []tcOptions
	for ad.Next() {
		action, err := t.action(ad.Type(), ad.Bytes())
		if err != nil {
			return fmt.Errorf("action %d: %w", ad.Type(), err)
		}
		list = append(list, action)
	}
	o.add("actions", list)
	return ad.Err()
}

// action reads one; what all start with is struct tc_gen: index, capab, action,
// refcnt, bindcnt.
func (t *target) action(order uint16, raw []byte) (tcOptions, error) {
	a, err := parseTC(raw)
	if err != nil {
		return nil, err
	}
	kind := unix.ByteSliceToString(a[nl.TCA_ACT_KIND])
	o := tcOptions{{"order", order}, {"kind", kind}}
	options, err := parseTC(a[nl.TCA_ACT_OPTIONS])
	if err != nil {
		return nil, err
	}
	parms := uint16(tcaParms)
	if kind == "csum" || kind == "police" {
		parms = 1 // TCA_CSUM_PARMS, TCA_POLICE_TBF
	}
	b := options.take(parms, 8)
	if b == nil {
		o.add("unknown", []uint16{parms})
		return o, nil
	}
	verdict := uint32(0)
	switch {
	case kind == "police": // struct tc_police: index, action, …
		verdict = binary.NativeEndian.Uint32(b[4:])
	case len(b) >= 12:
		verdict = binary.NativeEndian.Uint32(b[8:])
	}
	switch kind {
	case "gact":
		o.add("control_action", control(verdict))
		if p := options.take(nl.TCA_GACT_PROB, 8); p != nil { // struct tc_gact_p: ptype, pval, paction
			types := []string{"none", "netrand", "determ"}
			if ptype := binary.NativeEndian.Uint16(p); int(ptype) < len(types) {
				o.add("prob", tcOptions{
					{"random_type", types[ptype]},
					{"control_action", control(binary.NativeEndian.Uint32(p[4:]))},
					{"val", binary.NativeEndian.Uint16(p[2:])},
				})
			}
		}
	case "mirred": // tc_gen, then eaction, ifindex
		if len(b) >= 28 {
			does := []struct{ action, direction string }{{}, {"redirect", "egress"}, {"mirror", "egress"}, {"redirect", "ingress"}, {"mirror", "ingress"}}
			if e := binary.NativeEndian.Uint32(b[20:]); int(e) < len(does) && options[5] == nil { // TCA_MIRRED_BLOCKID
				o.add("mirred_action", does[e].action)
				o.add("direction", does[e].direction)
				o.add("to_dev", t.device(int(binary.NativeEndian.Uint32(b[24:]))))
			}
		}
		o.add("control_action", control(verdict))
	case "skbedit":
		options.skbedit(&o)
		o.add("control_action", control(verdict))
	case "police":
		o.add("control_action", control(verdict))
		if p := options.take(nl.TCA_POLICE_RESULT, 4); p != nil {
			o.add("control_action", control(binary.NativeEndian.Uint32(p)))
		}
	default:
		o.add("control_action", control(verdict))
	}
	return o, nil
}

func (a tcAttributes) skbedit(o *tcOptions) {
	if b := a.take(tcaSkbeditQueue, 2); b != nil {
		o.add("queue_mapping", binary.NativeEndian.Uint16(b))
	}
	if b := a.take(tcaSkbeditPriority, 4); b != nil {
		o.add("priority", fmt.Sprintf(":%x", binary.NativeEndian.Uint32(b)))
	}
	if b := a.take(tcaSkbeditMark, 4); b != nil {
		o.add("mark", binary.NativeEndian.Uint32(b))
	}
	if b := a.take(tcaSkbeditMask, 4); b != nil {
		o.add("mask", fmt.Sprintf("%x", binary.NativeEndian.Uint32(b)))
	}
	if b := a.take(tcaSkbeditPtype, 2); b != nil {
		names := []string{"host", "broadcast", "multicast", "otherhost"}
		ptype := binary.NativeEndian.Uint16(b)
		name := fmt.Sprint(ptype)
		if int(ptype) < len(names) {
			name = names[ptype]
		}
		o.add("ptype", name)
	}
	a.drop(tcaTM, tcaSkbeditFlags, 6, tcaSkbeditQueueMax) // TCA_SKBEDIT_PAD
	a.rest(o)
}

// control names a TC_ACT_*.
func control(verdict uint32) tcOptions {
	const jump, gotoChain, value = 1 << 28, 2 << 28, 1<<28 - 1
	switch verdict &^ value {
	case jump:
		return tcOptions{{"type", "jump"}, {"jump", verdict & value}}
	case gotoChain:
		return tcOptions{{"type", "goto"}, {"chain", verdict & value}}
	}
	names := []string{"pass", "reclassify", "drop", "pipe", "stolen", "queued", "repeat", "redirect", "trap"}
	switch {
	case verdict == 1<<32-1:
		return tcOptions{{"type", "continue"}}
	case int(verdict) < len(names):
		return tcOptions{{"type", names[verdict]}}
	}
	return tcOptions{{"type", fmt.Sprint(verdict)}}
}
