// Package fakegcpkms is Google Cloud KMS at the wire, for tests: the gRPC of the
// real service (https://cloud.google.com/kms/docs/reference/rpc), so that the
// real SDK talks to it. It keeps the sides of the service that hurt: a version
// is generated for a while before it can be used, a key's name is never free
// again, a version is destroyed weeks later, and an answer may be lost after
// the work was done. Keys and signatures are real, and in memory.
package fakegcpkms

import (
	"context"
	"crypto"
	"net"
	"slices"
	"sync"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Ring is the one key ring there is.
const Ring = "projects/fake/locations/europe-west3/keyRings/signet"

// A Server is a KMS with one key ring.
type Server struct {
	kmspb.UnimplementedKeyManagementServiceServer

	Address string // for the SDK's endpoint; no TLS

	grpc    *grpc.Server
	now     func() time.Time
	pending time.Duration // until a version is generated

	mu     sync.Mutex
	keys   map[string]*key // by name
	faults []*Fault
	log    []string // methods
}

type key struct {
	proto    *kmspb.CryptoKey
	versions []*version
}

type version struct {
	proto   *kmspb.CryptoKeyVersion
	private crypto.Signer
	ready   time.Time
}

// New starts a KMS on loopback; close it.
func New(now func() time.Time, pending time.Duration) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{Address: l.Addr().String(), now: now, pending: pending, keys: map[string]*key{}}
	s.grpc = grpc.NewServer(grpc.UnaryInterceptor(s.intercept))
	kmspb.RegisterKeyManagementServiceServer(s.grpc, s)
	go func() { _ = s.grpc.Serve(l) }()
	return s, nil
}

// Close ends it.
func (s *Server) Close() { s.grpc.Stop() }

// Count says how often a method was called.
func (s *Server) Count(method string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.log {
		if m == method {
			n++
		}
	}
	return n
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

// Disable has every version be disabled.
func (s *Server) Disable() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		for _, v := range k.versions {
			v.proto.State = kmspb.CryptoKeyVersion_DISABLED
		}
	}
}

// An Action is what goes wrong with a call.
type Action int

// The actions.
const (
	Answer     Action = iota // with Code; nothing is done
	Lose                     // does it, and answers Unavailable
	BlackHole                // does nothing and does not answer
	Wait                     // answers Delay later
	Corrupt                  // flips a bit of the signature; its checksum is that of the right one
	Forge                    // flips a bit of the signature, and its checksum fits
	OtherName                // says that another version signed
	Unverified               // says that our checksum was not looked at
)

// A Fault is something that goes wrong.
type Fault struct {
	Method string // "AsymmetricSign"; "" for every one
	Action Action
	Code   codes.Code
	Delay  time.Duration
	Times  int // calls that meet it; 0: until Clear
}

// Set replaces all faults.
func (s *Server) Set(all ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
	for _, f := range all {
		s.faults = append(s.faults, &f)
	}
}

// Clear ends all faults.
func (s *Server) Clear() { s.Set() }

// due is the fault that a call meets. Called with mu held.
func (s *Server) due(method string) *Fault {
	for i, f := range s.faults {
		if f.Method != "" && f.Method != method {
			continue
		}
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				s.faults = slices.Delete(s.faults, i, i+1)
			}
		}
		met := *f
		return &met
	}
	return nil
}

func (s *Server) intercept(ctx context.Context, in any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	method := info.FullMethod[len("/google.cloud.kms.v1.KeyManagementService/"):]
	s.mu.Lock()
	s.log = append(s.log, method)
	f := s.due(method)
	s.mu.Unlock()
	if f == nil {
		return next(ctx, in)
	}
	switch f.Action {
	case Answer:
		return nil, status.Error(f.Code, "planted")
	case BlackHole:
		<-ctx.Done()
		return nil, ctx.Err()
	case Wait:
		select {
		case <-time.After(f.Delay):
		case <-ctx.Done():
		}
	case Lose, Corrupt, Forge, OtherName, Unverified:
	}
	out, err := next(ctx, in)
	if f.Action == Lose {
		return nil, status.Error(codes.Unavailable, "the answer was lost")
	}
	if signed, ok := out.(*kmspb.AsymmetricSignResponse); ok {
		f.spoil(signed)
	}
	return out, err
}

// spoil changes an answer that has a signature.
func (f *Fault) spoil(out *kmspb.AsymmetricSignResponse) {
	switch f.Action {
	case Corrupt:
		out.Signature[len(out.Signature)/2] ^= 1
	case Forge:
		out.Signature[len(out.Signature)/2] ^= 1
		out.SignatureCrc32C = checksum(out.GetSignature())
	case OtherName:
		out.Name += "0"
	case Unverified:
		out.VerifiedDigestCrc32C, out.VerifiedDataCrc32C = false, false
	case Answer, Lose, BlackHole, Wait:
	}
}
