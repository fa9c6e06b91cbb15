package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"

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
}

// program is an eBPF program that acts on sockets: of a cgroup, or at
// sk_lookup.
type program struct {
	id     uint32
	attach string
}

func compileOpaque(ns *netstack.Namespace) (o opaque, err error) {
	if o.filters, err = tc.Parse(ns.TC.File, ns.TC.Data); err != nil {
		return opaque{}, err
	}
	if o.programs, err = programs(ns.BPF); err != nil {
		return opaque{}, err
	}
	if o.policies, err = policies(ns.XFRM); err != nil {
		return opaque{}, err
	}
	return o, nil
}

// programs reads what `bpftool -j net`, with the cgroups added, says of
// programs that act on sockets. Those at devices are tc's and XDP's.
func programs(bpf netstack.Text) ([]program, error) {
	if len(bytes.TrimSpace(bpf.Data)) == 0 {
		return nil, nil
	}
	type attached struct {
		ID   uint32 `json:"prog_id"`
		Type string `json:"attach_type"`
	}
	var all []struct {
		SkLookup []attached `json:"sk_lookup"`
		Cgroup   []attached `json:"cgroup"`
	}
	if err := json.Unmarshal(bpf.Data, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", bpf.File, err)
	}
	var list []program
	for _, entry := range all {
		for _, a := range entry.SkLookup {
			list = append(list, program{a.ID, "sk_lookup"})
		}
		for _, a := range entry.Cgroup {
			list = append(list, program{a.ID, "cgroup " + a.Type})
		}
	}
	return list, nil
}

// throughPrograms asks about programs that act on what sockets send and take.
func (l *leg) throughPrograms() (end, bool) {
	for _, p := range l.host.opaque.programs {
		name := fmt.Sprintf("%s program %d", p.attach, p.id)
		if e, stop := l.through(verdict.NewFinding(verdict.EBPFOpaque, l.host.where(""), []string{name}, name, l.host)); stop {
			return e, true
		}
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
		if e, stop := l.through(verdict.NewFinding(verdict.EBPFOpaque, l.host.where(dev), nil, "XDP", dev)); stop {
			return e, true
		}
	}
	if e, stop := l.filter(dev, tc.Ingress); stop {
		return e, true
	}
	return l.hookDevice(netfilter.Ingress, dev)
}
