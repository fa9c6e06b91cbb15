package alibaba

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"golang.org/x/time/rate"
)

// Limits of calls.
const (
	callTimeout  = 10 * time.Second // of one request
	tries        = 5                // of a call
	firstPause   = 250 * time.Millisecond
	longestPause = 4 * time.Second
	maxAnswer    = 64 << 20 // bytes: 500 interfaces take less than 3 MB
	maxPages     = 10_000
	callsAtOnce  = 16
)

// api calls the OpenAPI.
type api struct {
	options     *Options
	transport   http.RoundTripper
	credentials *chain
	limits      map[string]*rate.Limiter // by product
	slots       chan struct{}            // calls under way
	metrics     *Metrics
	pause       func(ctx context.Context, try int) error
}

func newAPI(o *Options, m *Metrics) *api {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = callsAtOnce
	a := &api{
		options: o, transport: transport, metrics: m,
		limits: map[string]*rate.Limiter{}, slots: make(chan struct{}, callsAtOnce), pause: pause,
	}
	for name, p := range products {
		a.limits[name] = rate.NewLimiter(rate.Limit(p.perSecond), int(p.perSecond))
	}
	// No proxy is between an instance and its metadata.
	direct := transport.Clone()
	direct.Proxy = nil
	a.credentials = newChain(o, transport, direct)
	return a
}

