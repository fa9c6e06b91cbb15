package kubernetes

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// namesOfTheCluster are asked below the domain of the cluster: CoreDNS, and the
// simulator with the objects of testdata/names.yaml.
const namesOfTheCluster = `
	svc pod nothing shop dns-version x.dns-version ns.dns dns
	shop.svc nowhere.svc empty.svc shop.pod nowhere.pod empty.pod
	two.shop.svc TWO.Shop.svc two.empty.svc two.nowhere.svc nothing.shop.svc nothing.empty.svc
	_http._tcp.two.shop.svc http.tcp.two.shop.svc _http._udp.two.shop.svc _dns._udp.two.shop.svc _nothing._tcp.two.shop.svc
	a._http._tcp.two.shop.svc 10-244-9-9.two.shop.svc {near}.two.shop.svc {near6}.two.shop.svc
	bodies.shop.svc _http._tcp.bodies.shop.svc _dns._udp.bodies.shop.svc {near}.bodies.shop.svc {far6}.bodies.shop.svc near.bodies.shop.svc
	without-ports.shop.svc _http._tcp.without-ports.shop.svc {near}.without-ports.shop.svc
	nobody.shop.svc a.nobody.shop.svc idle.shop.svc {near}.idle.shop.svc _http._tcp.idle.shop.svc
	by-hand.shop.svc db-0.by-hand.shop.svc 192-0-2-101.by-hand.shop.svc 192-0-2-102.by-hand.shop.svc 192-0-2-103.by-hand.shop.svc
	2001-db8-9--.by-hand.shop.svc 2001-db8-9--0.by-hand.shop.svc
	inside.shop.svc a.inside.shop.svc _http._tcp.inside.shop.svc twice.shop.svc round.shop.svc there.shop.svc astray.shop.svc number.shop.svc
	10-244-1-2.shop.pod 10-244-1-2.empty.pod 10-244-1-2.nowhere.pod 10-244-1-256.shop.pod 2001-db8--1.shop.pod --1.shop.pod --ffff-10-244-1-2.shop.pod near.shop.pod
	a.10-244-1-2.shop.pod a.b.10-244-1-2.shop.pod a.b.c.10-244-1-2.shop.pod
	kubernetes.default.svc _https._tcp.kubernetes.default.svc kube-dns.kube-system.svc`

// compareNames holds what the simulator says about names against what CoreDNS says.
func (s *stage) compareNames(t *testing.T) {
	ctx := t.Context()
	manifest, err := testdata.ReadFile("testdata/names.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx := context.WithoutCancel(ctx)
		if err := errors.Join(s.Delete(ctx, string(manifest)), s.Settled(ctx, s.nodes...)); err != nil {
			s.broken = true
			t.Error(err)
		}
	}()
	if err := errors.Join(s.Apply(ctx, string(manifest)), s.Settled(ctx, s.nodes...)); err != nil {
		t.Fatal(err)
	}
	snapshot := against.Collect(t, s.Collector(ctx))
	world := against.Compile(t, snapshot)
	label := strings.NewReplacer(".", "-", ":", "-")
	var words []string
	for i := range snapshot.Cluster.Pods {
		if p := &snapshot.Cluster.Pods[i]; p.Name == "near" || p.Name == "far" {
			words = append(words, "{"+p.Name+"}", label.Replace(p.Status.PodIPs[0].IP), "{"+p.Name+"6}", label.Replace(p.Status.PodIPs[1].IP))
		}
	}
	for name := range strings.FieldsSeq(strings.NewReplacer(words...).Replace(namesOfTheCluster)) {
		name += "." + domain
		real, err := s.addressesOf(ctx, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		r, err := world.Diagnose(verdict.Query{From: "pod:shop/web", To: "dns:" + name + ".", Port: 80, Protocol: verdict.TCP})
		if err != nil {
			t.Fatal(err)
		}
		simulated := "nothing is known"
		if r.Resolution != nil && len(r.Resolution.Tried) == 1 {
			simulated, _, _ = strings.Cut(r.Resolution.Tried[0].Answer, " (")
		}
		if simulated != real {
			t.Errorf("%s: simulated is %q, CoreDNS says %q", name, simulated, real)
		}
	}
}

// addressesOf is what CoreDNS says about a name, in the words of a report.
func (s *stage) addressesOf(ctx context.Context, name string) (string, error) {
	var addrs []netip.Addr
	missing := 0
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
		m, err := lookUp(ctx, s.nameServers()[0], name, kind)
		if err != nil {
			return "", err
		}
		switch m.RCode {
		case dnsmessage.RCodeSuccess:
		case dnsmessage.RCodeNameError:
			missing++
		default:
			return m.RCode.String(), nil
		}
		for _, r := range m.Answers {
			switch body := r.Body.(type) {
			case *dnsmessage.AResource:
				addrs = append(addrs, netip.AddrFrom4(body.A))
			case *dnsmessage.AAAAResource:
				addrs = append(addrs, netip.AddrFrom16(body.AAAA))
			}
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	switch {
	case len(addrs) > 0:
		return strings.Join(texts, ", "), nil
	case missing > 0:
		return "no such name", nil
	}
	return "no address", nil
}
