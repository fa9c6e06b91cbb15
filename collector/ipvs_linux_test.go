package collector

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cloudflare/ipvs"
	"github.com/cloudflare/ipvs/netmask"

	"github.com/plumbline-net/plumbline/internal/netlinklist"
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

func TestServicesOfIPVSAreListedUntilTwoListsAgree(t *testing.T) {
	service := func(mark uint32, packets uint64) ipvs.ServiceExtended {
		return ipvs.ServiceExtended{Service: ipvs.Service{FWMark: mark}, Stats64: ipvs.Stats{IncomingPackets: packets}}
	}
	failed := errors.New("no")
	both := []ipvs.ServiceExtended{service(1, 7), service(2, 0)}
	for name, test := range map[string]struct {
		lists [][]ipvs.ServiceExtended // the last one again and again; nil is an empty one
		err   error
		want  []uint32
		calls int
	}{
		"at once, but for what was counted": {lists: [][]ipvs.ServiceExtended{{service(1, 1), service(2, 2)}, both}, want: []uint32{1, 2}, calls: 2},
		"one was missed":                    {lists: [][]ipvs.ServiceExtended{{service(2, 0)}, both}, want: []uint32{1, 2}, calls: 3},
		"one was listed twice":              {lists: [][]ipvs.ServiceExtended{{service(1, 1), service(1, 1), service(2, 0)}, both}, want: []uint32{1, 2}, calls: 2},
		"none":                              {lists: [][]ipvs.ServiceExtended{nil}, calls: 2},
		"none any more":                     {lists: [][]ipvs.ServiceExtended{both, nil}, calls: 3},
		"an error is final":                 {err: failed, calls: 1},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			got, err := ipvsServices(func() ([]ipvs.ServiceExtended, error) {
				calls++
				if test.err != nil {
					return nil, test.err
				}
				list := slices.Clone(test.lists[min(calls, len(test.lists))-1])
				if list == nil {
					return nil, os.ErrNotExist
				}
				return list, nil
			})
			var marks []uint32
			for _, s := range got {
				marks = append(marks, s.FWMark)
			}
			if !errors.Is(err, test.err) || calls != test.calls || !slices.Equal(marks, test.want) {
				t.Errorf("got %v, %v after %d lists, want %v, %v after %d", marks, err, calls, test.want, test.err, test.calls)
			}
		})
	}
	var mark uint32
	if got, err := ipvsServices(func() ([]ipvs.ServiceExtended, error) {
		mark++
		return []ipvs.ServiceExtended{service(mark, 0)}, nil
	}); !errors.Is(err, netlinklist.ErrInterrupted) || got != nil || mark != netlinklist.Attempts {
		t.Errorf("got %v, %v after %d lists that all differ", got, err, mark)
	}
}
