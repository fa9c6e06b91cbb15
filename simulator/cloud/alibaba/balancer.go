package alibaba

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// balancer is a load balancer of any kind.
type balancer struct {
	kind      string // slb, nlb, alb
	id        string
	vpc       string
	status    string
	active    string // the status that it has when it works
	sources   []netip.Addr
	vswitches map[netip.Addr]string // of NLB and ALB, where each of their addresses is
	groups    []string              // security groups that filter what comes to it
	listeners []*listener
}

// codes are the reasons of a kind of load balancer.
type codes struct{ unhealthy, noListener, notRunning, notActive, acl, noBackend, mismatch verdict.Code }

var codesOf = map[string]codes{
	"slb": {verdict.SLBBackendUnhealthy, verdict.SLBNoListener, verdict.SLBListenerNotRunning, verdict.SLBNotActive, verdict.SLBACLDeny, verdict.SLBNoBackend, verdict.SLBBackendMismatch},
	"nlb": {verdict.NLBBackendUnhealthy, verdict.NLBNoListener, verdict.NLBListenerNotRunning, verdict.NLBNotActive, verdict.NLBACLDeny, verdict.NLBNoBackend, verdict.NLBBackendMismatch},
	"alb": {verdict.ALBBackendUnhealthy, verdict.ALBNoListener, verdict.ALBListenerNotRunning, verdict.ALBNotActive, verdict.ALBACLDeny, verdict.ALBNoBackend, verdict.ALBBackendMismatch},
}

// listener is a listener of a load balancer, with what is behind it.
type listener struct {
	protocol    string // in lower case
	first, last number
	status      string
	group       string
	backends    []backend
	unread      *verdict.Finding // the backends were not read
	acl         []string
	aclType     string           // empty: there is none
	access      *verdict.Finding // whether there is one was not read
	checks      bool             // it checks the health of its backends
	proxies     bool             // it ends the connection, and makes another: HTTP, HTTPS, TCPSSL
	preserves   bool             // backends see the client's address
	unmodelled  string           // something else that decides
}

// accessEntry is one of an access control list.
type accessEntry struct {
	prefix netip.Prefix
	text   string
}

// backend is a member of a server group.
type backend struct {
	server string // instance or interface
	ip     netip.Addr
	port   number // 0: that of the packet
	weight number
	health string
	open   *verdict.Finding // its health was not read
}

func (b *backend) text() string {
	ip := ""
	if b.ip.IsValid() {
		ip = " " + b.ip.String()
	}
	return fmt.Sprintf("%s%s port %d weight %d health %s", b.server, ip, b.port, b.weight, b.health)
}

func (c *Cloud) compileBalancers() {
	c.balancers, c.zoned = map[netip.Addr]*balancer{}, map[string]*balancer{}
	byID := map[string]*balancer{}
	add := func(l *LoadBalancer) {
		b := byID[l.LoadBalancerId]
		if b == nil {
			b = &balancer{kind: "slb", id: l.LoadBalancerId, active: "active"}
			byID[b.id] = b
		}
		if l.LoadBalancerStatus != "" {
			b.status, b.vpc = l.LoadBalancerStatus, l.VpcId
		}
		if a := addrOf(l.Address); a.IsValid() {
			c.balancers[a] = b
		}
	}
	for i := range c.facts.LoadBalancers {
		add(&c.facts.LoadBalancers[i])
	}
	defaults := map[string][]BackendServer{}
	for i := range c.facts.Attributes {
		a := &c.facts.Attributes[i]
		add(&a.LoadBalancer)
		defaults[a.LoadBalancerId] = a.BackendServers.BackendServer
	}
	for i := range c.facts.EIPs {
		if e := &c.facts.EIPs[i]; byID[e.InstanceId] != nil {
			c.balancers[addrOf(e.IpAddress)] = byID[e.InstanceId]
		}
	}
	groups := indexed(c.facts.ServerGroups, func(g *VServerGroup) string { return g.VServerGroupId })
	health := indexed(c.facts.Health, func(h *HealthStatus) string { return h.LoadBalancerId })
	for i := range c.facts.Listeners {
		l := &c.facts.Listeners[i]
		b := byID[l.LoadBalancerId]
		if b == nil {
			continue
		}
		known, ok := defaults[b.id]
		c.addListener(b, l, groups, known, ok, health[b.id])
	}
	c.access = make(map[string][]accessEntry, len(c.facts.AccessLists))
	for _, l := range c.facts.AccessLists {
		entries := make([]accessEntry, 0, len(l.AclEntrys.AclEntry))
		for _, e := range l.AclEntrys.AclEntry {
			entries = append(entries, accessEntry{prefixOf(e.AclEntryIP), e.AclEntryIP})
		}
		c.access[l.AclId] = append(c.access[l.AclId], entries...)
	}
	for _, l := range c.facts.ALB.AccessLists {
		entries := c.access[l.AclId]
		for _, e := range l.AclEntries {
			entries = append(entries, accessEntry{prefixOf(e.Entry), e.Entry})
		}
		c.access[l.AclId] = entries
	}
	c.compileZoned("nlb", &c.facts.NLB)
	c.compileZoned("alb", &c.facts.ALB)
}

