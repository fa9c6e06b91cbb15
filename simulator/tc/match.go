package tc

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// compileU32 reads the keys of u32: words of the packet from the network header
// on.
func (f *Filter) compileU32(o object) error {
	if o.get("fwmark_value") != nil {
		value, known := o.number("fwmark_value", 16)
		mask, masked := o.number("fwmark_mask", 16)
		if !known || !masked {
			return fmt.Errorf("fwmark %s/%s", o.text("fwmark_value"), o.text("fwmark_mask"))
		}
		f.tests = append(f.tests, markTest(uint32(value), uint32(mask)))
	}
	for _, raw := range o.all("match") {
		m, err := members(raw)
		if err != nil {
			return fmt.Errorf("match: %w", err)
		}
		value, valued := m.number("value", 16)
		mask, masked := m.number("mask", 16)
		var offset int
		if err := json.Unmarshal(m.get("off"), &offset); err != nil || !valued || !masked {
			f.tests = append(f.tests, untested("u32 match"))
			continue
		}
		if m.text("offmask") != "" {
			f.tests = append(f.tests, untested("u32 nexthdr"))
			continue
		}
		f.tests = append(f.tests, test{fmt.Sprintf("u32 at %d", offset), wordTest(offset, uint32(value), uint32(mask))})
	}
	return nil
}

func wordTest(offset int, value, mask uint32) func(*Frame) tri {
	return func(f *Frame) tri {
		if f.ARP || f.Tag != 0 || offset < 0 {
			if mask == 0 {
				return yes
			}
			return maybe
		}
		word, known, ok := netfilter.HeaderWord(f.Packet, offset)
		switch {
		case !ok:
			return beyond
		case (word^value)&mask&known != 0:
			return no
		case mask&^known != 0:
			return maybe
		}
		return yes
	}
}

func markTest(value, mask uint32) test {
	return test{"mark", func(f *Frame) tri { return is(f.Packet.Mark&mask == value) }}
}

// compileFW reads fw, which goes by the mark: fw_classify.
func (f *Filter) compileFW(o object) {
	m, err := members(o.get("fw"))
	if err != nil {
		f.tests = append(f.tests, untested("fw"))
		return
	}
	value, known := m.number("mark", 16)
	mask, masked := m.number("mask", 16)
	if !known || !masked {
		f.tests = append(f.tests, untested("fw"))
		return
	}
	f.Text = strings.Replace(f.Text, " on ", fmt.Sprintf(" handle %#x on ", value), 1)
	f.tests = append(f.tests, markTest(uint32(value), uint32(mask)))
}

// compileFlower reads the keys of flower: what the flow dissector finds.
func (f *Filter) compileFlower(o object) error {
	raw := o.get("keys")
	if raw == nil {
		return nil
	}
	keys, err := members(raw)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	var masks []string
	for _, k := range keys {
		if strings.HasSuffix(k.key, "_mask") {
			masks = append(masks, k.key+"="+keys.text(k.key))
			continue // of another key
		}
		mask := k.key
		if _, length, ok := strings.Cut(keys.text(k.key), "/"); ok {
			mask += "/" + length
		}
		masks = append(masks, mask)
		holds := flowerKey(k.key, keys)
		if holds == nil {
			f.tests = append(f.tests, untested("flower "+k.key+" "+keys.text(k.key)))
			continue
		}
		f.tests = append(f.tests, test{"flower " + k.key, holds})
	}
	f.masks = strings.Join(masks, " ")
	return nil
}

// flowerKey is the test of one key; nil if it is not understood.
func flowerKey(key string, keys object) func(*Frame) tri {
	text := keys.text(key)
	switch key {
	case "eth_type":
		want := map[string]EtherType{"ipv4": EtherIPv4, "ipv6": EtherIPv6, "arp": EtherARP}[text]
		if want == 0 {
			return nil
		}
		return func(f *Frame) tri { return is(f.network() == want) }
	case "vlan_ethtype":
		want := protocol(text)
		if want == 0 {
			return nil
		}
		return func(f *Frame) tri { return is(f.Tag != 0 && f.network() == want) }
	case "vlan_id":
		want, ok := keys.number(key, 10)
		if !ok {
			return nil
		}
		return func(f *Frame) tri { return is(f.Tag != 0 && uint64(f.VLAN) == want) }
	case "ip_proto":
		want, ok := ipProtocol(text)
		if !ok {
			return nil
		}
		return ofIP(func(p *netstack.Packet) bool { return p.Protocol == want })
	case "src_ip", "dst_ip":
		prefix, ok := prefix(text)
		if !ok {
			return nil
		}
		return ofIP(func(p *netstack.Packet) bool {
			if key == "src_ip" {
				return prefix.Contains(p.Src)
			}
			return prefix.Contains(p.Dst)
		})
	case "src_port", "dst_port":
		return flowerPort(key, keys)
	case "src_mac", "dst_mac":
		return flowerMAC(key, text)
	case "tcp_flags":
		return flowerTCPFlags(text)
	case "ip_tos", "ip_ttl":
		want, ok := keys.number(key, 16)
		mask := uint64(0xff)
		if keys.get(key+"_mask") != nil && ok {
			mask, ok = keys.number(key+"_mask", 16)
		}
		if !ok {
			return nil
		}
		return ofIP(func(p *netstack.Packet) bool {
			if key == "ip_tos" {
				return uint64(p.TOS)&mask == want&mask
			}
			return uint64(p.TTL)&mask == want&mask
		})
	case "icmp_type", "icmp_code":
		want, err := strconv.ParseUint(text, 10, 8)
		if err != nil {
			return nil
		}
		return ofIP(func(p *netstack.Packet) bool {
			if p.Protocol != netstack.ProtoICMP && p.Protocol != netstack.ProtoICMPv6 {
				return want == 0 // what the dissector leaves
			}
			if key == "icmp_type" {
				return uint64(p.ICMPType) == want
			}
			return uint64(p.ICMPCode) == want
		})
	case "ip_flags":
		if text == `{"frag":false}` {
			return func(f *Frame) tri { return yes } // no fragments are walked
		}
	}
	return nil
}

