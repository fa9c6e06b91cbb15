package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/tc"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// opaque is what a namespace holds that could decide a packet's fate, but is
// not evaluated.
type opaque struct {
	filters  *tc.Filters
	policies []policy // of IPsec
	programs []program
	// That the collector failed to read filters, or policies.
	filtersUnread, policiesUnread bool
}

// program is an eBPF program that acts on what sockets send and take, or at a hook
// of netfilter. Those at devices are tc's and XDP's.
type program struct {
	name     string
	place    programPlace
	families [2]bool // IPv4 and IPv6
	hook     netfilter.Hook
	// unread says that there may be one: what is attached could not be read.
	unread bool
}

type programPlace uint8

const (
	ofSender   programPlace = iota // cgroup: what a socket sends passes or is dropped
	ofReceiver                     // cgroup: what a socket is given
	ofAddress                      // cgroup: the destination that a client asks for becomes another
	ofLookup                       // sk_lookup: which socket listens
	ofHook                         // netfilter: packets pass or are dropped
)

func compileOpaque(ns *netstack.Namespace) (o opaque, err error) {
	if o.filters, err = tc.Parse(ns.TC.File, ns.TC.Data); err != nil {
		return opaque{}, err
	}
	if o.programs, err = programs(ns.BPF); err != nil {
		return opaque{}, err
	}
	failed := func(p netstack.Part) bool { return ns.PartStatus(p).State == netstack.StateFailed }
	if failed(netstack.PartBPF) {
		o.programs = unreadPrograms()
	}
	o.filtersUnread, o.policiesUnread = failed(netstack.PartTC), failed(netstack.PartXFRM)
	if o.policies, err = policies(ns.XFRM); err != nil {
		return opaque{}, err
	}
	return o, nil
}

// unreadPrograms are those that there may be: one at each place.
func unreadPrograms() (list []program) {
	for _, place := range []programPlace{ofSender, ofReceiver, ofAddress, ofLookup} {
		list = append(list, program{place: place, families: [2]bool{true, true}, unread: true})
	}
	for hook := netfilter.Prerouting; hook <= netfilter.Postrouting; hook++ {
		list = append(list, program{place: ofHook, hook: hook, families: [2]bool{true, true}, unread: true})
	}
	return list
}

// programs reads what `bpftool -j net`, with the cgroups added, says of programs
// that are not at devices.
func programs(bpf netstack.Text) ([]program, error) {
	if len(bytes.TrimSpace(bpf.Data)) == 0 {
		return nil, nil
	}
	type attached struct {
		ID   uint32 `json:"prog_id"`
		Type string `json:"attach_type"`
		// Of netfilter: NFPROTO_*, NF_INET_*.
		Family uint8 `json:"pf"`
		Hook   uint8 `json:"hook"`
	}
	var all []struct {
		SkLookup  []attached `json:"sk_lookup"`
		Cgroup    []attached `json:"cgroup"`
		Netfilter []attached `json:"netfilter"`
	}
	if err := json.Unmarshal(bpf.Data, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", bpf.File, err)
	}
	both := [2]bool{true, true}
	var list []program
	for _, entry := range all {
		for _, a := range entry.SkLookup {
			list = append(list, program{name: fmt.Sprintf("sk_lookup program %d", a.ID), place: ofLookup, families: both})
		}
		for _, a := range entry.Cgroup {
			list = append(list, ofCgroup(a.Type, fmt.Sprintf("cgroup %s program %d", a.Type, a.ID))...)
		}
		for _, a := range entry.Netfilter {
			const ipv4, ipv6 = 2, 10
			if a.Hook > uint8(netfilter.Postrouting) {
				return nil, fmt.Errorf("%s: netfilter hook %d", bpf.File, a.Hook)
			}
			list = append(list, program{
				name: fmt.Sprintf("netfilter %s program %d", netfilter.Hook(a.Hook), a.ID), place: ofHook, hook: netfilter.Hook(a.Hook),
				families: [2]bool{a.Family == ipv4, a.Family == ipv6},
			})
		}
	}
	return list, nil
}

