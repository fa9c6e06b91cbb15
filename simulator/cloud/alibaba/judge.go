package alibaba

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// judge finds the first value of a response that is not what its field holds.
// Empty ones are absent.
type judge struct{ bad *valueError }

func (j *judge) fail(token, want string) {
	if j.bad == nil {
		j.bad = &valueError{token, want}
	}
}

// addr judges an address.
func (j *judge) addr(list ...string) {
	for _, s := range list {
		if s == "" {
			continue
		}
		if _, err := netip.ParseAddr(s); err != nil {
			j.fail(s, "an IP address")
		}
	}
}

// prefix judges a CIDR block, or an address.
func (j *judge) prefix(list ...string) {
	for _, s := range list {
		if s == "" {
			continue
		}
		if _, err := parsePrefix(s); err != nil {
			j.fail(s, "a CIDR block")
		}
	}
}

func (j *judge) mac(s string) {
	if s == "" {
		return
	}
	if _, ok := netstack.ParseMAC(s); !ok {
		j.fail(s, "a MAC address")
	}
}

// ports judges a range of ports: "80/80", "-1/-1".
func (j *judge) ports(s string) {
	if s == "" {
		return
	}
	if _, ok := parsePorts(s); !ok {
		j.fail(s, "a range of ports")
	}
}

// within judges a number that is given.
func (j *judge) within(n number, low, high int, what string) {
	if int(n) < low || int(n) > high {
		j.fail(strconv.Itoa(int(n)), what+" from "+strconv.Itoa(low)+" to "+strconv.Itoa(high))
	}
}

// portRange is a range of ports, with both ends.
type portRange struct {
	first, last uint16
	all         bool // -1/-1
}

func (r portRange) holds(port uint16) bool { return r.all || r.first <= port && port <= r.last }

// parsePorts reads "80/90", "80" or "-1/-1".
func parsePorts(s string) (portRange, bool) {
	if s == "-1/-1" || s == "-1" {
		return portRange{all: true}, true
	}
	low, high, both := strings.Cut(s, "/")
	if !both {
		high = low
	}
	first, err := strconv.ParseUint(low, 10, 16)
	if err != nil {
		return portRange{}, false
	}
	last, err := strconv.ParseUint(high, 10, 16)
	if err != nil || last < first {
		return portRange{}, false
	}
	return portRange{first: uint16(first), last: uint16(last)}, true
}

// portsOf reads a range that Decode has judged; none is all of them.
func portsOf(s string) portRange {
	if s == "" {
		return portRange{all: true}
	}
	r, _ := parsePorts(s)
	return r
}
