package simulator

import (
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// conf holds the settings net.FAMILY.conf.DEV.NAME by device and name: every hop
// asks for a dozen of them.
type conf struct {
	devices map[string]map[string]int
	all     map[string]int // of the device "all"
}

// compileSettings reads those that are numbers, and of no device.
func compileSettings(ns *netstack.Namespace) map[string]int {
	settings := make(map[string]int)
	for key := range ns.Sysctls {
		if v, ok := ns.Sysctl(key); ok && !strings.Contains(key, ".conf.") {
			settings[key] = v
		}
	}
	return settings
}

func compileConf(ns *netstack.Namespace, f netstack.Family) conf {
	c := conf{devices: make(map[string]map[string]int)}
	prefix := netstack.ConfKey(f, "", "")
	prefix = prefix[:len(prefix)-1]
	for key := range ns.Sysctls {
		rest, ok := strings.CutPrefix(key, prefix)
		end := strings.LastIndexByte(rest, '.')
		if !ok || end < 0 {
			continue
		}
		dev, name := strings.ReplaceAll(rest[:end], "/", "."), rest[end+1:]
		if v, ok := ns.Sysctl(key); ok {
			if c.devices[dev] == nil {
				c.devices[dev] = make(map[string]int)
			}
			c.devices[dev][name] = v
		}
	}
	c.all = c.devices["all"]
	return c
}

func (h *host) conf(f netstack.Family) *conf {
	if f == netstack.IPv6 {
		return &h.confs[1]
	}
	return &h.confs[0]
}

// Sysctl is that of the namespace.
func (h *host) Sysctl(key string) (int, bool) {
	v, ok := h.settings[key]
	return v, ok
}

// ConfSysctl is that of the namespace.
func (h *host) ConfSysctl(f netstack.Family, dev, name string) (int, bool) {
	v, ok := h.conf(f).devices[dev][name]
	return v, ok
}

// confMax is the larger of the settings of "all" and of the device, as many IPv4
// settings combine.
func (h *host) confMax(f netstack.Family, dev, name string) int {
	c := h.conf(f)
	return max(c.all[name], c.devices[dev][name])
}
