package lab

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// family selects one of the pair of addresses that everything in a lab has.
type family int

const (
	ipv4 family = iota
	ipv6
)

func (f family) String() string { return [...]string{"IPv4", "IPv6"}[f] }

// masqueradeMark is kube-proxy's default --iptables-masquerade-bit, 14.
const masqueradeMark = "0x4000"

// chainName derives a chain from a Service port as kube-proxy does: 16 characters of a hash, because iptables allows
// 28 characters and users' names are longer.
func chainName(prefix string, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "")))
	return prefix + base32.StdEncoding.EncodeToString(sum[:])[:16]
}

// proxyRules returns the input of iptables-restore (or ip6tables-restore) that programmes a family's Services in the
// shape of kube-proxy's iptables mode with a cluster CIDR. Every node gets the same rules. The order of jumps in the
// built-in chains is the one that results from kube-proxy prepending them one by one.
func proxyRules(s *Spec, f family) []byte {
	r := newRuleSet(s, f)
	for _, svc := range s.Services {
		for _, port := range svc.Ports {
			r.service(svc, port)
		}
	}
	return r.restore()
}

// ruleSet collects the chains and rules of the tables filter and nat.
type ruleSet struct {
	spec                      *Spec
	family                    family
	chains                    []string
	services, nodePorts, rest []string
	reject                    []string
}

func newRuleSet(s *Spec, f family) *ruleSet { return &ruleSet{spec: s, family: f} }

func (r *ruleSet) service(svc Service, port ServicePort) {
	name := fmt.Sprintf("%s:%s", svc.ID(), port.Name)
	proto := strings.ToLower(port.Protocol)
	match := fmt.Sprintf("-m %s -p %s -d %s --dport %d", proto, proto, svc.ClusterIPs[r.family], port.Port)
	pods := r.spec.backends(svc)
	if len(pods) == 0 {
		r.reject = append(r.reject, fmt.Sprintf(`-A KUBE-SERVICES -m comment --comment "%s has no endpoints" %s -j REJECT`, name, match))
		return
	}

	svcChain := chainName("KUBE-SVC-", name, proto)
	r.services = append(r.services, fmt.Sprintf(`-A KUBE-SERVICES -m comment --comment "%s cluster IP" %s -j %s`, name, match, svcChain))
	r.rest = append(r.rest, fmt.Sprintf(`-A %s -m comment --comment "%s cluster IP" %s ! -s %s -j KUBE-MARK-MASQ`, svcChain, name, match, r.spec.ClusterCIDRs[r.family]))
	if port.NodePort != 0 {
		extChain := chainName("KUBE-EXT-", name, proto)
		r.chains = append(r.chains, extChain)
		r.nodePorts = append(r.nodePorts, fmt.Sprintf(`-A KUBE-NODEPORTS -m comment --comment %s -m %s -p %s --dport %d -j %s`, name, proto, proto, port.NodePort, extChain))
		r.rest = append(
			r.rest,
			fmt.Sprintf(`-A %s -m comment --comment "masquerade traffic for %s external destinations" -j KUBE-MARK-MASQ`, extChain, name),
			fmt.Sprintf(`-A %s -j %s`, extChain, svcChain),
		)
	}
	r.chains = append(r.chains, svcChain)

	var endpoints []string
	for i, pod := range pods {
		target, _ := pod.target(port)
		addr := pod.Addresses[r.family]
		backend := net.JoinHostPort(addr.String(), strconv.Itoa(int(target)))
		chain := chainName("KUBE-SEP-", name, proto, backend)
		r.chains = append(r.chains, chain)
		statistic := ""
		if left := len(pods) - i; left > 1 {
			statistic = fmt.Sprintf("-m statistic --mode random --probability %0.10f ", 1/float64(left))
		}
		r.rest = append(r.rest, fmt.Sprintf(`-A %s -m comment --comment "%s -> %s" %s-j %s`, svcChain, name, backend, statistic, chain))
		endpoints = append(
			endpoints,
			fmt.Sprintf(`-A %s -m comment --comment %s -s %s -j KUBE-MARK-MASQ`, chain, name, addr),
			fmt.Sprintf(`-A %s -m comment --comment %s -m %s -p %s -j DNAT --to-destination %s`, chain, name, proto, proto, backend),
		)
	}
	r.rest = append(r.rest, endpoints...)
}

