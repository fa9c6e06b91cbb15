package alibaba

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/cloud"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// small is a cloud of one VPC with two vSwitches: a and c are in vsw-1, b in vsw-2.
// Its groups accept everything.
func small() *Facts {
	group := SecurityGroupAttribute{SecurityGroupId: "sg-a", InnerAccessPolicy: "Accept"}
	for _, d := range []string{"ingress", "egress"} {
		for _, any := range []string{"0.0.0.0/0", "::/0"} {
			p := Permission{Direction: d, Policy: "Accept", Priority: 1, IpProtocol: "ALL", PortRange: "-1/-1"}
			switch {
			case d == "ingress" && any == "::/0":
				p.Ipv6SourceCidrIp = any
			case d == "ingress":
				p.SourceCidrIp = any
			case any == "::/0":
				p.Ipv6DestCidrIp = any
			default:
				p.DestCidrIp = any
			}
			group.Permissions.Permission = append(group.Permissions.Permission, p)
		}
	}
	a, b, c := eni("eni-a", "sg-a", "10.0.0.1", "fd00::1", "10.0.0.11"), eni("eni-b", "sg-a", "10.0.1.2", "fd00::2"), eni("eni-c", "sg-a", "10.0.0.3")
	a.InstanceId, b.InstanceId, c.InstanceId = "i-a", "i-b", "i-c"
	b.VSwitchId = "vsw-2"
	d := eni("eni-d", "sg-a", "10.0.1.4")
	d.Type, d.InstanceId, d.VSwitchId = "Secondary", "i-b", "vsw-2"
	f := &Facts{
		Interfaces: []NetworkInterface{a, b, c, d},
		Groups:     []SecurityGroup{{SecurityGroupId: "sg-a", SecurityGroupType: "normal"}},
		GroupRules: []SecurityGroupAttribute{group},
		VPCs:       []VPC{{VpcId: "vpc-1", CidrBlock: "10.0.0.0/8"}},
		VSwitches: []VSwitch{
			{VSwitchId: "vsw-1", VpcId: "vpc-1", CidrBlock: "10.0.0.0/24"},
			{VSwitchId: "vsw-2", VpcId: "vpc-1", CidrBlock: "10.0.1.0/24"},
		},
		RouteTables: []RouteTable{{RouteTableId: "vtb-1", RouteTableType: "System", AssociateType: "VSwitch", VpcId: "vpc-1"}},
	}
	for _, id := range []string{"i-a", "i-b", "i-c"} {
		f.Instances = append(f.Instances, Instance{InstanceId: id, Status: "Running"})
	}
	return readAll(f)
}

const system = "10.0.0.0/24 System local; 10.0.1.0/24 System local; fd00::/64 System local; 100.64.0.0/10 System service; "

// routes reads entries: "DESTINATION TYPE[/STATUS] HOP[:ID][*WEIGHT][!off][,HOP…]".
func routes(t *testing.T, table, text string) []RouteEntry {
	t.Helper()
	var list []RouteEntry
	for part := range strings.SplitSeq(text, ";") {
		f := strings.Fields(part)
		if len(f) == 0 {
			continue
		}
		e := RouteEntry{RouteEntryId: fmt.Sprintf("rte-%d", len(list)+1), RouteTableId: table, DestinationCidrBlock: f[0]}
		var given bool
		if e.Type, e.Status, given = strings.Cut(f[1], "/"); !given {
			e.Status = "Available"
		}
		if len(f) > 2 {
			for hop := range strings.SplitSeq(f[2], ",") {
				var h NextHop
				hop, off := strings.CutSuffix(hop, "!off")
				hop, weight, weighed := strings.Cut(hop, "*")
				h.NextHopType, h.NextHopId, _ = strings.Cut(hop, ":")
				if strings.Contains(f[2], ",") || off {
					enabled := number(1)
					if off {
						enabled = 0
					}
					h.Enabled = &enabled
				}
				if weighed {
					n, err := strconv.Atoi(weight)
					if err != nil {
						t.Fatal(err)
					}
					h.Weight = number(n)
				}
				e.NextHops.NextHop = append(e.NextHops.NextHop, h)
			}
		}
		list = append(list, e)
	}
	return list
}

// carried is what became of a packet, and what was said of it on the way.
type carried struct {
	cloud.End
	packet  string
	steps   []string
	notes   []verdict.Finding
	doubts  []string
	choices [][]float64
}

// text is the end in short: where it was delivered, or the code.
func (c *carried) text() string {
	switch c.Kind {
	case cloud.Delivered:
		return "to " + c.To.ID + " " + c.packet
	case cloud.Left:
		return "left by " + c.Via + " " + c.packet
	case cloud.Undecided:
		return "unknown " + string(c.Finding.Code) + ": " + c.Finding.Message
	}
	return string(c.Finding.Code) + ": " + c.Finding.Message
}

// journey is what packets of one connection share.
type journey struct {
	c        *Cloud
	sessions cloud.Sessions
	take     int  // which way, where there are several
	doubtful bool // what is in doubt, stops the packet
	length   int
	df       bool
}

// carry takes a packet from an interface, or from the Internet.
func (j *journey) carry(t *testing.T, from, text string, reply bool) *carried {
	t.Helper()
	p := packetOf(t, text)
	p.Length, p.DF = j.length, j.df
	out := &carried{}
	x := &cloud.Crossing{
		Packet: p, Reply: reply, Sessions: &j.sessions,
		Choose:     func(_ string, w []float64) int { out.choices = append(out.choices, w); return min(j.take, len(w)-1) },
		Doubt:      func(f verdict.Finding) bool { out.doubts = append(out.doubts, f.Message); return j.doubtful },
		Step:       func(stage, action, rule string) { out.steps = append(out.steps, stage+": "+action+" ("+rule+")") },
		Note:       func(f verdict.Finding) { out.notes = append(out.notes, f) },
		Translated: func(string, string, string, string, string) {},
	}
	if from != "internet" {
		x.From = j.c.interfaces[from].plain()
	}
	out.End = j.c.Carry(x)
	out.packet = fmt.Sprintf("%s -> %s", endpoint(p.Src, p.SrcPort), endpoint(p.Dst, p.DstPort))
	return out
}

// noted says whether something of a code was noted.
func (c *carried) noted(code verdict.Code) bool {
	return slices.ContainsFunc(c.notes, func(f verdict.Finding) bool { return f.Code == code })
}
