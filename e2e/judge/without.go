package judge

import (
	"bytes"
	"encoding/json"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// without is the collected state as it would be without the element: how it is found out whether the element decides. It
// says false if that cannot be derived from the state, or if nothing of the element is there.
func without(s *simulator.Snapshot, e *Element) (*simulator.Snapshot, bool) {
	at := slices.IndexFunc(s.Namespaces, func(n *netstack.Namespace) bool { return n.Name == e.Namespace })
	if at < 0 || e.Rebuild {
		return nil, false
	}
	ns := *s.Namespaces[at]
	found := false
	switch e.Tool {
	case ToolIPTables:
		found = dropRule(&ns, e)
	case ToolIP, ToolRule:
		found = dropRoute(&ns, e)
	case ToolLate, ToolBridge:
		found = dropRoute(&ns, e) || resetPort(&ns, e)
	case ToolSysctl:
		found = resetSysctl(&ns, e)
	case ToolNFT:
		found = dropNFT(&ns, e)
	case ToolIPSet:
		found = dropSetEntry(&ns, e)
	}
	if !found {
		return nil, false
	}
	c := *s
	c.Namespaces = slices.Clone(s.Namespaces)
	c.Namespaces[at] = &ns
	return &c, true
}

// dropRule removes a rule of iptables, or gives it another target. A policy becomes ACCEPT again.
func dropRule(ns *netstack.Namespace, e *Element) bool {
	comment := regexp.MustCompile(` --comment "?` + e.ID + `"?( |$)`)
	chain, policy := "", false
	if rest, ok := strings.CutPrefix(e.Text, ":"); ok {
		chain, _, _ = strings.Cut(rest, " ")
		policy = true
	}
	ns.IPTables = slices.Clone(ns.IPTables)
	found := false
	for i := range ns.IPTables {
		d := &ns.IPTables[i]
		if d.Family != e.Family || d.Backend != e.Backend {
			continue
		}
		var kept []string
		table := ""
		for line := range strings.Lines(string(d.Data)) {
			if name, ok := strings.CutPrefix(line, "*"); ok {
				table = strings.TrimSpace(name)
			}
			switch {
			case policy && table == e.Table && strings.HasPrefix(line, ":"+chain+" "):
				found = true
				line = ":" + chain + " ACCEPT [0:0]\n"
			case !policy && comment.MatchString(strings.TrimRight(line, "\n")):
				found = true
				if e.Instead == "" {
					continue
				}
				at := max(strings.LastIndex(line, " -j "), strings.LastIndex(line, " -g "))
				if at < 0 { // a rule without a target
					at = len(line) - 1
				}
				line = line[:at] + " -j " + e.Instead + "\n"
			}
			kept = append(kept, line)
		}
		d.Data = []byte(strings.Join(kept, ""))
	}
	return found
}

// dropRoute removes what bears the element's protocol number.
func dropRoute(ns *netstack.Namespace, e *Element) bool {
	if e.Mark == 0 {
		return false
	}
	routes := slices.DeleteFunc(slices.Clone(ns.Routes), func(r netstack.Route) bool { return r.Protocol == e.Mark && r.Family == e.Family })
	rules := slices.DeleteFunc(slices.Clone(ns.Rules), func(r netstack.Rule) bool { return r.Protocol == e.Mark && r.Family == e.Family })
	found := len(routes) < len(ns.Routes) || len(rules) < len(ns.Rules)
	ns.Routes, ns.Rules = routes, rules
	return found
}

// resetPort undoes `link set PORT type bridge_slave SETTING VALUE` and `fdb add MAC dev PORT …`.
func resetPort(ns *netstack.Namespace, e *Element) bool {
	words := strings.Fields(e.Text)
	if words[0] == "fdb" {
		before := len(ns.FDB)
		ns.FDB = slices.DeleteFunc(slices.Clone(ns.FDB), func(f netstack.FDBEntry) bool {
			return net.HardwareAddr(f.MAC[:]).String() == words[2] && f.Dev == words[4]
		})
		return len(ns.FDB) < before
	}
	at := slices.IndexFunc(ns.Links, func(l netstack.Link) bool { return len(words) == 7 && l.Name == words[2] && l.Port != nil })
	if at < 0 {
		return false
	}
	port := *ns.Links[at].Port
	switch words[5] {
	case "hairpin":
		port.Hairpin = false
	case "isolated":
		port.Isolated = false
	case "state":
		port.State = netstack.BRStateForwarding
	case "locked":
		port.Locked = false
	case "flood":
		port.Flood = true
	case "learning":
		port.Learning = true
	case "bcast_flood":
		port.NoBroadcastFlood = false
	case "mcast_flood":
		port.NoMulticastFlood = false
	default:
		return false
	}
	ns.Links = slices.Clone(ns.Links)
	ns.Links[at].Port = &port
	return true
}

// resetSysctl gives a setting its former value. Some settings are copied to every device when they are set.
func resetSysctl(ns *netstack.Namespace, e *Element) bool {
	key, _, _ := strings.Cut(e.Text, "=")
	if _, ok := ns.Sysctls[key]; !ok {
		return false
	}
	set := map[string]string{}
	for k, v := range ns.Sysctls {
		if copied(key, k) {
			v = e.Default
		}
		set[k] = v
	}
	set[key] = e.Default
	ns.Sysctls = set
	return true
}

func copied(from, to string) bool {
	family, name := "", ""
	switch from {
	case "net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding":
		family, name = "net.ipv4.conf.", ".forwarding"
	case "net.ipv6.conf.all.forwarding":
		family, name = "net.ipv6.conf.", ".forwarding"
	default:
		return false
	}
	return strings.HasPrefix(to, family) && strings.HasSuffix(to, name) || to == "net.ipv4.ip_forward" && family == "net.ipv4.conf."
}

// dropNFT removes the rule that bears the element's id as its comment. A policy becomes accept again.
func dropNFT(ns *netstack.Namespace, e *Element) bool {
	if words := strings.Fields(e.Text); words[1] == "chain" {
		policy := regexp.MustCompile(`("name": "` + words[4] + `", [^}]*"policy": )"drop"`)
		found := policy.Match(ns.NFT.Data)
		ns.NFT.Data = policy.ReplaceAll(ns.NFT.Data, []byte(`$1"accept"`))
		return found
	}
	if !bytes.Contains(ns.NFT.Data, []byte(`"`+e.ID+`"`)) {
		return false
	}
	var list struct {
		NFTables []json.RawMessage `json:"nftables"`
	}
	if json.Unmarshal(ns.NFT.Data, &list) != nil {
		return false
	}
	found := false
	list.NFTables = slices.DeleteFunc(list.NFTables, func(raw json.RawMessage) bool {
		var object struct {
			Rule *struct {
				Comment string `json:"comment"`
			} `json:"rule"`
		}
		match := json.Unmarshal(raw, &object) == nil && object.Rule != nil && object.Rule.Comment == e.ID
		found = found || match
		return match
	})
	data, err := json.Marshal(list)
	if err != nil {
		return false
	}
	ns.NFT.Data = data
	return found
}

// dropSetEntry removes an entry of a set: a line "add SET ENTRY …".
func dropSetEntry(ns *netstack.Namespace, e *Element) bool {
	words := strings.Fields(e.Text)
	if len(words) < 3 || words[0] != "add" {
		return false
	}
	var kept []string
	found := false
	for line := range strings.Lines(string(ns.IPSet.Data)) {
		w := strings.Fields(line)
		if len(w) >= 3 && w[0] == "add" && w[1] == words[1] && sameEntry(w[2], words[2]) &&
			slices.Contains(w, "nomatch") == slices.Contains(words, "nomatch") {
			found = true
			continue
		}
		kept = append(kept, line)
	}
	ns.IPSet.Data = []byte(strings.Join(kept, ""))
	return found
}

// sameEntry compares entries as they are given with those that are printed: single addresses lose their prefix length.
func sameEntry(a, b string) bool {
	clean := func(s string) string {
		return strings.NewReplacer("/32", "", "/128", "", "icmp:8/0", "icmp:echo-request", "icmp:0/0", "icmp:echo-reply",
			"icmpv6:128/0", "icmpv6:echo-request", "icmpv6:129/0", "icmpv6:echo-reply").Replace(s)
	}
	return clean(a) == clean(b)
}
