package verdict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"strings"

	"github.com/plumbline-net/plumbline/internal/strictjson"
)

// Protocol is the transport of a query, in lower case.
type Protocol string

// The protocols that can be asked about.
const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	SCTP Protocol = "sctp"
	ICMP Protocol = "icmp" // ICMPv6 for IPv6 destinations
)

// Valid says whether p can be asked about.
func (p Protocol) Valid() bool {
	switch p {
	case TCP, UDP, SCTP, ICMP:
		return true
	}
	return false
}

// Query asks whether packets get from one endpoint to another. It is one line
// of a queries file and the body of POST /api/v1/diagnose.
type Query struct {
	ID       string   `json:"id,omitempty"`
	From     string   `json:"from"`
	To       string   `json:"to"`
	Port     uint16   `json:"port,omitempty"`
	Protocol Protocol `json:"protocol"`
	// Via says where a packet from outside the collected world enters it.
	Via        *Via    `json:"via,omitempty"`
	SourcePort uint16  `json:"sourcePort,omitempty"`
	Mark       uint32  `json:"mark,omitempty"`
	UID        *uint32 `json:"uid,omitempty"`
	DSCP       uint8   `json:"dscp,omitempty"`
	ICMPType   *uint8  `json:"icmpType,omitempty"` // default: echo request
	// Size is the length in bytes of the IP packets of the full-size leg;
	// default: as large as both ends' MTU permit.
	Size    int     `json:"size,omitempty"`
	Expect  Verdict `json:"expect,omitempty"`
	Confirm bool    `json:"confirm,omitempty"`
}

// Via is the interface at which a packet enters.
type Via struct {
	Namespace string `json:"namespace"`
	Interface string `json:"interface"`
}

// DecodeQuery reads one JSON query. Without a protocol it is about TCP. Unknown fields and trailing text are
// errors: a misspelt option must not be ignored.
func DecodeQuery(line []byte) (Query, error) {
	q := Query{Protocol: TCP}
	if err := strictjson.Decode(bytes.NewReader(line), &q); err != nil {
		return Query{}, fmt.Errorf("query: %w", plainly(err))
	}
	return q, nil
}

// plainly puts errors of the JSON decoder into the words of who writes JSON, not Go.
func plainly(err error) error {
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("is empty: expected a JSON object")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the JSON ends too early")
	case errors.As(err, &mismatch) && mismatch.Field == "":
		return fmt.Errorf("is a JSON %s: expected an object", mismatch.Value)
	case errors.As(err, &mismatch):
		expected := mismatch.Type.Kind().String()
		switch mismatch.Type.Kind() {
		case reflect.Bool:
			expected = "true or false"
		case reflect.Struct:
			expected = "an object"
		case reflect.String:
			expected = "a string"
		case reflect.Int:
			expected = "a whole number"
		case reflect.Uint8, reflect.Uint16, reflect.Uint32:
			expected = fmt.Sprintf("a whole number from 0 to %d", uint64(1)<<mismatch.Type.Bits()-1)
		}
		return fmt.Errorf("%s: %s: expected %s", mismatch.Field, mismatch.Value, expected)
	}
	return err
}

// Validate reports the first syntactic fault. It does not look names up: a name
// that nothing bears is a report, not an error.
func (q *Query) Validate() error {
	if _, err := ParseEndpoint(q.From); err != nil {
		return fmt.Errorf("from: %w", err)
	}
	if _, err := ParseEndpoint(q.To); err != nil {
		return fmt.Errorf("to: %w", err)
	}
	if q.Protocol == "" {
		return errors.New("protocol: missing; expected tcp, udp, sctp or icmp")
	}
	if !q.Protocol.Valid() {
		return fmt.Errorf("protocol: %q is not one of tcp, udp, sctp, icmp", q.Protocol)
	}
	switch {
	case q.Protocol == ICMP && q.Port != 0:
		return errors.New("port: icmp has no ports")
	case q.Protocol == ICMP && q.SourcePort != 0:
		return errors.New("sourcePort: icmp has no ports")
	case q.Protocol != ICMP && q.Port == 0:
		return fmt.Errorf("port: %s needs a port from 1 to 65535", q.Protocol)
	case q.Protocol != ICMP && q.ICMPType != nil:
		return fmt.Errorf("icmpType: %s has no ICMP type", q.Protocol)
	case q.DSCP > 63:
		return fmt.Errorf("dscp: %d is not from 0 to 63", q.DSCP)
	case q.Size < 0 || q.Size > 65535:
		return fmt.Errorf("size: %d is not from 0 to 65535 bytes", q.Size)
	case q.Expect != "" && q.Expect != Reachable && q.Expect != Unreachable:
		return fmt.Errorf("expect: %q is not reachable or unreachable", q.Expect)
	case q.Via != nil && (q.Via.Namespace == "" || q.Via.Interface == ""):
		return errors.New("via: needs a namespace and an interface")
	}
	return nil
}

