package alibaba

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// Sources of credentials. CredentialsAuto takes the first of the others that there is,
// in the order of Alibaba Cloud's own default chain: environment, OIDC, the instance.
const (
	CredentialsAuto        = "auto"
	CredentialsEnvironment = "environment"
	CredentialsOIDC        = "oidc"
	CredentialsInstance    = "instance"
)

// Services beside those of the OpenAPI that is read.
const (
	serviceSTS      = "sts"
	serviceMetadata = "metadata"
)

const (
	// early is how long before they end credentials are asked for again.
	early = 5 * time.Minute
	// roleSession names who holds credentials in the account's audit log.
	roleSession = "plumbline"
	// metadataTimeout is short: it is a link-local address that answers, or does not.
	metadataTimeout = 3 * time.Second
)

// held are credentials. Nothing prints them.
type held struct {
	id, secret, token string
	ends              time.Time // zero: never
}

// String implements fmt.Stringer, so that nothing prints them by mistake.
func (held) String() string { return "credentials" }

// GoString implements fmt.GoStringer for the same reason.
func (held) GoString() string { return "credentials" }

// chain holds credentials, and gets new ones before they end.
type chain struct {
	options  *Options
	sts      *http.Client
	metadata *http.Client
	now      func() time.Time
	env      func(string) string

	mu   sync.Mutex
	held held
}

