package nftjson

import "slices"

// dependencies are the matches so far that ask for a protocol, by the layer in
// which it is: a match of a field of that layer implies them.
type dependencies struct {
	of [layers + 1]*statement
	// icmp is the ICMP type that the match of the transport layer asks for.
	icmp uint8
}

// store remembers a match that names the protocol of the next layer. Types of
// ICMP for an echo are remembered, but not left out
// (payload_dependency_store).
func (p *dependencies) store(s *statement, base int) {
	if n := s.expr; n.left.kind == payloadLoad && n.right.kind == constant && n.right.bits == 8 {
		t := uint8(n.right.value.low)
		switch n.left.protocol {
		case protoICMP:
			if t == 0 {
				t = 8
			}
			p.icmp = t
			if t == 8 {
				return
			}
		case protoICMPv6:
			p.icmp = t
			if t == 128 || t == 129 {
				return
			}
		}
	}
	if base+1 < len(p.of) && base+1 >= 0 {
		p.of[base+1] = s
	}
}

func (p *dependencies) get(layer int) *statement {
	if s := p.of[layer]; s != nil {
		return s
	}
	if layer == layerTransport {
		return p.of[layerInner]
	}
	return nil
}

// drop leaves a match out.
func (p *dependencies) drop(f *finisher, layer int) {
	at := layer
	if p.of[at] == nil {
		if layer != layerTransport || p.of[layerInner] == nil {
			return
		}
		at = layerInner
	}
	p.of[at].implied = true
	if f.previous == p.of[at] {
		f.previous = nil
	}
	p.of[at] = nil
}

// imply leaves the match out that this field implies (payload_dependency_kill).
func (f *finisher) imply(n *node) {
	if n.protocol == nil || n.protocol == protoUnknown {
		return
	}
	s := f.dependency.get(n.base)
	if s != nil && f.mayImply(s.expr, n) {
		f.dependency.drop(f, n.base)
	}
}

func (f *finisher) mayImply(dep, n *node) bool {
	left := dep.left
	switch f.family {
	case familyBridge, familyNetdev, familyInet:
		// "ip protocol tcp" asks for IPv4, too.
		if left.kind == payloadLoad && left.base == layerNetwork && (left.protocol == protoIP || left.protocol == protoIP6) && n.base == layerTransport {
			return false
		}
		if left.kind == payloadLoad && dep.op == opEqual && n.base == left.base {
			if n.isKey {
				return false
			}
			if n.base == layerLink {
				return f.mayImplyLink(dep)
			}
		}
	}
	if n.base != layerTransport || left.kind != payloadLoad || left.base != layerTransport {
		return true
	}
	if left.protocol == protoICMP || left.protocol == protoICMPv6 {
		return n.field.hasDep && left.protocol == n.protocol && f.dependency.icmp == n.field.icmp
	}
	return true
}

func (f *finisher) mayImplyLink(dep *node) bool {
	switch dep.left.protocol {
	case protoVLAN:
		return false
	case protoEther:
		if dep.right.kind == constant && dep.right.bits == 16 {
			return dep.right.value.low == 0x8100
		}
	}
	return true
}

// restore takes back what nft leaves out though nothing implies it: it would not
// be asked for if the rule were read again, as the type of the device is only
// with a field of the link layer, and the family of a table never.
func (f *finisher) restore() {
	for _, s := range f.out {
		if !s.implied || s.expr.kind != relation || s.expr.left.kind != metaLoad || s.expr.right.kind != constant {
			continue
		}
		value := s.expr.right.value.low
		switch s.expr.left.key {
		case metaIIFType:
			s.implied = slices.ContainsFunc(f.out, func(s *statement) bool { return !s.implied && (s.left.readsLink() || s.expr.readsLink()) })
		case metaProtocol, metaNFProto:
			if f.family != familyIPv4 && f.family != familyIPv6 {
				continue
			}
			own := uint64(f.family)
			if s.expr.left.key == metaProtocol {
				own = map[uint8]uint64{familyIPv4: 0x800, familyIPv6: 0x86dd}[f.family]
			}
			s.implied = value == own
		}
	}
}

