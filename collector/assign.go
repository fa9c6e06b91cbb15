package collector

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// HostNamespace is the name of the host's own network namespace.
const HostNamespace = "host"

// identity is what is known of a namespace before its state is read.
type identity struct {
	inode  uint64
	host   bool
	guess  error    // why it is not certain that it is the host's
	mounts []string // names of bind mounts, those of `ip netns add` first
	pids   []int    // processes in the namespace, ascending
	podUID string   // from the control group of one of them
	addrs  []netip.Addr
	// excluded: nobody asked for it, so that it is no rival of those that have
	// the same addresses.
	excluded bool

	// hostname is what a node may be known by whose own namespace this is.
	hostname string

	name string
	kind netstack.Kind
	node string
	pod  string
}

// howToSee says what a process lacks that may not look at others.
const howToSee = "this needs root, CAP_SYS_PTRACE, the host's process ids (in a pod, hostPID), and no confinement by AppArmor (in a pod, appArmorProfile: {type: Unconfined}) or SELinux (type spc_t)"

// identify fills in whose namespace each is, and a unique name for it. It is an error
// if nothing but a guess says which one is the node's: in a pod, the guess is the pod's.
func identify(all []*identity, objects cluster.Objects, given bool, hostname string) error {
	for _, id := range all {
		id.hostname = hostname
	}
	assign(all, objects, given)
	nameAll(all)
	for _, id := range all {
		if given && id.guess != nil && id.kind == netstack.KindNode && !slices.ContainsFunc(id.addrs, ownersOf(objects).ofNode) {
			return fmt.Errorf("the network namespace of node %s is not known: %w; and that of this process has no address of a node: %s", hostname, id.guess, howToSee)
		}
	}
	return nil
}

// ByNode sorts the nodes and pods of a cluster by the node that each belongs to.
func ByNode(objects *cluster.Objects) map[string]cluster.Objects {
	all := make(map[string]cluster.Objects, len(objects.Nodes))
	for i := range objects.Nodes {
		own := all[objects.Nodes[i].Name]
		own.Nodes = append(own.Nodes, objects.Nodes[i])
		all[objects.Nodes[i].Name] = own
	}
	for i := range objects.Pods {
		if node := objects.Pods[i].Spec.NodeName; node != "" {
			own := all[node]
			own.Pods = append(own.Pods, objects.Pods[i])
			all[node] = own
		}
	}
	return all
}

// Identify says anew, by the objects of a node, whose each of its namespaces is
// that an agent has collected. It fills in Kind, Pod and Node; an agent speaks for
// its own node only, so that own are the objects that ByNode has for it.
func Identify(node string, namespaces []*netstack.Namespace, own cluster.Objects) {
	all := make([]*identity, len(namespaces))
	for i, ns := range namespaces {
		id := &identity{host: ns.Kind == netstack.KindNode, podUID: ns.PodUID, hostname: node}
		if namedByMount(ns.Name) {
			id.mounts = []string{ns.Name}
		}
		for _, a := range ns.Addresses {
			if ip := a.Prefix.Addr(); !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
				id.addrs = append(id.addrs, ip)
			}
		}
		all[i] = id
	}
	assign(all, own, true)
	for i, ns := range namespaces {
		ns.Kind, ns.Pod, ns.Node = all[i].kind, all[i].pod, node
	}
}

// assign fills in whose namespace each is. A pod is known by the UID in its
// processes' control groups, or else by its addresses; a node by its addresses,
// or by the host's name. Without cluster objects, or if nodes are not known, the
// host's own namespace is taken for a node's.
func assign(all []*identity, objects cluster.Objects, given bool) {
	o := ownersOf(objects)
	for _, id := range all {
		id.kind = netstack.KindOther
		if pod := o.podByUID[id.podUID]; pod != nil && !id.host && !o.taken[pod] {
			o.give(id, pod)
		}
	}
	// A namespace that is mounted, as those of all runtimes are, has more right to a
	// pod than one that the runtime has let go of while processes of the pod before
	// still end in it; then one that has all of its addresses, of which a link that is
	// down may have lost some, than one that took one of them over.
	mounted := slices.DeleteFunc(slices.Clone(all), func(id *identity) bool { return len(id.mounts) == 0 })
	for _, candidates := range [][]*identity{mounted, all} {
		o.assignPods(candidates, true)
		o.assignPods(candidates, false)
	}
	hostIsNode := !given || objects.Missing["nodes"] != ""
	for _, id := range all {
		if id.kind != netstack.KindOther || id.excluded {
			continue
		}
		if i := slices.IndexFunc(id.addrs, o.ofNode); i >= 0 {
			id.kind, id.node = netstack.KindNode, o.nodeOf[id.addrs[i]]
		} else if id.host && (hostIsNode || o.nodes[id.hostname]) {
			id.kind, id.node = netstack.KindNode, id.hostname
		}
	}
}

