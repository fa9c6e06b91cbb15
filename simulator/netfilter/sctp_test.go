package netfilter

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

func TestSCTPChunks(t *testing.T) {
	const (
		first   = netstack.SCTPInit
		message = netstack.SCTPData
		both    = netstack.SCTPSack | netstack.SCTPData
	)
	for _, c := range []struct {
		options string
		carries netstack.SCTPChunks
		want    bool
	}{
		{"--chunk-types any INIT", first, true},
		{"--chunk-types any INIT", message, false},
		{"! --chunk-types any INIT", message, true},
		{"--chunk-types any INIT,SACK", both, true},
		{"--chunk-types all SACK", both, true},
		{"--chunk-types all SACK,DATA", both, true},
		{"--chunk-types all SACK,DATA", message, false},
		{"--chunk-types all SACK,ASCONF", both, false},
		{"--chunk-types only SACK", both, false},
		{"--chunk-types only SACK,DATA", both, true},
		{"--chunk-types only SACK,DATA,INIT", message, true},
		{"--chunk-types any ALL", first, true},
		{"--chunk-types all ALL", first, false},
		{"--chunk-types only NONE", first, false},
		{"--chunk-types any NONE", first, false},
		{"--chunk-types any DATA:uBE", message, true},
		{"--chunk-types any DATA:U", message, false},
		{"--chunk-types any DATA:b,SACK", both, true},
		{"--chunk-types all DATA:b,SACK", both, false},
		{"--chunk-types only DATA:b", message, false},
		{"--chunk-types any ABORT:t", netstack.SCTPAbort, true},
		{"--dport 5 --chunk-types any INIT", first, false},
	} {
		rs := mustCompile(t, dump(netstack.IPv4, netstack.BackendNFT, "*filter\n:FORWARD ACCEPT\n-A FORWARD -p sctp -m sctp "+c.options+" -j DROP\nCOMMIT\n"))
		p := packet()
		p.Protocol, p.Chunks = netstack.ProtoSCTP, c.carries
		env := &fakeEnv{}
		res := rs.Run(netstack.IPv4, Forward, &State{Packet: p, In: "eth0", Out: "eth1"}, env)
		if (res.Action == Drop) != c.want || env.asked != nil {
			t.Errorf("%s, of a packet with chunks %#x: %v, asked about %q", c.options, c.carries, res.Action, env.asked)
		}
	}
}

// TestWhatIsNotKnownOfSCTPIsAskedAbout is about what a host's SCTP chooses as it likes.
func TestWhatIsNotKnownOfSCTPIsAskedAbout(t *testing.T) {
	for match, want := range map[string]string{
		"-p sctp -m sctp --chunk-types any DATA:I": "match sctp --chunk-types", // whether to acknowledge at once
		"-p sctp -m length --length 60":            "match length of SCTP",
	} {
		rs := mustCompile(t, dump(netstack.IPv4, netstack.BackendNFT, "*filter\n:FORWARD ACCEPT\n-A FORWARD "+match+" -j DROP\nCOMMIT\n"))
		p := packet()
		p.Protocol, p.Chunks = netstack.ProtoSCTP, netstack.SCTPData
		env := &fakeEnv{}
		rs.Run(netstack.IPv4, Forward, &State{Packet: p, In: "eth0", Out: "eth1"}, env)
		if len(env.asked) != 1 || env.asked[0] != want {
			t.Errorf("%s: asked about %q, want %q", match, env.asked, want)
		}
	}
}

func TestOptionsOfSCTPAreChecked(t *testing.T) {
	for options, want := range map[string]string{
		"--chunk-types":                 `f:3: option needs a value at "--chunk-types"`,
		"--chunk-types some INIT":       `f:3: want all, any or only at "some"`,
		"--chunk-types any":             `f:3: option needs a value at "--chunk-types"`,
		"--chunk-types any INIT,BEGIN":  `f:3: unknown type of SCTP chunk at "BEGIN"`,
		"--chunk-types any INIT:T":      `f:3: unknown flag of the SCTP chunk at "INIT:T"`,
		"--chunk-types any DATA:X,SACK": `f:3: unknown flag of the SCTP chunk at "DATA:X"`,
		"--chunk-types any NONE,INIT":   `f:3: unknown type of SCTP chunk at "NONE"`,
	} {
		text := "*filter\n:FORWARD ACCEPT\n-A FORWARD -p sctp -m sctp " + options + "\nCOMMIT\n"
		ns := dump(netstack.IPv4, netstack.BackendNFT, text)
		ns.IPTables[0].File = "f"
		_, err := Compile(ns)
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", options, err, want)
		}
	}
}

