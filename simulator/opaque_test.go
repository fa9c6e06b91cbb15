package simulator

import (
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// FuzzPolicies looks for text of `ip xfrm policy` that makes its reader panic, or of which an error does not say where it is.
func FuzzPolicies(f *testing.F) {
	f.Add([]byte("src 10.0.0.0/8 dst 10.0.0.0/8 proto tcp sport 1 dport 2 dev eth0\n\tdir out action block priority 7 index 9 ptype main\n\ttmpl src 1.1.1.1 dst 2.2.2.2\n\t\tproto esp reqid 0 mode tunnel\n"))
	f.Add([]byte("src ::/0 dst fd00::/8\n\tsocket in priority 0\n"))
	f.Add([]byte("\tdir out\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := policies(netstack.Text{File: "xfrm.txt", Data: data}); err != nil && !strings.HasPrefix(err.Error(), "xfrm.txt:") {
			t.Errorf("%v names no line", err)
		}
	})
}

// FuzzPrograms does so for the JSON of `bpftool net` and what is written in its form.
func FuzzPrograms(f *testing.F) {
	f.Add([]byte(`[{"cgroup":[{"attach_type":"cgroup_inet4_connect","prog_id":7}],"netfilter":[{"pf":2,"hook":2,"prio":-128,"prog_id":9}],"sk_lookup":[{"prog_id":3}]}]`))
	f.Add([]byte(`[{"netfilter":[{"pf":10,"hook":5,"prog_id":9}]}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := programs(netstack.Text{File: "bpf.json", Data: data}); err != nil && !strings.HasPrefix(err.Error(), "bpf.json:") {
			t.Errorf("%v names no file", err)
		}
	})
}
