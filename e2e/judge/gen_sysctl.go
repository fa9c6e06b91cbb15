package judge

import "fmt"

// generateSysctl changes one setting of a namespace on a flow's way.
func generateSysctl(b *builder) {
	n := one(b, b.nodes...)
	devices := []string{n.uplink}
	if !n.routed {
		devices = append(devices, "cni0")
	} else {
		for _, p := range n.pods {
			devices = append(devices, p.veth)
		}
	}
	dev := one(b, append(devices, "all")...)
	p := one(b, b.pods...)
	pick(b, []option[func()]{
		{"sysctl:rp_filter", func() {
			b.sysctl(n.name, fmt.Sprintf("net.ipv4.conf.%s.rp_filter", dev), one(b, "1", "2"), "0", "sysctl:rp_filter")
		}},
		{"sysctl:rp_filter", func() { b.sysctl(p.name, "net.ipv4.conf.all.rp_filter", one(b, "1", "2"), "0", "sysctl:rp_filter") }},
		{"sysctl:forwarding", func() {
			if dev != "all" || b.chance(30) {
				b.sysctl(n.name, fmt.Sprintf("net.ipv4.conf.%s.forwarding", dev), "0", "1", "sysctl:forwarding")
			}
		}},
		{"sysctl:forwarding", func() {
			if b.chance(50) {
				b.sysctl(n.name, "net.ipv6.conf.all.forwarding", "0", "1", "sysctl:forwarding")
			}
		}},
		{"sysctl:icmp_echo_ignore_all", func() {
			b.sysctl(one(b, n.name, p.name), "net.ipv4.icmp_echo_ignore_all", "1", "0", "sysctl:icmp_echo_ignore_all")
		}},
	}).make()
}
