package fakekms

import (
	"bytes"
	"net/http"
	"slices"
	"time"
)

// An Action is what goes wrong with a request.
type Action int

// The actions.
const (
	Answer    Action = iota // with an error: Kind, and Status if not 400; nothing is done
	Reset                   // closes the connection; nothing is done
	Lose                    // does it, and closes the connection
	BlackHole               // does nothing and does not answer
	Wait                    // answers Delay later
	Corrupt                 // flips a bit of the signature
	OtherKey                // signs with another key and does not say so
	OtherID                 // says that another key signed
	Truncate                // sends half of the answer
)

// A Fault is something that goes wrong.
type Fault struct {
	Operation string // "" for every one
	Action    Action
	Kind      string // error's type, of Answer: "ThrottlingException"
	Status    int
	Delay     time.Duration
	Skip      int // requests that are left alone first
	Times     int // requests that meet it; 0: until Clear
}

// Faults are what the suite's third level is run through, by name.
func Faults() map[string]Fault {
	return map[string]Fault{
		"throttled":                   {Operation: "Sign", Action: Answer, Kind: "ThrottlingException"},
		"an internal error":           {Action: Answer, Kind: "KMSInternalException", Status: http.StatusInternalServerError},
		"a dependency that is late":   {Action: Answer, Kind: "DependencyTimeoutException", Status: http.StatusServiceUnavailable},
		"a key that is not available": {Action: Answer, Kind: "KeyUnavailableException", Status: http.StatusInternalServerError},
		"latency":                     {Action: Wait, Delay: 150 * time.Millisecond},
		"connections are reset":       {Action: Reset},
		"a black hole":                {Action: BlackHole},
		"answers are cut off":         {Action: Truncate},
		"answers are lost":            {Action: Lose},
		"expired credentials":         {Action: Answer, Kind: "ExpiredTokenException"},
		"the key is disabled":         {Operation: "Sign", Action: Answer, Kind: "DisabledException"},
		"the key waits for deletion":  {Operation: "Sign", Action: Answer, Kind: "KMSInvalidStateException"},
		"nobody may use it":           {Operation: "Sign", Action: Answer, Kind: "AccessDeniedException"},
		"a signature is spoilt":       {Operation: "Sign", Action: Corrupt},
		"another key signs":           {Operation: "Sign", Action: OtherKey},
		"another key answers":         {Operation: "Sign", Action: OtherID},
		"an error that nobody knows":  {Action: Answer, Kind: "SomethingNewException"},
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

// due is the fault that a request meets, nil for none. Called with mu held.
func (s *Server) due(operation string) *Fault {
	for i, f := range s.faults {
		if f.Operation != "" && f.Operation != operation {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
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

// before does what goes wrong ahead of the operation, and reports whether that
// was all.
func (f *Fault) before(s *Server, w http.ResponseWriter, r *http.Request) bool {
	if f == nil {
		return false
	}
	switch f.Action {
	case Answer:
		err := &failure{http.StatusBadRequest, f.Kind, "planted"}
		if f.Status != 0 {
			err.status = f.Status
		}
		s.answer(w, nil, err, nil)
		return true
	case Reset:
		abort(w)
		return true
	case BlackHole:
		select {
		case <-r.Context().Done():
		case <-s.ended:
		}
		return true
	case Wait:
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
		}
	case OtherKey:
		s.swap(true)
	case Lose, Corrupt, OtherID, Truncate:
	}
	return false
}

// after spoils an answer, or has it lost.
func (f *Fault) after(body []byte, good bool) (spoilt []byte, lost bool) {
	if f == nil {
		return body, false
	}
	switch f.Action {
	case Lose:
		return nil, true
	case Truncate:
		return body[:len(body)/2], false
	case Corrupt:
		if good {
			return corrupt(body), false
		}
	case OtherID:
		return bytes.ReplaceAll(body, []byte(":key/"), []byte(":key/0")), false
	case Answer, Reset, BlackHole, Wait, OtherKey:
	}
	return body, false
}

// corrupt changes one character of the signature, which is base64.
func corrupt(body []byte) []byte {
	at := bytes.Index(body, []byte(`"Signature":"`))
	if at < 0 {
		return body
	}
	at += len(`"Signature":"`) + 20
	body = bytes.Clone(body)
	if body[at] == 'A' {
		body[at] = 'B'
	} else {
		body[at] = 'A'
	}
	return body
}

// swap has the next signature be made with another key of the same kind.
func (s *Server) swap(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.swapped = on
}
