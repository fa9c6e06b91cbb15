package tc

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// asked answers every question with no, and notes what was asked.
type asked struct{ what []string }

func (a *asked) Unknown(_ *Filter, what string) bool {
	a.what = append(a.what, what)
	return false
}

func (a *asked) Pick(_ *Filter, weights []float64) int {
	a.what = append(a.what, fmt.Sprintf("dice %.2f", weights))
	return len(weights) - 1
}

func syn() *Frame {
	return &Frame{Packet: &netstack.Packet{
		Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), Protocol: netstack.ProtoTCP, SrcPort: 40000, DstPort: 80,
		TCPFlags: netstack.SYN, Length: 60, TTL: 64, Mark: 0x13, SrcMAC: netstack.MAC{2, 0, 0, 0, 0, 1}, DstMAC: netstack.MAC{2, 0, 0, 0, 0, 2},
	}}
}

const (
	drop     = `"actions":[{"order":1,"kind":"gact","control_action":{"type":"drop"}}]`
	goesOn   = `"actions":[{"order":1,"kind":"gact","control_action":{"type":"continue"}}]`
	matchall = `{"dev":"e","parent":"ingress","protocol":"all","pref":%d,"kind":"matchall","options":{%s}}`
	flower   = `{"dev":"e","parent":"ingress","protocol":"ip","pref":1,"kind":"flower","options":{"keys":{%s},` + drop + `}}`
	u32      = `{"dev":"e","parent":"ingress","protocol":"ip","pref":1,"kind":"u32","options":{%s,` + drop + `}}`
)

