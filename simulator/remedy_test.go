package simulator_test

import (
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/netstack/netstacktest"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// TestARuleThatProhibitsIsToBeRemovedAsARule has a policy rule where other packets have a route.
func TestARuleThatProhibitsIsToBeRemovedAsARule(t *testing.T) {
	ns := netstacktest.Known("node-1", netstack.KindNode)
	ns.Rules = append(ns.Rules, netstack.Rule{Family: netstack.IPv4, Priority: 50, Action: netstack.RuleProhibit, SuppressPrefixLen: -1, SuppressIfGroup: -1})
	w, err := simulator.Compile(&simulator.Snapshot{Namespaces: []*netstack.Namespace{ns}})
	if err != nil {
		t.Fatal(err)
	}
	report, err := w.Diagnose(verdict.Query{From: "ns:node-1", To: "198.51.100.1", Port: 80, Protocol: verdict.TCP})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Reasons) != 1 || report.Reasons[0].Code != verdict.RouteProhibit {
		t.Fatalf("%+v", report.Reasons)
	}
	if message := report.Reasons[0].Message; message != "policy rule 50 prohibits packets to 198.51.100.1 on namespace node-1" {
		t.Errorf("message: %s", message)
	}
	if remedy := report.Reasons[0].Remedy; !strings.Contains(remedy, "policy rule of priority 50") || !strings.Contains(remedy, "(ip rule show)") {
		t.Errorf("remedy: %s", remedy)
	}
}
