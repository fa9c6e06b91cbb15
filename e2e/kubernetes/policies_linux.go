package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// policyMarker has an object of each kind that kube-router hears of: a rule is
// programmed only when a namespace, a pod in it, and the policy that lets them
// in have all changed.
const policyMarker = `
apiVersion: v1
kind: Namespace
metadata: {name: marker}
---
apiVersion: v1
kind: Pod
metadata: {name: marker, namespace: marker}
spec: {nodeName: node-1, terminationGracePeriodSeconds: 0, containers: [{name: nobody, image: none}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: marker, namespace: marker}
spec: {podSelector: {}, policyTypes: [Ingress]}
`

// EnforcePolicies makes kube-router enforce network policies on all nodes.
func (c *Cluster) EnforcePolicies(ctx context.Context) error {
	if err := c.Apply(ctx, policyMarker); err != nil {
		return err
	}
	for i := range c.nodes {
		if err := c.StartEnforcer(c.nodes[i].name); err != nil {
			return err
		}
	}
	return nil
}

// StartEnforcer starts kube-router on a node, of which only the controller of
// network policies runs, for IPv4: its rules of IPv6 name sets that are called
// otherwise, and ip6tables-restore refuses them.
func (c *Cluster) StartEnforcer(node string) error {
	return c.start("kube-router-"+node, node, c.component("kube-router"), "--kubeconfig="+filepath.Join(c.dir, "kubeconfig"), "--hostname-override="+node,
		"--run-firewall=true", "--run-router=false", "--run-service-proxy=false", "--run-loadbalancer=false",
		"--enable-ipv4=true", "--enable-ipv6=false", "--service-cluster-ip-range="+serviceRange4,
		"--iptables-sync-period=1h", "--health-port=0", "--metrics-port=0", "--v=3") // Enforced reads what it logs
}

// StopEnforcer ends kube-router on a node; its rules stay.
func (c *Cluster) StopEnforcer(node string) error { return c.end("kube-router-" + node) }

// Enforced waits until kube-router, on the nodes named, has programmed what the
// API says now, and rests. While it works, rules and sets have names that change.
func (c *Cluster) Enforced(ctx context.Context, nodes ...string) error {
	if len(nodes) == 0 {
		return nil
	}
	c.marker.mu.Lock()
	defer c.marker.mu.Unlock()
	c.marker.number++
	number := 1000 + c.marker.number
	before := map[string][]int{}
	for _, node := range nodes {
		log, err := c.enforcerLog(node)
		if err != nil {
			return err
		}
		before[node] = markerEvents(log)
	}
	label := fmt.Sprintf(`{"metadata": {"labels": {"marker": "%d"}}}`, number)
	for _, change := range []struct{ version, kind, namespace, patch string }{
		{"v1", "Namespace", "", label},
		{"v1", "Pod", "marker", label},
		{"networking.k8s.io/v1", "NetworkPolicy", "marker", fmt.Sprintf(`{"spec": {"ingress": [{
			"from": [{"namespaceSelector": {"matchLabels": {"marker": "%[1]d"}}, "podSelector": {"matchLabels": {"marker": "%[1]d"}}}],
			"ports": [{"port": %[1]d, "protocol": "TCP"}]}]}}`, number)},
	} {
		_, err := c.resource(change.version, change.kind, change.namespace).Patch(ctx, "marker", types.MergePatchType, []byte(change.patch), metav1.PatchOptions{})
		if err != nil {
			return err
		}
	}
	for _, node := range nodes {
		err := await(ctx, "kube-router of "+node+" has programmed the latest", func(ctx context.Context) error {
			return errors.Join(c.enforced(ctx, node, number, before[node]), c.processes.alive())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// enforced says in its error what a node's rules lack of the marker, or that
// kube-router has still to do. Before are the events of the marker that it had
// heard of before this change.
func (c *Cluster) enforced(ctx context.Context, node string, number int, before []int) error {
	log, err := c.enforcerLog(node)
	if err != nil {
		return err
	}
	rules, err := c.Run(ctx, node, "iptables-save", "-t", "filter")
	if err != nil {
		return err
	}
	if rule := fmt.Sprintf("--dport %d ", number); !bytes.Contains(rules, []byte(rule)) {
		return fmt.Errorf("no rule has %q; kube-router says %q", rule, complaint.Find(log))
	}
	for i, n := range markerEvents(log) {
		if n == before[i] {
			return fmt.Errorf("kube-router has not told of all changes: %v, before %v", markerEvents(log), before)
		}
	}
	count := func(text string) int { return bytes.Count(log, []byte(text)) }
	// Each event, and each period, asks for a sync, unless one is asked for already.
	events := count("] Received update ") + count(" delete event") + count("] Requesting periodic sync ")
	asked := count("] Full sync request queue was empty ")
	if refused, done := count("] Full sync request queue was full"), count("] sync iptables took "); events != asked+refused || asked != done {
		return fmt.Errorf("of %d events, %d have asked for a sync and %d found one asked for; %d are done", events, asked, refused, done)
	}
	return nil
}

func (c *Cluster) enforcerLog(node string) ([]byte, error) {
	return os.ReadFile(filepath.Join(c.dir, "kube-router-"+node+".log"))
}

// markerEvents are how often kube-router has heard of each object of the marker.
func markerEvents(log []byte) (counts []int) {
	for _, text := range []string{"update for namespace: marker\n", "update to pod: marker/marker\n", "update for network policy: marker/marker\n"} {
		counts = append(counts, bytes.Count(log, []byte(text)))
	}
	return counts
}

// complaint is what kube-router says when it gives up.
var complaint = regexp.MustCompile(`Aborting sync.*`)
