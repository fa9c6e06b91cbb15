package collector

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// TestSettingsOfInterfacesAreThoseOfTheirFiles writes each setting of an
// interface that takes a value which it did not have, and compares.
func TestSettingsOfInterfacesAreThoseOfTheirFiles(t *testing.T) {
	ns := routed(t)
	script(t, ns, "ip link add e2.7 type veth peer name e3")
	want, changed := make(map[string]string), 0
	insideThread(t, ns, func() error {
		for _, d := range devconf {
			for name := range d.at {
				files, err := filepath.Glob("/proc/sys/" + d.dir + "e*/" + name)
				if err != nil {
					return err
				}
				for i, file := range files {
					old, err := os.ReadFile(file)
					if err != nil {
						return err
					}
					value, err := strconv.Atoi(strings.TrimSpace(string(old)))
					if err != nil {
						return err
					}
					// Not all take what is written, and disable_ipv6 takes settings away.
					if name != "disable_ipv6" || i == 0 {
						if os.WriteFile(file, []byte(strconv.Itoa(value^1)), 0) == nil {
							changed++
						}
					}
				}
			}
		}
		for _, d := range devconf {
			for name := range d.at {
				files, _ := filepath.Glob("/proc/sys/" + d.dir + "*/" + name)
				for _, file := range files {
					value, err := os.ReadFile(file)
					if err != nil {
						return err
					}
					want[sysctlKey(strings.TrimPrefix(file, "/proc/sys/"))] = strings.TrimSpace(string(value))
				}
			}
		}
		return nil
	})
	got := collectNetns(t, ns, netstack.PartSysctls).Sysctls
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s is %q, its file says %q", key, got[key], value)
		}
	}
	for key := range got {
		if strings.Contains(key, ".conf.e") && want[key] == "" && !strings.HasSuffix(key, ".force_forwarding") {
			t.Errorf("%s = %s has no file", key, got[key])
		}
	}
	if changed < 100 || len(want) < 200 {
		t.Errorf("only %d settings of %d were changed", changed, len(want))
	}
}
