package alibaba

import (
	"github.com/plumbline-net/plumbline/simulator/cloud"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// leaveByIPv6 sends a packet to the Internet by an IPv6 gateway, which translates
// nothing: the address needs bandwidth there (What is an IPv6 gateway?).
func (x *crossing) leaveByIPv6(i *Interface, h NextHop) cloud.End {
	src := x.Packet.Src
	a := x.ipv6[src]
	if a == nil {
		if f := x.missing(describeIPv6, i.NetworkInterfaceId, "whether "+src.String()+" has bandwidth to the Internet"); f != nil {
			return drop(f)
		}
		f := verdict.NewFindingf(verdict.CloudNoPublicIP, where(i.NetworkInterfaceId), nil, "%s is no IPv6 address that %s knows", src, h.text())
		return drop(&f)
	}
	if f := a.fault(); f != nil {
		return drop(f)
	}
	x.Step("ipv6 gateway", "accept", a.Ipv6InternetBandwidth.Ipv6InternetBandwidthId)
	return x.leave(a.Ipv6GatewayId)
}

// fromInternetByIPv6 takes in a packet by an IPv6 gateway: none for an address with an
// egress-only rule, but answers.
func (x *crossing) fromInternetByIPv6(a *IPv6Address) cloud.End {
	if f := a.fault(); f != nil {
		return drop(f)
	}
	if r := x.egressOnly[a.Ipv6AddressId]; r != nil {
		f := verdict.NewFindingf(verdict.CloudNoPublicIP, where(a.Ipv6AddressId), []string{r.Ipv6EgressOnlyRuleId + " " + r.Status},
			"IPv6 address %s takes nothing from the Internet: egress-only rule %s", a.Ipv6Address, r.Ipv6EgressOnlyRuleId)
		f.Remedy = "Delete the egress-only rule if the address is to be reached."
		return drop(&f)
	}
	if f := x.missing(describeEgressOnly, a.Ipv6GatewayId, "whether "+a.Ipv6Address+" takes packets from the Internet"); f != nil && x.Doubt(*f) {
		return stopped(*f)
	}
	i := x.holder(a.VpcId, x.Packet.Dst)
	if i == nil {
		f := x.unread(describeInterfaces, a.Ipv6AddressId, "the interface that has "+a.Ipv6Address)
		return drop(f)
	}
	return x.byGatewayTable(i)
}

// fault says why an IPv6 address is not on the Internet.
func (a *IPv6Address) fault() *verdict.Finding {
	b, why := &a.Ipv6InternetBandwidth, ""
	switch {
	case b.Ipv6InternetBandwidthId == "":
		why = "it has no Internet bandwidth"
	case b.Bandwidth == 0:
		why = "its Internet bandwidth is 0"
	case b.BusinessStatus != "" && !same(b.BusinessStatus, "Normal"):
		why = "the business status of its Internet bandwidth is " + b.BusinessStatus
	default:
		return nil
	}
	f := verdict.NewFindingf(verdict.CloudNoPublicIP, where(a.Ipv6AddressId), []string{a.Ipv6AddressId + " " + a.Ipv6GatewayId},
		"IPv6 address %s is not on the Internet: %s", a.Ipv6Address, why)
	f.Remedy = "Enable Internet bandwidth for the IPv6 address."
	return &f
}
