// Package fakekms is AWS KMS at the wire, for tests: the HTTP of the real
// service (JSON 1.1, https://docs.aws.amazon.com/kms/latest/APIReference), so
// that the real SDK talks to it. It keeps the sides of the service that hurt:
// what was just made is not found for a while, a key is destroyed days later,
// requests are throttled, and an answer may be lost after the work was done.
//
// It makes real keys and real signatures, in memory, and verifies no request's
// signature: it wants one, of the access key that it knows.
package fakekms

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"
)

// The credentials that the fake knows.
const (
	AccessKey = "AKIAFAKE"
	SecretKey = "not-a-secret"
	Region    = "eu-central-1"
	account   = "111122223333"
)

// A Server is a KMS of one account and region.
type Server struct {
	*httptest.Server

	mu      sync.Mutex
	now     func() time.Time
	settle  time.Duration // until what was made is found
	keys    map[string]*key
	aliases map[string]*alias
	faults  []*Fault
	log     []Request
	made    int
	swapped bool // the next signature is another key's
	ended   chan struct{}
	quota   quota
	latency time.Duration
	hook    func(operation string, done bool)
}

// A quota is of requests a second that use keys, as the service counts them, and
// of keys (https://docs.aws.amazon.com/kms/latest/developerguide/limits.html).
type quota struct {
	perSecond, used, keys int
	begun                 time.Time
}

// SetQuota has the fake throttle what is over so many signatures a second, and
// refuse to have more keys than that; 0: any number.
func (s *Server) SetQuota(signaturesPerSecond, keys int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quota = quota{perSecond: signaturesPerSecond, keys: keys}
}

// throttled reports whether a request is over the quota. Called with mu held.
func (q *quota) throttled(now time.Time, operation string) bool {
	if q.perSecond == 0 || operation != "Sign" {
		return false
	}
	if now.Sub(q.begun) >= time.Second {
		q.begun, q.used = now, 0
	}
	q.used++
	return q.used > q.perSecond
}

