package exporter

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

func TestThePageIsForEverybody(t *testing.T) {
	d, _ := newDaemon(t, Options{Bundle: sample, ConfigFile: configFile(t, oneSchedule)})
	ran(t, d)
	page := ask(t, d, "GET", "/", "").Body.String()
	for name, has := range map[string]string{
		"a language":                       `<html lang="en">`,
		"a width of small screens":         `content="width=device-width, initial-scale=1"`,
		"dark and light":                   `content="light dark"`,
		"a main part":                      `<main>`,
		"a focus that is seen":             `:focus-visible { outline`,
		"a table that is scrolled by keys": `<div class="wide" role="region" aria-labelledby="paths" tabindex="0">`,
	} {
		if !strings.Contains(page, has) {
			t.Errorf("the page does not have %s: %s", name, has)
		}
	}
	for name, pattern := range map[string]string{
		"a script":                        `(?i)<script|\son[a-z]+=|javascript:`,
		"something from elsewhere":        `(?i)(src|href|action)="?(https?:)?//|@import|url\(`,
		"a field without a label":         `(?m)^<(input|select)`,
		"a head of a column for the eyes": `<th>`,
		"an order of its own":             `tabindex="[1-9]`,
	} {
		if found := regexp.MustCompile(pattern).FindString(page); found != "" {
			t.Errorf("the page has %s: %s", name, found)
		}
	}
	// What the form asks is a query.
	form := url.Values{}
	for _, field := range regexp.MustCompile(`<(?:input|select) name="([a-z]+)"`).FindAllStringSubmatch(page, -1) {
		form.Set(field[1], map[string]string{"from": "pod:shop/web-0", "to": "svc:shop/api", "port": "80", "protocol": "tcp"}[field[1]])
	}
	if w := ask(t, d, "GET", "/api/v1/diagnose?"+form.Encode(), ""); len(form) != 4 || w.Code != http.StatusOK {
		t.Errorf("%v is answered %d %s", form, w.Code, w.Body)
	}
}

func TestThePageAnnouncesThatNothingIsKnownYet(t *testing.T) {
	d, _ := newDaemon(t, Options{Bundle: sample})
	if page := ask(t, d, "GET", "/", "").Body.String(); !strings.Contains(page, `<p role="alert" class="unreachable">No state has been collected yet`) {
		t.Error(page)
	}
}
