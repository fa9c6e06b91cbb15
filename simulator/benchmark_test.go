package simulator_test

import (
	"testing"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
)

// BenchmarkCompile compiles the seven namespaces of the sample.
func BenchmarkCompile(b *testing.B) {
	s, err := bundle.Read("../examples/lab.tar.zst")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := simulator.Compile(s); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDiagnose makes whole reports: every leg, with its trace.
func BenchmarkDiagnose(b *testing.B) {
	w := world(b, nil)
	for name, q := range map[string]struct {
		to   string
		port uint16
	}{
		"pod across nodes":         {"pod:shop/db-0", 5432},
		"service with 1 backend":   {"svc:shop/db", 5432},
		"service with 2 backends":  {"svc:shop/api", 80},
		"pod across nodes dropped": {"pod:shop/api-1", 8080},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.Diagnose(tcp(web, q.to, q.port)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
