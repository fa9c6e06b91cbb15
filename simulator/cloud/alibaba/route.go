package alibaba

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// routeTable is the route table of vSwitches.
type routeTable struct {
	*RouteTable
	entries []*routeEntry
}

// routeEntry is one of a table.
type routeEntry struct {
	*RouteEntry
	prefix netip.Prefix
}

func (c *Cloud) compileRoutes() {
	c.tables, c.tableOf, c.systemOf = map[string]*routeTable{}, map[string]*routeTable{}, map[string]*routeTable{}
	c.gatewayOf, c.central = map[string][]*routeTable{}, map[string]bool{}
	for i := range c.facts.RouteTables {
		t := &routeTable{RouteTable: &c.facts.RouteTables[i]}
		c.tables[t.RouteTableId] = t
		if same(t.AssociateType, "Gateway") {
			if len(t.GatewayIds.GatewayIds) > 0 {
				c.gatewayOf[t.VpcId] = append(c.gatewayOf[t.VpcId], t)
			}
			continue
		}
		if same(t.RouteTableType, "System") {
			c.systemOf[t.VpcId] = t
		}
		for _, id := range t.VSwitchIds.VSwitchId {
			c.tableOf[id] = t
		}
	}
	for i := range c.facts.RouteEntries {
		e := &c.facts.RouteEntries[i]
		if t := c.tables[e.RouteTableId]; t != nil {
			t.entries = append(t.entries, &routeEntry{e, prefixOf(e.DestinationCidrBlock)})
			for _, h := range e.NextHops.NextHop {
				if same(h.NextHopType, "Ipv4Gateway") {
					c.central[t.VpcId] = true
				}
			}
		}
	}
}

// serviceRange is where services of the cloud are: name servers, load balancers'
// own addresses, repositories. The system's entry for it cannot be replaced.
var serviceRange = netip.MustParsePrefix("100.64.0.0/10")

// table is the route table of a vSwitch: its own, or the VPC's.
func (c *Cloud) table(vpc, vswitch string) (*routeTable, *verdict.Finding) {
	t := c.tableOf[vswitch]
	if v := c.vswitches[vswitch]; t == nil && v != nil {
		t = c.tables[v.RouteTable.RouteTableId]
	}
	if t == nil {
		t = c.systemOf[vpc]
	}
	if t == nil {
		return nil, c.unread(describeRouteTables, vswitch, "the route table of vSwitch "+vswitch)
	}
	if len(t.entries) == 0 {
		if f := c.missing(describeRouteEntries, t.RouteTableId, "where route table "+t.RouteTableId+" leads"); f != nil {
			return nil, f
		}
	}
	return t, nil
}

// lookup finds the entry for a destination: the longest prefix, and of those as
// long as each other the system's, then the user's, then what was learnt. Nothing
// replaces the system's entry for services of the cloud.
func (t *routeTable) lookup(dst netip.Addr) *routeEntry {
	var best *routeEntry
	for _, e := range t.entries {
		if !e.prefix.Contains(dst) {
			continue
		}
		if best == nil || e.before(best) {
			best = e
		}
	}
	return best
}

func (e *routeEntry) before(other *routeEntry) bool {
	if a, b := e.service(), other.service(); a != b {
		return a
	}
	if e.prefix.Bits() != other.prefix.Bits() {
		return e.prefix.Bits() > other.prefix.Bits()
	}
	return e.rank() < other.rank()
}

// service says whether the entry is the system's for services of the cloud.
func (e *routeEntry) service() bool {
	return same(e.Type, "System") && e.prefix == serviceRange
}

func (e *routeEntry) rank() int {
	switch {
	case same(e.Type, "System"):
		return 0
	case same(e.Type, "Custom"):
		return 1
	}
	return 2
}

// usable are the next hops that packets may take: those of an entry with several
// may be switched off.
func (e *routeEntry) usable() []NextHop {
	var list []NextHop
	for _, h := range e.NextHops.NextHop {
		if h.Enabled != nil && *h.Enabled == 0 || h.NextHopType == "" {
			continue
		}
		list = append(list, h)
	}
	return list
}

// text shows an entry as a line.
func (e *routeEntry) text() string {
	var hops []string
	for _, h := range e.NextHops.NextHop {
		hops = append(hops, h.text())
	}
	id := e.RouteEntryId
	if id == "" {
		id = e.RouteTableId
	}
	return fmt.Sprintf("%s: %s %s %s via %s", id, e.DestinationCidrBlock, e.Type, e.Status, strings.Join(hops, ", "))
}

func (h NextHop) text() string {
	if h.NextHopId == "" {
		return h.NextHopType
	}
	return h.NextHopType + " " + h.NextHopId
}

// hopKind is what a next hop is for a packet.
type hopKind uint8

const (
	hopLocal     hopKind = iota // the VPC itself
	hopService                  // the cloud's services
	hopInterface                // an interface: of an instance, or a single one
	hopNAT
	hopInternet // a gateway that translates nothing by itself: IPv4Gateway, IPv6Gateway
	hopOutside  // another network: a peer, a router, a VPN
	hopUnknown
)

