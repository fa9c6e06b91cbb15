package collector

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// readIPTablesLegacy prints the rules of the kernel's own iptables. Asking for
// a table that is not there would create it and register its hooks, so the
// tool is run only where the kernel says that there are tables, and asks for
// those.
func readIPTablesLegacy(family netstack.Family) func(context.Context, *target) error {
	return func(ctx context.Context, t *target) error {
		l := legacyTables{&ipv4XTables, "iptables-legacy-save", t.procNet("ip_tables_names")}
		file := "iptables-save-legacy.txt"
		if family == netstack.IPv6 {
			l = legacyTables{&ipv6XTables, "ip6tables-legacy-save", t.procNet("ip6_tables_names")}
			file = "ip6tables-save-legacy.txt"
		}
		tables, err := os.ReadFile(l.names)
		if err != nil {
			return ignoreMissing(err)
		}
		dump := netstack.IPTablesDump{Family: family, Backend: netstack.BackendLegacy, Text: netstack.Text{File: t.file(file)}}
		if len(bytes.TrimSpace(tables)) > 0 {
			if dump.Data, err = t.saveLegacy(ctx, &l); err != nil {
				return err
			}
		}
		t.ns.IPTables = append(t.ns.IPTables, dump)
		return nil
	}
}

// legacyTables are those of one family.
type legacyTables struct {
	*xtables
	tool  string
	names string // the file that lists them
}

// legacyDump is what the tool printed of tables with a sum.
type legacyDump struct {
	sum  [sha256.Size]byte
	text []byte
}

// saveLegacy returns what the tool prints, or printed before if the tables are still the same. Tables that cannot be
// compared, and those that changed while the tool ran, are printed again next time.
func (t *target) saveLegacy(ctx context.Context, l *legacyTables) ([]byte, error) {
	before, sumErr := t.sumLegacy(l)
	if sumErr != nil {
		t.note = "tables cannot be compared: " + sumErr.Error()
	} else if kept, ok := t.rules.legacy[l.tool]; ok && kept.sum == before {
		return kept.text, nil
	}
	text, err := t.host.tools.save(ctx, l.tool)
	if err != nil || sumErr != nil {
		return text, err
	}
	if after, err := t.sumLegacy(l); err == nil && after == before {
		if t.rules.legacy == nil {
			t.rules.legacy = make(map[string]legacyDump)
		}
		t.rules.legacy[l.tool] = legacyDump{before, text}
	}
	return text, nil
}

// sumLegacy is the same for tables that the tool prints the same. Rules have the indices of sets (ipset), of which the tool
// prints the names; what else it prints is in the tables, or in files of its own.
func (t *target) sumLegacy(l *legacyTables) (sum [sha256.Size]byte, err error) {
	names, err := os.ReadFile(l.names)
	if err != nil {
		return sum, err
	}
	h := sha256.New()
	for name := range strings.FieldsSeq(string(names)) {
		if err := l.sum(h, name); err != nil {
			return sum, err
		}
	}
	if t.host.has("ip_set", "ip_set_utest") {
		conn, err := dialNetlink(unix.NETLINK_NETFILTER)
		if err != nil {
			return sum, err
		}
		defer conn.Close()
		sets, err := namesOfSets(conn, ipsetProtocolIndex)
		if err != nil && !errors.Is(err, unix.EINVAL) { // a kernel without ipset knows no such subsystem
			return sum, fmt.Errorf("ask for the indices of the sets: %w", err)
		}
		for _, set := range sets {
			h.Write(set)
		}
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