// ofIP is a test of IP packets, which others fail.
func ofIP(holds func(*netstack.Packet) bool) func(*Frame) tri {
	return func(f *Frame) tri { return is(!f.ARP && holds(f.Packet)) }
}

func ipProtocol(text string) (netstack.Protocol, bool) {
	switch text {
	case "tcp":
		return netstack.ProtoTCP, true
	case "udp":
		return netstack.ProtoUDP, true
	case "sctp":
		return netstack.ProtoSCTP, true
	case "icmp":
		return netstack.ProtoICMP, true
	case "icmpv6":
		return netstack.ProtoICMPv6, true
	}
	n, err := strconv.ParseUint(text, 16, 8) // flower_print_ip_proto: %02x
	return netstack.Protocol(n), err == nil
}

func prefix(text string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err == nil
}

func flowerPort(key string, keys object) func(*Frame) tri {
	port := func(p *netstack.Packet) uint64 {
		switch {
		case !p.HasPorts():
			return 0
		case key == "src_port":
			return uint64(p.SrcPort)
		}
		return uint64(p.DstPort)
	}
	if m, err := members(keys.get(key)); err == nil {
		first, ok := m.number("start", 10)
		last, ok2 := m.number("end", 10)
		if !ok || !ok2 {
			return nil
		}
		return ofIP(func(p *netstack.Packet) bool { return first <= port(p) && port(p) <= last })
	}
	want, ok := keys.number(key, 10)
	mask := uint64(0xffff)
	if keys.get(key+"_mask") != nil && ok {
		mask, ok = keys.number(key+"_mask", 16)
	}
	if !ok {
		return nil
	}
	return ofIP(func(p *netstack.Packet) bool { return port(p)&mask == want&mask })
}

func flowerMAC(key, text string) func(*Frame) tri {
	text, length, masked := strings.Cut(text, "/")
	want, ok := mac(text)
	mask := uint64(1<<48 - 1)
	if ok && masked {
		if n, err := strconv.Atoi(length); err == nil && n <= 48 {
			mask &^= 1<<(48-n) - 1
		} else {
			mask, ok = mac(length)
		}
	}
	if !ok {
		return nil
	}
	return func(f *Frame) tri {
		address := f.Packet.DstMAC
		if key == "src_mac" {
			address = f.Packet.SrcMAC
		}
		if address == (netstack.MAC{}) && mask != 0 {
			return maybe
		}
		var have uint64
		for _, b := range address {
			have = have<<8 | uint64(b)
		}
		return is((have^want)&mask == 0)
	}
}

func mac(text string) (uint64, bool) {
	hex := strings.ReplaceAll(text, ":", "")
	n, err := strconv.ParseUint(hex, 16, 48)
	return n, err == nil && len(text) == 17
}

// flowerTCPFlags reads "0x2/12": the mask is hexadecimal, too.
func flowerTCPFlags(text string) func(*Frame) tri {
	value, mask, masked := strings.Cut(text, "/")
	want, err := strconv.ParseUint(strings.TrimPrefix(value, "0x"), 16, 16)
	bits := uint64(0xfff)
	if masked && err == nil {
		bits, err = strconv.ParseUint(strings.TrimPrefix(mask, "0x"), 16, 16)
	}
	if err != nil {
		return nil
	}
	return ofIP(func(p *netstack.Packet) bool {
		have := uint64(0)
		if p.Protocol == netstack.ProtoTCP {
			have = uint64(p.TCPFlags)
		}
		return have&bits == want&bits
	})
}
