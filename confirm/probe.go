package confirm

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// MaxTimeout bounds how long one probe may be waited for.
const MaxTimeout = 10 * time.Second

// Probe is what is sent, in numbers only: nothing of it has to be looked up.
type Probe struct {
	Protocol verdict.Protocol `json:"protocol"`
	// Source is the address that the socket is bound to; the kernel chooses one if it
	// is not valid.
	Source      netip.Addr `json:"source,omitzero"`
	Destination netip.Addr `json:"destination"`
	Port        uint16     `json:"port,omitempty"`
	SourcePort  uint16     `json:"sourcePort,omitempty"`
	Mark        uint32     `json:"mark,omitempty"`
	UID         *uint32    `json:"uid,omitempty"`
	DSCP        uint8      `json:"dscp,omitempty"`
	// ICMPType is that of the query, nil for an echo request: nothing else is sent.
	ICMPType *uint8 `json:"icmpType,omitempty"`
	// Size is the length in bytes of a datagram or an echo request, with all headers;
	// that of the simulation's if 0.
	Size    int           `json:"size,omitempty"`
	Timeout time.Duration `json:"timeout"` // nanoseconds
}

// Seen is what became of a probe.
type Seen struct {
	Outcome verdict.Outcome `json:"outcome"`
	// Detail says in words what was heard, and from whom.
	Detail string         `json:"detail"`
	Source netip.AddrPort `json:"source,omitzero"` // the client's end
}

// Outcomes lists what may be seen.
func Outcomes() []verdict.Outcome {
	return []verdict.Outcome{
		verdict.OutcomeEstablished, verdict.OutcomeAnswered, verdict.OutcomeRefused, verdict.OutcomeReset, verdict.OutcomeTimeout,
		verdict.OutcomeNetUnreachable, verdict.OutcomeHostUnreachable, verdict.OutcomeProhibited, verdict.OutcomeMessageTooLong,
		verdict.OutcomeInconclusive, verdict.OutcomeUnresolved,
	}
}

func probeOf(q *verdict.Query, start simulator.Start) Probe {
	return Probe{
		Protocol: q.Protocol, Source: start.Source, Destination: start.Destination, Port: q.Port, SourcePort: q.SourcePort,
		Mark: q.Mark, UID: q.UID, DSCP: q.DSCP, ICMPType: q.ICMPType, Size: q.Size, Timeout: DefaultTimeout,
	}
}

// unsupported says why what the query asks about cannot be sent.
func (p *Probe) unsupported() error {
	const request, request6 = 8, 128
	echo := uint8(request)
	if p.Destination.Is6() {
		echo = request6
	}
	switch {
	case p.Protocol == verdict.SCTP:
		return errors.New("probes of sctp are not supported")
	case p.ICMPType != nil && *p.ICMPType != echo:
		return fmt.Errorf("of icmp only echo requests are sent, not type %d", *p.ICMPType)
	}
	return nil
}

// Validate says why the probe must not be sent.
func (p *Probe) Validate() error {
	d := p.Destination
	switch {
	case p.unsupported() != nil:
		return p.unsupported()
	case !p.Protocol.Valid():
		return fmt.Errorf("protocol %q is not one of tcp, udp, icmp", p.Protocol)
	case !d.IsValid() || d.IsUnspecified() || d.Zone() != "" || d.Is4In6():
		return fmt.Errorf("%s is no address to send to", d)
	case d.IsMulticast() || d == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%s is many: probes are sent to one address", d)
	case d.Is6() && d.IsLinkLocalUnicast():
		return fmt.Errorf("%s is a link-local address, and means something else on every interface", d)
	case p.Source.IsValid() && (p.Source.Is4() != d.Is4() || p.Source.Zone() != "" || p.Source.IsUnspecified() || p.Source.Is6() && p.Source.IsLinkLocalUnicast()):
		return fmt.Errorf("%s cannot be the source of what goes to %s", p.Source, d)
	case (p.Port == 0) != (p.Protocol == verdict.ICMP), p.SourcePort != 0 && p.Protocol == verdict.ICMP:
		return fmt.Errorf("the ports %d and %d are none of %s", p.SourcePort, p.Port, p.Protocol)
	case p.DSCP > 63:
		return fmt.Errorf("dscp %d is not from 0 to 63", p.DSCP)
	case p.Size < 0 || p.Size > 65535:
		return fmt.Errorf("size %d is not from 0 to 65535 bytes", p.Size)
	case p.Timeout <= 0 || p.Timeout > MaxTimeout:
		return fmt.Errorf("timeout %s is not more than nothing, and at most %s", p.Timeout, MaxTimeout)
	}
	return nil
}

// Lengths of headers, in bytes.
const (
	ipv4Header, ipv6Header = 20, 40
	messageHeader          = 8 // of UDP and of an echo request
)

// payloadSize is the number of bytes after the headers of a datagram or an echo
// request.
func (p *Probe) payloadSize() int {
	size := simulator.MessageSize
	if p.Protocol == verdict.ICMP {
		size = simulator.EchoSize
	}
	if p.Size > 0 {
		header := ipv4Header
		if p.Destination.Is6() {
			header = ipv6Header
		}
		size = max(0, p.Size-header-messageHeader)
	}
	return size
}

// payload is what a datagram says: to a DNS server a question that every server
// can answer, to others a text that tells those who wonder where it comes from.
func (p *Probe) payload() []byte {
	if p.Protocol == verdict.UDP && p.Port == dnsPort && p.Size == 0 {
		return question()
	}
	text := []byte("plumbline: a probe of whether datagrams get here ")
	for len(text) < p.payloadSize() {
		text = append(text, '.')
	}
	return text[:p.payloadSize()]
}

const dnsPort = 53

// question asks for the name servers of the root, RFC 1035: 4.1. Whatever a server
// says to that, an answer is an answer.
func question() []byte {
	return []byte{
		'p', 'l', // an identifier
		1, 0, // recursion desired
		0, 1, 0, 0, 0, 0, 0, 0, // one question
		0, 0, 2, 0, 1, // ".", NS, IN
	}
}
