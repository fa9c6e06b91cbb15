package cluster_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// guard is a ClusterNetworkPolicy about the pods of shop.
func guard(name, tier string, priority int, rules string) string {
	return adminPolicy("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", name,
		fmt.Sprintf("tier: %s, priority: %d, subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: shop}}}, %s", tier, priority, rules))
}

func adminPolicy(apiVersion, kind, name, spec string) string {
	return fmt.Sprintf("\n---\napiVersion: %s\nkind: %s\nmetadata: {name: %s}\nspec: {%s}\nstatus: {conditions: []}\n", apiVersion, kind, name, spec)
}

func TestEvaluateAdminPolicies(t *testing.T) {
	const (
		v1       = "policy.networking.k8s.io/v1alpha1"
		everyPod = "namespaces: {}"
		opsPods  = "namespaces: {matchLabels: {team: ops}}"
		subject  = "subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: api}}}}"
		denyAll  = "ingress: [{action: Deny, from: [{namespaces: {}}]}]"
		accept   = "ingress: [{action: Accept, from: [{namespaces: {}}]}]"
		pass     = "ingress: [{action: Pass, from: [{namespaces: {}}]}]"
	)
	tcp := func(from, to string, port uint16) cluster.Connection {
		return cluster.Connection{Source: cluster.End{Addr: addr(from)}, Destination: cluster.End{Addr: addr(to)}, Protocol: verdict.TCP, Port: port}
	}
	with := func(c cluster.Connection, p verdict.Protocol) cluster.Connection {
		c.Protocol = p
		return c
	}
	tests := []struct {
		name     string
		policies []string
		c        cluster.Connection
		want     string
		by       string // the policies, joined
		why      string // the first explanation; not compared when empty
	}{
		{
			"a rule of the Admin tier denies",
			[]string{guard("g", "Admin", 10, denyAll)},
			tcp(web, api, 80), "deny", "ClusterNetworkPolicy g",
			"ingress of shop/api-0: ingress rule 1 of ClusterNetworkPolicy g denies tcp 80 from pod shop/web-0 (10.244.1.2)",
		},
		{
			"what the Admin tier accepts no network policy denies",
			[]string{guard("g", "Admin", 10, accept), policy("shop/p", toAPI)},
			tcp(web, api, 80), "allow", "ClusterNetworkPolicy g",
			"ingress of shop/api-0: ingress rule 1 of ClusterNetworkPolicy g accepts tcp 80 from pod shop/web-0 (10.244.1.2)",
		},
		{"what the Admin tier denies no network policy allows", []string{guard("g", "Admin", 10, denyAll), policy("shop/p", toAPI+", ingress: [{}]")}, tcp(web, api, 80), "deny", "ClusterNetworkPolicy g", ""},
		{"what the Admin tier passes network policies decide", []string{guard("g", "Admin", 10, pass), guard("h", "Admin", 20, accept), policy("shop/p", toAPI)}, tcp(web, api, 80), "deny", "shop/p", ""},
		{"what the Admin tier passes and no network policy isolates the Baseline tier decides", []string{guard("g", "Admin", 10, pass), guard("h", "Admin", 20, accept), guard("b", "Baseline", 0, denyAll)}, tcp(web, api, 80), "deny", "ClusterNetworkPolicy b", ""},
		{"a pod that a network policy isolates is none of the Baseline tier's business", []string{guard("b", "Baseline", 0, denyAll), policy("shop/p", toAPI+", ingress: [{}]")}, tcp(web, api, 80), "allow", "shop/p", ""},
		{"what no tier speaks of is open", []string{guard("g", "Admin", 10, "ingress: [{action: Deny, from: [{"+opsPods+"}]}]"), guard("b", "Baseline", 0, "ingress: [{action: Deny, from: [{"+opsPods+"}]}]")}, tcp(web, api, 80), "none", "", ""},
		{"what the Baseline tier passes is open", []string{guard("b", "Baseline", 0, pass), guard("c", "Baseline", 1, denyAll)}, tcp(web, api, 80), "none", "", ""},
		{"the lower priority comes first", []string{guard("a", "Admin", 20, denyAll), guard("b", "Admin", 10, accept)}, tcp(web, api, 80), "allow", "ClusterNetworkPolicy b", ""},
		{
			"one priority of two that disagree is no order",
			[]string{guard("a", "Admin", 10, denyAll), guard("b", "Admin", 10, accept)},
			tcp(web, api, 80), "unknown", "ClusterNetworkPolicy a, ClusterNetworkPolicy b",
			"whether ingress of shop/api-0 allows tcp 80 from pod shop/web-0 (10.244.1.2) is not known: ClusterNetworkPolicy a and ClusterNetworkPolicy b have the same priority",
		},
		{"one priority of two that agree", []string{guard("a", "Admin", 10, denyAll), guard("b", "Admin", 10, denyAll)}, tcp(web, api, 80), "deny", "ClusterNetworkPolicy a", ""},
		{"one priority, where what is passed ends the same", []string{guard("a", "Admin", 10, denyAll), guard("b", "Admin", 10, pass), policy("shop/p", toAPI)}, tcp(web, api, 80), "deny", "ClusterNetworkPolicy a", ""},
		{"the first rule that matches decides", []string{guard("g", "Admin", 10, "ingress: [{action: Accept, from: [{"+opsPods+"}]}, {action: Deny, from: [{"+everyPod+"}]}]")}, tcp(ops, api, 80), "allow", "ClusterNetworkPolicy g", ""},
		{"and the next one, if the first does not", []string{guard("g", "Admin", 10, "ingress: [{action: Accept, from: [{"+opsPods+"}]}, {action: Deny, from: [{"+everyPod+"}]}]")}, tcp(web, api, 80), "deny", "ClusterNetworkPolicy g", ""},
		{"the subject is not all pods", []string{adminPolicy("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", "g", "tier: Admin, priority: 1, "+subject+", "+denyAll)}, tcp(ops, web, 80), "none", "", ""},
		{"pods of ingress are no addresses outside", []string{guard("g", "Admin", 10, denyAll)}, tcp(remote, api, 80), "none", "", ""},
		{"nor pods of the host's network", []string{guard("g", "Admin", 10, denyAll)}, tcp(nodeA, api1, 80), "none", "", ""},
		{"a pod may talk to itself", []string{guard("g", "Admin", 10, denyAll)}, tcp(web, web, 80), "none", "", ""},

		{"a port", []string{guard("g", "Admin", 10, "ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 80}}}]}]")}, tcp(web, api, 80), "deny", "ClusterNetworkPolicy g", ""},
		{"and no other", []string{guard("g", "Admin", 10, "ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 80}}}]}]")}, tcp(web, api, 81), "none", "", ""},
		{"a range of ports includes its end", []string{guard("g", "Admin", 10, "ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{sctp: {destinationPort: {range: {start: 80, end: 90}}}}]}]")}, with(tcp(web, api, 90), verdict.SCTP), "deny", "ClusterNetworkPolicy g", ""},
		{"and ends", []string{guard("g", "Admin", 10, "ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{udp: {destinationPort: {range: {start: 80, end: 90}}}}]}]")}, with(tcp(web, api, 91), verdict.UDP), "none", "", ""},
		{"a named port is the destination's", []string{guard("g", "Admin", 10, "ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{destinationNamedPort: http}]}]")}, tcp(web, api, 8080), "deny", "ClusterNetworkPolicy g", ""},
		{"and has another number elsewhere", []string{guard("g", "Admin", 10, "ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{destinationNamedPort: http}]}]")}, tcp(web, api1, 8080), "none", "", ""},
		{"a rule without ports is about icmp, too", []string{guard("g", "Admin", 10, denyAll)}, with(tcp(web, api, 0), verdict.ICMP), "deny", "ClusterNetworkPolicy g", ""},

		{"networks of egress hold what is outside", []string{guard("g", "Admin", 10, "egress: [{action: Deny, to: [{networks: [203.0.113.0/24]}]}]")}, tcp(web, remote, 443), "deny", "ClusterNetworkPolicy g", ""},
		{"networks of IPv4 in the notation of IPv6 are not guessed", []string{guard("g", "Admin", 10, "egress: [{action: Deny, to: [{networks: [\"::ffff:203.0.113.0/120\"]}]}]")}, tcp(web, remote, 443), "unknown", "", ""},
		{"and pods", []string{guard("g", "Admin", 10, "egress: [{action: Deny, to: [{networks: [10.244.2.0/24]}]}]")}, tcp(web, ops, 443), "deny", "ClusterNetworkPolicy g", ""},
		{"and nothing else", []string{guard("g", "Admin", 10, "egress: [{action: Deny, to: [{networks: [10.244.2.0/24]}]}]")}, tcp(web, remote, 443), "none", "", ""},
		{"nodes by their labels", []string{guard("g", "Admin", 10, "egress: [{action: Deny, to: [{nodes: {}}]}]")}, tcp(web, nodeB, 10250), "deny", "ClusterNetworkPolicy g", ""},
		{"nodes with other labels", []string{guard("g", "Admin", 10, "egress: [{action: Deny, to: [{nodes: {matchLabels: {no: such}}}]}]")}, tcp(web, nodeB, 10250), "none", "", ""},
		{
			"domain names may be anything",
			[]string{guard("g", "Admin", 10, "egress: [{action: Accept, to: [{domainNames: [example.com]}]}, {action: Deny, to: [{networks: [0.0.0.0/0]}]}]")},
			tcp(web, remote, 443), "unknown", "ClusterNetworkPolicy g",
			"whether egress of shop/web-0 allows tcp 443 to 203.0.113.99 is not known: egress rule 1 of ClusterNetworkPolicy g: peer 1: what domain names resolve to is not known",
		},
		{"domain names do not matter if all the rest ends the same", []string{guard("g", "Admin", 10, "egress: [{action: Accept, to: [{domainNames: [example.com]}]}]")}, tcp(web, remote, 443), "allow", "ClusterNetworkPolicy g", ""},
		{"labels of a namespace that were not collected", []string{guard("g", "Admin", 10, "ingress: [{action: Deny, from: [{"+opsPods+"}]}]")}, tcp(alien, api, 80), "unknown", "ClusterNetworkPolicy g", ""},

		{"AdminNetworkPolicy is of the Admin tier, and says Allow", []string{adminPolicy(v1, "AdminNetworkPolicy", "a", "priority: 5, "+subject+", ingress: [{action: Allow, from: [{namespaces: {}}], ports: [{portNumber: {protocol: TCP, port: 80}}]}]"), policy("shop/p", toAPI)}, tcp(web, api, 80), "allow", "AdminNetworkPolicy a", ""},
		{"its range of ports", []string{adminPolicy(v1, "AdminNetworkPolicy", "a", "priority: 5, "+subject+", ingress: [{action: Deny, from: [{namespaces: {}}], ports: [{portRange: {start: 80, end: 90}}]}]")}, tcp(web, api, 85), "deny", "AdminNetworkPolicy a", ""},
		{"its named port", []string{adminPolicy(v1, "AdminNetworkPolicy", "a", "priority: 5, "+subject+", ingress: [{action: Deny, from: [{namespaces: {}}], ports: [{namedPort: http}]}]")}, tcp(web, api1, 9090), "deny", "AdminNetworkPolicy a", ""},
		{"BaselineAdminNetworkPolicy is of the Baseline tier", []string{adminPolicy(v1, "BaselineAdminNetworkPolicy", "default", subject+", ingress: [{action: Deny, from: [{namespaces: {}}]}]"), policy("shop/p", toAPI+", ingress: [{}]")}, tcp(web, api, 80), "allow", "shop/p", ""},
		{"and denies where no policy isolates", []string{adminPolicy(v1, "BaselineAdminNetworkPolicy", "default", subject+", ingress: [{action: Deny, from: [{namespaces: {}}]}]")}, tcp(web, api, 80), "deny", "BaselineAdminNetworkPolicy default", ""},

		{"a field that is not known makes the policy one that is not evaluated", []string{adminPolicy(v1, "AdminNetworkPolicy", "a", "priority: 5, "+subject+", ingress: [{action: Allow, from: [{namespaces: {sameLabels: [x]}}]}]")}, tcp(web, api, 80), "unknown", "", "what policies say is not known: AdminNetworkPolicy a may apply, and policies of this kind are not evaluated"},
		{"so does a peer with nothing set", []string{guard("g", "Admin", 10, "ingress: [{action: Accept, from: [{}]}]")}, tcp(web, api, 80), "unknown", "", ""},
		{"a tier", []string{guard("g", "Middle", 10, denyAll)}, tcp(web, api, 80), "unknown", "", ""},
		{"an action", []string{guard("g", "Admin", 10, "ingress: [{action: Log, from: [{namespaces: {}}]}]")}, tcp(web, api, 80), "unknown", "", ""},
		{"and a kind of the same name in another group", []string{adminPolicy("crd.antrea.io/v1beta1", "ClusterNetworkPolicy", "g", "tier: Admin, priority: 1, "+subject+", "+accept)}, tcp(web, api, 80), "unknown", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := withPolicies(t, tt.policies...).Evaluate(tt.c)
			got := string(r.Verdict)
			if r.Unknown {
				got = "unknown"
			}
			if got != tt.want || strings.Join(r.Policies, ", ") != tt.by {
				t.Errorf("got %s by %q, want %s by %q; %q", got, r.Policies, tt.want, tt.by, r.Explanation)
			}
			if tt.why != "" && (len(r.Explanation) == 0 || r.Explanation[0] != tt.why) {
				t.Errorf("explanation %q\nwant %q", r.Explanation, tt.why)
			}
		})
	}
}

