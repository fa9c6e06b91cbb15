package cluster_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// policy is a NetworkPolicy "NAMESPACE/NAME" of which only the spec matters.
func policy(name, spec string) string {
	namespace, name, _ := strings.Cut(name, "/")
	return fmt.Sprintf("\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: %s, namespace: %s}\nspec: {%s}\n", name, namespace, spec)
}

func withPolicies(t *testing.T, policies ...string) *cluster.Index {
	t.Helper()
	o := shop(t)
	if err := cluster.Decode("policies.yaml", []byte(strings.Join(policies, "")), o); err != nil {
		t.Fatal(err)
	}
	return cluster.Compile(o)
}

const (
	toAPI  = "podSelector: {matchLabels: {app: api}}"
	toWeb  = "podSelector: {matchLabels: {app: web}}"
	web    = "10.244.1.2"   // shop/web-0 on node a
	api    = "10.244.1.3"   // shop/api-0 on node a
	api1   = "10.244.2.3"   // shop/api-1 on node b
	ops    = "10.244.2.9"   // monitoring/scraper on node b
	alien  = "10.244.2.20"  // unlisted/stranger, whose namespace was not collected
	nodeA  = "192.168.0.1"  // also monitoring/exporter-a, of the host's network
	nodeB  = "192.168.0.2"  //
	remote = "203.0.113.99" // outside
)

