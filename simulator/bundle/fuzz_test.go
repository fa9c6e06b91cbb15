package bundle

import (
	"bytes"
	"path"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// fuzzFile looks for text of one file that makes its reader panic, or that is
// read, written and then read as something else.
func fuzzFile(f *testing.F, file string, more ...string) {
	files, err := encodeSnapshot(everything())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(files[path.Join(netnsDir, "node-1", file)])
	for _, seed := range more {
		f.Add([]byte(seed))
	}
	var format format
	for _, candidate := range formats() {
		if candidate.file == file {
			format = candidate
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		first := new(netstack.Namespace)
		if err := format.read(&source{file: file, data: data}, first); err != nil {
			return
		}
		written, err := format.write(first)
		if err != nil {
			return // what no tool prints is not written
		}
		second := new(netstack.Namespace)
		if err := format.read(&source{file: file, data: written}, second); err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, written)
		}
		if diff := cmp.Diff(first, second, values()); diff != "" {
			t.Errorf("read again (-first +second):\n%s\nwritten:\n%s", diff, written)
		}
	})
}

func FuzzLinks(f *testing.F) {
	fuzzFile(f, "ip-link.json", `[{},{"ifindex":1,"ifname":"a","promiscuity":0,"link":"if7","flags":["UP","NO-CARRIER","8000000"]}]`)
}

func FuzzAddresses(f *testing.F) { fuzzFile(f, "ip-addr.json") }

func FuzzRoutes4(f *testing.F) {
	fuzzFile(f, "ip-route.json", `[{"dst":"10.79.0.0/16","encap":"ip","id":5,"src":"0.0.0.0","dst":"1.2.3.4","ttl":0,"tos":0,"tos":"0x10","dev":"v1","scope":"253","flags":[]}]`)
}

func FuzzRoutes6(f *testing.F)    { fuzzFile(f, "ip6-route.json") }
func FuzzNextHops(f *testing.F)   { fuzzFile(f, "ip-nexthop.json") }
func FuzzRules4(f *testing.F)     { fuzzFile(f, "ip-rule.json") }
func FuzzRules6(f *testing.F)     { fuzzFile(f, "ip6-rule.json") }
func FuzzAddrLabels(f *testing.F) { fuzzFile(f, "ip-addrlabel.json") }
func FuzzNeighbours(f *testing.F) { fuzzFile(f, "ip-neigh.json") }
func FuzzFDB(f *testing.F)        { fuzzFile(f, "bridge-fdb.json") }
func FuzzBridgeVLAN(f *testing.F) { fuzzFile(f, "bridge-vlan.json") }
func FuzzSysctls(f *testing.F)    { fuzzFile(f, "sysctl.txt") }
func FuzzSockets(f *testing.F) {
	fuzzFile(f, "sockets.txt", "tcp LISTEN 0 7 [fe80::1]%eth0:80 *:* users:((\"a b\",pid=1,fd=2),(\"c\",pid=3,fd=4)) ino:5 sk:1 v6only:1 <->\nnl UNCONN 0 0 rtnl:kernel *\n",
		"udp UNCONN 0 0 0.0.0.0:85 0.0.0.0:* ino:9 sk:2 cgroup:unreachable:1 <-> inet-sockopt: ( recverr mc_loop transparent mc_all)\ntcp LISTEN 0 1 *:84 *:* <-> inet-sockopt: ()\n")
}

func FuzzResolvConf(f *testing.F) { fuzzFile(f, "resolv.conf", "options ndots:x\n") }
func FuzzHosts(f *testing.F)      { fuzzFile(f, "hosts", "::1 a b # c\n") }

func FuzzHostFacts(f *testing.F) {
	fuzzFile(f, "host.json", `{}`, `{"load":[1,2,3e1],"messages":[{"event":"link-up","device":"a b","family":5}],"daemons":[{"name":"x"}]}`)
}

func FuzzNames(f *testing.F) {
	f.Add([]byte(`[{"namespace":"a","server":"::1","name":"b","status":"ok","addresses":["::1"]}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := readNames(&source{file: namesFile, data: data})
		if err != nil {
			return
		}
		if written, err := writeNames(all); err == nil {
			if _, err := readNames(&source{file: namesFile, data: written}); err != nil {
				t.Fatalf("what was written cannot be read: %v\n%s", err, written)
			}
		}
	})
}

func FuzzInfo(f *testing.F) {
	files, err := encodeSnapshot(everything())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(files[infoFile], files["netns/node-1/meta.json"])
	f.Fuzz(func(_ *testing.T, info, meta []byte) {
		_, _ = decode(map[string][]byte{infoFile: info, "netns/a/meta.json": meta})
	})
}

func FuzzArchive(f *testing.F) {
	var buf bytes.Buffer
	if err := WriteArchive(&buf, everything()); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := loadArchive(bytes.NewReader(data), limits{file: 1 << 16, total: 1 << 18, entries: 100, depth: 4})
		if err == nil {
			_, err = decode(files)
		}
		if err != nil {
			return
		}
	})
}
