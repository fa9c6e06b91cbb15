package schedules

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Selector names one or more ends of paths: any endpoint of a query, or
// pods:NAMESPACE?LABELS for all pods with these labels.
type Selector struct {
	text string
	// For pods: only.
	namespace string
	labels    labels.Selector
}

// String is the text as configured.
func (s Selector) String() string { return s.text }

const podsPrefix = "pods:"

// ParseSelector reads an endpoint, or pods:NAMESPACE or pods:NAMESPACE?LABELS
// where LABELS is what kubectl get --selector accepts.
func ParseSelector(text string) (Selector, error) {
	rest, isPods := strings.CutPrefix(text, podsPrefix)
	if !isPods {
		if _, err := verdict.ParseEndpoint(text); err != nil {
			// The message of ParseEndpoint quotes the text, and so does the
			// caller; one is enough.
			return Selector{}, fmt.Errorf("%s, or pods:NAMESPACE?LABELS",
				strings.TrimPrefix(err.Error(), strconv.Quote(text)+": "))
		}
		return Selector{text: text}, nil
	}
	namespace, query, _ := strings.Cut(rest, "?")
	if namespace == "" || strings.ContainsAny(namespace, "/ \t\r\n") {
		return Selector{}, fmt.Errorf("expected pods:NAMESPACE?LABELS")
	}
	selector, err := labels.Parse(query)
	if err != nil {
		return Selector{}, fmt.Errorf("label selector: %w", err)
	}
	return Selector{text: text, namespace: namespace, labels: selector}, nil
}

// expand returns the endpoints that the selector stands for, sorted. Pods that
// have ended are left out, for they have no network any more, and those that have no
// address yet, which each rollout has for a moment.
func (s Selector) expand(pods []corev1.Pod) []string {
	if s.labels == nil {
		return []string{s.text}
	}
	var found []string
	for i := range pods {
		pod := &pods[i]
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		started := len(pod.Status.PodIPs) > 0 || pod.Status.PodIP != ""
		if pod.Namespace == s.namespace && started && !ended && s.labels.Matches(labels.Set(pod.Labels)) {
			found = append(found, "pod:"+pod.Namespace+"/"+pod.Name)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// PathLabel names a path in metrics and in the API:
// SOURCE->DESTINATION:PORT/PROTOCOL, or SOURCE->DESTINATION/icmp.
func PathLabel(q verdict.Query) string {
	to := q.To
	if q.Port != 0 {
		if addr, err := netip.ParseAddr(to); err == nil && addr.Is6() {
			to = "[" + to + "]"
		}
		to += ":" + strconv.Itoa(int(q.Port))
	}
	return q.From + "->" + to + "/" + string(q.Protocol)
}
