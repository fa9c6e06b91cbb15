package netfilter

// connlabelMatch is connlabel.
type connlabelMatch struct {
	label       u128
	set, invert bool
}

func (m *connlabelMatch) match(x *traversal) tri {
	if x.st.Conn == nil {
		return is(m.invert)
	}
	return is((m.set || x.st.Conn.labels.and(m.label) != u128{}) != m.invert)
}

// setLabel is connlabel --set: it labels the connection of a packet that the
// rule matches.
type setLabel struct{ label u128 }

func (a *setLabel) do(x *traversal) outcome {
	if x.st.Conn != nil {
		x.st.Conn.labels = x.st.Conn.labels.or(a.label)
	}
	return outcome{}
}

// clusterMatch is cluster: this node's share of all connections.
type clusterMatch struct {
	total, nodes, seed uint32
	invert             bool
}

func (m *clusterMatch) match(x *traversal) tri {
	c := x.st.Conn
	if c == nil {
		return no
	}
	// xt_cluster_hash; of an IPv6 address it takes the first word only
	// (NF_CT_TUPLE_L3SIZE counts words).
	hash := jhash(c.Original.Src.AsSlice()[:4], m.seed)
	node := uint32(uint64(hash) * uint64(m.total) >> 32)
	return is((m.nodes>>node&1 != 0) != m.invert)
}

// cgroupMatch is cgroup: only packets that a socket of this namespace sends
// belong to one, and which one no dump shows.
type cgroupMatch struct{}

func (cgroupMatch) match(x *traversal) tri {
	if !x.st.Local {
		return no
	}
	return maybe
}

func (cgroupMatch) decide(x *traversal) bool { return x.env.Unknown(x.ref(), "match cgroup") }