// SetHook has f called before and after each request's work, with nothing locked.
func (s *Server) SetHook(f func(operation string, done bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = f
}

type key struct {
	id, spec string
	private  crypto.Signer
	tags     map[string]string
	state    string // as KeyState has it
	origin   string
	created  time.Time
	deletion time.Time
	found    time.Time // from when on it is found
	usable   time.Time // until when it signs, though its state says otherwise
	replicas []string  // regions; of a multi-region key
}

type alias struct {
	key   string
	found time.Time
}

// A Request is one that the fake was asked.
type Request struct {
	Operation string
	KeyID     string
}

// New starts a KMS; close it. What it makes is found only after settle.
func New(now func() time.Time, settle time.Duration) *Server {
	return NewAt("", now, settle)
}

// NewAt is New at an address; "" is a free port on loopback.
func NewAt(address string, now func() time.Time, settle time.Duration) *Server {
	s := &Server{
		now: now, settle: settle, keys: map[string]*key{}, aliases: map[string]*alias{}, ended: make(chan struct{}),
	}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	if address != "" {
		l, err := net.Listen("tcp", address)
		if err != nil {
			panic("fakekms: " + err.Error()) // as httptest does
		}
		_ = s.Listener.Close() // it was never used
		s.Listener = l
	}
	s.Start()
	return s
}

// Close ends it, and whoever waits for an answer.
func (s *Server) Close() {
	close(s.ended)
	s.CloseClientConnections()
	s.Server.Close()
}

// Log is every request so far.
func (s *Server) Log() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// Count says how often an operation was asked for.
func (s *Server) Count(operation string) (n int) {
	for _, r := range s.Log() {
		if r.Operation == operation {
			n++
		}
	}
	return n
}

// Enabled lists the ids of keys that can sign, with and without an alias.
func (s *Server) Enabled() (withAlias, without []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, k := range s.keys {
		if k.state != "Enabled" {
			continue
		}
		named := false
		for _, a := range s.aliases {
			named = named || a.key == id
		}
		if named {
			withAlias = append(withAlias, id)
		} else {
			without = append(without, id)
		}
	}
	return withAlias, without
}

// Tagged counts the keys that can sign, by the value of a tag, and those of them
// that have an alias.
func (s *Server) Tagged(tag string) (keys, named map[string]int) {
	withAlias, _ := s.Enabled()
	s.mu.Lock()
	defer s.mu.Unlock()
	keys, named = map[string]int{}, map[string]int{}
	for id, k := range s.keys {
		if k.state != "Enabled" {
			continue
		}
		keys[k.tags[tag]]++
		if slices.Contains(withAlias, id) {
			named[k.tags[tag]]++
		}
	}
	return keys, named
}

// SetState has the key that an alias names be in a state, such as "Disabled".
func (s *Server) SetState(aliasName, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[s.aliases[aliasName].key]
	k.state, k.deletion = state, s.now().Add(30*24*time.Hour)
}

// SetSpec has the key that an alias names say that it is of another kind.
func (s *Server) SetSpec(aliasName, spec string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[s.aliases[aliasName].key].spec = spec
}

// SetReplicas has the key that an alias names be a multi-region primary that is
// in these regions as well.
func (s *Server) SetReplicas(aliasName string, regions ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[s.aliases[aliasName].key].replicas = append([]string{}, regions...)
}

// failure is an error as the service answers it.
type failure struct {
	status     int
	kind, text string
}

// Error implements error.
func (f *failure) Error() string { return f.kind + ": " + f.text }

func fails(kind, format string, args ...any) error {
	return &failure{http.StatusBadRequest, kind, fmt.Sprintf(format, args...)}
}

// operations are those that the fake has.
var operations = map[string]func(*Server, request) (any, error){
	"CreateKey": (*Server).createKey, "DescribeKey": (*Server).describeKey, "GetPublicKey": (*Server).getPublicKey,
	"Sign": (*Server).sign, "ScheduleKeyDeletion": (*Server).scheduleKeyDeletion, "CreateAlias": (*Server).createAlias,
	"DeleteAlias": (*Server).deleteAlias, "ListAliases": (*Server).listAliases, "ListKeys": (*Server).listKeys,
	"ListResourceTags": (*Server).listResourceTags, "EnableKey": (*Server).enableKey, "DisableKey": (*Server).disableKey,
	"CancelKeyDeletion": (*Server).cancelKeyDeletion,
}

// request is the union of what the operations take.
type request struct {
	KeyId, AliasName, TargetKeyId, KeySpec, KeyUsage, Marker string
	Message                                                  []byte
	MessageType, SigningAlgorithm                            string
	PendingWindowInDays, Limit                               int
	Tags                                                     []struct{ TagKey, TagValue string }
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	operation := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	var in request
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	if err != nil {
		s.answer(w, nil, fails("SerializationException", "%v", err), nil)
		return
	}
	s.mu.Lock()
	s.log = append(s.log, Request{operation, in.KeyId})
	f, over, hook := s.due(operation), s.quota.throttled(s.now(), operation), s.hook
	s.mu.Unlock()
	if hook != nil {
		hook(operation, false)
	}
	if over {
		s.answer(w, nil, fails("ThrottlingException", "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."), nil)
		return
	}
	if f.before(s, w, r) {
		return
	}
	out, err := s.do(r, operation, in)
	if hook != nil {
		hook(operation, true)
	}
	s.answer(w, out, err, f)
}

// do does one operation, one after the other but for signatures.
func (s *Server) do(r *http.Request, operation string, in request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential="+AccessKey+"/") {
		return nil, fails("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	do := operations[operation]
	if do == nil {
		return nil, fails("UnknownOperationException", "%q", operation)
	}
	for _, k := range s.keys {
		if k.state == "PendingDeletion" && !s.now().Before(k.deletion) {
			delete(s.keys, k.id)
		}
	}
	return do(s, in)
}

func (s *Server) answer(w http.ResponseWriter, out any, err error, f *Fault) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	var failed *failure
	if errors.As(err, &failed) {
		out = map[string]string{"__type": failed.kind, "message": failed.text}
	}
	body, _ := json.Marshal(out) // our own types
	body, cut := f.after(body, failed == nil)
	if cut {
		abort(w)
		return
	}
	if failed != nil {
		w.WriteHeader(failed.status)
	}
	_, _ = w.Write(body)
}

// abort closes the connection under an answer.
func abort(w http.ResponseWriter) {
	if h, ok := w.(http.Hijacker); ok {
		if conn, _, err := h.Hijack(); err == nil {
			_ = conn.Close()
		}
	}
}
