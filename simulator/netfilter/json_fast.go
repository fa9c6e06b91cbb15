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
	nodes arena[jsonNode]
	keys  arena[string]
	// Members and keys of the objects and arrays that are open.
	openNodes []jsonNode
	openKeys  []string
}

// reset goes to another place in a text, and uses the memory of the values read
// before again.
func (p *fastJSON) reset(text string, at int) {
	p.text, p.at = text, at
	p.nodes.reset()
	p.keys.reset()
	p.openNodes, p.openKeys = p.openNodes[:0], p.openKeys[:0]
}

// parse reads one value and nothing after it.
func (p *fastJSON) parse() (jsonNode, bool) {
	n, ok := p.value(0)
	return n, p.ends() && ok
}

// ends says whether nothing comes any more.
func (p *fastJSON) ends() bool {
	p.space()
	return p.at == len(p.text)
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

// takeKey is take for the key of an object's member.
func (p *fastJSON) takeKey(key string) bool {
	p.space()
	if p.at == len(p.text) || p.text[p.at] != '"' {
		return false
	}
	text, ok := p.string()
	return ok && text == key && p.take(':')
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
				break
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
			if plain {
				return p.text[start:i], true
			}
			return unquote(p.text[start-1 : p.at])
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

func unquote(quoted string) (text string, ok bool) {
	ok = utf8.ValidString(quoted) && json.Unmarshal([]byte(quoted), &text) == nil
	return text, ok
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