// addListener adds a listener of CLB, with its own server group or the default one.
func (c *Cloud) addListener(b *balancer, l *Listener, groups map[string]*VServerGroup, defaults []BackendServer, known bool, health *HealthStatus) {
	protocol := strings.ToLower(l.ListenerProtocol)
	config := &l.TCPListenerConfig
	switch protocol {
	case "udp":
		config = &l.UDPListenerConfig
	case "http":
		config = &l.HTTPListenerConfig
	case "https":
		config = &l.HTTPSListenerConfig
	}
	out := &listener{
		protocol: protocol, first: l.ListenerPort, last: l.ListenerPort, status: l.Status,
		checks: !same(config.HealthCheck, "off"), proxies: protocol == "http" || protocol == "https",
		group: l.VServerGroupId,
	}
	out.preserves = !out.proxies && !bool(config.FullNatEnabled)
	switch {
	case same(config.ListenerForward, "on"):
		out.unmodelled = fmt.Sprintf("ListenerForward to port %d", config.ForwardPort)
	case config.MasterSlaveServerGroupId != "":
		out.unmodelled = "MasterSlaveServerGroup " + config.MasterSlaveServerGroupId
	}
	if same(l.AclStatus, "on") {
		out.aclType = l.AclType
		out.acl = append(out.acl, l.AclIds...)
		if l.AclId != "" && !slices.Contains(out.acl, l.AclId) {
			out.acl = append(out.acl, l.AclId)
		}
	}
	servers := defaults
	if out.group != "" {
		g := groups[out.group]
		if g == nil {
			out.unread = c.unread(describeServerGroup, out.group, "server group "+out.group)
		} else {
			servers = g.BackendServers.BackendServer
		}
	} else {
		out.group = "default of " + b.id
		if !known {
			out.unread = c.unread(describeBalancer, b.id, "the default server group of "+b.id)
		}
	}
	for _, s := range servers {
		m := backend{server: s.ServerId, ip: addrOf(s.ServerIp), port: s.Port, weight: s.Weight, health: "normal"}
		if m.port == 0 && l.BackendServerPort > 0 {
			m.port = l.BackendServerPort
		}
		if out.checks {
			m.health, m.open = c.healthOf(b, l, &m, health)
		}
		out.backends = append(out.backends, m)
	}
	b.listeners = append(b.listeners, out)
	for _, r := range config.PortRanges {
		part := *out
		part.first, part.last = r.StartPort, r.EndPort
		b.listeners = append(b.listeners, &part)
	}
}

// healthOf finds the health of a backend for one listener: the same server has one
// for each of them, and for each of its ports.
func (c *Cloud) healthOf(b *balancer, l *Listener, m *backend, health *HealthStatus) (string, *verdict.Finding) {
	if health == nil {
		return "", c.unread(describeHealth, b.id, "the health of the backends of "+b.id)
	}
	found := ""
	for _, s := range health.BackendServers.BackendServer {
		if s.ListenerPort != l.ListenerPort || s.Protocol != "" && !same(s.Protocol, l.ListenerProtocol) || s.ServerId != m.server {
			continue
		}
		if m.ip.IsValid() && s.ServerIp != "" && addrOf(s.ServerIp) != m.ip || s.Port != 0 && m.port != 0 && s.Port != m.port {
			continue
		}
		if found == "" || same(found, "normal") {
			found = s.ServerHealthStatus
		}
	}
	if found == "" {
		return "", c.unread(describeHealth, b.id, fmt.Sprintf("the health of %s for port %d of %s", m.server, l.ListenerPort, b.id))
	}
	return found, nil
}

