package collector

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// maxKernelMessages bounds how many different messages are kept: the latest.
const maxKernelMessages = 100

// deviceName matches the name of an interface (dev_valid_name), in ASCII; driverName
// what netdev_printk puts before it for those that have hardware.
const (
	deviceName = `(?P<dev>[!-.0-9;-~]{1,15})`
	driverName = `(?:[\w-]+ [\w:.@-]+ )?`
)

// kernelMessages are the messages that are understood. Of anything that the kernel
// says, only what a named group matches here is kept, and as what it is: a name of an
// interface, a number, an address.
var kernelMessages = []struct {
	event   netstack.KernelEvent
	words   string // that the message has: they are sooner looked for
	pattern *regexp.Regexp
}{
	{netstack.EventConntrackFull, "table full", regexp.MustCompile(`^nf_conntrack: (?:nf_conntrack: )?table full(?: in netns (?P<netns>\d+))?, dropping packet\.?$`)},
	{netstack.EventNeighbourOverflow, "table overflow", regexp.MustCompile(`^neighbour: (?P<table>arp|ndisc)_cache: neighbor table overflow!$`)},
	{netstack.EventRouteCacheFull, "Route cache", regexp.MustCompile(`^Route cache is full: consider increasing sysctl net\.ipv(?:6|\[4\|6\])\.route\.max_size\.$`)},
	{netstack.EventSYNFlood, "SYN flooding", regexp.MustCompile(`^TCP: [\w-]+: Possible SYN flooding on port (?:\[?(?P<addr>[0-9A-Fa-f:.]+?)\]?:)?(?P<port>\d+)\. (?:Sending cookies|Dropping request)\.(?:  Check SNMP counters\.)?$`)},
	{netstack.EventTCPMemory, "tuning tcp_mem", regexp.MustCompile(`^TCP: out of memory -- consider tuning tcp_mem$`)},
	{netstack.EventOrphanedSockets, "orphaned", regexp.MustCompile(`^TCP: too many orphaned sockets$`)},
	{netstack.EventCgroupOutOfMemory, "ut of memory", regexp.MustCompile(`^Memory cgroup out of memory: Kill(?:ed)? process \d+ `)},
	{netstack.EventOutOfMemory, "ut of memory", regexp.MustCompile(`^Out of memory(?: \(oom_kill_allocating_task\))?: Kill(?:ed)? process \d+ `)},
	{netstack.EventMartianSource, "martian", regexp.MustCompile(`^IPv4: martian source [0-9.]+ from (?P<addr>[0-9.]+), on dev ` + deviceName + `$`)},
	{netstack.EventDuplicateAddress, "duplicate address", regexp.MustCompile(`^IPv6: ` + deviceName + `: IPv6 duplicate address (?P<addr>[0-9a-f:.]+) used by [0-9a-f:]+ detected!$`)},
	{netstack.EventOwnAddress, "own address", regexp.MustCompile(`^[!-.0-9;-~]{1,15}: received packet on ` + deviceName + ` with own address as source address(?: \(addr:[0-9a-f:]+, vlan:\d+\))?$`)},
	{netstack.EventDeviceLoop, "Dead loop", regexp.MustCompile(`^Dead loop on virtual device ` + deviceName + `, fix it urgently!$`)},
	{netstack.EventTransmitTimeout, "NETDEV WATCHDOG", regexp.MustCompile(`^NETDEV WATCHDOG: ` + deviceName + ` \([\w-]+\): transmit queue \d+ timed out(?: \d+ ms)?$`)},
	{netstack.EventTransmitTimeout, "NETDEV WATCHDOG", regexp.MustCompile(`^` + driverName + deviceName + `: NETDEV WATCHDOG: CPU: \d+: transmit queue \d+ timed out \d+ ms$`)},
	{netstack.EventLinkDown, "Link ", regexp.MustCompile(`^` + driverName + deviceName + `: (?:NIC )?Link (?:is )?[Dd]own\b`)},
	{netstack.EventLinkUp, "Link ", regexp.MustCompile(`^` + driverName + deviceName + `: (?:NIC )?Link (?:is )?[Uu]p\b`)},
}

// maxKernelLine is longer than any message that is understood.
const maxKernelLine = 512

// parseKernelMessage understands one message, or not. Namespaces are known by their
// inodes.
func parseKernelMessage(text string, namespaces map[uint64]string) (said netstack.KernelSaid, ok bool) {
	if len(text) > maxKernelLine {
		return said, false
	}
	for i := range kernelMessages {
		m := &kernelMessages[i]
		if !strings.Contains(text, m.words) {
			continue
		}
		groups := m.pattern.FindStringSubmatch(text)
		if groups == nil {
			continue
		}
		said.Event = m.event
		for j, name := range m.pattern.SubexpNames() {
			if groups[j] == "" {
				continue
			}
			var err error
			switch name {
			case "dev":
				said.Device = groups[j]
			case "addr":
				said.Address, err = netip.ParseAddr(groups[j])
			case "port":
				var port uint64
				port, err = strconv.ParseUint(groups[j], 10, 16)
				said.Port = uint16(port)
			case "table":
				said.Family = netstack.IPv4
				if groups[j] == "ndisc" {
					said.Family = netstack.IPv6
				}
			case "netns":
				var inode uint64
				inode, err = strconv.ParseUint(groups[j], 10, 64)
				if said.Namespace, ok = namespaces[inode]; !ok {
					return netstack.KernelSaid{}, false // of nobody who is here
				}
			}
			if err != nil {
				return netstack.KernelSaid{}, false
			}
		}
		return said, true
	}
	return said, false
}

// parseKernelLog reads what syslog(2) tells of a kernel that was booted at a time:
// lines as "<6>[71498.117822] text", with the thread or processor that said so after
// the time, or without the time. What programs have written there has another
// facility than the kernel's (devkmsg_write), and is nobody's word.
func parseKernelLog(log string, booted time.Time, namespaces map[uint64]string) []netstack.KernelMessage {
	var list []netstack.KernelMessage
	found := make(map[netstack.KernelSaid]int)
	for line := range strings.Lines(log) {
		level, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ">")
		if n, err := strconv.ParseUint(strings.TrimPrefix(level, "<"), 10, 32); !ok || err != nil || level[0] != '<' || n >= 8 {
			continue
		}
		var at time.Time
		if stamp, rest, ok := strings.Cut(text, "]"); ok && strings.HasPrefix(stamp, "[") {
			if seconds, err := time.ParseDuration(strings.TrimSpace(stamp[1:]) + "s"); err == nil && seconds >= 0 {
				if !booted.IsZero() {
					at = booted.Add(seconds.Truncate(time.Second))
				}
				text = rest
				if caller, rest, ok := strings.Cut(text, "]"); ok && strings.HasPrefix(caller, "[") { // CONFIG_PRINTK_CALLER
					text = rest
				}
				text = strings.TrimPrefix(text, " ")
			}
		}
		said, ok := parseKernelMessage(text, namespaces)
		if !ok {
			continue
		}
		i, again := found[said]
		if !again {
			i = len(list)
			found[said] = i
			list = append(list, netstack.KernelMessage{KernelSaid: said, First: at})
		}
		list[i].Count++
		list[i].Last = at
	}
	if over := len(list) - maxKernelMessages; over > 0 {
		slices.SortStableFunc(list, func(a, b netstack.KernelMessage) int { return a.Last.Compare(b.Last) })
		list = list[over:]
		slices.SortStableFunc(list, func(a, b netstack.KernelMessage) int {
			return cmp.Or(a.First.Compare(b.First), a.Last.Compare(b.Last))
		})
	}
	return list
}
