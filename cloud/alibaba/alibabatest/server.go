package alibabatest

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // version 1 of signatures has it
	"encoding/base64"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/simulator/cloud/alibaba"
)

// Credentials of the account's user, and of the role of an instance or of a service
// account.
const (
	KeyID     = "LTAI5tTestKeyOfTheAccount"
	KeySecret = "secretOfTheKeyOfTheAccount0000"
	RoleName  = "plumbline-worker"
	RoleARN   = "acs:ram::" + Account + ":role/plumbline"
	Provider  = "acs:ram::" + Account + ":oidc-provider/ack-rrsa-test"
	// Token is what a service account shows to STS.
	Token = "eyJhbGciOiJSUzI1NiJ9.dG9rZW4tb2YtdGhlLXNlcnZpY2UtYWNjb3VudA.c2lnbmF0dXJl"
)

// Server is a cloud. Its methods may be called at any time.
type Server struct {
	t          testing.TB
	http       *httptest.Server
	operations map[string]*operation
	answerers  map[string]answerer
	over       chan struct{} // with the test
	closing    sync.Once

	mu       sync.Mutex
	facts    *alibaba.Facts
	faults   map[string]*Fault
	calls    map[string]int
	keys     map[string]key
	nonces   map[string]bool
	metadata map[string]time.Time // tokens of the metadata service
	lifetime time.Duration
	secrets  []string
	pageSize int
}

type key struct {
	secret, token string
	ends          time.Time
}

// Fault is what an action does instead of answering.
type Fault struct {
	Status        int    // of HTTP
	Code, Message string // of the error
	Times         int    // how often; 0: until Heal
	Hang          bool   // no answer, until the client leaves
	Truncate      bool   // half of the answer, as if that was all
	Cut           bool   // half of the answer, and the connection ends
	Endless       bool   // every page says that there is another one: itself
	Missing       bool   // the last item of the page is not there, though it is counted
}

// Faults as the API has them.
var (
	Forbidden = Fault{
		Status: http.StatusForbidden, Code: "Forbidden.RAM",
		Message: "User not authorized to operate on the specified resource, or this API doesn't support RAM. AuthPrincipalOwnerId: " + Account,
	}
	Throttled = Fault{Status: http.StatusBadRequest, Code: "Throttling.User", Message: "Request was denied due to user flow control."}
	Broken    = Fault{Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable", Message: "The request has failed due to a temporary failure of the server."}
	Silent    = Fault{Hang: true}
)

// New starts a cloud that has these resources, which are the server's from now on. It
// ends with the test.
func New(t testing.TB, cloud *alibaba.Facts) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return NewAt(t, l, cloud)
}

// NewAt is New for a listener, which may be of another network namespace.
func NewAt(t testing.TB, l net.Listener, cloud *alibaba.Facts) *Server {
	t.Helper()
	s := &Server{
		t: t, operations: operations(), answerers: answerers(), facts: cloud, over: make(chan struct{}),
		faults: map[string]*Fault{}, calls: map[string]int{}, nonces: map[string]bool{},
		keys:     map[string]key{KeyID: {secret: KeySecret}},
		metadata: map[string]time.Time{}, lifetime: time.Hour,
		secrets: []string{KeyID, KeySecret, Token, Account, Marker},
	}
	s.http = &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: time.Minute}}
	s.http.Start()
	t.Cleanup(s.Close)
	return s
}

// Close ends the server before its time.
func (s *Server) Close() {
	s.closing.Do(func() {
		close(s.over)
		s.http.CloseClientConnections()
		s.http.Close()
	})
}

