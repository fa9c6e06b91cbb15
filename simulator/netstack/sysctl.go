package netstack

import (
	"strconv"
	"strings"
)

// Sysctl returns the integer value of a key such as "net.ipv4.ip_forward".
func (n *Namespace) Sysctl(key string) (int, bool) {
	text, ok := n.Sysctls[key]
	return sysctlValue(text, ok)
}

func sysctlValue(text string, ok bool) (int, bool) {
	if !ok {
		return 0, false
	}
	v, err := strconv.Atoi(strings.TrimSpace(text))
	return v, err == nil
}

// ConfSysctl returns net.FAMILY.conf.DEV.NAME; dev may be "all" or "default".
func (n *Namespace) ConfSysctl(f Family, dev, name string) (int, bool) {
	var buffer [64]byte // walks ask often: no key is made for each
	text, ok := n.Sysctls[string(appendConfKey(buffer[:0], f, dev, name))]
	return sysctlValue(text, ok)
}

// ConfKey is the key of a per-interface setting as sysctl(8) prints it: a dot
// in the interface's name becomes a slash.
func ConfKey(f Family, dev, name string) string {
	return string(appendConfKey(nil, f, dev, name))
}

func appendConfKey(b []byte, f Family, dev, name string) []byte {
	family := "ipv4"
	if f == IPv6 {
		family = "ipv6"
	}
	b = append(append(append(b, "net."...), family...), ".conf."...)
	for i := range len(dev) {
		c := dev[i]
		if c == '.' {
			c = '/'
		}
		b = append(b, c)
	}
	return append(append(b, '.'), name...)
}