func TestEvaluate(t *testing.T) {
	tcp := func(from, to string, port uint16) cluster.Connection {
		return cluster.Connection{Source: cluster.End{Addr: addr(from)}, Destination: cluster.End{Addr: addr(to)}, Protocol: verdict.TCP, Port: port}
	}
	udp := func(from, to string, port uint16) cluster.Connection {
		c := tcp(from, to, port)
		c.Protocol = verdict.UDP
		return c
	}
	sctp := func(from, to string, port uint16) cluster.Connection {
		c := tcp(from, to, port)
		c.Protocol = verdict.SCTP
		return c
	}
	icmp := func(from, to string) cluster.Connection {
		c := tcp(from, to, 0)
		c.Protocol = verdict.ICMP
		return c
	}
	const (
		allow   = "allow"
		deny    = "deny"
		none    = "none"
		unknown = "unknown"
	)
	tests := []struct {
		name     string
		policies []string
		c        cluster.Connection
		want     string
		by       []string // policies
		why      []string // explanation; not compared when nil
	}{
		{"no policy selects either end, so all is allowed", []string{policy("shop/p", "podSelector: {matchLabels: {app: other}}")}, tcp(web, api, 80), none, nil, []string{}},
		{"a policy of another namespace selects nothing here", []string{policy("monitoring/p", toAPI)}, tcp(web, api, 80), none, nil, nil},
		{
			"a policy without rules denies",
			[]string{policy("shop/deny-web", toAPI)},
			tcp(web, api, 8080), deny,
			[]string{"shop/deny-web"},
			[]string{"ingress of shop/api-0 is isolated by shop/deny-web and no rule of it allows tcp 8080 from pod shop/web-0 (10.244.1.2)"},
		},
		{"an empty podSelector selects every pod of the namespace", []string{policy("shop/all", "podSelector: {}")}, tcp(web, api, 80), deny, []string{"shop/all"}, nil},
		{
			"an empty rule allows all",
			[]string{policy("shop/p", toAPI+", ingress: [{}]")},
			tcp(remote, api, 80), allow,
			[]string{"shop/p"},
			[]string{"ingress of shop/api-0 is isolated by shop/p, and ingress rule 1 of shop/p allows tcp 80 from 203.0.113.99"},
		},
		{"empty from and ports allow all", []string{policy("shop/p", toAPI+", ingress: [{from: [], ports: []}]")}, udp(remote, api, 80), allow, []string{"shop/p"}, nil},
		{
			"policies are a union: one that allows suffices",
			[]string{
				policy("shop/deny", toAPI),
				policy("shop/open", toAPI+", ingress: [{from: [{podSelector: {matchLabels: {app: job}}}]}, {from: [{podSelector: {matchLabels: {app: web}}}]}]"),
			},
			tcp(web, api, 80), allow,
			[]string{"shop/deny", "shop/open"},
			[]string{"ingress of shop/api-0 is isolated by shop/deny, shop/open, and ingress rule 2 of shop/open allows tcp 80 from pod shop/web-0 (10.244.1.2)"},
		},
		{
			"two policies deny together",
			[]string{policy("shop/x", toAPI), policy("shop/y", "podSelector: {}, policyTypes: [Ingress]")},
			tcp(ops, api, 80), deny,
			[]string{"shop/x", "shop/y"},
			[]string{"ingress of shop/api-0 is isolated by shop/x, shop/y and no rule of theirs allows tcp 80 from pod monitoring/scraper (10.244.2.9)"},
		},
		{"a podSelector alone means pods of the policy's namespace", []string{policy("shop/p", toAPI+", ingress: [{from: [{podSelector: {}}]}]")}, tcp(ops, api, 80), deny, []string{"shop/p"}, nil},
		{"a namespaceSelector alone means all pods of those namespaces", []string{policy("shop/p", toAPI+", ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}}]}]")}, tcp(ops, api, 80), allow, []string{"shop/p"}, nil},
		{"a namespaceSelector does not match other namespaces", []string{policy("shop/p", toAPI+", ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}}]}]")}, tcp(web, api, 80), deny, []string{"shop/p"}, nil},
		{"both selectors in one peer must match: they do", []string{policy("shop/p", toAPI+", ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}, podSelector: {matchLabels: {app: scraper}}}]}]")}, tcp(ops, api, 80), allow, []string{"shop/p"}, nil},
		{"both selectors in one peer must match: the pod does not", []string{policy("shop/p", toAPI+", ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}, podSelector: {matchLabels: {app: web}}}]}]")}, tcp(ops, api, 80), deny, []string{"shop/p"}, nil},
		{"selectors in two peers are alternatives", []string{policy("shop/p", toAPI+", ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}}, {podSelector: {matchLabels: {app: web}}}]}]")}, tcp(web, api, 80), allow, []string{"shop/p"}, nil},
		{"an empty namespaceSelector means every namespace", []string{policy("shop/p", toAPI+", ingress: [{from: [{namespaceSelector: {}}]}]")}, tcp(alien, api, 80), allow, []string{"shop/p"}, nil},
		{"an empty namespaceSelector does not mean addresses outside", []string{policy("shop/p", toAPI+", ingress: [{from: [{namespaceSelector: {}}]}]")}, tcp(remote, api, 80), deny, []string{"shop/p"}, nil},
		{"matchExpressions select", []string{policy("shop/p", toAPI+", ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: In, values: [web, job]}, {key: tier, operator: Exists}]}}]}]")}, tcp(web, api, 80), allow, []string{"shop/p"}, nil},
		{"the name of a namespace is a label even where its object does not say so", []string{policy("shop/p", toAPI+", ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]}]")}, tcp(ops, api, 80), allow, []string{"shop/p"}, nil},
		{"the name of a namespace is known without its object", []string{policy("shop/p", toAPI+", ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: unlisted}}}]}]")}, tcp(alien, api, 80), allow, []string{"shop/p"}, nil},
		{"a namespace that was not collected is not another one", []string{policy("shop/p", toAPI+", ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop, team: x}}}]}]")}, tcp(alien, api, 80), deny, []string{"shop/p"}, nil},
		{
			"the labels of a namespace that was not collected are not known",
			[]string{policy("shop/p", toAPI+", ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}}]}]")},
			tcp(alien, api, 80), unknown,
			[]string{"shop/p"},
			[]string{`whether ingress of shop/api-0 allows tcp 80 from pod unlisted/stranger (10.244.2.20) is not known: ingress rule 1 of shop/p: peer 1: the labels of namespace "unlisted" were not collected`},
		},
		{"unknown labels do not matter when another rule allows", []string{policy("shop/p", toAPI+", ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}}]}, {}]")}, tcp(alien, api, 80), allow, []string{"shop/p"}, nil},
		{"unknown labels do not matter when the pod's labels exclude it", []string{policy("shop/p", toAPI+", ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}, podSelector: {matchLabels: {app: scraper}}}]}]")}, tcp(alien, api, 80), deny, []string{"shop/p"}, nil},
		{"unknown labels do not matter when the port excludes it", []string{policy("shop/p", toAPI+", ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}}], ports: [{port: 81}]}]")}, tcp(alien, api, 80), deny, []string{"shop/p"}, nil},
		{
			"an address of the pod range that no pod has may be any pod",
			[]string{policy("shop/p", toAPI+", ingress: [{from: [{podSelector: {}}]}]")},
			tcp("10.244.2.99", api, 80), unknown,
			[]string{"shop/p"},
			[]string{"whether ingress of shop/api-0 allows tcp 80 from 10.244.2.99 is not known: ingress rule 1 of shop/p: peer 1: 10.244.2.99 is in the pod range 10.244.2.0/24 of node b, but no object has this address"},
		},

		{"a port allows that port", []string{policy("shop/p", toAPI+", ingress: [{ports: [{port: 80}]}]")}, tcp(web, api, 80), allow, []string{"shop/p"}, nil},
		{"a port allows no other", []string{policy("shop/p", toAPI+", ingress: [{ports: [{port: 80}]}]")}, tcp(web, api, 81), deny, []string{"shop/p"}, nil},
		{"a port without protocol means tcp", []string{policy("shop/p", toAPI+", ingress: [{ports: [{port: 80}]}]")}, udp(web, api, 80), deny, []string{"shop/p"}, nil},
		{"a protocol without port means all its ports", []string{policy("shop/p", toAPI+", ingress: [{ports: [{protocol: UDP}]}]")}, udp(web, api, 9), allow, []string{"shop/p"}, nil},
		{"a protocol without port means no other protocol", []string{policy("shop/p", toAPI+", ingress: [{ports: [{protocol: UDP}]}]")}, tcp(web, api, 9), deny, []string{"shop/p"}, nil},
		{"endPort includes both ends: the last", []string{policy("shop/p", toAPI+", ingress: [{ports: [{port: 80, endPort: 90}]}]")}, tcp(web, api, 90), allow, []string{"shop/p"}, nil},
		{"endPort includes both ends: the first", []string{policy("shop/p", toAPI+", ingress: [{ports: [{port: 80, endPort: 90}]}]")}, tcp(web, api, 80), allow, []string{"shop/p"}, nil},
		{"endPort ends", []string{policy("shop/p", toAPI+", ingress: [{ports: [{port: 80, endPort: 90}]}]")}, tcp(web, api, 91), deny, []string{"shop/p"}, nil},
		{"a named port is the destination's: its number at api-0", []string{policy("shop/p", toAPI+", ingress: [{ports: [{port: http}]}]")}, tcp(web, api, 8080), allow, []string{"shop/p"}, nil},
		{"a named port is the destination's: its number at api-1", []string{policy("shop/p", toAPI+", ingress: [{ports: [{port: http}]}]")}, tcp(web, api1, 9090), allow, []string{"shop/p"}, nil},
		{"a named port is not that of the source", []string{policy("shop/p", toAPI+", ingress: [{ports: [{port: http}]}]")}, tcp(web, api, 80), deny, []string{"shop/p"}, nil},
		{"a named port has a protocol", []string{policy("shop/p", toAPI+", ingress: [{ports: [{port: dns}]}]")}, udp(web, api, 5353), deny, []string{"shop/p"}, nil},
		{"a named port of another protocol is not the one that the rule means", []string{policy("shop/p", toAPI+", ingress: [{ports: [{port: dns}]}]")}, tcp(web, api, 5353), deny, []string{"shop/p"}, nil},
		{"a named port with its protocol", []string{policy("shop/p", toAPI+", ingress: [{ports: [{port: dns, protocol: UDP}]}]")}, udp(web, api, 5353), allow, []string{"shop/p"}, nil},
		{"a named port of egress is the destination's too", []string{policy("shop/p", toWeb+", policyTypes: [Egress], egress: [{ports: [{port: http}]}]")}, tcp(web, api, 8080), allow, []string{"shop/p"}, nil},
		{"an address outside has no named ports", []string{policy("shop/p", toWeb+", policyTypes: [Egress], egress: [{ports: [{port: http}]}]")}, tcp(web, remote, 80), deny, []string{"shop/p"}, nil},
		{"a port of sctp", []string{policy("shop/p", toAPI+", ingress: [{ports: [{port: 80, protocol: SCTP}]}]")}, sctp(web, api, 80), allow, []string{"shop/p"}, nil},
		{"a port of tcp is none of sctp", []string{policy("shop/p", toAPI+", ingress: [{ports: [{port: 80}]}]")}, sctp(web, api, 80), deny, []string{"shop/p"}, nil},
		{"peers and ports of a rule must both match", []string{policy("shop/p", toAPI+", ingress: [{from: [{podSelector: {matchLabels: {app: job}}}], ports: [{port: 80}]}]")}, tcp(web, api, 80), deny, []string{"shop/p"}, nil},

		{"an ipBlock holds an address", []string{policy("shop/p", toAPI+", ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}}]}]")}, tcp(remote, api, 80), allow, []string{"shop/p"}, nil},
		{"an ipBlock excepts an address", []string{policy("shop/p", toAPI+", ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.96/28]}}]}]")}, tcp(remote, api, 80), deny, []string{"shop/p"}, nil},
		{"what one ipBlock excepts another may hold", []string{policy("shop/p", toAPI+", ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.96/28]}}, {ipBlock: {cidr: 203.0.113.99/32}}]}]")}, tcp(remote, api, 80), allow, []string{"shop/p"}, nil},
		{"an ipBlock holds the address of a pod", []string{policy("shop/p", toAPI+", ingress: [{from: [{ipBlock: {cidr: 10.244.2.0/24}}]}]")}, tcp(ops, api, 80), allow, []string{"shop/p"}, nil},
		{"an ipBlock of IPv4 does not hold IPv6", []string{policy("shop/p", toAPI+", ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]")}, tcp("2001:db8::1", "fd00:1::3", 80), deny, []string{"shop/p"}, nil},
		{"an ipBlock of IPv6 holds IPv6", []string{policy("shop/p", toAPI+", ingress: [{from: [{ipBlock: {cidr: \"2001:db8::/32\"}}]}]")}, tcp("2001:db8::1", "fd00:1::3", 80), allow, []string{"shop/p"}, nil},
		{
			"an ipBlock that is no prefix is not guessed",
			[]string{policy("shop/p", toAPI+", ingress: [{from: [{ipBlock: {cidr: everywhere}}]}]")},
			tcp(remote, api, 80), unknown,
			[]string{"shop/p"},
			[]string{`whether ingress of shop/api-0 allows tcp 80 from 203.0.113.99 is not known: ingress rule 1 of shop/p: peer 1: ipBlock.cidr "everywhere" is no prefix`},
		},
		{
			"an ipBlock of IPv4 in the notation of IPv6 is not guessed",
			[]string{policy("shop/p", toAPI+", ingress: [{from: [{ipBlock: {cidr: \"::ffff:203.0.113.0/120\"}}]}]")},
			tcp(remote, api, 80), unknown,
			[]string{"shop/p"},
			[]string{`whether ingress of shop/api-0 allows tcp 80 from 203.0.113.99 is not known: ingress rule 1 of shop/p: peer 1: ipBlock.cidr "::ffff:203.0.113.0/120" is an IPv4 prefix in the notation of IPv6, which some network plugins take for the one and some for the other`},
		},
		{"a peer that names nothing is not guessed", []string{policy("shop/p", toAPI+", ingress: [{from: [{}]}]")}, tcp(web, api, 80), unknown, []string{"shop/p"}, nil},
		{"a podSelector that is no selector is not guessed", []string{policy("shop/p", "podSelector: {matchExpressions: [{key: app, operator: Like, values: [x]}]}")}, tcp(web, api, 80), unknown, nil, nil},

		{"without policyTypes and egress rules, egress is open", []string{policy("shop/p", toWeb+", ingress: [{}]")}, tcp(web, ops, 80), none, nil, nil},
		{"without policyTypes, an empty list of egress rules leaves egress open", []string{policy("shop/p", toWeb+", egress: []")}, tcp(web, ops, 80), none, nil, nil},
		{"without policyTypes, egress rules isolate egress", []string{policy("shop/p", toWeb+", egress: [{ports: [{port: 53}]}]")}, tcp(web, ops, 80), deny, []string{"shop/p"}, nil},
		{"without policyTypes, egress rules isolate ingress too", []string{policy("shop/p", toWeb+", egress: [{}]")}, tcp(ops, web, 80), deny, []string{"shop/p"}, nil},
		{"policyTypes Egress leaves ingress open", []string{policy("shop/p", toWeb+", policyTypes: [Egress]")}, tcp(ops, web, 80), none, nil, nil},
		{
			"policyTypes Egress without rules denies all egress",
			[]string{policy("shop/p", toWeb+", policyTypes: [Egress]")},
			tcp(web, remote, 443), deny,
			[]string{"shop/p"},
			[]string{"egress of shop/web-0 is isolated by shop/p and no rule of it allows tcp 443 to 203.0.113.99"},
		},
		{
			"egress and ingress must both allow: both do",
			[]string{
				policy("shop/out", toWeb+", policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: api}}}]}]"),
				policy("shop/in", toAPI+", ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]"),
			},
			tcp(web, api, 80), allow,
			[]string{"shop/out", "shop/in"},
			[]string{
				"egress of shop/web-0 is isolated by shop/out, and egress rule 1 of shop/out allows tcp 80 to pod shop/api-0 (10.244.1.3)",
				"ingress of shop/api-0 is isolated by shop/in, and ingress rule 1 of shop/in allows tcp 80 from pod shop/web-0 (10.244.1.2)",
			},
		},
		{
			"egress and ingress must both allow: only ingress denies",
			[]string{
				policy("shop/out", toWeb+", policyTypes: [Egress], egress: [{}]"), policy("shop/in", toAPI),
			},
			tcp(web, api, 80), deny,
			[]string{"shop/in"},
			[]string{"ingress of shop/api-0 is isolated by shop/in and no rule of it allows tcp 80 from pod shop/web-0 (10.244.1.2)"},
		},
		{"both directions deny", []string{policy("shop/out", toWeb+", policyTypes: [Egress]"), policy("shop/in", toAPI)}, tcp(web, api, 80), deny, []string{"shop/out", "shop/in"}, nil},
		{
			"a denial in one direction decides what is unknown in the other", []string{
				policy("unlisted/out", "podSelector: {}, policyTypes: [Egress]"), policy("shop/p", toAPI+", ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}}]}]"),
			}, tcp(alien, api, 80), deny, []string{"unlisted/out"}, nil,
		},

		{
			"the pod's own node may always reach it",
			[]string{policy("shop/p", toAPI)},
			tcp(nodeA, api, 80), allow,
			[]string{"shop/p"},
			[]string{"ingress of shop/api-0 is allowed: node a (192.168.0.1) is the node on which the pod runs"},
		},
		{"another node may not", []string{policy("shop/p", toAPI)}, tcp(nodeB, api, 80), deny, []string{"shop/p"}, nil},
		{
			"a bridge's address of the pod's own node, which the caller knows, may reach it",
			[]string{policy("shop/p", toAPI)},
			cluster.Connection{Source: cluster.End{Addr: addr("10.244.1.1"), Node: "a"}, Destination: cluster.End{Addr: addr(api)}, Protocol: verdict.TCP, Port: 80},
			allow,
			[]string{"shop/p"},
			nil,
		},
		{"a pod of the host's network is not selected by policies", []string{policy("monitoring/p", "podSelector: {}")}, tcp(web, nodeA, 80), none, nil, nil},
		{"a pod of the host's network matches no podSelector as a peer", []string{policy("shop/p", toAPI+", ingress: [{from: [{namespaceSelector: {}}]}]")}, tcp(nodeA, api1, 80), deny, []string{"shop/p"}, nil},
		{"a pod of the host's network matches an ipBlock as a peer", []string{policy("shop/p", toAPI+", ingress: [{from: [{ipBlock: {cidr: 192.168.0.0/24}}]}]")}, tcp(nodeA, api1, 80), allow, []string{"shop/p"}, nil},
		{
			"what a pod sends to its own node is up to the plugin",
			[]string{policy("shop/p", toWeb+", policyTypes: [Egress]")},
			tcp(web, nodeA, 10250), unknown,
			[]string{"shop/p"},
			[]string{"whether egress of shop/web-0 allows tcp 10250 to node a (192.168.0.1) is not known: the API allows what a pod sends to its own node, but some network plugins do not"},
		},
		{"what a pod sends to another node is not", []string{policy("shop/p", toWeb+", policyTypes: [Egress]")}, tcp(web, nodeB, 10250), deny, []string{"shop/p"}, nil},
		{
			"a pod may always talk to itself",
			[]string{policy("shop/p", "podSelector: {}, policyTypes: [Ingress, Egress]")},
			tcp(web, web, 80), allow,
			[]string{"shop/p"},
			[]string{"egress of shop/web-0 is allowed: a pod may always talk to itself", "ingress of shop/web-0 is allowed: a pod may always talk to itself"},
		},
		{"rules without ports allow icmp", []string{policy("shop/p", toAPI+", ingress: [{from: [{podSelector: {}}]}]")}, icmp(web, api), allow, []string{"shop/p"}, nil},
		{
			"whether isolation holds for icmp is up to the plugin",
			[]string{policy("shop/p", toAPI+", ingress: [{ports: [{port: 80}]}]")},
			icmp(web, api), unknown,
			[]string{"shop/p"},
			[]string{"whether ingress of shop/api-0 allows icmp from pod shop/web-0 (10.244.1.2) is not known: the API leaves it to the network plugin whether isolation holds for icmp"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := withPolicies(t, tt.policies...).Evaluate(tt.c)
			got := string(r.Verdict)
			if r.Unknown {
				if r.Verdict != verdict.PolicyNone {
					t.Errorf("unknown, and yet %s", r.Verdict)
				}
				got = unknown
			}
			if got != tt.want {
				t.Errorf("got %s, want %s; %q", got, tt.want, r.Explanation)
			}
			if (len(r.Denied) > 0) != (tt.want == deny) {
				t.Errorf("%s, but the directions that deny are %v", got, r.Denied)
			}
			if diff := cmp.Diff(tt.by, r.Policies); diff != "" {
				t.Error(diff)
			}
			if tt.why != nil && strings.Join(tt.why, "\n") != strings.Join(r.Explanation, "\n") {
				t.Errorf("explanation:\n%s\nwant:\n%s", strings.Join(r.Explanation, "\n"), strings.Join(tt.why, "\n"))
			}
		})
	}
}

