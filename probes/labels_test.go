package probes

import "testing"

func TestReasonLabels(t *testing.T) {
	names := reasonNames{2: "SKB_DROP_REASON_NOT_SPECIFIED", 1: "SKB_CONSUMED"}
	for _, c := range []struct {
		name   string
		reason uint32
		want   string
	}{
		{"a reason of the core loses its prefix", 2, "NOT_SPECIFIED"},
		{"a name without the prefix is kept", 1, "SKB_CONSUMED"},
		{"a number that the core does not name is shown", 200, "SUBSYS_0_200"},
		{"a reason of a subsystem is shown by both numbers", 2<<16 | 5, "SUBSYS_2_5"},
		{"all bits set", 1<<32 - 1, "SUBSYS_65535_65535"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := names.name(c.reason); got != c.want {
				t.Errorf("name(%d) = %q, want %q", c.reason, got, c.want)
			}
		})
	}
}

func TestProtocolLabelsAreAClosedSet(t *testing.T) {
	want := map[uint8]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
	for n := range 256 {
		expect := want[uint8(n)]
		if expect == "" {
			expect = "other"
		}
		if got := protocolName(uint8(n)); got != expect {
			t.Errorf("protocolName(%d) = %q, want %q", n, got, expect)
		}
	}
}
