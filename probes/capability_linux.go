//go:build amd64 || arm64

package probes

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// capability is a number of linux/capability.h.
type capability uint

const (
	capSysAdmin capability = 21
	capPerfmon  capability = 38
	capBPF      capability = 39
)

func (c capability) String() string {
	switch c {
	case capSysAdmin:
		return "CAP_SYS_ADMIN"
	case capPerfmon:
		return "CAP_PERFMON"
	case capBPF:
		return "CAP_BPF"
	}
	return fmt.Sprintf("capability %d", uint(c))
}

// missingCapabilities returns those of the needed capabilities that the process does not have, joined by "and". CAP_SYS_ADMIN includes the others.
func missingCapabilities(statusPath string, needed []capability) (string, error) {
	status, err := os.ReadFile(statusPath)
	if err != nil {
		return "", fmt.Errorf("read capabilities: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		hex, ok := strings.CutPrefix(line, "CapEff:")
		if !ok {
			continue
		}
		set, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		if err != nil {
			return "", fmt.Errorf("%s: CapEff: %w", statusPath, err)
		}
		var missing []string
		for _, c := range needed {
			if set&(1<<c|1<<capSysAdmin) == 0 {
				missing = append(missing, c.String())
			}
		}
		return strings.Join(missing, " and "), nil
	}
	return "", fmt.Errorf("%s has no line CapEff", statusPath)
}
