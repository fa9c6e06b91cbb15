package verdict

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// textWidth is where WriteText folds sentences: what fits a terminal.
const textWidth = 80

// WriteText writes the report for people: the verdict, the reason and its
// remedy, and each path as a short tree with the broken hop marked.
func (r *Report) WriteText(w io.Writer) error {
	t := &textWriter{Writer: bufio.NewWriter(w)}
	t.head(r)
	for i := range r.Reasons {
		t.reason(&r.Reasons[i], i == 0)
	}
	if r.Resolution != nil {
		t.resolution(r.Resolution)
	}
	for i := range r.Paths {
		t.path(&r.Paths[i], i+1, len(r.Paths))
	}
	t.footer(r)
	return t.Flush()
}

type textWriter struct{ *bufio.Writer }

func (t *textWriter) printf(format string, args ...any) { fmt.Fprintf(t, format, args...) }

func (t *textWriter) head(r *Report) {
	q := &r.Query
	t.printf("%s  %s -> %s", strings.ToUpper(string(r.Verdict)), q.From, q.To)
	if q.Port != 0 {
		t.printf(" %d", q.Port)
	}
	t.printf("/%s%s\n", q.Protocol, fates(r.Paths))
}

// fates are how many paths end otherwise than well, if not all end alike.
func fates(paths []Path) string {
	count := make(map[Verdict]int)
	for i := range paths {
		count[paths[i].Verdict]++
	}
	if len(count) < 2 {
		return ""
	}
	var bad []string
	for _, v := range []Verdict{Unreachable, Degraded, Unknown} {
		if n := count[v]; n > 0 {
			bad = append(bad, fmt.Sprintf("%d of %d paths %s", n, len(paths), v))
		}
	}
	return ": " + strings.Join(bad, ", ")
}

func (t *textWriter) reason(f *Finding, first bool) {
	label := "also"
	if first {
		label = "reason"
	}
	t.printf("\n%-7s %s (%s)\n", label, f.Code, f.Severity)
	t.fold("        ", f.Message)
	for _, e := range f.Evidence {
		t.fold("        | ", e)
	}
	if f.Severity == SeverityFatal || f.Severity == SeverityUndecided || f.Severity == SeverityPartial || first {
		t.fold("        fix: ", f.Remedy)
	}
}

// fold writes text in lines of at most textWidth, each with the indent.
func (t *textWriter) fold(indent, text string) {
	line := indent
	for _, word := range strings.Fields(text) {
		if len(line)+len(word)+1 > textWidth && len(line) > len(indent) {
			t.printf("%s\n", strings.TrimRight(line, " "))
			line = strings.Repeat(" ", len(indent))
		}
		line += word + " "
	}
	t.printf("%s\n", strings.TrimRight(line, " "))
}

func (t *textWriter) resolution(n *Resolution) {
	t.printf("\nname    by %s\n", n.Config)
	for _, tried := range n.Tried {
		t.fold("        ", fmt.Sprintf("%s at %s: %s", tried.Name, tried.Server, tried.Answer))
	}
}

func (t *textWriter) path(p *Path, number, of int) {
	t.printf("\n")
	if of > 1 {
		t.printf("path %d of %d", number, of)
		if p.Probability != nil {
			t.printf(" (%.0f %%)", 100**p.Probability)
		}
		t.printf("  ")
	} else {
		t.printf("path  ")
	}
	t.printf("%s, client sees: %s\n", p.Verdict, p.Outcome)
	t.hops(p.Hops)
	if len(p.Reverse) > 0 {
		t.printf("  reply\n")
		t.hops(p.Reverse)
	}
}

func (t *textWriter) hops(hops []Hop) {
	for i := range hops {
		h := &hops[i]
		mark := " "
		if broken(h) {
			mark = "X"
		}
		name := h.Namespace
		if name == "" {
			name = string(h.Kind)
		}
		line := fmt.Sprintf("  %s %-24s %-6s %s", mark, name, h.Kind, between(h.In, h.Out))
		t.printf("%s\n", strings.TrimRight(line, " "))
		for _, s := range h.Steps {
			if s.Packet != "" {
				t.printf("      %s: %s\n", s.Stage, s.Packet)
			}
		}
		for j := range h.Findings {
			f := &h.Findings[j]
			t.fold("      => ", fmt.Sprintf("%s: %s", f.Code, f.Message))
		}
	}
}

func broken(h *Hop) bool {
	for i := range h.Findings {
		switch h.Findings[i].Severity {
		case SeverityFatal, SeverityUndecided, SeverityPartial:
			return true
		}
	}
	return false
}

func between(in, out string) string {
	switch {
	case in == "" && out == "":
		return ""
	case in == "":
		return "-> " + out
	case out == "":
		return in + " ->"
	}
	return in + " -> " + out
}

func (t *textWriter) footer(r *Report) {
	if o := r.Observed; o != nil {
		judgement := "which decides nothing"
		if o.Agrees != nil && *o.Agrees {
			judgement = "as simulated"
		} else if o.Agrees != nil {
			judgement = "NOT as simulated"
		}
		t.printf("\n")
		t.fold("observed ", fmt.Sprintf("%s, %s: %s", o.Outcome, judgement, o.Detail))
	}
	if r.Policy.Verdict != PolicyNone {
		t.printf("\npolicy   %s", r.Policy.Verdict)
		if len(r.Policy.Policies) > 0 {
			t.printf(" by %s", strings.Join(r.Policy.Policies, ", "))
		}
		t.printf("\n")
	}
	if r.Coverage.Unmodelled > 0 {
		t.printf("\nrules    %d of %d use something that is not modelled\n", r.Coverage.Unmodelled, r.Coverage.Rules)
	}
	if len(r.Assumptions) > 0 {
		t.printf("\n")
		for _, a := range r.Assumptions {
			t.fold("assumed  ", a)
		}
	}
}
