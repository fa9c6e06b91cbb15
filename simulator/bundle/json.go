package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// The JSON of iproute2 needs a reader of its own for two reasons. A message
// must name line and token of what is wrong, which encoding/json gives for
// syntax alone. And iproute2 repeats keys: a route with "encap":"ip" has a
// second "dst", the tunnel's, which must not replace the route's. So
// encoding/json judges the syntax, and the tree below keeps the order and the
// place of everything.

// maxJSONDepth bounds the nesting of a document: the deepest real one, nft.json,
// is not read here, and `ip -d -j link` needs 5.
const maxJSONDepth = 32

// value is one JSON value and where it stands.
type value struct {
	kind    jsonKind
	offset  int
	end     int
	text    string   // of a string, decoded; of a number, as it stands
	members []member // of an object, in order
	items   []value  // of a list
}

type member struct {
	key string
	value
}

type jsonKind byte

const (
	jsonNull jsonKind = iota
	jsonBool
	jsonNumber
	jsonString
	jsonList
	jsonObject
)

func (k jsonKind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "a list", "an object"}[k]
}

// get returns the first member with a key, or nil.
func (v *value) get(key string) *value {
	for i := range v.members {
		if v.members[i].key == key {
			return &v.members[i].value
		}
	}
	return nil
}

// has says whether an object has a member, whatever its value: iproute2 prints
// flags as members that are null.
func (v *value) has(key string) bool { return v.get(key) != nil }

// source is one file being read. The first error sticks, and all later reads
// return zero values, so that a parser reads straight on and asks once.
type source struct {
	file string
	data []byte
	at   string // the item being read, for messages: "route 3"
	err  error
}

// fail records the first error, at an offset.
func (s *source) fail(offset int, token, format string, args ...any) {
	if s.err != nil {
		return
	}
	msg := fmt.Sprintf(format, args...)
	if s.at != "" {
		msg = s.at + ": " + msg
	}
	s.err = &netfilter.SyntaxError{
		File:  s.file,
		Line:  1 + bytes.Count(s.data[:min(offset, len(s.data))], []byte{'\n'}),
		Token: shorten(token),
		Msg:   msg,
	}
}

// failAt records an error about a value.
func (s *source) failAt(v *value, format string, args ...any) {
	token := v.text
	if v.kind != jsonString {
		token = string(s.data[v.offset:v.end])
	}
	s.fail(v.offset, token, format, args...)
}

// shorten keeps a token readable in a message of one line.
func shorten(token string) string {
	const limit = 60
	if len(token) <= limit {
		return token
	}
	return strings.ToValidUTF8(token[:limit], "") + "…"
}

// parse reads the whole file as one JSON value; nil for an empty file.
func (s *source) parse() *value {
	if len(bytes.TrimSpace(s.data)) == 0 {
		return nil
	}
	var raw json.RawMessage
	if err := json.Unmarshal(s.data, &raw); err != nil {
		offset := len(s.data)
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			offset = max(0, int(syntax.Offset)-1)
		}
		s.fail(offset, s.tokenAt(offset), "not JSON: %v", err)
		return nil
	}
	if !utf8.Valid(s.data) { // encoding/json takes all that is not for one and the same character
		offset := invalidUTF8(s.data)
		s.fail(offset, fmt.Sprintf("0x%02x", s.data[offset]), "not UTF-8")
		return nil
	}
	p := parser{source: s}
	v := p.value(0)
	if s.err != nil {
		return nil
	}
	return &v
}

// invalidUTF8 is where text that is not UTF-8 is not for the first time.
func invalidUTF8(text []byte) int {
	for at := 0; ; {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size <= 1 {
			return at
		}
		at += size
	}
}

// tokenAt is the text from an offset to the next delimiter.
func (s *source) tokenAt(offset int) string {
	rest := s.data[min(offset, len(s.data)):]
	if end := bytes.IndexAny(rest, " \t\r\n,:[]{}"); end > 0 {
		rest = rest[:end]
	} else if end == 0 {
		rest = rest[:1]
	}
	return strings.ToValidUTF8(string(rest), "�")
}

// parser builds the tree of a document that encoding/json has found valid: it
// need not look for errors of syntax.
type parser struct {
	*source
	pos int
}

func (p *parser) space() {
	for p.pos < len(p.data) && strings.IndexByte(" \t\r\n", p.data[p.pos]) >= 0 {
		p.pos++
	}
}