// kindOf is what a type of next hop is (DescribeRouteEntryList).
func kindOf(h NextHop) hopKind {
	switch strings.ToLower(h.NextHopType) {
	case "local":
		return hopLocal
	case "service", "gatewayendpoint":
		return hopService
	case "instance", "networkinterface", "havip":
		return hopInterface
	case "natgateway":
		return hopNAT
	case "ipv4gateway", "ipv6gateway":
		return hopInternet
	case "vpcpeer", "routerinterface", "vpngateway", "attachment", "cenbasic", "ecr", "transitrouter":
		return hopOutside
	}
	return hopUnknown
}

// routed is where the VPC sends a packet.
type routed struct {
	entry *routeEntry
	hops  []NextHop // to choose from
	fault *verdict.Finding
}

// route finds the way of a packet from a vSwitch, before a next hop is chosen.
func (c *Cloud) route(vpc, vswitch string, dst netip.Addr) routed {
	t, fault := c.table(vpc, vswitch)
	if fault != nil {
		return routed{fault: fault}
	}
	e := t.lookup(dst)
	if e == nil {
		f := verdict.NewFinding(verdict.CloudNoRouteEntry, where(t.RouteTableId), []string{t.describe()}, dst)
		f.Message += " in route table " + t.RouteTableId + " of vSwitch " + vswitch
		if _, partly := c.facts.Failed[describeRouteEntries]; partly {
			return routed{fault: c.missing(describeRouteEntries, t.RouteTableId, "whether route table "+t.RouteTableId+" has an entry for "+dst.String())}
		}
		return routed{fault: &f}
	}
	return e.way(dst)
}

// way is where an entry sends a packet.
func (e *routeEntry) way(dst netip.Addr) routed {
	out := routed{entry: e, hops: e.usable()}
	if e.Status != "" && !same(e.Status, "Available") {
		f := verdict.NewFinding(verdict.CloudNoNextHop, where(e.RouteTableId), []string{e.text()}, dst)
		f.Message += fmt.Sprintf(": route entry %s is %s", e.RouteEntryId, e.Status)
		f.Severity = verdict.SeverityUndecided // it is on its way in, or out
		out.fault = &f
		return out
	}
	if len(out.hops) == 0 {
		f := verdict.NewFinding(verdict.CloudNoNextHop, where(e.RouteTableId), []string{e.text()}, dst)
		f.Message += fmt.Sprintf(": route entry %s of table %s has no usable one", e.RouteEntryId, e.RouteTableId)
		out.fault = &f
	}
	return out
}

func (t *routeTable) describe() string {
	const few = 20
	var list []string
	for i, e := range t.entries {
		if i == few {
			list = append(list, "…")
			break
		}
		list = append(list, e.DestinationCidrBlock)
	}
	return t.RouteTableId + " has entries for: " + strings.Join(list, ", ")
}

// weights of next hops, if they have some.
func weights(hops []NextHop) []float64 {
	total := 0.0
	for _, h := range hops {
		total += float64(h.Weight)
	}
	if total == 0 {
		return equal(len(hops))
	}
	list := make([]float64, len(hops))
	for i, h := range hops {
		list[i] = float64(h.Weight) / total
	}
	return list
}

// through is the interface that a next hop is.
func (c *Cloud) through(h NextHop, dst netip.Addr, e *routeEntry) (*Interface, *verdict.Finding) {
	switch strings.ToLower(h.NextHopType) {
	case "havip":
		if v := c.haVips[h.NextHopId]; v != nil {
			i, f := c.master(v)
			if f == nil {
				f = c.notRunning(i)
			}
			return i, f
		}
		if f := c.missing(describeHaVips, h.NextHopId, "who has HaVip "+h.NextHopId); f != nil {
			return nil, f
		}
	case "networkinterface":
		if i := c.interfaces[h.NextHopId]; i != nil {
			return i, c.notRunning(i)
		}
		if f := c.missing(describeInterfaces, h.NextHopId, "interface "+h.NextHopId); f != nil {
			return nil, f
		}
	default:
		if i := c.primary[h.NextHopId]; i != nil {
			return i, c.notRunning(i)
		}
		if f := c.missing(describeInterfaces, h.NextHopId, "the interface of instance "+h.NextHopId); f != nil {
			return nil, f
		}
	}
	f := verdict.NewFinding(verdict.CloudNoNextHop, where(e.RouteTableId), []string{e.text()}, dst)
	f.Message += ": there is no " + h.text()
	return nil, &f
}

// notRunning says whether an instance takes no packets.
func (c *Cloud) notRunning(i *Interface) *verdict.Finding {
	if i.InstanceId == "" {
		return nil
	}
	instance := c.instances[i.InstanceId]
	if instance == nil || instance.Status == "" || same(instance.Status, "Running") {
		return nil // who runs, answers: the status explains, where it is known
	}
	f := verdict.NewFinding(verdict.InstanceNotRunning, where(i.InstanceId), []string{"Status: " + instance.Status}, i.InstanceId, instance.Status)
	return &f
}