// compileZoned adds the load balancers of NLB, or of ALB.
func (c *Cloud) compileZoned(kind string, f *Balancers) {
	byID := map[string]*balancer{}
	for _, list := range [][]ZonedLoadBalancer{f.LoadBalancers, f.Attributes} {
		for i := range list {
			l := &list[i]
			b := byID[l.LoadBalancerId]
			if b == nil {
				b = &balancer{kind: kind, id: l.LoadBalancerId, active: "Active", vswitches: map[netip.Addr]string{}}
				byID[b.id], c.zoned[b.id] = b, b
			}
			if l.LoadBalancerStatus != "" {
				b.status, b.vpc = l.LoadBalancerStatus, l.VpcId
			}
			if len(l.SecurityGroupIds) > 0 {
				b.groups = l.SecurityGroupIds
			}
			for _, z := range l.ZoneMappings {
				for _, a := range z.LoadBalancerAddresses {
					for _, s := range []string{a.PrivateIPv4Address, a.IntranetAddress, a.PublicIPv4Address, a.Address, a.Ipv6Address} {
						addr := addrOf(s)
						if !addr.IsValid() {
							continue
						}
						c.balancers[addr], b.vswitches[addr] = b, z.VSwitchId
						if addr.IsPrivate() && !slices.Contains(b.sources, addr) {
							b.sources = append(b.sources, addr)
						}
					}
				}
			}
		}
	}
	groups := indexed(f.ServerGroups, func(g *ZonedServerGroup) string { return g.ServerGroupId })
	servers := map[string][]ZonedServer{}
	for _, s := range f.Servers {
		servers[s.ServerGroupId] = append(servers[s.ServerGroupId], s)
	}
	attributes := indexed(f.ListenerAttributes, func(a *ZonedListenerAttribute) string { return a.ListenerId })
	for i := range f.Listeners {
		l := &f.Listeners[i]
		b := byID[l.LoadBalancerId]
		if b == nil {
			continue
		}
		out := c.addZonedListener(b, l, groups, servers, f.Health)
		if kind != "alb" {
			continue
		}
		if a := attributes[l.ListenerId]; a == nil {
			out.access = c.unread(describeALBListener, l.ListenerId, "the access control of listener "+l.ListenerId)
		} else {
			out.aclType = a.AclConfig.AclType
			for _, r := range a.AclConfig.AclRelations {
				out.acl = append(out.acl, r.AclId)
			}
		}
	}
}

func (c *Cloud) addZonedListener(b *balancer, l *ZonedListener, groups map[string]*ZonedServerGroup, servers map[string][]ZonedServer, health []ZonedHealthStatus) *listener {
	protocol := strings.ToLower(l.ListenerProtocol)
	out := &listener{
		protocol: protocol, first: l.ListenerPort, last: l.ListenerPort, status: l.ListenerStatus, group: l.ServerGroupId,
		proxies: protocol != "tcp" && protocol != "udp",
	}
	if l.ListenerPort == 0 && l.EndPort > 0 {
		out.first, out.last = l.StartPort, l.EndPort
	}
	for _, a := range l.DefaultActions {
		for _, t := range a.ForwardGroupConfig.ServerGroupTuples {
			if out.group != "" && out.group != t.ServerGroupId {
				out.unmodelled = "several server groups"
			}
			out.group = t.ServerGroupId
		}
		if len(a.ForwardGroupConfig.ServerGroupTuples) == 0 {
			out.unmodelled = "the default action " + a.Type
		}
	}
	b.listeners = append(b.listeners, out)
	g := groups[out.group]
	if g == nil {
		out.unread = c.unread(b.kind+".ListServerGroups", out.group, "server group "+out.group)
		return out
	}
	out.preserves = bool(g.PreserveClientIpEnabled) && !out.proxies
	out.checks = bool(g.HealthCheck.HealthCheckEnabled || g.HealthCheckConfig.HealthCheckEnabled)
	if f := c.missing(b.kind+".ListServerGroupServers", out.group, "who is in server group "+out.group); f != nil && len(servers[out.group]) == 0 {
		out.unread = f
		return out
	}
	for _, s := range servers[out.group] {
		m := backend{server: s.ServerId, ip: addrOf(s.ServerIp), port: s.Port, weight: s.Weight, health: "normal"}
		if g.AnyPortEnabled {
			m.port = 0
		}
		if out.checks {
			m.health, m.open = c.zonedHealth(b, l, out.group, &m, health)
		}
		out.backends = append(out.backends, m)
	}
	return out
}

