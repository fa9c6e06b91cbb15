package netfilter

import (
	"strconv"
	"strings"
)

// renderRule writes a rule for people, close to what nft prints, with the
// handle by which nft deletes it; that of the JSON where handle is 0.
func renderRule(n *jsonNode, handle uint32) string {
	var b strings.Builder
	b.Grow(128)
	if expr := n.get("expr"); expr != nil {
		for i := range expr.list {
			if i > 0 {
				b.WriteByte(' ')
			}
			renderStatement(&b, &expr.list[i])
		}
	}
	if c := n.str("comment"); c != "" {
		b.WriteString(` comment "` + c + `"`)
	}
	if h := n.get("handle"); handle != 0 {
		b.WriteString(" # handle " + strconv.FormatUint(uint64(handle), 10))
	} else if h != nil {
		b.WriteString(" # handle " + h.text)
	}
	return b.String()
}

func renderStatement(b *strings.Builder, n *jsonNode) {
	kind, arg, ok := n.only()
	if !ok {
		renderValue(b, n)
		return
	}
	switch kind {
	case "match":
		if left := arg.get("left"); left != nil {
			renderValue(b, left)
		}
		if op := arg.str("op"); op != "==" && op != "in" {
			b.WriteString(" " + op)
		}
		if right := arg.get("right"); right != nil {
			b.WriteByte(' ')
			renderValue(b, right)
		}
	case "counter":
		b.WriteString("counter")
	case "mangle":
		if key := arg.get("key"); key != nil {
			renderValue(b, key)
		}
		b.WriteString(" set ")
		if value := arg.get("value"); value != nil {
			renderValue(b, value)
		}
	case "vmap":
		if key := arg.get("key"); key != nil {
			renderValue(b, key)
		}
		b.WriteString(" vmap ")
		if data := arg.get("data"); data != nil {
			renderValue(b, data)
		}
	case "jump", "goto":
		b.WriteString(kind + " " + arg.str("target"))
	default:
		b.WriteString(kind)
		if arg.kind != jsonNull {
			b.WriteByte(' ')
			renderValue(b, arg)
		}
	}
}

// maxRendered bounds how many elements of a list are written.
const maxRendered = 8

func renderValue(b *strings.Builder, n *jsonNode) {
	switch n.kind {
	case jsonArray:
		renderList(b, n, ",")
		return
	case jsonObject:
	default:
		b.WriteString(n.text)
		return
	}
	kind, arg, ok := n.only()
	if !ok {
		// A statement's arguments: name and value in turn.
		for i, k := range n.keys {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(k + " ")
			renderValue(b, &n.list[i])
		}
		return
	}
	switch kind {
	case "payload":
		b.WriteString(arg.str("protocol") + " " + arg.str("field"))
	case "meta", "ct", "rt", "socket":
		if key := arg.str("key"); kind != "meta" || !strings.Contains(key, "if") {
			b.WriteString(kind + " ")
		}
		if dir := arg.str("dir"); dir != "" {
			b.WriteString(dir + " ")
		}
		b.WriteString(arg.str("key"))
	case "fib":
		b.WriteString("fib " + strings.Join(arg.strings("flags"), " . ") + " " + arg.str("result"))
	case "prefix":
		b.WriteString(arg.str("addr"))
		if l := arg.get("len"); l != nil {
			b.WriteString("/" + l.text)
		}
	case "range":
		renderList(b, arg, "-")
	case "concat":
		renderList(b, arg, " . ")
	case "set":
		b.WriteString("{ ")
		if arg.kind != jsonArray {
			renderValue(b, arg)
		} else {
			for i := range arg.list {
				if i > 0 {
					b.WriteString(", ")
				}
				if i == maxRendered {
					b.WriteString("…")
					break
				}
				e := &arg.list[i]
				if e.kind == jsonArray && len(e.list) == 2 {
					renderValue(b, &e.list[0])
					b.WriteString(" : ")
					renderStatement(b, &e.list[1])
				} else {
					renderValue(b, e)
				}
			}
		}
		b.WriteString(" }")
	case "&", "|", "^":
		renderList(b, arg, " "+kind+" ")
	case "map":
		if key := arg.get("key"); key != nil {
			renderValue(b, key)
		}
		b.WriteString(" map ")
		if data := arg.get("data"); data != nil {
			renderValue(b, data)
		}
	default:
		renderStatement(b, n)
	}
}

func renderList(b *strings.Builder, n *jsonNode, sep string) {
	for i := range n.list {
		if i > 0 {
			b.WriteString(sep)
		}
		if i == maxRendered {
			b.WriteString("…")
			return
		}
		renderValue(b, &n.list[i])
	}
}
