package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// startNodes starts what runs on each node: kube-proxy and the kubelet, and flannel
// where nothing else routes to the pods of other nodes.
func (c *Cluster) startNodes(ctx context.Context) error {
	join := c.routePods
	if c.options.Plugin == flannel {
		join = c.startFlannel
	}
	if err := join(ctx); err != nil {
		return err
	}
	for i := range c.nodes {
		n := &c.nodes[i]
		if err := c.StartProxy(n.name); err != nil {
			return err
		}
		k := &kubelet{cluster: c, node: n, pods: map[types.UID]*pod{}}
		c.kubelets = append(c.kubelets, k)
		c.work.Go(func() error { return k.run(c.background) })
	}
	return c.makeMarker(ctx)
}

// StartProxy starts kube-proxy on a node.
func (c *Cluster) StartProxy(node string) error {
	atOnce := map[string]any{"minSyncPeriod": "0s", "syncPeriod": "30s"}
	config, err := json.Marshal(map[string]any{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"clientConnection": map[string]any{"kubeconfig": filepath.Join(c.dir, "kubeconfig")},
		"hostnameOverride": node, "mode": c.options.ProxyMode, "clusterCIDR": podRange4 + "," + podRange6,
		"iptables": atOnce, "nftables": atOnce,
		// What is changed behind its back lasts until it hears of something.
		"ipvs": map[string]any{"minSyncPeriod": "0s", "syncPeriod": "1h"},
		// It may not write the settings of the host's conntrack from here.
		"conntrack": map[string]any{"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
	})
	if err != nil {
		return err
	}
	file := filepath.Join(c.dir, "kube-proxy-"+node+".json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return err
	}
	return c.start("kube-proxy-"+node, node, c.component("kube-proxy"), "--config="+file)
}

// StopProxy ends kube-proxy on a node; its rules stay.
func (c *Cluster) StopProxy(node string) error { return c.end("kube-proxy-" + node) }

// marker is a service whose changes tell how far the proxies have come: one
// that has programmed the latest has programmed what changed before, for it
// hears of changes of one kind in their order, and programmes all that it has
// heard of.
type marker struct {
	mu     sync.Mutex
	number int
}

const markerName = "marker"

// The marker's addresses: of the service, and of an endpoint that nobody is.
var (
	markerAddresses = [...]string{"10.96.255.1", "fd00:96::ff01"}
	markerEndpoints = [...]string{"198.18.0.1", "2001:db8:18::1"}
)

func (c *Cluster) makeMarker(ctx context.Context) error {
	return c.Apply(ctx, fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: marker}
spec: {clusterIP: %[1]q, clusterIPs: [%[1]q, %[2]q], ipFamilyPolicy: RequireDualStack, ports: [{name: marker, port: 1, targetPort: 1}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: marker, labels: {kubernetes.io/service-name: marker}}
addressType: IPv4
endpoints: [{addresses: [%[3]q]}]
ports: [{name: marker, port: 1, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: marker6, labels: {kubernetes.io/service-name: marker}}
addressType: IPv6
endpoints: [{addresses: [%[4]q]}]
ports: [{name: marker, port: 1, protocol: TCP}]
`, markerAddresses[0], markerAddresses[1], markerEndpoints[0], markerEndpoints[1]))
}

// Programmed waits until kube-proxy, on the nodes named, has programmed what
// the API says now, and CoreDNS, wherever it runs, has heard of it.
func (c *Cluster) Programmed(ctx context.Context, nodes ...string) error {
	c.marker.mu.Lock()
	defer c.marker.mu.Unlock()
	c.marker.number++
	port := 1000 + c.marker.number
	patch := func(version, kind, name, text string) error {
		_, err := c.resource(version, kind, "default").Patch(ctx, name, types.MergePatchType, []byte(text), metav1.PatchOptions{})
		return err
	}
	for _, slice := range []string{markerName, markerName + "6"} {
		if err := patch("discovery.k8s.io/v1", "EndpointSlice", slice, fmt.Sprintf(`{"ports": [{"name": "marker", "port": %d, "protocol": "TCP"}]}`, port)); err != nil {
			return err
		}
	}
	if err := patch("v1", "Service", markerName, fmt.Sprintf(`{"spec": {"ports": [{"name": "marker", "port": %d, "targetPort": %d}]}}`, port, port)); err != nil {
		return err
	}
	for _, node := range nodes {
		for version := range markerAddresses {
			if err := await(ctx, "kube-proxy of "+node+" has programmed the latest", func(ctx context.Context) error {
				return errors.Join(c.programmed(ctx, node, version, port), c.processes.alive())
			}); err != nil {
				return err
			}
		}
	}
	return await(ctx, "CoreDNS has heard of the latest", func(ctx context.Context) error {
		var errs []error
		for _, netns := range c.nameServers() {
			errs = append(errs, knows(ctx, netns, port))
		}
		return errors.Join(errs...)
	})
}

// programmed says in its error what a node's rules, of the first or the second
// IP version, lack of the marker.
func (c *Cluster) programmed(ctx context.Context, node string, version, port int) error {
	// What all modes write: the service's port, and where connections to it go.
	service := netip.AddrPortFrom(netip.MustParseAddr(markerAddresses[version]), uint16(port))
	endpoint := netip.AddrPortFrom(netip.MustParseAddr(markerEndpoints[version]), uint16(port))
	var argv, wanted []string
	switch c.options.ProxyMode {
	case "iptables":
		argv = []string{[...]string{"iptables-save", "ip6tables-save"}[version], "-t", "nat"}
		wanted = []string{fmt.Sprintf("--to-destination %s", endpoint), fmt.Sprintf("--dport %d ", port)}
	case "nftables":
		argv = []string{"nft", "list", "table", [...]string{"ip", "ip6"}[version], "kube-proxy"}
		wanted = []string{fmt.Sprintf("dnat to %s", endpoint), fmt.Sprintf("%s . tcp . %d ", service.Addr(), port)}
	case "ipvs":
		argv = []string{"ipvsadm", "--save", "--numeric"}
		wanted = []string{fmt.Sprintf("-A -t %s ", service), fmt.Sprintf("-a -t %s -r %s ", service, endpoint)}
	}
	rules, err := c.Run(ctx, node, argv...)
	if err != nil {
		return err
	}
	for _, w := range wanted {
		if !bytes.Contains(rules, []byte(w)) {
			return fmt.Errorf("no rule has %q, in %d bytes of them", w, len(rules))
		}
	}
	if c.options.ProxyMode == "ipvs" {
		// The service of before goes last: sets and rules are written then.
		address, _, _ := strings.Cut(wanted[0], fmt.Sprintf(":%d ", port))
		if n := bytes.Count(rules, []byte(address+":")); n > 1 {
			return fmt.Errorf("%d services have the address of the marker", n)
		}
	}
	return nil
}
