package simulator

import (
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// existingConn is a connection that a host knew before the walk, and to which a
// packet of the walk was found to belong.
type existingConn struct {
	host *host
	conn *netfilter.Conn
}

// trackIn makes the host ready to track the walk's connections. Those that it
// knows already have ports, and one port stands for all where the query names
// none: an entry that happens to have just that one says nothing about the rest.
func (wk *walk) trackIn(h *host) {
	switch {
	case wk.conntrack[h] != nil:
	case wk.fixedPort:
		wk.conntrack[h] = netfilter.NewConntrackWith(h.entries)
	default:
		wk.conntrack[h] = netfilter.NewConntrack()
	}
}

// noteExisting remembers an entry that captured the packet, and what it
// translates.
func (l *leg) noteExisting() {
	c := l.state.Conn
	if c == nil || !c.Existing() || slices.Contains(l.existing, existingConn{l.host, c}) {
		return
	}
	l.existing = append(l.existing, existingConn{l.host, c})
	entry := verdict.Translation{Where: l.host.Name, Rule: "an entry of connection tracking"}
	if from, to, ok := c.Destination(); ok {
		entry.Kind, entry.From, entry.To = "dnat", from, to
		l.translations = append(l.translations, entry)
	}
	if from, to, ok := c.Source(); ok {
		entry.Kind, entry.From, entry.To = "snat", from, to
		l.translations = append(l.translations, entry)
	}
}

// explainEntry says that a packet which fails was sent where it failed by an
// entry of an older connection, and not by the rules of today.
func (c *conversation) explainEntry() {
	for _, e := range c.existing {
		if from, to, ok := e.conn.Destination(); ok {
			c.path.Findings = append(c.path.Findings, verdict.NewFinding(verdict.ConntrackStaleEntry, e.host.where(""),
				[]string{e.conn.String()}, from, to))
			return
		}
	}
}
