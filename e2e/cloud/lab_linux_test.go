package cloud

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
)

const (
	prefix = "plcloud"
	node1  = "172.30.0.11"
	node2  = "172.30.0.70"
	eniPod = "172.30.0.140"
)

func TestMain(m *testing.M) {
	lab.ServeIfListener()
	goleak.VerifyTestMain(m)
}

// startLab is the lab with its nodes in two vSwitches, a pod with an interface of its
// own in a third (shop/eni-0, as Terway makes them). In place of the VPC the fabric answers
// for all neighbours and forwards what they send, also to the pods of nodes. It stands
// for somebody on the Internet, too, and for the load balancer inside the VPC.
func startLab(t *testing.T) *lab.Lab {
	t.Helper()
	spec, err := lab.DefaultSpec()
	if err != nil {
		t.Fatal(err)
	}
	spec.Nodes[1].Addresses[0] = netip.MustParseAddr(node2)
	spec.Services[0].Ports[1].NodePort = 30053
	l := against.StartLab(t, lab.Options{Prefix: prefix, Spec: spec})
	fabric, pod := prefix+"-fabric", prefix+"-shop-eni-0"
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", pod).Run() }) // it may not be there
	run(t, `
		ip netns add `+pod+`
		ip -n `+fabric+` link add eni-0 type veth peer name eth0 netns `+pod+` address 0a:58:ac:1e:00:8c
		ip -n `+fabric+` link set eni-0 master fabric0 up
		ip -n `+pod+` link set lo up
		ip -n `+pod+` addr add `+eniPod+`/24 dev eth0
		ip -n `+pod+` link set eth0 up
		ip -n `+pod+` route add default via 172.30.0.1
		ip -n `+fabric+` addr add `+internet+`/32 dev lo
		ip -n `+fabric+` addr add `+classicInner+`/32 dev fabric0
		ip -n `+fabric+` route add 10.244.1.0/24 via `+node1+`
		ip -n `+fabric+` route add 10.244.2.0/24 via `+node2+`
		ip netns exec `+fabric+` sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.fabric0.send_redirects=0 net.ipv4.conf.fabric0.proxy_arp_pvlan=1 net.ipv4.ip_forward=1`)
	for _, port := range []string{"node-1", "node-2", "eni-0"} {
		run(t, "ip -n "+fabric+" link set "+port+" type bridge_slave isolated on")
	}
	listen(t, fabric, internet+":443")
	listen(t, pod, ":8080")
	for _, n := range l.Spec.Nodes {
		listen(t, prefix+"-"+n.Name, ":8443")
	}
	amend(t, l)
	return l
}

// run runs commands, one a line, of words without blanks.
func run(t *testing.T, commands string) {
	t.Helper()
	for line := range strings.Lines(commands) {
		if words := strings.Fields(line); len(words) > 0 {
			if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", strings.TrimSpace(line), err, out)
			}
		}
	}
}

// listen takes connections in a network namespace until the test ends.
func listen(t *testing.T, ns, address string) {
	t.Helper()
	var l net.Listener
	if err := lab.InNetns(ns, func() (err error) {
		l, err = new(net.ListenConfig).Listen(context.WithoutCancel(t.Context()), "tcp4", address)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return // it was closed
			}
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
}

// amend makes the Service shop/api one of type LoadBalancer, and adds the pod with an
// interface of its own to the objects.
func amend(t *testing.T, l *lab.Lab) {
	t.Helper()
	file := filepath.Join(l.ClusterDir(), "services.yaml")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var documents []any
	for text := range strings.SplitSeq(string(data), "---\n") {
		s := new(corev1.Service)
		if err := yaml.Unmarshal([]byte(text), s); err != nil {
			t.Fatal(err)
		}
		if s.Name == "api" {
			s.Spec.Type = corev1.ServiceTypeLoadBalancer
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: classic}}
		}
		if s.Name != "" {
			documents = append(documents, s)
		}
	}
	documents = append(documents, &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "eni-0", Namespace: "shop", UID: "5d0a1c1e-0000-4000-8000-000000000140"},
		Spec:       corev1.PodSpec{NodeName: "node-2", Containers: []corev1.Container{{Name: "main"}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: eniPod, PodIPs: []corev1.PodIP{{IP: eniPod}}, HostIP: node2,
			ContainerStatuses: []corev1.ContainerStatus{{Name: "main", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}},
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	})
	var text []byte
	for _, d := range documents {
		one, err := yaml.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		text = fmt.Appendf(text, "---\n%s", one)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
