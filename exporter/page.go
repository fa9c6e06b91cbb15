package exporter

import (
	"bytes"
	_ "embed" // the page
	"fmt"
	"html/template"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

//go:embed page.html
var pageText string

// page shows a person what there is. It runs no script.
func (s *server) page(c echo.Context) error {
	page, err := template.New("page").Parse(pageText)
	if err != nil {
		return fmt.Errorf("page: %w", err)
	}
	data := map[string]any{"Schedules": s.runner.Status()}
	if latest, problem := s.network.newest(); latest != nil {
		data["Taken"] = latest.snapshot.Taken.UTC().Format(time.DateTime) + " UTC"
	} else {
		data["Problem"] = problem
	}
	var text bytes.Buffer
	if err := page.Execute(&text, data); err != nil {
		return fmt.Errorf("page: %w", err)
	}
	return c.HTMLBlob(http.StatusOK, text.Bytes())
}
