package simulator

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// fateful makes the path of a walk that ended with v at addr.
func fateful(v verdict.Verdict, addr string) *verdict.Path {
	return &verdict.Path{Verdict: v, Delivered: v == verdict.Reachable, Destination: verdict.Destination{IP: addr}}
}

func doubtAbout(what string) *verdict.Finding {
	f := verdict.NewFindingf(verdict.UnmodelledRule, verdict.Where{}, nil, "%s", what)
	return &f
}

type shares map[string]float64

func sharesOf(t *testing.T, paths []verdict.Path) shares {
	t.Helper()
	got := shares{}
	for _, p := range paths {
		if p.Probability == nil {
			t.Fatalf("path to %s has no probability", p.Destination.IP)
		}
		got[p.Destination.IP+" "+string(p.Verdict)] += *p.Probability
	}
	return got
}

func TestEveryAlternativeOfADiceIsWalkedWithItsProbability(t *testing.T) {
	// As kube-proxy chooses among three backends: 1/3, then 1/2 of the rest.
	walks := 0
	paths := explore(func(d *dice) *verdict.Path {
		walks++
		if d.ask(choice{alternatives: 2, weights: []float64{0.25, 0.75}}) == 0 {
			return fateful(verdict.Reachable, "a")
		}
		if d.ask(choice{alternatives: 2, weights: []float64{0.5, 0.5}}) == 0 {
			return fateful(verdict.Unreachable, "b")
		}
		return fateful(verdict.Reachable, "c")
	}, nil)
	want := shares{"a reachable": 0.25, "b unreachable": 0.375, "c reachable": 0.375}
	if diff := cmp.Diff(want, sharesOf(t, paths)); diff != "" {
		t.Error(diff)
	}
	if walks != 3 {
		t.Errorf("%d walks for 3 outcomes", walks)
	}
	if got := Join(paths); got != verdict.Degraded {
		t.Errorf("verdict %s of some paths that pass and some that fail", got)
	}
}

func TestADoubtThatChangesNothingIsCertain(t *testing.T) {
	paths := explore(func(d *dice) *verdict.Path {
		d.ask(choice{alternatives: 2, doubt: doubtAbout("match recent")})
		return fateful(verdict.Unreachable, "a")
	}, nil)
	if len(paths) != 1 || paths[0].Verdict != verdict.Unreachable || len(paths[0].Findings) != 0 {
		t.Errorf("got %+v, want one unreachable path without the doubt", paths)
	}
}

func TestADoubtThatDecidesIsUnknownAndNamed(t *testing.T) {
	paths := explore(func(d *dice) *verdict.Path {
		if d.ask(choice{alternatives: 2, doubt: doubtAbout("match recent")}) == 1 {
			return fateful(verdict.Unreachable, "a")
		}
		return fateful(verdict.Reachable, "a")
	}, nil)
	if len(paths) != 1 || paths[0].Verdict != verdict.Unknown || paths[0].Delivered ||
		len(paths[0].Findings) != 1 || paths[0].Findings[0].Code != verdict.UnmodelledRule {
		t.Errorf("got %+v, want one unknown path with the doubt as its finding", paths)
	}
}

// As kube-proxy keeps a client with the backend that it had before, if it has.
func TestADoubtAboutWhichBackendTakesTheConnectionIsNone(t *testing.T) {
	backends := func(p *verdict.Path) bool { return p.Destination.IP != "elsewhere" }
	sticky := func(last verdict.Verdict, to string) []verdict.Path {
		return explore(func(d *dice) *verdict.Path {
			if d.ask(choice{alternatives: 2, doubt: doubtAbout("match recent")}) == 1 {
				return fateful(verdict.Reachable, "a")
			}
			if d.ask(choice{alternatives: 2, weights: []float64{0.5, 0.5}}) == 0 {
				return fateful(verdict.Reachable, "a")
			}
			return fateful(last, to)
		}, backends)
	}
	paths := sticky(verdict.Reachable, "b")
	if len(paths) != 2 || paths[0].Destination.IP != "a" || paths[1].Destination.IP != "b" || paths[0].Probability != nil || Join(paths) != verdict.Reachable {
		t.Errorf("got %+v, want one path to each backend, reachable", paths)
	}
	if paths := sticky(verdict.Unreachable, "b"); Join(paths) != verdict.Unknown {
		t.Errorf("got %+v, want unknown where one of the backends fails", paths)
	}
	if paths := sticky(verdict.Reachable, "elsewhere"); Join(paths) != verdict.Unknown {
		t.Errorf("got %+v, want unknown where one way leads to no backend", paths)
	}
}

func TestADoubtOnOneBackendLeavesTheOthersCertain(t *testing.T) {
	paths := explore(func(d *dice) *verdict.Path {
		if d.ask(choice{alternatives: 2, weights: []float64{0.5, 0.5}}) == 0 {
			return fateful(verdict.Reachable, "a")
		}
		if d.ask(choice{alternatives: 2, doubt: doubtAbout("target NFQUEUE")}) == 0 {
			return fateful(verdict.Reachable, "b")
		}
		return fateful(verdict.Unreachable, "b")
	}, nil)
	want := shares{"a reachable": 0.5, "b unknown": 0.5}
	if diff := cmp.Diff(want, sharesOf(t, paths)); diff != "" {
		t.Error(diff)
	}
	if got := Join(paths); got != verdict.Unknown {
		t.Errorf("verdict %s: the unknown path could turn reachable into degraded", got)
	}
}

func TestTooManyAlternativesAreUnknown(t *testing.T) {
	walks := 0
	paths := explore(func(d *dice) *verdict.Path {
		walks++
		for range 64 {
			d.ask(choice{alternatives: 2, weights: []float64{0.5, 0.5}})
		}
		return fateful(verdict.Reachable, "a")
	}, nil)
	if walks != maxWalks {
		t.Errorf("%d walks, bound is %d", walks, maxWalks)
	}
	found := false
	for _, p := range paths {
		found = found || p.Verdict == verdict.Unknown && p.Findings[0].Code == verdict.TooManyBranches
	}
	if !found {
		t.Error("no path says TooManyBranches")
	}
	if got := Join(paths); got != verdict.Unknown {
		t.Errorf("verdict %s, want unknown", got)
	}
}

func TestJoin(t *testing.T) {
	r, d, u, k := verdict.Reachable, verdict.Degraded, verdict.Unreachable, verdict.Unknown
	for _, test := range []struct {
		paths []verdict.Verdict
		want  verdict.Verdict
	}{
		{[]verdict.Verdict{r, r}, r},
		{[]verdict.Verdict{u, u}, u},
		{[]verdict.Verdict{d}, d},
		{[]verdict.Verdict{r, u}, d},
		{[]verdict.Verdict{r, d}, d},
		{[]verdict.Verdict{u, d}, d},
		{[]verdict.Verdict{k, k}, k},
		{[]verdict.Verdict{r, k}, k},    // reachable or degraded
		{[]verdict.Verdict{u, k}, k},    // unreachable or degraded
		{[]verdict.Verdict{d, k}, d},    // degraded either way
		{[]verdict.Verdict{r, u, k}, d}, // degraded either way
	} {
		var paths []verdict.Path
		for _, v := range test.paths {
			paths = append(paths, verdict.Path{Verdict: v})
		}
		if got := Join(paths); got != test.want {
			t.Errorf("Join(%v) = %s, want %s", test.paths, got, test.want)
		}
	}
}
