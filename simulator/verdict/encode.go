package verdict

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// AppendJSON appends what json.Marshal makes of the report. Most of a report are
// hops with their steps, of which all is text: without reflection that takes a
// fourth of the time.
func (r *Report) AppendJSON(b []byte) ([]byte, error) {
	e := encoder{b: b}
	e.raw("{")
	if r.ID != "" {
		e.text(`"id":`, r.ID)
		e.raw(",")
	}
	e.value(`"query":`, r.Query)
	e.text(`,"verdict":`, string(r.Verdict))
	e.flag(`,"boundary":`, r.Boundary)
	list(&e, `,"reasons":`, r.Reasons, (*encoder).finding)
	list(&e, `,"paths":`, r.Paths, (*encoder).path)
	e.value(`,"policy":`, r.Policy)
	list(&e, `,"assumptions":`, r.Assumptions, (*encoder).string)
	e.value(`,"coverage":`, r.Coverage)
	e.value(`,"snapshot":`, r.Snapshot)
	if r.Resolution != nil {
		e.value(`,"resolution":`, r.Resolution)
	}
	if r.Observed != nil {
		e.value(`,"observed":`, r.Observed)
	}
	e.raw("}")
	return e.b, e.err
}

// encoder appends JSON. Names come with the punctuation around them.
type encoder struct {
	b   []byte
	err error // the first
}

func (e *encoder) raw(text string) { e.b = append(e.b, text...) }

// value is for what is small, or rare.
func (e *encoder) value(name string, v any) {
	data, err := json.Marshal(v)
	if err != nil && e.err == nil {
		e.err = err
	}
	e.raw(name)
	e.b = append(e.b, data...)
}

func (e *encoder) flag(name string, v bool) {
	e.raw(name)
	e.b = strconv.AppendBool(e.b, v)
}

func (e *encoder) text(name, s string) {
	e.raw(name)
	e.string(&s)
}

// optional is text that is left out when it is empty.
func (e *encoder) optional(name, s string) {
	if s != "" {
		e.text(name, s)
	}
}

func list[T any](e *encoder, name string, of []T, element func(*encoder, *T)) {
	e.raw(name)
	if of == nil {
		e.raw("null")
		return
	}
	e.raw("[")
	for i := range of {
		if i > 0 {
			e.raw(",")
		}
		element(e, &of[i])
	}
	e.raw("]")
}

// plain says which bytes of a string stand for themselves. encoding/json escapes
// those that mean something in HTML, too.
var plain = func() (plain [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		plain[c] = !strings.ContainsRune(`"\<>&`, c)
	}
	return plain
}()

func (e *encoder) string(s *string) {
	text := *s
	e.b = append(e.b, '"')
	for {
		n := 0
		for n < len(text) && plain[text[n]] {
			n++
		}
		e.raw(text[:n])
		text = text[n:]
		if text == "" {
			e.b = append(e.b, '"')
			return
		}
		switch c := text[0]; c {
		case '<', '>', '&':
			const digits = "0123456789abcdef"
			e.b = append(e.b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		case '"', '\\':
			e.b = append(e.b, '\\', c)
		default:
			// Rare: encoding/json does the rest, without its first quotation mark.
			rest, _ := json.Marshal(text)
			e.b = append(e.b, rest[1:]...)
			return
		}
		text = text[1:]
	}
}

func (e *encoder) path(p *Path) {
	e.raw(`{"probability":`)
	switch v := p.Probability; {
	case v == nil:
		e.raw("null")
	case *v == 0 || 1e-6 <= math.Abs(*v) && math.Abs(*v) < 1e21:
		e.b = strconv.AppendFloat(e.b, *v, 'f', -1, 64)
	default:
		e.value("", *v)
	}
	e.text(`,"verdict":`, string(p.Verdict))
	e.flag(`,"delivered":`, p.Delivered)
	e.text(`,"outcome":`, string(p.Outcome))
	e.source(`,"source":`, p.Source)
	e.text(`,"destination":{"ip":`, p.Destination.IP)
	e.port(p.Destination.Port)
	e.text(`,"namespace":`, p.Destination.Namespace)
	e.source(`},"seenAs":`, p.SeenAs)
	list(e, `,"translations":`, p.Translations, (*encoder).translation)
	list(e, `,"hops":`, p.Hops, (*encoder).hop)
	list(e, `,"reverse":`, p.Reverse, (*encoder).hop)
	list(e, `,"findings":`, p.Findings, (*encoder).finding)
	e.raw("}")
}

func (e *encoder) source(name string, s Source) {
	e.raw(name)
	e.text(`{"ip":`, s.IP)
	e.port(s.Port)
	e.raw("}")
}

func (e *encoder) port(n uint16) {
	e.raw(`,"port":`)
	e.b = strconv.AppendUint(e.b, uint64(n), 10)
}

func (e *encoder) translation(t *Translation) {
	e.text(`{"kind":`, t.Kind)
	e.text(`,"where":`, t.Where)
	e.text(`,"from":`, t.From)
	e.text(`,"to":`, t.To)
	e.text(`,"rule":`, t.Rule)
	e.raw("}")
}

func (e *encoder) hop(h *Hop) {
	e.text(`{"namespace":`, h.Namespace)
	e.text(`,"kind":`, string(h.Kind))
	e.text(`,"node":`, h.Node)
	e.text(`,"in":`, h.In)
	e.text(`,"out":`, h.Out)
	e.text(`,"packet":`, h.Packet)
	list(e, `,"steps":`, h.Steps, (*encoder).step)
	list(e, `,"findings":`, h.Findings, (*encoder).finding)
	e.raw("}")
}

func (e *encoder) step(s *Step) {
	e.text(`{"stage":`, s.Stage)
	e.optional(`,"chain":`, s.Chain)
	e.optional(`,"rule":`, s.Rule)
	e.text(`,"action":`, s.Action)
	e.optional(`,"packet":`, s.Packet)
	e.raw("}")
}

func (e *encoder) finding(f *Finding) {
	e.text(`{"code":`, string(f.Code))
	e.text(`,"severity":`, string(f.Severity))
	e.value(`,"where":`, f.Where)
	e.text(`,"message":`, f.Message)
	list(e, `,"evidence":`, f.Evidence, (*encoder).string)
	e.text(`,"remedy":`, f.Remedy)
	e.text(`,"docs":`, f.Docs)
	e.raw("}")
}
