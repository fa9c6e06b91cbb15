package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/plumbline-net/plumbline/collector"
	"github.com/plumbline-net/plumbline/confirm"
	"github.com/plumbline-net/plumbline/kubernetes"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/bundle"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Exit statuses of diagnose besides statusUsage.
const (
	statusReachable   = 0
	statusUnreachable = 1 // or degraded
	statusUnknown     = 3
)

const (
	// serverTimeout is how long a server may take for one answer: it may have
	// to collect first.
	serverTimeout = 2 * time.Minute
	// maxServerAnswer bounds what is read of a server's answer, in bytes.
	maxServerAnswer = 64 << 20
)

// diagnoseOptions are the flags of diagnose.
type diagnoseOptions struct {
	query      verdict.Query
	protocol   string
	via        string
	expect     string
	uid        int64
	icmpType   int
	bundle     string
	server     string
	queries    string
	output     string
	manifests  string
	access     kubernetes.Access
	namespaces []string
}

func newDiagnoseCommand() *cobra.Command {
	o := &diagnoseOptions{}
	cmd := &cobra.Command{
		Use:   "diagnose --from X --to Y --port N [--protocol P]",
		Short: "Tell whether a packet gets there, and what stops it",
		Long: `Tell whether a packet gets from one endpoint to another, and what stops it.

Endpoints: pod:NAMESPACE/NAME, node:NAME, svc:NAMESPACE/NAME, ns:NETNS, an IP
address, or as destination dns:NAME. The state comes from this host (as root),
from a bundle (--bundle), or is a server's (--server).

Exit status: 0 reachable, 1 unreachable or degraded, 3 unknown, 2 wrong usage or
unreadable input, 130 interrupted.`,
		Example: `  plumbline diagnose --from pod:shop/web-0 --to svc:shop/api --port 80
  plumbline diagnose --bundle lab.tar.zst --from pod:shop/web-0 \
      --to 10.244.2.10 --protocol icmp
  plumbline diagnose --bundle DIR --queries queries.jsonl -o json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("unexpected argument %q: endpoints are named with --from and --to", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&o.query.From, "from", "", "where the packet comes from")
	f.StringVar(&o.query.To, "to", "", "where it goes to")
	f.Uint16Var(&o.query.Port, "port", 0, "destination port, 1 to 65535; none for icmp")
	f.StringVar(&o.protocol, "protocol", "tcp", "tcp, udp, sctp or icmp")
	f.Uint16Var(&o.query.SourcePort, "source-port", 0, "source port, 1 to 65535 (default: an ephemeral one)")
	f.Uint32Var(&o.query.Mark, "mark", 0, "firewall mark that the packet starts with, such as 16 or 0x10")
	f.Int64Var(&o.uid, "uid", -1, "user id of the sending process (default: not known)")
	f.Uint8Var(&o.query.DSCP, "dscp", 0, "DSCP, 0 to 63")
	f.IntVar(&o.icmpType, "icmp-type", -1, "ICMP type (default: echo request)")
	f.IntVar(&o.query.Size, "size", 0, "bytes of the full-size packets (default: as large as both ends permit)")
	f.StringVar(&o.via, "via", "", "NAMESPACE,INTERFACE at which a packet from outside enters")
	f.StringVar(&o.expect, "expect", "", "reachable or unreachable: noted in the report")
	f.BoolVar(&o.query.Confirm, "confirm", false, "also send a real probe from the source, and compare")
	f.StringVar(&o.bundle, "bundle", "", "directory or archive with the state to diagnose")
	f.StringVar(&o.server, "server", "", "URL of a plumbline server that answers")
	f.StringVar(&o.queries, "queries", "", "file with one JSON query a line; - for standard input")
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	f.StringVar(&o.manifests, "manifests", "", "directory of Kubernetes manifests that name pods and services")
	addAccessFlags(f, &o.access)
	f.StringSliceVar(&o.namespaces, "namespaces", nil, "globs of network namespaces of this host to look at (default: all)")
	return cmd
}

// answerer answers queries from one of the three sources of state.
type answerer func(ctx context.Context, q verdict.Query) (*verdict.Report, error)

func (o *diagnoseOptions) run(cmd *cobra.Command) error {
	if o.output != "text" && o.output != "json" {
		return usageError("--output: %q is not text or json", o.output)
	}
	if err := refuseEmpty(cmd, "bundle", "server", "queries", "manifests", "kubeconfig"); err != nil {
		return err
	}
	if o.bundle != "" && o.server != "" {
		return usageError("--bundle and --server exclude each other")
	}
	for _, elsewhere := range []string{"bundle", "server"} {
		for _, live := range []string{"namespaces", "manifests", "kubeconfig", "in-cluster"} {
			if cmd.Flags().Changed(elsewhere) && cmd.Flags().Changed(live) {
				return usageError("--%s is for the state of this host: --%s has all that it answers from", live, elsewhere)
			}
		}
	}
	if o.bundle != "" && o.query.Confirm {
		return usageError("--confirm sends packets, and a bundle is somewhere else")
	}
	if o.queries != "" && o.query.Confirm {
		return usageError("--confirm is for one query: in a file of --queries, each says \"confirm\" for itself")
	}
	if o.queries == "" {
		if err := o.complete(cmd); err != nil {
			return err
		}
	} else if cmd.Flags().Changed("from") || cmd.Flags().Changed("to") {
		return usageError("--queries and --from or --to exclude each other")
	}
	answer, err := o.source(cmd.Context())
	if err != nil {
		return &exitError{code: statusUsage, err: err}
	}
	if o.queries != "" {
		return o.batch(cmd, answer)
	}
	r, err := answer(cmd.Context(), o.query)
	if err != nil {
		return &exitError{code: statusUsage, err: err}
	}
	if err := o.print(cmd.OutOrStdout(), r); err != nil {
		return err
	}
	return withStatus(statusOf(r.Verdict))
}

// complete builds the query from the flags.
func (o *diagnoseOptions) complete(cmd *cobra.Command) error {
	q := &o.query
	q.Protocol = verdict.Protocol(strings.ToLower(o.protocol))
	q.Expect = verdict.Verdict(o.expect)
	if cmd.Flags().Changed("uid") {
		if o.uid < 0 || o.uid > 1<<32-1 {
			return usageError("--uid: %d is not a user id", o.uid)
		}
		uid := uint32(o.uid)
		q.UID = &uid
	}
	if cmd.Flags().Changed("icmp-type") {
		if o.icmpType < 0 || o.icmpType > 255 {
			return usageError("--icmp-type: %d is not from 0 to 255", o.icmpType)
		}
		t := uint8(o.icmpType)
		q.ICMPType = &t
	}
	if o.via != "" {
		namespace, device, ok := strings.Cut(o.via, ",")
		if !ok {
			return usageError("--via: %q: expected NAMESPACE,INTERFACE", o.via)
		}
		q.Via = &verdict.Via{Namespace: namespace, Interface: device}
	}
	if err := q.Validate(); err != nil {
		return &exitError{code: statusUsage, err: err}
	}
	return nil
}

// source opens what the answers come from.
func (o *diagnoseOptions) source(ctx context.Context) (answerer, error) {
	if o.server != "" {
		return o.remote()
	}
	if o.bundle != "" {
		snapshot, err := bundle.Read(o.bundle)
		if err != nil {
			return nil, err
		}
		world, err := simulator.Compile(snapshot)
		if err != nil {
			return nil, err
		}
		return func(_ context.Context, q verdict.Query) (*verdict.Report, error) {
			if q.Confirm {
				return nil, errors.New("confirm: sends packets, and a bundle is somewhere else")
			}
			return world.Diagnose(q)
		}, nil
	}
	return o.live(ctx)
}

// live answers from the state of this host.
func (o *diagnoseOptions) live(ctx context.Context) (answerer, error) {
	options, err := withCluster(ctx, collector.Options{Namespaces: o.namespaces, ManifestDir: o.manifests}, o.access)
	if err != nil {
		return nil, err
	}
	c := collector.New(options)
	collect := func(ctx context.Context) (*simulator.World, error) {
		snapshot, err := c.Collect(ctx)
		if err != nil {
			return nil, err
		}
		return simulator.Compile(snapshot)
	}
	world, err := collect(ctx)
	if err != nil {
		return nil, err
	}
	confirmer := confirm.New(confirm.Here(c.Inside))
	subject := confirm.World{World: world, Names: &confirm.Names{Ask: confirm.AskHere(c.Inside), Limit: confirmer.Limit}}
	return func(ctx context.Context, q verdict.Query) (*verdict.Report, error) {
		report, err := subject.Diagnose(ctx, q)
		if err != nil || !q.Confirm {
			return report, err
		}
		return confirmer.Confirm(ctx, subject, report, func(ctx context.Context) (confirm.Subject, error) {
			fresh, err := collect(ctx)
			if err == nil {
				subject.World = fresh
			}
			return subject, err
		})
	}, nil
}

// remote asks a server.
func (o *diagnoseOptions) remote() (answerer, error) {
	base, err := serverURL(o.server)
	if err != nil {
		return nil, err
	}
	target := base.JoinPath("api/v1/diagnose").String()
	client := &http.Client{Timeout: serverTimeout}
	return func(ctx context.Context, q verdict.Query) (*verdict.Report, error) {
		body, err := json.Marshal(q)
		if err != nil {
			return nil, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		return decodeAnswer(resp)
	}, nil
}

// serverURL reads the flag --server.
func serverURL(server string) (*url.URL, error) {
	base, err := url.Parse(server)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("--server: %q is not a URL such as http://127.0.0.1:9810", server)
	}
	return base, nil
}

// refusal is the error that a server answers, or nil.
func refusal(resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	var answer struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	body := io.LimitReader(resp.Body, maxServerAnswer)
	if err := json.NewDecoder(body).Decode(&answer); err != nil || answer.Error.Message == "" {
		return fmt.Errorf("server: %s", resp.Status)
	}
	return fmt.Errorf("server: %s", answer.Error.Message)
}

func decodeAnswer(resp *http.Response) (*verdict.Report, error) {
	if err := refusal(resp); err != nil {
		return nil, err
	}
	var r verdict.Report
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxServerAnswer)).Decode(&r); err != nil {
		return nil, fmt.Errorf("server: unreadable answer: %w", err)
	}
	return &r, nil
}

func (o *diagnoseOptions) print(w io.Writer, r *verdict.Report) error {
	if o.output == "text" {
		return r.WriteText(w)
	}
	data, err := r.AppendJSON(nil)
	if err != nil {
		return err
	}
	_, err = w.Write(append(data, '\n'))
	return err
}

// batch answers a file of queries line by line, in order. A line that is no
// query is answered by an error, and the rest goes on.
func (o *diagnoseOptions) batch(cmd *cobra.Command, answer answerer) error {
	lines, err := openQueries(o.queries, cmd.InOrStdin())
	if err != nil {
		return &exitError{code: statusUsage, err: err}
	}
	defer lines.close()
	out := bufio.NewWriter(cmd.OutOrStdout())
	defer out.Flush()
	status := statusReachable
	for lines.next() {
		report, id, err := answerLine(cmd.Context(), answer, lines.line)
		if errors.Is(err, context.Canceled) {
			return err
		}
		if err != nil {
			status = statusUsage
			refusal := struct {
				ID    string `json:"id"`
				Error string `json:"error"`
			}{id, fmt.Sprintf("line %d: %v", lines.number, err)}
			if err := json.NewEncoder(out).Encode(refusal); err != nil {
				return err
			}
			continue
		}
		if err := o.print(out, report); err != nil {
			return err
		}
		status = worse(status, statusOf(report.Verdict))
	}
	if err := lines.err(); err != nil {
		return &exitError{code: statusUsage, err: err}
	}
	return withStatus(status)
}

func answerLine(ctx context.Context, answer answerer, line []byte) (*verdict.Report, string, error) {
	q, err := verdict.DecodeQuery(line)
	if err != nil {
		var id struct {
			ID string `json:"id"`
		}
		_ = json.Unmarshal(line, &id) // as far as the line can be read at all
		return nil, id.ID, err
	}
	r, err := answer(ctx, q)
	return r, q.ID, err
}

func statusOf(v verdict.Verdict) int {
	switch v {
	case verdict.Reachable:
		return statusReachable
	case verdict.Unknown:
		return statusUnknown
	}
	return statusUnreachable
}

// worse returns the status of a batch so far: unreadable lines win over
// failures, failures over unknown ones.
func worse(a, b int) int {
	for _, s := range []int{statusUsage, statusUnreachable, statusUnknown} {
		if a == s || b == s {
			return s
		}
	}
	return statusReachable
}

// withStatus ends the command with a status and without a message.
func withStatus(code int) error {
	if code == statusReachable {
		return nil
	}
	return &exitError{code: code}
}
