package exporter

import (
	"errors"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/plumbline-net/plumbline/kubernetes"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// apiGroup is the group of the resources by which access is given. They are names
// for RBAC only: no object of them exists.
const apiGroup = "plumbline.net"

// userKey is where a request's user is kept.
const userKey = "user"

// strangersPerSecond is how many tokens that are nobody's so far a caller may show in a
// second: the API server is asked about each.
const strangersPerSecond = 10

// open are the paths that tell nothing of the network, for whoever asks.
var open = map[string]bool{"/-/healthy": true, "/-/ready": true, "/openapi.json": true}

// authenticate finds out who asks, and refuses those whom the API server does not
// know, also on loopback: many share that on a node.
func (s *server) authenticate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if s.reviewer == nil || open[c.Path()] {
			return next(c)
		}
		scheme, token, _ := strings.Cut(c.Request().Header.Get(echo.HeaderAuthorization), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			c.Response().Header().Set(echo.HeaderWWWAuthenticate, "Bearer")
			return fail(http.StatusUnauthorized, "unauthenticated", "a token is needed: Authorization: Bearer …")
		}
		user, err := s.reviewer.Authenticate(c.Request().Context(), strings.TrimSpace(token), func() error {
			return s.limit(c, &s.strangers, "unknown tokens", strangersPerSecond)
		})
		switch {
		case errors.As(err, new(*apiError)):
			return err
		case errors.Is(err, kubernetes.ErrUnauthenticated):
			c.Response().Header().Set(echo.HeaderWWWAuthenticate, "Bearer")
			return fail(http.StatusUnauthorized, "unauthenticated", "%v", err)
		case err != nil:
			return fail(http.StatusServiceUnavailable, "not-reviewed", "%v", err)
		}
		c.Set(userKey, user)
		return next(c)
	}
}

// may refuses who may not do all of these.
func (s *server) may(c echo.Context, actions ...kubernetes.Action) error {
	if s.reviewer == nil {
		return nil
	}
	user, ok := c.Get(userKey).(*kubernetes.User)
	if !ok {
		return fail(http.StatusUnauthorized, "unauthenticated", "a token is needed")
	}
	for _, action := range actions {
		allowed, err := s.reviewer.Allowed(c.Request().Context(), user, action)
		if err != nil {
			return fail(http.StatusServiceUnavailable, "not-reviewed", "%v", err)
		}
		if !allowed {
			return fail(http.StatusForbidden, "forbidden", "%s may not %s", user.Name, action)
		}
	}
	return nil
}

// only is a handler for those who may do something.
func (s *server) only(action kubernetes.Action, next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := s.may(c, action); err != nil {
			return err
		}
		return next(c)
	}
}

func onResource(verb, resource, namespace string) kubernetes.Action {
	return kubernetes.Action{Verb: verb, Group: apiGroup, Resource: resource, Namespace: namespace}
}

func onPath(verb, path string) kubernetes.Action {
	return kubernetes.Action{Verb: verb, Path: path}
}

// diagnosing is what asking a query is: something in the namespaces of both ends.
// Whatever is not in a namespace takes the right for all of them: an address may
// be anybody's, and where a packet enters is the operator's to say.
func diagnosing(q *verdict.Query) []kubernetes.Action {
	var actions []kubernetes.Action
	for _, text := range []string{q.From, q.To} {
		// A malformed end has no namespace, and is refused later.
		end, _ := verdict.ParseEndpoint(text)
		actions = append(actions, onResource("create", "diagnoses", end.Namespace))
	}
	if q.Via != nil {
		actions = append(actions, onResource("create", "diagnoses", ""))
	}
	return actions
}
