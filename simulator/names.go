package simulator

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/resolver"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

const (
	// maxAliases is how many ExternalName services one after the other CoreDNS
	// follows (maxCnameChainLength, and the first): a ring of them has no address.
	maxAliases = 11
	// maxAddresses is how many addresses of one name are walked to.
	maxAddresses = maxWalks
)

// Lookup is the diagnosis of a query for a name on its way: dns:NAME, or a Service that has
// no address of its own. It cannot end where
// neither the objects of the cluster nor the answers that are known tell what the name
// stands for: then there is a Question. Whoever can ask does, from the network
// namespace of the question, and tells the Answer; the next question may depend on it.
// A Lookup is for one goroutine.
type Lookup struct {
	w       *World
	query   *verdict.Query
	name    string           // that is looked up; empty if the query is for none
	service *cluster.Service // that the query is for, if it is for one
	from    *resolved
	answers resolver.Answers
	// live says that answers alone are believed: neither what the objects say nor what
	// was recorded, nor that a server cannot be reached.
	live bool

	config  *resolver.Config
	domain  string // of the cluster
	servers []nameServer
	report  verdict.Resolution
	assumed []string

	addrs   []netip.Addr
	found   bool // without a name server
	refused *verdict.Finding
	pending *resolver.Question // that has to be asked first
	// silent and failing are what servers did instead of answering.
	silent, failing string
}

// LookUp begins the diagnosis of a query. The error is for a malformed one only; one that
// is not for a name is no trouble, and has no questions.
func (w *World) LookUp(q verdict.Query) (*Lookup, error) { return w.startLookup(q, nil, false) }

// LookUpLive is LookUp for those who want to know what the resolver of the source finds out
// now: what it is told is all that it believes. See Found.
func (w *World) LookUpLive(q verdict.Query) (*Lookup, error) { return w.startLookup(q, nil, true) }

func (w *World) startLookup(q verdict.Query, answers resolver.Answers, live bool) (*Lookup, error) {
	if err := q.Validate(); err != nil {
		return nil, err
	}
	l := &Lookup{w: w, query: &q, live: live}
	if l.name, l.service = w.nameOf(&q); l.name != "" {
		l.answers = resolver.Answers{}
		maps.Copy(l.answers, answers)
		l.refused = l.begin()
		l.try()
	}
	return l, nil
}

// nameOf is the name that a valid query is for: of dns:NAME, or by which clients know a
// service without an address, which they get from DNS.
func (w *World) nameOf(q *verdict.Query) (string, *cluster.Service) {
	if name, named := q.DNSName(); named {
		return name, nil
	}
	end, _ := verdict.ParseEndpoint(q.To)
	s, ok := w.cluster.Service(end.Namespace, end.Name)
	switch {
	case !ok || end.Kind != verdict.EndpointService:
	case s.ExternalName != "":
		return strings.TrimSuffix(s.ExternalName, ".") + ".", s
	case s.Headless:
		return s.Name + "." + s.Namespace + ".svc", s
	}
	return "", nil
}

// AsksNames says whether name servers may have to be asked about the destination of a
// valid query: dns:NAME, and a Service that stands for a name.
func (w *World) AsksNames(q *verdict.Query) bool {
	name, s := w.nameOf(q)
	return name != "" && (s == nil || !s.Headless)
}

// Question is what has to be asked of a name server now, from the network namespace
// that it names; nil if there is nothing.
func (l *Lookup) Question() *resolver.Question { return l.pending }

// Answer tells what became of a question.
func (l *Lookup) Answer(a resolver.Answer) {
	if l.name != "" {
		l.answers[a.Question] = a
		l.try()
	}
}

// Found is what the name has come to: addresses, those first that the client turns to
// first, or in words why there is none. The error says why that is not known.
func (l *Lookup) Found() (addrs []netip.Addr, why string, err error) {
	switch {
	case l.refused != nil:
		return nil, "", errors.New(l.refused.Message)
	case len(l.addrs) > 0:
		first := l.preferred()
		for _, a := range l.addrs {
			if !slices.Contains(first, a) {
				first = append(first, a)
			}
		}
		return first, "", nil
	case l.pending != nil:
		return nil, "", errors.New(notAsked(l.pending))
	}
	return nil, cmp.Or(l.silent, l.failing, "no address of "+l.name+" is known: "+strings.Join(l.evidence(), "; ")), nil
}

func notAsked(q *resolver.Question) string {
	return fmt.Sprintf("what the name server %s answers for %s is not known: it was not asked", q.Server, q.Name)
}

