package exporter

import (
	_ "embed" // the OpenAPI document
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

//go:embed openapi.json
var openAPI []byte

func (s *server) openAPI(c echo.Context) error {
	return c.Blob(http.StatusOK, echo.MIMEApplicationJSON, openAPI)
}

func (s *server) healthy(c echo.Context) error { return c.String(http.StatusOK, "healthy\n") }

func (s *server) ready(c echo.Context) error {
	if latest, err := s.network.newest(); latest == nil {
		return fail(http.StatusServiceUnavailable, "not-ready", "the first collection has not succeeded yet: %v", err)
	}
	return c.String(http.StatusOK, "ready\n")
}

func (s *server) reloadConfig(c echo.Context) error {
	if err := s.reload(); err != nil {
		return fail(http.StatusUnprocessableEntity, "bad-configuration", "the configuration is kept as it was: %v", err)
	}
	return c.String(http.StatusOK, "reloaded\n")
}

func (s *server) diagnoseGet(c echo.Context) error {
	parameters, err := url.ParseQuery(c.QueryString())
	if err != nil {
		return fail(http.StatusBadRequest, "bad-query", "%v", err)
	}
	q, err := queryOf(parameters)
	if err != nil {
		return fail(http.StatusBadRequest, "bad-query", "%v", err)
	}
	return s.diagnose(c, q)
}

func (s *server) diagnosePost(c echo.Context) error {
	body, err := io.ReadAll(c.Request().Body)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fail(http.StatusRequestTimeout, "timeout", "the body did not come in time")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fail(http.StatusBadRequest, "bad-query", "the body ends too early")
	case err != nil:
		return err
	}
	q, err := verdict.DecodeQuery(body)
	if err != nil {
		return fail(http.StatusBadRequest, "bad-query", "%v", err)
	}
	return s.diagnose(c, q)
}

// mayFollow is for a Service that stands for a name: like dns:NAME, it may lead anywhere.
func (s *server) mayFollow(c echo.Context, v *view, q *verdict.Query) error {
	if !v.world.AsksNames(q) {
		return nil
	}
	return s.may(c, onResource("create", "diagnoses", ""))
}

func (s *server) diagnose(c echo.Context, q verdict.Query) error {
	if err := q.Validate(); err != nil {
		return fail(http.StatusBadRequest, "bad-query", "%v", err)
	}
	web := s.config().Web
	if err := s.limit(c, &s.diagnoses, "diagnoses", web.DiagnosesPerSecond); err != nil {
		return err
	}
	// After the limit: any namespace may be named, and the API server is asked about each.
	if err := s.may(c, diagnosing(&q)...); err != nil {
		return err
	}
	const sending = "diagnoses that send packets"
	if q.Confirm {
		if err := s.limit(c, &s.confirms, sending, web.ConfirmsPerSecond); err != nil {
			return err
		}
	}
	ctx, asked := c.Request().Context(), time.Now()
	v, err := s.network.view(ctx, asked.Add(-s.config().Collector.MaxAge))
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return fail(http.StatusServiceUnavailable, "not-ready", "no state has been collected yet: %v", err)
	}
	if err := s.mayFollow(c, v, &q); err != nil {
		return err
	}
	sends := c.Request().Method == http.MethodPost
	if sends && !q.Confirm && s.network.names.Asks(v.world, q) {
		if err := s.limit(c, &s.confirms, sending, web.ConfirmsPerSecond); err != nil {
			return err
		}
	}
	diagnose := func(v *view) (*verdict.Report, error) {
		if !sends {
			return v.Recall(q)
		}
		return v.Diagnose(ctx, q)
	}
	report, err := diagnose(v)
	if err != nil {
		return fail(http.StatusBadRequest, "bad-query", "%v", err)
	}
	if report.Verdict != verdict.Reachable && v.began.Before(asked) {
		// Whoever asks may just have mended what the view still shows broken.
		if fresh, err := s.network.afresh(ctx, asked); err == nil && fresh != v {
			v = fresh
			if err := s.mayFollow(c, v, &q); err != nil {
				return err
			}
			if report, err = diagnose(v); err != nil {
				return fail(http.StatusBadRequest, "bad-query", "%v", err)
			}
		}
	}
	if q.Confirm {
		if report, err = s.confirmation.confirm(ctx, v, report, s.network.afresh); err != nil {
			return err
		}
	}
	s.metrics.published(report)
	data, err := report.AppendJSON(nil)
	if err != nil {
		return err
	}
	return c.JSONBlob(http.StatusOK, append(data, '\n'))
}

