package netfilter

import (
	"bytes"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

func TestMalformedSetsAreRefusedByFileLineAndToken(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"destroy x\n", `f:1: unknown ipset command at "destroy"`},
		{"create x hash:ip\r \n", `f:1: white space that does not separate words at "hash:ip\r"`},
		{"create x\n", `f:1: create needs a name and a type at "x"`},
		{"create x hash:ip\ncreate x hash:ip\n", `f:2: set created twice at "x"`},
		{"create x hash:ip family\n", `f:1: option has no value at "family"`},
		{"create x hash:ip family inet4\n", `f:1: unknown family at "inet4"`},
		{"create x hash:ip netmask 99\n", `f:1: invalid netmask at "99"`},
		{"add x 1.2.3.4\n", `f:1: add to a set that was not created at "x"`},
		{"create x hash:ip\nadd x\n", `f:2: add needs a set and an element at "x"`},
		{"create x hash:ip\nadd x 1.2.3\n", `f:2: invalid element of set x at "1.2.3"`},
		{"create x hash:ip\nadd x fd00::1\n", `f:2: invalid element of set x at "fd00::1"`},
		{"create x hash:ip,port\nadd x 1.2.3.4\n", `f:2: element has the wrong number of parts at "1.2.3.4"`},
		{"create x hash:ip,port\nadd x 1.2.3.4,tcp:x\n", `f:2: invalid element of set x at "tcp:x"`},
		{"create x hash:ip\nadd x 10.0.0.0/8\n", `f:2: invalid element of set x at "10.0.0.0/8"`},
		{"create x hash:ip\nadd x 1.2.3.4 timeout\n", `f:2: option has no value at "timeout"`},
		{"create x list:set\nadd x y\n", `f:2: member of list x is not a set of this dump at "y"`},
	} {
		_, err := Compile(&netstack.Namespace{IPSet: netstack.Text{File: "f", Data: []byte(c.text)}})
		if err == nil || err.Error() != c.want {
			t.Errorf("%q:\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

func TestSetMembership(t *testing.T) {
	const sets = `create ip hash:ip family inet timeout 0 counters comment
add ip 10.0.0.1 timeout 0 packets 1 bytes 2 comment "a b"
create nm hash:net
add nm 10.0.0.0/8
add nm 10.0.0.0/24 nomatch
create nn hash:net,net
add nn 10.0.0.0/8,10.0.1.0/24
create npn hash:net,port,net
add npn 10.0.0.0/16,tcp:80,10.0.1.0/24
create mark hash:ip,mark markmask 0xff
add mark 10.0.0.1,0x5
create mac hash:mac
add mac 00:11:22:33:44:55
create range hash:net
add range 9.255.255.255-10.0.0.2
create v6 hash:ip family inet6
add v6 fd00::1
create iface hash:net,iface
add iface 0.0.0.0/0,eth wildcard
create odd hash:sig
create wide hash:ip newoption 5
create list list:set
add list nm
add list v6
`
	mac := netstack.MAC{0, 0x11, 0x22, 0x33, 0x44, 0x55}
	for _, c := range []struct {
		name, match string
		edit        func(*netstack.Packet)
		want        Action
		asked       string
	}{
		{name: "an address that is there", match: "ip src", want: Drop},
		{name: "the other address is not", match: "ip dst", want: Accept},
		{name: "nomatch takes the longer prefix out", match: "nm src", want: Accept},
		{name: "the shorter prefix holds elsewhere", match: "nm dst", want: Drop},
		{name: "return-nomatch turns them round", match: "nm src --return-nomatch", want: Drop},
		{name: "return-nomatch does not match plain elements", match: "nm dst --return-nomatch", want: Accept},
		{name: "two networks", match: "nn src,dst", want: Drop},
		{name: "two networks in the wrong order", match: "nn dst,src", want: Accept},
		{name: "network, port and network", match: "npn src,dst,dst", want: Drop},
		{name: "too few directions never match", match: "npn src,dst", want: Accept},
		{name: "a mark under its mask", match: "mark src,src", edit: func(p *netstack.Packet) { p.Mark = 0x105 }, want: Drop},
		{name: "another mark", match: "mark src,src", want: Accept},
		{name: "a MAC", match: "mac src", edit: func(p *netstack.Packet) { p.SrcMAC = mac }, want: Drop},
		{name: "a MAC that is not known", match: "mac src", asked: "set mac"},
		{name: "a range becomes networks", match: "range src", want: Drop},
		{name: "beyond the range", match: "range src", edit: func(p *netstack.Packet) { p.Src = addr("10.0.0.3") }, want: Accept},
		{name: "a set of the other family", match: "v6 src", want: Accept},
		{name: "an interface by prefix", match: "iface src,src", want: Drop},
		{name: "a list asks its members", match: "list dst", want: Drop},
		{name: "a type that is not modelled", match: "odd src", asked: "set odd (set type hash:sig)"},
		{name: "an option that is not modelled", match: "wide src", asked: "set wide (set option newoption)"},
		{name: "a set that the dump lacks", match: "gone src", asked: "set gone, which was not read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := dump(netstack.IPv4, netstack.BackendNFT, "*filter\n:FORWARD ACCEPT\n-A FORWARD -m set --match-set "+c.match+" -j DROP\nCOMMIT\n")
			ns.IPSet = netstack.Text{File: "ipset-save.txt", Data: []byte(sets)}
			env := &fakeEnv{}
			p := packet()
			if c.edit != nil {
				c.edit(p)
			}
			res := mustCompile(t, ns).Run(netstack.IPv4, Forward, &State{Packet: p, In: "eth0"}, env)
			if res.Action != c.want || strings.Join(env.asked, ";") != c.asked {
				t.Errorf("action %d, asked %q; want %d, %q", res.Action, env.asked, c.want, c.asked)
			}
		})
	}
}

func FuzzIPSet(f *testing.F) {
	f.Add(judgeSets)
	f.Add("create x hash:net,iface family inet6\nadd x ::/0,physdev:eth0 nomatch\n")
	f.Add(judgeSets6)
	f.Add("create x hash:net,port,net timeout 5 counters comment skbinfo\nadd x 10.0.0.0/8,tcp:1-9,10.0.0.1 timeout 3 packets 1 bytes 2 comment \"a b\" skbmark 0x1/0xff skbprio 1:2 skbqueue 3 nomatch\n")
	f.Add("create x bitmap:ip,mac range 10.0.0.0/24\nadd x 10.0.0.1,00:11:22:33:44:55\nadd x 10.0.0.2\ncreate y hash:ip,mark markmask 0xff\nadd y 10.0.0.1,0x5\ncreate l list:set size 8\nadd l x\nadd l y before x\n")
	f.Fuzz(func(t *testing.T, text string) {
		ns := dump(netstack.IPv4, netstack.BackendNFT, "*filter\n:FORWARD ACCEPT\n-A FORWARD -m set --match-set x src,dst,src -j SET --add-set x src,src,src\n-A FORWARD -m set --match-set l src,src,src -j DROP\nCOMMIT\n")
		ns.IPSet = netstack.Text{File: "s", Data: []byte(text)}
		rs, err := Compile(ns)
		if err != nil {
			pointsAt(t, err, text)
			return
		}
		runEverything(rs)
		first, err := PrintIPSet(ns.IPSet)
		if err != nil {
			t.Fatal(err)
		}
		second, err := PrintIPSet(netstack.Text{File: "s", Data: first})
		if err != nil || !bytes.Equal(first, second) {
			t.Errorf("printed again (%v):\n%s\nat first:\n%s", err, second, first)
		}
	})
}
