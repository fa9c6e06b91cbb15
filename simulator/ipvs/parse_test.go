package ipvs

import (
	"net/netip"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

const dump = `-A -t 10.96.0.1:443 -s rr
-a -t 10.96.0.1:443 -r 10.0.0.1:6443 -m -w 0
-a -t 10.96.0.1:443 -r 10.0.0.2:6443 -m -w 1
-A -u [fd00::1]:53 -s sh -p 300 -M 64 -o -b sh-fallback,sh-port
-a -u [fd00::1]:53 -r [fd00::2]:53 -g -w 3 -x 9 -y 4
-A --sctp-service 10.96.0.1:0 -s wlc -p 60 -M 255.255.255.0 --pe sip
-A -f 7 -6 -s lc
-a -f 7 -6 -r [fd00::2]:0 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum
-A -f 7 -s lc
`

func parse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("ipvsadm-save.txt", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestServicesAreRead(t *testing.T) {
	c := parse(t, dump)
	if len(c.Services()) != 5 {
		t.Fatalf("%d services, want 5", len(c.Services()))
	}
	udp := c.Services()[1]
	if !udp.OnePacket || !udp.Persistent || !udp.Fallback || udp.Scheduler != "sh" || udp.Family != netstack.IPv6 {
		t.Errorf("got %+v", udp)
	}
	if d := udp.Destinations[0]; d.Method != Direct || d.Weight != 3 || d.Upper != 9 || d.Lower != 4 {
		t.Errorf("got %+v", d)
	}
	if d := c.Services()[3].Destinations[0]; d.Method != Tunnel || d.Encapsulation != "gue" || d.Addr != netip.MustParseAddrPort("[fd00::2]:0") {
		t.Errorf("got %+v", d)
	}
}

func TestAServiceIsFound(t *testing.T) {
	c := parse(t, dump)
	packet := func(protocol netstack.Protocol, to string, mark uint32) *netstack.Packet {
		a := netip.MustParseAddrPort(to)
		return &netstack.Packet{Protocol: protocol, Dst: a.Addr(), DstPort: a.Port(), Mark: mark}
	}
	for name, test := range map[string]struct {
		packet *netstack.Packet
		want   int // index, or -1
	}{
		"by address and port":             {packet(netstack.ProtoTCP, "10.96.0.1:443", 0), 0},
		"not by another port":             {packet(netstack.ProtoTCP, "10.96.0.1:80", 0), -1},
		"not by another protocol":         {packet(netstack.ProtoUDP, "10.96.0.1:443", 0), -1},
		"for all ports":                   {packet(netstack.ProtoSCTP, "10.96.0.1:9", 0), 2},
		"by mark first":                   {packet(netstack.ProtoTCP, "10.96.0.1:443", 7), 4},
		"by mark, of its family":          {packet(netstack.ProtoUDP, "[fd00::9]:1", 7), 3},
		"by address, with a foreign mark": {packet(netstack.ProtoTCP, "10.96.0.1:443", 8), 0},
		"never for echo requests":         {packet(netstack.ProtoICMP, "10.96.0.1:443", 7), -1},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.Find(test.packet)
			if test.want < 0 && got != nil || test.want >= 0 && got != c.Services()[test.want] {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestMalformedDumpsAreRefusedWithTheirPlace(t *testing.T) {
	for text, want := range map[string]string{
		"-A -t 10.0.0.1 -s rr":                 `f:1: at "10.0.0.1": not an address and port`,
		"\n-A -t":                              `f:2: at "-t": an argument is missing`,
		"-A -s rr":                             `f:1: at "rr": no service is named`,
		"-A -f 0":                              `f:1: at "0": a mark is not zero`,
		"-A -f x":                              `f:1: at "x": not a number of 32 bits`,
		"-A -t 1.1.1.1:1 -z":                   `f:1: at "-z": not an option of a service`,
		"-A -t 1.1.1.1:1 -b wrong":             `f:1: at "wrong": not a flag of a scheduler: wrong`,
		"-A -t 1.1.1.1:1 -p 60 -M 255.0.255.0": `f:1: at "255.0.255.0": not a netmask`,
		"-A -t 1.1.1.1:1\n-A -t 1.1.1.1:1":     `f:2: at "1.1.1.1:1": the service is there already`,
		"-D -t 1.1.1.1:1":                      `f:1: at "-D": not a command that adds a service or a server`,
		"-a -t 1.1.1.1:1 -r 2.2.2.2:2":         `f:1: at "2.2.2.2:2": the service of the server was not added before`,
		"-A -t 1.1.1.1:1\n-a -t 1.1.1.1:1":     `f:2: at "1.1.1.1:1": no server is named`,
		"-A -t 1.1.1.1:1\n-a -t 1.1.1.1:1 -r [::2]:2 -m":               `f:2: at "-m": only a tunnel leads to a server of the other family`,
		"-A -t 1.1.1.1:1\n-a -t 1.1.1.1:1 -r 2.2.2.2:2 -w 65536":       `f:2: at "65536": a weight is at most 65535`,
		"-A -t 1.1.1.1:1\n-a -t 1.1.1.1:1 -r 2.2.2.2:2 --tun-typo gre": `f:2: at "--tun-typo": not an option of a server`,
	} {
		if _, err := Parse("f", []byte(text)); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(dump)
	f.Add("-A -t 1.1.1.1:1\n-a -t 1.1.1.1:1 -r [::2]:2 -i")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("f", []byte(text))
		if err != nil {
			return
		}
		for _, s := range c.Services() {
			choice := s.Schedule()
			if len(choice.Destinations) == 0 || choice.Weights != nil && len(choice.Weights) != len(choice.Destinations) {
				t.Errorf("%+v chooses %+v", s, choice)
			}
		}
	})
}
