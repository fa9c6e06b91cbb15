package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// flannel is the plugin with which flannel joins the nodes, by VXLAN: its daemon
// makes the devices, the routes and their neighbours of what Node objects say.
const flannel = "flannel"

// startFlannel starts flannel on all nodes, and waits until they are joined.
func (c *Cluster) startFlannel(ctx context.Context) error {
	config, err := json.Marshal(map[string]any{
		"Network": podRange4, "EnableIPv6": true, "IPv6Network": podRange6, "Backend": map[string]any{"Type": "vxlan"},
		// Its rules are written for the same tables as those of kube-proxy.
		"EnableNFTables": c.options.ProxyMode == "nftables",
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.dir, "flannel.json"), config, 0o600); err != nil {
		return err
	}
	var names []string
	for i := range c.nodes {
		n := &c.nodes[i]
		if err := c.StartFlannel(n.name); err != nil {
			return err
		}
		names = append(names, n.name)
	}
	if err := c.Joined(ctx, names...); err != nil {
		return err
	}
	for i := range c.nodes {
		n := &c.nodes[i]
		if n.mtu, err = flannelMTU(c.subnetFile(n.name)); err != nil {
			return err
		}
	}
	return nil
}

// StartFlannel starts flannel on a node. It looks at its rules of iptables when it
// starts, and not again.
func (c *Cluster) StartFlannel(node string) error {
	if err := os.Remove(c.subnetFile(node)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return c.start("flannel-"+node, node, "env", "NODE_NAME="+node, c.component("flanneld"), "--kubeconfig-file="+filepath.Join(c.dir, "kubeconfig"),
		"--net-config-path="+filepath.Join(c.dir, "flannel.json"), "--subnet-file="+c.subnetFile(node), "--iptables-resync=86400")
}

// StopFlannel ends flannel on a node; what it has made stays.
func (c *Cluster) StopFlannel(node string) error { return c.end("flannel-" + node) }

// subnetFile is what flannel writes, when all but the ways to other nodes is there.
func (c *Cluster) subnetFile(node string) string { return filepath.Join(c.dir, "flannel-"+node+".env") }

// flannelMTU is that of pods.
func flannelMTU(subnetFile string) (int, error) {
	text, err := os.ReadFile(subnetFile)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, "FLANNEL_MTU="); found {
			return strconv.Atoi(strings.TrimSpace(value))
		}
	}
	return 0, fmt.Errorf("flannel has written no MTU: %s", text)
}

// Joined waits until flannel, on the nodes named, has made what the other nodes'
// objects say now.
func (c *Cluster) Joined(ctx context.Context, nodes ...string) error {
	for _, node := range nodes {
		if err := await(ctx, "flannel of "+node+" has joined it with the other nodes", func(ctx context.Context) error {
			return errors.Join(c.joined(ctx, node), c.processes.alive())
		}); err != nil {
			return err
		}
		if err := quickNeighbours(c.Netns(node)); err != nil { // of a device that may be new
			return err
		}
	}
	return nil
}

// joined says in its error what a node lacks of what leads to the others.
func (c *Cluster) joined(ctx context.Context, node string) error {
	if _, err := os.Stat(c.subnetFile(node)); err != nil {
		return err
	}
	for i := range c.nodes {
		other := &c.nodes[i]
		if other.name == node {
			continue
		}
		object, err := c.resource("v1", "Node", "").Get(ctx, other.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for version, of := range []struct{ device, data, public, ip string }{
			{"flannel.1", "backend-data", "public-ip", "-4"},
			{"flannel-v6.1", "backend-v6-data", "public-ipv6", "-6"},
		} {
			says := func(key string) string {
				text, _, _ := unstructured.NestedString(object.Object, "metadata", "annotations", "flannel.alpha.coreos.com/"+key)
				return text
			}
			var data struct{ VtepMAC string }
			if err := json.Unmarshal([]byte(says(of.data)), &data); err != nil {
				return fmt.Errorf("%s says of its tunnel %q: %w", other.name, says(of.data), err)
			}
			pods := other.pods[version]
			for _, there := range []struct {
				argv []string
				want string
			}{
				{[]string{"ip", of.ip, "route", "show", "dev", of.device}, fmt.Sprintf("%s via %s ", pods, pods.Addr())},
				{[]string{"ip", of.ip, "neigh", "show", "dev", of.device}, fmt.Sprintf("%s lladdr %s PERMANENT", pods.Addr(), data.VtepMAC)},
				{[]string{"bridge", "fdb", "show", "dev", of.device}, fmt.Sprintf("%s dst %s ", data.VtepMAC, says(of.public))},
			} {
				list, err := c.Run(ctx, node, there.argv...)
				if err != nil {
					return err
				}
				if !bytes.Contains(list, []byte(there.want)) {
					return fmt.Errorf("%s has %q, not %q", of.device, list, there.want)
				}
			}
		}
	}
	return nil
}
