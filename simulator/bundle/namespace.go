package bundle

import (
	"errors"
	"fmt"
	"net/url"
	"path"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// format is one file of a namespace's directory.
type format struct {
	file  string
	part  netstack.Part
	read  func(*source, *netstack.Namespace) error
	write func(*netstack.Namespace) ([]byte, error)
	// has says whether a namespace holds anything of the part.
	has func(*netstack.Namespace) bool
}

// formats lists the files of a namespace that become parts of the model.
func formats() []format {
	type ns = netstack.Namespace
	routes := func(f netstack.Family) func(*ns) bool {
		return func(n *ns) bool {
			for i := range n.Routes {
				if n.Routes[i].Family == f {
					return true
				}
			}
			return false
		}
	}
	rules := func(f netstack.Family) func(*ns) bool {
		return func(n *ns) bool {
			for i := range n.Rules {
				if n.Rules[i].Family == f {
					return true
				}
			}
			return false
		}
	}
	all := []format{
		{"ip-link.json", netstack.PartLinks, readLinks, writeLinks, func(n *ns) bool { return len(n.Links) > 0 }},
		{"ip-addr.json", netstack.PartAddresses, readAddresses, writeAddresses, func(n *ns) bool { return len(n.Addresses) > 0 }},
		{"ip-addrlabel.json", netstack.PartAddrLabels, readAddrLabels, writeAddrLabels, func(n *ns) bool { return n.AddrLabels != nil }},
		{"ip-route.json", netstack.PartRoutes4, readRoutes4, writeRoutes4, routes(netstack.IPv4)},
		{"ip6-route.json", netstack.PartRoutes6, readRoutes6, writeRoutes6, routes(netstack.IPv6)},
		{"ip-nexthop.json", netstack.PartNextHops, readNextHops, writeNextHops, func(n *ns) bool { return len(n.NextHops) > 0 }},
		{"ip-rule.json", netstack.PartRules4, readRules4, writeRules4, rules(netstack.IPv4)},
		{"ip6-rule.json", netstack.PartRules6, readRules6, writeRules6, rules(netstack.IPv6)},
		{"ip-neigh.json", netstack.PartNeighbours, readNeighbours, writeNeighbours, func(n *ns) bool { return len(n.Neighbours) > 0 }},
		{"bridge-fdb.json", netstack.PartFDB, readFDB, writeFDB, func(n *ns) bool { return len(n.FDB) > 0 }},
		{"bridge-vlan.json", netstack.PartBridgeVLAN, readBridgeVLAN, writeBridgeVLAN, func(n *ns) bool { return len(n.BridgeVLAN) > 0 }},
		{"sockets.txt", netstack.PartSockets, readSockets, writeSockets, func(n *ns) bool { return len(n.Sockets) > 0 }},
		{"sysctl.txt", netstack.PartSysctls, readSysctls, writeSysctls, func(n *ns) bool { return len(n.Sysctls) > 0 }},
		iptables("iptables-save.txt", netstack.PartIPTables4, netstack.IPv4, netstack.BackendNFT),
		iptables("ip6tables-save.txt", netstack.PartIPTables6, netstack.IPv6, netstack.BackendNFT),
		iptables("iptables-save-legacy.txt", netstack.PartIPTables4Legacy, netstack.IPv4, netstack.BackendLegacy),
		iptables("ip6tables-save-legacy.txt", netstack.PartIPTables6Legacy, netstack.IPv6, netstack.BackendLegacy),
		raw("arptables-save-legacy.txt", netstack.PartARPTablesLegacy, func(n *ns) *netstack.Text { return &n.ARPTables }),
		raw("ebtables-save-legacy.txt", netstack.PartEBTablesLegacy, func(n *ns) *netstack.Text { return &n.EBTables }),
		raw("nft.json", netstack.PartNFT, func(n *ns) *netstack.Text { return &n.NFT }),
		raw("ipset-save.txt", netstack.PartIPSet, func(n *ns) *netstack.Text { return &n.IPSet }),
		raw("ipvsadm-save.txt", netstack.PartIPVS, func(n *ns) *netstack.Text { return &n.IPVS }),
		raw("tc.json", netstack.PartTC, func(n *ns) *netstack.Text { return &n.TC }),
		raw("xfrm.txt", netstack.PartXFRM, func(n *ns) *netstack.Text { return &n.XFRM }),
		raw("conntrack.txt", netstack.PartConntrack, func(n *ns) *netstack.Text { return &n.Conntrack }),
		raw("bpf.json", netstack.PartBPF, func(n *ns) *netstack.Text { return &n.BPF }),
		checked(raw("resolv.conf", netstack.PartResolvConf, func(n *ns) *netstack.Text { return &n.ResolvConf }), readResolvConf),
		checked(raw("hosts", netstack.PartHosts, func(n *ns) *netstack.Text { return &n.Hosts }), readHosts),
		{"host.json", netstack.PartHostFacts, readHostFacts, writeHostFacts, func(n *ns) bool { return n.Facts != nil }},
	}
	return all
}

// raw is a file that is kept as text, to be compiled with the World.
func raw(file string, part netstack.Part, text func(*netstack.Namespace) *netstack.Text) format {
	return format{
		file: file, part: part,
		read: func(s *source, n *netstack.Namespace) error {
			*text(n) = s.whole()
			return nil
		},
		write: func(n *netstack.Namespace) ([]byte, error) { return text(n).Bytes() },
		has:   func(n *netstack.Namespace) bool { return !text(n).Empty() },
	}
}

// checked is a file whose reader says whether it is well-formed.
func checked(f format, read func(*source, *netstack.Namespace) error) format {
	f.read = read
	return f
}

// whole is the file as text.
func (s *source) whole() netstack.Text {
	if len(s.data) == 0 {
		return netstack.Text{File: s.file}
	}
	return netstack.Text{File: s.file, Data: s.data}
}

// iptables is the dump of one family and backend.
func iptables(file string, part netstack.Part, family netstack.Family, backend netstack.Backend) format {
	find := func(n *netstack.Namespace) *netstack.Text {
		for i := range n.IPTables {
			if d := &n.IPTables[i]; d.Family == family && d.Backend == backend {
				return &d.Text
			}
		}
		return &netstack.Text{}
	}
	return format{
		file: file, part: part,
		read: func(s *source, n *netstack.Namespace) error {
			n.IPTables = append(n.IPTables, netstack.IPTablesDump{Family: family, Backend: backend, Text: s.whole()})
			return nil
		},
		write: func(n *netstack.Namespace) ([]byte, error) { return find(n).Bytes() },
		has:   func(n *netstack.Namespace) bool { return !find(n).Empty() },
	}
}

// legacyOnly gives the files without "-legacy" to the legacy backend, for hosts
// whose iptables is that one.
func legacyOnly(all []format) []format {
	var out []format
	for _, f := range all {
		switch f.part {
		case netstack.PartIPTables4:
			f = iptables(f.file, netstack.PartIPTables4Legacy, netstack.IPv4, netstack.BackendLegacy)
		case netstack.PartIPTables6:
			f = iptables(f.file, netstack.PartIPTables6Legacy, netstack.IPv6, netstack.BackendLegacy)
		case netstack.PartIPTables4Legacy, netstack.PartIPTables6Legacy:
			continue
		}
		out = append(out, f)
	}
	return out
}

// readNamespace reads the files of one directory. Status is what bundle.json
// says of its parts.
func readNamespace(files map[string][]byte, dir string, status map[netstack.Part]netstack.Status) (*netstack.Namespace, error) {
	name, err := unescapeName(path.Base(dir))
	if err != nil {
		return nil, err
	}
	n := &netstack.Namespace{Name: name, Kind: netstack.KindOther}
	all := formats()
	if data, ok := files[path.Join(dir, metaFile)]; ok {
		meta, err := readMeta(&source{file: path.Join(dir, metaFile), data: data}, n)
		if err != nil {
			return nil, err
		}
		if meta.IPTables == string(netstack.BackendLegacy) {
			all = legacyOnly(all)
		}
	}
	for _, f := range all {
		file := path.Join(dir, f.file)
		data, ok := files[file]
		if !ok {
			continue
		}
		state := netstack.Status{State: netstack.StateOK}
		if err := f.read(&source{file: file, data: data}, n); err != nil {
			var unmodelled *errUnmodelled
			if !errors.As(err, &unmodelled) {
				return nil, err
			}
			state = netstack.Status{State: netstack.StateFailed, Detail: unmodelled.detail}
		}
		n.SetPart(f.part, state)
	}
	for part, s := range status {
		// A file that was taken out of the bundle is missing, whatever the
		// collector said of it.
		if s.State == netstack.StateFailed || s.State == netstack.StateUnsupported {
			n.SetPart(part, s)
		}
	}
	if _, ok := n.Parts[netstack.PartIPVS]; !ok && n.Known(netstack.PartSysctls) && !hasIPVS(n) {
		n.SetPart(netstack.PartIPVS, netstack.Status{State: netstack.StateUnsupported})
	}
	return n, nil
}

// writeNamespace adds the files of one namespace.
func writeNamespace(n *netstack.Namespace, files map[string][]byte) error {
	name, err := escapeName(n.Name)
	if err != nil {
		return err
	}
	dir := path.Join(netnsDir, name)
	if _, twice := files[path.Join(dir, metaFile)]; twice {
		return fmt.Errorf("namespace %q: a namespace of this name came before", n.Name)
	}
	meta, err := writeMeta(n)
	if err != nil {
		return fmt.Errorf("namespace %q: %w", n.Name, err)
	}
	files[path.Join(dir, metaFile)] = meta
	for _, f := range formats() {
		status := n.PartStatus(f.part)
		state := status.State
		has := f.has(n)
		remembered := state == netstack.StateMissing && status.Detail != "" // but not as state
		if has && !remembered && (state == netstack.StateMissing || state == netstack.StateUnsupported) {
			return fmt.Errorf("namespace %q: %s are %s but there are some", n.Name, f.part, state)
		}
		if remembered || state != netstack.StateOK && !has {
			continue
		}
		data, err := f.write(n)
		if err != nil {
			return fmt.Errorf("namespace %q: %w", n.Name, err)
		}
		if !has {
			data = nil // an empty file means "nothing there"
		}
		files[path.Join(dir, f.file)] = data
	}
	return nil
}

// escapeName makes a namespace's name the name of a directory: a slash, as in
// pod:shop/web, becomes %2F.
func escapeName(name string) (string, error) {
	if name == "" || name == "." || name == ".." {
		return "", fmt.Errorf("namespace %q cannot be the name of a directory", name)
	}
	return url.PathEscape(name), nil
}

func unescapeName(dir string) (string, error) {
	name, err := url.PathUnescape(dir)
	if err != nil {
		return "", fmt.Errorf("%s/%s: the name of the directory is not percent-encoded: %w", netnsDir, dir, err)
	}
	return name, nil
}
