package ipvs

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Parse reads what `ipvsadm -S -n` prints.
func Parse(file string, data []byte) (*Config, error) {
	c := &Config{byAddr: make(map[key]*Service), byMark: make(map[markKey]*Service)}
	number := 0
	for text := range strings.Lines(string(data)) {
		number++
		l := line{file: file, number: number, text: strings.TrimSpace(text)}
		l.words = strings.Fields(l.text)
		if len(l.words) == 0 || strings.HasPrefix(l.text, "#") {
			continue
		}
		if err := c.add(&l); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// line is a line of the dump that is being read word by word.
type line struct {
	file   string
	number int
	text   string
	words  []string
	at     int // of the next word
}

func (l *line) word() string {
	if l.at == len(l.words) {
		return ""
	}
	l.at++
	return l.words[l.at-1]
}

// fail points at the word that was read last.
func (l *line) fail(format string, args ...any) error {
	token := "end of line"
	if l.at > 0 {
		token = strconv.Quote(l.words[l.at-1])
	}
	return fmt.Errorf("%s:%d: at %s: %s", l.file, l.number, token, fmt.Sprintf(format, args...))
}

// argument is the word after an option.
func (l *line) argument() (string, error) {
	if l.at == len(l.words) {
		return "", l.fail("an argument is missing")
	}
	return l.word(), nil
}

func (l *line) number32(base int) (uint32, error) {
	text, err := l.argument()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, base, 32)
	if err != nil {
		return 0, l.fail("not a number of 32 bits")
	}
	return uint32(n), nil
}

func (l *line) addrPort() (netip.AddrPort, error) {
	text, err := l.argument()
	if err != nil {
		return netip.AddrPort{}, err
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil || addr.Addr().Is4In6() || addr.Addr().Zone() != "" {
		return netip.AddrPort{}, l.fail("not an address and port")
	}
	return addr, nil
}

func (c *Config) add(l *line) error {
	switch l.word() {
	case "-A", "--add-service":
		s, err := l.service()
		if err != nil {
			return err
		}
		if c.lookup(s) != nil {
			return l.fail("the service is there already")
		}
		c.services = append(c.services, s)
		if s.Addr.IsValid() {
			c.byAddr[key{s.Protocol, s.Addr}] = s
		} else {
			c.byMark[markKey{s.Mark, s.Family}] = s
		}
		return nil
	case "-a", "--add-server":
		return l.destination(c)
	}
	return l.fail("not a command that adds a service or a server")
}

func (c *Config) lookup(s *Service) *Service {
	if s.Addr.IsValid() {
		return c.byAddr[key{s.Protocol, s.Addr}]
	}
	return c.byMark[markKey{s.Mark, s.Family}]
}

// selector reads which service is meant, if the word begins that.
func (l *line) selector(word string, s *Service) (found bool, err error) {
	switch word {
	case "-t", "--tcp-service":
		s.Protocol = netstack.ProtoTCP
	case "-u", "--udp-service":
		s.Protocol = netstack.ProtoUDP
	case "--sctp-service":
		s.Protocol = netstack.ProtoSCTP
	case "-f", "--fwmark-service":
		if s.Mark, err = l.number32(0); err == nil && s.Mark == 0 {
			err = l.fail("a mark is not zero")
		}
		if s.Family == 0 {
			s.Family = netstack.IPv4
		}
		return true, err
	case "-6", "--ipv6":
		s.Family = netstack.IPv6
		return true, nil
	default:
		return false, nil
	}
	if s.Addr, err = l.addrPort(); err == nil {
		s.Family = netstack.FamilyOf(s.Addr.Addr())
	}
	return true, err
}

func (s *Service) selected() bool { return s.Addr.IsValid() || s.Mark != 0 }

func (l *line) service() (*Service, error) {
	s := &Service{Scheduler: "wlc", Text: l.text}
	for l.at < len(l.words) {
		word := l.word()
		if found, err := l.selector(word, s); err != nil {
			return nil, err
		} else if found {
			continue
		}
		if err := l.serviceOption(word, s); err != nil {
			return nil, err
		}
	}
	if !s.selected() {
		return nil, l.fail("no service is named")
	}
	return s, nil
}

func (l *line) serviceOption(word string, s *Service) (err error) {
	switch word {
	case "-s", "--scheduler":
		s.Scheduler, err = l.argument()
	case "-p", "--persistent":
		s.Persistent = true
		if l.at < len(l.words) && !strings.HasPrefix(l.words[l.at], "-") {
			_, err = l.number32(10)
		}
	case "-M", "--netmask":
		err = l.netmask()
	case "-o", "--ops":
		s.OnePacket = true
	case "-b", "--sched-flags":
		var flags string
		if flags, err = l.argument(); err != nil {
			return err
		}
		for flag := range strings.SplitSeq(flags, ",") {
			switch flag {
			case "sh-fallback", "mh-fallback", "flag-1":
				s.Fallback = true
			case "sh-port", "mh-port", "flag-2", "flag-3":
			default:
				return l.fail("not a flag of a scheduler: %s", flag)
			}
		}
	case "--pe":
		_, err = l.argument()
	default:
		err = l.fail("not an option of a service")
	}
	return err
}

// netmask reads by which part of their address clients are kept together: it
// does not matter for one of them.
func (l *line) netmask() error {
	text, err := l.argument()
	if err != nil {
		return err
	}
	if n, err := strconv.ParseUint(text, 10, 8); err == nil && n <= 128 {
		return nil
	}
	mask, err := netip.ParseAddr(text)
	if err != nil || !mask.Is4() {
		return l.fail("not a netmask")
	}
	b := mask.As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	if bits.OnesCount32(v) != bits.LeadingZeros32(^v) {
		return l.fail("not a netmask")
	}
	return nil
}

func (l *line) destination(c *Config) error {
	var s Service // which one
	d := Destination{Method: Direct, Weight: 1, Text: l.text}
	for l.at < len(l.words) {
		word := l.word()
		if found, err := l.selector(word, &s); err != nil {
			return err
		} else if found {
			continue
		}
		if err := l.destinationOption(word, &d); err != nil {
			return err
		}
	}
	service := c.lookup(&s)
	switch {
	case !s.selected() || service == nil:
		return l.fail("the service of the server was not added before")
	case !d.Addr.IsValid():
		return l.fail("no server is named")
	case d.Method != Tunnel && netstack.FamilyOf(d.Addr.Addr()) != service.Family:
		return l.fail("only a tunnel leads to a server of the other family")
	}
	service.Destinations = append(service.Destinations, d)
	return nil
}

func (l *line) destinationOption(word string, d *Destination) (err error) {
	switch word {
	case "-r", "--real-server":
		d.Addr, err = l.addrPort()
	case "-m", "--masquerading":
		d.Method = NAT
	case "-g", "--gatewaying":
		d.Method = Direct
	case "-i", "--ipip":
		d.Method = Tunnel
		if d.Encapsulation == "" {
			d.Encapsulation = "ipip"
		}
	case "--tun-type":
		d.Encapsulation, err = l.argument()
	case "--tun-port":
		_, err = l.number32(10)
	case "--tun-nocsum", "--tun-csum", "--tun-remcsum":
	case "-w", "--weight":
		var n uint32
		if n, err = l.number32(10); err == nil && n > 65535 {
			err = l.fail("a weight is at most 65535")
		}
		d.Weight = int(n)
	case "-x", "--u-threshold":
		d.Upper, err = l.number32(10)
	case "-y", "--l-threshold":
		d.Lower, err = l.number32(10)
	default:
		err = l.fail("not an option of a server")
	}
	return err
}
