package netfilter

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// printedNFT prints a rule set, and checks that what is printed is printed as the
// same.
func printedNFT(t *testing.T, data []byte) []byte {
	t.Helper()
	first, err := PrintNFT(netstack.Text{File: "f", Data: data})
	if err != nil {
		t.Fatalf("PrintNFT: %v", err)
	}
	second, err := PrintNFT(netstack.Text{File: "f", Data: first})
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("printed again (%v):\n%s\nat first:\n%s", err, second, first)
	}
	return first
}

var handle = regexp.MustCompile(` # handle \d+`)

func TestPrintedNFTIsReadAsTheOriginal(t *testing.T) {
	statements, err := os.ReadFile("testdata/every-statement.nft.json")
	if err != nil {
		t.Fatal(err)
	}
	// nft 1.0.6 prints the gateway of an ICMP redirect as a number.
	gateway := []byte(`{"nftables": [{"table": {"family": "ip", "name": "t"}}, {"chain": {"family": "ip", "table": "t", "name": "c"}},
{"rule": {"family": "ip", "table": "t", "chain": "c", "handle": 4, "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "icmp", "field": "gateway"}}, "right": 5}}]}}]}`)
	for _, data := range [][]byte{statements, services(20).NFTablesJSON(), gateway, []byte(`{"nftables":[]}`)} {
		want, _, err := readNFT(data, true)
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			want[i] = handle.ReplaceAllString(want[i], "")
		}
		if got, _, err := readNFT(printedNFT(t, data), true); err != nil || !slices.Equal(got, want) {
			t.Errorf("read otherwise once printed (%v):\n%s", err, cmp.Diff(want, got))
		}
	}
	if got := printedNFT(t, nil); string(got) != "{\"nftables\": [\n]}\n" {
		t.Errorf("no rule set is printed as %s", got)
	}
	got := string(printedNFT(t, []byte(`{"nftables": [{"table": {"family": "inet", "name": "t", "handle": 1}}, {"rule": {"handle": 9, "family": "inet", "table": "t", "chain": "c", "expr": [{"counter": {"packets": 1, "bytes": 2}}, {"goto": {"target": "d"}}], "comment": "<\"é\">"}},
{"map": {"family": "inet", "table": "t", "name": "m", "handle": 3, "type": "inet_service", "map": "verdict", "elem": [[80, {"jump": {"target": "d"}}]]}},
{"chain": {"family": "inet", "table": "t", "name": "c", "handle": 1, "type": "filter", "hook": "ingress", "prio": 0, "policy": "accept", "dev": ["eth0"]}},
{"chain": {"family": "inet", "table": "t", "name": "d", "handle": 2}}]}`)))
	const want = `{"nftables": [
{"table": {"family": "inet", "name": "t"}},
{"chain": {"family": "inet", "table": "t", "name": "c", "type": "filter", "hook": "ingress", "prio": 0, "policy": "accept", "dev": "eth0"}},
{"chain": {"family": "inet", "table": "t", "name": "d"}},
{"map": {"family": "inet", "table": "t", "name": "m", "type": "inet_service", "map": "verdict", "elem": [[80, {"jump": {"target": "d"}}]]}},
{"rule": {"family": "inet", "table": "t", "chain": "c", "expr": [{"counter": {"packets": 1, "bytes": 2}}, {"goto": {"target": "d"}}], "comment": "<\"é\">"}}
]}
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if out, err := PrintNFT(netstack.Text{File: "f", Data: []byte(`{"nftables": [{"table": {}}]}`)}); err == nil {
		t.Errorf("printed without an error: %s", out)
	}
}