func TestFiltersDecideAsTheirOptionsSay(t *testing.T) {
	prefs := func(list ...string) string { return strings.Join(list, ",") }
	for _, test := range []struct{ name, filters, fate, asked string }{
		{"nothing", ``, "pass", ""},
		{"a drop", fmt.Sprintf(matchall, 1, drop), "drop", ""},
		{"for ever", fmt.Sprintf(matchall, 1, `"actions":[{"kind":"gact","control_action":{"type":"reclassify"}}]`), "drop", ""},
		{"no action", prefs(fmt.Sprintf(matchall, 1, `"handle":1`), fmt.Sprintf(matchall, 2, drop)), "pass", ""},
		{"priorities, whatever their order in the dump", prefs(fmt.Sprintf(matchall, 2, `"handle":1`), fmt.Sprintf(matchall, 1, drop)), "drop", ""},
		{"continue", prefs(fmt.Sprintf(matchall, 1, goesOn), fmt.Sprintf(matchall, 2, drop)), "drop", ""},
		{"not in software", fmt.Sprintf(matchall, 1, `"skip_sw":true,`+drop), "pass", ""},
		{"a protocol that this is not", strings.Replace(fmt.Sprintf(matchall, 1, drop), `"all"`, `"ipv6"`, 1), "pass", ""},
		{"a protocol by number", strings.Replace(fmt.Sprintf(matchall, 1, drop), `"all"`, `"[2048]"`, 1), "drop", ""},
		{"a protocol that nobody knows", strings.Replace(fmt.Sprintf(matchall, 1, drop), `"all"`, `"newnet"`, 1), "pass", "protocol newnet"},
		{"a classifier that is not understood", strings.Replace(fmt.Sprintf(matchall, 1, drop), `"matchall"`, `"route"`, 1), "pass", "classifier route"},
		{"a parent that is not given", strings.Replace(fmt.Sprintf(matchall, 1, drop), `"parent":"ingress",`, ``, 1), "pass", "parent "},
		{"dice", fmt.Sprintf(matchall, 1, `"actions":[{"kind":"gact","control_action":{"type":"pass"},"prob":{"random_type":"netrand","control_action":{"type":"drop"},"val":4}}]`), "drop", "dice [0.75 0.25]"},
		{"a program", `{"dev":"e","parent":"ingress","protocol":"all","pref":1,"kind":"bpf","options":{"bpf_name":"x.o:[tc]","direct-action":true}}`, "unknown bpf x.o:[tc]", ""},
		{"a change", fmt.Sprintf(matchall, 1, `"actions":[{"kind":"pedit","control_action":{"type":"pipe"}}]`), "unknown action pedit", ""},
		{"a change after a drop", fmt.Sprintf(matchall, 1, `"actions":[{"kind":"gact","control_action":{"type":"drop"}},{"kind":"nat"}]`), "drop", ""},
		{"flower: all keys", fmt.Sprintf(flower, `"eth_type":"ipv4","ip_proto":"tcp","src_ip":"10.0.0.0/24","dst_ip":"10.0.0.2","dst_port":80,"src_port":{"start":30000,"end":50000},"tcp_flags":"0x2/17","ip_ttl":64,"ip_tos":0,"ip_tos_mask":"fc","src_mac":"02:00:00:00:00:01","dst_mac":"02:00:00:00:00:00/8"`), "drop", ""},
		{"flower: a mask of ports", fmt.Sprintf(flower, `"dst_port":64,"dst_port_mask":"ffc0"`), "drop", ""},
		{"flower: another port", fmt.Sprintf(flower, `"dst_port":81`), "pass", ""},
		{"flower: a port outside the range", fmt.Sprintf(flower, `"dst_port":{"start":81,"end":90}`), "pass", ""},
		{"flower: another address", fmt.Sprintf(flower, `"dst_ip":"10.0.0.3"`), "pass", ""},
		{"flower: other flags", fmt.Sprintf(flower, `"tcp_flags":"0x12/12"`), "pass", ""},
		{"flower: another protocol by number", fmt.Sprintf(flower, `"ip_proto":"84"`), "pass", ""},
		{"flower: a VLAN", fmt.Sprintf(flower, `"vlan_id":5`), "pass", ""},
		{"flower: a key that is not understood", fmt.Sprintf(flower, `"ct_state":"+trk"`), "pass", "flower ct_state +trk"},
		{"flower: such a key beside one that decides", fmt.Sprintf(flower, `"ct_state":"+trk","dst_port":81`), "pass", ""},
		{"u32: two words", fmt.Sprintf(u32, `"fh":"800::800","bkt":"0","match":{"value":"50","mask":"ffff","offmask":"","off":20},"match":{"value":"a000000","mask":"ff000000","offmask":"","off":12}`), "drop", ""},
		{"u32: the second word is another one", fmt.Sprintf(u32, `"fh":"800::800","bkt":"0","match":{"value":"50","mask":"ffff","offmask":"","off":20},"match":{"value":"b000000","mask":"ff000000","offmask":"","off":12}`), "pass", ""},
		{"u32: a sequence number", fmt.Sprintf(u32, `"match":{"value":"1","mask":"ffffffff","offmask":"","off":24}`), "pass", "u32 at 24"},
		{"u32: behind the packet", fmt.Sprintf(u32, `"match":{"value":"0","mask":"0","offmask":"","off":58}`), "pass", ""},
		{"u32: behind the packet, which ends the priority", fmt.Sprintf(u32, `"match":{"value":"0","mask":"0","offmask":"","off":58}`) + "," + fmt.Sprintf(u32, `"match":{"value":"0","mask":"0","offmask":"","off":0}`), "pass", ""},
		{"u32: where the transport header is", fmt.Sprintf(u32, `"match":{"value":"0","mask":"0","offmask":"f","off":0}`), "pass", "u32 nexthdr"},
		{"u32: a mark", fmt.Sprintf(u32, `"fwmark_value":"0x3","fwmark_mask":"0xf","fwmark_success":0`), "drop", ""},
		{"u32: another mark", fmt.Sprintf(u32, `"fwmark_value":"0x13","fwmark_mask":"0xf"`), "pass", ""},
		{"fw", `{"dev":"e","parent":"ingress","protocol":"all","pref":1,"kind":"fw","options":{"fw":{"mark":"0x13","mask":"0xffffffff"},` + drop + `}}`, "drop", ""},
		{"a device that the packet came by", `{"dev":"e","parent":"ingress","protocol":"all","pref":1,"kind":"fw","options":{"indev":"x","fw":{"mark":"0x13","mask":"0xffffffff"},` + drop + `}}`, "pass", "indev"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := Parse("tc.json", []byte("["+test.filters+"]"))
			if err != nil {
				t.Fatal(err)
			}
			env := &asked{}
			res := s.Run("e", Ingress, syn(), env)
			if got := strings.TrimSpace(res.Fate.String() + " " + res.What); got != test.fate || strings.Join(env.what, ", ") != test.asked {
				t.Errorf("%s, asked %q; want %s, asked %q", got, env.what, test.fate, test.asked)
			}
		})
	}
}