func TestAdminPoliciesSurviveABundle(t *testing.T) {
	o := shop(t)
	if err := cluster.Decode("x", []byte(guard("g", "Admin", 10, "ingress: [{name: all, action: Deny, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 80}}}]}]")), o); err != nil || len(o.AdminPolicies) != 1 {
		t.Fatal(err, len(o.AdminPolicies))
	}
	files, err := cluster.Files(o)
	if err != nil {
		t.Fatal(err)
	}
	var back cluster.Objects
	if err := cluster.Decode("adminpolicies.yaml", files["adminpolicies.yaml"], &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(o.AdminPolicies, back.AdminPolicies); diff != "" {
		t.Error(diff)
	}
}

func TestWhatWasNotReadIsNotKnown(t *testing.T) {
	ask := func(o *cluster.Objects, from, to string) cluster.PolicyResult {
		return cluster.Compile(o).Evaluate(cluster.Connection{Source: cluster.End{Addr: addr(from)}, Destination: cluster.End{Addr: addr(to)}, Protocol: verdict.TCP, Port: 80})
	}
	without := func(resource string) *cluster.Objects {
		o := shop(t)
		o.Missing = map[string]string{resource: "forbidden"}
		return o
	}
	const unknown = "what policies say is not known: %s, which are not known: forbidden"
	for _, resource := range []string{"networkpolicies", "otherpolicies", "adminnetworkpolicies.policy.networking.k8s.io"} {
		r := ask(without(resource), web, api)
		if want := fmt.Sprintf(unknown, resource); !r.Unknown || len(r.Explanation) != 1 || r.Explanation[0] != want {
			t.Errorf("without %s: %+v", resource, r)
		}
		if r := ask(without(resource), nodeA, remote); r.Unknown {
			t.Errorf("no pod is part of it: %+v", r)
		}
	}
	denied := shop(t)
	if err := cluster.Decode("x", []byte(policy("shop/p", toAPI)), denied); err != nil {
		t.Fatal(err)
	}
	denied.Pods, denied.Missing = nil, map[string]string{"pods": "forbidden"}
	if r := ask(denied, web, api); !r.Unknown || r.Explanation[0] != "which policies apply to the egress is not known: 10.244.1.2 may be the address of one of the pods, which are not known: forbidden" {
		t.Errorf("of pods that were not read: %+v", r)
	}
	if r := ask(denied, nodeA, nodeB); r.Unknown {
		t.Errorf("between nodes: %+v", r)
	}
	guarded := shop(t)
	if err := cluster.Decode("x", []byte(guard("g", "Admin", 1, "ingress: [{action: Deny, from: [{namespaces: {}}]}]")), guarded); err != nil {
		t.Fatal(err)
	}
	if f, _ := ask(guarded, web, api).Finding(); f.Where.Resource != "ClusterNetworkPolicy g" || f.Code != verdict.NetworkPolicyDeny {
		t.Errorf("got %+v", f)
	}
	if r := ask(without("services"), web, api); r.Unknown {
		t.Errorf("services say nothing about policies: %+v", r)
	}

	serviceFindings := func(o *cluster.Objects) []verdict.Finding {
		o.EndpointSlices = nil
		x := cluster.Compile(o)
		for _, s := range x.Services() {
			if len(s.ClusterIPs) > 0 && len(s.Ports) > 0 {
				return x.ServiceFindings(s, cluster.Traffic{Port: s.Ports[0].Port, Protocol: s.Ports[0].Protocol}, addr(web), s.ClusterIPs[0])
			}
		}
		t.Fatal("no service")
		return nil
	}
	if findings := serviceFindings(shop(t)); len(findings) != 1 || findings[0].Code != verdict.ServiceNoEndpoints {
		t.Errorf("got %+v", findings)
	}
	if findings := serviceFindings(without("endpointslices")); len(findings) != 0 {
		t.Errorf("endpoints that are not known are not none: %+v", findings)
	}
	if what, known := cluster.Compile(without("services")).InKnownRange(addr("172.31.9.9")); !known {
		t.Error("a private address may be a service's")
	} else if want := "private ranges, any of which may be that of the services, which are not known: forbidden"; what != want {
		t.Errorf("got %q", what)
	}
	if _, known := cluster.Compile(without("services")).InKnownRange(addr("198.51.100.1")); known {
		t.Error("a public address is no cluster IP")
	}
}
