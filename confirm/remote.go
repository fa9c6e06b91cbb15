package confirm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/plumbline-net/plumbline/internal/strictjson"
	"github.com/plumbline-net/plumbline/simulator/resolver"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// ProbePath is where an agent is asked to send a probe.
const ProbePath = "/agent/v1/probe"

// maxAnswer bounds what is read of an agent's answer, and maxDetail what is kept of
// its words, in bytes.
const (
	maxAnswer = 64 << 10
	maxDetail = 512
)

// order is what an agent is asked to send.
type order struct {
	// Namespace is a network namespace of the agent's node, by the name that the agent
	// gave it.
	Namespace string `json:"namespace"`
	// Probe or Question is what is to be sent.
	Probe    *Probe        `json:"probe,omitempty"`
	Question *nameQuestion `json:"question,omitempty"`
}

// nameQuestion is one to a name server.
type nameQuestion struct {
	Server netip.Addr `json:"server"`
	Name   string     `json:"name"`
}

// heard is the answer to one.
type heard struct {
	Status    resolver.Status `json:"status"`
	Addresses []netip.Addr    `json:"addresses,omitempty"`
	Detail    string          `json:"detail,omitempty"`
	TTL       time.Duration   `json:"ttl"` // nanoseconds
}

// validate says why the order must not be followed.
func (o *order) validate() error {
	switch {
	case (o.Probe == nil) == (o.Question == nil):
		return errors.New("want a probe or a question")
	case o.Probe != nil:
		return o.Probe.Validate()
	case !resolver.ValidName(o.Question.Name):
		return fmt.Errorf("%.300q is not a name that DNS can have", o.Question.Name)
	}
	datagram := Probe{Protocol: verdict.UDP, Destination: o.Question.Server, Port: dnsPort, Timeout: DefaultTimeout}
	return datagram.Validate()
}

// Ask asks an agent to send a probe from a network namespace of its node.
func Ask(ctx context.Context, client *http.Client, agent *url.URL, namespace string, p Probe) (Seen, error) {
	var seen Seen
	if err := post(ctx, client, agent, order{Namespace: namespace, Probe: &p}, &seen); err != nil {
		return Seen{}, err
	}
	if !slices.Contains(Outcomes(), seen.Outcome) {
		return Seen{}, fmt.Errorf("%s: %.40q is no outcome", agent.Host, string(seen.Outcome))
	}
	if seen.Source.Addr().Zone() != "" {
		seen.Source = netip.AddrPort{}
	}
	seen.Detail = shortened(seen.Detail)
	return seen, nil
}

// AskName asks an agent to ask a name server from a network namespace of its node; that
// of the question is what the caller calls it.
func AskName(ctx context.Context, client *http.Client, agent *url.URL, namespace string, q resolver.Question) (Heard, error) {
	var h heard
	if err := post(ctx, client, agent, order{Namespace: namespace, Question: &nameQuestion{q.Server, q.Name}}, &h); err != nil {
		return Heard{}, err
	}
	if !h.Status.Valid() || slices.ContainsFunc(h.Addresses, func(a netip.Addr) bool { return !a.IsValid() || a.Is4In6() || a.Zone() != "" }) {
		return Heard{}, fmt.Errorf("%s: unreadable answer of a name server", agent.Host)
	}
	return Heard{resolver.Answer{Question: q, Status: h.Status, Addresses: h.Addresses, Detail: shortened(h.Detail)}, h.TTL}, nil
}

func shortened(detail string) string {
	return strings.ToValidUTF8(detail[:min(len(detail), maxDetail)], "")
}

func post(ctx context.Context, client *http.Client, agent *url.URL, o order, into any) error {
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, agent.JoinPath(ProbePath).String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		text, _, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
		return fmt.Errorf("%s answers %s: %.*s", agent.Host, answer.Status, maxDetail, text)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: unreadable answer: %w", agent.Host, err)
	}
	return nil
}

// Handler answers Ask and AskName. It sends from the network namespaces that inside enters by
// name, within the limit. An order that is malformed is answered by 400, one that
// could not be followed by 422.
func Handler(inside func(namespace string, fn func() error) error, limit *rate.Limiter) http.Handler {
	ask := AskHere(inside)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var o order
		err := strictjson.Decode(r.Body, &o)
		if err == nil {
			err = o.validate()
		}
		if err != nil {
			http.Error(w, "probe: "+err.Error(), http.StatusBadRequest)
			return
		}
		if err := limit.Wait(r.Context()); err != nil {
			http.Error(w, "too many probes are waiting", http.StatusTooManyRequests)
			return
		}
		var seen any
		if o.Question != nil {
			var h Heard
			h, err = ask(r.Context(), resolver.Question{Namespace: o.Namespace, Server: o.Question.Server, Name: strings.ToLower(o.Question.Name)})
			seen = heard{h.Status, h.Addresses, h.Detail, h.TTL}
		} else {
			seen, err = Send(r.Context(), func(fn func() error) error { return inside(o.Namespace, fn) }, *o.Probe)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(seen)
	})
}