// nameServer is a server and the way to it.
type nameServer struct {
	addr netip.Addr
	name string          // for people
	way  *verdict.Report // of the datagrams to its port 53
	// Of the paths there, which the resolver gets an answer by, and which not.
	passes, fails, unknown int
	// silent says that it did not answer a question of this lookup.
	silent bool
}

// unreachable says whether no datagram is ever answered.
func (s *nameServer) unreachable() bool { return s.fails > 0 && s.passes+s.unknown == 0 }

// begin finds out how the source resolves names, and the way to its name servers.
// Where that is not known, it says why.
func (l *Lookup) begin() *verdict.Finding {
	w, q, name := l.w, l.query, l.name
	fromEnd, _ := verdict.ParseEndpoint(q.From)
	from, f := w.resolve(fromEnd)
	if f != nil {
		return f
	}
	l.from = &from
	l.report = verdict.Resolution{Servers: []string{}, Search: []string{}, Tried: []verdict.TriedName{}, Addresses: []string{}}
	if l.service != nil && l.service.Headless {
		return l.findEndpoints()
	}
	if q.Via != nil || from.host == nil && from.pod == nil {
		return unresolvedf("dns:%s: how %s resolves names is not known: ask about the address", name, q.From)
	}
	if bare := strings.TrimSuffix(name, "."); !resolver.ValidName(bare) {
		return unresolvedf("dns:%s: not a name that DNS can have", name)
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(name, "."))
	switch {
	case l.service != nil && err == nil: // CoreDNS has no alias of an address
		f := verdict.NewFinding(verdict.DNSNameNotFound, verdict.Where{Resource: "service " + l.service.String()}, []string{"spec.externalName: " + l.service.ExternalName},
			fmt.Sprintf("has no name for service %s: what it is to be an alias of, %s, is an address", l.service, addr))
		return &f
	case l.service != nil:
		l.assume("service %s is an alias: its clients are taken to look up %s", l.service, name)
	case err == nil: // getaddrinfo asks nobody then
		l.addrs, l.found = []netip.Addr{addr.Unmap()}, true
		return nil
	default:
		if f := l.readHostsFile(name); f != nil || l.found {
			return f
		}
	}
	if f := l.configure(); f != nil {
		return f
	}
	l.findServers()
	return nil
}

// findEndpoints finds what the name of a headless service stands for.
func (l *Lookup) findEndpoints() *verdict.Finding {
	s, q := l.service, l.query
	if why, missing := l.w.cluster.Missing()["endpointslices"]; missing {
		return unresolvedf("which endpoints the headless service %s has is not known: %s", s, why)
	}
	for _, ipv6 := range []bool{false, true} {
		for _, b := range l.w.cluster.Endpoints(s, q.Port, q.Protocol, ipv6) {
			if b.Ready {
				l.addrs = append(l.addrs, b.Addr.Addr())
			}
		}
	}
	if len(l.addrs) == 0 {
		f := l.w.cluster.NoEndpoints(s, cluster.Traffic{Port: q.Port, Protocol: q.Protocol, IPv6: s.PrefersIPv6()})
		return &f
	}
	l.found, l.report.Config = true, "EndpointSlices of the headless service "+s.String()
	l.tried(l.name, "EndpointSlices", join(l.addrs))
	for _, p := range s.Ports {
		if p.Port == q.Port && p.Protocol == q.Protocol && p.TargetPort != "0" && p.TargetPort != strconv.Itoa(int(p.Port)) {
			l.assume("nothing translates the ports of a headless service: clients connect to port %d of its pods, whatever its targetPort %s stands for", p.Port, p.TargetPort)
		}
	}
	return nil
}

// readHostsFile looks the name up where nsswitch.conf sends resolvers first. Where that is
// not known, it says why.
func (l *Lookup) readHostsFile(name string) *verdict.Finding {
	h := l.from.host
	var aliases resolver.Hosts
	switch {
	case h != nil && h.PartStatus(netstack.PartHosts).State == netstack.StateFailed:
		f := h.missing(netstack.PartHosts)
		return &f
	case h != nil && h.PartStatus(netstack.PartHosts).State == netstack.StateOK:
		aliases, l.report.Config = h.aliases, "hosts file of "+h.String()
	case l.from.pod != nil && !l.from.pod.HostNetwork:
		aliases, l.report.Config = l.from.pod.Aliases(), "hostAliases of pod "+l.from.pod.String()
		l.assume("the hosts file of %s was not collected: it is taken as kubelet writes it, with the pod's hostAliases alone", l.query.From)
	default:
		l.assume("the hosts file of %s was not collected, and is taken as empty", l.query.From)
		return nil
	}
	l.assume("names are looked up in the hosts file first, then in DNS, as glibc does: nsswitch.conf is not read")
	if l.addrs = aliases.Lookup(name); len(l.addrs) > 0 {
		l.found = true
		l.tried(name, "hosts file", join(l.addrs))
	}
	return nil
}

