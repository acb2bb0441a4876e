// Package fakegcpkms is Google Cloud KMS at the wire, for tests: the gRPC of the
// real service (https://cloud.google.com/kms/docs/reference/rpc), so that the
// real SDK talks to it. It keeps the sides of the service that hurt: a version
// is generated for a while before it can be used, a key's name is never free
// again, a version is destroyed weeks later, and an answer may be lost after
// the work was done. Keys and signatures are real, and in memory.
package fakegcpkms

import (
	"crypto"
	"net"
	"sync"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc"
)

// Ring is the one key ring there is.
const Ring = "projects/fake/locations/europe-west3/keyRings/signet"

// A Server is a KMS with one key ring.
type Server struct {
	kmspb.UnimplementedKeyManagementServiceServer

	Address string // for the SDK's endpoint; no TLS

	grpc    *grpc.Server
	wire    *listener
	now     func() time.Time
	pending time.Duration // until a version is generated

	mu      sync.Mutex
	keys    map[string]*key // by name
	faults  []*Fault
	log     map[string]int // how often a method was called
	quota   quota
	latency time.Duration
	lag     time.Duration
	hook    func(method string, done bool)
}

// A quota is of cryptographic requests in a minute, as the service counts them.
type quota struct {
	most, used int
	begun      time.Time
}

// SetQuota has the fake refuse what is over that many signatures and public keys
// a minute; 0: nothing. https://cloud.google.com/kms/quotas
func (s *Server) SetQuota(perMinute int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quota = quota{most: perMinute}
}

// SetLag has a version that was disabled or destroyed sign for a while longer:
// the service is only eventually consistent there
// (https://cloud.google.com/kms/docs/consistency).
func (s *Server) SetLag(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lag = d
}

// SetHook has f called before and after each call's work, with nothing locked.
func (s *Server) SetHook(f func(method string, done bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = f
}

// over reports whether a call is over the quota. Called with mu held.
func (q *quota) over(now time.Time, method string) bool {
	if q.most == 0 || method != "AsymmetricSign" && method != "GetPublicKey" {
		return false
	}
	if now.Sub(q.begun) >= time.Minute {
		q.begun, q.used = now, 0
	}
	q.used++
	return q.used > q.most
}

type key struct {
	proto    *kmspb.CryptoKey
	versions []*version
}

type version struct {
	proto   *kmspb.CryptoKeyVersion
	private crypto.Signer
	ready   time.Time
	until   time.Time // it still signs, though its state says otherwise
}

// New starts a KMS on loopback; close it.
func New(now func() time.Time, pending time.Duration) (*Server, error) {
	return NewAt("127.0.0.1:0", now, pending)
}

// NewAt is New at an address.
func NewAt(address string, now func() time.Time, pending time.Duration) (*Server, error) {
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	l := &listener{Listener: tcp}
	s := &Server{Address: l.Addr().String(), wire: l, now: now, pending: pending, keys: map[string]*key{}, log: map[string]int{}}
	s.grpc = grpc.NewServer(grpc.UnaryInterceptor(s.intercept))
	kmspb.RegisterKeyManagementServiceServer(s.grpc, s)
	go func() { _ = s.grpc.Serve(l) }()
	return s, nil
}

// Close ends it.
func (s *Server) Close() { s.grpc.Stop() }

// Count says how often a method was called.
func (s *Server) Count(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log[method]
}

// Enabled counts the versions that can sign, of all keys.
func (s *Server) Enabled() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		for _, v := range k.versions {
			if v.proto.GetState() == kmspb.CryptoKeyVersion_ENABLED || v.proto.GetState() == kmspb.CryptoKeyVersion_PENDING_GENERATION {
				n++
			}
		}
	}
	return n
}

// Labelled lists the versions that can sign and whose key has a label, and which
// can and has none.
func (s *Server) Labelled(label string) (with, without []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		for _, v := range k.versions {
			switch {
			case s.seen(v).GetState() != kmspb.CryptoKeyVersion_ENABLED && v.proto.GetState() != kmspb.CryptoKeyVersion_PENDING_GENERATION:
			case k.proto.GetLabels()[label] != "":
				with = append(with, v.proto.GetName())
			default:
				without = append(without, v.proto.GetName())
			}
		}
	}
	return with, without
}

// Change changes every version that there is, and its key, as a person with
// other rights than signet's could.
func (s *Server) Change(f func(*kmspb.CryptoKey, *kmspb.CryptoKeyVersion)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		for _, v := range k.versions {
			f(k.proto, s.seenInPlace(v))
		}
	}
}

// Disable has every version be disabled.
func (s *Server) Disable() {
	s.Change(func(_ *kmspb.CryptoKey, v *kmspb.CryptoKeyVersion) { v.State = kmspb.CryptoKeyVersion_DISABLED })
}
