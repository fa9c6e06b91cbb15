package collector

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/cloudflare/ipvs"
	"github.com/cloudflare/ipvs/netmask"
)

func TestIPVSIsWrittenAsIpvsadmDoes(t *testing.T) {
	destination := func(address string, port uint16, method ipvs.ForwardType, weight uint32) ipvs.DestinationExtended {
		return ipvs.DestinationExtended{Destination: ipvs.Destination{Address: address4(address), Port: port, FwdMethod: method, Weight: weight}}
	}
	for name, test := range map[string]struct {
		service      ipvs.Service
		destinations []ipvs.DestinationExtended
		want         string
	}{
		"a service with destinations, sorted": {
			ipvs.Service{Address: address4("10.96.0.1"), Port: 443, Protocol: ipvs.TCP, Family: ipvs.INET, Scheduler: "rr", Netmask: netmask.MaskFrom(32, 32)},
			[]ipvs.DestinationExtended{destination("10.0.0.2", 6443, ipvs.Masquerade, 1), destination("10.0.0.1", 6443, ipvs.Masquerade, 0)},
			"-A -t 10.96.0.1:443 -s rr\n-a -t 10.96.0.1:443 -r 10.0.0.1:6443 -m -w 0\n-a -t 10.96.0.1:443 -r 10.0.0.2:6443 -m -w 1\n",
		},
		"an IPv6 service that is persistent": {
			ipvs.Service{
				Address: address4("fd00::1"), Port: 53, Protocol: ipvs.UDP, Family: ipvs.INET6, Scheduler: "wlc", Timeout: 300,
				Flags: ipvs.ServicePersistent | ipvs.ServiceHashed | ipvs.ServiceOnePacket, Netmask: netmask.MaskFrom(64, 128),
			},
			[]ipvs.DestinationExtended{destination("fd00::2", 53, ipvs.DirectRoute, 3)},
			"-A -u [fd00::1]:53 -s wlc -p 300 -M 64 -o\n-a -u [fd00::1]:53 -r [fd00::2]:53 -g -w 3\n",
		},
		"persistence by network": {
			ipvs.Service{
				Address: address4("10.96.0.1"), Port: 80, Protocol: ipvs.SCTP, Family: ipvs.INET, Scheduler: "sh", Timeout: 60,
				Flags: ipvs.ServicePersistent | ipvs.ServiceSchedulerOpt1 | ipvs.ServiceSchedulerOpt2, Netmask: netmask.MaskFrom(24, 32),
			},
			nil,
			"-A --sctp-service 10.96.0.1:80 -s sh -p 60 -M 255.255.255.0 -b sh-fallback,sh-port\n",
		},
		"by mark": {
			ipvs.Service{FWMark: 7, Family: ipvs.INET6, Scheduler: "lc"},
			[]ipvs.DestinationExtended{{Destination: ipvs.Destination{
				Address: netip.MustParseAddr("fd00::2"), FwdMethod: ipvs.Tunnel, Weight: 1, UpperThreshold: 9, LowerThreshold: 4,
			}}, {Destination: ipvs.Destination{
				Address: netip.MustParseAddr("fd00::3"), FwdMethod: ipvs.Tunnel, Weight: 1, TunnelType: ipvs.GUE, TunnelPort: 6080,
			}}},
			"-A -f 7 -6 -s lc\n-a -f 7 -6 -r [fd00::2]:0 -i -w 1 -x 9 -y 4\n-a -f 7 -6 -r [fd00::3]:0 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			writeIPVS(&b, ipvs.ServiceExtended{Service: test.service}, test.destinations)
			if b.String() != test.want {
				t.Errorf("got\n%swant\n%s", b.String(), test.want)
			}
		})
	}
}
