package ipvs

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

func TestSchedulersChooseAmongDestinationsWithAWeight(t *testing.T) {
	for name, test := range map[string]struct {
		scheduler string
		fallback  bool
		weights   []int
		want      []string // last part of the address, or "none"
		shares    []float64
	}{
		"rr ignores how large weights are":           {"rr", false, []int{1, 3, 0}, []string{"1", "2"}, []float64{0.5, 0.5}},
		"wrr weighs":                                 {"wrr", false, []int{1, 3, 0}, []string{"1", "2"}, []float64{0.25, 0.75}},
		"all quiesced":                               {"rr", false, []int{0, 0}, []string{"none"}, []float64{1}},
		"no destination":                             {"rr", false, nil, []string{"none"}, []float64{1}},
		"lc goes by load":                            {"lc", false, []int{1, 2, 0}, []string{"1", "2"}, nil},
		"lc with one":                                {"lc", false, []int{0, 2, 0}, []string{"2"}, []float64{1}},
		"fo takes the greatest":                      {"fo", false, []int{1, 3, 2}, []string{"2"}, []float64{1}},
		"fo takes the first of the greatest":         {"fo", false, []int{3, 1, 3}, []string{"1", "3"}, nil},
		"ovf overflows":                              {"ovf", false, []int{1, 3, 0}, []string{"1", "2"}, nil},
		"sh refuses clients of quiesced ones":        {"sh", false, []int{1, 0}, []string{"1", "none"}, nil},
		"sh finds another one if told so":            {"sh", true, []int{1, 0}, []string{"1"}, []float64{1}},
		"dh refuses, too":                            {"dh", false, []int{1, 0}, []string{"1", "none"}, nil},
		"mh leaves quiesced ones out of its buckets": {"mh", false, []int{1, 0, 4}, []string{"1", "3"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := Service{Scheduler: test.scheduler, Fallback: test.fallback}
			for i, w := range test.weights {
				s.Destinations = append(s.Destinations, Destination{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 80), Weight: w})
			}
			choice := s.Schedule()
			var got []string
			for _, d := range choice.Destinations {
				if d == nil {
					got = append(got, "none")
					continue
				}
				got = append(got, fmt.Sprint(d.Addr.Addr().As4()[3]))
			}
			if !slices.Equal(got, test.want) || !slices.Equal(choice.Weights, test.shares) {
				t.Errorf("got %v %v, want %v %v", got, choice.Weights, test.want, test.shares)
			}
		})
	}
}

func TestConnectionsAreFoundFromBothSides(t *testing.T) {
	ap := netip.MustParseAddrPort
	request := netstack.Packet{Protocol: netstack.ProtoTCP, Src: ap("10.1.0.1:0").Addr(), SrcPort: 4000, Dst: ap("10.96.0.1:0").Addr(), DstPort: 80}
	d := &Destination{Addr: ap("10.0.0.1:8080")}
	var table Table
	c := table.Connect(&request, &Service{OnePacket: true}, d, true)
	answer := netstack.Packet{Protocol: netstack.ProtoTCP, Src: d.Addr.Addr(), SrcPort: 8080, Dst: request.Src, DstPort: 4000}
	sent := netstack.Packet{Protocol: netstack.ProtoTCP, Src: request.Src, SrcPort: 4000, Dst: d.Addr.Addr(), DstPort: 8080}
	if table.In(&request) != c || table.Out(&answer) != c || table.Sent(&sent) != c {
		t.Error("the connection is not found")
	}
	if table.In(&answer) != nil || table.Out(&request) != nil {
		t.Error("it is found the wrong way round")
	}
	udp := request
	udp.Protocol = netstack.ProtoUDP
	table.Connect(&udp, &Service{OnePacket: true}, d, true)
	if table.In(&udp) != nil {
		t.Error("a service for single packets keeps connections")
	}
}
