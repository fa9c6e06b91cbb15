package ipvs

// Choice are the destinations that a scheduler may choose for a new connection.
type Choice struct {
	// Destinations; a nil one stands for none: the packet is refused.
	Destinations []*Destination
	// Weights are the shares of the destinations, which sum up to 1. They are nil
	// where the choice depends on what is not known: the connections that exist,
	// or the order in which destinations were added.
	Weights []float64
}

// Schedule says whom the scheduler may choose. It takes no destination for
// overloaded: connections are not counted.
func (s *Service) Schedule() Choice {
	var live []*Destination
	out := 0 // quiesced
	for i := range s.Destinations {
		if s.Destinations[i].Weight > 0 {
			live = append(live, &s.Destinations[i])
		} else {
			out++
		}
	}
	if len(live) == 0 {
		return Choice{Destinations: []*Destination{nil}, Weights: []float64{1}}
	}
	switch s.Scheduler {
	case "rr", "wrr":
		if s.Persistent { // and a client that was here before
			return Choice{Destinations: live}
		}
		return shares(live, s.Scheduler == "wrr")
	case "fo", "ovf":
		// ip_vs_fo_schedule: the first one of the greatest weight. ovf goes on to
		// the next one when it has as many connections as its weight.
		if s.Scheduler == "fo" {
			live = heaviest(live)
		}
	case "sh":
		// ip_vs_sh_get: a quiesced destination keeps its buckets, and clients
		// that fall into them are refused.
		if out > 0 && !s.Fallback {
			live = append(live, nil)
		}
	case "dh":
		// ip_vs_dh_schedule: the same, with buckets by destination address.
		if out > 0 {
			live = append(live, nil)
		}
	}
	// lc, wlc, lblc, lblcr, sed, nq: by load. mh: by hash of the client.
	if len(live) == 1 {
		return Choice{live, []float64{1}}
	}
	return Choice{Destinations: live}
}

func shares(list []*Destination, weighted bool) Choice {
	weights := make([]float64, len(list))
	var total float64
	for i, d := range list {
		weights[i] = 1
		if weighted {
			weights[i] = float64(d.Weight)
		}
		total += weights[i]
	}
	for i := range weights {
		weights[i] /= total
	}
	return Choice{list, weights}
}

func heaviest(list []*Destination) []*Destination {
	var best []*Destination
	for _, d := range list {
		switch {
		case len(best) == 0 || d.Weight > best[0].Weight:
			best = []*Destination{d}
		case d.Weight == best[0].Weight:
			best = append(best, d)
		}
	}
	return best
}
