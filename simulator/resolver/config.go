// Package resolver models what a C library does with a name before and after it
// asks a name server: the files that it reads, the names that it tries, and what
// it makes of the answers. It asks nobody.
//
// Errors: a malformed resolv.conf or hosts file is a *netfilter.SyntaxError with file, line and
// token. What glibc passes over by design (unknown keywords and options) is
// passed over here.
package resolver

import (
	"bytes"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netfilter"
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
func ParseConfig(file string, data []byte) (*Config, error) {
	c := &Config{Ndots: 1}
	for number, line := range linesOf(data) {
		fault := func(token, format string, args ...any) error {
			return &netfilter.SyntaxError{File: file, Line: number, Token: token, Msg: fmt.Sprintf(format, args...)}
		}
		if strings.HasPrefix(line, ";") || strings.HasPrefix(line, "#") {
			continue
		}
		// glibc knows keywords at the very beginning of a line only (res_vinit_1).
		if line == "" || line[0] == ' ' || line[0] == '\t' {
			continue
		}
		words := strings.Fields(line)
		if len(words) == 0 { // form feeds and the like
			continue
		}
		switch words[0] {
		case "nameserver":
			if len(words) < 2 {
				return nil, fault(line, "nameserver: want an address")
			}
			addr, err := netip.ParseAddr(words[1])
			if err != nil {
				return nil, fault(words[1], "nameserver: not an address")
			}
			c.Servers = append(c.Servers, addr.Unmap().WithZone(""))
		case "search", "domain":
			c.Search = nil // the last of them counts
			for _, domain := range words[1:] {
				if words[0] == "domain" && len(c.Search) == 1 {
					break
				}
				clean := strings.TrimSuffix(domain, ".")
				if domain != "." && !ValidName(clean) {
					return nil, fault(domain, "%s: not a domain", words[0])
				}
				c.Search = append(c.Search, strings.ToLower(clean))
			}
		case "options":
			for _, option := range words[1:] {
				if text, ok := strings.CutPrefix(option, "ndots:"); ok {
					n, err := strconv.ParseUint(text, 10, 31)
					if err != nil {
						return nil, fault(option, "options: ndots wants a number")
					}
					c.Ndots = int(n)
				}
				c.Rotate = c.Rotate || option == "rotate"
			}
		}
	}
	c.Limit()
	return c, nil
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
// the next.
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
		if domain == "" {
			add(name)
		} else {
			add(name + "." + domain)
		}
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

// ParseHosts reads a hosts file; see hosts(5).
func ParseHosts(file string, data []byte) (Hosts, error) {
	h := Hosts{}
	for number, line := range linesOf(data) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		addr, err := netip.ParseAddr(words[0])
		if err != nil {
			return nil, &netfilter.SyntaxError{File: file, Line: number, Token: words[0], Msg: "want an address"}
		}
		addr = addr.Unmap().WithZone("")
		for _, name := range words[1:] {
			name = strings.ToLower(name)
			if !slices.Contains(h[name], addr) {
				h[name] = append(h[name], addr)
			}
		}
	}
	return h, nil
}

// Lookup finds a name: as it is, for search domains are nothing to a hosts file.
func (h Hosts) Lookup(name string) []netip.Addr { return h[strings.ToLower(name)] }

// linesOf numbers the lines of a text from 1.
func linesOf(data []byte) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		number := 0
		for line := range bytes.Lines(data) {
			number++
			if !yield(number, strings.TrimRight(string(line), "\r\n")) {
				return
			}
		}
	}
}
