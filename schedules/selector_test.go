package schedules

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

func pod(namespace, name string, phase corev1.PodPhase, labels map[string]string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Status:     corev1.PodStatus{Phase: phase, PodIPs: []corev1.PodIP{{IP: "10.244.1.9"}}},
	}
}

func TestASelectorExpandsIntoPods(t *testing.T) {
	web, api := map[string]string{"app": "web", "tier": "front"}, map[string]string{"app": "api"}
	pods := []corev1.Pod{
		pod("shop", "web-1", corev1.PodRunning, web),
		pod("shop", "web-0", corev1.PodRunning, web),
		pod("shop", "web-old", corev1.PodSucceeded, web),
		pod("shop", "web-evicted", corev1.PodFailed, web),
		pod("shop", "web-init", corev1.PodPending, web),
		{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-new", Labels: web}, Status: corev1.PodStatus{Phase: corev1.PodPending}},
		pod("shop", "api-0", corev1.PodRunning, api),
		pod("blog", "web-0", corev1.PodRunning, web),
	}
	for text, want := range map[string][]string{
		"pods:shop?app=web":                {"pod:shop/web-0", "pod:shop/web-1", "pod:shop/web-init"},
		"pods:shop?app=web,tier!=front":    nil,
		"pods:shop?app in (api, web),tier": {"pod:shop/web-0", "pod:shop/web-1", "pod:shop/web-init"},
		"pods:shop?!tier":                  {"pod:shop/api-0"},
		"pods:blog":                        {"pod:blog/web-0"},
		"pods:blog?":                       {"pod:blog/web-0"},
		"pods:nowhere?app=web":             nil,
		"pod:nowhere/at-all":               {"pod:nowhere/at-all"},
		"svc:shop/api":                     {"svc:shop/api"},
		"10.0.0.1":                         {"10.0.0.1"},
	} {
		if diff := cmp.Diff(want, selector(t, text).expand(pods)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestAPathIsNamedInTheWordsOfTheConfiguration(t *testing.T) {
	for want, q := range map[string]verdict.Query{
		"pod:shop/web-0->svc:shop/api:80/tcp": {From: "pod:shop/web-0", To: "svc:shop/api", Port: 80, Protocol: verdict.TCP},
		"node:a->pod:shop/web-0/icmp":         {From: "node:a", To: "pod:shop/web-0", Protocol: verdict.ICMP},
		"10.0.0.1->10.0.0.2:53/udp":           {From: "10.0.0.1", To: "10.0.0.2", Port: 53, Protocol: verdict.UDP},
		"fd00::1->[fd00::2]:53/udp":           {From: "fd00::1", To: "fd00::2", Port: 53, Protocol: verdict.UDP},
		"fd00::1->fd00::2/icmp":               {From: "fd00::1", To: "fd00::2", Protocol: verdict.ICMP},
	} {
		if got := PathLabel(q); got != want {
			t.Errorf("path is %s, want %s", got, want)
		}
	}
}