func TestActionsMarkAndRedirect(t *testing.T) {
	const filters = `[{"dev":"e","parent":"egress","protocol":"all","pref":1,"kind":"matchall","options":{"actions":[
		{"kind":"skbedit","mark":160,"mask":"f0","ptype":"host","control_action":{"type":"pipe"}},
		{"kind":"mirred","mirred_action":"mirror","direction":"egress","to_dev":"x","control_action":{"type":"pipe"}},
		{"kind":"mirred","mirred_action":"redirect","direction":"ingress","to_dev":"y","control_action":{"type":"stolen"}}]}}]`
	s, err := Parse("tc.json", []byte(filters))
	if err != nil {
		t.Fatal(err)
	}
	f := syn()
	res := s.Run("e", Egress, f, &asked{})
	if res.Fate != Redirect || res.Device != "y" || !res.Inward || f.Packet.Mark != 0xa3 || !f.ForHost {
		t.Errorf("%+v, mark %#x, for this host: %v", res, f.Packet.Mark, f.ForHost)
	}
	if r := s.Redirects("e", Egress, EtherARP); len(r) != 1 || r[0].Device != "y" || !r[0].Inward {
		t.Errorf("redirects to %v", r)
	}
	if s.At("e", Ingress) || s.At("x", Egress) {
		t.Error("there are filters elsewhere, too")
	}
}

