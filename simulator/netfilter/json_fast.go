package netfilter

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// fastJSON reads the JSON that nft writes into the same tree as jsonParser
// does. It gives up where something is wrong or out of the ordinary: then
// jsonParser reads the text again, and says what is wrong.
type fastJSON struct {
	text  string
	at    int
	nodes slab[jsonNode]
	keys  slab[string]
	// Members and keys of the objects and arrays that are open.
	openNodes []jsonNode
	openKeys  []string
}

// parse reads one value and nothing after it.
func (p *fastJSON) parse() (jsonNode, bool) {
	n, ok := p.value(0)
	p.space()
	return n, ok && p.at == len(p.text)
}

func (p *fastJSON) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// take skips white space and, if it comes next, c.
func (p *fastJSON) take(c byte) bool {
	p.space()
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *fastJSON) value(depth int) (n jsonNode, ok bool) {
	p.space()
	if p.at == len(p.text) || depth > maxJSONDepth {
		return n, false
	}
	switch c := p.text[p.at]; {
	case c == '"':
		n.kind = jsonString
		n.text, ok = p.string()
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '-' || '0' <= c && c <= '9':
		n.kind = jsonNumber
		n.text, ok = p.integer()
	default:
		for _, word := range [...]struct {
			text string
			kind jsonKind
		}{{"null", jsonNull}, {"true", jsonBool}, {"false", jsonBool}} {
			if strings.HasPrefix(p.text[p.at:], word.text) {
				p.at += len(word.text)
				n.kind, ok = word.kind, true
				if word.kind == jsonBool {
					n.text = word.text
				}
			}
		}
	}
	n.end = int64(p.at)
	return n, ok
}

func (p *fastJSON) object(depth int) (n jsonNode, ok bool) {
	p.at++
	n.kind, n.end = jsonObject, int64(p.at)
	if p.take('}') {
		return n, true
	}
	firstKey, firstNode := len(p.openKeys), len(p.openNodes)
	for {
		p.space()
		if p.at == len(p.text) || p.text[p.at] != '"' {
			return n, false
		}
		key, ok := p.string()
		if !ok || !p.take(':') {
			return n, false
		}
		member, ok := p.value(depth + 1)
		if !ok {
			return n, false
		}
		p.openKeys, p.openNodes = append(p.openKeys, key), append(p.openNodes, member)
		if p.take('}') {
			break
		}
		if !p.take(',') {
			return n, false
		}
	}
	n.keys, n.list = p.keys.list(p.openKeys[firstKey:]), p.nodes.list(p.openNodes[firstNode:])
	p.openKeys, p.openNodes = p.openKeys[:firstKey], p.openNodes[:firstNode]
	return n, true
}

func (p *fastJSON) array(depth int) (n jsonNode, ok bool) {
	p.at++
	n.kind, n.end = jsonArray, int64(p.at)
	if p.take(']') {
		return n, true
	}
	first := len(p.openNodes)
	for {
		element, ok := p.value(depth + 1)
		if !ok {
			return n, false
		}
		p.openNodes = append(p.openNodes, element)
		if p.take(']') {
			break
		}
		if !p.take(',') {
			return n, false
		}
	}
	n.list = p.nodes.list(p.openNodes[first:])
	p.openNodes = p.openNodes[:first]
	return n, true
}

// string reads a string; its text is a part of the dump unless it has escapes.
func (p *fastJSON) string() (string, bool) {
	start := p.at + 1
	plain := true
	for i := start; i < len(p.text); i++ {
		switch c := p.text[i]; {
		case c == '"':
			p.at = i + 1
			text := p.text[start:i]
			if plain {
				return text, true
			}
			if !utf8.ValidString(text) || json.Unmarshal([]byte(p.text[start-1:p.at]), &text) != nil {
				return "", false
			}
			return text, true
		case c == '\\':
			i++
			plain = false
		case c < ' ':
			return "", false
		case c >= utf8.RuneSelf:
			plain = false
		}
	}
	return "", false
}

// integer reads a number without a fraction: nft has no others.
func (p *fastJSON) integer() (string, bool) {
	start := p.at
	if p.text[p.at] == '-' {
		p.at++
	}
	digits := p.at
	for p.at < len(p.text) && '0' <= p.text[p.at] && p.text[p.at] <= '9' {
		p.at++
	}
	text := p.text[digits:p.at]
	if text == "" || text[0] == '0' && len(text) > 1 {
		return "", false
	}
	if p.at < len(p.text) {
		switch p.text[p.at] {
		case '.', 'e', 'E':
			return "", false
		}
	}
	return p.text[start:p.at], true
}
