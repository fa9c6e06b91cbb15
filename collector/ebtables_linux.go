package collector

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// readEBTables finds out whether the kernel's own ebtables has rules. It has no
// list of the tables of a namespace, and makes those that it is asked for
// (find_table_lock), so nobody asks. But the module of a table is held while the
// table has rules in some namespace of the host (do_replace_finish): then they may
// be in this one, and it is an error that they are not read.
func readEBTables(_ context.Context, t *target) error {
	t.ns.EBTables.File = t.file("ebtables-save-legacy.txt")
	if !slices.ContainsFunc(t.ns.Links, func(l netstack.Link) bool { return l.Kind == "bridge" }) {
		return nil // no frame comes by
	}
	var used []string
	for _, table := range []string{"filter", "nat", "broute"} {
		count, err := os.ReadFile("/sys/module/ebtable_" + table + "/refcnt")
		switch {
		case errors.Is(err, os.ErrNotExist): // not loaded
		case err != nil:
			return err
		case strings.TrimSpace(string(count)) != "0":
			used = append(used, table)
		}
	}
	if len(used) > 0 {
		return fmt.Errorf("legacy ebtables has rules on this host (%s), which cannot be read without making tables", strings.Join(used, ", "))
	}
	return nil
}