// zonedHealth is the health of a backend of NLB or ALB, which list those alone that
// are not well.
func (c *Cloud) zonedHealth(b *balancer, l *ZonedListener, group string, m *backend, health []ZonedHealthStatus) (string, *verdict.Finding) {
	listed := false
	for _, h := range health {
		if h.ListenerId != l.ListenerId {
			continue
		}
		listed = true
		for _, g := range h.ServerGroupInfos {
			if g.ServerGroupId != group {
				continue
			}
			for _, s := range g.NonNormalServers {
				if s.ServerId == m.server && (s.Port == 0 || m.port == 0 || s.Port == m.port) && (s.ServerIp == "" || !m.ip.IsValid() || addrOf(s.ServerIp) == m.ip) {
					return s.Status, nil
				}
			}
		}
	}
	if !listed {
		return "", c.unread(b.kind+".GetListenerHealthStatus", l.ListenerId, "the health of the backends of listener "+l.ListenerId)
	}
	return "normal", nil
}

// balanced is what a load balancer does with a new connection.
type balanced struct {
	fault    *verdict.Finding
	doubts   []verdict.Finding // what may stop it
	warnings []verdict.Finding
	listener *listener
	backends []*backend // those that new connections go to
	weights  []float64
}

// balance decides about the first packet of a connection to a load balancer.
func (c *Cloud) balance(b *balancer, p *netstack.Packet) (out balanced) {
	code, at := codesOf[b.kind], where(b.id)
	stop := func(f verdict.Finding) balanced { return balanced{fault: &f, listener: out.listener} }
	if b.status == "" {
		return balanced{fault: c.unread(b.list(), b.id, "the status of "+b.id)}
	}
	if !same(b.status, b.active) {
		return stop(verdict.NewFinding(code.notActive, at, []string{"LoadBalancerStatus: " + b.status}, b.id, b.status))
	}
	if p.Protocol == netstack.ProtoICMP || p.Protocol == netstack.ProtoICMPv6 {
		return stop(verdict.NewFindingf(verdict.UnmodelledRule, at, nil, "load balancer %s answers echo requests by itself, which is not modelled", b.id))
	}
	out.listener = b.listener(p)
	l := out.listener
	if l == nil {
		if f := c.missing(b.listListeners(), b.id, "which listeners load balancer "+b.id+" has"); f != nil {
			return balanced{fault: f}
		}
		f := verdict.NewFinding(code.noListener, at, b.describe(), fmt.Sprintf("%d/%s", p.DstPort, netstack.ProtocolName(p.Protocol)), b.id)
		return stop(f)
	}
	if !same(l.status, "running") {
		return stop(verdict.NewFinding(code.notRunning, at, []string{l.text(), "Status: " + l.status}, b.id, fmt.Sprintf("%d/%s", p.DstPort, l.protocol)))
	}
	if len(b.groups) > 0 {
		switch r := c.balancerAdmits(b, p); {
		case r.open != nil:
			out.doubts = append(out.doubts, *r.open)
		case !r.pass:
			f := verdict.NewFinding(code.acl, at, []string{r.rule}, r.who, p.Src)
			f.Message += fmt.Sprintf(" (security group of %s: %s)", b.id, r.rule)
			return stop(f)
		}
	}
	if l.unmodelled != "" {
		return stop(verdict.NewFindingf(verdict.UnmodelledRule, at, []string{l.text()}, "listener %s of %s uses %s, which is not modelled", l.text(), b.id, l.unmodelled))
	}
	if f := c.accessList(b, l, p.Src); f != nil {
		if f.Severity == verdict.SeverityFatal {
			return stop(*f)
		}
		out.doubts = append(out.doubts, *f)
	}
	if l.unread != nil {
		return balanced{fault: l.unread, listener: l}
	}
	c.distribute(b, l, p, &out)
	return out
}

