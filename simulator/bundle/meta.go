package bundle

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// FormatVersion is the newest version of the layout that Read understands, and
// the one that Write makes. It grows only when an older reader would be wrong
// about a bundle; new files and members do not change it.
const FormatVersion = 1

// metaJSON is netns/NAME/meta.json.
type metaJSON struct {
	Kind  netstack.Kind  `json:"kind"`
	Node  string         `json:"node,omitempty"`
	Pod   string         `json:"pod,omitempty"`
	UID   string         `json:"podUID,omitempty"`
	Taken *time.Time     `json:"taken,omitempty"`
	NSIDs map[int]string `json:"nsids,omitempty"`
	// IPTables is the backend of iptables-save.txt when it is not nft.
	IPTables string `json:"iptables,omitempty"`
}

func readMeta(s *source, n *netstack.Namespace) (metaJSON, error) {
	var meta metaJSON
	v := s.topObject()
	if v == nil {
		return meta, s.err
	}
	meta.Kind = netstack.Kind(s.name(v, "kind"))
	switch meta.Kind {
	case netstack.KindNode, netstack.KindPod, netstack.KindOther:
	default:
		if m := v.get("kind"); m != nil {
			s.failAt(m, "kind: want node, pod or other")
		}
	}
	meta.IPTables = s.text(v, "iptables")
	if m := v.get("iptables"); m != nil && meta.IPTables != string(netstack.BackendNFT) && meta.IPTables != string(netstack.BackendLegacy) {
		s.failAt(m, "iptables: want nft or legacy")
	}
	n.Kind, n.Node, n.Pod, n.Taken = meta.Kind, s.text(v, "node"), s.text(v, "pod"), s.time(v, "taken")
	n.PodUID = s.text(v, "podUID")
	for i := range s.object(v, "nsids").members {
		m := &v.get("nsids").members[i]
		id, err := strconv.ParseInt(m.key, 10, 32)
		if err != nil {
			s.fail(m.offset, m.key, "nsids: want the number of a namespace")
			break
		}
		if n.NSIDs == nil {
			n.NSIDs = make(map[int]string)
		}
		n.NSIDs[int(id)] = s.text(v.get("nsids"), m.key)
	}
	return meta, s.err
}

func writeMeta(n *netstack.Namespace) ([]byte, error) {
	meta := metaJSON{Kind: n.Kind, Node: n.Node, Pod: n.Pod, UID: n.PodUID, NSIDs: n.NSIDs, Taken: timeOf(n.Taken)}
	if meta.Kind == "" {
		meta.Kind = netstack.KindOther
	}
	return indented(meta)
}

// infoJSON is bundle.json.
type infoJSON struct {
	FormatVersion int                      `json:"formatVersion"`
	Kernel        string                   `json:"kernel,omitempty"`
	Started       *time.Time               `json:"started,omitempty"`
	Ended         *time.Time               `json:"ended,omitempty"`
	Namespaces    map[string]namespaceInfo `json:"namespaces,omitempty"`
	// Missing are resources of the cluster that were not read, and why.
	Missing map[string]string `json:"missing,omitempty"`
	// Failures are collectors that failed as a whole.
	Failures map[string]string `json:"failures,omitempty"`
}

type namespaceInfo struct {
	Collectors map[netstack.Part]statusInfo `json:"collectors"`
}

type statusInfo struct {
	Status netstack.State `json:"status"`
	Detail string         `json:"detail,omitempty"`
}

// reasons reads an object of strings; nil if it has none.
func (s *source) reasons(v *value, name string) map[string]string {
	object := s.object(v, name)
	var texts map[string]string
	for i := range object.members {
		if texts == nil {
			texts = make(map[string]string)
		}
		key := object.members[i].key
		texts[key] = s.text(object, key)
	}
	return texts
}

// readInfo fills the snapshot from bundle.json, and returns the status of the
// parts of each namespace.
func readInfo(s *source, snap *simulator.Snapshot) (map[string]map[netstack.Part]netstack.Status, error) {
	v := s.topObject()
	if v == nil {
		return nil, s.err
	}
	if m := s.field(v, "formatVersion"); m != nil {
		switch version := s.numberOf(m, "formatVersion", 31); {
		case s.err != nil:
		case version > FormatVersion:
			s.failAt(m, "format version is newer than %d, the newest that this plumbline reads: update plumbline", FormatVersion)
		case version == 0:
			s.failAt(m, "formatVersion: versions count from 1")
		}
	}
	snap.Kernel, snap.Taken, snap.Ended = s.text(v, "kernel"), s.time(v, "started"), s.time(v, "ended")
	snap.Cluster.Missing, snap.Failures = s.reasons(v, "missing"), s.reasons(v, "failures")
	namespaces := s.object(v, "namespaces")
	all := make(map[string]map[netstack.Part]netstack.Status)
	for i := range namespaces.members {
		name := namespaces.members[i].key
		s.at = "namespace " + name
		parts := make(map[netstack.Part]netstack.Status)
		collectors := s.object(s.object(namespaces, name), "collectors")
		for j := range collectors.members {
			part := collectors.members[j].key
			status := s.object(collectors, part)
			state := netstack.State(s.name(status, "status"))
			switch state {
			case netstack.StateOK, netstack.StateUnsupported, netstack.StateFailed, netstack.StateMissing:
			default:
				if m := status.get("status"); m != nil {
					s.failAt(m, "%s: status: want ok, unsupported, failed or missing", part)
				}
			}
			parts[netstack.Part(part)] = netstack.Status{State: state, Detail: s.text(status, "detail")}
		}
		all[name] = parts
	}
	return all, s.err
}

func writeInfo(snap *simulator.Snapshot) ([]byte, error) {
	info := infoJSON{
		FormatVersion: FormatVersion, Kernel: snap.Kernel, Started: timeOf(snap.Taken), Ended: timeOf(snap.Ended),
		Missing: snap.Cluster.Missing, Failures: snap.Failures,
	}
	for _, n := range snap.Namespaces {
		if info.Namespaces == nil {
			info.Namespaces = make(map[string]namespaceInfo)
		}
		collectors := make(map[netstack.Part]statusInfo, len(n.Parts))
		for part, s := range n.Parts {
			collectors[part] = statusInfo{s.State, s.Detail}
		}
		info.Namespaces[n.Name] = namespaceInfo{collectors}
	}
	return indented(info)
}

// topObject reads a document that is one object; an empty file is an error
// here, because it says nothing.
func (s *source) topObject() *value {
	v := s.parse()
	switch {
	case s.err != nil:
		return nil
	case v == nil:
		s.fail(0, "", "empty")
		return nil
	case v.kind != jsonObject:
		s.fail(v.offset, s.tokenAt(v.offset), "want an object, found %s", v.kind)
		return nil
	}
	return v
}

// time reads an RFC 3339 time; zero when there is none.
func (s *source) time(v *value, key string) time.Time {
	m := v.get(key)
	if m == nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s.text(v, key))
	if err != nil {
		s.failAt(m, "%s: not a time of RFC 3339", key)
		return time.Time{}
	}
	return t
}

func indented(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}

// byName sorts namespaces as the directories of a bundle sort.
func byName(all []*netstack.Namespace) {
	slices.SortFunc(all, func(a, b *netstack.Namespace) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
}

// timeOf is a time as it is written, wherever it was read; nil if there is none.
func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
