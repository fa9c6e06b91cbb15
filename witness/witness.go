// Package witness lets a leader go on while the API server that holds its lease is away:
// agents remember who leads as far as they were told, and a majority of them may let
// the holder of the latest term lead on, for a few seconds at a time.
package witness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/plumbline-net/plumbline/internal/strictjson"
)

// Path is where an agent is told who leads, and asked for grants.
const Path = "/agent/v1/leader"

// Grant is how long the grant of an agent holds, by the agent's clock. Trust is how long
// the leader relies on it, by its own and from before it asked: what it is at when it stops
// has the rest to end, and their clocks need not go alike.
const (
	Grant = 10 * time.Second
	Trust = Grant * 4 / 5
)

// Bounds of what is told, in bytes, and of the leases that an agent remembers.
const (
	maxName   = 512
	maxAnswer = 16 << 10
	maxGone   = 16
)

// Term is the time for which one holder has a lease. Of one lease the greater number is
// the later term.
type Term struct {
	Lease  string `json:"lease"`  // its UID: a lease that was deleted and made anew is another one
	Number int64  `json:"number"` // how often it changed hands
	Holder string `json:"holder"`
}

// after says whether t is known to be later than u.
func (t Term) after(u Term) bool { return t.Lease == u.Lease && t.Number > u.Number }

// String is "holder NAME, term 3".
func (t Term) String() string { return fmt.Sprintf("holder %s, term %d", t.Holder, t.Number) }

// validate says why it is none.
func (t Term) validate() error {
	switch {
	case t.Lease == "" || len(t.Lease) > maxName:
		return errors.New("lease: want a UID")
	case t.Holder == "" || len(t.Holder) > maxName:
		return errors.New("holder: want a name")
	case t.Number < 0:
		return errors.New("number: want none below 0")
	}
	return nil
}

// Refusal says that an agent knows another leader, or none.
type Refusal struct{ Latest Term }

func (r *Refusal) Error() string {
	if r.Latest == (Term{}) {
		return "who leads is not known here"
	}
	return "another leads as far as is known here: " + r.Latest.String()
}

// errOutstanding refuses a grant while another one may hold.
var errOutstanding = errors.New("a grant to another, or from before this agent was started, may still hold")

// Witness remembers who leads, in memory only. It implements http.Handler.
type Witness struct {
	mu     sync.Mutex
	latest Term
	gone   []string // leases that there were before that of latest
	// granted is whom the last grant is to, which holds until then.
	granted Term
	until   time.Time
}

// New returns a witness that knows nobody. What it granted before it was started, it does
// not know any more: until that is over it is as if it had just granted something.
func New() *Witness { return &Witness{until: time.Now().Add(Grant)} }

// Confirm tells that the holder has renewed the lease just now. It returns how long a grant
// to somebody else may still hold.
func (w *Witness) Confirm(t Term) (outstanding time.Duration, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case t == w.latest || w.latest == (Term{}) || t.after(w.latest):
	case t.Lease == w.latest.Lease || slices.Contains(w.gone, t.Lease):
		// It was on its way for long. A lease that is gone does not come back.
		return 0, &Refusal{w.latest}
	default:
		w.gone = append(w.gone[max(0, len(w.gone)-maxGone+1):], w.latest.Lease)
	}
	w.latest = t
	if w.granted == t {
		return 0, nil
	}
	return max(0, time.Until(w.until)), nil
}

// Grant lets the holder of the latest term lead on for as long as it returns.
func (w *Witness) Grant(t Term) (time.Duration, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	switch {
	case t != w.latest:
		return 0, &Refusal{w.latest}
	case t != w.granted && now.Before(w.until):
		return 0, errOutstanding
	}
	w.granted, w.until = t, now.Add(Grant)
	return Grant, nil
}

// request is what an agent is told: that the lease is renewed, unless it is asked for a grant.
type request struct {
	Term
	Grant bool `json:"grant,omitempty"`
}

// Answer is what an agent answers: durations in nanoseconds.
type Answer struct {
	Outstanding time.Duration `json:"outstanding,omitempty"`
	Granted     time.Duration `json:"granted,omitempty"`
}

// refusal is the answer of an agent that refuses.
type refusal struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
	Latest *Term `json:"latest,omitempty"` // whom it knows instead
}

// ServeHTTP implements http.Handler. What is malformed is answered by 400, and what is
// refused by 409, with who leads instead.
func (w *Witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	var asked request
	err := strictjson.Decode(r.Body, &asked)
	if err == nil {
		err = asked.validate()
	}
	if err != nil {
		refuse(rw, http.StatusBadRequest, "bad-term", fmt.Errorf("leader: %w", err))
		return
	}
	var answer Answer
	if asked.Grant {
		answer.Granted, err = w.Grant(asked.Term)
	} else {
		answer.Outstanding, err = w.Confirm(asked.Term)
	}
	if err != nil {
		refuse(rw, http.StatusConflict, "not-the-leader", err)
		return
	}
	write(rw, http.StatusOK, answer)
}

func refuse(rw http.ResponseWriter, status int, code string, err error) {
	var answer refusal
	answer.Error.Code, answer.Error.Message = code, err.Error()
	var known *Refusal
	if errors.As(err, &known) {
		answer.Latest = &known.Latest
	}
	write(rw, status, answer)
}

func write(rw http.ResponseWriter, status int, answer any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(answer)
}

// Tell tells an agent that the holder of a term has renewed its lease, or asks it for a
// grant. The error is a *Refusal if the agent knows another leader.
func Tell(ctx context.Context, client *http.Client, agent *url.URL, t Term, grant bool) (Answer, error) {
	body, err := json.Marshal(request{t, grant})
	if err != nil {
		return Answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, agent.JoinPath(Path).String(), bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return Answer{}, err
	}
	if resp.StatusCode != http.StatusOK {
		var refused refusal
		if err := json.Unmarshal(data, &refused); err == nil && resp.StatusCode == http.StatusConflict && refused.Latest != nil {
			return Answer{}, &Refusal{*refused.Latest}
		}
		return Answer{}, fmt.Errorf("%s answers %s: %.300s", agent.Host, resp.Status, refused.Error.Message)
	}
	var answer Answer
	if err := json.Unmarshal(data, &answer); err != nil || answer.Outstanding < 0 || answer.Granted < 0 {
		return Answer{}, fmt.Errorf("%s: unreadable answer", agent.Host)
	}
	return answer, nil
}