// queryOf reads a query from URL parameters. All of them must be known, and
// each given once: a misspelt option must not be ignored.
func queryOf(parameters url.Values) (verdict.Query, error) {
	q := verdict.Query{Protocol: verdict.TCP}
	readers := map[string]func(string) error{
		"id":       func(s string) error { q.ID = s; return nil },
		"from":     func(s string) error { q.From = s; return nil },
		"to":       func(s string) error { q.To = s; return nil },
		"protocol": func(s string) error { q.Protocol = verdict.Protocol(s); return nil },
		"expect":   func(s string) error { q.Expect = verdict.Verdict(s); return nil },
		"port":     whole(1, 65535, func(n uint64) { q.Port = uint16(n) }),
		"sourcePort": whole(1, 65535, func(n uint64) {
			q.SourcePort = uint16(n)
		}),
		"mark":     whole(0, 1<<32-1, func(n uint64) { q.Mark = uint32(n) }),
		"uid":      whole(0, 1<<32-1, func(n uint64) { uid := uint32(n); q.UID = &uid }),
		"dscp":     whole(0, 63, func(n uint64) { q.DSCP = uint8(n) }),
		"icmpType": whole(0, 255, func(n uint64) { kind := uint8(n); q.ICMPType = &kind }),
		"size":     whole(1, 65535, func(n uint64) { q.Size = int(n) }),
		"via": func(s string) error {
			namespace, device, ok := strings.Cut(s, ",")
			if !ok {
				return errors.New("is not NAMESPACE,INTERFACE")
			}
			q.Via = &verdict.Via{Namespace: namespace, Interface: device}
			return nil
		},
		"confirm": func(string) error {
			return errors.New("sends packets, which GET does not; confirm is for POST")
		},
	}
	return q, readParameters(parameters, readers)
}

func whole(low, high uint64, set func(uint64)) func(string) error {
	return func(s string) error {
		n, err := strconv.ParseUint(s, 0, 64)
		if err != nil || n < low || n > high {
			return errors.New("is not a whole number from " + strconv.FormatUint(low, 10) + " to " + strconv.FormatUint(high, 10))
		}
		set(n)
		return nil
	}
}

func readParameters(parameters url.Values, readers map[string]func(string) error) error {
	names := make([]string, 0, len(parameters))
	for name := range parameters {
		names = append(names, name)
	}
	slices.Sort(names) // which of two faults is named must not depend on luck
	for _, name := range names {
		read, ok := readers[name]
		switch {
		case !ok:
			return errors.New("unknown parameter " + strconv.Quote(name))
		case len(parameters[name]) > 1:
			return errors.New(name + " is given more than once")
		}
		if err := read(parameters[name][0]); err != nil {
			return errors.New(name + ": " + strconv.Quote(parameters[name][0]) + " " + err.Error())
		}
	}
	return nil
}

func (s *server) reports(c echo.Context) error {
	f := schedules.Filter{Limit: 100}
	err := readParameters(c.QueryParams(), map[string]func(string) error{
		"schedule": func(s string) error { f.Schedule = s; return nil },
		"path":     func(s string) error { f.Path = s; return nil },
		"verdict": func(s string) error {
			if f.Verdict = verdict.Verdict(s); !f.Verdict.Valid() {
				return errors.New("is not reachable, degraded, unreachable or unknown")
			}
			return nil
		},
		"limit": whole(1, 1_000_000, func(n uint64) { f.Limit = int(n) }),
	})
	if err != nil {
		return fail(http.StatusBadRequest, "bad-parameter", "%v", err)
	}
	return c.JSON(http.StatusOK, map[string]any{"reports": s.runner.Reports(f)})
}

func (s *server) report(c echo.Context) error {
	report, ok := s.runner.Report(c.Param("id"))
	if !ok {
		return fail(http.StatusNotFound, "not-found", "there is no report %q, or it made room for later ones", c.Param("id"))
	}
	return c.JSON(http.StatusOK, report)
}

func (s *server) schedules(c echo.Context) error {
	return c.JSON(http.StatusOK, map[string]any{"schedules": s.runner.Status(), "leading": s.leads()})
}

func (s *server) bundle(c echo.Context) error {
	latest, err := s.network.newest()
	if latest == nil {
		return fail(http.StatusServiceUnavailable, "not-ready", "no state has been collected yet: %v", err)
	}
	// To make one takes a processor, and much memory.
	if !s.bundling.TryLock() {
		c.Response().Header().Set(echo.HeaderRetryAfter, "10")
		return fail(http.StatusTooManyRequests, "too-many-requests", "somebody else is just given a bundle; there is one at a time")
	}
	defer s.bundling.Unlock()
	h := c.Response().Header()
	h.Set(echo.HeaderContentType, "application/zstd")
	h.Set(echo.HeaderContentDisposition, `attachment; filename="plumbline-`+latest.snapshot.Taken.UTC().Format("20060102T150405Z")+`.tar.zst"`)
	if c.Request().Method == http.MethodHead {
		return c.NoContent(http.StatusOK)
	}
	// The status is only sent with the first byte, so that an error before it
	// is still an error to the client.
	return bundle.WriteArchive(c.Response(), latest.recorded())
}

func portText(port uint16) string {
	if port == 0 {
		return ""
	}
	return strconv.Itoa(int(port))
}
