package netfilter

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
)

// jsonNode is a JSON value that knows where it stands.
type jsonNode struct {
	kind jsonKind
	text string // of strings, numbers and booleans
	keys []string
	// list are the elements of an array, or the values of an object.
	list []jsonNode
	end  int64 // offset after the value's first token
}

type jsonKind uint8

const (
	jsonNull jsonKind = iota
	jsonBool
	jsonNumber
	jsonString
	jsonArray
	jsonObject
)

// maxJSONDepth is far more than nft nests.
const maxJSONDepth = 64

// parseJSON reads one JSON value into a tree.
func parseJSON(file string, data []byte) (jsonNode, error) {
	fast := fastJSON{text: string(data)}
	if n, ok := fast.parse(); ok {
		return n, nil
	}
	return parseJSONCarefully(file, data)
}

func parseJSONCarefully(file string, data []byte) (jsonNode, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	p := jsonParser{dec: dec}
	n, err := p.value(0)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return n, nil
		}
		if err == nil {
			err = errors.New("text after the JSON value")
		}
	}
	return jsonNode{}, jsonError(file, data, dec.InputOffset(), err)
}

func jsonError(file string, data []byte, offset int64, err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) && syntax.Offset > 0 {
		offset = syntax.Offset - 1
	}
	msg := err.Error()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		msg, offset = "unexpected end of JSON", int64(len(data))
	}
	return &SyntaxError{File: file, Line: lineAt(data, offset), Token: excerpt(data, offset), Msg: msg}
}

func lineAt(data []byte, offset int64) int {
	offset = min(max(offset, 0), int64(len(data)))
	return 1 + bytes.Count(data[:offset], []byte("\n"))
}

// excerpt is the beginning of what stands at offset.
func excerpt(data []byte, offset int64) string {
	offset = min(max(offset, 0), int64(len(data)))
	rest := data[offset:min(offset+24, int64(len(data)))]
	if i := bytes.IndexByte(rest, '\n'); i > 0 {
		rest = rest[:i]
	}
	return string(rest)
}

// firstJSON is the first value of a text that has more after it.
func firstJSON(text string) []byte {
	var first json.RawMessage
	_ = json.NewDecoder(strings.NewReader(text)).Decode(&first) // it was read before
	return first
}

type jsonParser struct{ dec *json.Decoder }

func (p *jsonParser) value(depth int) (jsonNode, error) {
	if depth > maxJSONDepth {
		return jsonNode{}, errors.New("JSON nested too deeply")
	}
	t, err := p.dec.Token()
	if err != nil {
		return jsonNode{}, err
	}
	return p.rest(t, depth)
}

func (p *jsonParser) rest(t json.Token, depth int) (jsonNode, error) {
	n := jsonNode{end: p.dec.InputOffset()}
	switch v := t.(type) {
	case nil:
		return n, nil
	case bool:
		n.kind, n.text = jsonBool, strconv.FormatBool(v)
	case json.Number:
		n.kind, n.text = jsonNumber, v.String()
	case string:
		n.kind, n.text = jsonString, v
	case json.Delim:
		n.kind = jsonArray
		if v == '{' {
			n.kind = jsonObject
		}
		for p.dec.More() {
			if n.kind == jsonObject {
				key, err := p.dec.Token()
				if err != nil {
					return n, err
				}
				name, ok := key.(string)
				if !ok {
					return n, errors.New("object key is not a string")
				}
				n.keys = append(n.keys, name)
			}
			child, err := p.value(depth + 1)
			if err != nil {
				return n, err
			}
			n.list = append(n.list, child)
		}
		if _, err := p.dec.Token(); err != nil { // the closing delimiter
			return n, err
		}
	}
	return n, nil
}

// get returns the value of a key, or nil.
func (n *jsonNode) get(key string) *jsonNode {
	for i, k := range n.keys {
		if k == key {
			return &n.list[i]
		}
	}
	return nil
}

// str returns the string under key, or "".
func (n *jsonNode) str(key string) string {
	if v := n.get(key); v != nil && v.kind == jsonString {
		return v.text
	}
	return ""
}

// number returns the integer under key.
func (n *jsonNode) number(key string) (int64, bool) {
	v := n.get(key)
	if v == nil || v.kind != jsonNumber {
		return 0, false
	}
	i, err := strconv.ParseInt(v.text, 10, 64)
	return i, err == nil
}

// strings returns the strings under key: one, or a list of them.
func (n *jsonNode) strings(key string) []string {
	v := n.get(key)
	switch {
	case v == nil:
		return nil
	case v.kind == jsonString:
		return []string{v.text}
	}
	var all []string
	for i := range v.list {
		if v.list[i].kind == jsonString {
			all = append(all, v.list[i].text)
		}
	}
	return all
}

// only returns the key and value of an object that has just one member, as
// nft writes expressions and statements.
func (n *jsonNode) only() (string, *jsonNode, bool) {
	if n.kind != jsonObject || len(n.keys) != 1 {
		return "", nil, false
	}
	return n.keys[0], &n.list[0], true
}

// member is only of a node that may not be there.
func (n *jsonNode) member() (string, *jsonNode, bool) {
	if n == nil {
		return "", nil, false
	}
	return n.only()
}
