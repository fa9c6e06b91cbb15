package alibaba

import (
	"fmt"
	"strings"
	"testing"
)

// TestKnownBugsOfOthers has what diagnosers of this cloud get wrong.
func TestKnownBugsOfOthers(t *testing.T) {
	const internet = "tcp 203.0.113.9 47.0.1.1:80"
	// apart puts b into a group that a is not in, with these rules.
	apart := func(t *testing.T, rules ...string) *Facts {
		f := small()
		f.RouteEntries = routes(t, "vtb-1", system)
		f.Groups = append(f.Groups, SecurityGroup{SecurityGroupId: "sg-b", SecurityGroupType: "normal"})
		g := SecurityGroupAttribute{SecurityGroupId: "sg-b", InnerAccessPolicy: "Accept"}
		for _, r := range rules {
			g.Permissions.Permission = append(g.Permissions.Permission, permissionOf(t, r))
		}
		f.GroupRules = append(f.GroupRules, g)
		f.Interfaces[1].SecurityGroupIds.SecurityGroupId = []string{"sg-b"}
		return f
	}
	for _, c := range []struct {
		bug    string
		facts  func(t *testing.T) *Facts
		from   string
		packet string
		want   string
	}{
		{"no route entry at all", func(t *testing.T) *Facts {
			f := small()
			f.RouteEntries = nil
			return f
		}, "eni-a", "tcp 10.0.0.1 172.20.1.5:80", "CloudNoRouteEntry: no route entry for destination ip 172.20.1.5"},
		{"a route entry without a next hop", func(t *testing.T) *Facts {
			f := small()
			f.RouteEntries = routes(t, "vtb-1", system+"172.20.1.0/24 Custom")
			return f
		}, "eni-a", "tcp 10.0.0.1 172.20.1.5:80", "CloudNoNextHop: no next hop for destination ip 172.20.1.5"},
		{"the status of a UDP listener", func(t *testing.T) *Facts {
			f := loadBalancers(t)
			f.Listeners[1].Status = "stopped"
			return f
		}, "internet", "udp 203.0.113.9 47.0.1.1:53", `SLBListenerNotRunning: status of loadbalancer for lb-1 port 53/udp not "running"`},
		{"groups that do not intersect, and allow", func(t *testing.T) *Facts {
			return apart(t, "ingress Accept 1 TCP 80/80 10.0.0.0/24")
		}, "eni-a", "tcp 10.0.0.1 10.0.1.2:80", "to eni-b"},
		{"groups that do not intersect, and do not", func(t *testing.T) *Facts {
			return apart(t, "ingress Accept 1 TCP 81/81 10.0.0.0/24")
		}, "eni-a", "tcp 10.0.0.1 10.0.1.2:80", "SecurityGroupDeny: security group sg-b not allow packet tcp 10.0.0.1:45678 > 10.0.1.2:80"},
		{"a rule for a group", func(t *testing.T) *Facts {
			return apart(t, "ingress Accept 1 TCP 80/80 sg-a")
		}, "eni-a", "tcp 10.0.0.1 10.0.1.2:80", "to eni-b"},
		{"a rule for a group that the sender is not in", func(t *testing.T) *Facts {
			return apart(t, "ingress Accept 1 TCP 80/80 sg-c")
		}, "eni-a", "tcp 10.0.0.1 10.0.1.2:80", "SecurityGroupDeny"},
		{"services of the cloud, which no route may replace", func(t *testing.T) *Facts {
			f := small()
			f.RouteEntries = routes(t, "vtb-1", system+"100.100.0.0/16 Custom Instance:i-b")
			return f
		}, "eni-a", "udp 10.0.0.1 100.100.2.136:53", "left by service"},
		{"the load balancer's own addresses, which need no rule", func(t *testing.T) *Facts {
			f := loadBalancers(t)
			f.GroupRules[0].Permissions.Permission = nil
			return f
		}, "internet", "tcp 203.0.113.9 47.0.1.1:8080", "to eni-b 100.64.0.1:45678 -> 10.0.1.2:30080"},
		{"a backend has a health status for each listener", func(t *testing.T) *Facts {
			f := loadBalancers(t)
			sick(f, "i-b", 53, "abnormal")
			return f
		}, "internet", internet, "to eni-b"},
		{"a backend that is well for another listener", func(t *testing.T) *Facts {
			f := loadBalancers(t)
			sick(f, "i-b", 80, "abnormal")
			sick(f, "eni-d", 80, "abnormal")
			return f
		}, "internet", internet, "SLBBackendUnhealthy: backend i-b health status for port 80/tcp"},
		{"more than ten backends, of which the twelfth alone is well", func(t *testing.T) *Facts {
			f := loadBalancers(t)
			g, h := &f.ServerGroups[0].BackendServers, &f.Health[0].BackendServers
			g.BackendServer, h.BackendServer = nil, nil
			for n := range 12 {
				id, status := fmt.Sprintf("m%d", n), "abnormal"
				if n == 11 {
					status = "normal"
				}
				f.Interfaces = append(f.Interfaces, eni(id, "sg-a", fmt.Sprintf("10.0.0.%d", 100+n)))
				g.BackendServer = append(g.BackendServer, BackendServer{ServerId: "i-" + id, Port: 80, Weight: 50})
				h.BackendServer = append(h.BackendServer, struct {
					ServerId, ServerIp string
					Protocol           string
					ListenerPort, Port number
					ServerHealthStatus string
				}{"i-" + id, "", "tcp", 80, 80, status})
			}
			return f
		}, "internet", internet, "to m11 "},
		{"equal priorities: what drops comes first, wherever it stands", func(t *testing.T) *Facts {
			return apart(t, "ingress Accept 1 TCP 80/80 10.0.0.0/24", "ingress Drop 1 TCP 80/80 10.0.0.1")
		}, "eni-a", "tcp 10.0.0.1 10.0.1.2:80", "SecurityGroupDeny"},
		{"a higher priority comes before what drops", func(t *testing.T) *Facts {
			return apart(t, "ingress Drop 2 TCP 80/80 10.0.0.1", "ingress Accept 1 TCP 80/80 10.0.0.0/24")
		}, "eni-a", "tcp 10.0.0.1 10.0.1.2:80", "to eni-b"},
	} {
		t.Run(c.bug, func(t *testing.T) {
			if got := (&journey{c: Compile(c.facts(t))}).carry(t, c.from, c.packet, false); !strings.HasPrefix(got.text(), c.want) || len(got.doubts) > 0 {
				t.Errorf("%s, in doubt %q, want %s", got.text(), got.doubts, c.want)
			}
		})
	}
}
