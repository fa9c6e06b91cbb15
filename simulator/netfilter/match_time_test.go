package netfilter

import (
	"slices"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// TestTimes has what the kernel of the other tests cannot be asked today: other days, and edges.
func TestTimes(t *testing.T) {
	const edge = "match time within a minute of its edge"
	for _, c := range []struct {
		now, options string
		holds        bool
		asked        string
	}{
		{"2026-11-29T12:00:00Z", "--weekdays Sun", true, ""},
		{"2026-11-29T12:00:00Z", "--weekdays 7", true, ""},
		{"2026-11-29T12:00:00Z", "--weekdays Mon,Tue,Wed,Thu,Fri,Sat", false, ""},
		{"2026-11-28T12:00:00Z", "! --weekdays Sa,Su", false, ""},
		{"2026-11-30T12:00:00Z", "! --weekdays Sa,Su", true, ""},
		{"2026-11-30T01:30:00+02:00", "--weekdays Sun", true, ""}, // which it still is in UTC
		{"2026-01-31T12:00:00Z", "--monthdays 31", true, ""},
		{"2026-01-31T12:00:00Z", "! --monthdays 1st,31st", false, ""},
		{"2028-02-29T12:00:00Z", "--monthdays 29", true, ""},
		{"2026-11-29T12:00:00Z", "--monthdays 29 --weekdays Mon", false, ""},

		// From Sunday 23:00 on, through Monday 01:00, or on either day.
		{"2026-11-30T00:30:00Z", "--timestart 23:00 --timestop 01:00 --contiguous --weekdays Sun", true, ""},
		{"2026-11-30T00:30:00Z", "--timestart 23:00 --timestop 01:00 --weekdays Sun", false, ""},
		{"2026-11-29T00:30:00Z", "--timestart 23:00 --timestop 01:00 --contiguous --weekdays Sun", false, ""},
		{"2026-12-01T00:30:00Z", "--timestart 23:00 --timestop 01:00 --contiguous --monthdays 30", true, ""},
		{"2026-11-29T12:00:00Z", "--timestart 23:00 --timestop 01:00 --contiguous --weekdays Sun", false, ""},

		{"2026-11-29T07:58:59Z", "--timestart 08:00 --timestop 17:00", false, ""},
		{"2026-11-29T07:59:00Z", "--timestart 08:00 --timestop 17:00", false, edge},
		{"2026-11-29T08:00:59Z", "--timestart 08:00 --timestop 17:00", false, edge},
		{"2026-11-29T08:01:00Z", "--timestart 08:00 --timestop 17:00", true, ""},
		{"2026-11-29T16:59:00Z", "--timestart 08:00 --timestop 17:00", true, ""},
		{"2026-11-29T16:59:01Z", "--timestart 08:00 --timestop 17:00", false, edge},
		{"2026-11-29T17:01:01Z", "--timestart 08:00 --timestop 17:00", false, ""},
		{"2026-11-29T23:59:30Z", "--weekdays Sun", false, edge},
		{"2026-11-29T11:59:30Z", "--timestart 12:00:00 --timestop 12:00:10", false, edge},
		{"2026-11-29T11:58:59Z", "--timestart 12:00:00 --timestop 12:00:10", false, ""},
		{"2026-11-29T12:00:00Z", "--timestart 12:00 --timestop 12:00", true, ""}, // all day long

		{"2026-11-29T12:00:00Z", "--datestart 2026-11-29T12:01:01", false, ""},
		{"2026-11-29T12:00:00Z", "--datestart 2026-11-29T12:01:00", false, edge},
		{"2026-11-29T12:00:00Z", "--datestart 2026-11-29T11:59:00", true, ""},
		{"2026-11-29T12:00:00Z", "--datestop 2026-11-29T12:01:00", true, ""},
		{"2026-11-29T12:00:00Z", "--datestop 2026-11-29", false, ""}, // as it begins
		{"2026-11-29T12:00:00Z", "--datestart 2026 --datestop 2027-01", true, ""},
		{"2039-11-29T12:00:00Z", "--timestart 08:00", false, ""}, // iptables has rules end in 2038
	} {
		now, err := time.Parse(time.RFC3339, c.now)
		if err != nil {
			t.Fatal(err)
		}
		env := &fakeEnv{now: now}
		rs := mustCompile(t, dump(netstack.IPv4, netstack.BackendLegacy, "*filter\n:FORWARD ACCEPT\n-A FORWARD -m time "+c.options+" -j DROP\nCOMMIT\n"))
		res := rs.Run(netstack.IPv4, Forward, &State{Packet: packet(), In: "eth0", Out: "eth1"}, env)
		if holds := res.Action == Drop; holds != c.holds {
			t.Errorf("%s at %s: %v, want %v", c.options, c.now, holds, c.holds)
		}
		if want := slices.DeleteFunc([]string{c.asked}, func(s string) bool { return s == "" }); !slices.Equal(env.asked, want) {
			t.Errorf("%s at %s: asked about %q, want %q", c.options, c.now, env.asked, want)
		}
	}
}
