package resolver

import (
	"cmp"
	"net/netip"
	"slices"
)

// Question is a name that a resolver asks a name server for, from a network
// namespace. Both address records are meant, A and AAAA: a resolver asks for
// them at the same time.
type Question struct {
	Namespace string // network namespace of the resolver
	Server    netip.Addr
	Name      string // in lower case, without a final dot
}

// Status is what became of a question.
type Status string

// What becomes of questions. A name that exists and has no address is OK, without
// addresses.
const (
	OK       Status = "ok"
	NotFound Status = "not-found" // NXDOMAIN
	Failed   Status = "failed"    // SERVFAIL, REFUSED and the like: the next server may do better
	Timeout  Status = "timeout"   // silence
)

// Valid says whether s is one of the statuses.
func (s Status) Valid() bool { return s == OK || s == NotFound || s == Failed || s == Timeout }

// Answer is what became of one question.
type Answer struct {
	Question
	Status    Status
	Addresses []netip.Addr // as the server ordered them
	// Detail is the response code, or the error, for people.
	Detail string
}

// Answers are those that are known, by their questions.
type Answers map[Question]Answer

// AnswersOf indexes a list; of two answers to a question, the later counts.
func AnswersOf(list []Answer) Answers {
	known := make(Answers, len(list))
	for _, a := range list {
		known[a.Question] = a
	}
	return known
}

// SortAnswers sorts by the questions.
func SortAnswers(list []Answer) {
	slices.SortFunc(list, func(a, b Answer) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), a.Server.Compare(b.Server), cmp.Compare(a.Name, b.Name))
	})
}
