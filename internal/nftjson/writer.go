package nftjson

import (
	"fmt"
	"net/netip"
	"strconv"
	"unicode/utf8"
)

// writer appends JSON, spaced as nft does.
type writer struct {
	out []byte
	// first says that nothing was written in the object or list yet.
	first bool
	// numeric writes protocols as numbers, as nft does in ranges.
	numeric bool
	// stateless leaves out counters, what quotas have used, and the time that
	// elements have left.
	stateless bool
	// names are the devices by index.
	names func(index int) string
	// sets reads the elements of the sets that belong to rules.
	sets *decoder
	err  error
}

func (w *writer) fail(format string, args ...any) {
	if w.err == nil {
		w.err = unknownf(format, args...)
	}
}

func (w *writer) device(index int) string {
	if name := w.names(index); name != "" {
		return name
	}
	return strconv.Itoa(index)
}

func (w *writer) open(bracket byte) {
	w.out = append(w.out, bracket)
	w.first = true
}

func (w *writer) close(bracket byte) {
	w.out = append(w.out, bracket)
	w.first = false
}

func (w *writer) comma() {
	if !w.first {
		w.out = append(w.out, ", "...)
	}
	w.first = false
}

// key begins a member of an object.
func (w *writer) key(name string) {
	w.comma()
	w.string(name)
	w.out = append(w.out, ": "...)
}

// only writes {"name": and leaves the value and the brace to the caller.
func (w *writer) only(name string) {
	w.open('{')
	w.key(name)
}

func (w *writer) text(key, value string) {
	w.key(key)
	w.string(value)
}

func (w *writer) integer(key string, value uint64) {
	w.key(key)
	w.uint(value)
}

func (w *writer) uint(v uint64) {
	// nft prints numbers of 64 bits with a sign (json_int_t).
	w.out = strconv.AppendInt(w.out, int64(v), 10)
}

func (w *writer) bool(v bool) { w.out = strconv.AppendBool(w.out, v) }

func (w *writer) null() { w.out = append(w.out, "null"...) }

func (w *writer) addr(a netip.Addr) {
	w.out = append(w.out, '"')
	w.out = a.AppendTo(w.out)
	w.out = append(w.out, '"')
}

// string writes a string with the escapes of jansson.
func (w *writer) string(s string) {
	plain := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf || c == 0x7f {
			plain = false
			break
		}
	}
	w.out = append(w.out, '"')
	if plain {
		w.out = append(append(w.out, s...), '"')
		return
	}
	if !utf8.ValidString(s) {
		w.fail("text that is not UTF-8")
	}
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			w.out = append(w.out, '\\', c)
		case c == '\n':
			w.out = append(w.out, `\n`...)
		case c == '\t':
			w.out = append(w.out, `\t`...)
		case c == '\r':
			w.out = append(w.out, `\r`...)
		case c == '\b':
			w.out = append(w.out, `\b`...)
		case c == '\f':
			w.out = append(w.out, `\f`...)
		case c < ' ':
			w.out = fmt.Appendf(w.out, `\u%04x`, c)
		default:
			w.out = append(w.out, c)
		}
	}
	w.out = append(w.out, '"')
}

// strings writes a list, or its only member; nothing if there is none.
func (w *writer) strings(key string, list []string) {
	switch len(list) {
	case 0:
	case 1:
		w.text(key, list[0])
	default:
		w.list(key, list)
	}
}

func (w *writer) list(key string, list []string) {
	w.key(key)
	w.open('[')
	for _, s := range list {
		w.comma()
		w.string(s)
	}
	w.close(']')
}

func uintString(v uint64) string { return strconv.FormatUint(v, 10) }