// owners are the pods and nodes that namespaces may belong to.
type owners struct {
	nodes     map[string]bool
	nodeOf    map[netip.Addr]string
	podByUID  map[string]*corev1.Pod
	podByAddr map[netip.Addr]*corev1.Pod
	taken     map[*corev1.Pod]bool // have a namespace
}

func ownersOf(objects cluster.Objects) *owners {
	o := &owners{
		nodes: make(map[string]bool), nodeOf: make(map[netip.Addr]string),
		podByUID: make(map[string]*corev1.Pod), podByAddr: make(map[netip.Addr]*corev1.Pod),
		taken: make(map[*corev1.Pod]bool),
	}
	for i := range objects.Nodes {
		node := &objects.Nodes[i]
		o.nodes[node.Name] = true
		for _, address := range node.Status.Addresses {
			if ip, err := netip.ParseAddr(address.Address); err == nil && address.Type == corev1.NodeInternalIP {
				o.nodeOf[ip.Unmap()] = node.Name
			}
		}
	}
	for i := range objects.Pods {
		pod := &objects.Pods[i]
		if pod.Spec.HostNetwork {
			continue
		}
		if pod.UID != "" {
			o.podByUID[string(pod.UID)] = pod
		}
		// The address of a pod that has ended may be another's by now.
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, ip := range podAddrs(pod) {
			o.podByAddr[ip] = pod
		}
	}
	return o
}

func (o *owners) ofNode(a netip.Addr) bool { return o.nodeOf[a] != "" }

func (o *owners) give(id *identity, pod *corev1.Pod) {
	o.taken[pod] = true
	id.kind, id.pod, id.node = netstack.KindPod, pod.Namespace+"/"+pod.Name, pod.Spec.NodeName
}

// assignPods gives pods to namespaces that have one of their addresses, or all if
// they have to be whole.
func (o *owners) assignPods(candidates []*identity, whole bool) {
	for _, id := range candidates {
		if id.kind != netstack.KindOther || id.excluded || id.host || slices.ContainsFunc(id.addrs, o.ofNode) {
			continue
		}
		// A second namespace with a pod's address is somebody else's: the
		// simulator finds it by the address.
		for _, addr := range id.addrs {
			pod := o.podByAddr[addr]
			if pod == nil || o.taken[pod] || whole && slices.ContainsFunc(podAddrs(pod), func(a netip.Addr) bool { return !slices.Contains(id.addrs, a) }) {
				continue
			}
			o.give(id, pod)
			break
		}
	}
}

func podAddrs(pod *corev1.Pod) []netip.Addr {
	var out []netip.Addr
	add := func(text string) {
		if ip, err := netip.ParseAddr(text); err == nil && !slices.Contains(out, ip.Unmap()) {
			out = append(out, ip.Unmap())
		}
	}
	add(pod.Status.PodIP)
	for _, ip := range pod.Status.PodIPs {
		add(ip.IP)
	}
	return out
}

// nameAll gives each namespace a name that lasts as long as the namespace: of
// its bind mount, its pod, its first process, its inode. Where two would have
// the same one, all but the first carry their inode, too.
func nameAll(all []*identity) {
	used := make(map[string]bool)
	for _, id := range all {
		name := preferredName(id)
		if used[name] || name == HostNamespace && !id.host {
			name += "-" + strconv.FormatUint(id.inode, 10)
		}
		used[name] = true
		id.name = name
	}
}

func preferredName(id *identity) string {
	switch {
	case id.host:
		return HostNamespace
	case len(id.mounts) > 0:
		return id.mounts[0]
	case id.pod != "":
		// A Kubernetes namespace has no dot in its name: this is unique.
		return namedByPod + strings.Replace(id.pod, "/", ".", 1)
	case len(id.pids) > 0:
		return namedByProcess + strconv.Itoa(id.pids[0])
	}
	return namedByInode + strconv.FormatUint(id.inode, 10)
}

// What the names of namespaces begin with that are not mounted.
const (
	namedByPod     = "pod-"
	namedByProcess = "pid-"
	namedByInode   = "net-"
)

// namedByMount says whether a name is that of a mount.
func namedByMount(name string) bool {
	return !strings.HasPrefix(name, namedByPod) && !strings.HasPrefix(name, namedByProcess) && !strings.HasPrefix(name, namedByInode)
}

// podUIDOf finds the UID of a pod in the text of /proc/PID/cgroup: kubelet
// names a pod's group pod<UID>, with underscores under systemd.
func podUIDOf(cgroups string) string {
	const uidLen = len("01234567-89ab-cdef-0123-456789abcdef")
	for rest := cgroups; ; {
		_, after, found := strings.Cut(rest, "pod")
		if !found {
			return ""
		}
		if len(after) >= uidLen {
			if uid := strings.ReplaceAll(after[:uidLen], "_", "-"); isUID(uid) {
				return uid
			}
		}
		rest = after
	}
}

func isUID(s string) bool {
	for i, c := range []byte(s) {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !strings.ContainsRune("0123456789abcdef", rune(c)) {
				return false
			}
		}
	}
	return true
}
