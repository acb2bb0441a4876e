package client

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestARequestThatTheWireWouldChangeIsRefused(t *testing.T) {
	for what, r := range map[string]Request{
		"half a second": {TTL: 500e6},
		"two holders":   {TTL: 1e9, Holder: map[string]string{"jkt": "x", "x5t#S256": "y"}},
	} {
		if _, err := r.wire(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: got %v, want InvalidArgument", what, err)
		}
	}
}
