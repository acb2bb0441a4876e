package pkcs11

import "testing"

// TestASlowTokenIsAskedForOneSignatureACrossing: answers that come in bunches
// would leave sessions of a slow token without work between them.
func TestASlowTokenIsAskedForOneSignatureACrossing(t *testing.T) {
	for _, c := range []struct {
		size, line int
		slow       bool
		want       int
	}{
		{1, 5, false, 5}, {2, 64, false, batchMost}, {16, 64, false, 4}, {16, 3, false, 1},
		{1, 5, true, 1}, {16, 64, true, 1},
	} {
		p := &pool{size: c.size, line: make([]*request, c.line)}
		p.slow.Store(c.slow)
		if got := len(p.take(&session{})); got != c.want || len(p.line) != c.line-c.want {
			t.Errorf("%+v: took %d and left %d", c, got, len(p.line))
		}
	}
}
