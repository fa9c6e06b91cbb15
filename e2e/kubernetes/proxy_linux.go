package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// startNodes starts what runs on each node: kube-proxy and the kubelet.
func (c *Cluster) startNodes(ctx context.Context) error {
	if err := c.routePods(ctx); err != nil {
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

const (
	markerName    = "marker"
	markerAddress = "10.96.255.1"
)

func (c *Cluster) makeMarker(ctx context.Context) error {
	return c.Apply(ctx, `
apiVersion: v1
kind: Service
metadata: {name: `+markerName+`, namespace: default}
spec: {clusterIP: `+markerAddress+`, ports: [{name: marker, port: 1, targetPort: 1}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: `+markerName+`, namespace: default, labels: {kubernetes.io/service-name: `+markerName+`}}
addressType: IPv4
endpoints: [{addresses: [198.18.0.1]}]
ports: [{name: marker, port: 1, protocol: TCP}]
`)
}

// Programmed waits until kube-proxy, on the nodes named, has programmed what
// the API says now.
func (c *Cluster) Programmed(ctx context.Context, nodes ...string) error {
	c.marker.mu.Lock()
	defer c.marker.mu.Unlock()
	c.marker.number++
	port := 1000 + c.marker.number
	patch := func(version, kind, text string) error {
		_, err := c.resource(version, kind, "default").Patch(ctx, markerName, types.MergePatchType, []byte(text), metav1.PatchOptions{})
		return err
	}
	if err := patch("discovery.k8s.io/v1", "EndpointSlice", fmt.Sprintf(`{"ports": [{"name": "marker", "port": %d, "protocol": "TCP"}]}`, port)); err != nil {
		return err
	}
	if err := patch("v1", "Service", fmt.Sprintf(`{"spec": {"ports": [{"name": "marker", "port": %d, "targetPort": %d}]}}`, port, port)); err != nil {
		return err
	}
	for _, node := range nodes {
		if err := await(ctx, "kube-proxy of "+node+" has programmed the latest", func(ctx context.Context) error {
			// What both modes write: where connections to the service's port go.
			argv := []string{"iptables-save", "-t", "nat"}
			wanted := []string{fmt.Sprintf("--to-destination 198.18.0.1:%d", port), fmt.Sprintf("--dport %d ", port)}
			if c.options.ProxyMode == "nftables" {
				argv = []string{"nft", "list", "table", "ip", "kube-proxy"}
				wanted = []string{fmt.Sprintf("dnat to 198.18.0.1:%d", port), fmt.Sprintf("%s . tcp . %d ", markerAddress, port)}
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
			return c.processes.alive()
		}); err != nil {
			return err
		}
	}
	return nil
}
