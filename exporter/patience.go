package exporter

import (
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// patiently lets an answer take longer than the server's WriteTimeout as long as its
// reader takes each piece within the timeout: a slow link does not break it off, and
// who has stopped reading holds nothing for long.
func patiently(timeout time.Duration) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			w := c.Response().Writer
			c.Response().Writer = &patientWriter{w, http.NewResponseController(w), timeout}
			return next(c)
		}
	}
}

type patientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
}

func (w *patientWriter) Write(p []byte) (written int, err error) {
	for {
		// Who does not know deadlines, as in tests, has none that could pass.
		if err := w.control.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return written, err
		}
		n, err := w.ResponseWriter.Write(p[written:min(len(p), written+pieceSize)])
		if written += n; err != nil || written == len(p) {
			return written, err
		}
	}
}

// Unwrap is for http.ResponseController.
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
