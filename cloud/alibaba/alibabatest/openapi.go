package alibabatest

import (
	_ "embed" // of what is published
	"fmt"
	"strconv"
	"strings"
)

//go:embed openapi.txt
var published string

// operation is what is published of an action.
type operation struct {
	version    string
	parameters map[string]string // where they go: query, body; lists end in []
	response   *field
}

// field is one of a response: a value, or what has others.
type field struct {
	kind   string // string, int, bool; empty for one with members
	list   bool
	fields map[string]*field
}

// operations reads what is published.
func operations() map[string]*operation {
	all := map[string]*operation{}
	var op *operation
	for line := range strings.Lines(published) {
		words := strings.Fields(line)
		switch {
		case line[0] != '\t':
			op = &operation{words[1], map[string]string{}, &field{fields: map[string]*field{}}}
			all[words[0]] = op
		case words[0] == "response":
			op.response.add(strings.Split(words[1], "."), words[2])
		default:
			op.parameters[words[1]] = words[0]
		}
	}
	return all
}

func (f *field) add(path []string, kind string) {
	name, list := strings.CutSuffix(path[0], "[]")
	member := f.fields[name]
	if member == nil {
		member = &field{list: list, fields: map[string]*field{}}
		f.fields[name] = member
	}
	if len(path) == 1 {
		member.kind = kind
		return
	}
	member.add(path[1:], kind)
}

// Account is the number of the account, Marker a value that is in every field that
// nobody reads.
const (
	Account = "1234567890123456"
	Marker  = "not-to-be-kept"
)

// render gives a value the fields and types that are published. It names what is not.
func (f *field) render(value any, at string, bad *[]string) any {
	if list, ok := value.([]any); ok {
		if !f.list {
			*bad = append(*bad, at+" is no list")
			return nil
		}
		one := *f
		one.list = false
		out := make([]any, len(list))
		for i, v := range list {
			out[i] = one.render(v, at, bad)
		}
		return out
	}
	if value == nil {
		return f.empty()
	}
	members, ok := value.(map[string]any)
	if !ok {
		return f.scalar(value, at, bad)
	}
	out := map[string]any{}
	for name, v := range members {
		switch member := f.fields[name]; {
		case member != nil && (v != nil || member.list):
			out[name] = member.render(v, at+"."+name, bad)
		case member == nil && !zero(v):
			*bad = append(*bad, at+"."+name+" is not published")
		}
	}
	for name, member := range f.fields {
		if _, told := members[name]; !told {
			out[name] = member.noise(name)
		}
	}
	return out
}

func (f *field) empty() any {
	if f.list {
		return []any{}
	}
	return nil
}

func (f *field) scalar(value any, at string, bad *[]string) any {
	switch f.kind {
	case "string":
		switch v := value.(type) {
		case string:
			return v
		case float64:
			return strconv.Itoa(int(v))
		case bool:
			return map[bool]string{true: "on", false: "off"}[v]
		}
	case "bool":
		if v, ok := value.(bool); ok {
			return v
		}
	case "int", "int64", "float64":
		if v, ok := value.(float64); ok {
			return int64(v)
		}
	}
	*bad = append(*bad, fmt.Sprintf("%s is %q, and not %v", at, f.kind, value))
	return nil
}

// noise is a value that nobody is to keep.
func (f *field) noise(name string) any {
	var v any
	switch {
	case len(f.fields) > 0:
		members := map[string]any{}
		for name, member := range f.fields {
			members[name] = member.noise(name)
		}
		v = members
	case f.kind == "bool":
		v = true
	case f.kind != "string":
		v = 4242
	case strings.Contains(name, "Owner"), strings.Contains(name, "Uid"), strings.Contains(name, "Account"):
		v = Account
	default:
		v = Marker
	}
	if f.list {
		return []any{v}
	}
	return v
}

// zero says whether there is nothing in a value.
func zero(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case float64:
		return v == 0
	case bool:
		return !v
	case []any:
		return len(v) == 0
	case map[string]any:
		for _, member := range v {
			if !zero(member) {
				return false
			}
		}
		return true
	}
	return false
}
