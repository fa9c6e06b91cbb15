package simulator

import (
	"fmt"
	"net/netip"

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
	return res.Route.String()
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
		line += " lladdr " + n.MAC.String()
	}
	for _, s := range states {
		if n.State&s.bit != 0 {
			line += " " + s.name
		}
	}
	return line
}
