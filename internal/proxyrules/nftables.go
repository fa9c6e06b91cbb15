package proxyrules

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// expr is a piece of an nftables rule, as nft prints it and in its JSON.
type expr struct{ text, json string }

func match(left expr, op, right string) expr {
	value := strconv.Quote(right)
	if _, err := strconv.Atoi(right); err == nil {
		value = right
	} else if addr, bits, ok := strings.Cut(right, "/"); ok {
		value = fmt.Sprintf(`{"prefix":{"addr":"%s","len":%s}}`, addr, bits)
	}
	text := left.text + " " + right
	if op == "!=" {
		text = left.text + " != " + right
	}
	return expr{text, fmt.Sprintf(`{"match":{"op":"%s","left":%s,"right":%s}}`, op, left.json, value)}
}

func payload(protocol, field string) expr {
	return expr{protocol + " " + field, fmt.Sprintf(`{"payload":{"protocol":"%s","field":"%s"}}`, protocol, field)}
}

func verdict(kind, target string) expr {
	return expr{kind + " " + target, fmt.Sprintf(`{"%s":{"target":"%s"}}`, kind, target)}
}

func concat(parts ...expr) expr {
	var text, json []string
	for _, p := range parts {
		text, json = append(text, p.text), append(json, p.json)
	}
	return expr{strings.Join(text, " . "), `{"concat":[` + strings.Join(json, ",") + `]}`}
}

func vmap(key expr, name string) expr {
	return expr{key.text + " vmap @" + name, fmt.Sprintf(`{"vmap":{"key":%s,"data":"@%s"}}`, key.json, name)}
}

var (
	daddr   = payload("ip", "daddr")
	saddr   = payload("ip", "saddr")
	dport   = payload("th", "dport")
	l4proto = expr{"meta l4proto", `{"meta":{"key":"l4proto"}}`}
	isNew   = expr{"ct state new", `{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":"new"}}`}
	reject  = expr{"reject", `{"reject":{"type":"icmp","expr":"port-unreachable"}}`}
	setMark = expr{
		"meta mark set meta mark | 0x00004000",
		`{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"|":[{"meta":{"key":"mark"}},16384]}}}`,
	}
	clearMark = expr{
		"meta mark set meta mark ^ 0x00004000",
		`{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"^":[{"meta":{"key":"mark"}},16384]}}}`,
	}
)

// nft writes the table in both forms at once.
type nft struct {
	sets, chains strings.Builder // text, in the order of nft list
	setJSON      []string
	chainJSON    []string
	ruleJSON     []string
	open         string // the chain whose text is being written
}

func (w *nft) set(kind, name, types, data, comment string, elements []expr) {
	typeText, typeJSON := types, strconv.Quote(types)
	if parts := strings.Split(types, " . "); len(parts) > 1 {
		typeJSON = `["` + strings.Join(parts, `","`) + `"]`
	}
	more := ""
	if kind == "map" {
		typeText, more = types+" : "+data, fmt.Sprintf(`,"map":"%s"`, data)
	}
	fmt.Fprintf(&w.sets, "\t%s %s {\n\t\ttype %s\n\t\tcomment \"%s\"\n", kind, name, typeText, comment)
	more += fmt.Sprintf(`,"comment":"%s"`, comment)
	if len(elements) > 0 {
		var text, json []string
		for _, e := range elements {
			text, json = append(text, e.text), append(json, e.json)
		}
		fmt.Fprintf(&w.sets, "\t\telements = { %s }\n", joinElements(text, kind))
		more += `,"elem":[` + strings.Join(json, ",") + "]"
	}
	w.sets.WriteString("\t}\n\n")
	w.setJSON = append(w.setJSON, fmt.Sprintf(`{"%s":{"family":"ip","name":"%s","table":"kube-proxy","type":%s,"handle":0%s}}`, kind, name, typeJSON, more))
}

func (w *nft) chain(name string) {
	w.close()
	w.open = name
	fmt.Fprintf(&w.chains, "\tchain %s {\n", name)
	w.chainJSON = append(w.chainJSON, fmt.Sprintf(`{"chain":{"family":"ip","table":"kube-proxy","name":"%s","handle":0}}`, name))
}

func (w *nft) base(name, typ, hook string, priority int) {
	w.close()
	w.open = name
	fmt.Fprintf(&w.chains, "\tchain %s {\n\t\ttype %s hook %s priority %s; policy accept;\n", name, typ, hook, priorityName(hook, priority))
	w.chainJSON = append(w.chainJSON, fmt.Sprintf(
		`{"chain":{"family":"ip","table":"kube-proxy","name":"%s","handle":0,"type":"%s","hook":"%s","prio":%d,"policy":"accept"}}`, name, typ, hook, priority))
}

// priorityName is how nft prints the priorities that have names.
func priorityName(hook string, priority int) string {
	switch {
	case priority == 100 && hook == "postrouting":
		return "srcnat"
	case priority == -100 && hook == "prerouting":
		return "dstnat"
	case priority == -110 && hook == "prerouting":
		return "dstnat - 10"
	}
	return strconv.Itoa(priority)
}

