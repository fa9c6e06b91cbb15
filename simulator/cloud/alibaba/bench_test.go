package alibaba

import (
	"fmt"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/cloud"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// large is a cloud of 5,000 instances in 200 security groups of 100 rules, with 50 load
// balancers of 100 backends.
func large(b *testing.B) *Facts {
	f := small()
	f.LoadBalancers, f.Instances, f.Interfaces, f.Groups, f.GroupRules = nil, nil, nil, nil, nil
	for n := range 200 {
		id := fmt.Sprintf("sg-%d", n)
		f.Groups = append(f.Groups, SecurityGroup{SecurityGroupId: id, SecurityGroupType: "normal"})
		g := SecurityGroupAttribute{SecurityGroupId: id, InnerAccessPolicy: "Accept"}
		for k := range 100 {
			g.Permissions.Permission = append(g.Permissions.Permission, Permission{
				Direction: "ingress", Policy: "Accept", Priority: number(1 + k), IpProtocol: "TCP", PortRange: fmt.Sprintf("%d/%d", 1000+k, 1000+k), SourceCidrIp: "10.0.0.0/8",
			})
		}
		f.GroupRules = append(f.GroupRules, g)
	}
	for n := range 5000 {
		i := eni(fmt.Sprintf("e%d", n), fmt.Sprintf("sg-%d", n%200), fmt.Sprintf("10.0.%d.%d", n/250, 1+n%250))
		f.Interfaces = append(f.Interfaces, i)
		f.Instances = append(f.Instances, Instance{InstanceId: i.InstanceId, Status: "Running"})
	}
	for n := range 50 {
		lb := LoadBalancer{LoadBalancerId: fmt.Sprintf("lb-%d", n), LoadBalancerStatus: "active", Address: fmt.Sprintf("47.0.0.%d", n), VpcId: "vpc-1"}
		g, h := VServerGroup{VServerGroupId: fmt.Sprintf("rsp-%d", n)}, HealthStatus{LoadBalancerId: lb.LoadBalancerId}
		for k := range 100 {
			s := BackendServer{ServerId: fmt.Sprintf("i-e%d", 100*n+k), Port: 1050, Weight: 100}
			g.BackendServers.BackendServer = append(g.BackendServers.BackendServer, s)
			h.BackendServers.BackendServer = append(h.BackendServers.BackendServer, struct {
				ServerId, ServerIp string
				Protocol           string
				ListenerPort, Port number
				ServerHealthStatus string
			}{s.ServerId, "", "tcp", 80, 1050, "normal"})
		}
		f.LoadBalancers, f.ServerGroups, f.Health = append(f.LoadBalancers, lb), append(f.ServerGroups, g), append(f.Health, h)
		f.Listeners = append(f.Listeners, Listener{LoadBalancerId: lb.LoadBalancerId, ListenerPort: 80, ListenerProtocol: "tcp", Status: "running", VServerGroupId: g.VServerGroupId})
	}
	f.RouteEntries = []RouteEntry{{RouteTableId: "vtb-1", DestinationCidrBlock: "10.0.0.0/8", Type: "System"}}
	f.RouteEntries[0].NextHops.NextHop = []NextHop{{NextHopType: "local"}}
	return f
}

func BenchmarkLarge(b *testing.B) {
	f := large(b)
	files, err := Files(f)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			into := new(Facts)
			for name, data := range files {
				if err := Decode(name, data, into); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("compile", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Compile(f)
		}
	})
	c := Compile(f)
	var s cloud.Sessions
	for name, x := range map[string]*cloud.Crossing{
		"between": {From: c.interfaces["e7"].plain(), Packet: &netstack.Packet{Src: addrOf("10.0.0.8"), Dst: addrOf("10.0.9.9"), DstPort: 1099, SrcPort: 45678, Protocol: netstack.ProtoTCP}},
		"balance": {Packet: &netstack.Packet{Src: addrOf("203.0.113.9"), Dst: addrOf("47.0.0.7"), DstPort: 80, SrcPort: 45678, Protocol: netstack.ProtoTCP}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Reset()
				p := *x.Packet
				y := &cloud.Crossing{
					From: x.From, Packet: &p, Sessions: &s,
					Choose: func(string, []float64) int { return 3 }, Doubt: func(verdict.Finding) bool { return false },
					Step: func(string, string, string) {}, Note: func(verdict.Finding) {}, Translated: func(string, string, string, string, string) {},
				}
				if e := c.Carry(y); e.Kind != cloud.Delivered {
					b.Fatal(e.Finding.Message)
				}
			}
		})
	}
}
