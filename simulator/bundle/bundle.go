// Package bundle stores a snapshot as a directory, or as one archive of it, in
// the native formats of the standard tools, so that an engineer without
// Plumbline can make one by hand and read one with jq and less:
//
//	bundle.json                        optional: format version, kernel, times, status of each collector, resources of the cluster that were not read
//	cluster/*.yaml|json                Kubernetes objects as kubectl prints them
//	cloud/alibaba/ACTION.json          responses of an action of the OpenAPI: one, a list of them, or several one after the other
//	netns/NAME/meta.json               {"kind":"node|pod|other","node","pod","podUID","taken","nsids","iptables"}
//	netns/NAME/ip-link.json            ip -j -d link
//	netns/NAME/ip-addr.json            ip -j addr
//	netns/NAME/ip-addrlabel.json       ip -j addrlabel, if they are not the kernel's own
//	netns/NAME/ip-route.json           ip -j -N route show table all      ip6-route.json: ip -6 …
//	netns/NAME/ip-nexthop.json         ip -j nexthop
//	netns/NAME/ip-rule.json            ip -j -N rule                      ip6-rule.json: ip -6 …
//	netns/NAME/ip-neigh.json           ip -j neigh
//	netns/NAME/bridge-fdb.json         bridge -j fdb
//	netns/NAME/bridge-vlan.json        bridge -j vlan
//	netns/NAME/sockets.txt             ss -OHanltu -e --inet-sockopt
//	netns/NAME/sysctl.txt              sysctl -a
//	netns/NAME/iptables-save.txt       iptables-save (of the nft backend, unless "iptables" in meta.json says "legacy")
//	netns/NAME/iptables-save-legacy.txt  iptables-legacy-save, where both backends are in use
//	netns/NAME/ip6tables-save.txt, ip6tables-save-legacy.txt
//	netns/NAME/arptables-save-legacy.txt  arptables-legacy-save
//	netns/NAME/ebtables-save-legacy.txt  ebtables-legacy-save
//	netns/NAME/nft.json ipset-save.txt ipvsadm-save.txt tc.json xfrm.txt conntrack.txt bpf.json
//	netns/NAME/resolv.conf hosts       /etc/resolv.conf and /etc/hosts of a container of the pod; of the node
//	netns/NAME/host.json               of a node: {"kernel","booted","processors","load","memoryPressure","daemons","proxyMode","messages"}, which
//	                                   Plumbline alone writes (docs/node-facts.md)
//	names.json                         [{"namespace","server","name","status":"ok|not-found|failed|timeout","addresses","detail"}]:
//	                                   what name servers have answered to those in a network namespace, A and AAAA records together
//
// More files may hold responses of one action: what follows its name after a dot,
// dash or underscore is free (DescribeInstances.2.json, DescribeHealthStatus.lb-1.json,
// which says of which load balancer), and so is a directory below cloud/alibaba. NLB
// and ALB have actions of the same names: nlb.ListListeners.json. A response that is
// an error, or a page that is missing, makes the action failed (docs/cloud.md).
//
// A slash or percent sign in the name of a namespace is percent-encoded in the
// name of its directory. Archives may have one directory around all of this,
// as tar makes them. Unknown files are left alone.
//
// A file that is empty says that there is nothing; a file that is missing says
// nothing, and its part is netstack.StateMissing, unless bundle.json knows that
// the collector failed or that the kernel has no such thing. A policy rule or
// forwarding entry with a property that the model has no place for makes its part
// netstack.StateFailed, with the property as the detail.
//
// Two members are written in addition to what iproute2 6.1 prints, because it
// leaves them out: "lock":["mtu"] in the metrics of a route, and the protocol
// of every rule.
//
// Errors: malformed input is a *netfilter.SyntaxError with file, line and token,
// and no snapshot. Rule sets (iptables-save, nft, ipset, ipvsadm) are kept as
// text, and judged when a World is compiled. An archive or directory beyond a
// limit, or with anything other than plain files and directories, is an error
// that names the path.
package bundle

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/cloud/alibaba"
	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Names in a bundle.
const (
	infoFile   = "bundle.json"
	metaFile   = "meta.json"
	namesFile  = "names.json"
	netnsDir   = "netns"
	cloudDir   = "cloud/alibaba"
	clusterDir = "cluster"
)

// Read reads a bundle from a directory or from a .tar, .tar.gz or .tar.zst
// file; the content of the file decides which it is, not its name.
func Read(path string) (*simulator.Snapshot, error) {
	files, err := loadPath(path)
	return decoded("bundle "+path, files, err)
}

// ReadFS reads a bundle from the root of a file system.
func ReadFS(fsys fs.FS) (*simulator.Snapshot, error) {
	files, err := loadFS(fsys, defaultLimits())
	return decoded("bundle", files, err)
}

// ReadArchive reads a bundle from a stream: tar, plain or compressed with gzip or
// zstd.
func ReadArchive(r io.Reader) (*simulator.Snapshot, error) {
	files, err := loadArchive(r, defaultLimits())
	return decoded("bundle", files, err)
}

