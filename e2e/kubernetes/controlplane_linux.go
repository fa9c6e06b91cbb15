package kubernetes

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/plumbline-net/plumbline/e2e/lab"
)

// token is that of the user who may do anything. Nobody else gets to the API
// server: it listens in a network namespace of its own.
const token = "plumbline-tests"

// controllers are those of kube-controller-manager that the cluster needs.
const controllers = "endpointslice-controller,deployment-controller,replicaset-controller,node-ipam-controller,namespace-controller,serviceaccount-controller,garbage-collector-controller"

// Config is how client-go reaches the API server, through its namespace.
func (c *Cluster) Config() *rest.Config {
	return &rest.Config{
		Host:            "https://" + net.JoinHostPort(controlAddress, "6443"),
		BearerToken:     token,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true}, // it has signed its certificate itself
		QPS:             1000, Burst: 1000,
		Dial: c.dial,
	}
}

// dial connects to the API server, past all networks.
func (c *Cluster) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	if elsewhere := c.options.ControlPlane; elsewhere != "" {
		return (&net.Dialer{}).DialContext(ctx, network, elsewhere)
	}
	// The dialer may race addresses in goroutines of its own, but there is only one.
	err = lab.InNetns(c.Netns("control"), func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// component is the path of a part of Kubernetes.
func (c *Cluster) component(name string) string { return filepath.Join(c.options.Components, name) }

func (c *Cluster) startControlPlane(ctx context.Context) error {
	if c.options.Components == "" {
		return fmt.Errorf("%s is not set: it is what hack/kubernetes.sh prints", ComponentsVariable)
	}
	client, err := dynamic.NewForConfig(c.Config())
	if err != nil {
		return err
	}
	c.API = client
	if err := c.writeCredentials(); err != nil {
		return err
	}
	if c.options.ControlPlane != "" {
		relay, err := c.relayAPI(c.Netns("control"), ":6443")
		if err != nil {
			return err
		}
		c.sockets = append(c.sockets, relay)
		return nil
	}
	if err := c.start("etcd", "control", "etcd", "--data-dir", filepath.Join(c.dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379", "--listen-peer-urls", "http://127.0.0.1:2380"); err != nil {
		return err
	}
	file := func(name string) string { return filepath.Join(c.dir, name) }
	if err := c.start("kube-apiserver", "control", c.component("kube-apiserver"), "--etcd-servers=http://127.0.0.1:2379",
		"--bind-address=0.0.0.0", "--secure-port=6443", "--advertise-address="+controlAddress, "--cert-dir="+file("certificates"),
		"--token-auth-file="+file("tokens.csv"), "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount", "--allow-privileged=true",
		"--service-cluster-ip-range="+serviceRange4+","+serviceRange6, "--service-account-issuer=https://plumbline.invalid",
		"--service-account-key-file="+file("service-accounts.key"), "--service-account-signing-key-file="+file("service-accounts.key")); err != nil {
		return err
	}
	plain, err := rest.HTTPClientFor(c.Config())
	if err != nil {
		return err
	}
	defer plain.CloseIdleConnections()
	if err := await(ctx, "the API serves the namespace default", func(ctx context.Context) error {
		_, err := c.resource("v1", "Namespace", "").Get(ctx, "default", metav1.GetOptions{})
		// kube-controller-manager ends when it has not seen this for ten seconds.
		return errors.Join(err, healthy(ctx, plain, c.Config().Host), c.processes.alive())
	}); err != nil {
		return err
	}
	return c.start("kube-controller-manager", "control", c.component("kube-controller-manager"), "--kubeconfig="+file("kubeconfig"), "--leader-elect=false",
		"--controllers="+controllers, "--allocate-node-cidrs", "--cluster-cidr="+podRange4+","+podRange6, "--service-cluster-ip-range="+serviceRange4+","+serviceRange6,
		"--endpointslice-updates-batch-period=0s")
}

func healthy(ctx context.Context, client *http.Client, host string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, host+"/healthz", nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the API server's health is %s", answer.Status)
	}
	return nil
}

// writeCredentials writes the key that signs service accounts' tokens, the
// user's token, and the configuration of clients.
func (c *Cluster) writeCredentials() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	config, err := kubeconfig(c.Config().Host)
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{
		"service-accounts.key": pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
		"tokens.csv":           []byte(token + ",tests,1,system:masters\n"),
		"kubeconfig":           config,
	} {
		if err := os.WriteFile(filepath.Join(c.dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// registerNodes does what kubelets do when they start, and waits until the
// controller manager has given each node ranges for its pods.
func (c *Cluster) registerNodes(ctx context.Context) error {
	nodes := c.resource("v1", "Node", "")
	for i := range c.nodes {
		n := &c.nodes[i]
		object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{
			"name": n.name, "labels": map[string]any{"kubernetes.io/hostname": n.name, "kubernetes.io/os": "linux", "topology.kubernetes.io/zone": "zone-of-" + n.name},
			"annotations": map[string]any{"volumes.kubernetes.io/controller-managed-attach-detach": "true"}, // flannel takes it for granted that there is one
		}}}
		if _, err := nodes.Create(ctx, object, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		now := time.Now().UTC().Format(time.RFC3339)
		status, err := json.Marshal(map[string]any{"status": map[string]any{
			"addresses":   []any{map[string]any{"type": "InternalIP", "address": n.addrs[0].String()}, map[string]any{"type": "InternalIP", "address": n.addrs[1].String()}},
			"capacity":    map[string]any{"cpu": "64", "memory": "64Gi", "pods": "250"},
			"allocatable": map[string]any{"cpu": "64", "memory": "64Gi", "pods": "250"},
			"conditions":  []any{map[string]any{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now, "lastTransitionTime": now}},
		}})
		if err != nil {
			return err
		}
		if _, err := nodes.Patch(ctx, n.name, types.MergePatchType, status, metav1.PatchOptions{}, "status"); err != nil {
			return err
		}
	}
	return await(ctx, "the nodes have ranges for pods", func(ctx context.Context) error {
		for i := range c.nodes {
			n := &c.nodes[i]
			object, err := nodes.Get(ctx, n.name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			ranges, _, _ := unstructured.NestedStringSlice(object.Object, "spec", "podCIDRs")
			if len(ranges) != len(n.pods) {
				return errors.Join(fmt.Errorf("%s has %v", n.name, ranges), c.processes.alive())
			}
			for version, text := range ranges {
				if n.pods[version], err = netip.ParsePrefix(text); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