func TestMalformedDumpsAreRefusedWithFileAndEntry(t *testing.T) {
	for text, want := range map[string]string{
		`{`: "tc.json: unexpected end of JSON input",
		`[{"dev":"e","root":true,"kind":"netem","options":{"loss-random":{"loss":30}}}]`: "tc.json: entry 1: loss-random: a loss of 30",
		`{}`:                    "tc.json: json: cannot unmarshal object into Go value of type []json.RawMessage",
		`[{"kind":"clsact"},7]`: "tc.json: entry 2: json: cannot unmarshal number into Go value of type tc.entry",
		`[{"protocol":"all"}]`:  `tc.json: entry 1: a filter without "dev"`,
		`[{"dev":"e","protocol":"all","kind":"matchall","options":[]}]`:                                   "tc.json: entry 1: options: [] where an object should be",
		`[{"dev":"e","protocol":"all","kind":"matchall","options":{"actions":{}}}]`:                       "tc.json: entry 1: actions: json: cannot unmarshal object into Go value of type []json.RawMessage",
		`[{"dev":"e","protocol":"all","kind":"matchall","options":{"actions":[{"control_action":1}]}}]`:   "tc.json: entry 1: action 1: control_action: json: cannot unmarshal number into Go value of type struct { Type string; Chain uint32; Jump uint32 }",
		`[{"dev":"e","protocol":"all","kind":"flower","options":{"keys":3}}]`:                             "tc.json: entry 1: keys: 3 where an object should be",
		`[{"dev":"e","protocol":"ip","kind":"u32","options":{"match":3}}]`:                                "tc.json: entry 1: match: 3 where an object should be",
		`[{"dev":"e","protocol":"ip","kind":"u32","options":{"fwmark_value":"zz","fwmark_mask":"0xff"}}]`: "tc.json: entry 1: fwmark zz/0xff",
	} {
		if _, err := Parse("tc.json", []byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("[" + fmt.Sprintf(matchall, 1, drop) + "," + fmt.Sprintf(flower, `"dst_port":80`) + "]"))
	f.Add([]byte("[" + fmt.Sprintf(u32, `"match":{"value":"50","mask":"ffff","offmask":"","off":20}`) + "]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("tc.json", data)
		if err != nil {
			return
		}
		s.Run("e", Ingress, syn(), &asked{})
	})
}

// The text of iproute2 6.1, with device and parent added.
func TestTheOutputOfTCIsUnderstood(t *testing.T) {
	data, err := os.ReadFile("testdata/iproute2-6.1.json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Parse("tc.json", data)
	if err != nil {
		t.Fatal(err)
	}
	to80, to81, ping := syn(), syn(), syn()
	to81.Packet.DstPort, to81.Packet.Src = 81, netip.MustParseAddr("192.0.2.1")
	ping.Packet.Protocol, ping.Packet.SrcPort, ping.Packet.DstPort = netstack.ProtoICMP, 0, 0
	tagged := syn()
	tagged.Tag, tagged.VLAN = EtherVLAN, 5
	for _, test := range []struct {
		name  string
		hook  Hook
		frame *Frame
		want  string
		asked string
	}{
		{"u32 passes a port", Ingress, to80, "pass filter protocol ip pref 10 u32 chain 0 fh 800::800 on e0 ingress", ""},
		{"u32 redirects the protocol", Ingress, to81, "redirect filter protocol ip pref 10 u32 chain 0 fh 800::801 on e0 ingress", ""},
		{"u32 redirects everything", Ingress, ping, "redirect filter protocol all pref 12 u32 chain 0 fh 802::800 on e0 ingress", "u32 at 20"},
		{"flower meets no key but one that is asked about", Egress, to81, "pass ", "flower ct_state +trk"},
		{"flower of a VLAN asks about the priority", Egress, tagged, "pass ", "flower vlan_prio 3"},
	} {
		env := &asked{}
		res := s.Run("e0", test.hook, test.frame, env)
		text := ""
		if res.Filter != nil {
			text = res.Filter.Text
		}
		if got := res.Fate.String() + " " + text; got != test.want || strings.Join(env.what, ", ") != test.asked {
			t.Errorf("%s: %s, asked %q; want %s, asked %q", test.name, got, env.what, test.want, test.asked)
		}
	}
}

func TestQueuesDropWhatTheyHaveRoomFor(t *testing.T) {
	const root = `{"dev":"e","root":true,"handle":"1:","kind":%q,"options":{%s}}`
	bulk := func(f *Frame) { f.Packet.Length, f.Packet.GSOSize = 1500, 1448 }
	tagged := func(f *Frame) { f.Tag, f.VLAN = EtherVLAN, 5 }
	arp := func(f *Frame) { f.ARP = true }
	for _, test := range []struct {
		name, qdiscs string
		frame        func(*Frame)
		fate, asked  string
	}{
		{"the kernel's own", fmt.Sprintf(root, "fq_codel", `"limit":10240`), nil, "pass", ""},
		{"a kind that nobody knows", fmt.Sprintf(root, "newq", ``), nil, "pass", "qdisc newq"},
		{"a kind that drops what is in no class", fmt.Sprintf(root, "hfsc", ``), nil, "pass", "qdisc hfsc"},
		{"blackhole", fmt.Sprintf(root, "blackhole", ``), nil, "drop", ""},
		{"no packets", fmt.Sprintf(root, "pfifo", `"limit":0`), nil, "drop", ""},
		{"a limit that is not given", fmt.Sprintf(root, "pfifo", ``), nil, "pass", ""},
		{"as many bytes as the frame has", fmt.Sprintf(root, "bfifo", `"limit":74`), nil, "pass", ""},
		{"one less", fmt.Sprintf(root, "bfifo", `"limit":73`), nil, "drop", ""},
		{"more than a segment of some that are sent at once", fmt.Sprintf(root, "bfifo", `"limit":1600`), bulk, "pass", "whether the frame is longer than 1600 bytes"},
		{"a burst", fmt.Sprintf(root, "tbf", `"rate":1000000,"burst":74`), nil, "pass", ""},
		{"a smaller one", fmt.Sprintf(root, "tbf", `"rate":1000000,"burst":72`), nil, "drop", ""},
		{"one that tc may have shown smaller than it is", fmt.Sprintf(root, "tbf", `"rate":1000000,"burst":73`), nil, "pass", "whether the frame is longer than 73 bytes"},
		{"one of segments that are sent at once", fmt.Sprintf(root, "tbf", `"rate":1000000,"burst":1514`), bulk, "pass", ""},
		{"one that the tag may exceed", fmt.Sprintf(root, "tbf", `"rate":1000000,"burst":75`), tagged, "pass", "whether the frame is longer than 75 bytes"},
		{"one of a request for a neighbour", fmt.Sprintf(root, "tbf", `"rate":1000000,"burst":42`), arp, "pass", ""},
		{"one that is not given", fmt.Sprintf(root, "tbf", `"rate":1000000`), nil, "pass", "burst"},
		{"another rate for peaks", fmt.Sprintf(root, "tbf", `"rate":1000000,"burst":2000,"peakrate":2000000`), nil, "pass", "mtu"},
		{"a limit that the burst is above", fmt.Sprintf(root, "tbf", `"rate":1000000,"burst":2000,"limit":73`), nil, "drop", ""},
		{"a limit of the frame", fmt.Sprintf(root, "tbf", `"rate":1000000,"burst":2000,"limit":74`), nil, "pass", ""},
		{"a limit of a queue that another one has replaced", fmt.Sprintf(root, "tbf", `"rate":1000000,"burst":2000,"limit":73`) + `,{"dev":"e","parent":"1:1","handle":"2:","kind":"pfifo","options":{"limit":9}}`, nil, "pass", ""},
		{"delay", fmt.Sprintf(root, "netem", `"limit":1000,"delay":{"delay":0.01}`), nil, "pass", ""},
		{"loss", fmt.Sprintf(root, "netem", `"loss-random":{"loss":0.25}`), nil, "drop", "dice [0.75 0.25]"},
		{"loss of all", fmt.Sprintf(root, "netem", `"loss-random":{"loss":1,"correlation":0}`), nil, "drop", ""},
		{"loss, but for what is marked instead", fmt.Sprintf(root, "netem", `"loss-random":{"loss":1},"ecn":true`), nil, "pass", "ecn"},
		{"loss by a model", fmt.Sprintf(root, "netem", `"loss-gemodel":{"p":0.1}`), nil, "pass", "netem loss-gemodel"},
		{"corruption", fmt.Sprintf(root, "netem", `"corrupt":{"corrupt":0.1}`), nil, "pass", "netem corrupt"},
		{"some class", fmt.Sprintf(root, "htb", ``) + `,{"dev":"e","parent":"1:1","handle":"2:","kind":"blackhole"}`, nil, "pass", "whether the frame comes to the class 1:1"},
		{"the only class", fmt.Sprintf(root, "netem", ``) + `,{"dev":"e","parent":"1:1","handle":"2:","kind":"blackhole"}`, nil, "drop", ""},
		{"a class of another device", fmt.Sprintf(root, "netem", ``) + `,{"dev":"f","parent":"1:1","handle":"2:","kind":"blackhole"}`, nil, "pass", ""},
		{"classes in a circle", `{"dev":"e","parent":"2:1","handle":"1:","kind":"tbf","options":{"burst":2000}},{"dev":"e","parent":"1:1","handle":"2:","kind":"netem","options":{"loss-random":{"loss":1}}}`, nil, "pass", "whether the frame comes to the class 1:1"},
		{"a filter that drops first", fmt.Sprintf(root, "htb", ``) + `,{"dev":"e","parent":"1:","protocol":"all","pref":1,"kind":"matchall","options":{` + drop + `}},{"dev":"e","parent":"1:1","handle":"2:","kind":"blackhole"}`, nil, "drop", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := Parse("tc.json", []byte("["+test.qdiscs+"]"))
			if err != nil {
				t.Fatal(err)
			}
			frame := syn()
			frame.Header = 14
			if test.frame != nil {
				test.frame(frame)
			}
			env := &asked{}
			if got := s.Run("e", Qdisc, frame, env); got.Fate.String() != test.fate || strings.Join(env.what, ", ") != test.asked {
				t.Errorf("%s, asked %q; want %s, asked %q", got.Fate, env.what, test.fate, test.asked)
			}
			if got := s.Run("e", Egress, syn(), env); got != (Result{}) {
				t.Errorf("at egress: %+v", got)
			}
		})
	}
}
