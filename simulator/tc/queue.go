package tc

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
)

// queueing appends what a qdisc does to frames, if it may drop one that it has room for: as filters, of which the first that
// drops decides. Not all frames need to come to it, unless it is alone.
func (e *entry) queueing(entries []entry) ([]*Filter, error) {
	alone := e.alone(entries)
	var o object
	if e.Options != nil {
		var err error
		if o, err = members(e.Options); err != nil {
			return nil, fmt.Errorf("options: %w", err)
		}
	}
	var list []*Filter
	drops := func(what string, do effect, tests ...test) {
		f := &Filter{Text: fmt.Sprintf("qdisc %s%s on %s", e.Kind, what, e.Dev), Qdisc: true, tests: tests}
		then := verdict{kind: verdictDrop}
		if do != nil {
			then.kind = verdictContinue
		}
		f.actions = []action{{kind: e.Kind, do: do, then: then}}
		if !alone {
			f.tests = append(f.tests, untested("whether the frame comes to the class "+e.Parent))
		}
		list = append(list, f)
	}
	limit, limited := o.number("limit", 10)
	switch e.Kind {
	case "noqueue", "pfifo_fast", "fq", "fq_codel", "codel", "fq_pie", "pie", "sfq", "cake", "red", "gred", "choke", "sfb", "hhf", "skbprio",
		"htb", "prio", "mq", "mqprio", "multiq", "ets", "cbs", "clsact", "ingress":
	case "blackhole":
		drops("", nil)
	case "pfifo": // pfifo_enqueue
		if limited && limit == 0 {
			drops(" limit 0p", nil)
		}
	case "bfifo": // bfifo_enqueue
		if limited {
			drops(fmt.Sprintf(" limit %db", limit), nil, longer(limit, 0, true))
		}
	case "tbf":
		burst, ok := o.number("burst", 10)
		if !ok {
			drops("", nil, untested("burst"))
			break
		}
		// tbf_enqueue: what is sent at once is cut to segments that fit. The kernel keeps the burst as a time, in units of
		// 64 ns, and tc shows what goes out in whole microseconds of that.
		rate, _ := o.number("rate", 10)
		drops(fmt.Sprintf(" burst %db", burst), nil, longer(burst, uint64(math.Ceil(float64(rate)*1e-6)), false))
		if o.get("peakrate") != nil {
			drops(" peakrate", nil, untested("mtu"))
		}
		if limited && !e.hasClass(entries) { // of the bfifo that it has for itself
			drops(fmt.Sprintf(" limit %db", limit), nil, longer(limit, 0, true))
		}
	case "netem": // netem_enqueue
		if err := e.netem(o, drops); err != nil {
			return nil, err
		}
	default: // such as hfsc, drr and qfq, which drop what no filter gives to a class, and etf, which drops what has no time
		drops("", nil, untested("qdisc "+e.Kind))
	}
	return list, nil
}

// netem is what the network emulator loses.
func (e *entry) netem(o object, drops func(what string, do effect, tests ...test)) error {
	if raw := o.get("loss-random"); raw != nil {
		var loss struct{ Loss float64 }
		if err := json.Unmarshal(raw, &loss); err != nil {
			return fmt.Errorf("loss-random: %w", err)
		}
		if !(loss.Loss > 0 && loss.Loss <= 1) {
			return fmt.Errorf("loss-random: a loss of %g", loss.Loss)
		}
		lost := verdict{kind: verdictDrop}
		var do effect
		if loss.Loss < 1 {
			do = random{loss.Loss, lost}
		}
		var tests []test
		if o.is("ecn") {
			tests = append(tests, untested("ecn"))
		}
		drops(fmt.Sprintf(" loss %g%%", math.Round(loss.Loss*1e6)/1e4), do, tests...)
	}
	for _, key := range []string{"loss-state", "loss-gemodel", "corrupt", "unknown"} {
		if o.get(key) != nil {
			drops(" "+strings.ReplaceAll(key, "-", " "), nil, untested("netem "+key))
		}
	}
	return nil
}

// longer says whether the frame is longer than so many bytes, or so many more; atOnce counts all segments that are sent at once.
func longer(limit, unsure uint64, atOnce bool) test {
	return test{fmt.Sprintf("whether the frame is longer than %d bytes", limit), func(f *Frame) tri {
		least, most := f.length()
		switch {
		case least > limit+unsure:
			return yes
		case most > limit, atOnce && f.Packet.GSOSize > 0 && 2*most > limit:
			return maybe
		}
		return no
	}}
}

// length is what a qdisc takes for the length of the frame (qdisc_pkt_len): with the link layer's header, and with a tag where
// the device does not add that by itself.
func (f *Frame) length() (least, most uint64) {
	least = uint64(f.Packet.Length + f.Header)
	if f.ARP {
		least = uint64(28 + f.Header)
	}
	most = least
	if f.Tag != 0 {
		most += 4
	}
	return least, most
}

// alone says whether all frames of a device come to a qdisc: it is the root, or in the only class of one that is.
func (e *entry) alone(entries []entry) bool {
	for range entries {
		if e.Root || e.Parent == "root" {
			return true
		}
		e = e.above(entries)
		if e == nil || e.Kind != "tbf" && e.Kind != "netem" {
			return false
		}
	}
	return false
}

// above is the qdisc that the qdisc is a class of.
func (e *entry) above(entries []entry) *entry {
	major, _, ok := strings.Cut(e.Parent, ":")
	i := slices.IndexFunc(entries, func(above entry) bool {
		return above.Protocol == nil && above.Dev == e.Dev && object{{"", above.Handle}}.text("") == major+":"
	})
	if !ok || major == "" || i < 0 {
		return nil
	}
	return &entries[i]
}

// hasClass says whether another qdisc has taken the place of that which the qdisc made for itself.
func (e *entry) hasClass(entries []entry) bool {
	return slices.ContainsFunc(entries, func(other entry) bool { return other.Protocol == nil && other.above(entries) == e })
}
