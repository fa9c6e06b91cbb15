package netfilter

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// entryLines are what the tools print, one of each kind.
var entryLines = []string{
	"udp      17 29 src=10.0.0.1 dst=10.96.0.10 sport=5353 dport=53 [UNREPLIED] src=10.244.1.5 dst=10.0.0.1 sport=53 dport=5353 mark=0 use=1",
	"tcp      6 431999 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=40000 dport=80 src=10.0.0.2 dst=192.0.2.1 sport=80 dport=1024 [ASSURED] mark=5 zone=7 use=1",
	"ipv4     2 tcp      6 119 TIME_WAIT src=10.0.0.1 dst=10.0.0.2 sport=40001 dport=80 src=10.0.0.2 dst=10.0.0.1 sport=80 dport=40001 [ASSURED] mark=0 zone=0 use=2",
	"ipv6     10 udp      17 9 src=fd00::1 dst=fd00::2 sport=1 dport=2 packets=1 bytes=64 src=fd00::2 dst=fd00::1 sport=2 dport=1 packets=0 bytes=0 mark=0 use=1",
	"icmp     1 29 src=10.0.0.1 dst=10.0.0.9 type=8 code=0 id=77 src=10.0.0.2 dst=10.0.0.1 type=0 code=0 id=77 mark=0 use=1",
	"tcp      6 ESTABLISHED src=10.0.0.3 dst=10.0.0.2 sport=1 dport=2 src=10.0.0.2 dst=10.0.0.3 sport=2 dport=1 [OFFLOAD] mark=0 use=2",
	"unknown  2 599 src=10.0.0.1 dst=224.0.0.22 [UNREPLIED] src=224.0.0.22 dst=10.0.0.1 mark=0 use=1",
	"gre      47 29 src=10.0.0.1 dst=10.0.0.2 srckey=0x0 dstkey=0x1 src=10.0.0.2 dst=10.0.0.1 srckey=0x1 dstkey=0x0 [ASSURED] mark=0 use=1",
	"conntrack v1.4.7 (conntrack-tools): 8 flow entries have been shown.",
}

func TestEntriesOfConnectionTrackingAreRead(t *testing.T) {
	e, err := ParseConntrack("conntrack.txt", []byte(strings.Join(entryLines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	if e.Len() != 8 {
		t.Errorf("%d entries, want 8", e.Len())
	}
	find := func(line string, reply bool) *Conn {
		t.Helper()
		one, err := ParseConntrack("", []byte(line))
		if err != nil {
			t.Fatal(err)
		}
		for key := range one.byTuple {
			if key.reply == reply {
				c, _ := e.find(&key.tuple, zone{id: key.zone})
				return c
			}
		}
		return nil
	}
	if c := find(entryLines[0], true); c == nil || c.SeenReply || !c.DstNAT || c.SrcNAT ||
		c.String() != "udp 10.0.0.1:5353 > 10.96.0.10:53, answers 10.244.1.5:53 > 10.0.0.1:5353" {
		t.Errorf("the translated UDP entry is %v", c)
	}
	if c := find(entryLines[1], false); c == nil || !c.SrcNAT || c.DstNAT || c.zone != (zone{id: 7}) || c.Mark != 5 || c.tcp != tcpEstablished || !c.Assured {
		t.Errorf("the TCP entry is %+v", c)
	}
	if c := find(entryLines[4], false); c == nil || !c.DstNAT {
		t.Errorf("the ICMP entry is %+v", c)
	}
}

func TestErrorsInEntriesTellWhere(t *testing.T) {
	good := entryLines[0] + "\n"
	for _, c := range []struct{ line, want string }{
		{"udp", `f:2: want a protocol, its number and two tuples at "udp"`},
		{"udp x 29 src=10.0.0.1", `f:2: not the number of a protocol at "x"`},
		{"udp 17 29 dst=10.0.0.1", `f:2: before the source address at "dst=10.0.0.1"`},
		{"udp 17 29 src=10.0.0", `f:2: not a value for src at "src=10.0.0"`},
		{"udp 17 29 src=10.0.0.1 dst=10.0.0.2 sport=70000", `f:2: not a value for sport at "sport=70000"`},
		{"udp 17 29 src=10.0.0.1 dst=10.0.0.2", `f:2: want two tuples with source and destination at "udp 17 29 src=10.0.0.1 dst=10.0.0.2"`},
		{"udp 17 29 src=1.1.1.1 dst=fd00::1 src=fd00::1 dst=1.1.1.1", `f:2: not a destination for 1.1.1.1 at "fd00::1"`},
		{"udp 17 29 src=1.1.1.1 dst=1.1.1.2 src=1.1.1.2 dst=1.1.1.1 src=1.1.1.1", `f:2: a third tuple at "src=1.1.1.1"`},
		{"udp 17 29 src=1.1.1.1 dst=1.1.1.2 src=1.1.1.2 dst=1.1.1.1 zone=x", `f:2: not a value for zone at "zone=x"`},
	} {
		_, err := ParseConntrack("f", []byte(good+c.line))
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || err.Error() != c.want {
			t.Errorf("%s:\ngot  %v\nwant %s", c.line, err, c.want)
		}
	}
}

// FuzzParseConntrack looks for panics, and for errors that point nowhere.
func FuzzParseConntrack(f *testing.F) {
	for _, line := range entryLines {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, err := ParseConntrack("f", []byte(text))
		var syntax *SyntaxError
		if err != nil && (!errors.As(err, &syntax) || syntax.Line < 1 || syntax.Line > 1+strings.Count(text, "\n")) {
			t.Errorf("error %v", err)
		}
	})
}

func TestZonesCountInTheirDirection(t *testing.T) {
	const format = "udp 17 29 src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2%s src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1%s mark=0%s use=1"
	for _, c := range []struct {
		original, reply, both string
		forth, back           uint16 // the zones of the tuples
	}{
		{"", "", "", 0, 0},
		{" zone-orig=7", "", "", 7, 0},
		{"", " zone-reply=7", "", 0, 7},
		{"", "", " zone=7", 7, 7},
	} {
		line := fmt.Sprintf(format, c.original, c.reply, c.both)
		e, err := ParseConntrack("", []byte(line))
		if err != nil {
			t.Fatal(err)
		}
		original := Tuple{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), Protocol: netstack.ProtoUDP, SrcPort: 1, DstPort: 2}
		answer, _ := original.invert()
		for id := range uint16(9) {
			for _, look := range []struct {
				tuple *Tuple
				want  bool
			}{{&original, id == c.forth}, {&answer, id == c.back}} {
				if got, _ := e.find(look.tuple, zone{id: id}); (got != nil) != look.want {
					t.Errorf("%s: %v in zone %d is found %v, want %v", line, *look.tuple, id, got != nil, look.want)
				}
			}
		}
	}
}
