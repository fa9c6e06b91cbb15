package collector

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

const uid = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"

func testPod(name, node, ip string, change ...func(*corev1.Pod)) corev1.Pod {
	pod := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec:       corev1.PodSpec{NodeName: node},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}, {IP: "fd00::" + ip[len(ip)-1:]}}},
	}
	for _, c := range change {
		c(&pod)
	}
	return pod
}

func TestIdentify(t *testing.T) {
	objects := cluster.Objects{
		Nodes: []corev1.Node{{
			ObjectMeta: metav1.ObjectMeta{Name: "node-1"},
			Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: "192.168.1.1"},
				{Type: corev1.NodeExternalIP, Address: "198.51.100.7"},
			}},
		}},
		Pods: []corev1.Pod{
			testPod("web", "node-1", "10.0.0.1"),
			testPod("hostnet", "node-1", "192.168.1.9", func(p *corev1.Pod) { p.Spec.HostNetwork = true }),
			testPod("done", "node-1", "10.0.0.3", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
			testPod("byuid", "node-2", "10.0.0.4", func(p *corev1.Pod) { p.UID = types.UID(uid) }),
		},
	}
	addrs := func(text ...string) (out []netip.Addr) {
		for _, a := range text {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	type result struct {
		Name string
		Kind netstack.Kind
		Node string
		Pod  string
	}
	none := cluster.Objects{}
	for name, test := range map[string]struct {
		objects cluster.Objects
		given   bool
		in      []*identity
		want    []result
	}{
		"the host is a node by its own name without cluster objects": {
			none, false,
			[]*identity{{host: true, mounts: []string{"x"}, pids: []int{1}}},
			[]result{{"host", netstack.KindNode, "machine", ""}},
		},
		"the host is a node by its own name if nodes are not known": {
			cluster.Objects{Pods: objects.Pods, Missing: map[string]string{"nodes": "forbidden"}},
			true,
			[]*identity{{host: true, addrs: addrs("203.0.113.1")}},
			[]result{{"host", netstack.KindNode, "machine", ""}},
		},
		"the host is nobody's node if the cluster does not know it": {
			objects, true,
			[]*identity{{host: true, addrs: addrs("203.0.113.1")}},
			[]result{{"host", netstack.KindOther, "", ""}},
		},
		"a node is known by its internal address, not by its external one": {
			objects, true,
			[]*identity{{mounts: []string{"a"}, addrs: addrs("192.168.1.1")}, {mounts: []string{"b"}, addrs: addrs("198.51.100.7")}},
			[]result{{"a", netstack.KindNode, "node-1", ""}, {"b", netstack.KindOther, "", ""}},
		},
		"a pod is known by any of its addresses, and keeps the name of its mount": {
			objects, true,
			[]*identity{{mounts: []string{"cni-1"}, addrs: addrs("fd00::1")}},
			[]result{{"cni-1", netstack.KindPod, "node-1", "shop/web"}},
		},
		"a pod's namespace without a mount is named after the pod": {
			objects, true,
			[]*identity{{pids: []int{70}, addrs: addrs("10.0.0.1")}},
			[]result{{"pod-shop.web", netstack.KindPod, "node-1", "shop/web"}},
		},
		"the control group wins over the address": {
			objects, true,
			[]*identity{{mounts: []string{"a"}, addrs: addrs("10.0.0.4")}, {mounts: []string{"b"}, podUID: uid}},
			[]result{{"a", netstack.KindOther, "", ""}, {"b", netstack.KindPod, "node-2", "shop/byuid"}},
		},
		"of two namespaces with one pod's address the first is the pod": {
			objects, true,
			[]*identity{{mounts: []string{"a"}, addrs: addrs("10.0.0.1")}, {mounts: []string{"b"}, addrs: addrs("10.0.0.1")}},
			[]result{{"a", netstack.KindPod, "node-1", "shop/web"}, {"b", netstack.KindOther, "", ""}},
		},
		"a namespace that nobody asked for is no pod": {
			objects, true,
			[]*identity{{mounts: []string{"a"}, addrs: addrs("10.0.0.1"), excluded: true}, {mounts: []string{"b"}, addrs: addrs("10.0.0.1")}},
			[]result{{"a", netstack.KindOther, "", ""}, {"b", netstack.KindPod, "node-1", "shop/web"}},
		},
		"a namespace that is let go of, but still has a process, is not the pod that got its address": {
			objects, true,
			[]*identity{{pids: []int{70}, addrs: addrs("10.0.0.1", "fd00::1")}, {mounts: []string{"b"}, addrs: addrs("10.0.0.1", "fd00::1")}},
			[]result{{"pid-70", netstack.KindOther, "", ""}, {"b", netstack.KindPod, "node-1", "shop/web"}},
		},
		"nor is it that pod when a link that is down has lost one of the pod's addresses": {
			objects, true,
			[]*identity{{pids: []int{70}, addrs: addrs("10.0.0.1", "fd00::1")}, {mounts: []string{"b"}, addrs: addrs("10.0.0.1")}},
			[]result{{"pid-70", netstack.KindOther, "", ""}, {"b", netstack.KindPod, "node-1", "shop/web"}},
		},
		"neither a pod on the host's network nor one that has ended owns a namespace": {
			objects, true,
			[]*identity{{mounts: []string{"a"}, addrs: addrs("192.168.1.9")}, {mounts: []string{"b"}, addrs: addrs("10.0.0.3")}},
			[]result{{"a", netstack.KindOther, "", ""}, {"b", netstack.KindOther, "", ""}},
		},
		"names come from the first process, then from the inode, and never twice": {
			none, false,
			[]*identity{{pids: []int{12, 90}}, {inode: 4026532}, {inode: 5, mounts: []string{"x"}}, {inode: 6, mounts: []string{"x"}}, {inode: 7, mounts: []string{"host"}}, {host: true}},
			[]result{
				{"pid-12", netstack.KindOther, "", ""},
				{"net-4026532", netstack.KindOther, "", ""},
				{"x", netstack.KindOther, "", ""},
				{"x-6", netstack.KindOther, "", ""},
				{"host-7", netstack.KindOther, "", ""},
				{"host", netstack.KindNode, "machine", ""},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := identify(test.in, test.objects, test.given, "machine"); err != nil {
				t.Fatal(err)
			}
			var got []result
			for _, id := range test.in {
				got = append(got, result{id.name, id.kind, id.node, id.pod})
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestPodUIDOf(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"cgroupfs driver":   {"0::/kubepods/burstable/pod" + uid + "/c0ffee\n", uid},
		"systemd driver":    {"0::/kubepods.slice/kubepods-pod0a1b2c3d_4e5f_6071_8293_a4b5c6d7e8f9.slice/cri-c0ffee.scope\n", uid},
		"version 1":         {"12:cpu:/kubepods/pod" + uid + "/x\n11:pids:/\n", uid},
		"no pod":            {"0::/system.slice/podman.service\n", ""},
		"not a UID":         {"0::/kubepods/pod0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8fX/x\n", ""},
		"text that is over": {"0::/kubepods/pod", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := podUIDOf(test.text); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// What a confined agent takes for the host's namespace may be its own pod's.
func TestAGuessIsNoNode(t *testing.T) {
	denied := errors.New("look at /proc/1/ns/net: permission denied")
	known := cluster.Objects{Nodes: []corev1.Node{{
		ObjectMeta: metav1.ObjectMeta{Name: "machine"},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.168.1.1"}}},
	}}}
	unknown := cluster.Objects{Missing: map[string]string{"nodes": "forbidden"}}
	for name, test := range map[string]struct {
		objects cluster.Objects
		given   bool
		guess   error
		addr    string
		kind    netstack.Kind
		err     string
	}{
		"it has the address of a pod":       {known, true, denied, "10.0.0.1", netstack.KindNode, "the network namespace of node machine is not known: look at /proc/1/ns/net: permission denied"},
		"it has the node's address":         {known, true, denied, "192.168.1.1", netstack.KindNode, ""},
		"it is no guess":                    {known, true, nil, "10.0.0.1", netstack.KindNode, ""},
		"the nodes' addresses are unknown":  {unknown, true, denied, "10.0.0.1", netstack.KindNode, "the network namespace of node machine is not known"},
		"the host is no node":               {cluster.Objects{}, true, denied, "10.0.0.1", netstack.KindOther, ""},
		"there is no cluster, but one host": {cluster.Objects{}, false, denied, "10.0.0.1", netstack.KindNode, ""},
	} {
		t.Run(name, func(t *testing.T) {
			id := &identity{host: true, guess: test.guess, addrs: []netip.Addr{netip.MustParseAddr(test.addr)}}
			err := identify([]*identity{id}, test.objects, test.given, "machine")
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.HasPrefix(err.Error(), test.err) || !strings.Contains(err.Error(), "appArmorProfile")) {
				t.Errorf("got %v, want %q, and what to do", err, test.err)
			}
			if id.kind != test.kind {
				t.Errorf("it is a %v, want %v", id.kind, test.kind)
			}
		})
	}
}
