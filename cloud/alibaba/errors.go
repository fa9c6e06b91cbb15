package alibaba

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	sdkerrors "github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"
)

// APIError is a call that failed. Its text has no credentials in it, nor numbers of
// accounts: reports and bundles show it.
type APIError struct {
	Action string // "ecs.DescribeInstances"
	Code   string // of the API, as "Forbidden.RAM"; or Timeout, Unreachable, Malformed
	Detail string
	status int  // of HTTP; 0 without an answer
	unsent bool // there was no request
}

func (e *APIError) Error() string { return e.Action + ": " + e.reason() }

// reason is what facts keep of it.
func (e *APIError) reason() string {
	if e.Detail == "" {
		return e.Code
	}
	return e.Code + ": " + e.Detail
}

// Codes of failures that the API does not name itself.
const (
	codeTimeout     = "Timeout"
	codeUnreachable = "Unreachable"
	codeMalformed   = "Malformed"
	codeCredentials = "NoCredentials"
)

// again says whether another try may help: the API is busy, or was not reached.
func (e *APIError) again() bool {
	switch {
	case e.Code == codeTimeout, e.Code == codeUnreachable, e.Code == codeMalformed:
		return true
	case strings.HasPrefix(e.Code, "Throttling"), e.status == http.StatusTooManyRequests:
		return true
	case e.Code == "SignatureNonceUsed", e.expired():
		return true
	}
	return e.status >= 500
}

// expired says that the credentials have ended before their time.
func (e *APIError) expired() bool { return strings.HasPrefix(e.Code, "InvalidSecurityToken") }

// fails makes an error of what the SDK, or the network, returned. The text of such
// errors has the URL of the request in it, which has credentials.
func fails(action string, err error) *APIError {
	var failed *APIError
	if errors.As(err, &failed) {
		return failed
	}
	var server *sdkerrors.ServerError
	if errors.As(err, &server) {
		code := server.ErrorCode()
		if code == "" {
			return &APIError{Action: action, Code: fmt.Sprintf("HTTP %d", server.HttpStatus()), status: server.HttpStatus()}
		}
		return &APIError{Action: action, Code: plain(code), Detail: plain(server.Message()), status: server.HttpStatus()}
	}
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return &APIError{Action: action, Code: codeTimeout, Detail: "no answer in time"}
	}
	for {
		var u *url.Error
		if !errors.As(err, &u) {
			break
		}
		err = u.Err
	}
	return &APIError{Action: action, Code: codeUnreachable, Detail: plain(err.Error())}
}

// sensitive is what must not be told: numbers of accounts, and what identifies
// credentials.
var sensitive = regexp.MustCompile(`\b\d{15,18}\b|\b(LTAI|STS\.|TMP\.)[A-Za-z0-9.]+|(?i)(AccessKeyId|SecurityToken|Signature|AccessKeySecret|OIDCToken)=[^&\s"]*`)

// plain is a message of the API without what must not be told, and of one line.
func plain(s string) string {
	const limit = 300
	// What the server has signed contains the request.
	if before, _, found := strings.Cut(s, "string to sign"); found {
		s = before + "string to sign differs"
	}
	s = strings.Join(strings.Fields(sensitive.ReplaceAllString(s, "…")), " ")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
