package judge

import (
	"context"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// settle waits until the kernel has done what it does later than it was told: links that have a carrier are up, and IPv6
// addresses are usable and in the local table.
func (b *built) settle(ctx context.Context, ns string, _ []*Element) error {
	return b.within(ns, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		deadline := time.Now().Add(10 * time.Second)
		for {
			what, err := unsettled(h)
			if err != nil || what == "" {
				return err
			}
			if ctx.Err() != nil || time.Now().After(deadline) {
				return fmt.Errorf("does not settle: %s", what)
			}
			time.Sleep(time.Millisecond)
		}
	})
}

// unsettled names what is still to come, if anything.
func unsettled(h *netlink.Handle) (string, error) {
	links, err := h.LinkList()
	if err != nil {
		return "", err
	}
	carrier := map[int]bool{}
	for _, l := range links {
		a := l.Attrs()
		if a.RawFlags&unix.IFF_UP == 0 || a.RawFlags&unix.IFF_LOWER_UP == 0 {
			continue
		}
		carrier[a.Index] = true
		if a.OperState != netlink.OperUp && a.OperState != netlink.OperUnknown {
			return fmt.Sprintf("%s is %s", a.Name, a.OperState), nil
		}
	}
	local, err := h.RouteListFiltered(unix.AF_INET6, &netlink.Route{Table: unix.RT_TABLE_LOCAL}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return "", err
	}
	owned := map[string]bool{}
	for _, r := range local {
		if r.Dst != nil && r.Type == unix.RTN_LOCAL {
			owned[r.Dst.IP.String()] = true
		}
	}
	addrs, err := h.AddrList(nil, unix.AF_INET6)
	if err != nil {
		return "", err
	}
	for _, a := range addrs {
		if carrier[a.LinkIndex] && (a.Flags&unix.IFA_F_TENTATIVE != 0 || !owned[a.IP.String()]) {
			return a.IP.String() + " is not usable", nil
		}
	}
	return "", nil
}
