package signers

// A Metered [Backend] counts what it asks a service for. Optional.
type Metered interface {
	Usage() Usage
}

// A Usage is what a service was asked for since the back-end was opened.
type Usage struct {
	Requests map[Request]int64 // each attempt
	Retries  int64             // of the attempts, those after the first
	USD      float64           // what they cost by the price list; keeping keys is not in it
}

// A Request is a kind of request, by what came of it.
type Request struct {
	Operation string // in the service's words: "Sign"
	Outcome   Outcome
}

// An Outcome is what came of a request.
type Outcome string

// The outcomes.
const (
	Done      Outcome = "done"
	Throttled Outcome = "throttled" // over a quota of the service
	Refused   Outcome = "refused"   // the service's own no
	Failed    Outcome = "failed"    // the service's fault, or no answer
)
