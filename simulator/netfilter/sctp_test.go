package netfilter

import (
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
