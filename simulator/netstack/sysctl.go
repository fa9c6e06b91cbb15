package netstack

import (
	"strconv"
	"strings"
)

// Sysctl returns the integer value of a key such as "net.ipv4.ip_forward".
func (n *Namespace) Sysctl(key string) (int, bool) {
	text, ok := n.Sysctls[key]
	if !ok {
		return 0, false
	}
	v, err := strconv.Atoi(strings.TrimSpace(text))
	return v, err == nil
}

// ConfSysctl returns net.FAMILY.conf.DEV.NAME; dev may be "all" or "default".
func (n *Namespace) ConfSysctl(f Family, dev, name string) (int, bool) {
	return n.Sysctl(ConfKey(f, dev, name))
}

// ConfKey is the key of a per-interface setting as sysctl(8) prints it: a dot
// in the interface's name becomes a slash.
func ConfKey(f Family, dev, name string) string {
	family := "ipv4"
	if f == IPv6 {
		family = "ipv6"
	}
	return "net." + family + ".conf." + strings.ReplaceAll(dev, ".", "/") + "." + name
}
