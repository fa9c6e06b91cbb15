package lab

import (
	"context"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/internal/netlinklist"
)

// Settle waits until the kernel has done what it does later than it was told in a network namespace, for as long as patience
// at most.
func Settle(ctx context.Context, netns string, patience time.Duration) error {
	return InNetns(netns, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			what, err := unsettled(h)
			if err != nil || what == "" {
				return err
			}
			if ctx.Err() != nil || time.Now().After(deadline) {
				return fmt.Errorf("does not settle: %s", what)
			}
		}
	})
}

// unsettled names what the kernel still has to do in a namespace after its links were set, if anything: it notices
// carriers later than it is told, and what depends on them: the state of bridge ports, whether IPv6 addresses are usable
// and in the local table, by which port a bond sends.
func unsettled(h *netlink.Handle) (string, error) {
	links, err := netlinklist.Whole(h.LinkList)
	if err != nil {
		return "", err
	}
	carrier := map[int]bool{}
	for _, l := range links {
		a := l.Attrs()
		if carrier[a.Index] = a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_LOWER_UP != 0; carrier[a.Index] {
			if a.OperState != netlink.OperUp && a.OperState != netlink.OperUnknown {
				return fmt.Sprintf("%s is %s", a.Name, a.OperState), nil
			}
		} else if a.OperState == netlink.OperUp {
			return a.Name + " is up", nil
		}
	}
	for _, l := range links {
		if bond, ok := l.(*netlink.Bond); ok {
			if what := unsettledBond(bond, links, carrier); what != "" {
				return what, nil
			}
		}
	}
	// In the table of whatever VRF it is: RT_TABLE_UNSPEC stands for all.
	local, err := netlinklist.Whole(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(unix.AF_INET6, &netlink.Route{Table: unix.RT_TABLE_UNSPEC, Type: unix.RTN_LOCAL}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
	})
	if err != nil {
		return "", err
	}
	owned := map[string]bool{}
	for _, r := range local {
		if r.Dst != nil && r.Type == unix.RTN_LOCAL {
			owned[r.Dst.IP.String()] = true
		}
	}
	addrs, err := netlinklist.Whole(func() ([]netlink.Addr, error) { return h.AddrList(nil, unix.AF_INET6) })
	if err != nil {
		return "", err
	}
	for _, a := range addrs {
		if a.Flags&unix.IFA_F_DADFAILED != 0 {
			continue // and so it stays
		}
		if carrier[a.LinkIndex] && (a.Flags&unix.IFA_F_TENTATIVE != 0 || !owned[a.IP.String()]) {
			return a.IP.String() + " is not usable", nil
		}
	}
	return "", nil
}

// unsettledBond looks at its ports: it has noticed their carriers (0 is BOND_LINK_UP), and sends by one that has one.
func unsettledBond(bond *netlink.Bond, links []netlink.Link, carrier map[int]bool) string {
	own := bond.Attrs()
	if own.RawFlags&unix.IFF_UP == 0 {
		return ""
	}
	any := false
	for _, l := range links {
		a := l.Attrs()
		if a.MasterIndex != own.Index {
			continue
		}
		any = any || carrier[a.Index]
		if port, ok := a.Slave.(*netlink.BondSlave); ok && (port.MiiStatus == 0) != carrier[a.Index] {
			return "port " + a.Name + " of " + own.Name
		}
	}
	if any != carrier[own.Index] {
		return own.Name
	}
	return ""
}
