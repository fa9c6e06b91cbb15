package kubernetes

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
)

// ErrUnauthenticated says that the API server does not know whose a token is.
var ErrUnauthenticated = errors.New("the token is not valid")

// How long an answer of the API server is believed, also while it cannot be asked, how long
// a new one is waited for, without and with such an answer, and how many are kept.
const (
	reviewAge    = 10 * time.Second
	awayAge      = 5 * time.Minute // as a kubelet believes them: authorization.webhook.cacheAuthorizedTTL
	patience     = 10 * time.Second
	awayPatience = time.Second // callers have little, and one that is silent may be away
	maxReviews   = 4096
)

// maxToken bounds what is sent to the API server, in bytes.
const maxToken = 16 << 10

// Reviewer asks the API server who bears a token, and what they may do: it makes
// TokenReviews and SubjectAccessReviews, and nothing else. It is safe for
// concurrent use.
type Reviewer struct {
	http      *http.Client
	rest      *rest.RESTClient
	audiences []string

	ctx     context.Context // of questions: several may wait for the answer
	cancel  context.CancelFunc
	flights singleflight.Group

	mu      sync.Mutex
	reviews map[[sha256.Size]byte]review
}

type review struct {
	at      time.Time // of the answer
	until   time.Time // nobody is asked again
	user    *User     // of a TokenReview
	allowed bool      // of a SubjectAccessReview
}

func (v review) positive() bool { return v.user != nil || v.allowed }

// User is who bears a token.
type User struct {
	Name, UID string
	Groups    []string
	Extra     map[string][]string
}

// Action is what somebody wants to do: a verb on a resource, in a namespace or,
// if that is empty, in all; or on a path of HTTP.
type Action struct {
	Verb, Group, Resource, Namespace string
	Path                             string
}

// String is "get snapshots.plumbline.net in all namespaces" or "get /metrics".
func (a Action) String() string {
	switch {
	case a.Path != "":
		return a.Verb + " " + a.Path
	case a.Namespace == "":
		return a.Verb + " " + a.Resource + "." + a.Group + " in all namespaces"
	}
	return a.Verb + " " + a.Resource + "." + a.Group + " in namespace " + a.Namespace
}

// NewReviewer returns a reviewer of tokens that are for one of the audiences; for
// the API server itself if there are none.
func NewReviewer(config *rest.Config, audiences []string) (*Reviewer, error) {
	config = ownConfig(config)
	config.QPS = -1                                                                                   // how often is limited for each caller: one must not make all others wait
	config.NegotiatedSerializer = serializer.NewCodecFactory(runtime.NewScheme()).WithoutConversion() // all is plain JSON here
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("reviews of tokens: %w", err)
	}
	client, err := rest.UnversionedRESTClientForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("reviews of tokens: %w", err)
	}
	r := &Reviewer{http: httpClient, rest: client, audiences: audiences, reviews: make(map[[sha256.Size]byte]review)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r, nil
}

// Close ends questions under way, and lets go of connections.
func (r *Reviewer) Close() {
	r.cancel()
	utilnet.CloseIdleConnectionsFor(r.http.Transport)
}

// Authenticate says who bears the token. Before the API server is asked about one that
// was nobody's so far, admit may refuse it. The error is that of admit, ErrUnauthenticated,
// or that the API server could not be asked; it never has the token in it.
func (r *Reviewer) Authenticate(ctx context.Context, token string, admit func() error) (*User, error) {
	if token == "" || len(token) > maxToken {
		return nil, ErrUnauthenticated
	}
	answer, err := r.remember(ctx, []any{"token", token}, admit, func(ctx context.Context) (review, error) {
		request := authenticationv1.TokenReview{
			TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview"},
			Spec:     authenticationv1.TokenReviewSpec{Token: token, Audiences: r.audiences},
		}
		if err := r.post(ctx, &request, "apis", "authentication.k8s.io", "v1", "tokenreviews"); err != nil {
			return review{}, fmt.Errorf("ask the API server whose a token is: %w", err)
		}
		status := request.Status
		// A server that does not know of audiences leaves them out: its answer is
		// about the token as such.
		meant := len(r.audiences) == 0 || slices.ContainsFunc(status.Audiences, func(a string) bool { return slices.Contains(r.audiences, a) })
		if !status.Authenticated || !meant {
			return review{}, nil
		}
		user := &User{Name: status.User.Username, UID: status.User.UID, Groups: status.User.Groups, Extra: make(map[string][]string)}
		for key, values := range status.User.Extra {
			user.Extra[key] = values
		}
		return review{user: user}, nil
	})
	if err == nil && answer.user == nil {
		err = ErrUnauthenticated
	}
	return answer.user, err
}

