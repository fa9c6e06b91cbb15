package collector

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

func TestWhatTheKernelSaysIsUnderstood(t *testing.T) {
	type said = netstack.KernelSaid
	namespaces := map[uint64]string{4026532601: "pod:shop/web"}
	for text, want := range map[string]said{
		"nf_conntrack: table full, dropping packet":                                                                 {Event: netstack.EventConntrackFull},
		"nf_conntrack: nf_conntrack: table full, dropping packet":                                                   {Event: netstack.EventConntrackFull}, // Linux 5.4
		"nf_conntrack: table full in netns 4026532601, dropping packet":                                             {Event: netstack.EventConntrackFull, Namespace: "pod:shop/web"},
		"neighbour: arp_cache: neighbor table overflow!":                                                            {Event: netstack.EventNeighbourOverflow, Family: netstack.IPv4},
		"neighbour: ndisc_cache: neighbor table overflow!":                                                          {Event: netstack.EventNeighbourOverflow, Family: netstack.IPv6},
		"Route cache is full: consider increasing sysctl net.ipv6.route.max_size.":                                  {Event: netstack.EventRouteCacheFull},
		"Route cache is full: consider increasing sysctl net.ipv[4|6].route.max_size.":                              {Event: netstack.EventRouteCacheFull},
		"TCP: request_sock_TCP: Possible SYN flooding on port 443. Sending cookies.  Check SNMP counters.":          {Event: netstack.EventSYNFlood, Port: 443},
		"TCP: request_sock_TCP: Possible SYN flooding on port 127.0.0.1:23456. Sending cookies.":                    {Event: netstack.EventSYNFlood, Address: netip.MustParseAddr("127.0.0.1"), Port: 23456},
		"TCP: request_sock_subflow_v4: Possible SYN flooding on port [::]:20002. Dropping request.":                 {Event: netstack.EventSYNFlood, Address: netip.MustParseAddr("::"), Port: 20002},
		"TCP: out of memory -- consider tuning tcp_mem":                                                             {Event: netstack.EventTCPMemory},
		"TCP: too many orphaned sockets":                                                                            {Event: netstack.EventOrphanedSockets},
		"Out of memory: Killed process 4711 (a secret) total-vm:12kB, anon-rss:1kB, file-rss:0kB":                   {Event: netstack.EventOutOfMemory},
		"Memory cgroup out of memory: Killed process 4711 (java) total-vm:12kB":                                     {Event: netstack.EventCgroupOutOfMemory},
		"IPv4: martian source 10.0.0.1 from 192.168.7.9, on dev eth0":                                               {Event: netstack.EventMartianSource, Device: "eth0", Address: netip.MustParseAddr("192.168.7.9")},
		"IPv6: e0: IPv6 duplicate address fd09::1 used by de:b7:ce:17:f2:d4 detected!":                              {Event: netstack.EventDuplicateAddress, Device: "e0", Address: netip.MustParseAddr("fd09::1")},
		"cni0: received packet on vetha with own address as source address (addr:aa:aa:aa:aa:aa:0c, vlan:0)":        {Event: netstack.EventOwnAddress, Device: "vetha"},
		"Dead loop on virtual device ipip0, fix it urgently!":                                                       {Event: netstack.EventDeviceLoop, Device: "ipip0"},
		"NETDEV WATCHDOG: eth0 (e1000e): transmit queue 0 timed out":                                                {Event: netstack.EventTransmitTimeout, Device: "eth0"},
		"e1000e 0000:00:19.0 eth0: NETDEV WATCHDOG: CPU: 1: transmit queue 0 timed out 5376 ms":                     {Event: netstack.EventTransmitTimeout, Device: "eth0"},
		"e1000e 0000:00:19.0 eth0: NIC Link is Down":                                                                {Event: netstack.EventLinkDown, Device: "eth0"},
		"mlx5_core 0000:3b:00.0 ens1f0: Link down":                                                                  {Event: netstack.EventLinkDown, Device: "ens1f0"},
		"eth0: Link is Up - 1Gbps/Full - flow control off":                                                          {Event: netstack.EventLinkUp, Device: "eth0"},
		"igb 0000:01:00.0 eno1: igb: eno1 NIC Link is Up 1000 Mbps Full Duplex, Flow Control: RX":                   {},
		"cni0: port 3(veth38c0f8f7) entered forwarding state":                                                       {},
		"nf_conntrack: table full in netns 1, dropping packet":                                                      {}, // of nobody
		"nf_conntrack: table full, dropping packet of a secret":                                                     {},
		"a: nf_conntrack: table full, dropping packet":                                                              {},
		"TCP: request_sock_TCP: Possible SYN flooding on port 99999. Sending cookies.":                              {},
		"IPv4: martian source 10.0.0.1 from 192.168.7.999, on dev eth0":                                             {},
		"IPv6: " + strings.Repeat("x", 16) + ": IPv6 duplicate address fd09::1 used by de:b7:ce:17:f2:d4 detected!": {},
		"audit: type=1326 audit(1688154587.565:14): auid=1000 uid=1000 comm=\"password\"":                           {},
		"e1000e 0000:00:19.0 eth0: NIC Link is Down" + strings.Repeat("\x00", maxKernelLine):                        {},
	} {
		got, ok := parseKernelMessage(text, namespaces)
		if ok != (want != said{}) || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, ok, want)
		}
	}
}

