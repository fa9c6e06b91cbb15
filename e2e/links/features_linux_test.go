package links

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/plumbline-net/plumbline/e2e/lab"
)

// errNotSupported is what a kernel without a feature says to a scenario that
// needs it.
var errNotSupported = errors.New("this kernel does not support it")

// require names, separated by commas, the features that must be there: a
// scenario that needs one of them fails where it would be skipped. "all" names
// every one.
const require = "PLUMBLINE_REQUIRE"

// features are made in a namespace of their own to find out whether the kernel
// has them: one command a line.
var features = map[string]string{
	"vlan":           "ip link add link v0 name v0.5 type vlan id 5",
	"vlan-filtering": "ip link add br0 type bridge vlan_filtering 1",
	"bond":           "ip link add bond0 type bond mode active-backup",
	"vrf":            "ip link add vrf0 type vrf table 10",
	"dummy":          "ip link add d0 type dummy",
	"ipip":           "ip link add t0 type ipip remote 10.0.0.1",
	"sit":            "ip link add t0 type sit remote 10.0.0.1",
	"gre":            "ip link add t0 type gre remote 10.0.0.1",
	"gretap":         "ip link add t0 type gretap remote 10.0.0.1",
	"ip6tnl":         "ip link add t0 type ip6tnl remote fd00::1",
	"ipvlan":         "ip link add link v0 name i0 type ipvlan mode l2",
	"vxlan":          "ip link add x0 type vxlan id 1 dstport 4789",
	"macvlan":        "ip link add link v0 name m0 type macvlan mode bridge",
	"wireguard":      "ip link add w0 type wireguard",
	"br_netfilter":   "sysctl -qw net.bridge.bridge-nf-call-iptables=1",
	"matchall":       "tc qdisc add dev v0 clsact\ntc filter add dev v0 ingress matchall action drop",
	"u32":            "tc qdisc add dev v0 clsact\ntc filter add dev v0 ingress protocol ip u32 match ip dport 80 0xffff action drop",
	"flower":         "tc qdisc add dev v0 clsact\ntc filter add dev v0 ingress protocol ip flower ip_proto tcp dst_port 80 action drop",
	"icmp-limit":     "sysctl -qw net.ipv4.icmp_msgs_per_sec=0",
	"netem":          "tc qdisc add dev v0 root netem loss 100%",
	"mirred":         "tc qdisc add dev v0 clsact\ntc filter add dev v0 ingress matchall action mirred egress redirect dev v1",
	"xfrm":           "ip xfrm policy add src 10.0.0.0/24 dst 10.0.1.0/24 dir out action block",
	"seg6":           "ip link set v0 up\nip -6 route add fd00:1::/64 encap seg6 mode encap segs fd00:2::1 dev v0",
	"bridge-reject":  "nft add table bridge t\nnft add chain bridge t c { type filter hook prerouting priority 0; }\nnft add rule bridge t c udp dport 5 reject",
	"arptables":      "arptables-legacy -A INPUT -j DROP",
	"ebtables":       "ebtables-legacy -A FORWARD -j DROP\nebtables-legacy -F",
	"locked":         "ip link add br0 type bridge\nip link set v0 master br0\nbridge link set dev v0 locked on",
}

// ownKernel is needed by what is not confined to namespaces: nobody else may use
// the kernel.
const ownKernel = "own-kernel"

var probed sync.Map // feature -> func() error

// supported says whether the kernel has a feature.
func supported(feature string) error {
	commands, known := features[feature]
	if !known {
		return fmt.Errorf("no feature is named %q", feature)
	}
	probe, _ := probed.LoadOrStore(feature, sync.OnceValue(func() error {
		ns := fmt.Sprintf("%s-has-%s", prefix, feature)
		if err := lab.NewNetns(ns); err != nil {
			return fmt.Errorf("probe %s: %w", feature, err)
		}
		err := lab.InNetns(ns, func() error {
			for line := range strings.Lines("ip link add v0 type veth peer name v1\n" + commands) {
				words := strings.Fields(line)
				if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
					return fmt.Errorf("%s: %w: %s: %s", feature, errNotSupported, strings.TrimSpace(line), strings.TrimSpace(string(out)))
				}
			}
			return nil
		})
		return errors.Join(err, lab.RemoveNetns(ns))
	}))
	return probe.(func() error)()
}

// need skips the test where the kernel lacks a feature, or fails it where the
// feature is required.
func need(t *testing.T, names ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces")
	}
	must := strings.Split(os.Getenv(require), ",")
	for _, name := range names {
		if name == ownKernel {
			if !slices.Contains(must, "all") {
				t.Skip("concerns the whole host: runs in the virtual machine")
			}
			continue
		}
		err := supported(name)
		switch {
		case err == nil:
		case !errors.Is(err, errNotSupported), slices.Contains(must, name), slices.Contains(must, "all"):
			t.Fatal(err)
		default:
			t.Skip(err)
		}
	}
}