// URL is where the server answers for all products.
func (s *Server) URL() *url.URL {
	u, err := url.Parse(s.http.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	return u
}

// Endpoints are those of all products, of STS and of the metadata service.
func (s *Server) Endpoints() map[string]*url.URL {
	all := map[string]*url.URL{}
	for _, product := range []string{"ecs", "vpc", "slb", "nlb", "alb", "sts", "metadata"} {
		all[product] = s.URL()
	}
	return all
}

// Change changes the resources.
func (s *Server) Change(change func(*alibaba.Facts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s.facts)
}

// Fail makes an action fail ("ecs.DescribeInstances"): also "sts.AssumeRoleWithOIDC"
// and "metadata".
func (s *Server) Fail(action string, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[action] = &f
}

// Heal ends the faults of actions, or of all.
func (s *Server) Heal(actions ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(actions) == 0 {
		clear(s.faults)
	}
	for _, a := range actions {
		delete(s.faults, a)
	}
}

// Calls are how often each action was called.
func (s *Server) Calls() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.calls)
}

// Lifetime makes credentials that are handed out from now on end after some time.
func (s *Server) Lifetime(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lifetime = d
}

// Revoke makes all credentials that were handed out unusable.
func (s *Server) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.keys {
		if id != KeyID {
			s.keys[id] = key{}
		}
	}
}

// PageSize makes pages so long, whatever is asked for, where the answer says how long
// they are; 0 ends it.
func (s *Server) PageSize(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pageSize = n
}

// Untold fails a test where a text holds what must not be found anywhere: credentials,
// the account, and what is in fields that nobody reads.
func (s *Server) Untold(t testing.TB, where, text string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secret := range s.secrets {
		if at := strings.Index(text, secret); at >= 0 {
			t.Errorf("%s: %q is told: %s", where, secret, text[max(0, at-80):min(len(text), at+80)])
		}
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/latest/") {
		s.serveMetadata(w, r)
		return
	}
	if err := r.ParseForm(); err != nil {
		s.t.Errorf("openapi: %v", err)
	}
	query := r.URL.Query()
	name := ""
	for candidate, op := range s.operations {
		if _, action, _ := strings.Cut(candidate, "."); action == query.Get("Action") && op.version == query.Get("Version") {
			name = candidate
		}
	}
	if query.Get("Action") == "AssumeRoleWithOIDC" && query.Get("Version") == "2015-04-01" {
		s.serveSTS(w, r)
		return
	}
	op, known := s.operations[name]
	if !known {
		s.t.Errorf("openapi: there is no action %s of version %s", query.Get("Action"), query.Get("Version"))
		fail(w, &problem{http.StatusNotFound, "InvalidAction.NotFound", "Specified api is not found, please check your url and method."})
		return
	}
	fault, ok := s.begin(name)
	if ok && s.faulty(w, r, fault) {
		return
	}
	given, p := s.check(r, name, op)
	if p != nil {
		fail(w, p)
		return
	}
	a := s.answerers[name]
	s.mu.Lock()
	if s.pageSize > 0 {
		switch a.page {
		case byNumber, byPage:
			given["PageSize"] = strconv.Itoa(s.pageSize)
		case byToken, byTokenN:
			given[a.page] = strconv.Itoa(s.pageSize)
		}
	}
	answer, p, bad := a.answer(name, op, s.facts, given)
	s.mu.Unlock()
	for _, b := range bad {
		s.t.Errorf("openapi: %s", b)
	}
	if p != nil {
		fail(w, p)
		return
	}
	if ok && fault.Endless {
		answer["NextToken"] = "next-0"
	}
	if ok && fault.Missing {
		where := cmp.Or(a.inside, a.at)
		if list, is := at(answer, where).([]any); is && len(list) > 0 {
			put(answer, where, list[:len(list)-1])
		}
	}
	data, err := json.Marshal(answer)
	if err != nil {
		s.t.Errorf("openapi: %v", err)
	}
	w.Header().Set("Content-Type", "application/json")
	switch {
	case ok && fault.Truncate:
		data = data[:len(data)/2]
	case ok && fault.Cut:
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		data = data[:len(data)/2]
	}
	_, _ = w.Write(data)
}

// begin counts a call, and tells the fault that it has.
func (s *Server) begin(name string) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[name]++
	f := s.faults[name]
	if f == nil {
		return Fault{}, false
	}
	if f.Times > 0 {
		if f.Times--; f.Times == 0 {
			delete(s.faults, name)
		}
	}
	return *f, true
}