// readsLink says whether a field of the link layer is read.
func (n *node) readsLink() bool {
	return n != nil && (n.kind == payloadLoad && n.base == layerLink || n.left.readsLink() || n.right.readsLink() || slices.ContainsFunc(n.list, (*node).readsLink))
}

// implyHeader leaves out what an extension header or option implies; a chunk of SCTP implies nothing
// (exthdr_dependency_kill).
func (f *finisher) implyHeader(n *node) {
	switch n.key {
	case extensionTCP:
		f.dependency.drop(f, layerTransport)
	case extensionIPv4, extensionIPv6:
		f.dependency.drop(f, layerNetwork)
	}
}

// keyMatch finishes a match of meta or ct (ct_meta_common_postprocess).
func (f *finisher) keyMatch(n *node) {
	left := n.left
	if n.op != opEqual || n.right.kind == rangeOf || n.right.kind == setRef {
		return
	}
	if left.isKey && n.right.kind == constant {
		if left.kind == metaLoad {
			f.learnMeta(left, n.right)
		} else if base := f.protocols[left.base]; base != nil {
			if next := base.over(uint32(n.right.value.low)); next != nil {
				f.protocols[left.base+1] = next
			}
		}
	}
	if left.base >= layerTransport {
		return
	}
	if s := f.dependency.get(left.base); s != nil && f.keyMayImply(n) {
		f.dependency.drop(f, left.base)
	}
	if left.isKey {
		f.dependency.store(f.current, left.base)
	}
}

// learnMeta notes which protocol a match asks for (meta_expr_pctx_update).
func (f *finisher) learnMeta(left, right *node) {
	hook := hookProtocol(f.family)
	number := uint32(right.value.low)
	or := func(p *protocol) *protocol {
		if p == nil {
			return protoUnknown
		}
		return p
	}
	switch left.key {
	case metaIIFType:
		if f.family == familyBridge {
			return
		}
		p := protoUnknown
		if number == 1 {
			p = protoEther
		}
		f.protocols[layerLink] = p
	case metaNFProto:
		if number == familyIPv4 && hook == protoIP || number == familyIPv6 && hook == protoIP6 {
			return
		}
		f.protocols[layerNetwork] = or(hook.over(number))
	case metaL4Proto:
		f.protocols[layerTransport] = or(protoInetService.over(number))
	case metaProtocol:
		if f.family == familyNetdev || f.family == familyBridge {
			f.protocols[layerNetwork] = or(hook.over(number))
		}
	}
}

// keyMayImply says whether a match of meta implies that of the network layer
// (meta_may_dependency_kill): only ICMP is of one family.
func (f *finisher) keyMayImply(n *node) bool {
	s := f.dependency.get(layerNetwork)
	if s == nil {
		return true
	}
	dep := s.expr
	var family uint8
	of := func(etherType uint64) uint8 {
		switch etherType {
		case 0x800:
			return familyIPv4
		case 0x86dd:
			return familyIPv6
		}
		return 0
	}
	switch {
	case dep.left.kind == metaLoad && dep.left.key == metaNFProto:
		family = uint8(dep.right.value.low)
	case dep.left.kind == metaLoad && dep.left.key == metaProtocol:
		family = of(dep.right.value.low)
	case dep.left.kind == payloadLoad && dep.left.base == layerLink && dep.left.typ == typeEtherType:
		family = of(dep.right.value.low)
	default:
		return true
	}
	switch f.family {
	case familyInet, familyNetdev, familyBridge:
	case familyIPv4, familyIPv6:
		return f.family == family
	default:
		return true
	}
	if n.left.kind != metaLoad || n.left.key != metaL4Proto {
		return true
	}
	switch l4 := n.right.value.low; l4 {
	case 1:
		return family != familyIPv6
	case 58:
		return family != familyIPv4
	}
	return false
}