func TestPoliciesOfAnAddressOfTwoPodsAreUnknown(t *testing.T) {
	x := cluster.Compile(decode(t, `
apiVersion: v1
kind: PodList
items:
- {metadata: {name: a, namespace: n, labels: {app: x}}, status: {phase: Running, podIP: 10.0.0.1}}
- {metadata: {name: b, namespace: n}, status: {phase: Running, podIP: 10.0.0.1}}
`+policy("n/p", "podSelector: {matchLabels: {app: x}}")))
	c := cluster.Connection{Source: cluster.End{Addr: addr("10.0.0.2")}, Destination: cluster.End{Addr: addr("10.0.0.1")}, Protocol: verdict.TCP, Port: 80}
	r := x.Evaluate(c)
	want := []string{"which policies apply to the ingress is not known: 10.0.0.1 belongs to both n/a and n/b"}
	if diff := cmp.Diff(want, r.Explanation); diff != "" || !r.Unknown {
		t.Errorf("unknown %t: %s", r.Unknown, diff)
	}
	c.Destination.Pod, _ = x.Pod("n", "b")
	if r := x.Evaluate(c); r.Unknown || r.Verdict != verdict.PolicyNone {
		t.Errorf("the pod that the caller names decides: %+v", r)
	}
}

func TestPoliciesOfOtherKindsMakeUnknownWhatTheyMayDecide(t *testing.T) {
	other := func(apiVersion, kind, namespace, name string) string {
		if namespace != "" {
			namespace = ", namespace: " + namespace
		}
		return fmt.Sprintf("\n---\napiVersion: %s\nkind: %s\nmetadata: {name: %s%s}\nspec: {}\n", apiVersion, kind, name, namespace)
	}
	const why = "what policies say is not known: %s may apply, and policies of this kind are not evaluated"
	tests := []struct {
		name, object, other string
	}{
		{"one of the whole cluster", other("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", "", "guard"), "AdminNetworkPolicy guard"},
		{"one of the destination's namespace", other("cilium.io/v2", "CiliumNetworkPolicy", "shop", "l7"), "CiliumNetworkPolicy shop/l7"},
		{"one of the source's namespace", other("crd.projectcalico.org/v1", "NetworkPolicy", "monitoring", "c"), "NetworkPolicy monitoring/c"},
		{"but not one of another namespace", other("cilium.io/v2", "CiliumNetworkPolicy", "unlisted", "l7"), ""},
		{"but not the mirror of one that is evaluated", other("projectcalico.org/v3", "NetworkPolicy", "shop", "knp.default.p"), ""},
		{"but not one that is only staged", other("projectcalico.org/v3", "StagedNetworkPolicy", "shop", "p"), ""},
		{"but not another kind of the same group", other("cilium.io/v2", "CiliumEndpoint", "shop", "p"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := withPolicies(t, policy("shop/p", toAPI), tt.object)
			r := x.Evaluate(cluster.Connection{Source: cluster.End{Addr: addr(ops)}, Destination: cluster.End{Addr: addr(api)}, Protocol: verdict.TCP, Port: 80})
			if tt.other == "" {
				if r.Unknown || r.Verdict != verdict.PolicyDeny {
					t.Errorf("got %+v", r)
				}
				return
			}
			if diff := cmp.Diff([]string{fmt.Sprintf(why, tt.other)}, r.Explanation); diff != "" || !r.Unknown || r.Verdict != verdict.PolicyNone {
				t.Errorf("got %+v %s", r, diff)
			}
		})
	}
}