// faulty does what a fault does instead of answering.
func (s *Server) faulty(w http.ResponseWriter, r *http.Request, f Fault) bool {
	switch {
	case f.Hang:
		select {
		case <-r.Context().Done():
		case <-s.over:
		}
		return true
	case f.Status != 0:
		fail(w, &problem{f.Status, f.Code, f.Message})
		return true
	}
	return false
}

func fail(w http.ResponseWriter, p *problem) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(p.status)
	_ = json.NewEncoder(w).Encode(map[string]string{
		"RequestId": "4C467B38-3910-447D-87BC-AC049166F216", "HostId": "ecs.aliyuncs.com", "Code": p.code, "Message": p.message,
		"Recommend": "https://api.aliyun.com/troubleshoot?q=" + p.code,
	})
}

// common are parameters of every request.
var common = []string{
	"Action", "Version", "Format", "Timestamp", "SignatureMethod", "SignatureVersion", "SignatureType", "SignatureNonce",
	"AccessKeyId", "SecurityToken", "Signature", "RegionId",
}

var index = regexp.MustCompile(`\.\d+$`)

// check judges the parameters and the signature of a request.
func (s *Server) check(r *http.Request, name string, op *operation) (map[string]string, *problem) {
	given := map[string]string{}
	a := s.answerers[name]
	for place, values := range map[string]url.Values{"query": r.URL.Query(), "body": r.PostForm} {
		for parameter := range values {
			value := values.Get(parameter)
			given[parameter] = value
			if slices.Contains(common, parameter) {
				continue
			}
			listed := index.ReplaceAllString(parameter, "[]")
			if op.parameters[listed] != place {
				s.t.Errorf("openapi: %s has no parameter %s in the %s", name, parameter, place)
			}
			if _, selects := a.filters[listed]; !selects && !slices.Contains([]string{a.page, "PageSize", "NextToken"}, parameter) {
				s.t.Errorf("openapi: parameter %s of %s is not there in tests", parameter, name)
			}
		}
	}
	for _, must := range []string{"Timestamp", "SignatureNonce", "AccessKeyId", "Signature", "RegionId"} {
		if given[must] == "" {
			return nil, &problem{http.StatusBadRequest, "Missing" + must, must + " is mandatory for this action."}
		}
	}
	if at, err := time.Parse(time.RFC3339, given["Timestamp"]); err != nil || time.Since(at).Abs() > 15*time.Minute {
		return nil, &problem{http.StatusBadRequest, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired."}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nonces[given["SignatureNonce"]] {
		return nil, &problem{http.StatusBadRequest, "SignatureNonceUsed", "Specified signature nonce was used already."}
	}
	s.nonces[given["SignatureNonce"]] = true
	k, known := s.keys[given["AccessKeyId"]]
	switch {
	case !known:
		return nil, &problem{http.StatusNotFound, "InvalidAccessKeyId.NotFound", "Specified access key is not found."}
	case given["AccessKeyId"] != KeyID && (time.Now().After(k.ends) || k.token != given["SecurityToken"]):
		return nil, &problem{http.StatusBadRequest, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired."}
	}
	text := toSign(r.Method, given)
	mac := hmac.New(sha1.New, []byte(k.secret+"&"))
	mac.Write([]byte(text))
	if signature := base64.StdEncoding.EncodeToString(mac.Sum(nil)); given["SignatureMethod"] != "HMAC-SHA1" || given["Signature"] != signature {
		return nil, &problem{http.StatusBadRequest, "SignatureDoesNotMatch", "Specified signature is not matched with our calculation. server string to sign is:" + text}
	}
	return given, nil
}

// toSign is what the signature is of: "Request syntax and signature method V2 for RPC
// APIs".
func toSign(method string, given map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if name != "Signature" {
			pairs = append(pairs, escape(name)+"="+escape(given[name]))
		}
	}
	return method + "&" + escape("/") + "&" + escape(strings.Join(pairs, "&"))
}

func escape(s string) string {
	return strings.NewReplacer("+", "%20", "*", "%2A", "%7E", "~").Replace(url.QueryEscape(s))
}

// issue makes credentials that end.
func (s *Server) issue() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := "STS." + rand.Text()
	k := key{rand.Text(), rand.Text(), time.Now().Add(s.lifetime)}
	s.keys[id] = k
	s.secrets = append(s.secrets, id, k.secret, k.token)
	return map[string]string{
		"AccessKeyId": id, "AccessKeySecret": k.secret, "SecurityToken": k.token,
		"Expiration": k.ends.UTC().Format("2006-01-02T15:04:05Z"),
	}
}