func (w *nft) rule(exprs ...expr) { w.ruleWithComment("", exprs...) }

func (w *nft) ruleWithComment(comment string, exprs ...expr) {
	var text, json []string
	for _, e := range exprs {
		text, json = append(text, e.text), append(json, e.json)
	}
	more := ""
	if comment != "" {
		text, more = append(text, strconv.Quote(comment)), fmt.Sprintf(`,"comment":"%s"`, comment)
		text[len(text)-1] = "comment " + text[len(text)-1]
	}
	w.chains.WriteString("\t\t" + strings.Join(text, " ") + "\n")
	w.ruleJSON = append(w.ruleJSON, fmt.Sprintf(`{"rule":{"family":"ip","table":"kube-proxy","chain":"%s","handle":0%s,"expr":[%s]}}`,
		w.open, more, strings.Join(json, ",")))
}

func (w *nft) close() {
	if w.open != "" {
		w.chains.WriteString("\t}\n\n")
	}
}

// joinElements breaks the lines where nft does: after two addresses, or one
// element of a map.
func joinElements(elements []string, kind string) string {
	var b strings.Builder
	for i, e := range elements {
		switch {
		case i == 0:
		case kind == "set" && i%2 == 1:
			b.WriteString(", ")
		default:
			b.WriteString(",\n\t\t\t     ")
		}
		b.WriteString(e)
	}
	return b.String()
}

// NFTables is what "nft list ruleset" prints on a node of which kube-proxy runs
// in nftables mode; nft -f loads it.
func (s *Spec) NFTables() []byte {
	w := s.nft()
	return []byte("table ip kube-proxy {\n\tcomment \"rules for kube-proxy\"\n" + w.sets.String() + strings.TrimSuffix(w.chains.String(), "\n") + "}\n")
}

// NFTablesJSON is the same as "nft -j list ruleset" prints it.
func (s *Spec) NFTablesJSON() []byte {
	w := s.nft()
	var b bytes.Buffer
	b.WriteString(`{"nftables":[{"metainfo":{"version":"1.0.6","release_name":"Lester Gooch #5","json_schema_version":1}},` +
		`{"table":{"family":"ip","name":"kube-proxy","handle":0}}`)
	for _, list := range [][]string{w.setJSON, w.chainJSON, w.ruleJSON} {
		for _, object := range list {
			b.WriteString("," + object)
		}
	}
	b.WriteString("]}\n")
	return b.Bytes()
}

// Numbered gives the objects of nftables handles, which are others on each node.
func Numbered(data []byte, first int) []byte {
	const handle = `"handle":`
	parts := bytes.Split(data, []byte(handle+"0"))
	var out bytes.Buffer
	for i, part := range parts {
		if i > 0 {
			out.WriteString(handle + strconv.Itoa(first+i))
		}
		out.Write(part)
	}
	return out.Bytes()
}

func (s *Spec) nft() *nft {
	w := &nft{}
	s.sets(w)
	check := func(base, typ, hook string, priority int, chains ...string) {
		w.base(base, typ, hook, priority)
		for _, chain := range chains {
			w.rule(isNew, verdict("jump", chain))
		}
	}
	check("filter-input", "filter", "input", -110, "nodeport-endpoints-check", "service-endpoints-check")
	check("filter-forward", "filter", "forward", -110, "service-endpoints-check", "cluster-ips-check")
	check("filter-output", "filter", "output", -110, "service-endpoints-check", "firewall-check")
	check("filter-output-post-dnat", "filter", "output", -90, "cluster-ips-check")
	check("filter-prerouting", "filter", "prerouting", -110, "firewall-check")
	w.base("nat-output", "nat", "output", -100)
	w.rule(verdict("jump", "services"))
	w.base("nat-postrouting", "nat", "postrouting", 100)
	w.rule(verdict("jump", "masquerading"))
	w.base("nat-prerouting", "nat", "prerouting", -100)
	w.rule(verdict("jump", "services"))

	service := concat(daddr, l4proto, dport)
	nodePort := []expr{match(daddr, "==", "@nodeport-ips"), {}}
	w.chain("services")
	w.rule(vmap(service, "service-ips"))
	nodePort[1] = vmap(concat(l4proto, dport), "service-nodeports")
	w.rule(nodePort...)
	w.chain("masquerading")
	w.rule(expr{
		"meta mark & 0x00004000 == 0x00000000",
		`{"match":{"op":"==","left":{"&":[{"meta":{"key":"mark"}},16384]},"right":0}}`,
	}, expr{"return", `{"return":null}`})
	w.rule(clearMark)
	w.rule(expr{"masquerade fully-random", `{"masquerade":{"flags":"fully-random"}}`})
	w.chain("mark-for-masquerade")
	w.rule(setMark)
	w.chain("reject-chain")
	w.rule(reject)
	w.chain("cluster-ips-check")
	w.ruleWithComment("Reject traffic to invalid ports of ClusterIPs", match(daddr, "==", "@cluster-ips"), reject)
	w.ruleWithComment("Drop traffic to unallocated ClusterIPs", match(daddr, "==", ServiceCIDR.String()), expr{"drop", `{"drop":null}`})
	w.chain("firewall-check")
	w.rule(vmap(service, "firewall-ips"))
	w.chain("service-endpoints-check")
	w.rule(vmap(service, "no-endpoint-services"))
	w.chain("nodeport-endpoints-check")
	nodePort[1] = vmap(concat(l4proto, dport), "no-endpoint-nodeports")
	w.rule(nodePort...)
	for _, i := range s.order() {
		s.chains(w, i)
	}
	w.close()
	return w
}

