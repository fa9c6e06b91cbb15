// Package resolver models what a C library does with a name before and after it
// asks a name server: the files that it reads, the names that it tries, and what
// it makes of the answers. It asks nobody.
//
// No resolv.conf or hosts file is malformed: what glibc passes over, such as lines without
// an address, is passed over here.
package resolver

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Limits of glibc (MAXNS and RES_MAXNDOTS of resolv.h).
const (
	maxServers = 3
	maxNdots   = 15
)

// MaxFile bounds a resolv.conf or hosts file in bytes.
const MaxFile = 1 << 20

// Config is what a resolv.conf says.
type Config struct {
	Servers []netip.Addr
	Search  []string // without a final dot; "" is the root
	Ndots   int
	// Rotate says that any server may be asked first.
	Rotate bool
}

// ParseConfig reads a resolv.conf as glibc does; see resolv.conf(5). Data without a
// name server stands for one on the loopback address.
func ParseConfig(data []byte) *Config {
	c := &Config{Ndots: 1}
	for line := range strings.Lines(string(data)) {
		// glibc knows keywords at the very beginning of a line only (res_vinit_1).
		line = strings.TrimRight(line, "\r\n")
		words := strings.Fields(line)
		if len(words) == 0 || strings.ContainsAny(line[:1], " \t;#") {
			continue
		}
		switch words[0] {
		case "nameserver":
			if len(words) > 1 {
				if addr, err := netip.ParseAddr(words[1]); err == nil {
					c.Servers = append(c.Servers, addr.Unmap().WithZone(""))
				}
			}
		case "search", "domain":
			c.Search = nil // the last of them counts
			for _, domain := range words[1:] {
				if words[0] == "domain" && len(c.Search) == 1 {
					break
				}
				c.Search = append(c.Search, strings.ToLower(strings.TrimPrefix(strings.TrimSuffix(domain, "."), ".")))
			}
		case "options":
			for _, option := range words[1:] {
				if text, ok := strings.CutPrefix(option, "ndots:"); ok {
					c.Ndots = atoi(text)
				}
				c.Rotate = c.Rotate || option == "rotate"
			}
		}
	}
	c.Limit()
	return c
}

// atoi is that of C, as far as a number of dots goes: what is no number is 0, and what is
// negative ends up in a field of four bits.
func atoi(text string) int {
	sign := strings.HasPrefix(text, "-")
	digits := strings.TrimLeft(text, "+-")
	if len(text)-len(digits) > 1 {
		return 0
	}
	end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		digits = digits[:end]
	}
	n, _ := strconv.ParseInt("0"+digits, 10, 64) // the largest, if it is larger
	if sign {
		return int(-n & maxNdots)
	}
	return int(min(n, maxNdots))
}

// Limit makes of the configuration what glibc makes of it: it knows so many servers
// and dots, and without a server asks the one on the loopback address.
func (c *Config) Limit() {
	c.Ndots = min(c.Ndots, maxNdots)
	c.Servers = c.Servers[:min(len(c.Servers), maxServers)]
	if len(c.Servers) == 0 {
		c.Servers = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
}

// ClusterDomain is the domain of the cluster that kubelet has made the list of
// search domains for: X, where svc.X is one of them.
func (c *Config) ClusterDomain() (string, bool) {
	for _, domain := range c.Search {
		if of, ok := strings.CutPrefix(domain, "svc."); ok && of != "" {
			return of, true
		}
	}
	return "", false
}

// Candidates lists the names to ask for, in order, without a final dot. It does
// what __res_context_search of glibc does, where each that is not found leads to
// the next, and one that cannot be asked for ends the search.
func (c *Config) Candidates(name string) []string {
	name = strings.ToLower(name)
	if bare, ok := strings.CutSuffix(name, "."); ok {
		return []string{bare}
	}
	asIs := strings.Count(name, ".") >= c.Ndots
	var list []string
	add := func(candidate string) {
		if ValidName(candidate) && !slices.Contains(list, candidate) {
			list = append(list, candidate)
		}
	}
	if asIs {
		add(name)
	}
	for _, domain := range c.Search {
		candidate := strings.TrimSuffix(name+"."+domain, ".")
		if !ValidName(candidate) {
			break
		}
		add(candidate)
	}
	add(name)
	return list
}

// ValidName says whether a name, without a final dot, can be asked for: labels of
// 1 to 63 bytes, 253 in all.
func ValidName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			if c := label[i]; c <= ' ' || c >= 0x7f || c == '\\' {
				return false
			}
		}
	}
	return true
}

// Hosts is a hosts file: addresses by name, in the order of the file.
type Hosts map[string][]netip.Addr

// ParseHosts reads a hosts file as glibc does; see hosts(5). An address with a zone is none.
func ParseHosts(data []byte) Hosts {
	h := Hosts{}
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		addr, err := netip.ParseAddr(words[0])
		if err != nil || addr.Zone() != "" {
			continue
		}
		addr = addr.Unmap()
		for _, name := range words[1:] {
			name = strings.ToLower(name)
			if !slices.Contains(h[name], addr) {
				h[name] = append(h[name], addr)
			}
		}
	}
	return h
}

// Lookup finds a name: as it is, for search domains are nothing to a hosts file.
func (h Hosts) Lookup(name string) []netip.Addr { return h[strings.ToLower(name)] }