// pause waits before another try: longer each time, and never as long as others do.
func pause(ctx context.Context, try int) error {
	d := min(firstPause<<try, longestPause)
	d = d/2 + rand.N(d/2)
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// parameters of an action, by name: "InstanceId.1".
type parameters map[string]string

// repeated adds a list.
func (p parameters) repeated(name string, list []string) parameters {
	for i, s := range list {
		p[name+"."+strconv.Itoa(i+1)] = s
	}
	return p
}

// pages calls an action until there is no more, and returns the answers as they came.
// An answer that is not complete is none: an error is returned, and no page.
func (a *api) pages(ctx context.Context, act action, p parameters) ([][]byte, error) {
	var all [][]byte
	items := 0
	token := ""
	for number := 1; number <= maxPages; number++ {
		q := maps.Clone(p)
		if q == nil {
			q = parameters{}
		}
		size := strconv.Itoa(act.size)
		switch act.paging {
		case numbered:
			q["PageNumber"], q["PageSize"] = strconv.Itoa(number), size
		case aclPages:
			q["Page"], q["PageSize"] = strconv.Itoa(number), size
		case tokens:
			q["MaxResults"] = size
		case tokensOne:
			q["MaxResult"] = size
		}
		if token != "" {
			q["NextToken"] = token
		}
		answer, page, err := a.call(ctx, act, q)
		if err != nil {
			return nil, err
		}
		all = append(all, answer)
		switch act.paging {
		case whole:
			return all, nil
		case tokens, tokensOne:
			if page.NextToken == "" {
				return all, nil
			}
			if page.NextToken == token {
				return nil, &APIError{Action: act.name, Code: codeMalformed, Detail: "a page names itself as the next"}
			}
			token = page.NextToken
		case aclPages:
			// It does not say how long its pages are.
			items += len(page.AclEntrys.AclEntry)
			switch {
			case items >= int(page.TotalAclEntry):
				return all, nil
			case len(page.AclEntrys.AclEntry) == 0:
				return nil, &APIError{Action: act.name, Code: codeMalformed, Detail: fmt.Sprintf("%d of %d were read", items, page.TotalAclEntry)}
			}
		case numbered:
			// It may have been less than was asked for.
			items += cmp.Or(int(page.PageSize), act.size)
			if items >= int(page.TotalCount) {
				return all, nil
			}
		}
	}
	return nil, &APIError{Action: act.name, Code: codeMalformed, Detail: "there is no end of pages"}
}

// page is what answers have in common.
type page struct {
	NextToken            string
	TotalCount, PageSize looseInt
	TotalAclEntry        looseInt
	AclEntrys            struct{ AclEntry []json.RawMessage }
	Code, Message        string
	Success              *bool
}

// looseInt is a number, or a string of one.
type looseInt int

func (n *looseInt) UnmarshalJSON(data []byte) error {
	text := strings.Trim(string(data), `"`)
	if text == "" || text == "null" {
		return nil
	}
	v, err := strconv.Atoi(text)
	*n = looseInt(v)
	return err
}

// call sends one request, again where that may help.
func (a *api) call(ctx context.Context, act action, p parameters) ([]byte, *page, error) {
	for try := 0; ; try++ {
		answer, page, err := a.once(ctx, act, p)
		if err == nil {
			a.metrics.called(act.name, nil)
			return answer, page, nil
		}
		failed := fails(act.name, err)
		a.metrics.called(act.name, failed)
		last := tries - 1
		if failed.Code == codeTimeout || failed.expired() {
			last = 1
		}
		if !failed.again() || try >= last || ctx.Err() != nil || a.pause(ctx, try) != nil {
			return nil, nil, failed
		}
	}
}

// once sends one request.
func (a *api) once(ctx context.Context, act action, p parameters) ([]byte, *page, error) {
	service, name, _ := strings.Cut(act.name, ".")
	// Who waits for a turn of one product takes no slot from the others.
	if err := a.limits[service].Wait(ctx); err != nil {
		return nil, nil, &APIError{Action: act.name, Code: codeTimeout, Detail: "there was no time left to send the request", unsent: true}
	}
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return nil, nil, &APIError{Action: act.name, Code: codeTimeout, Detail: "no answer in time", unsent: true}
	}
	held, err := a.credentials.get(ctx)
	if err != nil {
		return nil, nil, &APIError{Action: act.name, Code: codeCredentials, Detail: plain(err.Error()), unsent: true}
	}
	// The SDK's client is of one request: it is not for several goroutines at once.
	// That it keeps nothing is why all of them share a transport.
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	config := sdk.NewConfig().WithAutoRetry(false).WithUserAgent("plumbline")
	config.Transport = bounded{ctx, a.transport}
	client, err := sdk.NewClientWithOptions(a.options.Region, config, credentials.NewStaticSTSCredentialsProvider(held.id, held.secret, held.token))
	if err != nil {
		return nil, nil, err
	}
	client.SetReadTimeout(callTimeout)
	client.SetCloseTrace(true)
	to := a.options.endpoint(service)
	r := requests.NewCommonRequest()
	r.Method, r.Scheme, r.Domain = requests.POST, strings.ToUpper(to.Scheme), to.Host
	r.Product, r.Version, r.ApiName = products[service].name, products[service].version, name
	r.SetContentType(requests.Form)
	where := r.QueryParams
	if act.body {
		where = r.FormParams
	}
	maps.Copy(where, p)
	r.QueryParams["RegionId"] = a.options.Region
	response, err := client.ProcessCommonRequest(r)
	if err != nil {
		failed := fails(act.name, err)
		if failed.expired() {
			a.credentials.refused(held)
		}
		return nil, nil, failed
	}
	answer := response.GetHttpContentBytes()
	page := new(page)
	if err := json.Unmarshal(answer, page); err != nil {
		return nil, nil, &APIError{Action: act.name, Code: codeMalformed, Detail: "the answer is not complete JSON"}
	}
	// NLB and ALB say so with status 200, too.
	if page.Success != nil && !*page.Success && page.Code != "" {
		return nil, nil, &APIError{Action: act.name, Code: plain(page.Code), Detail: plain(page.Message)}
	}
	return answer, page, nil
}

// bounded sends what belongs to a context, which the SDK knows nothing of.
type bounded struct {
	ctx context.Context
	to  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := b.to.RoundTrip(r.WithContext(b.ctx))
	if err != nil {
		return nil, err
	}
	response.Body = &limitedBody{response.Body, maxAnswer}
	return response, nil
}

// limitedBody fails where an answer is too long.
type limitedBody struct {
	io.ReadCloser
	left int
}

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return n, errors.New("the answer is too long")
	}
	return n, err
}

// Products are those whose endpoints can be given, with that of STS and the metadata
// of the instance.
func Products() []string {
	return slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(products)), serviceSTS, serviceMetadata)))
}