// configure finds the resolver's configuration: the file of the source, or what
// kubelet writes for its pod.
func (l *Lookup) configure() *verdict.Finding {
	h, pod := l.from.host, l.from.pod
	l.domain = cluster.DefaultDomain
	switch {
	case h != nil && h.resolver != nil:
		l.config, l.report.Config = h.resolver, "resolv.conf of "+h.String()
	case h != nil && h.PartStatus(netstack.PartResolvConf).State == netstack.StateFailed:
		f := h.missing(netstack.PartResolvConf)
		return &f
	case pod != nil:
		var node *resolver.Config
		if on := l.w.byNode[pod.Node]; on != nil {
			node = on.resolver
		}
		c, ok := l.w.cluster.PodResolver(pod, node, l.domain)
		if !ok {
			return notCollectedf(verdict.Where{Node: pod.Node, Pod: pod.String()},
				"the resolv.conf of pod %s was not collected, and its DNS policy leads to what is not known: the node's resolv.conf, or the cluster's DNS service", pod)
		}
		l.config, l.report.Config = c, fmt.Sprintf("DNS policy of pod %s, as kubelet would write it", pod)
		l.assumed = append(l.assumed, fmt.Sprintf("the resolv.conf of pod %s was not collected: it is taken as kubelet writes it, with the domain %s", pod, l.domain))
		if node == nil {
			l.assumed = append(l.assumed, "search domains of the node, which kubelet adds, are not known, and taken as none")
		}
	default:
		f := h.missing(netstack.PartResolvConf)
		return &f
	}
	if domain, ok := l.config.ClusterDomain(); ok {
		l.domain = domain
	}
	l.report.Ndots = l.config.Ndots
	l.report.Search = append(l.report.Search, l.config.Search...)
	if l.config.Rotate && len(l.config.Servers) > 1 {
		l.assumed = append(l.assumed, "the option rotate lets any name server be asked first: the first of the file stands for all")
	}
	return nil
}

// findServers diagnoses the way to each name server.
func (l *Lookup) findServers() {
	for _, addr := range l.config.Servers {
		s := nameServer{addr: addr, name: addr.String()}
		if svc, ok := l.w.cluster.ServiceByIP(addr); ok {
			s.name += " (service " + svc.String() + ")"
		}
		q := verdict.Query{From: l.query.From, To: addr.String(), Port: 53, Protocol: verdict.UDP, UID: l.query.UID}
		if l.live {
			s.way, s.passes = l.w.newReport(&q), 1
		} else {
			s.way = l.w.diagnose(&q, nil)
		}
		for i := range s.way.Paths {
			switch p := &s.way.Paths[i]; {
			case p.Verdict == verdict.Unknown, hasCode(p.Findings, verdict.LeavesModel) && l.w.cluster.IsDNS(addr): // which is in the cluster
				s.unknown++
			case p.Verdict == verdict.Reachable, answersFromElsewhere(p):
				s.passes++
			default: // a datagram that arrives and is not answered is no help
				s.fails++
			}
		}
		l.report.Servers = append(l.report.Servers, addr.String())
		l.servers = append(l.servers, s)
	}
}

// answersFromElsewhere says that all that is wrong is the address which a server that is
// bound to none would answer from. Name servers see to it that it is the one that was asked
// (IP_PKTINFO): resolvers insist on that.
func answersFromElsewhere(p *verdict.Path) bool {
	return p.Verdict == verdict.Degraded && len(p.Findings) == 1 && p.Findings[0].Code == verdict.InvalidRoute
}

// allUnreachable says whether no server can be asked.
func (l *Lookup) allUnreachable() bool {
	return len(l.servers) > 0 && !slices.ContainsFunc(l.servers, func(s nameServer) bool { return !s.unreachable() })
}

