package bundle

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// hostFactsJSON is netns/NAME/host.json.
type hostFactsJSON struct {
	Kernel          string        `json:"kernel,omitempty"`
	Booted          *time.Time    `json:"booted,omitempty"`
	Processors      int           `json:"processors,omitempty"`
	Load            []float64     `json:"load,omitempty"` // averages of 1, 5 and 15 minutes
	MemoryPressure  float64       `json:"memoryPressure,omitempty"`
	Daemons         []daemonJSON  `json:"daemons,omitempty"`
	ProxyMode       string        `json:"proxyMode,omitempty"`
	Messages        []messageJSON `json:"messages,omitempty"`
	MessagesMissing string        `json:"messagesMissing,omitempty"`
}

type daemonJSON struct {
	Name    string     `json:"name"`
	Started *time.Time `json:"started,omitempty"`
	Asked   string     `json:"asked,omitempty"`
	Failure string     `json:"failure,omitempty"`
}

type messageJSON struct {
	Event     netstack.KernelEvent `json:"event"`
	Namespace string               `json:"namespace,omitempty"`
	Device    string               `json:"device,omitempty"`
	Family    netstack.Family      `json:"family,omitempty"`
	Address   *netip.Addr          `json:"address,omitempty"`
	Port      uint16               `json:"port,omitempty"`
	Count     int                  `json:"count"`
	First     *time.Time           `json:"first,omitempty"`
	Last      *time.Time           `json:"last,omitempty"`
}

// maxDeviceName is the longest name of an interface: IFNAMSIZ without its end.
const maxDeviceName = 15

// readHostFacts reads what a collector has written. There is no tool that prints it.
func readHostFacts(s *source, n *netstack.Namespace) error {
	if len(s.data) == 0 {
		return nil
	}
	v := s.topObject()
	if v == nil {
		return s.err
	}
	f := &netstack.HostFacts{
		Kernel: s.text(v, "kernel"), Booted: s.time(v, "booted"), Processors: s.int(v, "processors"),
		MemoryPressure: s.float(v.get("memoryPressure"), "memoryPressure"), MessagesMissing: s.text(v, "messagesMissing"),
	}
	if m := v.get("load"); m != nil {
		if m.kind != jsonList || len(m.items) != len(f.Load) {
			s.failAt(m, "load: want a list of three numbers")
			return s.err
		}
		for i := range m.items {
			f.Load[i] = s.float(&m.items[i], "load")
		}
	}
	if f.ProxyMode = s.text(v, "proxyMode"); f.ProxyMode != "" && !slices.Contains(netstack.ProxyModes(), f.ProxyMode) {
		s.failAt(v.get("proxyMode"), "proxyMode: want one of %s", strings.Join(netstack.ProxyModes(), ", "))
	}
	s.each(v, "daemons", func(v *value) {
		d := netstack.Daemon{Name: s.name(v, "name"), Started: s.time(v, "started"), Asked: s.text(v, "asked"), Failure: s.text(v, "failure")}
		if m := v.get("name"); m != nil && !slices.Contains(netstack.DaemonNames(), d.Name) {
			s.failAt(m, "name: want one of %s", strings.Join(netstack.DaemonNames(), ", "))
		}
		f.Daemons = append(f.Daemons, d)
	})
	s.each(v, "messages", func(v *value) { f.Messages = append(f.Messages, s.kernelMessage(v)) })
	if s.err == nil {
		n.Facts = f
	}
	return s.err
}

func (s *source) kernelMessage(v *value) netstack.KernelMessage {
	m := netstack.KernelMessage{
		KernelSaid: netstack.KernelSaid{
			Event: netstack.KernelEvent(s.name(v, "event")), Namespace: s.text(v, "namespace"), Device: s.text(v, "device"),
			Family: netstack.Family(s.number(v, "family", 8)), Address: s.addr(v, "address"), Port: uint16(s.number(v, "port", 16)),
		},
		Count: s.int(v, "count"), First: s.time(v, "first"), Last: s.time(v, "last"),
	}
	if e := v.get("event"); e != nil && !m.Event.Valid() {
		s.failAt(e, "event: not a kind of message that is known")
	}
	if d := v.get("device"); d != nil && (len(m.Device) > maxDeviceName || strings.ContainsAny(m.Device, "/: \t\n\v\f\r")) {
		s.failAt(d, "device: not the name of an interface")
	}
	if f := v.get("family"); f != nil && m.Family != 0 && m.Family != netstack.IPv4 && m.Family != netstack.IPv6 {
		s.failAt(f, "family: want 4 or 6")
	}
	return m
}

// float is a number that may have a fraction, and is not negative; 0 when there is
// none.
func (s *source) float(m *value, key string) float64 {
	if m == nil {
		return 0
	}
	n, err := strconv.ParseFloat(m.text, 64)
	if m.kind != jsonNumber || err != nil || n < 0 {
		s.failAt(m, "%s: want a number that is not negative", key)
		return 0
	}
	return n
}

func writeHostFacts(n *netstack.Namespace) ([]byte, error) {
	f := n.Facts
	if f == nil {
		return nil, nil
	}
	out := hostFactsJSON{
		Kernel: f.Kernel, Booted: timeOf(f.Booted), Processors: f.Processors, MemoryPressure: f.MemoryPressure,
		ProxyMode: f.ProxyMode, MessagesMissing: f.MessagesMissing,
	}
	if f.Load != [3]float64{} {
		out.Load = f.Load[:]
	}
	for _, d := range f.Daemons {
		out.Daemons = append(out.Daemons, daemonJSON{d.Name, timeOf(d.Started), d.Asked, d.Failure})
	}
	for _, m := range f.Messages {
		message := messageJSON{
			Event: m.Event, Namespace: m.Namespace, Device: m.Device, Family: m.Family, Port: m.Port,
			Count: m.Count, First: timeOf(m.First), Last: timeOf(m.Last),
		}
		if m.Address.IsValid() {
			message.Address = &m.Address
		}
		out.Messages = append(out.Messages, message)
	}
	return indented(out)
}
