package main

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// limitMemory has the garbage collector stay below nine tenths of what the control group
// allows, so that a process near its limit works more and is not killed: without it, a
// heap may grow to twice what lives. The rest is for what Go does not count, such as
// programs that are started. Whoever sets GOMEMLIMIT has decided. Root is that of files.
func limitMemory(root string) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if allowed := memoryAllowed(root); allowed > 0 {
		debug.SetMemoryLimit(allowed / 10 * 9)
	}
}

// memoryAllowed is the limit of this process' own control group in bytes, of either
// version of control groups; 0 if it has none. A container may see its group as the root
// of all, or be told the path that it has on the host.
func memoryAllowed(root string) int64 {
	groups, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(groups)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3) // see cgroups(7)
		if len(fields) != 3 {
			continue
		}
		var hierarchy, file string
		switch fields[1] {
		case "":
			file = "memory.max"
		case "memory":
			hierarchy, file = "memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for _, group := range []string{fields[2], "/"} {
			text, err := os.ReadFile(filepath.Join(root, "sys/fs/cgroup", hierarchy, group, file))
			if err != nil {
				continue
			}
			if limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && limit > 0 {
				return limit
			}
			break // it says max
		}
	}
	return 0
}
