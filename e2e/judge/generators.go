package judge

// generator adds elements of one kind to a world under construction. To be worth judging, what it adds has to decide:
// it starts from a flow that will be probed (builder.flow), and puts something in its way, or almost in its way.
// Elements name their features; where there is a choice, it goes through pick, so that features can be asked for.
type generator struct {
	name string
	// features are the prefixes of what it makes; it is left out if none is asked for.
	features []string
	// rounds is how often it is run for one world, at most, and asked how often if it has been asked for.
	rounds, asked int
	generate      func(*builder)
}

// generators lists all of them. One file each: gen_NAME.go.
func generators() []generator {
	return []generator{
		{"iptables", []string{"match", "target", "table", "backend", "chain"}, 8, 8, generateIPTables},
		{"routes", []string{"route", "rule", "nexthop"}, 2, 2, generateRoutes},
		{"nft", []string{"nft"}, 5, 5, generateNFT},
		{"ipset", []string{"set"}, 2, 8, generateIPSet},
		{"dice", []string{"match:statistic", "route:multipath"}, 1, 1, generateDice},
		{"sysctl", []string{"sysctl"}, 2, 2, generateSysctl},
		{"links", []string{"link", "bridge", "neigh"}, 2, 2, generateLinks},
		{"neighbours", []string{"ndp", "sysctl:arp_ignore", "sysctl:arp_filter", "sysctl:proxy_arp", "sysctl:accept_local"}, 1, 1, generateNeighbours}, // last: it leaves probes out
	}
}

// features runs the generators, each a random number of times: in most worlds only a few, which leave the subjects in peace.
func (b *builder) features() {
	calm := b.chance(60)
	for _, g := range generators() {
		rounds := b.IntN(g.rounds + 1)
		if calm {
			rounds = (rounds + b.IntN(3)) / 3
		}
		if len(b.only) > 0 {
			if !b.wantsAny(g) {
				continue
			}
			rounds = g.asked
		}
		for range rounds {
			g.generate(b)
		}
	}
}

func (b *builder) wantsAny(g generator) bool {
	for _, o := range b.only {
		if o == g.name {
			return true
		}
		for _, f := range g.features {
			if o == f || len(o) > len(f) && o[:len(f)+1] == f+":" {
				return true
			}
		}
	}
	return false
}
