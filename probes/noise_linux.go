//go:build amd64 || arm64

package probes

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// noiseFunctions free packets without losing one on its path. A free is recognised by the address that it is called from.
//
// Only what is listed is ignored, so that a reason that is new or unknown to us is counted and not swallowed.
func noiseFunctions() []string {
	return []string{
		// A socket is destroyed with data that the program did not read. The network delivered it.
		"inet_sock_destruct",
		"udp_destruct_common",
		"udp_destruct_sock",
		"udpv6_destruct_sock",
		// A multicast packet for a group that nobody on this host joined. Switches and bridges flood these (neighbour discovery, mDNS).
		"ip6_mc_input",
		// A queueing discipline is deleted or replaced, mostly because its interface is, and what it still held is freed. An administrator did
		// that; a queue that drops because it is full does so elsewhere.
		"qdisc_reset",
		"pfifo_fast_reset",
		"__rtnl_unlock",
		// The fragments inside a packet, freed with it. The packet itself was counted if it was dropped; older kernels report the fragments of
		// packets that were used as well.
		"skb_release_data",
	}
}

const maxNoise = 16 // MAX_NOISE in bpf/drops.bpf.c

// noiseRanges are the address ranges of noiseFunctions in the running kernel.
type noiseRanges struct {
	start, end [maxNoise]uint64
}

// readNoise finds the functions in a file in the format of /proc/kallsyms. Functions that this kernel does not have, or has inlined, are left
// out. Without CAP_SYSLOG all addresses read as zero, which is an error.
func readNoise(path string) (noiseRanges, error) {
	var ranges noiseRanges
	f, err := os.Open(path)
	if err != nil {
		return ranges, fmt.Errorf("read kernel symbols: %w", err)
	}
	defer f.Close()

	wanted := map[string]bool{}
	for _, name := range noiseFunctions() {
		wanted[name] = true
	}
	var starts, all []uint64
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// ADDRESS TYPE NAME, and for a module's symbols [MODULE], which come last and are far away.
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 || (fields[1] != "t" && fields[1] != "T") {
			continue
		}
		address, err := strconv.ParseUint(fields[0], 16, 64)
		if err != nil {
			return ranges, fmt.Errorf("%s: address %q: %w", path, fields[0], err)
		}
		if address == 0 {
			return ranges, fmt.Errorf("%s hides addresses: the process lacks CAP_SYSLOG: %w", path, os.ErrPermission)
		}
		all = append(all, address)
		// The compiler splits functions: NAME.cold, NAME.part.0.
		if name, _, _ := strings.Cut(fields[2], "."); wanted[name] {
			starts = append(starts, address)
		}
	}
	if err := lines.Err(); err != nil {
		return ranges, fmt.Errorf("read %s: %w", path, err)
	}
	if len(starts) > maxNoise {
		return ranges, fmt.Errorf("%s: %d parts of functions to ignore, room for %d", path, len(starts), maxNoise)
	}
	slices.Sort(all)
	for i, start := range starts {
		next, _ := slices.BinarySearch(all, start+1)
		if next == len(all) {
			continue // without an end, rather none than too much
		}
		// A return address is behind its call. One that ends its function (the callee does not return) is equal to the end, but a free returns.
		ranges.start[i], ranges.end[i] = start, all[next]
	}
	return ranges, nil
}