// DNSName is the name that the destination dns:NAME of a valid query stands for.
func (q *Query) DNSName() (name string, named bool) {
	return strings.CutPrefix(q.To, string(EndpointDNS)+":")
}

// EndpointKind says how an endpoint is named.
type EndpointKind string

// Kinds of endpoints.
const (
	EndpointPod     EndpointKind = "pod"
	EndpointNode    EndpointKind = "node"
	EndpointService EndpointKind = "svc"
	EndpointNetns   EndpointKind = "ns" // a network namespace by name
	EndpointDNS     EndpointKind = "dns"
	EndpointIP      EndpointKind = "ip"
)

// Endpoint is one end of a query: pod:NS/NAME, node:NAME, svc:NS/NAME,
// ns:NETNS, dns:NAME or an IP address.
type Endpoint struct {
	Kind      EndpointKind
	Namespace string // Kubernetes namespace of a pod or service
	Name      string
	IP        netip.Addr
}

const endpointForms = "pod:NAMESPACE/NAME, node:NAME, svc:NAMESPACE/NAME, ns:NETNS, dns:NAME or an IP address"

// ParseEndpoint reads an endpoint. The error quotes the text and says what is
// expected.
func ParseEndpoint(text string) (Endpoint, error) {
	if text == "" {
		return Endpoint{}, errors.New("missing; expected " + endpointForms)
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		if addr.Zone() != "" {
			return Endpoint{}, fmt.Errorf("%q: an address with a zone is not supported: ask about another address, or name the pod or node", text)
		}
		if addr.Is6() && addr.IsLinkLocalUnicast() { // sockets do not connect to one without a zone, either
			return Endpoint{}, fmt.Errorf("%q: a link-local address of IPv6 means something else on every interface: ask about another address, or name the pod or node", text)
		}
		return Endpoint{Kind: EndpointIP, IP: addr.Unmap()}, nil
	}
	kind, rest, found := strings.Cut(text, ":")
	if !found {
		return Endpoint{}, fmt.Errorf("%q: expected %s", text, endpointForms)
	}
	e := Endpoint{Kind: EndpointKind(kind), Name: rest}
	switch e.Kind {
	case EndpointPod, EndpointService:
		e.Namespace, e.Name, found = strings.Cut(rest, "/")
		if !found || e.Namespace == "" || e.Name == "" || strings.Contains(e.Name, "/") {
			return Endpoint{}, fmt.Errorf("%q: expected %s:NAMESPACE/NAME", text, kind)
		}
	case EndpointNode, EndpointNetns, EndpointDNS:
		if rest == "" {
			return Endpoint{}, fmt.Errorf("%q: expected %s:NAME", text, kind)
		}
	case "pods":
		return Endpoint{}, fmt.Errorf("%q: selectors are for schedules: ask about one of the pods, pod:NAMESPACE/NAME", text)
	default:
		return Endpoint{}, fmt.Errorf("%q: expected %s", text, endpointForms)
	}
	if strings.ContainsAny(text, " \t\r\n\x00") {
		return Endpoint{}, fmt.Errorf("%q: a name has no white space", text)
	}
	return e, nil
}

// String is the form that ParseEndpoint reads.
func (e Endpoint) String() string {
	switch e.Kind {
	case EndpointIP:
		return e.IP.String()
	case EndpointPod, EndpointService:
		return string(e.Kind) + ":" + e.Namespace + "/" + e.Name
	}
	return string(e.Kind) + ":" + e.Name
}
