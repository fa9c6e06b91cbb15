package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"

	"github.com/plumbline-net/plumbline/e2e/lab"
)

// pluginsDir is where Debian has the plugins.
const pluginsDir = "/usr/lib/cni"

// interfaces of pods are called eth0 by every kubelet.
const podInterface = "eth0"

// portMapping is a hostPort.
type portMapping struct {
	HostPort      int64  `json:"hostPort"`
	ContainerPort int64  `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

// attachment is a pod's connection to its node's network.
type attachment struct {
	id, netns string // the pod's namespace, by name
	ports     []portMapping
	result    json.RawMessage // what the plugins have answered
}

// plugins is the chain that a node runs: one that connects the pod, and one
// that forwards ports of the node.
func (c *Cluster) plugins(n *node) []map[string]any {
	ranges, routes := []any{}, []any{}
	for _, p := range n.pods {
		ranges = append(ranges, []any{map[string]any{"subnet": p.String()}})
		routes = append(routes, map[string]any{"dst": netip.PrefixFrom(unspecified(p.Addr()), 0).String()})
	}
	connect := map[string]any{"type": "bridge", "ipMasq": false, "mtu": n.mtu, "ipam": map[string]any{
		"type": "host-local", "dataDir": filepath.Join(c.dir, "host-local", n.name), "ranges": ranges, "routes": routes,
	}}
	if c.options.Plugin == "ptp" {
		connect["type"] = "ptp"
	} else { // flannel's own plugin does no more than to call this one
		connect["bridge"], connect["isGateway"], connect["hairpinMode"] = "cni0", true, true
	}
	return []map[string]any{connect, {"type": "portmap", "capabilities": map[string]any{"portMappings": true}, "snat": true}}
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// attach runs the chain's ADD and returns the pod's addresses.
func (c *Cluster) attach(ctx context.Context, n *node, a *attachment) ([]string, error) {
	for _, plugin := range c.plugins(n) {
		result, err := c.plugin(ctx, n, "ADD", plugin, a)
		if err != nil {
			return nil, err
		}
		a.result = result
	}
	var result struct {
		IPs []struct {
			Address netip.Prefix `json:"address"`
		} `json:"ips"`
	}
	if err := json.Unmarshal(a.result, &result); err != nil {
		return nil, fmt.Errorf("result of the plugins for %s: %w", a.id, err)
	}
	var addrs []string
	for _, ip := range result.IPs {
		addrs = append(addrs, ip.Address.Addr().String())
	}
	return addrs, errors.Join(quickNeighbours(a.netns), quickNeighbours(c.Netns(n.name)))
}

// detach runs the chain's DEL, the last plugin first.
func (c *Cluster) detach(ctx context.Context, n *node, a *attachment) error {
	chain := c.plugins(n)
	for i := len(chain) - 1; i >= 0; i-- {
		if _, err := c.plugin(ctx, n, "DEL", chain[i], a); err != nil {
			return err
		}
	}
	return nil
}

// plugin calls one plugin as the specification of CNI 0.4.0 says.
func (c *Cluster) plugin(ctx context.Context, n *node, command string, config map[string]any, a *attachment) (json.RawMessage, error) {
	config["cniVersion"], config["name"] = "0.4.0", "pods"
	if config["capabilities"] != nil && len(a.ports) > 0 {
		config["runtimeConfig"] = map[string]any{"portMappings": a.ports}
	}
	if a.result != nil {
		config["prevResult"] = a.result
	}
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(pluginsDir, config["type"].(string)))
	cmd.Env = []string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + a.id, "CNI_NETNS=" + filepath.Join(netnsDir, a.netns),
		"CNI_IFNAME=" + podInterface, "CNI_PATH=" + pluginsDir, "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
	}
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(text), &out, &out
	if err := lab.InNetns(c.Netns(n.name), cmd.Run); err != nil {
		return nil, fmt.Errorf("%s of the plugin %s for %s on %s: %w: %s", command, config["type"], a.id, n.name, err, bytes.TrimSpace(out.Bytes()))
	}
	return out.Bytes(), nil
}