func (r *ruleSet) restore() []byte {
	var b bytes.Buffer
	lines := func(ls ...string) {
		for _, l := range ls {
			b.WriteString(l)
			b.WriteByte('\n')
		}
	}
	chains := func(names ...string) {
		for _, n := range names {
			lines(":" + n + " - [0:0]")
		}
	}

	// The canaries tell kube-proxy and the kubelet that somebody flushed the tables.
	lines("*mangle")
	chains("KUBE-PROXY-CANARY", "KUBE-KUBELET-CANARY")
	lines("COMMIT")

	lines("*filter")
	chains("KUBE-PROXY-CANARY", "KUBE-KUBELET-CANARY", "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL", "KUBE-FIREWALL")
	for _, j := range []struct{ chain, target, comment string }{
		{"INPUT", "KUBE-PROXY-FIREWALL", "kubernetes load balancer firewall"},
		{"INPUT", "KUBE-NODEPORTS", "kubernetes health check service ports"},
		{"INPUT", "KUBE-EXTERNAL-SERVICES", "kubernetes externally-visible service portals"},
		{"FORWARD", "KUBE-PROXY-FIREWALL", "kubernetes load balancer firewall"},
		{"FORWARD", "KUBE-FORWARD", "kubernetes forwarding rules"},
		{"FORWARD", "KUBE-SERVICES", "kubernetes service portals"},
		{"FORWARD", "KUBE-EXTERNAL-SERVICES", "kubernetes externally-visible service portals"},
		{"OUTPUT", "KUBE-PROXY-FIREWALL", "kubernetes load balancer firewall"},
		{"OUTPUT", "KUBE-SERVICES", "kubernetes service portals"},
	} {
		state := "-m conntrack --ctstate NEW "
		if j.target == "KUBE-NODEPORTS" || j.target == "KUBE-FORWARD" {
			state = ""
		}
		lines(fmt.Sprintf(`-A %s %s-m comment --comment "%s" -j %s`, j.chain, state, j.comment, j.target))
	}
	lines("-A INPUT -j KUBE-FIREWALL", "-A OUTPUT -j KUBE-FIREWALL")
	if r.family == ipv4 {
		// Guards route_localnet, which IPv6 does not have.
		lines(`-A KUBE-FIREWALL -m comment --comment "block incoming localnet connections" -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP`)
	}
	lines(r.reject...)
	lines(
		`-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP`,
		`-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark `+masqueradeMark+`/`+masqueradeMark+` -j ACCEPT`,
		`-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
		"COMMIT",
	)

	lines("*nat")
	chains("KUBE-PROXY-CANARY", "KUBE-KUBELET-CANARY", "KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ")
	chains(r.chains...)
	lines(
		`-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES`,
		`-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES`,
		`-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING`,
		// The mark is cleared so that a packet that passes here again is not masqueraded again.
		`-A KUBE-POSTROUTING -m mark ! --mark `+masqueradeMark+`/`+masqueradeMark+` -j RETURN`,
		`-A KUBE-POSTROUTING -j MARK --xor-mark `+masqueradeMark,
		`-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully`,
		`-A KUBE-MARK-MASQ -j MARK --or-mark `+masqueradeMark,
	)
	lines(r.services...)
	loopback := ""
	if r.family == ipv6 {
		loopback = " ! -d ::1/128"
	}
	lines(`-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL` + loopback + ` -j KUBE-NODEPORTS`)
	lines(r.nodePorts...)
	lines(r.rest...)
	lines("COMMIT")
	return b.Bytes()
}

// hostPrefix is an address as a prefix of its full length, which is how iptables-save prints it.
func hostPrefix(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }
