package netfilter

import "github.com/plumbline-net/plumbline/simulator/netstack"

func (c *compiler) nftables(*netstack.Text) error { return nil }
