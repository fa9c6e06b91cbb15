package netfilter

import "strings"

// lineScanner goes through the lines of a dump, and knows where it is.
type lineScanner struct {
	file string
	text string // what is left
	line int    // number of cur, from 1
	cur  string
	// tokens is reused from line to line.
	tokens []string
}

func (s *lineScanner) next() bool {
	if s.text == "" {
		return false
	}
	s.line++
	s.cur, s.text, _ = strings.Cut(s.text, "\n")
	s.cur = strings.TrimSuffix(s.cur, "\r")
	return true
}

func (s *lineScanner) errorf(token, msg string) error {
	return &SyntaxError{File: s.file, Line: s.line, Token: token, Msg: msg}
}

// fields splits the current line as the restore commands do: white space
// separates, double quotes keep it, and a backslash inside quotes takes the
// next character as it is.
func (s *lineScanner) fields() ([]string, error) {
	s.tokens = s.tokens[:0]
	line := s.cur
	i := 0
	for {
		for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
			i++
		}
		if i == len(line) {
			return s.tokens, nil
		}
		if line[i] != '"' {
			start := i
			for i < len(line) && line[i] != ' ' && line[i] != '\t' {
				i++
			}
			s.tokens = append(s.tokens, line[start:i])
			continue
		}
		start := i
		i++
		escaped := false
		for i < len(line) && line[i] != '"' {
			if line[i] == '\\' {
				escaped = true
				i++
			}
			i++
		}
		if i >= len(line) {
			return nil, s.errorf(line[start:], "quote is not closed")
		}
		token := line[start+1 : i]
		if escaped {
			token = unescape(token)
		}
		s.tokens = append(s.tokens, token)
		i++
	}
}

// declaration reads ":NAME POLICY [packets:bytes]", by which chains are declared.
func (s *lineScanner) declaration() (name, policy string, err error) {
	fields, err := s.fields()
	if err != nil {
		return "", "", err
	}
	name = fields[0][1:]
	switch {
	case name == "":
		return "", "", s.errorf(s.cur, "chain has no name")
	case len(fields) < 2:
		return "", "", s.errorf(s.cur, "chain has no policy")
	case len(fields) > 3:
		return "", "", s.errorf(fields[3], "unexpected text after the chain's counters")
	case len(fields) == 3 && !validCounters(fields[2]):
		return "", "", s.errorf(fields[2], "invalid counters")
	}
	return name, fields[1], nil
}

// addition reads "[packets:bytes] -A CHAIN …", by which rules are added: the chain,
// what the rule consists of, and the line without counters. Spelt is another name that the
// tool may have for -A.
func (s *lineScanner) addition(spelt string) (chain string, rule []string, text string, err error) {
	tokens, err := s.fields()
	if err != nil {
		return "", nil, "", err
	}
	text = s.cur
	if strings.HasPrefix(tokens[0], "[") {
		if !validCounters(tokens[0]) {
			return "", nil, "", s.errorf(tokens[0], "invalid counters")
		}
		text = strings.TrimSpace(text[len(tokens[0]):])
		tokens = tokens[1:]
	}
	if len(tokens) == 0 || tokens[0] != "-A" && tokens[0] != spelt {
		return "", nil, "", s.errorf(firstWord(text), "expected -A CHAIN")
	}
	if len(tokens) == 1 {
		return "", nil, "", s.errorf(tokens[0], "option needs a value")
	}
	return tokens[1], tokens[2:], text, nil
}

func firstWord(line string) string {
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		return line[:i]
	}
	return line
}

// validCounters accepts "[12:3456]".
func validCounters(text string) bool {
	inner, ok := strings.CutPrefix(text, "[")
	if !ok {
		return false
	}
	if inner, ok = strings.CutSuffix(inner, "]"); !ok {
		return false
	}
	packets, bytes, ok := strings.Cut(inner, ":")
	return ok && isDigits(packets) && isDigits(bytes)
}

func isDigits(text string) bool {
	if text == "" {
		return false
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return true
}

func unescape(text string) string {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+1 < len(text) {
			i++
		}
		out = append(out, text[i])
	}
	return string(out)
}