// distribute finds the backends that a new connection may go to: those that are
// well and have a weight.
func (c *Cloud) distribute(b *balancer, l *listener, p *netstack.Packet, out *balanced) {
	code, at := codesOf[b.kind], where(b.id)
	var sick []verdict.Finding
	total := 0.0
	weighed := 0
	for i := range l.backends {
		m := &l.backends[i]
		if m.weight == 0 {
			continue
		}
		weighed++
		if m.open == nil && !same(m.health, "normal") {
			f := verdict.NewFinding(code.unhealthy, where(m.server), []string{m.text()}, m.server, fmt.Sprintf("%d/%s", p.DstPort, l.protocol))
			f.Message += ": it is " + m.health
			sick = append(sick, f)
			continue
		}
		out.backends, total = append(out.backends, m), total+float64(m.weight)
	}
	if len(out.backends) == 0 {
		var evidence []string
		for i := range l.backends {
			evidence = append(evidence, l.backends[i].text())
		}
		if len(sick) > 0 {
			f := sick[0]
			if len(sick) > 1 {
				f.Message += fmt.Sprintf(", and so are all others: %d", len(sick)-1)
			}
			f.Evidence, f.Where = evidence, at
			out.fault = &f
			return
		}
		f := verdict.NewFinding(code.noBackend, at, evidence, l.group)
		if weighed == 0 && len(l.backends) > 0 {
			f.Message += " with a weight: all of them have 0"
		}
		out.fault = &f
		return
	}
	for _, m := range out.backends {
		out.weights = append(out.weights, float64(m.weight)/total)
	}
	for _, f := range sick {
		f.Severity = verdict.SeverityWarning // the others take its share
		out.warnings = append(out.warnings, f)
	}
}

// accessList says what the access control of a listener does to a client: without
// any entries it does nothing.
func (c *Cloud) accessList(b *balancer, l *listener, client netip.Addr) *verdict.Finding {
	if l.aclType == "" {
		return l.access
	}
	action := describeAccessList
	if b.kind == "alb" {
		action = describeALBAccessList
	}
	entries, listed := 0, ""
	for _, id := range l.acl {
		list, known := c.access[id]
		if !known {
			return c.unread(action, id, "access control list "+id)
		}
		entries += len(list)
		for _, e := range list {
			if e.prefix.Contains(client) {
				listed = id + ": " + e.text
			}
		}
	}
	white := same(l.aclType, "white")
	switch {
	case !white && !same(l.aclType, "black"):
		f := verdict.NewFindingf(verdict.UnmodelledRule, where(b.id), []string{l.text()}, "access control of listener %s is of type %s, which is not modelled", l.text(), l.aclType)
		return &f
	case entries == 0, white == (listed != ""):
		return nil
	}
	evidence := []string{"AclType: " + l.aclType}
	if listed != "" {
		evidence = append(evidence, listed)
	}
	f := verdict.NewFinding(codesOf[b.kind].acl, where(b.id), evidence, strings.Join(l.acl, ", "), client)
	f.Message += fmt.Sprintf(" (%s list of %s)", l.aclType, l.text())
	return &f
}

// listener finds the one for a packet: that of the port before one of a range.
func (b *balancer) listener(p *netstack.Packet) *listener {
	var ranged *listener
	for _, l := range b.listeners {
		if l.carrier() != p.Protocol || !(int(l.first) <= int(p.DstPort) && int(p.DstPort) <= int(l.last)) {
			continue
		}
		if l.first == l.last {
			return l
		}
		if ranged == nil {
			ranged = l
		}
	}
	return ranged
}

// carrier is the protocol under that of a listener.
func (l *listener) carrier() netstack.Protocol {
	if l.protocol == "udp" || l.protocol == "quic" {
		return netstack.ProtoUDP
	}
	return netstack.ProtoTCP
}

func (l *listener) text() string {
	if l.first != l.last {
		return fmt.Sprintf("%d-%d/%s", l.first, l.last, l.protocol)
	}
	return fmt.Sprintf("%d/%s", l.first, l.protocol)
}

func (b *balancer) describe() []string {
	list := make([]string, 0, len(b.listeners))
	for _, l := range b.listeners {
		list = append(list, "listener "+l.text()+" "+l.status)
	}
	return list
}

func (b *balancer) list() string {
	if b.kind == "slb" {
		return describeBalancers
	}
	return b.kind + ".ListLoadBalancers"
}

func (b *balancer) listListeners() string {
	if b.kind == "slb" {
		return describeListeners
	}
	return b.kind + ".ListListeners"
}