// TestChunksInNftables is about what nft_exthdr_sctp_eval makes of what the walk sends.
func TestChunksInNftables(t *testing.T) {
	const both = netstack.SCTPSack | netstack.SCTPData
	match := func(field, op, right string) string {
		name, field, _ := strings.Cut(field, " ")
		left := fmt.Sprintf(`{"sctp chunk": {"name": %q}}`, name)
		if field != "" {
			field, mask, masked := strings.Cut(field, " & ")
			left = fmt.Sprintf(`{"sctp chunk": {"name": %q, "field": %q}}`, name, field)
			if masked {
				left = fmt.Sprintf(`{"&": [%s, %s]}`, left, mask)
			}
		}
		return fmt.Sprintf(`{"match": {"op": %q, "left": %s, "right": %s}}`, op, left, right)
	}
	for _, c := range []struct {
		rule     string
		protocol netstack.Protocol
		carries  netstack.SCTPChunks
		want     tri
	}{
		{match("init", "==", "true"), netstack.ProtoSCTP, netstack.SCTPInit, yes},
		{match("init", "==", "true"), netstack.ProtoSCTP, both, no},
		{match("init", "==", "false"), netstack.ProtoSCTP, both, yes},
		{match("init", "==", "false"), netstack.ProtoTCP, 0, yes},
		{match("asconf", "==", "true"), netstack.ProtoSCTP, both, no},
		{match("sack", "==", "true"), netstack.ProtoSCTP, both, yes},
		{match("data", "==", "true"), netstack.ProtoSCTP, both, yes},
		{match("data type", "==", "0"), netstack.ProtoSCTP, both, yes},
		{match("data type", "!=", "1"), netstack.ProtoSCTP, both, yes},
		{match("data type", "!=", "1"), netstack.ProtoSCTP, netstack.SCTPInit, no},
		{match("data type", "!=", "1"), netstack.ProtoTCP, 0, no},
		{match("init flags", "==", "0"), netstack.ProtoSCTP, netstack.SCTPInit, yes},
		// Whether a message is to be acknowledged at once is not known.
		{match("data flags", "==", "3"), netstack.ProtoSCTP, both, maybe},
		{match("data flags", "==", "7"), netstack.ProtoSCTP, both, no},
		{match("data flags", "!=", "4"), netstack.ProtoSCTP, both, yes},
		{match("data flags & 7", "==", "3"), netstack.ProtoSCTP, both, yes},
		{match("data flags & 4", "==", "4"), netstack.ProtoSCTP, both, no},
		{match("data flags & 8", "==", "8"), netstack.ProtoSCTP, both, maybe},
		{match("data flags & 12", "==", "12"), netstack.ProtoSCTP, both, no},
		{match("cookie-ack length", "==", "4"), netstack.ProtoSCTP, netstack.SCTPCookieAck, yes},
		{match("init length", ">", "60"), netstack.ProtoSCTP, netstack.SCTPInit, maybe},
		{match("init init-tag", "==", "5"), netstack.ProtoSCTP, netstack.SCTPInit, maybe},
		{match("init init-tag", "==", "5"), netstack.ProtoSCTP, both, no},
		{match("i-data", "==", "true"), netstack.ProtoSCTP, both, maybe}, // which nft 1.0.6 does not name
	} {
		rs := mustCompile(t, &netstack.Namespace{NFT: netstack.Text{File: "nft.json", Data: []byte(`{"nftables": [
{"table": {"family": "inet", "name": "t"}},
{"chain": {"family": "inet", "table": "t", "name": "f", "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
{"rule": {"family": "inet", "table": "t", "chain": "f", "handle": 1, "expr": [` + c.rule + `, {"drop": null}]}}
]}`)}})
		p := packet()
		p.Protocol, p.Chunks = c.protocol, c.carries
		env := &fakeEnv{}
		got := is(rs.Run(netstack.IPv4, Forward, &State{Packet: p, In: "eth0", Out: "eth1"}, env).Action == Drop)
		if env.asked != nil {
			got = maybe
		}
		if got != c.want {
			t.Errorf("%s, of a packet of %d with chunks %#x: %v, want %v", c.rule, c.protocol, c.carries, got, c.want)
		}
	}
}
