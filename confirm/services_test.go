package confirm

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// A headless Service is probed at one of its endpoints, which nobody is asked for.
func TestAHeadlessServiceIsConfirmed(t *testing.T) {
	s, err := bundle.Read("../examples/lab.tar.zst")
	if err != nil {
		t.Fatal(err)
	}
	s.Cluster.Services = append(s.Cluster.Services, corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "bodies"}, Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone},
	})
	s.Cluster.EndpointSlices = append(s.Cluster.EndpointSlices, discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: "bodies-1", Labels: map[string]string{discoveryv1.LabelServiceName: "bodies"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.2.30"}}},
	})
	w, err := simulator.Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	report, err := w.Diagnose(verdict.Query{From: "pod:shop/web-0", To: "svc:shop/bodies", Port: 5432, Protocol: verdict.TCP})
	if err != nil {
		t.Fatal(err)
	}
	var sent []Probe
	c := New(func(_ context.Context, _ simulator.Start, p Probe) (Seen, error) {
		sent = append(sent, p)
		return Seen{Outcome: verdict.OutcomeEstablished}, nil
	})
	report, err = c.Confirm(t.Context(), World{World: w}, report, func(context.Context) (Subject, error) { return nil, errors.New("not again") })
	if err != nil {
		t.Fatal(err)
	}
	if o := report.Observed; o == nil || o.Agrees == nil || !*o.Agrees || len(sent) != 1 || sent[0].Destination != netip.MustParseAddr("10.244.2.30") || sent[0].Port != 5432 {
		t.Errorf("observed %+v, assuming %q; sent %+v", o, report.Assumptions, sent)
	}
}