func TestAPodOfTheHostsNetworkIsItsNodeEvenIfTheCallerNamesIt(t *testing.T) {
	x := withPolicies(t, policy("monitoring/p", "podSelector: {}"), policy("shop/p", toAPI+", ingress: [{from: [{namespaceSelector: {}}]}]"))
	exporter, ok := x.Pod("monitoring", "exporter-a")
	if !ok {
		t.Fatal("no pod")
	}
	end := cluster.End{Addr: addr(nodeA), Pod: exporter}
	c := cluster.Connection{Source: cluster.End{Addr: addr(web)}, Destination: end, Protocol: verdict.TCP, Port: 80}
	if r := x.Evaluate(c); r.Verdict != verdict.PolicyNone || r.Unknown {
		t.Errorf("as a destination: %+v", r)
	}
	c.Source, c.Destination = end, cluster.End{Addr: addr(api1)}
	if r := x.Evaluate(c); r.Verdict != verdict.PolicyDeny {
		t.Errorf("to a pod of another node: %+v", r)
	}
	c.Destination = cluster.End{Addr: addr(api)}
	if r := x.Evaluate(c); r.Verdict != verdict.PolicyAllow {
		t.Errorf("to a pod of its node: %+v", r)
	}
}

func TestPolicyFindings(t *testing.T) {
	x := withPolicies(t, policy("shop/deny-web", toAPI))
	c := cluster.Connection{Source: cluster.End{Addr: addr(web)}, Destination: cluster.End{Addr: addr(api)}, Protocol: verdict.TCP, Port: 8080}
	const why = "ingress of shop/api-0 is isolated by shop/deny-web and no rule of it allows tcp 8080 from pod shop/web-0 (10.244.1.2)"
	denied, ok := x.Evaluate(c).Finding()
	if want := "network policy shop/deny-web deny the packet from pod shop/web-0 (10.244.1.2): " + why; !ok || denied.Message != want {
		t.Errorf("got %q", denied.Message)
	}
	if denied.Code != verdict.NetworkPolicyDeny || denied.Severity != verdict.SeverityFatal || denied.Where.Resource != "networkpolicy shop/deny-web" {
		t.Errorf("got %+v", denied)
	}
	ignored, ok := x.Evaluate(c).NotEnforced()
	if want := "network policy shop/deny-web denies, but nothing on the path enforces it: " + why; !ok || ignored.Message != want {
		t.Errorf("got %q", ignored.Message)
	}
	if ignored.Code != verdict.NetworkPolicyNotEnforced || ignored.Severity != verdict.SeverityWarning {
		t.Errorf("got %+v", ignored)
	}
	c.Destination.Addr = addr(ops)
	if f, ok := x.Evaluate(c).Finding(); ok {
		t.Errorf("a finding of a connection that is allowed: %+v", f)
	}
}
