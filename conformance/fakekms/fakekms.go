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
	s := &Server{
		now: now, settle: settle, keys: map[string]*key{}, aliases: map[string]*alias{}, ended: make(chan struct{}),
	}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
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

// SetState has every key that an alias names be in a state, such as "Disabled".
func (s *Server) SetState(aliasName, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[s.aliases[aliasName].key]
	k.state, k.deletion = state, s.now().Add(30*24*time.Hour)
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
	"ListResourceTags": (*Server).listResourceTags,
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
	f := s.due(operation)
	s.mu.Unlock()
	if f.before(s, w, r) {
		return
	}
	out, err := s.do(r, operation, in)
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