func (p *parser) value(depth int) value {
	p.space()
	v := value{offset: p.pos}
	if depth > maxJSONDepth {
		p.fail(p.pos, p.tokenAt(p.pos), "nested deeper than %d levels", maxJSONDepth)
		return v
	}
	switch c := p.data[p.pos]; c {
	case '{', '[':
		p.pos++
		v.kind = jsonList
		if c == '{' {
			v.kind = jsonObject
		}
		for p.err == nil {
			p.space()
			switch p.data[p.pos] {
			case ',':
				p.pos++
				continue
			case '}', ']':
				p.pos++
				v.end = p.pos
				return v
			}
			if c == '[' {
				v.items = append(v.items, p.value(depth+1))
				continue
			}
			key := p.string()
			p.space()
			p.pos++ // the colon
			v.members = append(v.members, member{key, p.value(depth + 1)})
		}
	case '"':
		v.kind, v.text = jsonString, p.string()
	default:
		start := p.pos
		for p.pos < len(p.data) && strings.IndexByte(" \t\r\n,]}", p.data[p.pos]) < 0 {
			p.pos++
		}
		v.text = string(p.data[start:p.pos])
		switch c {
		case 'n':
			v.kind = jsonNull
		case 't', 'f':
			v.kind = jsonBool
		default:
			v.kind = jsonNumber
		}
	}
	v.end = p.pos
	return v
}

func (p *parser) string() string {
	start := p.pos
	escaped := false
	for p.pos++; p.data[p.pos] != '"'; p.pos++ {
		if p.data[p.pos] == '\\' {
			escaped = true
			p.pos++
		}
	}
	p.pos++
	if !escaped {
		return string(p.data[start+1 : p.pos-1])
	}
	var text string
	if err := json.Unmarshal(p.data[start:p.pos], &text); err != nil {
		p.fail(start, string(p.data[start:p.pos]), "bad string: %v", err)
	}
	return text
}

// list reads a document whose top level is a list of objects, as all of
// iproute2's are, and calls read for each. Empty objects, which iproute2 prints
// for what a filter hides, are left out. What names the items in messages.
func (s *source) list(what string, read func(*value)) error {
	top := s.parse()
	if s.err != nil || top == nil {
		return s.err
	}
	if top.kind != jsonList {
		s.fail(top.offset, s.tokenAt(top.offset), "want a list of %ss, found %s", what, top.kind)
		return s.err
	}
	for i := range top.items {
		item := &top.items[i]
		s.at = fmt.Sprintf("%s %d", what, i+1)
		if item.kind != jsonObject {
			s.failAt(item, "want an object, found %s", item.kind)
		} else if len(item.members) > 0 {
			read(item)
		}
		if s.err != nil {
			return s.err
		}
	}
	s.at = ""
	return nil
}

// field returns a member; a missing one is an error.
func (s *source) field(v *value, key string) *value {
	m := v.get(key)
	if m == nil {
		s.fail(v.offset, s.tokenAt(v.offset), "%s: missing", key)
	}
	return m
}

// each calls read for the members of a list of objects under key, if there.
func (s *source) each(v *value, key string, read func(*value)) {
	m := v.get(key)
	if m == nil || s.err != nil {
		return
	}
	if m.kind != jsonList {
		s.failAt(m, "%s: want a list, found %s", key, m.kind)
		return
	}
	for i := range m.items {
		if m.items[i].kind != jsonObject {
			s.failAt(&m.items[i], "%s: want objects, found %s", key, m.items[i].kind)
			return
		}
		read(&m.items[i])
	}
}

// object returns the object under key, or an empty one.
func (s *source) object(v *value, key string) *value {
	m := v.get(key)
	if m == nil {
		return &value{kind: jsonObject}
	}
	if m.kind != jsonObject {
		s.failAt(m, "%s: want an object, found %s", key, m.kind)
	}
	return m
}

// text returns the string under key; empty when there is none.
func (s *source) text(v *value, key string) string {
	m := v.get(key)
	if m == nil {
		return ""
	}
	if m.kind != jsonString {
		s.failAt(m, "%s: want a string, found %s", key, m.kind)
		return ""
	}
	return m.text
}

// name is text that must be there and not be empty.
func (s *source) name(v *value, key string) string {
	m := s.field(v, key)
	if m == nil {
		return ""
	}
	text := s.text(v, key)
	if text == "" {
		s.failAt(m, "%s: empty", key)
	}
	return text
}