// try goes through the candidates as __res_context_search of glibc does: a name
// that is not there, and a server that fails, lead to the next; silence ends the
// search, and only the name as it is may still be tried.
func (l *Lookup) try() {
	if l.refused != nil || l.found || l.allUnreachable() {
		return
	}
	l.addrs, l.pending, l.silent, l.failing, l.report.Tried = nil, nil, "", "", []verdict.TriedName{}
	for i := range l.servers {
		l.servers[i].silent = false
	}
	candidates := l.config.Candidates(l.name)
	asIs := strings.ToLower(strings.TrimSuffix(l.name, "."))
	for i, candidate := range candidates {
		if l.silent != "" && candidate != asIs {
			continue
		}
		silent := l.silent
		if l.ask(candidate); len(l.addrs) > 0 || l.pending != nil {
			return
		}
		if i == 0 && candidate == asIs && len(candidates) > 1 {
			l.silent = silent // what glibc tries as it is first does not end the search
		}
	}
}

// ask asks one server after the other for a name.
func (l *Lookup) ask(name string) {
	for i := range l.servers {
		s := &l.servers[i]
		if s.unreachable() {
			l.tried(name, s.addr.String(), "cannot be reached: "+string(s.way.Reason()))
			continue
		}
		a, known := l.answer(s, name)
		if !known && s.silent { // a resolver would wait for it once more
			l.tried(name, s.addr.String(), "not asked: it did not answer before")
			l.silent = cmp.Or(l.silent, s.name+" does not answer")
			continue
		}
		if !known {
			l.pending = &a.Question
			return
		}
		switch a.Status {
		case resolver.Timeout:
			s.silent, l.silent = true, fmt.Sprintf("%s does not answer for %s", s.name, name)
		case resolver.Failed:
			l.failing = fmt.Sprintf("%s fails to answer for %s: %s", s.name, name, a.Detail)
		default:
			l.addrs = a.Addresses
			l.silent = ""
			return
		}
	}
}

// answer is what a server says: a recorded answer, or what the objects of the
// cluster make its DNS say.
func (l *Lookup) answer(s *nameServer, name string) (resolver.Answer, bool) {
	a := resolver.Answer{Question: l.question(s, name)}
	if got, ok := l.recorded(a.Question); ok {
		l.tried(name, s.addr.String(), describeAnswer(&got))
		return got, true
	}
	if !l.live && l.w.cluster.IsDNS(s.addr) && l.fromObjects(&a) {
		l.assume("names under %s are answered from the cluster's objects, as the plugin kubernetes of CoreDNS does", l.domain)
		return a, true
	}
	return a, false
}

// fromObjects answers for a name of the cluster, and follows aliases; false where
// the answer is not in its objects.
func (l *Lookup) fromObjects(a *resolver.Answer) bool {
	name, source := a.Name, ""
	a.Status = resolver.OK
	for range maxAliases + 1 {
		r, ok := l.w.cluster.Resolve(name, l.domain)
		if !ok || r.Unknown != "" {
			return false
		}
		source += r.Source
		if r.Alias == "" {
			a.Addresses = r.Addresses
			// An alias is there, whatever it leads to.
			if !r.Exists && name == a.Name {
				a.Status = resolver.NotFound
			}
			break
		}
		source += ", an alias of " + r.Alias + ", "
		name = r.Alias
	}
	a.Detail = source
	l.tried(a.Name, a.Server.String(), describeAnswer(a))
	return true
}

func (l *Lookup) tried(name, server, answer string) {
	l.report.Tried = append(l.report.Tried, verdict.TriedName{Name: name, Server: server, Answer: answer})
}

func (l *Lookup) assume(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(l.assumed, text) {
		l.assumed = append(l.assumed, text)
	}
}

func describeAnswer(a *resolver.Answer) string {
	text := join(a.Addresses)
	switch {
	case a.Status == resolver.NotFound:
		text = "no such name"
	case a.Status == resolver.Timeout:
		text = "no answer"
	case a.Status == resolver.Failed:
		text = "failed"
	case text == "":
		text = "no address"
	}
	if a.Detail != "" {
		text += " (" + a.Detail + ")"
	}
	return text
}

func join(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}

// evidence is what was tried, in lines.
func (l *Lookup) evidence() []string {
	list := []string{fmt.Sprintf("%s: search %s, ndots %d", l.report.Config, cmp.Or(strings.Join(l.config.Search, " "), "nothing"), l.config.Ndots)}
	for _, t := range l.report.Tried {
		list = append(list, fmt.Sprintf("%s at %s: %s", t.Name, t.Server, t.Answer))
	}
	return list
}

