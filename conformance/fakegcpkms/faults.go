package fakegcpkms

import (
	"context"
	"slices"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

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
	Reset                    // closes the connection; nothing is done
	Cut                      // does it, and closes the connection
	Silence                  // on the connections there are nothing comes any more; others work
	BadPEM                   // flips a bit of a public key; its checksum is that of the right one
)

// A Fault is something that goes wrong.
type Fault struct {
	Method string // "AsymmetricSign"; "" for every one
	Action Action
	Code   codes.Code
	Delay  time.Duration
	Times  int // calls that meet it; 0: until Clear
}

// Faults are what the suite's third level is run through, by name.
func Faults() map[string]Fault {
	return map[string]Fault{
		"unavailable":                 {Code: codes.Unavailable},
		"a quota is used up":          {Code: codes.ResourceExhausted},
		"an internal error":           {Code: codes.Internal},
		"a black hole":                {Action: BlackHole},
		"latency":                     {Action: Wait, Delay: 150 * time.Millisecond},
		"connections are reset":       {Action: Reset},
		"answers are cut off":         {Action: Cut},
		"answers are lost":            {Action: Lose},
		"expired credentials":         {Code: codes.Unauthenticated},
		"a signature is spoilt":       {Method: "AsymmetricSign", Action: Corrupt},
		"a wrong signature":           {Method: "AsymmetricSign", Action: Forge},
		"another key signs":           {Method: "AsymmetricSign", Action: OtherName},
		"a checksum is not looked at": {Method: "AsymmetricSign", Action: Unverified},
		"the version is disabled":     {Method: "AsymmetricSign", Code: codes.FailedPrecondition},
		"nobody may use it":           {Method: "AsymmetricSign", Code: codes.PermissionDenied},
		"a status that nobody knows":  {Code: codes.Unknown},
	}
}

// Begin is Faults with what begins each, for a process elsewhere.
func (s *Server) Begin() map[string]func() {
	all := map[string]func(){}
	for name, f := range Faults() {
		all[name] = func() { s.Set(f) }
	}
	return all
}

// SetLatency has every signature come so much later.
func (s *Server) SetLatency(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = d
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
	s.log[method]++
	f, over, hook := s.due(method), s.quota.over(s.now(), method), s.hook
	s.mu.Unlock()
	if hook != nil {
		hook(method, false)
		defer hook(method, true)
	}
	if over {
		return nil, status.Error(codes.ResourceExhausted, "Quota exceeded for quota metric 'Cryptographic requests' and limit 'Cryptographic requests per minute'")
	}
	if f == nil {
		return next(ctx, in)
	}
	switch f.Action {
	case Answer:
		return nil, status.Error(f.Code, "planted")
	case BlackHole:
		<-ctx.Done()
		return nil, ctx.Err()
	case Silence:
		s.wire.silence()
		<-ctx.Done()
		return nil, ctx.Err()
	case Reset:
		s.wire.reset()
		return nil, status.Error(codes.Unavailable, "reset")
	case Wait:
		select {
		case <-time.After(f.Delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case Lose, Corrupt, Forge, OtherName, Unverified, Cut, BadPEM:
	}
	out, err := next(ctx, in)
	if f.Action == Lose {
		return nil, status.Error(codes.Unavailable, "the answer was lost")
	}
	if f.Action == Cut {
		s.wire.reset()
	}
	if public, ok := out.(*kmspb.PublicKey); ok && f.Action == BadPEM {
		public.Pem = "-" + public.GetPem()[1:len(public.GetPem())/2] + "A" + public.GetPem()[len(public.GetPem())/2+1:]
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
	case Answer, Lose, BlackHole, Wait, Reset, Cut, Silence, BadPEM:
	}
}
