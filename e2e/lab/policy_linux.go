package lab

import (
	"bytes"
	"fmt"
	"strings"
)

// policyMark says "allowed by a policy". It is the mark bit that kube-router uses, and not kube-proxy's.
const policyMark = "0x10000/0x10000"

func policyJump() []string {
	return []string{"FORWARD", "-m", "comment", "--comment", "network policies", "-j", "LAB-POLICY"}
}

func policyChain(s *Spec) string {
	return chainName("LAB-NP-", s.role(s.Roles.Far).Namespace, "/", policyName(s))
}

func podChain(p Pod) string { return chainName("LAB-POD-", p.ID()) }

// policyRules returns the input of iptables-restore that enforces denyPolicy for the pods of a node, or nil if the
// policy selects none of them.
func (l *Lab) policyRules(n Node, f family) []byte {
	var pods []Pod
	for _, p := range l.isolated() {
		if p.Node == n.Name {
			pods = append(pods, p)
		}
	}
	if len(pods) == 0 {
		return nil
	}
	np := policyChain(l.Spec)
	policy := l.far().Namespace + "/" + policyName(l.Spec)
	var b bytes.Buffer
	fmt.Fprintf(&b, "*filter\n:LAB-POLICY - [0:0]\n:%s - [0:0]\n", np)
	for _, p := range pods {
		fmt.Fprintf(&b, ":%s - [0:0]\n", podChain(p))
	}
	for _, p := range pods {
		chain := podChain(p)
		fmt.Fprintf(&b, "-A LAB-POLICY -d %s -m comment --comment \"ingress of pod %s\" -j %s\n", p.Addresses[f], p.ID(), chain)
		fmt.Fprintf(&b, "-A %s -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n", chain)
		fmt.Fprintf(&b, "-A %s -m addrtype --src-type LOCAL -m comment --comment \"its own node\" -j ACCEPT\n", chain)
		fmt.Fprintf(&b, "-A %s -m comment --comment \"network policy %s\" -j %s\n", chain, policy, np)
		fmt.Fprintf(&b, "-A %s -m mark ! --mark %s -m comment --comment \"denied by network policy %s\" -j DROP\n", chain, policyMark, policy)
		fmt.Fprintf(&b, "-A %s -j MARK --set-xmark 0x0/0x10000\n", chain)
	}
	for _, p := range l.Spec.selected(l.far().Namespace, l.Spec.Roles.Allowed) {
		fmt.Fprintf(&b, "-A %s -s %s -m comment --comment \"allowed by network policy %s\" -j MARK --set-xmark %s\n", np, p.Addresses[f], policy, policyMark)
	}
	b.WriteString("COMMIT\n")
	return b.Bytes()
}

// dropPolicyChains returns the input of iptables-restore that removes the chains of policyRules. Declaring a chain
// flushes it, and makes it if it is not there.
func (l *Lab) dropPolicyChains(n Node) []byte {
	chains := []string{"LAB-POLICY", policyChain(l.Spec)}
	for _, p := range l.isolated() {
		if p.Node == n.Name {
			chains = append(chains, podChain(p))
		}
	}
	var b bytes.Buffer
	b.WriteString("*filter\n")
	for _, c := range chains {
		fmt.Fprintf(&b, ":%s - [0:0]\n", c)
	}
	for _, c := range chains {
		fmt.Fprintf(&b, "-X %s\n", c)
	}
	b.WriteString("COMMIT\n")
	return b.Bytes()
}

// lowerProtocol is how iptables and nft call a protocol.
func lowerProtocol(p PodPort) string { return strings.ToLower(p.Protocol) }