// Report answers the query: how the name is resolved, the way to the name servers, and
// the way to what the name stands for, as far as is known.
func (l *Lookup) Report() *verdict.Report {
	if l.name == "" {
		return l.w.diagnose(l.query, nil)
	}
	if l.refused != nil {
		return l.w.refuse(l.query, l.refused)
	}
	l.report.Addresses = []string{}
	for _, a := range l.addrs {
		l.report.Addresses = append(l.report.Addresses, a.String())
	}
	var r *verdict.Report
	if len(l.addrs) > 0 {
		r = l.walk()
	} else {
		r = l.failed()
	}
	r.Resolution = &l.report
	r.Assumptions = append(r.Assumptions, l.assumed...)
	return r
}

// failed is the report on a name that has no addresses, or none that is known.
func (l *Lookup) failed() *verdict.Report {
	w, q := l.w, l.query
	r := w.newReport(q)
	finding := func(code verdict.Code, format string, args ...any) {
		r.Reasons = append(r.Reasons, verdict.NewFinding(code, l.where(), l.evidence(), fmt.Sprintf(format, args...)))
		r.Verdict = verdict.Unreachable
	}
	switch {
	case l.allUnreachable():
		var names []string
		for i := range l.servers {
			names = append(names, l.servers[i].name)
		}
		finding(verdict.DNSServiceUnreachable, "%s cannot be reached from %s", strings.Join(names, ", "), q.From)
		for i := range l.servers {
			s := l.servers[i].way
			for j := range s.Paths {
				s.Paths[j].Verdict = verdict.Unreachable
			}
			r.Paths = append(r.Paths, weigh(s.Paths, len(l.servers))...)
			r.Reasons = appendFindings(r.Reasons, s.Reasons)
			joinReports(r, s)
		}
		for _, cause := range r.Reasons[1:] {
			r.Reasons[0].Evidence = append(r.Reasons[0].Evidence, string(cause.Code)+": "+cause.Message)
		}
	case l.pending != nil:
		why := unresolvedf("%s", notAsked(l.pending))
		why.Evidence = l.evidence()
		r.Reasons, r.Verdict = append(r.Reasons, *why), verdict.Unknown
		l.judgeWays(r)
	case l.silent != "":
		finding(verdict.DNSTimeout, "%s", l.silent)
	case l.failing != "":
		finding(verdict.DNSTimeout, "%s", l.failing)
	default:
		finding(verdict.DNSNameNotFound, "knows no address of %s", l.name)
		if l.doubtful() {
			r.Verdict = verdict.Unknown
		}
		l.judgeWays(r)
	}
	return r
}

// where is where the resolver is.
func (l *Lookup) where() verdict.Where {
	if l.from.host != nil {
		return l.from.host.where("")
	}
	return verdict.Where{Node: l.from.pod.Node, Pod: l.from.pod.String()}
}

// walk diagnoses the ways to the addresses of the name: to all of the family that
// the client prefers, for a server that knows several puts another first each time.
func (l *Lookup) walk() *verdict.Report {
	addrs := l.preferred()
	if len(addrs) > maxAddresses {
		l.assume("%d addresses of the name are not walked to", len(addrs)-maxAddresses)
		addrs = addrs[:maxAddresses]
	}
	if len(addrs) < len(l.addrs) {
		l.assume("the client uses the %s addresses of the name: it would turn to the others after these", netstack.FamilyOf(addrs[0]))
	}
	var r *verdict.Report
	unknown := false
	for _, addr := range addrs {
		to, _ := l.w.resolveIP(addr)
		one := l.w.diagnose(l.query, &to)
		unknown = unknown || len(one.Paths) == 0
		one.Paths = weigh(one.Paths, len(addrs))
		if r == nil {
			r = one
			continue
		}
		r.Paths = append(r.Paths, one.Paths...)
		r.Reasons = appendFindings(r.Reasons, one.Reasons)
		joinReports(r, one)
		r.Verdict = Join(r.Paths)
	}
	if unknown {
		r.Verdict = verdict.Unknown
	}
	l.judgeWays(r)
	return r
}

// preferred are the addresses that getaddrinfo puts first: those of IPv6, if the
// source has an address of the same kind (RFC 6724, rules 5 and 6).
func (l *Lookup) preferred() []netip.Addr {
	of := func(f netstack.Family) (list []netip.Addr) {
		for _, a := range l.addrs {
			if netstack.FamilyOf(a) == f {
				list = append(list, a)
			}
		}
		return list
	}
	six, four := of(netstack.IPv6), of(netstack.IPv4)
	usable := slices.ContainsFunc(l.from.addrs, func(src netip.Addr) bool {
		return netstack.FamilyOf(src) == netstack.IPv6 && len(six) > 0 && src.IsPrivate() == six[0].IsPrivate()
	})
	if usable && !l.from.literal || len(four) == 0 || l.from.literal && !l.from.has(netstack.IPv4) && len(six) > 0 {
		return six
	}
	return four
}

