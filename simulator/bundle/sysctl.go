package bundle

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// readSysctls keeps the net.* keys. sysctl(8) prints a value of several lines
// as several lines with the same key.
func readSysctls(s *source, n *netstack.Namespace) error {
	for offset, line := range lines(s.data) {
		if line == "" {
			continue
		}
		key, value, ok := strings.Cut(line, " =")
		if !ok || key == "" || strings.ContainsAny(key, " \t") {
			s.fail(offset, line, "want KEY = VALUE")
			return s.err
		}
		if !strings.HasPrefix(key, "net.") {
			continue
		}
		value = strings.TrimPrefix(value, " ")
		if n.Sysctls == nil {
			n.Sysctls = make(map[string]string)
		}
		if before, twice := n.Sysctls[key]; twice {
			value = before + "\n" + value
		}
		n.Sysctls[key] = value
	}
	return nil
}

func writeSysctls(n *netstack.Namespace) ([]byte, error) {
	var out bytes.Buffer
	for _, key := range slices.Sorted(maps.Keys(n.Sysctls)) {
		for line := range strings.SplitSeq(n.Sysctls[key], "\n") {
			out.WriteString(key + " = " + line + "\n")
		}
	}
	return out.Bytes(), nil
}

// hasIPVS says whether the kernel had IPVS in the namespace.
func hasIPVS(n *netstack.Namespace) bool {
	for key := range n.Sysctls {
		if strings.HasPrefix(key, "net.ipv4.vs.") {
			return true
		}
	}
	return false
}
