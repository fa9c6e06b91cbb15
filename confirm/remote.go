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

	"golang.org/x/time/rate"
)

// ProbePath is where an agent is asked to send a probe.
const ProbePath = "/agent/v1/probe"

// maxAnswer bounds what is read of an agent's answer, and maxDetail what is kept of
// its words, in bytes.
const (
	maxAnswer = 16 << 10
	maxDetail = 512
)

// order is what an agent is asked for.
type order struct {
	// Namespace is a network namespace of the agent's node, by the name that the agent
	// gave it.
	Namespace string `json:"namespace"`
	Probe     Probe  `json:"probe"`
}

// Ask asks an agent to send a probe from a network namespace of its node.
func Ask(ctx context.Context, client *http.Client, agent *url.URL, namespace string, p Probe) (Seen, error) {
	body, err := json.Marshal(order{namespace, p})
	if err != nil {
		return Seen{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, agent.JoinPath(ProbePath).String(), bytes.NewReader(body))
	if err != nil {
		return Seen{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		return Seen{}, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return Seen{}, err
	}
	if answer.StatusCode != http.StatusOK {
		text, _, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
		return Seen{}, fmt.Errorf("%s answers %s: %.*s", agent.Host, answer.Status, maxDetail, text)
	}
	var seen Seen
	if err := json.Unmarshal(data, &seen); err != nil {
		return Seen{}, fmt.Errorf("%s: unreadable answer: %w", agent.Host, err)
	}
	if !slices.Contains(Outcomes(), seen.Outcome) {
		return Seen{}, fmt.Errorf("%s: %.40q is no outcome", agent.Host, string(seen.Outcome))
	}
	if seen.Source.Addr().Zone() != "" {
		seen.Source = netip.AddrPort{}
	}
	seen.Detail = strings.ToValidUTF8(seen.Detail[:min(len(seen.Detail), maxDetail)], "")
	return seen, nil
}

// Handler answers Ask. It sends from the network namespaces that inside enters by
// name, within the limit. An order that is malformed is answered by 400, one that
// could not be followed by 422.
func Handler(inside func(namespace string, fn func() error) error, limit *rate.Limiter) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var o order
		decoder := json.NewDecoder(r.Body)
		decoder.DisallowUnknownFields()
		err := decoder.Decode(&o)
		if err == nil {
			if _, more := decoder.Token(); !errors.Is(more, io.EOF) {
				err = errors.New("text after the JSON object")
			}
		}
		if err == nil {
			err = o.Probe.Validate()
		}
		if err != nil {
			http.Error(w, "probe: "+err.Error(), http.StatusBadRequest)
			return
		}
		if err := limit.Wait(r.Context()); err != nil {
			http.Error(w, "too many probes are waiting", http.StatusTooManyRequests)
			return
		}
		seen, err := Send(r.Context(), func(fn func() error) error { return inside(o.Namespace, fn) }, o.Probe)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(seen)
	})
}
