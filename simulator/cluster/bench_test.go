package cluster_test

import (
	"fmt"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// manyPods is a shop of a thousand pods more.
func manyPods(b *testing.B) *cluster.Objects {
	b.Helper()
	o := &cluster.Objects{}
	for i := range 1000 {
		pod := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p-%d","namespace":"shop","labels":{"app":"web"}},
"spec":{"nodeName":"a","containers":[{"name":"c","ports":[{"name":"http","containerPort":80}]}]},
"status":{"phase":"Running","podIPs":[{"ip":"10.1.%d.%d"}],"conditions":[{"type":"Ready","status":"True"}]}}`, i, i/250, i%250+1)
		if err := cluster.Decode("pods.json", []byte(pod), o); err != nil {
			b.Fatal(err)
		}
	}
	return o
}

func BenchmarkDecode1000Pods(b *testing.B) {
	files, err := cluster.Files(manyPods(b))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(files["pods.yaml"])))
	for b.Loop() {
		var o cluster.Objects
		if err := cluster.Decode("pods.yaml", files["pods.yaml"], &o); err != nil || len(o.Pods) != 1000 {
			b.Fatal(err, len(o.Pods))
		}
	}
}

func BenchmarkCompile1000Pods(b *testing.B) {
	o := manyPods(b)
	for b.Loop() {
		cluster.Compile(o)
	}
}

func BenchmarkEvaluate(b *testing.B) {
	o := manyPods(b)
	text := policy("shop/p", "podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: job}}}], ports: [{port: http}]}, {from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: http}]}]")
	if err := cluster.Decode("policy.yaml", []byte(text), o); err != nil {
		b.Fatal(err)
	}
	x := cluster.Compile(o)
	c := cluster.Connection{Source: cluster.End{Addr: addr("10.1.0.1")}, Destination: cluster.End{Addr: addr("10.1.3.7")}, Protocol: verdict.TCP, Port: 80}
	for b.Loop() {
		if r := x.Evaluate(c); r.Verdict != verdict.PolicyAllow {
			b.Fatal(r)
		}
	}
}
