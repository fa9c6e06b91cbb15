package proxyrules

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
)

// table is one table of iptables: rules by chain.
type table struct {
	name    string
	builtin []string
	chains  map[string][]byte
}

func newTable(name string, builtin ...string) *table {
	return &table{name: name, builtin: builtin, chains: make(map[string][]byte)}
}

func (t *table) chain(names ...string) {
	for _, name := range names {
		t.chains[name] = nil
	}
}

func (t *table) rule(chain, format string, args ...any) {
	b := append(t.chains[chain], "-A "+chain+" "...)
	t.chains[chain] = append(fmt.Appendf(b, format, args...), '\n')
}

// write prints the table as iptables-save does: user-defined chains by name.
func (t *table) write(b *bytes.Buffer) {
	names := slices.Clone(t.builtin)
	for _, name := range slices.Sorted(maps.Keys(t.chains)) {
		if !slices.Contains(t.builtin, name) {
			names = append(names, name)
		}
	}
	b.WriteString("*" + t.name + "\n")
	for i, name := range names {
		policy := "-"
		if i < len(t.builtin) {
			policy = "ACCEPT"
		}
		b.WriteString(":" + name + " " + policy + " [0:0]\n")
	}
	for _, name := range names {
		b.Write(t.chains[name])
	}
	b.WriteString("COMMIT\n")
}

// IPTables is what iptables-save prints on a node of which kube-proxy runs in
// iptables mode, and nothing else wrote rules.
func (s *Spec) IPTables() []byte {
	mangle := newTable("mangle", "PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
	mangle.chain("KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY", "KUBE-PROXY-CANARY")
	var b bytes.Buffer
	mangle.write(&b)
	s.filter().write(&b)
	s.nat().write(&b)
	return b.Bytes()
}

func (s *Spec) nat() *table {
	t := newTable("nat", "PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")
	t.chain("KUBE-KUBELET-CANARY", "KUBE-NODEPORTS", "KUBE-PROXY-CANARY")
	for _, chain := range []string{"PREROUTING", "OUTPUT"} {
		t.rule(chain, `-m comment --comment "kubernetes service portals" -j KUBE-SERVICES`)
	}
	t.rule("POSTROUTING", `-m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING`)
	t.rule("KUBE-MARK-MASQ", "-j MARK --set-xmark 0x4000/0x4000")
	t.rule("KUBE-POSTROUTING", "-m mark ! --mark 0x4000/0x4000 -j RETURN")
	t.rule("KUBE-POSTROUTING", "-j MARK --set-xmark 0x4000/0x0")
	t.rule("KUBE-POSTROUTING", `-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully`)
	for _, i := range s.order() {
		s.natRules(t, i)
	}
	t.rule("KUBE-SERVICES", `-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain"`+
		` -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS`)
	return t
}

// natRules writes the chains of one Service.
func (s *Spec) natRules(t *table, i int) {
	v := s.service(i)
	svc := "KUBE-SVC-" + v.hash
	t.rule("KUBE-SERVICES", `-d %s/32 -p tcp -m comment --comment "%s cluster IP" -m tcp --dport %d -j %s`, v.ip, v.name, ServicePort, svc)
	if v.nodePort != 0 {
		ext := "KUBE-EXT-" + v.hash
		t.rule("KUBE-NODEPORTS", `-p tcp -m comment --comment "%s" -m tcp --dport %d -j %s`, v.name, v.nodePort, ext)
		t.rule(ext, `-m comment --comment "masquerade traffic for %s external destinations" -j KUBE-MARK-MASQ`, v.name)
		t.rule(ext, "-j %s", svc)
	}
	t.rule(svc, `! -s %s -d %s/32 -p tcp -m comment --comment "%s cluster IP" -m tcp --dport %d -j KUBE-MARK-MASQ`, PodCIDR, v.ip, v.name, ServicePort)
	list := s.endpoints(&v)
	for n, e := range list {
		sep := "KUBE-SEP-" + e.hash
		statistic := ""
		if rest := len(list) - n; rest > 1 {
			// The kernel keeps the probability in 31 bits, and prints what it keeps.
			p := math.Round((1<<31)/float64(rest)) / (1 << 31)
			statistic = fmt.Sprintf(" -m statistic --mode random --probability %.11f", p)
		}
		t.rule(svc, `-m comment --comment "%s -> %s"%s -j %s`, v.name, e.to, statistic, sep)
		t.rule(sep, `-s %s/32 -m comment --comment "%s" -j KUBE-MARK-MASQ`, e.ip, v.name)
		t.rule(sep, `-p tcp -m comment --comment "%s" -m tcp -j DNAT --to-destination %s`, v.name, e.to)
	}
}

// filter refuses Services without endpoints, among other things.
func (s *Spec) filter() *table {
	t := newTable("filter", "INPUT", "FORWARD", "OUTPUT")
	t.chain("KUBE-EXTERNAL-SERVICES", "KUBE-KUBELET-CANARY", "KUBE-NODEPORTS", "KUBE-PROXY-CANARY", "KUBE-PROXY-FIREWALL", "KUBE-SERVICES")
	jump := func(chain, match, comment, to string) {
		t.rule(chain, `%s-m comment --comment "%s" -j %s`, match, comment, to)
	}
	const isNew = "-m conntrack --ctstate NEW "
	jump("INPUT", isNew, "kubernetes load balancer firewall", "KUBE-PROXY-FIREWALL")
	jump("INPUT", "", "kubernetes health check service ports", "KUBE-NODEPORTS")
	jump("INPUT", isNew, "kubernetes externally-visible service portals", "KUBE-EXTERNAL-SERVICES")
	t.rule("INPUT", "-j KUBE-FIREWALL")
	jump("FORWARD", isNew, "kubernetes load balancer firewall", "KUBE-PROXY-FIREWALL")
	jump("FORWARD", "", "kubernetes forwarding rules", "KUBE-FORWARD")
	jump("FORWARD", isNew, "kubernetes service portals", "KUBE-SERVICES")
	jump("FORWARD", isNew, "kubernetes externally-visible service portals", "KUBE-EXTERNAL-SERVICES")
	jump("OUTPUT", isNew, "kubernetes load balancer firewall", "KUBE-PROXY-FIREWALL")
	jump("OUTPUT", isNew, "kubernetes service portals", "KUBE-SERVICES")
	t.rule("OUTPUT", "-j KUBE-FIREWALL")
	t.rule("KUBE-FIREWALL", `! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections"`+
		` -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP`)
	t.rule("KUBE-FORWARD", "-m conntrack --ctstate INVALID -j DROP")
	t.rule("KUBE-FORWARD", `-m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT`)
	t.rule("KUBE-FORWARD", `-m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`)
	for i := s.Services; i < s.Services+s.Idle; i++ {
		v := s.service(i)
		t.rule("KUBE-SERVICES", `-d %s/32 -p tcp -m comment --comment "%s has no endpoints" -m tcp --dport %d -j REJECT --reject-with icmp-port-unreachable`,
			v.ip, v.name, ServicePort)
	}
	return t
}