// sets writes the sets and maps that lead to the Services.
func (s *Spec) sets(w *nft) {
	const serviceType, nodePortType = "ipv4_addr . inet_proto . inet_service", "inet_proto . inet_service"
	var ips, services, nodePorts, idle []expr
	order := s.order()
	for n := range s.Services + s.Idle {
		i := n
		if n < s.Services {
			i = order[n]
		}
		v := s.service(i)
		ips = append(ips, expr{v.ip, strconv.Quote(v.ip)})
		key := func(to expr) expr {
			return expr{
				fmt.Sprintf("%s . tcp . %d : %s", v.ip, ServicePort, to.text),
				fmt.Sprintf(`[{"concat":["%s","tcp",%d]},%s]`, v.ip, ServicePort, to.json),
			}
		}
		if i >= s.Services {
			idle = append(idle, key(verdict("goto", "reject-chain")))
			continue
		}
		services = append(services, key(verdict("goto", v.chain("service"))))
		if v.nodePort != 0 {
			to := verdict("goto", v.chain("external"))
			nodePorts = append(nodePorts, expr{
				fmt.Sprintf("tcp . %d : %s", v.nodePort, to.text), fmt.Sprintf(`[{"concat":["tcp",%d]},%s]`, v.nodePort, to.json),
			})
		}
	}
	var nodes []expr
	for _, n := range s.Nodes {
		nodes = append(nodes, expr{n.String(), strconv.Quote(n.String())})
	}
	w.set("set", "cluster-ips", "ipv4_addr", "", "Active ClusterIPs", ips)
	w.set("set", "nodeport-ips", "ipv4_addr", "", "IPs that accept NodePort traffic", nodes)
	w.set("map", "no-endpoint-services", serviceType, "verdict", "vmap to drop or reject packets to services with no endpoints", idle)
	w.set("map", "no-endpoint-nodeports", nodePortType, "verdict", "vmap to drop or reject packets to service nodeports with no endpoints", nil)
	w.set("map", "firewall-ips", serviceType, "verdict", "destinations that are subject to LoadBalancerSourceRanges", nil)
	w.set("map", "service-ips", serviceType, "verdict", "ClusterIP, ExternalIP and LoadBalancer IP traffic", services)
	w.set("map", "service-nodeports", nodePortType, "verdict", "NodePort traffic", nodePorts)
}

func (v *service) chain(kind string) string { return kind + "-" + v.hash[:8] + "-" + v.path }

// chains writes the chains of one Service.
func (s *Spec) chains(w *nft, i int) {
	v := s.service(i)
	list := s.endpoints(&v)
	mark := verdict("jump", "mark-for-masquerade")
	choices := make([]string, len(list))
	choiceJSON := make([]string, len(list))
	names := make([]string, len(list))
	for n, e := range list {
		names[n] = fmt.Sprintf("endpoint-%s-%s__%s/%d", e.hash[:8], v.path, e.ip, EndpointPort)
		to := verdict("goto", names[n])
		choices[n], choiceJSON[n] = fmt.Sprintf("%d : %s", n, to.text), fmt.Sprintf("[%d,%s]", n, to.json)
	}
	w.chain(v.chain("service"))
	w.rule(match(daddr, "==", v.ip), match(payload("tcp", "dport"), "==", strconv.Itoa(ServicePort)), match(saddr, "!=", PodCIDR.String()), mark)
	w.rule(expr{
		fmt.Sprintf("numgen random mod %d vmap { %s }", len(list), strings.Join(choices, ", ")),
		fmt.Sprintf(`{"vmap":{"key":{"numgen":{"mode":"random","mod":%d,"offset":0}},"data":{"set":[%s]}}}`, len(list), strings.Join(choiceJSON, ",")),
	})
	if v.nodePort != 0 {
		w.chain(v.chain("external"))
		w.ruleWithComment("masquerade", mark)
		w.rule(verdict("goto", v.chain("service")))
	}
	for n, e := range list {
		w.chain(names[n])
		w.rule(match(saddr, "==", e.ip), mark)
		w.rule(match(l4proto, "==", "tcp"), expr{"dnat to " + e.to, fmt.Sprintf(`{"dnat":{"addr":"%s","port":%d}}`, e.ip, EndpointPort)})
	}
}
