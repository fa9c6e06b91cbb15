package collector

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/internal/netlinklist"
)

// readXFRM writes the policies of IPsec as `ip xfrm policy` does, as far as it
// takes to say which packets they are about.
func readXFRM(_ context.Context, t *target) error {
	t.ns.XFRM.File = t.file("xfrm.txt")
	if !t.host.has("xfrm_user", "xfrm_dump_policy") {
		return fmt.Errorf("xfrm_user is not loaded: %w", ErrNotSupported)
	}
	handle, err := netlink.NewHandle(unix.NETLINK_XFRM)
	if err != nil {
		return fmt.Errorf("open a socket for xfrm: %w", notSupported(err))
	}
	defer handle.Close()
	var text strings.Builder
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		policies, err := netlinklist.Whole(func() ([]netlink.XfrmPolicy, error) { return handle.XfrmPolicyList(family) })
		if err != nil {
			return fmt.Errorf("read xfrm policies: %w", notSupported(err))
		}
		writePolicies(&text, t, policies, family)
	}
	t.ns.XFRM.Data = []byte(text.String())
	return nil
}

func writePolicies(text *strings.Builder, t *target, policies []netlink.XfrmPolicy, family int) {
	prefix := func(n *net.IPNet) netip.Prefix {
		b := n.IP
		if family == netlink.FAMILY_V6 && len(b) == net.IPv4len {
			// The library takes an address with nothing but zeros behind its first
			// four bytes for one of IPv4.
			b = append(slices.Clone(b), make([]byte, net.IPv6len-net.IPv4len)...)
		}
		addr, _ := netip.AddrFromSlice(b)
		if family == netlink.FAMILY_V4 {
			addr = addr.Unmap()
		}
		bits, _ := n.Mask.Size()
		return netip.PrefixFrom(addr, bits)
	}
	for i := range policies {
		p := &policies[i]
		fmt.Fprintf(text, "src %s dst %s", prefix(p.Src), prefix(p.Dst))
		if p.Proto != 0 {
			fmt.Fprintf(text, " proto %d", p.Proto)
		}
		if p.SrcPort != 0 {
			fmt.Fprintf(text, " sport %d", p.SrcPort)
		}
		if p.DstPort != 0 {
			fmt.Fprintf(text, " dport %d", p.DstPort)
		}
		if p.Ifindex != 0 {
			fmt.Fprintf(text, " dev %s", t.device(p.Ifindex))
		}
		fmt.Fprintf(text, "\n\t%s action %s priority %d\n", p.Dir, p.Action, p.Priority)
		if p.Mark != nil {
			fmt.Fprintf(text, "\tmark %#x/%#x\n", p.Mark.Value, p.Mark.Mask)
		}
		if p.Ifid != 0 {
			fmt.Fprintf(text, "\tif_id %#x\n", p.Ifid)
		}
		for _, tmpl := range p.Tmpls {
			fmt.Fprintf(text, "\ttmpl src %s dst %s\n\t\tproto %s reqid %d mode %s\n", tmpl.Src, tmpl.Dst, tmpl.Proto, tmpl.Reqid, tmpl.Mode)
		}
	}
}
