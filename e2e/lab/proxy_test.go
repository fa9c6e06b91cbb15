package lab

import (
	"os"
	"path/filepath"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// The names are those that kube-proxy gives in its own tests and documents.
func TestChainNamesAreThoseOfKubeProxy(t *testing.T) {
	for _, c := range []struct {
		prefix string
		parts  []string
		want   string
	}{
		{"KUBE-SVC-", []string{"ns1/svc1:p80", "tcp"}, "KUBE-SVC-XPGD46QRK7WJZT7O"},
		{"KUBE-SEP-", []string{"ns1/svc1:p80", "tcp", "10.180.0.1:80"}, "KUBE-SEP-SXIVWICOYRO3J4NJ"},
		{"KUBE-SVC-", []string{"default/kubernetes:https", "tcp"}, "KUBE-SVC-NPX46M4PTMTKRN6Y"},
		{"KUBE-SVC-", []string{"kube-system/kube-dns:dns", "udp"}, "KUBE-SVC-TCOU7JCQXEZGVUNU"},
	} {
		if got := chainName(c.prefix, c.parts...); got != c.want {
			t.Errorf("%v: got %s, want %s", c.parts, got, c.want)
		}
	}
}

func TestRulesHaveTheShapeOfKubeProxy(t *testing.T) {
	s, err := DefaultSpec()
	if err != nil {
		t.Fatal(err)
	}
	// The lab itself has no Service without endpoints.
	s.Services = append(s.Services,
		Service{Name: "void", Namespace: "shop", ClusterIPs: s.Services[1].ClusterIPs, Selector: map[string]string{"app": "void"}, Ports: []ServicePort{{Name: "http", Port: 81, Protocol: "TCP", TargetPort: "http"}}},
	)
	for f, name := range []string{"proxy-ipv4.txt", "proxy-ipv6.txt"} {
		path := filepath.Join("testdata", name)
		got := proxyRules(s, family(f))
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got; UPDATE=1 accepts):\n%s", name, diff)
		}
	}
}
