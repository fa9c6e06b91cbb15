package netfilter

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// PrintNFT reads a rule set as "nft -j list ruleset" prints it and writes it as
// "nft -j -f" takes it: without handles, which the kernel gives, and every object
// after those that it refers to, on a line of its own. What nft lists but does
// not read, as the matches of iptables-nft, is written as it was.
func PrintNFT(text netstack.Text) ([]byte, error) {
	c := newCompiler(&netstack.Namespace{}, nil)
	if err := c.nftables(&text); err != nil {
		return nil, err
	}
	var objects []jsonNode
	if len(bytes.TrimSpace(text.Data)) > 0 {
		root, err := parseJSON(text.File, text.Data)
		if err != nil {
			return nil, err
		}
		objects = root.get("nftables").list
	}
	slices.SortStableFunc(objects, func(a, b jsonNode) int { return nftPlace(&a) - nftPlace(&b) })
	out := bytes.NewBufferString(`{"nftables": [`)
	for i := range objects {
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteByte('\n')
		kind, object, _ := objects[i].only()
		out.WriteByte('{')
		printJSONString(out, kind)
		out.WriteString(": ")
		if device := object.get("dev"); kind == "chain" && device != nil && len(device.list) == 1 {
			*device = device.list[0] // nft 1.0.6 takes no list
		}
		printJSON(out, object, "handle")
		out.WriteByte('}')
	}
	out.WriteString("\n]}\n")
	return out.Bytes(), nil
}

// nftPlace says what comes first: sets refer to chains, rules to everything.
func nftPlace(object *jsonNode) int {
	kind, _, _ := object.only()
	switch kind {
	case "metainfo":
		return 0
	case "table":
		return 1
	case "chain":
		return 2
	case "set", "map":
		return 4
	case "rule":
		return 5
	}
	return 3
}

// printJSON writes a value; of an object, not the member that is left out.
func printJSON(out *bytes.Buffer, n *jsonNode, leftOut string) {
	switch n.kind {
	case jsonNull:
		out.WriteString("null")
	case jsonString:
		printJSONString(out, n.text)
	case jsonArray:
		out.WriteByte('[')
		for i := range n.list {
			if i > 0 {
				out.WriteString(", ")
			}
			printJSON(out, &n.list[i], "")
		}
		out.WriteByte(']')
	case jsonObject:
		out.WriteByte('{')
		comma := false
		for i := range n.list {
			if leftOut != "" && n.keys[i] == leftOut {
				continue
			}
			if comma {
				out.WriteString(", ")
			}
			comma = true
			printJSONString(out, n.keys[i])
			out.WriteString(": ")
			printJSON(out, &n.list[i], "")
		}
		out.WriteByte('}')
	default:
		out.WriteString(n.text)
	}
}

func printJSONString(out *bytes.Buffer, text string) {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // a string is always written
	out.Truncate(out.Len() - 1)
}
