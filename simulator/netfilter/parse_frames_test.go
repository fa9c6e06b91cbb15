package netfilter

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

func TestMalformedARPTablesAreRefusedByFileLineAndToken(t *testing.T) {
	const head = "*filter\n:INPUT ACCEPT\n:OUTPUT DROP\n:A -\n"
	rule := func(spec string) string { return head + "-A INPUT " + spec + "\n" }
	for _, c := range []struct{ name, text, want string }{
		{"a line before any table", "-A INPUT -j DROP\n", `f:1: expected *TABLE at "-A"`},
		{"a table that does not exist", "*nat\n", `f:1: unknown table at "nat"`},
		{"a table twice", "*filter\nCOMMIT\n*filter\n", `f:3: table occurs twice at "filter"`},
		{"a command other than -A", head + "-I INPUT -j DROP\n", `f:5: expected -A CHAIN at "-I"`},
		{"a rule without a chain", head + "-A\n", `f:5: option needs a value at "-A"`},
		{"a rule of an undeclared chain", head + "-A B -j DROP\n", `f:5: chain is not declared at "B"`},
		{"a jump to an undefined chain", rule("-j B"), `f:5: chain or target is not defined at "B"`},
		{"a jump to a built-in chain", rule("-j OUTPUT"), `f:5: jump to a built-in chain at "OUTPUT"`},
		{"two targets", rule("-j DROP -j ACCEPT"), `f:5: a rule has one target at "ACCEPT"`},
		{"a target that is negated", rule("! -j DROP"), `f:5: option cannot be negated at "-j"`},
		{"a loop", head + "-A A -j A\n", `f:4: chains of table filter form a loop at "A"`},
		{"a chain twice", head + ":A -\n", `f:5: chain declared twice at "A"`},
		{"a chain without a policy", "*filter\n:INPUT\n", `f:2: chain has no policy at ":INPUT"`},
		{"a chain without a name", "*filter\n: ACCEPT\n", `f:2: chain has no name at ": ACCEPT"`},
		{"a policy that does not exist", "*filter\n:INPUT RETURN\n", `f:2: invalid policy of a built-in chain at "RETURN"`},
		{"a user-defined chain with a policy", "*filter\n:A DROP\n", `f:2: invalid policy of a user-defined chain at "DROP"`},
		{"counters of a chain", "*filter\n:INPUT ACCEPT [0:x]\n", `f:2: invalid counters at "[0:x]"`},
		{"text after a chain", "*filter\n:INPUT ACCEPT [0:0] x\n", `f:2: unexpected text after the chain's counters at "x"`},
		{"counters of a rule", head + "[1:] -A INPUT -j DROP\n", `f:5: invalid counters at "[1:]"`},
		{"counters as an option", rule("-c 1 x -j DROP"), `f:5: invalid counter at "x"`},
		{"an address", rule("-s 10.0.0.256 -j DROP"), `f:5: invalid IPv4 address or mask at "10.0.0.256"`},
		{"a hardware address", rule("--src-mac 02:00 -j DROP"), `f:5: invalid hardware address or mask at "02:00"`},
		{"a hardware mask", rule("--dst-mac 02:00:00:00:00:01/ff -j DROP"), `f:5: invalid hardware address or mask at "02:00:00:00:00:01/ff"`},
		{"an interface", rule("-i abcdefghijklmnop -j DROP"), `f:5: invalid interface name at "abcdefghijklmnop"`},
		{"an operation", rule("--opcode Ask -j DROP"), `f:5: invalid number for --opcode at "Ask"`},
		{"a mask of an operation", rule("--opcode 1/x -j DROP"), `f:5: invalid number for --opcode at "x"`},
		{"a length", rule("--h-length 256 -j DROP"), `f:5: invalid number for --h-length at "256"`},
		{"an unknown option", rule("--dport 80 -j DROP"), `f:5: unknown option at "--dport"`},
		{"an unknown option of MARK", rule("-j MARK --mark 1"), `f:5: unknown option at "--mark"`},
		{"MARK without a mark", rule("-j MARK"), `f:5: target has not one operation at "MARK"`},
		{"a mark", rule("-j MARK --set-mark x"), `f:5: invalid number for --set-mark at "x"`},
		{"a value without its option", rule("x -j DROP"), `f:5: expected an option at "x"`},
		{"an option without a value", rule("-s"), `f:5: option needs a value at "-s"`},
		{"nothing to negate", rule("!"), `f:5: nothing to negate at "!"`},
		{"negated twice", rule("! -s ! 10.0.0.1 -j DROP"), `f:5: option is negated twice at "-s"`},
		{"an open quote", rule(`-i "eth0 -j DROP`), `f:5: quote is not closed at "\"eth0 -j DROP"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Compile(&netstack.Namespace{ARPTables: netstack.Text{File: "f", Data: []byte(c.text)}})
			if err == nil || err.Error() != c.want {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}

// Hardware addresses that are not known are asked about, where they could decide.
func TestARPTablesAskAboutWhatIsNotKnown(t *testing.T) {
	rs, err := Compile(&netstack.Namespace{ARPTables: netstack.Text{File: "f", Data: []byte("*filter\n:INPUT ACCEPT\n" +
		"-A INPUT -j DROP --src-mac 02:00:00:00:00:01 -s 10.0.0.9\n" +
		"-A INPUT -j DROP --src-mac 02:00:00:00:00:01 -s 10.0.0.1\n" +
		"-A INPUT -j mangle --mangle-ip-s 10.0.0.3\n")}})
	if err != nil {
		t.Fatal(err)
	}
	packet := arpPacket()
	packet.ARP.SenderMAC = netstack.MAC{}
	env := &fakeEnv{unknown: map[string]bool{"target mangle": true}}
	res := rs.RunARP(Input, packet, env)
	want := Result{Action: Drop, Rule: Rule{
		Family: "arp", Backend: netstack.BackendLegacy, Table: "filter", Chain: "INPUT", Number: 3, Text: "-A INPUT -j mangle --mangle-ip-s 10.0.0.3",
	}}
	if res != want {
		t.Errorf("got %v, want %v", res, want)
	}
	if diff := cmp.Diff([]string{"match --src-mac", "target mangle"}, env.asked); diff != "" {
		t.Errorf("asked (-want +got)\n%s", diff)
	}
	if rules, unmodelled := rs.Coverage(); rules != 3 || unmodelled != 1 {
		t.Errorf("%d rules, %d not modelled", rules, unmodelled)
	}
}

// arpPacket is a request of 10.0.0.1 for 10.0.0.2.
func arpPacket() *State {
	mac := netstack.MAC{2, 0, 0, 0, 0, 1}
	return &State{
		Packet: &netstack.Packet{SrcMAC: mac}, In: "eth0", PhysIn: "eth0",
		ARP: &ARP{SenderMAC: mac, Sender: addr("10.0.0.1"), Target: addr("10.0.0.2")},
	}
}

// Both tools have their places for what is negated, and chains that users made
// have policies.
func TestLegacyEBTables(t *testing.T) {
	const dump = "*filter\n:INPUT ACCEPT\n:FORWARD DROP\n:OUTPUT ACCEPT\n:own RETURN\n:last DROP\n"
	for _, c := range []struct {
		name, rules string
		unknown     map[string]bool
		want        Action
		number      int
		asked       int
	}{
		{name: "the policy", want: Drop},
		{name: "an EtherType", rules: "-A FORWARD -p ARP -j ACCEPT\n-A FORWARD -p 0x800 -j ACCEPT", want: Accept},
		{name: "ports and addresses", rules: "-A FORWARD -i pb -j ACCEPT\n-A FORWARD -p IPv4 -i p+ -o pb -s 02:00:00:00:00:01 -d ! 02:00:00:00:00:01 -j ACCEPT", want: Accept},
		{name: "groups of addresses", rules: "-A FORWARD -d 01:00:00:00:00:00/01:00:00:00:00:00 -j ACCEPT", want: Drop},
		{name: "a chain that returns", rules: "-A own -p ! IPv4 -j DROP\n-A FORWARD -j own\n-A FORWARD -j ACCEPT", want: Accept},
		{name: "a chain with a policy", rules: "-A last -p IPv6 -j ACCEPT\n-A FORWARD -j last\n-A FORWARD -j ACCEPT", want: Drop},
		{name: "a rule that goes on", rules: "-A FORWARD -j CONTINUE\n-A FORWARD -j RETURN\n-A FORWARD -j ACCEPT", want: Accept},
		{name: "a match that may hold", rules: "-A FORWARD -p IPv4 --ip-dst 10.0.0.2 -j ACCEPT", unknown: map[string]bool{"match --ip-dst": true}, want: Accept, asked: 1},
		{name: "a match that may not hold", rules: "-A FORWARD -p IPv4 --ip-dst ! 10.0.0.2 -j ACCEPT", want: Drop, asked: 1},
		{name: "a match that could not decide", rules: "-A FORWARD -p IPv6 --ip6-dst fd00::1 -j ACCEPT", want: Drop},
		{name: "a target that is not modelled", rules: "-A FORWARD -j mark --mark-set 0x1 --mark-target ACCEPT", want: Drop, asked: 2},
		{name: "frames without an EtherType", rules: "-A FORWARD -p LENGTH -j ACCEPT", want: Drop},
	} {
		t.Run(c.name, func(t *testing.T) {
			rs, err := Compile(&netstack.Namespace{EBTables: netstack.Text{File: "f", Data: []byte(dump + c.rules + "\n")}})
			if err != nil {
				t.Fatal(err)
			}
			p := packet()
			p.SrcMAC, p.DstMAC = netstack.MAC{2, 0, 0, 0, 0, 1}, netstack.MAC{2, 0, 0, 0, 0, 2}
			env := &fakeEnv{unknown: c.unknown}
			res := rs.RunBridge(Forward, true, &State{Packet: p, In: "pa", Out: "pb"}, env)
			if res.Action != c.want || len(env.asked) != c.asked {
				t.Errorf("got %v, asked %q", res, env.asked)
			}
		})
	}
}

func FuzzEBTables(f *testing.F) {
	f.Add("*filter\n:FORWARD DROP\n:own DROP\n-A FORWARD -p IPv4 -i ! pa -s 02:00:00:00:00:01/ff:ff:ff:ff:ff:00 --ip-dst ! 10.0.0.1 --ip-proto 6 -j own\n" +
		"-A own -p ARP --arp-op Request -j mark --mark-set 0x1 --mark-target ACCEPT\n-A own --limit 1/s -j CONTINUE\nCOMMIT\n")
	f.Add("*nat\n:PREROUTING ACCEPT\n-A PREROUTING -d ! 02:00:00:00:00:01 --logical-in br0 -j dnat --to-dst 02:00:00:00:00:02 --dnat-target ACCEPT\n")
	f.Fuzz(func(t *testing.T, text string) {
		rs, err := Compile(&netstack.Namespace{EBTables: netstack.Text{File: "f", Data: []byte(text)}})
		if err != nil {
			pointsAt(t, err, text)
			return
		}
		for _, hook := range []Hook{Prerouting, Input, Forward, Output, Postrouting} {
			for _, early := range []bool{true, false} {
				rs.RunBridge(hook, early, &State{Packet: packet(), In: "pa", Out: "pb"}, &fakeEnv{})
				rs.RunBridge(hook, early, arpPacket(), &fakeEnv{})
			}
		}
	})
}

func FuzzARPTables(f *testing.F) {
	f.Add("*filter\n:INPUT ACCEPT\n:OUTPUT DROP [1:2]\n:A -\n[3:4] -A INPUT -j A ! -i eth+ -s 10.0.0.0/24 -d ! 10.0.0.2/255.0.0.255\n" +
		"-A A --src-mac 02:00:00:00:00:01/ff:ff:ff:ff:ff:00 --dst-mac 02:00:00:00:00:01 -j RETURN\nCOMMIT\n")
	f.Add("*filter\n:FORWARD ACCEPT\n-A FORWARD --opcode Request --h-type Ethernet --h-length 6/0xf --proto-type 0x800 -j mangle --mangle-ip-s 10.0.0.1 --mangle-target CONTINUE\n" +
		"-A FORWARD -j MARK --set-xmark 0x1/0x3\n-A FORWARD -c 1 2 -j CLASSIFY --set-class 1:2\n-A FORWARD -o eth0 -j QUEUE\n-A FORWARD -j NFQUEUE --data 00\n")
	f.Fuzz(func(t *testing.T, text string) {
		rs, err := Compile(&netstack.Namespace{ARPTables: netstack.Text{File: "f", Data: []byte(text)}})
		if err != nil {
			pointsAt(t, err, text)
			return
		}
		for _, hook := range []Hook{Input, Output, Forward} {
			rs.RunARP(hook, arpPacket(), &fakeEnv{})
		}
	})
}
