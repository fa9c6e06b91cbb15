package simulator

import (
	"slices"

	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// bridgeNF says whether the rules of the network layer see bridged packets.
func (l *leg) bridgeNF(bridge *netstack.Link) bool {
	key, own := "net.bridge.bridge-nf-call-iptables", bridge.Bridge != nil && bridge.Bridge.NFCallIPTables
	if l.packet.Family() == netstack.IPv6 {
		key, own = "net.bridge.bridge-nf-call-ip6tables", bridge.Bridge != nil && bridge.Bridge.NFCallIP6Tables
	}
	v, _ := l.host.Sysctl(key)
	return v != 0 || own
}

// bridgeReceive takes a frame from a port of a bridge: br_handle_frame.
func (l *leg) bridgeReceive(bridge, in fabric.Port) end {
	if e, missing := l.require(netstack.PartLinks, netstack.PartSysctls); missing {
		return e
	}
	if in.Link.Port != nil && in.Link.Port.State != netstack.BRStateForwarding {
		return l.drop(l.barrier(fabric.Station{Barrier: fabric.PortState, At: in}))
	}
	if !bridge.Link.Up() {
		return l.drop(l.linkDown(bridge))
	}
	if e, stop := l.hookBridge(netfilter.Prerouting, true, in.Link.Name, ""); stop {
		return e
	}
	nf := l.bridgeNF(bridge.Link)
	if nf {
		dst := l.packet.Dst
		if e, stop := l.hook(netfilter.Prerouting, bridge.Link.Name, "", in.Link.Name, ""); stop {
			return e
		}
		if l.packet.Dst != dst {
			return l.bridgeTranslated(bridge, in)
		}
	}
	if e, stop := l.hookBridge(netfilter.Prerouting, false, in.Link.Name, ""); stop {
		return e
	}
	if l.toBridge(bridge) {
		if e, stop := l.hookBridge(netfilter.Input, true, in.Link.Name, ""); stop {
			return e
		}
		if e, stop := l.hookBridge(netfilter.Input, false, in.Link.Name, ""); stop {
			return e
		}
		return l.receive(bridge.Link, in.Link.Name, nf)
	}
	return l.bridgeForward(bridge, in, nf)
}

// bridgeTranslated goes on with a bridged packet that PREROUTING translated:
// br_nf_pre_routing_finish. It stays on the bridge when its new destination is
// reached through the bridge, which needs no forwarding; else it is routed.
func (l *leg) bridgeTranslated(bridge, in fabric.Port) end {
	h := l.host
	if e, missing := l.requireRouting(); missing {
		return e
	}
	res := h.fib.Lookup(fib.KeyOf(&l.packet, bridge.Link.Name))
	if res.Type == netstack.RouteUnicast && len(res.NextHops) == 1 && res.NextHops[0].Dev == bridge.Link.Name {
		if f, fails := l.reversePath(bridge.Link.Name, bridge.Link.Name); fails {
			return l.drop(f)
		}
		l.route, l.next = res, res.NextHops[0]
		to := l.packet.Dst
		if l.next.Gateway.IsValid() {
			to = l.next.Gateway
		}
		mac, e, failed := l.resolve(bridge.Link, to)
		if failed {
			return e
		}
		l.packet.DstMAC = mac
		return l.bridgeForward(bridge, in, true)
	}
	return l.receive(bridge.Link, in.Link.Name, true)
}

// toBridge says whether the frame is for the bridge's own host.
func (l *leg) toBridge(bridge fabric.Port) bool {
	mac := l.packet.DstMAC
	if mac == bridge.Link.MAC {
		return true
	}
	return slices.ContainsFunc(l.host.FDB, func(e netstack.FDBEntry) bool {
		return e.Local && e.MAC == mac && (e.Dev == bridge.Link.Name || e.Master == bridge.Link.Name)
	})
}

// bridgeForward sends the frame out of the port behind which its destination
// is: br_forward. in is not valid for packets of the bridge's own host, which
// br_netfilter does not look at.
func (l *leg) bridgeForward(bridge, in fabric.Port, nf bool) end {
	h := l.host
	if in.Valid() {
		l.hop().Kind = verdict.HopBridge
	}
	out, open := l.egress(bridge, in)
	if !out.Valid() {
		if open.Valid() {
			return l.bridgeOut(bridge, in, open, nf)
		}
		return l.drop(verdict.NewFindingf(verdict.NeighbourStale, h.where(bridge.Link.Name), []string{macString(l.packet.DstMAC)},
			"neighbour %s resolves to the wrong link-layer address %s: nobody on %s has it", l.packet.Dst, macString(l.packet.DstMAC), bridge.Link.Name))
	}
	return l.bridgeOut(bridge, in, out, nf)
}

func (l *leg) bridgeOut(bridge, in, out fabric.Port, nf bool) end {
	h := l.host
	l.hop().Out = out.Link.Name
	if bridge.Link.Bridge != nil && bridge.Link.Bridge.VLANFiltering {
		return l.undecided(l.barrier(fabric.Station{Barrier: fabric.Filtered, At: bridge}))
	}
	if in.Link == out.Link && in.Valid() {
		if out.Link.Port == nil || !out.Link.Port.Hairpin {
			return l.drop(verdict.NewFinding(verdict.BridgeHairpinOff, h.where(out.Link.Name), linkEvidence(out.Link), out.Link.Name))
		}
	} else if way := l.w.fabric.Exit(in, out, fabric.Station{}); way.Barrier != fabric.Clear {
		return l.drop(l.barrier(way))
	}
	if e, stop := l.hookBridgeOut(in, out, true); stop {
		return e
	}
	if nf && in.Valid() {
		if e, stop := l.hook(netfilter.Forward, bridge.Link.Name, bridge.Link.Name, in.Link.Name, out.Link.Name); stop {
			return e
		}
	}
	if e, stop := l.hookBridgeOut(in, out, false); stop {
		return e
	}
	if nf && in.Valid() {
		if e, stop := l.hook(netfilter.Postrouting, bridge.Link.Name, bridge.Link.Name, in.Link.Name, out.Link.Name); stop {
			return e
		}
	}
	l.step("bridge", "forward", bridge.Link.Name+" to port "+out.Link.Name)
	if mtu := out.Link.MTU; in.Valid() && (l.packet.Length > mtu+vlanHeader || nf && l.packet.Length > mtu) {
		e := l.drop(verdict.NewFindingf(verdict.MTUExceeded, h.where(out.Link.Name), linkEvidence(out.Link),
			"packet of %d bytes exceeds MTU %d of bridge port %s on %s", l.packet.Length, mtu, out.Link.Name, h))
		// A bridge is no router, and tells nobody; but br_netfilter has IPv6
		// fragment the packet, which does (br_nf_dev_queue_xmit, ip6_fragment).
		if nf && l.packet.Family() == netstack.IPv6 {
			e.notice = notice{kind: noticeICMP, mtu: mtu}
			e.notice.typ, e.notice.code = tooBig(netstack.IPv6)
		}
		return e
	}
	return l.cross(out)
}

// egress finds the port behind which the frame's destination is, and else a
// port behind which not everything was collected.
func (l *leg) egress(bridge, in fabric.Port) (out, open fabric.Port) {
	mac := l.packet.DstMAC
	ports := l.w.fabric.Ports(bridge.Link)
	for _, e := range l.host.FDB {
		if e.MAC == mac && e.Master == bridge.Link.Name && e.State&netstack.NUDPermanent != 0 && !e.Local {
			for _, p := range ports {
				if p.Link.Name == e.Dev {
					return p, open
				}
			}
		}
	}
	var blocked fabric.Port
	for _, p := range ports {
		behind, uncollected := l.w.fabric.Behind(p)
		if uncollected && p.Link != in.Link {
			open = p
		}
		for _, s := range behind {
			if s.Link.MAC != mac {
				continue
			}
			if s.Barrier == fabric.Clear {
				return p, open
			}
			if !blocked.Valid() {
				blocked = p
			}
		}
	}
	return blocked, open
}
