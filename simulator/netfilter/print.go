package netfilter

import (
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// PrintIPTables reads a dump of iptables-save and writes it as the restore
// commands take it: one spelling for each option, the conditions in the order
// of iptables-save, matches by name, values quoted where they need it. Text
// that is not a dump is a *SyntaxError.
func PrintIPTables(dump *netstack.IPTablesDump) ([]byte, error) {
	c := newCompiler(&netstack.Namespace{}, nil)
	p, err := newIPTablesParser(c, dump)
	if err != nil {
		return nil, err
	}
	p.rule.printer = &rulePrinter{}
	var out strings.Builder
	for p.next() {
		if err := p.parseLine(); err != nil {
			return nil, err
		}
		switch line := p.cur; {
		case line == "" || line[0] == '#':
		case line[0] == '*' || line == "COMMIT":
			out.WriteString(line + "\n")
		case line[0] == ':':
			out.WriteString(strings.Join(p.tokens, " ") + "\n") // read without quotes
		default:
			printWords(&out, p.rule.printer.words(p.tokens))
		}
	}
	return []byte(out.String()), p.ended()
}

func printWords(out *strings.Builder, words []string) {
	for i, w := range words {
		if i > 0 {
			out.WriteByte(' ')
		}
		out.WriteString(quote(w))
	}
	out.WriteByte('\n')
}

// quote puts a word into quotes if the restore commands would not read it as
// one word otherwise (xtables_save_string).
func quote(word string) string {
	if word != "" && !strings.ContainsAny(word, " \t\"'\\#\v\f\r") {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}

// part is an option of a rule as it was read.
type part struct {
	of     partOf
	name   string
	invert bool
	values []string
}

// partOf says who took an option.
type partOf uint8

const (
	ofRule partOf = iota
	ofMatch
	ofProtocol // a match that -p loaded
	ofTarget
)

// rulePrinter collects the options of a rule.
type rulePrinter struct {
	parts []part
}

var optionSpelling = map[string]string{
	"--source": "-s", "--src": "-s", "--destination": "-d", "--dst": "-d", "--in-interface": "-i", "--out-interface": "-o",
	"--protocol": "-p", "--proto": "-p", "--fragment": "-f", "--set-counters": "-c", "--match": "-m", "--jump": "-j", "--goto": "-g",
}

// conditionOrder is that of iptables-save.
var conditionOrder = []string{"-s", "-d", "-i", "-o", "-p", "-f", "-c"}

// words are those of the rule in the order of iptables-save. line is what was
// read.
func (r *rulePrinter) words(line []string) []string {
	var words []string
	if strings.HasPrefix(line[0], "[") {
		words, line = append(words, line[0]), line[1:]
	}
	words = append(words, "-A", line[1])
	put := func(p *part, name string) {
		if p.invert {
			words = append(words, "!")
		}
		words = append(append(words, name), p.values...)
	}
	spelling := func(p *part) string {
		if short, ok := optionSpelling[p.name]; ok && p.of == ofRule {
			return short
		}
		return p.name
	}
	for _, name := range conditionOrder {
		for i := range r.parts {
			if p := &r.parts[i]; p.of == ofRule && spelling(p) == name {
				put(p, name)
			}
		}
	}
	loaded := false
	for i := range r.parts {
		p := &r.parts[i]
		switch {
		case p.of == ofProtocol && !loaded:
			loaded = true
			words = append(words, "-m", r.loaded())
			fallthrough
		case p.of == ofProtocol, p.of == ofMatch:
			put(p, p.name)
		case p.of == ofRule && spelling(p) == "-m":
			put(p, "-m")
		}
	}
	for i := range r.parts {
		if p := &r.parts[i]; p.of == ofTarget || p.of == ofRule && slices.Contains([]string{"-j", "-g"}, spelling(p)) {
			put(p, spelling(p))
		}
	}
	return words
}

// loaded names the match that -p loads.
func (r *rulePrinter) loaded() string {
	name := ""
	for i := range r.parts {
		p := &r.parts[i]
		if p.of != ofRule || p.name != "-p" && optionSpelling[p.name] != "-p" {
			continue
		}
		proto, _ := parseProtocol(p.values[0])
		if name = netstack.ProtocolName(proto); proto == netstack.ProtoICMPv6 {
			name = "icmp6"
		}
	}
	return name
}

// PrintIPSet reads a dump of "ipset save" and writes it as "ipset restore"
// takes it.
func PrintIPSet(text netstack.Text) ([]byte, error) {
	if _, err := parseIPSet(text.File, text.Data); err != nil {
		return nil, err
	}
	commands := map[string]string{"-N": "create", "n": "create", "-A": "add", "a": "add"}
	p := &ipsetParser{lineScanner: lineScanner{file: text.File, text: string(text.Data)}}
	var out strings.Builder
	for p.next() {
		words, err := p.words()
		if err != nil {
			return nil, err
		}
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if c, ok := commands[words[0]]; ok {
			words[0] = c
		}
		for i, w := range words {
			if i > 0 {
				out.WriteByte(' ')
			}
			if w == "" || strings.ContainsAny(w, " \t\r\v\f") {
				w = `"` + w + `"`
			}
			out.WriteString(w)
		}
		out.WriteByte('\n')
	}
	return []byte(out.String()), nil
}
