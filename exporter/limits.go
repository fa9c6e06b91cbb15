package exporter

import (
	"math"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"

	"github.com/plumbline-net/plumbline/kubernetes"
)

// maxCallers is how many callers have a limit of their own at the same time;
// further ones share one.
const maxCallers = 4096

// limits bound how often each caller may ask for something.
type limits struct {
	mu      sync.Mutex
	callers map[string]*rate.Limiter
}

// wait is how long the caller has to wait, in which case asking counts for nothing.
// A second's worth may come at once.
func (l *limits) wait(caller string, perSecond int, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.callers == nil {
		l.callers = make(map[string]*rate.Limiter)
	}
	if l.callers[caller] == nil && len(l.callers) >= maxCallers {
		for name, limit := range l.callers {
			if limit.TokensAt(now) >= float64(limit.Burst()) {
				delete(l.callers, name) // as one that never asked
			}
		}
		if len(l.callers) >= maxCallers {
			caller = ""
		}
	}
	limit := l.callers[caller]
	if limit == nil {
		limit = rate.NewLimiter(rate.Limit(perSecond), perSecond)
		l.callers[caller] = limit
	}
	if limit.Burst() != perSecond { // the configuration has changed
		limit.SetLimitAt(now, rate.Limit(perSecond))
		limit.SetBurstAt(now, perSecond)
	}
	r := limit.ReserveN(now, 1)
	delay := r.DelayFrom(now)
	if delay > 0 {
		r.CancelAt(now)
	}
	return delay
}

// limit refuses a caller who asks too often.
func (s *server) limit(c echo.Context, l *limits, what string, perSecond int) error {
	delay := l.wait(s.caller(c), perSecond, time.Now())
	if delay <= 0 {
		return nil
	}
	c.Response().Header().Set(echo.HeaderRetryAfter, strconv.Itoa(int(math.Ceil(delay.Seconds()))))
	return fail(http.StatusTooManyRequests, "too-many-requests", "more than %d %s in a second", perSecond, what)
}

// caller says who asks: the user of a token, of a password or of a certificate, if that
// was checked before, or else an address. A name that nobody has checked is another one
// each time.
func (s *server) caller(c echo.Context) string {
	if user, ok := c.Get(userKey).(*kubernetes.User); ok {
		return "user " + user.Name
	}
	r := c.Request()
	if name, _, ok := r.BasicAuth(); ok && s.proof.password {
		return "name " + name
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return "certificate " + r.TLS.VerifiedChains[0][0].Subject.String()
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return "address " + host
}