// texts returns the list of strings under key.
func (s *source) texts(v *value, key string) []*value {
	m := v.get(key)
	if m == nil {
		return nil
	}
	if m.kind != jsonList {
		s.failAt(m, "%s: want a list, found %s", key, m.kind)
		return nil
	}
	var all []*value
	for i := range m.items {
		if m.items[i].kind != jsonString {
			s.failAt(&m.items[i], "%s: want strings, found %s", key, m.items[i].kind)
			return nil
		}
		all = append(all, &m.items[i])
	}
	return all
}

// hasText says whether the list of strings under key has a certain one.
func (s *source) hasText(v *value, key, text string) bool {
	return slices.ContainsFunc(s.texts(v, key), func(item *value) bool { return item.text == text })
}

// truth returns the boolean under key, which iproute2 prints as true and
// false, as 1 and 0, as "on" and "off" or as null for true, depending on where.
func (s *source) truth(v *value, key string) bool {
	m := v.get(key)
	if m == nil {
		return false
	}
	switch {
	case m.kind == jsonNull, m.text == "true", m.text == "1", m.text == "on":
		return true
	case m.text == "false", m.text == "0", m.text == "off":
		return false
	}
	s.failAt(m, "%s: want true or false", key)
	return false
}

// number returns the number under key, which must fit in bits; 0 when there is
// none. Some numbers are printed as strings, in decimal or hexadecimal.
func (s *source) number(v *value, key string, bits int) uint64 {
	m := v.get(key)
	if m == nil {
		return 0
	}
	return s.numberOf(m, key, bits)
}

func (s *source) numberOf(m *value, key string, bits int) uint64 {
	n, err := parseNumber(m, bits)
	if err != nil {
		s.failAt(m, "%s: want a number of %d bits", key, bits)
	}
	return n
}

func parseNumber(m *value, bits int) (uint64, error) {
	if m.kind != jsonNumber && m.kind != jsonString {
		return 0, strconv.ErrSyntax
	}
	text, base := m.text, 10
	if hex, ok := strings.CutPrefix(text, "0x"); ok {
		text, base = hex, 16
	}
	return strconv.ParseUint(text, base, bits)
}

// int is a non-negative number that fits in an int.
func (s *source) int(v *value, key string) int { return int(s.number(v, key, 31)) }

// named returns the number under key, which may be given by name.
func (s *source) named(v *value, key string, bits int, names map[string]uint64, missing uint64) uint64 {
	m := v.get(key)
	if m == nil {
		return missing
	}
	if n, ok := names[m.text]; ok && m.kind == jsonString {
		return n
	}
	n, err := parseNumber(m, bits)
	if err != nil {
		s.failAt(m, "%s: neither a number of %d bits nor a name that is known", key, bits)
	}
	return n
}

// addr returns the address under key; invalid when there is none.
func (s *source) addr(v *value, key string) netip.Addr {
	m := v.get(key)
	if m == nil {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s.text(v, key))
	if err != nil || a.Zone() != "" {
		s.failAt(m, "%s: not an IP address", key)
		return netip.Addr{}
	}
	return a
}

// mac returns the Ethernet address under key; zero when there is none, or one
// of another kind of link (InfiniBand, the IP addresses of tunnels).
func (s *source) mac(v *value, key string) netstack.MAC {
	m := v.get(key)
	if m == nil || s.text(v, key) == "" {
		return netstack.MAC{}
	}
	return s.macOf(m, key)
}

func (s *source) macOf(m *value, key string) netstack.MAC {
	if _, err := netip.ParseAddr(m.text); err == nil {
		return netstack.MAC{}
	}
	hw, err := net.ParseMAC(m.text)
	if err != nil {
		s.failAt(m, "%s: not a link-layer address", key)
		return netstack.MAC{}
	}
	if len(hw) != len(netstack.MAC{}) {
		return netstack.MAC{}
	}
	return netstack.MAC(hw)
}

func formatMAC(m netstack.MAC) string { return net.HardwareAddr(m[:]).String() }

// encode writes a document of iproute2's shape, one item a line so that people
// and diff can read it.
func encode[T any](items []T) ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte('[')
	for i := range items {
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteByte('\n')
		enc, err := json.Marshal(items[i])
		if err != nil {
			return nil, err
		}
		out.Write(enc)
	}
	out.WriteString("\n]\n")
	return out.Bytes(), nil
}

// present is a member whose being there is what counts: iproute2 prints it as
// null.
type present bool

// MarshalJSON prints null, as iproute2 does for flags; used with omitzero.
func (present) MarshalJSON() ([]byte, error) { return []byte("null"), nil }