// serveSTS is AssumeRoleWithOIDC of STS, 2015-04-01.
func (s *Server) serveSTS(w http.ResponseWriter, r *http.Request) {
	if fault, ok := s.begin("sts.AssumeRoleWithOIDC"); ok && s.faulty(w, r, fault) {
		return
	}
	for name := range r.Form {
		if !slices.Contains([]string{"Action", "Version", "Format", "Timestamp", "RoleArn", "OIDCProviderArn", "OIDCToken", "RoleSessionName", "DurationSeconds"}, name) {
			s.t.Errorf("openapi: sts.AssumeRoleWithOIDC has no parameter %s", name)
		}
	}
	switch form := r.PostForm; {
	case form.Get("RoleArn") != RoleARN || form.Get("OIDCProviderArn") != Provider || form.Get("RoleSessionName") == "":
		fail(w, &problem{http.StatusNotFound, "EntityNotExist.Role", "The specified role not exists."})
	case form.Get("OIDCToken") != Token:
		fail(w, &problem{http.StatusBadRequest, "AuthenticationFail.OIDCToken.Invalid", "This JWT is invalid."})
	default:
		_ = json.NewEncoder(w).Encode(map[string]any{
			"RequestId":       "3D57EAD2-8723-1F26-B69C-F8707D8B565D",
			"Credentials":     s.issue(),
			"AssumedRoleUser": map[string]string{"Arn": RoleARN + "/" + form.Get("RoleSessionName"), "AssumedRoleId": "33157794895460****:" + form.Get("RoleSessionName")},
			"OIDCTokenInfo":   map[string]string{"Issuer": "https://oidc-ack-cn-test", "Subject": "system:serviceaccount:plumbline:plumbline-controller", "ClientIds": "sts.aliyuncs.com"},
		})
	}
}

// serveMetadata is the metadata service of an instance in the hardened mode: without a
// token it answers nothing.
func (s *Server) serveMetadata(w http.ResponseWriter, r *http.Request) {
	if fault, ok := s.begin("metadata"); ok && s.faulty(w, r, fault) {
		return
	}
	const header = "X-aliyun-ecs-metadata-token"
	path := strings.TrimPrefix(r.URL.Path, "/latest/")
	if path == "api/token" && r.Method == http.MethodPut {
		ttl, err := time.ParseDuration(r.Header.Get(header+"-ttl-seconds") + "s")
		if err != nil || ttl <= 0 || ttl > 6*time.Hour {
			http.Error(w, "bad ttl", http.StatusBadRequest)
			return
		}
		token := rand.Text()
		s.mu.Lock()
		s.metadata[token] = time.Now().Add(ttl)
		s.secrets = append(s.secrets, token)
		s.mu.Unlock()
		_, _ = w.Write([]byte(token))
		return
	}
	s.mu.Lock()
	ends := s.metadata[r.Header.Get(header)]
	s.mu.Unlock()
	switch {
	case time.Now().After(ends):
		http.Error(w, "forbidden", http.StatusForbidden)
	case path == "meta-data/ram/security-credentials/":
		_, _ = w.Write([]byte(RoleName))
	case path == "meta-data/ram/security-credentials/"+RoleName:
		answer := s.issue()
		answer["Code"], answer["LastUpdated"] = "Success", time.Now().UTC().Format("2006-01-02T15:04:05Z")
		_ = json.NewEncoder(w).Encode(answer)
	default:
		http.NotFound(w, r)
	}
}