// Allowed says whether a user may do something.
func (r *Reviewer) Allowed(ctx context.Context, user *User, action Action) (bool, error) {
	answer, err := r.remember(ctx, []any{"access", user, action}, nil, func(ctx context.Context) (review, error) {
		request := authorizationv1.SubjectAccessReview{
			TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SubjectAccessReview"},
			Spec:     authorizationv1.SubjectAccessReviewSpec{User: user.Name, UID: user.UID, Groups: user.Groups, Extra: make(map[string]authorizationv1.ExtraValue)},
		}
		for key, values := range user.Extra {
			request.Spec.Extra[key] = values
		}
		if action.Path != "" {
			request.Spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: action.Path, Verb: action.Verb}
		} else {
			request.Spec.ResourceAttributes = &authorizationv1.ResourceAttributes{
				Verb: action.Verb, Group: action.Group, Version: "*", Resource: action.Resource, Namespace: action.Namespace,
			}
		}
		if err := r.post(ctx, &request, "apis", "authorization.k8s.io", "v1", "subjectaccessreviews"); err != nil {
			return review{}, fmt.Errorf("ask the API server what %s may do: %w", user.Name, err)
		}
		return review{allowed: request.Status.Allowed && !request.Status.Denied}, nil
	})
	return answer.allowed, err
}

func (r *Reviewer) post(ctx context.Context, object any, path ...string) error {
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	text, err := r.rest.Post().AbsPath(path...).SetHeader("Content-Type", runtime.ContentTypeJSON).
		SetHeader("Accept", runtime.ContentTypeJSON).Body(body).Do(ctx).Raw()
	if err != nil {
		away := isAway(err)
		var refusal metav1.Status
		if json.Unmarshal(text, &refusal) == nil && refusal.Message != "" {
			err = errors.New(refusal.Message)
		}
		if away {
			err = awayError{err}
		}
		return err
	}
	return json.Unmarshal(text, object)
}

// awayError says that the API server could not be asked, whoever wants to know.
type awayError struct{ error }

func isAway(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true
	}
	code := status.Status().Code
	return code >= http.StatusInternalServerError || code == http.StatusTooManyRequests
}

// remember returns what was answered to a question a moment ago, or asks. What several
// want to know is asked once; who of them goes away breaks nothing off. Tokens are kept as
// hashes only.
func (r *Reviewer) remember(ctx context.Context, question []any, admit func() error, ask func(context.Context) (review, error)) (review, error) {
	text, err := json.Marshal(question)
	if err != nil {
		return review{}, err
	}
	key := sha256.Sum256(text)
	known := r.known(key)
	if time.Now().Before(known.until) {
		return known, nil
	}
	if admit != nil && !known.positive() {
		if err := admit(); err != nil {
			return review{}, err
		}
	}
	flight := r.flights.DoChan(string(key[:]), func() (any, error) { return r.answer(key, ask) })
	select {
	case answer := <-flight:
		return answer.Val.(review), answer.Err
	case <-ctx.Done():
		return review{}, fmt.Errorf("wait for an answer of the API server: %w", ctx.Err())
	}
}

// answer asks. If the API server is away, its last answer holds, for nobody can take back
// meanwhile what it allows.
func (r *Reviewer) answer(key [sha256.Size]byte, ask func(context.Context) (review, error)) (review, error) {
	known, now, wait := r.known(key), time.Now(), patience
	if now.Before(known.until) {
		return known, nil
	}
	end := known.at.Add(awayAge)
	if now.Before(end) {
		wait = awayPatience
	}
	ctx, cancel := context.WithTimeout(r.ctx, wait)
	defer cancel()
	answer, err := ask(ctx)
	if err == nil {
		answer.at, answer.until = now, now.Add(reviewAge)
	} else {
		now = time.Now() // to find out may have taken long
		if r.ctx.Err() != nil || !errors.As(err, new(awayError)) || !now.Before(end) {
			return review{}, err // never a decision
		}
		answer = known
		if answer.until = now.Add(reviewAge); answer.until.After(end) {
			answer.until = end
		}
	}
	r.keep(key, answer)
	return answer, nil
}

// known is what was answered last; zero if nothing was.
func (r *Reviewer) known(key [sha256.Size]byte) review {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reviews[key]
}

// keep remembers an answer. A quarter of too many gives way, refusals first and then the
// oldest: whoever makes questions up takes from no other what is known of them.
func (r *Reviewer) keep(key [sha256.Size]byte, answer review) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.reviews[key]; !ok && len(r.reviews) >= maxReviews {
		keys := slices.SortedFunc(maps.Keys(r.reviews), func(a, b [sha256.Size]byte) int {
			v, w := r.reviews[a], r.reviews[b]
			switch {
			case v.positive() == w.positive():
				return v.at.Compare(w.at)
			case v.positive():
				return 1
			}
			return -1
		})
		for _, key := range keys[:maxReviews/4] {
			delete(r.reviews, key)
		}
	}
	r.reviews[key] = answer
}