// decoded decodes what was loaded of a bundle, if it was.
func decoded(what string, files map[string][]byte, err error) (*simulator.Snapshot, error) {
	var snap *simulator.Snapshot
	if err == nil {
		snap, err = decode(files)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return snap, nil
}

// Write writes a bundle: to a file for a path that ends in .tar, .tar.gz, .tgz
// or .tar.zst, else to a directory, which must be empty or not exist. Nothing
// is at path until all of it is. The same snapshot makes the same bytes.
func Write(path string, snap *simulator.Snapshot) error {
	files, err := encodeSnapshot(snap)
	if err != nil {
		return fmt.Errorf("bundle %s: %w", path, err)
	}
	if err := storePath(path, files, snap.Taken); err != nil {
		return fmt.Errorf("bundle %s: %w", path, err)
	}
	return nil
}

// CheckOutput says what would keep Write from writing to this path: collecting may take minutes.
func CheckOutput(path string) error {
	if err := checkPath(path); err != nil {
		return fmt.Errorf("bundle %s: %w", path, err)
	}
	return nil
}

// WriteArchive writes a bundle as a tar compressed with zstd.
func WriteArchive(w io.Writer, snap *simulator.Snapshot) error {
	files, err := encodeSnapshot(snap)
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	if err := storeArchive(w, compressZstd, files, snap.Taken); err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	return nil
}

// Files returns what Write stores, by the names of the files in the bundle. Texts
// that the snapshot holds are not copied.
func Files(snap *simulator.Snapshot) (map[string][]byte, error) { return encodeSnapshot(snap) }

// Decode reads the files of a bundle, by their names in it. The snapshot keeps
// what it is given.
func Decode(files map[string][]byte) (*simulator.Snapshot, error) { return decode(files) }

// decode makes a snapshot of the files of a bundle.
func decode(files map[string][]byte) (*simulator.Snapshot, error) {
	files, err := unwrap(files)
	if err != nil {
		return nil, err
	}
	snap := new(simulator.Snapshot)
	var status map[string]map[netstack.Part]netstack.Status
	if data, ok := files[infoFile]; ok {
		if status, err = readInfo(&source{file: infoFile, data: data}, snap); err != nil {
			return nil, err
		}
	}
	if data, ok := files[namesFile]; ok {
		if snap.Names, err = readNames(&source{file: namesFile, data: data}); err != nil {
			return nil, err
		}
	}
	dirs := make(map[string]bool)
	for _, file := range slices.Sorted(maps.Keys(files)) {
		parts := strings.Split(file, "/")
		switch {
		case parts[0] == netnsDir && len(parts) == 3:
			dirs[path.Dir(file)] = true
		case parts[0] == clusterDir && len(parts) == 2 && isManifest(file):
			if err := cluster.Decode(file, files[file], &snap.Cluster); err != nil {
				return nil, err
			}
		case strings.HasPrefix(file, cloudDir+"/"):
			if snap.Cloud == nil {
				snap.Cloud = new(alibaba.Facts)
			}
			if err := alibaba.Decode(file, files[file], snap.Cloud); err != nil {
				return nil, err
			}
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		name, err := unescapeName(path.Base(dir))
		if err != nil {
			return nil, err
		}
		n, err := readNamespace(files, dir, status[name])
		if err != nil {
			return nil, err
		}
		snap.Namespaces = append(snap.Namespaces, n)
	}
	byName(snap.Namespaces)
	for i := 1; i < len(snap.Namespaces); i++ {
		if snap.Namespaces[i].Name == snap.Namespaces[i-1].Name {
			return nil, fmt.Errorf("%s: two directories are for namespace %q", netnsDir, snap.Namespaces[i].Name)
		}
	}
	return snap, nil
}

func isManifest(file string) bool {
	switch path.Ext(file) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// unwrap finds the bundle in the files: at the root, or in the only directory
// there is. What is not a bundle is refused, rather than read as an empty one.
func unwrap(files map[string][]byte) (map[string][]byte, error) {
	isBundle := func(files map[string][]byte) bool {
		for file := range files {
			first, _, below := strings.Cut(file, "/")
			if file == infoFile || below && (first == netnsDir || first == clusterDir) {
				return true
			}
		}
		return false
	}
	if isBundle(files) {
		return files, nil
	}
	inner := make(map[string][]byte, len(files))
	var top string
	for file, data := range files {
		first, rest, below := strings.Cut(file, "/")
		if !below || top != "" && first != top {
			inner = nil
			break
		}
		top = first
		inner[rest] = data
	}
	if isBundle(inner) {
		return inner, nil
	}
	return nil, fmt.Errorf("not a bundle: there is no %s, %s or %s", infoFile, netnsDir, clusterDir)
}

// encodeSnapshot makes the files of a bundle.
func encodeSnapshot(snap *simulator.Snapshot) (map[string][]byte, error) {
	files := make(map[string][]byte)
	info, err := writeInfo(snap)
	if err != nil {
		return nil, err
	}
	files[infoFile] = info
	if len(snap.Names) > 0 {
		if files[namesFile], err = writeNames(snap.Names); err != nil {
			return nil, err
		}
	}
	for _, n := range snap.Namespaces {
		if taken, later := snap.Nodes[n.Node]; later {
			copied := *n
			copied.Taken, n = taken, &copied
		}
		if err := writeNamespace(n, files); err != nil {
			return nil, err
		}
	}
	if !snap.Cloud.Empty() {
		responses, err := alibaba.Files(snap.Cloud)
		if err != nil {
			return nil, fmt.Errorf("writing what there is of the cloud: %w", err)
		}
		for name, data := range responses {
			files[path.Join(cloudDir, name)] = data
		}
	}
	if !hasObjects(&snap.Cluster) {
		return files, nil
	}
	manifests, err := cluster.Files(&snap.Cluster)
	if err != nil {
		return nil, fmt.Errorf("writing the Kubernetes objects: %w", err)
	}
	for name, data := range manifests {
		files[path.Join(clusterDir, path.Base(name))] = data
	}
	return files, nil
}

func hasObjects(o *cluster.Objects) bool {
	return len(o.Namespaces)+len(o.Nodes)+len(o.Pods)+len(o.Services)+len(o.EndpointSlices)+len(o.NetworkPolicies)+len(o.OtherPolicies)+len(o.AdminPolicies) > 0
}
