package simulator

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// noAddr is the source of a packet whose sender has not chosen one yet.
var noAddr netip.Addr

// describeRoute renders a route in the words of ip(8).
func describeRoute(res *fib.Result) string {
	if res.Route == nil {
		if res.Rule != nil {
			return fmt.Sprintf("rule %d %s", res.Rule.Priority, res.Rule.Action)
		}
		return "none"
	}
	r := res.Route
	var b strings.Builder
	if r.Type != netstack.RouteUnicast {
		b.WriteString(string(r.Type) + " ")
	}
	if r.Dst.Bits() == 0 {
		b.WriteString("default")
	} else if r.Dst.IsSingleIP() {
		b.WriteString(r.Dst.Addr().String())
	} else {
		b.WriteString(r.Dst.String())
	}
	for i, h := range r.NextHops {
		if i == 3 {
			fmt.Fprintf(&b, " … (%d ways)", len(r.NextHops))
			break
		}
		if h.Gateway.IsValid() {
			b.WriteString(" via " + h.Gateway.String())
		}
		if h.Dev != "" {
			b.WriteString(" dev " + h.Dev)
		}
	}
	switch r.Table {
	case netstack.TableMain:
	case netstack.TableLocal:
		b.WriteString(" table local")
	default:
		b.WriteString(" table " + strconv.FormatUint(uint64(r.Table), 10))
	}
	return b.String()
}

func evidence(res *fib.Result) []string { return []string{describeRoute(res)} }

// sysctlLine renders a setting as sysctl(8) prints it.
func sysctlLine(h *host, key string) string {
	v, ok := h.Sysctls[key]
	if !ok {
		return key + " is not set"
	}
	return key + " = " + v
}

func linkEvidence(l *netstack.Link) []string {
	if l == nil {
		return nil
	}
	state := "DOWN"
	if l.Up() {
		state = "UP"
	}
	return []string{fmt.Sprintf("%d: %s: %s, operstate %s, mtu %d", l.Index, l.Name, state, l.OperState, l.MTU)}
}

func macString(m netstack.MAC) string {
	const digits = "0123456789abcdef"
	var text [3*len(m) - 1]byte
	for i, b := range m {
		if i > 0 {
			text[3*i-1] = ':'
		}
		text[3*i], text[3*i+1] = digits[b>>4], digits[b&15]
	}
	return string(text[:])
}

func neighbourLine(n *netstack.Neighbour) string {
	states := []struct {
		bit  netstack.NeighbourState
		name string
	}{
		{netstack.NUDIncomplete, "INCOMPLETE"},
		{netstack.NUDReachable, "REACHABLE"},
		{netstack.NUDStale, "STALE"},
		{netstack.NUDDelay, "DELAY"},
		{netstack.NUDProbe, "PROBE"},
		{netstack.NUDFailed, "FAILED"},
		{netstack.NUDNoARP, "NOARP"},
		{netstack.NUDPermanent, "PERMANENT"},
	}
	line := n.IP.String() + " dev " + n.Dev
	if n.MAC != (netstack.MAC{}) {
		line += " lladdr " + macString(n.MAC)
	}
	for _, s := range states {
		if n.State&s.bit != 0 {
			line += " " + s.name
		}
	}
	return line
}
