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