// judgeWays adds what is to be said of the ways to the name servers, where one of
// them at least can be used.
func (l *Lookup) judgeWays(r *verdict.Report) {
	for i := range l.servers {
		s := &l.servers[i]
		if s.fails == 0 {
			continue
		}
		evidence := []string{}
		for _, cause := range s.way.Reasons {
			evidence = append(evidence, string(cause.Code)+": "+cause.Message)
		}
		f := verdict.NewFinding(verdict.DNSServiceUnreachable, l.where(), evidence, "")
		switch {
		case s.unreachable():
			f.Severity = verdict.SeverityWarning
			f.Message = fmt.Sprintf("cluster DNS %s cannot be reached from %s: each name waits until the next server is asked", s.name, l.query.From)
		case s.passes > 0 || s.unknown > 0:
			f.Severity = verdict.SeverityPartial
			f.Message = fmt.Sprintf("cluster DNS %s cannot be reached from %s by %d of %d ways", s.name, l.query.From, s.fails, s.passes+s.fails+s.unknown)
			if r.Verdict == verdict.Reachable {
				r.Verdict = verdict.Degraded
			}
		}
		r.Reasons = append(r.Reasons, f)
	}
	if !l.doubtful() || r.Verdict == verdict.Unreachable {
		return
	}
	r.Verdict = verdict.Unknown
	for i := range l.servers {
		if s := &l.servers[i]; s.passes == 0 {
			r.Reasons = appendFindings(slices.Clone(s.way.Reasons), r.Reasons)
		}
	}
}

// doubtful says whether it is not known that any server can be reached, although
// an answer was needed that nobody has got.
func (l *Lookup) doubtful() bool {
	last := ""
	if n := len(l.report.Tried); n > 0 {
		last = l.report.Tried[n-1].Name
	}
	for i := range l.servers {
		s := &l.servers[i]
		if _, recorded := l.recorded(l.question(s, last)); s.passes > 0 || recorded {
			return false
		}
	}
	return len(l.servers) > 0
}

// question is what a server is asked.
func (l *Lookup) question(s *nameServer, name string) resolver.Question {
	q := resolver.Question{Server: s.addr, Name: name}
	if l.from.host != nil {
		q.Namespace = l.from.host.Name
	}
	return q
}

// recorded is an answer that was given: to the caller, or when the snapshot was taken.
func (l *Lookup) recorded(q resolver.Question) (resolver.Answer, bool) {
	a, ok := l.answers[q]
	if !ok && !l.live {
		a, ok = l.w.names[q]
	}
	return a, ok
}

// weigh divides the probabilities of paths among alternatives.
func weigh(paths []verdict.Path, alternatives int) []verdict.Path {
	if alternatives > 1 {
		for i := range paths {
			if p := paths[i].Probability; p != nil {
				share := *p / float64(alternatives)
				paths[i].Probability = &share
			}
		}
	}
	return paths
}

// appendFindings appends those that are not in the list yet.
func appendFindings(list, more []verdict.Finding) []verdict.Finding {
	for i := range more {
		f := &more[i]
		if !slices.ContainsFunc(list, func(g verdict.Finding) bool {
			return g.Code == f.Code && g.Where == f.Where && g.Message == f.Message
		}) {
			list = append(list, *f)
		}
	}
	return list
}

// joinReports adds to a report what another says beside its paths and reasons.
func joinReports(r, other *verdict.Report) {
	r.Boundary = r.Boundary || other.Boundary
	for _, text := range other.Assumptions {
		if !slices.Contains(r.Assumptions, text) {
			r.Assumptions = append(r.Assumptions, text)
		}
	}
	policies := map[string]bool{}
	switch worse := other.Policy.Verdict; {
	case worse == r.Policy.Verdict:
		for _, name := range slices.Concat(r.Policy.Policies, other.Policy.Policies) {
			policies[name] = true
		}
		r.Policy.Policies = append([]string{}, slices.Sorted(maps.Keys(policies))...)
	case worse == verdict.PolicyDeny, r.Policy.Verdict == verdict.PolicyNone:
		r.Policy = other.Policy
	}
}
