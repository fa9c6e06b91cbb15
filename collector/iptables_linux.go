package collector

import (
	"bytes"
	"context"
	"os"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// readIPTablesLegacy prints the rules of the kernel's own iptables. Asking for
// a table that is not there would create it and register its hooks, so the
// tool is run only where the kernel says that there are tables, and asks for
// those.
func readIPTablesLegacy(family netstack.Family) func(context.Context, *target) error {
	return func(ctx context.Context, t *target) error {
		tool, file, names := "iptables-legacy-save", "iptables-save-legacy.txt", "ip_tables_names"
		if family == netstack.IPv6 {
			tool, file, names = "ip6tables-legacy-save", "ip6tables-save-legacy.txt", "ip6_tables_names"
		}
		tables, err := os.ReadFile(t.procNet(names))
		if err != nil {
			return ignoreMissing(err)
		}
		dump := netstack.IPTablesDump{Family: family, Backend: netstack.BackendLegacy, Text: netstack.Text{File: t.file(file)}}
		if len(bytes.TrimSpace(tables)) > 0 {
			if dump.Data, err = t.host.tools.save(ctx, tool); err != nil {
				return err
			}
		}
		t.ns.IPTables = append(t.ns.IPTables, dump)
		return nil
	}
}
