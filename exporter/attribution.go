package exporter

import (
	"strings"
	"sync"

	"github.com/plumbline-net/plumbline/probes"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// attribution names the pods that the probes' counts belong to, from the
// latest view. It implements probes.Attributor.
type attribution struct {
	network *network

	mu    sync.Mutex
	from  *simulator.Snapshot // that places was made of
	pods  map[uint64]probes.Subject
	ports map[port]probes.Subject
}

// port is an interface in a namespace, by the namespace's cookie. The index
// alone says nothing: every namespace counts its own.
type port struct {
	cookie uint64
	index  uint32
}

// Pod implements probes.Attributor.
func (a *attribution) Pod(cookie uint64, ifindex uint32) (probes.Subject, bool) {
	latest, _ := a.network.newest()
	if latest == nil {
		return probes.Subject{}, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.from != latest.snapshot {
		a.index(latest.snapshot)
	}
	if subject, ok := a.ports[port{cookie, ifindex}]; ok {
		return subject, true
	}
	subject, ok := a.pods[cookie]
	return subject, ok
}

func (a *attribution) index(snapshot *simulator.Snapshot) {
	a.from = snapshot
	a.pods = make(map[uint64]probes.Subject)
	a.ports = make(map[port]probes.Subject)
	byName := make(map[string]*netstack.Namespace, len(snapshot.Namespaces))
	for _, ns := range snapshot.Namespaces {
		byName[ns.Name] = ns
	}
	for _, ns := range snapshot.Namespaces {
		if ns.Cookie == 0 {
			continue
		}
		a.pods[ns.Cookie] = subjectOf(ns)
		if ns.Pod != "" {
			continue
		}
		for i := range ns.Links {
			link := &ns.Links[i]
			if link.Kind != "veth" || link.PeerNSID == netstack.NoPeerNS {
				continue
			}
			if peer := byName[ns.NSIDs[link.PeerNSID]]; peer != nil && peer.Pod != "" {
				a.ports[port{ns.Cookie, uint32(link.Index)}] = subjectOf(peer)
			}
		}
	}
}

func subjectOf(ns *netstack.Namespace) probes.Subject {
	namespace, name, _ := strings.Cut(ns.Pod, "/")
	return probes.Subject{Namespace: namespace, Pod: name}
}
