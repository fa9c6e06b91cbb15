package bundle

import (
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/resolver"
)

// answerJSON is one answer in names.json.
type answerJSON struct {
	Namespace string          `json:"namespace"`
	Server    netip.Addr      `json:"server"`
	Name      string          `json:"name"`
	Status    resolver.Status `json:"status"`
	Addresses []netip.Addr    `json:"addresses,omitempty"`
	Detail    string          `json:"detail,omitempty"`
}

// readNames reads what name servers have answered.
func readNames(s *source) ([]resolver.Answer, error) {
	var all []resolver.Answer
	err := s.list("answers", func(v *value) {
		a := resolver.Answer{
			Question: resolver.Question{Namespace: s.text(v, "namespace"), Server: s.addr(v, "server"), Name: s.text(v, "name")},
			Status:   resolver.Status(s.text(v, "status")), Detail: s.text(v, "detail"),
		}
		if !a.Status.Valid() {
			s.failAt(v, "status: want ok, not-found, failed or timeout")
		}
		if !resolver.ValidName(a.Name) || !a.Server.IsValid() {
			s.failAt(v, "want the name that was asked for, and the address of a server")
		}
		for _, m := range s.texts(v, "addresses") {
			addr, err := netip.ParseAddr(m.text)
			if err != nil {
				s.failAt(m, "addresses: not an address")
				continue
			}
			a.Addresses = append(a.Addresses, addr.Unmap())
		}
		all = append(all, a)
	})
	return all, err
}

func writeNames(all []resolver.Answer) ([]byte, error) {
	list := make([]answerJSON, 0, len(all))
	for _, a := range all {
		list = append(list, answerJSON{a.Namespace, a.Server, a.Name, a.Status, a.Addresses, a.Detail})
	}
	return indented(list)
}

// readResolvConf and readHosts keep the files as they are: neither can be malformed.
func readResolvConf(s *source, n *netstack.Namespace) error {
	n.ResolvConf = s.whole()
	return nil
}

func readHosts(s *source, n *netstack.Namespace) error {
	n.Hosts = s.whole()
	return nil
}