func TestTheKernelsLog(t *testing.T) {
	booted := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(seconds int) time.Time { return booted.Add(time.Duration(seconds) * time.Second) }
	full, overflow := netstack.KernelSaid{Event: netstack.EventConntrackFull}, netstack.KernelSaid{Event: netstack.EventNeighbourOverflow, Family: netstack.IPv4}
	for name, test := range map[string]struct {
		log  string
		want []netstack.KernelMessage
	}{
		"messages are counted and dated": {
			"<4>[   10.500000] nf_conntrack: table full, dropping packet\n" +
				"<6>[   11.000000] neighbour: arp_cache: neighbor table overflow!\n<6>[   12.000000] eth0: a secret\n" +
				"<4>[   13.999999] nf_conntrack: table full, dropping packet\n",
			[]netstack.KernelMessage{{KernelSaid: full, Count: 2, First: at(10), Last: at(13)}, {KernelSaid: overflow, Count: 1, First: at(11), Last: at(11)}},
		},
		"the kernel says which thread spoke": {
			"<4>[   10.500000][    C1] nf_conntrack: table full, dropping packet\n<4>[   11.500000][T19113] nf_conntrack: table full, dropping packet\n",
			[]netstack.KernelMessage{{KernelSaid: full, Count: 2, First: at(10), Last: at(11)}},
		},
		"messages are not dated":        {"<4>nf_conntrack: table full, dropping packet\n", []netstack.KernelMessage{{KernelSaid: full, Count: 1}}},
		"programs write what they like": {"<12>[   10.500000] nf_conntrack: table full, dropping packet\n", nil},
		"the first line is cut off":     {"0.5] nf_conntrack: table full, dropping packet\n4>[   10.500000] nf_conntrack: table full, dropping packet\n>\n\n<\n", nil},
		"a time that is none":           {"<4>[soon] nf_conntrack: table full, dropping packet\n", nil},
	} {
		t.Run(name, func(t *testing.T) { same(t, "messages", test.want, parseKernelLog(test.log, booted, nil)) })
	}
}

// Only the latest of too many different messages are kept.
func TestTheKernelsLogIsBounded(t *testing.T) {
	var log strings.Builder
	for i := range 3 * maxKernelMessages {
		log.WriteString("<6>[" + itoa(uint64(i)) + ".0] eth" + itoa(uint64(i)) + ": Link is Down\n")
	}
	got := parseKernelLog(log.String(), time.Unix(0, 0), nil)
	if len(got) != maxKernelMessages || got[0].Device != "eth"+itoa(2*maxKernelMessages) {
		t.Errorf("%d messages, the first of which is of %s", len(got), got[0].Device)
	}
}

// Whatever stands in the log, of its text nothing is kept but names of interfaces
// and addresses.
func FuzzKernelLog(f *testing.F) {
	f.Add("<4>[   10.500000] nf_conntrack: table full in netns 7, dropping packet\n<6>[1.0][C1] IPv6: e0: IPv6 duplicate address fd09::1 used by de:b7:ce:17:f2:d4 detected!\n")
	f.Add("<6>e1000e 0000:00:19.0 eth0: NIC Link is Down\n<6>[1.0] NETDEV WATCHDOG: eth0 (e1000e): transmit queue 0 timed out\n")
	f.Add("<6>[-1.0] TCP: request_sock_TCP: Possible SYN flooding on port [::]:20002. Dropping request.\n")
	f.Fuzz(func(t *testing.T, log string) {
		for _, m := range parseKernelLog(log, time.Unix(1, 0), map[uint64]string{7: "a"}) {
			switch {
			case !m.Event.Valid() || m.Count < 1:
				t.Errorf("%+v", m)
			case m.Namespace != "" && m.Namespace != "a":
				t.Errorf("namespace %q", m.Namespace)
			case len(m.Device) > 15 || strings.ContainsAny(m.Device, " /:\n\t"):
				t.Errorf("device %q", m.Device)
			case !m.First.IsZero() && m.First.Before(time.Unix(1, 0)):
				t.Errorf("%s was said at %s, before the host was booted", m.KernelSaid.String(), m.First)
			}
		}
	})
}
