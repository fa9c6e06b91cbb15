// Package proxyrules writes the rules of a kube-proxy that serves any number of
// Services, as the tools of the kernel print them: iptables-save, "nft list
// ruleset" and "nft -j list ruleset". Benchmarks and tests of large rule sets
// read them; a test loads them into the kernel and compares.
//
// The shape is that of kube-proxy 1.3x (pkg/proxy/iptables and
// pkg/proxy/nftables): the same chains, rules, comments and hashed names.
package proxyrules

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
)

// Spec says how many Services there are, and where.
type Spec struct {
	Services  int
	Endpoints int // of each Service
	// NodePortEvery gives one Service in so many a node port; 0 for none.
	NodePortEvery int
	// Idle is how many further Services have no endpoint.
	Idle int
	// Nodes are the addresses that take node ports, in nftables mode.
	Nodes []netip.Addr
	// Backend places an endpoint; nil spreads them over PodCIDR.
	Backend func(service, endpoint int) netip.Addr
	// Order has another order of Services for each number, as each kube-proxy has its
	// own; 0 is that of the Services.
	Order uint64
}

// order is that in which rules for Services are written.
func (s *Spec) order() []int {
	order := make([]int, s.Services)
	for i := range order {
		order[i] = i
	}
	if s.Order != 0 {
		rand.New(rand.NewPCG(s.Order, 0)).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	return order
}

// Networks of the cluster, and the ports of all Services and endpoints.
var (
	PodCIDR     = netip.MustParsePrefix("10.128.0.0/9")
	ServiceCIDR = netip.MustParsePrefix("10.96.0.0/12")
)

// Ports of every Service and endpoint, and of the first node port.
const (
	ServicePort   = 80
	EndpointPort  = 8080
	firstNodePort = 30000
)

// ClusterIP is the address of a Service; those past Services are idle.
func (s *Spec) ClusterIP(service int) netip.Addr { return nth(ServiceCIDR, service+256) }

// Endpoint is the address of one of its endpoints.
func (s *Spec) Endpoint(service, endpoint int) netip.Addr {
	if s.Backend != nil {
		return s.Backend(service, endpoint)
	}
	return nth(PodCIDR, 256+service*s.Endpoints+endpoint)
}

// NodePort is the Service's port on every node; 0 when it has none.
func (s *Spec) NodePort(service int) int {
	if s.NodePortEvery == 0 || service%s.NodePortEvery != 0 {
		return 0
	}
	return firstNodePort + service/s.NodePortEvery
}

func nth(p netip.Prefix, n int) netip.Addr {
	b := p.Addr().As4()
	b[1] += byte(n >> 16)
	b[2] += byte(n >> 8)
	b[3] += byte(n)
	return netip.AddrFrom4(b)
}

// service is one Service with the names that kube-proxy gives it.
type service struct {
	number   int
	ip       string
	name     string // NAMESPACE/NAME:PORT
	path     string // NAMESPACE/NAME/PROTOCOL/PORT
	hash     string
	nodePort int
}

func (s *Spec) service(i int) service {
	namespace, name := fmt.Sprintf("team-%d", i%200), fmt.Sprintf("backend-%d", i)
	v := service{
		number: i, ip: s.ClusterIP(i).String(), name: namespace + "/" + name + ":http",
		path: namespace + "/" + name + "/tcp/http",
	}
	v.hash = hash(v.name + "tcp")
	if i < s.Services {
		v.nodePort = s.NodePort(i)
	}
	return v
}

// endpoint is one endpoint of a Service.
type endpoint struct{ ip, to, hash string }

func (s *Spec) endpoints(v *service) []endpoint {
	list := make([]endpoint, s.Endpoints)
	for i := range list {
		ip := s.Endpoint(v.number, i).String()
		to := ip + ":" + strconv.Itoa(EndpointPort)
		// Endpoints with the same address need names of their own.
		list[i] = endpoint{ip: ip, to: to, hash: hash(v.name + "tcp" + to + strconv.Itoa(i))}
	}
	return list
}

// hash is what portProtoHash and its kin make of a name, without the cut.
func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base32.StdEncoding.EncodeToString(sum[:])[:16]
}
