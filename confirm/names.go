package confirm

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/resolver"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Bounds of what is asked about names.
const (
	// A resolver has three servers at most, which may all be silent, and some candidates.
	maxQuestions = 32
	dnsAllTime   = 15 * time.Second // for one query
	// An answer is kept as long as its records say, but never for less or more than this.
	// Silence and failures are not: they may be over.
	minKept, maxKept = 5 * time.Second, time.Minute
	maxAnswers       = 4096
)

// Heard is an answer of a name server, and how long its records are good for.
type Heard struct {
	resolver.Answer
	TTL time.Duration
}

// Asker asks a name server, from the network namespace of the question. The error
// says why nothing was asked.
type Asker func(ctx context.Context, q resolver.Question) (Heard, error)

// Names asks name servers what neither the objects of a cluster nor a snapshot tell. It
// keeps the answers for as long as they are good. It may be used by several goroutines.
// A nil *Names asks nobody.
type Names struct {
	Ask   Asker
	Limit *rate.Limiter // of questions; nil for none

	mu   sync.Mutex
	kept map[resolver.Question]kept
}

type kept struct {
	answer    resolver.Answer
	at, until time.Time
}

// Diagnose is what w says of a query, with what name servers answer where it asks
// about a name.
func (n *Names) Diagnose(ctx context.Context, w *simulator.World, q verdict.Query) (*verdict.Report, error) {
	return n.diagnose(w, q, func(l *simulator.Lookup) { n.follow(ctx, l, n.answer) })
}

// Recall is Diagnose with the answers alone that are kept.
func (n *Names) Recall(w *simulator.World, q verdict.Query) (*verdict.Report, error) {
	return n.diagnose(w, q, n.recallAll)
}

// Asks says whether Diagnose has to ask a name server.
func (n *Names) Asks(w *simulator.World, q verdict.Query) bool {
	if n == nil {
		return false
	}
	l, err := w.LookUp(q)
	if err != nil {
		return false
	}
	n.recallAll(l)
	return l.Question() != nil
}

// recallAll answers questions with what is kept.
func (n *Names) recallAll(l *simulator.Lookup) {
	n.follow(context.Background(), l, func(_ context.Context, q resolver.Question) (resolver.Answer, bool) { return n.recall(q) })
}

func (n *Names) diagnose(w *simulator.World, q verdict.Query, tell func(*simulator.Lookup)) (*verdict.Report, error) {
	if n == nil {
		return w.Diagnose(q)
	}
	l, err := w.LookUp(q)
	if err != nil {
		return nil, err
	}
	tell(l)
	return l.Report(), nil
}

// Resolve has the name that a query is for resolved as the source's resolver would do now:
// it asks whatever that would ask. Without an address, it says why.
func (n *Names) Resolve(ctx context.Context, w *simulator.World, q *verdict.Query) (addrs []netip.Addr, why string, err error) {
	l, err := w.LookUpLive(*q)
	if err != nil {
		return nil, "", err
	}
	if n == nil && l.Question() != nil {
		return nil, "", errors.New("nobody asks name servers here")
	}
	n.follow(ctx, l, func(ctx context.Context, q resolver.Question) (a resolver.Answer, ok bool) {
		var h Heard
		if h, err = n.ask(ctx, q); err == nil {
			n.keep(h, false)
		}
		return h.Answer, err == nil
	})
	if err != nil {
		return nil, "", err
	}
	return l.Found()
}

// follow answers the questions of a lookup, as far as there are answers.
func (n *Names) follow(ctx context.Context, l *simulator.Lookup, answer func(context.Context, resolver.Question) (resolver.Answer, bool)) {
	ctx, cancel := context.WithTimeout(ctx, dnsAllTime)
	defer cancel()
	for range maxQuestions {
		q := l.Question()
		if q == nil {
			return
		}
		a, ok := answer(ctx, *q)
		if !ok {
			return
		}
		l.Answer(a)
	}
}

func (n *Names) answer(ctx context.Context, q resolver.Question) (resolver.Answer, bool) {
	if a, ok := n.recall(q); ok {
		return a, true
	}
	h, err := n.ask(ctx, q)
	if err != nil {
		return resolver.Answer{}, false
	}
	n.keep(h, true)
	return h.Answer, true
}

// ask asks, whatever is kept.
func (n *Names) ask(ctx context.Context, q resolver.Question) (Heard, error) {
	if n.Limit != nil {
		if err := n.Limit.Wait(ctx); err != nil {
			return Heard{}, err
		}
	}
	heard, err := n.Ask(ctx, q)
	if err == nil {
		err = ctx.Err() // silence until then says nothing
	}
	return heard, err
}

// keep keeps an answer: in place of an older one, or also a new one. What a diagnosis
// did not have to ask for is no part of it.
func (n *Names) keep(heard Heard, also bool) {
	q, now := heard.Question, time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, there := n.kept[q]; !there && !also {
		return
	}
	if len(n.kept) >= maxAnswers {
		for q, k := range n.kept {
			if now.After(k.until) {
				delete(n.kept, q)
			}
		}
	}
	if n.kept == nil || len(n.kept) >= maxAnswers {
		n.kept = make(map[resolver.Question]kept)
	}
	k := kept{answer: heard.Answer, at: now, until: now}
	if heard.Status == resolver.OK || heard.Status == resolver.NotFound {
		k.until = now.Add(min(max(heard.TTL, minKept), maxKept))
	}
	n.kept[q] = k
}

func (n *Names) recall(q resolver.Question) (resolver.Answer, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	k, ok := n.kept[q]
	return k.answer, ok && time.Now().Before(k.until)
}

// Known are the answers since then, for whoever wants to diagnose again what was diagnosed
// with them. It forgets older ones.
func (n *Names) Known(since time.Time) (list []resolver.Answer) {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for q, k := range n.kept {
		if k.at.Before(since) {
			delete(n.kept, q)
			continue
		}
		list = append(list, k.answer)
	}
	resolver.SortAnswers(list)
	return list
}

// World is a simulated network and those who ask its name servers: a Subject.
type World struct {
	*simulator.World
	Names *Names
}

// Diagnose implements Subject.
func (w World) Diagnose(ctx context.Context, q verdict.Query) (*verdict.Report, error) {
	return w.Names.Diagnose(ctx, w.World, q)
}

// Resolve implements Subject.
func (w World) Resolve(ctx context.Context, q *verdict.Query) ([]netip.Addr, string, error) {
	return w.Names.Resolve(ctx, w.World, q)
}
