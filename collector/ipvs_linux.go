package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudflare/ipvs"

	"github.com/plumbline-net/plumbline/internal/netlinklist"
)

// readIPVS reads the virtual services where the namespace has IPVS at all, and
// writes them as `ipvsadm -S -n` does.
func readIPVS(_ context.Context, t *target) error {
	t.ns.IPVS.File = t.file("ipvsadm-save.txt")
	if _, err := os.Stat(t.procNet("ip_vs")); err != nil {
		return ignoreMissing(err)
	}
	client, err := ipvs.New()
	if err != nil {
		return fmt.Errorf("open a socket for IPVS: %w", notSupported(err))
	}
	if closer, ok := client.(io.Closer); ok {
		defer closer.Close()
	}
	services, err := ipvsServices(client.Services)
	if err != nil {
		return fmt.Errorf("read the services of IPVS: %w", err)
	}
	var text strings.Builder
	for _, service := range services {
		destinations, err := client.Destinations(service.Service)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read the destinations of IPVS service %s: %w", ipvsService(service.Service), err)
		}
		writeIPVS(&text, service, destinations)
	}
	t.ns.IPVS.Data = []byte(text.String())
	return nil
}

// ipvsServices lists the services until the kernel lists the same twice in a row: it
// counts those of all namespaces to know where a list goes on, and lists one twice,
// or none, if another was added or removed in between (ip_vs_genl_dump_services).
func ipvsServices(list func() ([]ipvs.ServiceExtended, error)) ([]ipvs.ServiceExtended, error) {
	var before map[ipvs.Service]bool
	for range netlinklist.Attempts {
		services, err := list()
		// The library says "does not exist" of a list that is empty.
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		listed := make(map[ipvs.Service]bool)
		services = slices.DeleteFunc(services, func(s ipvs.ServiceExtended) bool {
			twice := listed[s.Service]
			listed[s.Service] = true
			return twice
		})
		if before != nil && maps.Equal(listed, before) {
			return services, nil
		}
		before = listed
	}
	return nil, netlinklist.ErrInterrupted
}

// ipvsFlags are the flags of schedulers, in the words of ipvsadm(8); what they
// mean depends on the scheduler.
var ipvsFlags = map[string][3]string{
	"sh": {"sh-fallback", "sh-port", "flag-3"},
	"mh": {"mh-fallback", "mh-port", "flag-3"},
}

func writeIPVS(w *strings.Builder, service ipvs.ServiceExtended, destinations []ipvs.DestinationExtended) {
	selector := ipvsService(service.Service)
	fmt.Fprintf(w, "-A %s -s %s", selector, service.Scheduler)
	if service.Flags&ipvs.ServicePersistent != 0 {
		fmt.Fprintf(w, " -p %d", service.Timeout)
		if bits, full := service.Netmask.Bits(), service.Address.BitLen(); service.Netmask.IsValid() && bits != full {
			mask := strconv.Itoa(bits)
			if service.Netmask.Is4() {
				mask = service.Netmask.String()
			}
			fmt.Fprintf(w, " -M %s", mask)
		}
	}
	if service.Flags&ipvs.ServiceOnePacket != 0 {
		w.WriteString(" -o")
	}
	names, ok := ipvsFlags[service.Scheduler]
	if !ok {
		names = [3]string{"flag-1", "flag-2", "flag-3"}
	}
	var flags []string
	for i, flag := range []ipvs.Flags{ipvs.ServiceSchedulerOpt1, ipvs.ServiceSchedulerOpt2, ipvs.ServiceSchedulerOpt3} {
		if service.Flags&flag != 0 {
			flags = append(flags, names[i])
		}
	}
	if len(flags) > 0 {
		fmt.Fprintf(w, " -b %s", strings.Join(flags, ","))
	}
	w.WriteByte('\n')
	slices.SortFunc(destinations, func(a, b ipvs.DestinationExtended) int {
		return netip.AddrPortFrom(a.Address, a.Port).Compare(netip.AddrPortFrom(b.Address, b.Port))
	})
	for _, d := range destinations {
		fmt.Fprintf(w, "-a %s -r %s %s -w %d", selector, netip.AddrPortFrom(d.Address, d.Port), ipvsForwarding(d.FwdMethod), d.Weight)
		if d.FwdMethod == ipvs.Tunnel && d.TunnelType != ipvs.IPIP {
			writeTunnel(w, d)
		}
		if d.UpperThreshold != 0 {
			fmt.Fprintf(w, " -x %d", d.UpperThreshold)
		}
		if d.LowerThreshold != 0 {
			fmt.Fprintf(w, " -y %d", d.LowerThreshold)
		}
		w.WriteByte('\n')
	}
}

func writeTunnel(w *strings.Builder, d ipvs.DestinationExtended) {
	kind := "gre"
	if d.TunnelType == ipvs.GUE {
		kind = "gue"
	}
	fmt.Fprintf(w, " --tun-type %s", kind)
	if d.TunnelPort != 0 {
		fmt.Fprintf(w, " --tun-port %d", d.TunnelPort)
	}
	switch {
	case d.TunnelFlags&ipvs.TunnelEncapRemoteChecksum != 0:
		w.WriteString(" --tun-remcsum")
	case d.TunnelFlags&ipvs.TunnelEncapChecksum != 0:
		w.WriteString(" --tun-csum")
	default:
		w.WriteString(" --tun-nocsum")
	}
}

// ipvsService is the part of a line that says which service is meant.
func ipvsService(s ipvs.Service) string {
	if s.FWMark != 0 {
		if s.Family == ipvs.INET6 {
			return fmt.Sprintf("-f %d -6", s.FWMark)
		}
		return fmt.Sprintf("-f %d", s.FWMark)
	}
	option := "-t"
	switch s.Protocol {
	case ipvs.UDP:
		option = "-u"
	case ipvs.SCTP:
		option = "--sctp-service"
	}
	return fmt.Sprintf("%s %s", option, netip.AddrPortFrom(s.Address, s.Port))
}

func ipvsForwarding(f ipvs.ForwardType) string {
	switch f {
	case ipvs.Masquerade:
		return "-m"
	case ipvs.Tunnel:
		return "-i"
	}
	return "-g" // direct routing; a destination on this host is printed so, too
}
