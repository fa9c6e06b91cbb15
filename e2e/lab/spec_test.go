package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBadSpecsAreRefusedByName(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"an unknown key", "mtu: 1500", "mut: 1500", `error unmarshaling JSON: while decoding JSON: json: unknown field "mut"`},
		{"an unknown backend", "iptables: nft ", "iptables: ebtables ", `iptables: "ebtables" is neither nft nor legacy`},
		{"an MTU too small for the fault that shrinks it", "mtu: 1500", "mtu: 1280", "mtu: 1280 is not within 1500..65535"},
		{"a pod outside its node's prefix", "10.244.1.20", "10.244.9.20", "pod shop/api-0: 10.244.9.20 is not in 10.244.1.0/24"},
		{"an address used twice", "10.244.1.20", "10.244.1.10", "pod shop/api-0: 10.244.1.10 belongs to pod shop/web-0 already"},
		{"a pod on the bridge's address", "10.244.1.20", "10.244.1.1", "pod shop/api-0: 10.244.1.1 belongs to node node-1 pod gateway already"},
		{"only one family", `addresses: [10.244.1.20, "fd00:10:244:1::20"]`, "addresses: [10.244.1.20]", "pod shop/api-0: needs one IPv4 and one IPv6 address, got [10.244.1.20]"},
		{"a node that there is not", "node: node-2", "node: node-3", `pod shop/api-1: there is no node "node-3"`},
		{"a name that is a path", "name: db-0", "name: ../db-0", `pod shop/../db-0: "../db-0" is not a DNS label`},
		{"two names that meet in one namespace", "name: db-0", "name: api-0", "pod shop/api-0: its network namespace shop-api-0 is the one of pod shop/api-0"},
		{"overlapping pod prefixes", "podCIDRs: [10.244.2.0/24", "podCIDRs: [10.244.0.0/16", "node node-1: 10.244.1.0/24 overlaps the pods of node node-2"},
		{"a target port that no backend has", "targetPort: dns", "targetPort: domain", `service shop/api: pod shop/api-0 has no UDP port named "domain"`},
		{"an unknown protocol", "port: 5432, protocol: TCP}]", "port: 5432, protocol: DCCP}]", `pod shop/db-0: protocol "DCCP" is none of TCP, UDP, SCTP`},
		{"a role that nobody plays", "far: shop/api-1", "far: shop/api-9", `roles: there is no pod "shop/api-9"`},
		{"far pods that are near", "far: shop/api-1", "far: shop/api-0", "roles: far shop/api-0 must not be on the client's node node-1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(string(defaultYAML), c.old, c.new, 1)
			if text == string(defaultYAML) {
				t.Fatalf("the lab does not contain %q", c.old)
			}
			path := filepath.Join(t.TempDir(), "bad.yaml")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := LoadSpec(path)
			if want := path + ": " + c.want; err == nil || err.Error() != want {
				t.Errorf("got error %v, want %s", err, want)
			}
		})
	}
}