func newChain(o *Options, transport, direct http.RoundTripper) *chain {
	client := func(transport http.RoundTripper) *http.Client {
		return &http.Client{
			Transport: transport, Timeout: callTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return &chain{
		options: o, sts: client(transport), metadata: client(direct), now: time.Now, env: os.Getenv,
	}
}

// get returns credentials that are good for some minutes yet. While new ones cannot be
// had, those that have not ended are used.
func (c *chain) get(ctx context.Context) (held, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if c.held.id != "" && (c.held.ends.IsZero() || now.Add(early).Before(c.held.ends)) {
		return c.held, nil
	}
	fresh, err := c.obtain(ctx)
	if err != nil {
		if c.held.id != "" && now.Before(c.held.ends) {
			return c.held, nil
		}
		return held{}, err
	}
	c.held = fresh
	return fresh, nil
}

// refused forgets credentials that the API does not take any more.
func (c *chain) refused(h held) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == h {
		c.held = held{}
	}
}

func (c *chain) obtain(ctx context.Context) (held, error) {
	source := c.options.Credentials
	if source == "" || source == CredentialsAuto {
		switch {
		case c.env("ALIBABA_CLOUD_ACCESS_KEY_ID") != "":
			source = CredentialsEnvironment
		case c.env("ALIBABA_CLOUD_OIDC_TOKEN_FILE") != "":
			source = CredentialsOIDC
		default:
			source = CredentialsInstance
		}
	}
	switch source {
	case CredentialsEnvironment:
		return c.environment()
	case CredentialsOIDC:
		return c.oidc(ctx)
	}
	return c.instance(ctx)
}

// environment reads the variables that all tools of Alibaba Cloud read.
func (c *chain) environment() (held, error) {
	h := held{id: c.env("ALIBABA_CLOUD_ACCESS_KEY_ID"), secret: c.env("ALIBABA_CLOUD_ACCESS_KEY_SECRET"), token: c.env("ALIBABA_CLOUD_SECURITY_TOKEN")}
	if h.id == "" || h.secret == "" {
		return held{}, errors.New("credentials of the environment: ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET need each other")
	}
	return h, nil
}

// oidc exchanges the token of a service account for credentials of a role (RRSA;
// AssumeRoleWithOIDC, which is not signed).
func (c *chain) oidc(ctx context.Context) (held, error) {
	role, provider, file := c.env("ALIBABA_CLOUD_ROLE_ARN"), c.env("ALIBABA_CLOUD_OIDC_PROVIDER_ARN"), c.env("ALIBABA_CLOUD_OIDC_TOKEN_FILE")
	if role == "" || provider == "" || file == "" {
		return held{}, errors.New("credentials by OIDC: ALIBABA_CLOUD_ROLE_ARN, ALIBABA_CLOUD_OIDC_PROVIDER_ARN and ALIBABA_CLOUD_OIDC_TOKEN_FILE need each other")
	}
	token, err := os.ReadFile(file)
	if err != nil {
		return held{}, fmt.Errorf("credentials by OIDC: %w", err)
	}
	to := c.options.endpoint(serviceSTS)
	query := url.Values{
		"Action": {"AssumeRoleWithOIDC"}, "Version": {"2015-04-01"}, "Format": {"JSON"},
		"Timestamp": {c.now().UTC().Format(time.RFC3339)},
	}
	form := url.Values{
		"RoleArn": {role}, "OIDCProviderArn": {provider}, "OIDCToken": {strings.TrimSpace(string(token))},
		"RoleSessionName": {roleSession}, "DurationSeconds": {"3600"},
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.Scheme+"://"+to.Host+"/?"+query.Encode(), strings.NewReader(form.Encode()))
	if err != nil {
		return held{}, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var answer struct{ Credentials session }
	if err := do(c.sts, r, "sts.AssumeRoleWithOIDC", &answer); err != nil {
		return held{}, err
	}
	return answer.Credentials.held("sts.AssumeRoleWithOIDC")
}

// session is what STS and the metadata service hand out.
type session struct {
	Code            string // of the metadata service
	AccessKeyId     string
	AccessKeySecret string
	SecurityToken   string
	Expiration      time.Time
}

func (s *session) held(from string) (held, error) {
	if s.AccessKeyId == "" || s.AccessKeySecret == "" || s.SecurityToken == "" || s.Expiration.IsZero() {
		return held{}, fmt.Errorf("%s: the answer has no credentials", from)
	}
	return held{s.AccessKeyId, s.AccessKeySecret, s.SecurityToken, s.Expiration}, nil
}

// instance gets those of the RAM role that the ECS instance has, in the hardened mode
// of the metadata service (a token, "IMDSv2").
func (c *chain) instance(ctx context.Context) (held, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	at := c.options.endpoint(serviceMetadata)
	base := at.Scheme + "://" + at.Host + "/latest/"
	request := func(method, path, header, value string) (string, error) {
		r, err := http.NewRequestWithContext(ctx, method, base+path, nil)
		if err != nil {
			return "", err
		}
		r.Header.Set(header, value)
		var text string
		err = do(c.metadata, r, "the instance's metadata", &text)
		return text, err
	}
	const tokenHeader = "X-aliyun-ecs-metadata-token"
	token, err := request(http.MethodPut, "api/token", tokenHeader+"-ttl-seconds", "60")
	if err != nil {
		return held{}, err
	}
	role := c.env("ALIBABA_CLOUD_ECS_METADATA")
	if role == "" {
		if role, err = request(http.MethodGet, "meta-data/ram/security-credentials/", tokenHeader, token); err != nil {
			return held{}, err
		}
		role = strings.TrimSpace(role)
	}
	text, err := request(http.MethodGet, "meta-data/ram/security-credentials/"+url.PathEscape(role), tokenHeader, token)
	if err != nil {
		return held{}, err
	}
	var s session
	if err := json.Unmarshal([]byte(text), &s); err != nil || s.Code != "Success" {
		return held{}, fmt.Errorf("the instance's metadata: no credentials of role %s", role)
	}
	return s.held("the instance's metadata")
}

// do sends a request, and reads the answer: as JSON, or as it is into a string. What
// was sent is not in its errors.
func do(client *http.Client, r *http.Request, from string, into any) error {
	response, err := client.Do(r)
	if err != nil {
		return fails(from, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return fails(from, err)
	}
	if response.StatusCode != http.StatusOK {
		var said page
		_ = json.Unmarshal(data, &said) // an error may be of a proxy, and no JSON
		if said.Code == "" {
			said.Code = response.Status
		}
		return &APIError{Action: from, Code: plain(said.Code), Detail: plain(said.Message), status: response.StatusCode}
	}
	if text, ok := into.(*string); ok {
		*text = string(data)
		return nil
	}
	if json.NewDecoder(bytes.NewReader(data)).Decode(into) != nil {
		return &APIError{Action: from, Code: codeMalformed, Detail: "the answer is not JSON as it should be"}
	}
	return nil
}
