package simulator

import (
	"slices"

	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// maxWalks bounds how often a query is walked: once for each combination of
// alternatives. Hitting it is a finding (TooManyBranches), never silence.
const maxWalks = 1024

// maxQuestions bounds how much one walk may ask. One that asks more stands for
// more ways than could be walked.
const maxQuestions = 256

// A walk is straight-line code, like the kernel's, that asks its dice wherever
// there are alternatives. The query is walked again for each of them, and the
// answers are joined as a tree: alternatives with a probability are all real,
// those of something unknown only matter if they disagree.

// choice is one question that a walk asked its dice.
type choice struct {
	alternatives int
	weights      []float64 // nil for something unknown or not weighable
	// doubt is set for what cannot be known: it becomes the reason if the
	// alternatives disagree.
	doubt *verdict.Finding
	taken int
}

// dice answers the questions of one walk: by script as far as that goes, then
// always with the first alternative. It logs what was asked.
type dice struct {
	script []int
	log    []choice
	full   bool // more was asked than may be
}

func (d *dice) ask(c choice) int {
	if len(d.log) == maxQuestions {
		d.full = true
		return 0
	}
	if at := len(d.log); at < len(d.script) {
		c.taken = d.script[at]
	}
	d.log = append(d.log, c)
	return c.taken
}

// again makes ready for the same walk once more.
func (d *dice) again() {
	d.script = make([]int, len(d.log))
	for i := range d.log {
		d.script[i] = d.log[i].taken
	}
	d.log, d.full = d.log[:0], false
}

// draws says which packets of a connection share what is drawn for them: one
// after the other would ask the same again, and double the walks.
type draws uint8

const (
	drawsAlone draws = iota
	drawsForth       // a segment of the established connection
	drawsBack
)

// drawKey is a question about a segment of the established connection: the nth
// of its kind.
type drawKey struct {
	draws draws
	host  *host
	rule  netfilter.Rule
	what  string
	nth   int
}

// draw asks the dice, unless a segment before this one has.
func (l *leg) draw(key drawKey, c choice) int {
	if l.draws == drawsAlone {
		return l.dice.ask(c)
	}
	key.draws, key.host = l.draws, l.host
	asked := key
	for i := range l.asked {
		if l.asked[i] == asked {
			key.nth++
		}
	}
	l.asked = append(l.asked, asked)
	taken, known := l.drawn[key]
	if !known {
		taken = l.dice.ask(c)
		l.drawn[key] = taken
	}
	return taken
}

// branch is a node of the tree of alternatives: a question with its answers,
// or a leaf with the path of one walk.
type branch struct {
	choice
	kids []*branch
	path *verdict.Path
}

// explore walks once for each combination of alternatives and joins the paths.
// Where a doubt is only about which of several paths is taken, of those that
// equivalent names (nil for none), and they end alike, the verdict is certain.
func explore(walk func(*dice) *verdict.Path, equivalent func(*verdict.Path) bool) []verdict.Path {
	root := &branch{}
	pending := [][]int{nil}
	for walks := 0; len(pending) > 0 && walks < maxWalks; walks++ {
		script := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		d := &dice{script: script}
		path := walk(d)
		if d.full {
			tooMany := notWalked()
			path = &tooMany
		}
		// Alternatives are pushed so that they come out in order, depth first.
		for at := len(script); at < len(d.log) && !d.full; at++ {
			for alternative := d.log[at].alternatives - 1; alternative > 0; alternative-- {
				next := make([]int, at+1)
				for i := range at {
					next[i] = d.log[i].taken
				}
				next[at] = alternative
				pending = append(pending, next)
			}
		}
		root.insert(d.log, path)
	}
	return root.fold(equivalent)
}

func (b *branch) insert(log []choice, path *verdict.Path) {
	for _, c := range log {
		if b.kids == nil {
			b.choice = c
			b.kids = make([]*branch, c.alternatives)
		}
		if b.kids[c.taken] == nil {
			b.kids[c.taken] = &branch{}
		}
		b = b.kids[c.taken]
	}
	b.path = path
}

// fold joins the paths below the branch.
func (b *branch) fold(equivalent func(*verdict.Path) bool) []verdict.Path {
	if b.path != nil {
		one := 1.0
		b.path.Probability = &one
		return []verdict.Path{*b.path}
	}
	if b.doubt != nil {
		return b.foldDoubt(equivalent)
	}
	var paths []verdict.Path
	for i, kid := range b.kids {
		var below []verdict.Path
		if kid == nil {
			below = []verdict.Path{notWalked()}
		} else {
			below = kid.fold(equivalent)
		}
		for j := range below {
			p := &below[j]
			if b.weights == nil || p.Probability == nil {
				p.Probability = nil
				continue
			}
			weighed := *p.Probability * b.weights[i]
			p.Probability = &weighed
		}
		paths = append(paths, below...)
	}
	return paths
}

// foldDoubt joins alternatives of which only one is real, nobody knows which.
func (b *branch) foldDoubt(equivalent func(*verdict.Path) bool) []verdict.Path {
	var first, all []verdict.Path
	agree, verdictsAgree := true, true
	for _, kid := range b.kids {
		if kid == nil {
			agree, verdictsAgree = false, false
			continue
		}
		below := kid.fold(equivalent)
		all = append(all, below...)
		if first == nil {
			first = below
			continue
		}
		agree = agree && sameFates(first, below, fateOf)
		verdictsAgree = verdictsAgree && sameFates(first, below, lessOutcome)
	}
	if agree {
		forgetSources(first, all[len(first):], b.doubt)
		return first
	}
	if equivalent != nil && !slices.Contains(b.kids, nil) && endAlike(all, equivalent) {
		first = withoutWeights(all)
		forgetSources(first, all, b.doubt)
		return first
	}
	for i := range first {
		p := &first[i]
		p.Outcome = verdict.OutcomeUnknown
		doubt := *b.doubt
		if verdictsAgree {
			// Only what the client hears of it is not known.
			doubt.Severity = verdict.SeverityInfo
			p.Findings = append(p.Findings, doubt)
			continue
		}
		p.Verdict, p.Delivered = verdict.Unknown, false
		p.Findings = append([]verdict.Finding{doubt}, dropFatal(p.Findings)...)
	}
	return first
}

// forgetSources takes from paths whom the receiver sees, where others of the same
// fate say someone else, and says why.
func forgetSources(paths, others []verdict.Path, doubt *verdict.Finding) {
	for i := range paths {
		p := &paths[i]
		differs := func(o verdict.Path) bool { return fateOf(&o) == fateOf(p) && o.SeenAs != p.SeenAs }
		if p.Delivered && p.SeenAs != (verdict.Source{}) && slices.ContainsFunc(others, differs) {
			f := *doubt
			f.Severity = verdict.SeverityInfo
			p.SeenAs, p.Findings = verdict.Source{}, append(p.Findings, f)
		}
	}
}

// endAlike says whether all paths are equivalent, and what becomes of the
// connection is the same on each.
func endAlike(paths []verdict.Path, equivalent func(*verdict.Path) bool) bool {
	for i := range paths {
		if p := &paths[i]; p.Verdict == verdict.Unknown || p.Verdict != paths[0].Verdict || p.Outcome != paths[0].Outcome || !equivalent(p) {
			return false
		}
	}
	return true
}

// withoutWeights are the paths that lead to different places, each once: how
// likely one is, is not known.
func withoutWeights(paths []verdict.Path) []verdict.Path {
	seen := make(map[verdict.Destination]bool)
	var different []verdict.Path
	for _, p := range paths {
		if seen[p.Destination] {
			continue
		}
		seen[p.Destination] = true
		p.Probability = nil
		different = append(different, p)
	}
	return different
}

// dropFatal removes what ends only one of two possible ways.
func dropFatal(findings []verdict.Finding) []verdict.Finding {
	var kept []verdict.Finding
	for _, f := range findings {
		if f.Severity != verdict.SeverityFatal && f.Severity != verdict.SeverityPartial {
			kept = append(kept, f)
		}
	}
	return kept
}

// fate is what two alternatives have to agree on.
type fate struct {
	verdict verdict.Verdict
	outcome verdict.Outcome
	to      verdict.Destination
}

func sameFates(a, b []verdict.Path, of func(*verdict.Path) fate) bool {
	count := make(map[fate]int)
	for i := range a {
		count[of(&a[i])]++
	}
	for i := range b {
		f := of(&b[i])
		if count[f] == 0 {
			return false
		}
		count[f]--
	}
	return len(a) == len(b)
}

func fateOf(p *verdict.Path) fate {
	f := fate{verdict: p.Verdict, outcome: p.Outcome}
	if p.Delivered {
		f.to = p.Destination
	}
	return f
}

// lessOutcome is the fate without what the client hears.
func lessOutcome(p *verdict.Path) fate {
	f := fateOf(p)
	f.outcome = ""
	return f
}

func notWalked() verdict.Path {
	return verdict.Path{
		Verdict: verdict.Unknown, Outcome: verdict.OutcomeUnknown,
		Translations: []verdict.Translation{}, Hops: []verdict.Hop{}, Reverse: []verdict.Hop{},
		Findings: []verdict.Finding{verdict.NewFinding(verdict.TooManyBranches, verdict.Where{}, nil, maxWalks)},
	}
}