// ofCgroup is what a program of a cgroup can do to packets, by its attach type.
func ofCgroup(attach, name string) []program {
	p := program{name: name, families: [2]bool{!strings.Contains(attach, "6"), !strings.Contains(attach, "4")}}
	switch {
	case strings.HasSuffix(attach, "connect"), strings.Contains(attach, "connect4"), strings.Contains(attach, "connect6"), strings.Contains(attach, "sendmsg"):
		p.place = ofAddress
	case strings.HasSuffix(attach, "egress"):
		p.place = ofSender
	case strings.HasSuffix(attach, "ingress"):
		p.place = ofReceiver
	case slices.ContainsFunc([]string{"device", "sysctl", "sockopt", "sock_ops", "name", "bind", "sock_create", "sock_release", "recvmsg"},
		func(other string) bool { return strings.Contains(attach, other) }):
		return nil // not of packets
	default: // whatever it is
		q := p
		q.place = ofReceiver
		return []program{p, q}
	}
	return []program{p}
}

// at lists the programs of a place that see packets of a family.
func (o *opaque) at(place programPlace, f netstack.Family) []program {
	if o.programs == nil {
		return nil
	}
	at := 0
	if f == netstack.IPv6 {
		at = 1
	}
	return slices.DeleteFunc(slices.Clone(o.programs), func(p program) bool { return p.place != place || !p.families[at] })
}

func (l *leg) program(p *program) verdict.Finding {
	if p.unread {
		return l.missing(netstack.PartBPF)
	}
	return verdict.NewFinding(verdict.EBPFOpaque, l.host.where(""), []string{p.name}, p.name, l.host)
}

// throughPrograms asks about programs that let what sockets send and take pass, or
// do not.
func (l *leg) throughPrograms(place programPlace) (end, bool) {
	for _, p := range l.host.opaque.at(place, l.packet.Family()) {
		if e, stop := l.through(l.program(&p)); stop {
			return e, true
		}
	}
	return end{}, false
}

// hookPrograms asks about programs at a hook of netfilter.
func (l *leg) hookPrograms(at netfilter.Hook) (end, bool) {
	for _, p := range l.host.opaque.at(ofHook, l.packet.Family()) {
		if p.hook != at {
			continue
		}
		if e, stop := l.through(l.program(&p)); stop {
			return e, true
		}
	}
	return end{}, false
}

// readdressed ends the leg of what a client sends if a program may give it another
// destination, or none.
func (l *leg) readdressed() (end, bool) {
	p, client := &l.packet, l.walk.client
	if l.host != l.sender || client == nil || l.depth > 0 || p.Protocol != client.Protocol || p.Dst != client.Dst || p.DstPort != client.DstPort || isICMP(p.Protocol) {
		return end{}, false
	}
	for _, q := range l.host.opaque.at(ofAddress, p.Family()) {
		return l.undecided(l.program(&q)), true
	}
	return end{}, false
}

// through asks about something that is not evaluated: the packet passes, or it
// ends here.
func (l *leg) through(f verdict.Finding) (end, bool) {
	if l.doubt(f) {
		return l.drop(f), true
	}
	return end{}, false
}

// throughDevice passes what looks at frames at a device. Direction is "ingress" or
// "egress".
func (l *leg) throughDevice(dev, direction string) (end, bool) {
	if direction == "egress" {
		// nf_hook_egress comes before sch_handle_egress, and nf_ingress after
		// sch_handle_ingress.
		if !l.skipEgress {
			if e, stop := l.hookDevice(netfilter.Egress, dev); stop {
				return e, true
			}
		}
		if e, stop := l.filter(dev, tc.Egress); stop {
			return e, true
		}
		return l.filter(dev, tc.Qdisc)
	}
	if link := l.host.links[dev]; link != nil && link.XDP && !l.probe {
		// It may pass the packet, drop it, change it, or send it elsewhere.
		return l.undecided(verdict.NewFinding(verdict.EBPFOpaque, l.host.where(dev), nil, "XDP", dev)), true
	}
	if e, stop := l.filter(dev, tc.Ingress); stop {
		return e, true
	}
	return l.hookDevice(netfilter.Ingress, dev)
}

// takesOver says whether the encapsulation of a route takes packets out of the
// network layer's hands before it forwards or sends them: those with
// LWTUNNEL_STATE_INPUT_REDIRECT and LWTUNNEL_STATE_OUTPUT_REDIRECT.
func takesOver(encap string) bool {
	switch encap {
	case "", "ip", "ip6", "mpls": // which wait until the packet is sent
		return false
	}
	return true
}

// lightweight ends the leg: the route does something to the packet.
func (l *leg) lightweight() end {
	return l.undecided(verdict.NewFinding(verdict.EBPFOpaque, l.host.where(l.next.Dev), evidence(&l.route), "lightweight tunnel ("+l.next.Encap+")", l.next.Dev))
}
