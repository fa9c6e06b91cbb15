package lab

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
)

// WriteStatus prints what the lab consists of and what is broken in it, for a terminal.
func (l *Lab) WriteStatus(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(tw, "NODE\tADDRESSES\tPOD CIDRS\tNAMESPACE")
	for _, n := range l.Spec.Nodes {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", n.Name, join(n.Addresses), join(n.PodCIDRs), l.nodeNetns(n.Name))
	}
	fmt.Fprintln(tw, "\nPOD\tADDRESSES\tNODE\tPORTS\tLISTENER\tNAMESPACE")
	for _, p := range l.Spec.Pods {
		var ports []string
		for _, port := range p.Ports {
			ports = append(ports, fmt.Sprintf("%d/%s", port.Port, lowerProtocol(port)))
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", p.ID(), join(p.Addresses), p.Node, strings.Join(ports, " "), l.listening(p), l.podNetns(p))
	}
	fmt.Fprintln(tw, "\nSERVICE\tCLUSTER IPS\tPORTS\tBACKENDS")
	for _, s := range l.Spec.Services {
		var ports, backends []string
		for _, port := range s.Ports {
			text := fmt.Sprintf("%d/%s", port.Port, strings.ToLower(port.Protocol))
			if port.NodePort != 0 {
				text += fmt.Sprintf(" (node port %d)", port.NodePort)
			}
			ports = append(ports, text)
		}
		for _, p := range l.Spec.backends(s) {
			backends = append(backends, p.ID())
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", s.ID(), join(s.ClusterIPs), strings.Join(ports, " "), strings.Join(backends, " "))
	}
	fmt.Fprintln(tw, "\nFAULT\tEXPECTED REASON\tDESCRIPTION")
	for _, name := range l.state.Faults {
		f, err := FindFault(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", f.Name, f.Reason, f.Description)
	}
	if len(l.state.Faults) == 0 {
		fmt.Fprintln(tw, "none")
	}
	fmt.Fprintf(tw, "\nmanifests\t%s\n", l.ClusterDir())
	return tw.Flush()
}

// listening describes a pod's listener as it is now, not as it was recorded.
func (l *Lab) listening(p Pod) string {
	for _, li := range l.state.Listeners {
		if li.Pod != p.ID() {
			continue
		}
		if start, alive := processStart(li.PID); !alive || start != li.Start {
			return "dead"
		}
		if li.Loopback {
			return fmt.Sprintf("%d (loopback only)", li.PID)
		}
		return fmt.Sprint(li.PID)
	}
	return "none"
}

func join[T netip.Addr | netip.Prefix](values []T) string {
	var texts []string
	for _, v := range values {
		texts = append(texts, fmt.Sprint(v))
	}
	return strings.Join(texts, " ")
}
