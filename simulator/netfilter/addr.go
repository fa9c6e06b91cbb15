package netfilter

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// u128 is a number wide enough for an IPv6 address, so that addresses of both
// families, ports, marks and interface names compare alike. IPv4 addresses
// are their 32 bits.
type u128 struct{ hi, lo uint64 }

func addrBits(a netip.Addr) u128 {
	if a.Is4() || a.Is4In6() {
		b := a.As4()
		return u128{lo: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return u128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (v u128) addr(f netstack.Family) netip.Addr {
	if f == netstack.IPv4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(v.lo))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], v.hi)
	binary.BigEndian.PutUint64(b[8:], v.lo)
	return netip.AddrFrom16(b)
}

func (v u128) less(w u128) bool { return v.hi < w.hi || v.hi == w.hi && v.lo < w.lo }
func (v u128) and(w u128) u128  { return u128{v.hi & w.hi, v.lo & w.lo} }
func (v u128) or(w u128) u128   { return u128{v.hi | w.hi, v.lo | w.lo} }
func (v u128) xor(w u128) u128  { return u128{v.hi ^ w.hi, v.lo ^ w.lo} }
func (v u128) not() u128        { return u128{^v.hi, ^v.lo} }

func (v u128) shiftLeft(n uint) u128 {
	if n >= 64 {
		return u128{hi: v.lo << (n - 64)}
	}
	return u128{v.hi<<n | v.lo>>(64-n), v.lo << n}
}

func (v u128) shiftRight(n uint) u128 {
	if n >= 64 {
		return u128{lo: v.hi >> (n - 64)}
	}
	return u128{v.hi >> n, v.lo>>n | v.hi<<(64-n)}
}

func (v u128) within(first, last u128) bool {
	return !v.less(first) && !last.less(v)
}

func (v u128) plus(n uint64) u128 {
	lo, carry := bits.Add64(v.lo, n, 0)
	return u128{v.hi + carry, lo}
}

// minus is v-w, saturated to what fits 64 bits.
func (v u128) minus(w u128) uint64 {
	lo, borrow := bits.Sub64(v.lo, w.lo, 0)
	hi, _ := bits.Sub64(v.hi, w.hi, borrow)
	if hi != 0 {
		return ^uint64(0)
	}
	return lo
}

// prefixMask is the mask of n leading bits of an address that has width bits.
func prefixMask(n, width int) u128 {
	if width == 32 {
		return u128{lo: uint64(^uint32(0)) << (32 - n) & uint64(^uint32(0))}
	}
	if n <= 64 {
		return u128{hi: ^uint64(0) << (64 - n)}
	}
	return u128{^uint64(0), ^uint64(0) << (128 - n)}
}

func addrWidth(f netstack.Family) int {
	if f == netstack.IPv4 {
		return 32
	}
	return 128
}

// parseAddr reads an address of the family, and nothing else.
func parseAddr(f netstack.Family, text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" || a.Is4() != (f == netstack.IPv4) {
		return netip.Addr{}, false
	}
	return a, true
}

// addrMask is an address with a mask that need not be contiguous: iptables
// accepts 10.0.0.1/255.0.0.255.
type addrMask struct{ value, mask u128 }

func (m addrMask) contains(a u128) bool { return a.and(m.mask) == m.value }

func parseAddrMask(f netstack.Family, text string) (addrMask, bool) {
	width := addrWidth(f)
	addrText, maskText, hasMask := strings.Cut(text, "/")
	addr, ok := parseAddr(f, addrText)
	if !ok {
		return addrMask{}, false
	}
	m := addrMask{value: addrBits(addr), mask: prefixMask(width, width)}
	if hasMask {
		if n, err := strconv.ParseUint(maskText, 10, 8); err == nil {
			if int(n) > width {
				return addrMask{}, false
			}
			m.mask = prefixMask(int(n), width)
		} else {
			mask, ok := parseAddr(f, maskText)
			if !ok {
				return addrMask{}, false
			}
			m.mask = addrBits(mask)
		}
	}
	m.value = m.value.and(m.mask)
	return m, true
}

// nameBits is the name of any interface as bytes, cut where the kernel would
// not have a longer one.
func nameBits(name string) u128 {
	var b [16]byte
	copy(b[:], name)
	return u128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// ifaceName is an interface's name as the kernel's 16 bytes.
func ifaceName(name string) (u128, bool) {
	if len(name) > 15 {
		return u128{}, false
	}
	return nameBits(name), true
}
