package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/rest"
)

// reviewServer is as much of an API server as reviews need: the token "of-NAME" is NAME's.
// It is reached without a network, so that time is the test's.
type reviewServer struct {
	mu        sync.Mutex
	audiences []string        // of all tokens; nil if it knows of none
	revoked   map[string]bool // tokens, and what users may do: "NAME VERB RESOURCE"
	status    int             // of all answers; 0 for what is right
	away      bool
	silent    chan struct{} // until it is closed, nothing is answered
	text      string        // what is answered instead
	asked     int
}

func (s *reviewServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *reviewServer) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// RoundTrip implements http.RoundTripper.
func (s *reviewServer) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	away, silent := s.away, s.silent
	s.asked++
	s.mu.Unlock()
	if away {
		return nil, syscall.ECONNREFUSED
	}
	if silent != nil {
		select {
		case <-silent:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Result(), nil
}

// CloseIdleConnections is asked for by Close.
func (s *reviewServer) CloseIdleConnections() {}

func (s *reviewServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if s.status != 0 {
		w.WriteHeader(s.status)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"as the test has it","code":%d}`, s.status)
		return
	}
	if s.text != "" {
		fmt.Fprint(w, s.text)
		return
	}
	w.WriteHeader(http.StatusCreated)
	switch r.URL.Path {
	case "/apis/authentication.k8s.io/v1/tokenreviews":
		var review authenticationv1.TokenReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			panic(err)
		}
		name, ok := strings.CutPrefix(review.Spec.Token, "of-")
		if ok && !s.revoked[review.Spec.Token] {
			review.Status.Authenticated, review.Status.User.Username, review.Status.Audiences = true, name, s.audiences
		}
		_ = json.NewEncoder(w).Encode(review)
	case "/apis/authorization.k8s.io/v1/subjectaccessreviews":
		var review authorizationv1.SubjectAccessReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			panic(err)
		}
		what := review.Spec.ResourceAttributes
		review.Status.Allowed = what.Namespace == "" && !s.revoked[review.Spec.User+" "+what.Verb+" "+what.Resource]
		_ = json.NewEncoder(w).Encode(review)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// reviewing runs a test against a server, with time of its own.
func reviewing(t *testing.T, audiences []string, test func(*testing.T, *reviewServer, *Reviewer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &reviewServer{revoked: make(map[string]bool)}
		r, err := NewReviewer(&rest.Config{Host: "http://api", Transport: s}, audiences)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		test(t, s, r)
	})
}

// outcome is what becomes of a token: its user's name, "nobody", or "not known".
func outcome(t *testing.T, r *Reviewer, token string) string {
	t.Helper()
	user, err := r.Authenticate(t.Context(), token, nil)
	switch {
	case errors.Is(err, ErrUnauthenticated):
		return "nobody"
	case err != nil && strings.Contains(err.Error(), token):
		t.Errorf("the token is in the error: %v", err)
	case err == nil:
		return user.Name
	}
	return "not known"
}

var listReports = Action{Verb: "list", Group: "plumbline.net", Resource: "reports"}

// right is whether ann may list reports: "yes", "no" or "not known".
func right(t *testing.T, r *Reviewer) string {
	t.Helper()
	allowed, err := r.Allowed(t.Context(), &User{Name: "ann"}, listReports)
	switch {
	case err != nil:
		return "not known"
	case allowed:
		return "yes"
	}
	return "no"
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}

func TestWhatIsRevokedHoldsForTenSeconds(t *testing.T) {
	reviewing(t, nil, func(t *testing.T, s *reviewServer, r *Reviewer) {
		expect(t, "ann's token", outcome(t, r, "of-ann"), "ann")
		expect(t, "her right", right(t, r), "yes")
		expect(t, "a token of nobody", outcome(t, r, "nonsense"), "nobody")
		s.set(func() { s.revoked["of-ann"], s.revoked["ann list reports"] = true, true })
		time.Sleep(10*time.Second - 1)
		expect(t, "her token, just before ten seconds", outcome(t, r, "of-ann"), "ann")
		expect(t, "her right, just before ten seconds", right(t, r), "yes")
		if n := s.questions(); n != 3 {
			t.Errorf("the API server was asked %d times, want 3", n)
		}
		time.Sleep(time.Nanosecond)
		expect(t, "her token after ten seconds", outcome(t, r, "of-ann"), "nobody")
		expect(t, "her right after ten seconds", right(t, r), "no")
	})
}

func TestTokensForOthersAreNobodys(t *testing.T) {
	for _, test := range []struct {
		wanted, has []string
		want        string
	}{
		{nil, nil, "ann"},
		{nil, []string{"api"}, "ann"},
		{[]string{"plumbline", "other"}, []string{"other"}, "ann"},
		{[]string{"plumbline"}, []string{"api"}, "nobody"},
		{[]string{"plumbline"}, nil, "nobody"}, // the server does not know of audiences
	} {
		reviewing(t, test.wanted, func(t *testing.T, s *reviewServer, r *Reviewer) {
			s.set(func() { s.audiences = test.has })
			expect(t, fmt.Sprintf("of %q, for %q", test.has, test.wanted), outcome(t, r, "of-ann"), test.want)
		})
	}
}

func TestWhileTheAPIServerIsAwayItsAnswersHoldForFiveMinutes(t *testing.T) {
	for name, leave := range map[string]func(*reviewServer){
		"no connection": func(s *reviewServer) { s.away = true },
		"silence":       func(s *reviewServer) { s.silent = make(chan struct{}) },
		"429":           func(s *reviewServer) { s.status = http.StatusTooManyRequests },
		"500":           func(s *reviewServer) { s.status = http.StatusInternalServerError },
		"503":           func(s *reviewServer) { s.status = http.StatusServiceUnavailable },
	} {
		t.Run(name, func(t *testing.T) {
			reviewing(t, nil, func(t *testing.T, s *reviewServer, r *Reviewer) {
				began := time.Now()
				outcome(t, r, "of-ann")
				right(t, r)
				outcome(t, r, "nonsense")
				s.set(func() {
					leave(s)
					s.revoked["of-ann"] = true
				})
				for time.Since(began) < 5*time.Minute-15*time.Second {
					asked := time.Now()
					expect(t, "ann's token", outcome(t, r, "of-ann"), "ann")
					expect(t, "her right", right(t, r), "yes")
					expect(t, "a token of nobody", outcome(t, r, "nonsense"), "nobody")
					if waited := time.Since(asked); waited > 3*awayPatience {
						t.Fatalf("she waited %s", waited)
					}
					time.Sleep(7 * time.Second)
				}
				expect(t, "a token that was not asked about", outcome(t, r, "of-bob"), "not known")
				time.Sleep(time.Until(began.Add(5*time.Minute - 3*time.Second)))
				expect(t, "ann's token, just before five minutes", outcome(t, r, "of-ann"), "ann")
				time.Sleep(time.Until(began.Add(5*time.Minute - 1)))
				expect(t, "ann's token, still", outcome(t, r, "of-ann"), "ann")
				time.Sleep(time.Until(began.Add(5 * time.Minute)))
				expect(t, "ann's token after five minutes", outcome(t, r, "of-ann"), "not known")
				expect(t, "her right after five minutes", right(t, r), "not known")
				s.set(func() {
					if s.silent != nil {
						close(s.silent)
					}
					s.away, s.status, s.silent = false, 0, nil
				})
				expect(t, "ann's token when it is back", outcome(t, r, "of-ann"), "nobody")
			})
		})
	}
}

// What the API server does answer, if only that it does not say, is not its absence.
func TestAnAPIServerThatRefusesIsNotAway(t *testing.T) {
	for name, refuse := range map[string]func(*reviewServer){
		"403":          func(s *reviewServer) { s.status = http.StatusForbidden },
		"401":          func(s *reviewServer) { s.status = http.StatusUnauthorized },
		"not a review": func(s *reviewServer) { s.text = "[]" },
	} {
		reviewing(t, nil, func(t *testing.T, s *reviewServer, r *Reviewer) {
			outcome(t, r, "of-ann")
			s.set(func() { refuse(s) })
			time.Sleep(10 * time.Second)
			expect(t, name, outcome(t, r, "of-ann"), "not known")
		})
	}
}

func TestWhoGoesAwayIsNotTheAPIServer(t *testing.T) {
	reviewing(t, nil, func(t *testing.T, s *reviewServer, r *Reviewer) {
		outcome(t, r, "of-ann")
		time.Sleep(10 * time.Second)
		silent := make(chan struct{})
		s.set(func() { s.silent, s.revoked["of-ann"] = silent, true })
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := r.Authenticate(ctx, "of-ann", nil)
			left <- err
		}()
		other := make(chan string, 1)
		go func() { other <- outcome(t, r, "of-ann") }()
		synctest.Wait()
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who went away: %v", err)
		}
		close(silent)
		expect(t, "who asked the same at the same time", <-other, "nobody")
		if n := s.questions(); n != 2 {
			t.Errorf("the API server was asked %d times, want 2", n)
		}
		expect(t, "from then on", outcome(t, r, "of-ann"), "nobody")
	})
}

func TestAReviewerThatIsClosedDecidesNothing(t *testing.T) {
	reviewing(t, nil, func(t *testing.T, s *reviewServer, r *Reviewer) {
		outcome(t, r, "of-ann")
		time.Sleep(10 * time.Second)
		r.Close()
		expect(t, "ann's token", outcome(t, r, "of-ann"), "not known")
	})
}

func TestWhoMakesTokensUpTakesNothingFromOthers(t *testing.T) {
	reviewing(t, nil, func(t *testing.T, s *reviewServer, r *Reviewer) {
		outcome(t, r, "of-ann")
		right(t, r)
		began := time.Now()
		for i := range 2 * maxReviews {
			outcome(t, r, fmt.Sprint("nonsense-", i))
		}
		if n := len(r.reviews); n > maxReviews {
			t.Errorf("%d answers are kept", n)
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("questions wait for each other: %s", waited)
		}
		s.set(func() { s.away = true })
		time.Sleep(time.Minute)
		expect(t, "ann's token", outcome(t, r, "of-ann"), "ann")
		expect(t, "her right", right(t, r), "yes")
		s.set(func() { s.away = false })

		// Among what is allowed, the oldest gives way.
		for i := range maxReviews + 1 {
			time.Sleep(time.Nanosecond)
			outcome(t, r, fmt.Sprint("of-", i))
		}
		asked := s.questions()
		for i := range maxReviews / 2 {
			outcome(t, r, fmt.Sprint("of-", maxReviews-i))
		}
		if n := s.questions() - asked; n != 0 || len(r.reviews) > maxReviews {
			t.Errorf("%d of the newest answers had to be asked for again; %d are kept", n, len(r.reviews))
		}
	})
}

func TestOnlyTokensThatAreNobodysSoFarNeedToBeAdmitted(t *testing.T) {
	reviewing(t, nil, func(t *testing.T, s *reviewServer, r *Reviewer) {
		refused := errors.New("too many")
		authenticate := func(token string, answer error) (admissions int, err error) {
			_, err = r.Authenticate(t.Context(), token, func() error { admissions++; return answer })
			return admissions, err
		}
		for _, step := range []struct {
			what, token string
			answer      error // of admit
			admissions  int
			want        error
			asked       int
		}{
			{"a token that may not be asked about", "of-ann", refused, 1, refused, 0},
			{"one that may", "of-ann", nil, 1, nil, 1},
			{"a token of nobody", "nonsense", nil, 1, ErrUnauthenticated, 1},
			{"the same just now", "nonsense", refused, 0, ErrUnauthenticated, 0},
		} {
			before := s.questions()
			if n, err := authenticate(step.token, step.answer); n != step.admissions || !errors.Is(err, step.want) || s.questions()-before != step.asked {
				t.Errorf("%s: %d admissions, %v, %d questions", step.what, n, err, s.questions()-before)
			}
		}
		time.Sleep(10 * time.Second)
		if n, err := authenticate("of-ann", refused); n != 0 || err != nil {
			t.Errorf("a token that was somebody's: %d admissions, %v", n, err)
		}
		if n, err := authenticate("nonsense", refused); n != 1 || !errors.Is(err, refused) {
			t.Errorf("one that was nobody's: %d admissions, %v", n, err)
		}
		s.set(func() { s.revoked["of-ann"] = true })
		time.Sleep(10 * time.Second)
		for i, want := range []error{ErrUnauthenticated, refused} {
			if _, err := authenticate("of-ann", refused); !errors.Is(err, want) {
				t.Errorf("a token that was revoked, %d: %v, want %v", i, err, want)
			}
			time.Sleep(10 * time.Second)
		}
	})
}
